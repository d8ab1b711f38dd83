//! Departure: may a board leave?
//!
//! Of three voters two decide. Were two of them to leave by what gossip tells each of the other, the
//! third would be alone with a majority that never comes back. So whoever leaves asks the master, and
//! what the master grants is part of a chosen table before it is told: the next to ask, and the next
//! master, count on that board for nothing.

use super::changes::{Change, What};
use super::{Authority, Role};
use crate::proto::id::NodeId;
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
        if intent == Intent::Stays {
            if listed {
                self.note_departure(turn, node, false);
            }
            return None;
        }
        // What is not chosen yet may still change who decides. Who has just been elected does not know
        // yet who is there.
        let settled = self.committed == self.table.version
            && self.table.incoming.is_none()
            && self.waiting.is_empty();
        let Role::Leader(reign) = &self.role else { return None };
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

    /// Boards that have left need not be listed as drained or leaving any more.
    pub(super) fn forget_departed(&mut self, turn: &mut Turn<'_>) -> bool {
        let listed = self.table.drained.iter().chain(&self.table.leaving);
        let over: Vec<NodeId> = listed.filter(|node| has_left(turn, node)).copied().collect();
        if over.is_empty() {
            return false;
        }
        self.propose(turn, |table| {
            for list in [&mut table.drained, &mut table.leaving] {
                list.retain(|node| !over.contains(node));
            }
        });
        true
    }

    fn note_departure(&mut self, turn: &mut Turn<'_>, node: NodeId, leaving: bool) {
        let what = What::Leave { node, leaving };
        self.submit(turn, Change { id: NOBODY, what, order: None });
    }
}

/// Known to have left: by its own signed word.
fn has_left(turn: &Turn<'_>, node: &NodeId) -> bool {
    turn.members.get(node).is_some_and(|member| member.standing == Standing::Left)
}
