//! Copies: who holds which checkpoint of an instance, and what to fetch.
//!
//! The active captures its state again and again and offers each capture to its standby, and to the
//! board that is being filled to become it. They fetch it (the bulk plane moves and verifies bytes,
//! never the node), make it durable and only then say `Stored`. What was said `Stored` is what a
//! takeover can start from; what was not does not exist.
//!
//! - `source`: the active's side: when to capture, whom to offer, when a commit is answered.
//! - `target`: the other side: what to fetch, and what is left of it when it has arrived.
//!
//! One checkpoint is on its way to a board at a time (L5 of 3b): a slow disk makes checkpoints rarer,
//! never a queue. See Das & Sidhanta, section III (the standby's copy), and 3b.7 (commits).

mod source;
mod target;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::id::{Epoch, NodeId};
use super::io::{Effect, STATES_KEPT_MAX};
use super::machine::Timeout;
use super::order::Instance;
use super::specs::SpecHash;
use super::table::CheckpointId;
use super::turn::Turn;
use source::Capturing;
use target::Fetching;

pub use source::{COMMITS_MAX, Source};

/// States that a board fetches at the same time: instances that it stands by for.
pub const FETCHES_MAX: usize = 64;

/// States of one instance that come about on one board at a time: a capture and a fetch.
const ON_THEIR_WAY_MAX: usize = 2;

/// The part.
#[derive(Debug, Default)]
pub struct Copies {
    /// Instances that this board runs.
    sources: BTreeMap<Instance, Source>,
    /// Captures that outlived the right of this board.
    left_over: BTreeMap<Instance, Capturing>,
    /// States on their way to this board.
    fetching: BTreeMap<Instance, Fetching>,
    notices: Vec<Notice>,
}

/// What an instance on this board looks like to this part. Told anew whenever any of it changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hosting {
    /// The right that it runs under.
    pub epoch: Epoch,
    /// The state that the row names, where nothing has begun under this right and others may get that
    /// meanwhile.
    pub base: Option<CheckpointId>,
    /// Its specification. After a restart the row may be known before any table is.
    pub spec: SpecHash,
    /// The standby, and the board that is to become it.
    pub targets: Vec<NodeId>,
    /// The board that takes the place of a standby which is ready, once it holds as much.
    pub successor: Option<NodeId>,
    /// Who must hold a state before a commit that is part of it is answered; nobody: none is.
    pub required: Vec<NodeId>,
    /// A state that an operator wants it to be started from: it may be older than any that is needed
    /// otherwise, and the row names it only once that is chosen.
    pub restoring: Option<CheckpointId>,
    /// Whether there is something to capture.
    pub runs: bool,
    /// Whether that it began is durable. Before, a board that loses its states with the power would begin anew
    /// and give another content the name of one that others hold.
    pub began_is_durable: bool,
    /// Whether this board ran it under this right in an earlier life.
    pub resumed: bool,
}

/// What the node has to do for this part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// Somebody holds more of this instance than before.
    Progress(Instance),
    /// The last state before a handover is complete in this board's store, or could not be captured.
    Final(Instance, Option<CheckpointId>),
}

impl Copies {
    /// What the node has to do since it last asked.
    pub(crate) fn take_notices(&mut self) -> Vec<Notice> {
        core::mem::take(&mut self.notices)
    }

    pub(crate) fn poll_timeout(&self) -> Option<Timeout> {
        let at = self.sources.values().filter_map(Source::due).min()?;
        Some(Timeout { at, reason: "checkpoint" })
    }

    /// The newest state of an instance on this board that a capture completed, and how old it is here.
    pub fn source(&self, instance: &Instance) -> Option<&Source> {
        self.sources.get(instance)
    }

    /// States of an instance that are just coming about here: the store may have one already of which this
    /// node has not heard yet.
    fn on_their_way(&self, instance: &Instance) -> impl Iterator<Item = CheckpointId> {
        let captured = self.sources.get(instance).and_then(Source::capturing);
        let captured = captured.or(self.left_over.get(instance)).map(|capturing| capturing.id);
        captured.into_iter().chain(self.fetching.get(instance).map(|fetching| fetching.id))
    }

    /// Lets go of states that nothing needs any more.
    fn keep(&self, turn: &mut Turn<'_>, instance: &Instance, mut wanted: Vec<CheckpointId>) {
        wanted.sort_unstable();
        wanted.dedup();
        // The newest are the ones that matter, should there ever be more than fit.
        let states: Vec<CheckpointId> = turn
            .holdings
            .own(instance)
            .filter(|id| wanted.contains(id))
            .rev()
            .take(STATES_KEPT_MAX - ON_THEIR_WAY_MAX)
            .collect();
        if turn.holdings.own(instance).count() > states.len() {
            turn.holdings.keep(instance, &states);
            // Of a service that was removed nothing stays, not even what is still to come; of one that a
            // recovered mesh does not know its newest does.
            let newest = turn.directory.newest();
            let known = newest.is_some_and(|newest| newest.table.row(instance).is_some());
            let stays = known || !states.is_empty();
            let coming = stays.then(|| self.on_their_way(instance)).into_iter().flatten();
            let states = crate::proto::bounded::List::capped(states.into_iter().chain(coming));
            turn.out.push(Effect::Keep { instance: instance.clone(), states });
        }
    }
}
