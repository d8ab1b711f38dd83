//! A stream of bytes to or from one peer, for chunks.
//!
//! It is not paced and knows nothing about chunks: that is the bulk plane's work. Dropping it resets
//! the substream; close it first so that the other side sees an end and not an error.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::{AsyncRead, AsyncWrite};
use libp2p::Stream;

use super::peers::BulkSlot;

/// A substream of `/hedgerow/bulk/1`, open in both directions. Buffers inside the muxer only, up to
/// one stream window each way.
pub(crate) struct BulkStream {
    stream: Stream,
    /// Held by inbound streams only: counts against the peer's share.
    _slot: Option<BulkSlot>,
}

/// Why there is no bulk stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum BulkError {
    /// Dial it first.
    #[error("no connection to this peer")]
    NotConnected,
    /// Admit it first.
    #[error("this peer is not admitted")]
    NotAdmitted,
    /// Wait for one of the earlier requests.
    #[error("too many bulk streams to this peer are being opened already")]
    Busy,
    /// The peer has not admitted us yet, or has enough bulk streams from us. Try again later.
    #[error("the peer refused the stream: {0}")]
    Refused(String),
    /// No answer within `BULK_OPEN_TIMEOUT`.
    #[error("the peer did not answer in time")]
    Timeout,
    /// The connection closed meanwhile.
    #[error("the connection closed")]
    Closed,
}

impl BulkStream {
    pub(super) fn new(stream: Stream, slot: Option<BulkSlot>) -> Self {
        Self { stream, _slot: slot }
    }
}

impl AsyncRead for BulkStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read(cx, bytes)
    }
}

impl AsyncWrite for BulkStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

impl fmt::Debug for BulkStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BulkStream(..)")
    }
}
