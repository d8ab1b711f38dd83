//! The ledger: who holds whom for alive, who is, and what was sent. The same one for every system.

use std::collections::{BTreeMap, BTreeSet};

use hedgerow_netsim::queue::BoardIndex;
use hedgerow_netsim::time::Nanos;

/// What is counted in one phase of a trial.
#[derive(Clone, Default, Debug)]
pub(crate) struct Counts {
    /// Payload bytes sent, without headers of any transport.
    pub(crate) bytes: u64,
    /// Messages sent.
    pub(crate) messages: u64,
    /// Bytes by the kind of message, where the system tells.
    pub(crate) kinds: BTreeMap<&'static str, u64>,
    /// Lives of boards that were held for dead by somebody while they ran.
    pub(crate) false_losses: u64,
    /// The most peers that a board was connected with at a time, voters aside. Nothing where there are no connections.
    pub(crate) most_links: usize,
}

/// See the module.
pub(crate) struct Ledger {
    boards: usize,
    /// Observer × subject: holds it for alive.
    up: Vec<bool>,
    runs: Vec<bool>,
    /// With how many peers each board is connected.
    links: Vec<usize>,
    voters: BTreeSet<BoardIndex>,
    /// Board and life.
    falsely: BTreeSet<(BoardIndex, u64)>,
    counts: Counts,
    /// The board that crashed last, how many running boards hold it for alive, and since when none does.
    crashed: Option<(BoardIndex, usize, Option<Nanos>)>,
}

impl Ledger {
    /// Everybody runs and holds everybody for alive.
    pub(crate) fn new(boards: BoardIndex) -> Self {
        let boards = usize::from(boards);
        Self {
            boards,
            up: vec![true; boards * boards],
            runs: vec![true; boards],
            links: vec![0; boards],
            voters: BTreeSet::new(),
            falsely: BTreeSet::new(),
            counts: Counts::default(),
            crashed: None,
        }
    }

    /// What was counted since it was last asked.
    pub(crate) fn take(&mut self) -> Counts {
        let counts = std::mem::take(&mut self.counts);
        for board in 0..self.boards {
            self.note_links(board);
        }
        counts
    }

    /// How many boards run.
    pub(crate) fn running(&self) -> usize {
        self.runs.iter().filter(|runs| **runs).count()
    }

    /// When the last running board knew of the last crash.
    pub(crate) fn known_to_all(&self) -> Option<Nanos> {
        self.crashed.and_then(|(.., at)| at)
    }

    /// How many running boards do not know of it.
    pub(crate) fn holdouts(&self) -> usize {
        self.crashed.map_or(0, |(_, holdouts, _)| holdouts)
    }

    pub(crate) fn sent(&mut self, kind: &'static str, bytes: usize) {
        self.counts.messages += 1;
        self.counts.bytes += bytes as u64;
        *self.counts.kinds.entry(kind).or_default() += bytes as u64;
    }

    /// A board has a connection with one peer more, or one less.
    pub(crate) fn linked(&mut self, board: BoardIndex, on: bool) {
        let board = usize::from(board);
        let links = &mut self.links[board];
        *links = if on { *links + 1 } else { links.saturating_sub(1) };
        self.note_links(board);
    }

    /// Those that decide have limits of their own.
    pub(crate) fn voters(&mut self, voters: BTreeSet<BoardIndex>) {
        self.voters = voters;
    }

    fn note_links(&mut self, board: usize) {
        if !self.voters.contains(&(board as BoardIndex)) {
            self.counts.most_links = self.counts.most_links.max(self.links[board]);
        }
    }

    pub(crate) fn crash(&mut self, at: Nanos, who: BoardIndex) {
        self.links[usize::from(who)] = 0;
        self.runs[usize::from(who)] = false;
        let holdouts = (0..self.boards).filter(|by| self.counts_on(*by, who)).count();
        self.crashed = Some((who, holdouts, (holdouts == 0).then_some(at)));
    }

    /// `by` holds `who` for dead in this life from now on.
    pub(crate) fn down(&mut self, at: Nanos, by: BoardIndex, who: BoardIndex, life: u64) {
        if by == who {
            return;
        }
        if self.runs[usize::from(who)] && self.falsely.insert((who, life)) {
            self.counts.false_losses += 1;
        }
        self.change(at, by, who, false);
    }

    /// `by` holds `who` for alive from now on.
    pub(crate) fn up(&mut self, at: Nanos, by: BoardIndex, who: BoardIndex) {
        self.change(at, by, who, true);
    }

    fn change(&mut self, at: Nanos, by: BoardIndex, who: BoardIndex, up: bool) {
        let runs = self.runs[usize::from(by)];
        let before =
            std::mem::replace(&mut self.up[usize::from(by) * self.boards + usize::from(who)], up);
        let Some((crashed, holdouts, known)) = &mut self.crashed else { return };
        if *crashed != who || before == up || !runs {
            return;
        }
        *holdouts = if up { *holdouts + 1 } else { *holdouts - 1 };
        *known = (*holdouts == 0).then_some(at);
    }

    fn counts_on(&self, by: usize, who: BoardIndex) -> bool {
        self.runs[by] && self.up[by * self.boards + usize::from(who)]
    }
}
