//! A transfer: one state on its way, as a header and independent segments.
//!
//! The **header** says which state this is, which one it is a delta against, and lists every
//! segment by hash and length; it is small (about 40 bytes a segment) and travels first. A
//! **segment** is one zstd frame of at most [`SEGMENT_PACKED_BYTES_MAX`], verified by its BLAKE3
//! before anything looks inside, and decodable without the others. The first segments carry the
//! manifest, so that a large one is resumable like the rest; they are compressed with the same
//! stretch of the ancestor's manifest as prefix, which leaves little more than the changed chunk
//! names. The others carry pieces of the novel chunks (`delta.rs`).
//!
//! The same states, level and zstd version give the same bytes. So a sender that restarts offers
//! the same [`TransferId`], and the receiver goes on where it stopped.
//!
//! Not here: moving bytes, choosing the level (measure bandwidth and spare CPU: 1 on a LAN, 9 at
//! 5–25 Mbit/s), or deciding which ancestor both sides have: that is the last acknowledged state.

mod encode;
mod error;
mod header;

pub use self::encode::{Ancestor, Transfer, encode};
pub use self::error::TransferError;
pub use self::header::{Header, SegmentRef, TransferHeader};
pub use crate::hash::{SegmentId, TransferId};

/// Longest compressed segment, in bytes: a frame of 256 KiB less room for its envelope.
pub const SEGMENT_PACKED_BYTES_MAX: u32 = 255 << 10;
/// Longest plain text of a segment, in bytes: what a receiver allocates for one.
pub const SEGMENT_PLAIN_BYTES_MAX: u32 = 1 << 20;
/// Most segments of a transfer: 16 GB of compressed state.
pub const SEGMENTS_MAX: usize = 1 << 16;
/// Longest header, in bytes.
pub const HEADER_BYTES_MAX: usize = 4 << 20;

/// Bytes of manifest in a segment; incompressible, they still fit.
const MANIFEST_PIECE_BYTES: usize = 192 << 10;
/// How far before and after a piece of manifest its prefix reaches into the ancestor's manifest.
const MANIFEST_PREFIX_MARGIN_BYTES: usize = 128 << 10;

/// The stretch of the ancestor's manifest that helps to compress bytes `start..end` of the new one.
pub(crate) fn manifest_prefix(old: &[u8], start: usize, end: usize) -> &[u8] {
    let from = start.saturating_sub(MANIFEST_PREFIX_MARGIN_BYTES).min(old.len());
    let to = end.saturating_add(MANIFEST_PREFIX_MARGIN_BYTES).min(old.len());
    &old[from..to]
}
