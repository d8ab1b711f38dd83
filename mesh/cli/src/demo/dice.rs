//! Chance from a printed seed, so that a run can be repeated.

use std::time::Duration;

/// splitmix64 (Steele, Lea and Flood, OOPSLA 2014).
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    /// The same seed gives the same throws.
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of `count` things; 0 if there is none.
    pub(super) fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.next() % count.max(1) as u64).unwrap_or(0)
    }

    /// A time between two others, to the millisecond.
    pub(super) fn between(&mut self, from: Duration, to: Duration) -> Duration {
        let width = u64::try_from(to.saturating_sub(from).as_millis()).unwrap_or(u64::MAX);
        from + Duration::from_millis(self.next() % (width + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throws_stay_in_their_range_and_repeat() {
        let (mut one, mut two) = (Dice::new(7), Dice::new(7));
        let (from, to) = (Duration::from_millis(5), Duration::from_millis(9));
        for _ in 0..1000 {
            assert!((from..=to).contains(&one.between(from, to)));
            two.next();
            assert!(one.below(3) < 3);
            two.next();
        }
        assert_eq!(one.next(), two.next());
        assert_eq!(one.below(0), 0);
    }
}
