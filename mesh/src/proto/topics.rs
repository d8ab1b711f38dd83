//! Topics: messages to every member, best effort.
//!
//! Nothing is stored or repaired: who is away misses it (the third class of gossip, decision D12).
//! A publication is flooded over the links there are, each node passing it on once.

use std::collections::{BTreeSet, VecDeque};

use rand_chacha::rand_core::Rng;

use super::bounded::{Blob, Text};
use super::id::NodeId;
use super::io::Event;
use super::turn::Turn;
use super::wire::gossip::{PUBLICATION_BYTES_MAX, Publication, TOPIC_BYTES_MAX};

/// Publications that are remembered so as not to be passed on twice.
pub const SEEN_MAX: usize = 4096;

/// The part.
#[derive(Default, Debug)]
pub struct Topics {
    seen: BTreeSet<(NodeId, u64)>,
    order: VecDeque<(NodeId, u64)>,
    /// Starts anywhere, so that a restarted publisher is not mistaken for its former self.
    next_seq: Option<u64>,
}

impl Topics {
    pub(crate) fn publish(
        &mut self,
        turn: &mut Turn<'_>,
        topic: Text<TOPIC_BYTES_MAX>,
        body: Blob<PUBLICATION_BYTES_MAX>,
    ) {
        let seq = self.next_seq.unwrap_or_else(|| turn.rng.next_u64());
        self.next_seq = Some(seq.wrapping_add(1));
        let publication = Publication { from: turn.me.id(), seq, topic, body };
        self.remember(&publication);
        pass_on(turn, &publication, None);
    }

    pub(crate) fn on_publication(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        publication: Publication,
    ) {
        if !turn.members.is_welcome(&publication.from) || !self.remember(&publication) {
            return;
        }
        pass_on(turn, &publication, Some(from));
        turn.event(Event::Topic {
            topic: publication.topic.to_string(),
            from: publication.from,
            body: publication.body,
        });
    }

    fn remember(&mut self, publication: &Publication) -> bool {
        let key = (publication.from, publication.seq);
        if !self.seen.insert(key) {
            return false;
        }
        self.order.push_back(key);
        if self.order.len() > SEEN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        true
    }
}

fn pass_on(turn: &mut Turn<'_>, publication: &Publication, from: Option<NodeId>) {
    let links: Vec<NodeId> = turn
        .links
        .usable()
        .filter(|link| Some(**link) != from && **link != publication.from)
        .copied()
        .collect();
    for link in links {
        turn.send(link, publication.clone());
    }
}
