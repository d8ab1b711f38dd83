//! True time, and each board's own idea of it.
//!
//! The world counts true nanoseconds from 0. A board's lease clock is a crystal: it runs up to 1 % too
//! fast or too slow and starts anywhere; a fault may change its rate, never make it jump back. Its
//! wall clock is some seconds off. A node is only ever told its board's clocks.

use core::fmt;

use hedgerow::proto::effective_time::BUILD_UNIX;
use hedgerow::proto::machine::Time;

/// True time or a length of it, nanoseconds.
pub type Nanos = u64;
/// One millisecond.
pub const MILLI: Nanos = 1_000_000;
/// One second.
pub const SECOND: Nanos = 1_000_000_000;
/// The bound on a crystal's error that the protocol assumes, parts per million.
pub const PPM_MAX: i32 = 10_000;

/// Unix seconds at true time 0: a day after this version was made.
const WALL_START: u64 = BUILD_UNIX + 86_400;

/// One board's clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    true_base: Nanos,
    local_base: u64,
    ppm: i32,
    wall_error: i64,
}

impl Clock {
    /// A crystal that shows `local` at true time `now` and errs by `ppm`; `wall_error` in seconds.
    pub fn new(now: Nanos, local: u64, ppm: i32, wall_error: i64) -> Self {
        Self { true_base: now, local_base: local, ppm, wall_error }
    }

    /// What the board's lease clock shows at true time `now`.
    pub fn local(&self, now: Nanos) -> Time {
        Time(self.local_base + self.advance(now.saturating_sub(self.true_base)))
    }

    /// The first true time at which the lease clock shows at least `local`.
    pub fn when(&self, local: Time) -> Nanos {
        if local == Time::NEVER {
            return Nanos::MAX;
        }
        let Some(wanted) = local.0.checked_sub(self.local_base) else { return self.true_base };
        // A first guess by the inverse rate, then the exact answer, at most a few steps away.
        let ppm = i128::from(self.ppm);
        let guess = i128::from(wanted) * 1_000_000 / (1_000_000 + ppm);
        let mut since = u64::try_from(guess).unwrap_or(0);
        while self.advance(since) < wanted {
            since += 1;
        }
        while since > 0 && self.advance(since - 1) >= wanted {
            since -= 1;
        }
        self.true_base.saturating_add(since)
    }

    /// The board's rate, parts per million too fast.
    pub fn ppm(&self) -> i32 {
        self.ppm
    }

    /// From `now` on the crystal errs by `ppm`. What it shows does not jump.
    pub fn set_ppm(&mut self, now: Nanos, ppm: i32) {
        self.local_base = self.local(now).0;
        self.true_base = now;
        self.ppm = ppm;
    }

    /// What the board's wall clock shows, unix seconds.
    pub fn wall(&self, now: Nanos) -> u64 {
        (WALL_START + now / SECOND).saturating_add_signed(self.wall_error)
    }

    /// Somebody sets the wall clock by so many seconds.
    pub fn jump_wall(&mut self, seconds: i64) {
        self.wall_error = self.wall_error.saturating_add(seconds);
    }

    /// Somebody sets the wall clock right.
    pub fn set_right(&mut self) {
        self.wall_error = 0;
    }

    fn advance(&self, since: Nanos) -> u64 {
        // |ppm| ≤ 10,000, so this holds for ten days.
        let error = since as i64 * i64::from(self.ppm) / 1_000_000;
        since.saturating_add_signed(error)
    }
}

/// The wall clock of a board without error, unix seconds.
pub fn wall(now: Nanos) -> u64 {
    WALL_START + now / SECOND
}

/// Seconds with milliseconds, for people.
#[derive(Clone, Copy)]
pub struct Seconds(pub Nanos);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:03}", self.0 / SECOND, self.0 % SECOND / MILLI);
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inverse_of_a_clock_is_exact_at_every_rate() {
        for ppm in [-PPM_MAX, -333, 0, 1, 7777, PPM_MAX] {
            let clock = Clock::new(5 * SECOND, 77, ppm, 0);
            for local in [78, 1_000_003, 3600 * SECOND + 1, 86_400 * SECOND + 77] {
                let when = clock.when(Time(local));
                assert!(clock.local(when) >= Time(local), "{ppm} {local}");
                assert!(clock.local(when - 1) < Time(local), "{ppm} {local}");
            }
        }
    }

    #[test]
    fn a_change_of_rate_is_no_jump() {
        let mut clock = Clock::new(0, 1000, PPM_MAX, 0);
        let before = clock.local(60 * SECOND);
        clock.set_ppm(60 * SECOND, -PPM_MAX);
        assert_eq!(clock.local(60 * SECOND), before);
        assert_eq!(clock.local(61 * SECOND).since(before).as_nanos(), 990_000_000);
    }
}
