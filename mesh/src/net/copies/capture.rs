//! One capture: stand still, read, go on, and only then wait for the disk.
//!
//! The service is frozen while its folder is read; new chunks go to a file meanwhile, but nothing is
//! synced before it runs again. The service's own thread is never used for that: it goes on passing on
//! extensions of the lease.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hedgerow_replication::capture::{CaptureError, CaptureReport};
use hedgerow_replication::store::StoreError;
use hedgerow_replication::{CaptureOptions, Captured, Layer, SealedManifest, capture};

use super::folder::{FolderError, Mark};
use super::shelf::{SHELF, Shelf, ShelfError, ckpt};
use crate::proto::id::Epoch;
use crate::proto::table::CheckpointId;

/// So often every byte is read, whatever the file system says has changed.
const FULL_EVERY: u64 = 64;

/// Whoever can make a service stand still.
pub(crate) trait Freezer {
    /// Returns when nothing of it runs; `None` if nothing of it did.
    ///
    /// # Errors
    /// Why it runs on, for people.
    fn freeze(&self) -> Result<Option<Box<dyn Frozen>>, String>;
}

/// A service that stands still.
pub(crate) trait Frozen {
    /// Whether it has stood still ever since.
    fn still(&self) -> bool;
    /// Whether it is wanted to stay so after its last capture.
    fn stays(&self) -> bool;
    /// Lets it go on.
    fn thaw(&self);
}

/// Why there is no new state.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum CaptureFailure {
    /// The folder is not the one that this right was given for.
    #[error("its state folder was not begun under this right ({0:?})")]
    OtherEpoch(Option<Epoch>),
    /// The board lost power since its service ran in it.
    #[error("its board lost power, and its state folder has not been put in order since")]
    LostPower,
    /// It could not be frozen.
    #[error("it could not be frozen: {0}")]
    NotFrozen(String),
    /// It ran while its files were read.
    #[error("{0}")]
    Moved(String),
    /// The mark could not be read.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The store could not be used.
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    /// The files could not be read.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The state could not be made durable.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Captures the state of the service in the folder `service` as `id`; returns its size in bytes once it
/// is durable. `last`: the service stays frozen, unless this fails. Blocks; call it on the store's thread.
pub(crate) fn capture_as(
    shelf: &mut Shelf,
    service: &Path,
    id: CheckpointId,
    last: bool,
    freezer: &dyn Freezer,
) -> Result<u64, CaptureFailure> {
    let mark = Mark::read(service)?;
    let Some(mark) = mark.as_ref().filter(|mark| mark.epoch == id.epoch) else {
        return Err(CaptureFailure::OtherEpoch(mark.map(|mark| mark.epoch)));
    };
    // What lies there may be older than what was committed; the next start puts it in order.
    if mark.lost_power() {
        return Err(CaptureFailure::LostPower);
    }
    shelf.captures += 1;
    let full = last || shelf.captures.is_multiple_of(FULL_EVERY);
    let (store, kept) = shelf.parts()?;
    let previous = kept.take();
    let options = CaptureOptions {
        ckpt: ckpt(id),
        layer: Layer::Instance,
        page_bytes: u32::try_from(rustix::param::page_size()).unwrap_or(4096),
        now_ns: 0,
        previous: previous.as_ref(),
        full,
    };
    let mut draft = store.begin(SHELF)?;
    let began = Instant::now();
    let frozen = freezer.freeze().map_err(CaptureFailure::NotFrozen)?;
    let (stood, options) = (Instant::now(), CaptureOptions { now_ns: wall_ns(), ..options });
    let read = capture(&service.join(&mark.state), &options, &mut draft);
    let still = frozen.as_ref().is_none_or(|frozen| frozen.still());
    let go_on = || frozen.iter().for_each(|frozen| frozen.thaw());
    if !last || read.is_err() || !still {
        go_on();
    }
    let stood = stood.elapsed();
    let captured = read.map_err(CaptureFailure::from).and_then(|captured| {
        settled(&captured.report, still)?;
        let _durable = draft.commit(&captured.manifest)?;
        Ok(captured)
    });
    match captured {
        Ok(captured) => {
            if last && frozen.as_ref().is_some_and(|frozen| !frozen.stays()) {
                go_on();
            }
            let bytes = note(&captured, id, stood, began.elapsed());
            *kept = Some(captured);
            Ok(bytes)
        }
        Err(error) => {
            go_on();
            *kept = previous;
            Err(error)
        }
    }
}

/// Refuses what may be a mixture of two moments.
fn settled(report: &CaptureReport, still: bool) -> Result<(), CaptureFailure> {
    for path in &report.missed {
        tracing::warn!(%path, "this file had changed although its times said otherwise");
    }
    match report.unsettled.first() {
        _ if !still => {
            let what = "it was let go on while its files were read".to_owned();
            Err(CaptureFailure::Moved(what))
        }
        Some(path) => Err(CaptureFailure::Moved(format!("{path} changed while it was read"))),
        None => Ok(()),
    }
}

fn note(captured: &Captured, id: CheckpointId, frozen: Duration, all: Duration) -> u64 {
    let bytes = state_bytes(&captured.manifest);
    let (frozen_us, all_us) = (frozen.as_micros(), all.as_micros());
    let read_bytes = captured.report.read_bytes;
    tracing::debug!(
        epoch = id.epoch.0,
        seq = id.seq,
        bytes,
        read_bytes,
        frozen_us,
        all_us,
        "captured"
    );
    bytes
}

/// Bytes of all files of a state, holes included.
pub(super) fn state_bytes(manifest: &SealedManifest) -> u64 {
    manifest.files().map(|(_, body)| body.size).sum()
}

/// The clock that file times come from.
fn wall_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
