//! The production store of one instance on one board, on a disk of its own.

use std::collections::BTreeSet;
use std::sync::Arc;

use hedgerow::proto::id::Epoch;
use hedgerow::proto::table::CheckpointId;
use hedgerow_replication::manifest::{ManifestBuilder, Meta};
use hedgerow_replication::store::StoreError;
use hedgerow_replication::transfer::TransferError;
use hedgerow_replication::vfs::{Loss, MemVfs, Vfs};
use hedgerow_replication::{
    Ancestor, CkptId, Layer, ManifestHash, Receiver, Store, StoreConfig, Transfer,
};

use super::{Packed, Shelf, Syncs, content};
use crate::seed::Stream;
use crate::service::{Found, Point};

/// What the one instance of each store is called in it.
const SHELF: &str = "states";
/// Page size of simulated boards.
const PAGE_BYTES: u32 = 4096;
/// zstd's level: the cheapest, nobody counts the bytes.
const LEVEL: i32 = 1;
/// Making a state durable takes fewer changes of the disk than this.
const STEPS_MAX: u64 = 12;
/// Bits that flip in each file.
const FLIPS: u64 = 4;

/// See the module.
#[derive(Debug)]
pub(super) struct Bytes {
    disk: MemVfs,
    store: Option<Store>,
    /// What is complete in it, as far as the agent knows.
    listed: BTreeSet<CheckpointId>,
    /// A capture that waits for the disk.
    capturing: Option<(CheckpointId, Point)>,
    /// A transfer that waits for the disk.
    receiving: Option<Receiver>,
    /// The last capture of this life.
    previous: Option<ManifestHash>,
    /// The last transfer did not fit the state that it started from: the next one is to be whole.
    without_ancestor: bool,
    /// A sync has failed: it writes nothing until it is opened again.
    stopped: bool,
    /// Bits of it have flipped.
    rotten: bool,
}

impl Bytes {
    /// An empty store; `seed` decides what crashes take.
    pub(super) fn new(seed: u64, full: bool) -> Self {
        let shelf = Self {
            disk: MemVfs::new(seed),
            store: None,
            listed: BTreeSet::new(),
            capturing: None,
            receiving: None,
            previous: None,
            without_ancestor: false,
            stopped: false,
            rotten: false,
        };
        shelf.set_full(full);
        shelf
    }

    /// Captures a state: chunks, manifest, sync. What was there before is not written again.
    fn write(&mut self, id: CheckpointId, point: Point) -> Result<(), TransferError> {
        let previous = self.previous;
        let store = self.store()?;
        let mut draft = store.begin(SHELF)?;
        let mut builder = ManifestBuilder::new(ckpt(id), Layer::Instance, PAGE_BYTES);
        if let Some(previous) = previous {
            builder = builder.ancestor(previous);
        }
        for (path, bytes) in content::files(point) {
            builder.file(path, Meta::default(), &bytes, &mut draft)?;
        }
        let state = builder.seal()?;
        let durable = draft.commit(&state)?;
        self.previous = Some(durable.hash());
        Ok(())
    }

    /// The store, opened if it is not.
    fn store(&mut self) -> Result<&mut Store, TransferError> {
        let store = match self.store.take() {
            Some(store) => store,
            None => Store::open(Arc::new(self.disk.clone()), StoreConfig::default())?,
        };
        Ok(self.store.insert(store))
    }

    /// Something was done with the store: what it holds now, and whether it stopped.
    fn note<T>(&mut self, done: Result<T, TransferError>) -> Result<T, TransferError> {
        if let Some(store) = &self.store {
            let states = store.states(SHELF);
            self.listed = states.iter().map(|state| named(state.ckpt)).collect();
        }
        if let Err(TransferError::Store(error)) = &done {
            let failed = matches!(error, StoreError::Io { doing: "sync", .. });
            self.stopped |= failed || matches!(error, StoreError::Stopped);
        }
        done
    }
}

impl Shelf for Bytes {
    fn set_full(&self, full: bool) {
        self.disk.set_capacity_bytes(if full { 0 } else { u64::MAX });
    }

    /// The next such sync fails, or none does.
    fn fail_syncs(&self, which: Option<Syncs>) {
        match which {
            None => self.disk.fail_sync_at_step(u64::MAX),
            Some(Syncs::All) => self.disk.fail_sync_at_step(self.disk.steps()),
            Some(Syncs::Names) => self.disk.fail_folder_sync_at_step(self.disk.steps()),
        }
    }

    fn has_stopped(&self) -> bool {
        self.stopped
    }

    fn is_damaged(&self) -> bool {
        self.store.as_ref().is_some_and(|store| !store.report().damaged.is_empty())
    }

    fn listed(&self) -> &BTreeSet<CheckpointId> {
        &self.listed
    }

    /// Opens the store and lists what is complete in it.
    fn open(&mut self) -> Result<(), TransferError> {
        (self.store, self.stopped) = (None, false);
        self.listed.clear();
        let opened = self.store().map(drop);
        self.note(opened)
    }

    /// The agent dies while it writes what it has to write; the kernel lives.
    fn die_writing(&mut self, draws: &mut Stream) {
        let last = self.disk.steps() + draws.below(STEPS_MAX);
        self.disk.crash_before_step(last);
        if let Some((id, point)) = self.capturing.take() {
            let _ = self.write(id, point);
        }
        if let (Some(mut receiver), Some(store)) = (self.receiving.take(), &mut self.store) {
            let _ = receiver.finish(store);
        }
        (self.store, self.previous, self.without_ancestor) = (None, None, false);
        self.stopped = false;
        self.disk.crash(Loss::Nothing);
    }

    /// The power goes.
    fn lose(&mut self, loss: Loss) {
        self.disk.crash(loss);
    }

    /// Flips some bits in each file.
    fn rot(&mut self, draws: &mut Stream) {
        for found in self.disk.list(SHELF).unwrap_or_default() {
            for _ in 0..FLIPS {
                let (byte, bit) = (draws.below(found.len_bytes.max(1)), draws.below(8) as u8);
                self.disk.flip_bit(&format!("{SHELF}/{}", found.name), byte, bit);
                self.rotten = true;
            }
        }
    }

    fn read(&self, id: CheckpointId) -> Found {
        let opened;
        let store = match &self.store {
            Some(store) => store,
            // Opening changes names, and whoever looks is not to.
            None => match Store::open(Arc::new(self.disk.copied()), StoreConfig::default()) {
                Ok(store) => {
                    opened = store;
                    &opened
                }
                Err(error) => return Found::Nothing(error.to_string()),
            },
        };
        match store.manifest(SHELF, ckpt(id)) {
            Ok(state) => content::read(&state, &store.chunks(SHELF)),
            Err(error) => Found::Nothing(error.to_string()),
        }
    }

    /// Whether a state can be read, as far as anybody could know who looks at the platter.
    fn is_sound(&self, id: CheckpointId) -> bool {
        let unharmed = !self.rotten && self.listed.contains(&id);
        unharmed || matches!(self.read(id), Found::State(_))
    }

    fn begin_capture(&mut self, id: CheckpointId, point: Point) {
        self.capturing = Some((id, point));
    }

    fn capture(&mut self, id: CheckpointId, point: Point) -> Result<(), TransferError> {
        self.capturing = None;
        let written = self.write(id, point);
        self.note(written)
    }

    fn keep(&mut self, states: &[CheckpointId]) -> Result<(), TransferError> {
        let pinned: Vec<CkptId> = states.iter().map(|id| ckpt(*id)).collect();
        let kept = self.store().and_then(|store| Ok(store.gc(SHELF, &pinned).map(drop)?));
        self.note(kept)
    }

    fn forget(&mut self) -> Result<(), TransferError> {
        let forgotten = self.store().and_then(|store| Ok(store.forget(SHELF)?));
        self.note(forgotten)
    }

    fn wants(&mut self) -> Vec<ManifestHash> {
        let without = std::mem::take(&mut self.without_ancestor);
        let states = self.store().map(|store| store.states(SHELF)).unwrap_or_default();
        if without { Vec::new() } else { states.iter().map(|state| state.hash).collect() }
    }

    fn pack(&mut self, id: CheckpointId, theirs: &[ManifestHash]) -> Result<Packed, TransferError> {
        let store = self.store()?;
        let state = store.manifest(SHELF, ckpt(id))?;
        let states = store.states(SHELF);
        let is_common =
            |hash: &ManifestHash| *hash != state.hash() && theirs.iter().any(|t| t == hash);
        let common = states.iter().rev().find(|state| is_common(&state.hash));
        let old = common.and_then(|state| store.manifest(SHELF, state.ckpt).ok());
        let chunks = store.chunks(SHELF);
        let ancestor = old.as_ref().map(|manifest| Ancestor { manifest, chunks: &chunks });
        let packed = match Transfer::encode(&state, &chunks, ancestor, LEVEL) {
            // What the ancestor had is rotten here; what is wanted may not be.
            Err(TransferError::Store(_)) if ancestor.is_some() => {
                Transfer::encode(&state, &chunks, None, LEVEL)
            }
            other => other,
        };
        Ok(Packed::Bytes(packed?))
    }

    fn condemn(&mut self, id: CheckpointId) -> Result<Vec<CheckpointId>, TransferError> {
        self.previous = None;
        let lost = self.store().and_then(|store| Ok(store.condemn(SHELF, ckpt(id))?));
        Ok(self.note(lost)?.into_iter().map(named).collect())
    }

    fn receive(&mut self, packed: &Packed, count: usize) -> Result<(), TransferError> {
        self.receiving = None;
        let Packed::Bytes(packed) = packed else {
            return Err(TransferError::Header { why: "it is of another kind of store" });
        };
        let header = packed.header.bytes();
        let opened = self.store().and_then(|store| Receiver::open(store, SHELF, header));
        self.without_ancestor |= matches!(opened, Err(TransferError::AncestorMissing { .. }));
        let received = opened.and_then(|mut receiver| {
            let missing: Vec<u32> = receiver.missing().collect();
            for index in missing.into_iter().take(count) {
                receiver.accept(index, &packed.segments[index as usize])?;
            }
            self.receiving = Some(receiver);
            Ok(())
        });
        self.note(received)
    }

    fn finish(&mut self) -> Result<(), TransferError> {
        let Some(mut receiver) = self.receiving.take() else {
            return Err(TransferError::Unfinished { missing: 0 });
        };
        let finished = self.store().and_then(|store| match receiver.finish(store) {
            Ok(_durable) => Ok(()),
            // A segment that this disk spoilt is fetched again.
            Err(error @ TransferError::CorruptSegment { .. }) => Err(error),
            // The rest is of no use to a next attempt, which had better not rest on the same ancestor.
            Err(error) => {
                let _ = receiver.abandon(store);
                Err(error)
            }
        });
        self.without_ancestor |= finished
            .as_ref()
            .is_err_and(|error| !matches!(error, TransferError::CorruptSegment { .. }));
        self.note(finished)
    }
}

/// As the store calls a state.
fn ckpt(id: CheckpointId) -> CkptId {
    CkptId { epoch: id.epoch.0, seq: id.seq }
}

/// As the node calls a state.
fn named(ckpt: CkptId) -> CheckpointId {
    CheckpointId { epoch: Epoch(ckpt.epoch), seq: ckpt.seq }
}
