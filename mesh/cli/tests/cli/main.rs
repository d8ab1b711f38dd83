//! The binary end to end: real processes, real sockets on loopback, a temporary folder for each
//! board. Waiting means asking again until a deadline; every process is ended by its id.

#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain has failed")]

mod api;
mod board;
mod clock;
mod demo;
mod disk;
mod faults;
mod flow;
mod isolation;
mod kv;
mod lan;
mod life;
mod machine;
mod network;
mod services;
mod upkeep;
