//! Services that run inside this program, as futures instead of processes.
//!
//! The node treats them like any other: it gives them a lease, captures their state folder, starts them
//! from a copy. What differs is how they are held to it. A process is killed from outside; a future can
//! only be polled no more, and only between two of its steps. So it is told some time before its lease
//! ends, then dropped, and if it is in the middle of a step that does not end, the program is aborted
//! (decision D14): nothing less keeps a second copy from running beside it.
//!
//! ```text
//! registry ([`Hosts`])  what this program can host, by name; how each begins
//! [`Live`]              one that runs: its future, its lease, its commits
//! thread                `workloads/in_process.rs`: starts it, watches its lease, says how it ended
//! ```

mod live;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::hosted::{Checkpoint, Fault, Hosted, Restored, StateError};
pub(crate) use live::{End, Live, Start};

/// The program of such a service, as its specification names it.
pub(crate) const COMMAND: &str = "@hosted";
/// A program that has just started is given so long to say what it hosts.
const REGISTER_WAIT: Duration = Duration::from_secs(10);

/// What becomes of a program whose service does not stop before its lease ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Overrun {
    /// It is aborted.
    Abort,
    /// It goes on, and so may the service: two may run.
    GoOn,
}

/// What this program hosts. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Hosts(Arc<Shared>);

struct Shared {
    overrun: Overrun,
    opened: Instant,
    services: Mutex<BTreeMap<String, Arc<Service>>>,
    registered: Condvar,
    running: Mutex<Vec<Weak<Live>>>,
    closing: AtomicBool,
    crashed: AtomicBool,
}

type Restore = dyn Fn(&Restored) -> Result<Arc<dyn Hosted>, Fault> + Send + Sync;

/// One service that this program can host.
pub(crate) struct Service {
    /// Where the state lies that it begins with where there is none.
    first: PathBuf,
    restore: Box<Restore>,
}

impl Hosts {
    pub(crate) fn new(overrun: Overrun) -> Self {
        Self(Arc::new(Shared {
            overrun,
            opened: Instant::now(),
            services: Mutex::default(),
            registered: Condvar::new(),
            running: Mutex::default(),
            closing: AtomicBool::new(false),
            crashed: AtomicBool::new(false),
        }))
    }

    pub(crate) fn overrun(&self) -> Overrun {
        self.0.overrun
    }

    /// From now on this program hosts that service. What it begins with is what `first` is now.
    pub(crate) fn register<T: Hosted>(
        &self,
        name: &str,
        home: &Path,
        first: &T,
    ) -> Result<(), Fault> {
        let folder = home.join("hosted").join(name);
        fs::create_dir_all(&folder).map_err(|error| StateError::io(&folder, error))?;
        let mut out = Checkpoint::begin(&folder)?;
        first.checkpoint(&mut out)?;
        out.finish()?;
        let restore = |from: &Restored| -> Result<Arc<dyn Hosted>, Fault> {
            let service: Arc<dyn Hosted> = Arc::new(T::restore(from)?);
            Ok(service)
        };
        let service = Service { first: folder.join(STATE), restore: Box::new(restore) };
        locked(&self.0.services).insert(name.to_owned(), Arc::new(service));
        self.0.registered.notify_all();
        Ok(())
    }

    /// The service of that name. Waits a while for a program that has only just started, as long as
    /// `go_on` says so.
    pub(crate) fn find(
        &self,
        name: &str,
        go_on: impl Fn() -> bool,
    ) -> Result<Arc<Service>, String> {
        const STEP: Duration = Duration::from_millis(50);
        let mut services = locked(&self.0.services);
        loop {
            if self.is_closing() {
                return Err("this program is about to end".to_owned());
            }
            if let Some(service) = services.get(name) {
                return Ok(service.clone());
            }
            if self.0.opened.elapsed() > REGISTER_WAIT || !go_on() {
                return Err(Self::lacks(name));
            }
            let waited = self.0.registered.wait_timeout(services, STEP);
            services = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether this program hosts a service of that name; none if it has only just started.
    pub(crate) fn hosts(&self, name: &str) -> Option<bool> {
        let hosts = locked(&self.0.services).contains_key(name);
        (hosts || self.0.opened.elapsed() > REGISTER_WAIT).then_some(hosts)
    }

    /// What to say of a service that this program does not host.
    pub(crate) fn lacks(name: &str) -> String {
        format!(
            "the program on this board hosts no service called `{name}`: let it call mesh.service(\"{name}\").host(…) when it starts, or keep the service to boards that do, by labels"
        )
    }

    /// Whether nothing is started any more.
    pub(crate) fn is_closing(&self) -> bool {
        self.0.closing.load(Ordering::Acquire)
    }

    /// Whether the node is gone.
    pub(crate) fn has_crashed(&self) -> bool {
        self.0.crashed.load(Ordering::Acquire)
    }

    /// Notes that one runs.
    pub(crate) fn note(&self, live: &Arc<Live>) {
        let mut running = locked(&self.0.running);
        running.retain(|one| one.strong_count() > 0);
        running.push(Arc::downgrade(live));
        drop(running);
        if self.has_crashed() {
            live.kill();
        }
    }

    /// Those that run.
    pub(crate) fn running(&self) -> Vec<Arc<Live>> {
        locked(&self.0.running)
            .iter()
            .filter_map(Weak::upgrade)
            .filter(|one| !one.ended())
            .collect()
    }

    /// Starts nothing any more, and asks what runs to end.
    pub(crate) fn close(&self) {
        self.0.closing.store(true, Ordering::Release);
        self.running().iter().for_each(|live| live.ask_to_stop());
    }

    /// The node is gone: nothing of it is polled from now on.
    pub(crate) fn crash(&self) {
        self.0.closing.store(true, Ordering::Release);
        self.0.crashed.store(true, Ordering::Release);
        self.running().iter().for_each(|live| live.kill());
    }
}

impl Service {
    /// Makes the service from the state in its folder. One without a state begins with the first one.
    pub(crate) fn begin(&self, folder: &Path) -> Result<Arc<dyn Hosted>, String> {
        let begin = || -> Result<Arc<dyn Hosted>, Fault> {
            if Restored::open(&folder.join(STATE))?.names().is_empty() {
                let mut out = Checkpoint::begin(folder)?;
                let first = Restored::open(&self.first)?;
                for name in first.names() {
                    out.put(name, &first.read(name)?)?;
                }
                out.finish()?;
            }
            (self.restore)(&Restored::open(&folder.join(STATE))?)
        };
        match catch_unwind(AssertUnwindSafe(begin)) {
            Ok(Ok(service)) => Ok(service),
            Ok(Err(error)) => Err(format!("it cannot be restored from its state: {error}")),
            Err(_) => Err("it panicked while it was restored from its state".to_owned()),
        }
    }
}

impl fmt::Debug for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(locked(&self.0.services).keys()).finish()
    }
}

/// The state folder's name in every service's folder.
pub(crate) const STATE: &str = crate::hosted::FOLDER;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
