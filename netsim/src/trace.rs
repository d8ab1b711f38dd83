//! The trace hash: BLAKE3 over everything that entered or left a node, with the true time.
//!
//! Two runs with one hash did the same. Messages count by their frames, so the hash also covers the
//! codec.

use hedgerow::proto::io::{Effect, Event, Input, Reply};
use hedgerow::proto::wire::codec;

use crate::observe::{Observation, What};

/// The growing hash.
#[derive(Debug, Default)]
pub struct Trace(blake3::Hasher);

impl Trace {
    /// Adds one observation.
    pub fn add(&mut self, seen: &Observation<'_>) {
        let tag: u8 = match seen.what {
            What::Boot(_) => 1,
            What::Gone { .. } => 2,
            What::DiskLost => 3,
            What::Paused(_) => 4,
            What::Input(_) => 5,
            What::Received(..) => 6,
            What::Fired => 7,
            What::Effect(_) => 8,
            What::Sent(..) => 9,
            What::Durable(_) => 10,
            What::Fault(..) => 11,
            What::Healed => 12,
            What::Belief(_) => 13,
            What::Service(_) => 14,
            What::SetBack => 15,
            // Follows from the effects.
            What::Called { .. } => return,
        };
        let mut head = [0; 11];
        head[..8].copy_from_slice(&seen.at.to_le_bytes());
        head[8..10].copy_from_slice(&seen.board.to_le_bytes());
        head[10] = tag;
        self.0.update(&head);
        match seen.what {
            What::Boot(boot) => {
                self.0.update(&boot.node.0).update(&boot.life.to_le_bytes());
                self.0.update(&boot.durable.incarnation.0.to_le_bytes());
            }
            What::Input(input) => self.input(input),
            // What it says was hashed when it was sent.
            What::Received(Input::Received { from, .. }, frame) => {
                self.0.update(&from.0[..8]).update(&(frame.len() as u32).to_le_bytes());
            }
            What::Effect(effect) => self.effect(effect),
            What::Sent(Effect::Send { to, .. }, frame) => {
                self.0.update(&to.0[..8]).update(frame);
            }
            What::Durable(op) => self.number(op.0),
            What::Belief(Some(belief)) => {
                self.number(belief.term);
                self.number(belief.until);
            }
            What::Paused(on) => self.number(u64::from(on)),
            What::Fault(fault, began) => {
                self.0.update(fault.name().as_bytes()).update(&[u8::from(began)]);
            }
            What::Service(event) => self.tagged(b"service", format!("{event:?}").as_bytes()),
            _ => {}
        }
    }

    /// The hash of the whole run.
    pub fn finish(self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }

    fn number(&mut self, number: u64) {
        self.0.update(&number.to_le_bytes());
    }

    fn input(&mut self, input: &Input) {
        match input {
            Input::WallClock(seconds) => self.number(*seconds),
            Input::Connected { peer, .. } => self.tagged(b"connected", &peer.0),
            Input::Disconnected { peer, .. } => self.tagged(b"disconnected", &peer.0),
            Input::DialFailed { peer, .. } => self.tagged(b"dial-failed", &peer.0),
            Input::Discovered { node, .. } => self.tagged(b"discovered", &node.0),
            Input::Garbled { from, .. } => self.tagged(b"garbled", &from.0),
            Input::Persisted { op, .. } | Input::Command { op, .. } => self.number(op.0),
            Input::Workload { report, .. } => {
                self.tagged(b"workload", format!("{report:?}").as_bytes());
            }
            Input::Captured { id, .. } => self.tagged(b"captured", &id.seq.to_le_bytes()),
            Input::Fetched { id, .. } => self.tagged(b"fetched", &id.seq.to_le_bytes()),
            Input::Spoilt { states, .. } => {
                states.iter().for_each(|id| self.tagged(b"spoilt", &id.seq.to_le_bytes()));
            }
            _ => {}
        }
    }

    fn effect(&mut self, effect: &Effect) {
        match effect {
            Effect::Connect { peer, .. } => self.tagged(b"connect", &peer.0),
            Effect::Disconnect { peer } => self.tagged(b"disconnect", &peer.0),
            Effect::Admit { peer } => self.tagged(b"admit", &peer.0),
            Effect::Persist { op, record } => {
                self.number(op.0);
                self.encoded(codec::encode(record));
            }
            Effect::Reply { op, reply } => {
                self.number(op.0);
                self.reply(reply);
            }
            Effect::Event(event) => self.event(event),
            _ => {}
        }
    }

    fn reply(&mut self, reply: &Reply) {
        self.encoded(codec::encode(reply));
    }

    fn event(&mut self, event: &Event) {
        self.encoded(codec::encode(event));
    }

    fn tagged(&mut self, tag: &[u8], bytes: &[u8]) {
        self.0.update(tag).update(bytes);
    }

    fn encoded<E>(&mut self, bytes: Result<Vec<u8>, E>) {
        // What does not fit a frame has no encoding; its length in the trace is 0.
        let bytes = bytes.unwrap_or_default();
        self.number(bytes.len() as u64);
        self.0.update(&bytes);
    }
}
