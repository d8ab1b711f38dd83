//! In a world that has healed, nobody who runs stays taken for dead.
//!
//! Judged by events alone: an observer said `MemberDown`, and to the end of the run neither
//! `MemberUp` nor had it to start anew. While faults last, a false `Down` is allowed; it must not
//! survive them.

use std::collections::{BTreeMap, BTreeSet};

use hedgerow::proto::id::NodeId;
use hedgerow::proto::io::{Effect, Event};

use super::Invariant;
use crate::observe::{Finding, Findings, Observation, What, kind};
use crate::queue::BoardIndex;
use crate::time::Nanos;

#[derive(Default)]
pub(super) struct NoLastingFalseDown {
    running: BTreeMap<BoardIndex, NodeId>,
    held_down: BTreeMap<BoardIndex, BTreeSet<NodeId>>,
    left: BTreeSet<NodeId>,
    healed: bool,
}

impl Invariant for NoLastingFalseDown {
    fn name(&self) -> &'static str {
        "no-false-down-lasts"
    }

    fn means(&self) -> &'static str {
        "Once all faults are over, nobody who runs stays taken for dead."
    }

    fn wants(&self) -> u16 {
        kind::LIFE | kind::EFFECT | kind::FAULT
    }

    fn on(&mut self, seen: &Observation<'_>, _: &mut Findings) {
        match seen.what {
            What::Boot(boot) => {
                self.running.insert(seen.board, boot.node);
                self.left.remove(&boot.node);
                self.held_down.remove(&seen.board);
            }
            What::Gone { .. } => {
                self.running.remove(&seen.board);
            }
            What::Healed => self.healed = true,
            What::Effect(Effect::Event(event)) => match event {
                Event::MemberDown { node, .. } => {
                    self.held_down.entry(seen.board).or_default().insert(*node);
                }
                Event::MemberUp { node, .. } => {
                    self.held_down.entry(seen.board).or_default().remove(node);
                }
                Event::Left => {
                    self.left.extend(self.running.get(&seen.board));
                }
                _ => {}
            },
            _ => {}
        }
    }

    fn finish(&mut self, at: Nanos, findings: &mut Findings) {
        if !self.healed {
            return;
        }
        for (board, node) in &self.running {
            for (by, held) in &self.held_down {
                let wrong = held.contains(node) && !self.left.contains(node);
                if wrong && self.running.contains_key(by) {
                    let text = format!("still takes n{board} for dead, which runs");
                    findings.push(Finding { at, rule: self.name(), board: Some(*by), text });
                }
            }
        }
    }
}
