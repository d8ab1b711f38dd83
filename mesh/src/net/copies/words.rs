//! What two boards say to each other on a bulk stream.
//!
//! ```text
//! receiver                              sender
//!   Want{instance, state, states it has} ──▶
//!                                      ◀── Wait, Wait, …             while it packs
//!                                      ◀── Refused{why}              the stream stays usable
//!                                      ◀── Begin{header_bytes, all}  then the header's bytes
//!   Consumed{bytes} … ──▶                   credit, as it comes to read
//!   Missing{which segments} ──▶             unless `all`
//!                                      ◀── those segments' bytes, in order, nothing between them
//!   Consumed{bytes} … ──▶                   until everything is; then the next Want may follow
//! ```
//!
//! A word is a u32 LE length and a value in the node's own codec; bytes of a transfer come raw, for the
//! header says how many there are. Every length is judged before anything is kept for it.

use std::io;
use std::time::Duration;

use futures::io::{ReadHalf, WriteHalf};
use futures::{AsyncReadExt, AsyncWriteExt};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::net::swarm::BulkStream;
use crate::proto::bounded::{Blob, List, Text};
use crate::proto::order::Instance;
use crate::proto::table::CheckpointId;
use crate::proto::wire::codec::{self, CodecError};
use hedgerow_replication::transfer::SEGMENTS_MAX;

/// The version spoken here.
pub(super) const VERSION: u16 = 1;
/// States that a receiver offers to compare with.
pub(super) const HELD_MAX: usize = 16;
/// Longest word, bytes after the length: the list of missing segments, with some air.
const WORD_BYTES_MAX: usize = MISSING_BYTES_MAX + 256;
/// One bit for each segment.
pub(super) const MISSING_BYTES_MAX: usize = SEGMENTS_MAX / 8;
/// A peer that says nothing for so long, in the middle of something, has gone.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(15);

/// From the board that wants a state.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Ask {
    /// Send me this state.
    Want(Box<Want>),
    /// So many bytes of this transfer were consumed.
    Consumed(u64),
    /// Of the segments that the header lists these are to come: bit `n % 8` of byte `n / 8`.
    Missing(Blob<MISSING_BYTES_MAX>),
}

/// Which state is wanted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Want {
    /// The receiver's [`VERSION`].
    pub(super) version: u16,
    /// Of which instance.
    pub(super) instance: Instance,
    /// Which.
    pub(super) id: CheckpointId,
    /// Complete states that the receiver has, newest last.
    pub(super) held: List<HeldState, HELD_MAX>,
}

/// A state by name and content.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct HeldState {
    /// Its name.
    pub(super) id: CheckpointId,
    /// The hash of its manifest.
    pub(super) hash: [u8; 32],
}

/// From the board that has it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Tell {
    /// I am at it.
    Wait,
    /// Not now, or not to you.
    Refused(Text<256>),
    /// Here it comes.
    Begin {
        /// Length of the header that follows.
        header_bytes: u32,
        /// Every segment follows right after the header; nothing is to be asked for.
        all: bool,
    },
}

/// Why a stream is of no use any more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum WireError {
    /// It broke, or the peer closed it.
    #[error("the stream broke: {0}")]
    Io(#[from] io::Error),
    /// Nothing came, or nothing could be sent.
    #[error("the peer was silent for {SILENCE_MAX:?}")]
    Silent,
    /// What came breaks a rule.
    #[error("the peer broke a rule of the bulk protocol: {0}")]
    Garbled(String),
}

impl From<CodecError> for WireError {
    fn from(error: CodecError) -> Self {
        Self::Garbled(error.to_string())
    }
}

/// The half that hears.
pub(super) struct Hears {
    stream: ReadHalf<BulkStream>,
    /// Bytes that came in since this was asked last.
    pub(super) bytes: u64,
}

/// The half that speaks.
pub(super) struct Speaks {
    stream: WriteHalf<BulkStream>,
}

/// Both halves of a stream.
pub(super) fn halves(stream: BulkStream) -> (Hears, Speaks) {
    let (reader, writer) = stream.split();
    (Hears { stream: reader, bytes: 0 }, Speaks { stream: writer })
}

impl Hears {
    /// The next word; `None` if the stream ends before it begins.
    pub(super) async fn word<T: DeserializeOwned>(
        &mut self,
        patience: Duration,
    ) -> Result<Option<T>, WireError> {
        let mut length = [0; 4];
        match timeout(patience, self.stream.read(&mut length)).await {
            Err(_elapsed) => return Err(WireError::Silent),
            Ok(Ok(0)) => return Ok(None),
            Ok(Ok(count)) => self.fill(&mut length[count..]).await?,
            Ok(Err(error)) => return Err(error.into()),
        }
        let length = u32::from_le_bytes(length) as usize;
        if length > WORD_BYTES_MAX {
            let what = format!("{length} bytes announced, at most {WORD_BYTES_MAX} allowed");
            return Err(WireError::Garbled(what));
        }
        let mut body = vec![0; length];
        self.fill(&mut body).await?;
        self.bytes += 4 + length as u64;
        Ok(Some(codec::decode(&body)?))
    }

    /// Some of the bytes that are to come, at most as many as fit.
    pub(super) async fn some(&mut self, into: &mut [u8]) -> Result<usize, WireError> {
        match timeout(SILENCE_MAX, self.stream.read(into)).await {
            Err(_elapsed) => Err(WireError::Silent),
            Ok(Ok(0)) => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(Ok(count)) => {
                self.bytes += count as u64;
                Ok(count)
            }
            Ok(Err(error)) => Err(error.into()),
        }
    }

    async fn fill(&mut self, into: &mut [u8]) -> Result<(), WireError> {
        match timeout(SILENCE_MAX, self.stream.read_exact(into)).await {
            Err(_elapsed) => Err(WireError::Silent),
            Ok(read) => Ok(read?),
        }
    }
}

impl Speaks {
    /// Says a word.
    pub(super) async fn word<T: Serialize>(&mut self, word: &T) -> Result<(), WireError> {
        let body = codec::encode(word)?;
        let length = u32::try_from(body.len()).expect("the codec limits it to a frame");
        self.raw(&[&length.to_le_bytes()[..], &body].concat()).await
    }

    /// Sends bytes as they are.
    pub(super) async fn raw(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        let write = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        match timeout(SILENCE_MAX, write).await {
            Err(_elapsed) => Err(WireError::Silent),
            Ok(written) => Ok(written?),
        }
    }

    /// Says that nothing more will come.
    pub(super) async fn close(&mut self) {
        // Whoever does not take it by then hears a reset.
        let _closed_or_gone = timeout(SILENCE_MAX, self.stream.close()).await;
    }
}
