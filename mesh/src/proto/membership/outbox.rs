//! The outbox: news per link, collected for a moment so that one message carries many facts.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use crate::proto::bounded::List;
use crate::proto::id::NodeId;
use crate::proto::machine::Time;
use crate::proto::wire::gossip::{FACTS_MAX, Fact, Facts};

/// Facts that wait for one link. Beyond, the oldest are dropped: the digest repairs them.
pub const QUEUE_MAX: usize = 2048;
/// Between two messages to one link, also of urgent news: whoever has much to tell costs a message each time.
const URGENT_PAUSE: Duration = Duration::from_millis(10);
/// Large facts in one message, which must fit a frame: a `Joined` takes up to 12 KiB.
const LARGE_MAX: usize = 8;

/// News that waits to be sent.
#[derive(Default, Debug)]
pub struct Outbox {
    links: BTreeMap<NodeId, Queue>,
}

#[derive(Debug)]
struct Queue {
    facts: VecDeque<Fact>,
    flush_at: Time,
    /// Not before that either, however urgent.
    free_at: Time,
}

/// Who may run a service, and where it serves: in a planned move both come right after other news.
fn is_urgent(fact: &Fact) -> bool {
    matches!(fact, Fact::Chosen(_) | Fact::Serving(_))
}

impl Outbox {
    /// Puts a fact into the queue of one link. It leaves at once if the link was quiet or somebody may be
    /// waiting for it, otherwise with the others `coalesce` after the last message.
    pub fn push(&mut self, to: NodeId, fact: Fact, now: Time) {
        let new = || Queue { facts: VecDeque::new(), flush_at: now, free_at: now };
        let queue = self.links.entry(to).or_insert_with(new);
        queue.flush_at = if is_urgent(&fact) { queue.free_at } else { queue.flush_at }.max(now);
        if queue.facts.len() == QUEUE_MAX {
            queue.facts.pop_front();
        }
        queue.facts.push_back(fact);
    }

    /// Forgets a link and what waits for it.
    pub fn drop_link(&mut self, link: &NodeId) {
        self.links.remove(link);
    }

    /// The messages that are due.
    pub fn flush(&mut self, now: Time, coalesce: Duration) -> Vec<(NodeId, Facts)> {
        let mut messages = Vec::new();
        for (link, queue) in &mut self.links {
            if queue.facts.is_empty() || now < queue.flush_at {
                continue;
            }
            let mut large = 0;
            let mut facts = List::<Fact, FACTS_MAX>::new();
            while let Some(fact) = queue.facts.pop_front() {
                // A table alone takes up to 128 KiB: it is followed by nothing.
                large += match &fact {
                    Fact::Chosen(_) => LARGE_MAX,
                    Fact::Joined(_) => 1,
                    _ => 0,
                };
                let fits = large <= LARGE_MAX;
                match if fits { facts.push(fact) } else { Err(fact) } {
                    Ok(()) => {}
                    Err(fact) => {
                        queue.facts.push_front(fact);
                        break;
                    }
                }
            }
            queue.free_at = now + URGENT_PAUSE;
            let urgent = queue.facts.iter().any(is_urgent);
            queue.flush_at = if urgent { queue.free_at } else { now + coalesce };
            messages.push((*link, Facts { facts }));
        }
        self.links.retain(|_, queue| !queue.facts.is_empty() || now < queue.flush_at);
        messages
    }

    /// When [`Outbox::flush`] has something to send next.
    pub fn due(&self) -> Option<Time> {
        self.links.values().filter(|queue| !queue.facts.is_empty()).map(|q| q.flush_at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::directory::Announcement;
    use crate::proto::id::{Incarnation, PublicKey};
    use crate::proto::turn::samples::at;

    const COALESCE: Duration = Duration::from_millis(100);
    const LINK: NodeId = PublicKey([1; 32]);

    #[test]
    fn urgent_news_does_not_wait_for_others_but_for_a_pause() {
        let rumour = || Fact::Down { subject: LINK, incarnation: Incarnation(1) };
        let chosen = || {
            let table = Default::default();
            Fact::Chosen(Box::new(Announcement { master: LINK, table }))
        };
        for (fact, due) in [(rumour(), 100), (chosen(), 10)] {
            let mut outbox = Outbox::default();
            outbox.push(LINK, rumour(), at(0));
            assert_eq!(outbox.flush(at(0), COALESCE).len(), 1, "the link was quiet");
            outbox.push(LINK, fact, at(1));
            assert_eq!(outbox.due(), Some(at(due)));
            assert_eq!(outbox.flush(at(due - 1), COALESCE).len(), 0);
            assert_eq!(outbox.flush(at(due), COALESCE).len(), 1);
        }
    }

    #[test]
    fn what_is_dropped_with_a_link_is_not_sent_and_of_too_much_the_oldest_goes() {
        let rumour = |n| Fact::Down { subject: LINK, incarnation: Incarnation(n) };
        let mut outbox = Outbox::default();
        outbox.push(LINK, rumour(0), at(0));
        outbox.drop_link(&LINK);
        assert_eq!((outbox.flush(at(0), COALESCE).len(), outbox.due()), (0, None));
        for n in 0..=QUEUE_MAX as u64 {
            outbox.push(LINK, rumour(n), at(0));
        }
        let messages = outbox.flush(at(0), COALESCE);
        assert_eq!(messages[0].1.facts[0], rumour(1));
        assert_eq!(messages[0].1.facts.len(), FACTS_MAX);
        assert_eq!(outbox.due(), Some(at(100)), "the rest follows");
    }

    #[test]
    fn a_message_holds_eight_large_facts_or_one_table() {
        let mut around = crate::proto::turn::samples::Surroundings::new();
        let node = around.peer(1);
        let joined = around.members.get(&node).expect("a member").joined();
        let joined = || Fact::Joined(Box::new(joined.clone()));
        let chosen = || {
            let table = Default::default();
            Fact::Chosen(Box::new(Announcement { master: LINK, table }))
        };
        let sizes = |facts: Vec<Fact>| {
            let mut outbox = Outbox::default();
            facts.into_iter().for_each(|fact| outbox.push(LINK, fact, at(0)));
            let mut sizes = Vec::new();
            for ms in (0..1_000).step_by(100) {
                let messages = outbox.flush(at(ms), COALESCE);
                sizes.extend(messages.iter().map(|(_, facts)| facts.facts.len()));
            }
            sizes
        };
        assert_eq!(sizes((0..20).map(|_| joined()).collect()), [8, 8, 4]);
        let rumour = || Fact::Down { subject: LINK, incarnation: Incarnation(1) };
        assert_eq!(sizes(vec![rumour(), chosen(), joined(), rumour()]), [2, 2]);
        assert_eq!(sizes(vec![chosen(), chosen()]), [1, 1]);
    }

    #[test]
    fn a_link_that_was_quiet_for_as_long_as_news_is_collected_is_forgotten() {
        let mut outbox = Outbox::default();
        outbox.push(LINK, Fact::Down { subject: LINK, incarnation: Incarnation(1) }, at(0));
        outbox.flush(at(0), COALESCE);
        outbox.flush(at(99), COALESCE);
        assert_eq!(outbox.links.len(), 1, "what comes now waits");
        outbox.flush(at(100), COALESCE);
        assert_eq!(outbox.links.len(), 0);
    }
}
