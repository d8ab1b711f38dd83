//! The side that has a state: one task for each bulk stream that a peer opened.
//!
//! It looks who asks, packs what is wanted on the store's thread, and sends it as fast as the window
//! allows ([`super::pace`]). A refusal is a word like any other; whoever breaks a rule loses the stream.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

use super::pace::{Pace, WINDOW_BYTES_MIN};
use super::shelf::{Shelf, Shelves};
use super::spool::{PackError, Packed};
use super::words::{
    Ask, Hears, MISSING_BYTES_MAX, SILENCE_MAX, Speaks, Tell, VERSION, Want, WireError, halves,
};
use crate::clock;
use crate::net::swarm::BulkStream;
use crate::proto::bounded::{Blob, List, Text};
use crate::proto::id::NodeId;
use crate::proto::io::COPIES_MAX;
use crate::proto::order::Instance;

/// Transfers that are packed or sent at the same time; others wait.
pub(super) const SERVED_MAX: usize = 8;
/// How long a stream may wait for the next request.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(60);
/// While a transfer is packed the other side hears so often that this one lives.
const WAIT_EVERY: Duration = Duration::from_millis(500);
/// Bytes written at once: what a heartbeat may have to wait behind in any case.
const PIECE_BYTES: usize = 16 << 10;

/// What every such task needs.
#[derive(Debug)]
pub(super) struct Server {
    shelves: Shelves,
    /// Who may fetch what.
    served: Mutex<BTreeMap<Instance, List<NodeId, COPIES_MAX>>>,
    turns: Semaphore,
}

impl Server {
    pub(super) fn new(shelves: Shelves) -> Self {
        let turns = Semaphore::new(SERVED_MAX);
        Self { shelves, served: Mutex::default(), turns }
    }

    /// From now on exactly these may fetch that instance.
    pub(super) fn allow(&self, instance: Instance, to: List<NodeId, COPIES_MAX>) {
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        match to.is_empty() {
            true => drop(served.remove(&instance)),
            false => drop(served.insert(instance, to)),
        }
    }

    fn may(&self, instance: &Instance, peer: &NodeId) -> bool {
        let served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        served.get(instance).is_some_and(|to| to.contains(peer))
    }

    /// Answers one request after another until the peer has enough.
    pub(super) async fn serve(&self, peer: NodeId, stream: BulkStream) -> Result<(), WireError> {
        let (mut hears, mut speaks) = halves(stream);
        let mut pace = Pace::new();
        loop {
            let want = match hears.word(IDLE_MAX).await {
                Ok(Some(Ask::Want(want))) => want,
                Ok(Some(_)) => {
                    return Err(WireError::Garbled("an answer to nothing".to_owned()));
                }
                Ok(None) | Err(WireError::Silent) => {
                    speaks.close().await;
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            let packed = while_waiting(&mut speaks, self.pack(&peer, &want)).await?;
            match packed {
                Err(why) => speaks.word(&Tell::Refused(Text::capped(&why))).await?,
                Ok((packed, turn)) => {
                    let sending = Sending { server: self, peer, want: &want, packed: &packed };
                    sending.run(&mut hears, &mut speaks, &mut pace).await?;
                    drop(turn);
                }
            }
        }
    }

    /// Packs what is wanted, or says why not.
    async fn pack(
        &self,
        peer: &NodeId,
        want: &Want,
    ) -> Result<(Packed, tokio::sync::SemaphorePermit<'_>), String> {
        if want.version != VERSION {
            return Err(format!("this board speaks version {VERSION} of the bulk protocol"));
        }
        if !self.may(&want.instance, peer) {
            return Err("this board gives no states of that instance to you now".to_owned());
        }
        let turn = self.turns.acquire().await.map_err(|error| error.to_string())?;
        let Some(queue) = self.shelves.known(&want.instance) else {
            return Err("there are no states of that instance here".to_owned());
        };
        let wanted = want.clone();
        let packed = queue.run(move |shelf| pack(shelf, &wanted)).await;
        let packed = packed.map_err(|error| error.to_string())?;
        Ok((packed.map_err(|error| error.to_string())?, turn))
    }
}

/// Packs what is wanted. What cannot be read any more is forgotten here. Blocks; call it on the store's thread.
fn pack(shelf: &mut Shelf, want: &Want) -> Result<Packed, PackError> {
    let packed = Packed::of(shelf, want);
    if packed.as_ref().is_err_and(PackError::is_loss) {
        shelf.condemn(want.id)?;
    }
    packed
}

/// One transfer on its way out.
struct Sending<'a> {
    server: &'a Server,
    peer: NodeId,
    want: &'a Want,
    packed: &'a Packed,
}

impl Sending<'_> {
    async fn run(
        &self,
        hears: &mut Hears,
        speaks: &mut Speaks,
        pace: &mut Pace,
    ) -> Result<(), WireError> {
        let header = self.packed.header.bytes();
        let header_bytes = u32::try_from(header.len()).unwrap_or(u32::MAX);
        // What is small anyway is not worth asking first what of it is there already.
        let whole = header.len() as u64 + self.packed.header.packed_bytes();
        let all = whole <= WINDOW_BYTES_MIN;
        speaks.word(&Tell::Begin { header_bytes, all }).await?;
        pace.begin();
        let began = clock::now_ns();
        if all {
            let indices: Vec<usize> = (0..self.packed.count()).collect();
            self.flow(hears, speaks, pace, Some(header), &indices).await?;
        } else {
            self.flow(hears, speaks, pace, Some(header), &[]).await?;
            let missing = match hears.word(SILENCE_MAX).await? {
                Some(Ask::Missing(missing)) => missing,
                Some(_) => return Err(WireError::Garbled("no list of what is missing".to_owned())),
                None => return Ok(()),
            };
            let indices = self.listed(&missing)?;
            self.flow(hears, speaks, pace, None, &indices).await?;
        }
        let (bytes, window, us) = (pace.sent(), pace.window(), (clock::now_ns() - began) / 1000);
        tracing::debug!(
            instance = %self.want.instance, seq = self.want.id.seq, to = %self.peer.short(),
            bytes, window, us, "sent a state"
        );
        Ok(())
    }

    fn listed(&self, missing: &Blob<MISSING_BYTES_MAX>) -> Result<Vec<usize>, WireError> {
        let is_set = |index: &usize| {
            missing.get(index / 8).is_some_and(|byte| byte & (1 << (index % 8)) != 0)
        };
        let listed: Vec<usize> = (0..missing.len() * 8).filter(is_set).collect();
        match listed.last() {
            Some(last) if *last >= self.packed.count() => {
                Err(WireError::Garbled(format!("segment {last} was never listed")))
            }
            _ => Ok(listed),
        }
    }

    /// Sends these bytes and these segments, never more at a time than the window allows; returns when
    /// the peer has consumed them all.
    async fn flow(
        &self,
        hears: &mut Hears,
        speaks: &mut Speaks,
        pace: &mut Pace,
        first: Option<&[u8]>,
        indices: &[usize],
    ) -> Result<(), WireError> {
        let bytes = first.map_or(0, <[u8]>::len) as u64
            + indices.iter().map(|index| self.packed.len(*index)).sum::<u64>();
        let end = pace.sent() + bytes;
        let (pace, credit) = (Mutex::new(pace), Notify::new());
        let write = async {
            if let Some(first) = first {
                paced(speaks, &pace, &credit, first).await?;
            }
            for index in indices {
                if !self.server.may(&self.want.instance, &self.peer) {
                    let what = "it may not have this state any more".to_owned();
                    return Err(io::Error::other(what).into());
                }
                let segment = self.packed.segment(*index).await?;
                paced(speaks, &pace, &credit, &segment).await?;
            }
            Ok(())
        };
        let read = async {
            let mut consumed = end - bytes;
            while consumed < end {
                consumed = match hears.word(SILENCE_MAX).await? {
                    // One that says nothing new would keep this busy for nothing.
                    Some(Ask::Consumed(total)) if total > consumed => total,
                    Some(_) => return Err(WireError::Garbled("not a credit".to_owned())),
                    None => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                };
                let known = locked(&pace).on_consumed(consumed, clock::now_ns());
                known
                    .map_err(|_| WireError::Garbled("credit for what was never sent".to_owned()))?;
                credit.notify_one();
            }
            Ok(())
        };
        tokio::try_join!(write, read).map(drop)
    }
}

/// Sends bytes piece by piece, each once there is room for it.
async fn paced(
    speaks: &mut Speaks,
    pace: &Mutex<&mut Pace>,
    credit: &Notify,
    bytes: &[u8],
) -> Result<(), WireError> {
    for piece in bytes.chunks(PIECE_BYTES) {
        let length = piece.len() as u64;
        while locked(pace).room() < length {
            credit.notified().await;
        }
        locked(pace).on_sent(length, clock::now_ns());
        speaks.raw(piece).await?;
    }
    Ok(())
}

fn locked<'a, 'p>(pace: &'a Mutex<&'p mut Pace>) -> MutexGuard<'a, &'p mut Pace> {
    pace.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for `work`, and tells the peer so.
async fn while_waiting<T>(
    speaks: &mut Speaks,
    work: impl Future<Output = T>,
) -> Result<T, WireError> {
    tokio::pin!(work);
    loop {
        match timeout(WAIT_EVERY, &mut work).await {
            Ok(done) => return Ok(done),
            Err(_elapsed) => speaks.word(&Tell::Wait).await?,
        }
    }
}
