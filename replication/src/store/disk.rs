//! The store's hand on the disk: names what failed, and stops for good after a failed sync.
//!
//! "A failed fsync stops the node; it is never retried" (design 1): the kernel may drop the pages
//! and report success the second time, so every later promise would be a guess. Shared by the store
//! and its receivers, so that one sees the other's failure.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::StoreError;
use crate::vfs::{Listed, Vfs, VfsFile};

#[derive(Clone, Debug)]
pub(crate) struct Disk {
    vfs: Arc<dyn Vfs>,
    stopped: Arc<AtomicBool>,
}

/// An open file that knows its name.
#[derive(Debug)]
pub(crate) struct DiskFile {
    file: Box<dyn VfsFile>,
    path: String,
    stopped: Arc<AtomicBool>,
}

impl Disk {
    pub(crate) fn new(vfs: Arc<dyn Vfs>) -> Self {
        Self { vfs, stopped: Arc::default() }
    }

    pub(crate) fn create(&self, path: &str) -> Result<DiskFile, StoreError> {
        self.check()?;
        let file = self.vfs.create(path).map_err(|error| name(error, "create", path))?;
        Ok(self.wrap(file, path))
    }

    pub(crate) fn open(&self, path: &str) -> Result<DiskFile, StoreError> {
        let file = self.vfs.open(path).map_err(|error| name(error, "open", path))?;
        Ok(self.wrap(file, path))
    }

    /// Opens a file that may not be there.
    pub(crate) fn open_if_there(&self, path: &str) -> Result<Option<DiskFile>, StoreError> {
        match self.vfs.open(path) {
            Ok(file) => Ok(Some(self.wrap(file, path))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(name(error, "open", path)),
        }
    }

    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<(), StoreError> {
        self.check()?;
        self.vfs.rename(from, to).map_err(|error| name(error, "rename", from))
    }

    /// Removes a file; it is no error if it is gone.
    pub(crate) fn remove(&self, path: &str) -> Result<(), StoreError> {
        self.check()?;
        match self.vfs.remove(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(name(error, "remove", path)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    pub(crate) fn create_folder(&self, path: &str) -> Result<(), StoreError> {
        self.check()?;
        self.vfs.create_folder(path).map_err(|error| name(error, "create", path))
    }

    /// Removes a folder with nothing in it.
    pub(crate) fn remove_folder(&self, path: &str) -> Result<(), StoreError> {
        self.check()?;
        self.vfs.remove_folder(path).map_err(|error| name(error, "remove", path))
    }

    pub(crate) fn sync_folder(&self, path: &str) -> Result<(), StoreError> {
        self.check()?;
        self.vfs.sync_folder(path).map_err(|error| {
            self.stopped.store(true, Ordering::SeqCst);
            name(error, "sync", path)
        })
    }

    pub(crate) fn list(&self, path: &str) -> Result<Vec<Listed>, StoreError> {
        self.vfs.list(path).map_err(|error| name(error, "list", path))
    }

    fn check(&self) -> Result<(), StoreError> {
        check(&self.stopped)
    }

    fn wrap(&self, file: Box<dyn VfsFile>, path: &str) -> DiskFile {
        DiskFile { file, path: path.to_owned(), stopped: Arc::clone(&self.stopped) }
    }
}

impl DiskFile {
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        check(&self.stopped)?;
        self.file.write_at(offset, bytes).map_err(|error| name(error, "write", &self.path))
    }

    /// `len` bytes at `offset`. The caller has bounded `len`.
    pub(crate) fn read_at(&self, offset: u64, len: usize) -> Result<Vec<u8>, StoreError> {
        let mut bytes = vec![0; len];
        self.file.read_at(offset, &mut bytes).map_err(|error| name(error, "read", &self.path))?;
        Ok(bytes)
    }

    pub(crate) fn len_bytes(&self) -> Result<u64, StoreError> {
        self.file.len_bytes().map_err(|error| name(error, "measure", &self.path))
    }

    pub(crate) fn sync(&mut self) -> Result<(), StoreError> {
        check(&self.stopped)?;
        self.file.sync().map_err(|error| {
            self.stopped.store(true, Ordering::SeqCst);
            name(error, "sync", &self.path)
        })
    }
}

fn check(stopped: &AtomicBool) -> Result<(), StoreError> {
    if stopped.load(Ordering::SeqCst) { Err(StoreError::Stopped) } else { Ok(()) }
}

fn name(source: io::Error, doing: &'static str, path: &str) -> StoreError {
    let path = path.to_owned();
    match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::DiskFull { path },
        _ => StoreError::Io { doing, path, source },
    }
}
