//! Election and reign: `authority/{candidate,voter,reign,changes}.rs`.

use super::Rules;
use crate::faults::Fault;
use crate::state::{MASTERS, Master, Reign, Role, State, Table, Voted};

impl Rules {
    /// `may_stand`, `count_pre_votes`. PreVote is left out: it changes nothing at the receiver, so boards stand
    /// here whenever they may. By its refusals a candidate has learnt how far the others are.
    pub(super) fn stand(&self, next: &mut State, candidate: usize, term: u8) -> Option<()> {
        let newest = next.masters.iter().map(|m| m.now.term).max()?;
        let one = &mut next.masters[candidate];
        let may = one.promise == 0 && one.reign().is_none();
        if !may || term <= one.now.term || term > newest + 1 {
            return None;
        }
        one.now = Voted { term, vote: Some(candidate as u8) };
        one.role = Role::Standing(0);
        self.write(next, candidate)
    }

    /// `on_vote`.
    pub(super) fn vote(&self, next: &mut State, candidate: usize, voter: usize) -> Option<()> {
        let asks = next.masters[candidate];
        let Role::Standing(_) = asks.role else { return None };
        let one = &mut next.masters[voter];
        let term = asks.now.term;
        let bound = self.is_bound(one) && !self.lacks(Fault::VotesWhileBound);
        if bound || one.now.term > term {
            return None;
        }
        self.enter_term(one, term);
        let older = asks.table < one.table && !self.lacks(Fault::StaleTableWins);
        if older || one.now.vote.is_some() {
            // It has heard of the term at least; nobody else hears of that before it is durable.
            return None;
        }
        one.now.vote = Some(candidate as u8);
        if self.lacks(Fault::VoteBeforeDurable) {
            answer_candidate(next, voter);
        }
        self.write(next, voter)
    }

    /// What is to be durable is so some time from now.
    fn write(&self, next: &mut State, voter: usize) -> Option<()> {
        if self.bounds.delays { Some(()) } else { self.persist(next, voter) }
    }

    /// `on_term_stored`, `on_own_vote`.
    pub(super) fn persist(&self, next: &mut State, voter: usize) -> Option<()> {
        let one = &mut next.masters[voter];
        if one.disk == one.now {
            return None;
        }
        one.store();
        let own = one.now.vote == Some(voter as u8);
        if own || !self.is_bound(one) || self.lacks(Fault::VotesWhileBound) {
            answer_candidate(next, voter);
        }
        Some(())
    }

    /// `on_app` and, at the master, what is to be counted from when the heartbeat was *sent*: it is sent now,
    /// since one that was sent earlier would only be worth less.
    pub(super) fn beat(&self, next: &mut State, master: usize, voter: usize) -> Option<()> {
        let term = next.masters[master].reign().map(|_| next.masters[master].now.term)?;
        let lease = self.bounds.lease;
        let one = &mut next.masters[voter];
        if one.now.term > term {
            return None;
        }
        self.follow(one, term);
        one.promise = one.promise.max(self.promised(lease));
        // While it is silent its answer counts for nobody's lease.
        let counts = one.silent == 0;
        let reign = next.masters[master].reign_mut()?;
        if counts {
            reign.answer = lease;
        }
        if !self.bounds.delays {
            reign.take_answer();
        }
        Some(())
    }

    /// `take_offered`, `on_table_stored`: the table may come late, in any term that the board still follows.
    pub(super) fn copy(&self, next: &mut State, term: usize, voter: usize) -> Option<()> {
        let table = next.sent[term]?;
        let one = &mut next.masters[voter];
        if usize::from(one.now.term) > term || one.table >= table {
            return None;
        }
        if one.reign().is_none() || one.now.term != table.term {
            self.follow(one, table.term);
        }
        one.table = table;
        let of_term = |master: &&mut Master| master.now.term == table.term;
        let masters = next.masters.iter_mut().filter(of_term);
        masters.filter_map(Master::reign_mut).for_each(|reign| reign.durable |= 1 << voter);
        Some(())
    }

    /// `count_acks`.
    pub(super) fn commit(&self, next: &mut State, master: usize) -> Option<()> {
        let table = next.sent[usize::from(next.masters[master].now.term)]?;
        let reign = next.masters[master].reign_mut()?;
        let chosen = is_majority(reign.durable) || self.lacks(Fault::ServesBeforeChosen);
        if reign.settled || !chosen {
            return None;
        }
        reign.settled = true;
        next.claim_epoch(table.epoch, table.active);
        Some(())
    }

    /// `reign_on`, `enter_term`: without a lease, or because somebody answered with a higher term.
    pub(super) fn resign(&self, next: &mut State, master: usize) -> Option<()> {
        let reign = next.masters[master].reign()?;
        let term = next.masters[master].now.term;
        let outdated = next.masters.iter().any(|other| other.now.term > term);
        if reign.lease > 0 && !outdated {
            return None;
        }
        self.step_down(&mut next.masters[master]);
        Some(())
    }

    /// A crash, and the restart with what is durable. A board that stays away for longer is one that does
    /// nothing for a while.
    pub(super) fn crash_master(&self, next: &mut State, master: usize) -> Option<()> {
        next.crashes_left.0 = next.crashes_left.0.checked_sub(1)?;
        let one = &mut next.masters[master];
        one.role = Role::Follower;
        one.now = one.disk;
        let silence = self.promised(self.bounds.lease);
        one.silent = if self.lacks(Fault::NoRestartSilence) { 0 } else { silence };
        one.promise = one.silent;
        Some(())
    }

    /// `is_bound`: one's own reign, another's, or a forgotten one.
    fn is_bound(&self, one: &Master) -> bool {
        one.promise > 0 || one.reign().is_some_and(|reign| reign.lease > 0)
    }

    fn follow(&self, one: &mut Master, term: u8) {
        self.enter_term(one, term);
        one.role = Role::Follower;
        if one.disk.term < term {
            // The first heartbeat of a term is answered once the term is durable.
            one.store();
        }
    }

    fn enter_term(&self, one: &mut Master, term: u8) {
        if one.now.term < term {
            self.step_down(one);
            one.now = Voted { term, vote: None };
        }
    }

    /// `step_down`: what was issued as master still binds (S2).
    fn step_down(&self, one: &mut Master) {
        let issued = one.reign().map_or(0, |reign| reign.lease);
        if !self.lacks(Fault::ForgetsWhatItIssued) {
            one.promise = one.promise.max(issued);
        }
        one.role = Role::Follower;
    }
}

impl Reign {
    /// `on_app_ok`.
    pub(super) fn take_answer(&mut self) {
        self.lease = self.lease.max(core::mem::take(&mut self.answer));
    }
}

impl Master {
    fn store(&mut self) {
        self.disk = self.now;
        if self.answered.term < self.disk.term {
            // Of no interest any more: a durable term never falls.
            self.answered = Voted::default();
        }
    }
}

/// `count_votes`: the own promise is looked at again.
pub(super) fn win(next: &mut State, candidate: usize) -> Option<()> {
    let one = &mut next.masters[candidate];
    let Role::Standing(votes) = one.role else { return None };
    if !is_majority(votes) || votes & 1 << candidate == 0 || one.promise > 0 {
        return None;
    }
    one.role = Role::Leader(Reign::default());
    // What it finds is chosen anew under its own term before anything is decided.
    let table = Table { term: one.now.term, number: 0, ..one.table };
    next.sent[usize::from(table.term)] = Some(table);
    Some(())
}

/// A vote leaves. It counts for a candidate that still stands in that term.
fn answer_candidate(next: &mut State, voter: usize) {
    let voted = next.masters[voter].now;
    let Some(candidate) = voted.vote else { return };
    let before = core::mem::replace(&mut next.masters[voter].answered, voted);
    next.voted_twice |= before.term == voted.term && before.vote.is_some_and(|b| b != candidate);
    let stands = &mut next.masters[usize::from(candidate)];
    if let Role::Standing(votes) = &mut stands.role
        && stands.now.term == voted.term
    {
        *votes |= 1 << voter;
    }
}

fn is_majority(bits: u8) -> bool {
    bits.count_ones() as usize * 2 > MASTERS
}
