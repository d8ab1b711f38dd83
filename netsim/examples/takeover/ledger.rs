//! The ledger: where the service truly ran, who reigned, and what the chosen tables said, with the times.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use hedgerow::proto::id::NodeId;
use hedgerow::proto::io::{Effect, Event};
use hedgerow::proto::journal::Record;
use hedgerow::proto::table::Table;
use hedgerow_netsim::observe::{Belief, Observation, Watcher, What};
use hedgerow_netsim::queue::BoardIndex;
use hedgerow_netsim::service::ServiceEvent;
use hedgerow_netsim::time::Nanos;

/// Who does what for the only service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Roles {
    pub(crate) active: BoardIndex,
    pub(crate) standby: BoardIndex,
    pub(crate) master: BoardIndex,
    /// Whether the active is one of those who decide who is master.
    pub(crate) active_votes: bool,
}

/// A time in which the service ran on a board.
#[derive(Clone, Copy, Debug)]
struct Span {
    board: BoardIndex,
    from: Nanos,
    /// None: it runs still.
    to: Option<Nanos>,
}

/// What a table says of the service and of who decides.
#[derive(Clone, Copy, Debug)]
struct Row {
    active: Option<BoardIndex>,
    /// Only one that could carry on.
    ready: Option<BoardIndex>,
    fill: Option<BoardIndex>,
    voters: usize,
    active_votes: bool,
}

/// See the module.
#[derive(Default, Debug)]
pub(crate) struct Ledger {
    boards: BTreeMap<NodeId, BoardIndex>,
    spans: Vec<Span>,
    /// Who believes to be master, and until when.
    believers: BTreeMap<BoardIndex, Nanos>,
    /// When a reign began, whose, and its term.
    reigns: Vec<(Nanos, BoardIndex, u64)>,
    /// Tables that somebody wrote, by term and number.
    written: BTreeMap<(u64, u64), Row>,
    /// Those that were chosen, newest last.
    chosen: Vec<(Nanos, (u64, u64))>,
    /// Who did what when the first fault began.
    met: Option<Roles>,
}

/// Writes into a ledger what happens in a world.
pub(crate) struct Scribe(pub(crate) Rc<RefCell<Ledger>>);

impl Watcher for Scribe {
    fn see(&mut self, seen: &Observation<'_>) {
        let Observation { at, board, what } = *seen;
        let mut ledger = self.0.borrow_mut();
        match what {
            What::Belief(belief) => ledger.believes(at, board, belief),
            What::Gone { .. } => drop(ledger.believers.remove(&board)),
            What::Service(event) => ledger.service(at, board, event),
            What::Effect(Effect::Capture { freeze: true, .. }) => ledger.rests(at, board),
            What::Effect(Effect::Thaw { .. }) => ledger.runs(at, board),
            What::Effect(Effect::Persist { record: Record::Table(table), .. }) => {
                ledger.writes(table);
            }
            What::Effect(Effect::Event(Event::TableChosen { term, number, .. })) => {
                ledger.chosen.push((at, (*term, *number)));
            }
            What::Fault(_, true) if ledger.met.is_none() => ledger.met = ledger.roles(at),
            _ => {}
        }
    }

    fn name(&mut self, board: BoardIndex, node: NodeId) {
        self.0.borrow_mut().boards.insert(node, board);
    }
}

impl Ledger {
    fn believes(&mut self, at: Nanos, board: BoardIndex, belief: Option<Belief>) {
        let Some(Belief { term, until, .. }) = belief else {
            self.believers.remove(&board);
            return;
        };
        self.believers.insert(board, until);
        if self.reigns.last().is_none_or(|(.., newest)| term > *newest) {
            self.reigns.push((at, board, term));
        }
    }

    fn service(&mut self, at: Nanos, board: BoardIndex, event: &ServiceEvent) {
        match event {
            ServiceEvent::Begins { .. } | ServiceEvent::Wakes { .. } => self.runs(at, board),
            ServiceEvent::Ends { .. } | ServiceEvent::Sleeps { .. } => self.rests(at, board),
            _ => {}
        }
    }

    fn runs(&mut self, at: Nanos, board: BoardIndex) {
        self.spans.push(Span { board, from: at, to: None });
    }

    /// It ends, sleeps, or is frozen for its last state.
    fn rests(&mut self, at: Nanos, board: BoardIndex) {
        let mut open = self.spans.iter_mut().rev().filter(|span| span.to.is_none());
        if let Some(span) = open.find(|span| span.board == board) {
            span.to = Some(at);
        }
    }

    fn writes(&mut self, table: &Table) {
        let board = |node: &NodeId| self.boards.get(node).copied();
        let row = table.rows.first();
        let known = Row {
            active: row.and_then(|row| board(&row.active)),
            ready: row.filter(|row| row.ready).and_then(|row| board(row.standby.as_ref()?)),
            fill: row.and_then(|row| board(row.fill.as_ref()?)),
            // While the voters change nobody says how many decide.
            voters: if table.incoming.is_none() { table.voters.len() } else { 0 },
            active_votes: row.is_some_and(|row| table.voters.contains(&row.active)),
        };
        self.written.insert((table.version.term.0, table.version.number), known);
    }

    /// Chosen tables, and when.
    fn rows(&self) -> impl DoubleEndedIterator<Item = (Nanos, Row)> {
        self.chosen.iter().filter_map(|(at, version)| Some((*at, *self.written.get(version)?)))
    }

    /// Who does what now; none unless one board reigns, the service runs on one, all voters are there that
    /// there will be, and a standby is ready.
    pub(crate) fn roles(&self, now: Nanos) -> Option<Roles> {
        let mut masters = self.believers.iter().filter(|(_, until)| **until > now);
        let (Some((master, _)), None) = (masters.next(), masters.next()) else { return None };
        let mut runs = self.spans.iter().filter(|span| span.to.is_none());
        let (Some(run), None) = (runs.next(), runs.next()) else { return None };
        let (_, row) = self.rows().next_back()?;
        let grown = row.voters == if self.boards.len() < VOTERS { 1 } else { VOTERS };
        let calm = grown && row.fill.is_none() && row.active == Some(run.board);
        let standby = row.ready.filter(|_| calm)?;
        Some(Roles { active: run.board, standby, master: *master, active_votes: row.active_votes })
    }

    /// Who did what when the first fault began.
    pub(crate) fn met(&self) -> Option<Roles> {
        self.met
    }

    /// When the service first began after a time, on any board but this one.
    pub(crate) fn begins(&self, after: Nanos, not_on: Option<BoardIndex>) -> Option<Nanos> {
        let is_it = |span: &&Span| span.from >= after && Some(span.board) != not_on;
        self.spans.iter().find(is_it).map(|span| span.from)
    }

    /// When another board than this one first began to reign after a time.
    pub(crate) fn reigns(&self, after: Nanos, not: BoardIndex) -> Option<Nanos> {
        let is_it = |(at, board, _): &&(Nanos, BoardIndex, u64)| *at >= after && *board != not;
        self.reigns.iter().find(is_it).map(|(at, ..)| *at)
    }

    /// When another board than this one was first chosen to be a ready standby after a time.
    pub(crate) fn protected(&self, after: Nanos, not_by: BoardIndex) -> Option<Nanos> {
        let is_it = |row: &Row| row.ready.is_some_and(|standby| standby != not_by);
        self.rows().find(|(at, row)| *at >= after && is_it(row)).map(|(at, _)| at)
    }

    /// The first time after this one in which another standby was being filled for this active: from the table
    /// that says so to the first one that does not, or to the end.
    pub(crate) fn filling(
        &self,
        after: Nanos,
        active: BoardIndex,
        end: Nanos,
    ) -> Option<(Nanos, Nanos)> {
        let fills = |row: &Row| row.fill.is_some() && row.active == Some(active);
        let mut rows = self.rows().skip_while(|(at, row)| *at < after || !fills(row));
        let (from, _) = rows.next()?;
        let to = rows.find(|(_, row)| !fills(row)).map_or(end, |(at, _)| at);
        Some((from, to))
    }

    /// The longest time between these two in which the service ran nowhere.
    pub(crate) fn longest_pause(&self, from: Nanos, to: Nanos) -> Nanos {
        let (mut longest, mut served) = (0, from);
        for span in self.spans.iter().filter(|span| span.from <= to) {
            longest = longest.max(span.from.saturating_sub(served));
            served = served.max(span.to.unwrap_or(to));
        }
        longest.max(to.saturating_sub(served))
    }
}

/// Boards that decide, where so many are up.
const VOTERS: usize = 3;
