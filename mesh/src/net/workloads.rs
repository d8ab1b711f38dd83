//! The instances on this board: one small thread for each that runs, between its shim and the driver.
//!
//! The node decides; this carries out `Start`, `Extend`, `Thaw`, `Stop` and `Commit`, and says what became
//! of it. A thread ([`worker`]) sleeps until its shim says something or somebody here does. It decides
//! nothing: the deadline is the shim's, and if this thread or the whole agent is gone, the shim still
//! keeps it.

mod checks;
mod in_process;
mod worker;
mod workers;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;

use self::checks::{Check, Checks};
use self::worker::Thread;
use self::workers::Order;
pub(crate) use self::workers::Workers;
use super::copies::folder::{self, Begun};
use super::copies::shelf::Shelves;
use super::hosted::Hosts;
use crate::proto::bounded::List;
use crate::proto::failover::active::Found;
use crate::proto::id::{Digest16, Epoch, NodeId};
use crate::proto::io::{Begin, CommitOutcome, Exit, Report};
use crate::proto::machine::Time;
use crate::proto::order::Instance;
use crate::proto::record::Name;
use crate::proto::spec::{OnIsolation, PORTS_MAX, ServiceSpec};
use crate::proto::specs::SpecHash;
use crate::workload::instance::{self, Limits, Mode};
use crate::workload::process::{self, ProcessRuntime, Runtime, RuntimeError};

const NO_SHIM: &str = "the program on this board runs no processes: it was started without a shim";
/// What is waiting to be told to the driver.
pub(crate) const REPORTS_MAX: usize = 256;

/// What became of an instance.
pub(crate) type Reported = (Instance, Report);

/// The instances that run here, or are being started or stopped.
#[derive(Debug)]
pub(crate) struct Workloads {
    runtime: ProcessRuntime,
    /// Where services keep their files: one folder each.
    services: PathBuf,
    node: NodeId,
    shelves: Shelves,
    workers: Workers,
    checks: Checks,
    /// What this program hosts itself, and where that is polled.
    hosts: (Hosts, Handle),
    /// Whether it runs no processes.
    no_shim: bool,
}

/// Everything needed to start one instance.
pub(crate) struct Start {
    pub(crate) instance: Instance,
    pub(crate) epoch: Epoch,
    pub(crate) until: Time,
    pub(crate) kill_bound: Duration,
    pub(crate) spec: Box<ServiceSpec>,
    pub(crate) begin: Begin,
}

impl Workloads {
    /// Finds what an earlier agent left running and goes on with it. What was found is reported.
    pub(crate) fn open(
        shim: &Path,
        home: &Path,
        node: NodeId,
        shelves: Shelves,
        hosts: Hosts,
    ) -> Result<(Self, mpsc::Receiver<Reported>), RuntimeError> {
        let runtime = ProcessRuntime::new(shim, &home.join("run"))?;
        let (reports, reported) = mpsc::channel(REPORTS_MAX);
        let (services, workers) = (home.join("services"), Workers::new(reports));
        let (hosts, no_shim) = ((hosts, Handle::current()), shim.as_os_str().is_empty());
        let checks = Checks::start(workers.clone());
        let workloads = Self { runtime, services, node, shelves, workers, checks, hosts, no_shim };
        for found in workloads.runtime.adopt()? {
            workloads.go_on(found);
        }
        Ok((workloads, reported))
    }

    /// Whoever else has to do with what runs here.
    pub(crate) fn workers(&self) -> Workers {
        self.workers.clone()
    }

    /// The folder of an instance.
    pub(crate) fn folder(&self, instance: &Instance) -> PathBuf {
        self.services.join(instance.to_string())
    }

    fn go_on(&self, found: process::Found) {
        match found {
            process::Found::Running(mut handle) => {
                let Ok(what) = instance::Instance::load(handle.files()) else {
                    tracing::warn!(
                        "a shim without a readable instance file: it ends with its lease"
                    );
                    return;
                };
                let key = Instance { service: Name::capped(&what.service), ordinal: what.ordinal };
                let epoch = Epoch(what.epoch);
                let spec = Digest16::parse(&what.spec);
                let found = Found { epoch, spec, ports: ports_of(&what) };
                // The driver reads only once everything was found: there is room, or it is not told.
                if self.workers.report(&key, Report::Found(found)) {
                    let _ = handle.status();
                    let watch = move |worker: &Thread| Ok(Some(worker.watch(*handle)));
                    self.workers.spawn((key, epoch), true, watch);
                }
            }
            process::Found::Unclear { error, .. } => tracing::warn!(%error, "an unclear shim"),
            process::Found::Ended { .. } | process::Found::Died { .. } => {}
        }
    }

    /// Starts an instance; what becomes of it is reported.
    pub(crate) fn start(&self, start: Start) {
        let key = (start.instance.clone(), start.epoch);
        let (runtime, node, shelves) = (self.runtime.clone(), self.node, self.shelves.clone());
        let (folder, no_shim) = (self.folder(&key.0), self.no_shim);
        if in_process::is_meant(&start.spec) {
            let (hosts, runtime) = self.hosts.clone();
            let job = in_process::Job { start, folder, shelves, hosts, runtime };
            return self.workers.spawn(key, false, |worker| Ok(in_process::run(worker, job)));
        }
        self.workers.spawn(key, false, move |worker| {
            if no_shim {
                return Ok(Some(Exit::Failed { why: NO_SHIM.to_owned() }));
            }
            match prepare(&start, &folder, shelves, worker.launched()) {
                Ok(Begun::Ready) => {}
                Ok(Begun::Lost) => {
                    worker.report(Report::Lost { epoch: start.epoch });
                    return Ok(None);
                }
                Err(why) => return Ok(Some(Exit::Failed { why })),
            }
            let what = describe(&start, folder, node)?;
            let ports = ports_of(&what);
            // That may have taken a while: the lease may be a longer one by now, or over.
            if worker.was_stopped() {
                return Ok(Some(Exit::Stopped));
            }
            let until = start.until.0.max(worker.until());
            let handle = runtime.start(&what, until)?;
            worker.report(Report::Started { epoch: start.epoch, ports });
            Ok(Some(worker.watch(handle)))
        });
    }

    /// Whether an instance could be started here; that is reported, unless a program that has just begun
    /// may still say that it hosts it.
    pub(crate) fn check(&self, instance: Instance, order: SpecHash, spec: &ServiceSpec) {
        let known = match (in_process::is_meant(spec), self.no_shim) {
            (true, _) => match self.hosts.0.hosts(&instance.service) {
                Some(true) => Ok(()),
                Some(false) => Err(Hosts::lacks(&instance.service)),
                None => return,
            },
            (false, true) => Err(NO_SHIM.to_owned()),
            (false, false) => {
                let path = spec.env.iter().find(|(name, _)| **name == *"PATH");
                return self.checks.ask(Check {
                    folder: self.folder(&instance),
                    instance,
                    order,
                    program: spec.command.first().map(ToString::to_string).unwrap_or_default(),
                    state: spec.state.as_ref().map(ToString::to_string),
                    path: path.map(|(_, path)| path.to_string()),
                });
            }
        };
        self.workers.report(&instance, Report::Checked { order, result: known });
    }

    /// Tells an instance that its lease was extended.
    pub(crate) fn extend(&self, instance: &Instance, until: Time) {
        self.workers.extend(instance, until);
    }

    /// Lets a frozen instance go on.
    pub(crate) fn thaw(&self, instance: &Instance) {
        self.workers.goes_on(instance);
        self.workers.tell(instance, Order::Thaw);
    }

    /// Stops an instance. Nothing is reported if it does not run.
    pub(crate) fn stop(&self, instance: &Instance, kill: bool) {
        self.workers.goes_on(instance);
        self.workers.tell(instance, if kill { Order::Kill } else { Order::Stop });
    }

    /// Answers a service's commit.
    pub(crate) fn commit(&self, instance: &Instance, ticket: u64, outcome: CommitOutcome) {
        self.workers.tell(instance, Order::Commit { ticket, outcome });
    }
}

/// Puts the folder of a service in order, and its state in it.
fn prepare(
    start: &Start,
    folder: &Path,
    shelves: Shelves,
    launched: Arc<AtomicBool>,
) -> Result<Begun, String> {
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let Some(state) = start.spec.state.as_ref().map(ToString::to_string) else {
        return Ok(Begun::Ready);
    };
    let queue = shelves.of(&start.instance).map_err(|error| error.to_string())?;
    // Whoever runs a service must not keep the stores open.
    drop(shelves);
    let (folder, epoch, begin) = (folder.to_owned(), start.epoch, start.begin);
    // On the store's thread, so that nothing captures a folder that is being made or begins to be used.
    let work = move |shelf: &mut _| {
        let begun = folder::begin(shelf, &folder, &state, epoch, begin);
        launched.store(true, Ordering::Release);
        begun
    };
    let begun = queue.wait(work).map_err(|error| error.to_string())?;
    begun.map_err(|error| error.to_string())
}

fn ports_of(what: &instance::Instance) -> List<(Name, u16), PORTS_MAX> {
    List::capped(what.ports.iter().map(|(name, port)| (Name::capped(name), *port)))
}

/// What the shim is told about an instance.
fn describe(
    start: &Start,
    folder: PathBuf,
    node: NodeId,
) -> Result<instance::Instance, RuntimeError> {
    let fixed = start.spec.ports.iter().filter(|port| port.port != 0);
    for port in fixed {
        if process::is_taken(port.port) {
            return Err(RuntimeError::PortTaken { name: port.name.to_string(), port: port.port });
        }
    }
    let free = start.spec.ports.iter().filter(|port| port.port == 0).count();
    let free = process::free_ports(free)
        .map_err(|source: io::Error| RuntimeError::Io { path: folder.clone(), source })?;
    let mut free = free.into_iter();
    let ports = start.spec.ports.iter().map(|port| {
        let number = if port.port == 0 { free.next().unwrap_or_default() } else { port.port };
        (port.name.to_string(), number)
    });
    Ok(instance::Instance {
        service: start.instance.service.to_string(),
        ordinal: start.instance.ordinal,
        epoch: start.epoch.0,
        spec: start.spec.digest().to_string(),
        node: node.to_string(),
        command: start.spec.command.iter().map(ToString::to_string).collect(),
        env: start.spec.env.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
        ports: ports.collect(),
        folder,
        kill_bound_ms: u32::try_from(start.kill_bound.as_millis()).unwrap_or(u32::MAX),
        mode: match start.spec.on_isolation {
            OnIsolation::Fence => Mode::Fence,
            OnIsolation::KeepRunning => Mode::KeepRunning,
        },
        limits: Limits {
            memory_bytes: (start.spec.limits.memory_bytes > 0)
                .then_some(start.spec.limits.memory_bytes),
            pids: (start.spec.limits.pids > 0).then_some(start.spec.limits.pids),
        },
        isolate_pids: true,
    })
}
