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

/// Who decided by the newest table that was ever chosen.
#[derive(Default, Debug)]
pub(super) struct Deciders {
    /// Who would decide by tables that were written since.
    written: BTreeMap<Version, BTreeSet<NodeId>>,
    electorate: BTreeSet<NodeId>,
}

impl Deciders {
    /// A board writes a table.
    pub(super) fn written(&mut self, table: &Table) {
        self.written.entry(table.version).or_insert_with(|| table.electorate());
    }

    /// A master says that this table is chosen.
    pub(super) fn chosen(&mut self, term: u64, number: u64) {
        let is_it = |version: &&Version| version.term.0 == term && version.number == number;
        let Some(version) = self.written.keys().rev().find(is_it).copied() else { return };
        let mut later = self.written.split_off(&version);
        self.electorate = later.remove(&version).unwrap_or_default();
        self.written = later;
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
        let chosen = &self.deciders.electorate;
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
