//! Deduplicated, compressed deltas of a service's state.

pub mod vfs;
