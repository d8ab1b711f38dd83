//! Alerts against members, this node among them.

use super::{Membership, Notice, RINGS_INTERVAL};
use crate::proto::id::{Incarnation, NodeId};
use crate::proto::io::Event;
use crate::proto::myself::INCARNATION_LEAP_MAX;
use crate::proto::turn::Turn;
use crate::proto::wire::gossip::{Entry, Fact, Standing};

impl Membership {
    /// `by` lost contact with `subject`; the news came from `from`.
    pub(super) fn on_alert(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        subject: NodeId,
        incarnation: Incarnation,
        by: NodeId,
    ) {
        if subject == turn.me.id() {
            return self.on_accused(turn, from, incarnation);
        }
        let Some(member) = turn.members.get(&subject) else { return };
        let current = member.standing == Standing::Up && member.incarnation() == incarnation;
        if !current || !turn.members.is_welcome(&by) {
            return;
        }
        if by != turn.me.id()
            && let Some(watched) = self.watches.get_mut(&subject)
        {
            watched.watch.on_doubted(turn.now, by);
        }
        if self.suspicions.add(subject, incarnation, by, turn.now) {
            let soon = (turn.now + self.timing.coalesce).max(self.covered + RINGS_INTERVAL);
            self.cover_at.get_or_insert(soon);
            turn.event(Event::Suspected { node: subject, by });
            self.flood(turn, &Fact::Alert { subject, incarnation, by }, Some(from));
        }
    }

    /// A digest says that `subject` is dead.
    pub(super) fn on_down(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        subject: NodeId,
        incarnation: Incarnation,
    ) {
        if subject == turn.me.id() {
            return self.on_accused(turn, from, incarnation);
        }
        let Some(member) = turn.members.get(&subject) else { return };
        if member.standing == Standing::Up && member.incarnation() == incarnation {
            self.suspicions.clear(&subject);
            self.mark_down(turn, subject, incarnation, 0);
        }
    }

    /// What another board's list says about this node.
    pub(super) fn on_own_entry(&mut self, turn: &mut Turn<'_>, from: NodeId, entry: &Entry) {
        if entry.incarnation > turn.me.record().incarnation {
            self.on_accused(turn, from, entry.incarnation);
        }
    }

    /// Somebody holds this node for silent or dead in its present life, or in one it cannot remember.
    fn on_accused(&mut self, turn: &mut Turn<'_>, from: NodeId, incarnation: Incarnation) {
        let mine = turn.me.record().incarnation;
        if incarnation.0 > mine.0.saturating_add(INCARNATION_LEAP_MAX) {
            return turn.misbehaved(from, "an incarnation of this node that it never had");
        }
        if incarnation >= mine {
            self.notices.push(Notice::Refute(incarnation));
        }
    }
}
