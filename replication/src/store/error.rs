//! What can go wrong with the store, said so that somebody can act on it.

use std::io;

use thiserror::Error;

use crate::hash::{ChunkId, ManifestHash};
use crate::manifest::{CkptId, ManifestError};

/// An operation on the store that did not happen.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The disk refused.
    #[error("could not {doing} {path}: {source}")]
    Io {
        /// Verb of the sentence.
        doing: &'static str,
        /// File or folder, relative to the store.
        path: String,
        /// The disk's words.
        source: io::Error,
    },
    /// No space left. Nothing acknowledged is touched.
    #[error("disk full while writing {path}: free space or lower the quota, then send it again")]
    DiskFull {
        /// File, relative to the store.
        path: String,
    },
    /// An earlier sync failed, so nobody knows what is on the disk.
    #[error(
        "the store stopped writing because a sync failed: check the disk, then restart the node \
         (the store checks itself when opened)"
    )]
    Stopped,
    /// The quota would be exceeded. Nothing was written.
    #[error(
        "needs up to {needed_bytes} bytes, {used_bytes} of the quota of {quota_bytes} are used: \
         collect garbage, raise the quota, or place this copy elsewhere"
    )]
    Quota {
        /// What the operation may write.
        needed_bytes: u64,
        /// What the store holds.
        used_bytes: u64,
        /// The limit.
        quota_bytes: u64,
    },
    /// Not usable as a folder name.
    #[error(
        "instance name {name:?} must be 1 to 100 of a-z A-Z 0-9 . _ - @ and not begin with a dot"
    )]
    BadInstance {
        /// The name, cut to 100 characters.
        name: String,
    },
    /// No complete state of that name.
    #[error("no complete state {ckpt} of {instance} here: fetch it, or choose another")]
    UnknownState {
        /// Instance.
        instance: String,
        /// Checkpoint.
        ckpt: CkptId,
    },
    /// Two different states claim one checkpoint number.
    #[error(
        "{instance} {ckpt} is stored as {stored:.12}, refused {offered:.12}: the sender reused a \
         checkpoint number; let it capture again under a new one"
    )]
    StateConflict {
        /// Instance.
        instance: String,
        /// Checkpoint.
        ckpt: CkptId,
        /// What is stored.
        stored: ManifestHash,
        /// What was offered.
        offered: ManifestHash,
    },
    /// The manifest names chunks that are nowhere.
    #[error(
        "state {ckpt} lacks {missing} chunks, the first is {first:.12}: send it without ancestor"
    )]
    Incomplete {
        /// Checkpoint.
        ckpt: CkptId,
        /// One of them.
        first: ChunkId,
        /// How many.
        missing: u64,
    },
    /// A chunk is not here.
    #[error("chunk {id:.12} is not here: fetch it from a peer that holds the state")]
    ChunkMissing {
        /// Which.
        id: ChunkId,
    },
    /// A chunk's bytes are not what its name says.
    #[error("chunk {id:.12} in {place} is rotten: repair it from a peer, and suspect the disk")]
    ChunkRotten {
        /// Which.
        id: ChunkId,
        /// File, relative to the store.
        place: String,
    },
    /// A stored manifest is not what its name says.
    #[error("the manifest in {place} is rotten ({source}): fetch the state from a peer")]
    ManifestRotten {
        /// File, relative to the store.
        place: String,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// A pack's own index is not readable.
    #[error("{place} {why}: its chunks are lost here, fetch the states that need them from a peer")]
    PackDamaged {
        /// File, relative to the store.
        place: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl StoreError {
    /// Whether something that was stored is not here any more, or is not what it was: reading it again does not
    /// help.
    pub fn is_loss(&self) -> bool {
        match self {
            Self::ChunkMissing { .. }
            | Self::ChunkRotten { .. }
            | Self::ManifestRotten { .. }
            | Self::PackDamaged { .. }
            | Self::UnknownState { .. } => true,
            Self::Io { doing: "open", source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::Io { doing, .. } => *doing == "read",
            _ => false,
        }
    }
}
