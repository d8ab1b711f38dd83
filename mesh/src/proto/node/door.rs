//! The door: who is let in. Before a peer's hello has passed, nothing else of it is listened to.

use super::{LastRefusal, Node, Parts, REVOKED, SHUN, TWIN_PAUSE};
use crate::proto::admission;
use crate::proto::bounded::{List, Text};
use crate::proto::id::NodeId;
use crate::proto::io::{Effect, Event};
use crate::proto::journal::Record;
use crate::proto::machine::{Effects, Time};
use crate::proto::ops::Purpose;
use crate::proto::signed::Signed;
use crate::proto::ticket::Revocation;
use crate::proto::wire::gossip::{Fact, Facts};
use crate::proto::wire::hello::{Hello, Refusal, Refused, Welcome};

impl Node {
    pub(super) fn on_hello(&mut self, now: Time, peer: NodeId, hello: Hello, out: &mut Effects) {
        // A peer that restarted, or lost its connection one-sidedly, says hello anew while the former
        // connection still looks alive here. It has not heard ours: say it again.
        if self.admitted.contains(&peer) && !hello.answer {
            out.push(Effect::Send { to: peer, message: self.me.hello(true).into() });
        }
        if self.membership.refuses(&peer, &hello.record, now) {
            return self.refuse(now, peer, Refusal::Twins, out);
        }
        let unix = self.clock.unix_at(now);
        match admission::judge(hello, &peer, &self.me, &self.members, unix) {
            Ok(accepted) => self.accept(now, peer, accepted, out),
            Err(refusal) => self.refuse(now, peer, refusal, out),
        }
    }

    fn accept(
        &mut self,
        now: Time,
        peer: NodeId,
        accepted: admission::Accepted,
        out: &mut Effects,
    ) {
        let admission::Accepted { record, mut joined, first, ticket_issued } = accepted;
        self.clock.saw(ticket_issued, now);
        self.admitted.insert(peer);
        if self.last_refusal.is_some_and(|last| last.by_me && last.node == peer) {
            self.last_refusal = None;
        }
        self.links.on_admitted(peer, now);
        out.push(Effect::Admit { peer });
        if let Some(first) = first {
            let admission = self.me.admit(&first);
            out.push(Effect::Send {
                to: peer,
                message: Welcome { admission: admission.clone() }.into(),
            });
            joined.admission = Some(admission);
            let name = record.name.to_string();
            out.push(Effect::Event(Event::Admitted { node: peer, name }));
        }
        let (Parts { membership, failover, .. }, mut turn) = self.turn(now, out);
        membership.on_admitted(&mut turn, peer, record, joined);
        failover.on_linked(peer, now);
    }

    pub(super) fn refuse(&mut self, now: Time, peer: NodeId, reason: Refusal, out: &mut Effects) {
        let text = Text::capped(reason.advice());
        out.push(Effect::Send { to: peer, message: Refused { reason, text }.into() });
        out.push(Effect::Disconnect { peer });
        self.refused.insert(peer);
        out.push(Effect::Event(Event::Refused { node: peer, reason }));
        if !self.let_in || reason == Refusal::Twins {
            self.last_refusal = Some(LastRefusal { node: peer, reason, by_me: true, at: now });
        }
        self.keep_away(now, &peer, reason);
    }

    /// Nobody asks again at once. A member stays one whatever its copy does, and is wanted still.
    fn keep_away(&mut self, now: Time, peer: &NodeId, reason: Refusal) {
        match reason {
            Refusal::Twins => self.links.put_off(peer, now + TWIN_PAUSE),
            _ => self.links.shun(peer, now + SHUN),
        }
    }

    /// Two boards have the key of a peer that was let in.
    pub(super) fn drop_twins(&mut self, now: Time, node: NodeId, out: &mut Effects) {
        self.admitted.remove(&node);
        self.refuse(now, node, Refusal::Twins, out);
    }

    pub(super) fn on_refused(
        &mut self,
        now: Time,
        from: NodeId,
        refused: &Refused,
        out: &mut Effects,
    ) {
        if refused.reason == Refusal::Twins && self.members.get(&from).is_none() {
            let what = "it says that two boards have this one's key, and is no member".to_owned();
            self.links.shun(&from, now + SHUN);
            return out.push(Effect::Event(Event::Misbehaved { node: from, what }));
        }
        let text: String = refused.text.chars().filter(|c| !c.is_control()).collect();
        let reason = refused.reason;
        self.last_refusal = Some(LastRefusal { node: from, reason, by_me: false, at: now });
        let why = format!("refused: {}", refused.reason.advice());
        self.links.on_failure(&from, why, now, &mut self.rng);
        self.keep_away(now, &from, reason);
        if !self.let_in {
            // It passed this side's judgement, but a node that nobody lets in has no members.
            self.members.remove(&from);
        }
        out.push(Effect::Event(Event::RefusedBy { node: from, reason: refused.reason, text }));
    }

    pub(super) fn on_welcome(&mut self, from: NodeId, welcome: Welcome, out: &mut Effects) {
        // Only a member's word counts; a stranger's would be shown to everybody from now on.
        if !self.admitted.contains(&from) {
            let what = "a welcome before its hello had passed".to_owned();
            return out.push(Effect::Event(Event::Misbehaved { node: from, what }));
        }
        let Ok(admission) = welcome.admission.open(&from) else {
            let what = "a welcome that it did not sign".to_owned();
            return out.push(Effect::Event(Event::Misbehaved { node: from, what }));
        };
        let mine = admission.node == self.me.id()
            && admission.by == from
            && admission.ticket == self.me.belonging.credential.ticket.digest();
        if mine && self.me.admission.is_none() {
            self.let_in = true;
            self.me.admission = Some(welcome.admission.clone());
            self.ops.persist(Record::Admission(welcome.admission), Purpose::Memory, out);
        }
    }

    /// Hangs up on a node that was revoked. It is shown the operator's word first: an honest one stops then, and the
    /// refusal of one member would prove nothing.
    pub(super) fn drop_revoked(
        &mut self,
        now: Time,
        node: NodeId,
        signed: Box<Signed<Revocation>>,
        out: &mut Effects,
    ) {
        if node == self.me.id() {
            return self.halt(REVOKED.to_owned(), out);
        }
        if self.links.connected().contains(&node) {
            if self.admitted.remove(&node) {
                let facts = List::capped([Fact::Revoked(signed)]);
                out.push(Effect::Send { to: node, message: Facts { facts }.into() });
            }
            self.refuse(now, node, Refusal::NodeRevoked, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::id::{Digest16, Keypair, OpId};
    use crate::proto::io::{Command, Input, Reply, ViewState};
    use crate::proto::journal::Durable;
    use crate::proto::members::REVOCATIONS_MAX;
    use crate::proto::myself::Myself;
    use crate::proto::node::TWINS_SHOWN;
    use crate::proto::ticket::{Address, Revoked};
    use crate::proto::turn::samples::{at, board};
    use crate::proto::wire::Message;
    use crate::proto::wire::gossip::Probe;

    /// A node that runs and has let one member in.
    fn node() -> (Node, Myself) {
        let (me, peer) = (board(0, |_| ()), board(1, |_| ()));
        let durable = Durable { belonging: Some(me.belonging.clone()), ..Durable::default() };
        let (config, seed) = (me.config().clone(), [7; 32]);
        let mut node = Node::recover(config, seed, durable, Default::default(), at(0)).unwrap();
        let mut out = Effects::default();
        node.handle_timeout(at(0), &mut out);
        let written = |effect| match effect {
            Effect::Persist { op, .. } => Some(op),
            _ => None,
        };
        for op in out.drain().filter_map(written).collect::<Vec<_>>() {
            node.handle_input(at(1), Input::Persisted { op, result: Ok(()) }, &mut out);
        }
        meet(&mut node, &peer, 2);
        says(&mut node, 3, peer.id(), peer.hello(false).into());
        assert!(node.admitted.contains(&peer.id()));
        (node, peer)
    }

    fn meet(node: &mut Node, peer: &Myself, ms: u64) {
        let (peer, address) = (peer.id(), Address::default());
        node.handle_input(at(ms), Input::Connected { peer, address }, &mut Effects::default());
    }

    fn says(node: &mut Node, ms: u64, from: NodeId, message: Message) -> Vec<Effect> {
        let mut out = Effects::default();
        node.handle_input(at(ms), Input::Received { from, message }, &mut out);
        out.drain().collect()
    }

    fn twins() -> Message {
        let reason = Refusal::Twins;
        Refused { reason, text: Text::capped(reason.advice()) }.into()
    }

    /// Found by a reviewer: it was shown for ever, with the advice to move the data folder away.
    #[test]
    fn that_two_boards_have_its_key_is_shown_while_members_say_so() {
        let (mut node, peer) = node();
        let why = |node: &mut Node, ms| {
            node.handle_timeout(at(ms), &mut Effects::default());
            let status = node.status(at(ms));
            (status.view == ViewState::Isolated, status.view_why)
        };
        says(&mut node, 10, peer.id(), twins());
        let (isolated, text) = why(&mut node, 11);
        assert!(isolated && text.starts_with("n1 refused this node: two boards"), "{text}");
        let shown = 10 + TWINS_SHOWN.as_millis() as u64;
        assert!(why(&mut node, shown - 1).1.contains("two boards"));
        assert!(!why(&mut node, shown).1.contains("two boards"));
    }

    fn revoked(node: NodeId, mesh: &Myself) -> Signed<Revocation> {
        let target = Revoked::Node(node);
        let revocation = Revocation { mesh: mesh.belonging.mesh, target, at: 0 };
        Signed::seal(&revocation, &Keypair::from_seed(&[1; 32])).unwrap()
    }

    #[test]
    fn who_is_revoked_is_shown_the_operators_word_before_the_line_is_cut() {
        let (mut node, peer) = node();
        let command = Command::Revoke(revoked(peer.id(), &peer));
        let mut out = Effects::default();
        node.handle_input(at(10), Input::Command { op: OpId(1), command }, &mut out);
        let to_it: Vec<&str> = out
            .as_slice()
            .iter()
            .filter_map(|effect| match effect {
                Effect::Send { message: Message::Facts(facts), .. }
                    if matches!(facts.facts[..], [Fact::Revoked(_)]) =>
                {
                    Some("the word")
                }
                Effect::Send { message: Message::Refused(_), .. } => Some("no"),
                Effect::Disconnect { .. } => Some("gone"),
                _ => None,
            })
            .collect();
        assert_eq!(to_it, ["the word", "no", "gone"]);
    }

    #[test]
    fn a_board_that_is_shown_its_own_revocation_stops_in_later_lives_too() {
        let halts = |effects: &[Effect]| {
            effects
                .iter()
                .any(|e| matches!(e, Effect::Event(Event::Halted { why }) if why == REVOKED))
        };
        let (mut node, peer) = node();
        let me = board(0, |_| ());
        let signed = revoked(me.id(), &me);
        let facts = List::capped([Fact::Revoked(Box::new(signed.clone()))]);
        let effects = says(&mut node, 10, peer.id(), Facts { facts }.into());
        assert!(halts(&effects));
        let kept = |effect| match effect {
            Effect::Persist { record: record @ Record::Revocation(_), .. } => Some(record),
            _ => None,
        };
        let mut durable = Durable { belonging: Some(me.belonging.clone()), ..Durable::default() };
        effects.into_iter().filter_map(kept).for_each(|record| durable.apply(record));
        let config = me.config().clone();
        let mut node = Node::recover(config, [8; 32], durable, Default::default(), at(0)).unwrap();
        let mut out = Effects::default();
        node.handle_timeout(at(0), &mut out);
        let written: Vec<OpId> = out
            .drain()
            .filter_map(|effect| match effect {
                Effect::Persist { op, .. } => Some(op),
                _ => None,
            })
            .collect();
        for op in written {
            node.handle_input(at(1), Input::Persisted { op, result: Ok(()) }, &mut out);
        }
        assert!(halts(out.as_slice()));
    }

    #[test]
    fn a_revocation_that_cannot_be_kept_is_not_said_to_be() {
        let (mut node, peer) = node();
        let signed = revoked(peer.id(), &peer);
        for number in 0..REVOCATIONS_MAX as u128 {
            let other = Revoked::Ticket(Digest16(number.to_le_bytes()));
            assert!(node.members.revoke(other, signed.clone()));
        }
        let command = Command::Revoke(signed);
        let mut out = Effects::default();
        node.handle_input(at(10), Input::Command { op: OpId(1), command }, &mut out);
        let [Effect::Reply { reply: Reply::Error(error), .. }] = out.as_slice() else {
            panic!("{:?}", out.as_slice())
        };
        assert_eq!(&*error.code, "too-many");
    }

    #[test]
    fn a_stranger_does_not_make_a_board_one_of_two() {
        let (mut node, _) = node();
        let stranger = board(9, |_| ());
        meet(&mut node, &stranger, 10);
        let effects = says(&mut node, 11, stranger.id(), twins());
        let [Effect::Event(Event::Misbehaved { node: who, .. })] = &effects[..] else {
            panic!("{effects:?}")
        };
        assert_eq!(*who, stranger.id());
        assert!(node.last_refusal.is_none());
    }

    #[test]
    fn two_boards_are_told_and_refused_until_one_has_come_alone_for_a_while() {
        let (mut node, peer) = node();
        let refuses = |effects: &[Effect]| {
            effects.iter().any(|effect| {
                matches!(effect, Effect::Event(Event::Refused { reason: Refusal::Twins, .. }))
            })
        };
        let mut refused = None;
        for second in 1..20_u64 {
            for seq in [500 + second, 100 + second] {
                let probe = Probe { seq, view: 0 };
                let effects = says(&mut node, second * 1_000, peer.id(), probe.into());
                refused = refused.or(refuses(&effects).then_some(second));
            }
        }
        assert_eq!(refused, Some(5));
        assert!(!node.admitted.contains(&peer.id()));
        let parts = |node: &mut Node, ms| {
            let gone = Input::Disconnected { peer: peer.id(), why: "closed".to_owned() };
            node.handle_input(at(ms), gone, &mut Effects::default());
        };
        parts(&mut node, 20_000);
        meet(&mut node, &peer, 20_100);
        assert!(refuses(&says(&mut node, 20_200, peer.id(), peer.hello(false).into())));
        parts(&mut node, 45_500);
        meet(&mut node, &peer, 46_000);
        says(&mut node, 46_100, peer.id(), peer.hello(false).into());
        assert!(node.admitted.contains(&peer.id()));
    }
}
