//! A pack: the chunks one checkpoint added, and its manifest, in one file that is never changed.
//!
//! ```text
//! "HEDGPAK1"
//! record*    id or manifest hash (32) | length u32 | bytes
//! footer     (id (32) | offset u64 | length u32)*, ascending by id; offsets point at the bytes
//! trailer    chunks u32 | state u8 | epoch u64 | seq u64 | manifest hash (32) | offset u64 |
//!            length u32 | footer offset u64 | BLAKE3 of footer and trailer so far (32) | "HEDGEND1"
//! ```
//! All numbers are little-endian. A pack is written under a temporary name, synced, renamed, and
//! its folder synced: a file with a pack's name is whole, or the disk lies. Records carry their own
//! id so that a pack whose footer rotted could still be read by hand. Bytes are stored plain: they
//! are the ancestor of the next delta and are compared at memory speed.
//!
//! A pack without a manifest (`state` 0) holds chunks that garbage collection gathered or that a
//! peer sent to repair rotten ones.

use std::collections::BTreeMap;

use super::StoreError;
use super::disk::{Disk, DiskFile};
use crate::chunk::CHUNK_BYTES_MAX;
use crate::hash::{ChunkId, ManifestHash};
use crate::manifest::{CkptId, MANIFEST_BYTES_MAX, SealedManifest};

const HEAD: &[u8; 8] = b"HEDGPAK1";
const TAIL: &[u8; 8] = b"HEDGEND1";
/// Bytes before each record's content.
pub(super) const RECORD_HEAD_BYTES: u64 = 32 + 4;
const FOOTER_ENTRY_BYTES: usize = 32 + 8 + 4;
const TRAILER_BYTES: usize = 4 + 1 + 8 + 8 + 32 + 8 + 4 + 8 + 32 + 8;
/// Written at once: large enough for SD cards, small enough for 1 GB boards.
const WRITE_BYTES: usize = 256 << 10;

/// Where bytes lie in a pack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) offset: u64,
    pub(super) len: u32,
}

/// The state a pack completes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PackState {
    pub(super) ckpt: CkptId,
    pub(super) hash: ManifestHash,
    pub(super) place: Place,
}

/// What the end of a pack says about the rest.
#[derive(Debug)]
pub(super) struct Footer {
    pub(super) chunks: Vec<(ChunkId, Place)>,
    pub(super) state: Option<PackState>,
}

/// Writes a pack under a temporary name.
#[derive(Debug)]
pub(crate) struct PackWriter {
    file: DiskFile,
    buffer: Vec<u8>,
    written: u64,
    chunks: BTreeMap<ChunkId, Place>,
}

impl PackWriter {
    pub(crate) fn create(disk: &Disk, path: &str) -> Result<Self, StoreError> {
        let file = disk.create(path)?;
        Ok(Self { file, buffer: HEAD.to_vec(), written: 0, chunks: BTreeMap::new() })
    }

    pub(super) fn place(&self, id: &ChunkId) -> Option<Place> {
        self.chunks.get(id).copied()
    }

    /// Length so far, in bytes.
    pub(super) fn len_bytes(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Adds a chunk; does nothing if it is there.
    pub(crate) fn put(&mut self, id: ChunkId, bytes: &[u8]) -> Result<(), StoreError> {
        if !self.chunks.contains_key(&id) {
            let place = self.record(&id.0, bytes)?;
            self.chunks.insert(id, place);
        }
        Ok(())
    }

    /// Writes what remains and syncs the bytes. The name is the caller's business.
    pub(super) fn finish(
        mut self,
        state: Option<&SealedManifest>,
    ) -> Result<(Footer, u64), StoreError> {
        let state = match state {
            Some(sealed) => Some(PackState {
                ckpt: sealed.ckpt,
                hash: sealed.hash(),
                place: self.record(&sealed.hash().0, sealed.bytes())?,
            }),
            None => None,
        };
        let footer = Footer { chunks: self.chunks.iter().map(|(k, v)| (*k, *v)).collect(), state };
        let tail = footer.encode(self.len_bytes());
        self.buffer.extend_from_slice(&tail);
        self.flush()?;
        self.file.sync()?;
        Ok((footer, self.written))
    }

    /// The bytes of a chunk of this pack, although it is not finished.
    pub(super) fn read(&mut self, place: Place) -> Result<Vec<u8>, StoreError> {
        self.flush()?;
        self.file.read_at(place.offset, place.len as usize)
    }

    fn record(&mut self, name: &[u8; 32], bytes: &[u8]) -> Result<Place, StoreError> {
        let offset = self.len_bytes() + RECORD_HEAD_BYTES;
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.buffer.extend_from_slice(name);
        self.buffer.extend_from_slice(&len.to_le_bytes());
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= WRITE_BYTES {
            self.flush()?;
        }
        Ok(Place { offset, len })
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        if !self.buffer.is_empty() {
            self.file.write_at(self.written, &self.buffer)?;
            self.written += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }
}

impl Footer {
    fn encode(&self, footer_offset: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.chunks.len() * FOOTER_ENTRY_BYTES + TRAILER_BYTES);
        for (id, place) in &self.chunks {
            out.extend_from_slice(&id.0);
            out.extend_from_slice(&place.offset.to_le_bytes());
            out.extend_from_slice(&place.len.to_le_bytes());
        }
        let none = PackState {
            ckpt: CkptId::default(),
            hash: ManifestHash([0; 32]),
            place: Place { offset: 0, len: 0 },
        };
        let state = self.state.unwrap_or(none);
        let chunks = u32::try_from(self.chunks.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&chunks.to_le_bytes());
        out.push(u8::from(self.state.is_some()));
        out.extend_from_slice(&state.ckpt.epoch.to_le_bytes());
        out.extend_from_slice(&state.ckpt.seq.to_le_bytes());
        out.extend_from_slice(&state.hash.0);
        out.extend_from_slice(&state.place.offset.to_le_bytes());
        out.extend_from_slice(&state.place.len.to_le_bytes());
        out.extend_from_slice(&footer_offset.to_le_bytes());
        let sum = blake3::hash(&out);
        out.extend_from_slice(sum.as_bytes());
        out.extend_from_slice(TAIL);
        out
    }

    /// Reads the end of a pack; never panics, allocates no more than the file is long.
    pub(super) fn read(file: &DiskFile) -> Result<Self, StoreError> {
        let damaged = |why| StoreError::PackDamaged { place: file.path().to_owned(), why };
        let len = file.len_bytes()?;
        let Some(trailer_at) = len.checked_sub(TRAILER_BYTES as u64) else {
            return Err(damaged("is too short for a pack"));
        };
        let trailer = file.read_at(trailer_at, TRAILER_BYTES)?;
        let mut fields = Fields(&trailer);
        let chunks = u64::from(fields.u32());
        let has_state = fields.array::<1>() == [1];
        let ckpt = CkptId { epoch: fields.u64(), seq: fields.u64() };
        let hash = ManifestHash(fields.array());
        let place = Place { offset: fields.u64(), len: fields.u32() };
        let footer_at = fields.u64();
        let sum: [u8; 32] = fields.array();
        let footer_len = chunks * FOOTER_ENTRY_BYTES as u64;
        if fields.array() != *TAIL || footer_at.checked_add(footer_len) != Some(trailer_at) {
            return Err(damaged("has no trailer"));
        }
        let body =
            usize::try_from(footer_len).map_err(|_| damaged("is too large for this board"))?;
        let mut checked = file.read_at(footer_at, body)?;
        checked.extend_from_slice(&trailer[..TRAILER_BYTES - 32 - TAIL.len()]);
        if *blake3::hash(&checked).as_bytes() != sum {
            return Err(damaged("has a rotten footer"));
        }
        let fits = |place: Place, max: usize| {
            let end = place.offset.checked_add(u64::from(place.len));
            end.is_some_and(|end| end <= footer_at) && place.len as usize <= max
        };
        let mut all = Vec::with_capacity(body / FOOTER_ENTRY_BYTES);
        for entry in checked[..body].chunks_exact(FOOTER_ENTRY_BYTES) {
            let mut fields = Fields(entry);
            let id = ChunkId(fields.array());
            let place = Place { offset: fields.u64(), len: fields.u32() };
            if !fits(place, CHUNK_BYTES_MAX as usize) {
                return Err(damaged("has a footer that points outside"));
            }
            all.push((id, place));
        }
        if has_state && !fits(place, MANIFEST_BYTES_MAX) {
            return Err(damaged("has a footer that points outside"));
        }
        let state = has_state.then_some(PackState { ckpt, hash, place });
        Ok(Self { chunks: all, state })
    }
}

/// Takes fixed-width fields off a slice whose length is known to suffice; zeros beyond its end.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> [u8; N] {
        let Some((head, rest)) = self.0.split_first_chunk::<N>() else { return [0; N] };
        self.0 = rest;
        *head
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }
}
