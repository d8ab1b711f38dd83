//! A packed transfer, ready to be sent: in memory if it is small, else in a file without a name.
//!
//! Packing is done in one go on the store's thread, sending takes as long as the network does. Between the
//! two the transfer lies here, so that nothing the store does meanwhile can break it, and nothing waits.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use hedgerow_replication::store::StoreError;
use hedgerow_replication::transfer::{TransferError, TransferHeader, encode};
use hedgerow_replication::{Ancestor, ManifestHash};

use super::shelf::{SHELF, Shelf, ShelfError, ckpt};
use super::words::Want;

/// Bytes that are kept in memory rather than in a file.
const MEMORY_BYTES_MAX: usize = 4 << 20;
/// zstd's level. The same for every attempt, or an interrupted transfer could not be resumed.
const LEVEL: i32 = 3;
/// The file's name, for the moment that it has one.
const FILE: &str = "packed.tmp";

/// Why a state cannot be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum PackError {
    /// The store cannot be used, or does not have it.
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    /// It cannot be packed.
    #[error(transparent)]
    Transfer(#[from] TransferError),
}

impl PackError {
    /// Whether what is to be sent is not there any more, or is not what it was.
    pub(super) fn is_loss(&self) -> bool {
        match self {
            Self::Shelf(ShelfError::Store(error)) => error.is_loss(),
            Self::Transfer(TransferError::Store(error)) => error.is_loss(),
            Self::Shelf(_) | Self::Transfer(_) => false,
        }
    }
}

/// What is to be sent.
#[derive(Debug)]
pub(super) struct Packed {
    /// Comes first.
    pub(super) header: TransferHeader,
    /// Where each segment ends.
    ends: Vec<u64>,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Memory(Vec<u8>),
    File(Arc<File>),
}

impl Packed {
    /// Packs what is wanted, against the newest state that both sides have. Blocks.
    pub(super) fn of(shelf: &mut Shelf, want: &Want) -> Result<Self, PackError> {
        let folder = shelf.folder().to_owned();
        let store = shelf.store()?;
        let manifest = store.manifest(SHELF, ckpt(want.id)).map_err(ShelfError::from)?;
        let theirs = |hash: ManifestHash| want.held.iter().any(|held| held.hash == hash.0);
        let states = store.states(SHELF);
        let common = states.iter().rev().find(|s| s.hash != manifest.hash() && theirs(s.hash));
        let old = common.and_then(|state| store.manifest(SHELF, state.ckpt).ok());
        let chunks = store.chunks(SHELF);
        let pack = |ancestor: Option<Ancestor<'_>>| {
            let mut spool = Spool::new(&folder);
            let put = &mut |segment: Vec<u8>| spool.put(&segment);
            let header = encode(&manifest, &chunks, ancestor, LEVEL, put)?;
            Ok::<_, TransferError>(Self { header, ends: spool.ends, place: spool.place })
        };
        let ancestor = old.as_ref().map(|manifest| Ancestor { manifest, chunks: &chunks });
        match pack(ancestor) {
            // What the ancestor had is rotten here; what is wanted may not be.
            Err(TransferError::Store(error)) if ancestor.is_some() => {
                tracing::warn!(%error, "a delta cannot be made: sending the whole state");
                Ok(pack(None)?)
            }
            other => Ok(other?),
        }
    }

    /// How many segments there are.
    pub(super) fn count(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of one segment; none for one that does not exist.
    pub(super) fn len(&self, index: usize) -> u64 {
        let (start, end) = self.span(index);
        end - start
    }

    /// One segment.
    pub(super) async fn segment(&self, index: usize) -> io::Result<Vec<u8>> {
        let (start, end) = self.span(index);
        match &self.place {
            Place::Memory(bytes) => {
                Ok(bytes.get(start as usize..end as usize).unwrap_or_default().to_vec())
            }
            Place::File(file) => {
                let file = file.clone();
                let read = move || {
                    let mut bytes = vec![0; (end - start) as usize];
                    file.read_exact_at(&mut bytes, start)?;
                    Ok(bytes)
                };
                tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
            }
        }
    }

    fn span(&self, index: usize) -> (u64, u64) {
        let start = index.checked_sub(1).and_then(|before| self.ends.get(before)).copied();
        let start = start.unwrap_or(0);
        (start, self.ends.get(index).copied().unwrap_or(start))
    }
}

/// A transfer that is being packed.
struct Spool<'a> {
    folder: &'a Path,
    ends: Vec<u64>,
    place: Place,
}

impl<'a> Spool<'a> {
    fn new(folder: &'a Path) -> Self {
        Self { folder, ends: Vec::new(), place: Place::Memory(Vec::new()) }
    }

    fn put(&mut self, segment: &[u8]) -> Result<(), TransferError> {
        let start = self.ends.last().copied().unwrap_or(0);
        let written = match &mut self.place {
            Place::Memory(bytes) if bytes.len() + segment.len() <= MEMORY_BYTES_MAX => {
                bytes.extend_from_slice(segment);
                Ok(())
            }
            Place::Memory(bytes) => {
                let moved = nameless(self.folder).and_then(|file| {
                    file.write_all_at(bytes, 0)?;
                    file.write_all_at(segment, start)?;
                    Ok(file)
                });
                moved.map(|file| self.place = Place::File(Arc::new(file)))
            }
            Place::File(file) => file.write_all_at(segment, start),
        };
        self.ends.push(start + segment.len() as u64);
        written.map_err(|source| {
            StoreError::Io { doing: "write", path: FILE.to_owned(), source }.into()
        })
    }
}

/// A file that is gone when nobody uses it any more.
fn nameless(folder: &Path) -> io::Result<File> {
    let path = folder.join(FILE);
    let mut options = OpenOptions::new();
    let file =
        options.read(true).write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}
