//! One outbound frame stream of one connection: opens its substream when there is something to
//! write, writes in order, re-opens with backoff when it breaks, and finishes so that the other side
//! has certainly read everything.
//!
//! QUIC throws away unacknowledged data when a connection is closed. So to finish is to close our
//! half, then to wait until the reader has closed its own: that is its way of saying "read to the
//! end". The caller bounds that wait.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::{AsyncRead, AsyncWrite};
use libp2p::Stream;
use libp2p::swarm::ConnectionId;
use tokio::time::{Sleep, sleep};

use super::frame::poll_write_all;
use super::peers::{Lane, Peer};

/// First pause before a broken substream is opened again; doubles each time.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest pause before a broken substream is opened again.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Writes per poll, so that a fast reader cannot keep the connection's other work waiting.
const WRITES_PER_POLL: usize = 16;
/// A write buffer that grew beyond this for one large frame is given back.
const BUFFER_KEEP_BYTES: usize = 32 * 1024;

/// What the handler has to do for a sender.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Open a substream for this lane.
    Open,
    /// Everything is written and read; only reported when leaving.
    Finished,
}

/// The writing half of a lane on one connection.
pub(super) struct Sender {
    lane: Lane,
    connection: ConnectionId,
    phase: Phase,
    backoff: Duration,
    /// Frames in wire form, `frames` of them, still in the peer's queue as well.
    bytes: Vec<u8>,
    offset: usize,
    frames: usize,
}

enum Phase {
    /// No substream, and nothing to write.
    Idle,
    /// [`Step::Open`] was reported.
    Opening,
    Open(Stream),
    /// Our half is being closed.
    Closing(Stream),
    /// Waiting for the reader to close its half.
    Confirming(Stream),
    /// The substream broke.
    Pausing(Pin<Box<Sleep>>),
    /// Leaving, and nothing is left to do.
    Finished,
}

enum Written {
    /// One batch, or nothing; there may be more.
    Some,
    /// The queue is empty.
    All,
}

impl Sender {
    /// Opens nothing until there is something to write.
    pub(super) fn new(lane: Lane, connection: ConnectionId) -> Self {
        let (bytes, backoff) = (Vec::new(), BACKOFF_MIN);
        Self { lane, connection, phase: Phase::Idle, backoff, bytes, offset: 0, frames: 0 }
    }

    /// Which of the two streams this is.
    pub(super) fn lane(&self) -> Lane {
        self.lane
    }

    /// The substream that [`Step::Open`] asked for.
    pub(super) fn opened(&mut self, stream: Stream) {
        if matches!(self.phase, Phase::Opening) {
            self.phase = Phase::Open(stream);
        }
    }

    /// There will be no such substream this time.
    pub(super) fn failed(&mut self) {
        if matches!(self.phase, Phase::Opening) {
            self.pause();
        }
    }

    /// Makes as much progress as possible. `Pending` has registered every waker it needs, except for
    /// new frames and for `leaving`: [`Peer::attend`] does that.
    pub(super) fn poll(&mut self, peer: &Peer, leaving: bool, cx: &mut Context<'_>) -> Poll<Step> {
        for _ in 0..WRITES_PER_POLL {
            match &mut self.phase {
                Phase::Idle if peer.has_frames(self.lane, self.connection) => {
                    self.phase = Phase::Opening;
                    return Poll::Ready(Step::Open);
                }
                Phase::Idle if leaving => self.phase = Phase::Finished,
                Phase::Pausing(_) if leaving => self.phase = Phase::Finished,
                Phase::Idle | Phase::Opening => return Poll::Pending,
                Phase::Pausing(sleep) => {
                    ready!(sleep.as_mut().poll(cx));
                    self.phase = Phase::Idle;
                }
                Phase::Open(_) => match ready!(self.poll_write(peer, leaving, cx)) {
                    Ok(Written::Some) => {}
                    Ok(Written::All) => self.close(),
                    Err(_broken) => self.pause(),
                },
                Phase::Closing(stream) => {
                    // An error is an end, too: the reader is gone.
                    let _closed_or_gone = ready!(Pin::new(stream).poll_close(cx));
                    self.confirm();
                }
                Phase::Confirming(stream) => {
                    if ready!(poll_end(stream, cx)) {
                        self.phase = Phase::Finished;
                    }
                }
                Phase::Finished => return Poll::Ready(Step::Finished),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes one batch; `All` only when leaving.
    fn poll_write(
        &mut self,
        peer: &Peer,
        leaving: bool,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Written>> {
        let Phase::Open(stream) = &mut self.phase else { return Poll::Ready(Ok(Written::Some)) };
        if self.frames == 0 {
            self.bytes.clear();
            self.bytes.shrink_to(BUFFER_KEEP_BYTES);
            self.offset = 0;
            self.frames = peer.peek(self.lane, self.connection, &mut self.bytes);
        }
        if self.frames == 0 {
            ready!(Pin::new(&mut *stream).poll_flush(cx))?;
            if leaving {
                return Poll::Ready(Ok(Written::All));
            }
            // Nobody answers on this stream; its end is how we learn that it broke.
            return match ready!(poll_end(stream, cx)) {
                true => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                false => Poll::Ready(Ok(Written::Some)),
            };
        }
        ready!(poll_write_all(stream, &self.bytes, &mut self.offset, cx))?;
        peer.written(self.lane, self.connection, self.frames);
        self.frames = 0;
        self.backoff = BACKOFF_MIN;
        Poll::Ready(Ok(Written::Some))
    }

    fn close(&mut self) {
        if let Phase::Open(stream) = std::mem::replace(&mut self.phase, Phase::Finished) {
            self.phase = Phase::Closing(stream);
        }
    }

    fn confirm(&mut self) {
        if let Phase::Closing(stream) = std::mem::replace(&mut self.phase, Phase::Finished) {
            self.phase = Phase::Confirming(stream);
        }
    }

    /// The frames that were being written are still queued and will be written anew.
    fn pause(&mut self) {
        (self.offset, self.frames) = (0, 0);
        self.phase = Phase::Pausing(Box::pin(sleep(self.backoff)));
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
    }
}

/// True at the end of what the peer sends, false if it sent something (which nobody expects).
fn poll_end(stream: &mut Stream, cx: &mut Context<'_>) -> Poll<bool> {
    let mut ignored = [0; 64];
    Poll::Ready(!matches!(ready!(Pin::new(stream).poll_read(cx, &mut ignored)), Ok(1..)))
}
