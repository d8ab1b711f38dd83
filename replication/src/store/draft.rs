//! A state being written: chunks, then the manifest, then the one moment it becomes durable.

use std::collections::BTreeMap;

use super::disk::DiskFile;
use super::pack::PackWriter;
use super::{Durable, State, Store, StoreError};
use crate::chunk::{CHUNK_BYTES_MAX, ChunkSink};
use crate::hash::ChunkId;
use crate::manifest::SealedManifest;

/// A state being written. Dropping it without [`Draft::commit`] forgets it.
///
/// It is a [`ChunkSink`], so a capture writes straight into it; chunks the instance already has are
/// not written again.
#[derive(Debug)]
pub struct Draft<'s> {
    store: &'s mut Store,
    instance: String,
    serial: u64,
    writer: Option<PackWriter>,
    /// What the quota already counts for this state.
    reserved_bytes: u64,
    open: BTreeMap<u64, DiskFile>,
}

impl<'s> Draft<'s> {
    pub(crate) fn new(
        store: &'s mut Store,
        instance: &str,
        reserved_bytes: u64,
    ) -> Result<Self, StoreError> {
        let shelf = store.ensure_shelf(instance)?;
        let serial = shelf.take_serial();
        let path = shelf.tmp_path(serial);
        let writer = Some(PackWriter::create(&store.disk, &path)?);
        let instance = instance.to_owned();
        Ok(Self { store, instance, serial, writer, reserved_bytes, open: BTreeMap::new() })
    }

    /// Makes the state durable: checks that every chunk is here, writes, syncs, renames, syncs the
    /// folder, and only then returns.
    ///
    /// Committing a state that is already complete under the same checkpoint does nothing and
    /// succeeds. Fails with [`StoreError::StateConflict`] if that checkpoint is another state.
    pub fn commit(mut self, state: &SealedManifest) -> Result<Durable, StoreError> {
        let instance = self.instance.clone();
        let offered = State { ckpt: state.ckpt, hash: state.hash() };
        let Some(shelf) = self.store.shelves.get(&instance) else {
            return Err(super::unknown(&instance, state.ckpt));
        };
        self.store.check_conflict(&instance, offered.ckpt, offered.hash)?;
        if shelf.states().contains_key(&offered) {
            return Ok(Durable { instance, state: offered });
        }
        let pending = |id: &ChunkId| self.writer.as_ref()?.place(id);
        if let Some((first, missing)) = shelf.missing(state, pending) {
            return Err(StoreError::Incomplete { ckpt: state.ckpt, first, missing });
        }
        self.make_room(state.bytes().len() as u64)?;
        self.write(Some(state))?;
        Ok(Durable { instance, state: offered })
    }

    /// Makes the chunks durable without a state, for garbage collection and repair.
    pub(super) fn commit_chunks(mut self) -> Result<(), StoreError> {
        self.write(None)
    }

    /// Like [`ChunkSink::put`], although the chunk may be in the store already: a repair.
    pub(crate) fn put_again(&mut self, id: ChunkId, bytes: &[u8]) -> Result<(), StoreError> {
        match &mut self.writer {
            Some(writer) => writer.put(id, bytes),
            None => Err(StoreError::Stopped),
        }
    }

    /// A chunk of the instance, or of this draft.
    pub(crate) fn read_chunk(&mut self, id: &ChunkId) -> Result<Vec<u8>, StoreError> {
        let pending = self.writer.as_mut().and_then(|writer| Some((writer.place(id)?, writer)));
        if let Some((place, writer)) = pending {
            return writer.read(place);
        }
        let shelf = self.store.shelves.get(&self.instance);
        let shelf = shelf.ok_or(StoreError::ChunkMissing { id: *id })?;
        shelf.read_chunk(&self.store.disk, &mut self.open, id)
    }

    fn write(&mut self, state: Option<&SealedManifest>) -> Result<(), StoreError> {
        let Some(writer) = self.writer.take() else { return Err(StoreError::Stopped) };
        let Some(shelf) = self.store.shelves.get_mut(&self.instance) else {
            return Err(StoreError::Stopped);
        };
        let disk = &self.store.disk;
        let tmp = shelf.tmp_path(self.serial);
        let written = writer.finish(state).and_then(|written| {
            disk.rename(&tmp, &shelf.pack_path(self.serial))?;
            disk.sync_folder(shelf.folder())?;
            Ok(written)
        });
        match written {
            Ok((footer, len_bytes)) => shelf.add(self.serial, len_bytes, footer),
            Err(error) => {
                // Best effort: opening removes it otherwise.
                _ = disk.remove(&tmp);
                return Err(error);
            }
        }
        Ok(())
    }

    fn make_room(&self, more_bytes: u64) -> Result<(), StoreError> {
        let written = self.writer.as_ref().map_or(0, PackWriter::len_bytes);
        self.store.check_quota((written + more_bytes).saturating_sub(self.reserved_bytes))
    }
}

impl ChunkSink for Draft<'_> {
    fn holds(&self, id: &ChunkId) -> bool {
        let shelf = self.store.shelves.get(&self.instance);
        shelf.is_some_and(|shelf| shelf.index.contains_key(id))
            || self.writer.as_ref().is_some_and(|writer| writer.place(id).is_some())
    }

    fn put(&mut self, id: ChunkId, bytes: &[u8]) -> Result<(), StoreError> {
        debug_assert!(
            bytes.len() <= CHUNK_BYTES_MAX as usize,
            "chunks are bounded by the manifest"
        );
        if self.holds(&id) {
            return Ok(());
        }
        self.make_room(bytes.len() as u64)?;
        self.put_again(id, bytes)
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if self.writer.take().is_some()
            && let Some(shelf) = self.store.shelves.get(&self.instance)
        {
            // Best effort: opening removes it otherwise.
            _ = self.store.disk.remove(&shelf.tmp_path(self.serial));
        }
    }
}
