//! The vocabulary of faults: one enum, one line each in a scenario file.
//!
//! A fault begins at a time and, where that means something, lasts for a time. The world counts each
//! as *injected* when it begins and as *felt* when it made a difference to somebody: a partition that
//! held no message back tested nothing.

use serde::{Deserialize, Serialize};

use crate::cue::Cue;
use crate::queue::BoardIndex;
use crate::time::Nanos;

/// Something that goes wrong, or is done to the mesh.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    /// The process ends at once; the host lives and resets its connections; what was written
    /// survives. It is started again when the fault ends.
    Crash {
        /// Which board.
        node: BoardIndex,
    },
    /// The whole board loses power; what was not fsynced is lost, torn or full of holes. It is
    /// switched on again when the fault ends.
    PowerCut {
        /// Which board.
        node: BoardIndex,
    },
    /// Power is cut and the disk is gone, identity included. When the fault ends, a new board with
    /// the same name joins with a new ticket. (If only the journal is gone the driver refuses the old
    /// key, so for a node that is the same.)
    Wipe {
        /// Which board.
        node: BoardIndex,
    },
    /// A board that is down is started.
    Restart {
        /// Which board.
        node: BoardIndex,
    },
    /// The process gets no input and no timer; at the end it gets everything at once.
    Pause {
        /// Which board.
        node: BoardIndex,
    },
    /// Every fsync takes 50 ms to 3 s.
    SlowFsync {
        /// Which board.
        node: BoardIndex,
    },
    /// Nothing passes between different groups. Boards that are not named are one more group.
    Partition {
        /// Which boards stay together.
        groups: Vec<Vec<BoardIndex>>,
    },
    /// Nothing passes from these to those; the other direction works.
    OneWayCut {
        /// Who is not heard.
        from: Vec<BoardIndex>,
        /// By whom.
        to: Vec<BoardIndex>,
    },
    /// So many of a hundred segments are lost, everywhere. Streams are reliable, so it shows as delay.
    Loss {
        /// 0 to 50.
        percent: u8,
    },
    /// The crystal errs by this much.
    ClockRate {
        /// Which board.
        node: BoardIndex,
        /// Parts per million, −10,000 to 10,000.
        ppm: i32,
    },
    /// The operator tells the board to leave the mesh.
    Leave {
        /// Which board.
        node: BoardIndex,
        /// At once, without handing anything over or asking anybody.
        #[serde(default, skip_serializing_if = "core::ops::Not::not")]
        force: bool,
    },
    /// A board that was never on is switched on.
    Join {
        /// Which board.
        node: BoardIndex,
    },
    /// Every service that runs on the board ends by itself, with an exit code.
    ServiceCrash {
        /// Which board.
        node: BoardIndex,
    },
    /// No service can be started on the board.
    CannotStart {
        /// Which board.
        node: BoardIndex,
    },
    /// What services run is not there: the board could start none, and can tell.
    LacksProgram {
        /// Which board.
        node: BoardIndex,
    },
    /// Services on the board do not end when they are asked to: they are killed once the shim's patience is
    /// over.
    SlowStop {
        /// Which board.
        node: BoardIndex,
    },
    /// The board's disk has no room for states of other boards' services.
    FullStore {
        /// Which board.
        node: BoardIndex,
    },
    /// Power is cut, and the folders of services and the store of their states are gone; the journal
    /// and the identity are not.
    StateLost {
        /// Which board.
        node: BoardIndex,
    },
    /// The operator orders a service to be run once more.
    Run {
        /// Its name.
        service: String,
    },
    /// The operator moves a service to its standby.
    Move {
        /// Its name.
        service: String,
    },
    /// The operator stops a service.
    Stop {
        /// Its name.
        service: String,
    },
    /// The operator stops a service and forgets it.
    Remove {
        /// Its name.
        service: String,
    },
    /// The operator lets a service start again from an earlier state that its board keeps.
    Restore {
        /// Its name.
        service: String,
        /// So many states before the newest one.
        back: usize,
    },
    /// The operator lets this board run a service with what it has: whoever has more is gone for good.
    Recover {
        /// Its name.
        service: String,
        /// Which board.
        node: BoardIndex,
    },
    /// The operator lets this board decide alone, by force: most of those that decide are gone for good.
    RecoverMesh {
        /// Which board.
        node: BoardIndex,
        /// Those that are gone.
        dead: Vec<BoardIndex>,
    },
    /// The operator wants the board to host nothing and to decide nothing; when the fault ends, again.
    Drain {
        /// Which board.
        node: BoardIndex,
    },
}

/// Highest loss that a stream is simulated with, per cent.
pub const LOSS_PERCENT_MAX: u8 = 50;

/// A fault, when it begins and how long it lasts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Timed {
    /// True time, ns; of a fault that waits for something: not before that.
    pub at: Nanos,
    /// What it waits for, if not only for its time.
    pub cue: Option<Cue>,
    /// None: until the end of the run, or the fault is a moment.
    pub lasts: Option<Nanos>,
    /// What.
    pub fault: Fault,
}

impl Fault {
    /// Its name in scenario files and tallies.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Crash { .. } => "crash",
            Self::PowerCut { .. } => "power-cut",
            Self::Wipe { .. } => "wipe",
            Self::Restart { .. } => "restart",
            Self::Pause { .. } => "pause",
            Self::SlowFsync { .. } => "slow-fsync",
            Self::Partition { .. } => "partition",
            Self::OneWayCut { .. } => "one-way-cut",
            Self::Loss { .. } => "loss",
            Self::ClockRate { .. } => "clock-rate",
            Self::Leave { .. } => "leave",
            Self::Join { .. } => "join",
            Self::ServiceCrash { .. } => "service-crash",
            Self::CannotStart { .. } => "cannot-start",
            Self::LacksProgram { .. } => "lacks-program",
            Self::SlowStop { .. } => "slow-stop",
            Self::FullStore { .. } => "full-store",
            Self::StateLost { .. } => "state-lost",
            Self::Run { .. } => "run",
            Self::Move { .. } => "move",
            Self::Stop { .. } => "stop",
            Self::Remove { .. } => "remove",
            Self::Restore { .. } => "restore",
            Self::Recover { .. } => "recover",
            Self::RecoverMesh { .. } => "recover-mesh",
            Self::Drain { .. } => "drain",
        }
    }

    /// Its name in tallies: there partitions differ by how many groups they make.
    pub fn kind(&self) -> &'static str {
        let Self::Partition { groups } = self else { return self.name() };
        match groups.iter().filter(|group| !group.is_empty()).count() {
            0..=2 => "partition-2",
            3 => "partition-3",
            _ => "partition-more",
        }
    }

    /// Every board that it names.
    pub fn boards(&self) -> Vec<BoardIndex> {
        match self {
            Self::Crash { node }
            | Self::PowerCut { node }
            | Self::Wipe { node }
            | Self::Restart { node }
            | Self::Pause { node }
            | Self::SlowFsync { node }
            | Self::ClockRate { node, .. }
            | Self::Leave { node, .. }
            | Self::ServiceCrash { node }
            | Self::CannotStart { node }
            | Self::LacksProgram { node }
            | Self::SlowStop { node }
            | Self::FullStore { node }
            | Self::StateLost { node }
            | Self::Recover { node, .. }
            | Self::Drain { node }
            | Self::Join { node } => vec![*node],
            Self::RecoverMesh { node, dead } => [&[*node], dead.as_slice()].concat(),
            Self::Partition { groups } => groups.concat(),
            Self::OneWayCut { from, to } => [from.as_slice(), to].concat(),
            Self::Loss { .. }
            | Self::Run { .. }
            | Self::Move { .. }
            | Self::Stop { .. }
            | Self::Remove { .. }
            | Self::Restore { .. } => Vec::new(),
        }
    }

    /// The service that it names.
    pub fn service(&self) -> Option<&str> {
        match self {
            Self::Run { service }
            | Self::Move { service }
            | Self::Stop { service }
            | Self::Remove { service }
            | Self::Restore { service, .. }
            | Self::Recover { service, .. } => Some(service),
            _ => None,
        }
    }

    /// Whether it is over at once, so that a duration makes no sense.
    pub fn is_moment(&self) -> bool {
        matches!(
            self,
            Self::Restart { .. }
                | Self::Leave { .. }
                | Self::Join { .. }
                | Self::ServiceCrash { .. }
                | Self::RecoverMesh { .. }
        ) || self.service().is_some()
    }

    /// Whether it cuts the way from one board to another.
    pub fn cuts(&self, from: BoardIndex, to: BoardIndex) -> bool {
        match self {
            Self::Partition { groups } => {
                let group = |board| groups.iter().position(|group| group.contains(&board));
                group(from) != group(to)
            }
            Self::OneWayCut { from: sources, to: sinks } => {
                sources.contains(&from) && sinks.contains(&to)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boards_outside_all_groups_of_a_partition_stay_together() {
        let split = Fault::Partition { groups: vec![vec![0], vec![1, 2]] };
        assert!(split.cuts(0, 1) && split.cuts(2, 3) && split.cuts(4, 0));
        assert!(!split.cuts(1, 2) && !split.cuts(3, 4));
    }

    #[test]
    fn a_one_way_cut_leaves_the_other_way_open() {
        let cut = Fault::OneWayCut { from: vec![0], to: vec![1] };
        assert!(cut.cuts(0, 1) && !cut.cuts(1, 0) && !cut.cuts(0, 2));
    }
}
