//! Reigns never overlap in true time.
//!
//! A node that says it reigns until some time may let others rest on that until then, so the claim
//! stands whatever happens to the node: pause, cut, a shorter lease later, stepping down, death. Two
//! reigns are two terms, of one board too: a master that is elected again must not forget what it
//! issued before (S2 of 3b). The world knows the clocks, so both ends of a claim are true times.

use std::collections::BTreeMap;

use super::Invariant;
use crate::observe::{Belief, Finding, Findings, Observation, What, kind};
use crate::queue::BoardIndex;
use crate::time::{Nanos, Seconds};

#[derive(Default)]
pub(super) struct ReignsApart {
    /// Generation and term → whose, and until when it was ever claimed.
    claims: BTreeMap<(u32, u64), (BoardIndex, Nanos)>,
}

impl ReignsApart {
    fn claim(&mut self, seen: &Observation<'_>, belief: Belief) -> Option<String> {
        let Belief { generation, term, until } = belief;
        let reign = (generation, term);
        let (by, end) = self.claims.entry(reign).or_insert((seen.board, until));
        *end = (*end).max(until);
        if *by != seen.board {
            return Some(format!("reigns in term {term}, which is n{by}'s"));
        }
        if until <= seen.at {
            return None;
        }
        let overlaps = |(other, (_, end)): &(&(u32, u64), &(BoardIndex, Nanos))| {
            **other != reign && *end > seen.at
        };
        let ((_, other), (board, end)) = self.claims.iter().rev().find(overlaps)?;
        Some(format!(
            "reigns in term {term} until {}; n{board} claimed term {other} until {}",
            Seconds(until),
            Seconds(*end)
        ))
    }
}

impl Invariant for ReignsApart {
    fn name(&self) -> &'static str {
        "reigns-never-overlap"
    }

    fn means(&self) -> &'static str {
        "There is never more than one master: as long as one may still believe to reign, no \
         other one does."
    }

    fn wants(&self) -> u16 {
        kind::BELIEF
    }

    fn on(&mut self, seen: &Observation<'_>, findings: &mut Findings) {
        let What::Belief(Some(belief)) = seen.what else { return };
        if let Some(text) = self.claim(seen, belief) {
            let board = Some(seen.board);
            findings.push(Finding { at: seen.at, rule: self.name(), board, text });
        }
    }
}
