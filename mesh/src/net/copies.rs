//! States of instances on this board's disk, and on their way between boards: the bulk plane.
//!
//! The node says what to capture, whom to serve, what to fetch and what to keep, and hears what became of
//! it; here is everything between that and the disk.
//!
//! ```text
//! Capture ─▶ capture ─┐                                         ┌─▶ Captured
//! Keep ───────────────┼─▶ shelf: one thread and store each ─────┤
//! Fetch ──▶ fetch ────┘        ▲                                └─▶ Fetched
//! Serve ──▶ serve ── spool ────┘      words, pace: what a stream carries, and how fast
//! ```
//!
//! Nothing here decides what a state is worth: which one to start from, who must hold it before a commit
//! is answered, when it may be forgotten. See [`crate::proto::copies`].

pub(crate) mod capture;
pub(crate) mod folder;
pub(crate) mod shelf;

mod fetch;
mod pace;
mod serve;
mod spool;
#[cfg(test)]
mod tests;
mod words;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use self::capture::{Freezer, capture_as};
use self::fetch::{FetchError, Fetcher, Job};
use self::serve::Server;
use self::shelf::{Shelf, Shelves};
use self::words::WireError;
use super::swarm::{BulkStream, Swarm};
use crate::proto::bounded::List;
use crate::proto::id::{Epoch, NodeId};
use crate::proto::io::{COPIES_MAX, Input, NotFetched, STATES_KEPT_MAX};
use crate::proto::order::Instance;
use crate::proto::table::CheckpointId;

/// Outcomes that wait for the driver.
const INPUTS_MAX: usize = 256;

/// The driver's end of it.
#[derive(Debug)]
pub(crate) struct Copies {
    shelves: Shelves,
    server: Arc<Server>,
    fetcher: Arc<Fetcher>,
    fetching: BTreeMap<Instance, AbortHandle>,
    /// Ends with this board's interest in them.
    tasks: JoinSet<()>,
    inputs: mpsc::Sender<Input>,
}

impl Copies {
    /// For these stores; the outcomes come out of the queue.
    pub(crate) fn new(shelves: Shelves) -> (Self, mpsc::Receiver<Input>) {
        let (inputs, outcomes) = mpsc::channel(INPUTS_MAX);
        shelves.tell(&inputs);
        let copies = Self {
            server: Arc::new(Server::new(shelves.clone())),
            fetcher: Arc::new(Fetcher::new(shelves.clone())),
            shelves,
            fetching: BTreeMap::new(),
            tasks: JoinSet::new(),
            inputs,
        };
        (copies, outcomes)
    }

    /// Captures the state of the service in `folder`.
    ///
    /// # Errors
    /// Why that cannot even be tried, for people; then there is no outcome.
    pub(crate) fn capture(
        &self,
        instance: &Instance,
        id: CheckpointId,
        folder: PathBuf,
        last: bool,
        freezer: impl Freezer + Send + 'static,
    ) -> Result<(), String> {
        let (inputs, of) = (self.inputs.clone(), instance.clone());
        let job = move |shelf: &mut _| {
            // The node waits for an answer; the store's thread survives a panic, and goes on with it.
            let captured = AssertUnwindSafe(|| capture_as(shelf, &folder, id, last, &freezer));
            let (result, panic) = match catch_unwind(captured) {
                Ok(result) => (result.map_err(|error| error.to_string()), None),
                Err(panic) => {
                    (Err("the capture failed badly: see the log".to_owned()), Some(panic))
                }
            };
            // An error means that the driver is gone.
            let _ = inputs.blocking_send(Input::Captured { instance: of, id, result });
            if let Some(panic) = panic {
                resume_unwind(panic);
            }
        };
        match self.shelves.of(instance) {
            Ok(queue) if queue.put(job) => Ok(()),
            Ok(_) => Err("the disk does not keep up".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Notes that what lies in the state folder of the service in `folder` is to be kept aside.
    pub(crate) fn keep_aside(&self, instance: &Instance, folder: PathBuf, epoch: Epoch) {
        let of = instance.clone();
        let job = move |_: &mut Shelf| {
            if let Err(error) = folder::note_split(&folder, epoch) {
                tracing::error!(instance = %of, %error, "what it wrote in isolation may be lost");
            }
        };
        if !self.shelves.of(instance).is_ok_and(|queue| queue.put(job)) {
            tracing::error!(%instance, "the disk does not keep up: what it wrote in isolation may be lost");
        }
    }

    /// From now on exactly these boards may fetch that instance here.
    pub(crate) fn serve(&self, instance: Instance, to: List<NodeId, COPIES_MAX>) {
        self.server.allow(instance, to);
    }

    /// Keeps these states of an instance, and forgets the others.
    pub(crate) fn keep(&self, instance: &Instance, states: List<CheckpointId, STATES_KEPT_MAX>) {
        let Some(queue) = self.shelves.known(instance) else { return };
        let of = instance.clone();
        let kept = queue.put(move |shelf| {
            if let Err(error) = shelf.keep(&states) {
                tracing::warn!(instance = %of, %error, "old states stay for now");
            }
        });
        if !kept {
            tracing::warn!(%instance, "the disk does not keep up: old states stay for now");
        }
    }

    /// Fetches a state; one that is on its way for the same instance is given up.
    pub(crate) fn fetch(
        &mut self,
        swarm: &Swarm,
        instance: Instance,
        id: CheckpointId,
        from: NodeId,
    ) {
        self.reap();
        let (fetcher, swarm, inputs) = (self.fetcher.clone(), swarm.clone(), self.inputs.clone());
        let job = Job { instance: instance.clone(), id, from };
        let of = instance.clone();
        let task = self.tasks.spawn(async move {
            let result = fetcher.fetch(&swarm, job).await;
            if let Err(FetchError::Wire(WireError::Garbled(what))) = &result {
                let _ = inputs.send(Input::Garbled { from, what: what.clone() }).await;
            }
            let result = result.map_err(|error| NotFetched {
                own_disk: error.is_own_disk(),
                why: error.to_string(),
            });
            let _ = inputs.send(Input::Fetched { instance: of, id, from, result }).await;
        });
        if let Some(older) = self.fetching.insert(instance, task) {
            older.abort();
        }
    }

    /// A peer was let in on a new connection.
    pub(crate) fn on_admitted(&self, peer: &NodeId) {
        self.fetcher.begin_anew(peer);
    }

    /// A peer opened a bulk stream.
    pub(crate) fn on_stream(&mut self, peer: NodeId, stream: BulkStream) {
        self.reap();
        let (server, inputs) = (self.server.clone(), self.inputs.clone());
        self.tasks.spawn(async move {
            match server.serve(peer, stream).await {
                Err(WireError::Garbled(what)) => {
                    let _ = inputs.send(Input::Garbled { from: peer, what }).await;
                }
                Err(error) => tracing::debug!(peer = %peer.short(), %error, "a bulk stream ended"),
                Ok(()) => {}
            }
        });
    }

    fn reap(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        self.fetching.retain(|_, task| !task.is_finished());
    }
}
