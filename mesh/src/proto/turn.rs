//! What a part works with during one call.

use rand_chacha::ChaCha8Rng;

use super::directory::Directory;
use super::holdings::Holdings;
use super::id::NodeId;
use super::io::{Effect, Event};
use super::journal::Record;
use super::links::Links;
use super::machine::{Effects, Time};
use super::members::Members;
use super::myself::Myself;
use super::ops::{Ops, Purpose};
use super::specs::Specs;
use super::wire::Message;

/// The surroundings of one call: read by every part. `members` and `directory` have one writer,
/// `membership`, and `holdings` has `copies`; of `links` the others use `want_until` only.
pub(crate) struct Turn<'a> {
    pub(crate) now: Time,
    /// Effective time, unix seconds.
    pub(crate) unix: u64,
    pub(crate) me: &'a Myself,
    pub(crate) members: &'a mut Members,
    pub(crate) links: &'a mut Links,
    pub(crate) directory: &'a mut Directory,
    pub(crate) specs: &'a mut Specs,
    pub(crate) holdings: &'a mut Holdings,
    pub(crate) ops: &'a mut Ops,
    pub(crate) rng: &'a mut ChaCha8Rng,
    pub(crate) out: &'a mut Effects,
}

impl Turn<'_> {
    /// Sends to a peer that has passed `hello`; to others nothing can be sent.
    pub(crate) fn send(&mut self, to: NodeId, message: impl Into<Message>) -> bool {
        let usable = self.links.is_usable(&to);
        if usable {
            self.out.push(Effect::Send { to, message: message.into() });
        }
        usable
    }

    /// Asks for a record to be made durable.
    pub(crate) fn persist(&mut self, record: Record, purpose: Purpose) {
        self.ops.persist(record, purpose, self.out);
    }

    /// Eight bytes that are equal when two boards agree about everyone and about the table.
    pub(crate) fn view_hash(&self) -> u64 {
        self.members.view_hash() ^ self.directory.hash()
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.out.push(Effect::Event(event));
    }

    pub(crate) fn misbehaved(&mut self, node: NodeId, what: impl Into<String>) {
        self.event(Event::Misbehaved { node, what: what.into() });
    }

    pub(crate) fn name_of(&self, node: &NodeId) -> String {
        self.members.get(node).map_or_else(|| node.short(), |m| m.record.name.to_string())
    }
}
