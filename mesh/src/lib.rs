//! Hedgerow keeps services on small edge computers alive without a central server.
//!
//! Boards find each other and gossip who is there through libp2p; a service's state is replicated to
//! a standby board; when its board dies, the standby carries on.
//!
//! [`proto`] is the pure core, which owns no clock, socket or file. `net` drives it with real ones.

#[cfg(any(feature = "net", feature = "workloads"))]
pub mod clock;
#[cfg(feature = "net")]
pub mod error;
#[cfg(feature = "net")]
pub mod mesh;
#[cfg(feature = "net")]
pub mod net;
pub mod proto;
#[cfg(feature = "workloads")]
pub mod workload;

#[cfg(feature = "net")]
pub use mesh::Mesh;
