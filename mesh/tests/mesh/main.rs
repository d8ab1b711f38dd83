//! Real nodes over real sockets on loopback, in one process.

#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain has failed")]

mod admission;
mod authority;
mod copies;
mod embedders;
mod host;
mod membership;
mod meshes;
mod raw;
mod services;
mod strangers;
