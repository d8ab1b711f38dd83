//! Nobody joins who was not let in: a board with a worthless ticket is never admitted.

use std::collections::BTreeSet;

use hedgerow::proto::id::NodeId;
use hedgerow::proto::io::Effect;

use super::Invariant;
use crate::observe::{Finding, Findings, Observation, What, kind};

pub(super) struct Strangers {
    strange_boards: Vec<bool>,
    strangers: BTreeSet<NodeId>,
}

impl Strangers {
    pub(super) fn new(boards: usize) -> Self {
        Self { strange_boards: vec![false; boards], strangers: BTreeSet::new() }
    }
}

impl Invariant for Strangers {
    fn name(&self) -> &'static str {
        "strangers-stay-out"
    }

    fn means(&self) -> &'static str {
        "Nobody gets in without a good ticket."
    }

    fn wants(&self) -> u16 {
        kind::LIFE | kind::EFFECT
    }

    fn on(&mut self, seen: &Observation<'_>, findings: &mut Findings) {
        match seen.what {
            What::Boot(boot) if !boot.entitled => {
                self.strange_boards[usize::from(seen.board)] = true;
                self.strangers.insert(boot.node);
            }
            What::Effect(Effect::Admit { peer }) => {
                let strange = self.strange_boards[usize::from(seen.board)];
                if strange || !self.strangers.contains(peer) {
                    return;
                }
                let text = format!("let {} in, whose ticket is worthless", peer.short());
                let board = Some(seen.board);
                findings.push(Finding { at: seen.at, rule: self.name(), board, text });
            }
            _ => {}
        }
    }
}
