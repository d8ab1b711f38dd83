//! A process that says what no honest one says: nonsense, halves, things twice or long after, lies about lives.
//!
//! It is a member, and its connection is authenticated, so all that can be asked is that nobody else comes to
//! harm: no panic, no broken promise, and whoever spoke nonsense may come back. Members are trusted not to lie
//! about authority (they crash, they are not Byzantine): what it says of terms and rights was true once. Every
//! invariant holds for it, too, since its node is an honest one that does not know what was said in its name.

use hedgerow::proto::bounded::{Blob, List};
use hedgerow::proto::id::Incarnation;
use hedgerow::proto::record::NodeRecord;
use hedgerow::proto::signed::Signed;
use hedgerow::proto::wire::gossip::{FACTS_MAX, Fact, Facts};
use hedgerow::proto::wire::{self, FRAME_BYTES_MAX, Message};

use super::World;
use super::task::Task;
use crate::faults::Fault;
use crate::net::Load;
use crate::queue::{BoardIndex, ConnIndex};
use crate::seed::{Purpose, Stream};
use crate::time::{MILLI, Nanos, SECOND};

/// The longest nonsense, bytes.
const GARBAGE_MAX: u64 = 2000;
/// A count of 2⁶⁴ − 1, as bincode writes it.
const ENDLESS: [u8; 9] = [253, 255, 255, 255, 255, 255, 255, 255, 255];
/// Kinds of message, and fields, from here on are unknown to this version.
pub(super) const LATER_KIND: u16 = 40_000;
/// So many unknown messages are sent.
const LATER_KINDS: u16 = 5;
/// Between two waves of a flood.
const FLOOD_EVERY: Nanos = 20 * MILLI;
/// A flood pauses while that many messages have not been read. Real queues are bounded, too, and drop what is too
/// much, so a cut or a pause does not end in all of a flood at once.
const FLOOD_WAITS_MAX: usize = 256;
/// So many lives away: half of what a board believes of itself.
const FAR_LIFE: u64 = 1 << 31;

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
            Fault::Oversize { node, to } => {
                let mut draw = Stream::new(self.plan.seed, Purpose::Garbage, u64::from(number), 3);
                let facts = Message::from(Facts { facts: List::default() });
                let mut frame = facts.kind().to_le_bytes().to_vec();
                match draw.percent(50) {
                    true => frame.resize(2 * FRAME_BYTES_MAX, 0),
                    false => frame.extend(ENDLESS),
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
            Fault::StaleTerm { node, to } => {
                let frames = self.net.old(*node, *to);
                !frames.is_empty() && self.say(*node, *to, frames)
            }
            Fault::FalseIncarnation { node, to } => {
                let frames = self.lies_about_lives(*node, *to);
                !frames.is_empty() && self.say(*node, *to, frames)
            }
            Fault::VersionSkew { node, to } => {
                let mut draw = Stream::new(self.plan.seed, Purpose::Garbage, u64::from(number), 2);
                let mut frames = self.later_versions_record(*node, *to);
                frames.extend((0..LATER_KINDS).map(|nth| {
                    let body = (0..draw.between(0, GARBAGE_MAX)).map(|_| draw.bits() as u8);
                    (LATER_KIND + nth)
                        .to_le_bytes()
                        .into_iter()
                        .chain(body.collect::<Vec<_>>())
                        .collect()
                }));
                self.say(*node, *to, frames)
            }
            Fault::Flood { .. } => {
                self.later(self.now, Task::Flood(number, 0));
                false
            }
            _ => false,
        }
    }

    /// A flood goes on.
    pub(super) fn flood(&mut self, number: u32, said: u64) {
        let Fault::Flood { node, to, per_second } = self.plan.schedule[number as usize].fault
        else {
            return;
        };
        if !self.active.contains(&number) {
            return;
        }
        let full = self.carrier(node, to).is_none_or(|(conn, end)| {
            self.net.waiting(conn, end) + self.boards[usize::from(to)].inbox.len() > FLOOD_WAITS_MAX
        });
        let frames = if full { Vec::new() } else { self.net.recent(node, to) };
        let due = (per_second * FLOOD_EVERY).div_ceil(SECOND);
        let wave =
            (said..said + due).filter_map(|nth| frames.get(nth as usize % frames.len().max(1)));
        let wave: Vec<Vec<u8>> = wave.cloned().collect();
        if !wave.is_empty() && !self.net.paused[usize::from(node)] && self.say(node, to, wave) {
            self.felt.insert(number);
        }
        self.later(self.now + FLOOD_EVERY, Task::Flood(number, said + due));
    }

    /// Everybody was silent in a life that is far away, or the last one; and the board itself is in one that it has
    /// not begun. Its node, which hears of that sooner or later, has to go beyond.
    fn lies_about_lives(&self, node: BoardIndex, to: BoardIndex) -> Vec<Vec<u8>> {
        let state = &self.boards[usize::from(node)];
        let me = state.id;
        let others = self.boards.iter().filter(|board| board.id != me).map(|board| board.id);
        let mut facts: Vec<Fact> = others
            .flat_map(|subject| {
                let alert = |life| Fact::Alert { subject, incarnation: Incarnation(life), by: me };
                let down = Fact::Down { subject, incarnation: Incarnation(u64::MAX) };
                [alert(FAR_LIFE), alert(u64::MAX), down]
            })
            .collect();
        if let Some(mut record) = self.own_record(node, to) {
            record.incarnation = Incarnation(record.incarnation.0 + FAR_LIFE);
            facts.extend(
                Signed::seal(&record, &state.keypair).ok().map(|it| Fact::Alive(Box::new(it))),
            );
        }
        let messages =
            facts.chunks(FACTS_MAX).map(|some| Facts { facts: List::capped(some.to_vec()) });
        messages.filter_map(|facts| wire::encode(&facts.into()).ok()).collect()
    }

    /// A new record of a board, with a field that this version does not know.
    fn later_versions_record(&self, node: BoardIndex, to: BoardIndex) -> Vec<Vec<u8>> {
        let Some(mut record) = self.own_record(node, to) else { return Vec::new() };
        record.incarnation = Incarnation(record.incarnation.0 + 1);
        record.extensions = List::capped([(LATER_KIND, Blob::default())]);
        let Ok(signed) = Signed::seal(&record, &self.boards[usize::from(node)].keypair) else {
            return Vec::new();
        };
        let facts = Facts { facts: List::capped([Fact::Alive(Box::new(signed))]) };
        wire::encode(&facts.into()).into_iter().collect()
    }

    /// What a board said of itself when it met another one last.
    fn own_record(&self, node: BoardIndex, to: BoardIndex) -> Option<NodeRecord> {
        match wire::decode(self.net.hello(node, to)?) {
            Ok(Message::Hello(hello)) => hello.record.peek().ok(),
            _ => None,
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
