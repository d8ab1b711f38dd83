//! A process that says what no honest one says: nonsense, halves, things twice.
//!
//! It is a member, and its connection is authenticated, so all that can be asked is that nobody else comes to
//! harm: no panic, no broken promise, and whoever spoke nonsense may come back.

use super::World;
use crate::faults::Fault;
use crate::net::Load;
use crate::queue::{BoardIndex, ConnIndex};
use crate::seed::{Purpose, Stream};

/// The longest nonsense, bytes.
const GARBAGE_MAX: u64 = 2000;

impl World {
    /// True if it was sent.
    pub(super) fn speak(&mut self, number: u32, fault: &Fault) -> bool {
        match fault {
            Fault::Garbage { node, to } => {
                let mut draw = Stream::new(self.plan.seed, Purpose::Garbage, u64::from(number), 0);
                let length = draw.between(1, GARBAGE_MAX) as usize;
                let mut frame: Vec<u8> = (0..length).map(|_| draw.bits() as u8).collect();
                if draw.percent(70)
                    && let Some(last) = self.net.recent(*node, *to).last()
                {
                    // It looks like something that is known.
                    let head = last.len().min(2).min(frame.len());
                    frame[..head].copy_from_slice(&last[..head]);
                }
                self.say(*node, *to, vec![frame])
            }
            Fault::Truncated { node, to } => {
                let mut draw = Stream::new(self.plan.seed, Purpose::Garbage, u64::from(number), 1);
                let mut frames = self.net.recent(*node, *to);
                let Some(mut last) = frames.pop().filter(|frame| frame.len() > 2) else {
                    return false;
                };
                last.truncate(draw.between(1, last.len() as u64 - 1) as usize);
                self.say(*node, *to, vec![last])
            }
            Fault::Replay { node, to } => {
                let frames = self.net.recent(*node, *to);
                !frames.is_empty() && self.say(*node, *to, frames)
            }
            _ => false,
        }
    }

    fn say(&mut self, from: BoardIndex, to: BoardIndex, frames: Vec<Vec<u8>>) -> bool {
        let Some((conn, end)) = self.carrier(from, to) else { return false };
        for frame in frames {
            self.net.send(self.now, conn, end, Load::Frame(frame), &mut self.queue);
        }
        true
    }

    /// The connection over which one board talks to another.
    fn carrier(&self, from: BoardIndex, to: BoardIndex) -> Option<(ConnIndex, u8)> {
        let other = self.boards[usize::from(to)].id;
        let peer = self.boards[usize::from(from)].peers.get(&other)?;
        peer.conns.first().copied().filter(|_| peer.admitted && !peer.leaving)
    }
}
