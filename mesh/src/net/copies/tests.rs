//! Two boards, each with real stores and a real swarm on the loopback interface.

mod bulk;
mod captures;
mod folders;
mod pacing;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::capture::{CaptureFailure, Freezer, Frozen, capture_as};
use super::folder::{self, Begun};
use super::shelf::{Queue, Shelf, Shelves};
use crate::proto::id::Epoch;
use crate::proto::io::Begin;
use crate::proto::order::Instance;
use crate::proto::record::Name;
use crate::proto::table::CheckpointId;

/// How a service begins that never ran before.
const ANEW: Begin = Begin::Empty { anew: true };
/// How one goes on that syncs its files itself.
const GO_ON: Begin = Begin::GoOn { after_power_cut: None };

/// A data folder that is gone with the test.
struct Home(PathBuf);

impl Home {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("hedgerow-copies-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn service(&self) -> PathBuf {
        self.0.join("services/shop")
    }

    fn state(&self) -> PathBuf {
        self.service().join("state")
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn shop() -> Instance {
    Instance { service: Name::capped("shop"), ordinal: 0 }
}

fn id(epoch: u64, seq: u64) -> CheckpointId {
    CheckpointId { epoch: Epoch(epoch), seq }
}

/// A service of which nothing runs.
struct NothingRuns;

impl Freezer for NothingRuns {
    fn freeze(&self) -> Result<Option<Box<dyn Frozen>>, String> {
        Ok(None)
    }
}

/// Has a store's thread do something.
async fn on<T: Send + 'static>(
    queue: &Queue,
    work: impl FnOnce(&mut Shelf) -> T + Send + 'static,
) -> T {
    queue.run(work).await.unwrap()
}

async fn begin(queue: &Queue, service: &Path, epoch: u64, how: Begin) -> Begun {
    let service = service.to_owned();
    fs::create_dir_all(&service).unwrap();
    on(queue, move |shelf| folder::begin(shelf, &service, "state", Epoch(epoch), how))
        .await
        .unwrap()
}

async fn captured(queue: &Queue, service: &Path, id: CheckpointId) -> Result<u64, CaptureFailure> {
    let service = service.to_owned();
    on(queue, move |shelf| capture_as(shelf, &service, id, false, &NothingRuns)).await
}

async fn complete(queue: &Queue) -> Vec<CheckpointId> {
    on(queue, |shelf| shelf.complete().unwrap()).await
}

/// A board without a network.
fn stores(home: &Home) -> (Shelves, Queue) {
    let (shelves, _held) = Shelves::open(&home.0).unwrap();
    let queue = shelves.of(&shop()).unwrap();
    (shelves, queue)
}

/// Bytes that do not compress.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    let mut out = vec![0; bytes];
    hasher.finalize_xof().fill(&mut out);
    out
}
