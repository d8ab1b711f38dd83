//! The thread of a service that this program hosts itself: starts it, watches its lease, says how it
//! ended. What the shim is to a process.
//!
//! ```text
//! ─────────── may act ──────────┼── told to end ──┼── dropped ──┼ until: aborted, if it runs still
//!                         until − D         until − D/2
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use tokio::runtime::Handle;

use super::worker::Thread;
use super::workers::Order;
use super::{Shelves, Start, prepare};
use crate::clock;
use crate::net::copies::folder::Begun;
use crate::net::copies::shelf::Queue;
use crate::net::hosted::{self, End, Hosts, Live, Overrun};
use crate::proto::bounded::List;
use crate::proto::io::{Exit, Report};
use crate::proto::record::Name;
use crate::proto::spec::{PORTS_MAX, ServiceSpec};
use crate::workload::process;

/// How long a service may take to end by itself when it is stopped and its lease holds.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Whether that service runs inside the program of its board.
pub(super) fn is_meant(spec: &ServiceSpec) -> bool {
    spec.command.first().is_some_and(|program| **program == *hosted::COMMAND)
}

/// Everything needed to run one.
pub(super) struct Job {
    pub(super) start: Start,
    pub(super) folder: std::path::PathBuf,
    pub(super) shelves: Shelves,
    pub(super) hosts: Hosts,
    pub(super) runtime: Handle,
}

/// Runs it from its start to its end. None: what it was to go on with is lost, and that was reported.
pub(super) fn run(thread: &Thread, job: Job) -> Option<Exit> {
    let Job { start, folder, shelves, hosts, runtime } = job;
    let failed = |why: String| Some(Exit::Failed { why });
    let name = start.instance.service.to_string();
    let found =
        hosts.find(&name, || !thread.was_stopped() && clock::now_ns() < until(thread, &start));
    let service = match found {
        Ok(service) => service,
        Err(why) => return failed(why),
    };
    let queue = match shelves.of(&start.instance) {
        Ok(queue) => queue,
        Err(error) => return failed(error.to_string()),
    };
    // Nothing captures its folder before it runs: `launched` is set below.
    match prepare(&start, &folder, shelves, Arc::default()) {
        Ok(Begun::Ready) => {}
        Ok(Begun::Lost) => {
            thread.report(Report::Lost { epoch: start.epoch });
            return None;
        }
        Err(why) => return failed(why),
    }
    let (at, made) = (folder.clone(), service);
    let service = match queue.wait(move |_| made.begin(&at)) {
        Ok(Ok(service)) => service,
        Ok(Err(why)) => return failed(why),
        Err(error) => return failed(error.to_string()),
    };
    let ports = match ports_of(&start.spec) {
        Ok(ports) => ports,
        Err(error) => return failed(format!("no free port: {error}")),
    };
    if thread.was_stopped() {
        return Some(Exit::Stopped);
    }
    let bound = u64::try_from(start.kill_bound.as_nanos()).unwrap_or(u64::MAX);
    let valid_until = until(thread, &start).saturating_sub(bound);
    if valid_until <= clock::now_ns() || hosts.is_closing() {
        return Some(Exit::Stopped);
    }
    let live = Live::start(
        service,
        hosted::Start {
            instance: start.instance.clone(),
            epoch: start.epoch.0,
            life: thread.life,
            folder,
            ports: ports.iter().map(|(name, port)| (name.to_string(), *port)).collect(),
            valid_until,
            reports: thread.reports.clone(),
            wake: thread.wake.clone(),
        },
        &runtime,
    );
    hosts.note(&live);
    let _first = thread.live.set(live.clone());
    thread.launched.store(true, Ordering::Release);
    thread.report(Report::Started { epoch: start.epoch, ports });
    let exit = Watch { thread, live: &live, hosts: &hosts, bound, first: start.until.0 }.watch();
    Some(finish(&live, &hosts, &queue, exit))
}

/// The last state of a service that ended in its own time is kept in its folder.
fn finish(live: &Arc<Live>, hosts: &Hosts, queue: &Queue, exit: Exit) -> Exit {
    if matches!(live.end(), Some(End::Returned(Ok(())))) && !hosts.has_crashed() {
        let of = live.clone();
        // Only where nobody has taken it over: a folder of an older right is put in order anyway.
        if let Ok(Err(why)) = queue.wait(move |_| of.checkpoint()) {
            tracing::warn!(instance = ?live, why, "its last state is not kept");
        }
    }
    exit
}

fn until(thread: &Thread, start: &Start) -> u64 {
    start.until.0.max(thread.until())
}

fn ports_of(spec: &ServiceSpec) -> std::io::Result<List<(Name, u16), PORTS_MAX>> {
    let free = spec.ports.iter().filter(|port| port.port == 0).count();
    let mut free = process::free_ports(free)?.into_iter();
    Ok(List::capped(spec.ports.iter().map(|port| {
        let number = if port.port == 0 { free.next().unwrap_or_default() } else { port.port };
        (port.name.clone(), number)
    })))
}

struct Watch<'a> {
    thread: &'a Thread,
    live: &'a Arc<Live>,
    hosts: &'a Hosts,
    /// The kill bound, ns.
    bound: u64,
    /// The end of the lease that it was started with.
    first: u64,
}

/// What has been done to make it end.
#[derive(Default)]
struct Ending {
    /// As it is to be reported, if it was made to end.
    exit: Option<Exit>,
    /// When it is dropped, unless it has ended by then.
    drop_at: Option<u64>,
    dropped: bool,
}

impl Watch<'_> {
    fn watch(&self) -> Exit {
        let mut timer = clock::Timer::new().ok();
        let mut ending = Ending::default();
        loop {
            let now = clock::now_ns();
            let until = self.first.max(self.thread.until());
            self.live.extend(until.saturating_sub(self.bound));
            self.take_orders(now, &mut ending);
            if now >= until.saturating_sub(self.bound) && ending.exit.is_none() {
                ending.end(now + self.bound / 2, Exit::Fenced);
            }
            if ending.exit.is_some() {
                self.live.fence();
            }
            if let Some(end) = self.live.end() {
                return ending.exit.unwrap_or_else(|| exit_of(end));
            }
            // However it came to this: half the kill bound before its lease ends it is dropped.
            let drop_at = ending.drop_at.map(|at| at.min(until.saturating_sub(self.bound / 2)));
            if drop_at.is_some_and(|at| now >= at) && !ending.dropped {
                ending.dropped = true;
                self.live.kill();
                continue;
            }
            if now >= until {
                return self.overrun(now - until);
            }
            let next = match drop_at.filter(|_| !ending.dropped) {
                Some(at) => at,
                None if ending.exit.is_some() => until,
                None => until.saturating_sub(self.bound),
            };
            self.sleep(timer.as_mut(), next);
        }
    }

    fn take_orders(&self, now: u64, ending: &mut Ending) {
        let grace = u64::try_from(STOP_GRACE.as_nanos()).unwrap_or(u64::MAX);
        for order in self.thread.orders.try_iter() {
            match order {
                // Whoever captures asks the service itself.
                Order::Freeze(answer) => drop(answer.try_send(Err("it is no process".to_owned()))),
                Order::Thaw => self.live.go_on(),
                Order::Stop => {
                    self.live.go_on();
                    ending.end(now + grace, Exit::Stopped);
                }
                Order::Kill => ending.end(now, Exit::Stopped),
                Order::Commit { ticket, outcome } => self.live.committed(ticket, outcome),
            }
        }
        if self.hosts.has_crashed() {
            ending.end(now, Exit::Stopped);
        } else if self.live.was_asked_to_stop() {
            ending.end(now + grace, Exit::Stopped);
        }
    }

    /// Its lease is over and it runs still: it is in the middle of a step that does not end.
    fn overrun(&self, late_ns: u64) -> Exit {
        let instance = &self.thread.instance;
        match self.hosts.overrun() {
            Overrun::Abort => {
                tracing::error!(%instance, late_ns, "it runs beyond its lease: this program is aborted");
                eprintln!(
                    "hedgerow: the service {instance} has not stopped although its lease is over. Another board may run it now, so this program is aborted. Let its `run` never block: use spawn_blocking for what takes long."
                );
                std::process::abort();
            }
            Overrun::GoOn => {
                tracing::error!(%instance, late_ns, "bound broken: it runs beyond its lease");
                Exit::Fenced
            }
        }
    }

    fn sleep(&self, timer: Option<&mut clock::Timer>, at: u64) {
        match timer.and_then(|timer| timer.arm(at).is_ok().then_some(timer)) {
            Some(timer) => {
                let wake = &self.thread.wake;
                let mut fds = [PollFd::new(timer, PollFlags::IN), PollFd::new(wake, PollFlags::IN)];
                let _ = poll(&mut fds, None);
                timer.clear();
            }
            // Out of file descriptors: the lease must be watched all the same.
            None => std::thread::sleep(Duration::from_millis(5)),
        }
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.thread.wake, &mut count);
    }
}

impl Ending {
    /// It is to end, and is dropped at that time. What was decided first is what is reported.
    fn end(&mut self, drop_at: u64, exit: Exit) {
        self.drop_at = Some(self.drop_at.map_or(drop_at, |earlier| earlier.min(drop_at)));
        self.exit.get_or_insert(exit);
    }
}

fn exit_of(end: End) -> Exit {
    match end {
        End::Returned(Ok(())) => Exit::Code { code: 0 },
        End::Returned(Err(why)) => Exit::Error { why },
        End::Dropped => Exit::Stopped,
    }
}
