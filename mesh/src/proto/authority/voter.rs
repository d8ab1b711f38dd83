//! The voter: answers candidates and masters.

use core::time::Duration;
use std::collections::BTreeSet;

use super::{Authority, Owed, Remembered, Role};
use crate::proto::id::{NodeId, Term};
use crate::proto::promises::LEASE_MAX;
use crate::proto::table::{Table, Version};
use crate::proto::turn::Turn;
use crate::proto::wire::authority::{App, AppOk, PreVote, PreVoteOk, Vote, VoteOk};
use crate::proto::wire::failover::WantSpec;

/// So many terms may have passed without this board at the most.
const TERM_LEAP_MAX: u64 = 1 << 32;
/// Neighbours that are asked for an order, beside those who should have it.
const ASKED_MAX: usize = 8;
/// Orders that are asked for with one heartbeat.
const WANTED_AT_ONCE: usize = 8;

impl Authority {
    pub(crate) fn on_pre_vote(&mut self, turn: &mut Turn<'_>, from: NodeId, question: PreVote) {
        if !self.is_plausible(turn, from, question.term) {
            return;
        }
        let newer_here = question.last < self.table.version;
        let free = !self.is_bound(turn);
        let granted = free && !newer_here && question.term > self.term;
        // A refusal tells the own term: whoever is behind must not ask for the same one for ever.
        let term = if granted { question.term } else { self.term };
        turn.send(from, PreVoteOk { term, granted });
        if free && newer_here && self.may_stand(turn) {
            // The other cannot win; without this both would wait for each other (L1). In the bully's
            // order: it asks several boards, and those that stand at one moment split the votes.
            self.stand_at = self.stand_at.min(turn.now + self.place(turn));
        }
    }

    pub(crate) fn on_vote(&mut self, turn: &mut Turn<'_>, from: NodeId, request: Vote) {
        if !self.is_plausible(turn, from, request.term) {
            return;
        }
        if self.is_bound(turn) || request.term < self.term {
            turn.send(from, VoteOk { term: self.term, granted: false });
            return;
        }
        if request.term > self.term {
            self.enter_term(turn, request.term);
        }
        let newer_here = request.last < self.table.version;
        if newer_here || self.vote.is_some_and(|vote| vote != from) {
            turn.send(from, VoteOk { term: self.term, granted: false });
            return;
        }
        self.vote = Some(from);
        self.schedule_retry(turn);
        if self.stored.term == self.term && self.stored.vote == self.vote {
            turn.send(from, VoteOk { term: self.term, granted: true });
        } else {
            self.persist_term(turn, 0);
        }
    }

    pub(crate) fn on_app(&mut self, turn: &mut Turn<'_>, from: NodeId, app: App) {
        let lease = Duration::from_millis(u64::from(app.lease_ms));
        if lease > LEASE_MAX || app.table.as_ref().is_some_and(|t| t.version.term > app.term) {
            return turn.misbehaved(from, "a heartbeat that contradicts the protocol");
        }
        if !self.is_plausible(turn, from, app.term) {
            return;
        }
        let generation = self.table.version.generation;
        if !self.table.voters.is_empty() && app.generation != generation {
            // A master of an earlier one learns by gossip that its mesh was recovered by force; one of
            // a later one counts from when its table has come.
            return match app.table {
                Some(table) if app.generation > generation => self.adopt(turn, *table),
                _ => {}
            };
        }
        if app.term < self.term {
            turn.send(from, AppOk { term: self.term, sent: 0, durable: self.durable });
            return;
        }
        if app.term > self.term {
            self.enter_term(turn, app.term);
        }
        match &self.role {
            Role::Leader(_) => return turn.misbehaved(from, "a second master in one term"),
            Role::Asking(_) | Role::Standing(_) => self.role = Role::Follower,
            Role::Follower => {}
        }
        self.master = Some(from);
        self.promise.extend(turn.now, lease);
        self.schedule(turn, self.promise.until());
        self.keep_links(turn);
        if let Some(table) = app.table {
            self.offered = Some((app.term, table));
            self.take_offered(turn);
        }
        if self.table.version >= app.committed {
            self.committed = self.committed.max(app.committed);
        }
        // A voter that restarted may have promised to somebody it does not remember: until that has
        // run out, its answer must not count for anybody's lease.
        let sent = if turn.now < self.silent_until { 0 } else { app.sent };
        if self.stored.term < self.term || self.stored.lease_ms < app.lease_ms {
            // The first heartbeat of a term: a restart must not forget that it began.
            let under_way = self.owed.is_some();
            self.owed = Some(Owed { to: from, sent, lease_ms: app.lease_ms });
            if !under_way {
                self.persist_term(turn, app.lease_ms);
            }
            return;
        }
        self.want_specs(turn);
        turn.send(from, AppOk { term: self.term, sent, durable: self.complete(turn) });
    }

    /// A term, perhaps with a vote, is durable: what was waiting for it may leave.
    pub(super) fn on_term_stored(&mut self, turn: &mut Turn<'_>, stored: Remembered) {
        if stored.term != self.term {
            return;
        }
        if let Some(owed) = self.owed {
            if stored.lease_ms < owed.lease_ms {
                return self.persist_term(turn, owed.lease_ms);
            }
            self.owed = None;
            let ok = AppOk { term: self.term, sent: owed.sent, durable: self.complete(turn) };
            turn.send(owed.to, ok);
            return;
        }
        let Some(candidate) = stored.vote.filter(|vote| Some(*vote) == self.vote) else { return };
        if candidate == turn.me.id() {
            self.on_own_vote(turn);
        } else if !self.is_bound(turn) {
            turn.send(candidate, VoteOk { term: self.term, granted: true });
        }
    }

    /// A table is durable: tell the master, or count it as master.
    pub(crate) fn on_table_stored(&mut self, turn: &mut Turn<'_>) {
        match (&self.role, self.master) {
            (Role::Leader(_), _) => self.count_acks(turn),
            (_, Some(master)) if self.stored.term == self.term => {
                let durable = self.complete(turn);
                turn.send(master, AppOk { term: self.term, sent: 0, durable });
            }
            _ => {}
        }
    }

    /// Takes the table that the master of this term sent last, once every order that it names is here.
    /// Were it written down before and the master's disk then lost, this board could be elected with a
    /// table that nobody can complete any more, and no master could ever reign again.
    pub(crate) fn take_offered(&mut self, turn: &mut Turn<'_>) {
        let of_now = |(term, table): &(Term, Box<Table>)| {
            *term == self.term && table.version > self.table.version
        };
        let Some((term, table)) = self.offered.take().filter(of_now) else { return };
        if turn.specs.missing(&table).next().is_some() {
            self.offered = Some((term, table));
            return self.want_specs(turn);
        }
        self.table = *table;
        self.persist_table(turn);
    }

    /// The newest version that is durable here together with every order that it names.
    fn complete(&self, turn: &Turn<'_>) -> Version {
        let whole = turn.specs.missing(&self.table).next().is_none();
        if whole { self.durable } else { Version::default() }
    }

    /// Tables whose orders are wanted here: the newest one, and the one that waits for its orders.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &Table> + Clone {
        let offered = self.offered.iter().map(|(_, table)| &**table);
        core::iter::once(&self.table).chain(offered)
    }

    /// Asks for orders that these tables name and this board lacks: whoever decides, the boards that the row
    /// names, and everybody else nearby. A master may lack one too: it was told of the table when its mesh was
    /// recovered by force. Each is asked for once in half a heartbeat, however often somebody says the same.
    pub(super) fn want_specs(&mut self, turn: &mut Turn<'_>) {
        let me = turn.me.id();
        let missing = self.tables().flat_map(|table| turn.specs.missing(table));
        let missing: BTreeSet<_> = missing.take(WANTED_AT_ONCE).collect();
        let (now, again) = (turn.now, self.preset.heartbeat / 2);
        self.wanted.retain(|hash, at| missing.contains(hash) && now.since(*at) < again);
        let due: Vec<_> =
            missing.iter().filter(|hash| !self.wanted.contains_key(*hash)).copied().collect();
        self.wanted.extend(due.iter().map(|hash| (*hash, now)));
        for hash in due {
            let row = self.tables().flat_map(|table| &table.rows).find(|row| row.spec == hash);
            let named = row.into_iter().flat_map(|row| [Some(row.active), row.standby]);
            let mut asked: BTreeSet<NodeId> = self.table.electorate();
            asked.extend(named.chain([self.master]).flatten());
            asked.extend(turn.links.usable().take(ASKED_MAX));
            asked.remove(&me);
            for node in asked {
                self.want(turn, node);
                turn.send(node, WantSpec { hash });
            }
        }
    }

    /// Whether a term can have come about by elections. One wrong number would otherwise be the last term
    /// that there ever is.
    pub(super) fn is_plausible(&self, turn: &mut Turn<'_>, from: NodeId, term: Term) -> bool {
        let plausible = term.0 <= self.term.0.saturating_add(TERM_LEAP_MAX);
        if !plausible {
            turn.misbehaved(from, "a term that no election can have reached");
        }
        plausible
    }

    /// Whether an answer may change this board's mind: it comes from somebody who was asked.
    pub(super) fn heeds(&self, turn: &mut Turn<'_>, from: NodeId, term: Term) -> bool {
        let learner = matches!(&self.role, Role::Leader(reign) if reign.learners.contains(&from));
        let asked = learner || self.table.electorate().contains(&from);
        asked && self.is_plausible(turn, from, term)
    }

    /// Whether a promise forbids to vote: one's own reign, another's, or a forgotten one.
    pub(super) fn is_bound(&self, turn: &Turn<'_>) -> bool {
        let reigning = match &self.role {
            Role::Leader(reign) => turn.now < reign.issued(),
            Role::Follower | Role::Asking(_) | Role::Standing(_) => false,
        };
        reigning || self.promise.binds(turn.now)
    }
}
