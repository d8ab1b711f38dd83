//! The shim with real processes: what must die dies, what must live lives.
//!
//! Each file is one promise. Where a promise could hold for the wrong reason, the same test runs once
//! more with the mechanism taken away and must see the fault: those tests are named `…_without_…`.
//! Nothing here waits by sleeping: processes are awaited by pidfd, services speak through a FIFO,
//! and where time itself must pass, the lease clock's own timer is awaited.
#![cfg(feature = "workloads")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod commits;
mod deadline;
mod death;
mod protocol;
mod start;
mod support;
