//! One hosted service that runs: its future, its lease, its commits.
//!
//! The future lies in a slot behind a lock that is held while it is polled. Whoever holds the lock
//! knows that nothing of it runs: that is how it stands still, and how it is stopped, from any thread
//! and however busy the runtime is.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};

use super::locked;
use crate::clock;
use crate::hosted::{Active, BoxFuture, Checkpoint, CommitError, Fault, Hosted, Right};
use crate::net::copies::capture::Frozen;
use crate::proto::io::{CommitOutcome, Report};
use crate::proto::order::Instance;

/// Where in a ticket the number of a commit within one life ends.
const TICKET_BITS: u32 = 32;

/// What it takes to start one.
pub(crate) struct Start {
    pub(crate) instance: Instance,
    pub(crate) epoch: u64,
    /// Tells the commits of one life from those of another.
    pub(crate) life: u32,
    pub(crate) folder: PathBuf,
    pub(crate) ports: Vec<(String, u16)>,
    pub(crate) valid_until: u64,
    pub(crate) reports: mpsc::Sender<(Instance, Report)>,
    pub(crate) wake: Arc<OwnedFd>,
}

/// A hosted service that runs.
pub(crate) struct Live {
    start: Start,
    service: Arc<dyn Hosted>,
    slot: Mutex<Slot>,
    fenced: watch::Sender<bool>,
    /// Until when it may act, lease clock, ns.
    valid_until: AtomicU64,
    asked_to_stop: AtomicBool,
    end: Mutex<Option<End>>,
    commits: Mutex<BTreeMap<u64, oneshot::Sender<CommitOutcome>>>,
    next_commit: AtomicU32,
}

#[derive(Default)]
struct Slot {
    future: Option<BoxFuture<'static, Result<(), Fault>>>,
    still: bool,
    waker: Option<Waker>,
}

/// How a hosted service ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// Its future has returned.
    Returned(Result<(), String>),
    /// Its future was dropped.
    Dropped,
}

impl Live {
    /// Starts it on this runtime.
    pub(crate) fn start(service: Arc<dyn Hosted>, start: Start, runtime: &Handle) -> Arc<Self> {
        let live = Arc::new(Self {
            valid_until: AtomicU64::new(start.valid_until),
            start,
            service: service.clone(),
            slot: Mutex::default(),
            fenced: watch::channel(false).0,
            asked_to_stop: AtomicBool::new(false),
            end: Mutex::default(),
            commits: Mutex::default(),
            next_commit: AtomicU32::new(1),
        });
        let active = Active::new(live.clone());
        let _inside = runtime.enter();
        match catch_unwind(AssertUnwindSafe(|| service.run(active))) {
            Ok(future) => locked(&live.slot).future = Some(future),
            Err(_) => live.finish(End::Returned(Err("it panicked".to_owned()))),
        }
        runtime.spawn(Driven(live.clone()));
        live
    }

    /// It may act until then, and no longer.
    pub(crate) fn extend(&self, valid_until: u64) {
        self.valid_until.fetch_max(valid_until, Ordering::AcqRel);
    }

    /// It must end: its right is over, or is wanted elsewhere.
    pub(crate) fn fence(&self) {
        self.fenced.send_replace(true);
    }

    /// It is to end by itself.
    pub(crate) fn ask_to_stop(&self) {
        self.asked_to_stop.store(true, Ordering::Release);
        self.wake();
    }

    /// Whether it is to end by itself.
    pub(crate) fn was_asked_to_stop(&self) -> bool {
        self.asked_to_stop.load(Ordering::Acquire)
    }

    /// Never polls it again. It has ended once the step that it is in, if it is in one, has.
    pub(crate) fn kill(self: &Arc<Self>) {
        self.fence();
        if let Ok(mut slot) = self.slot.try_lock() {
            let future = slot.future.take();
            drop(slot);
            return self.discard(future);
        }
        let live = self.clone();
        // Without a thread the deadline of the lease is what is left.
        let _ = std::thread::Builder::new().name("hedgerow-kill".to_owned()).spawn(move || {
            let future = locked(&live.slot).future.take();
            live.discard(future);
        });
    }

    fn discard(self: &Arc<Self>, future: Option<BoxFuture<'static, Result<(), Fault>>>) {
        let Some(future) = future else { return };
        // Only what it has to tidy up runs still; a panic there was printed.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(future)));
        self.finish(End::Dropped);
        self.go_on();
    }

    /// Whether it has ended.
    pub(crate) fn ended(&self) -> bool {
        locked(&self.end).is_some()
    }

    /// How it ended, if it has.
    pub(crate) fn end(&self) -> Option<End> {
        locked(&self.end).clone()
    }

    fn finish(&self, end: End) {
        locked(&self.end).get_or_insert(end);
        // Whoever still waits for a commit hears that its outcome is unknown.
        locked(&self.commits).clear();
        self.wake();
    }

    fn wake(&self) {
        // A full counter means that its thread is awake.
        let _ = rustix::io::write(&self.start.wake, &1_u64.to_ne_bytes());
    }

    /// Stands still from here on.
    fn stand_still(&self) {
        locked(&self.slot).still = true;
    }

    /// Goes on, if it stood still.
    pub(crate) fn go_on(&self) {
        let mut slot = locked(&self.slot);
        slot.still = false;
        if let Some(waker) = slot.waker.take() {
            waker.wake();
        }
    }

    /// Writes its state into its folder. Blocks.
    pub(crate) fn checkpoint(&self) -> Result<(), String> {
        let write = || -> Result<(), Fault> {
            let mut out = Checkpoint::begin(&self.start.folder)?;
            self.service.checkpoint(&mut out)?;
            Ok(out.finish()?)
        };
        match catch_unwind(AssertUnwindSafe(write)) {
            Ok(written) => written.map_err(|error| format!("its checkpoint failed: {error}")),
            Err(_) => Err("its checkpoint panicked".to_owned()),
        }
    }

    /// Writes its state, for a capture. `stays`: it stands still from before, until somebody wants it to
    /// go on.
    pub(crate) fn freeze(
        self: &Arc<Self>,
        stays: Arc<AtomicBool>,
    ) -> Result<Option<Box<dyn Frozen>>, String> {
        if self.ended() {
            return Ok(None);
        }
        let last = stays.load(Ordering::Acquire);
        if last {
            self.stand_still();
        }
        if let Err(why) = self.checkpoint() {
            self.go_on();
            return Err(why);
        }
        Ok(Some(Box::new(Still { live: self.clone(), last, stays })))
    }

    /// A commit was answered.
    pub(crate) fn committed(&self, ticket: u64, outcome: CommitOutcome) {
        if let Some(answer) = locked(&self.commits).remove(&ticket) {
            // Whoever asked may have given up.
            let _ = answer.send(outcome);
        }
    }
}

impl Right for Live {
    fn epoch(&self) -> u64 {
        self.start.epoch
    }

    fn left(&self) -> Duration {
        let until = self.valid_until.load(Ordering::Acquire);
        Duration::from_nanos(until.saturating_sub(clock::now_ns()))
    }

    fn is_fenced(&self) -> bool {
        *self.fenced.borrow()
    }

    fn fenced(&self) -> BoxFuture<'_, ()> {
        let mut fenced = self.fenced.subscribe();
        Box::pin(async move {
            // An error would mean that it is gone, and so is whoever waits.
            let _ = fenced.wait_for(|fenced| *fenced).await;
        })
    }

    fn commit(&self) -> BoxFuture<'_, Result<u64, CommitError>> {
        Box::pin(async move {
            let number = self.next_commit.fetch_add(1, Ordering::Relaxed);
            let ticket = u64::from(self.start.life) << TICKET_BITS | u64::from(number);
            let (answer, outcome) = oneshot::channel();
            locked(&self.commits).insert(ticket, answer);
            let report = (self.start.instance.clone(), Report::Commit { ticket });
            if self.ended() || self.start.reports.send(report).await.is_err() {
                locked(&self.commits).remove(&ticket);
            }
            match outcome.await {
                Ok(outcome) => outcome.into(),
                Err(_) => Err(CommitError::Unknown),
            }
        })
    }

    fn port(&self, name: &str) -> Option<u16> {
        self.start.ports.iter().find(|(known, _)| known == name).map(|(_, port)| *port)
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} under epoch {}", self.start.instance, self.start.epoch)
    }
}

/// Polls it.
struct Driven(Arc<Live>);

impl Future for Driven {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let live = &self.0;
        let mut slot = locked(&live.slot);
        slot.waker = Some(cx.waker().clone());
        if slot.still {
            return Poll::Pending;
        }
        let Some(future) = slot.future.as_mut() else { return Poll::Ready(()) };
        let end = match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(result)) => result.map_err(|error| error.to_string()),
            Err(_) => Err("it panicked".to_owned()),
        };
        let future = slot.future.take();
        drop(slot);
        let _ = catch_unwind(AssertUnwindSafe(|| drop(future)));
        live.finish(End::Returned(end));
        Poll::Ready(())
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        // The runtime ends: nobody polls it any more.
        self.0.kill();
    }
}

struct Still {
    live: Arc<Live>,
    last: bool,
    stays: Arc<AtomicBool>,
}

impl Frozen for Still {
    fn still(&self) -> bool {
        // Its files are written by whoever captures them, and by nobody else.
        !self.last || locked(&self.live.slot).still
    }

    fn stays(&self) -> bool {
        self.stays.load(Ordering::Acquire)
    }

    fn thaw(&self) {
        self.live.go_on();
    }
}
