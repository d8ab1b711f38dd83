//! What a store was said to hold is there after any crash, and can be read, unless the disk itself went bad.
//!
//! The agent is told that a state is kept only after the last sync. So whatever a crash or a power cut takes,
//! the next life finds that state complete; and as long as it is listed it can be read. Nothing of this is
//! promised where bits have flipped, nor where syncs fail while a store is opened: it is moved aside then.

use std::collections::{BTreeMap, BTreeSet};

use hedgerow::proto::holdings::Held;
use hedgerow::proto::io::Effect;
use hedgerow::proto::order::Instance;
use hedgerow::proto::table::CheckpointId;

use super::Invariant;
use crate::faults::Fault;
use crate::observe::{Finding, Findings, Observation, What, kind};
use crate::queue::BoardIndex;
use crate::service::{Found, ServiceEvent};

#[derive(Default)]
pub(super) struct DurableStates {
    kept: BTreeMap<(BoardIndex, Instance), BTreeSet<CheckpointId>>,
    /// Boards on whose disks bits have flipped.
    rotten: BTreeSet<BoardIndex>,
    /// How many faults make syncs fail on a board now.
    failing: BTreeMap<BoardIndex, u32>,
}

impl DurableStates {
    /// What is missing of what a board was said to hold.
    fn missing(&self, board: BoardIndex, held: &Held) -> Option<(Instance, CheckpointId)> {
        let mine = self.kept.iter().filter(|((of, _), _)| *of == board);
        let mut states = mine.flat_map(|((_, i), ids)| ids.iter().map(move |id| (i, *id)));
        let lacks = |(instance, id): &(&Instance, CheckpointId)| {
            held.get(*instance).is_none_or(|ids| !ids.contains(id))
        };
        states.find(lacks).map(|(instance, id)| (instance.clone(), id))
    }

    /// Whether a board that opens its stores may find less in them than it had.
    fn is_doubtful(&self, board: BoardIndex) -> bool {
        let fail = self.failing.get(&board).is_some_and(|faults| *faults > 0);
        fail || self.rotten.contains(&board)
    }

    fn service(&mut self, board: BoardIndex, event: &ServiceEvent) -> Option<String> {
        match event {
            ServiceEvent::Kept { instance, id, .. } => {
                self.kept.entry((board, instance.clone())).or_default().insert(*id);
            }
            ServiceEvent::Dropped { instance, id } | ServiceEvent::Spoilt { instance, id } => {
                if let Some(kept) = self.kept.get_mut(&(board, instance.clone())) {
                    kept.remove(id);
                }
            }
            ServiceEvent::StateLost => self.lose(board),
            ServiceEvent::Opened(held) => {
                let doubtful = self.is_doubtful(board);
                let (instance, id) = self.missing(board, held).filter(|_| !doubtful)?;
                let (of, seq) = (id.epoch.0, id.seq);
                return Some(format!(
                    "has lost {of}/{seq} of {instance}, which was durable in its store"
                ));
            }
            ServiceEvent::Read { instance, id, found: Found::Nothing(why) } => {
                if self.rotten.contains(&board) {
                    return None;
                }
                let kept = self.kept.get(&(board, instance.clone()))?;
                let (of, seq) = (kept.get(id)?.epoch.0, id.seq);
                return Some(format!("cannot read {of}/{seq} of {instance}: {why}"));
            }
            _ => {}
        }
        None
    }

    /// The board begins with an empty disk.
    fn lose(&mut self, board: BoardIndex) {
        self.kept.retain(|(of, _), _| *of != board);
        self.rotten.remove(&board);
    }
}

impl Invariant for DurableStates {
    fn name(&self) -> &'static str {
        "durable-states-survive"
    }

    fn means(&self) -> &'static str {
        "A state that a store was said to hold is there after a crash or a power cut, and can \
         be read."
    }

    fn wants(&self) -> u16 {
        kind::SERVICE | kind::LIFE | kind::FAULT | kind::EFFECT
    }

    fn on(&mut self, seen: &Observation<'_>, findings: &mut Findings) {
        match seen.what {
            What::DiskLost => self.lose(seen.board),
            What::Fault(Fault::StoreRot { node }, true) => _ = self.rotten.insert(*node),
            What::Fault(Fault::StoreSyncError { node, .. }, began) => {
                let failing = self.failing.entry(*node).or_default();
                *failing = if began { *failing + 1 } else { failing.saturating_sub(1) };
            }
            // What the node lets go is promised no more, whether the store has got rid of it or not.
            What::Effect(Effect::Keep { instance, states }) => {
                if let Some(kept) = self.kept.get_mut(&(seen.board, instance.clone())) {
                    kept.retain(|id| states.contains(id));
                }
            }
            What::Service(event) => {
                if let Some(text) = self.service(seen.board, event) {
                    let (at, rule, board) = (seen.at, self.name(), Some(seen.board));
                    findings.push(Finding { at, rule, board, text });
                }
            }
            _ => {}
        }
    }
}
