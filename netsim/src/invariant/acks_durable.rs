//! A board says that it holds a state only once that state is durable in its store (design 3, invariant
//! 8), and never one of a right before its own (S11 of 3b): an acknowledgement that comes late would let
//! the former active believe that something is kept which its successor did not begin with.

use std::collections::{BTreeMap, BTreeSet};

use hedgerow::proto::id::OpId;
use hedgerow::proto::io::Effect;
use hedgerow::proto::journal::{Durable, Record};
use hedgerow::proto::order::Instance;
use hedgerow::proto::table::CheckpointId;
use hedgerow::proto::wire::Message;

use super::Invariant;
use crate::observe::{Finding, Findings, Observation, What, kind};
use crate::queue::BoardIndex;
use crate::service::ServiceEvent;

#[derive(Default)]
pub(super) struct AcksDurable {
    stored: BTreeSet<(BoardIndex, Instance, CheckpointId)>,
    /// The newest right under which each board began an instance. A power cut may take the memory of it, and
    /// with it all that came of it: nothing is captured before the beginning is on the disk.
    began: BTreeMap<(BoardIndex, Instance), u64>,
    /// Beginnings that are written and not on the disk yet, and those that are.
    writing: BTreeMap<(BoardIndex, OpId), (Instance, u64)>,
    remembered: BTreeMap<(BoardIndex, Instance), u64>,
    /// The newest right that has this state for its base: until it is used that is what others get of it.
    bases: BTreeMap<(Instance, CheckpointId), u64>,
}

impl Invariant for AcksDurable {
    fn name(&self) -> &'static str {
        "acknowledged-states-are-durable"
    }

    fn means(&self) -> &'static str {
        "A board says that it holds a copy of a service's state only once that copy is safe \
         on its disk, and never for a right older than its own."
    }

    fn wants(&self) -> u16 {
        kind::SERVICE | kind::SENT | kind::LIFE | kind::EFFECT | kind::DURABLE
    }

    fn on(&mut self, seen: &Observation<'_>, findings: &mut Findings) {
        let board = seen.board;
        match seen.what {
            What::Sent(Effect::Send { message: Message::Stored(stored), .. }, _) => {
                let (instance, id) = (&stored.instance, stored.id);
                let (of, seq) = (id.epoch.0, id.seq);
                let began = self.began.get(&(board, instance.clone()));
                let text = if !self.stored.contains(&(board, instance.clone(), id)) {
                    format!(
                        "says that it holds {of}/{seq} of {instance}, which is not in its store"
                    )
                } else if let Some(began) = began.filter(|began| {
                    let base_of = self.bases.get(&(instance.clone(), id));
                    **began > of && base_of.is_none_or(|epoch| epoch <= *began)
                }) {
                    format!(
                        "confirms {of}/{seq} of {instance} although it ran it under epoch {began}"
                    )
                } else {
                    return;
                };
                let (at, rule) = (seen.at, self.name());
                findings.push(Finding { at, rule, board: Some(board), text });
            }
            What::Boot(boot) => self.recall(board, boot.durable),
            What::Durable(op) => {
                if let Some((instance, epoch)) = self.writing.remove(&(board, op)) {
                    self.remembered.insert((board, instance), epoch);
                }
            }
            What::DiskLost | What::Service(ServiceEvent::StateLost) => {
                self.stored.retain(|(of, ..)| *of != board);
            }
            What::Service(ServiceEvent::Kept { instance, id, .. }) => {
                self.stored.insert((board, instance.clone(), *id));
            }
            What::Service(ServiceEvent::Dropped { instance, id }) => {
                self.stored.remove(&(board, instance.clone(), *id));
            }
            What::Service(ServiceEvent::Begins { instance, epoch, .. }) => {
                self.began.insert((board, instance.clone()), *epoch);
            }
            what => match what.record() {
                Some((_, Record::Assigned(row))) => {
                    let of = self.bases.entry((row.instance(), row.base)).or_default();
                    *of = row.epoch.0.max(*of);
                }
                Some((op, Record::Began(instance, epoch))) => {
                    self.writing.insert((board, op), (instance.clone(), epoch.0));
                }
                _ => {}
            },
        }
    }
}

impl AcksDurable {
    /// A board is back and knows of its beginnings only those that were on the disk, or in its cache when the
    /// process alone ended.
    fn recall(&mut self, board: BoardIndex, durable: &Durable) {
        for tenure in durable.assigned.values() {
            if let Some(epoch) = tenure.began {
                let known = self.remembered.entry((board, tenure.row.instance())).or_default();
                *known = epoch.0.max(*known);
            }
        }
        self.writing.retain(|(of, _), _| *of != board);
        self.began.retain(|(of, _), _| *of != board);
        let own = self.remembered.iter().filter(|((of, _), _)| *of == board);
        self.began.extend(own.map(|(key, epoch)| (key.clone(), *epoch)));
    }
}
