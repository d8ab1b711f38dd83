//! Deduplicated, compressed deltas of a service's state.

pub mod chunk;
mod codec;
mod delta;
mod hash;
pub mod manifest;
pub mod path;
pub mod receive;
pub mod store;
pub mod transfer;
pub mod vfs;
mod wire;

pub use chunk::ChunkId;
pub use manifest::{CkptId, Layer, ManifestHash, SealedManifest};
pub use receive::Receiver;
pub use store::{Durable, Store, StoreConfig};
pub use transfer::{Ancestor, Transfer};
