//! The data folder: one per node, private to it.
//!
//! | file | what |
//! |---|---|
//! | `lock` | held while a node runs here |
//! | `identity.key` | the secret seed of the node's key (`identity.new` before its first use) |
//! | `journal` | what the node must remember, see [`journal`](crate::proto::journal) |
//! | `root.key`, `operator.key` | on the board where `hedgerow init` ran |
//! | `tickets.log` | tickets made here, without their secrets |
//! | `api.sock` | the control socket |
//!
//! A key file carries a checksum. A rotten one is told, never silently made anew: a new identity is
//! a new board, and everything that was promised under the old one would be forgotten.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use zeroize::Zeroizing;

use crate::proto::id::{Keypair, NodeId};

const KEY_MAGIC: &[u8; 8] = b"hedgeky1";
const KEY_BYTES: usize = 8 + 32 + 8;

/// A node's data folder. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Home {
    path: PathBuf,
}

/// Held while a node runs in its folder; released by dropping it, or by the process's death.
#[derive(Debug)]
pub struct HomeLock(#[expect(dead_code, reason = "the lock lives as long as the open file")] File);

/// Which key of a data folder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyFile {
    /// The node's own.
    Identity,
    /// The node's own before its journal names it.
    Candidate,
    /// The mesh's root key.
    Root,
    /// An operator's.
    Operator,
}

/// What is wrong with a data folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HomeError {
    /// An operation on a file failed.
    #[error("cannot {what} {path}: {source}{}", advice(source))]
    Io {
        /// `read`, `write`, ….
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another node runs here.
    #[error(
        "another hedgerow runs with the data folder {0}; stop it first, or give this one another folder"
    )]
    Locked(PathBuf),
    /// A key file is damaged.
    #[error(
        "the key file {0} is damaged. It is not made anew, since a new key is a new board: restore it from a backup, or move the data folder away and join again as a new board"
    )]
    RottenKey(PathBuf),
    /// The identity is gone but the journal is not.
    #[error(
        "{0} is missing although this node has a journal: without its key it is not the same board any more. Restore the file from a backup, or move the data folder away and join again"
    )]
    LostKey(PathBuf),
    /// The journal is gone but the identity is not.
    #[error(
        "the journal in {0} is missing or belongs to another board. What this board promised is lost with it, so its key must not be used again: move the data folder away and join again with a ticket"
    )]
    LostJournal(PathBuf),
    /// A key that should be here is not.
    #[error("{0} is not here; run this where `hedgerow init` ran, or copy that file here")]
    NoKey(PathBuf),
}

/// What to do next, where that is known.
pub(super) fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; give this user the right to write there, or choose another folder with --home"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free some space, nothing was lost"
        }
        io::ErrorKind::ReadOnlyFilesystem => "; choose a writable folder with --home",
        _ => "",
    }
}

impl Home {
    /// The folder at `path`, made if it does not exist, readable by this user only.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, HomeError> {
        let path = path.into();
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(|source| HomeError::Io { what: "make", path: path.clone(), source })?;
        Ok(Self { path })
    }

    /// The folder at `path`, whether it exists or not.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The journal file.
    pub fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.path.join("api.sock")
    }

    /// The list of tickets made here.
    pub fn tickets(&self) -> PathBuf {
        self.path.join("tickets.log")
    }

    /// Makes sure that no other node runs here, and that one can write here.
    ///
    /// # Errors
    /// `Locked`, or the folder is not writable.
    pub fn lock(&self) -> Result<HomeLock, HomeError> {
        let path = self.path.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|source| HomeError::Io { what: "write", path, source })?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| HomeError::Locked(self.path.clone()))?;
        Ok(HomeLock(file))
    }

    /// The node's key, if it and the journal belong together.
    ///
    /// `journaled` is the key that the journal says it belongs to. A fresh folder gets a candidate key
    /// that becomes the identity by [`Home::confirm_identity`], once the journal names it: whatever
    /// crash comes in between, a key without its journal is told from a key that was never used.
    ///
    /// # Errors
    /// `RottenKey`, `LostKey`, `LostJournal`, or a file operation failed.
    pub fn identity(&self, journaled: Option<NodeId>) -> Result<Keypair, HomeError> {
        let used = match self.key(KeyFile::Identity) {
            Err(HomeError::NoKey(_)) => None,
            read => Some(read?),
        };
        match (used, journaled) {
            (Some(key), Some(node)) if key.public() == node => Ok(key),
            (Some(_), _) => Err(HomeError::LostJournal(self.path.clone())),
            (None, None) => self.make_key(KeyFile::Candidate),
            (None, Some(node)) => match self.key(KeyFile::Candidate) {
                Ok(key) if key.public() == node => Ok(key),
                _ => Err(HomeError::LostKey(self.key_path(KeyFile::Identity))),
            },
        }
    }

    /// The id that the node here has, or will have once it has started.
    ///
    /// # Errors
    /// `RottenKey`, or a file operation failed.
    pub fn node_id(&self) -> Result<NodeId, HomeError> {
        match self.key(KeyFile::Identity) {
            Err(HomeError::NoKey(_)) => Ok(self.make_key(KeyFile::Candidate)?.public()),
            read => Ok(read?.public()),
        }
    }

    /// The journal names the candidate key: it is the identity from now on.
    ///
    /// # Errors
    /// A file operation failed.
    pub fn confirm_identity(&self) -> Result<(), HomeError> {
        let (from, to) = (self.key_path(KeyFile::Candidate), self.key_path(KeyFile::Identity));
        if to.exists() {
            return Ok(());
        }
        fs::rename(&from, &to).and_then(|()| sync_folder(&to)).map_err(|source| HomeError::Io {
            what: "rename",
            path: from,
            source,
        })
    }

    /// Reads a key.
    ///
    /// # Errors
    /// `NoKey`, `RottenKey`, or a file operation failed.
    pub fn key(&self, which: KeyFile) -> Result<Keypair, HomeError> {
        let path = self.key_path(which);
        let bytes = match fs::read(&path) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(HomeError::NoKey(path));
            }
            Err(source) => return Err(HomeError::Io { what: "read", path, source }),
        };
        let seed = unwrap_key(&bytes).ok_or(HomeError::RottenKey(path))?;
        Ok(Keypair::from_seed(&seed))
    }

    /// Makes a key from the operating system's randomness and writes it durably. An existing key is
    /// kept.
    ///
    /// # Errors
    /// A file operation failed.
    pub fn make_key(&self, which: KeyFile) -> Result<Keypair, HomeError> {
        if let Ok(key) = self.key(which) {
            return Ok(key);
        }
        let seed = random_seed();
        let path = self.key_path(which);
        let mut bytes = Zeroizing::new(KEY_MAGIC.to_vec());
        bytes.extend_from_slice(&seed[..]);
        let sum = blake3::hash(&bytes);
        bytes.extend_from_slice(&sum.as_bytes()[..8]);
        write_durably(&path, &bytes).map_err(|source| HomeError::Io {
            what: "write",
            path,
            source,
        })?;
        Ok(Keypair::from_seed(&seed))
    }

    /// Where a key lies.
    pub fn key_path(&self, which: KeyFile) -> PathBuf {
        self.path.join(match which {
            KeyFile::Identity => "identity.key",
            KeyFile::Candidate => "identity.new",
            KeyFile::Root => "root.key",
            KeyFile::Operator => "operator.key",
        })
    }
}

/// 32 bytes of the operating system's randomness.
pub fn random_seed() -> Zeroizing<[u8; 32]> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut seed[..]).expect("Linux has had getrandom since 3.17");
    seed
}

/// Writes a whole file so that after a crash there is either the old one or the new one.
///
/// # Errors
/// Any step failed; the old file is untouched then.
pub fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("tmp");
    let written = (|| {
        let mut file =
            OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)
    })();
    if written.is_err() {
        // Best effort: on a full disk the half-written file should not stay.
        let _ = fs::remove_file(&new);
    }
    written?;
    sync_folder(path)
}

/// Makes the name of `path` durable.
///
/// # Errors
/// The folder cannot be opened or synced.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

fn unwrap_key(bytes: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let whole = bytes.len() == KEY_BYTES && bytes.starts_with(KEY_MAGIC);
    let (content, sum) = bytes.split_at_checked(KEY_BYTES - 8)?;
    if !whole || blake3::hash(content).as_bytes()[..8] != *sum {
        return None;
    }
    let mut seed = Zeroizing::new([0; 32]);
    seed.copy_from_slice(&content[8..]);
    Some(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home(name: &str) -> Home {
        let path =
            std::env::temp_dir().join(format!("hedgerow-home-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Home::open(path).unwrap()
    }

    #[test]
    fn an_identity_is_made_once_and_a_rotten_lost_or_orphaned_one_is_told() {
        let home = home("identity");
        let made = home.identity(None).unwrap().public();
        assert_eq!(home.identity(None).unwrap().public(), made, "a candidate is kept");
        assert_eq!(home.identity(Some(made)).unwrap().public(), made, "a crash before the rename");
        home.confirm_identity().unwrap();
        assert_eq!(home.identity(Some(made)).unwrap().public(), made);
        assert!(matches!(home.identity(None), Err(HomeError::LostJournal(_))));
        let path = home.key_path(KeyFile::Identity);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut rotten = good.clone();
            rotten[at] ^= 1;
            fs::write(&path, rotten).unwrap();
            assert!(matches!(home.identity(Some(made)), Err(HomeError::RottenKey(_))), "byte {at}");
        }
        fs::remove_file(&path).unwrap();
        assert!(matches!(home.identity(Some(made)), Err(HomeError::LostKey(_))));
        fs::remove_dir_all(home.path()).unwrap();
    }

    #[test]
    fn a_folder_is_for_one_node_at_a_time() {
        let home = home("lock");
        let lock = home.lock().unwrap();
        assert!(matches!(home.lock(), Err(HomeError::Locked(_))));
        drop(lock);
        assert!(home.lock().is_ok());
        fs::remove_dir_all(home.path()).unwrap();
    }
}
