//! Orders, specifications and leases of instances on the wire.

use serde::{Deserialize, Serialize};

use crate::proto::bounded::Text;
use crate::proto::id::{Epoch, Incarnation, NodeId};
use crate::proto::order::{Instance, SignedOrder};
use crate::proto::specs::SpecHash;
use crate::proto::table::CheckpointId;

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

/// The master to the board that is to carry it out: an operator ordered this.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Pass {
    /// Echoed in a refusal, which is a `Submitted`. What is carried out shows in the table.
    pub seq: u64,
    /// What the operator ordered.
    pub order: SignedOrder,
    /// The right that it is about: carried out, it ends that right, so it is not carried out twice.
    pub epoch: Epoch,
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
    /// The newest `sent` that this very grantor has granted: proves that the active hears it. 0: none
    /// under this right.
    pub acked: u64,
    /// How long what this very grantor granted lasts still on the active's clock when this is sent,
    /// milliseconds: a grantor that restarted knows by it what it has promised. 0: it is over.
    pub left_ms: u32,
    /// The newest incarnation of the grantor that the active knows: what was meant for an earlier life says
    /// nothing about how much of a promise is left in this one.
    pub life: Incarnation,
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
    /// Granted as the reigning master; otherwise as the standby that the grantor believes to be. What a
    /// former standby believes must not count, though it may be a voter (S3).
    pub as_master: bool,
}

/// A board tells the master something about a row that needs a change of the table. Repeated until a
/// higher revision of the row is seen; the master answers one that is out of date with the table.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Claim {
    /// Which row.
    pub instance: Instance,
    /// Its epoch, as the claimant knows it.
    pub epoch: Epoch,
    /// Its revision, as the claimant knows it.
    pub revision: u64,
    /// What.
    pub claim: Claimed,
}

/// What a board tells the master about a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Claimed {
    /// The standby: the active is silent, and no promise of mine binds any more. I vote for myself.
    Take {
        /// The newest state that I could start from: from then on a floor. The default without a state.
        from: CheckpointId,
    },
    /// The active: my standby does not answer; I need another.
    NeedStandby,
    /// The active: the board to be filled does not answer.
    AbortFill,
    /// The active: the board to be filled holds everything that the standby holds, and I do not count
    /// on the standby any more.
    Filled,
    /// The active: the standby holds a complete state of this right.
    Ready,
    /// The active: the instance does not run here any more and never will under this epoch.
    Release {
        /// Who is to go on.
        to: NodeId,
        /// The last state; the default if there is none.
        last: CheckpointId,
    },
    /// The active: what is to be removed does not run here any more. The standby: no promise of mine to
    /// its active binds any more, and I make none.
    Stopped,
    /// The active: what I ran on is lost.
    Lost,
    /// The active: an operator wants it started again from this state, which I have.
    Restore(CheckpointId),
    /// A board that an operator named: this is the newest state that I have.
    Recover(CheckpointId),
    /// The standby: whether I could start it.
    Able(bool),
    /// The active: nothing has begun under this right, and this is what it would begin with.
    Begins(CheckpointId),
    /// The active: it cannot begin here, nor could it where it came from, which is my standby now.
    NeedAnother,
}
