//! What the node has asked the disk for, and what for.

use std::collections::BTreeMap;

use super::authority::Stored;
use super::failover::Kept;
use super::id::{Incarnation, OpId};
use super::io::Effect;
use super::journal::Record;
use super::machine::Effects;
use super::order::SignedOrder;

/// Records on their way to the disk.
#[derive(Default, Debug)]
pub(crate) struct Ops {
    last: u64,
    open: BTreeMap<OpId, Purpose>,
}

/// What waits for a record to be durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// Nothing.
    Memory,
    /// Incarnations up to the first; the second is what has to be refuted with one of them.
    Incarnations(Incarnation, Option<Incarnation>),
    /// Leaving the mesh, by this command.
    Leave(OpId),
    /// The answer to this command.
    Revocation(OpId),
    /// An order that rows name by its hash.
    Spec(Box<SignedOrder>),
    /// A promise of the authority.
    Authority(Stored),
    /// A promise of an active.
    Kept(Kept),
}

impl Ops {
    pub(crate) fn persist(&mut self, record: Record, purpose: Purpose, out: &mut Effects) {
        self.last += 1;
        let op = OpId(self.last);
        self.open.insert(op, purpose);
        out.push(Effect::Persist { op, record });
    }

    pub(crate) fn done(&mut self, op: OpId) -> Option<Purpose> {
        self.open.remove(&op)
    }

    pub(crate) fn any(&self, predicate: impl Fn(&Purpose) -> bool) -> bool {
        self.open.values().any(predicate)
    }
}
