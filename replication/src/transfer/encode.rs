//! Makes a transfer: novel chunks into pieces, pieces into segments, segments into a header.
//!
//! Segments are filled by what the last ones compressed to: as near to the packed limit as can be
//! guessed without compressing twice. A guess that was too high is split in two and made again.

use std::io;
use std::ops::Range;

use super::header::{Header, SegmentRef, TransferHeader};
use super::{
    MANIFEST_PIECE_BYTES, SEGMENT_PACKED_BYTES_MAX, SEGMENT_PLAIN_BYTES_MAX, SEGMENTS_MAX,
    TransferError, manifest_prefix,
};
use crate::chunk::{CHUNK_BYTES_MAX, ChunkSource};
use crate::codec;
use crate::delta::{Novel, Pieces, novel};
use crate::hash::SegmentId;
use crate::manifest::SealedManifest;

/// Plain bytes that fit a segment even if they do not compress.
const PLAIN_SAFE_BYTES: usize = 240 << 10;
/// Plain bytes after which a segment is closed at the latest, with room for one more chunk.
const PLAIN_GOAL_BYTES_MAX: usize = SEGMENT_PLAIN_BYTES_MAX as usize - 2 * CHUNK_BYTES_MAX as usize;

/// The last acknowledged state, as the sender still holds it.
#[derive(Clone, Copy)]
pub struct Ancestor<'a> {
    /// Its manifest.
    pub manifest: &'a SealedManifest,
    /// Its chunks.
    pub chunks: &'a dyn ChunkSource,
}

/// A transfer in memory. For states larger than memory use [`encode`], which hands out each
/// segment when it is made.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// What is sent first.
    pub header: TransferHeader,
    /// What the header lists, in its order.
    pub segments: Vec<Vec<u8>>,
}

impl Transfer {
    /// The delta from `ancestor` (`None`: everything) to `state`, compressed with zstd's `level`
    /// (1 to 19).
    ///
    /// Fails with [`TransferError::Store`] if a chunk cannot be read; with a rotten ancestor, try
    /// without.
    pub fn encode(
        state: &SealedManifest,
        chunks: &dyn ChunkSource,
        ancestor: Option<Ancestor<'_>>,
        level: i32,
    ) -> Result<Self, TransferError> {
        let mut segments = Vec::new();
        let header = encode(state, chunks, ancestor, level, &mut |segment| {
            segments.push(segment);
            Ok(())
        })?;
        Ok(Self { header, segments })
    }
}

/// Like [`Transfer::encode`]; holds one segment at a time and passes each to `emit`, in order.
pub fn encode(
    state: &SealedManifest,
    chunks: &dyn ChunkSource,
    ancestor: Option<Ancestor<'_>>,
    level: i32,
    emit: &mut dyn FnMut(Vec<u8>) -> Result<(), TransferError>,
) -> Result<TransferHeader, TransferError> {
    let level = level.clamp(1, 19);
    let old = ancestor.map(|ancestor| ancestor.manifest);
    let novel = novel(state, old.map(|old| &**old));
    let mut encoder = Encoder { chunks, ancestor, level, novel: &novel, refs: Vec::new(), emit };
    encoder.manifest(state.bytes(), old.map_or(&[], SealedManifest::bytes))?;
    let manifest_segments = encoder.refs.len();
    encoder.all_chunks()?;
    let number = |value: usize| {
        u32::try_from(value).map_err(|_| TransferError::Header { why: "it is too long" })
    };
    Header {
        from: old.map(SealedManifest::hash),
        to: state.hash(),
        ckpt: state.ckpt,
        manifest_bytes: number(state.bytes().len())?,
        manifest_segments: number(manifest_segments)?,
        novel_bytes: novel.iter().map(|one| u64::from(one.len)).sum(),
        segments: encoder.refs,
    }
    .seal()
}

struct Encoder<'a> {
    chunks: &'a dyn ChunkSource,
    ancestor: Option<Ancestor<'a>>,
    level: i32,
    novel: &'a [Novel],
    refs: Vec<SegmentRef>,
    emit: &'a mut dyn FnMut(Vec<u8>) -> Result<(), TransferError>,
}

impl Encoder<'_> {
    fn manifest(&mut self, new: &[u8], old: &[u8]) -> Result<(), TransferError> {
        let mut start = 0;
        for piece in new.chunks(MANIFEST_PIECE_BYTES) {
            let prefix = manifest_prefix(old, start, start + piece.len());
            let packed = codec::pack(piece, prefix, self.level).map_err(TransferError::Compress)?;
            self.close(packed, piece.len())?;
            start += piece.len();
        }
        Ok(())
    }

    fn all_chunks(&mut self) -> Result<(), TransferError> {
        let mut next = 0;
        let mut goal = PLAIN_SAFE_BYTES;
        while next < self.novel.len() {
            let (count, plain) = self.gather(next..self.novel.len(), goal)?;
            let packed = self.pack(&plain)?;
            if packed.len() > SEGMENT_PACKED_BYTES_MAX as usize {
                self.split(next..next + count)?;
                goal = PLAIN_SAFE_BYTES;
            } else {
                // Nine tenths of the limit at the ratio just seen.
                let room = SEGMENT_PACKED_BYTES_MAX as usize / 10 * 9;
                let fits = plain.len().saturating_mul(room) / packed.len().max(1);
                goal = fits.clamp(PLAIN_SAFE_BYTES, PLAIN_GOAL_BYTES_MAX);
                self.close(packed, plain.len())?;
            }
            next += count;
        }
        Ok(())
    }

    /// Makes two segments of what did not fit one, or more.
    fn split(&mut self, range: Range<usize>) -> Result<(), TransferError> {
        let middle = range.start + range.len().div_ceil(2);
        for half in [range.start..middle, middle..range.end] {
            if half.is_empty() {
                continue;
            }
            let (_, plain) = self.gather(half.clone(), usize::MAX)?;
            let packed = self.pack(&plain)?;
            match packed.len() > SEGMENT_PACKED_BYTES_MAX as usize {
                true if half.len() > 1 => self.split(half)?,
                _ => self.close(packed, plain.len())?,
            }
        }
        Ok(())
    }

    /// The plain text of as many chunks of `range` as reach `goal` bytes, and how many those are.
    fn gather(&self, range: Range<usize>, goal: usize) -> Result<(usize, Vec<u8>), TransferError> {
        let first = u32::try_from(range.start).map_err(|_| too_large())?;
        let mut pieces = Pieces::starting_at(first);
        for one in &self.novel[range] {
            let new = self.chunks.read_chunk(&one.id)?;
            let base = match (one.base, self.ancestor) {
                (Some(base), Some(ancestor)) => Some(ancestor.chunks.read_chunk(&base)?),
                _ => None,
            };
            pieces.push(&new, base.as_deref()).map_err(TransferError::Compress)?;
            if pieces.len_bytes() >= goal {
                break;
            }
        }
        Ok((pieces.count() as usize, pieces.plain()))
    }

    fn pack(&self, plain: &[u8]) -> Result<Vec<u8>, TransferError> {
        codec::pack(plain, &[], self.level).map_err(TransferError::Compress)
    }

    fn close(&mut self, packed: Vec<u8>, plain_bytes: usize) -> Result<(), TransferError> {
        if self.refs.len() == SEGMENTS_MAX {
            return Err(too_large());
        }
        let number = |value: usize| {
            u32::try_from(value).map_err(|error| TransferError::Compress(io::Error::other(error)))
        };
        self.refs.push(SegmentRef {
            id: SegmentId::of(&packed),
            packed_bytes: number(packed.len())?,
            plain_bytes: number(plain_bytes)?,
        });
        (self.emit)(packed)
    }
}

fn too_large() -> TransferError {
    TransferError::TooLarge { segments_max: SEGMENTS_MAX as u32 }
}
