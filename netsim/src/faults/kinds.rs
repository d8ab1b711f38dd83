//! What is true of each kind of fault: its name, whom it concerns, whether it lasts.

use super::Fault;
use crate::queue::BoardIndex;

/// What the world has to do for a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sort {
    /// Something is wrong with one board; that shows when it next matters.
    Ailment,
    /// Packets are late, or find no way in.
    Weather,
    /// Packets do not pass.
    Cut,
    /// A process says what no honest one says.
    Rogue,
    /// An operator gives an order.
    Order,
    /// Each of these is different.
    Deed,
}

impl Fault {
    /// What the world has to do for it.
    pub fn sort(&self) -> Sort {
        match self {
            Self::SlowFsync { .. }
            | Self::FsyncError { .. }
            | Self::FullDisk { .. }
            | Self::CannotStart { .. }
            | Self::LacksProgram { .. }
            | Self::SlowStop { .. }
            | Self::FullStore { .. }
            | Self::StoreRot { .. }
            | Self::StoreSyncError { .. }
            | Self::Stutter { .. } => Sort::Ailment,
            Self::Delay { .. }
            | Self::Jitter { .. }
            | Self::Clog { .. }
            | Self::Bandwidth { .. }
            | Self::Flap { .. }
            | Self::Nat { .. } => Sort::Weather,
            Self::Partition { .. } | Self::OneWayCut { .. } => Sort::Cut,
            Self::Garbage { .. }
            | Self::Oversize { .. }
            | Self::Truncated { .. }
            | Self::Replay { .. }
            | Self::StaleTerm { .. }
            | Self::FalseIncarnation { .. }
            | Self::VersionSkew { .. }
            | Self::Flood { .. } => Sort::Rogue,
            Self::Run { .. }
            | Self::Move { .. }
            | Self::Stop { .. }
            | Self::Remove { .. }
            | Self::Restore { .. }
            | Self::Recover { .. }
            | Self::RecoverMesh { .. }
            | Self::Revoke { .. }
            | Self::Drain { .. } => Sort::Order,
            _ => Sort::Deed,
        }
    }

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
            Self::Delay { .. } => "delay",
            Self::Jitter { .. } => "jitter",
            Self::Clog { .. } => "clog",
            Self::Bandwidth { .. } => "bandwidth",
            Self::Flap { .. } => "flap",
            Self::Reset { .. } => "reset",
            Self::HalfOpen { .. } => "half-open",
            Self::Nat { .. } => "nat",
            Self::Roam { .. } => "roam",
            Self::CrashLoop { .. } => "crash-loop",
            Self::Stutter { .. } => "stutter",
            Self::Suspend { .. } => "suspend",
            Self::ClockJump { .. } => "clock-jump",
            Self::BitRot { .. } => "bit-rot",
            Self::MisdirectedWrite { .. } => "misdirected-write",
            Self::RestoredSnapshot { .. } => "restored-snapshot",
            Self::ClonedIdentity { .. } => "cloned-identity",
            Self::FsyncError { .. } => "fsync-error",
            Self::FullDisk { .. } => "full-disk",
            Self::Garbage { .. } => "garbage",
            Self::Oversize { .. } => "oversize",
            Self::Truncated { .. } => "truncated",
            Self::Replay { .. } => "replay",
            Self::StaleTerm { .. } => "stale-term",
            Self::FalseIncarnation { .. } => "false-incarnation",
            Self::VersionSkew { .. } => "version-skew",
            Self::Flood { .. } => "flood",
            Self::Blackout { .. } => "blackout",
            Self::ClockRate { .. } => "clock-rate",
            Self::Leave { .. } => "leave",
            Self::Join { .. } => "join",
            Self::JoinStorm { .. } => "join-storm",
            Self::ServiceCrash { .. } => "service-crash",
            Self::LowMemory { .. } => "low-memory",
            Self::CannotStart { .. } => "cannot-start",
            Self::LacksProgram { .. } => "lacks-program",
            Self::SlowStop { .. } => "slow-stop",
            Self::FullStore { .. } => "full-store",
            Self::StoreRot { .. } => "store-rot",
            Self::StoreSyncError { .. } => "store-sync-error",
            Self::StateLost { .. } => "state-lost",
            Self::Run { .. } => "run",
            Self::Move { .. } => "move",
            Self::Stop { .. } => "stop",
            Self::Remove { .. } => "remove",
            Self::Restore { .. } => "restore",
            Self::Recover { .. } => "recover",
            Self::RecoverMesh { .. } => "recover-mesh",
            Self::Revoke { .. } => "revoke",
            Self::Publish { .. } => "publish",
            Self::Drain { .. } => "drain",
        }
    }

    /// Its name in tallies: there partitions differ by how many groups they make.
    pub fn kind(&self) -> &'static str {
        let Self::Partition { groups } = self else { return self.name() };
        let named = groups.concat();
        if (1..named.len()).any(|at| named[..at].contains(&named[at])) {
            return "bridge";
        }
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
            | Self::Clog { node }
            | Self::Bandwidth { node, .. }
            | Self::Flap { node, .. }
            | Self::Reset { node }
            | Self::HalfOpen { node }
            | Self::Nat { node, .. }
            | Self::Roam { node }
            | Self::CrashLoop { node, .. }
            | Self::Stutter { node, .. }
            | Self::Suspend { node }
            | Self::ClockJump { node, .. }
            | Self::BitRot { node }
            | Self::MisdirectedWrite { node }
            | Self::RestoredSnapshot { node }
            | Self::FsyncError { node }
            | Self::FullDisk { node }
            | Self::Leave { node, .. }
            | Self::ServiceCrash { node }
            | Self::LowMemory { node }
            | Self::CannotStart { node }
            | Self::LacksProgram { node }
            | Self::SlowStop { node }
            | Self::FullStore { node }
            | Self::StoreRot { node }
            | Self::StoreSyncError { node, .. }
            | Self::StateLost { node }
            | Self::Recover { node, .. }
            | Self::Drain { node }
            | Self::Revoke { node }
            | Self::Publish { node }
            | Self::Join { node } => vec![*node],
            Self::RecoverMesh { node, dead } => [&[*node], dead.as_slice()].concat(),
            Self::Partition { groups } => groups.concat(),
            Self::OneWayCut { from, to } | Self::Delay { from, to, .. } => {
                [from.as_slice(), to].concat()
            }
            Self::Garbage { node, to }
            | Self::ClonedIdentity { node, onto: to }
            | Self::Oversize { node, to }
            | Self::Truncated { node, to }
            | Self::Replay { node, to }
            | Self::StaleTerm { node, to }
            | Self::FalseIncarnation { node, to }
            | Self::VersionSkew { node, to }
            | Self::Flood { node, to, .. } => {
                vec![*node, *to]
            }
            Self::Blackout { nodes } | Self::JoinStorm { nodes } => nodes.clone(),
            Self::Loss { .. }
            | Self::Jitter { .. }
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
                | Self::JoinStorm { .. }
                | Self::ServiceCrash { .. }
                | Self::RecoverMesh { .. }
                | Self::Publish { .. }
                | Self::Reset { .. }
                | Self::HalfOpen { .. }
                | Self::Roam { .. }
                | Self::ClockJump { .. }
                | Self::Garbage { .. }
                | Self::Oversize { .. }
                | Self::Truncated { .. }
                | Self::Replay { .. }
                | Self::StaleTerm { .. }
                | Self::FalseIncarnation { .. }
                | Self::VersionSkew { .. }
        ) || self.service().is_some()
    }

    /// The time that it takes, if it takes one.
    pub fn milliseconds(&self) -> Option<u64> {
        match self {
            Self::Delay { ms, .. }
            | Self::Jitter { ms }
            | Self::Flap { ms, .. }
            | Self::CrashLoop { ms, .. }
            | Self::Stutter { ms, .. } => Some(*ms),
            _ => None,
        }
    }

    /// Whether it switches a board on for the first time.
    pub fn brings(&self, board: BoardIndex) -> bool {
        match self {
            Self::Join { node } | Self::ClonedIdentity { onto: node, .. } => *node == board,
            Self::JoinStorm { nodes } => nodes.contains(&board),
            _ => false,
        }
    }

    /// Whether the board's identity is lost: with its disk, or by the operator's word.
    pub fn loses_the_identity(&self) -> bool {
        matches!(
            self,
            Self::Wipe { .. }
                | Self::BitRot { .. }
                | Self::MisdirectedWrite { .. }
                | Self::Revoke { .. }
        )
    }

    /// Whether it cuts the way from one board to another.
    pub fn cuts(&self, from: BoardIndex, to: BoardIndex) -> bool {
        match self {
            Self::Partition { groups } => {
                let is_named = |board| groups.iter().any(|group| group.contains(&board));
                let together =
                    groups.iter().any(|group| group.contains(&from) && group.contains(&to));
                !together && (is_named(from) || is_named(to))
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
    fn a_board_in_two_groups_is_a_bridge() {
        let bridge = Fault::Partition { groups: vec![vec![0, 1, 2], vec![2, 3]] };
        assert!(bridge.cuts(0, 3) && bridge.cuts(3, 1) && bridge.cuts(2, 4));
        assert!(!bridge.cuts(1, 2) && !bridge.cuts(2, 3));
        assert_eq!(bridge.kind(), "bridge");
        assert_eq!(Fault::Partition { groups: vec![vec![0], vec![1]] }.kind(), "partition-2");
    }

    #[test]
    fn a_one_way_cut_leaves_the_other_way_open() {
        let cut = Fault::OneWayCut { from: vec![0], to: vec![1] };
        assert!(cut.cuts(0, 1) && !cut.cuts(1, 0) && !cut.cuts(0, 2));
    }
}
