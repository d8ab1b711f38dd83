//! Your own [`Hosted`] service in the simulated world: its real `run`, `checkpoint` and `restore`, in virtual
//! time, under faults.
//!
//! ```text
//! scenario, seed or Plan ─┐                 ┌─ Outcome: what the world found wrong
//!                         ├─▶ Simulation ───┤
//! T: Hosted ──────────────┘    .run()       └─ Log: what your service did, in order
//! ```
//!
//! The page `netsim/HOSTED.md` goes from a question to a test. Whatever your service waits for must be tokio's time, its [`Active`](hedgerow::hosted::Active), or
//! another task of its own: the world has no sockets and no files.
//!
//! - `service`: one service that runs: its tokio runtime, its right, its future;
//! - `services`: all of them, as the world's [`Programs`](crate::program::Programs);
//! - `states`: what checkpoints hold, by the names that the world gives them;
//! - `log`: what they say of themselves.

mod log;
mod service;
mod services;
mod states;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hedgerow::hosted::{Checkpoint, Fault, Hosted, Restored};
use hedgerow::proto::order::Instance;
use hedgerow::proto::spec::{Commit, OnIsolation};

use crate::campaign;
use crate::faults;
use crate::observe::{Finding, Watcher};
use crate::plan::{Outcome, Plan};
use crate::scenario::{self, ScenarioError};
use crate::swarm::{self, BOARDS, Schedule};
use crate::timeline::Timeline;
use crate::world;

pub use log::{Log, Note};

/// The rule that a service breaks where your own check finds something wrong, see [`Note::finding`].
pub const OWN_CHECK: &str = "own-check";

/// A plan, and the services of yours that run in it.
///
/// A `commit` waits five seconds for the standby, as where a service was declared by `Mesh::service` and nothing
/// else was said.
#[derive(Clone)]
pub struct Simulation {
    plan: Plan,
    hosted: BTreeMap<Instance, Arc<Kind>>,
    commit: Commit,
    commit_timeout_ms: u32,
}

/// How one service begins.
struct Kind {
    first: Arc<Restored>,
    restore: Box<Restore>,
}

type MakeWatcher = dyn Fn() -> Box<dyn Watcher> + Sync;
type Restore = dyn Fn(&Restored) -> Result<Arc<dyn Hosted>, Fault> + Send + Sync;

/// Why a service cannot be simulated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The plan runs no service of that name.
    #[error(
        "the plan runs no service called `{name}`, only: {known}; seeds call theirs s0, s1 and s2"
    )]
    NoSuchService {
        /// The name.
        name: String,
        /// Those that it runs.
        known: String,
    },
    /// The first state cannot be written.
    #[error("the first checkpoint failed: {0}")]
    Checkpoint(Fault),
}

impl Simulation {
    /// Of a plan that you have made or changed yourself.
    pub fn of(plan: Plan) -> Self {
        Self { plan, hosted: BTreeMap::new(), commit: Commit::Standby, commit_timeout_ms: 5000 }
    }

    /// Of a scenario: the text of a file as `netsim/SCENARIOS.md` describes it.
    ///
    /// # Errors
    /// What is wrong in the text, and where.
    pub fn scenario(text: &str) -> Result<Self, ScenarioError> {
        scenario::parse(Path::new("the scenario"), text).map(Self::of)
    }

    /// Of a seed: five boards and a random schedule of faults. Services are called s0, s1 and s2; with
    /// [`Schedule::Chaos`] there is always an s0.
    pub fn seed(seed: u64, schedule: Schedule) -> Self {
        let mut plan = swarm::plan(seed, BOARDS, schedule);
        // What an operator throws away no service can keep, and no check of its own would know.
        plan.schedule.retain(|timed| {
            !matches!(timed.fault, faults::Fault::Restore { .. } | faults::Fault::Remove { .. })
        });
        Self::of(plan)
    }

    /// The plan's service of that name is yours from now on; where a mesh has no state of it yet, it begins with
    /// `first`. Services that are not yours stay ideal ones.
    ///
    /// # Errors
    /// See [`HostError`].
    pub fn host<T: Hosted>(self, name: &str, first: &T) -> Result<Self, HostError> {
        self.host_with(name, first, T::restore)
    }

    /// As [`host`](Self::host), with something else in the place of `T::restore`, which gives the service what
    /// only a test has: a [`Log`], clients.
    ///
    /// # Errors
    /// See [`HostError`].
    pub fn host_with<T: Hosted>(
        mut self,
        name: &str,
        first: &T,
        restore: impl Fn(&Restored) -> Result<T, Fault> + Send + Sync + 'static,
    ) -> Result<Self, HostError> {
        let known: Vec<&str> = self.plan.services.iter().map(|known| &*known.name).collect();
        let known = known.join(", ");
        let Some(service) = self.plan.services.iter_mut().find(|known| known.name == name) else {
            return Err(HostError::NoSuchService { name: name.to_owned(), known });
        };
        let mut out = Checkpoint::in_memory();
        first.checkpoint(&mut out).map_err(HostError::Checkpoint)?;
        service.stateful = true;
        // As the crate hosts them.
        service.on_isolation = OnIsolation::Fence;
        let restore = Box::new(move |from: &Restored| -> Result<Arc<dyn Hosted>, Fault> {
            let service: Arc<dyn Hosted> = Arc::new(restore(from)?);
            Ok(service)
        });
        let kind = Kind { first: Arc::new(out.restored()), restore };
        self.hosted.insert(service.instance(), Arc::new(kind));
        Ok(self)
    }

    /// How long `commit` waits for the standby; zero is for ever. In whole milliseconds.
    pub fn commit_within(mut self, longest: Duration) -> Self {
        self.commit = Commit::Standby;
        self.commit_timeout_ms = u32::try_from(longest.as_millis()).unwrap_or(u32::MAX);
        self
    }

    /// `commit` waits for nobody.
    pub fn commit_at_once(mut self) -> Self {
        self.commit = Commit::Async;
        self
    }

    /// What is run.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Runs it, on a thread of its own. Equal simulations give equal traces and equal notes, if the service
    /// itself does the same every time.
    pub fn run(&self) -> Outcome {
        self.run_once(false, None)
    }

    /// Runs it and prints what boards do, line by line, as `netsim run --timeline` does.
    pub fn run_with_timeline(&self) -> Outcome {
        let timeline = || -> Box<dyn Watcher> { Box::new(Timeline::stdout(false)) };
        self.run_once(false, Some(&timeline))
    }

    /// Runs it twice, and finds that it is not `deterministic` if the second time anything was different, a note
    /// for example. Notes are kept of the first time only.
    pub fn run_twice(&self) -> Outcome {
        let mut outcome = self.run();
        if outcome.findings.is_empty() && self.run_once(true, None).trace != outcome.trace {
            let text = "the service did something else the second time".to_owned();
            let at = outcome.ended;
            outcome.findings = vec![Finding { at, rule: "deterministic", board: None, text }];
        }
        outcome
    }

    fn run_once(&self, again: bool, watcher: Option<&MakeWatcher>) -> Outcome {
        // Runtimes are made, and a thread that is one of a runtime's must not do that.
        let work = || {
            campaign::caught(|| {
                let services = services::Services::new(self.clone(), again);
                let watcher = watcher.map(|make| make());
                world::run_programs(&self.plan, watcher, Box::new(services))
            })
        };
        std::thread::scope(|scope| match scope.spawn(work).join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }
}
