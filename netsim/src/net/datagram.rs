//! Datagrams: the other service on the same links.
//!
//! Distances, jitter and loss are those of the streams, but what is lost stays lost, nothing waits for
//! what was sent before it, and nobody is told. A message that needs several packets is lost with any of
//! them, as a fragmented UDP datagram is. Draws have streams of their own, keyed by (from, to), so
//! using datagrams reshuffles nothing else.
//!
//! Loss is independent, or it comes in bursts: the line of each board is good or bad for exponentially
//! distributed times, and a bad one loses everything (Gilbert, Bell System Technical Journal 39, 1960;
//! Elliott's extension would let some through). A datagram crosses two lines. Over a long time as many
//! are lost as without bursts.

use std::collections::BTreeMap;

use super::Net;
use crate::law;
use crate::queue::{BoardIndex, ConnIndex, Due, Queue};
use crate::seed::{Purpose, Stream};
use crate::time::Nanos;

/// A longer datagram is sent in pieces: what fits an Ethernet frame with room for a tunnel.
const PACKET_BYTES: usize = 1400;

/// What carries the messages of nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Carrier {
    /// One reliable stream per connection, as the real driver does.
    #[default]
    Streams,
    /// One datagram per message, sent once. Greetings still go over the stream: they are said once
    /// per connection, and no protocol repeats them.
    Datagrams,
}

/// Everything about datagrams that a network remembers.
#[derive(Debug, Default)]
pub(super) struct Datagrams {
    ways: BTreeMap<(BoardIndex, BoardIndex), Way>,
    /// On their way, by number; numbers are used again.
    flying: Vec<Option<Flying>>,
    free: Vec<u32>,
    /// How long a line is bad, in the mean; none if losses are independent.
    bad_mean: Option<Nanos>,
    lines: BTreeMap<BoardIndex, Line>,
}

/// Between a board and the middle of the network.
#[derive(Debug)]
struct Line {
    is_bad: bool,
    until: Nanos,
    changes: Stream,
}

/// From one board to another.
#[derive(Debug)]
struct Way {
    sent: u64,
    delay: Stream,
    loss: Stream,
}

#[derive(Debug)]
struct Flying {
    conn: ConnIndex,
    /// The end that it flies to.
    end: u8,
    frame: Vec<u8>,
}

impl Net {
    /// When a datagram of `bytes` bytes that leaves now arrives; none if it is lost.
    pub fn datagram(
        &mut self,
        now: Nanos,
        from: BoardIndex,
        to: BoardIndex,
        bytes: usize,
    ) -> Option<Nanos> {
        let seed = self.seed;
        let way = self.datagrams.ways.entry((from, to)).or_insert_with(|| {
            let who = u64::from(from) << 32 | u64::from(to) << 16;
            // Connections of a pair are counted from 1.
            let stream = |purpose| Stream::new(seed, purpose, who, 0);
            Way { sent: 0, delay: stream(Purpose::Delay), loss: stream(Purpose::Loss) }
        });
        way.sent += 1;
        let (nth, delay) = (way.sent, way.delay.at(way.sent));
        let packets = 1 + (bytes.saturating_sub(1) / PACKET_BYTES) as u64;
        let percent = self.loss_percent;
        let lost = match self.datagrams.bad_mean {
            _ if percent == 0 => 0,
            None => {
                let is_lost = |packet: &u64| way.loss.at(nth << 16 | packet) % 100 < percent;
                (0..packets).filter(is_lost).count() as u64
            }
            Some(mean) => {
                let bad = [from, to].map(|board| self.is_bad(now, board, mean));
                if bad.contains(&true) { packets } else { 0 }
            }
        };
        self.lost += lost;
        (lost == 0).then(|| now + self.one_way(from, to, delay))
    }

    /// From now on what is lost is lost in bursts of `bad_mean` in the mean; none: one by one.
    pub fn lose_in_bursts(&mut self, bad_mean: Option<Nanos>) {
        self.datagrams.bad_mean = bad_mean;
    }

    fn is_bad(&mut self, now: Nanos, board: BoardIndex, bad_mean: Nanos) -> bool {
        let (seed, percent) = (self.seed, self.loss_percent);
        let line = self.datagrams.lines.entry(board).or_insert_with(|| {
            let changes = Stream::new(seed, Purpose::Bursts, u64::from(board), 0);
            Line { is_bad: true, until: 0, changes }
        });
        while line.until <= now {
            // Both lines of a datagram are good in (100 - percent) of a hundred cases.
            let good_share = ((100 - percent.min(99)) as f64 / 100.0).sqrt();
            let good_mean = (bad_mean as f64 * good_share / (1.0 - good_share)) as Nanos;
            line.is_bad = !line.is_bad;
            let mean = if line.is_bad { bad_mean } else { good_mean };
            line.until += law::exponential(line.changes.bits(), mean).max(1);
        }
        line.is_bad
    }

    /// Sends a frame from an end of a connection as a datagram.
    pub(crate) fn post(
        &mut self,
        now: Nanos,
        conn: ConnIndex,
        end: u8,
        frame: Vec<u8>,
        queue: &mut Queue,
    ) {
        let from = self.end(conn, end).board;
        self.goes_out(now, from, self.hop(conn, end), queue);
        let mut at = now;
        for (from, to) in self.hops(conn, end) {
            let Some(arrives) = self.datagram(at, from, to, frame.len()) else { return };
            at = arrives;
        }
        let flying = Flying { conn, end: 1 - end, frame };
        let number = match self.datagrams.free.pop() {
            Some(number) => {
                self.datagrams.flying[number as usize] = Some(flying);
                number
            }
            None => {
                self.datagrams.flying.push(Some(flying));
                (self.datagrams.flying.len() - 1) as u32
            }
        };
        queue.push(at, Due::Datagram(number));
    }

    /// Takes a datagram that has arrived: the connection, the end, the frame. None if the way is cut.
    pub(crate) fn take_datagram(
        &mut self,
        now: Nanos,
        number: u32,
    ) -> Option<(ConnIndex, u8, Vec<u8>)> {
        let Flying { conn, end, frame } = self.datagrams.flying[number as usize].take()?;
        self.datagrams.free.push(number);
        let is_out = self.is_blocked(conn, 1 - end) || self.keeps_out(now, conn, 1 - end);
        (!is_out).then_some((conn, end, frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::law::LinkLaw;
    use crate::time::MILLI;

    fn arrivals(loss: u64, bytes: usize) -> Vec<Option<Nanos>> {
        let mut net = Net::new(3, LinkLaw::Wan, loss, 2);
        (0..1000).map(|n| net.datagram(n * 10 * MILLI, 0, 1, bytes)).collect()
    }

    #[test]
    fn so_many_of_a_hundred_are_lost_and_of_long_ones_more() {
        let lost = |bytes| arrivals(20, bytes).iter().filter(|at| at.is_none()).count();
        assert!((170..230).contains(&lost(100)), "{}", lost(100));
        // 1 - 0.8 ^ 3
        assert!((450..530).contains(&lost(3000)), "{}", lost(3000));
    }

    #[test]
    fn bursts_lose_as_many_but_together() {
        let mut net = Net::new(3, LinkLaw::Wan, 20, 2);
        net.lose_in_bursts(Some(300 * MILLI));
        let arrives: Vec<bool> =
            (0..200_000).map(|n| net.datagram(n * 10 * MILLI, 0, 1, 100).is_some()).collect();
        let lost = arrives.iter().filter(|arrives| !**arrives).count();
        assert!((36_000..44_000).contains(&lost), "{lost} of 200,000");
        let alone = arrives.windows(3).filter(|three| **three == [true, false, true]).count();
        assert!(alone < lost / 20, "{alone} of {lost} alone");
    }

    #[test]
    fn what_is_not_lost_takes_as_long_as_without_loss() {
        let (calm, lossy) = (arrivals(0, 100), arrivals(20, 100));
        assert!(calm.iter().all(Option::is_some));
        assert!(calm.iter().zip(&lossy).all(|(calm, lossy)| lossy.is_none() || calm == lossy));
        assert!(!calm.is_sorted(), "a later one may overtake");
    }
}
