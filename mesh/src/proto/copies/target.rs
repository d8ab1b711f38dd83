//! The standby's side: what to fetch, and what is left of it when it has arrived.

use super::{Copies, Notice};
use crate::proto::bounded::{List, Text};
use crate::proto::id::Epoch;
use crate::proto::id::NodeId;
use crate::proto::io::{Effect, Event, NotFetched, Transferred};
use crate::proto::journal::Record;
use crate::proto::ops::Purpose;
use crate::proto::order::Instance;
use crate::proto::table::{CheckpointId, Generation, Row};
use crate::proto::turn::Turn;
use crate::proto::wire::copies::{Offer, Stored, Unstorable};

/// While nobody else could carry on, so many of the newest states are kept whatever they are.
const UNPROTECTED_KEPT: usize = 4;

/// A state on its way here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Fetching {
    pub(super) id: CheckpointId,
    from: NodeId,
}

impl Copies {
    /// The active offers a state.
    pub(crate) fn on_offer(&mut self, turn: &mut Turn<'_>, from: NodeId, offer: Offer) {
        let Offer { instance, id } = offer;
        // The row may be on its way; the offer is repeated.
        if !is_wanted(turn, &instance, id, from) {
            return;
        }
        if turn.holdings.own(&instance).any(|own| own == id) {
            turn.send(from, Stored { instance, id });
            return;
        }
        let newer = self.fetching.get(&instance).is_none_or(|f| f.id != id || f.from != from);
        if newer
            && (self.fetching.contains_key(&instance) || self.fetching.len() < super::FETCHES_MAX)
        {
            self.fetching.insert(instance.clone(), Fetching { id, from });
            turn.out.push(Effect::Fetch { instance, id, from });
        }
    }

    /// A state has arrived, or has not.
    pub(crate) fn on_fetched(
        &mut self,
        turn: &mut Turn<'_>,
        instance: Instance,
        id: CheckpointId,
        from: NodeId,
        result: Result<Transferred, NotFetched>,
    ) {
        if self.fetching.get(&instance).is_some_and(|fetching| fetching.id == id) {
            self.fetching.remove(&instance);
        }
        let name = instance.to_string();
        match result {
            Err(NotFetched { why, own_disk }) => {
                if own_disk {
                    // The active has to look for another standby: it would offer for ever.
                    let why = Text::capped(&why);
                    turn.send(from, Unstorable { instance: instance.clone(), id, why });
                }
                turn.event(Event::CopyFailed { instance: name, why });
            }
            Ok(cost) => {
                turn.holdings.put(&instance, id);
                // Judged when it is durable, not when it was asked for (S11 of 3b): the row may have
                // moved on meanwhile, and this board with it.
                if is_wanted(turn, &instance, id, from) {
                    let (epoch, seq) = (id.epoch.0, id.seq);
                    turn.event(Event::Fetched { instance: name, epoch, seq, cost });
                    turn.send(from, Stored { instance: instance.clone(), id });
                    self.notices.push(Notice::Progress(instance.clone()));
                }
                self.keep_what_the_row_needs(turn, &instance);
            }
        }
    }

    /// A newer table is known: what it does not need any more is let go.
    pub(crate) fn on_table(&mut self, turn: &mut Turn<'_>) {
        let held: Vec<Instance> = turn.holdings.instances().cloned().collect();
        for instance in held {
            self.keep_what_the_row_needs(turn, &instance);
        }
    }

    /// Keeps what a takeover, a handover or the next comparison may start from.
    pub(super) fn keep_what_the_row_needs(&mut self, turn: &mut Turn<'_>, instance: &Instance) {
        let Some(newest) = turn.directory.newest() else { return };
        let generation = newest.table.version.generation;
        let Some(row) = newest.table.row(instance) else {
            if turn.holdings.own(instance).next().is_some() && is_orphan(turn, instance, generation)
            {
                return self.keep_orphan(turn, instance);
            }
            if turn.holdings.pinned(instance).next().is_some() {
                let record = Record::Pinned { instance: instance.clone(), states: List::new() };
                turn.persist(record, Purpose::Memory);
            }
            return self.keep(turn, instance, Vec::new());
        };
        let row = row.clone();
        turn.holdings.note_seen(instance, generation);
        self.pin_what_was_gone_back_behind(turn, &row);
        let mut wanted = self.kept_by_source(turn, instance);
        wanted.push(row.base);
        wanted.extend(turn.holdings.pinned(instance));
        wanted.extend(turn.holdings.start_of(&row));
        // The last two good ones: should the newest not start, there is another; and until the first one
        // of a new right has arrived, those of the one before are what it is compared with.
        let follows = |id: &CheckpointId| id.epoch == row.epoch || id.epoch == row.previous;
        wanted.extend(turn.holdings.own(instance).rev().filter(follows).take(2));
        if !row.ready || row.lost {
            // Nobody else could carry on yet, or nobody has what the row names: what is here may be all
            // that there is.
            wanted.extend(turn.holdings.own(instance).rev().take(UNPROTECTED_KEPT));
        }
        self.keep(turn, instance, wanted);
    }
}

impl Copies {
    /// A mesh that was recovered by force knows nothing of this instance. Nobody removed it: its newest
    /// state stays, for `recover SERVICE --from` this board once it is run again.
    fn keep_orphan(&self, turn: &mut Turn<'_>, instance: &Instance) {
        let Some(newest) = turn.holdings.own(instance).next_back() else { return };
        if turn.holdings.pinned(instance).all(|id| id != newest) {
            turn.event(Event::Orphaned { instance: instance.to_string() });
            Self::pin(turn, instance, newest);
        }
        let pinned: Vec<CheckpointId> = turn.holdings.pinned(instance).collect();
        self.keep(turn, instance, pinned);
    }

    /// An operator let the instance go on from an older state than the newest that is here, or from before
    /// it by recovering the mesh: that one may still be wanted.
    fn pin_what_was_gone_back_behind(&self, turn: &mut Turn<'_>, row: &Row) {
        let instance = row.instance();
        let by_hand = row.previous == Epoch::default() && row.base != CheckpointId::default();
        let before = |id: &CheckpointId| by_hand && id.epoch < row.epoch && *id > row.base;
        let beside = |id: &CheckpointId| id.epoch > row.epoch;
        let newest = turn.holdings.own(&instance).rev().find(|id| before(id) || beside(id));
        if let Some(id) = newest {
            Self::pin(turn, &instance, id);
        }
    }

    /// Keeps a state, also across restarts, until enough others are pinned.
    pub(super) fn pin(turn: &mut Turn<'_>, instance: &Instance, id: CheckpointId) {
        if turn.holdings.pin(instance, id) {
            Self::note_pins(turn, instance);
        }
    }

    /// Writes down which states are pinned.
    pub(super) fn note_pins(turn: &mut Turn<'_>, instance: &Instance) {
        let states = List::capped(turn.holdings.pinned(instance));
        let record = Record::Pinned { instance: instance.clone(), states };
        turn.persist(record, Purpose::Memory);
    }
}

/// Whether the row of an instance went because of a recovery of the mesh, not by an order to remove it. In
/// the generation in which it was seen last only an order can have removed it. A board that has seen no row
/// since it was started has to go by what it keeps: states from before the recovery are nobody's to delete.
fn is_orphan(turn: &Turn<'_>, instance: &Instance, generation: Generation) -> bool {
    match turn.holdings.seen(instance) {
        Some(seen) => seen != generation,
        None => {
            let newest = turn.holdings.own(instance).next_back();
            newest.is_some_and(|newest| newest.epoch < generation.first_epoch())
        }
    }
}

/// Whether `id` is a state that `from` may give to this board now: by the row, as far as it is known.
fn is_wanted(turn: &Turn<'_>, instance: &Instance, id: CheckpointId, from: NodeId) -> bool {
    let me = turn.me.id();
    let row = turn.directory.newest().and_then(|newest| newest.table.row(instance));
    row.is_some_and(|row| {
        let mine = row.standby == Some(me) || row.fill == Some(me);
        // What the row names is all that there is of a right that was not used yet.
        let of_now = row.epoch == id.epoch || row.base == id;
        of_now && row.active == from && mine && row.active != me
    })
}
