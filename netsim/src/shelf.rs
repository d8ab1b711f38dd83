//! The stores of one board.
//!
//! As the real driver does it (`net/copies/shelf.rs` of the mesh): one store for each instance, opened when it
//! is first used and with the agent's start, closed with the agent. What the agent was writing when it died
//! has got as far as a draw says. How long a transfer takes is the world's business.
//!
//! There are two kinds, and a run has one of them. `bytes` is the production store on a simulated disk: its
//! states are real bytes, a few hundred of them, so deltas, deduplication, compression, verification and
//! garbage collection all run. `names` only remembers which states there are; it costs nothing, so most
//! random runs, which are not about stores, have it.

mod bytes;
mod content;
mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use hedgerow::proto::holdings::Held;
use hedgerow::proto::order::Instance;
use hedgerow::proto::table::CheckpointId;
use hedgerow_replication::transfer::TransferError;
use hedgerow_replication::vfs::Loss;
use hedgerow_replication::{ManifestHash, Transfer};
use serde::{Deserialize, Serialize};

use self::bytes::Bytes;
use self::names::Names;
use crate::seed::{Purpose, Stream};
use crate::service::{Found, Point};

/// Which kind of store the boards of a run have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum States {
    /// The production store.
    #[default]
    Bytes,
    /// Which states there are, and no more.
    Names,
}

/// See the module.
#[derive(Debug)]
pub struct Shelves {
    states: States,
    shelves: BTreeMap<Instance, Box<dyn Shelf>>,
    /// The disk takes no more bytes.
    full: bool,
    /// Which syncs fail.
    failing: Option<Syncs>,
    /// What crashes take, and which bits flip.
    draws: Stream,
}

/// Syncs of a store that fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Syncs {
    /// Every one.
    All,
    /// Those of folders, which are to make names durable.
    Names,
}

/// A state on its way to another board.
#[derive(Debug)]
pub enum Packed {
    /// Its bytes.
    Bytes(Transfer),
    /// What it is called, and what it is.
    Names(CheckpointId, Point),
}

/// The store of one instance. Errors and order of steps are those of the production store.
trait Shelf: Debug {
    /// What is complete in it, as far as the agent knows.
    fn listed(&self) -> &BTreeSet<CheckpointId>;
    fn read(&self, id: CheckpointId) -> Found;
    /// Whether a state can be read, as somebody knows who looks at the platter.
    fn is_sound(&self, id: CheckpointId) -> bool;
    fn begin_capture(&mut self, id: CheckpointId, point: Point);
    fn capture(&mut self, id: CheckpointId, point: Point) -> Result<(), TransferError>;
    /// Forgets all states but these, of which there is one at least.
    fn keep(&mut self, states: &[CheckpointId]) -> Result<(), TransferError>;
    fn forget(&mut self) -> Result<(), TransferError>;
    fn wants(&mut self) -> Vec<ManifestHash>;
    fn pack(&mut self, id: CheckpointId, theirs: &[ManifestHash]) -> Result<Packed, TransferError>;
    fn condemn(&mut self, id: CheckpointId) -> Result<Vec<CheckpointId>, TransferError>;
    fn receive(&mut self, packed: &Packed, count: usize) -> Result<(), TransferError>;
    fn finish(&mut self) -> Result<(), TransferError>;
    fn open(&mut self) -> Result<(), TransferError>;
    /// The agent dies while it writes what it has to write; the kernel lives.
    fn die_writing(&mut self, draws: &mut Stream);
    /// The power goes.
    fn lose(&mut self, _loss: Loss) {}
    fn set_full(&self, _full: bool) {}
    fn fail_syncs(&self, _which: Option<Syncs>) {}
    fn rot(&mut self, _draws: &mut Stream) {}
    fn has_stopped(&self) -> bool {
        false
    }
    fn is_damaged(&self) -> bool {
        false
    }
}

impl Packed {
    /// How many segments it has.
    pub fn count(&self) -> usize {
        match self {
            Self::Bytes(transfer) => transfer.segments.len(),
            Self::Names(..) => 1,
        }
    }
}

impl Shelves {
    /// Empty stores.
    pub fn new(states: States, seed: u64, board: u64) -> Self {
        let draws = Stream::new(seed, Purpose::Platter, board, 0);
        Self { states, shelves: BTreeMap::new(), full: false, failing: None, draws }
    }

    /// What an agent that starts finds: every store is opened, and what is complete in it is listed. One
    /// that cannot be opened is moved aside for an empty one; whether that happened comes second.
    pub fn open(&mut self) -> (Held, bool) {
        let mut aside = false;
        for shelf in self.shelves.values_mut() {
            shelf.fail_syncs(self.failing);
            if shelf.open().is_err() {
                aside = true;
                *shelf = fresh(self.states, &mut self.draws, self.full);
                shelf.fail_syncs(self.failing);
                // If that fails as well the store is opened when it is next used.
                let _ = shelf.open();
            }
        }
        (self.held(), aside)
    }

    /// Whether opening found parts of a store that cannot be read.
    pub fn is_damaged(&self) -> bool {
        self.shelves.values().any(|shelf| shelf.is_damaged())
    }

    /// Whether a store writes no more until it is opened again.
    pub fn has_stopped(&self) -> bool {
        self.shelves.values().any(|shelf| shelf.has_stopped())
    }

    /// Whether some syncs fail at present.
    pub fn syncs_fail(&self) -> bool {
        self.failing.is_some()
    }

    /// The agent is gone: what it was writing has got as far as a draw says.
    pub fn close(&mut self) {
        for shelf in self.shelves.values_mut() {
            shelf.die_writing(&mut self.draws);
        }
    }

    /// The power is gone, after the agent, and with it some of what was not synced.
    pub fn cut_power(&mut self) {
        for shelf in self.shelves.values_mut() {
            shelf.lose(self.draws.pick(&[Loss::Whole, Loss::TornPrefix, Loss::Sectors]));
        }
    }

    /// From now on no store takes more bytes, or all do again.
    pub fn set_full(&mut self, full: bool) {
        self.full = full;
        self.shelves.values().for_each(|shelf| shelf.set_full(full));
    }

    /// From now on these syncs fail, or none does any more.
    pub fn fail_syncs(&mut self, which: Option<Syncs>) {
        self.failing = which;
        self.shelves.values().for_each(|shelf| shelf.fail_syncs(which));
    }

    /// Flips bits in every file of every store. Gives back the states that cannot be read any more.
    pub fn rot(&mut self) -> Vec<(Instance, CheckpointId)> {
        let mut lost = Vec::new();
        for (instance, shelf) in &mut self.shelves {
            shelf.rot(&mut self.draws);
            let unsound = shelf.listed().iter().filter(|id| !shelf.is_sound(**id));
            lost.extend(unsound.map(|id| (instance.clone(), *id)));
        }
        lost
    }

    /// Every state that is complete, as far as the agent knows.
    pub fn held(&self) -> Held {
        let some = self.shelves.iter().filter(|(_, shelf)| !shelf.listed().is_empty());
        some.map(|(instance, shelf)| (instance.clone(), shelf.listed().clone())).collect()
    }

    /// The states of an instance, oldest first.
    pub fn ids(&self, instance: &Instance) -> impl DoubleEndedIterator<Item = CheckpointId> {
        let shelf = self.shelves.get(instance).into_iter();
        shelf.flat_map(|shelf| shelf.listed().iter().copied())
    }

    /// Whether there is a state of an instance.
    pub fn has_any(&self, instance: &Instance) -> bool {
        self.ids(instance).next().is_some()
    }

    /// Whether nothing is here.
    pub fn is_empty(&self) -> bool {
        self.shelves.values().all(|shelf| shelf.listed().is_empty())
    }

    /// Reads a state.
    pub fn read(&self, instance: &Instance, id: CheckpointId) -> Found {
        match self.shelves.get(instance) {
            Some(shelf) => shelf.read(id),
            None => Found::Nothing("there is no store of it".to_owned()),
        }
    }

    /// Whether a state could be read.
    pub fn is_sound(&self, instance: &Instance, id: CheckpointId) -> bool {
        self.shelves.get(instance).is_some_and(|shelf| shelf.is_sound(id))
    }

    /// A state is read from its service and waits for the disk.
    pub fn begin_capture(&mut self, instance: &Instance, id: CheckpointId, point: Point) {
        self.shelf(instance).begin_capture(id, point);
    }

    /// Makes a captured state durable.
    ///
    /// # Errors
    /// The disk refuses, or the store has stopped; then nothing may be said to be captured.
    pub fn capture(
        &mut self,
        instance: &Instance,
        id: CheckpointId,
        point: Point,
    ) -> Result<(), TransferError> {
        self.shelf(instance).capture(id, point)
    }

    /// Forgets all states but these, and those that the store keeps anyway.
    ///
    /// # Errors
    /// The disk refuses; old states stay.
    pub fn keep(
        &mut self,
        instance: &Instance,
        states: &[CheckpointId],
    ) -> Result<(), TransferError> {
        if !self.shelves.contains_key(instance) {
            return Ok(());
        }
        let shelf = self.shelf(instance);
        if !states.is_empty() {
            return shelf.keep(states);
        }
        shelf.forget()?;
        self.shelves.remove(instance);
        Ok(())
    }

    /// What is here to compare with, before a fetch.
    pub fn wants(&mut self, instance: &Instance) -> Vec<ManifestHash> {
        self.shelf(instance).wants()
    }

    /// Packs a state, against the newest one that both sides have.
    ///
    /// # Errors
    /// It is not here, or it is rotten.
    pub fn pack(
        &mut self,
        instance: &Instance,
        id: CheckpointId,
        theirs: &[ManifestHash],
    ) -> Result<Packed, TransferError> {
        self.shelf(instance).pack(id, theirs)
    }

    /// A state could not be packed. Gives back which states there are not any more.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn condemn(
        &mut self,
        instance: &Instance,
        id: CheckpointId,
    ) -> Result<Vec<CheckpointId>, TransferError> {
        self.shelf(instance).condemn(id)
    }

    /// Takes the first `count` segments of a packed state, as far as they are missing.
    ///
    /// # Errors
    /// The disk refuses, or the transfer does not fit what is here.
    pub fn receive(
        &mut self,
        instance: &Instance,
        packed: &Packed,
        count: usize,
    ) -> Result<(), TransferError> {
        self.shelf(instance).receive(packed, count)
    }

    /// Verifies what was received and makes it durable. Only when that has gone well it may be confirmed.
    ///
    /// # Errors
    /// The disk refuses, or what was received is not what it should be.
    pub fn finish(&mut self, instance: &Instance) -> Result<(), TransferError> {
        self.shelf(instance).finish()
    }

    /// The store of an instance, made when it is first used.
    fn shelf(&mut self, instance: &Instance) -> &mut dyn Shelf {
        let Self { states, shelves, full, failing, draws } = self;
        let new = || fresh(*states, draws, *full);
        let shelf = shelves.entry(instance.clone()).or_insert_with(new);
        shelf.fail_syncs(*failing);
        &mut **shelf
    }
}

/// An empty store.
fn fresh(states: States, draws: &mut Stream, full: bool) -> Box<dyn Shelf> {
    match states {
        States::Bytes => Box::new(Bytes::new(draws.bits(), full)),
        States::Names => Box::new(Names::default()),
    }
}
