//! The thread that looks whether programs are there.
//!
//! One for the whole board, since a disk that hangs must not take more: what finds no room in the queue is
//! not looked at, and asked for again a little later.

use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use super::workers::Workers;
use crate::proto::io::Report;
use crate::proto::order::Instance;
use crate::proto::specs::SpecHash;
use crate::workload::program;

/// Checks that wait for the disk.
const CHECKS_MAX: usize = 1024;

/// One check.
pub(super) struct Check {
    pub(super) instance: Instance,
    pub(super) order: SpecHash,
    /// The program, as the specification names it.
    pub(super) program: String,
    /// The instance's folder, and where in it the state is.
    pub(super) folder: PathBuf,
    pub(super) state: Option<String>,
    /// What the specification sets `PATH` to.
    pub(super) path: Option<String>,
}

/// The queue to that thread, which ends with it.
#[derive(Debug)]
pub(super) struct Checks(Option<SyncSender<Check>>);

impl Checks {
    pub(super) fn start(workers: Workers) -> Self {
        let (checks, queue) = sync_channel::<Check>(CHECKS_MAX);
        let work = move || {
            for Check { instance, order, program, folder, state, path } in queue {
                let result = program::find(&program, &folder, state.as_deref(), path.as_deref());
                workers.report(&instance, Report::Checked { order, result });
            }
        };
        let thread = thread::Builder::new().name("hedgerow-checks".to_owned()).spawn(work);
        Self(thread.map(|_| checks).map_err(|error| tracing::warn!(%error, "no thread")).ok())
    }

    pub(super) fn ask(&self, check: Check) {
        if let Some(queue) = &self.0 {
            // Full: asked again.
            let _ = queue.try_send(check);
        }
    }
}
