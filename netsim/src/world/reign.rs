//! Who believes to be master, in true time; and after the faults: whether the mesh has one again.
//!
//! Three things must come about once everything has healed: exactly one board reigns
//! ([`Plan::master_bound`](crate::plan::Plan::master_bound)), every member names it, and where three
//! boards are up, three living ones decide ([`Plan::voters_bound`](crate::plan::Plan::voters_bound)).
//! Where so many voters were lost for good that nobody can be elected, only an operator can help;
//! such a run is *bereft*, exempt and counted.

use std::collections::{BTreeMap, BTreeSet};

use hedgerow::proto::id::NodeId;
use hedgerow::proto::table::{Table, Version};

use super::World;
use crate::evidence::{Evidence, Master};
use crate::observe::{Belief, What};
use crate::queue::BoardIndex;

/// Boards that decide, where so many are up.
const VOTERS: usize = 3;

/// Those who decide together by one table: a majority of each.
type Sides = Vec<BTreeSet<NodeId>>;

/// Who decided by the newest table that was ever chosen, as its masters wrote and said it.
#[derive(Default, Debug)]
pub(super) struct Deciders {
    /// Who would decide by tables that were written since.
    written: BTreeMap<Version, Sides>,
    chosen: Sides,
}

impl Deciders {
    /// A board writes a table.
    pub(super) fn written(&mut self, table: &Table) {
        let sides = || [Some(&table.voters), table.incoming.as_ref()].into_iter().flatten();
        let sides = || sides().map(|side| side.iter().copied().collect()).collect();
        self.written.entry(table.version).or_insert_with(sides);
    }

    /// A master says that this table is chosen.
    pub(super) fn chosen(&mut self, term: u64, number: u64) {
        let is_it = |version: &&Version| version.term.0 == term && version.number == number;
        let Some(version) = self.written.keys().rev().find(is_it).copied() else { return };
        let mut later = self.written.split_off(&version);
        self.chosen = later.remove(&version).unwrap_or_default();
        self.written = later;
    }

    fn electorate(&self) -> BTreeSet<NodeId> {
        self.chosen.iter().flatten().copied().collect()
    }

    /// Whether whichever of these tables is the newest that is left, a majority of those who decide by it is there.
    fn can_decide(&self, there: impl Fn(&NodeId) -> bool) -> bool {
        let most = |side: &BTreeSet<NodeId>| {
            side.iter().filter(|node| there(node)).count() > side.len() / 2
        };
        let mut tables = self.written.values().chain([&self.chosen]);
        !self.chosen.is_empty() && tables.all(|sides| sides.iter().all(most))
    }
}

impl World {
    /// After every call: shows what the node believes, if that is something new.
    pub(super) fn note_belief(&mut self, board: BoardIndex) {
        let now = self.now;
        let state = self.board(board);
        let local = state.clock.local(now);
        let belief = state.node.as_ref().and_then(|node| node.reign(local));
        if belief != state.belief {
            state.belief = belief;
            self.convert_belief(board);
        }
    }

    /// Shows what a node believes, in true time by its clock's present rate.
    pub(super) fn convert_belief(&mut self, board: BoardIndex) {
        let state = &self.boards[usize::from(board)];
        let table = state.node.as_ref().map(|node| node.authority().table());
        let generation = table.map_or(0, |table| table.version.generation.0);
        let belief = state.belief.map(|(term, until)| Belief {
            generation,
            term: term.0,
            until: state.clock.when(until),
        });
        self.see(board, What::Belief(belief));
    }

    /// Everyone who believes to be master now.
    pub(super) fn masters(&self) -> Vec<Master> {
        let believes = self.boards.iter().filter_map(|board| {
            let node = board.node.as_ref()?;
            let (_, until) = board.belief?;
            let table = node.authority().table();
            (board.clock.local(self.now) < until).then(|| Master {
                board: board.index,
                id: board.id,
                voters: table.electorate(),
                settled: table.incoming.is_none(),
            })
        });
        believes.collect()
    }

    /// Whether some running board could win an election among those that run: its table is as new as
    /// that of a majority of its voters.
    pub(super) fn can_elect(&self) -> bool {
        let running: Vec<(_, &Table)> = self
            .boards
            .iter()
            .filter_map(|board| Some((board.id, board.node.as_ref()?.authority().table())))
            .collect();
        running.iter().any(|(id, mine)| {
            let grants = |node| {
                running.iter().any(|(id, table)| *id == node && table.version <= mine.version)
            };
            let sides = [Some(&mine.voters), mine.incoming.as_ref()];
            let all = sides
                .into_iter()
                .flatten()
                .all(|side| side.iter().filter(|node| grants(**node)).count() > side.len() / 2);
            all && mine.electorate().contains(id)
        })
    }

    /// Whether nobody can be elected although all who decide are there or have left by their own word: then
    /// boards were let go that were needed. By the newest table that was ever chosen: where its voters lost their
    /// disks, an older one may be the newest that is left. And by the newest that is left: in a change of voters that
    /// was never chosen boards may decide that lost their disks meanwhile.
    pub(super) fn needed_who_left(&self) -> bool {
        let chosen = self.deciders.electorate();
        let Some(left) = self.newest_table().map(Table::electorate) else { return false };
        // A mesh that everybody has left needs nobody.
        if left.is_empty() {
            return false;
        }
        let there = |id: &_| {
            let of = self.boards.iter().find(|board| board.id == *id);
            of.is_some_and(|board| board.node.is_some() || board.has_left)
        };
        !self.can_elect() && !chosen.is_empty() && chosen.union(&left).all(there)
    }

    /// Whether nobody can be elected although most of those who decide are there, by what was written and said
    /// before: nobody would be excused for that.
    pub(super) fn deciders_forgot(&self) -> bool {
        let there = |id: &NodeId| self.boards.iter().any(|b| b.id == *id && b.node.is_some());
        !self.can_elect() && self.deciders.can_decide(there)
    }

    /// Whether three living boards decide, if three are there.
    pub(super) fn judge_voters(&self, evidence: &Evidence) -> Result<(), String> {
        let [master] = evidence.masters.as_slice() else {
            return Err("there is not one master".to_owned());
        };
        let alive =
            |id: &_| self.boards.iter().any(|board| board.id == *id && board.node.is_some());
        let living = master.voters.iter().filter(|id| alive(id)).count();
        let needed = VOTERS.min(evidence.members().count());
        let right = needed < VOTERS
            || (master.settled && master.voters.len() == VOTERS && living == VOTERS);
        if right { Ok(()) } else { Err(format!("only {living} living boards decide")) }
    }
}

#[cfg(test)]
mod tests {
    use hedgerow::proto::bounded::List;
    use hedgerow::proto::id::{PublicKey, Term};
    use hedgerow::proto::table::Generation;

    use super::*;

    #[test]
    fn whoever_decides_by_a_table_that_may_be_the_newest_must_be_there() {
        let board = |number: u8| PublicKey([number; 32]);
        let voters = |numbers: &[u8]| List::capped(numbers.iter().map(|number| board(*number)));
        let table = |number, now: &[u8], incoming: Option<&[u8]>| Table {
            version: Version { generation: Generation(0), term: Term(1), number },
            voters: voters(now),
            incoming: incoming.map(voters),
            ..Table::default()
        };
        let mut deciders = Deciders::default();
        let can = |deciders: &Deciders, there: &[u8]| {
            deciders.can_decide(|id| there.iter().any(|number| board(*number) == *id))
        };
        assert!(!can(&deciders, &[1, 2, 3]), "nobody is known to decide");
        deciders.written(&table(1, &[1], None));
        deciders.chosen(1, 1);
        assert!(can(&deciders, &[1]) && !can(&deciders, &[2, 3]));
        deciders.written(&table(2, &[1], Some(&[1, 2, 3])));
        assert!(!can(&deciders, &[1]), "the second one may be chosen");
        assert!(can(&deciders, &[1, 3]) && !can(&deciders, &[2, 3]));
        deciders.chosen(1, 2);
        deciders.written(&table(3, &[1, 2, 3], None));
        deciders.chosen(1, 3);
        assert!(can(&deciders, &[2, 3]) && !can(&deciders, &[1]));
    }
}
