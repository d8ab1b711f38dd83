//! The thread between one shim and everybody here who has to do with it.
//!
//! It never waits for a disk, nor for an answer of the shim: whatever is asked goes out at once, and the
//! answers are taken as they come. So an extension of the lease is passed on while the service is being
//! frozen, captured, or told about its commits.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc as sync;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use tokio::sync::mpsc;

use super::Reported;
use crate::net::copies::capture::{Freezer, Frozen};
use crate::proto::io::{CommitOutcome, Exit, Report};
use crate::proto::machine::Time;
use crate::proto::order::Instance;
use crate::workload::client::ClientError;
use crate::workload::handle::{Handle, START_WAIT};
use crate::workload::process::RuntimeError;
use crate::workload::wire::{Cause, CommitResult, How, Message, Notice, Reply, Request};

/// What is waiting to be told to one instance: every commit that may wait, and a few more.
const ORDERS_MAX: usize = 64;
/// How long a service may take to end by itself after `SIGTERM`.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// Where in a ticket the shim's own number of a commit ends.
const TICKET_BITS: u32 = 32;

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
    wake: Arc<OwnedFd>,
}

/// What a thread is told.
#[derive(Debug)]
pub(crate) enum Order {
    /// Make it stand still, and say so.
    Freeze(sync::SyncSender<Result<Arc<AtomicBool>, String>>),
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

    /// Runs `work` on a new thread for that instance, and reports the exit that it returns.
    /// `launched`: it runs already.
    pub(super) fn spawn(
        &self,
        instance: Instance,
        launched: bool,
        work: impl FnOnce(&Thread) -> Result<Option<Exit>, RuntimeError> + Send + 'static,
    ) {
        let failed = |what: &dyn std::fmt::Display| {
            let exit = Exit::Failed { why: what.to_string() };
            self.report(&instance, Report::Ended(exit))
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
        let worker = Worker {
            life,
            orders,
            until: until.clone(),
            launched: launched.clone(),
            wake: wake.clone(),
        };
        let thread = Thread {
            instance: instance.clone(),
            life,
            orders: queue,
            until,
            launched,
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
                    thread.report(Report::Ended(exit));
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

/// One thread's end.
pub(super) struct Thread {
    instance: Instance,
    life: u32,
    orders: sync::Receiver<Order>,
    until: Arc<AtomicU64>,
    launched: Arc<AtomicBool>,
    wake: Arc<OwnedFd>,
    reports: mpsc::Sender<Reported>,
}

/// What a thread has asked of its shim.
#[derive(Default)]
struct Asked {
    /// The end of the lease that the shim was told last.
    until: u64,
    /// The call that freezes, and who waits for it.
    freeze: Option<(u64, sync::SyncSender<Result<Arc<AtomicBool>, String>>)>,
    /// True as long as it stands still, for whoever made it do so.
    still: Option<Arc<AtomicBool>>,
}

impl Thread {
    /// Tells the driver something, and waits until there is room for it.
    pub(super) fn report(&self, report: Report) {
        // An error means that the driver is gone; the shim goes on without it.
        let _ = self.reports.blocking_send((self.instance.clone(), report));
    }

    /// The end of its lease, as far as it was extended since this thread began.
    pub(super) fn until(&self) -> u64 {
        self.until.load(Ordering::Relaxed)
    }

    /// What to set once something of it may run.
    pub(super) fn launched(&self) -> Arc<AtomicBool> {
        self.launched.clone()
    }

    /// Whether it was to be stopped before it was started. Everything else that came before is void.
    pub(super) fn was_stopped(&self) -> bool {
        let mut stopped = false;
        for order in self.orders.try_iter() {
            match order {
                Order::Stop | Order::Kill => stopped = true,
                Order::Freeze(answer) => {
                    let why = "it is being started".to_owned();
                    let _ = answer.try_send(Err(why));
                }
                Order::Thaw | Order::Commit { .. } => {}
            }
        }
        stopped
    }

    /// Passes on what is asked and what happens, until the shim has ended.
    pub(super) fn watch(&self, mut handle: Handle) -> Exit {
        let mut asked = Asked::default();
        loop {
            if let Err(error) = self.pass_on(&mut handle, &mut asked) {
                // If it is gone, that is what comes next.
                tracing::debug!(instance = %self.instance, %error, "the shim cannot be asked");
            }
            match handle.connection().receive() {
                Ok(Some(Message::Notice(Notice::Exited(exit)))) => {
                    return exit_of(&exit.how, exit.cause);
                }
                Ok(Some(Message::Notice(notice))) => {
                    self.note(&notice);
                    continue;
                }
                Ok(Some(Message::Reply { id, reply })) => {
                    if self.on_reply(&mut asked, id, &reply) {
                        let _ = handle.connection().send(Request::Thaw);
                    }
                    continue;
                }
                Ok(None) => {}
                Err(error) => return Exit::Failed { why: format!("its shim is gone: {error}") },
            }
            let connection = handle.connection();
            let mut flags = PollFlags::IN;
            flags.set(PollFlags::OUT, connection.wants_write());
            let mut fds = [PollFd::new(connection, flags), PollFd::new(&self.wake, PollFlags::IN)];
            let _ = poll(&mut fds, None);
            let mut count = [0; 8];
            let _ = rustix::io::read(&self.wake, &mut count);
        }
    }

    /// Asks the shim for everything that has come up. The lease comes first.
    fn pass_on(&self, handle: &mut Handle, asked: &mut Asked) -> Result<(), ClientError> {
        let connection = handle.connection();
        connection.flush()?;
        let until = self.until();
        if until > asked.until {
            connection.send(Request::Extend { until })?;
            asked.until = until;
        }
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Freeze(answer) => match connection.send(Request::Freeze) {
                    Ok(call) => asked.freeze = Some((call, answer)),
                    Err(error) => drop(answer.try_send(Err(error.to_string()))),
                },
                Order::Thaw => {
                    asked.goes_on();
                    connection.send(Request::Thaw)?;
                }
                Order::Stop => {
                    asked.goes_on();
                    let grace_ms = u32::try_from(STOP_GRACE.as_millis()).unwrap_or(u32::MAX);
                    connection.send(Request::Stop { grace_ms })?;
                }
                Order::Kill => drop(connection.send(Request::Kill)?),
                Order::Commit { ticket, outcome } => {
                    // A commit of an earlier shim must not be taken for one of this one's.
                    if ticket >> TICKET_BITS == u64::from(self.life) {
                        let (id, result) = (ticket & u64::from(u32::MAX), result_of(outcome));
                        connection.send(Request::Committed { id, result })?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Returns true if it stands still now for nobody.
    fn on_reply(&self, asked: &mut Asked, id: u64, reply: &Reply) -> bool {
        if let Reply::Refused(refusal) = reply {
            tracing::debug!(instance = %self.instance, %refusal, "the shim refused");
        }
        let Some((_, answer)) = asked.freeze.take_if(|(call, _)| *call == id) else {
            return false;
        };
        let stands = match reply {
            Reply::Ok => {
                let still = Arc::new(AtomicBool::new(true));
                asked.still = Some(still.clone());
                Ok(still)
            }
            other => Err(match other {
                Reply::Refused(refusal) => refusal.to_string(),
                other => format!("its shim answered {other:?}"),
            }),
        };
        let frozen = stands.is_ok();
        // Whoever asked may not wait any more.
        answer.try_send(stands).is_err() && frozen
    }

    fn note(&self, notice: &Notice) {
        let instance = &self.instance;
        match notice {
            Notice::CommitRequested { id } => match u32::try_from(*id) {
                Ok(id) => {
                    let ticket = u64::from(self.life) << TICKET_BITS | u64::from(id);
                    self.report(Report::Commit { ticket });
                }
                Err(_) => tracing::warn!(%instance, id, "a commit number that no shim gives"),
            },
            Notice::BoundBroken { by_ns } => {
                tracing::error!(%instance, by_ns, "bound broken: a kill was not confirmed in time");
            }
            Notice::Late { by_ns } => tracing::warn!(%instance, by_ns, "this board stalls"),
            other => tracing::debug!(%instance, ?other, "shim"),
        }
    }
}

impl Asked {
    /// It does not stand still from now on, whoever relied on that.
    fn goes_on(&mut self) {
        if let Some(still) = self.still.take() {
            still.store(false, Ordering::Release);
        }
    }
}

fn result_of(outcome: CommitOutcome) -> CommitResult {
    match outcome {
        CommitOutcome::Ok(checkpoint) => CommitResult::Ok { checkpoint },
        CommitOutcome::Unprotected => CommitResult::Unprotected,
        CommitOutcome::Unknown => CommitResult::Unknown,
        CommitOutcome::Fenced => CommitResult::Fenced,
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
