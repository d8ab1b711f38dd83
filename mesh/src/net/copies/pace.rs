//! How much of a transfer may be on its way.
//!
//! Chunks share a connection with heartbeats, and whatever a queue between the two boards holds, a
//! heartbeat has to wait for. So the window follows the delay that this transfer itself causes, as
//! LEDBAT does (RFC 6817): the time from sending bytes until the peer says that it has consumed them,
//! above the least such time seen lately. Below half of [`TARGET_NS`] the window grows, doubling each round
//! until the delay first shows; above [`TARGET_NS`] it shrinks at once to what would have met it.
//!
//! Pure: the caller says what time it is. A disk that is slow at the other end looks like a slow
//! network, and that is right: it gets less.

use std::collections::VecDeque;

/// Least bytes on their way: about 100 ms at 5 Mbit/s.
pub(super) const WINDOW_BYTES_MIN: u64 = 64 << 10;
/// Most bytes on their way.
pub(super) const WINDOW_BYTES_MAX: u64 = 4 << 20;
/// What a transfer may add to the time that others on the same connection wait. Nanoseconds.
const TARGET_NS: u64 = 50_000_000;
/// The least time is forgotten after one to two of these: a route may have changed. Nanoseconds.
const BASE_KEPT_NS: u64 = 30_000_000_000;
/// What the window grows by in a round trip, once it has met its limit.
const GROWTH_BYTES: u64 = 32 << 10;

/// The window of one stream. It outlives a transfer: the next one begins with what was learnt.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    window: u64,
    sent: u64,
    consumed: u64,
    /// Where each piece ends, and when it was sent.
    pieces: VecDeque<(u64, u64)>,
    /// The least times of the present and of the former stretch, and when the present one began.
    least_ns: [u64; 2],
    least_since_ns: u64,
    /// No limit has been met yet.
    doubling: bool,
    /// Bytes sent before this mark say nothing about the window as it is now.
    shrunk_at: u64,
}

/// The peer says that it consumed what was never sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TooMuch;

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            window: WINDOW_BYTES_MIN,
            sent: 0,
            consumed: 0,
            pieces: VecDeque::new(),
            least_ns: [u64::MAX; 2],
            least_since_ns: 0,
            doubling: true,
            shrunk_at: 0,
        }
    }

    /// Another transfer begins on the same stream.
    pub(super) fn begin(&mut self) {
        (self.sent, self.consumed, self.shrunk_at) = (0, 0, 0);
        self.pieces.clear();
    }

    /// Bytes that may be sent now.
    pub(super) fn room(&self) -> u64 {
        self.window.saturating_sub(self.sent - self.consumed)
    }

    /// Bytes that may be on their way at most.
    pub(super) fn window(&self) -> u64 {
        self.window
    }

    /// Bytes sent so far.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// So many bytes leave now.
    pub(super) fn on_sent(&mut self, bytes: u64, now_ns: u64) {
        self.sent += bytes;
        self.pieces.push_back((self.sent, now_ns));
    }

    /// The peer has consumed `total` bytes of this transfer.
    pub(super) fn on_consumed(&mut self, total: u64, now_ns: u64) -> Result<(), TooMuch> {
        if total > self.sent {
            return Err(TooMuch);
        }
        let fresh = total.saturating_sub(self.consumed);
        // Whether the window, and not the lack of anything to send, was what held this back.
        let was_full = self.room() < WINDOW_BYTES_MIN / 4;
        self.consumed = self.consumed.max(total);
        let mut newest = None;
        while let Some((end, at)) = self.pieces.front().copied()
            && end <= total
        {
            newest = Some((end, at));
            self.pieces.pop_front();
        }
        if let Some((end, at)) = newest {
            self.learn(end, fresh, now_ns.saturating_sub(at), now_ns, was_full);
        }
        Ok(())
    }

    fn learn(&mut self, end: u64, fresh: u64, took_ns: u64, now_ns: u64, was_full: bool) {
        if now_ns.saturating_sub(self.least_since_ns) > BASE_KEPT_NS {
            self.least_ns = [u64::MAX, self.least_ns[0]];
            self.least_since_ns = now_ns;
        }
        self.least_ns[0] = self.least_ns[0].min(took_ns);
        let least_ns = self.least_ns[0].min(self.least_ns[1]);
        let delay_ns = took_ns - least_ns;
        if delay_ns > TARGET_NS {
            self.doubling = false;
            // Once for each window: what was sent before cannot know of it.
            if end > self.shrunk_at {
                self.shrunk_at = self.sent;
                let fits = u128::from(self.window) * u128::from(least_ns + TARGET_NS);
                self.window = u64::try_from(fits / u128::from(took_ns.max(1))).unwrap_or(u64::MAX);
            }
        } else if delay_ns < TARGET_NS / 2 && was_full {
            self.window += match self.doubling {
                true => fresh,
                false => fresh.saturating_mul(GROWTH_BYTES) / self.window.max(1) + 1,
            };
        }
        self.window = self.window.clamp(WINDOW_BYTES_MIN, WINDOW_BYTES_MAX);
    }
}
