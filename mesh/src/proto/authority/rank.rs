//! Rank: the bully's order among boards.
//!
//! The strongest board stands first. Rank never excludes (decision D18): a mesh of 1 GB boards has a
//! master too. Uptime is not part of it: it would reorder the boards with every restart.

use core::cmp::Reverse;

use crate::proto::id::NodeId;
use crate::proto::members::{Member, Members};
use crate::proto::record::{Class, Reachability};
use crate::proto::table::Table;

/// "At least 4 GB" (Das and Sidhanta) as such a board reports it, bytes.
pub const STRONG_MEMORY_BYTES: u64 = (7 << 30) / 2;

/// Sorts boards, the best first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Rank {
    class: Reverse<Class>,
    strong: Reverse<bool>,
    cores: Reverse<u16>,
    reachable: Reverse<bool>,
    node: NodeId,
}

impl Rank {
    /// The rank of a member.
    pub fn of(member: &Member) -> Self {
        let board = &member.record.board;
        Self {
            class: Reverse(board.class),
            strong: Reverse(board.memory_bytes >= STRONG_MEMORY_BYTES),
            cores: Reverse(board.cores),
            reachable: Reverse(member.record.reachability == Reachability::Public),
            node: member.record.node,
        }
    }
}

/// The place of `node` in its electorate, 0 = stands first.
pub fn place(table: &Table, members: &Members, node: &NodeId) -> u32 {
    let Some(mine) = members.get(node).map(Rank::of) else { return 0 };
    let drained = table.makes_way(node);
    let better = |other: &NodeId| match (table.makes_way(other), drained) {
        (false, true) => true,
        (true, false) => false,
        _ => members.get(other).is_some_and(|m| Rank::of(m) < mine),
    };
    u32::try_from(table.electorate().iter().filter(|other| better(other)).count()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::bounded::List;
    use crate::proto::turn::samples::Surroundings;

    #[test]
    fn each_of_an_electorate_has_a_place_of_its_own_and_who_makes_way_the_last() {
        let mut board = Surroundings::new();
        let mut voters = [1, 2, 3].map(|number| board.peer(number));
        voters.sort();
        let mut table = Table { voters: List::capped(voters), ..Table::default() };
        let places = |table: &Table| voters.map(|voter| place(table, &board.members, &voter));
        assert_eq!(places(&table), [0, 1, 2], "equal boards by their ids");
        table.drained = vec![voters[0]];
        assert_eq!(places(&table), [2, 0, 1]);
    }

    #[test]
    fn the_class_counts_first_then_memory_then_cores_then_whether_others_reach_it() {
        let mut board = Surroundings::new();
        let node = board.peer(1);
        let member = board.members.get(&node).expect("a member").clone();
        let rank = |change: fn(&mut crate::proto::record::NodeRecord)| {
            let mut member = member.clone();
            change(&mut member.record);
            Rank::of(&member)
        };
        let of_class = rank(|record| record.board.class = Class::Med);
        let strong = rank(|record| record.board.memory_bytes = 3_758_096_384);
        let weak = rank(|record| {
            (record.board.memory_bytes, record.board.cores) = (3_758_096_383, 8);
        });
        let reachable = rank(|record| record.reachability = Reachability::Public);
        let plain = rank(|_| ());
        let hidden = rank(|record| record.reachability = Reachability::Private);
        assert!(of_class < strong && strong < weak && weak < reachable && reachable < plain);
        assert_eq!(plain, hidden, "what is not known is no better");
    }
}
