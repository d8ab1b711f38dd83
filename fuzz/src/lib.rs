//! Bytes that a peer, a disk or a person may bring, thrown at Hedgerow.
//!
//! Each target is a plain function of bytes. It panics when something is wrong: when the code under
//! test panics, or when what it says of itself does not hold (a decoded message encodes again, a state
//! is whole or not there, nothing is written outside the folder). Three things call it:
//!
//! | what | how |
//! |---|---|
//! | the seeds under `corpus/`, and thousands of seeded random changes of them | `cargo test -p hedgerow-fuzz` |
//! | one file, for instance what a fuzzer found | `cargo run -p hedgerow-fuzz -- TARGET FILE…` |
//! | libFuzzer, coverage-guided, for as long as you like | see `src/main.rs` |
//!
//! Whatever was found once stays as a file in `corpus/TARGET/`, so that the tests replay it for ever.
//!
//! Checksums, hashes and signatures would turn away almost every changed input at the door. So targets
//! behind such a door also try the input with the checksum made right again: a hostile peer can do that
//! for checksums and hashes, and a member can for its own signatures.

mod bytes;
mod node;
mod records;
mod restore;
mod scene;
mod state;
mod wire;

pub use node::node;
pub use records::records;
pub use restore::restore;
pub use state::{manifest, transfer};
pub use wire::{frame, journal, ticket};

/// A named input to begin with.
pub type Seed = (String, Vec<u8>);

/// One thing to throw bytes at.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, also of its folder under `corpus/`.
    pub name: &'static str,
    /// Takes any bytes and panics if anything is wrong.
    pub run: fn(&[u8]),
    /// Inputs to begin with, made anew from real messages.
    pub seeds: fn() -> Vec<Seed>,
    /// How many changed inputs the tests try: about as many as fit ten seconds of a debug build.
    pub mutations: u32,
}

/// Every target.
pub const TARGETS: [Target; 8] = [
    Target { name: "frame", run: frame, seeds: wire::frame_seeds, mutations: 100_000 },
    Target { name: "journal", run: journal, seeds: wire::journal_seeds, mutations: 10_000 },
    Target { name: "manifest", run: manifest, seeds: state::manifest_seeds, mutations: 100_000 },
    Target { name: "node", run: node, seeds: node::seeds, mutations: 4_000 },
    Target { name: "records", run: records, seeds: records::seeds, mutations: 20_000 },
    Target { name: "restore", run: restore, seeds: restore::seeds, mutations: 20_000 },
    Target { name: "ticket", run: ticket, seeds: wire::ticket_seeds, mutations: 20_000 },
    Target { name: "transfer", run: transfer, seeds: state::transfer_seeds, mutations: 20_000 },
];

/// The target of that name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}
