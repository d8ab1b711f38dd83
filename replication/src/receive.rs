//! The receiving side of a transfer: resumable, bounded, and silent until the state is durable.
//!
//! Segments arrive in any order. Each is checked against the header's hash *before* anything looks
//! inside and then written to its place in one file, whose offsets follow from the header. So
//! progress needs no bookkeeping: after a crash every place is hashed again, and what does not
//! match is simply still missing. Syncs are rare (every [`PART_SYNC_BYTES`]): nothing is promised
//! about a partial transfer, only that no more than that much is fetched again.
//!
//! [`Receiver::finish`] is the only way to a [`Durable`]: manifest verified as a whole, every new
//! chunk rebuilt and verified by its BLAKE3, pack written, synced, renamed, folder synced. A chunk
//! that is the same as in the ancestor is not read again here (the scrub does that); that it is
//! there is checked.
//!
//! Memory: the header, one segment, the manifests of both states. One transfer per instance: a new
//! header replaces an unfinished one.

use crate::chunk::ChunkSink;
use crate::codec;
use crate::delta::{Novel, PieceReader, novel};
use crate::hash::{ChunkId, SegmentId};
use crate::manifest::SealedManifest;
use crate::store::{Disk, DiskFile, Draft, Durable, Store, StoreError};
use crate::transfer::{TransferError, TransferHeader, manifest_prefix};

/// Most bytes of segments that a crash makes the sender send again.
pub const PART_SYNC_BYTES: u64 = 4 << 20;

/// An incoming transfer. Dropping it loses nothing: open it again with the same header.
#[derive(Debug)]
pub struct Receiver {
    disk: Disk,
    instance: String,
    header: TransferHeader,
    part: Option<DiskFile>,
    /// For each segment: where it lies in the file, and whether it is there.
    places: Vec<(u64, bool)>,
    unsynced_bytes: u64,
    done: Option<Durable>,
}

/// What [`Receiver::accept`] did with a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Accepted {
    /// Verified and stored.
    New,
    /// It was there already.
    Known,
}

impl Receiver {
    /// Begins, or resumes, the transfer with this header.
    ///
    /// Refused: headers that contradict themselves; deltas from a state that is not here
    /// ([`TransferError::AncestorMissing`]); another state under a stored checkpoint's number; what
    /// would not fit the quota. If the state is complete already, nothing is missing and
    /// [`Receiver::finish`] succeeds at once. Whether the sender may send this at all (epoch,
    /// role) is the caller's to decide, before.
    pub fn open(
        store: &mut Store,
        instance: &str,
        header: impl Into<Vec<u8>>,
    ) -> Result<Self, TransferError> {
        let header = TransferHeader::open(header)?;
        store.ensure_shelf(instance)?;
        store.check_conflict(instance, header.ckpt, header.to)?;
        let done = store.durable(instance, header.ckpt).filter(|done| done.hash() == header.to);
        let mut places = Vec::with_capacity(header.segments.len());
        let mut offset = 0;
        for segment in &header.segments {
            places.push((offset, done.is_some()));
            offset += u64::from(segment.packed_bytes);
        }
        let mut receiver = Self {
            disk: store.disk().clone(),
            instance: instance.to_owned(),
            header,
            part: None,
            places,
            unsynced_bytes: 0,
            done,
        };
        if receiver.done.is_none() {
            receiver.open_files(store)?;
        }
        Ok(receiver)
    }

    /// What this transfer is.
    pub fn header(&self) -> &TransferHeader {
        &self.header
    }

    /// The numbers of the segments that are still to come, ascending.
    pub fn missing(&self) -> impl Iterator<Item = u32> {
        (0u32..).zip(&self.places).filter(|(_, (_, here))| !here).map(|(index, _)| index)
    }

    /// Takes one segment from a peer. A refused one changes nothing; the error names it, and it
    /// stays in [`Receiver::missing`].
    pub fn accept(&mut self, index: u32, bytes: &[u8]) -> Result<Accepted, TransferError> {
        let at = index as usize;
        let (Some(declared), Some(place)) = (self.header.segments.get(at), self.places.get_mut(at))
        else {
            let segments = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
            return Err(TransferError::NoSuchSegment { index, segments });
        };
        if bytes.len() as u64 != u64::from(declared.packed_bytes) {
            let (bytes, declared) = (bytes.len() as u64, declared.packed_bytes);
            return Err(TransferError::SegmentLength { index, bytes, declared });
        }
        let (expected, found) = (declared.id, SegmentId::of(bytes));
        if found != expected {
            return Err(TransferError::CorruptSegment { index, expected, found });
        }
        let Some(part) = self.part.as_mut().filter(|_| !place.1) else {
            return Ok(Accepted::Known);
        };
        part.write_at(place.0, bytes)?;
        place.1 = true;
        self.unsynced_bytes += bytes.len() as u64;
        if self.unsynced_bytes >= PART_SYNC_BYTES {
            part.sync()?;
            self.unsynced_bytes = 0;
        }
        Ok(Accepted::New)
    }

    /// Applies the transfer and makes the state durable. When this returns, and not before, the
    /// state may be acknowledged.
    ///
    /// Fails with [`TransferError::Unfinished`] while segments are missing. After
    /// [`TransferError::CorruptSegment`] (the disk changed a segment) that one is missing again;
    /// after other errors the transfer is of no use: [`Receiver::abandon`] it.
    pub fn finish(&mut self, store: &mut Store) -> Result<Durable, TransferError> {
        if let Some(done) = &self.done {
            return Ok(done.clone());
        }
        let missing = u32::try_from(self.missing().count()).unwrap_or(u32::MAX);
        if missing > 0 {
            return Err(TransferError::Unfinished { missing });
        }
        let ancestor = self.ancestor(store)?;
        let manifest = self.read_manifest(ancestor.as_ref())?;
        let novel = novel(&manifest, ancestor.as_deref());
        let novel_bytes: u64 = novel.iter().map(|one| u64::from(one.len)).sum();
        if novel_bytes != self.header.novel_bytes {
            return Err(TransferError::Header { why: "it declares the wrong number of new bytes" });
        }
        let mut draft = Draft::new(store, &self.instance, self.header.reserved_bytes())?;
        self.apply(&novel, &mut draft)?;
        let durable = draft.commit(&manifest)?;
        self.done = Some(durable.clone());
        // The state is durable whatever happens now; opening the store removes what stays.
        _ = self.remove_files(store);
        Ok(durable)
    }

    /// Forgets the transfer and what has arrived of it.
    pub fn abandon(mut self, store: &mut Store) -> Result<(), TransferError> {
        Ok(self.remove_files(store)?)
    }

    fn ancestor(&self, store: &Store) -> Result<Option<SealedManifest>, TransferError> {
        let Some(from) = self.header.from else { return Ok(None) };
        let shelf = store.shelf_if_there(&self.instance);
        let state = shelf.and_then(|shelf| shelf.state_of(from));
        let state = state.ok_or(TransferError::AncestorMissing { from })?;
        match store.manifest(&self.instance, state.ckpt) {
            // One that cannot be read any more is not here either: asked for again without it, the state comes whole.
            Err(error) if error.is_loss() => Err(TransferError::AncestorMissing { from }),
            found => Ok(Some(found?)),
        }
    }

    fn read_manifest(
        &mut self,
        ancestor: Option<&SealedManifest>,
    ) -> Result<SealedManifest, TransferError> {
        let old = ancestor.map_or(&[][..], SealedManifest::bytes);
        let mut bytes = Vec::new();
        for index in 0..self.header.manifest_segments {
            let end = bytes.len() + self.plain_bytes(index);
            let piece = self.unpack(index, manifest_prefix(old, bytes.len(), end))?;
            bytes.extend_from_slice(&piece);
        }
        let manifest = SealedManifest::open(bytes)?;
        let (expected, found) = (self.header.to, manifest.hash());
        if found != expected {
            return Err(TransferError::WrongManifest { expected, found });
        }
        if manifest.ckpt != self.header.ckpt {
            return Err(TransferError::Header { why: "its manifest is of another checkpoint" });
        }
        Ok(manifest)
    }

    fn apply(&mut self, novel: &[Novel], draft: &mut Draft<'_>) -> Result<(), TransferError> {
        let mut rest = novel.iter();
        let segments = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
        for index in self.header.manifest_segments..segments {
            let content = |why| TransferError::SegmentContent { index, why };
            let plain = self.unpack(index, &[])?;
            let malformed = || content("is malformed");
            let mut pieces = PieceReader::new(&plain).ok_or_else(malformed)?;
            let done = novel.len() - rest.len();
            if usize::try_from(pieces.first) != Ok(done) {
                return Err(content("does not continue the one before"));
            }
            for _ in 0..pieces.count {
                let one = rest.next().ok_or_else(|| content("has more chunks than are new"))?;
                let base = one.base.map(|base| draft.read_chunk(&base)).transpose()?;
                let bytes = pieces.next(one.len as usize, base.as_deref()).ok_or_else(malformed)?;
                if ChunkId::of(&bytes) != one.id {
                    return Err(TransferError::ChunkMismatch { index, id: one.id });
                }
                keep(draft, one.id, &bytes)?;
            }
            if !pieces.is_done() {
                return Err(content("has bytes left over"));
            }
        }
        if rest.len() > 0 {
            return Err(TransferError::Header { why: "its segments lack new chunks" });
        }
        Ok(())
    }

    fn plain_bytes(&self, index: u32) -> usize {
        self.header.segments.get(index as usize).map_or(0, |segment| segment.plain_bytes as usize)
    }

    /// Reads a segment back, verifies it again, and decompresses it.
    fn unpack(&mut self, index: u32, prefix: &[u8]) -> Result<Vec<u8>, TransferError> {
        let at = index as usize;
        let (Some(declared), Some(place), Some(part)) =
            (self.header.segments.get(at), self.places.get_mut(at), &self.part)
        else {
            return Err(TransferError::SegmentContent { index, why: "is not there" });
        };
        let packed = part.read_at(place.0, declared.packed_bytes as usize)?;
        let (expected, found) = (declared.id, SegmentId::of(&packed));
        if found != expected {
            place.1 = false;
            return Err(TransferError::CorruptSegment { index, expected, found });
        }
        codec::unpack(&packed, prefix, declared.plain_bytes as usize)
            .map_err(|_| TransferError::SegmentContent { index, why: "does not decompress" })
    }

    fn open_files(&mut self, store: &mut Store) -> Result<(), TransferError> {
        self.ancestor(store)?;
        let id = self.header.id();
        let shelf = store.ensure_shelf(&self.instance)?;
        let (head, part) = (shelf.head_path(id), shelf.part_path(id));
        if shelf.incoming.contains_key(&id) {
            self.part = match self.disk.open_if_there(&part)? {
                Some(file) => Some(file),
                None => Some(self.disk.create(&part)?),
            };
            return Ok(self.find_progress()?);
        }
        store.drop_transfers(&self.instance)?;
        store.check_quota(self.header.reserved_bytes())?;
        // What an earlier attempt that failed half-way may have left.
        self.disk.remove(&part)?;
        self.disk.remove(&head)?;
        let mut file = self.disk.create(&head)?;
        file.write_at(0, self.header.bytes())?;
        file.sync()?;
        self.part = Some(self.disk.create(&part)?);
        self.disk.sync_folder(&self.instance)?;
        store.note_transfer(&self.instance, &self.header);
        Ok(())
    }

    /// Hashes every place again: what matches is here.
    fn find_progress(&mut self) -> Result<(), StoreError> {
        let Some(part) = &self.part else { return Ok(()) };
        let len = part.len_bytes()?;
        for (declared, place) in self.header.segments.iter().zip(&mut self.places) {
            if place.0 + u64::from(declared.packed_bytes) > len {
                continue;
            }
            let bytes = part.read_at(place.0, declared.packed_bytes as usize)?;
            place.1 = SegmentId::of(&bytes) == declared.id;
        }
        Ok(())
    }

    fn remove_files(&mut self, store: &mut Store) -> Result<(), StoreError> {
        self.part = None;
        store.drop_transfers(&self.instance)
    }
}

/// Stores a verified chunk. One that another state brought here is kept if it is still sound, and
/// replaced if not.
fn keep(draft: &mut Draft<'_>, id: ChunkId, bytes: &[u8]) -> Result<(), StoreError> {
    if !draft.holds(&id) {
        return draft.put(id, bytes);
    }
    match draft.read_chunk(&id) {
        Ok(_) => Ok(()),
        Err(StoreError::ChunkRotten { .. } | StoreError::Io { .. }) => draft.put_again(id, bytes),
        Err(other) => Err(other),
    }
}
