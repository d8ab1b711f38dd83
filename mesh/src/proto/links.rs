//! Links: who is connected, who should be, and where to find them.
//!
//! Parts say whom they want a link to; this table asks the driver to connect, backs off when that
//! fails, and closes what nobody has wanted for a while. A link is *usable* once the peer has passed
//! `hello`. Addresses learnt outside of records (from a ticket, from mDNS) are kept here too.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

use super::bounded::List;
use super::id::NodeId;
use super::io::Effect;
use super::machine::{Effects, Time, Timeout};
use super::members::Members;
use super::ticket::{ADDRESSES_MAX, Address};

/// Peers that are connected, wanted or remembered as failing.
pub const PEERS_MAX: usize = 512;
/// Nodes outside the member list whose addresses are kept.
pub const BOOK_MAX: usize = 64;

const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(10);
/// The driver answers every `Connect`; if it does not, the dial counts as failed after this.
const DIAL_MAX: Duration = Duration::from_secs(30);
/// A link that nobody wants is kept that long: the other side may want it.
const LINGER: Duration = Duration::from_secs(30);

/// The table of links.
#[derive(Default, Debug)]
pub struct Links {
    peers: BTreeMap<NodeId, Link>,
    book: BTreeMap<NodeId, List<Address, ADDRESSES_MAX>>,
}

/// One peer.
#[derive(Debug)]
pub struct Link {
    phase: Phase,
    /// Since when in this phase.
    since: Time,
    /// Wanted for good, by the rings.
    standing: bool,
    /// Wanted until then, for an errand.
    errand_until: Time,
    /// Kept open until then if it is open: the other side may want it. No reason to dial.
    linger_until: Time,
    retry_at: Time,
    failures: u32,
    /// What went wrong last, for people.
    pub last_error: Option<String>,
    /// The address at the other end of the present or last connection, for people.
    pub address: Option<Address>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Idle,
    Dialling,
    Connected,
    Admitted,
    /// The driver was asked to close it. What is wanted meanwhile is dialled when it is gone.
    Closing {
        /// Whether it could be used before.
        was_usable: bool,
    },
}

impl Link {
    fn new(now: Time) -> Self {
        Self {
            phase: Phase::Idle,
            since: now,
            standing: false,
            errand_until: Time::default(),
            linger_until: Time::default(),
            retry_at: now,
            failures: 0,
            last_error: None,
            address: None,
        }
    }

    fn wanted(&self, now: Time) -> bool {
        self.standing || now < self.errand_until
    }

    fn open(&self) -> bool {
        matches!(self.phase, Phase::Connected | Phase::Admitted | Phase::Closing { .. })
    }
}

impl Links {
    /// Whether `peer` has passed `hello` and can be sent anything.
    pub fn is_usable(&self, peer: &NodeId) -> bool {
        self.peers.get(peer).is_some_and(|link| link.phase == Phase::Admitted)
    }

    /// The peers that have passed `hello`.
    pub fn usable(&self) -> impl Iterator<Item = &NodeId> {
        self.peers.iter().filter(|(_, link)| link.phase == Phase::Admitted).map(|(peer, _)| peer)
    }

    /// The peers with a connection, whether they have passed `hello` or not.
    pub fn connected(&self) -> Vec<NodeId> {
        self.peers.iter().filter(|(_, link)| link.open()).map(|(peer, _)| *peer).collect()
    }

    /// What is known of one peer.
    pub fn get(&self, peer: &NodeId) -> Option<&Link> {
        self.peers.get(peer)
    }

    /// Asks for a link to `peer` until `until`.
    pub fn want_until(&mut self, peer: NodeId, until: Time, now: Time) {
        if let Some(link) = self.entry(peer, now) {
            link.errand_until = link.errand_until.max(until);
        }
    }

    /// For tests: until when an errand asks for a link to `peer`.
    #[cfg(test)]
    pub(crate) fn errand(&self, peer: &NodeId) -> Time {
        self.peers.get(peer).map_or(Time::default(), |link| link.errand_until)
    }

    /// Asks for links to exactly these peers for good. Errands are not touched.
    pub fn want_standing(&mut self, wanted: &BTreeSet<NodeId>, now: Time) {
        for (peer, link) in &mut self.peers {
            let standing = wanted.contains(peer);
            if link.standing && !standing {
                link.linger_until = now + LINGER;
            }
            link.standing = standing;
        }
        for peer in wanted {
            if let Some(link) = self.entry(*peer, now) {
                link.standing = true;
            }
        }
    }

    /// Remembers an address of a node, whether it is a member or not.
    pub fn learn(&mut self, node: NodeId, address: &Address) {
        if !self.book.contains_key(&node) && self.book.len() >= BOOK_MAX {
            // Somebody may answer with another key each time: those that nobody wants make room.
            let idle = self.book.keys().find(|known| !self.peers.contains_key(*known)).copied();
            let Some(idle) = idle else { return };
            self.book.remove(&idle);
        }
        let addresses = self.book.entry(node).or_default();
        let others = addresses.iter().filter(|known| *known != address).cloned();
        *addresses = List::capped([address.clone()].into_iter().chain(others));
    }

    /// The transport has a connection to `peer`.
    pub fn on_connected(&mut self, peer: NodeId, address: &Address, now: Time) {
        if let Some(link) = self.entry(peer, now)
            && !link.open()
        {
            link.address = Some(address.clone());
            link.phase = Phase::Connected;
            link.since = now;
            link.linger_until = now + LINGER;
        }
    }

    /// `peer` has passed `hello`.
    pub fn on_admitted(&mut self, peer: NodeId, now: Time) {
        if let Some(link) = self.peers.get_mut(&peer) {
            link.phase = Phase::Admitted;
            link.since = now;
            link.failures = 0;
            link.last_error = None;
        }
    }

    /// The transport has no connection to `peer` any more. Returns whether the link was usable.
    pub fn on_disconnected(&mut self, peer: &NodeId, why: String, now: Time) -> bool {
        let Some(link) = self.peers.get_mut(peer) else { return false };
        let was_usable =
            matches!(link.phase, Phase::Admitted | Phase::Closing { was_usable: true });
        link.phase = Phase::Idle;
        link.since = now;
        link.retry_at = link.retry_at.max(now + RETRY_MIN / 4);
        link.last_error = Some(why);
        was_usable
    }

    /// A dial failed, or the other side refused this node: try again later, ever more rarely.
    pub fn on_failure(&mut self, peer: &NodeId, why: String, now: Time, rng: &mut ChaCha8Rng) {
        let Some(link) = self.peers.get_mut(peer) else { return };
        if link.phase == Phase::Dialling {
            link.phase = Phase::Idle;
            link.since = now;
        }
        let backoff = RETRY_MAX.min(RETRY_MIN * 2_u32.saturating_pow(link.failures.min(8)));
        link.failures = link.failures.saturating_add(1);
        link.retry_at = now + backoff + jitter(backoff, rng.next_u32());
        link.last_error = Some(why);
    }

    /// Do not dial `peer` before `until`; who wants it wants it still.
    pub fn put_off(&mut self, peer: &NodeId, until: Time) {
        if let Some(link) = self.peers.get_mut(peer) {
            link.retry_at = until;
        }
    }

    /// Do not dial `peer` before `until`, and want it no more.
    pub fn shun(&mut self, peer: &NodeId, until: Time) {
        if let Some(link) = self.peers.get_mut(peer) {
            link.standing = false;
            (link.errand_until, link.linger_until) = (Time::default(), Time::default());
            link.retry_at = until;
        }
    }

    /// Dials, closes and forgets whatever is due.
    pub fn handle_timeout(&mut self, now: Time, members: &Members, out: &mut Effects) {
        let book = &self.book;
        self.peers.retain(|peer, link| {
            if link.phase == Phase::Dialling && now >= link.since + DIAL_MAX {
                link.phase = Phase::Idle;
                link.retry_at = now + RETRY_MAX;
            }
            if let Phase::Closing { .. } = link.phase {
                // The driver confirms with `Disconnected`; it is not asked again every instant.
                if now >= link.since + LINGER {
                    out.push(Effect::Disconnect { peer: *peer });
                    link.since = now;
                }
                return true;
            }
            if link.wanted(now) {
                if link.phase == Phase::Idle && now >= link.retry_at {
                    let addresses = addresses_of(peer, book, members);
                    link.phase = Phase::Dialling;
                    link.since = now;
                    out.push(Effect::Connect { peer: *peer, addresses });
                }
                return true;
            }
            if link.open() && now < link.linger_until {
                return true;
            }
            if link.open() {
                out.push(Effect::Disconnect { peer: *peer });
                link.phase = Phase::Closing { was_usable: link.phase == Phase::Admitted };
                link.since = now;
                return true;
            }
            link.phase == Phase::Dialling || now < link.retry_at
        });
    }

    /// When something is due next.
    pub fn poll_timeout(&self) -> Option<Timeout> {
        self.peers
            .values()
            .map(|link| match link.phase {
                Phase::Idle if link.standing => link.retry_at,
                Phase::Idle if link.retry_at < link.errand_until => link.retry_at,
                Phase::Idle => link.retry_at.max(link.errand_until),
                Phase::Dialling => link.since + DIAL_MAX,
                Phase::Closing { .. } => link.since + LINGER,
                Phase::Connected | Phase::Admitted if link.standing => Time::NEVER,
                Phase::Connected | Phase::Admitted => link.errand_until.max(link.linger_until),
            })
            .filter(|at| *at != Time::NEVER)
            .min()
            .map(|at| Timeout { at, reason: "links" })
    }

    fn entry(&mut self, peer: NodeId, now: Time) -> Option<&mut Link> {
        if !self.peers.contains_key(&peer) && self.peers.len() >= PEERS_MAX {
            // Every stranger that was refused is remembered for a while; they must not keep others out.
            let idle = |link: &Link| link.phase == Phase::Idle && !link.standing;
            let forgettable = self.peers.iter().filter(|(_, link)| idle(link));
            let oldest = *forgettable.min_by_key(|(_, link)| link.since)?.0;
            self.peers.remove(&oldest);
        }
        Some(self.peers.entry(peer).or_insert_with(|| Link::new(now)))
    }
}

fn addresses_of(
    peer: &NodeId,
    book: &BTreeMap<NodeId, List<Address, ADDRESSES_MAX>>,
    members: &Members,
) -> List<Address, ADDRESSES_MAX> {
    let mut addresses: Vec<Address> = Vec::new();
    let record = members.get(peer).map(|member| member.record.addresses.iter());
    for address in record.into_iter().flatten().chain(book.get(peer).into_iter().flatten()) {
        if !addresses.contains(address) {
            addresses.push(address.clone());
        }
    }
    List::capped(addresses)
}

/// Up to a quarter of `base`, by a random word: so that boards that failed together retry apart.
fn jitter(base: Duration, random: u32) -> Duration {
    base / 4 / 256 * (random >> 24)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::bounded::Text;
    use crate::proto::id::Keypair;

    fn node(nr: u16) -> NodeId {
        let mut seed = [1; 32];
        seed[..2].copy_from_slice(&nr.to_le_bytes());
        Keypair::from_seed(&seed).public()
    }

    /// Found by counting what an idle mesh of fifty sends: every link that was ever made came back half a
    /// minute after it had been closed, for good.
    #[test]
    fn a_link_that_nobody_wants_is_closed_once_and_stays_closed() {
        let (peer, at) = (node(1), Text::capped("/ip4/192.0.2.1/tcp/4711"));
        let (mut links, members) = (Links::default(), Members::default());
        let mut effects = Effects::default();
        let mut step = |links: &mut Links, now| {
            links.handle_timeout(now, &members, &mut effects);
            effects.drain().collect::<Vec<_>>()
        };
        let start = Time(1);
        links.on_connected(peer, &at, start);
        links.on_admitted(peer, start);
        assert_eq!(step(&mut links, start + LINGER - Duration::from_secs(1)), []);
        let later = start + LINGER;
        assert_eq!(step(&mut links, later), [Effect::Disconnect { peer }]);
        assert!(!links.is_usable(&peer));
        assert!(links.on_disconnected(&peer, "closed".to_owned(), later), "it could be used");
        for seconds in 0..120 {
            assert_eq!(step(&mut links, later + Duration::from_secs(seconds)), []);
        }
        assert!(links.get(&peer).is_none(), "it is forgotten");
        assert_eq!(links.poll_timeout(), None);
    }

    /// Clocks differ, so one side closes first: that is no reason for the other one to come back.
    #[test]
    fn a_link_that_only_the_other_side_closed_is_not_dialled_if_nobody_wants_it_here() {
        let (peer, at) = (node(1), Text::capped("/ip4/192.0.2.1/tcp/4711"));
        let (mut links, members) = (Links::default(), Members::default());
        let mut effects = Effects::default();
        links.on_connected(peer, &at, Time(1));
        links.on_admitted(peer, Time(1));
        let closed = Time(1) + LINGER - RETRY_MIN;
        links.on_disconnected(&peer, "closed".to_owned(), closed);
        links.handle_timeout(closed + RETRY_MIN / 2, &members, &mut effects);
        assert_eq!(effects.as_slice(), []);
    }

    #[test]
    fn a_link_that_is_wanted_again_while_it_closes_is_dialled_when_it_is_gone() {
        let (peer, at, start) = (node(1), Text::capped("/ip4/192.0.2.1/tcp/4711"), Time(1));
        let (mut links, members) = (Links::default(), Members::default());
        let mut effects = Effects::default();
        links.on_connected(peer, &at, start);
        let now = start + LINGER;
        links.handle_timeout(now, &members, &mut effects);
        links.want_standing(&BTreeSet::from([peer]), now);
        links.handle_timeout(now, &members, &mut effects);
        assert_eq!(effects.as_slice(), [Effect::Disconnect { peer }]);
        assert!(!links.on_disconnected(&peer, "closed".to_owned(), now), "it never could be used");
        links.handle_timeout(now + RETRY_MIN, &members, &mut effects);
        assert!(matches!(effects.as_slice(), [_, Effect::Connect { .. }]));
    }

    #[test]
    fn addresses_of_nodes_that_nobody_wants_make_room_and_others_stay() {
        let (now, at) = (Time(1), Text::capped("/ip4/192.0.2.1/tcp/4711"));
        let mut links = Links::default();
        let wanted: Vec<NodeId> = (0..BOOK_MAX as u16 / 2).map(node).collect();
        for node in &wanted {
            links.learn(*node, &at);
            links.want_until(*node, now + RETRY_MAX, now);
        }
        let newest = node(500);
        (200..=500).for_each(|nr| links.learn(node(nr), &at));
        assert_eq!(links.book.len(), BOOK_MAX);
        assert!(wanted.iter().chain([&newest]).all(|node| links.book.contains_key(node)));
    }

    /// Found by a reviewer: two members that had refused each other for a while were linked no more.
    #[test]
    fn a_peer_that_is_put_off_is_dialled_later_if_it_is_wanted_still() {
        let (members, peer) = (Members::default(), node(1));
        let (mut links, mut effects) = (Links::default(), Effects::default());
        links.want_standing(&BTreeSet::from([peer]), Time(1));
        let later = Time(1) + RETRY_MAX;
        links.put_off(&peer, later);
        links.handle_timeout(later - RETRY_MIN, &members, &mut effects);
        assert_eq!(effects.as_slice(), []);
        links.handle_timeout(later, &members, &mut effects);
        assert!(matches!(effects.as_slice(), [Effect::Connect { .. }]));
    }

    #[test]
    fn strangers_that_came_and_went_do_not_keep_a_board_out() {
        let (now, at) = (Time(1), Text::capped("/ip4/192.0.2.1/tcp/4711"));
        let mut links = Links::default();
        let member = node(0);
        links.want_standing(&BTreeSet::from([member]), now);
        for nr in 1..=2 * PEERS_MAX as u16 {
            links.on_connected(node(nr), &at, now);
            links.shun(&node(nr), now + Duration::from_secs(60));
            links.on_disconnected(&node(nr), "refused".to_owned(), now);
        }
        assert_eq!(links.peers.len(), PEERS_MAX);
        assert!(links.get(&member).is_some(), "who is wanted for good is not forgotten");
        let honest = node(u16::MAX);
        links.on_connected(honest, &at, now);
        links.on_admitted(honest, now);
        assert!(links.is_usable(&honest));
    }
}
