//! The instances on this board: one small thread for each that runs, between its shim and the driver.
//!
//! The node decides; this carries out `Start`, `Extend` and `Stop`, and says what became of it. A
//! thread sleeps until its shim says something or the driver does. It decides nothing: the deadline
//! is the shim's, and if this thread or the whole agent is gone, the shim still keeps it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc as sync;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use tokio::sync::mpsc;

use crate::proto::bounded::List;
use crate::proto::failover::active::Found;
use crate::proto::id::{Epoch, NodeId};
use crate::proto::io::{Exit, Report};
use crate::proto::machine::Time;
use crate::proto::order::Instance;
use crate::proto::record::Name;
use crate::proto::spec::{OnIsolation, PORTS_MAX, ServiceSpec};
use crate::workload::handle::Handle;
use crate::workload::instance::{self, Limits, Mode};
use crate::workload::process::{self, ProcessRuntime, Runtime, RuntimeError};
use crate::workload::wire::{Cause, How, Notice};

/// What is waiting to be told to one instance; more would only repeat it.
const ORDERS_MAX: usize = 32;
/// What is waiting to be told to the driver.
pub(crate) const REPORTS_MAX: usize = 256;
/// How long a service may take to end by itself after `SIGTERM`.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// What became of an instance.
pub(crate) type Reported = (Instance, Report);

/// The instances that run here, or are being started or stopped.
#[derive(Debug)]
pub(crate) struct Workloads {
    runtime: ProcessRuntime,
    /// Where services keep their files: one folder each.
    services: PathBuf,
    node: NodeId,
    running: BTreeMap<Instance, Worker>,
    reports: mpsc::Sender<Reported>,
}

/// The driver's end of one thread.
#[derive(Debug)]
struct Worker {
    orders: sync::SyncSender<Order>,
    wake: Arc<OwnedFd>,
}

#[derive(Debug)]
enum Order {
    Extend(Time),
    Stop,
}

/// Everything needed to start one instance.
pub(crate) struct Start {
    pub(crate) instance: Instance,
    pub(crate) epoch: Epoch,
    pub(crate) until: Time,
    pub(crate) kill_bound: Duration,
    pub(crate) spec: Box<ServiceSpec>,
}

impl Workloads {
    /// Finds what an earlier agent left running and goes on with it. What was found is reported.
    pub(crate) fn open(
        shim: &Path,
        home: &Path,
        node: NodeId,
    ) -> Result<(Self, mpsc::Receiver<Reported>), RuntimeError> {
        let runtime = ProcessRuntime::new(shim, &home.join("run"))?;
        let (reports, reported) = mpsc::channel(REPORTS_MAX);
        let services = home.join("services");
        let running = BTreeMap::new();
        let mut workloads = Self { runtime, services, node, running, reports };
        for found in workloads.runtime.adopt()? {
            workloads.go_on(found);
        }
        Ok((workloads, reported))
    }

    fn go_on(&mut self, found: process::Found) {
        match found {
            process::Found::Running(mut handle) => {
                let Ok(what) = instance::Instance::load(handle.files()) else {
                    tracing::warn!(
                        "a shim without a readable instance file: it ends with its lease"
                    );
                    return;
                };
                let key = Instance { service: Name::capped(&what.service), ordinal: what.ordinal };
                let found = Found { epoch: Epoch(what.epoch), ports: ports_of(&what) };
                // The driver reads only once everything was found: there is room, or it is not told.
                if self.reports.try_send((key.clone(), Report::Found(found))).is_ok() {
                    let _ = handle.status();
                    self.spawn(key, move |worker| Ok(worker.watch(*handle)));
                }
            }
            process::Found::Unclear { error, .. } => tracing::warn!(%error, "an unclear shim"),
            process::Found::Ended { .. } | process::Found::Died { .. } => {}
        }
    }

    /// Starts an instance; what becomes of it is reported.
    pub(crate) fn start(&mut self, start: Start) {
        let key = start.instance.clone();
        let (runtime, services, node) = (self.runtime.clone(), self.services.clone(), self.node);
        self.spawn(key, move |worker| {
            let what = describe(&start, &services, node)?;
            let ports = ports_of(&what);
            let handle = runtime.start(&what, start.until.0)?;
            worker.report(Report::Started { ports });
            Ok(worker.watch(handle))
        });
    }

    /// Tells an instance that its lease was extended.
    pub(crate) fn extend(&self, instance: &Instance, until: Time) {
        self.tell(instance, Order::Extend(until));
    }

    /// Stops an instance. Nothing is reported if it does not run.
    pub(crate) fn stop(&self, instance: &Instance) {
        self.tell(instance, Order::Stop);
    }

    fn tell(&self, instance: &Instance, order: Order) {
        if let Some(worker) = self.running.get(instance)
            && worker.orders.try_send(order).is_ok()
        {
            // A full counter means that it is awake.
            let _ = rustix::io::write(&worker.wake, &1_u64.to_ne_bytes());
        }
    }

    fn spawn(
        &mut self,
        instance: Instance,
        work: impl FnOnce(&Thread) -> Result<Exit, RuntimeError> + Send + 'static,
    ) {
        let failed = |what: &dyn std::fmt::Display| Exit::Failed { why: what.to_string() };
        let wake = match eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC) {
            Ok(wake) => Arc::new(wake),
            Err(error) => {
                let _ = self.reports.try_send((instance, Report::Ended(failed(&error))));
                return;
            }
        };
        let (orders, queue) = sync::sync_channel(ORDERS_MAX);
        let thread = Thread {
            instance: instance.clone(),
            orders: queue,
            wake: wake.clone(),
            reports: self.reports.clone(),
        };
        let spawned =
            std::thread::Builder::new().name("hedgerow-work".to_owned()).spawn(move || {
                let exit =
                    work(&thread).unwrap_or_else(|error| Exit::Failed { why: error.to_string() });
                thread.report(Report::Ended(exit));
            });
        match spawned {
            Ok(_) => drop(self.running.insert(instance, Worker { orders, wake })),
            Err(error) => {
                let _ = self.reports.try_send((instance, Report::Ended(failed(&error))));
            }
        }
    }
}

/// One thread's end.
struct Thread {
    instance: Instance,
    orders: sync::Receiver<Order>,
    wake: Arc<OwnedFd>,
    reports: mpsc::Sender<Reported>,
}

impl Thread {
    fn report(&self, report: Report) {
        // An error means that the driver is gone; the shim goes on without it.
        let _ = self.reports.blocking_send((self.instance.clone(), report));
    }

    /// Passes orders and notices on until the shim has ended.
    fn watch(&self, mut handle: Handle) -> Exit {
        loop {
            while let Ok(order) = self.orders.try_recv() {
                let told = match order {
                    Order::Extend(until) => handle.extend(until.0).map(drop),
                    Order::Stop => handle.stop(STOP_GRACE),
                };
                if let Err(error) = told {
                    tracing::debug!(instance = %self.instance, %error, "the shim refused");
                }
            }
            match handle.connection().next_notice(Duration::ZERO) {
                Ok(Some(Notice::Exited(exit))) => return exit_of(&exit.how, exit.cause),
                Ok(Some(notice)) => {
                    self.note(&notice);
                    continue;
                }
                Ok(None) => {}
                Err(error) => return Exit::Failed { why: format!("its shim is gone: {error}") },
            }
            let connection = handle.connection();
            let mut fds =
                [PollFd::new(connection, PollFlags::IN), PollFd::new(&self.wake, PollFlags::IN)];
            let _ = poll(&mut fds, None);
            let mut count = [0; 8];
            let _ = rustix::io::read(&self.wake, &mut count);
        }
    }

    fn note(&self, notice: &Notice) {
        let instance = &self.instance;
        match notice {
            Notice::BoundBroken { by_ns } => {
                tracing::error!(%instance, by_ns, "bound broken: a kill was not confirmed in time");
            }
            Notice::Late { by_ns } => tracing::warn!(%instance, by_ns, "this board stalls"),
            other => tracing::debug!(%instance, ?other, "shim"),
        }
    }
}

fn exit_of(how: &How, cause: Cause) -> Exit {
    match (cause, how) {
        (Cause::Fenced, _) => Exit::Fenced,
        (Cause::Stopped | Cause::Killed, _) => Exit::Stopped,
        (_, How::Code(code)) => Exit::Code { code: *code },
        (_, How::Signal(signal)) => Exit::Signal { signal: *signal },
        (_, How::NotStarted(why)) => Exit::Failed { why: why.clone() },
    }
}

fn ports_of(what: &instance::Instance) -> List<(Name, u16), PORTS_MAX> {
    List::capped(what.ports.iter().map(|(name, port)| (Name::capped(name), *port)))
}

/// What the shim is told about an instance. Its folder is made if it does not exist.
fn describe(
    start: &Start,
    services: &Path,
    node: NodeId,
) -> Result<instance::Instance, RuntimeError> {
    let folder = services.join(start.instance.to_string());
    let state = start.spec.state.as_ref().map(|state| folder.join(&**state));
    let make = |path: &Path| {
        fs::create_dir_all(path)
            .map_err(|source| RuntimeError::Io { path: path.to_owned(), source })
    };
    make(&folder)?;
    state.as_deref().map(make).transpose()?;
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
