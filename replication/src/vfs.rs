//! The disk as the store sees it: few operations, each with a stated meaning after a crash.
//!
//! The store and the receiver touch files only through [`Vfs`], so the very same code runs on a
//! real disk ([`OsVfs`]) and on a simulated one that loses what was not synced ([`MemVfs`]). The
//! contract is POSIX at its weakest:
//!
//! * bytes are durable after [`VfsFile::sync`], and not before;
//! * a name (created, renamed, removed) is durable after [`Vfs::sync_folder`] of its folder, and
//!   not before, even if the file's bytes are;
//! * a rename is atomic: after a crash either name, never a mixture;
//! * a sync that failed is **not** retried: the kernel may have dropped the pages and report
//!   success the second time. The store refuses to write until it is reopened, and then makes the
//!   names anew that it cannot know to be durable.
//!
//! Paths are relative to the root of the `Vfs`, `/` between names, and made by the store alone.
//! Capture and restore work on a service's own folder with its owners and links, and use the
//! operating system directly.

mod mem;

use std::fmt::Debug;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::PathBuf;

pub use self::mem::{Loss, MemVfs};

/// A disk. Object-safe; all methods take `&self` and may be called from several threads.
pub trait Vfs: Send + Sync + Debug {
    /// Makes a new, empty file; fails with `AlreadyExists`.
    fn create(&self, path: &str) -> io::Result<Box<dyn VfsFile>>;

    /// Opens a file for reading and writing; fails with `NotFound`.
    fn open(&self, path: &str) -> io::Result<Box<dyn VfsFile>>;

    /// Gives a file another name in the same folder, replacing what has that name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file's name; fails with `NotFound`.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// Makes a folder; does nothing if it is there.
    fn create_folder(&self, path: &str) -> io::Result<()>;

    /// Removes a folder; fails if something is in it.
    fn remove_folder(&self, path: &str) -> io::Result<()>;

    /// Makes the names in a folder durable; `""` is the root.
    fn sync_folder(&self, path: &str) -> io::Result<()>;

    /// What a folder contains, ascending by name; `""` is the root.
    fn list(&self, path: &str) -> io::Result<Vec<Listed>>;
}

/// An open file. Appending is writing at [`VfsFile::len_bytes`].
pub trait VfsFile: Send + Debug {
    /// Writes all of `bytes` at `offset`; a gap before it reads as zeros.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Fills all of `into` from `offset`; fails with `UnexpectedEof`.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;

    /// Length in bytes.
    fn len_bytes(&self) -> io::Result<u64>;

    /// Makes the bytes (not the name) durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// An entry of [`Vfs::list`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// Its name within the folder.
    pub name: String,
    /// True for a folder.
    pub folder: bool,
    /// Length of a file in bytes, 0 for a folder.
    pub len_bytes: u64,
}

/// A folder of the real file system.
#[derive(Clone, Debug)]
pub struct OsVfs {
    root: PathBuf,
}

impl OsVfs {
    /// The disk below `root`, which is made (with its parents) if need be.
    pub fn new(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        fs::create_dir_all(&root)?;
        Ok(Self { root })
    }
}

impl Vfs for OsVfs {
    fn create(&self, path: &str) -> io::Result<Box<dyn VfsFile>> {
        // A state may hold its service's secrets: for this user only.
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let file = options.open(self.root.join(path))?;
        Ok(Box::new(OsFile(file)))
    }

    fn open(&self, path: &str) -> io::Result<Box<dyn VfsFile>> {
        let file = OpenOptions::new().read(true).write(true).open(self.root.join(path))?;
        Ok(Box::new(OsFile(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.root.join(from), self.root.join(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.root.join(path))
    }

    fn create_folder(&self, path: &str) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(self.root.join(path)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    fn remove_folder(&self, path: &str) -> io::Result<()> {
        fs::remove_dir(self.root.join(path))
    }

    fn sync_folder(&self, path: &str) -> io::Result<()> {
        File::open(self.root.join(path))?.sync_all()
    }

    fn list(&self, path: &str) -> io::Result<Vec<Listed>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(self.root.join(path))? {
            let entry = entry?;
            let meta = entry.metadata()?;
            // A name that is not UTF-8 is not one of the store's; it is somebody else's to clear.
            let Ok(name) = entry.file_name().into_string() else { continue };
            let len_bytes = if meta.is_dir() { 0 } else { meta.len() };
            all.push(Listed { name, folder: meta.is_dir(), len_bytes });
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }
}

#[derive(Debug)]
struct OsFile(File);

impl VfsFile for OsFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(into, offset)
    }

    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_all()
    }
}
