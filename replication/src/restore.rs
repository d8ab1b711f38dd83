//! From a stored state back to a folder: all of it, or nothing.
//!
//! Everything is written into a new folder beside the target, every chunk verified, every file and
//! folder synced; only then is that folder renamed into place and the parent synced. If anything
//! fails the target is what it was, and the unfinished folder is removed. An existing target is
//! exchanged in one step (`RENAME_EXCHANGE`) and its old content removed afterwards.
//!
//! A manifest cannot make this write outside: paths were checked when it was opened, every parent
//! is a folder this very call has made, files are created exclusively, and symlinks come last.
//!
//! Owners are set where they differ, which takes the privilege to do so; without it the restore
//! fails rather than hand files to somebody else, unless told otherwise. Not restored: what capture
//! skipped, how the file system had allocated zeros, and inode times other than mtime. Memory
//! images are for a runtime to read from the store, not for a folder.

mod apply;

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};
use thiserror::Error;

use crate::chunk::ChunkSource;
use crate::manifest::SealedManifest;
use crate::path::RelPath;
use crate::store::StoreError;

/// How to restore.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RestoreOptions {
    /// Leaves all files to the user who restores: for rehearsals and tests without privileges.
    pub ignore_owners: bool,
}

/// Why a state was not restored. The target is what it was.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The file system refused.
    #[error("could not {doing} {path}: {source}; the target is unchanged", path = path.display())]
    Io {
        /// Verb of the sentence.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// A chunk is missing or rotten.
    #[error("could not restore {path}: {source}; the target is unchanged")]
    Content {
        /// Which file of the state.
        path: RelPath,
        /// The store's words.
        source: Box<StoreError>,
    },
    /// A chunk is sound but not as long as its place.
    #[error("could not restore {path}: a chunk has the wrong length; report the sender")]
    ChunkLength {
        /// Which file of the state.
        path: RelPath,
    },
    /// The target has no parent folder, or its name is not usable.
    #[error("{path} is not a folder to restore to: name one inside an existing folder", path = path.display())]
    BadTarget {
        /// The target.
        path: PathBuf,
    },
    /// The state is in place; only the folder it replaced could not be removed.
    #[error("restored, but the old content stays at {path}: {source}; remove it", path = path.display())]
    OldStays {
        /// Where the old content is.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
}

/// Makes the folder `target` be the state, atomically. Its parent must exist and be on the same
/// file system; one restore to a target at a time.
pub fn restore(
    state: &SealedManifest,
    chunks: &dyn ChunkSource,
    target: &Path,
    options: RestoreOptions,
) -> Result<(), RestoreError> {
    let bad = || RestoreError::BadTarget { path: target.to_owned() };
    let (parent, last) = (target.parent().ok_or_else(bad)?, target.file_name().ok_or_else(bad)?);
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let mut unfinished = std::ffi::OsString::from(".restoring-");
    unfinished.push(last);
    let unfinished = parent.join(unfinished);
    // A restore that a crash interrupted.
    remove_tree(&unfinished).map_err(name("clear", &unfinished))?;
    let written = apply::apply(state, chunks, &unfinished, options)
        .and_then(|()| put_in_place(&unfinished, target, parent));
    match written {
        Ok(true) => remove_tree(&unfinished)
            .map_err(|source| RestoreError::OldStays { path: unfinished, source }),
        Ok(false) => Ok(()),
        Err(error) => {
            // Best effort: the next restore to this target clears it first.
            _ = remove_tree(&unfinished);
            Err(error)
        }
    }
}

/// Renames into place and makes that durable. True if an old folder was exchanged.
fn put_in_place(from: &Path, target: &Path, parent: &Path) -> Result<bool, RestoreError> {
    let there = fs::symlink_metadata(target).is_ok();
    let flags = if there { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
    rustix::fs::renameat_with(CWD, from, CWD, target, flags)
        .map_err(|error| name("put in place", target)(error.into()))?;
    File::open(parent).and_then(|folder| folder.sync_all()).map_err(name("sync", parent))?;
    Ok(there)
}

/// Removes a folder, or a file, with folders in it that forbid it; nothing if it is not there.
fn remove_tree(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => return fs::remove_file(path),
    };
    match removed {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            allow(path)?;
            fs::remove_dir_all(path)
        }
        other => other,
    }
}

/// Makes every folder below `path` writable: a state may contain folders without that bit.
fn allow(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            allow(&entry.path())?;
        }
    }
    Ok(())
}

fn name(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RestoreError {
    move |source| RestoreError::Io { doing, path: path.to_owned(), source }
}
