//! Effective time: a board without a battery-backed clock boots in 1970 and must still judge expiry.
//!
//! Effective time = max(the board's clock, the newest *signed* time seen, the time of this build).
//! Unsigned time from peers is never used. A clock that runs backwards is never an error.

use super::machine::Time;

/// Unix seconds at which this version was made: no board that runs it lives earlier.
pub const BUILD_UNIX: u64 = 1_795_219_200;

/// Keeps effective time between two readings of the board's clock.
#[derive(Clone, Copy, Debug)]
pub struct EffectiveTime {
    unix: u64,
    at: Time,
}

impl EffectiveTime {
    /// Before anything is known: the time of the build.
    pub fn new(now: Time) -> Self {
        Self { unix: BUILD_UNIX, at: now }
    }

    /// The board's clock shows this, or a root-signed document was made then.
    pub fn saw(&mut self, unix: u64, now: Time) {
        let held = self.unix_at(now);
        *self = Self { unix: held.max(unix), at: now };
    }

    /// Unix seconds, now.
    pub fn unix_at(&self, now: Time) -> u64 {
        self.unix.saturating_add(now.since(self.at).as_secs())
    }
}
