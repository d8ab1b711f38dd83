//! The pure core: every rule of the protocol, no input or output.
//!
//! Read [`machine`], then [`io`], then [`node`].

pub mod bounded;
pub mod config;
pub mod id;
pub mod io;
pub mod journal;
pub mod machine;
pub mod members;
pub mod node;
pub mod record;
pub mod signed;
pub mod ticket;
pub mod wire;
