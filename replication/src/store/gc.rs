//! Garbage collection by reference: what no kept state names goes.
//!
//! Kept are the newest complete states, those the caller pins, and the ancestors of unfinished
//! transfers. A pack nobody needs is removed. Packs that are partly needed stay until the dead bytes
//! outweigh the live ones (an eighth of them when the quota is nearly used up): then the deadest
//! are gathered, that is, their live chunks go into a new pack, which is durable *before* the old
//! ones are removed. Waiting is what saves the SD card: most chunks die of themselves first. When
//! there are more than [`PACKS_MAX`] packs the smaller half is gathered, so that a growing log does
//! not become a thousand files.
//!
//! A dropped state whose pack stays is listed again after a restart if all its chunks are still
//! there. That is true, so it is harmless: nobody chooses an older state than the newest.

use std::collections::{BTreeMap, BTreeSet};

use super::shelf::Location;
use super::{Draft, Shelf, State, Store, StoreError, unknown};
use crate::hash::ChunkId;
use crate::manifest::CkptId;

/// Packs beside those of kept states before small ones are gathered.
const PACKS_MAX: usize = 64;

/// What [`Store::gc`] did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GcReport {
    /// Packs removed.
    pub packs_removed: u32,
    /// Bytes freed, less those rewritten.
    pub freed_bytes: u64,
    /// Bytes rewritten from packs that were mostly dead: the price, in SD card wear.
    pub rewritten_bytes: u64,
    /// Chunks that were to be rewritten and turned out rotten; their packs stay. Repair them.
    pub rotten: Vec<ChunkId>,
}

impl Store {
    /// Removes what no kept state needs. Kept are the `states_kept` newest complete states, those
    /// in `pinned` (the last acknowledged ones, whatever came after them), and the ancestors of
    /// unfinished transfers.
    ///
    /// Crash-safe at any point; idempotent. Does nothing for an unknown instance.
    pub fn gc(&mut self, instance: &str, pinned: &[CkptId]) -> Result<GcReport, StoreError> {
        let keep = self.kept(instance, pinned);
        self.collect(instance, &keep, None)
    }

    /// Removes one state for good, although it is complete: what 3b's S11 asks for when a state
    /// became durable after the right to acknowledge it was gone. Other states are untouched.
    /// Fails with [`StoreError::ChunkRotten`], and keeps the state, if another state needs a chunk
    /// of it that turns out rotten: repair that first.
    pub fn discard(&mut self, instance: &str, ckpt: CkptId) -> Result<(), StoreError> {
        let Some(shelf) = self.shelves.get(instance) else { return Err(unknown(instance, ckpt)) };
        let mut keep = shelf.states();
        let doomed = keep.keys().find(|state| state.ckpt == ckpt).copied();
        let serial = doomed.and_then(|state| keep.remove(&state));
        let serial = serial.ok_or_else(|| unknown(instance, ckpt))?;
        let report = self.collect(instance, &keep, Some(serial))?;
        match report.rotten.first() {
            None => Ok(()),
            Some(id) => {
                let place = format!("{instance}, pack {serial:x}");
                Err(StoreError::ChunkRotten { id: *id, place })
            }
        }
    }

    /// Removes everything about an instance, its folder excepted.
    pub fn forget(&mut self, instance: &str) -> Result<(), StoreError> {
        let Some(shelf) = self.shelves.get_mut(instance) else { return Ok(()) };
        let disk = &self.disk;
        for found in disk.list(instance)? {
            disk.remove(&format!("{instance}/{}", found.name))?;
        }
        disk.sync_folder(instance)?;
        *shelf = Shelf::new(instance);
        Ok(())
    }

    fn kept(&self, instance: &str, pinned: &[CkptId]) -> BTreeMap<State, u64> {
        let Some(shelf) = self.shelves.get(instance) else { return BTreeMap::new() };
        let mut states = shelf.states();
        let newest = states.len().saturating_sub(self.config.states_kept.max(2) as usize);
        let old: Vec<State> = states.keys().copied().take(newest).collect();
        let ancestor =
            |state: &State| shelf.incoming.values().any(|one| one.from == Some(state.hash));
        for state in old {
            if !pinned.contains(&state.ckpt) && !ancestor(&state) {
                states.remove(&state);
            }
        }
        states
    }

    /// Removes all packs but those of `keep` and those it needs; `doomed` goes in any case.
    fn collect(
        &mut self,
        instance: &str,
        keep: &BTreeMap<State, u64>,
        doomed: Option<u64>,
    ) -> Result<GcReport, StoreError> {
        let mut report = GcReport::default();
        let Some(plan) = self.plan(instance, keep, doomed)? else { return Ok(report) };
        // The empty ones first: on a full disk this makes the room the rest needs.
        self.remove_packs(instance, &plan.empty, &mut report)?;
        if !plan.gather.is_empty() {
            let mut old: BTreeSet<u64> = plan.gather.keys().copied().collect();
            self.gather(instance, plan.gather, &mut old, &mut report)?;
            self.remove_packs(instance, &old, &mut report)?;
        }
        let Some(shelf) = self.shelves.get_mut(instance) else { return Ok(report) };
        for pack in shelf.packs.values_mut() {
            let state = pack.state.map(|state| State { ckpt: state.ckpt, hash: state.hash });
            pack.complete &= state.is_some_and(|state| keep.contains_key(&state));
        }
        report.freed_bytes = report.freed_bytes.saturating_sub(report.rewritten_bytes);
        Ok(report)
    }

    fn plan(
        &self,
        instance: &str,
        keep: &BTreeMap<State, u64>,
        doomed: Option<u64>,
    ) -> Result<Option<Plan>, StoreError> {
        let Some(shelf) = self.shelves.get(instance) else { return Ok(None) };
        let mut live: BTreeSet<ChunkId> = BTreeSet::new();
        for serial in keep.values() {
            live.extend(shelf.read_manifest(&self.disk, *serial)?.chunks().map(|(id, _)| id));
        }
        let candidates = shelf.packs.keys().filter(|serial| !keep.values().any(|k| k == *serial));
        let mut tally: BTreeMap<u64, Live> =
            candidates.map(|serial| (*serial, Live::default())).collect();
        for (id, at) in &shelf.index {
            if live.contains(id)
                && let Some(pack) = tally.get_mut(&at.serial)
            {
                pack.chunks.push(*id);
                pack.len_bytes += u64::from(at.place.len);
            }
        }
        let live_bytes: u64 =
            live.iter().filter_map(|id| shelf.index.get(id)).map(Location::len_bytes).sum();
        let (quota, used) = (self.config.quota_bytes, self.used_bytes());
        let tight = used > quota / 4 * 3;
        Ok(Some(Plan::new(shelf, tally, doomed, if tight { live_bytes / 8 } else { live_bytes })))
    }

    /// Copies live chunks into a new pack; takes packs with rotten ones out of `old`.
    fn gather(
        &mut self,
        instance: &str,
        packs: BTreeMap<u64, Vec<ChunkId>>,
        old: &mut BTreeSet<u64>,
        report: &mut GcReport,
    ) -> Result<(), StoreError> {
        let mut draft = Draft::new(self, instance, 0)?;
        for (serial, chunks) in packs {
            for id in chunks {
                match draft.read_chunk(&id) {
                    Ok(bytes) => {
                        draft.put_again(id, &bytes)?;
                        report.rewritten_bytes += bytes.len() as u64;
                    }
                    Err(StoreError::ChunkRotten { .. }) => {
                        old.remove(&serial);
                        report.rotten.push(id);
                    }
                    Err(other) => return Err(other),
                }
            }
        }
        draft.commit_chunks()
    }

    fn remove_packs(
        &mut self,
        instance: &str,
        serials: &BTreeSet<u64>,
        report: &mut GcReport,
    ) -> Result<(), StoreError> {
        let enough = self.states(instance).len() >= self.config.states_kept.max(2) as usize;
        let Some(shelf) = self.shelves.get_mut(instance) else { return Ok(()) };
        let damaged = if enough { std::mem::take(&mut shelf.damaged) } else { Vec::new() };
        if serials.is_empty() && damaged.is_empty() {
            return Ok(());
        }
        for serial in serials {
            self.disk.remove(&shelf.pack_path(*serial))?;
            if let Some(pack) = shelf.packs.remove(serial) {
                report.packs_removed += 1;
                report.freed_bytes += pack.len_bytes;
            }
        }
        for path in damaged {
            self.disk.remove(&path)?;
        }
        shelf.index.retain(|_, at| !serials.contains(&at.serial));
        self.disk.sync_folder(instance)
    }
}

#[derive(Default)]
struct Plan {
    /// Packs nobody needs.
    empty: BTreeSet<u64>,
    /// Packs to gather, with what is alive in them.
    gather: BTreeMap<u64, Vec<ChunkId>>,
}

#[derive(Default)]
struct Live {
    len_bytes: u64,
    chunks: Vec<ChunkId>,
}

impl Plan {
    /// Decides about packs that hold no kept state. Bounds their dead bytes and their number.
    fn new(
        shelf: &Shelf,
        tally: BTreeMap<u64, Live>,
        doomed: Option<u64>,
        dead_bytes_max: u64,
    ) -> Self {
        let mut plan = Self::default();
        let mut rest = Vec::new();
        let mut dead_sum = 0;
        for (serial, live) in tally {
            let pack_bytes = shelf.packs.get(&serial).map_or(0, |pack| pack.len_bytes);
            let dead_bytes = pack_bytes.saturating_sub(live.len_bytes);
            if live.chunks.is_empty() {
                plan.empty.insert(serial);
            } else if doomed == Some(serial) {
                plan.gather.insert(serial, live.chunks);
            } else {
                dead_sum += dead_bytes;
                let dead_permille = dead_bytes.saturating_mul(1000) / pack_bytes.max(1);
                rest.push((dead_permille, dead_bytes, serial, live));
            }
        }
        if dead_sum > dead_bytes_max {
            // Down to half of what is allowed, so that it does not begin again at once.
            rest.sort_by_key(|(dead_permille, _, serial, _)| (*dead_permille, *serial));
            while dead_sum > dead_bytes_max / 2
                && let Some((_, dead_bytes, serial, live)) = rest.pop()
            {
                dead_sum -= dead_bytes;
                plan.gather.insert(serial, live.chunks);
            }
        }
        if rest.len() > PACKS_MAX {
            rest.sort_by_key(|(_, _, serial, live)| (live.len_bytes, *serial));
            let smaller = rest.into_iter().take(PACKS_MAX / 2);
            plan.gather.extend(smaller.map(|(_, _, serial, live)| (serial, live.chunks)));
        }
        plan
    }
}
