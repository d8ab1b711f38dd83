//! The state of a hosted service: a flat folder of named blobs, replaced as a whole.
//!
//! A checkpoint is written beside the folder, synced, and then exchanged with it in one step. So the
//! folder is always one checkpoint, never a mixture of two, whatever crashes. A blob that did not change
//! stays the file that it was, so that it need neither be written nor read again.
//!
//! For tests there are states in memory, too: the same rules, no files.

#![cfg_attr(not(feature = "net"), allow(dead_code, reason = "only a node has folders"))]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The state folder's name in the service's folder.
pub(crate) const FOLDER: &str = "state";
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
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}

/// A checkpoint that is being written: blobs by name. It counts only as a whole, once
/// [`checkpoint`](super::Hosted::checkpoint) has returned without an error.
#[derive(Debug)]
pub struct Checkpoint {
    place: Place,
    same: BTreeSet<String>,
    written: BTreeSet<String>,
}

/// Where a checkpoint is written.
#[derive(Debug)]
enum Place {
    /// In the service's folder, beside the state.
    Folder(PathBuf),
    Memory(BTreeMap<String, Bytes>),
}

/// A blob in memory, which may still be written.
type Bytes = Arc<Mutex<Vec<u8>>>;

impl Checkpoint {
    /// One in memory, to test a service with: [`restored`](Self::restored) is what its `restore` gets then.
    pub fn in_memory() -> Self {
        Self::at(Place::Memory(BTreeMap::new()))
    }

    /// What was written in memory, as a state to begin with. Of a checkpoint in a folder: nothing.
    pub fn restored(self) -> Restored {
        let blobs = match self.place {
            Place::Folder(_) => BTreeMap::new(),
            Place::Memory(blobs) => blobs,
        };
        let blobs = blobs.into_iter().map(|(name, bytes)| {
            let bytes = std::mem::take(&mut *bytes.lock().unwrap_or_else(PoisonError::into_inner));
            (name, Arc::from(bytes))
        });
        let blobs: BTreeMap<String, Arc<[u8]>> = blobs.collect();
        Restored { names: blobs.keys().cloned().collect(), source: Source::Memory(blobs) }
    }

    /// Writes these bytes. Give `put_value` what serde can encode.
    ///
    /// # Errors
    /// [`StateError::Name`], [`StateError::Twice`], [`StateError::TooMany`], or the disk refuses.
    pub fn put(&mut self, name: &str, bytes: &[u8]) -> Result<(), StateError> {
        self.check(name)?;
        match &mut self.place {
            Place::Folder(service) => {
                if fs::read(service.join(FOLDER).join(name)).is_ok_and(|old| old == bytes) {
                    self.same.insert(name.to_owned());
                    return Ok(());
                }
                let path = service.join(NEXT).join(name);
                fs::write(&path, bytes).map_err(|error| StateError::io(&path, error))?;
            }
            Place::Memory(blobs) => {
                blobs.insert(name.to_owned(), Arc::new(Mutex::new(bytes.to_vec())));
            }
        }
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
        let writer: Box<dyn Write + Send> = match &mut self.place {
            Place::Folder(service) => {
                let path = service.join(NEXT).join(name);
                Box::new(File::create(&path).map_err(|error| StateError::io(&path, error))?)
            }
            Place::Memory(blobs) => {
                let bytes = Bytes::default();
                blobs.insert(name.to_owned(), bytes.clone());
                Box::new(Growing(bytes))
            }
        };
        self.written.insert(name.to_owned());
        Ok(writer)
    }

    /// The next state of the service in that folder.
    pub(crate) fn begin(service: &Path) -> Result<Self, StateError> {
        for (name, anew) in [(NEXT, true), (FOLDER, false)] {
            let path = service.join(name);
            let made = match anew {
                true => remove(&path).and_then(|()| fs::create_dir(&path)),
                false => fs::create_dir_all(&path),
            };
            made.map_err(|error| StateError::io(&path, error))?;
        }
        Ok(Self::at(Place::Folder(service.to_owned())))
    }

    /// Makes it the state, durably.
    pub(crate) fn finish(self) -> Result<(), StateError> {
        let Place::Folder(service) = &self.place else { return Ok(()) };
        let (next, state) = (service.join(NEXT), service.join(FOLDER));
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
            File::open(service)?.sync_all()
        };
        exchange().and_then(|()| remove(&next)).map_err(|error| StateError::io(&state, error))
    }

    fn at(place: Place) -> Self {
        Self { place, same: BTreeSet::new(), written: BTreeSet::new() }
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

/// A blob in memory that is written piece by piece.
struct Growing(Bytes);

impl Write for Growing {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A state to begin with: what one checkpoint has written, whole.
#[derive(Debug)]
pub struct Restored {
    source: Source,
    names: Vec<String>,
}

/// Where a state lies.
#[derive(Debug)]
enum Source {
    Folder(PathBuf),
    Memory(BTreeMap<String, Arc<[u8]>>),
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
        read.map_err(|error| StateError::io(&self.path(name), error))?;
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

    pub(crate) fn open(folder: &Path) -> Result<Self, StateError> {
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
        Ok(Self { source: Source::Folder(folder.to_owned()), names })
    }

    fn open_blob(&self, name: &str) -> Result<Box<dyn Read + Send>, StateError> {
        if self.names.binary_search_by(|known| known.as_str().cmp(name)).is_err() {
            return Err(StateError::Missing(name.to_owned()));
        }
        if let Source::Memory(blobs) = &self.source {
            let bytes = blobs.get(name).cloned().unwrap_or_default();
            return Ok(Box::new(io::Cursor::new(bytes)));
        }
        let path = self.path(name);
        Ok(Box::new(File::open(&path).map_err(|error| StateError::io(&path, error))?))
    }

    fn path(&self, name: &str) -> PathBuf {
        match &self.source {
            Source::Folder(folder) => folder.join(name),
            Source::Memory(_) => PathBuf::from(name),
        }
    }
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_in_memory_is_restored_as_it_was_written() {
        let mut out = Checkpoint::in_memory();
        out.put("plain", b"bytes").unwrap();
        out.put_value("value", &7).unwrap();
        let mut file = out.file("large").unwrap();
        file.write_all(b"piece by ").unwrap();
        file.write_all(b"piece").unwrap();
        assert!(matches!(out.put("plain", b"again"), Err(StateError::Twice(_))));
        assert!(matches!(out.put("../plain", b""), Err(StateError::Name(_))));
        let state = out.restored();
        assert_eq!(state.names(), ["large", "plain", "value"]);
        assert_eq!(state.read("plain").unwrap(), b"bytes");
        assert_eq!(state.value::<u32>("value").unwrap(), 7);
        let mut large = String::new();
        state.file("large").unwrap().read_to_string(&mut large).unwrap();
        assert_eq!(large, "piece by piece");
        assert!(matches!(state.read("other"), Err(StateError::Missing(_))));
    }
}
