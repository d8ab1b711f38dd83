//! The messages of a run's last seconds: each in a few words, and when it arrived.
//!
//! A message is known again by its frame and its way: on one connection nothing overtakes, so what was sent
//! before one that has arrived, and has not arrived itself, never will; nor will what was on its way when the
//! connection ended.

use std::collections::{BTreeMap, VecDeque};

use hedgerow::proto::wire::Message;
use hedgerow::proto::wire::copies::{Offer, Stored};
use hedgerow::proto::wire::failover::Claimed;

use crate::queue::BoardIndex;
use crate::time::{Nanos, SECOND};
use crate::timeline::Words;

/// Messages are kept for that long.
const KEPT: Nanos = 40 * SECOND;
/// So many at the most.
const MESSAGES_MAX: usize = 30_000;

/// A message that was sent.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) from: BoardIndex,
    pub(super) to: BoardIndex,
    pub(super) sent: Nanos,
    /// When it was handed to the other node, if it was.
    pub(super) arrived: Option<Nanos>,
    pub(super) text: String,
    pub(super) is_probe: bool,
}

/// From whom and to whom.
type Way = (BoardIndex, BoardIndex);

/// The last ones of a run.
#[derive(Default, Debug)]
pub(super) struct Messages {
    kept: VecDeque<Sent>,
    /// Those that were dropped, and so the number of the first one that is there.
    dropped: usize,
    /// Numbers of those that may arrive yet, in the order in which they were sent, and their marks.
    under_way: BTreeMap<Way, VecDeque<(usize, [u8; 8])>>,
}

impl Messages {
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Sent> {
        self.kept.iter()
    }

    /// The n-th that is kept.
    pub(super) fn get(&self, number: usize) -> Option<&Sent> {
        self.kept.get(number)
    }

    pub(super) fn sent(
        &mut self,
        at: Nanos,
        way: Way,
        words: &Words,
        message: &Message,
        frame: &[u8],
    ) {
        let old = |sent: &Sent| sent.sent + KEPT < at;
        while self.kept.len() >= MESSAGES_MAX || self.kept.front().is_some_and(old) {
            self.drop_first();
        }
        let number = self.dropped + self.kept.len();
        self.under_way.entry(way).or_default().push_back((number, mark(frame)));
        let (from, to) = way;
        let is_probe = matches!(message, Message::Probe(_) | Message::ProbeAck(_));
        let text = text(words, message);
        self.kept.push_back(Sent { from, to, sent: at, arrived: None, text, is_probe });
    }

    pub(super) fn received(&mut self, at: Nanos, way: Way, frame: &[u8]) {
        let Some(under_way) = self.under_way.get_mut(&way) else { return };
        let wanted = mark(frame);
        let Some(place) = under_way.iter().position(|(_, mark)| *mark == wanted) else { return };
        let (number, _) = under_way[place];
        under_way.drain(..=place);
        let kept = number.checked_sub(self.dropped);
        if let Some(sent) = kept.and_then(|place| self.kept.get_mut(place)) {
            sent.arrived = Some(at);
        }
    }

    /// `to` has no connection with `from` any more: what was on its way there is lost.
    pub(super) fn cut(&mut self, from: BoardIndex, to: BoardIndex) {
        self.under_way.remove(&(from, to));
    }

    /// The process on this board is another one now: nothing that was sent to the former one arrives.
    pub(super) fn begins(&mut self, board: BoardIndex) {
        self.under_way.retain(|(_, to), _| *to != board);
    }

    fn drop_first(&mut self) {
        let Some(first) = self.kept.pop_front() else { return };
        self.dropped += 1;
        if let Some(under_way) = self.under_way.get_mut(&(first.from, first.to)) {
            under_way.retain(|(number, _)| *number >= self.dropped);
        }
    }
}

fn mark(frame: &[u8]) -> [u8; 8] {
    let mut mark = [0; 8];
    mark.copy_from_slice(&blake3::hash(frame).as_bytes()[..8]);
    mark
}

/// Its name and what of it matters in a picture.
fn text(words: &Words, message: &Message) -> String {
    let yes = |granted: bool| if granted { "yes" } else { "no" };
    let more = match message {
        Message::PreVote(vote) => format!("(would you vote for me?) term {}", vote.term.0),
        Message::PreVoteOk(ok) => format!("{}, term {}", yes(ok.granted), ok.term.0),
        Message::Vote(vote) => format!("(vote for me) term {}", vote.term.0),
        Message::VoteOk(ok) => format!("{}, term {}", yes(ok.granted), ok.term.0),
        Message::App(app) => {
            let table = app.table.as_ref().map(|table| {
                let version = table.version;
                format!(", table {}/{}", version.term.0, version.number)
            });
            let table = table.unwrap_or_default();
            format!("(heartbeat) term {}, {} ms{table}", app.term.0, app.lease_ms)
        }
        Message::AppOk(ok) => {
            let (term, number) = (ok.durable.term.0, ok.durable.number);
            let lease = if ok.sent == 0 { ", no lease" } else { ", confirms a lease" };
            format!("term {}, has table {term}/{number}{lease}", ok.term.0)
        }
        Message::Renew(renew) => format!("{} epoch {}", renew.instance, renew.epoch.0),
        Message::Grant(grant) => {
            format!("{} epoch {}, {} ms", grant.instance, grant.epoch.0, grant.lease_ms)
        }
        Message::Claim(claim) => {
            let what = match claim.claim {
                Claimed::Release { to, .. } => format!("release to {}", words.who(&to)),
                Claimed::Take { from } => format!("take, from {}/{}", from.epoch.0, from.seq),
                Claimed::Begins(id) => format!("would begin with {}/{}", id.epoch.0, id.seq),
                other => format!("{other:?}"),
            };
            format!("{} epoch {}: {what}", claim.instance, claim.epoch.0)
        }
        Message::Offer(Offer { instance, id }) | Message::Stored(Stored { instance, id }) => {
            format!("{instance} state {}/{}", id.epoch.0, id.seq)
        }
        Message::Ask(ask) => format!("is {} alive?", words.who(&ask.subject)),
        Message::Answer(answer) => format!("about {}", words.who(&answer.subject)),
        _ => return message.name().to_owned(),
    };
    format!("{} {more}", message.name())
}

#[cfg(test)]
mod tests {
    use hedgerow::proto::wire::gossip::Probe;

    use super::*;

    fn send(messages: &mut Messages, at: Nanos) {
        let message = Message::from(Probe { seq: 1, view: 2 });
        messages.sent(at, (0, 1), &Words::default(), &message, b"the same bytes");
    }

    fn arrivals(messages: &Messages) -> Vec<Option<Nanos>> {
        messages.iter().map(|sent| sent.arrived).collect()
    }

    /// Seen as arrows half a minute long: a board says the same again after it has connected anew.
    #[test]
    fn what_was_lost_with_a_connection_is_not_taken_for_what_is_said_again() {
        let mut messages = Messages::default();
        send(&mut messages, 1);
        messages.cut(0, 1);
        send(&mut messages, 20);
        messages.received(25, (0, 1), b"the same bytes");
        assert_eq!(arrivals(&messages), [None, Some(25)]);

        let mut messages = Messages::default();
        send(&mut messages, 1);
        messages.begins(1);
        send(&mut messages, 20);
        messages.received(25, (0, 1), b"the same bytes");
        assert_eq!(arrivals(&messages), [None, Some(25)]);
    }
}
