//! A plan: everything that decides one run, and what came of it.
//!
//! A scenario file or a swarm seed becomes a plan; the world runs it. Nothing else enters a run.

use std::collections::BTreeSet;

use hedgerow::proto::config::MembershipTiming;
use hedgerow::proto::promises::Preset;

use crate::expect::Expect;
use crate::faults::Timed;
use crate::law::LinkLaw;
use crate::net::IDLE_TIMEOUT;
use crate::net::datagram::Carrier;
use crate::observe::Finding;
use crate::queue::BoardIndex;
use crate::service::Service;
use crate::shelf::States;
use crate::story::Deeds;
use crate::tally::Tally;
use crate::time::{Nanos, PPM_MAX, SECOND};

/// Everything that decides one run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// For people.
    pub name: String,
    /// Of all randomness.
    pub seed: u64,
    /// How many boards there are. Board 0 founds the mesh.
    pub boards: BoardIndex,
    /// The mesh has run before: every journal holds all boards that are not late, as after a power cut
    /// of everything. Otherwise they join one by one, which costs as many signatures as pairs, twice.
    /// For measurements: an invariant has not seen how those journals came about.
    pub acquainted: bool,
    /// Boards that are only switched on by a `join` fault.
    pub late: BTreeSet<BoardIndex>,
    /// Boards whose ticket is no good.
    pub strangers: BTreeSet<BoardIndex>,
    /// Boards that pass on to others what a NAT lets nobody bring. No random schedule has any: the driver
    /// that ships has no relay client yet.
    pub relays: BTreeSet<BoardIndex>,
    /// How long messages take.
    pub link: LinkLaw,
    /// Per cent of segments lost, until a fault says otherwise.
    pub loss_percent: u8,
    /// What carries the nodes' messages.
    pub carrier: Carrier,
    /// Losses of datagrams come in bursts of this mean length; none: one by one.
    pub bursts: Option<Nanos>,
    /// Crystals err by up to this much, parts per million.
    pub ppm_max: i32,
    /// Timing of the node.
    pub timing: MembershipTiming,
    /// Lease timing of the node.
    pub preset: Preset,
    /// Services that an operator wants to run.
    pub services: Vec<Service>,
    /// What the boards' stores keep of their states.
    pub states: States,
    /// Faults in any order.
    pub schedule: Vec<Timed>,
    /// At this true time all faults end and every board that is down is started again.
    pub heal_at: Option<Nanos>,
    /// After `heal_at` everything must have converged within this; the run ends when it has.
    pub settle_within: Option<Nanos>,
    /// The run ends here at the latest.
    pub horizon: Nanos,
    /// What must hold, and by when.
    pub expects: Vec<(Nanos, Expect)>,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was wrong; empty is good.
    pub findings: Vec<Finding>,
    /// Equal for equal runs.
    pub trace: [u8; 32],
    /// True time at the end.
    pub ended: Nanos,
    /// True time that nodes have spent running, all together.
    pub node_time: Nanos,
    /// Things that happened.
    pub steps: u64,
    /// Messages sent.
    pub messages: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Segments lost.
    pub lost: u64,
    /// Faults injected and felt.
    pub tally: Tally,
    /// How long after `heal_at` all agreed.
    pub settled_after: Option<Nanos>,
    /// What the masters did.
    pub deeds: Deeds,
}

impl Plan {
    /// A calm run of some boards, to be changed by its fields.
    pub fn calm(seed: u64, boards: BoardIndex, horizon: Nanos) -> Self {
        Self {
            name: "calm".to_owned(),
            seed,
            boards,
            acquainted: false,
            late: BTreeSet::new(),
            strangers: BTreeSet::new(),
            relays: BTreeSet::new(),
            link: LinkLaw::Wan,
            loss_percent: 0,
            carrier: Carrier::Streams,
            bursts: None,
            ppm_max: PPM_MAX,
            timing: MembershipTiming::default(),
            preset: Preset::WAN,
            services: Vec::new(),
            states: States::Bytes,
            schedule: Vec::new(),
            heal_at: None,
            settle_within: None,
            horizon,
            expects: Vec::new(),
        }
    }

    /// How long after the last fault everything must have converged: a wandering comparison may have
    /// just been missed (twice: the first one may be lost with its link), a dead link takes its idle
    /// timeout to be noticed, a dial its timeout, a backed-off dial its longest pause, and a member
    /// whose death was overlooked must be found.
    ///
    /// Dead members are dialled in random order, and an identity that was lost with its disk stays
    /// among them for good, so each one makes finding a living one slower.
    pub fn settle_bound(&self) -> Nanos {
        let wander = self.timing.wander_interval.as_nanos() as Nanos;
        let down = self.timing.down_after[0].as_nanos() as Nanos
            + self.timing.ack_timeout_max.as_nanos() as Nanos;
        let wipes = self.schedule.iter().filter(|timed| timed.fault.loses_the_identity());
        let ghosts = wipes.count() as Nanos * WANDERS_PER_GHOST * wander;
        2 * wander + IDLE_TIMEOUT + 2 * DIAL_TIMEOUT + 2 * down + 10 * SECOND + ghosts
    }

    /// P: how long a voter keeps a promise, ns of true time at the least.
    fn promise(&self) -> Nanos {
        self.preset.lease.as_nanos() as Nanos * 101 / 99
    }

    /// How long after the last fault exactly one board must reign: dead links are noticed and dialled
    /// again, restarted voters keep silent for P, and some candidacies may fail, each one with the
    /// longest pause, when two boards stand at once or links come late.
    pub fn master_bound(&self) -> Nanos {
        let links = IDLE_TIMEOUT + 2 * DIAL_TIMEOUT + DIAL_PAUSE_MAX;
        links + self.promise() + CANDIDACIES * CANDIDACY_PAUSE_MAX + 5 * SECOND
    }

    /// How long after the last fault three living boards must decide: the master first, then the time
    /// that a dead voter is waited for, then two tables.
    pub fn voters_bound(&self) -> Nanos {
        self.master_bound() + self.preset.voter_grace.as_nanos() as Nanos + 10 * SECOND
    }
}

impl Plan {
    /// How long after the last fault every service must run again: there is a master, the pair hears
    /// each other, the standby has waited for T + t and a promise, a takeover is chosen and pushed, and
    /// a service that ended too often has waited for its next try.
    pub fn serving_bound(&self) -> Nanos {
        let silence = (self.preset.lease + self.preset.grace).as_nanos() as Nanos;
        let links = IDLE_TIMEOUT + 2 * DIAL_TIMEOUT + DIAL_PAUSE_MAX;
        self.master_bound() + links + silence + self.promise() + SERVICE_PAUSE_MAX + 10 * SECOND
    }

    /// How long after the last fault every service must have a standby that could carry on: it runs, a
    /// silent standby was waited for (2 (T + t)), and another one was filled, twice if the first board
    /// that was tried is not there.
    pub fn protected_bound(&self) -> Nanos {
        let patience = 2 * (self.preset.lease + self.preset.grace).as_nanos() as Nanos;
        self.serving_bound() + 2 * (patience + FILL)
    }
}

/// A service that ended too often is started again after that long.
const SERVICE_PAUSE_MAX: Nanos = 10 * SECOND;
/// Filling a board, on a slow link.
const FILL: Nanos = 15 * SECOND;
/// The longest pause between two dials of one board, with its jitter.
const DIAL_PAUSE_MAX: Nanos = 20 * SECOND;
/// The longest pause between two candidacies (L1 of 3b), with rank and jitter.
const CANDIDACY_PAUSE_MAX: Nanos = 11 * SECOND;
/// Candidacies that may fail.
const CANDIDACIES: Nanos = 3;
/// Random dials of the dead until the chance to have missed one of them all the time is 1 in 1,000.
const WANDERS_PER_GHOST: Nanos = 7;
/// A dial that nobody answers fails after that long.
pub const DIAL_TIMEOUT: Nanos = 10 * SECOND;
