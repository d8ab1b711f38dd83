//! Connections coming about.
//!
//! A dial needs the other host to have power and packets to pass both ways; a host without that
//! process refuses at once. A NAT that keeps the dial out is gone round by a relay, where the plan has one. Handshake packets get lost and are repeated like any other. Nobody there
//! at all is only known after [`DIAL_TIMEOUT`].

use hedgerow::proto::bounded::List;
use hedgerow::proto::id::NodeId;
use hedgerow::proto::io::Input;
use hedgerow::proto::ticket::{ADDRESSES_MAX, Address};

use super::World;
use crate::board::{self, Board, Wake};
use crate::faults::Fault;
use crate::plan::DIAL_TIMEOUT;
use crate::queue::{BoardIndex, Due};
use crate::seed::{Purpose, Stream};
use crate::time::{MILLI, Nanos, SECOND};

/// The first packet of a handshake is repeated after this, then after twice, four times as long.
const RETRY: Nanos = SECOND;
/// How often it is looked whether a stopped process has gone on.
const STOPPED_RETRY: Nanos = 250 * MILLI;
/// Packets of a handshake that must arrive in turn.
const FLIGHTS: u64 = 3;

/// One dial.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dial {
    from: BoardIndex,
    life: u32,
    peer: NodeId,
    target: Option<BoardIndex>,
    /// The relay that it goes over, if the last attempt found one.
    via: Option<BoardIndex>,
    deadline: Nanos,
    attempt: u32,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// The next attempt is to be made.
    Attempt,
    /// Nobody is there any more.
    Vain,
    /// All packets of the handshake have passed.
    Shaken,
    /// Over; the node is told why.
    Failed(&'static str),
    /// Over: another node answers there.
    Other,
}

impl World {
    pub(super) fn dial(
        &mut self,
        from: BoardIndex,
        peer: NodeId,
        addresses: &List<Address, ADDRESSES_MAX>,
    ) {
        let boards = self.plan.boards;
        let number = self.dials.len() as u32;
        let now = self.now;
        let state = self.board(from);
        if state.peers.contains_key(&peer) || state.dialling.contains_key(&peer) {
            return;
        }
        state.dialling.insert(peer, number);
        let life = state.life;
        let places: Vec<_> = addresses.iter().filter_map(board::board_at).collect();
        let known = |(board, _): &(BoardIndex, u32)| *board < boards && *board != from;
        let present = |(board, roams): &&(BoardIndex, u32)| {
            known(&(*board, *roams)) && self.boards[usize::from(*board)].roams == *roams
        };
        let target = places.iter().find(present).map(|(board, _)| *board);
        let phase = match target {
            Some(_) => Phase::Attempt,
            // Whoever had the address is elsewhere: nobody answers.
            None if places.iter().any(known) => Phase::Vain,
            None => Phase::Failed("no address that leads anywhere"),
        };
        if phase == Phase::Vain {
            self.feel(|fault| matches!(fault, Fault::Roam { .. }));
        }
        let deadline = now + DIAL_TIMEOUT;
        self.dials.push(Dial { from, life, peer, target, via: None, deadline, attempt: 0, phase });
        self.queue.push(now + MILLI / 10, Due::Dial(number));
    }

    pub(super) fn dial_step(&mut self, number: u32) {
        let dial = self.dials[number as usize];
        let dialler = &self.boards[usize::from(dial.from)];
        let is_current = dialler.dialling.get(&dial.peer) == Some(&number);
        if dialler.life != dial.life || dialler.node.is_none() || !is_current {
            return;
        }
        match (dial.phase, dial.target) {
            (Phase::Failed(why), _) => self.dial_failed(dial, why),
            (Phase::Other, target) => {
                self.dial_failed(dial, "somebody else answers there");
                if let Some(target) = target {
                    self.discovered(dial.from, target);
                }
            }
            (Phase::Vain, _) if self.now < dial.deadline => {
                let takes = dial.deadline - self.now;
                self.dial_ends(number, dial, takes, Phase::Vain);
            }
            (Phase::Vain, _) => self.dial_failed(dial, "nobody answered"),
            (_, None) => self.dial_failed(dial, "no address"),
            (_, Some(_)) if self.now >= dial.deadline => self.dial_failed(dial, "nobody answered"),
            (Phase::Attempt, Some(target)) => self.dial_attempt(number, dial, target),
            (Phase::Shaken, Some(target)) => self.dial_shaken(number, dial, target),
        }
    }

    fn dial_attempt(&mut self, number: u32, dial: Dial, target: BoardIndex) {
        self.net.goes_out(self.now, dial.from, target, &mut self.queue);
        if !self.net.nats.lets_dial(self.now, dial.from, target) {
            self.feel(|fault| matches!(fault, Fault::Nat { node, .. } if *node == target));
        }
        let dial = Dial { via: self.relay(dial.from, target), ..dial };
        if dial.via.is_none() && !self.passes(dial.from, target) {
            self.feel_cut_between(dial.from, target);
            return self.dial_later(number, dial, RETRY << dial.attempt.min(3));
        }
        let round_trip = self.net.round_trip(dial.from, target);
        if self.boards[usize::from(target)].node.is_none() {
            return self.dial_ends(number, dial, round_trip, Phase::Failed("connection refused"));
        }
        if self.boards[usize::from(target)].id != dial.peer {
            return self.dial_ends(number, dial, round_trip, Phase::Other);
        }
        if self.net.paused[usize::from(target)] || self.net.paused[usize::from(dial.from)] {
            self.feel_pause(target);
            return self.dial_later(number, dial, STOPPED_RETRY);
        }
        let who = u64::from(dial.from) << 16 | u64::from(target);
        let mut draw = Stream::new(self.plan.seed, Purpose::Dial, who, u64::from(number));
        let mut takes = 0;
        for flight in 0..FLIGHTS {
            for (nth, (from, to)) in (0..).zip(hops(dial.from, dial.via, target)) {
                takes += self.net.one_way(from, to, draw.bits());
                let losses = self.net.losses(&draw, 16 + flight + nth * FLIGHTS);
                takes += (0..losses).map(|nth| RETRY << nth).sum::<Nanos>();
            }
        }
        let takes = takes.min(dial.deadline - self.now);
        self.dial_ends(number, dial, takes, Phase::Shaken);
    }

    fn dial_shaken(&mut self, number: u32, dial: Dial, target: BoardIndex) {
        let other = &self.boards[usize::from(target)];
        let is_there = other.node.is_some() && other.id == dial.peer;
        let stopped =
            self.net.paused[usize::from(target)] || self.net.paused[usize::from(dial.from)];
        let passes = match dial.via {
            None => self.passes(dial.from, target),
            Some(via) => self.relays(via, dial.from, target),
        };
        if !passes || !is_there || stopped {
            return self.dial_later(number, dial, RETRY);
        }
        let dialler = self.boards[usize::from(dial.from)].id;
        self.board(dial.from).dialling.remove(&dial.peer);
        for (board, peer) in [(dial.from, target), (target, dial.from)] {
            self.net.goes_out(self.now, board, dial.via.unwrap_or(peer), &mut self.queue);
        }
        let conn = self.net.connect((dial.from, dialler), (target, dial.peer), dial.via);
        self.wake(target, Wake::Attach(conn, 1));
        self.wake(dial.from, Wake::Attach(conn, 0));
    }

    fn dial_later(&mut self, number: u32, dial: Dial, wait: Nanos) {
        let at = (self.now + wait).min(dial.deadline);
        self.dials[number as usize] =
            Dial { attempt: dial.attempt + 1, phase: Phase::Attempt, ..dial };
        self.queue.push(at, Due::Dial(number));
    }

    fn dial_ends(&mut self, number: u32, dial: Dial, takes: Nanos, phase: Phase) {
        self.dials[number as usize] = Dial { phase, ..dial };
        self.queue.push(self.now + takes, Due::Dial(number));
    }

    fn dial_failed(&mut self, dial: Dial, why: &'static str) {
        let state = self.board(dial.from);
        state.dialling.remove(&dial.peer);
        // A connection that the other side made answers the dial as well.
        if !state.peers.contains_key(&dial.peer) {
            self.wake(dial.from, Wake::DialFailed(dial.peer, why));
        }
    }

    /// A board learns who has answered instead of the one that it dialled.
    fn discovered(&mut self, by: BoardIndex, answered: BoardIndex) {
        let Board { id: node, roams, .. } = self.boards[usize::from(answered)];
        let address = board::address(answered, roams);
        self.wake(by, Wake::Input(Box::new(Input::Discovered { node, address })));
    }

    /// The relay that a dial goes over, where a NAT keeps it out and there is one.
    fn relay(&self, from: BoardIndex, target: BoardIndex) -> Option<BoardIndex> {
        if self.net.nats.lets_dial(self.now, from, target) {
            return None;
        }
        let mut relays = self.plan.relays.iter().copied();
        relays.find(|relay| self.relays(*relay, from, target))
    }

    /// Whether a board would relay a dial: it runs, can be dialled, and the target is connected with it.
    fn relays(&self, relay: BoardIndex, from: BoardIndex, target: BoardIndex) -> bool {
        relay != from
            && relay != target
            && self.boards[usize::from(relay)].node.is_some()
            && !self.net.paused[usize::from(relay)]
            && self.passes(from, relay)
            && self.net.joined(relay, target) == Some(None)
    }

    /// Whether a handshake could pass: packets both ways, a host with power, and a NAT in front of it, if there is
    /// one, that lets it in.
    fn passes(&self, a: BoardIndex, b: BoardIndex) -> bool {
        self.net.powered[usize::from(b)]
            && self.net.nats.lets_dial(self.now, a, b)
            && !self.net.weather.is_clogged(a, b)
            && !self.net.is_cut(a, b)
            && !self.net.is_cut(b, a)
    }
}

/// From board to board.
fn hops(
    from: BoardIndex,
    via: Option<BoardIndex>,
    to: BoardIndex,
) -> impl Iterator<Item = (BoardIndex, BoardIndex)> {
    let first = (from, via.unwrap_or(to));
    std::iter::once(first).chain(via.map(|via| (via, to)))
}
