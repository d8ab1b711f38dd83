//! This node's own identity: its record, its incarnations, its proof of belonging.
//!
//! An incarnation must be durable before it is used, or a restart could use it twice. So that a
//! refutation never waits for a slow disk, incarnations are reserved in blocks.

use super::bounded::List;
use super::config::{Belonging, Config};
use super::id::{Incarnation, Keypair, NodeId};
use super::record::{Admission, Leave, NodeRecord, Reachability};
use super::signed::Signed;
use super::ticket::{ADDRESSES_MAX, Address};
use super::wire::gossip::Joined;
use super::wire::hello::Hello;
use super::wire::{WIRE_VERSION, WIRE_VERSION_MIN};

/// How many incarnations are reserved by one fsync.
pub const INCARNATIONS_RESERVED: u64 = 64;
/// A peer that claims an incarnation further ahead than this is wrong: only this node makes them.
pub const INCARNATION_LEAP_MAX: u64 = 1 << 32;

/// Who this node is.
#[derive(Debug)]
pub struct Myself {
    config: Config,
    /// The mesh and the chain that let this node in.
    pub belonging: Belonging,
    /// A member's word that it let this node in.
    pub admission: Option<Signed<Admission>>,
    record: NodeRecord,
    signed: Signed<NodeRecord>,
    /// The highest incarnation of an earlier life.
    used: Incarnation,
    /// The highest incarnation that is durably reserved.
    reserved: Incarnation,
}

impl Myself {
    /// The identity of a node whose earlier lives used incarnations up to `used`.
    pub fn new(
        config: Config,
        belonging: Belonging,
        admission: Option<Signed<Admission>>,
        used: Incarnation,
    ) -> Self {
        let record = NodeRecord {
            node: config.keypair.public(),
            incarnation: Incarnation(used.0 + 1),
            cell: config.cell,
            name: config.name.clone(),
            board: config.board.clone(),
            addresses: List::new(),
            reachability: Reachability::Unknown,
            link_cost: 1,
            labels: config.labels.clone(),
            extensions: List::new(),
        };
        let signed = seal(&config, &record);
        Self { config, belonging, admission, record, signed, used, reserved: used }
    }

    /// This node's id.
    pub fn id(&self) -> NodeId {
        self.record.node
    }

    /// Its key.
    pub fn keypair(&self) -> &Keypair {
        &self.config.keypair
    }

    /// What it was told at the start.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What it says of itself.
    pub fn record(&self) -> &NodeRecord {
        &self.record
    }

    /// The same, signed.
    pub fn signed(&self) -> &Signed<NodeRecord> {
        &self.signed
    }

    /// Whether this is an incarnation that this very life has taken.
    pub fn is_of_this_life(&self, incarnation: Incarnation) -> bool {
        self.used < incarnation && incarnation <= self.record.incarnation
    }

    /// The incarnation up to which to reserve next, if few enough are left.
    pub fn wants_reserve(&self) -> Option<Incarnation> {
        let left = self.reserved.0.saturating_sub(self.record.incarnation.0);
        (left < INCARNATIONS_RESERVED / 2)
            .then_some(Incarnation(self.record.incarnation.0 + INCARNATIONS_RESERVED))
    }

    /// Incarnations up to `upto` are durably reserved.
    pub fn on_reserved(&mut self, upto: Incarnation) {
        self.reserved = self.reserved.max(upto);
    }

    /// Takes an incarnation above `above` if a reserved one is left; otherwise says up to where to
    /// reserve first.
    ///
    /// # Errors
    /// The incarnation to reserve, after which to try again.
    pub fn rise_above(&mut self, above: Incarnation) -> Result<(), Incarnation> {
        let next = Incarnation(self.record.incarnation.max(above).0.saturating_add(1));
        if next > self.reserved {
            return Err(Incarnation(next.0.saturating_add(INCARNATIONS_RESERVED)));
        }
        self.record.incarnation = next;
        self.signed = seal(&self.config, &self.record);
        Ok(())
    }

    /// Where this node can be reached. Returns whether that is news, to be announced with a new
    /// incarnation.
    pub fn set_addresses(&mut self, addresses: List<Address, ADDRESSES_MAX>) -> bool {
        if self.record.addresses == addresses {
            return false;
        }
        self.record.addresses = addresses;
        self.signed = seal(&self.config, &self.record);
        true
    }

    /// What a peer is told first; `answer`: to a hello of a peer that connected anew.
    pub fn hello(&self, answer: bool) -> Hello {
        Hello {
            wire: (WIRE_VERSION_MIN, WIRE_VERSION),
            mesh: self.belonging.mesh,
            cell: self.config.cell,
            record: self.signed.clone(),
            credential: self.belonging.credential.clone(),
            admission: self.admission.clone(),
            answer,
        }
    }

    /// What members are told about this node.
    pub fn joined(&self) -> Joined {
        Joined {
            record: self.signed.clone(),
            credential: self.belonging.credential.clone(),
            admission: self.admission.clone(),
        }
    }

    /// This node's word that it let `admission.node` in.
    pub fn admit(&self, admission: &Admission) -> Signed<Admission> {
        Signed::seal(admission, &self.config.keypair).expect("an admission is far below the limit")
    }

    /// This node's word that it leaves.
    pub fn leave(&self) -> Signed<Leave> {
        let leave = Leave { node: self.id(), incarnation: self.record.incarnation };
        Signed::seal(&leave, &self.config.keypair).expect("a leave is far below the limit")
    }
}

fn seal(config: &Config, record: &NodeRecord) -> Signed<NodeRecord> {
    // 8 addresses, 8 labels and 8 extensions at their limits add up to less than 5 KiB; extensions
    // are empty in this version, which leaves half of that.
    Signed::seal(record, &config.keypair).expect("a record without extensions is below the limit")
}
