//! Every table that was ever written, and which one it was made from.
//!
//! A helper of invariants and of the run's story, itself neither. The board that writes a version
//! first has made it, from the table that it wrote or recovered before.

use std::collections::BTreeMap;

use hedgerow::proto::journal::Record;
use hedgerow::proto::table::{Table, Version};

use crate::observe::{Observation, What};
use crate::queue::BoardIndex;

/// One version.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    /// By whom.
    pub(crate) by: BoardIndex,
    /// From which version, if from any.
    pub(crate) from: Option<Version>,
    /// The whole of it.
    pub(crate) table: Table,
}

/// See the module.
pub(crate) struct Lineage {
    made: BTreeMap<Version, Made>,
    /// What each board wrote or recovered last.
    last: Vec<Option<Version>>,
}

/// What a board has just written.
pub(crate) enum Written {
    /// Nothing of interest, or a copy.
    Nothing,
    /// A version that nobody has written before.
    New(Version),
    /// Another content under a version that is taken.
    Other(Version),
}

impl Lineage {
    pub(crate) fn new(boards: usize) -> Self {
        Self { made: BTreeMap::new(), last: vec![None; boards] }
    }

    pub(crate) fn on(&mut self, seen: &Observation<'_>) -> Written {
        let last = &mut self.last[usize::from(seen.board)];
        match seen.what {
            What::Boot(boot) => *last = boot.durable.table.as_ref().map(|table| table.version),
            What::DiskLost => *last = None,
            what => {
                let Some((_, Record::Table(table))) = what.record() else {
                    return Written::Nothing;
                };
                let version = table.version;
                let from = last.replace(version);
                match self.made.get(&version) {
                    Some(known) if known.table == **table => {}
                    Some(_) => return Written::Other(version),
                    None => {
                        let table = (**table).clone();
                        self.made.insert(version, Made { by: seen.board, from, table });
                        return Written::New(version);
                    }
                }
            }
        }
        Written::Nothing
    }

    pub(crate) fn get(&self, version: Version) -> Option<&Made> {
        self.made.get(&version)
    }

    /// The version that was written with this term and number, the newest generation of it.
    pub(crate) fn find(&self, term: u64, number: u64) -> Option<Version> {
        let is_it = |version: &&Version| version.term.0 == term && version.number == number;
        self.made.keys().rev().find(is_it).copied()
    }

    /// Whether `later` was made from `earlier`, in however many steps.
    pub(crate) fn extends(&self, later: Version, earlier: Version) -> bool {
        let mut at = Some(later);
        while let Some(version) = at {
            if version == earlier {
                return true;
            }
            at = self.made.get(&version).and_then(|made| made.from);
            if at.is_some_and(|from| from >= version) {
                return false;
            }
        }
        false
    }
}
