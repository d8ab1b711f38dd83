//! Reigns of different masters never overlap in true time.
//!
//! A node that said it reigns believes so until its own clock shows the end of its lease, whatever
//! happens to it meanwhile: paused, cut off or busy. Only its death ends the belief earlier. The world
//! knows the clocks, so both ends are true times.

use std::collections::BTreeMap;

use super::Invariant;
use crate::observe::{Belief, Finding, Findings, Observation, What, kind};
use crate::queue::BoardIndex;
use crate::time::Seconds;

#[derive(Default)]
pub(super) struct ReignsApart {
    beliefs: BTreeMap<BoardIndex, Belief>,
}

impl Invariant for ReignsApart {
    fn name(&self) -> &'static str {
        "reigns-never-overlap"
    }

    fn wants(&self) -> u16 {
        kind::LIFE | kind::BELIEF
    }

    fn on(&mut self, seen: &Observation<'_>, findings: &mut Findings) {
        let belief = match seen.what {
            What::Belief(Some(belief)) => belief,
            What::Belief(None) | What::Gone { .. } => {
                self.beliefs.remove(&seen.board);
                return;
            }
            _ => return,
        };
        self.beliefs.insert(seen.board, belief);
        if belief.until <= seen.at {
            return;
        }
        for (other, held) in self.beliefs.iter().filter(|(board, _)| **board != seen.board) {
            if held.until > seen.at {
                let text = format!(
                    "believes to be master in term {} until {}, and n{other} in term {} until {}",
                    belief.term,
                    Seconds(belief.until),
                    held.term,
                    Seconds(held.until)
                );
                let board = Some(seen.board);
                findings.push(Finding { at: seen.at, rule: self.name(), board, text });
            }
        }
    }
}
