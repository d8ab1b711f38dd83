//! The side that wants a state: asks for it, takes it piece by piece, makes it durable.
//!
//! What has arrived is kept if the stream breaks, and not asked for again. A stream is used for one
//! transfer after another; few are open to a peer at a time, and the others wait for their turn.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hedgerow_replication::Receiver;
use hedgerow_replication::transfer::{HEADER_BYTES_MAX, TransferError};
use tokio::sync::{Notify, Semaphore};

use super::capture::state_bytes;
use super::serve::IDLE_MAX;
use super::shelf::{Queue, SHELF, Shelf, ShelfError, Shelves, named};
use super::words::{
    Ask, HELD_MAX, Hears, HeldState, SILENCE_MAX, Speaks, Tell, VERSION, Want, WireError, halves,
};
use crate::clock;
use crate::net::swarm::{BulkError, Swarm};
use crate::proto::bounded::{Blob, List};
use crate::proto::id::NodeId;
use crate::proto::io::Transferred;
use crate::proto::order::Instance;
use crate::proto::table::CheckpointId;

/// Streams to one peer; it takes no more.
const STREAMS_MAX: usize = 2;
/// Attempts to get an answer at all: a stream may have been closed, or the peer still hold an old one.
const ATTEMPTS: u32 = 4;
/// Before the second attempt on a new stream; doubles.
const AGAIN: Duration = Duration::from_millis(50);
/// The first word on a stream that was used before: its peer may have died, and nobody have noticed yet.
const REUSED_WAIT: Duration = Duration::from_millis(1500);
/// How often a peer may say that it is at it.
const WAITS_MAX: u32 = 1200;
/// Bytes after which the sender is told that they were consumed.
const CREDIT_EVERY: u64 = 16 << 10;
/// Bytes asked of a stream at once.
const READ_BYTES: usize = 16 << 10;

/// Why a state did not arrive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum FetchError {
    /// There is no stream to that board.
    #[error("no bulk stream: {0}")]
    Open(#[from] BulkError),
    /// The stream broke.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The other board said no.
    #[error("refused: {0}")]
    Refused(String),
    /// It sent something else.
    #[error("it sent the state {0:?} instead")]
    OtherState(CheckpointId),
    /// What it sent is not what it should be, or could not be made durable.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// The store cannot be used.
    #[error(transparent)]
    Shelf(#[from] ShelfError),
}

impl FetchError {
    /// Whether this board's own disk is to blame.
    pub(super) fn is_own_disk(&self) -> bool {
        use hedgerow_replication::store::StoreError as E;
        matches!(
            self,
            Self::Shelf(ShelfError::Io { .. } | ShelfError::Stuck(_))
                | Self::Shelf(ShelfError::Store(
                    E::Io { .. } | E::DiskFull { .. } | E::Stopped | E::Quota { .. }
                ))
                | Self::Transfer(TransferError::Store(
                    E::Io { .. } | E::DiskFull { .. } | E::Stopped | E::Quota { .. }
                ))
        )
    }
}

/// What is to be fetched.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) instance: Instance,
    pub(super) id: CheckpointId,
    pub(super) from: NodeId,
}

/// Fetches states.
#[derive(Debug)]
pub(super) struct Fetcher {
    shelves: Shelves,
    lines: Mutex<BTreeMap<NodeId, Arc<Line>>>,
}

/// The streams to one peer.
struct Line {
    turns: Semaphore,
    idle: Mutex<Vec<Talk>>,
    /// The peer has begun to talk anew.
    anew: Notify,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Line(..)")
    }
}

/// One stream, between two transfers or in one.
struct Talk {
    hears: Hears,
    speaks: Speaks,
    /// When it was used last, lease clock.
    used_ns: u64,
    consumed: u64,
    credited: u64,
}

/// What the other side begins with.
struct Beginning {
    header_bytes: usize,
    all: bool,
}

impl Fetcher {
    pub(super) fn new(shelves: Shelves) -> Self {
        Self { shelves, lines: Mutex::default() }
    }

    /// Fetches a state; when this returns well it is durable. Dropping it loses nothing that arrived.
    pub(super) async fn fetch(&self, swarm: &Swarm, job: Job) -> Result<Transferred, FetchError> {
        let line = self.line(job.from);
        loop {
            tokio::select! {
                fetched = self.transfer(swarm, &line, &job) => return fetched,
                // The stream may lead to the life before.
                () = line.anew.notified() => {}
            }
        }
    }

    async fn transfer(
        &self,
        swarm: &Swarm,
        line: &Line,
        job: &Job,
    ) -> Result<Transferred, FetchError> {
        let queue = self.shelves.of(&job.instance)?;
        let held = queue.run(held).await??;
        if held.iter().any(|state| state.id == job.id) {
            return Ok(Transferred::default());
        }
        let want = Ask::Want(Box::new(Want {
            version: VERSION,
            instance: job.instance.clone(),
            id: job.id,
            held: List::capped(held.into_iter().rev().take(HELD_MAX).rev()),
        }));
        let Ok(_turn) = line.turns.acquire().await else {
            return Err(BulkError::Closed.into());
        };
        let (mut talk, beginning) = ask(swarm, job.from, line, &want).await?;
        let fetched = match beginning {
            Err(why) => Err(FetchError::Refused(why)),
            Ok(beginning) => Ok(receive(&queue, job, &mut talk, beginning).await?),
        };
        talk.used_ns = clock::now_ns();
        line.idle.lock().unwrap_or_else(PoisonError::into_inner).push(talk);
        fetched
    }

    /// A peer has begun to talk anew: streams of before may lead to a life of it that has ended, and would be
    /// waited for ([`REUSED_WAIT`], [`SILENCE_MAX`]). What is under way asks again, and for the rest only.
    pub(super) fn begin_anew(&self, peer: &NodeId) {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.get(peer) {
            line.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
            line.anew.notify_waiters();
        }
    }

    fn line(&self, peer: NodeId) -> Arc<Line> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            let turns = Semaphore::new(STREAMS_MAX);
            Arc::new(Line { turns, idle: Mutex::default(), anew: Notify::new() })
        };
        let line = lines.entry(peer).or_insert_with(new).clone();
        lines.retain(|_, line| {
            let mut idle = line.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.retain(Talk::is_fresh);
            !idle.is_empty() || Arc::strong_count(line) > 1
        });
        line
    }
}

/// What is complete here, oldest first; nothing if it cannot be trusted to compare with.
fn held(shelf: &mut Shelf) -> Result<Vec<HeldState>, ShelfError> {
    let without = std::mem::take(&mut shelf.without_ancestor);
    let states = shelf.store()?.states(SHELF);
    let states = states.iter().map(|s| HeldState { id: named(s.ckpt), hash: s.hash.0 });
    Ok(if without { Vec::new() } else { states.collect() })
}

/// Asks on an idle stream, or on a new one, until there is an answer.
async fn ask(
    swarm: &Swarm,
    peer: NodeId,
    line: &Line,
    want: &Ask,
) -> Result<(Talk, Result<Beginning, String>), FetchError> {
    let mut attempt = 1;
    loop {
        let idle = line.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let reused = idle.is_some();
        let mut talk = match idle {
            Some(talk) => talk,
            None => Talk::new(halves(swarm.open_bulk(peer).await?)),
        };
        let first_wait = if reused { REUSED_WAIT } else { SILENCE_MAX };
        match talk.ask(want, first_wait).await {
            Ok(beginning) => return Ok((talk, beginning)),
            Err(WireError::Io(_) | WireError::Silent) if reused => {
                // The others lead to the same life of the peer.
                line.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
            }
            Err(WireError::Io(_)) if attempt < ATTEMPTS => {
                tokio::time::sleep(AGAIN * (1 << attempt)).await;
                attempt += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Takes a transfer and makes its state durable.
async fn receive(
    queue: &Queue,
    job: &Job,
    talk: &mut Talk,
    Beginning { header_bytes, all }: Beginning,
) -> Result<Transferred, FetchError> {
    let header = talk.take(header_bytes).await?;
    let opened = queue.run(move |shelf| open(shelf, header)).await?;
    let mut receiver = opened?;
    let id = named(receiver.header().ckpt);
    if id != job.id {
        return Err(FetchError::OtherState(id));
    }
    let full = receiver.header().from.is_none();
    let lengths: Vec<usize> =
        receiver.header().segments.iter().map(|s| s.packed_bytes as usize).collect();
    let wanted: Vec<u32> = match all {
        true => (0..).take(lengths.len()).collect(),
        false => receiver.missing().collect(),
    };
    if !all {
        talk.credit().await?;
        let mut bits = vec![0; lengths.len().div_ceil(8)];
        wanted.iter().for_each(|index| bits[*index as usize / 8] |= 1_u8 << (index % 8));
        let bits = Blob::try_from(bits).map_err(|error| WireError::Garbled(error.to_string()))?;
        talk.speaks.word(&Ask::Missing(bits)).await?;
    }
    for index in wanted {
        let segment = talk.take(lengths[index as usize]).await?;
        let accepted;
        (receiver, accepted) = queue
            .run(move |_| {
                let accepted = receiver.accept(index, &segment);
                (receiver, accepted)
            })
            .await?;
        accepted?;
    }
    talk.credit().await?;
    let quit = Quit::default();
    let gone = quit.0.clone();
    let state_bytes = queue.run(move |shelf| finish(shelf, receiver, &gone)).await??;
    Ok(Transferred { wire_bytes: std::mem::take(&mut talk.hears.bytes), state_bytes, full })
}

/// Tells a job that is still waiting that nobody does any more.
#[derive(Default)]
struct Quit(Arc<AtomicBool>);

impl Drop for Quit {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn open(shelf: &mut Shelf, header: Vec<u8>) -> Result<Receiver, FetchError> {
    let opened = Receiver::open(shelf.store()?, SHELF, header);
    shelf.without_ancestor |= matches!(opened, Err(TransferError::AncestorMissing { .. }));
    Ok(opened?)
}

/// Verifies and makes durable; returns how large the state is.
fn finish(shelf: &mut Shelf, mut receiver: Receiver, gone: &AtomicBool) -> Result<u64, FetchError> {
    if gone.load(Ordering::Acquire) {
        return Err(BulkError::Closed.into());
    }
    let store = shelf.store()?;
    match receiver.finish(store) {
        Ok(durable) => {
            let manifest = store.manifest(SHELF, durable.ckpt()).map_err(ShelfError::from)?;
            Ok(state_bytes(&manifest))
        }
        Err(error) => {
            // A segment that this disk spoilt is fetched again; the rest is of no use to a next attempt,
            // which had better not rest on the same ancestor.
            if !matches!(error, TransferError::CorruptSegment { .. }) {
                if let Err(error) = receiver.abandon(store) {
                    tracing::warn!(%error, "a transfer of no use stays");
                }
                shelf.without_ancestor = true;
            }
            Err(error.into())
        }
    }
}

impl Talk {
    fn new((hears, speaks): (Hears, Speaks)) -> Self {
        Self { hears, speaks, used_ns: clock::now_ns(), consumed: 0, credited: 0 }
    }

    /// Whether the other side still waits for a request.
    fn is_fresh(&self) -> bool {
        let idle = Duration::from_nanos(clock::now_ns().saturating_sub(self.used_ns));
        idle < IDLE_MAX * 3 / 4
    }

    /// Asks for a state; the answer, or why there is none.
    async fn ask(
        &mut self,
        want: &Ask,
        first_wait: Duration,
    ) -> Result<Result<Beginning, String>, WireError> {
        (self.consumed, self.credited, self.hears.bytes) = (0, 0, 0);
        self.speaks.word(want).await?;
        for word in 0..WAITS_MAX {
            let wait = if word == 0 { first_wait } else { SILENCE_MAX };
            match self.hears.word(wait).await? {
                Some(Tell::Wait) => {}
                Some(Tell::Refused(why)) => return Ok(Err(why.to_string())),
                Some(Tell::Begin { header_bytes, all }) => {
                    let header_bytes = header_bytes as usize;
                    if header_bytes > HEADER_BYTES_MAX {
                        let what = format!("a header of {header_bytes} bytes");
                        return Err(WireError::Garbled(what));
                    }
                    return Ok(Ok(Beginning { header_bytes, all }));
                }
                None => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            }
        }
        Err(WireError::Silent)
    }

    /// So many bytes of the transfer. What is kept grows with what arrives, not with what was announced.
    async fn take(&mut self, bytes: usize) -> Result<Vec<u8>, WireError> {
        let mut taken = Vec::new();
        let mut piece = vec![0; READ_BYTES];
        while taken.len() < bytes {
            let room = piece.len().min(bytes - taken.len());
            let count = self.hears.some(&mut piece[..room]).await?;
            taken.extend_from_slice(&piece[..count]);
            self.consumed += count as u64;
            if self.consumed - self.credited >= CREDIT_EVERY {
                self.credit().await?;
            }
        }
        Ok(taken)
    }

    /// Tells the sender what was consumed.
    async fn credit(&mut self) -> Result<(), WireError> {
        if self.credited < self.consumed {
            self.credited = self.consumed;
            self.speaks.word(&Ask::Consumed(self.consumed)).await?;
        }
        Ok(())
    }
}
