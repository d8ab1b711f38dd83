//! How long things may take: computed from the timing of the leases, with slack for a busy computer.
//!
//! The figures are what the product needs when nothing disturbs it; [`SLACK`] times that is how long
//! the harness waits before it says that something did not hold.

use std::time::Duration;

use hedgerow::proto::promises::{Preset, promised};

/// A debug build on a computer that is busy with something else is that much slower.
const SLACK: u32 = 6;
/// Probes, the question to the other observers, and the wait for refutation.
const DETECTION: Duration = Duration::from_secs(8);
/// Starting a process, a few fsyncs, a few round trips.
const WORK: Duration = Duration::from_secs(2);

/// The bounds for one preset.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds(pub(super) Preset);

impl Bounds {
    /// Joining, leaving, an order: a matter of round trips.
    pub(super) fn work(self) -> Duration {
        (WORK * 2 + self.0.lease) * SLACK
    }

    /// Until everybody holds a dead board for dead.
    pub(super) fn detection(self) -> Duration {
        DETECTION * SLACK
    }

    /// Until a dead master is replaced.
    pub(super) fn election(self) -> Duration {
        (promised(self.0.lease) + WORK) * SLACK
    }

    /// From the death of an active, and perhaps of the master with it, to an answer of its standby.
    pub(super) fn takeover(self) -> Duration {
        (promised(self.0.lease) * 2 + self.0.grace + self.0.heartbeat + WORK) * SLACK
    }

    /// Until three living boards decide again.
    pub(super) fn voters(self) -> Duration {
        (DETECTION + self.0.voter_grace + WORK) * SLACK
    }

    /// Until a new standby is appointed and filled.
    pub(super) fn fill(self) -> Duration {
        (DETECTION + WORK * 2) * SLACK
    }

    /// A planned move.
    pub(super) fn handover(self) -> Duration {
        (self.0.lease * 2 + WORK) * SLACK
    }

    /// A request to the service: a commit may have to wait for another standby.
    pub(super) fn request(self) -> Duration {
        self.0.lease * 3
    }

    /// A question to the service: whoever runs it answers at once, or not at all.
    pub(super) fn question(self) -> Duration {
        self.0.heartbeat * 2
    }

    /// A service whose agent is away for longer than this is killed, as it should be.
    pub(super) fn fence(self) -> Duration {
        self.0.lease.saturating_sub(self.0.kill_bound)
    }
}
