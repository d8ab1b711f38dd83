//! The candidate: asks first, then stands.
//!
//! Asking (PreVote) changes nothing anywhere, so a board that cannot win does not disturb a reign.

use std::collections::BTreeSet;

use super::reign::Reign;
use super::{Authority, Role};
use crate::proto::id::{NodeId, Term};
use crate::proto::turn::Turn;
use crate::proto::wire::Message;
use crate::proto::wire::authority::{PreVote, PreVoteOk, Vote, VoteOk};

impl Authority {
    /// Whether this node is one that can become master now.
    pub(super) fn may_stand(&self, turn: &Turn<'_>) -> bool {
        let me = turn.me.id();
        self.table.electorate().contains(&me)
            && turn.me.record().board.durable
            && !self.is_bound(turn)
    }

    pub(super) fn ask_for_votes(&mut self, turn: &mut Turn<'_>) {
        self.schedule_retry(turn);
        self.role = Role::Asking(BTreeSet::from([turn.me.id()]));
        let term = Term(self.term.0 + 1);
        self.send_to_electorate(turn, PreVote { term, last: self.durable });
        self.count_pre_votes(turn);
    }

    pub(crate) fn on_pre_vote_ok(&mut self, turn: &mut Turn<'_>, from: NodeId, ok: PreVoteOk) {
        if !self.heeds(turn, from, ok.term) {
            return;
        }
        let Role::Asking(granted) = &mut self.role else { return };
        if !ok.granted && ok.term > self.term {
            return self.enter_term(turn, ok.term);
        }
        if ok.granted && ok.term.0 == self.term.0 + 1 {
            granted.insert(from);
            self.count_pre_votes(turn);
        }
    }

    pub(crate) fn on_vote_ok(&mut self, turn: &mut Turn<'_>, from: NodeId, ok: VoteOk) {
        if !self.heeds(turn, from, ok.term) {
            return;
        }
        if ok.term > self.term {
            return self.enter_term(turn, ok.term);
        }
        let Role::Standing(votes) = &mut self.role else { return };
        if ok.granted && ok.term == self.term {
            votes.insert(from);
            self.count_votes(turn);
        }
    }

    /// This node's vote for itself is durable.
    pub(super) fn on_own_vote(&mut self, turn: &mut Turn<'_>) {
        if let Role::Standing(votes) = &mut self.role {
            votes.insert(turn.me.id());
            self.count_votes(turn);
        }
    }

    fn count_pre_votes(&mut self, turn: &mut Turn<'_>) {
        let Role::Asking(granted) = &self.role else { return };
        if !self.table.is_majority(|node| granted.contains(node)) || !self.may_stand(turn) {
            return;
        }
        self.term.0 += 1;
        self.vote = Some(turn.me.id());
        self.role = Role::Standing(BTreeSet::new());
        self.schedule_retry(turn);
        // The lease that this node would issue as master: a restart keeps silent for it.
        let lease_ms = u32::try_from(self.preset.lease.as_millis()).unwrap_or(u32::MAX);
        self.persist_term(turn, lease_ms);
        self.send_to_electorate(turn, Vote { term: self.term, last: self.durable });
    }

    fn count_votes(&mut self, turn: &mut Turn<'_>) {
        let Role::Standing(votes) = &self.role else { return };
        // The own promise is looked at again: a vote may have been long on its way.
        if !self.table.is_majority(|node| votes.contains(node)) || self.promise.binds(turn.now) {
            return;
        }
        let me = turn.me.id();
        if !votes.contains(&me) {
            return;
        }
        self.role = Role::Leader(Box::new(Reign::new(me, turn.now, self.preset.lease)));
        self.master = Some(me);
        // What is found is chosen anew under the own term before anything is decided.
        self.table.version.term = self.term;
        self.table.version.number += 1;
        self.persist_table(turn);
        self.reign_on(turn);
    }

    /// Those who may have to elect a master together stay linked.
    pub(super) fn keep_links(&self, turn: &mut Turn<'_>) {
        let me = turn.me.id();
        let electorate = self.table.electorate();
        if electorate.contains(&me) {
            for node in electorate.into_iter().filter(|node| *node != me) {
                self.want(turn, node);
            }
        }
    }

    pub(super) fn send_to_electorate(&self, turn: &mut Turn<'_>, message: impl Into<Message>) {
        let message = message.into();
        let me = turn.me.id();
        for node in self.table.electorate().into_iter().filter(|node| *node != me) {
            self.want(turn, node);
            turn.send(node, message.clone());
        }
    }
}
