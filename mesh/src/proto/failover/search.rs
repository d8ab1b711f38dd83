//! The search for a board that is there.
//!
//! A master has links to few boards; of the others it knows by hearsay, and after a restart by memory alone:
//! those, too, that died or left meanwhile. What begins on a board that is gone is down until it returns. So
//! before a service is begun somewhere, that board must have been reached.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use crate::proto::id::NodeId;
use crate::proto::machine::Time;
use crate::proto::placement::NoRoom;
use crate::proto::turn::Turn;

/// Boards that are tried in one round.
const AT_ONCE: usize = 4;
/// Rounds, until only boards with a link count: together shorter than an order's patience.
const ROUNDS_MAX: u32 = 2;
/// How long one round waits for a link: a dial over a slow way, and once more.
const ROUND: Duration = Duration::from_secs(2);

/// How far one search has come.
#[derive(Default, Debug)]
pub(super) struct Search {
    rounds: u32,
    until: Time,
    /// Whom it tries to reach, and until when.
    tried: BTreeMap<NodeId, Time>,
}

impl Search {
    /// The best board that was reached, by `best` (the best but for those it is given); none while some are being
    /// tried. To be asked again then, a little later.
    ///
    /// # Errors
    /// No board that is there has room.
    pub(super) fn look(
        &mut self,
        turn: &mut Turn<'_>,
        best: impl Fn(&Turn<'_>, &BTreeSet<NodeId>) -> Result<NodeId, NoRoom>,
    ) -> Result<Option<NodeId>, NoRoom> {
        let mut without = self.not_there(turn);
        let first = best(turn, &without)?;
        if is_there(turn, &first) {
            return Ok(Some(first));
        }
        if turn.now >= self.until {
            self.rounds += 1;
            self.until = turn.now + ROUND;
            for _ in 0..AT_ONCE {
                let Ok(next) = best(turn, &without) else { break };
                if !is_there(turn, &next) {
                    turn.links.want_until(next, self.until, turn.now);
                    self.tried.insert(next, self.until);
                }
                without.insert(next);
            }
        }
        Ok(None)
    }

    /// Boards that nothing is to begin on: whom this search has not reached in time.
    pub(super) fn not_there(&self, turn: &Turn<'_>) -> BTreeSet<NodeId> {
        let all = self.rounds >= ROUNDS_MAX && turn.now >= self.until;
        let in_vain = |node: &NodeId| self.tried.get(node).is_some_and(|until| turn.now >= *until);
        let known = turn.members.up().map(|(node, _)| *node);
        known.filter(|node| (all || in_vain(node)) && !is_there(turn, node)).collect()
    }
}

fn is_there(turn: &Turn<'_>, node: &NodeId) -> bool {
    *node == turn.me.id() || turn.links.is_usable(node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::turn::samples::Surroundings;

    /// The first of these that is not excluded.
    fn first_of(
        boards: &[NodeId],
    ) -> impl Fn(&Turn<'_>, &BTreeSet<NodeId>) -> Result<NodeId, NoRoom> {
        |_, without| {
            let left = boards.iter().find(|node| !without.contains(node));
            left.copied().ok_or_else(|| NoRoom { reasons: "none is left".to_owned() })
        }
    }

    #[test]
    fn a_board_without_a_link_is_tried_and_passed_over_if_it_cannot_be_reached() {
        let mut around = Surroundings::new();
        let remembered: Vec<NodeId> = (1..=9).map(|number| around.remembers(number)).collect();
        let here = around.peer(20);
        let boards: Vec<NodeId> = remembered.iter().copied().chain([here]).collect();
        let mut search = Search::default();
        let mut look = |around: &mut Surroundings, ms| {
            search.look(&mut around.turn(ms), first_of(&boards)).expect("one is there")
        };
        assert_eq!(look(&mut around, 0), None);
        let tried = |around: &Surroundings| {
            remembered.iter().filter(|node| around.links.get(node).is_some()).count()
        };
        assert_eq!(tried(&around), AT_ONCE);
        assert_eq!(look(&mut around, 1999), None);
        assert_eq!(look(&mut around, 2000), None, "the next four");
        assert_eq!(tried(&around), 2 * AT_ONCE);
        assert_eq!(look(&mut around, 4000), Some(here), "of the ninth it is not known either");
    }

    #[test]
    fn the_best_board_is_taken_as_soon_as_there_is_a_link_to_it() {
        let mut around = Surroundings::new();
        let best = around.remembers(1);
        let here = around.peer(20);
        let mut search = Search::default();
        let boards = [best, here];
        assert_eq!(search.look(&mut around.turn(0), first_of(&boards)), Ok(None));
        around.peer(1);
        assert_eq!(search.look(&mut around.turn(100), first_of(&boards)), Ok(Some(best)));
    }

    #[test]
    fn where_no_board_is_there_it_says_so() {
        let mut around = Surroundings::new();
        let boards = [around.remembers(1)];
        let mut search = Search::default();
        assert_eq!(search.look(&mut around.turn(0), first_of(&boards)), Ok(None));
        assert!(search.look(&mut around.turn(2000), first_of(&boards)).is_err());
    }
}
