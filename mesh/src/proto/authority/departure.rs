//! Departure: may a board leave?
//!
//! Of three voters two decide. Were two of them to leave by what gossip tells each of the other, the
//! third would be alone with a majority that never comes back. So whoever leaves asks the master, and
//! what the master grants is part of a chosen table before it is told: the next to ask, and the next
//! master, count on that board for nothing.

use super::changes::{Change, What};
use super::{Authority, Role};
use crate::proto::id::NodeId;
use crate::proto::members::Member;
use crate::proto::turn::Turn;
use crate::proto::wire::authority::{Depart, Departure, Intent, Word};
use crate::proto::wire::gossip::Standing;

/// The change behind no order: nobody waits for its verdict.
const NOBODY: u64 = 0;

impl Authority {
    /// A board wants to leave.
    pub(crate) fn on_depart(&mut self, turn: &mut Turn<'_>, from: NodeId, depart: Depart) {
        if let Some(word) = self.judge_departure(turn, from, depart.intent) {
            turn.send(from, Departure { sent: depart.sent, word });
        }
    }

    /// Whether this board may leave; none if that is not for this node to say.
    pub(crate) fn judge_departure(
        &mut self,
        turn: &mut Turn<'_>,
        node: NodeId,
        intent: Intent,
    ) -> Option<Word> {
        self.reign(turn.now)?;
        let listed = self.table.is_leaving(&node);
        // What is not chosen yet may still change who decides. Who has just been elected does not know
        // yet who is there.
        let settled = self.committed == self.table.version
            && self.table.incoming.is_none()
            && self.waiting.is_empty();
        let Role::Leader(reign) = &self.role else { return None };
        if intent == Intent::Stays {
            // One version of the table at a time, however often it is said.
            if listed && settled {
                self.note_departure(turn, node, false);
            }
            return None;
        }
        if !settled || turn.now.since(reign.since()) < self.preset.heartbeat * 2 {
            return Some(Word::Wait);
        }
        let decides = self.table.voters.contains(&node);
        let changes = self.fresh_voters(turn).next().is_some();
        if decides && !self.can_do_without(turn, &node) {
            return Some(if changes { Word::Wait } else { Word::Needed });
        }
        if intent == Intent::Asks {
            return Some(Word::Go);
        }
        if !listed {
            self.note_departure(turn, node, true);
            return Some(Word::Wait);
        }
        // A master makes way first: a leader never removes itself.
        let waits = node == turn.me.id() || (decides && changes);
        Some(if waits { Word::Wait } else { Word::Go })
    }

    /// Whether a majority of those who decide is there without this board, and stays.
    pub(super) fn can_do_without(&self, turn: &Turn<'_>, node: &NodeId) -> bool {
        let me = turn.me.id();
        let Role::Leader(reign) = &self.role else { return false };
        let recent = turn.now - self.preset.heartbeat * 2;
        let there = |other: &NodeId| {
            let peer = reign.peer(other);
            *other == me || (peer.durable >= self.table.version && peer.heard > Some(recent))
        };
        let stays = |other: &NodeId| !self.table.makes_way(other) && !has_left(turn, other);
        self.table.is_majority(|other| other != node && there(other) && stays(other))
    }

    /// Boards that have left need not be listed as drained or leaving any more, nor those that died while
    /// they were leaving.
    pub(super) fn forget_departed(&mut self, turn: &mut Turn<'_>) -> bool {
        let drained = self.table.drained.iter().filter(|node| has_left(turn, node));
        let leaving = self.table.leaving.iter();
        let leaving = leaving.filter(|node| has_left(turn, node) || self.has_died(turn, node));
        let drained: Vec<NodeId> = drained.copied().collect();
        let leaving: Vec<NodeId> = leaving.copied().collect();
        if drained.is_empty() && leaving.is_empty() {
            return false;
        }
        self.propose(turn, |table| {
            table.drained.retain(|node| !drained.contains(node));
            table.leaving.retain(|node| !leaving.contains(node));
        });
        true
    }

    /// Down for so long that nobody counts on it, and it decides nothing.
    fn has_died(&self, turn: &Turn<'_>, node: &NodeId) -> bool {
        let down = |member: &Member| {
            let long = turn.now.since(member.since) >= self.preset.voter_grace;
            member.standing == Standing::Down && long
        };
        !self.table.electorate().contains(node) && turn.members.get(node).is_some_and(down)
    }

    fn note_departure(&mut self, turn: &mut Turn<'_>, node: NodeId, leaving: bool) {
        let what = What::Leave { node, leaving };
        self.submit(turn, Change { id: NOBODY, what, order: None });
    }
}

/// Known to have left: by its own signed word, or by the operator's.
fn has_left(turn: &Turn<'_>, node: &NodeId) -> bool {
    turn.members.has_left(node)
}
