//! Rings: who watches whom.
//!
//! Up to nine members everyone watches everyone. Above, four rings order the living members, one by
//! (site, hash) and three by hash alone; on each ring a node watches the next member that it does
//! not watch already. So every member has about four observers, the graph is an expander, and the
//! number of links stays about eight at any size (the idea is Rapid's: Suresh et al., USENIX ATC'18,
//! section 4.1).
//!
//! A pure function of the member list: boards with equal lists compute equal rings.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::proto::id::NodeId;
use crate::proto::members::Members;

/// Up to this many living members everyone watches everyone.
pub const FULL_MESH_MAX: usize = 9;
/// Rings above that; also the number of members that each one watches.
pub const RINGS: usize = 4;
/// Of the members that follow one on a ring it watches at most that many in place of suspected observers. Where half
/// of all are gone, one run in sixteen is longer.
pub const COVERED_MAX: usize = 4;

/// Who watches whom among the living.
#[derive(Clone, Debug, Default)]
pub struct Rings {
    /// Whom each member watches.
    watched: BTreeMap<NodeId, Vec<NodeId>>,
    /// Who watches each member.
    observers: BTreeMap<NodeId, Vec<NodeId>>,
}

impl Rings {
    /// The rings of the members that are up.
    pub fn of(members: &Members) -> Self {
        let up: Vec<NodeId> = members.up().map(|(node, _)| *node).collect();
        let watched: BTreeMap<NodeId, Vec<NodeId>> = if up.len() <= FULL_MESH_MAX {
            up.iter()
                .map(|node| (*node, up.iter().filter(|other| *other != node).copied().collect()))
                .collect()
        } else {
            watched_on_rings(&up, members)
        };
        let mut observers: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
        for (observer, nodes) in &watched {
            for node in nodes {
                observers.entry(*node).or_default().push(*observer);
            }
        }
        Self { watched, observers }
    }

    /// Whom `node` watches.
    pub fn watched_by(&self, node: &NodeId) -> &[NodeId] {
        self.watched.get(node).map_or(&[], Vec::as_slice)
    }

    /// Who watches `node`.
    pub fn observers_of(&self, node: &NodeId) -> &[NodeId] {
        self.observers.get(node).map_or(&[], Vec::as_slice)
    }

    /// Everyone that `node` keeps a link to.
    pub fn neighbours(&self, node: &NodeId) -> BTreeSet<NodeId> {
        self.watched_by(node).iter().chain(self.observers_of(node)).copied().collect()
    }

    /// The shortest way from `from` to `to` over ring links that avoids `around`; both ends included.
    /// None if it has more than `hops_max` nodes.
    pub fn route(
        &self,
        from: NodeId,
        to: NodeId,
        around: &NodeId,
        nodes_max: usize,
    ) -> Option<Vec<NodeId>> {
        let mut came_from: BTreeMap<NodeId, NodeId> = BTreeMap::new();
        let mut queue = VecDeque::from([(from, 1)]);
        while let Some((node, length)) = queue.pop_front() {
            if node == to {
                let mut route = vec![to];
                while let Some(before) = came_from.get(&route[route.len() - 1]) {
                    route.push(*before);
                }
                route.reverse();
                return Some(route);
            }
            if length == nodes_max {
                continue;
            }
            for next in self.neighbours(&node) {
                if next != *around && next != from && !came_from.contains_key(&next) {
                    came_from.insert(next, node);
                    queue.push_back((next, length + 1));
                }
            }
        }
        None
    }
}

/// Whom `node` watches where those that are `suspected` do not count as observers: on each ring all that follow it,
/// up to the first that is not suspected, at most [`COVERED_MAX`] of them.
pub fn covered_by(
    node: &NodeId,
    members: &Members,
    suspected: &BTreeSet<NodeId>,
) -> BTreeSet<NodeId> {
    let up: Vec<NodeId> = members.up().map(|(node, _)| *node).collect();
    let mut covered = BTreeSet::new();
    for ring in 0..RINGS {
        let order = order(ring, &up, members);
        let after = order.iter().skip_while(|other| *other != node).skip(1);
        let around = after.chain(&order).take_while(|other| *other != node);
        for other in around.take(COVERED_MAX) {
            covered.insert(*other);
            if !suspected.contains(other) {
                break;
            }
        }
    }
    covered
}

/// One ring, from its first member on.
fn order(ring: usize, up: &[NodeId], members: &Members) -> Vec<NodeId> {
    let placed = |node: &NodeId| {
        let site = if ring == 0 { site_of(node, members) } else { 0 };
        (site, place(ring, &node.0), *node)
    };
    let mut order: Vec<(u64, u64, NodeId)> = up.iter().map(placed).collect();
    order.sort_unstable();
    order.into_iter().map(|(_, _, node)| node).collect()
}

fn watched_on_rings(up: &[NodeId], members: &Members) -> BTreeMap<NodeId, Vec<NodeId>> {
    let mut watched: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
    for ring in 0..RINGS {
        let order = order(ring, up, members);
        for (at, node) in order.iter().enumerate() {
            let mine = watched.entry(*node).or_default();
            let next = (1..order.len())
                .map(|step| order[(at + step) % order.len()])
                .find(|next| !mine.contains(next));
            mine.extend(next);
        }
    }
    watched
}

/// Boards of one site are neighbours on the first ring, so that most of its links are short.
fn site_of(node: &NodeId, members: &Members) -> u64 {
    let labels = members.get(node).map(|member| &member.record.labels);
    let site = labels.into_iter().flatten().find(|(key, _)| &**key == "site");
    site.map_or(0, |(_, value)| place(RINGS, value.as_bytes()))
}

fn place(ring: usize, bytes: &[u8]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[ring as u8]);
    hasher.update(bytes);
    let mut word = [0; 8];
    word.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::id::PublicKey;

    fn node(n: u8) -> NodeId {
        PublicKey([n; 32])
    }

    #[test]
    fn a_route_is_the_shortest_that_avoids_the_one_in_question() {
        // 1 – 2 – 4, and 1 – 3 – 5 – 4.
        let watched = [(1, vec![2, 3]), (2, vec![4]), (3, vec![5]), (5, vec![4])];
        let mut rings = Rings::default();
        for (observer, those) in watched {
            for one in those {
                rings.watched.entry(node(observer)).or_default().push(node(one));
                rings.observers.entry(node(one)).or_default().push(node(observer));
            }
        }
        let route = |around, most| rings.route(node(1), node(4), &node(around), most);
        assert_eq!(route(9, 4), Some([1, 2, 4].map(node).to_vec()));
        assert_eq!(route(2, 4), Some([1, 3, 5, 4].map(node).to_vec()));
        assert_eq!(route(2, 3), None, "it would have four nodes");
    }

    use crate::proto::bounded::{List, Text};
    use crate::proto::turn::samples::Surroundings;
    use crate::proto::wire::gossip::Standing;

    #[test]
    fn up_to_nine_all_watch_all_and_above_everyone_four_and_is_watched_by_about_as_many() {
        let mut around = Surroundings::new();
        let mut nodes: Vec<NodeId> = (1..=9).map(|number| around.peer(number)).collect();
        let rings = Rings::of(&around.members);
        for node in &nodes {
            assert_eq!(rings.watched_by(node).len(), 8);
            assert!(!rings.watched_by(node).contains(node));
            assert_eq!(rings.observers_of(node).len(), 8);
        }
        nodes.extend((10..=40).map(|number| around.peer(number)));
        let rings = Rings::of(&around.members);
        let mut observed = 0;
        for node in &nodes {
            let watched: BTreeSet<&NodeId> = rings.watched_by(node).iter().collect();
            assert!(watched.len() == RINGS && !watched.contains(node));
            assert!(!rings.observers_of(node).is_empty());
            observed += rings.observers_of(node).len();
        }
        assert_eq!(observed, nodes.len() * RINGS);
        assert!(rings.route(nodes[0], nodes[39], &nodes[20], 40).is_some(), "all hang together");
        around.members.set_standing(&nodes[3], Standing::Down, Default::default());
        assert!(Rings::of(&around.members).watched_by(&nodes[3]).is_empty());
    }

    #[test]
    fn past_suspected_observers_a_board_watches_up_to_the_next_that_is_not() {
        let mut around = Surroundings::new();
        let nodes: Vec<NodeId> = (1..=30).map(|number| around.peer(number)).collect();
        let circles: Vec<Vec<NodeId>> =
            (0..RINGS).map(|ring| order(ring, &nodes, &around.members)).collect();
        let after = |ring: usize, steps: usize| {
            let at = circles[ring].iter().position(|node| *node == nodes[0]).expect("it is there");
            circles[ring][(at + steps) % nodes.len()]
        };
        let covered = |suspected: &[NodeId]| {
            covered_by(&nodes[0], &around.members, &suspected.iter().copied().collect())
        };
        assert_eq!(covered(&[]), (0..RINGS).map(|ring| after(ring, 1)).collect());
        let run: Vec<NodeId> = (1..=5).map(|steps| after(0, steps)).collect();
        assert!(covered(&run[..2]).contains(&run[2]));
        let next = |ring| (1..=COVERED_MAX).map(move |steps| (ring, steps));
        let next: BTreeSet<NodeId> =
            (0..RINGS).flat_map(next).map(|(ring, steps)| after(ring, steps)).collect();
        assert_eq!(covered(&nodes[1..]), next, "no more than that");
        assert!(!covered(&nodes[1..]).contains(&nodes[0]), "nobody watches itself");
    }

    #[test]
    fn every_ring_is_one_circle_in_an_order_of_its_own() {
        let mut around = Surroundings::new();
        let nodes: Vec<NodeId> = (1..=30).map(|number| around.peer(number)).collect();
        let rings = Rings::of(&around.members);
        let circle = |ring: usize| {
            let mut order = vec![nodes[0]];
            while order.len() < nodes.len() {
                order.push(rings.watched_by(&order[order.len() - 1])[ring]);
            }
            let distinct: BTreeSet<NodeId> = order.iter().copied().collect();
            (distinct.len(), order)
        };
        // On later rings a successor may be passed over, since it is watched already.
        assert_eq!(circle(0).0, nodes.len());
        assert_ne!(circle(0).1, circle(1).1);
    }

    #[test]
    fn boards_of_one_site_are_neighbours_on_the_first_ring() {
        let mut around = Surroundings::new();
        let mut site_of = BTreeMap::new();
        for number in 1..=30 {
            let site = ["north", "south", "west"][usize::from(number) % 3];
            let node = around.member(number, |config| {
                let label = |key, value| (Text::capped(key), Text::capped(value));
                config.labels = List::capped([label("rack", "1"), label("site", site)]);
            });
            site_of.insert(node, site);
        }
        let rings = Rings::of(&around.members);
        let far = |node: &&NodeId| site_of[*node] != site_of[&rings.watched_by(node)[0]];
        assert_eq!(site_of.keys().filter(far).count(), 3, "one way leads out of each site");
    }
}
