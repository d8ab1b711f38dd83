//! The pure core: every rule of the protocol, no input or output.
//!
//! Read [`machine`], then [`io`], then [`node`].

pub mod admission;
pub mod authority;
pub mod bounded;
pub mod config;
pub mod copies;
pub mod directory;
pub mod effective_time;
pub mod failover;
pub mod holdings;
pub mod id;
pub mod io;
pub mod journal;
pub mod links;
pub mod machine;
pub mod members;
pub mod membership;
pub mod myself;
pub mod node;
pub(crate) mod ops;
pub mod order;
pub mod placement;
pub mod promises;
pub mod record;
pub mod recording;
pub mod signed;
pub mod spec;
pub mod specs;
pub mod table;
pub mod ticket;
pub mod topics;
pub(crate) mod turn;
mod verified;
pub mod views;
pub mod wire;
