//! The header of a transfer: everything a receiver needs to judge the rest.

use serde::{Deserialize, Serialize};

use super::{
    HEADER_BYTES_MAX, SEGMENT_PACKED_BYTES_MAX, SEGMENT_PLAIN_BYTES_MAX, SEGMENTS_MAX,
    TransferError,
};
use crate::hash::{ManifestHash, SegmentId, TransferId};
use crate::manifest::{CkptId, MANIFEST_BYTES_MAX};
use crate::store::{Disk, StoreError};
use crate::wire::{self, Magic, bounded};

const MAGIC: Magic = *b"HGT\x01";

/// What the header says. [`TransferHeader`] is the checked form.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Header {
    /// The state it is a delta against, `None` for a full one.
    pub from: Option<ManifestHash>,
    /// The state it makes.
    pub to: ManifestHash,
    /// That state's checkpoint: the receiver refuses epochs below its own before fetching anything.
    pub ckpt: CkptId,
    /// Length of the manifest, in bytes.
    pub manifest_bytes: u32,
    /// How many of the first segments carry the manifest.
    pub manifest_segments: u32,
    /// Sum of the lengths of the novel chunks, in bytes: what the receiver will store.
    pub novel_bytes: u64,
    /// Every segment. At most [`SEGMENTS_MAX`].
    #[serde(deserialize_with = "bounded::<_, _, SEGMENTS_MAX>")]
    pub segments: Vec<SegmentRef>,
}

/// A segment as the header declares it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SegmentRef {
    /// BLAKE3 of the compressed bytes.
    pub id: SegmentId,
    /// Length of the compressed bytes, 1 to [`SEGMENT_PACKED_BYTES_MAX`].
    pub packed_bytes: u32,
    /// Length of the plain text, 1 to [`SEGMENT_PLAIN_BYTES_MAX`].
    pub plain_bytes: u32,
}

/// A checked header with its bytes and its id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TransferHeader {
    header: Header,
    bytes: Vec<u8>,
    id: TransferId,
}

impl Header {
    pub(super) fn seal(self) -> Result<TransferHeader, TransferError> {
        check(&self)?;
        let bytes = wire::encode::<HEADER_BYTES_MAX, _>(MAGIC, &self)?;
        let id = TransferId::of(&bytes);
        Ok(TransferHeader { header: self, bytes, id })
    }
}

impl TransferHeader {
    /// Decodes and checks a header from a peer. Never panics, whatever the bytes.
    pub fn open(bytes: impl Into<Vec<u8>>) -> Result<Self, TransferError> {
        let bytes = bytes.into();
        let header: Header = wire::decode::<HEADER_BYTES_MAX, _>(MAGIC, &bytes)?;
        check(&header)?;
        let id = TransferId::of(&bytes);
        Ok(Self { header, bytes, id })
    }

    /// The bytes it was made from: what is sent.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its name.
    pub fn id(&self) -> TransferId {
        self.id
    }

    /// Sum of the lengths of all segments, in bytes: what crosses the wire beside the header.
    pub fn packed_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| u64::from(segment.packed_bytes)).sum()
    }

    /// What receiving it may write: the segments, the new chunks with their index, the manifest.
    pub(crate) fn reserved_bytes(&self) -> u64 {
        const PACK_OVERHEAD_BYTES: u64 = 4096;
        let stored = self.novel_bytes.saturating_add(self.novel_bytes / 32);
        stored
            .saturating_add(self.packed_bytes() + u64::from(self.manifest_bytes))
            .saturating_add(self.bytes.len() as u64 + PACK_OVERHEAD_BYTES)
    }

    /// Reads a stored header; `None` if it is not whole.
    pub(crate) fn load(disk: &Disk, path: &str) -> Result<Option<Self>, StoreError> {
        let file = disk.open(path)?;
        let len = file.len_bytes()?;
        match usize::try_from(len) {
            Ok(len) if len <= HEADER_BYTES_MAX => Ok(Self::open(file.read_at(0, len)?).ok()),
            _ => Ok(None),
        }
    }
}

impl core::ops::Deref for TransferHeader {
    type Target = Header;

    fn deref(&self) -> &Header {
        &self.header
    }
}

fn check(header: &Header) -> Result<(), TransferError> {
    let refuse = |why| Err(TransferError::Header { why });
    if header.segments.len() > SEGMENTS_MAX {
        return refuse("it has too many segments");
    }
    let fits = |segment: &SegmentRef| {
        (1..=SEGMENT_PACKED_BYTES_MAX).contains(&segment.packed_bytes)
            && (1..=SEGMENT_PLAIN_BYTES_MAX).contains(&segment.plain_bytes)
    };
    if !header.segments.iter().all(fits) {
        return refuse("a segment is empty or too long");
    }
    let manifest = usize::try_from(header.manifest_segments).ok();
    let Some(manifest) = manifest.and_then(|count| header.segments.get(..count)) else {
        return refuse("it has fewer segments than its manifest needs");
    };
    let sum: u64 = manifest.iter().map(|segment| u64::from(segment.plain_bytes)).sum();
    if sum != u64::from(header.manifest_bytes) || sum > MANIFEST_BYTES_MAX as u64 {
        return refuse("the lengths of its manifest contradict each other");
    }
    if header.novel_bytes > i64::MAX as u64 {
        return refuse("it declares more than 2^63 bytes");
    }
    Ok(())
}
