//! What a node is told when it starts: its key, its name and its timing.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::bounded::List;
use super::id::{CellId, Keypair, MeshId, NodeId, PublicKey};
use super::promises::Preset;
use super::record::{Board, LABELS_MAX, Name};
use super::ticket::{Credential, Ticket};

/// What a node is told when it starts. Constant for its life.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node's identity; signs its record, its admissions and its leave.
    pub keypair: Keypair,
    /// The name operators use.
    pub name: Name,
    /// The cell it belongs to.
    pub cell: CellId,
    /// Facts about the board.
    pub board: Board,
    /// `key=value`, for placement.
    pub labels: List<(Name, Name), LABELS_MAX>,
    /// The ticket it came with. Needed for the first start only; afterwards the journal knows.
    pub ticket: Option<Ticket>,
    /// Membership timing.
    pub membership: MembershipTiming,
    /// Lease timing.
    pub preset: Preset,
}

/// Membership timing (design of the detector: Rapid's observers, Lifeguard's scaling). Every board of
/// a mesh should use the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MembershipTiming {
    /// Between two probes of one member. Shorter finds deaths sooner and costs bytes; 1 s.
    pub probe_interval: Duration,
    /// An ack is awaited at least that long; 1 s. Should exceed the round trip by far.
    pub ack_timeout_min: Duration,
    /// … and at most that long, however slow a link has been; 5 s.
    pub ack_timeout_max: Duration,
    /// The ack timeout on a link without history; 3 s.
    pub ack_timeout_new: Duration,
    /// From asking the other observers to raising an alert, where another one misses the member, too; 0.6 s.
    /// Should exceed two round trips.
    pub ask_wait: Duration,
    /// … twice that where just one is known to, and 3.5 s where none is. Longer floods less where links stall.
    pub ask_wait_alone: Duration,
    /// From the first alert to `Down`, with one, two, and three or more distinct alerters.
    pub down_after: [Duration; 3],
    /// News for one link is collected that long; 100 ms.
    pub coalesce: Duration,
    /// Between two comparisons with a random member, and two dials of a dead one; 60 s.
    pub wander_interval: Duration,
}

impl Default for MembershipTiming {
    fn default() -> Self {
        Self {
            probe_interval: Duration::from_secs(1),
            ack_timeout_min: Duration::from_secs(1),
            ack_timeout_max: Duration::from_secs(5),
            ack_timeout_new: Duration::from_secs(3),
            ask_wait: Duration::from_millis(600),
            ask_wait_alone: Duration::from_millis(3500),
            down_after: [
                Duration::from_secs(4),
                Duration::from_millis(2500),
                Duration::from_millis(800),
            ],
            coalesce: Duration::from_millis(100),
            wander_interval: Duration::from_secs(60),
        }
    }
}

/// The mesh this node belongs to and how it got in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Belonging {
    /// The root public key.
    pub root: PublicKey,
    /// BLAKE3 of it.
    pub mesh: MeshId,
    /// The chain that let this node in.
    pub credential: Credential,
}

impl Belonging {
    /// The belonging that a ticket gives to `node`.
    pub fn by_ticket(ticket: &Ticket, node: &NodeId) -> Self {
        Self {
            root: ticket.root,
            mesh: MeshId::of_root(&ticket.root),
            credential: ticket.bind_node(node),
        }
    }
}
