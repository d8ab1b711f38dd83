//! Leases and promises: the one place with that arithmetic.
//!
//! A lease is held on somebody else's word. The holder counts it from when it *sent* the request that
//! was granted, the grantor keeps its promise from when it *received* it, and for longer by as much
//! as two clocks can drift apart while it runs (Gray and Cheriton, SOSP 1989, section 2). So on no
//! clock does the holder believe longer than the grantor keeps quiet.
//!
//! ```text
//! holder   sent ├──────────── L ───────────┤ stops believing
//! grantor       └▶ received ├──── L (1+ρ)/(1−ρ) ────┤ may promise to another
//! ```

use core::time::Duration;

use super::machine::Time;

/// How far the rate of a board's clock may be off, parts per thousand. Crystals stay under 0.1; this
/// leaves room for heat and for a bad one.
pub const CLOCK_DRIFT_PERMILLE: u32 = 10;
/// The longest lease that a node promises, whatever a peer asks for.
pub const LEASE_MAX: Duration = Duration::from_secs(60);

/// Timing of leases. All boards may differ: a grantor promises what the holder asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Preset {
    /// How it is called in configuration and status.
    pub name: &'static str,
    /// h: between two renewals of a lease.
    pub heartbeat: Duration,
    /// L: how long a lease lasts; also the silence after which a takeover starts.
    pub lease: Duration,
    /// t: grace that a standby adds to L before it asks to take over.
    pub grace: Duration,
    /// D: how long killing a service may take.
    pub kill_bound: Duration,
    /// How long a voter may be down before another takes its place.
    pub voter_grace: Duration,
}

impl Preset {
    /// How long a board may stall without its services being fenced: L − D − 3h.
    pub fn stall_max(&self) -> Duration {
        self.lease.saturating_sub(self.kill_bound + self.heartbeat * 3)
    }
}

impl Preset {
    /// Measured, unrelayed LAN paths (round trip p99 under 20 ms) and boards that never stall for
    /// more than 0.55 s.
    pub const LAN: Self = Self {
        name: "lan",
        heartbeat: Duration::from_millis(250),
        lease: Duration::from_millis(1500),
        grace: Duration::from_millis(300),
        kill_bound: Duration::from_millis(200),
        voter_grace: Duration::from_secs(10),
    };
    /// Boards on SD cards: their processes stall.
    pub const SD: Self = Self {
        name: "sd",
        heartbeat: Duration::from_millis(500),
        lease: Duration::from_secs(3),
        grace: Duration::from_millis(500),
        kill_bound: Duration::from_millis(300),
        voter_grace: Duration::from_secs(60),
    };
    /// Everything else.
    pub const WAN: Self = Self {
        name: "wan",
        heartbeat: Duration::from_secs(1),
        lease: Duration::from_secs(5),
        grace: Duration::from_secs(1),
        kill_bound: Duration::from_millis(500),
        voter_grace: Duration::from_secs(60),
    };

    /// The preset of that name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::LAN, Self::SD, Self::WAN].into_iter().find(|preset| preset.name == name)
    }
}

/// P: how long a grantor keeps a promise about a lease of length `lease`, on its own clock.
pub fn promised(lease: Duration) -> Duration {
    let drift = u128::from(CLOCK_DRIFT_PERMILLE);
    let nanos = lease.min(LEASE_MAX).as_nanos() * (1000 + drift);
    let nanos = nanos.div_ceil(1000 - drift);
    Duration::from_nanos(u64::try_from(nanos).expect("at most 62 seconds"))
}

/// How long a grant may last that is nested in a lease with that much left, so that on no holder's
/// clock it outlives the lease.
pub fn nested(left: Duration) -> Duration {
    let drift = u128::from(CLOCK_DRIFT_PERMILLE);
    let nanos = left.min(LEASE_MAX).as_nanos() * (1000 - drift) / (1000 + drift);
    Duration::from_nanos(u64::try_from(nanos).expect("less than a minute"))
}

/// A grantor's side: it has promised something to nobody else before `until`. Only ever extended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Promise {
    until: Time,
}

impl Promise {
    /// Promises a lease of that length to a request received now.
    pub fn extend(&mut self, now: Time, lease: Duration) {
        self.until = self.until.max(now + promised(lease));
    }

    /// Keeps quiet at least until then: what was issued under an earlier role still holds (S2), or
    /// this node has restarted and does not remember what it promised.
    pub fn hold_until(&mut self, until: Time) {
        self.until = self.until.max(until);
    }

    /// Whether the promise still binds.
    pub fn binds(&self, now: Time) -> bool {
        now < self.until
    }

    /// When it ends.
    pub fn until(&self) -> Time {
        self.until
    }
}

/// A holder's side: the end of a lease that enough grantors have confirmed.
///
/// `sent` holds, for each voter of one configuration, when the newest request was sent that it has
/// answered. The lease ends `lease` after the newest instant that a majority has answered.
pub fn lease_end(sent: &mut [Option<Time>], lease: Duration) -> Option<Time> {
    if sent.is_empty() {
        return None;
    }
    sent.sort_unstable_by(|a, b| b.cmp(a));
    sent[sent.len() / 2].map(|at| at + lease)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// With any two clocks inside the bound, any delay and any length: the holder has stopped
        /// believing, in true time, before the grantor is free.
        #[test]
        fn a_promise_outlives_its_lease_on_any_two_clocks(
            lease_ms in 100_u64..60_000,
            delay_us in 0_u64..10_000_000,
            holder_ppm in -10_000_i64..=10_000,
            grantor_ppm in -10_000_i64..=10_000,
        ) {
            let lease = Duration::from_millis(lease_ms);
            // True nanoseconds from the holder's sending to the end of both sides' belief.
            let truly = |local: u128, ppm: i64| local * 1_000_000 / (1_000_000 + i128::from(ppm)) as u128;
            let holder_stops = truly(lease.as_nanos(), holder_ppm);
            let mut promise = Promise::default();
            promise.extend(Time(0), lease);
            let grantor_free = u128::from(delay_us) * 1000 + truly(u128::from(promise.until().0), grantor_ppm);
            prop_assert!(holder_stops <= grantor_free + 1);
        }

        /// The lease never rests on fewer than a majority.
        #[test]
        fn a_lease_needs_a_majority(answers in prop::collection::vec(prop::option::of(0_u64..1000), 1..8)) {
            let lease = Duration::from_nanos(50);
            let mut sent: Vec<Option<Time>> = answers.iter().map(|a| a.map(Time)).collect();
            if let Some(end) = lease_end(&mut sent, lease) {
                let support = answers.iter().flatten().filter(|at| **at + 50 >= end.0).count();
                prop_assert!(support * 2 > answers.len());
            } else {
                prop_assert!(answers.iter().flatten().count() * 2 <= answers.len());
            }
        }
    }

    #[test]
    fn a_promise_is_never_shortened() {
        let mut promise = Promise::default();
        promise.extend(Time(1_000_000_000), Duration::from_secs(5));
        let until = promise.until();
        promise.extend(Time(2_000_000_000), Duration::from_secs(1));
        assert_eq!(promise.until(), until);
    }

    #[test]
    fn each_preset_is_found_by_its_name() {
        for preset in [Preset::LAN, Preset::SD, Preset::WAN] {
            assert_eq!(Preset::named(preset.name), Some(preset));
        }
        assert_eq!(Preset::named("dsl"), None);
        assert_eq!(Preset::LAN.stall_max(), Duration::from_millis(550));
    }

    proptest! {
        /// What is nested in a lease is promised for no longer than that lease lasts on any other clock.
        #[test]
        fn what_is_nested_in_a_lease_ends_with_it_and_hardly_sooner(left_ms in 1_u64..60_000) {
            let left = Duration::from_millis(left_ms);
            prop_assert!(promised(nested(left)) <= left + Duration::from_nanos(2));
            prop_assert!(promised(nested(left)) * 100 > left * 99);
        }
    }

    #[test]
    fn a_promise_binds_until_its_end_and_not_at_it() {
        let mut promise = Promise::default();
        promise.hold_until(Time(50));
        assert!(promise.binds(Time(49)) && !promise.binds(Time(50)));
        promise.hold_until(Time(40));
        assert_eq!(promise.until(), Time(50));
    }
}
