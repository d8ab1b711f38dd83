//! One board's membership alone.

mod digest;
mod news;
mod watching;

use super::*;
use crate::proto::io::Effect;
use crate::proto::myself::Myself;
use crate::proto::turn::samples::{Surroundings, at, board};
use crate::proto::wire::Message;
use crate::proto::wire::gossip::{Entries, Facts};

/// The life that every board of a bench is in.
const FIRST: Incarnation = Incarnation(1);

struct Bench {
    around: Surroundings,
    membership: Membership,
    me: NodeId,
    /// By their numbers, from 1.
    peers: Vec<NodeId>,
}

impl Bench {
    /// A board that watches `peers` others, all linked. The first probes have left, and nothing waits.
    fn new(peers: u8) -> Self {
        let mut around = Surroundings::new();
        let mut membership = Membership::new(MembershipTiming::default(), at(0));
        membership.announce_self(&mut around.turn(0));
        let me = around.turn(0).me.id();
        let peers = (1..=peers).map(|number| around.peer(number)).collect();
        membership.rings_stale = true;
        let mut bench = Self { around, membership, me, peers };
        bench.act(0, Membership::handle_timeout);
        bench.act(1_000, Membership::handle_timeout);
        bench
    }

    fn act(&mut self, ms: u64, what: impl FnOnce(&mut Membership, &mut Turn<'_>)) -> Vec<Effect> {
        what(&mut self.membership, &mut self.around.turn(ms));
        self.around.effects()
    }

    /// What is sent, and to whom.
    fn sent(
        &mut self,
        ms: u64,
        what: impl FnOnce(&mut Membership, &mut Turn<'_>),
    ) -> Vec<(NodeId, Message)> {
        what(&mut self.membership, &mut self.around.turn(ms));
        self.around.sent()
    }

    /// The facts that wait for a link, as they would leave.
    fn news(&mut self) -> Vec<(NodeId, Fact)> {
        let messages = self.membership.outbox.flush(at(1_000_000), Duration::ZERO);
        let each = |(to, facts): (NodeId, Facts)| facts.facts.into_iter().map(move |f| (to, f));
        messages.into_iter().flat_map(each).collect()
    }

    fn facts(&mut self, ms: u64, from: NodeId, fact: Fact) -> Vec<Effect> {
        self.act(ms, |m, turn| m.on_facts(turn, from, Facts { facts: List::capped([fact]) }))
    }

    /// The watched board answers the probe of that number.
    fn ack(&mut self, ms: u64, from: NodeId, seq: u64) {
        let view = self.around.turn(ms).view_hash();
        self.act(ms, |m, turn| m.on_probe_ack(turn, from, ProbeAck { seq, view }));
    }

    fn standing(&self, node: NodeId) -> Standing {
        self.around.members.get(&node).expect("a member").standing
    }

    fn seq(&self, node: NodeId) -> u64 {
        // It was probed once so far.
        assert!(self.membership.watch(&node).is_some());
        1
    }
}

/// That board, in a later life or after a refutation.
fn later(number: u8, incarnation: u64) -> Myself {
    let mut board = board(number, |_| ());
    board.on_reserved(Incarnation(1_000));
    board.rise_above(Incarnation(incarnation - 1)).expect("it is reserved");
    assert_eq!(board.record().incarnation, Incarnation(incarnation));
    board
}

fn misbehaved(effects: &[Effect]) -> Option<NodeId> {
    effects.iter().find_map(|effect| match effect {
        Effect::Event(Event::Misbehaved { node, .. }) => Some(*node),
        _ => None,
    })
}

#[test]
fn a_board_that_is_held_for_dead_and_comes_back_in_the_same_life_is_told_so() {
    let mut bench = Bench::new(1);
    let peer = bench.peers[0];
    let admitted = |bench: &mut Bench, as_what: Myself| {
        let (record, joined) = (as_what.record().clone(), as_what.joined());
        bench.act(2_000, |m, turn| m.on_admitted(turn, peer, record, joined))
    };
    bench.around.members.set_standing(&peer, Standing::Down, at(1_500));
    admitted(&mut bench, board(1, |_| ()));
    assert_eq!(bench.standing(peer), Standing::Down, "nobody but itself refutes that");
    let told = bench.news();
    assert!(told.contains(&(peer, Fact::Down { subject: peer, incarnation: FIRST })), "{told:?}");
    let effects = admitted(&mut bench, later(1, 2));
    assert_eq!(bench.standing(peer), Standing::Up);
    let up = |e: &Effect| matches!(e, Effect::Event(Event::MemberUp { incarnation: 2, .. }));
    assert!(effects.iter().any(up));
}

#[test]
fn of_two_boards_that_know_each_other_one_begins_to_compare_and_of_strangers_both() {
    let mut bench = Bench::new(9);
    let compares = |bench: &mut Bench, number: u8| {
        let other = board(number, |_| ());
        let (record, joined, node) = (other.record().clone(), other.joined(), other.id());
        bench.around.links(node);
        let sent = bench.sent(2_000, |m, turn| m.on_admitted(turn, node, record, joined));
        (node, sent.iter().any(|(to, m)| *to == node && matches!(m, Message::Summary(_))))
    };
    for number in 1..=9 {
        let (node, compared) = compares(&mut bench, number);
        assert_eq!(compared, bench.me < node);
    }
    for number in 20..=29 {
        assert!(compares(&mut bench, number).1, "a stranger");
    }
}

#[test]
fn what_is_due_next_is_known_and_then_done() {
    let mut bench = Bench::new(3);
    let mut now = at(1_000);
    while now < at(8_000) {
        let due = bench.membership.poll_timeout().expect("it probes").at;
        // A link that is new is waited for longest.
        assert!(due > now && due <= now + Duration::from_secs(3), "{due:?} after {now:?}");
        now = due;
        let ms = now.since(at(0)).as_micros() as u64 / 1_000 + 1;
        now = at(ms);
        bench.act(ms, Membership::handle_timeout);
    }
    let mut alone = Bench::new(0);
    alone.act(1_001, Membership::handle_timeout);
    let due = alone.membership.poll_timeout().expect("it wanders");
    assert_eq!((due.at, due.reason), (at(15_000), "wander"));
    alone.membership.rings_stale = true;
    assert_eq!(alone.membership.poll_timeout().expect("rings").reason, "rings");
}
