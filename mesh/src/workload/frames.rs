//! Frames on a stream: a `u32` little-endian length and that many bytes of JSON.
//!
//! Used at the shim's socket and at the gates of its helpers. A frame longer than its reader allows is
//! refused by its length, before any of its body is kept.

use serde::Serialize;

/// Splits a byte stream into frames. Feed it whatever was read; it never holds more than it must.
#[derive(Debug)]
pub(crate) struct Frames {
    bytes: Vec<u8>,
    frame_bytes_max: usize,
}

/// The peer announced a frame longer than allowed. The stream cannot be followed further.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {announced} bytes was announced, {max} are allowed")]
pub(crate) struct Oversized {
    announced: usize,
    max: usize,
}

impl Frames {
    pub(crate) fn new(frame_bytes_max: usize) -> Self {
        Self { bytes: Vec::new(), frame_bytes_max }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame's body.
    pub(crate) fn pop(&mut self) -> Result<Option<Vec<u8>>, Oversized> {
        let Some((head, rest)) = self.bytes.split_first_chunk::<4>() else { return Ok(None) };
        let announced = u32::from_le_bytes(*head) as usize;
        if announced > self.frame_bytes_max {
            return Err(Oversized { announced, max: self.frame_bytes_max });
        }
        let Some(body) = rest.get(..announced) else { return Ok(None) };
        let body = body.to_vec();
        self.bytes.drain(..4 + announced);
        Ok(Some(body))
    }
}

/// One message as a frame.
pub(crate) fn frame<T: Serialize>(message: &T) -> Vec<u8> {
    let body = serde_json::to_vec(message).expect("no map in these types has a key but strings");
    let length = u32::try_from(body.len()).expect("messages are bounded far below 4 GiB");
    [&length.to_le_bytes()[..], &body].concat()
}

#[cfg(test)]
mod tests {
    use super::super::wire::FRAME_BYTES_MAX;
    use super::*;

    #[test]
    fn frames_come_out_whole_however_the_bytes_arrive() {
        let stream = [frame(&1), frame(&"two"), frame(&3)].concat();
        for step in 1..=stream.len() {
            let mut frames = Frames::new(FRAME_BYTES_MAX);
            let mut out = Vec::new();
            for piece in stream.chunks(step) {
                frames.push(piece);
                while let Some(body) = frames.pop().unwrap() {
                    out.push(String::from_utf8(body).unwrap());
                }
            }
            assert_eq!(out, ["1", "\"two\"", "3"], "in steps of {step}");
        }
    }

    #[test]
    fn a_length_bomb_is_refused_before_its_body_arrives() {
        let mut frames = Frames::new(10);
        frames.push(&11u32.to_le_bytes());
        assert_eq!(frames.pop(), Err(Oversized { announced: 11, max: 10 }));
    }
}
