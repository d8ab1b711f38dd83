//! A board says that it holds a state only once that state is durable in its store (design 3, invariant
//! 8), and never one of a right before its own (S11 of 3b): an acknowledgement that comes late would let
//! the former active believe that something is kept which its successor did not begin with.

use std::collections::{BTreeMap, BTreeSet};

use hedgerow::proto::io::Effect;
use hedgerow::proto::journal::Record;
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
    /// The newest right under which each board began an instance.
    began: BTreeMap<(BoardIndex, Instance), u64>,
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
        kind::SERVICE | kind::SENT | kind::LIFE | kind::EFFECT
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
            what => {
                if let Some((_, Record::Assigned(row))) = what.record() {
                    let of = self.bases.entry((row.instance(), row.base)).or_default();
                    *of = row.epoch.0.max(*of);
                }
            }
        }
    }
}
