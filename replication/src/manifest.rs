//! The manifest: what a state consists of, by name of content.
//!
//! A manifest lists every file, folder, link and whiteout of one captured state, with metadata and
//! with the chunks of each file. Its BLAKE3 *is* the identity of the state: two boards that name
//! the same [`ManifestHash`] hold the same bytes. It fits between capture (which makes it), delta
//! and receiver (which carry it), the store (which keeps it beside its chunks) and restore.
//!
//! The only manifest the rest of the crate accepts is a [`SealedManifest`]: checked, with its bytes
//! and hash. The bytes are kept as received, never re-encoded. The checks are what makes a manifest
//! from another board harmless: every parent must be a *folder of the same manifest*, so nothing
//! can be written through a symlink, and paths cannot climb ([`crate::path`]).
//!
//! It does not say which state is the newest of a lineage (the authority part does) and carries no
//! content. `ancestor` is the state captured before; a transfer may well start from an older one,
//! the last *acknowledged*, and names that itself. Memory and disk are paired by being entries of
//! one manifest (decision D11).

mod build;
mod check;
mod extents;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::build::ManifestBuilder;
pub(crate) use self::build::put_chunk;
pub use self::extents::{Extent, FileBody};
pub use crate::hash::ManifestHash;
use crate::path::{Blob, RelPath};
use crate::wire::{self, Magic, WireError, bounded};

const MAGIC: Magic = *b"HGM\x01";

/// Longest manifest, in bytes. 32 bytes a chunk of 16 KiB: enough for 16 GB of state.
pub const MANIFEST_BYTES_MAX: usize = 32 << 20;
/// Most entries of a manifest. A Debian root filesystem has about 30,000.
pub const ENTRIES_MAX: usize = 1 << 19;
/// Most extended attributes of an entry that are replicated.
pub const XATTRS_MAX: usize = 32;
/// Longest value of an extended attribute, in bytes: Linux's limit.
pub const XATTR_BYTES_MAX: usize = 64 << 10;

/// Names a checkpoint of an instance: the store's key beside the instance's name (3b).
///
/// Ordered by epoch, then by number. Of two states of one lineage the greater is the newer.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct CkptId {
    /// Epoch under which the state was captured (decision D8).
    pub epoch: u64,
    /// Number of the checkpoint within its epoch; must never name two different states.
    pub seq: u64,
}

impl core::fmt::Display for CkptId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}.{}", self.epoch, self.seq)
    }
}

/// Which layer of a service a manifest describes. Base and application move only where they are
/// missing; the instance layer is what changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Layer {
    /// Operating system files shared by many services.
    Base,
    /// The service's own program files.
    Application,
    /// The running instance: its data and memory.
    Instance,
}

/// What a state consists of. See the module's head; [`SealedManifest`] is the checked form.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Manifest {
    /// Page size of the machine that captured it, in bytes; a power of two from 4 to 64 KiB.
    pub page_bytes: u32,
    /// Length of every chunk but the last of a file, in bytes; a multiple of the page size.
    pub chunk_bytes: u32,
    /// The state captured before this one, `None` for a first one.
    pub ancestor: Option<ManifestHash>,
    /// Which checkpoint this is.
    pub ckpt: CkptId,
    /// Which layer it describes.
    pub layer: Layer,
    /// Metadata of the folder itself.
    pub root: Meta,
    /// Everything in it, strictly ascending by path. At most [`ENTRIES_MAX`].
    #[serde(deserialize_with = "bounded::<_, _, ENTRIES_MAX>")]
    pub entries: Vec<Entry>,
}

/// One file, folder, link or whiteout.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Where it lies.
    pub path: RelPath,
    /// Its metadata; ignored for a hard link, which shares its target's.
    pub meta: Meta,
    /// What it is.
    pub kind: Kind,
}

/// Metadata of an entry.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Meta {
    /// Permission bits with setuid, setgid and sticky: at most `0o7777`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last modification, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Extended attributes, ascending by name. At most [`XATTRS_MAX`].
    #[serde(deserialize_with = "bounded::<_, _, XATTRS_MAX>")]
    pub xattrs: Vec<Xattr>,
}

/// An extended attribute.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Xattr {
    /// Its full name, 1 to 255 bytes without NUL.
    pub name: Blob,
    /// Its value, at most [`XATTR_BYTES_MAX`].
    pub value: Blob,
}

/// What an entry is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Kind {
    /// A regular file, or a memory image keyed by address.
    File(FileBody),
    /// A folder.
    Folder,
    /// A symbolic link and its text, which is never followed. At most `PATH_BYTES_MAX` bytes.
    Symlink(Blob),
    /// Another name of an earlier file entry of the same manifest.
    HardLink(RelPath),
    /// An overlayfs whiteout (character device 0:0): "the layer below has this, I do not".
    Whiteout,
}

/// A checked manifest with its bytes and its hash. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SealedManifest {
    manifest: Arc<Manifest>,
    bytes: Arc<[u8]>,
    hash: ManifestHash,
}

/// Why bytes or a value are not a manifest.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ManifestError {
    /// Not decodable, foreign, or too long.
    #[error("manifest {0}")]
    Wire(#[from] WireError),
    /// Decodable, but its numbers contradict each other.
    #[error("manifest refused: {why}")]
    Header {
        /// What is wrong.
        why: &'static str,
    },
    /// An entry that must not be: hostile, or a bug of the sender. Nothing of it is used.
    #[error("manifest refused: entry {path} {why}")]
    Entry {
        /// Which entry.
        path: RelPath,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl Manifest {
    /// Checks, encodes and hashes it.
    pub fn seal(self) -> Result<SealedManifest, ManifestError> {
        check::check(&self)?;
        let bytes = wire::encode::<MANIFEST_BYTES_MAX, _>(MAGIC, &self)?;
        let hash = ManifestHash::of(&bytes);
        Ok(SealedManifest { manifest: Arc::new(self), bytes: bytes.into(), hash })
    }

    /// The entry at `path`.
    pub fn entry(&self, path: &RelPath) -> Option<&Entry> {
        let at = self.entries.binary_search_by(|entry| entry.path.cmp(path)).ok()?;
        self.entries.get(at)
    }

    /// The file at `path`, `None` if there is none or it is something else.
    pub fn file(&self, path: &RelPath) -> Option<&FileBody> {
        match &self.entry(path)?.kind {
            Kind::File(body) => Some(body),
            Kind::Folder | Kind::Symlink(_) | Kind::HardLink(_) | Kind::Whiteout => None,
        }
    }

    /// Every file with its entry, in order of path.
    pub fn files(&self) -> impl Iterator<Item = (&Entry, &FileBody)> {
        self.entries.iter().filter_map(|entry| match &entry.kind {
            Kind::File(body) => Some((entry, body)),
            Kind::Folder | Kind::Symlink(_) | Kind::HardLink(_) | Kind::Whiteout => None,
        })
    }

    /// Every chunk that is not a hole, with its length in bytes; repeated as often as it occurs.
    pub fn chunks(&self) -> impl Iterator<Item = (crate::ChunkId, u32)> {
        self.files().flat_map(|(_, body)| body.chunks(self.chunk_bytes)).map(|at| (at.id, at.len))
    }
}

impl SealedManifest {
    /// Decodes and checks bytes from a peer or a disk. Never panics, whatever they are; allocates
    /// at most about 16 times their length.
    pub fn open(bytes: impl Into<Arc<[u8]>>) -> Result<Self, ManifestError> {
        let bytes = bytes.into();
        let manifest: Manifest = wire::decode::<MANIFEST_BYTES_MAX, _>(MAGIC, &bytes)?;
        check::check(&manifest)?;
        let hash = ManifestHash::of(&bytes);
        Ok(Self { manifest: Arc::new(manifest), bytes, hash })
    }

    /// The bytes it was made from.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its name, and the name of the state.
    pub fn hash(&self) -> ManifestHash {
        self.hash
    }
}

impl core::ops::Deref for SealedManifest {
    type Target = Manifest;

    fn deref(&self) -> &Manifest {
        &self.manifest
    }
}
