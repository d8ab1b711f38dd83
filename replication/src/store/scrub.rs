//! The scrub: reads everything again, slowly, and says what has rotted.
//!
//! In steps of so many bytes, so that the caller spreads it over a day. A rotten chunk leaves the
//! index at once: states that need it are no longer listed as complete, so nobody takes over from
//! one. [`Store::repair`] brings them back with bytes from a peer.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::{Draft, State, Store, StoreError};
use crate::chunk::ChunkSource;
use crate::hash::ChunkId;
use crate::manifest::CkptId;

/// Where the next step of a scrub begins.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ScrubCursor {
    instance: String,
    after: Option<ChunkId>,
}

/// A chunk that is not what its name says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rotten {
    /// Whose.
    pub instance: String,
    /// Which.
    pub chunk: ChunkId,
    /// In which file, relative to the store.
    pub place: String,
}

/// What a step of a scrub found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ScrubReport {
    /// Chunks read.
    pub chunks: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// What is rotten.
    pub rotten: Vec<Rotten>,
    /// States that are complete no longer, because a chunk or the manifest rotted.
    pub lost: Vec<(String, State)>,
    /// Where to go on; `None` when everything has been read.
    pub next: Option<ScrubCursor>,
}

impl Store {
    /// Reads and verifies chunks from `cursor` on (the default one is the beginning), at least one
    /// and then up to `read_bytes_max`. Chunks that cannot be read at all count as rotten.
    pub fn scrub(
        &mut self,
        cursor: ScrubCursor,
        read_bytes_max: u64,
    ) -> Result<ScrubReport, StoreError> {
        let mut report = ScrubReport::default();
        let mut before: BTreeMap<String, BTreeMap<State, u64>> = BTreeMap::new();
        let mut from = Some(cursor);
        while let Some(at) = from {
            let shelves = self.shelves.range(at.instance.clone()..).take(1);
            before.extend(shelves.map(|(name, shelf)| (name.clone(), shelf.states())));
            if report.read_bytes >= read_bytes_max && report.chunks > 0 {
                report.next = Some(at);
                break;
            }
            from = self.scrub_instance(at, read_bytes_max, &mut report);
        }
        for (instance, states) in before {
            let Some(shelf) = self.shelves.get_mut(&instance) else { continue };
            shelf.find_complete(&self.disk)?;
            let after = shelf.states();
            let lost = states.into_keys().filter(|state| !after.contains_key(state));
            report.lost.extend(lost.map(|state| (instance.clone(), state)));
        }
        Ok(report)
    }

    /// Reads a state again that could not be read. What of it is rotten leaves the index, so the next
    /// capture writes it anew instead of resting on it; a pack that is written later wins, also when
    /// the store is opened again. Says which states are none any more, `ckpt` among them if it is not
    /// one; nothing, if it can be read after all.
    pub fn condemn(&mut self, instance: &str, ckpt: CkptId) -> Result<Vec<CkptId>, StoreError> {
        let before = self.states(instance);
        let ids: BTreeSet<ChunkId> = match self.manifest(instance, ckpt) {
            Ok(state) => state.chunks().map(|(id, _)| id).collect(),
            Err(error) if error.is_loss() => BTreeSet::new(),
            Err(other) => return Err(other),
        };
        if let Some(shelf) = self.shelves.get_mut(instance) {
            let mut open = BTreeMap::new();
            for id in ids {
                match shelf.read_chunk(&self.disk, &mut open, &id) {
                    Ok(_) => {}
                    Err(error) if error.is_loss() => drop(shelf.index.remove(&id)),
                    Err(other) => return Err(other),
                }
            }
            shelf.find_complete(&self.disk)?;
        }
        let after = self.states(instance);
        let lost = before.iter().filter(|state| !after.contains(state)).map(|state| state.ckpt);
        let here = before.iter().any(|state| state.ckpt == ckpt);
        Ok(lost.chain((!here).then_some(ckpt)).collect())
    }

    /// Reads and verifies every chunk of one state: before a planned move, or where a standby wants
    /// to know that its copy would start. Fails at the first rotten or missing chunk.
    pub fn verify(&self, instance: &str, ckpt: CkptId) -> Result<(), StoreError> {
        let state = self.manifest(instance, ckpt)?;
        let chunks = self.chunks(instance);
        let ids: BTreeSet<ChunkId> = state.chunks().map(|(id, _)| id).collect();
        ids.iter().try_for_each(|id| chunks.read_chunk(id).map(drop))
    }

    /// Takes verified bytes of rotten or missing chunks from a peer, durably. Bytes that are not
    /// what their name says are refused with [`StoreError::ChunkRotten`], and nothing is written.
    pub fn repair(
        &mut self,
        instance: &str,
        chunks: &[(ChunkId, Vec<u8>)],
    ) -> Result<(), StoreError> {
        if let Some((id, _)) = chunks.iter().find(|(id, bytes)| ChunkId::of(bytes) != *id) {
            return Err(StoreError::ChunkRotten { id: *id, place: "the peer's answer".to_owned() });
        }
        let mut draft = Draft::new(self, instance, 0)?;
        for (id, bytes) in chunks {
            draft.put_again(*id, bytes)?;
        }
        draft.commit_chunks()?;
        match self.shelves.get_mut(instance) {
            Some(shelf) => shelf.find_complete(&self.disk),
            None => Ok(()),
        }
    }

    /// Scrubs one instance from `at` on; answers where to go on, `None` at the very end.
    fn scrub_instance(
        &mut self,
        at: ScrubCursor,
        read_bytes_max: u64,
        report: &mut ScrubReport,
    ) -> Option<ScrubCursor> {
        let (name, _) = self.shelves.range(at.instance.clone()..).next()?;
        let name = name.clone();
        let shelf = self.shelves.get_mut(&name)?;
        let after = at.after.filter(|_| name == at.instance);
        let ids: Vec<ChunkId> = match after {
            Some(after) => {
                let rest = (Bound::Excluded(after), Bound::Unbounded);
                shelf.index.range(rest).map(|(id, _)| *id).collect()
            }
            None => shelf.index.keys().copied().collect(),
        };
        let mut open = BTreeMap::new();
        for id in ids {
            report.chunks += 1;
            match shelf.read_chunk(&self.disk, &mut open, &id) {
                Ok(bytes) => report.read_bytes += bytes.len() as u64,
                Err(_) => {
                    let serial = shelf.index.remove(&id).map_or(0, |place| place.serial);
                    let place = shelf.pack_path(serial);
                    report.rotten.push(Rotten { instance: name.clone(), chunk: id, place });
                }
            }
            if report.read_bytes >= read_bytes_max {
                return Some(ScrubCursor { instance: name, after: Some(id) });
            }
        }
        // The first name that sorts after this one; NUL is in no name.
        Some(ScrubCursor { instance: name + "\0", after: None })
    }
}
