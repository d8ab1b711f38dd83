//! What the simulated disks keep for the voters, recomputed from observations.
//!
//! A helper of the invariants about votes and tables, itself none. An open record counts from the
//! moment at which its disk says so; after a restart the journal decides.

use std::collections::BTreeMap;

use hedgerow::proto::id::{NodeId, OpId};
use hedgerow::proto::journal::Record;
use hedgerow::proto::table::Version;

use crate::observe::{Observation, What, kind};
use crate::queue::BoardIndex;

/// What one board keeps.
#[derive(Clone, Default, Debug)]
pub(super) struct Kept {
    /// Its identity at present.
    pub(super) node: Option<NodeId>,
    /// The newest term.
    pub(super) term: u64,
    /// For whom it voted in it.
    pub(super) vote: Option<NodeId>,
    /// The newest table.
    pub(super) table: Version,
    open: BTreeMap<OpId, Item>,
}

#[derive(Clone, Debug)]
enum Item {
    Term(u64, Option<NodeId>),
    Table(Version),
}

/// The kinds of observation that [`Disks`] needs.
pub(super) const WANTS: u16 = kind::LIFE | kind::EFFECT | kind::DURABLE;

/// All of them.
pub(super) struct Disks(Vec<Kept>);

impl Disks {
    pub(super) fn new(boards: usize) -> Self {
        Self(vec![Kept::default(); boards])
    }

    pub(super) fn of(&self, board: BoardIndex) -> &Kept {
        &self.0[usize::from(board)]
    }

    /// Takes note. True if what the board keeps may have changed.
    pub(super) fn on(&mut self, seen: &Observation<'_>) -> bool {
        let kept = &mut self.0[usize::from(seen.board)];
        match seen.what {
            What::Boot(boot) => {
                let voter = boot.durable.voter;
                let table = boot.durable.table.as_ref().map(|table| table.version);
                *kept = Kept {
                    node: Some(boot.node),
                    term: voter.term.0,
                    vote: voter.vote,
                    table: table.unwrap_or_default(),
                    open: BTreeMap::new(),
                };
                true
            }
            What::DiskLost => {
                *kept = Kept::default();
                true
            }
            What::Durable(op) => match kept.open.remove(&op) {
                Some(Item::Term(term, vote)) => {
                    (kept.term, kept.vote) = (term, vote);
                    true
                }
                Some(Item::Table(version)) => {
                    kept.table = version;
                    true
                }
                None => false,
            },
            what => {
                let item = what.record().and_then(|(op, record)| match record {
                    Record::Term { term, vote, .. } => Some((op, Item::Term(term.0, *vote))),
                    Record::Table(table) => Some((op, Item::Table(table.version))),
                    _ => None,
                });
                kept.open.extend(item);
                false
            }
        }
    }
}
