//! Election and the table on the wire.

use serde::{Deserialize, Serialize};

use crate::proto::id::Term;
use crate::proto::table::{Generation, Table, Version};

/// Would you vote for me? Changes nothing at the receiver.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PreVote {
    /// The term that the sender would stand for.
    pub term: Term,
    /// Its newest durable table.
    pub last: Version,
}

/// The answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PreVoteOk {
    /// Of the question, if granted; otherwise the answering side's own.
    pub term: Term,
    /// Whether it would.
    pub granted: bool,
}

/// Vote for me.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Vote {
    /// The term that the sender stands for.
    pub term: Term,
    /// Its newest durable table.
    pub last: Version,
}

/// The answer. A granted one leaves after the vote is durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VoteOk {
    /// The answering side's term.
    pub term: Term,
    /// Whether this is a vote for the sender of the question, in that term.
    pub granted: bool,
}

/// The master's heartbeat: renews its lease, and brings the table to who lacks it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct App {
    /// How often the mesh was recovered by force; always first judged.
    pub generation: Generation,
    /// The master's term.
    pub term: Term,
    /// When it was sent, nanoseconds on the master's own clock: echoed, never interpreted.
    pub sent: u64,
    /// The length of the lease asked for, milliseconds.
    pub lease_ms: u32,
    /// The newest table that is chosen for good.
    pub committed: Version,
    /// The table itself, for a receiver that is not known to have it.
    pub table: Option<Box<Table>>,
}

/// The answer to a heartbeat: at once, and again when a table has become durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AppOk {
    /// The answering side's term: a higher one ends the master's reign.
    pub term: Term,
    /// Of the heartbeat; 0 from a side that must stay silent: it counts for nothing.
    pub sent: u64,
    /// The newest table that is durable there.
    pub durable: Version,
}

/// A board to the master: I want to leave the mesh. Repeated until it has left or given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Depart {
    /// When it was sent, nanoseconds on the sender's own clock: echoed, never interpreted.
    pub sent: u64,
    /// How far it is.
    pub intent: Intent,
}

/// How far a board is that wants to leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Intent {
    /// Could you do without me? Changes nothing.
    Asks,
    /// Count on me for nothing from now on.
    Leaves,
    /// I stay after all.
    Stays,
}

/// The reigning master's answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Departure {
    /// Of the question.
    pub sent: u64,
    /// What it is.
    pub word: Word,
}

/// Whether a board may leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Word {
    /// To one that asks: it may begin to leave. To one that leaves: the others decide without it now.
    Go,
    /// Not yet: those who decide are being changed.
    Wait,
    /// Without it nothing could be decided any more, and no other board can take its place.
    Needed,
}
