//! A member is refused as one of two only if there are two, or it says things twice.

use std::collections::{BTreeMap, BTreeSet};

use hedgerow::proto::id::NodeId;
use hedgerow::proto::io::{Effect, Event};
use hedgerow::proto::wire::hello::Refusal;

use super::Invariant;
use crate::faults::Fault;
use crate::observe::{Finding, Findings, Observation, What, kind};
use crate::queue::BoardIndex;

#[derive(Default)]
pub(super) struct OneIdentity {
    /// Who runs on which board.
    alive: BTreeMap<BoardIndex, NodeId>,
    /// Identities that two boards had at a time.
    double: BTreeSet<NodeId>,
    /// Identities of boards that say again what they have said, and those boards.
    echoes: BTreeSet<NodeId>,
    echo: BTreeSet<BoardIndex>,
}

impl Invariant for OneIdentity {
    fn name(&self) -> &'static str {
        "only-two-are-held-for-two"
    }

    fn means(&self) -> &'static str {
        "A member is refused because two boards have its key only if two boards have it."
    }

    fn wants(&self) -> u16 {
        kind::LIFE | kind::EFFECT | kind::FAULT
    }

    fn on(&mut self, seen: &Observation<'_>, findings: &mut Findings) {
        match seen.what {
            What::Boot(boot) => {
                if self.alive.values().any(|node| *node == boot.node) {
                    self.double.insert(boot.node);
                }
                self.alive.insert(seen.board, boot.node);
                if self.echo.contains(&seen.board) {
                    self.echoes.insert(boot.node);
                }
            }
            What::Gone { .. } => drop(self.alive.remove(&seen.board)),
            What::Fault(Fault::Replay { node, .. } | Fault::Flood { node, .. }, true) => {
                self.echo.insert(*node);
                self.echoes.extend(self.alive.get(node));
            }
            What::Effect(Effect::Event(Event::Refused { node, reason: Refusal::Twins }))
                if !self.double.contains(node) && !self.echoes.contains(node) =>
            {
                let text = format!("holds {} for two boards", node.short());
                let (at, rule) = (seen.at, self.name());
                findings.push(Finding { at, rule, board: Some(seen.board), text });
            }
            _ => {}
        }
    }
}
