//! Frames on a substream: a u32 LE length of what follows, then that many bytes.
//!
//! [`Assembler`] turns bytes as they arrive into frames. It is pure, so that its limits are tested
//! without sockets: a length is judged before anything is allocated for it, and the buffer grows by
//! what arrived, never by what was announced. [`Inbound`] feeds one from a substream. What a frame
//! means is not known here.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::{AsyncRead, AsyncWrite};
use libp2p::Stream;

/// Bytes of the length in front of each frame.
pub(super) const PREFIX_BYTES: usize = 4;
/// Bytes asked of a substream at once.
const READ_BYTES: usize = 4 * 1024;

/// A length above the limit was announced. The stream cannot be trusted after it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Oversize {
    /// What was announced, in bytes.
    pub(super) announced: u32,
    /// What is allowed, in bytes.
    pub(super) limit: usize,
}

impl fmt::Display for Oversize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes announced, at most {} allowed", self.announced, self.limit)
    }
}

/// Collects bytes into frames of at most `limit` bytes.
#[derive(Debug)]
pub(super) struct Assembler {
    limit: usize,
    prefix: [u8; PREFIX_BYTES],
    prefix_len: usize,
    body: Vec<u8>,
}

impl Assembler {
    /// For frames of at most `limit` bytes, the length not counted.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, prefix: [0; PREFIX_BYTES], prefix_len: 0, body: Vec::new() }
    }

    /// Takes from the front of `bytes` what belongs to the current frame, and returns that frame if
    /// it is now whole. Call again until `bytes` is empty and `None` comes back.
    pub(super) fn take(&mut self, bytes: &mut &[u8]) -> Result<Option<Vec<u8>>, Oversize> {
        let missing = (PREFIX_BYTES - self.prefix_len).min(bytes.len());
        let (head, rest) = bytes.split_at(missing);
        self.prefix[self.prefix_len..self.prefix_len + missing].copy_from_slice(head);
        self.prefix_len += missing;
        *bytes = rest;
        if self.prefix_len < PREFIX_BYTES {
            return Ok(None);
        }

        let announced = u32::from_le_bytes(self.prefix);
        let length = announced as usize;
        if length > self.limit {
            return Err(Oversize { announced, limit: self.limit });
        }
        let (part, rest) = bytes.split_at((length - self.body.len()).min(bytes.len()));
        self.body.extend_from_slice(part);
        *bytes = rest;
        if self.body.len() < length {
            return Ok(None);
        }
        self.prefix_len = 0;
        Ok(Some(std::mem::take(&mut self.body)))
    }

    /// True between two frames: a stream may end here without having lost anything.
    #[cfg(test)]
    pub(super) fn is_between_frames(&self) -> bool {
        self.prefix_len == 0
    }
}

/// What came out of an inbound substream.
#[derive(Debug)]
pub(super) enum Arrival {
    /// A whole frame.
    Frame(Vec<u8>),
    /// The substream is over and so is this reader. A frame cut short by that is lost.
    End,
    /// The peer broke the framing.
    Oversize(Oversize),
}

/// One inbound substream and the frame it is in the middle of.
pub(super) struct Inbound {
    stream: Stream,
    assembler: Assembler,
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
    ended: bool,
}

impl Inbound {
    /// Starts to read frames of at most `limit` bytes.
    pub(super) fn new(stream: Stream, limit: usize) -> Self {
        Self {
            stream,
            assembler: Assembler::new(limit),
            bytes: vec![0; READ_BYTES].into(),
            start: 0,
            end: 0,
            ended: false,
        }
    }

    /// The next frame. At the end of the substream our half is closed as well, which tells the
    /// sender that everything before its end has been read.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Arrival> {
        loop {
            if self.ended {
                // An error here means that the connection is gone, too: also an end.
                let _closed_or_gone = ready!(Pin::new(&mut self.stream).poll_close(cx));
                return Poll::Ready(Arrival::End);
            }
            let mut bytes = &self.bytes[self.start..self.end];
            let taken = self.assembler.take(&mut bytes);
            self.start = self.end - bytes.len();
            match taken {
                Ok(Some(frame)) => return Poll::Ready(Arrival::Frame(frame)),
                Ok(None) => {}
                Err(oversize) => return Poll::Ready(Arrival::Oversize(oversize)),
            }
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut self.bytes)) {
                Ok(0) | Err(_) => self.ended = true,
                Ok(count) => (self.start, self.end) = (0, count),
            }
        }
    }
}

/// Writes all of `bytes` from `offset` on; `offset` moves on with what the substream accepted.
pub(super) fn poll_write_all(
    stream: &mut Stream,
    bytes: &[u8],
    offset: &mut usize,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    while *offset < bytes.len() {
        let count = ready!(Pin::new(&mut *stream).poll_write(cx, &bytes[*offset..]))?;
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        *offset += count;
    }
    Poll::Ready(Ok(()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wire(frames: &[Vec<u8>]) -> Vec<u8> {
        let prefix = |frame: &Vec<u8>| (frame.len() as u32).to_le_bytes();
        frames.iter().flat_map(|frame| [&prefix(frame)[..], frame].concat()).collect()
    }

    #[test]
    fn a_length_above_the_limit_is_refused_before_anything_is_kept() {
        let mut assembler = Assembler::new(8);
        let mut bytes = &[9, 0, 0, 0, 1, 2][..];
        assert_eq!(assembler.take(&mut bytes), Err(Oversize { announced: 9, limit: 8 }));
        assert_eq!(assembler.body.capacity(), 0);
    }

    #[test]
    fn an_announced_length_alone_reserves_nothing() {
        let mut assembler = Assembler::new(1 << 20);
        let announced = (1u32 << 20).to_le_bytes();
        assert_eq!(assembler.take(&mut &announced[..]), Ok(None));
        assert_eq!(assembler.body.capacity(), 0);
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_they_are_cut(
            frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..8),
            cut in 1usize..17,
        ) {
            let mut assembler = Assembler::new(40);
            let mut out = Vec::new();
            for mut piece in wire(&frames).chunks(cut) {
                loop {
                    match assembler.take(&mut piece).expect("within the limit") {
                        Some(frame) => out.push(frame),
                        None if piece.is_empty() => break,
                        None => {}
                    }
                }
            }
            prop_assert_eq!(out, frames);
            prop_assert!(assembler.is_between_frames());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut assembler = Assembler::new(64);
            let mut rest = &bytes[..];
            while let Ok(Some(_)) = assembler.take(&mut rest) {}
            prop_assert!(assembler.body.len() <= 64);
        }
    }
}
