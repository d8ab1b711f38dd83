//! The machine contract: how the pure core is driven, by the driver and by netsim alike.
//!
//! The core is sans-IO: it owns no clock, no socket, no file and no source of randomness. Whoever
//! drives it calls [`Node::handle_input`] for whatever happened, [`Node::handle_timeout`] when
//! [`Node::poll_timeout`] is due, and carries out the [`Effects`], in order.
//!
//! 1. State depends only on the constructor's arguments and the calls. `now` never goes back.
//! 2. A spurious `handle_timeout` is a no-op; afterwards `poll_timeout` is later than `now`.
//! 3. No input from a peer can panic; a peer's misbehaviour is an [`Event`], never a `Result`.
//! 4. Work and effects per call are bounded. Every collection that peers feed has a named limit.
//! 5. Nothing promised to a peer leaves before its `Persisted`. A failed fsync stops the node.
//! 6. Randomness comes from a ChaCha8 stream of the seed. No `HashMap` iteration, no floats.
//! 7. Concrete types; no type parameters on `Node`.
//! 8. Chunks never pass through `Node`: it decides what comes from whom.
//!
//! [`Node::handle_input`]: super::node::Node::handle_input
//! [`Node::handle_timeout`]: super::node::Node::handle_timeout
//! [`Node::poll_timeout`]: super::node::Node::poll_timeout
//! [`Event`]: super::io::Event

use core::fmt;
use core::ops::{Add, Sub};
use core::time::Duration;

use super::io::Effect;

/// A point on this board's lease clock, in nanoseconds since an arbitrary start.
///
/// `CLOCK_MONOTONIC_RAW + (CLOCK_BOOTTIME - CLOCK_MONOTONIC)`, clamped monotonic: the rate of the
/// crystal (NTP may slew `CLOCK_BOOTTIME` by per cents), counting suspend. It says nothing about the
/// time of day and is never sent to another board.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(pub u64);

impl Time {
    /// Later than any deadline: five centuries away.
    pub const NEVER: Self = Self(u64::MAX);

    /// The time that has passed since `earlier`, zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

impl Sub<Duration> for Time {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(nanos))
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NEVER {
            return f.write_str("never");
        }
        write!(f, "{}.{:09}s", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

/// When the node next wants to be called, and why (for the timeline and for debugging).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeout {
    /// Call `handle_timeout` at this time or soon after.
    pub at: Time,
    /// What will be done then.
    pub reason: &'static str,
}

impl Timeout {
    /// The earlier of two optional timeouts.
    pub fn earlier(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        match (a, b) {
            (Some(a), Some(b)) => Some(if b.at < a.at { b } else { a }),
            (a, b) => a.or(b),
        }
    }
}

/// What one call asks its driver to do, in order.
#[derive(Default, Debug)]
pub struct Effects(Vec<Effect>);

impl Effects {
    /// Asks for one more thing.
    pub fn push(&mut self, effect: Effect) {
        self.0.push(effect);
    }

    /// Takes all effects out, in order, leaving the buffer (and its capacity) for the next call.
    pub fn drain(&mut self) -> impl Iterator<Item = Effect> + '_ {
        self.0.drain(..)
    }

    /// The effects so far.
    pub fn as_slice(&self) -> &[Effect] {
        &self.0
    }
}
