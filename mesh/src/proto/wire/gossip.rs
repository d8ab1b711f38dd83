//! Membership and topics on the wire.

use serde::{Deserialize, Serialize};

use crate::proto::bounded::{Blob, List, Text};
use crate::proto::directory::Announcement;
use crate::proto::id::{Incarnation, NodeId};
use crate::proto::order::Serving;
use crate::proto::record::{Admission, Leave, NodeRecord};
use crate::proto::signed::Signed;
use crate::proto::ticket::{Credential, Revocation};

/// Facts in one message.
pub const FACTS_MAX: usize = 64;
/// Buckets of a [`Summary`].
pub const BUCKETS: usize = 64;
/// Entries in one [`Entries`] message.
pub const ENTRIES_MAX: usize = 1024;
/// Hops of a source route.
pub const ROUTE_MAX: usize = 6;
/// Bytes of a topic's name, such as `telemetry:pi-3:temp`.
pub const TOPIC_BYTES_MAX: usize = 128;
/// Bytes of one message on a topic.
pub const PUBLICATION_BYTES_MAX: usize = 16 * 1024;

/// Are you there?
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Probe {
    /// Echoed in the answer.
    pub seq: u64,
    /// The sender's view hash: when it differs from the receiver's for long, they compare.
    pub view: u64,
}

/// I am.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProbeAck {
    /// Of the probe.
    pub seq: u64,
    /// The answering side's view hash.
    pub view: u64,
}

/// Have you heard from `subject` yourself, lately? Travels along `route`, and the [`Answer`] back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ask {
    /// Echoed in the answer.
    pub seq: u64,
    /// Who fell silent.
    pub subject: NodeId,
    /// A probe that left at most so many milliseconds ago and was answered is answer enough; otherwise the subject is
    /// probed anew. Whoever is asked takes no more than 3.75 s.
    pub fresh_ms: u32,
    /// Who asks, then each hop, then who is asked.
    pub route: List<NodeId, ROUTE_MAX>,
    /// Index into `route` of the receiver of this message.
    pub at: u8,
}

/// `subject` answered a probe of mine that left that long ago. Never sent from hearsay.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Answer {
    /// Of the question.
    pub seq: u64,
    /// Who was asked about.
    pub subject: NodeId,
    /// Milliseconds since the newest of the answering member's probes left that it answered.
    pub heard_ms: u32,
    /// The question's route.
    pub route: List<NodeId, ROUTE_MAX>,
    /// Index into `route` of the receiver of this message.
    pub at: u8,
}

/// News.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Facts {
    /// Oldest first.
    pub facts: List<Fact, FACTS_MAX>,
}

/// One piece of news about members. Hard facts: pushed at once, repaired by digest.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Fact {
    /// A board was let in; everything needed to check that without asking anyone.
    Joined(Box<Joined>),
    /// A known board signed its record anew: it lives, or says something new of itself.
    Alive(Box<Signed<NodeRecord>>),
    /// `by` lost contact with `subject` and no other observer had heard from it either.
    Alert {
        /// Who fell silent.
        subject: NodeId,
        /// Which life of it: a higher incarnation makes this void.
        incarnation: Incarnation,
        /// Who noticed, first hand.
        by: NodeId,
    },
    /// The sender holds `subject` for dead. Only an answer to a digest: everyone decides alone.
    Down {
        /// Who.
        subject: NodeId,
        /// Which life of it.
        incarnation: Incarnation,
    },
    /// A board left on purpose.
    Left(Box<Signed<Leave>>),
    /// A ticket or a board is no longer welcome.
    Revoked(Box<Signed<Revocation>>),
    /// A table was chosen.
    Chosen(Box<Announcement>),
    /// An active says where it serves.
    Serving(Box<Signed<Serving>>),
}

/// A member's record and the proof that it was let in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Joined {
    /// What it says of itself.
    pub record: Signed<NodeRecord>,
    /// The chain from root.
    pub credential: Credential,
    /// Who let it in. None for the founder, whose ticket never expires.
    pub admission: Option<Signed<Admission>>,
}

/// My view in hashes, one per bucket of members.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// Hash of the members of each bucket; always [`BUCKETS`] long.
    pub buckets: List<u64, BUCKETS>,
    /// Hash of the revocations known.
    pub revocations: u64,
    /// Hash of the newest table known and of where instances serve.
    pub directory: u64,
}

/// My view of the members in some buckets.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entries {
    /// Bit i set: all entries of bucket i that the sender has are in `entries`.
    pub buckets: u64,
    /// Who, in which life, in which state.
    pub entries: List<Entry, ENTRIES_MAX>,
    /// The sender may lack revocations or the newest table.
    pub rest: bool,
    /// True in an answer to `Entries`: it is not answered with entries again.
    pub reply: bool,
}

/// One line of the member list.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Who.
    pub node: NodeId,
    /// The highest incarnation known.
    pub incarnation: Incarnation,
    /// What became of it.
    pub standing: Standing,
}

/// What became of a member, at its incarnation. At one incarnation a later one replaces an earlier.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Standing {
    /// Believed to be there.
    Up,
    /// Believed dead. Refutable by a higher incarnation.
    Down,
    /// Left on purpose.
    Left,
}

/// A message on a topic: member-wide, best effort, bounded, not repaired.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Publication {
    /// Who published it.
    pub from: NodeId,
    /// Distinguishes publications of one publisher.
    pub seq: u64,
    /// `telemetry:<node>:<metric>` and the like (decision D17).
    pub topic: Text<TOPIC_BYTES_MAX>,
    /// The message.
    pub body: Blob<PUBLICATION_BYTES_MAX>,
}
