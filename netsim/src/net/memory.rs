//! What was sent, for those that say it again.

use std::collections::{BTreeMap, VecDeque};

use crate::queue::BoardIndex;

/// Frames of one way that are remembered.
const RECENT_FRAMES: usize = 20;
/// First frames of each kind and way that are remembered for good.
const OLD_FRAMES: usize = 4;
/// Kinds of message that speak of terms and rights: votes and heartbeats, and what leases and claims are made of.
const AUTHORITY_KINDS: [std::ops::RangeInclusive<u16>; 2] = [48..=53, 80..=82];

/// The kind of message in which a board says who it is.
const HELLO: u16 = 1;

/// Frames, oldest first.
type Frames = VecDeque<Vec<u8>>;

/// Frames by way.
#[derive(Debug, Default)]
pub(super) struct Memory {
    recent: BTreeMap<(BoardIndex, BoardIndex), Frames>,
    old: BTreeMap<(BoardIndex, BoardIndex), BTreeMap<u16, Frames>>,
    hellos: BTreeMap<(BoardIndex, BoardIndex), Vec<u8>>,
}

impl Memory {
    /// One board sends a frame to another.
    pub(super) fn note(&mut self, way: (BoardIndex, BoardIndex), frame: &[u8]) {
        let frames = self.recent.entry(way).or_default();
        frames.push_back(frame.to_vec());
        if frames.len() > RECENT_FRAMES {
            frames.pop_front();
        }
        let Some(kind) = frame.first_chunk::<2>().map(|kind| u16::from_le_bytes(*kind)) else {
            return;
        };
        if kind == HELLO {
            self.hellos.insert(way, frame.to_vec());
        }
        if AUTHORITY_KINDS.iter().any(|kinds| kinds.contains(&kind)) {
            let old = self.old.entry(way).or_default().entry(kind).or_default();
            if old.len() < OLD_FRAMES {
                old.push_back(frame.to_vec());
            }
        }
    }

    /// The last frames of a way, oldest first.
    pub(super) fn recent(&self, way: (BoardIndex, BoardIndex)) -> Vec<Vec<u8>> {
        self.recent.get(&way).into_iter().flatten().cloned().collect()
    }

    /// The last hello of a way.
    pub(super) fn hello(&self, way: (BoardIndex, BoardIndex)) -> Option<&[u8]> {
        self.hellos.get(&way).map(Vec::as_slice)
    }

    /// The first frames of a way that spoke of terms and rights.
    pub(super) fn old(&self, way: (BoardIndex, BoardIndex)) -> Vec<Vec<u8>> {
        self.old.get(&way).into_iter().flat_map(BTreeMap::values).flatten().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_frames_are_kept_and_the_first_of_terms_and_rights() {
        let mut memory = Memory::default();
        for n in 0..50 {
            memory.note((0, 1), &[16, 0, n]);
            memory.note((0, 1), &[80, 0, n]);
        }
        let recent = memory.recent((0, 1));
        assert_eq!((recent.len(), recent.last()), (RECENT_FRAMES, Some(&vec![80, 0, 49])));
        let old = memory.old((0, 1));
        assert_eq!(old, (0..4).map(|n| vec![80, 0, n]).collect::<Vec<_>>());
        assert!(memory.recent((1, 0)).is_empty() && memory.old((1, 0)).is_empty());
    }
}
