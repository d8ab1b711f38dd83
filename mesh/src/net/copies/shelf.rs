//! The stores of this board: one for each instance, each with a thread of its own.
//!
//! A store is touched by its thread alone, one job after another. So a capture, a transfer that is
//! being packed, the end of a fetch and the forgetting of old states never meet, and nothing that waits
//! for this disk holds up another instance or the driver.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use hedgerow_replication::store::StoreError;
use hedgerow_replication::vfs::OsVfs;
use hedgerow_replication::{Captured, CkptId, Store, StoreConfig};
use rustix::fs::{FlockOperation, flock};
use tokio::sync::{mpsc, oneshot};

use crate::net::driver::unix_now;
use crate::net::home::sync_folder;
use crate::proto::bounded::List;
use crate::proto::holdings::Held;
use crate::proto::id::Epoch;
use crate::proto::io::Input;
use crate::proto::order::Instance;
use crate::proto::record::Name;
use crate::proto::table::CheckpointId;

/// What the one instance of each store is called in it.
pub(crate) const SHELF: &str = "states";
/// Jobs that wait for one store.
const JOBS_MAX: usize = 64;
/// How long the threads of a node that was dropped a moment ago may take to end.
const LOCK_WAIT: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce(&mut Shelf) + Send>;

/// A store cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ShelfError {
    /// A folder could not be made, read or moved.
    #[error("{path}: {source}; check the disk")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The store says no.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its thread is busy beyond measure, or gone.
    #[error("the store of {0} does not keep up: is its disk failing?")]
    Stuck(Instance),
}

/// All stores. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Shelves {
    root: PathBuf,
    queues: Arc<Mutex<BTreeMap<Instance, Queue>>>,
    /// One process, and within it one node, uses these stores at a time.
    lock: Arc<File>,
    tells: Tells,
}

/// Where the node hears of states that cannot be read, once there is one.
type Tells = Arc<OnceLock<mpsc::WeakSender<Input>>>;

/// Where one store's jobs wait.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    instance: Instance,
    jobs: mpsc::Sender<Job>,
}

/// One store, as its jobs see it.
#[derive(Debug)]
pub(crate) struct Shelf {
    instance: Instance,
    folder: PathBuf,
    store: Option<Store>,
    /// The last capture: what has not been touched since need not be read again.
    pub(super) previous: Option<Captured>,
    /// Captures so far.
    pub(super) captures: u64,
    /// The last transfer did not fit the state that it started from: the next one is to be whole.
    pub(super) without_ancestor: bool,
    tells: Tells,
}

impl Shelves {
    /// From now on the node hears of states that cannot be read.
    pub(super) fn tell(&self, inputs: &mpsc::Sender<Input>) {
        let _ = self.tells.set(inputs.downgrade());
    }

    /// Opens every store below `home`, and lists what is complete in them. Blocks.
    pub(crate) fn open(home: &Path) -> Result<(Self, Held), ShelfError> {
        let root = home.join("copies");
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ShelfError::Io { path, source }
        };
        own_folder(&root).map_err(failed(&root))?;
        let path = root.join(".lock");
        let lock = File::create(&path).and_then(lock_soon).map_err(failed(&path))?;
        let (queues, tells) = (Arc::default(), Tells::default());
        let shelves = Self { root: root.clone(), queues, lock: Arc::new(lock), tells };
        let mut held = Held::new();
        for entry in fs::read_dir(&root).map_err(failed(&root))? {
            let name = entry.map_err(failed(&root))?.file_name();
            let Some(instance) = name.to_str().and_then(instance_of) else { continue };
            let mut shelf = shelves.shelf(&instance);
            match shelf.complete() {
                Ok(states) if states.is_empty() => {}
                Ok(states) => drop(held.insert(instance.clone(), states.into_iter().collect())),
                Err(error) => tracing::error!(%instance, %error, "a store cannot be used"),
            }
            shelves.start(&mut shelves.all(), shelf)?;
        }
        Ok((shelves, held))
    }

    /// The queue of an instance's store; the store is made when it is first used.
    pub(crate) fn of(&self, instance: &Instance) -> Result<Queue, ShelfError> {
        let mut all = self.all();
        match all.get(instance) {
            Some(queue) => Ok(queue.clone()),
            None => self.start(&mut all, self.shelf(instance)),
        }
    }

    /// The queue of an instance's store, if there is one.
    pub(crate) fn known(&self, instance: &Instance) -> Option<Queue> {
        self.all().get(instance).cloned()
    }

    fn shelf(&self, instance: &Instance) -> Shelf {
        Shelf {
            instance: instance.clone(),
            folder: self.root.join(format!("{}.{}", instance.service, instance.ordinal)),
            store: None,
            previous: None,
            captures: 0,
            without_ancestor: false,
            tells: self.tells.clone(),
        }
    }

    fn start(
        &self,
        all: &mut BTreeMap<Instance, Queue>,
        mut shelf: Shelf,
    ) -> Result<Queue, ShelfError> {
        let (jobs, mut queue) = mpsc::channel::<Job>(JOBS_MAX);
        let instance = shelf.instance.clone();
        let path = shelf.folder.clone();
        let lock = self.lock.clone();
        let serve = move || {
            while let Some(job) = queue.blocking_recv() {
                if catch_unwind(AssertUnwindSafe(|| job(&mut shelf))).is_err() {
                    // The panic was printed. What is on the disk counts, not what it left in memory.
                    (shelf.store, shelf.previous) = (None, None);
                }
            }
            drop((shelf, lock));
        };
        std::thread::Builder::new()
            .name("hedgerow-copies".to_owned())
            .spawn(serve)
            .map_err(|source| ShelfError::Io { path, source })?;
        let queue = Queue { instance: instance.clone(), jobs };
        all.insert(instance, queue.clone());
        Ok(queue)
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<Instance, Queue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Has the store's thread do something, if there is room; does not wait for it.
    pub(crate) fn put(&self, job: impl FnOnce(&mut Shelf) + Send + 'static) -> bool {
        self.jobs.try_send(Box::new(job)).is_ok()
    }

    /// Has the store's thread do something and waits for the outcome.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Shelf) -> T + Send + 'static,
    ) -> Result<T, ShelfError> {
        let (answer, outcome) = oneshot::channel();
        // Whoever asked may have given up meanwhile.
        let job: Job = Box::new(move |shelf| drop(answer.send(work(shelf))));
        self.jobs.send(job).await.map_err(|_| self.stuck())?;
        outcome.await.map_err(|_| self.stuck())
    }

    /// As `run`, for a thread that may block.
    pub(crate) fn wait<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Shelf) -> T + Send + 'static,
    ) -> Result<T, ShelfError> {
        let (answer, outcome) = oneshot::channel();
        let job: Job = Box::new(move |shelf| drop(answer.send(work(shelf))));
        self.jobs.blocking_send(job).map_err(|_| self.stuck())?;
        outcome.blocking_recv().map_err(|_| self.stuck())
    }

    fn stuck(&self) -> ShelfError {
        ShelfError::Stuck(self.instance.clone())
    }
}

impl Shelf {
    /// The store, opened if it is not. One that cannot be read is moved aside, for a fresh one.
    pub(super) fn store(&mut self) -> Result<&mut Store, ShelfError> {
        if self.store.is_none() {
            self.store = Some(self.open()?);
        }
        self.store.as_mut().ok_or_else(|| ShelfError::Stuck(self.instance.clone()))
    }

    /// The store and the last capture, each on its own.
    pub(super) fn parts(&mut self) -> Result<(&mut Store, &mut Option<Captured>), ShelfError> {
        self.store()?;
        let Self { store: Some(store), previous, instance: _, .. } = self else {
            return Err(ShelfError::Stuck(self.instance.clone()));
        };
        Ok((store, previous))
    }

    /// The complete states, oldest first.
    pub(super) fn complete(&mut self) -> Result<Vec<CheckpointId>, ShelfError> {
        Ok(self.store()?.states(SHELF).iter().map(|state| named(state.ckpt)).collect())
    }

    /// Forgets all states but these, and those that the store keeps anyway.
    pub(super) fn keep(&mut self, states: &[CheckpointId]) -> Result<(), ShelfError> {
        if !states.is_empty() {
            let pinned: Vec<CkptId> = states.iter().map(|id| ckpt(*id)).collect();
            let report = self.store()?.gc(SHELF, &pinned)?;
            for id in &report.rotten {
                tracing::error!(instance = %self.instance, chunk = %id, "a stored chunk is rotten: suspect the disk");
            }
            return Ok(());
        }
        (self.previous, self.captures) = (None, 0);
        self.store()?.forget(SHELF)?;
        self.store = None;
        match fs::remove_dir_all(&self.folder) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(ShelfError::Io { path: self.folder.clone(), source })
            }
            _ => Ok(()),
        }
    }

    /// A state could not be read. What of it is gone is forgotten here, and the node is told: it would offer that, or
    /// begin with it, for ever. Blocks.
    pub(super) fn condemn(&mut self, id: CheckpointId) -> Result<(), ShelfError> {
        // What has not been touched since the last capture has to be read again.
        self.previous = None;
        let was_there = self.complete()?.contains(&id);
        let lost: Vec<CheckpointId> =
            self.store()?.condemn(SHELF, ckpt(id))?.into_iter().map(named).collect();
        if lost.is_empty() {
            return Ok(());
        }
        // Whoever comes late asks for what was forgotten long ago.
        if was_there {
            tracing::error!(instance = %self.instance, ?lost, "states here cannot be read: suspect the disk");
        }
        // The newest are the ones that matter, should there be more than fit.
        let states = List::capped(lost.into_iter().rev());
        if let Some(inputs) = self.tells.get().and_then(mpsc::WeakSender::upgrade) {
            // An error means that the driver is gone.
            let _ = inputs.blocking_send(Input::Spoilt { instance: self.instance.clone(), states });
        }
        Ok(())
    }

    /// Where a transfer may lie for a while.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    fn open(&self) -> Result<Store, ShelfError> {
        let folder = &self.folder;
        let failed = |source| ShelfError::Io { path: folder.clone(), source };
        let open = || -> Result<Store, ShelfError> {
            own_folder(folder).map_err(failed)?;
            let disk = OsVfs::new(folder).map_err(failed)?;
            Ok(Store::open(Arc::new(disk), StoreConfig::default())?)
        };
        let store = match open() {
            Err(ShelfError::Store(error)) => {
                let aside = folder.with_file_name(format!(
                    "{}.{}~broken-{}",
                    self.instance.service,
                    self.instance.ordinal,
                    unix_now()
                ));
                tracing::error!(
                    instance = %self.instance, %error, aside = %aside.display(),
                    "the copies of this instance cannot be read: they were moved aside and count as \
                     lost here; check the disk"
                );
                fs::rename(folder, &aside).map_err(failed)?;
                open()?
            }
            other => other?,
        };
        for place in &store.report().damaged {
            tracing::error!(instance = %self.instance, place, "a part of the copies is rotten: suspect the disk");
        }
        Ok(store)
    }
}

/// Makes a folder, if need be, under a name that is durable. One that is empty is made anew: an earlier life may
/// have failed to sync its name, and the next sync would say that all is well. Nothing is put into it before that
/// has gone well, so of any other that is not in doubt.
fn own_folder(folder: &Path) -> io::Result<()> {
    // An error means that something is in it, or that it is not there.
    let _ = fs::remove_dir(folder);
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.and_then(|()| sync_folder(folder)),
    }
}

/// As the store calls a state.
pub(crate) fn ckpt(id: CheckpointId) -> CkptId {
    CkptId { epoch: id.epoch.0, seq: id.seq }
}

/// As the node calls a state.
pub(crate) fn named(ckpt: CkptId) -> CheckpointId {
    CheckpointId { epoch: Epoch(ckpt.epoch), seq: ckpt.seq }
}

/// `NAME.ORDINAL`; nothing else that lies there is a store.
fn instance_of(name: &str) -> Option<Instance> {
    let (service, ordinal) = name.rsplit_once('.')?;
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    let good =
        service.starts_with(|c: char| c.is_ascii_alphanumeric()) && service.chars().all(plain);
    let instance = Instance { service: Name::capped(service), ordinal: ordinal.parse().ok()? };
    (good && name == format!("{}.{}", instance.service, instance.ordinal)).then_some(instance)
}

fn lock_soon(file: File) -> io::Result<File> {
    const STEP: Duration = Duration::from_millis(20);
    let mut waited = Duration::ZERO;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if waited < LOCK_WAIT => {
                std::thread::sleep(STEP);
                waited += STEP;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn the_name_of_an_empty_folder_is_not_trusted_and_no_other_is_touched() {
        let name = format!("hedgerow-own-folder-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        own_folder(&folder).unwrap();
        // As long as it is open its number is not given to another.
        let found = File::open(&folder).unwrap();
        own_folder(&folder).unwrap();
        assert_ne!(found.metadata().unwrap().ino(), fs::metadata(&folder).unwrap().ino());
        fs::write(folder.join("pack"), "a state").unwrap();
        own_folder(&folder).unwrap();
        assert_eq!(fs::read_to_string(folder.join("pack")).unwrap(), "a state");
        fs::remove_dir_all(folder).unwrap();
    }
}
