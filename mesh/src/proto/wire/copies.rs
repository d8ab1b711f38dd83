//! States of instances on the wire: who has which, and who has it now too. The bytes themselves go over
//! bulk streams.

use serde::{Deserialize, Serialize};

use crate::proto::bounded::Text;
use crate::proto::order::Instance;
use crate::proto::table::CheckpointId;

/// The active: this state of mine is complete; fetch it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Offer {
    /// Of which instance.
    pub instance: Instance,
    /// Which state.
    pub id: CheckpointId,
}

/// The standby, or the board that is to become it: I hold that state, verified and durable (`CkptOk`
/// of 3b.7).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Stored {
    /// Of which instance.
    pub instance: Instance,
    /// Which state.
    pub id: CheckpointId,
}

/// The board that was offered that state: my disk does not take it. Said again for every offer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Unstorable {
    /// Of which instance.
    pub instance: Instance,
    /// Which state.
    pub id: CheckpointId,
    /// What the disk said, for people.
    pub why: Text<256>,
}
