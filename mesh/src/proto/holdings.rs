//! Who holds which states of which instances. Data without behaviour.
//!
//! `copies` writes it; `failover` reads it to know what this board could start from, and whether a
//! standby may be relied on.

use std::collections::{BTreeMap, BTreeSet};

use super::failover::INSTANCES_MAX;
use super::id::NodeId;
use super::machine::Time;
use super::order::Instance;
use super::table::{CheckpointId, Generation, Row};

/// Pinned states of one instance on one board.
pub const PINNED_MAX: usize = 4;

/// What a board has of one instance.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Holding {
    /// Complete, verified, durable states in this board's own store.
    own: BTreeSet<CheckpointId>,
    /// Those that were captured by hand, or that an operator went back behind: kept until others are.
    pinned: BTreeSet<CheckpointId>,
    /// The newest state that each of the other boards has confirmed.
    confirmed: BTreeMap<NodeId, CheckpointId>,
    /// The generation of the newest table that had a row for it.
    seen: Option<Generation>,
    /// Since when the disk of another board has taken nothing.
    unable: BTreeMap<NodeId, Time>,
}

/// Who holds what.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Holdings {
    instances: BTreeMap<Instance, Holding>,
}

/// What a driver finds in its store at the start.
pub type Held = BTreeMap<Instance, BTreeSet<CheckpointId>>;

impl Holdings {
    /// What was found in this board's store, and what of it is pinned.
    pub fn new(held: Held, pinned: &Held) -> Self {
        let instances = held.into_iter().map(|(instance, own)| {
            let pins = pinned.get(&instance).into_iter().flatten();
            let pinned = pins.filter(|id| own.contains(id)).copied().collect();
            (instance, Holding { own, pinned, ..Holding::default() })
        });
        Self { instances: instances.collect() }
    }

    /// The table of this generation has a row for an instance.
    pub(crate) fn note_seen(&mut self, instance: &Instance, generation: Generation) {
        if let Some(holding) = self.instances.get_mut(instance) {
            holding.seen = Some(generation);
        }
    }

    /// In which generation an instance was seen to have a row last, in this life.
    pub fn seen(&self, instance: &Instance) -> Option<Generation> {
        self.instances.get(instance)?.seen
    }

    /// The states that are kept until others are pinned.
    pub fn pinned(&self, instance: &Instance) -> impl Iterator<Item = CheckpointId> + '_ {
        self.instances.get(instance).into_iter().flat_map(|holding| holding.pinned.iter().copied())
    }

    /// Pins a state that is here; the oldest pin gives way. Returns whether anything changed.
    pub(crate) fn pin(&mut self, instance: &Instance, id: CheckpointId) -> bool {
        let Some(holding) = self.instances.get_mut(instance) else { return false };
        let news = holding.own.contains(&id) && holding.pinned.insert(id);
        while holding.pinned.len() > PINNED_MAX {
            holding.pinned.pop_first();
        }
        news
    }

    /// The states in this board's own store.
    pub fn own(&self, instance: &Instance) -> impl DoubleEndedIterator<Item = CheckpointId> + '_ {
        self.instances.get(instance).into_iter().flat_map(|holding| holding.own.iter().copied())
    }

    /// Instances of which this board has a state.
    pub fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.instances.iter().filter(|(_, h)| !h.own.is_empty()).map(|(instance, _)| instance)
    }

    /// The newest state in this board's store from which `row` may be started (3b): one of its epoch,
    /// one of the epoch that it follows, or the one that the row names; none older than that.
    pub fn start_of(&self, row: &Row) -> Option<CheckpointId> {
        let may = |id: &CheckpointId| {
            let follows = id.epoch == row.epoch || id.epoch == row.previous;
            *id >= row.base && (follows || *id == row.base)
        };
        self.own(&row.instance()).rev().find(may)
    }

    /// The newest state in this board's store with which it could take `row` over: one of its epoch, or
    /// the one that the row names. Where the active has lost what it ran on, also one that the active's
    /// right went on from: nothing newer exists (S5).
    pub fn take_from(&self, row: &Row) -> Option<CheckpointId> {
        let may = |id: &CheckpointId| {
            let follows = id.epoch == row.epoch || (row.lost && id.epoch == row.previous);
            *id >= row.base && (follows || *id == row.base)
        };
        // The default names no state.
        self.own(&row.instance()).rev().find(may).filter(|id| *id != CheckpointId::default())
    }

    /// The newest state that another board has confirmed.
    pub fn confirmed(&self, instance: &Instance, by: &NodeId) -> Option<CheckpointId> {
        self.instances.get(instance)?.confirmed.get(by).copied()
    }

    /// Since when the disk of another board has taken no state, if that is so.
    pub fn unable_since(&self, instance: &Instance, node: &NodeId) -> Option<Time> {
        self.instances.get(instance)?.unable.get(node).copied()
    }

    /// The disk of another board does not take a state. Returns whether that is news.
    pub(crate) fn note_unable(&mut self, instance: &Instance, node: NodeId, now: Time) -> bool {
        let Some(holding) = self.entry(instance) else { return false };
        let news = !holding.unable.contains_key(&node);
        holding.unable.entry(node).or_insert(now);
        news
    }

    /// Forgets that the disks of some boards took nothing: they may have room by now.
    pub(crate) fn forget_unable(&mut self, instance: &Instance, of: impl Fn(&NodeId) -> bool) {
        if let Some(holding) = self.instances.get_mut(instance) {
            holding.unable.retain(|node, _| !of(node));
        }
    }

    /// A state is complete in this board's store.
    pub(crate) fn put(&mut self, instance: &Instance, id: CheckpointId) {
        if let Some(holding) = self.entry(instance) {
            holding.own.insert(id);
        }
    }

    /// States that were held to be in this board's store are not. Returns which of them were, oldest first, and
    /// whether any of those was pinned.
    pub(crate) fn take(
        &mut self,
        instance: &Instance,
        states: &[CheckpointId],
    ) -> (BTreeSet<CheckpointId>, bool) {
        let Some(holding) = self.instances.get_mut(instance) else { return Default::default() };
        let pinned = holding.pinned.len();
        holding.pinned.retain(|id| !states.contains(id));
        let taken = holding.own.iter().copied().filter(|id| states.contains(id)).collect();
        holding.own.retain(|id| !states.contains(id));
        (taken, holding.pinned.len() < pinned)
    }

    /// Another board has confirmed a state. Returns whether that was news.
    pub(crate) fn confirm(&mut self, instance: &Instance, by: NodeId, id: CheckpointId) -> bool {
        let Some(holding) = self.entry(instance) else { return false };
        let newer = holding.confirmed.get(&by).is_none_or(|known| *known < id);
        if newer {
            holding.unable.remove(&by);
            holding.confirmed.insert(by, id);
        }
        newer
    }

    /// Forgets all states of an instance but these.
    pub(crate) fn keep(&mut self, instance: &Instance, states: &[CheckpointId]) {
        if let Some(holding) = self.instances.get_mut(instance) {
            holding.own.retain(|id| states.contains(id));
            holding.pinned.retain(|id| states.contains(id));
        }
    }

    /// Forgets what others confirmed: another right has begun.
    pub(crate) fn forget_confirmed(&mut self, instance: &Instance) {
        if let Some(holding) = self.instances.get_mut(instance) {
            holding.confirmed.clear();
            holding.unable.clear();
        }
    }

    /// Forgets instances that do not exist any more and of which nothing is here.
    pub(crate) fn retain(&mut self, exists: impl Fn(&Instance) -> bool) {
        self.instances.retain(|instance, holding| !holding.own.is_empty() || exists(instance));
    }

    fn entry(&mut self, instance: &Instance) -> Option<&mut Holding> {
        if self.instances.len() >= INSTANCES_MAX && !self.instances.contains_key(instance) {
            return None;
        }
        Some(self.instances.entry(instance.clone()).or_default())
    }
}
