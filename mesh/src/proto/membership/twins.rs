//! Two boards with one key.
//!
//! Whoever copies the card or the data folder of a board has two boards with one identity. Both are who they say
//! they are; nobody can tell which of them is the right one, and what is said to one may be heard by the other. So
//! both are refused and told why, until for a while only one of them has come.
//!
//! One process sends over one connection at a time, and what it sends arrives in order. So the numbers of its probes
//! rise, and where it begins anew to watch they begin at one. Numbers that fall to others are those of two processes,
//! or something was lost where a queue was full; those that fall again and again are of two.
//! While they are refused, it is their records that change to and fro; those of one board get newer only.

use core::time::Duration;
use std::collections::BTreeMap;

use crate::proto::id::{Digest16, Incarnation, NodeId};
use crate::proto::machine::Time;
use crate::proto::record::NodeRecord;
use crate::proto::signed::Signed;

/// So often the numbers of a peer's probes fall within [`FALLS_WITHIN`] if it is two.
const FALLS: u32 = 5;
/// What is lost in full queues makes fewer of them fall within this.
const FALLS_WITHIN: Duration = Duration::from_secs(30);
/// The first numbers of a new watch, none of which counts as a fall: the very first may have been lost with the
/// connection it went over. A board that crashes again and again falls to `n` once in about `n` seconds, since its
/// probes are a second apart unless others ask for more; so it hardly comes to [`FALLS`] within [`FALLS_WITHIN`] with
/// higher ones. A copy that crashes as often is not found out by this before it stays.
const ANEW: u64 = FALLS_WITHIN.as_secs() / FALLS as u64;
/// Both are refused until only one has come for so long.
pub(super) const REFUSED_FOR: Duration = Duration::from_secs(40);
/// Identities that are refused at a time; the one whose time is over first gives way.
pub const TWINS_MAX: usize = 64;

/// What is known of those that may be two.
#[derive(Debug, Default)]
pub struct Twins {
    /// Of peers with a link.
    courses: BTreeMap<NodeId, Course>,
    refused: BTreeMap<NodeId, Refused>,
}

/// The numbers of one peer's probes.
#[derive(Clone, Copy, Debug)]
struct Course {
    last: u64,
    falls: u32,
    since: Time,
}

/// An identity that two boards have.
#[derive(Clone, Copy, Debug)]
struct Refused {
    until: Time,
    newest: Incarnation,
    last: Option<Digest16>,
}

impl Twins {
    /// There is a link to a peer, perhaps one more.
    pub(super) fn begins(&mut self, peer: NodeId, now: Time) {
        self.courses.entry(peer).or_insert(Course { last: 0, falls: 0, since: now });
    }

    /// The last connection to a peer is gone.
    pub(super) fn ends(&mut self, peer: &NodeId) {
        self.courses.remove(peer);
    }

    /// A probe of a peer. Returns whether the peer turns out to be two boards.
    pub(super) fn on_probe(&mut self, peer: NodeId, seq: u64, now: Time) -> bool {
        let Some(course) = self.courses.get_mut(&peer) else { return false };
        let falls = ANEW < seq && seq <= course.last;
        course.last = seq;
        if !falls {
            return false;
        }
        if now.since(course.since) > FALLS_WITHIN {
            (course.falls, course.since) = (0, now);
        }
        course.falls += 1;
        course.falls >= FALLS
    }

    /// From now on `peer` is two boards.
    pub(super) fn refuse(&mut self, peer: NodeId, now: Time) {
        if self.refused.len() >= TWINS_MAX && !self.refused.contains_key(&peer) {
            let first = self.refused.iter().min_by_key(|(_, refused)| refused.until);
            if let Some(first) = first.map(|(node, _)| *node) {
                self.refused.remove(&first);
            }
        }
        let refused =
            Refused { until: now + REFUSED_FOR, newest: Incarnation::default(), last: None };
        self.refused.insert(peer, refused);
    }

    /// Whether a peer that says hello with this record has to be refused, since there may be two of it still.
    pub(super) fn refuses(
        &mut self,
        peer: &NodeId,
        record: &Signed<NodeRecord>,
        now: Time,
    ) -> bool {
        let Some(refused) = self.refused.get_mut(peer) else { return false };
        if now >= refused.until {
            self.refused.remove(peer);
            return false;
        }
        let Ok(incarnation) = record.peek().map(|record| record.incarnation) else { return true };
        let digest = record.digest();
        let other = refused.last.replace(digest).is_some_and(|last| last != digest);
        if other && incarnation <= refused.newest {
            refused.until = now + REFUSED_FOR;
        }
        refused.newest = refused.newest.max(incarnation);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::myself::Myself;
    use crate::proto::turn::samples::board;

    fn at(seconds: u64) -> Time {
        Time(seconds * 1_000_000_000)
    }

    /// The second at which the peer turns out to be two: (when, which number).
    fn found(probes: impl IntoIterator<Item = (u64, u64)>) -> Option<u64> {
        let (mut twins, peer) = (Twins::default(), board(1, |_| ()).id());
        twins.begins(peer, at(0));
        let mut two = |(second, seq): &(u64, u64)| twins.on_probe(peer, *seq, at(*second));
        probes.into_iter().find(|probe| two(probe)).map(|(second, _)| second)
    }

    #[test]
    fn numbers_that_fall_again_and_again_are_those_of_two() {
        let old_and_new = (1..60).flat_map(|second| [(second, 500 + second), (second, second)]);
        assert_eq!(found(old_and_new), Some(11));
        let started_together = (1..60).flat_map(|second| [(second, second), (second, second)]);
        assert_eq!(found(started_together), Some(11));
    }

    #[test]
    fn who_watches_anew_now_and_then_is_one() {
        assert_eq!(found((1..600).map(|second| (second, second))), None);
        let anew = (1..600).map(|second| (second, 1 + second % 10));
        assert_eq!(found(anew), None);
        let out_of_a_queue = (1..600).map(|number| (9, 1 + number % 10));
        assert_eq!(found(out_of_a_queue), None);
        let mut twins = Twins::default();
        let peer = board(1, |_| ()).id();
        let found = (0..100).any(|life| {
            // A crash loop: each life says hello on a connection of its own.
            twins.begins(peer, at(life));
            twins.on_probe(peer, 1, at(life)) || twins.on_probe(peer, 2, at(life))
        });
        assert!(!found);
        let found = (100..200).any(|life| {
            // Now and then the first probes of a life are lost with a connection that is gone.
            twins.begins(peer, at(life));
            let lost = life % 4;
            (1 + lost..4).any(|number| twins.on_probe(peer, number, at(life)))
        });
        assert!(!found);
        twins.ends(&peer);
        assert!((0..10).all(|_| !twins.on_probe(peer, 2, at(100))), "it has no link");
    }

    #[test]
    fn two_that_say_hello_again_and_again_are_found_all_the_same() {
        let mut twins = Twins::default();
        let peer = board(1, |_| ()).id();
        let found = (1..60).find(|second| {
            twins.begins(peer, at(*second));
            twins.on_probe(peer, 500 + second, at(*second))
                || twins.on_probe(peer, *second, at(*second))
        });
        assert_eq!(found, Some(11));
    }

    /// That board after so many changes of its record.
    fn with_record(changes: u64, host: &str) -> Myself {
        let mut one = board(1, |config| {
            config.board.host = crate::proto::bounded::Text::capped(host);
        });
        one.on_reserved(Incarnation(1_000));
        one.rise_above(Incarnation(changes)).expect("it is reserved");
        one
    }

    #[test]
    fn both_are_refused_until_one_has_come_alone_for_a_while() {
        let (mut twins, peer) = (Twins::default(), with_record(1, "a").id());
        let mut refuses = |second, record: &Myself| {
            if second == 0 {
                twins.refuse(peer, at(0));
            }
            twins.refuses(&peer, record.signed(), at(second))
        };
        let (one, other) = (with_record(5, "a"), with_record(5, "b"));
        for second in (0..300).step_by(20) {
            assert!(refuses(second, &one) && refuses(second + 10, &other), "{second}");
        }
        // The last word of the other one was at 290 s.
        assert!(refuses(300, &one) && refuses(339, &one));
        assert!(!refuses(340, &one));
        assert!(!refuses(341, &other), "nothing is known any more");
    }

    #[test]
    fn a_record_that_gets_newer_is_that_of_one_board() {
        let (mut twins, peer) = (Twins::default(), with_record(1, "a").id());
        twins.refuse(peer, at(0));
        for second in 0..40 {
            assert!(twins.refuses(&peer, with_record(second + 1, "a").signed(), at(second)));
        }
        assert!(!twins.refuses(&peer, with_record(99, "a").signed(), at(40)));
    }

    #[test]
    fn of_many_that_are_two_the_one_that_is_free_first_is_forgotten() {
        let mut twins = Twins::default();
        let boards: Vec<Myself> = (0..=TWINS_MAX as u8).map(|nr| board(nr, |_| ())).collect();
        for (second, board) in (0..).zip(&boards) {
            twins.refuse(board.id(), at(second));
        }
        let refused = |b: &&Myself| twins.refused.contains_key(&b.id());
        assert_eq!(boards.iter().filter(refused).count(), TWINS_MAX);
        assert!(!refused(&&boards[0]));
    }
}
