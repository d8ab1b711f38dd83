//! What can go wrong with a transfer, on either side.

use std::io;

use thiserror::Error;

use crate::hash::{ChunkId, ManifestHash, SegmentId};
use crate::manifest::ManifestError;
use crate::store::StoreError;
use crate::wire::WireError;

/// A transfer, or a part of one, that was refused or could not be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The header does not decode.
    #[error("transfer header {0}")]
    Wire(#[from] WireError),
    /// The header contradicts itself or its content.
    #[error("transfer refused: {why}; report the sender")]
    Header {
        /// What is wrong.
        why: &'static str,
    },
    /// The state it starts from is not here.
    #[error("state {from:.12}, which this delta starts from, is not here: send without ancestor")]
    AncestorMissing {
        /// Which.
        from: ManifestHash,
    },
    /// The header lists no such segment.
    #[error("segment {index} refused: the transfer has {segments}; it belongs to another one")]
    NoSuchSegment {
        /// Number claimed.
        index: u32,
        /// How many there are.
        segments: u32,
    },
    /// Not the declared length. Nothing was stored.
    #[error("segment {index} refused: {bytes} bytes instead of {declared}; ask for it again")]
    SegmentLength {
        /// Which.
        index: u32,
        /// Length offered.
        bytes: u64,
        /// Length declared.
        declared: u32,
    },
    /// Not the declared bytes: corrupt, or of another transfer. Nothing of it was used.
    #[error(
        "segment {index} refused: its hash is {found:.12}, not {expected:.12}; ask for it again"
    )]
    CorruptSegment {
        /// Which.
        index: u32,
        /// Hash declared.
        expected: SegmentId,
        /// Hash found.
        found: SegmentId,
    },
    /// The right bytes, but they make no sense: the sender is broken or hostile.
    #[error("segment {index} {why}; abandon the transfer and report the sender")]
    SegmentContent {
        /// Which.
        index: u32,
        /// What is wrong.
        why: &'static str,
    },
    /// A chunk came out as something else: the two sides' ancestors differ, or the sender is
    /// broken.
    #[error(
        "segment {index} gives a chunk that is not {id:.12}; abandon it, send without ancestor"
    )]
    ChunkMismatch {
        /// In which segment.
        index: u32,
        /// Which chunk.
        id: ChunkId,
    },
    /// The manifest came out as something else.
    #[error("the manifest is {found:.12}, not {expected:.12}; abandon it, send without ancestor")]
    WrongManifest {
        /// Hash declared.
        expected: ManifestHash,
        /// Hash found.
        found: ManifestHash,
    },
    /// The manifest is not one.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Segments are still to come.
    #[error("{missing} segments are missing: ask for them, see `Receiver::missing`")]
    Unfinished {
        /// How many.
        missing: u32,
    },
    /// More than the named limits allow.
    #[error("the state needs more than {segments_max} segments: split it into layers")]
    TooLarge {
        /// The limit.
        segments_max: u32,
    },
    /// zstd failed while compressing.
    #[error("could not compress: {0}")]
    Compress(#[source] io::Error),
    /// The store refused; see there.
    #[error(transparent)]
    Store(#[from] StoreError),
}
