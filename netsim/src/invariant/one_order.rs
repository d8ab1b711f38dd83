//! There is one order of chosen tables.
//!
//! No version ever has two contents, and of any two chosen versions the later one was made from the
//! earlier one. Sets are compared, not moments: a master that was deposed may learn late that an older
//! version of its own was chosen (3b, *Checker note*). A mesh that was recovered by force goes on from the
//! table of one board; what others chose meanwhile is lost by an operator's word, so each generation has
//! an order of its own.

use std::collections::BTreeSet;

use hedgerow::proto::io::{Effect, Event};
use hedgerow::proto::table::Version;

use super::Invariant;
use super::lineage::{Lineage, Written};
use crate::observe::{Finding, Findings, Observation, What, kind};

pub(super) struct OneOrder {
    lineage: Lineage,
    chosen: BTreeSet<Version>,
}

impl OneOrder {
    pub(super) fn new(boards: usize) -> Self {
        Self { lineage: Lineage::new(boards), chosen: BTreeSet::new() }
    }

    fn choose(&mut self, term: u64, number: u64) -> Result<(), String> {
        let Some(version) = self.lineage.find(term, number) else {
            return Err(format!("table {number} of term {term} is chosen, but nobody wrote it"));
        };
        self.chosen.insert(version);
        let before = self.chosen.range(..version).next_back().copied();
        let after = self.chosen.range(version..).nth(1).copied();
        for (earlier, later) in [(before, Some(version)), (Some(version), after)] {
            if let (Some(earlier), Some(later)) = (earlier, later)
                && later.generation == earlier.generation
                && !self.lineage.extends(later, earlier)
            {
                return Err(format!("{later:?} and {earlier:?} are chosen, one without the other"));
            }
        }
        Ok(())
    }
}

impl Invariant for OneOrder {
    fn name(&self) -> &'static str {
        "tables-have-one-order"
    }

    fn means(&self) -> &'static str {
        "The chosen tables form one line: no version has two contents, and each was made from \
         the one before."
    }

    fn wants(&self) -> u16 {
        kind::LIFE | kind::EFFECT
    }

    fn on(&mut self, seen: &Observation<'_>, findings: &mut Findings) {
        let wrong = match self.lineage.on(seen) {
            Written::Other(version) => Err(format!("writes another content under {version:?}")),
            Written::New(_) | Written::Nothing => match seen.what {
                What::Effect(Effect::Event(Event::TableChosen { term, number, .. })) => {
                    self.choose(*term, *number)
                }
                _ => Ok(()),
            },
        };
        if let Err(text) = wrong {
            let board = Some(seen.board);
            findings.push(Finding { at: seen.at, rule: self.name(), board, text });
        }
    }
}
