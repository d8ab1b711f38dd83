//! The journal's worker: one thread that appends, fsyncs and answers.
//!
//! Nothing in the driver waits for a disk. Records that queue up while an fsync runs are written and
//! fsynced together. Once the file has grown enough it is replaced by a snapshot, written beside it
//! and renamed into place. The first error is final: an fsync that failed may have dropped the very
//! pages it reports, so it is never retried; the node stops, and a restart writes what it can read anew.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::home::{HomeLock, advice, write_durably};
use crate::proto::id::OpId;
use crate::proto::journal::{self, Durable, Record, ScanError};

/// Records that may wait for the disk. A node asks for few at a time; past this it is stuck.
pub(crate) const QUEUE_MAX: usize = 8192;
/// Records that are written with one fsync.
const BATCH_MAX: usize = 256;

/// What the worker answers: the record of this operation is durable, or never will be.
pub(crate) type Persisted = (OpId, Result<(), String>);

/// The driver's end of a running worker.
#[derive(Debug)]
pub(crate) struct Worker {
    records: mpsc::Sender<(OpId, Record)>,
    answers: mpsc::Receiver<Persisted>,
}

impl Worker {
    /// Hands a record over. What comes back is to be told to the node first: nothing as long as the
    /// worker runs; if it has ended, its last answers, since they say what is wrong with the disk.
    pub(crate) fn persist(&mut self, op: OpId, record: Record) -> Vec<Persisted> {
        let gone = match self.records.try_send((op, record)) {
            Ok(()) => return Vec::new(),
            Err(TrySendError::Full(_)) => {
                return vec![(op, Err("the disk does not keep up".into()))];
            }
            Err(TrySendError::Closed(_)) => (op, Err("its thread has ended".into())),
        };
        let mut told: Vec<Persisted> =
            std::iter::from_fn(|| self.answers.try_recv().ok()).collect();
        told.push(gone);
        told
    }

    /// The next answer; none once the worker has ended and all were heard.
    pub(crate) async fn answer(&mut self) -> Option<Persisted> {
        self.answers.recv().await
    }
}

/// Why a journal cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// A file operation failed.
    #[error("cannot {what} the journal {path}: {source}{}", advice(source))]
    Io {
        /// `read`, `write`, ….
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The content is damaged or of another version.
    #[error("{path}: {source}")]
    Scan {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: ScanError,
    },
}

/// An open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    /// Bytes in the file, all fsynced.
    len: u64,
    snapshot_len: u64,
    durable: Durable,
}

impl Journal {
    /// Reads the journal back, writes what it says anew, and opens it for appending.
    ///
    /// An earlier life may have ended because an fsync failed. What it wrote is readable then, but the kernel has
    /// dropped it and says of the next fsync that all is well; so nothing rests on the file that was found.
    pub(crate) fn open(path: PathBuf) -> Result<(Self, Durable), JournalError> {
        let io_error = |what| {
            let path = path.clone();
            move |source| JournalError::Io { what, path, source }
        };
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read.map_err(io_error("read"))?,
        };
        let scan = journal::scan(&bytes)
            .map_err(|source| JournalError::Scan { path: path.clone(), source })?;
        let journal = Self::anew(path.clone(), &scan.durable).map_err(io_error("write"))?;
        let durable = journal.durable.clone();
        Ok((journal, durable))
    }

    /// Puts a snapshot of `durable` in the place of whatever is at `path`.
    fn anew(path: PathBuf, durable: &Durable) -> io::Result<Self> {
        let snapshot = journal::snapshot(durable).map_err(io::Error::other)?;
        write_durably(&path, &snapshot)?;
        let file = OpenOptions::new().append(true).open(&path)?;
        let len = snapshot.len() as u64;
        // What the snapshot left out is not needed in memory either.
        let mut shorter = Durable::default();
        durable.records().into_iter().for_each(|record| shorter.apply(record));
        Ok(Self { path, file, len, snapshot_len: len, durable: shorter })
    }

    /// Appends records and fsyncs once.
    pub(crate) fn append(&mut self, records: &[Record]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for record in records {
            bytes.extend(journal::frame(record, self.len).map_err(io::Error::other)?);
        }
        self.file.write_all(&bytes)?;
        self.file.sync_data()?;
        self.len += bytes.len() as u64;
        for record in records {
            self.durable.apply(record.clone());
        }
        if journal::wants_compaction(self.len, self.snapshot_len) {
            *self = Self::anew(self.path.clone(), &self.durable)?;
        }
        Ok(())
    }

    /// Serves `queue` until its other end is dropped or the disk fails.
    fn serve(
        mut self,
        mut queue: mpsc::Receiver<(OpId, Record)>,
        answers: &mpsc::Sender<Persisted>,
    ) {
        let mut batch = Vec::new();
        while queue.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
            let (ops, records): (Vec<OpId>, Vec<Record>) = batch.drain(..).unzip();
            let result = self.append(&records).map_err(|error| describe(&self.path, &error));
            let failed = result.is_err();
            for op in ops {
                if answers.blocking_send((op, result.clone())).is_err() {
                    return;
                }
            }
            if failed {
                return;
            }
        }
    }

    /// Starts the worker. The folder stays locked as long as it may write.
    pub(crate) fn spawn(self, lock: Arc<HomeLock>) -> io::Result<Worker> {
        let (records, queue) = mpsc::channel(QUEUE_MAX);
        let (answers, heard) = mpsc::channel(QUEUE_MAX);
        std::thread::Builder::new().name("hedgerow-disk".to_owned()).spawn(move || {
            self.serve(queue, &answers);
            drop(lock);
        })?;
        Ok(Worker { records, answers: heard })
    }
}

fn describe(path: &Path, error: &io::Error) -> String {
    let next = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free some space and start this node again; nothing that was promised is lost"
        }
        _ => "check the disk and start this node again",
    };
    format!("{}: {error}; {next}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::id::Incarnation;

    fn path(name: &str) -> PathBuf {
        let path =
            std::env::temp_dir().join(format!("hedgerow-disk-{name}-{}", std::process::id()));
        let _ = fs::remove_file(&path);
        path
    }

    fn record(n: u64) -> Record {
        Record::Incarnations { upto: Incarnation(n) }
    }

    #[test]
    fn what_was_appended_is_there_after_reopening_and_a_torn_tail_is_not() {
        let path = path("reopen");
        let (mut journal, _) = Journal::open(path.clone()).unwrap();
        journal.append(&[record(1), record(2)]).unwrap();
        drop(journal);
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(&journal::frame(&record(3), 8).unwrap()[..9]).unwrap();
        let (mut journal, durable) = Journal::open(path.clone()).unwrap();
        assert_eq!(durable.incarnation, Incarnation(2));
        journal.append(&[record(4)]).unwrap();
        assert_eq!(Journal::open(path.clone()).unwrap().1.incarnation, Incarnation(4));
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_was_read_at_opening_rests_on_no_page_of_the_file_that_was_found() {
        let (path, platter) = (path("ghost"), path("ghost-platter"));
        let (mut journal, _) = Journal::open(path.clone()).unwrap();
        journal.append(&[record(1)]).unwrap();
        let safe = fs::metadata(&path).unwrap().len();
        journal.append(&[record(2)]).unwrap();
        drop(journal);
        fs::hard_link(&path, &platter).unwrap();
        assert_eq!(Journal::open(path.clone()).unwrap().1.incarnation, Incarnation(2));
        // The fsync of the second record had failed, and now the power goes.
        OpenOptions::new().write(true).open(&platter).unwrap().set_len(safe).unwrap();
        assert_eq!(Journal::open(path.clone()).unwrap().1.incarnation, Incarnation(2));
        fs::remove_file(path).unwrap();
        fs::remove_file(platter).unwrap();
    }

    #[test]
    fn a_record_that_meets_a_worker_that_has_just_failed_is_told_why_it_failed() {
        let (records, queue) = mpsc::channel(1);
        let (answer, answers) = mpsc::channel(2);
        let mut worker = Worker { records, answers };
        assert_eq!(worker.persist(OpId(1), record(1)), []);
        answer.try_send((OpId(1), Err("the disk is full".to_owned()))).unwrap();
        drop(queue);
        let told = worker.persist(OpId(2), record(2));
        assert_eq!(told[0], (OpId(1), Err("the disk is full".to_owned())));
        assert_eq!(told.len(), 2, "the second one is answered, too");
    }

    #[test]
    fn a_journal_stays_small_however_much_is_written() {
        let path = path("compact");
        let (mut journal, _) = Journal::open(path.clone()).unwrap();
        for n in 1..=200 {
            let batch: Vec<Record> = (0..50).map(|i| record(n * 50 + i)).collect();
            journal.append(&batch).unwrap();
        }
        let len = fs::metadata(&path).unwrap().len();
        assert!(len < 2 * journal::COMPACT_BYTES_MIN, "{len} bytes");
        assert_eq!(Journal::open(path.clone()).unwrap().1.incarnation, Incarnation(10_049));
        fs::remove_file(path).unwrap();
    }
}
