//! Deduplicated, compressed deltas of a service's state, and the store that keeps them.
//!
//! The active board sends its state once in full, then every second or so only what changed; the
//! standby acknowledges a state only when it is verified and durable (Das & Sidhanta; delta,
//! deduplication and compression after Ha et al.; layers after Machen et al.). This crate is that
//! pipeline without the network: everything here is a function of folders, bytes and a disk.
//!
//! ```text
//!  folder ──capture──▶ manifest + chunks ──encode──▶ header + segments ──Receiver──▶ Durable
//!                          │    ▲                                           │
//!                          ▼    │ ancestor: last acknowledged               ▼
//!                         Store (active)                            Store (standby) ──restore──▶ folder
//! ```
//!
//! | word | meaning |
//! |---|---|
//! | state | what a service consists of at one checkpoint: files, links, memory images |
//! | chunk | 16 KiB of content at a fixed place, named by BLAKE3 ([`chunk`]) |
//! | manifest | everything about a state but the content; its hash *is* the state ([`manifest`]) |
//! | ancestor | a state both sides have: the last one acknowledged |
//! | transfer | one state on its way: a small header, independent segments ([`transfer`]) |
//! | pack | what one checkpoint added, in one file that never changes ([`store`]) |
//! | durable | verified, written, synced, renamed, folder synced: may be acknowledged |
//!
//! # One round
//!
//! ```
//! # use std::sync::Arc;
//! # use hedgerow_replication::vfs::OsVfs;
//! use hedgerow_replication::{
//!     Ancestor, CaptureOptions, CkptId, Layer, Receiver, Store, StoreConfig, Transfer, capture,
//!     restore,
//! };
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = std::env::temp_dir().join(format!("hedgerow-essay-{}", std::process::id()));
//! # let (live, copy) = (dir.join("live"), dir.join("copy"));
//! # std::fs::create_dir_all(&live)?;
//! # std::fs::write(live.join("orders.db"), vec![7; 100_000])?;
//! let (disk_a, disk_b) = (OsVfs::new(dir.join("a"))?, OsVfs::new(dir.join("b"))?);
//! let mut active = Store::open(Arc::new(disk_a), StoreConfig::default())?;
//! let mut standby = Store::open(Arc::new(disk_b), StoreConfig::default())?;
//! let mut last = None;
//! for seq in 1..=2 {
//!     // On the active: the service is frozen while this runs.
//!     let options = CaptureOptions {
//!         ckpt: CkptId { epoch: 4, seq },
//!         layer: Layer::Instance,
//!         page_bytes: 4096,
//!         now_ns: 1_767_225_600_000_000_000,
//!         previous: last.as_ref(),
//!         full: false,
//!     };
//!     let mut draft = active.begin("shop")?;
//!     let captured = capture(&live, &options, &mut draft)?;
//!     let _ = draft.commit(&captured.manifest)?;
//!     let chunks = active.chunks("shop");
//!     let ancestor = last.as_ref().map(|acked: &hedgerow_replication::Captured| Ancestor {
//!         manifest: &acked.manifest,
//!         chunks: &chunks,
//!     });
//!     let sent = Transfer::encode(&captured.manifest, &chunks, ancestor, 3)?;
//!
//!     // On the standby, whatever moves the bytes. Any order, any number of restarts.
//!     let mut receiver = Receiver::open(&mut standby, "shop", sent.header.bytes())?;
//!     for index in receiver.missing().collect::<Vec<_>>() {
//!         receiver.accept(index, &sent.segments[index as usize])?;
//!     }
//!     let durable = receiver.finish(&mut standby)?;
//!     assert_eq!(durable.ckpt(), options.ckpt); // only now: acknowledge
//!     standby.gc("shop", &[])?;
//!     last = Some(captured);
//! #   std::fs::write(live.join("orders.db"), vec![8; 100_000])?;
//! }
//! // The active is gone: start from the newest complete state.
//! let newest = *standby.states("shop").last().ok_or("no state")?;
//! let state = standby.manifest("shop", newest.ckpt)?;
//! restore(&state, &standby.chunks("shop"), &copy, Default::default())?;
//! # assert!(std::fs::read(copy.join("orders.db"))?.iter().all(|&byte| byte == 8));
//! # std::fs::remove_dir_all(&dir)?;
//! # Ok(())
//! # }
//! ```
//!
//! # What it does not do
//!
//! No network, clock, thread or randomness of its own. It does not decide who may send, which
//! states belong to a lineage, or when to collect garbage; the node does. It is correct and durable
//! first: content-defined chunks for a first sync, a persistent index of moved content, prefixes of
//! old pages and manifests without chunk names come later, as further kinds of pieces and segments.

pub mod capture;
pub mod chunk;
mod codec;
mod delta;
mod hash;
pub mod manifest;
pub mod path;
pub mod receive;
pub mod restore;
pub mod store;
pub mod transfer;
pub mod vfs;
mod wire;

pub use capture::{CaptureOptions, Captured, capture};
pub use chunk::ChunkId;
pub use manifest::{CkptId, Layer, ManifestHash, SealedManifest};
pub use receive::Receiver;
pub use restore::restore;
pub use store::{Durable, Store, StoreConfig};
pub use transfer::{Ancestor, Transfer};
