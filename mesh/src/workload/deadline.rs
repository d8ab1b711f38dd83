//! The arithmetic of the deadline, without clocks and processes.
//!
//! `until` is the instant from which nothing of the service may run; killing begins at
//! `until - D`. See the module above for the exact words.

use super::instance::Mode;
use super::wire::{LEASE_NS_MAX, Refusal};

/// The deadline of one run.
#[derive(Debug)]
pub(crate) struct Deadline {
    kill_bound_ns: u64,
    mode: Mode,
    until: Option<u64>,
    expired: bool,
    broken: bool,
}

/// What an expiry asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// Kill everything.
    Fence {
        /// The deadline that ran out.
        until: u64,
    },
    /// Say so and go on.
    Isolate {
        /// The deadline that ran out.
        until: u64,
    },
}

impl Deadline {
    pub(crate) fn new(kill_bound_ns: u64, mode: Mode) -> Self {
        Self { kill_bound_ns, mode, until: None, expired: false, broken: false }
    }

    /// Moves the deadline to `until`, unless it is there or further already. Returns the one in
    /// force.
    ///
    /// A fenced service stays fenced. Otherwise only the new deadline counts, not when it is read:
    /// the grant behind it held all the time, even if this shim was kept from reading it.
    pub(crate) fn extend(&mut self, now: u64, until: u64) -> Result<u64, Refusal> {
        if until > now.saturating_add(LEASE_NS_MAX) {
            return Err(Refusal::TooFar { max_ns: LEASE_NS_MAX });
        }
        let fenced = self.expired && self.mode == Mode::Fence;
        let old = self.until.unwrap_or(0);
        let in_force = if fenced { old } else { old.max(until) };
        if self.late(now, in_force) {
            let by_ns = now - in_force.saturating_sub(self.kill_bound_ns);
            return Err(Refusal::DeadlinePassed { by_ns });
        }
        self.expired = false;
        self.until = Some(in_force);
        Ok(in_force)
    }

    pub(crate) fn until(&self) -> Option<u64> {
        self.until
    }

    /// The instant at which killing begins.
    pub(crate) fn run_until(&self) -> Option<u64> {
        self.until.map(|until| until.saturating_sub(self.kill_bound_ns))
    }

    /// Whether it ran out in a `keep-running` service.
    pub(crate) fn isolated(&self) -> bool {
        self.expired && self.mode == Mode::KeepRunning
    }

    /// Whether the deadline has just run out. Says so once.
    pub(crate) fn expire(&mut self, now: u64) -> Option<Expiry> {
        let until = self.until?;
        if self.expired || !self.late(now, until) {
            return None;
        }
        self.expired = true;
        Some(match self.mode {
            Mode::Fence => Expiry::Fence { until },
            Mode::KeepRunning => Expiry::Isolate { until },
        })
    }

    /// Whether a service that is not confirmed dead breaks the bound, and by how much. Says so once.
    pub(crate) fn breaks_bound(&mut self, now: u64) -> Option<u64> {
        let by = self.overdue(now)?;
        if self.broken {
            return None;
        }
        self.broken = true;
        Some(by)
    }

    /// How long after `until` it is.
    pub(crate) fn overdue(&self, now: u64) -> Option<u64> {
        let until = self.until.filter(|until| self.mode == Mode::Fence && now >= *until)?;
        Some(now - until)
    }

    /// When to look again, while the service lives.
    pub(crate) fn next(&self) -> Option<u64> {
        match (self.expired, self.broken) {
            (false, _) => self.run_until(),
            (true, false) if self.mode == Mode::Fence => self.until,
            (true, _) => None,
        }
    }

    /// Whether a wake-up that was late by this much puts the bound at risk.
    pub(crate) fn is_late_wake(&self, late_ns: u64) -> bool {
        late_ns > self.kill_bound_ns / 2
    }

    fn late(&self, now: u64, until: u64) -> bool {
        now >= until.saturating_sub(self.kill_bound_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: u64 = 200;

    fn running(mode: Mode) -> Deadline {
        let mut deadline = Deadline::new(D, mode);
        assert_eq!(deadline.extend(1_000, 2_000), Ok(2_000));
        deadline
    }

    #[test]
    fn it_runs_out_d_before_until_and_says_so_once() {
        let mut deadline = running(Mode::Fence);
        assert_eq!(deadline.next(), Some(1_800));
        assert_eq!(deadline.expire(1_799), None);
        assert_eq!(deadline.expire(1_800), Some(Expiry::Fence { until: 2_000 }));
        assert_eq!(deadline.expire(1_801), None);
        assert_eq!(deadline.next(), Some(2_000), "then looks whether the kill is confirmed");
    }

    #[test]
    fn an_earlier_deadline_leaves_the_later_one_in_force() {
        let mut deadline = running(Mode::Fence);
        assert_eq!(deadline.extend(1_100, 1_900), Ok(2_000));
        assert_eq!(deadline.extend(1_100, 0), Ok(2_000));
        assert_eq!(deadline.extend(1_100, 2_500), Ok(2_500));
    }

    #[test]
    fn an_extension_that_is_read_late_counts_until_the_service_is_fenced() {
        let mut deadline = running(Mode::Fence);
        assert_eq!(deadline.extend(1_850, 3_000), Ok(3_000));
        assert!(deadline.expire(2_850).is_some());
        let refused = deadline.extend(2_860, 9_000);
        assert_eq!(refused, Err(Refusal::DeadlinePassed { by_ns: 60 }));
        assert_eq!(deadline.until(), Some(3_000));
    }

    #[test]
    fn nothing_starts_within_d_of_until() {
        let mut deadline = Deadline::new(D, Mode::KeepRunning);
        let refused = deadline.extend(1_900, 2_000);
        assert_eq!(refused, Err(Refusal::DeadlinePassed { by_ns: 100 }));
        assert_eq!(deadline.until(), None);
    }

    #[test]
    fn a_deadline_of_another_boot_is_refused() {
        let mut deadline = Deadline::new(D, Mode::Fence);
        let refused = deadline.extend(1_000, u64::MAX);
        assert_eq!(refused, Err(Refusal::TooFar { max_ns: LEASE_NS_MAX }));
    }

    #[test]
    fn the_bound_is_broken_at_until_and_only_once() {
        let mut deadline = running(Mode::Fence);
        assert!(deadline.expire(1_800).is_some());
        assert_eq!(deadline.breaks_bound(1_999), None);
        assert_eq!(deadline.breaks_bound(2_030), Some(30));
        assert_eq!(deadline.breaks_bound(2_031), None);
        assert_eq!(deadline.overdue(2_040), Some(40), "how long it took in the end is still known");
    }

    #[test]
    fn keep_running_is_isolated_and_comes_back() {
        let mut deadline = running(Mode::KeepRunning);
        assert_eq!(deadline.expire(5_000), Some(Expiry::Isolate { until: 2_000 }));
        assert!(deadline.isolated());
        assert_eq!((deadline.next(), deadline.breaks_bound(6_000)), (None, None));
        assert_eq!(deadline.extend(6_000, 7_000), Ok(7_000));
        assert!(!deadline.isolated());
        assert!(deadline.expire(6_800).is_some());
    }
}
