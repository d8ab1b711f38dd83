//! What makes packets late without losing them: detours, jitter, full queues, slow uplinks.
//!
//! All of it changes when a segment arrives, none of it whether. A clogged board's packets wait in a queue and
//! come at once when it empties, unlike those of a cut way, which must be sent again.

use crate::queue::BoardIndex;
use crate::time::{MILLI, Nanos, SECOND};

/// See the module.
#[derive(Debug)]
pub(crate) struct Weather {
    boards: usize,
    /// Added to each way.
    delays: Vec<Nanos>,
    /// Added to each packet, at most.
    jitter: Nanos,
    /// How many faults clog each board.
    clogs: Vec<u8>,
    uplinks: Vec<Option<Uplink>>,
}

/// A narrow way out of a board.
#[derive(Clone, Copy, Debug)]
struct Uplink {
    bytes_per_second: u64,
    /// When all that was sent so far has left.
    free_at: Nanos,
}

impl Weather {
    pub(super) fn fair(boards: usize) -> Self {
        Self {
            boards,
            delays: vec![0; boards * boards],
            jitter: 0,
            clogs: vec![0; boards],
            uplinks: vec![None; boards],
        }
    }

    /// Packets of a way take so much longer from now on, ns.
    pub(crate) fn delay(&mut self, from: BoardIndex, to: BoardIndex, by: Nanos) {
        self.delays[usize::from(from) * self.boards + usize::from(to)] = by;
    }

    /// Each packet takes up to so much longer, ns.
    pub(crate) fn jitter(&mut self, at_most: Nanos) {
        self.jitter = at_most;
    }

    /// One more fault clogs a board, or one fewer.
    pub(crate) fn clog(&mut self, board: BoardIndex, add: bool) {
        let clogs = &mut self.clogs[usize::from(board)];
        *clogs = if add { clogs.saturating_add(1) } else { clogs.saturating_sub(1) };
    }

    /// A board sends no more than so many bytes a second; none: as many as it wants.
    pub(crate) fn uplink(&mut self, board: BoardIndex, bytes_per_second: Option<u64>) {
        let uplink = &mut self.uplinks[usize::from(board)];
        // What waits in its queue goes on waiting.
        let free_at = uplink.map_or(0, |uplink| uplink.free_at);
        *uplink = bytes_per_second.map(|bytes| Uplink { bytes_per_second: bytes.max(1), free_at });
    }

    /// Whether packets between these two wait in a queue.
    pub(crate) fn is_clogged(&self, a: BoardIndex, b: BoardIndex) -> bool {
        self.clogs[usize::from(a)] > 0 || self.clogs[usize::from(b)] > 0
    }

    /// How much longer the way is, by 64 random bits.
    pub(crate) fn detour(&self, from: BoardIndex, to: BoardIndex, bits: u64) -> Nanos {
        let jitter = if self.jitter > 0 { bits % self.jitter } else { 0 };
        self.delays[usize::from(from) * self.boards + usize::from(to)] + jitter
    }

    /// How much longer a packet takes that leaves now, by 64 random bits.
    pub(crate) fn extra(
        &mut self,
        now: Nanos,
        (from, to): (BoardIndex, BoardIndex),
        bytes: usize,
        bits: u64,
    ) -> Nanos {
        let mut extra = self.detour(from, to, bits);
        if let Some(uplink) = &mut self.uplinks[usize::from(from)] {
            let takes = (bytes + HEADERS) as u64 * SECOND / uplink.bytes_per_second;
            // What a router's queue cannot hold is lost and comes again: it is no later for that.
            uplink.free_at = (uplink.free_at.max(now) + takes).min(now + QUEUE_MAX);
            extra += uplink.free_at - now;
        }
        extra
    }

    /// How long so many bytes take to leave a board at its present rate, ns.
    pub(crate) fn bulk(&self, from: BoardIndex, bytes: u64) -> Nanos {
        let uplink = self.uplinks[usize::from(from)];
        uplink.map_or(0, |uplink| bytes.saturating_mul(SECOND) / uplink.bytes_per_second)
    }
}

/// What UDP, QUIC and TLS add to a message, about.
const HEADERS: usize = 60;
/// The longest that a packet waits for an uplink.
const QUEUE_MAX: Nanos = 4000 * MILLI;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_uplink_carries_so_much_and_the_rest_waits_its_turn() {
        let mut weather = Weather::fair(2);
        weather.uplink(0, Some(1000));
        let extra = |weather: &mut Weather, now| weather.extra(now, (0, 1), 940, 0);
        assert_eq!(extra(&mut weather, 0), SECOND);
        assert_eq!(extra(&mut weather, 0), 2 * SECOND);
        assert_eq!(extra(&mut weather, 2 * SECOND), SECOND, "it was free again");
        assert_eq!(weather.extra(0, (1, 0), 940, 0), 0, "the other one's is wide");
        weather.uplink(0, None);
        assert_eq!(extra(&mut weather, 0), 0);
    }

    #[test]
    fn delay_and_jitter_are_each_ways_own() {
        let mut weather = Weather::fair(2);
        weather.delay(0, 1, 5);
        assert_eq!((weather.extra(0, (0, 1), 1, 9), weather.extra(0, (1, 0), 1, 9)), (5, 0));
        weather.jitter(4);
        assert_eq!((weather.extra(0, (0, 1), 1, 9), weather.extra(0, (1, 0), 1, 9)), (6, 1));
    }
}
