//! A disk with one journal on it, as bytes.
//!
//! What a node persists is framed by the production journal code and appended; an fsync later (one at
//! a time; everything written meanwhile goes into the next) the bytes are safe and the node is told.
//! A process crash keeps all that was written, since the kernel has it. A power cut keeps what was
//! fsynced; of the rest it keeps nothing, a torn beginning, or some of its 512-byte sectors. Where an fsync
//! failed the kernel keeps what it was to write for whoever reads it, says of the next fsync that all is well,
//! and never writes it, unless a later write touches the same sector.
//!
//! A journal that has grown, or that is opened, is replaced by a snapshot: a new file, fsynced, then renamed,
//! which is atomic.

use std::collections::{BTreeMap, VecDeque};

use hedgerow::proto::id::{NodeId, OpId};
use hedgerow::proto::journal::{self, Durable, Record, ScanError};

use crate::law;
use crate::seed::Stream;
use crate::time::{MILLI, Nanos, SECOND};

const SECTOR_BYTES: usize = 512;
/// What a failed write is told as.
const FAILED: &str = "the simulated disk failed";
/// What the slow-fsync fault makes of every fsync.
const SLOW_FSYNC: (Nanos, Nanos) = (50 * MILLI, 3 * SECOND);

/// See the module.
#[derive(Debug)]
pub struct Disk {
    file: Vec<u8>,
    synced: usize,
    /// Sectors whose fsync failed: what the platter has of them.
    ghosts: BTreeMap<usize, Vec<u8>>,
    snapshot_bytes: u64,
    /// Written, not yet fsynced.
    waiting: VecDeque<Waiting>,
    /// A frame that is safe says that everything before this is.
    vouched: usize,
    /// What writing comes to now.
    failure: Option<Failure>,
    /// Half of a record was written in this life of the process; nothing behind it counts.
    short: bool,
    /// It has failed in this life of the process.
    failed: bool,
    /// Came while the file was being replaced.
    held: Vec<(OpId, Record)>,
    doing: Option<Doing>,
    slow: bool,
    /// Counts what the disk did; an answer to an older count is void.
    turn: u32,
    latency: Stream,
    torn: Stream,
}

/// A record that was written.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    /// The answer that it awaits.
    op: OpId,
    /// Where its frame ends.
    end: usize,
    /// So much was safe when it was written, it says.
    vouches: usize,
}

/// Why nothing can be made durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// Fsync says that it failed.
    Fsync,
    /// There is no room: half of a record is written.
    Full,
}

/// What happens to bytes that were safe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Damage {
    /// One bit flips.
    Bit,
    /// A sector is overwritten by something that was meant for another place.
    Sector,
}

/// Why a journal cannot be opened.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CannotOpen {
    /// Its content is damaged.
    #[error(transparent)]
    Damaged(ScanError),
    /// Nothing can be made durable now.
    #[error("it cannot be written anew: {FAILED}")]
    Fails,
}

/// What became of a record: it is safe, or never will be.
pub type Answer = (OpId, Result<(), &'static str>);

#[derive(Debug)]
enum Doing {
    Fsync { upto: usize },
    Replace { file: Vec<u8> },
}

/// Something the disk began, and what to wait for.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    /// How long it takes, ns.
    pub takes: Nanos,
    /// To be given to [`Disk::done`].
    pub turn: u32,
    /// A slow-fsync fault made it slow.
    pub slowed: bool,
}

impl Disk {
    /// An empty disk.
    pub fn new(latency: Stream, torn: Stream) -> Self {
        Self {
            file: Vec::new(),
            synced: 0,
            ghosts: BTreeMap::new(),
            snapshot_bytes: 0,
            waiting: VecDeque::new(),
            vouched: 0,
            failure: None,
            short: false,
            failed: false,
            held: Vec::new(),
            doing: None,
            slow: false,
            turn: 0,
            latency,
            torn,
        }
    }

    /// Appends a record.
    ///
    /// # Errors
    /// The record is too large for a frame: a limit in the node is wrong.
    pub fn append(&mut self, op: OpId, record: Record) -> Result<Option<Begun>, String> {
        if matches!(self.doing, Some(Doing::Replace { .. })) {
            self.held.push((op, record));
            return Ok(None);
        }
        self.write(op, &record)?;
        Ok(self.begin())
    }

    /// What began with `turn` is done. Gives the answers that are due, in order, and what the disk
    /// does next.
    ///
    /// # Errors
    /// As for [`Disk::append`], or the file cannot be read back for a snapshot.
    pub fn done(&mut self, turn: u32) -> Result<(Vec<Answer>, Option<Begun>), String> {
        if turn != self.turn {
            return Ok((Vec::new(), None));
        }
        let mut answered = Vec::new();
        match self.doing.take() {
            None => {}
            Some(_) if self.failure.is_some() || self.short => {
                // The first error is final: nothing is written after it.
                self.failed = true;
                self.forget_what_is_unsynced();
                let written = std::mem::take(&mut self.waiting).into_iter().map(|w| w.op);
                let held = std::mem::take(&mut self.held).into_iter().map(|(op, _)| op);
                return Ok((written.chain(held).map(|op| (op, Err(FAILED))).collect(), None));
            }
            Some(Doing::Fsync { upto }) => {
                self.synced = upto;
                while let Some(Waiting { op, vouches, .. }) =
                    self.waiting.front().copied().filter(|waiting| waiting.end <= upto)
                {
                    self.waiting.pop_front();
                    answered.push((op, Ok(())));
                    self.vouched = vouches;
                }
            }
            Some(Doing::Replace { file }) => {
                self.put(file);
                for (op, record) in std::mem::take(&mut self.held) {
                    self.write(op, &record)?;
                }
            }
        }
        let wants_compaction = self.waiting.is_empty()
            && journal::wants_compaction(self.file.len() as u64, self.snapshot_bytes);
        let next = if wants_compaction { Some(self.replace()?) } else { self.begin() };
        Ok((answered, next))
    }

    /// The process ended; the kernel still writes what it was given.
    pub fn crash(&mut self) {
        (self.failed, self.short) = (false, false);
        self.waiting.clear();
        self.held.clear();
        self.doing = None;
        self.turn += 1;
    }

    /// The power went. Gives back whether anything was lost.
    pub fn cut_power(&mut self) -> bool {
        let replaced = match self.doing.take() {
            // The rename reached the disk or it did not.
            Some(Doing::Replace { file }) if self.torn.percent(50) => Some(file),
            _ => None,
        };
        self.crash();
        if let Some(file) = replaced {
            self.put(file);
        }
        let ghosts = self.lose_ghosts();
        let unsynced = self.file.len() - self.synced;
        if unsynced == 0 {
            return ghosts;
        }
        match self.torn.below(3) {
            0 => self.file.truncate(self.synced),
            1 => {
                let kept = self.torn.below(unsynced as u64) as usize;
                self.file.truncate(self.synced + kept);
            }
            _ => self.lose_sectors(),
        }
        true
    }

    /// The disk is replaced by an empty one.
    pub fn wipe(&mut self) {
        self.crash();
        self.put(Vec::new());
    }

    /// What is safe on it now.
    pub fn image(&self) -> Vec<u8> {
        self.file[..self.synced].to_vec()
    }

    /// An image is put back while the board has no power.
    pub fn put_back(&mut self, image: Vec<u8>) {
        self.wipe();
        self.synced = image.len();
        self.file = image;
    }

    /// Writing fails from now on, or no longer.
    pub fn set_failure(&mut self, failure: Option<Failure>) {
        self.failure = failure;
    }

    /// Whether it has failed in this life of the process.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// Damages bytes that were safe, and which a safe frame behind them vouches for. False if there are none:
    /// in the last frames damage cannot be told from a tail that was never safe.
    pub fn damage(&mut self, damage: Damage) -> bool {
        let (from, upto) = (journal::MAGIC.len(), self.vouched.min(self.file.len()));
        if upto <= from {
            return false;
        }
        let at = from + self.torn.below((upto - from) as u64) as usize;
        let bit = 1 << self.torn.below(8);
        match damage {
            Damage::Bit => self.file[at] ^= bit,
            Damage::Sector => {
                let start = at / SECTOR_BYTES * SECTOR_BYTES;
                let end = (start + SECTOR_BYTES).min(upto);
                let source = self.torn.below(self.file.len() as u64) as usize;
                let other: Vec<u8> =
                    (start..end).map(|n| self.file[(source + n) % self.file.len()]).collect();
                if self.file[start..end] == other[..] {
                    self.file[at] ^= bit;
                } else {
                    self.file[start..end].copy_from_slice(&other);
                }
            }
        }
        true
    }

    /// What an earlier life has left on it.
    ///
    /// # Errors
    /// As for [`Disk::append`].
    pub fn prefill(&mut self, durable: &Durable) -> Result<(), String> {
        self.put(journal::snapshot(durable).map_err(|error| error.to_string())?);
        Ok(())
    }

    /// Reads the journal for a new life and writes what it says anew, *before* anybody relies on it: what was
    /// found may not be safe, or be what an fsync that failed has left. An empty journal begins with the board's
    /// key. Gives back what it says, and how long that takes.
    ///
    /// # Errors
    /// The journal is damaged, which this disk never does to fsynced bytes; or it cannot be written now.
    pub fn recover(&mut self, me: NodeId) -> Result<(Durable, Nanos), CannotOpen> {
        let mut durable = journal::scan(&self.file).map_err(CannotOpen::Damaged)?.durable;
        if self.failure.is_some() {
            return Err(CannotOpen::Fails);
        }
        if durable == Durable::default() {
            // As the driver does: the first record of every journal says whose it is.
            durable.apply(Record::Identity(me));
        }
        self.put(journal::snapshot(&durable).expect("what was in frames fits frames"));
        Ok((durable, self.latency().0))
    }

    /// From now on fsyncs are slow, or no longer.
    pub fn set_slow(&mut self, slow: bool) {
        self.slow = slow;
    }

    /// A new file takes the place of the old one: it is safe.
    fn put(&mut self, file: Vec<u8>) {
        (self.synced, self.snapshot_bytes, self.vouched) = (file.len(), file.len() as u64, 0);
        self.file = file;
        self.ghosts.clear();
    }

    /// An fsync has failed: what it was to write never will be.
    fn forget_what_is_unsynced(&mut self) {
        if self.failure != Some(Failure::Fsync) {
            return;
        }
        for sector in self.synced / SECTOR_BYTES..self.file.len().div_ceil(SECTOR_BYTES) {
            let start = sector * SECTOR_BYTES;
            let safe = &self.file[start..self.synced.max(start).min(self.file.len())];
            self.ghosts.entry(sector).or_insert_with(|| safe.to_vec());
        }
    }

    /// The power went: what an fsync had failed to write shows to be missing. Gives back whether anything was.
    fn lose_ghosts(&mut self) -> bool {
        for (sector, safe) in &self.ghosts {
            let start = (sector * SECTOR_BYTES).min(self.file.len());
            let end = (start + SECTOR_BYTES).min(self.file.len());
            self.file[start..end].fill(0);
            let safe = &safe[..safe.len().min(end - start)];
            self.file[start..start + safe.len()].copy_from_slice(safe);
        }
        !std::mem::take(&mut self.ghosts).is_empty()
    }

    fn write(&mut self, op: OpId, record: &Record) -> Result<(), String> {
        if self.file.is_empty() {
            self.file.extend_from_slice(journal::MAGIC);
        }
        let frame = journal::frame(record, self.synced as u64).map_err(|e| e.to_string())?;
        let fits = if self.failure == Some(Failure::Full) { frame.len() / 2 } else { frame.len() };
        // What is in the same sector is written again with it.
        self.ghosts.retain(|sector, _| (sector + 1) * SECTOR_BYTES <= self.file.len());
        self.file.extend_from_slice(&frame[..fits]);
        self.short |= fits < frame.len();
        let (end, vouches) = (self.file.len(), self.synced);
        self.waiting.push_back(Waiting { op, end, vouches });
        Ok(())
    }

    fn begin(&mut self) -> Option<Begun> {
        if self.doing.is_some() || self.waiting.is_empty() {
            return None;
        }
        self.doing = Some(Doing::Fsync { upto: self.file.len() });
        Some(self.begun())
    }

    fn replace(&mut self) -> Result<Begun, String> {
        let scan = journal::scan(&self.file).map_err(|error| error.to_string())?;
        let file = journal::snapshot(&scan.durable).map_err(|error| error.to_string())?;
        self.doing = Some(Doing::Replace { file });
        Ok(self.begun())
    }

    fn begun(&mut self) -> Begun {
        self.turn += 1;
        let (takes, slowed) = self.latency();
        Begun { takes, turn: self.turn, slowed }
    }

    fn latency(&mut self) -> (Nanos, bool) {
        let mut draws = self.latency;
        let latency = self.latency_of(&mut draws);
        self.latency = draws;
        latency
    }

    /// How long an fsync of something else on this disk takes, and whether a fault made it slow.
    pub fn latency_of(&self, draws: &mut Stream) -> (Nanos, bool) {
        let usual = law::fsync(draws);
        let slow = draws.between(SLOW_FSYNC.0, SLOW_FSYNC.1);
        if self.slow { (slow, true) } else { (usual, false) }
    }

    fn lose_sectors(&mut self) {
        let mut at = self.synced;
        while at < self.file.len() {
            let end = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(self.file.len());
            if self.torn.percent(50) {
                self.file[at..end].fill(0);
            }
            at = end;
        }
    }
}

#[cfg(test)]
mod tests;
