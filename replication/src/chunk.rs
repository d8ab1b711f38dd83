//! Chunks: fixed, page-aligned pieces of content, named by BLAKE3.
//!
//! Chunk *i* of a file is its bytes from `i * chunk_bytes` on. Between *successive* states fixed
//! boundaries cost 3 to 40 times fewer bytes than content-defined ones (design 4), because a page
//! that did not change keeps both its place and its name. A chunk of zeros only is never stored: it
//! is a hole. A memory image is a file whose offset is the *address*, so an inserted page moves
//! nothing and the unmapped space costs a few bytes as a hole.
//!
//! [`ChunkSink`] is where a capture puts content, [`ChunkSource`] where a delta, a receiver or a
//! restore reads it: the store implements both, [`MemChunks`] does so in memory. Content-defined
//! chunks for the *first* sync are a later step; they need no change here, only another
//! `chunk_bytes` rule in the manifest.

use std::collections::BTreeMap;

pub use crate::hash::ChunkId;
use crate::store::StoreError;

/// Bytes of a chunk on machines whose pages are at most this long. Recorded in every manifest.
///
/// 16 KiB: BLAKE3 reaches 7–9 GB/s from here on (2.7 on 4 KiB), and a manifest costs 2 ‰ of its
/// state.
pub const CHUNK_BYTES: u32 = 16 << 10;
/// Smallest chunk a manifest may declare.
pub const CHUNK_BYTES_MIN: u32 = 4 << 10;
/// Largest chunk a manifest may declare, so that one always fits into a segment uncompressed.
pub const CHUNK_BYTES_MAX: u32 = 64 << 10;

/// The chunk size for a machine: [`CHUNK_BYTES`], or its page size where that is larger.
pub fn chunk_bytes_for(page_bytes: u32) -> u32 {
    CHUNK_BYTES.max(page_bytes)
}

/// Where content goes while a state is captured.
pub trait ChunkSink {
    /// True if the chunk is there and need not be put. Cheap; called for every chunk of a state.
    fn holds(&self, id: &ChunkId) -> bool;

    /// Keeps `bytes` under `id`. The caller vouches that `id` is their BLAKE3.
    fn put(&mut self, id: ChunkId, bytes: &[u8]) -> Result<(), StoreError>;
}

/// Where content comes from: design 4's `Ancestor`, so the copy of an acknowledged state may live
/// on disk.
pub trait ChunkSource {
    /// The bytes of a chunk, verified by their BLAKE3.
    ///
    /// Fails with [`StoreError::ChunkMissing`] or [`StoreError::ChunkRotten`].
    fn read_chunk(&self, id: &ChunkId) -> Result<Vec<u8>, StoreError>;
}

/// Chunks in memory: for workloads inside this process and for tests.
#[derive(Clone, Default, Debug)]
pub struct MemChunks(BTreeMap<ChunkId, Vec<u8>>);

impl ChunkSink for MemChunks {
    fn holds(&self, id: &ChunkId) -> bool {
        self.0.contains_key(id)
    }

    fn put(&mut self, id: ChunkId, bytes: &[u8]) -> Result<(), StoreError> {
        self.0.insert(id, bytes.to_vec());
        Ok(())
    }
}

impl ChunkSource for MemChunks {
    fn read_chunk(&self, id: &ChunkId) -> Result<Vec<u8>, StoreError> {
        match self.0.get(id) {
            Some(bytes) if ChunkId::of(bytes) == *id => Ok(bytes.clone()),
            Some(_) => Err(StoreError::ChunkRotten { id: *id, place: "memory".to_owned() }),
            None => Err(StoreError::ChunkMissing { id: *id }),
        }
    }
}

/// True if every byte is zero. Compares words, so that holes are found at memory speed.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|&byte| byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_found_at_any_length() {
        for length in 0..70 {
            let mut bytes = vec![0; length];
            assert!(is_zero(&bytes));
            for place in 0..length {
                bytes[place] = 1;
                assert!(!is_zero(&bytes), "{length} bytes, byte {place} set");
                bytes[place] = 0;
            }
        }
    }

    #[test]
    fn memory_chunks_are_verified_too() {
        let mut chunks = MemChunks::default();
        let id = ChunkId::of(b"other bytes");
        chunks.put(id, b"bytes").unwrap();
        assert!(matches!(chunks.read_chunk(&id), Err(StoreError::ChunkRotten { .. })));
    }
}
