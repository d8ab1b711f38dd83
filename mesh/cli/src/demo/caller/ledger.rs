//! What was acknowledged: in memory for the figures, and in a file that survives the caller.
//!
//! The file has one line for each acknowledgement, `unix-microseconds connection count epoch`, written
//! and synced by a thread of its own, many at a time. What is read back in the end is what it says.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// One acknowledged write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::demo) struct Ack {
    /// When, Unix microseconds.
    pub(in crate::demo) at_us: u64,
    /// On which connection.
    pub(in crate::demo) connection: usize,
    /// The how manieth of it, from 1.
    pub(in crate::demo) count: u64,
    /// By which epoch of the service; 0: it did not say.
    pub(in crate::demo) epoch: u64,
}

/// The account.
#[derive(Debug)]
pub(in crate::demo) struct Ledger {
    kept: Mutex<Kept>,
    file: PathBuf,
    thread: Option<JoinHandle<io::Result<()>>>,
}

#[derive(Debug)]
struct Kept {
    acks: Vec<Ack>,
    /// When a request failed, Unix microseconds.
    failed: Vec<u64>,
    /// When each epoch was heard of by a reader, first and last, Unix microseconds.
    read: BTreeMap<u64, (u64, u64)>,
    lines: Option<Sender<Ack>>,
}

/// What happened within some time.
#[derive(Clone, Copy, Default, Debug)]
pub(in crate::demo) struct Figures {
    /// Writes that were acknowledged.
    pub(in crate::demo) acknowledged: u64,
    /// Requests that got no answer or a bad one; each was made again.
    pub(in crate::demo) failed: u64,
    /// The longest time between two acknowledgements.
    pub(in crate::demo) longest: Duration,
}

impl Ledger {
    /// Begins an empty account in `file`.
    ///
    /// # Errors
    /// The file cannot be made.
    pub(in crate::demo) fn new(file: PathBuf) -> io::Result<Self> {
        let (lines, all) = channel();
        let out = File::create(&file)?;
        let thread =
            thread::Builder::new().name("ledger".to_owned()).spawn(|| write_all(out, all))?;
        let kept = Kept {
            acks: Vec::new(),
            failed: Vec::new(),
            read: BTreeMap::new(),
            lines: Some(lines),
        };
        Ok(Self { kept: Mutex::new(kept), file, thread: Some(thread) })
    }

    /// Notes an acknowledgement.
    pub(in crate::demo) fn acknowledged(&self, connection: usize, count: u64, epoch: u64) {
        let mut kept = self.kept();
        let ack = Ack { at_us: unix_us(), connection, count, epoch };
        kept.acks.push(ack);
        // An error shows when the file is closed.
        let _ = kept.lines.as_ref().map(|lines| lines.send(ack));
    }

    /// Notes a request that failed.
    pub(in crate::demo) fn failed(&self) {
        self.kept().failed.push(unix_us());
    }

    /// Notes that something was read.
    pub(in crate::demo) fn was_read(&self, epoch: u64) {
        let now = unix_us();
        self.kept().read.entry(epoch).or_insert((now, now)).1 = now;
    }

    /// When something was first read under a right later than `epoch`, Unix microseconds.
    pub(in crate::demo) fn first_read_after(&self, epoch: u64) -> Option<u64> {
        self.kept().read.range(epoch + 1..).map(|(_, (first, _))| *first).min()
    }

    /// When something was last read under this right or an earlier one, Unix microseconds.
    pub(in crate::demo) fn last_read_of(&self, epoch: u64) -> Option<u64> {
        self.kept().read.range(..=epoch).map(|(_, (_, last))| *last).max()
    }

    /// How many there are.
    pub(in crate::demo) fn len(&self) -> usize {
        self.kept().acks.len()
    }

    /// All from the `from`th on, in order.
    pub(in crate::demo) fn since(&self, from: usize) -> Vec<Ack> {
        self.kept().acks.get(from..).unwrap_or_default().to_vec()
    }

    /// The first that was given under a right later than `epoch`.
    pub(in crate::demo) fn first_after(&self, epoch: u64) -> Option<Ack> {
        // The newest are at the end, and epochs only rise but for a few around a takeover.
        self.kept().acks.iter().find(|ack| ack.epoch > epoch).copied()
    }

    /// The last one that was given under this right or an earlier one.
    pub(in crate::demo) fn last_of(&self, epoch: u64) -> Option<Ack> {
        self.kept().acks.iter().rev().find(|ack| ack.epoch <= epoch).copied()
    }

    /// What happened from then until now.
    pub(in crate::demo) fn figures(&self, from_us: u64) -> Figures {
        let kept = self.kept();
        let first = kept.acks.partition_point(|ack| ack.at_us < from_us);
        let within = &kept.acks[first..];
        // A pause that began before counts from then on.
        let times = std::iter::once(from_us).chain(within.iter().map(|ack| ack.at_us));
        let ends = within.iter().map(|ack| ack.at_us).chain([unix_us()]);
        let longest = times.zip(ends).map(|(from, to)| to.saturating_sub(from)).max();
        Figures {
            acknowledged: within.len() as u64,
            failed: kept.failed.iter().filter(|at| **at >= from_us).count() as u64,
            longest: Duration::from_micros(longest.unwrap_or(0)),
        }
    }

    /// Ends the account, and gives what its file says.
    ///
    /// # Errors
    /// The file could not be written, or does not say what it was told.
    pub(in crate::demo) fn close(mut self) -> io::Result<Vec<Ack>> {
        let all = self.len();
        self.kept().lines = None;
        if let Some(thread) = self.thread.take() {
            thread.join().map_err(|_| io::Error::other("its thread panicked"))??;
        }
        let acks = read(&self.file)?;
        match acks.len() == all {
            true => Ok(acks),
            false => Err(io::Error::other(format!("{} of {all} lines are there", acks.len()))),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Now, as the ledger counts.
pub(in crate::demo) fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

fn write_all(mut file: File, all: Receiver<Ack>) -> io::Result<()> {
    while let Ok(first) = all.recv() {
        let mut lines = String::new();
        for ack in std::iter::once(first).chain(all.try_iter()) {
            let Ack { at_us, connection, count, epoch } = ack;
            lines.push_str(&format!("{at_us} {connection} {count} {epoch}\n"));
        }
        file.write_all(lines.as_bytes())?;
        file.sync_data()?;
    }
    Ok(())
}

fn read(file: &Path) -> io::Result<Vec<Ack>> {
    let text = fs::read_to_string(file)?;
    let parsed = text.lines().map(|line| {
        let mut numbers = line.split(' ').map(str::parse::<u64>);
        let mut next = || numbers.next().and_then(Result::ok);
        let (at_us, connection) = (next()?, usize::try_from(next()?).ok()?);
        Some(Ack { at_us, connection, count: next()?, epoch: next()? })
    });
    parsed.collect::<Option<Vec<Ack>>>().ok_or_else(|| io::Error::other("a line is not whole"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_says_what_was_acknowledged_and_pauses_are_counted_to_the_end() {
        let file = std::env::temp_dir().join(format!("hedgerow-ledger-{}", std::process::id()));
        let ledger = Ledger::new(file.clone()).unwrap();
        let from = unix_us();
        for count in 1..=100 {
            ledger.acknowledged(3, count, 1 + count / 50);
        }
        ledger.failed();
        thread::sleep(Duration::from_millis(5));
        let figures = ledger.figures(from);
        assert_eq!((figures.acknowledged, figures.failed), (100, 1));
        assert!(figures.longest >= Duration::from_millis(5));
        assert_eq!(ledger.first_after(1).unwrap().count, 50);
        assert_eq!(ledger.last_of(2).unwrap().count, 99);
        let acks = ledger.since(0);
        assert_eq!(ledger.close().unwrap(), acks);
        fs::remove_file(file).unwrap();
    }
}
