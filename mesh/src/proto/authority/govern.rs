//! Governing: how many decide, and who.
//!
//! One voter until three boards are there, since two of two is worse than one; then three. A voter
//! that stays away is replaced. Every change goes through a joint table in which a majority is one
//! of the old *and* of the new voters (3b.3, 3b.4): in one step it would be unsafe (S1).

use core::time::Duration;

use super::rank::Rank;
use super::{Authority, Role};
use crate::proto::bounded::List;
use crate::proto::id::NodeId;
use crate::proto::io::Event;
use crate::proto::machine::Time;
use crate::proto::table::{Row, VOTERS_MAX, Voters};
use crate::proto::turn::Turn;
use crate::proto::wire::gossip::Standing;

/// So long a master that is drained or leaves waits until its services have gone and nobody rests on its
/// word alone.
const MAKE_WAY_MAX: Duration = Duration::from_secs(20);

impl Authority {
    /// Looks whether the voters should change, and starts the change once it can succeed.
    pub(super) fn govern(&mut self, turn: &mut Turn<'_>) {
        let settled = self.committed == self.table.version && self.table.incoming.is_none();
        if !settled || self.reign(turn.now).is_none() {
            return;
        }
        self.note_making_way(turn);
        if self.should_make_way(turn) {
            return self.step_down(turn, "this board is to decide no more, and another can");
        }
        if self.forget_departed(turn) {
            return;
        }
        let wanted = self.wanted_voters(turn);
        let fresh: Vec<NodeId> = self.fresh_voters(turn).collect();
        let me = turn.me.id();
        let Role::Leader(reign) = &mut self.role else { return };
        reign.learners = fresh.iter().filter(|node| **node != me).copied().collect();
        // They must have the table and answer now, or the change would stop the mesh. One of them may be this
        // node, if it was elected by a joint table that ended its vote.
        let ready = |node: &NodeId| {
            if *node == me {
                return self.durable >= self.table.version;
            }
            let peer = reign.peer(node);
            let recent = turn.now - self.preset.heartbeat * 2;
            peer.durable >= self.table.version && peer.heard > Some(recent)
        };
        if fresh.is_empty() || !fresh.iter().all(ready) {
            return;
        }
        let incoming: Voters = List::capped(wanted);
        self.propose(turn, |table| table.incoming = Some(incoming));
    }

    /// A joint table was chosen: its new side decides alone from now on.
    pub(super) fn finish_voter_change(&mut self, turn: &mut Turn<'_>) {
        let Some(incoming) = self.table.incoming.clone() else { return };
        let names = incoming.iter().map(|node| turn.name_of(node)).collect();
        turn.event(Event::VotersChanged { voters: names });
        self.propose(turn, |table| {
            table.voters = incoming;
            table.incoming = None;
        });
    }

    fn note_making_way(&mut self, turn: &Turn<'_>) {
        let makes_way = self.table.makes_way(&turn.me.id());
        let Role::Leader(reign) = &mut self.role else { return };
        reign.makes_way_since = makes_way.then(|| reign.makes_way_since.unwrap_or(turn.now));
    }

    /// Whether this master is drained or leaves, and the other two voters could do without it. A leader
    /// never removes itself (3b.3); its successor does.
    ///
    /// Until there is a successor nobody changes a row, and an active whose standby is being replaced
    /// rests on the master's word alone. So the rows come first; not for ever, since a row may never
    /// find a better place.
    fn should_make_way(&self, turn: &Turn<'_>) -> bool {
        let me = turn.me.id();
        let Role::Leader(reign) = &self.role else { return false };
        let Some(since) = reign.makes_way_since else { return false };
        let named = |row: &Row| row.active == me || row.standby == Some(me) || row.fill.is_some();
        let rests = self.table.rows.iter().any(|row| !row.retiring && named(row));
        let waited = turn.now.since(since) >= MAKE_WAY_MAX;
        (waited || !rests) && self.can_do_without(turn, &me)
    }

    /// Who should decide, by what is known now. Keeps who is there.
    fn wanted_voters(&self, turn: &Turn<'_>) -> Vec<NodeId> {
        let me = turn.me.id();
        let mut eligible: Vec<(Rank, NodeId)> = turn
            .members
            .up()
            .filter(|(node, member)| member.record.board.durable && !self.table.makes_way(node))
            .map(|(node, member)| (Rank::of(member), *node))
            .collect();
        eligible.sort_unstable();
        let mut wanted: Vec<NodeId> = self
            .table
            .voters
            .iter()
            .filter(|node| {
                **node == me || (!self.is_gone(turn, node) && !self.table.makes_way(node))
            })
            .copied()
            .collect();
        for (_, node) in eligible {
            if wanted.len() < VOTERS_MAX && !wanted.contains(&node) {
                wanted.push(node);
            }
        }
        // Fewer than three: leave it as it is. A crash never shrinks the electorate.
        if wanted.len() < VOTERS_MAX { self.table.voters.iter().copied().collect() } else { wanted }
    }

    /// Boards that should decide and do not yet.
    pub(super) fn fresh_voters(&self, turn: &Turn<'_>) -> impl Iterator<Item = NodeId> {
        let wanted = self.wanted_voters(turn);
        wanted.into_iter().filter(|node| !self.table.voters.contains(node))
    }

    /// Whether a voter has left, or has not answered for so long that another should take its place.
    fn is_gone(&self, turn: &Turn<'_>, node: &NodeId) -> bool {
        let Role::Leader(reign) = &self.role else { return false };
        let left = turn.members.get(node).is_none_or(|m| m.standing == Standing::Left);
        let silent_since: Time = reign.peer(node).heard.unwrap_or(reign.since());
        left || turn.now.since(silent_since) >= self.preset.voter_grace
    }
}
