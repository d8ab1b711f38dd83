//! The network: reliable streams over a lossy, cuttable world, and datagrams beside them.
//!
//! Control messages of Hedgerow ride on one connection per pair of nodes, so a lost packet is not a
//! lost message: it comes a retransmission timeout later, and everything behind it waits
//! (head-of-line blocking). A cut holds everything back; after it heals the next retransmission gets
//! through, unless an end has given the connection up before, which it does when it has heard nothing
//! for [`IDLE_TIMEOUT`]. [`datagram`] is the other service on the same links.
//!
//! This module moves bytes and knows who can reach whom. What an end does with them is `driver`'s.

pub mod datagram;
mod memory;
pub mod nat;
mod relay;
mod weather;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use hedgerow::proto::id::NodeId;

use self::datagram::Datagrams;
use self::memory::Memory;
use self::nat::Nats;
use self::weather::Weather;

use crate::law::LinkLaw;
use crate::queue::{BoardIndex, ConnIndex, Due, Queue};
use crate::seed::{Purpose, Stream};
use crate::time::{MILLI, Nanos, SECOND};

/// An end that has heard nothing for that long (and up to three seconds longer) gives up.
pub const IDLE_TIMEOUT: Nanos = 15 * SECOND;
const IDLE_SPREAD: Nanos = 3 * SECOND;
/// The first retransmission comes no sooner.
const RTO_MIN: Nanos = 200 * MILLI;
/// Retransmissions of one segment come no further apart.
const RTO_MAX: Nanos = 30 * SECOND;
/// Bytes that one segment carries.
const SEGMENT_BYTES: usize = 1200;
/// A segment is lost at most so often in a row.
const LOSSES_MAX: u64 = 8;

/// The network of one world.
#[derive(Debug)]
pub struct Net {
    seed: u64,
    law: LinkLaw,
    /// Per cent of segments lost now.
    pub loss_percent: u64,
    /// Segments lost so far.
    pub lost: u64,
    boards: usize,
    distance: Vec<Nanos>,
    cuts: Vec<u8>,
    /// Which hosts have power.
    pub powered: Vec<bool>,
    /// Which processes are stopped.
    pub paused: Vec<bool>,
    conns: Vec<Conn>,
    live: BTreeSet<ConnIndex>,
    made: BTreeMap<(BoardIndex, BoardIndex), u64>,
    datagrams: Datagrams,
    /// What makes packets late.
    pub(crate) weather: Weather,
    /// What stands in front of some boards.
    pub(crate) nats: Nats,
    /// What was sent, for those that repeat it; kept only if somebody will.
    memory: Option<Memory>,
}

/// One connection. End 0 dialled end 1; way i leads from end i to the other.
#[derive(Debug)]
pub struct Conn {
    /// Both ends.
    pub ends: [End; 2],
    ways: [Way; 2],
    /// The board that passes everything on, if not even one packet goes straight.
    via: Option<BoardIndex>,
    idle: Stream,
    /// A middlebox has forgotten it: nothing passes any more.
    lost: bool,
}

/// One end of a connection.
#[derive(Debug)]
pub struct End {
    /// On which board.
    pub board: BoardIndex,
    /// As whom.
    pub node: NodeId,
    /// The process still has it.
    pub open: bool,
    /// It cannot hear the other end now; counts how often that changed.
    quiet: bool,
    quiet_count: u32,
    /// Frames that wait until the other side is admitted here.
    pub parked: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct Way {
    queue: VecDeque<Segment>,
    /// The first segment cannot pass; nothing is scheduled until the way is free again.
    held: bool,
    /// … because it waits in a queue, and need not be sent again.
    queued: bool,
    clear_at: Nanos,
    sent: u64,
    base: Nanos,
    delay: Stream,
    loss: Stream,
}

#[derive(Debug)]
struct Segment {
    at: Nanos,
    sent: Nanos,
    load: Load,
}

/// What a stream carries.
#[derive(Debug, PartialEq, Eq)]
pub enum Load {
    /// `kind + body` of one message.
    Frame(Vec<u8>),
    /// The sender is done: close.
    Fin,
}

/// What became of a segment that was to arrive.
#[derive(Debug)]
pub enum Arrival {
    /// It is there.
    Load(Load),
    /// It cannot pass.
    Held,
    /// There was none.
    Nothing,
}

impl Net {
    /// A whole network of `boards` boards.
    pub fn new(seed: u64, law: LinkLaw, loss_percent: u64, boards: usize) -> Self {
        Self {
            seed,
            law,
            loss_percent,
            lost: 0,
            boards,
            distance: (0..boards as u64).map(|board| law.distance(seed, board)).collect(),
            cuts: vec![0; boards * boards],
            powered: vec![false; boards],
            paused: vec![false; boards],
            conns: Vec::new(),
            live: BTreeSet::new(),
            made: BTreeMap::new(),
            datagrams: Datagrams::default(),
            weather: Weather::fair(boards),
            nats: Nats::default(),
            memory: None,
        }
    }

    /// Frames are remembered from now on, for [`Net::recent`] and [`Net::old`].
    pub fn remember_frames(&mut self) {
        self.memory = Some(Memory::default());
    }

    /// The last frames that one board sent to another, oldest first.
    pub fn recent(&self, from: BoardIndex, to: BoardIndex) -> Vec<Vec<u8>> {
        self.memory.as_ref().map_or_else(Vec::new, |memory| memory.recent((from, to)))
    }

    /// The first frames that one board sent to another that spoke of terms and rights.
    pub fn old(&self, from: BoardIndex, to: BoardIndex) -> Vec<Vec<u8>> {
        self.memory.as_ref().map_or_else(Vec::new, |memory| memory.old((from, to)))
    }

    /// How one board introduced itself to another the last time.
    pub fn hello(&self, from: BoardIndex, to: BoardIndex) -> Option<&[u8]> {
        self.memory.as_ref()?.hello((from, to))
    }

    /// Whether packets pass from one board to another.
    pub fn is_cut(&self, from: BoardIndex, to: BoardIndex) -> bool {
        self.cuts[usize::from(from) * self.boards + usize::from(to)] > 0
    }

    /// Adds (or takes away) one cut of a way.
    pub fn cut(&mut self, from: BoardIndex, to: BoardIndex, add: bool) {
        let cut = &mut self.cuts[usize::from(from) * self.boards + usize::from(to)];
        *cut = if add { cut.saturating_add(1) } else { cut.saturating_sub(1) };
    }

    /// The mean round trip of a pair, ns.
    pub fn round_trip(&self, a: BoardIndex, b: BoardIndex) -> Nanos {
        2 * (self.base(a, b) + self.law.jitter_mean())
    }

    /// How long one packet takes, by 64 random bits.
    pub fn one_way(&self, a: BoardIndex, b: BoardIndex, bits: u64) -> Nanos {
        self.base(a, b) + self.law.jitter(bits) + self.weather.detour(a, b, bits >> 20)
    }

    /// How often a packet is lost before it gets through, by a stream of draws.
    pub fn losses(&mut self, loss: &Stream, nth: u64) -> u64 {
        if self.loss_percent == 0 {
            return 0;
        }
        let lost = |attempt| loss.at(nth * LOSSES_MAX + attempt) % 100 < self.loss_percent;
        let losses = (0..LOSSES_MAX).take_while(|attempt| lost(*attempt)).count() as u64;
        self.lost += losses;
        losses
    }

    /// A new connection between two processes, perhaps over a relay.
    pub fn connect(
        &mut self,
        dialler: (BoardIndex, NodeId),
        other: (BoardIndex, NodeId),
        via: Option<BoardIndex>,
    ) -> ConnIndex {
        let made = self.made.entry((dialler.0, other.0)).or_default();
        *made += 1;
        let which = *made;
        let way = |from: BoardIndex, to: BoardIndex| {
            let who = u64::from(from) << 32 | u64::from(to) << 16 | u64::from(dialler.0);
            Way {
                queue: VecDeque::new(),
                held: false,
                queued: false,
                clear_at: 0,
                sent: 0,
                base: match via {
                    None => self.base(from, to),
                    Some(via) => self.length([(from, via), (via, to)].into_iter()),
                },
                delay: Stream::new(self.seed, Purpose::Delay, who, which),
                loss: Stream::new(self.seed, Purpose::Loss, who, which),
            }
        };
        let pair = u64::from(dialler.0) << 16 | u64::from(other.0);
        let end = |(board, node)| End {
            board,
            node,
            open: true,
            quiet: false,
            quiet_count: 0,
            parked: Vec::new(),
        };
        let conn = Conn {
            ways: [way(dialler.0, other.0), way(other.0, dialler.0)],
            ends: [end(dialler), end(other)],
            via,
            idle: Stream::new(self.seed, Purpose::Idle, pair, which),
            lost: false,
        };
        let index = self.conns.len() as ConnIndex;
        self.conns.push(conn);
        self.live.insert(index);
        index
    }

    /// One end of a connection.
    pub fn end(&self, conn: ConnIndex, end: u8) -> &End {
        &self.conns[conn as usize].ends[usize::from(end)]
    }

    /// The same, to be changed.
    pub fn end_mut(&mut self, conn: ConnIndex, end: u8) -> &mut End {
        &mut self.conns[conn as usize].ends[usize::from(end)]
    }

    /// Sends from an end, behind everything that it sent before.
    pub fn send(&mut self, now: Nanos, conn: ConnIndex, end: u8, load: Load, queue: &mut Queue) {
        let (law, loss_percent) = (self.law, self.loss_percent);
        let between = (self.end(conn, end).board, self.end(conn, 1 - end).board);
        self.goes_out(now, between.0, self.hop(conn, end), queue);
        let hops = self.conns[conn as usize].hops(end);
        let ways = &mut self.conns[conn as usize].ways;
        let bytes = match &load {
            Load::Frame(frame) => frame.len(),
            Load::Fin => 0,
        };
        if let (Some(memory), Load::Frame(frame)) = (&mut self.memory, &load) {
            memory.note(between, frame);
        }
        let way = &mut ways[usize::from(end)];
        way.sent += 1;
        let mut takes = way.base;
        let mut arrives = 100;
        for (nth, hop) in (0..).zip(hops) {
            let bits = way.delay.at(way.sent + (nth << 40));
            takes += law.jitter(bits) + self.weather.extra(now, hop, bytes, bits >> 20);
            arrives = arrives * (100 - loss_percent.min(100)) / 100;
        }
        if loss_percent > 0 {
            let rto = RTO_MIN.max(4 * (way.base + law.jitter_mean()));
            let worst = way.worst_losses(100 - arrives, bytes, &mut self.lost);
            takes += (0..worst).map(|nth| (rto << nth).min(RTO_MAX)).sum::<Nanos>();
        }
        let at = way.clear_at.max(now + takes);
        way.clear_at = at;
        if way.queue.is_empty() {
            queue.push(at, Due::Arrive(conn, end));
        }
        way.queue.push_back(Segment { at, sent: now, load });
    }

    /// How many messages are on their way from an end.
    pub(crate) fn waiting(&self, conn: ConnIndex, end: u8) -> usize {
        self.conns[conn as usize].ways[usize::from(end)].queue.len()
    }

    /// The first segment on a way is due.
    pub fn arrive(&mut self, now: Nanos, conn: ConnIndex, way: u8, queue: &mut Queue) -> Arrival {
        let waits = &self.conns[conn as usize].ways[usize::from(way)];
        if waits.queue.is_empty() || waits.held {
            return Arrival::Nothing;
        }
        let blocked = self.is_blocked(conn, way) || self.keeps_out(now, conn, way);
        let clogged = self.is_clogged(conn);
        let way_state = &mut self.conns[conn as usize].ways[usize::from(way)];
        if blocked {
            way_state.held = true;
            way_state.queued |= clogged;
            return Arrival::Held;
        }
        let Some(segment) = way_state.queue.pop_front() else { return Arrival::Nothing };
        if let Some(next) = way_state.queue.front() {
            queue.push(next.at, Due::Arrive(conn, way));
        }
        Arrival::Load(segment.load)
    }

    /// The process at this end no longer has the connection.
    pub fn close(&mut self, now: Nanos, conn: ConnIndex, end: u8, queue: &mut Queue) {
        let connection = &mut self.conns[conn as usize];
        let closing = &mut connection.ends[usize::from(end)];
        closing.open = false;
        closing.parked = Vec::new();
        if connection.ends.iter().all(|end| !end.open) {
            connection.ways.iter_mut().for_each(|way| way.queue = VecDeque::new());
            self.live.remove(&conn);
            return;
        }
        self.look(now, conn, queue);
    }

    /// Forgets what this end has sent and nobody has received: it is gone with its host.
    pub fn forget_held(&mut self, conn: ConnIndex, end: u8) {
        let way = &mut self.conns[conn as usize].ways[usize::from(end)];
        if way.held {
            way.queue.clear();
            way.held = false;
        }
    }

    /// Connections that are open at an end on `board`, with the number of that end.
    pub fn ends_of(&self, board: BoardIndex) -> Vec<(ConnIndex, u8)> {
        let mut found = Vec::new();
        for conn in &self.live {
            for (end, at) in (0..).zip(&self.conns[*conn as usize].ends) {
                if at.board == board && at.open {
                    found.push((*conn, end));
                }
            }
        }
        found
    }

    /// After anything changed about who can reach whom: lets go what can pass again, and notes which
    /// ends have fallen silent.
    pub fn changed(&mut self, now: Nanos, queue: &mut Queue) {
        let live: Vec<ConnIndex> = self.live.iter().copied().collect();
        for conn in live {
            for way in 0..2 {
                self.let_go(now, conn, way, queue);
            }
            self.look(now, conn, queue);
        }
    }

    /// What was held on a way of a connection may go on, if nothing else is in its way.
    fn let_go(&mut self, now: Nanos, conn: ConnIndex, way: u8, queue: &mut Queue) {
        if !self.is_blocked(conn, way) {
            self.conns[conn as usize].ways[usize::from(way)].release(now, conn, way, queue);
        }
    }

    /// Whether an end has been silent since it was noted with this count.
    pub fn is_idle(&self, conn: ConnIndex, end: u8, count: u32) -> bool {
        let end = self.end(conn, end);
        end.open && end.quiet && end.quiet_count == count
    }

    fn look(&mut self, now: Nanos, conn: ConnIndex, queue: &mut Queue) {
        let dead = self.is_blocked(conn, 0) || self.is_blocked(conn, 1);
        let Conn { ends, idle, via, .. } = &mut self.conns[conn as usize];
        let stopped = ends.iter().any(|end| !end.open || self.paused[usize::from(end.board)])
            || via.is_some_and(|via| self.paused[usize::from(via)]);
        for (number, end) in (0..).zip(ends) {
            let quiet = dead || stopped;
            if quiet == end.quiet {
                continue;
            }
            end.quiet = quiet;
            end.quiet_count += 1;
            if quiet && end.open {
                let at = now + IDLE_TIMEOUT + idle.below(IDLE_SPREAD);
                queue.push(at, Due::Idle(conn, number, end.quiet_count));
            }
        }
    }

    fn is_blocked(&self, conn: ConnIndex, way: u8) -> bool {
        let conn = &self.conns[conn as usize];
        conn.lost
            || conn.hops(way).any(|(from, to)| {
                self.is_cut(from, to)
                    || self.weather.is_clogged(from, to)
                    || !self.powered[usize::from(to)]
            })
            || conn.via.is_some_and(|via| self.paused[usize::from(via)])
    }

    fn is_clogged(&self, conn: ConnIndex) -> bool {
        let mut hops = self.conns[conn as usize].hops(0);
        hops.any(|(a, b)| self.weather.is_clogged(a, b))
    }

    /// A middlebox forgets a connection: nothing passes over it any more, and nobody is told.
    pub fn lose(&mut self, now: Nanos, conn: ConnIndex, queue: &mut Queue) {
        self.conns[conn as usize].lost = true;
        self.look(now, conn, queue);
    }

    /// Whether a middlebox has forgotten a connection.
    pub fn is_lost(&self, conn: ConnIndex) -> bool {
        self.conns[conn as usize].lost
    }

    fn base(&self, a: BoardIndex, b: BoardIndex) -> Nanos {
        self.distance[usize::from(a)] + self.distance[usize::from(b)]
    }
}

impl Way {
    /// How often the unluckiest segment of the next message is lost.
    fn worst_losses(&self, percent: u64, bytes: usize, lost: &mut u64) -> u64 {
        let segments = 1 + (bytes / SEGMENT_BYTES) as u64;
        let mut worst = 0;
        for segment in 0..segments {
            let first = (self.sent << 16) | (segment * LOSSES_MAX);
            let is_lost = |attempt: &u64| self.loss.at(first + attempt) % 100 < percent;
            let losses = (0..LOSSES_MAX).take_while(is_lost).count() as u64;
            *lost += losses;
            worst = worst.max(losses);
        }
        worst
    }

    /// The way is free again: the first segment's next retransmission gets through, and what waits
    /// behind it comes along.
    fn release(&mut self, now: Nanos, conn: ConnIndex, number: u8, queue: &mut Queue) {
        if !self.held {
            return;
        }
        self.held = false;
        let queued = std::mem::take(&mut self.queued);
        let Some(first) = self.queue.front() else { return };
        let mut wait = RTO_MIN.max(4 * self.base);
        let mut attempt = first.sent + wait;
        while attempt < now {
            wait = (2 * wait).min(RTO_MAX);
            attempt += wait;
        }
        if queued {
            attempt = now;
        }
        let at = attempt + self.base;
        for segment in &mut self.queue {
            segment.at = segment.at.max(at);
        }
        self.clear_at = self.clear_at.max(at);
        queue.push(at, Due::Arrive(conn, number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes() -> [(BoardIndex, NodeId); 2] {
        [0, 1].map(|board| (board, hedgerow::proto::id::PublicKey([board as u8; 32])))
    }

    fn net(loss: u64) -> (Net, ConnIndex, Queue) {
        let mut net = Net::new(3, LinkLaw::Wan, loss, 2);
        net.powered = vec![true; 2];
        let [a, b] = nodes();
        let conn = net.connect(a, b, None);
        (net, conn, Queue::default())
    }

    /// Lets everything arrive until `end`: (when, which).
    fn arrivals(net: &mut Net, queue: &mut Queue, end: Nanos) -> Vec<(Nanos, u8)> {
        let mut seen = Vec::new();
        while let Some((at, due)) = queue.pop(end) {
            let Due::Arrive(conn, way) = due else { continue };
            if let Arrival::Load(Load::Frame(frame)) = net.arrive(at, conn, way, queue) {
                seen.push((at, frame[0]));
            }
        }
        seen
    }

    #[test]
    fn loss_delays_and_never_reorders_nor_drops() {
        let (mut net, conn, mut queue) = net(20);
        for n in 0..200 {
            net.send(u64::from(n) * 10 * MILLI, conn, 0, Load::Frame(vec![n]), &mut queue);
        }
        let seen = arrivals(&mut net, &mut queue, Nanos::MAX);
        assert!(seen.iter().map(|(_, n)| *n).eq(0..200));
        assert!(seen.is_sorted_by_key(|(at, _)| *at));
        assert!(net.lost > 20, "{} lost", net.lost);
        let late = seen.iter().filter(|(at, n)| at - u64::from(*n) * 10 * MILLI > RTO_MIN).count();
        assert!(late > 20, "{late} late");
    }

    #[test]
    fn a_cut_holds_messages_back_and_a_retransmission_delivers_them_after_it_heals() {
        let (mut net, conn, mut queue) = net(0);
        net.cut(0, 1, true);
        net.changed(0, &mut queue);
        net.send(0, conn, 0, Load::Frame(vec![1]), &mut queue);
        net.send(MILLI, conn, 0, Load::Frame(vec![2]), &mut queue);
        net.send(MILLI, conn, 1, Load::Frame(vec![3]), &mut queue);
        let seen = arrivals(&mut net, &mut queue, 5 * SECOND);
        assert_eq!(seen.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [3], "the other way is open");
        net.cut(0, 1, false);
        net.changed(5 * SECOND, &mut queue);
        let seen = arrivals(&mut net, &mut queue, 12 * SECOND);
        assert_eq!(seen.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [1, 2]);
        assert!(seen[0].0 > 5 * SECOND + net.base(0, 1));
    }

    #[test]
    fn an_end_that_hears_again_in_time_is_not_idle() {
        let (mut net, conn, mut queue) = net(0);
        let idle = |net: &Net, queue: &mut Queue, end| {
            let mut ends = Vec::new();
            while let Some((at, due)) = queue.pop(end) {
                if let Due::Idle(conn, end, count) = due
                    && net.is_idle(conn, end, count)
                {
                    ends.push((at / SECOND, end));
                }
            }
            ends
        };
        net.paused[1] = true;
        net.changed(0, &mut queue);
        net.paused[1] = false;
        net.changed(14 * SECOND, &mut queue);
        assert_eq!(idle(&net, &mut queue, 30 * SECOND), []);
        net.powered[1] = false;
        net.changed(30 * SECOND, &mut queue);
        let both = idle(&net, &mut queue, 60 * SECOND);
        assert_eq!(both.len(), 2, "{conn}: {both:?}");
        assert!(both.iter().all(|(at, _)| (45..=48).contains(at)), "{both:?}");
    }
}
