//! Hedgerow keeps services on small edge computers alive without a central server.
//!
//! Boards find each other, by tickets or on the LAN, and gossip who is there. Three of them elect a
//! master that decides who runs what. A service's state is copied to a standby board as it changes; when
//! its board dies, the standby carries on from the last copy, and never while the old one might still
//! run. There is no server to keep alive for that, and no cloud.
//!
//! # As a library
//!
//! An application starts one [`Mesh`] on each board. It needs a tokio runtime with several threads, and a
//! data folder that is the board's own.
//!
//! | you want | you call |
//! |---|---|
//! | to join with a ticket, or to found a mesh | [`Mesh::builder`] |
//! | to know who is there, and what happens | [`Mesh::members`], [`Mesh::events`] |
//! | to tell everybody something small | [`Mesh::topic`] |
//! | a part of your program to run on one board, always | [`Mesh::service`] and [`Hosted`] |
//! | to find it, wherever it runs now | [`Mesh::resolve`] |
//! | to stop without a gap | [`Mesh::shutdown`]; dropping is crashing |
//! | to test all that in one process | [`Mesh::memory`] |
//!
//! ```
//! use futures::StreamExt;
//! use hedgerow::Mesh;
//! use hedgerow::mesh::Heard;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! // Two boards in this process. On real ones: Mesh::builder().name("pi-3").data_dir(…).ticket(…).start()
//! let meshes = Mesh::memory(2).await?;
//! assert_eq!(meshes[0].members().up(), 2);
//!
//! let mut heard = meshes[0].topic::<f64>("telemetry:board-1:temp")?.subscribe();
//! meshes[1].topic("telemetry:board-1:temp")?.publish(&21.5).await?;
//! assert_eq!(heard.next().await, Some(Heard::Message(meshes[1].id(), 21.5)));
//! # Ok(()) })
//! # }
//! ```
//!
//! The package `hedgerow-examples` has a hosted service that survives its board, in 100 lines.
//!
//! # What it promises, and what it does not
//!
//! A hosted service runs on at most one board at a time: each run rests on a lease, and a program whose
//! service does not stop when its lease ends is aborted (unless it asked for danger). What
//! [`Active::commit`](mesh::Active::commit) confirmed is on a second board's disk; what happened since the
//! last checkpoint, and was not committed, may be lost with the board. Members are trusted not to lie about
//! who decides; strangers get nothing.
//!
//! # Inside
//!
//! [`proto`] is the pure core, which owns no clock, socket or file; the simulator runs it too. [`net`]
//! drives it with real ones, [`workload`] runs services as processes, [`mesh`] is what applications see.
//! Read `ARCHITECTURE.md` next.

#[cfg(any(feature = "net", feature = "workloads"))]
pub mod clock;
#[cfg(feature = "net")]
pub mod error;
#[cfg(feature = "hosted")]
pub mod hosted;
#[cfg(feature = "net")]
pub mod mesh;
#[cfg(feature = "net")]
pub mod net;
pub mod proto;
#[cfg(feature = "workloads")]
pub mod workload;

#[cfg(feature = "net")]
pub use mesh::{
    Active, Builder, Checkpoint, Event, Hosted, Members, Mesh, MeshError, Meshes, OperatorKey,
    Resolved, Restored, Service, Ticket, Topic,
};
