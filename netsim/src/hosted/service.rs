//! One service that runs: a tokio runtime whose clock the world advances, and the future in it.
//!
//! The runtime's clock stands still unless [`Running::run`] lets time pass, up to the next thing that happens in
//! the world: every timer of the service on the way there goes off, and the first thing that the service wants
//! of the world ends it early. tokio's timers go by whole milliseconds, and so does that clock; it is the
//! board's own, with its drift.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hedgerow::hosted::{self, Active, BoxFuture, Checkpoint, CommitError, Fault, Hosted, Restored};
use hedgerow::proto::io::CommitOutcome;
use hedgerow::proto::machine::Time;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, advance, timeout_at};

use super::log::{Present, Trace};
use crate::program::{Deed, Right, Spot};
use crate::time::{MILLI, Nanos};

/// Every simulated service has this port, under whatever name. Nobody listens there.
const PORT: u16 = 8000;
/// A service is polled so often in one millisecond at the most.
const POLLS_MAX: u64 = 100_000;

/// A service that runs, or what it left behind in its runtime.
pub(super) struct Running {
    runtime: Runtime,
    service: Arc<dyn Hosted>,
    granted: Arc<Granted>,
    slot: Arc<Mutex<Slot>>,
    driven: AbortHandle,
    trace: Trace,
    /// Milliseconds that have passed for it.
    ticks: u64,
    /// Its process was paused when it was last looked.
    paused: bool,
    /// It has returned without an error.
    well: bool,
}

impl Running {
    pub(super) fn start(
        service: Arc<dyn Hosted>,
        spot: Spot,
        right: Right,
        tickets: Arc<AtomicU64>,
        trace: Trace,
    ) -> Result<Self, String> {
        let mut builder = Builder::new_current_thread();
        builder.enable_time().start_paused(true);
        // What `select!` polls first is a draw of the runtime's; without this cfg it cannot be seeded.
        #[cfg(tokio_unstable)]
        builder.rng_seed(tokio::runtime::RngSeed::from_bytes(&right.epoch.to_le_bytes()));
        let runtime = builder.build().map_err(|error| format!("no tokio runtime: {error}"))?;
        let granted = Arc::new(Granted {
            epoch: right.epoch,
            kill_bound: right.kill_bound.as_nanos() as u64,
            until: AtomicU64::new(right.until.0),
            since: (runtime.block_on(async { Instant::now() }), spot.clock.local(spot.now)),
            fenced: watch::channel(false).0,
            ended: AtomicBool::new(false),
            deeds: Mutex::default(),
            news: Notify::new(),
            answers: Mutex::default(),
            tickets,
        });
        let slot = Arc::new(Mutex::new(Slot::default()));
        let driven = Driven { slot: slot.clone(), granted: granted.clone() };
        let driven = runtime.spawn(driven).abort_handle();
        let running = Self {
            runtime,
            service,
            granted,
            slot,
            driven,
            trace,
            ticks: 0,
            paused: false,
            well: false,
        };
        running.present(spot).during(|| running.begin());
        Ok(running)
    }

    fn begin(&self) {
        let active = Active::new(self.granted.clone());
        let service = self.service.clone();
        let _inside = self.runtime.enter();
        match catch_unwind(AssertUnwindSafe(|| service.run(active))) {
            Ok(future) => locked(&self.slot).future = Some(future),
            Err(_) => self.granted.has_ended(Err("it panicked".to_owned())),
        }
    }

    /// What it does from `spot.now` to the true time `to`: nothing, or the first things, all at one time.
    pub(super) fn run(&mut self, spot: Spot, to: Nanos) -> Option<(Nanos, Vec<Deed>)> {
        let (start, base) = self.granted.since;
        let passed = |at| spot.clock.local(at).0.saturating_sub(base.0);
        if std::mem::take(&mut self.paused) {
            // Meanwhile time has passed for it, but none of its timers went off.
            let missed = passed(spot.now).saturating_sub(self.ticks * MILLI);
            let present = self.present(spot);
            let missed = Duration::from_millis(missed / MILLI);
            present.during(|| self.runtime.block_on(advance(missed)));
            self.ticks += missed.as_millis() as u64;
        }
        let ticks = passed(to) / MILLI;
        while self.ticks < ticks && locked(&self.granted.deeds).is_empty() {
            locked(&self.slot).polls = 0;
            let until = start + Duration::from_millis(ticks);
            let present = Present { since: Some(self.granted.since), ..self.present(spot) };
            let now = present.during(|| {
                self.runtime.block_on(async {
                    let _time_is_over = timeout_at(until, self.granted.news.notified()).await;
                    Instant::now()
                })
            });
            self.ticks = (now - start).as_millis() as u64;
        }
        let deeds = std::mem::take(&mut *locked(&self.granted.deeds));
        if deeds.is_empty() {
            return None;
        }
        self.well |= deeds.contains(&Deed::Ends(Ok(())));
        let at = spot.clock.when(Time(base.0 + self.ticks * MILLI));
        Some((at.max(spot.now), deeds))
    }

    /// Its process stands still.
    pub(super) fn pause(&mut self) {
        self.paused = true;
    }

    pub(super) fn extend(&self, until: Time) {
        self.granted.until.fetch_max(until.0, Ordering::AcqRel);
    }

    pub(super) fn fence(&self) {
        self.granted.fenced.send_replace(true);
    }

    /// It is not polled from here on.
    pub(super) fn stand_still(&self) {
        locked(&self.slot).still = true;
    }

    /// It is polled again.
    pub(super) fn go_on(&self) {
        let mut slot = locked(&self.slot);
        slot.still = false;
        if let Some(waker) = slot.waker.take() {
            waker.wake();
        }
    }

    pub(super) fn checkpoint(&self, spot: Spot) -> Result<Restored, String> {
        let write = || -> Result<Restored, Fault> {
            let mut out = Checkpoint::in_memory();
            self.service.checkpoint(&mut out)?;
            Ok(out.restored())
        };
        match self.present(spot).during(|| catch_unwind(AssertUnwindSafe(write))) {
            Ok(written) => written.map_err(|error| format!("its checkpoint failed: {error}")),
            Err(_) => Err("its checkpoint panicked".to_owned()),
        }
    }

    pub(super) fn answer(&self, ticket: u64, outcome: CommitOutcome) {
        if let Some(answer) = locked(&self.granted.answers).remove(&ticket) {
            // Whoever asked may have given up.
            let _ = answer.send(outcome);
        }
    }

    /// Whether it returned without an error, so that its last state counts.
    pub(super) fn ended_well(&self) -> bool {
        self.well
    }

    /// Drops its future. What it has handed to other tasks goes on.
    pub(super) fn kill(&mut self, spot: Spot) {
        self.fence();
        self.granted.ended.store(true, Ordering::Release);
        locked(&self.granted.answers).clear();
        let future = locked(&self.slot).future.take();
        self.driven.abort();
        self.present(spot).during(|| {
            // A panic of what it has to tidy up was printed.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(future)));
        });
    }

    /// Whether a task is there, its own or one that it has handed something to.
    pub(super) fn has_tasks(&self) -> bool {
        self.runtime.metrics().num_alive_tasks() > 0
    }

    fn present(&self, spot: Spot) -> Present {
        Present { spot, epoch: self.granted.epoch, since: None, trace: self.trace.clone() }
    }
}

/// The future of a service.
#[derive(Default)]
struct Slot {
    future: Option<BoxFuture<'static, Result<(), Fault>>>,
    still: bool,
    waker: Option<Waker>,
    polls: u64,
}

/// Polls it.
struct Driven {
    slot: Arc<Mutex<Slot>>,
    granted: Arc<Granted>,
}

impl Future for Driven {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut slot = locked(&self.slot);
        slot.waker = Some(cx.waker().clone());
        if slot.still {
            return Poll::Pending;
        }
        slot.polls += 1;
        let polls = slot.polls;
        let Some(future) = slot.future.as_mut() else { return Poll::Ready(()) };
        let end = match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Pending) if polls < POLLS_MAX => return Poll::Pending,
            Ok(Poll::Pending) => Err(format!(
                "it was polled {POLLS_MAX} times and let no time pass: it must wait, not poll"
            )),
            Ok(Poll::Ready(result)) => result.map_err(|error| error.to_string()),
            Err(_) => Err("it panicked".to_owned()),
        };
        let future = slot.future.take();
        drop(slot);
        let _ = catch_unwind(AssertUnwindSafe(|| drop(future)));
        self.granted.has_ended(end);
        Poll::Ready(())
    }
}

/// What a service has of the world.
struct Granted {
    epoch: u64,
    kill_bound: u64,
    /// The end of its lease, by the board's clock.
    until: AtomicU64,
    /// When its runtime began, and what the board's clock showed then.
    since: (Instant, Time),
    fenced: watch::Sender<bool>,
    ended: AtomicBool,
    /// What it wants of the world, or has done.
    deeds: Mutex<Vec<Deed>>,
    /// That it wants something.
    news: Notify,
    answers: Mutex<BTreeMap<u64, oneshot::Sender<CommitOutcome>>>,
    tickets: Arc<AtomicU64>,
}

impl Granted {
    fn has_ended(&self, end: Result<(), String>) {
        self.ended.store(true, Ordering::Release);
        self.does(Deed::Ends(end));
    }

    fn does(&self, deed: Deed) {
        locked(&self.deeds).push(deed);
        self.news.notify_one();
    }
}

impl hosted::Right for Granted {
    fn epoch(&self) -> u64 {
        self.epoch
    }

    fn left(&self) -> Duration {
        let (start, base) = self.since;
        let now = base.0 + start.elapsed().as_nanos() as u64;
        let until = self.until.load(Ordering::Acquire).saturating_sub(self.kill_bound);
        Duration::from_nanos(until.saturating_sub(now))
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
            if self.ended.load(Ordering::Acquire) {
                return Err(CommitError::Unknown);
            }
            let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
            let (answer, outcome) = oneshot::channel();
            locked(&self.answers).insert(ticket, answer);
            self.does(Deed::Commits(ticket));
            match outcome.await {
                Ok(outcome) => outcome.into(),
                Err(_) => Err(CommitError::Unknown),
            }
        })
    }

    fn port(&self, _: &str) -> Option<u16> {
        Some(PORT)
    }
}

impl fmt::Debug for Granted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a simulated service under epoch {}", self.epoch)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
