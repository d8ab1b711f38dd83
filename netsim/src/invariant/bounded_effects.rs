//! Effects per call are bounded, and so is the work of one second: rule 4 of the machine contract.
//!
//! The bounds are generous; they are there to catch a flood or a livelock, not to tune anything.

use super::Invariant;
use crate::observe::{Finding, Findings, Observation, What, kind};

/// Effects of one call: some for every peer, and some.
const PER_CALL_AND_BOARD: usize = 16;
const PER_CALL: usize = 128;
/// Calls and effects of one second.
const PER_SECOND_AND_BOARD: u64 = 500;
const PER_SECOND: u64 = 2000;

pub(super) struct BoundedEffects {
    boards: usize,
}

impl BoundedEffects {
    pub(super) fn new(boards: usize) -> Self {
        Self { boards }
    }
}

impl Invariant for BoundedEffects {
    fn name(&self) -> &'static str {
        "work-is-bounded"
    }

    fn means(&self) -> &'static str {
        "A board does a limited amount of work at once and in a second: it never floods the \
         others and never runs in circles."
    }

    fn wants(&self) -> u16 {
        kind::CALL
    }

    fn on(&mut self, seen: &Observation<'_>, findings: &mut Findings) {
        let What::Called { effects, in_this_second } = seen.what else { return };
        let text = if effects > PER_CALL + PER_CALL_AND_BOARD * self.boards {
            format!("{effects} effects of one call")
        } else if in_this_second > PER_SECOND + PER_SECOND_AND_BOARD * self.boards as u64 {
            format!("{in_this_second} calls and effects within one second: a livelock")
        } else {
            return;
        };
        findings.push(Finding { at: seen.at, rule: self.name(), board: Some(seen.board), text });
    }
}
