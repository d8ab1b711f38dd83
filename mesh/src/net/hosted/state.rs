//! The state of a hosted service: a flat folder of named blobs, replaced as a whole.
//!
//! A checkpoint is written beside the folder, synced, and then exchanged with it in one step. So the
//! folder is always one checkpoint, never a mixture of two, whatever crashes. A blob that did not change
//! stays the file that it was, so that it need neither be written nor read again.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The state folder's name in the service's folder.
pub(super) const FOLDER: &str = "state";
/// Where the next one is written.
const NEXT: &str = ".next";
/// Bytes of a blob's name.
const NAME_BYTES_MAX: usize = 128;
/// Blobs of one checkpoint.
const BLOBS_MAX: usize = 4096;

/// What can go wrong with a hosted service's state.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// A file operation failed.
    #[error("{path}: {source}; check the disk, and that this program may write there")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The name would not do as a file's.
    #[error(
        "`{0}` cannot name a blob: use 1 to 128 letters, digits, `-`, `_` and `.`, not beginning with `.`"
    )]
    Name(String),
    /// The same name was written twice into one checkpoint.
    #[error("`{0}` is in this checkpoint already: write each blob once")]
    Twice(String),
    /// More than 4096 blobs.
    #[error("a checkpoint has at most 4096 blobs: put several values into one")]
    TooMany,
    /// No checkpoint has written it.
    #[error("the state has no blob `{0}`: was it written by an older version of this program?")]
    Missing(String),
    /// It does not encode, or does not decode to the type that is asked for.
    #[error("`{name}`: {why}")]
    Value {
        /// Which blob.
        name: String,
        /// What serde said.
        why: String,
    },
}

impl StateError {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}

/// A checkpoint that is being written: blobs by name. It counts only as a whole, once
/// [`checkpoint`](super::Hosted::checkpoint) has returned without an error.
#[derive(Debug)]
pub struct Checkpoint {
    service: PathBuf,
    same: BTreeSet<String>,
    written: BTreeSet<String>,
}

impl Checkpoint {
    /// Writes these bytes. Give `put_value` what serde can encode.
    ///
    /// # Errors
    /// [`StateError::Name`], [`StateError::Twice`], [`StateError::TooMany`], or the disk refuses.
    pub fn put(&mut self, name: &str, bytes: &[u8]) -> Result<(), StateError> {
        self.check(name)?;
        if fs::read(self.service.join(FOLDER).join(name)).is_ok_and(|old| old == bytes) {
            self.same.insert(name.to_owned());
            return Ok(());
        }
        let path = self.service.join(NEXT).join(name);
        fs::write(&path, bytes).map_err(|error| StateError::io(&path, error))?;
        self.written.insert(name.to_owned());
        Ok(())
    }

    /// Writes a value, as JSON: a later version of the program can read it as far as serde allows.
    ///
    /// # Errors
    /// As [`Checkpoint::put`]; [`StateError::Value`] if it cannot be encoded.
    pub fn put_value<T: Serialize>(&mut self, name: &str, value: &T) -> Result<(), StateError> {
        let bytes = serde_json::to_vec(value)
            .map_err(|error| StateError::Value { name: name.to_owned(), why: error.to_string() })?;
        self.put(name, &bytes)
    }

    /// A file to write a large blob into, piece by piece. It need not be synced.
    ///
    /// # Errors
    /// As [`Checkpoint::put`].
    pub fn file(&mut self, name: &str) -> Result<impl Write + use<>, StateError> {
        self.check(name)?;
        let path = self.service.join(NEXT).join(name);
        let file = File::create(&path).map_err(|error| StateError::io(&path, error))?;
        self.written.insert(name.to_owned());
        Ok(file)
    }

    /// The next state of the service in that folder.
    pub(super) fn begin(service: &Path) -> Result<Self, StateError> {
        for (name, anew) in [(NEXT, true), (FOLDER, false)] {
            let path = service.join(name);
            let made = match anew {
                true => remove(&path).and_then(|()| fs::create_dir(&path)),
                false => fs::create_dir_all(&path),
            };
            made.map_err(|error| StateError::io(&path, error))?;
        }
        let service = service.to_owned();
        Ok(Self { service, same: BTreeSet::new(), written: BTreeSet::new() })
    }

    /// Makes it the state, durably.
    pub(super) fn finish(self) -> Result<(), StateError> {
        let (next, state) = (self.service.join(NEXT), self.service.join(FOLDER));
        let known = Restored::open(&state)?;
        let unchanged = self.written.is_empty() && self.same.iter().eq(known.names().iter());
        let exchange = || {
            if unchanged {
                return Ok(());
            }
            for name in &self.same {
                fs::hard_link(state.join(name), next.join(name))?;
            }
            for name in &self.written {
                File::open(next.join(name))?.sync_all()?;
            }
            File::open(&next)?.sync_all()?;
            renameat_with(CWD, &next, CWD, &state, RenameFlags::EXCHANGE)?;
            File::open(&self.service)?.sync_all()
        };
        exchange().and_then(|()| remove(&next)).map_err(|error| StateError::io(&state, error))
    }

    fn check(&self, name: &str) -> Result<(), StateError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let good = (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.starts_with('.');
        if !good || !name.chars().all(plain) {
            return Err(StateError::Name(name.to_owned()));
        }
        if self.same.contains(name) || self.written.contains(name) {
            return Err(StateError::Twice(name.to_owned()));
        }
        match self.same.len() + self.written.len() >= BLOBS_MAX {
            true => Err(StateError::TooMany),
            false => Ok(()),
        }
    }
}

/// A state to begin with: what one checkpoint has written, whole.
#[derive(Debug)]
pub struct Restored {
    folder: PathBuf,
    names: Vec<String>,
}

impl Restored {
    /// The names of its blobs, sorted.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// A blob's bytes.
    ///
    /// # Errors
    /// [`StateError::Missing`], or the disk refuses.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, StateError> {
        let mut bytes = Vec::new();
        let read = self.open_blob(name)?.read_to_end(&mut bytes);
        read.map_err(|error| StateError::io(&self.folder.join(name), error))?;
        Ok(bytes)
    }

    /// A value that [`Checkpoint::put_value`] wrote.
    ///
    /// # Errors
    /// As [`Restored::read`]; [`StateError::Value`] if it is of another type.
    pub fn value<T: DeserializeOwned>(&self, name: &str) -> Result<T, StateError> {
        serde_json::from_slice(&self.read(name)?)
            .map_err(|error| StateError::Value { name: name.to_owned(), why: error.to_string() })
    }

    /// A large blob, to be read piece by piece.
    ///
    /// # Errors
    /// As [`Restored::read`].
    pub fn file(&self, name: &str) -> Result<impl Read + use<>, StateError> {
        self.open_blob(name)
    }

    pub(super) fn open(folder: &Path) -> Result<Self, StateError> {
        let failed = |error| StateError::io(folder, error);
        let mut names = Vec::new();
        match fs::read_dir(folder) {
            Ok(entries) => {
                for entry in entries {
                    names.extend(entry.map_err(failed)?.file_name().into_string());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        names.sort_unstable();
        Ok(Self { folder: folder.to_owned(), names })
    }

    fn open_blob(&self, name: &str) -> Result<File, StateError> {
        let path = self.folder.join(name);
        match self.names.binary_search_by(|known| known.as_str().cmp(name)) {
            Ok(_) => File::open(&path).map_err(|error| StateError::io(&path, error)),
            Err(_) => Err(StateError::Missing(name.to_owned())),
        }
    }
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
