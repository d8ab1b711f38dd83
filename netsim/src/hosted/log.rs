//! What services of your own say of themselves, with where and when they said it.
//!
//! Who speaks is known by the thread: the world lets one service run at a time, and says here which.

use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use hedgerow::proto::machine::Time;
use tokio::time::Instant;

use super::OWN_CHECK;
use crate::observe::Finding;
use crate::program::Spot;
use crate::queue::BoardIndex;
use crate::time::{Nanos, Seconds};

/// Notes of all runs of a service, on all boards, in the order in which they were made. Cheap to clone: every
/// clone is the same log.
pub struct Log<E>(Arc<Mutex<Vec<Note<E>>>>);

/// Something that a service did, or learnt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note<E> {
    /// When, true time, ns.
    pub at: Nanos,
    /// On which board.
    pub board: BoardIndex,
    /// Under which right.
    pub epoch: u64,
    /// What.
    pub event: E,
}

impl<E: fmt::Debug> fmt::Display for Note<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, board, epoch, event } = self;
        write!(f, "{:>8} s  n{board}  epoch {epoch}  {event:?}", Seconds(*at))
    }
}

impl<E: fmt::Debug> Note<E> {
    /// What your check found: that this is wrong, and why. [`shrink_by`](crate::shrink::shrink_by) makes the
    /// plan behind it small.
    pub fn finding(&self, why: &str) -> Finding {
        let text = format!("{why}: {self}");
        Finding { at: self.at, rule: OWN_CHECK, board: Some(self.board), text }
    }
}

impl<E: fmt::Debug> Log<E> {
    /// Notes something, from within `restore`, `run` or `checkpoint`. What it is becomes part of the trace, as
    /// its `Debug` writes it. On a thread of the service's own, and outside of a simulation, this does
    /// nothing: when it was would be different each time.
    pub fn note(&self, event: E) {
        PRESENT.with_borrow_mut(|present| {
            let Some(present) = present else { return };
            let note =
                Note { at: present.at(), board: present.spot.board, epoch: present.epoch, event };
            present.trace.add(&note);
            if !present.trace.again {
                self.0.lock().unwrap_or_else(PoisonError::into_inner).push(note);
            }
        });
    }

    /// Takes all notes out.
    pub fn take(&self) -> Vec<Note<E>> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<E> Default for Log<E> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<E> Clone for Log<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<E> fmt::Debug for Log<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

/// All notes of one run of a world, as a hash.
#[derive(Clone, Debug)]
pub(super) struct Trace {
    hash: Arc<Mutex<blake3::Hasher>>,
    /// It is the second run: notes are compared and not kept.
    again: bool,
}

impl Trace {
    pub(super) fn new(again: bool) -> Self {
        Self { hash: Arc::default(), again }
    }

    fn add<E: fmt::Debug>(&self, note: &Note<E>) {
        let text = format!("{note:?}\n");
        self.hash.lock().unwrap_or_else(PoisonError::into_inner).update(text.as_bytes());
    }

    pub(super) fn finish(&self) -> [u8; 32] {
        *self.hash.lock().unwrap_or_else(PoisonError::into_inner).finalize().as_bytes()
    }
}

/// Who runs at present.
pub(super) struct Present {
    pub(super) spot: Spot,
    pub(super) epoch: u64,
    /// While its runtime runs: an instant of it, and what the board's clock showed then.
    pub(super) since: Option<(Instant, Time)>,
    pub(super) trace: Trace,
}

impl Present {
    fn at(&self) -> Nanos {
        let Some((since, local)) = self.since else { return self.spot.now };
        let passed = since.elapsed().as_nanos() as u64;
        self.spot.clock.when(Time(local.0 + passed)).max(self.spot.now)
    }

    /// Lets something run as this one.
    pub(super) fn during<T>(self, act: impl FnOnce() -> T) -> T {
        let before = PRESENT.replace(Some(self));
        // Also if it panics, who ran before runs again.
        let _back = Back(before);
        act()
    }
}

struct Back(Option<Present>);

impl Drop for Back {
    fn drop(&mut self) {
        PRESENT.set(self.0.take());
    }
}

thread_local! {
    static PRESENT: RefCell<Option<Present>> = const { RefCell::new(None) };
}
