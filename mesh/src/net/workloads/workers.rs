//! Everybody's end of the threads of [`super::worker`]: who runs, and how to tell them something.
//!
//! Nothing here waits, but for one thing: whoever captures a state waits until the service stands still.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc as sync;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::mpsc;

use super::Reported;
use super::worker::Thread;
use crate::net::copies::capture::{Freezer, Frozen};
use crate::net::hosted::Live;
use crate::proto::id::Epoch;
use crate::proto::io::{CommitOutcome, Exit, Report};
use crate::proto::machine::Time;
use crate::proto::order::Instance;
use crate::workload::handle::START_WAIT;
use crate::workload::process::RuntimeError;

/// What is waiting to be told to one instance: every commit that may wait, and a few more.
const ORDERS_MAX: usize = 64;

/// Every thread of this kind. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Workers {
    all: Arc<Mutex<BTreeMap<Instance, Worker>>>,
    reports: mpsc::Sender<Reported>,
    /// Shims number their commits from one; with this number in front no two of one life are alike.
    lives: Arc<AtomicU32>,
    /// Captures after which a service is to stay frozen, as long as nobody wants it to go on.
    last: Arc<Mutex<BTreeMap<Instance, Arc<AtomicBool>>>>,
}

/// The other end of one thread.
#[derive(Clone, Debug)]
struct Worker {
    life: u32,
    orders: sync::SyncSender<Order>,
    /// The newest end of its lease. Not an order: none of them may be lost in a full queue.
    until: Arc<AtomicU64>,
    /// Whether anything of it may run: from then on it can be asked to stand still.
    launched: Arc<AtomicBool>,
    /// Set once it runs, if it runs inside this program.
    live: Arc<OnceLock<Arc<Live>>>,
    wake: Arc<OwnedFd>,
}

/// Whether a service stands still, as long as it does; or why it does not, for people.
pub(super) type Stands = Result<Arc<AtomicBool>, String>;

/// What a thread is told.
#[derive(Debug)]
pub(super) enum Order {
    /// Make it stand still, and say so.
    Freeze(sync::SyncSender<Stands>),
    /// Let it go on.
    Thaw,
    /// Ask it to end, and kill it if it does not.
    Stop,
    /// Kill it.
    Kill,
    /// Answer a commit.
    Commit { ticket: u64, outcome: CommitOutcome },
}

impl Workers {
    pub(super) fn new(reports: mpsc::Sender<Reported>) -> Self {
        Self { all: Arc::default(), reports, lives: Arc::default(), last: Arc::default() }
    }

    /// Runs `work` on a new thread for that instance under that right, and reports the exit that it returns.
    /// `launched`: it runs already.
    pub(super) fn spawn(
        &self,
        (instance, epoch): (Instance, Epoch),
        launched: bool,
        work: impl FnOnce(&Thread) -> Result<Option<Exit>, RuntimeError> + Send + 'static,
    ) {
        let failed = |what: &dyn std::fmt::Display| {
            let exit = Exit::Failed { why: what.to_string() };
            self.report(&instance, Report::Ended { epoch, exit })
        };
        let wake = match eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC) {
            Ok(wake) => Arc::new(wake),
            Err(error) => {
                failed(&error);
                return;
            }
        };
        let (orders, queue) = sync::sync_channel(ORDERS_MAX);
        let until = Arc::new(AtomicU64::new(0));
        let life = self.lives.fetch_add(1, Ordering::Relaxed);
        let launched = Arc::new(AtomicBool::new(launched));
        let live = Arc::new(OnceLock::new());
        let worker = Worker {
            life,
            orders,
            until: until.clone(),
            launched: launched.clone(),
            live: live.clone(),
            wake: wake.clone(),
        };
        let thread = Thread {
            instance: instance.clone(),
            life,
            orders: queue,
            until,
            launched,
            live,
            wake,
            reports: self.reports.clone(),
        };
        let workers = self.clone();
        self.all().insert(instance.clone(), worker);
        let spawned =
            std::thread::Builder::new().name("hedgerow-work".to_owned()).spawn(move || {
                let exit = work(&thread)
                    .unwrap_or_else(|error| Some(Exit::Failed { why: error.to_string() }));
                workers.forget(&thread.instance, life);
                if let Some(exit) = exit {
                    thread.report(Report::Ended { epoch, exit });
                }
            });
        if let Err(error) = spawned {
            self.forget(&instance, life);
            failed(&error);
        }
    }

    /// Tells the driver something, if there is room.
    pub(super) fn report(&self, instance: &Instance, report: Report) -> bool {
        self.reports.try_send((instance.clone(), report)).is_ok()
    }

    /// Moves the end of a lease.
    pub(super) fn extend(&self, instance: &Instance, until: Time) {
        if let Some(worker) = self.all().get(instance) {
            worker.until.fetch_max(until.0, Ordering::Relaxed);
            worker.wake();
        }
    }

    /// Tells an instance something. False if it does not run.
    pub(super) fn tell(&self, instance: &Instance, order: Order) -> bool {
        let worker = self.all().get(instance).cloned();
        worker.is_some_and(|worker| worker.tell(order))
    }

    /// Whoever can make that instance stand still. `last`: it is to stay so, until somebody wants it to
    /// go on.
    pub(crate) fn freezer(&self, instance: &Instance, last: bool) -> impl Freezer + Send + 'static {
        let stays = Arc::new(AtomicBool::new(last));
        if last {
            locked(&self.last).insert(instance.clone(), stays.clone());
        }
        OneFreezer { workers: self.clone(), instance: instance.clone(), stays }
    }

    /// From now on nobody wants that instance to stand still any more.
    pub(super) fn goes_on(&self, instance: &Instance) {
        if let Some(stays) = locked(&self.last).remove(instance) {
            stays.store(false, Ordering::Release);
        }
    }

    fn forget(&self, instance: &Instance, life: u32) {
        let mut all = self.all();
        if all.get(instance).is_some_and(|worker| worker.life == life) {
            all.remove(instance);
        }
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<Instance, Worker>> {
        locked(&self.all)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Worker {
    fn tell(&self, order: Order) -> bool {
        let told = self.orders.try_send(order).is_ok();
        self.wake();
        told
    }

    fn wake(&self) {
        // A full counter means that it is awake.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

struct OneFreezer {
    workers: Workers,
    instance: Instance,
    stays: Arc<AtomicBool>,
}

struct StandsStill {
    worker: Worker,
    still: Arc<AtomicBool>,
    stays: Arc<AtomicBool>,
}

impl Freezer for OneFreezer {
    fn freeze(&self) -> Result<Option<Box<dyn Frozen>>, String> {
        let worker = self.workers.all().get(&self.instance).cloned();
        let Some(worker) = worker.filter(|worker| worker.launched.load(Ordering::Acquire)) else {
            return Ok(None);
        };
        if let Some(live) = worker.live.get() {
            return live.freeze(self.stays.clone());
        }
        let (answer, stands) = sync::sync_channel(1);
        if !worker.tell(Order::Freeze(answer)) {
            return Err("it is busy with other orders".to_owned());
        }
        match stands.recv_timeout(START_WAIT) {
            Ok(Ok(still)) => {
                let stays = self.stays.clone();
                Ok(Some(Box::new(StandsStill { worker, still, stays })))
            }
            Ok(Err(why)) => Err(why),
            // It ended before it could be asked.
            Err(sync::RecvTimeoutError::Disconnected) => Ok(None),
            Err(sync::RecvTimeoutError::Timeout) => {
                // Should it freeze after all, its thread finds nobody waiting and lets it go on.
                Err(format!("its shim did not answer within {START_WAIT:?}"))
            }
        }
    }
}

impl Frozen for StandsStill {
    fn still(&self) -> bool {
        self.still.load(Ordering::Acquire)
    }

    fn stays(&self) -> bool {
        self.stays.load(Ordering::Acquire)
    }

    fn thaw(&self) {
        self.worker.tell(Order::Thaw);
    }
}
