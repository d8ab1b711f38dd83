//! Orders, specifications and leases of instances on the wire.

use serde::{Deserialize, Serialize};

use crate::proto::bounded::Text;
use crate::proto::id::Epoch;
use crate::proto::order::{Instance, SignedOrder};
use crate::proto::specs::SpecHash;

/// An order for the master.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Submit {
    /// Echoed in the answer.
    pub seq: u64,
    /// What an operator wants.
    pub order: SignedOrder,
}

/// What became of an order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Submitted {
    /// Of the order.
    pub seq: u64,
    /// Whether the table was changed accordingly.
    pub done: bool,
    /// A code and a sentence, if not.
    pub code: Text<32>,
    /// For people.
    pub text: Text<512>,
}

/// Send me the order of that hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WantSpec {
    /// Which.
    pub hash: SpecHash,
}

/// Here it is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// The order; its hash is computed, not believed.
    pub order: SignedOrder,
}

/// The active asks for its lease to be renewed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Renew {
    /// Of what.
    pub instance: Instance,
    /// The right that it runs under.
    pub epoch: Epoch,
    /// When it was sent, nanoseconds on the active's own clock: echoed, never interpreted.
    pub sent: u64,
    /// The newest `sent` that was granted: proves that the active hears its grantor.
    pub acked: u64,
    /// The length of the lease asked for, milliseconds.
    pub lease_ms: u32,
}

/// A lease is renewed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Grant {
    /// Of what.
    pub instance: Instance,
    /// The right that it is for.
    pub epoch: Epoch,
    /// Of the request.
    pub sent: u64,
    /// How long from `sent` on, milliseconds on the active's clock.
    pub lease_ms: u32,
}
