//! Faults that `--break` plants: each leaves out one rule of the core.

use clap::ValueEnum;

/// A rule that is left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Fault {
    /// A voter that restarts votes at once, whatever it may have promised.
    NoRestartSilence,
    /// A standby that restarts forgets what it granted.
    NoGrantorSilence,
    /// A holder counts its lease from when the answer arrives.
    LeaseFromReceipt,
    /// A promise is as long as the lease by the grantor's own clock.
    NoDriftMargin,
    /// A board starts although its own promise to the former active runs.
    NoOwnVote,
    /// A standby starts when it has heard nothing for long enough, without the master.
    SilenceIsEnough,
    /// A vote leaves before it is on the disk.
    VoteBeforeDurable,
    /// A voter votes while it is bound by a promise.
    VotesWhileBound,
    /// What a master grants may outlive its own lease.
    GrantsOutliveTheReign,
    /// A takeover goes on under the epoch of the former active.
    EpochReused,
    /// A master agrees to a takeover although it is bound to the active.
    TakesWhenBound,
    /// A master that steps down does not count what it issued as its own promise (S2).
    ForgetsWhatItIssued,
    /// Voters elect a board with an older table.
    StaleTableWins,
    /// A master acts on a table that is on its own disk only.
    ServesBeforeChosen,
}

impl Fault {
    /// As `--break` takes it.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// The run whose bounds show it.
    pub(crate) fn run(self) -> &'static str {
        match self {
            Self::NoRestartSilence
            | Self::LeaseFromReceipt
            | Self::NoDriftMargin
            | Self::VoteBeforeDurable
            | Self::VotesWhileBound => "election",
            Self::NoGrantorSilence => "restarts",
            Self::NoOwnVote
            | Self::SilenceIsEnough
            | Self::GrantsOutliveTheReign
            | Self::EpochReused
            | Self::TakesWhenBound
            | Self::ForgetsWhatItIssued
            | Self::StaleTableWins
            | Self::ServesBeforeChosen => "takeover",
        }
    }
}
