//! Orders: what an operator wants changed, under an operator's signature (decision D4).
//!
//! A member that was taken over cannot run anything elsewhere: the master checks every order before
//! it changes the table, and the board that runs a service checks the order behind it once more.

use serde::{Deserialize, Serialize};

use super::bounded::{List, Text};
use super::id::{CellId, Domain, Epoch, Incarnation, Keypair, MeshId, NodeId, PublicKey};
use super::record::Name;
use super::signed::{Signable, Signed};
use super::spec::{PORTS_MAX, ServiceSpec, SpecError};
use super::specs::SpecHash;
use super::table::CheckpointId;
use super::ticket::{ChainError, Credential};
use super::wire::codec::{self, CodecError};

/// Bytes of an order, a whole specification included.
pub const ORDER_BYTES_MAX: usize = 40 * 1024;
/// The longest time between issue and expiry that is accepted, seconds: so long nonces are kept.
pub const ORDER_SECONDS_MAX: u64 = 300;

/// Bytes of the sentence on why an instance does not run.
pub const SERVING_WHY_BYTES_MAX: usize = 256;

/// Boards that one order may name as gone for good.
pub const DEAD_MAX: usize = 16;

/// What an operator wants changed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Order {
    /// In which mesh.
    pub mesh: MeshId,
    /// In which cell.
    pub cell: CellId,
    /// Who wants it; also the key that signs this.
    pub operator: PublicKey,
    /// Makes it unique: an order is carried out once.
    pub nonce: [u8; 16],
    /// Unix seconds by the operator's clock.
    pub issued: u64,
    /// Unix seconds from which on it is void.
    pub expires: u64,
    /// What.
    pub action: Action,
}

/// What an order asks for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Action {
    /// Run this service, or change it to this.
    Run(Box<ServiceSpec>),
    /// Stop it, keep its place and its state.
    Stop(Name),
    /// Stop it and forget it.
    Remove {
        /// Which.
        service: Name,
        /// Without waiting until it is known to have stopped: its boards are gone for good.
        force: bool,
    },
    /// Move it to its standby.
    Move(Name),
    /// Make a checkpoint of it now.
    Checkpoint(Name),
    /// Let it start again, on its board, from a state that this board keeps.
    Restore {
        /// Which.
        service: Name,
        /// The state.
        at: CheckpointId,
    },
    /// Let a board start it from the newest state that this board has, although more might exist
    /// elsewhere: those who hold it are gone for good (3b.5).
    Recover {
        /// Which.
        service: Name,
        /// Who is to run it.
        from: NodeId,
    },
    /// The voters among these boards are gone for good: the board on which this is given decides alone
    /// from now on, until others join it (3b.5). Never passed on.
    RecoverMesh {
        /// The boards that are gone.
        dead: List<NodeId, DEAD_MAX>,
    },
    /// Let a board host nothing and decide nothing any more, or again.
    Drain {
        /// Which.
        node: NodeId,
        /// False: again.
        drained: bool,
    },
}

impl Signable for Order {
    const DOMAIN: Domain = Domain::Command;
}

/// An order, its signature, and the proof that its signer is an operator.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SignedOrder {
    /// The order.
    pub order: Signed<Order, ORDER_BYTES_MAX>,
    /// The chain root → ticket with the operator role → operator key.
    pub credential: Credential,
}

/// Why an order is not carried out.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OrderError {
    /// The signer is no operator of this mesh.
    #[error("the order is not signed by an operator of this mesh: {0}")]
    Chain(#[from] ChainError),
    /// The signature or the encoding is wrong.
    #[error("the order is damaged or forged")]
    Forged,
    /// For another mesh or cell.
    #[error("the order is for another mesh or cell")]
    Elsewhere,
    /// Too late, or valid for too long.
    #[error("the order has expired: check the clock of the board that it was given on")]
    Expired,
    /// The service cannot be run.
    #[error(transparent)]
    Spec(#[from] SpecError),
}

impl SignedOrder {
    /// Signs an order.
    ///
    /// # Errors
    /// It is larger than [`ORDER_BYTES_MAX`].
    pub fn seal(order: &Order, key: &Keypair, credential: Credential) -> Result<Self, CodecError> {
        Ok(Self { order: Signed::seal(order, key)?, credential })
    }

    /// The order, if an operator of this mesh signed it. Expiry is not judged: what runs goes on.
    ///
    /// # Errors
    /// Why it is not genuine, or cannot be carried out by anyone.
    pub fn verify(&self, root: &PublicKey, cell: CellId) -> Result<Order, OrderError> {
        let claimed = self.order.peek().map_err(|_| OrderError::Forged)?;
        self.credential.verify_operator(root, &claimed.operator)?;
        let order = self.order.open(&claimed.operator).map_err(|_| OrderError::Forged)?;
        if order.mesh != MeshId::of_root(root) || order.cell != cell {
            return Err(OrderError::Elsewhere);
        }
        if let Action::Run(spec) = &order.action {
            spec.check()?;
        }
        Ok(order)
    }

    /// As [`SignedOrder::verify`], for an order that is given now.
    ///
    /// # Errors
    /// Also when it has expired.
    pub fn verify_fresh(
        &self,
        root: &PublicKey,
        cell: CellId,
        unix: u64,
    ) -> Result<Order, OrderError> {
        let order = self.verify(root, cell)?;
        let lasts = order.expires.saturating_sub(order.issued);
        if unix >= order.expires || lasts > ORDER_SECONDS_MAX {
            return Err(OrderError::Expired);
        }
        Ok(order)
    }

    /// The name of these exact bytes: what a row of the table calls its specification.
    pub fn hash(&self) -> [u8; 32] {
        let bytes = codec::encode(self).expect("an order and a credential fit a frame");
        *blake3::hash(&bytes).as_bytes()
    }
}

/// An instance of a service: what rows, leases and checkpoints are about.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Instance {
    /// The service.
    pub service: Name,
    /// Which of its instances, from 0.
    pub ordinal: u16,
}

impl core::fmt::Display for Instance {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}", self.service)?;
        if self.ordinal > 0 {
            write!(f, ".{}", self.ordinal)?;
        }
        Ok(())
    }
}

/// A named port of a running service and where it can be reached.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Endpoint {
    /// The port's name in the service file.
    pub name: Name,
    /// `host:port`.
    pub address: Text<80>,
}

/// Where an active serves: signed by the active's board.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Serving {
    /// What.
    pub instance: Instance,
    /// Under which right.
    pub epoch: Epoch,
    /// Which life of the board; then `stamp` counts.
    pub life: Incarnation,
    /// Rises with every word in one life: the board's lease clock, nanoseconds.
    pub stamp: u64,
    /// Which board; also the key that signs this.
    pub node: NodeId,
    /// Whether it runs.
    pub runs: bool,
    /// The specification that it runs, or ran last, by the hash of its order.
    pub spec: SpecHash,
    /// Where it does not run: how it ended last, or why it could not be started, for people.
    pub why: Text<SERVING_WHY_BYTES_MAX>,
    /// `(name, host:port)` of each port.
    pub endpoints: List<Endpoint, PORTS_MAX>,
}

impl Serving {
    /// The word with the higher age is the newer one.
    pub fn age(&self) -> (Epoch, Incarnation, u64) {
        (self.epoch, self.life, self.stamp)
    }
}

impl Signable for Serving {
    const DOMAIN: Domain = Domain::Serving;
}

/// For tests.
#[cfg(test)]
pub(crate) mod samples {
    use super::*;
    use crate::proto::id::Keypair;
    use crate::proto::spec::{Commit, Limits, OnIsolation, Replicate, Restart};
    use crate::proto::ticket::{Role, Ticket, TicketRequest};

    /// A ticket of the mesh whose root has the seed 1.
    pub(crate) fn ticket(role: Role) -> Ticket {
        let request = TicketRequest {
            mesh_name: Text::capped("m"),
            role,
            issued: 0,
            expires: 0,
            bootstrap: List::new(),
        };
        let root = Keypair::from_seed(&[1; 32]);
        Ticket::issue(&root, request, zeroize::Zeroizing::new([3; 32])).unwrap()
    }

    /// A genuine order of that mesh, unlike those of other numbers.
    pub(crate) fn order(n: u64, action: Action) -> SignedOrder {
        let operator = Keypair::from_seed(&[2; 32]);
        let ticket = ticket(Role::Operator);
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&n.to_le_bytes());
        let order = Order {
            mesh: MeshId::of_root(&ticket.root),
            cell: CellId::default(),
            operator: operator.public(),
            nonce,
            issued: 0,
            expires: 60,
            action,
        };
        SignedOrder::seal(&order, &operator, ticket.bind_operator(&operator.public())).unwrap()
    }

    /// An order to run `kv`.
    pub(crate) fn run(n: u64) -> SignedOrder {
        order(n, Action::Run(Box::new(spec())))
    }

    /// `kv`, without a state.
    pub(crate) fn spec() -> ServiceSpec {
        ServiceSpec {
            name: Text::capped("kv"),
            command: List::capped([Text::capped("./kv")]),
            state: None,
            on_isolation: OnIsolation::default(),
            ports: List::new(),
            replicate: Replicate { every_ms: 1000, commit: Commit::Async, commit_timeout_ms: 0 },
            classes: List::new(),
            labels: List::new(),
            restart: Restart { max: 3, within_ms: 60_000 },
            limits: Limits::default(),
            env: List::new(),
        }
    }
}
