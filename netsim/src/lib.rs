//! netsim runs the production node of Hedgerow in virtual time, under faults.
//!
//! One thread, one queue of things that will happen, one seed: equal plans give equal runs, to the
//! last byte. What it simulates is everything around the node – clocks, disk, network, the driver's
//! rules – never the node itself, which is the very code that boards run.
//!
//! ```text
//! scenario file ─┐                     ┌─ trace hash
//!                ├─▶ Plan ─▶ World ────┼─ invariants ─▶ findings
//! swarm seed ────┘    boards, net,     └─ timeline
//!                     disks, faults
//! ```
//!
//! Read [`plan`], then [`world`], then [`faults`]; [`service`] and [`host`] for what runs on boards, [`shelf`] for
//! the stores of their states, [`program`] for real code in the place of ideal services. A failure is made small by
//! [`shrink`], and [`flight`] replays what a real board recorded. Relays are not here: the node has none yet.

pub mod board;
pub mod campaign;
pub mod cue;
pub mod disk;
pub mod evidence;
pub mod exam;
pub mod expect;
pub mod faults;
pub mod flight;
pub mod golden;
pub mod host;
#[cfg(feature = "hosted")]
pub mod hosted;
pub mod invariant;
pub mod law;
pub mod net;
pub mod observe;
pub mod plan;
pub mod program;
pub mod queue;
pub mod replay;
pub mod report;
pub mod scenario;
pub mod seed;
pub mod service;
pub mod shelf;
pub mod shrink;
pub mod story;
pub mod swarm;
pub mod tally;
pub mod time;
pub mod timeline;
pub mod told;
pub mod trace;
pub mod world;
