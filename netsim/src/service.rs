//! Services as the simulator sees them: what is to run, and what their state is.
//!
//! A simulated client writes to a running service every [`WRITE_INTERVAL`]. The state of an instance is
//! the whole chain of writes behind it, and is never stored: a [`Point`] names a run of the container
//! and the number of writes in it, and each run knows from which point it began. So states form a tree,
//! and whether one contains another is a walk towards the root ([`Ancestry`]).

use std::collections::BTreeMap;

use hedgerow::proto::bounded::{List, Text};
use hedgerow::proto::holdings::Held;
use hedgerow::proto::order::Instance;
use hedgerow::proto::spec::{Commit, Limits, OnIsolation, Port, Replicate, Restart, ServiceSpec};
use hedgerow::proto::table::CheckpointId;

use crate::queue::BoardIndex;
use crate::time::{MILLI, Nanos};

/// Between two writes of a service's client.
pub const WRITE_INTERVAL: Nanos = 50 * MILLI;

/// A service that an operator wants to run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// What it is called.
    pub name: String,
    /// When it is ordered, true time.
    pub at: Nanos,
    /// On which board, if that one is up.
    pub board: BoardIndex,
    /// Between two checkpoints, ns.
    pub every: Nanos,
    /// When its client's commits return.
    pub commit: Commit,
    /// Whether it has a state at all.
    pub stateful: bool,
    /// What it does where its board is isolated.
    pub on_isolation: OnIsolation,
    /// Bytes of its state.
    pub bytes: u64,
}

impl Service {
    /// What the operator orders.
    pub fn spec(&self) -> ServiceSpec {
        let every_ms = u32::try_from(self.every / MILLI).unwrap_or(u32::MAX);
        ServiceSpec {
            name: Text::capped(&self.name),
            command: List::capped([Text::capped("./serve")]),
            state: self.stateful.then(|| Text::capped("state")),
            on_isolation: self.on_isolation,
            ports: List::capped([Port { name: Text::capped("web"), port: 0 }]),
            replicate: Replicate { every_ms, commit: self.commit, commit_timeout_ms: 0 },
            classes: List::new(),
            labels: List::new(),
            restart: Restart { max: 3, within_ms: 60_000 },
            limits: Limits::default(),
            env: List::new(),
        }
    }

    /// Its only instance.
    pub fn instance(&self) -> Instance {
        instance(&self.name)
    }
}

/// The only instance of the service of that name.
pub fn instance(name: &str) -> Instance {
    Instance { service: Text::capped(name), ordinal: 0 }
}

/// A state: so many writes of that run, after what the run began with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Point {
    /// Which run of a container, of all that there ever were.
    pub run: u32,
    /// How many writes of it.
    pub writes: u64,
}

/// What reading a stored state comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    /// All bytes of that state.
    State(Point),
    /// Bytes that are no state.
    OtherBytes,
    /// The store refuses, and says why.
    Nothing(String),
}

/// What truly becomes of services, in the moment in which it does. Only the world knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ServiceEvent {
    /// The first instruction of a container runs.
    Begins {
        /// Of which instance.
        instance: Instance,
        /// Under which right.
        epoch: u64,
        /// Counts all runs of a world.
        run: u32,
        /// What it finds in its folder; none: nothing.
        from: Option<Point>,
        /// Whether it has a state.
        stateful: bool,
    },
    /// No instruction of it runs any more.
    Ends {
        /// Of which instance.
        instance: Instance,
        /// Which run.
        run: u32,
        /// What it leaves in its folder.
        left: Point,
        /// In a word.
        how: &'static str,
    },
    /// Its board sleeps, and none of its instructions runs; it may wake up.
    Sleeps {
        /// Of which instance.
        instance: Instance,
        /// Which run.
        run: u32,
    },
    /// It goes on.
    Wakes {
        /// Of which instance.
        instance: Instance,
        /// Which run.
        run: u32,
        /// Under which right.
        epoch: u64,
    },
    /// Its deadline has passed, and it goes on without a lease, as its owner wants.
    Isolated {
        /// Of which instance.
        instance: Instance,
        /// Which run.
        run: u32,
    },
    /// It has a lease again.
    Connected {
        /// Of which instance.
        instance: Instance,
        /// Which run.
        run: u32,
        /// Under which right.
        epoch: u64,
    },
    /// Its client was told that everything up to there is kept.
    Acknowledged {
        /// Of which instance.
        instance: Instance,
        /// Up to where.
        point: Point,
    },
    /// A state is durable in the store of this board.
    Kept {
        /// Of which instance.
        instance: Instance,
        /// Its name.
        id: CheckpointId,
        /// What it is; none: it cannot be read.
        point: Option<Point>,
    },
    /// A state was deleted from the store of this board.
    Dropped {
        /// Of which instance.
        instance: Instance,
        /// Its name.
        id: CheckpointId,
    },
    /// A state was read back from the store of this board.
    Read {
        /// Of which instance.
        instance: Instance,
        /// Its name.
        id: CheckpointId,
        /// What came of it.
        found: Found,
    },
    /// A state in the store of this board can never be read again: bits have flipped, or a store that could
    /// not be opened was moved aside. Nobody on that board knows.
    Spoilt {
        /// Of which instance.
        instance: Instance,
        /// Its name.
        id: CheckpointId,
    },
    /// The store of this board was opened, and these states are complete in it.
    Opened(Held),
    /// All folders and the store of this board are gone.
    StateLost,
    /// From now on that name is another service's: the operator removed the one that had it.
    Anew {
        /// Which instance.
        instance: Instance,
    },
    /// An operator has the answer to the last order about an instance that may lose writes.
    Answered {
        /// Which instance.
        instance: Instance,
        /// The last right that may begin by that order.
        upto: u64,
    },
    /// An operator takes it upon himself that writes are lost when an instance next begins on this board.
    Forgiven {
        /// Which instance.
        instance: Instance,
        /// Only if it begins from this; none: from whatever the board has.
        from: Option<Point>,
    },
}

/// From which point each run began, recomputed from events.
#[derive(Clone, Default, Debug)]
pub struct Ancestry(BTreeMap<u32, Option<Point>>);

impl Ancestry {
    /// A run began.
    pub fn begin(&mut self, run: u32, from: Option<Point>) {
        self.0.insert(run, from);
    }

    /// Whether every write up to `wanted` is part of `state`.
    pub fn contains(&self, state: Option<Point>, wanted: Point) -> bool {
        let mut at = state;
        while let Some(point) = at {
            if point.run == wanted.run {
                return point.writes >= wanted.writes;
            }
            at = self.0.get(&point.run).copied().flatten();
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_contains_what_its_run_began_with_and_nothing_of_another_branch() {
        let point = |run, writes| Point { run, writes };
        let mut ancestry = Ancestry::default();
        ancestry.begin(0, None);
        ancestry.begin(1, Some(point(0, 10)));
        ancestry.begin(2, Some(point(0, 7)));
        assert!(ancestry.contains(Some(point(1, 0)), point(0, 10)));
        assert!(!ancestry.contains(Some(point(1, 5)), point(0, 11)));
        assert!(!ancestry.contains(Some(point(2, 5)), point(1, 0)));
        assert!(!ancestry.contains(None, point(0, 0)));
    }
}
