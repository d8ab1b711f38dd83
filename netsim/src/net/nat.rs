//! NATs in front of boards, in the terms of RFC 4787.
//!
//! What a board sends makes a mapping of its port to an external one and keeps it alive (inward packets do
//! not: REQ-6 lets a NAT choose). What comes in passes only through a living mapping, and only if the filter
//! lets its sender in. Each board has a NAT of its own.
//!
//! QUIC is modelled, from one socket for all peers and for listening, as libp2p has it: it gives a sign of
//! life every `KEEP_ALIVE`, and libp2p does not let a connection migrate. So when a mapping is gone and the
//! board sends again, its packets have another external port, the other side takes them for nobody's, and the
//! connection is dead without anybody being told. (TCP would be milder: what is sent from a new port is
//! answered with a reset.) Others are taken to know the new port soon, as if it were gossiped: a dial fails by
//! mapping and filter, not by an old port.
//!
//! A dial makes a mapping, too, whether it passes or not: of two port-restricted boards that dial each other,
//! the second one gets through.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Net;
use crate::queue::{BoardIndex, ConnIndex, Queue};
use crate::time::{Nanos, SECOND};

/// An open connection is heard of at least that often while the processes at its ends run.
pub(crate) const KEEP_ALIVE: Nanos = 4 * SECOND;
/// How long a mapping lives without a packet outward unless the fault says otherwise: what RFC 4787 (REQ-5)
/// wants at the least. Many boxes have 30 s.
pub const EXPIRES: Nanos = 120 * SECOND;

/// What decides the external port.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mapping {
    /// One for all whom the board talks to.
    #[default]
    EndpointIndependent,
    /// Another one for each (address and port dependent).
    Symmetric,
}

/// Whose packets may come in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filter {
    /// Anybody's, while there is a mapping that leads in.
    Open,
    /// Only theirs to whom the board has sent while the mapping lived.
    #[default]
    PortRestricted,
}

/// What a NAT does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Kind {
    pub mapping: Mapping,
    pub filter: Filter,
    /// A mapping is gone when nothing has left through it for longer than this, ns.
    pub expires: Nanos,
}

/// All NATs that there are now.
#[derive(Debug, Default)]
pub(crate) struct Nats(BTreeMap<BoardIndex, Nat>);

#[derive(Debug)]
struct Nat {
    kind: Kind,
    /// When the board last sent to each.
    sent: BTreeMap<BoardIndex, Nanos>,
    /// Something did not pass, or a mapping is gone.
    felt: bool,
}

/// What a packet outward does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outward {
    /// It keeps a mapping alive.
    Refreshes,
    /// It opens the filter for answers, and makes a mapping if there was none.
    Opens,
    /// It makes a mapping in the place of one that is gone: to this board, or to all.
    Moves(Option<BoardIndex>),
}

impl Nat {
    fn is_fresh(&self, now: Nanos, at: Nanos) -> bool {
        now.saturating_sub(at) <= self.kind.expires
    }

    fn lives(&self, now: Nanos) -> bool {
        self.sent.values().any(|at| self.is_fresh(now, *at))
    }

    fn has_sent(&self, now: Nanos, to: BoardIndex) -> bool {
        self.sent.get(&to).is_some_and(|at| self.is_fresh(now, *at))
    }

    fn outward(&mut self, now: Nanos, to: BoardIndex) -> Outward {
        let does = match self.kind.mapping {
            _ if self.has_sent(now, to) => Outward::Refreshes,
            Mapping::Symmetric if self.sent.contains_key(&to) => Outward::Moves(Some(to)),
            Mapping::EndpointIndependent if !self.sent.is_empty() && !self.lives(now) => {
                self.sent.clear();
                Outward::Moves(None)
            }
            _ => Outward::Opens,
        };
        self.sent.insert(to, now);
        does
    }

    fn lets_in(&self, now: Nanos, from: BoardIndex) -> bool {
        match (self.kind.mapping, self.kind.filter) {
            (Mapping::EndpointIndependent, Filter::Open) => self.lives(now),
            // Nobody else knows the port.
            _ => self.has_sent(now, from),
        }
    }
}

impl Nats {
    /// A NAT is put in front of a board that talks to these peers, or one that is there changes its ways. True if
    /// it is new.
    pub(crate) fn put(
        &mut self,
        now: Nanos,
        board: BoardIndex,
        kind: Kind,
        peers: &[BoardIndex],
    ) -> bool {
        if let Some(nat) = self.0.get_mut(&board) {
            nat.kind = kind;
            return false;
        }
        let sent = peers.iter().map(|peer| (*peer, now)).collect();
        self.0.insert(board, Nat { kind, sent, felt: false });
        true
    }

    /// Whether any board is behind one.
    pub(super) fn are_there(&self) -> bool {
        !self.0.is_empty()
    }

    /// It is taken away.
    pub(crate) fn remove(&mut self, board: BoardIndex) {
        self.0.remove(&board);
    }

    /// Whether the NAT has made a difference since this was asked last.
    pub(crate) fn take_felt(&mut self, board: BoardIndex) -> bool {
        self.0.get_mut(&board).is_some_and(|nat| std::mem::take(&mut nat.felt))
    }

    /// Whether a packet of a connection that there is comes in.
    pub(super) fn lets_in(&self, now: Nanos, from: BoardIndex, to: BoardIndex) -> bool {
        self.0.get(&to).is_none_or(|nat| nat.lets_in(now, from))
    }

    /// Whether the first packet of a dial comes in: it goes to the port that everybody knows, or that `to` was
    /// last seen with, and comes from one that `to` has sent to.
    pub(crate) fn lets_dial(&self, now: Nanos, from: BoardIndex, to: BoardIndex) -> bool {
        let Some(nat) = self.0.get(&to) else { return true };
        let dialler = self.0.get(&from).map(|nat| (nat.kind.mapping, nat.kind.filter));
        let fits = match (nat.kind.mapping, nat.kind.filter, dialler) {
            (Mapping::EndpointIndependent, Filter::Open, _) => true,
            // It comes from a port that was never sent to.
            (_, _, Some((Mapping::Symmetric, _))) => false,
            // Whoever did not let the packets in has not seen where they came from.
            (Mapping::Symmetric, _, Some((_, Filter::PortRestricted))) => false,
            _ => true,
        };
        fits && nat.lets_in(now, from)
    }
}

impl Net {
    /// A packet leaves a board for another one: what it does to the mappings of its NAT, if there is one.
    pub(crate) fn goes_out(
        &mut self,
        now: Nanos,
        from: BoardIndex,
        to: BoardIndex,
        queue: &mut Queue,
    ) {
        let Some(nat) = self.nats.0.get_mut(&from) else { return };
        let does = nat.outward(now, to);
        nat.felt |= matches!(does, Outward::Moves(_));
        let ends = match does {
            Outward::Refreshes => return,
            Outward::Opens | Outward::Moves(_) => self.ends_of(from),
        };
        for (conn, end) in ends {
            let peer = self.hop(conn, end);
            match does {
                Outward::Opens if peer == to => self.let_go(now, conn, 1 - end, queue),
                Outward::Moves(whose) if whose.is_none_or(|whose| peer == whose) => {
                    self.lose(now, conn, queue);
                }
                _ => {}
            }
        }
    }

    /// Whether the receiver's NAT keeps out what comes on a way of a connection. That is felt.
    pub(super) fn keeps_out(&mut self, now: Nanos, conn: ConnIndex, way: u8) -> bool {
        let (from, to) = (self.hop(conn, 1 - way), self.end(conn, 1 - way).board);
        let keeps_out = !self.nats.lets_in(now, from, to);
        if keeps_out && let Some(nat) = self.nats.0.get_mut(&to) {
            nat.felt = true;
        }
        keeps_out
    }

    /// What a process keeps alive, it does so now.
    pub(crate) fn keep_alive(&mut self, now: Nanos, board: BoardIndex, queue: &mut Queue) {
        for (conn, end) in self.ends_of(board) {
            let to = self.hop(conn, end);
            self.goes_out(now, board, to, queue);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::law::LinkLaw;
    use crate::net::{Arrival, Load};
    use crate::queue::Due;

    const HOME: BoardIndex = 0;
    const LIFE: Nanos = 30 * SECOND;

    fn cone(filter: Filter) -> Kind {
        Kind { mapping: Mapping::EndpointIndependent, filter, expires: LIFE }
    }

    fn symmetric() -> Kind {
        Kind { mapping: Mapping::Symmetric, ..cone(Filter::PortRestricted) }
    }

    fn net(nats: &[(BoardIndex, Kind)]) -> (Net, Queue) {
        let mut net = Net::new(3, LinkLaw::Wan, 0, 4);
        net.powered = vec![true; 4];
        for (board, kind) in nats {
            assert!(net.nats.put(0, *board, *kind, &[]));
        }
        (net, Queue::default())
    }

    fn connect(net: &mut Net, a: BoardIndex, b: BoardIndex) -> ConnIndex {
        let node = |board| (board, hedgerow::proto::id::PublicKey([board as u8; 32]));
        net.connect(node(a), node(b), None)
    }

    /// What has arrived at `HOME` until `end`.
    fn arrivals(net: &mut Net, queue: &mut Queue, end: Nanos) -> Vec<u8> {
        let mut seen = Vec::new();
        while let Some((at, due)) = queue.pop(end) {
            let Due::Arrive(conn, way) = due else { continue };
            if let Arrival::Load(Load::Frame(frame)) = net.arrive(at, conn, way, queue) {
                seen.extend(frame);
            }
        }
        seen
    }

    #[test]
    fn who_may_dial_depends_on_whom_the_board_has_sent_to_and_when() {
        let (mut net, mut queue) = net(&[(HOME, cone(Filter::PortRestricted))]);
        assert!(!net.nats.lets_dial(0, 1, HOME) && net.nats.lets_dial(0, HOME, 1));
        net.goes_out(0, HOME, 1, &mut queue);
        assert!(net.nats.lets_dial(LIFE, 1, HOME) && !net.nats.lets_dial(LIFE, 2, HOME));
        assert!(!net.nats.lets_dial(LIFE + 1, 1, HOME));
        net.nats.put(0, HOME, cone(Filter::Open), &[]);
        assert!(net.nats.lets_dial(LIFE, 2, HOME), "anybody, by the mapping that another one made");
        assert!(!net.nats.lets_dial(LIFE + 1, 2, HOME));
        net.nats.remove(HOME);
        assert!(net.nats.lets_dial(LIFE + 1, 2, HOME));
    }

    #[test]
    fn two_that_dial_each_other_get_through_unless_one_is_symmetric() {
        let (port, open) = (cone(Filter::PortRestricted), cone(Filter::Open));
        let dials = |a, b| {
            let (mut net, mut queue) = net(&[(0, a), (1, b)]);
            net.goes_out(0, 0, 1, &mut queue);
            net.goes_out(0, 1, 0, &mut queue);
            (net.nats.lets_dial(1, 0, 1), net.nats.lets_dial(1, 1, 0))
        };
        assert_eq!(dials(port, port), (true, true));
        assert_eq!(dials(port, symmetric()), (false, false));
        assert_eq!(dials(symmetric(), symmetric()), (false, false));
        assert_eq!(dials(open, symmetric()), (true, true), "it has seen where they came from");
    }

    #[test]
    fn what_comes_in_waits_for_a_packet_outward() {
        let (mut net, mut queue) = net(&[(HOME, cone(Filter::PortRestricted))]);
        let conn = connect(&mut net, HOME, 1);
        net.send(0, conn, 0, Load::Frame(vec![1]), &mut queue);
        // Its mapping lives by what it sends to others.
        net.goes_out(LIFE, HOME, 2, &mut queue);
        net.send(LIFE + SECOND, conn, 1, Load::Frame(vec![2]), &mut queue);
        assert_eq!(arrivals(&mut net, &mut queue, LIFE + 10 * SECOND), [1]);
        assert!(net.nats.take_felt(HOME) && !net.nats.take_felt(HOME));
        net.send(LIFE + 10 * SECOND, conn, 0, Load::Frame(vec![3]), &mut queue);
        assert!(!net.is_lost(conn));
        let seen = arrivals(&mut net, &mut queue, 2 * LIFE);
        assert_eq!(seen, [3, 2], "the retransmission comes in");
    }

    #[test]
    fn who_sends_after_the_mapping_is_gone_has_another_port_and_its_connections_are_dead() {
        let (mut net, mut queue) = net(&[(HOME, cone(Filter::Open))]);
        let [first, second] = [1, 2].map(|peer| connect(&mut net, HOME, peer));
        let others = connect(&mut net, 1, 2);
        net.goes_out(0, HOME, 1, &mut queue);
        net.goes_out(0, HOME, 2, &mut queue);
        net.send(LIFE + 1, first, 0, Load::Frame(vec![1]), &mut queue);
        assert!(net.is_lost(first) && net.is_lost(second) && !net.is_lost(others));
        assert!(net.nats.take_felt(HOME));
        assert!(arrivals(&mut net, &mut queue, 2 * LIFE).is_empty());
    }

    #[test]
    fn a_symmetric_nat_gives_each_peer_a_port_that_expires_by_itself() {
        let (mut net, mut queue) = net(&[(HOME, symmetric())]);
        let [first, second] = [1, 2].map(|peer| connect(&mut net, HOME, peer));
        net.goes_out(0, HOME, 1, &mut queue);
        net.goes_out(0, HOME, 2, &mut queue);
        net.goes_out(LIFE, HOME, 2, &mut queue);
        net.goes_out(LIFE + 1, HOME, 1, &mut queue);
        assert!(net.is_lost(first) && !net.is_lost(second));
    }

    #[test]
    fn signs_of_life_keep_a_mapping() {
        let (mut net, mut queue) = net(&[(HOME, cone(Filter::PortRestricted))]);
        let conn = connect(&mut net, HOME, 1);
        net.goes_out(0, HOME, 1, &mut queue);
        for second in (4..=120).step_by(4) {
            net.keep_alive(second * SECOND, HOME, &mut queue);
        }
        net.send(123 * SECOND, conn, 1, Load::Frame(vec![1]), &mut queue);
        assert_eq!(arrivals(&mut net, &mut queue, 130 * SECOND), [1]);
    }
}
