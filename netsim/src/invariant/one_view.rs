//! In a world that has healed, all members come to say the same of everyone.
//!
//! Compares the last answers to `Status` that the run has seen, line by line.

use std::collections::{BTreeMap, BTreeSet};

use hedgerow::proto::id::NodeId;
use hedgerow::proto::io::{Effect, Reply, ViewState};
use hedgerow::proto::journal::Record;
use hedgerow::proto::ticket::Revoked;

use super::Invariant;
use crate::observe::{Finding, Findings, Observation, What, kind};
use crate::queue::BoardIndex;
use crate::time::Nanos;

type View = BTreeMap<NodeId, (&'static str, u64)>;

#[derive(Default)]
pub(super) struct OneView {
    views: BTreeMap<BoardIndex, View>,
    strangers: Vec<BoardIndex>,
    /// Who comes later never hears of them.
    revoked: BTreeSet<NodeId>,
    healed: bool,
}

impl Invariant for OneView {
    fn name(&self) -> &'static str {
        "all-come-to-one-view"
    }

    fn means(&self) -> &'static str {
        "Once all faults are over, all members come to say the same of everyone."
    }

    fn wants(&self) -> u16 {
        kind::LIFE | kind::EFFECT | kind::FAULT
    }

    fn on(&mut self, seen: &Observation<'_>, _: &mut Findings) {
        match seen.what {
            What::Boot(boot) if !boot.entitled => self.strangers.push(seen.board),
            What::Gone { .. } => {
                self.views.remove(&seen.board);
            }
            What::Healed => self.healed = true,
            What::Effect(Effect::Persist { record: Record::Revocation(signed), .. }) => {
                if let Ok(Revoked::Node(node)) = signed.peek().map(|revocation| revocation.target) {
                    self.revoked.insert(node);
                }
            }
            What::Effect(Effect::Reply { reply: Reply::Status(view), .. }) => {
                if view.view == ViewState::Left {
                    self.views.remove(&seen.board);
                    return;
                }
                let lines = view.nodes.iter();
                let lines = lines.map(|line| (line.node, (line.state, line.incarnation)));
                self.views.insert(seen.board, lines.collect());
            }
            _ => {}
        }
    }

    fn finish(&mut self, at: Nanos, findings: &mut Findings) {
        if !self.healed {
            return;
        }
        for view in self.views.values_mut() {
            view.retain(|node, _| !self.revoked.contains(node));
        }
        let mut members = self.views.iter().filter(|(board, _)| !self.strangers.contains(board));
        let Some((first, expected)) = members.next() else { return };
        for (board, view) in members {
            if view != expected {
                let text = format!("sees other members, or sees them otherwise, than n{first}");
                findings.push(Finding { at, rule: self.name(), board: Some(*board), text });
            }
        }
    }
}
