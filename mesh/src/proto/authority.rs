//! Authority: who is master, and the table that the master owns.
//!
//! The papers name the master by a bully election, which has a winner in every partition. Here the
//! bully's order only decides who stands first; a master reigns by the votes of a majority of its
//! electorate and by a lease that this majority keeps renewing. The shape is Raft's (Ongaro,
//! Ousterhout, USENIX ATC'14; PreVote and CheckQuorum from Ongaro's thesis, sections 9.6 and 6.2) with
//! a log of one entry: the table, replicated as a versioned whole with one update in flight.
//!
//! - `voter`: answers candidates and masters. It promises each master the lease asked for, on its
//!   own clock, and says nothing about votes while a promise binds. After a restart it keeps silent
//!   for the longest promise it may have forgotten.
//! - `candidate`: stands when the promise has run out, the best board first.
//! - `reign`: heartbeats, the lease, the table's commit.
//! - [`changes`]: what other parts want changed, decided in one version after another.
//! - `departure`: whether a board may leave, so that those who stay can go on deciding.
//! - `govern`: from one voter to three, and a new voter for a dead one, by joint tables.
//! - [`rank`]: the bully's order.
//! - `recovery`: an operator says that a majority is gone for good.
//!
//! Decisions rest on [`promises`](super::promises) alone; gossip is a hint here too.

mod candidate;
pub mod changes;
mod departure;
mod govern;
pub mod rank;
mod recovery;
mod reign;
mod voter;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use rand_chacha::rand_core::Rng;

use super::bounded::List;
use super::directory::Announcement;
use super::id::{NodeId, Term};
use super::io::Event;
use super::journal::Record;
use super::machine::{Time, Timeout};
use super::ops::Purpose;
use super::promises::{Preset, Promise, promised};
use super::specs::SpecHash;
use super::table::{Table, Version};
use super::turn::Turn;
use changes::{Change, Moving, Verdict};
use reign::Reign;

/// The least time between two candidacies: two fsyncs on a good disk and some round trips (L2).
const RETRY_MIN: Duration = Duration::from_millis(1500);
/// The most, however slow the disk is (L1).
const RETRY_MAX: Duration = Duration::from_secs(10);
/// The next board in the order stands that much later.
const BAND: Duration = Duration::from_millis(250);
/// Boards of one rank stand apart by up to this.
const JITTER: Duration = Duration::from_millis(100);

/// The part.
#[derive(Debug)]
pub struct Authority {
    preset: Preset,
    term: Term,
    /// For whom this node voted in `term`.
    vote: Option<NodeId>,
    /// What of it is durable.
    stored: Remembered,
    /// The newest table, whether it is chosen or not: what is persisted counts (S1).
    table: Table,
    /// A newer one that waits for the orders that it names, and the term in which it was sent.
    offered: Option<(Term, Box<Table>)>,
    /// When each order that is missing here was asked for.
    wanted: BTreeMap<SpecHash, Time>,
    /// The version of the newest table that is durable here.
    durable: Version,
    /// The newest version that is known to be chosen.
    committed: Version,
    role: Role,
    promise: Promise,
    /// The master whose heartbeats are being answered.
    master: Option<NodeId>,
    /// After a restart: until when a promise may bind that this node does not remember.
    silent_until: Time,
    /// Recovered by force, and nothing decided since: what others know counts still.
    gathers: bool,
    /// The table of the generation before that it goes on from.
    gone_on_from: Version,
    /// A heartbeat that is answered once its term, and the length of lease it asks for, are durable.
    owed: Option<Owed>,
    /// When to stand, unless a master is heard before.
    stand_at: Time,
    /// Decaying maximum of how long an fsync took.
    slow_disk: Duration,
    persisting_since: Option<Time>,
    announcement: Option<Announcement>,
    /// Changes that wait for the version in flight to be chosen.
    waiting: Vec<Change>,
    /// Changes that are part of it, and whether they move the right to run.
    in_flight: Vec<(u64, Option<Moving>)>,
    verdicts: Vec<(u64, Verdict)>,
}

/// What a voter remembers across restarts.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Remembered {
    /// The newest term it took part in.
    pub term: Term,
    /// For whom it voted in it.
    pub vote: Option<NodeId>,
    /// The longest lease it ever promised, milliseconds: how long it keeps silent after a restart.
    pub lease_ms: u32,
}

/// What became durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stored {
    /// A term, perhaps with a vote.
    Term(Remembered),
    /// A table.
    Table(Version),
}

#[derive(Clone, Copy, Debug)]
struct Owed {
    to: NodeId,
    sent: u64,
    lease_ms: u32,
}

#[derive(Debug)]
enum Role {
    /// Follows whoever is master, if anyone.
    Follower,
    /// Asks whether it would be elected.
    Asking(BTreeSet<NodeId>),
    /// Stands for election; its own vote counts once it is durable.
    Standing(BTreeSet<NodeId>),
    /// Is master.
    Leader(Box<Reign>),
}

impl Authority {
    /// The authority of a node that remembers `stored` and `table`.
    pub fn new(preset: Preset, stored: Remembered, table: Option<Table>, now: Time) -> Self {
        let table = table.unwrap_or_default();
        let mut promise = Promise::default();
        if stored.lease_ms > 0 {
            let forgotten = Duration::from_millis(u64::from(stored.lease_ms));
            promise.hold_until(now + promised(forgotten));
        }
        Self {
            preset,
            term: stored.term,
            vote: stored.vote,
            stored,
            durable: table.version,
            table,
            offered: None,
            wanted: BTreeMap::new(),
            committed: Version::default(),
            role: Role::Follower,
            promise,
            master: None,
            silent_until: promise.until(),
            gathers: false,
            gone_on_from: Version::default(),
            owed: None,
            stand_at: now.max(promise.until()),
            slow_disk: Duration::ZERO,
            persisting_since: None,
            announcement: None,
            waiting: Vec::new(),
            in_flight: Vec::new(),
            verdicts: Vec::new(),
        }
    }

    /// The founder's first table: itself the only voter.
    pub(crate) fn found(&mut self, turn: &mut Turn<'_>) {
        if self.table.voters.is_empty() {
            self.table.voters = List::capped([turn.me.id()]);
            self.table.version.number = 1;
            self.persist_table(turn);
        }
    }

    /// A table that was chosen just now, to be announced to everyone.
    pub(crate) fn take_announcement(&mut self) -> Option<Announcement> {
        self.announcement.take()
    }

    /// The master this node follows or is, and the term.
    pub fn master(&self) -> (Option<NodeId>, Term) {
        (self.master, self.term)
    }

    /// The newest table here, chosen or not.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// If this node is master and may decide: its term, and until when.
    pub fn reign(&self, now: Time) -> Option<(Term, Time)> {
        let Role::Leader(reign) = &self.role else { return None };
        let serving = self.committed.term == self.term;
        let until = reign.lease_end(&self.table, now, self.preset.lease)?;
        (serving && now < until).then_some((self.term, until))
    }

    /// A record of this part is durable.
    pub(crate) fn on_stored(&mut self, turn: &mut Turn<'_>, stored: Stored) {
        if let Some(since) = self.persisting_since.take() {
            let took = turn.now.since(since);
            self.slow_disk = took.max(self.slow_disk - self.slow_disk / 8);
        }
        match stored {
            Stored::Term(remembered) => {
                self.stored = remembered;
                self.on_term_stored(turn, remembered);
            }
            Stored::Table(version) => {
                self.durable = self.durable.max(version);
                self.on_table_stored(turn);
            }
        }
    }

    pub(crate) fn handle_timeout(&mut self, turn: &mut Turn<'_>) {
        match &self.role {
            Role::Leader(_) => self.reign_on(turn),
            Role::Follower | Role::Asking(_) | Role::Standing(_) => {
                self.want_specs(turn);
                if turn.now >= self.stand_at && self.may_stand(turn) {
                    self.ask_for_votes(turn);
                } else if turn.now >= self.stand_at {
                    self.stand_at = turn.now + RETRY_MAX;
                }
            }
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Timeout> {
        Some(match &self.role {
            Role::Leader(reign) => Timeout { at: reign.next_at(), reason: "heartbeat" },
            Role::Follower | Role::Asking(_) | Role::Standing(_) => {
                Timeout { at: self.stand_at, reason: "election" }
            }
        })
    }

    /// Takes part in a newer term, as a follower.
    fn enter_term(&mut self, turn: &mut Turn<'_>, term: Term) {
        self.step_down(turn, "a newer term began");
        self.term = term;
        self.vote = None;
        self.master = None;
        self.owed = None;
    }

    /// Stops being master or candidate. What was issued as master still binds (S2).
    fn step_down(&mut self, turn: &mut Turn<'_>, why: &str) {
        if let Role::Leader(reign) = &self.role {
            self.promise.hold_until(reign.issued());
            self.master = None;
            self.abandon_changes();
            turn.event(Event::SteppedDown { term: self.term.0, why: why.to_owned() });
        }
        self.role = Role::Follower;
        // Another may do better: not at once (L1 of 3b).
        self.schedule(turn, self.promise.until().max(turn.now + BAND));
    }

    /// Stands at the earliest `not_before`, in the order of rank.
    fn schedule(&mut self, turn: &mut Turn<'_>, not_before: Time) {
        self.stand_at = not_before.max(turn.now) + self.place(turn);
    }

    /// How much later than the first in the order this board stands.
    fn place(&self, turn: &mut Turn<'_>) -> Duration {
        let me = turn.me.id();
        let band = BAND * rank::place(&self.table, turn.members, &me);
        // Who is to decide no more lets everybody else try first.
        let way = if self.table.makes_way(&me) { RETRY_MIN } else { Duration::ZERO };
        way + band + JITTER / 256 * (turn.rng.next_u32() >> 24)
    }

    fn schedule_retry(&mut self, turn: &mut Turn<'_>) {
        let wait = RETRY_MIN.max(self.slow_disk * 4).min(RETRY_MAX);
        self.schedule(turn, turn.now + wait);
    }

    fn persist_term(&mut self, turn: &mut Turn<'_>, lease_ms: u32) {
        let remembered = Remembered {
            term: self.term,
            vote: self.vote,
            lease_ms: lease_ms.max(self.stored.lease_ms),
        };
        self.persisting_since.get_or_insert(turn.now);
        let record = Record::Term {
            term: remembered.term,
            vote: remembered.vote,
            lease_ms: remembered.lease_ms,
        };
        turn.persist(record, Purpose::Authority(Stored::Term(remembered)));
    }

    fn persist_table(&mut self, turn: &mut Turn<'_>) {
        self.persisting_since.get_or_insert(turn.now);
        let record = Record::Table(Box::new(self.table.clone()));
        turn.persist(record, Purpose::Authority(Stored::Table(self.table.version)));
    }
}

#[cfg(test)]
mod tests;
