//! Writing: whatever arrived meanwhile is one batch, one `fdatasync` and, if asked for, one commit.
//!
//! ```text
//! requests ─▶ queue ─▶ one thread: batch, append, fdatasync ─▶ some threads: commit ─▶ answers
//! ```
//!
//! Several commits may be under way, each of a later batch than the one before, so that the next batch
//! need not wait for an answer from another board. A commit that was answered holds for every batch
//! before it as well. What is read is what has been acknowledged, or could not be: a batch becomes
//! visible when its commit ends.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver as Turns, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::sync::{mpsc, oneshot};

use super::control::{Committed, Control};
use super::store::{BATCH_BYTES_MAX, Change, Log, Map};

/// Commits under way at once.
const COMMITS: usize = 4;
/// Changes that wait; whoever comes then waits before the queue.
const QUEUE_MAX: usize = 256;

/// The way in.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    queue: mpsc::Sender<Wanted>,
    shared: Arc<Mutex<Shared>>,
}

/// What became of a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// It is kept wherever it has to be.
    Kept,
    /// There was nothing to remove.
    NotThere,
    /// It is on this board's disk and, as far as is known, nowhere else.
    Unprotected,
    /// Nobody knows whether it will be there.
    Unknown,
}

#[derive(Debug)]
struct Wanted {
    change: Change,
    answer: oneshot::Sender<Outcome>,
}

/// Changes that were made together.
#[derive(Default, Debug)]
struct Batch {
    number: u64,
    /// Empty once they can be seen.
    changes: Vec<Change>,
    answers: Vec<oneshot::Sender<Outcome>>,
}

#[derive(Debug)]
struct Shared {
    map: Map,
    /// On the disk, their commits not answered; in order.
    pending: VecDeque<Batch>,
    number: u64,
}

impl Writer {
    /// Writes to `log`, which adds up to `map`; commits over `control`, if there is one. An error of
    /// the disk goes to `broken`, and then nothing is written any more.
    ///
    /// # Errors
    /// No thread can be started.
    pub(super) fn start(
        log: Log,
        map: Map,
        control: Option<PathBuf>,
        broken: mpsc::Sender<io::Error>,
    ) -> io::Result<Self> {
        let shared = Shared { map, pending: VecDeque::new(), number: 0 };
        let shared = Arc::new(Mutex::new(shared));
        let (queue, wanted) = mpsc::channel(QUEUE_MAX);
        let commits = control.map(|path| commit_all(&path, &shared)).transpose()?;
        let work = shared.clone();
        spawn("kv-writer", move || {
            if let Err(error) = write_all(log, wanted, &work, commits.as_ref()) {
                // A full channel says that the process is ending already.
                let _ = broken.try_send(error);
            }
        })?;
        Ok(Self { queue, shared })
    }

    /// Makes a change, and says what became of it.
    pub(super) async fn make(&self, change: Change) -> Outcome {
        let (answer, answered) = oneshot::channel();
        // Errors say that the disk failed: nobody knows then what is on it.
        if self.queue.send(Wanted { change, answer }).await.is_err() {
            return Outcome::Unknown;
        }
        answered.await.unwrap_or(Outcome::Unknown)
    }

    /// The value of `key`.
    pub(super) fn get(&self, key: &str) -> Option<Vec<u8>> {
        lock(&self.shared).map.get(key).cloned()
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        lock(&self.shared).map.len()
    }
}

/// The threads that commit: each takes the number of a batch, asks, and settles.
fn commit_all(path: &std::path::Path, shared: &Arc<Mutex<Shared>>) -> io::Result<SyncSender<u64>> {
    let (sender, turns) = sync_channel(0);
    let turns = Arc::new(Mutex::new(turns));
    for _ in 0..COMMITS {
        let (turns, shared) = (turns.clone(), shared.clone());
        let mut control = Control::new(path);
        spawn("kv-commit", move || {
            while let Some(number) = next(&turns) {
                let committed = control.commit();
                lock(&shared).settle(number, committed);
            }
        })?;
    }
    Ok(sender)
}

fn next(turns: &Mutex<Turns<u64>>) -> Option<u64> {
    turns.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

/// Until nobody writes any more, or the disk fails.
fn write_all(
    mut log: Log,
    mut wanted: mpsc::Receiver<Wanted>,
    shared: &Mutex<Shared>,
    commits: Option<&SyncSender<u64>>,
) -> io::Result<()> {
    // What did not fit the batch before.
    let mut left = None;
    while let Some(first) = left.take().or_else(|| wanted.blocking_recv()) {
        let (batch, over) = lock(shared).batch(first, &mut wanted);
        left = over;
        if batch.changes.is_empty() {
            continue;
        }
        log.append(&batch.changes)?;
        let number = lock(shared).await_commit(batch);
        let settled = match commits {
            // A commit that cannot be asked for ends with the process.
            Some(commits) => commits.send(number).map_err(|_| Committed::Unknown),
            None => Err(Committed::Kept),
        };
        if let Err(committed) = settled {
            lock(shared).settle(number, committed);
        }
    }
    Ok(())
}

impl Shared {
    /// Everything that waits, as far as it fits; and the one that does not.
    fn batch(&self, first: Wanted, wanted: &mut mpsc::Receiver<Wanted>) -> (Batch, Option<Wanted>) {
        let (mut batch, mut bytes) = (Batch::default(), 0);
        let mut next = Some(first);
        while let Some(Wanted { change, answer }) = next {
            bytes += change.bytes();
            if bytes > BATCH_BYTES_MAX {
                return (batch, Some(Wanted { change, answer }));
            }
            let nothing = matches!(change, Change::Delete(_)) && !self.has(change.key(), &batch);
            if nothing {
                // An error says that whoever asked has gone away.
                let _ = answer.send(Outcome::NotThere);
            } else {
                batch.changes.push(change);
                batch.answers.push(answer);
            }
            next = wanted.try_recv().ok();
        }
        (batch, None)
    }

    /// Whether a key will be there once everything is done.
    fn has(&self, key: &str, batch: &Batch) -> bool {
        let batches = self.pending.iter().chain([batch]);
        let last = batches.flat_map(|batch| &batch.changes).rfind(|it| it.key() == key);
        last.map_or_else(|| self.map.contains_key(key), |change| matches!(change, Change::Put(..)))
    }

    fn await_commit(&mut self, mut batch: Batch) -> u64 {
        self.number += 1;
        batch.number = self.number;
        self.pending.push_back(batch);
        self.number
    }

    /// A commit has ended: what it held is seen from now on, and those that wait for it are told.
    fn settle(&mut self, number: u64, committed: Committed) {
        let outcome = match committed {
            Committed::Kept => Outcome::Kept,
            Committed::Unprotected => Outcome::Unprotected,
            Committed::Unknown => Outcome::Unknown,
        };
        let Self { map, pending, .. } = self;
        for batch in pending.iter_mut().take_while(|batch| batch.number <= number) {
            batch.changes.drain(..).for_each(|change| change.apply(map));
            // A commit that succeeded is one of all that was before it.
            if batch.number == number || outcome == Outcome::Kept {
                for answer in batch.answers.drain(..) {
                    let _ = answer.send(outcome);
                }
            }
        }
        pending.retain(|batch| batch.number > number || !batch.answers.is_empty());
    }
}

/// The map changes only in steps that cannot panic, so a poisoned lock guards a whole one.
fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(shared: &mut Shared, key: &str) -> (u64, oneshot::Receiver<Outcome>) {
        let (answer, answered) = oneshot::channel();
        let changes = vec![Change::Put(key.to_owned(), Vec::new())];
        (shared.await_commit(Batch { number: 0, changes, answers: vec![answer] }), answered)
    }

    #[test]
    fn a_commit_that_succeeded_answers_for_those_before_it_and_an_unknown_one_for_itself_only() {
        let mut shared = Shared { map: Map::new(), pending: VecDeque::new(), number: 0 };
        let (_, mut one) = batch(&mut shared, "1");
        let (second, mut two) = batch(&mut shared, "2");
        let (third, mut three) = batch(&mut shared, "3");
        shared.settle(second, Committed::Unknown);
        assert_eq!((shared.map.len(), two.try_recv()), (2, Ok(Outcome::Unknown)));
        assert!(one.try_recv().is_err() && three.try_recv().is_err());
        shared.settle(third, Committed::Kept);
        assert_eq!((one.try_recv(), three.try_recv()), (Ok(Outcome::Kept), Ok(Outcome::Kept)));
        assert!(shared.pending.is_empty() && shared.map.len() == 3);
        // A late answer finds nobody.
        shared.settle(1, Committed::Kept);
    }

    #[test]
    fn what_waits_becomes_one_batch_and_a_removal_knows_what_was_written_before_it() {
        let shared = Shared { map: Map::new(), pending: VecDeque::new(), number: 0 };
        let (queue, mut wanted) = mpsc::channel(8);
        let ask = |change| {
            let (answer, answered) = oneshot::channel();
            queue.try_send(Wanted { change, answer }).unwrap();
            answered
        };
        let mut nothing = ask(Change::Delete("a".to_owned()));
        let _put = ask(Change::Put("a".to_owned(), vec![0; 60_000]));
        let mut gone = ask(Change::Delete("a".to_owned()));
        let first = wanted.try_recv().unwrap();
        let (batch, over) = shared.batch(first, &mut wanted);
        assert_eq!((batch.changes.len(), over.is_none()), (2, true));
        assert_eq!(nothing.try_recv(), Ok(Outcome::NotThere));
        assert!(gone.try_recv().is_err());
    }
}
