//! Connections over a relay: where a NAT lets no dial in, a board that both ends reach passes everything on.
//!
//! What is relayed takes both hops and [`DETOUR`], is lost on both, and is held while either is cut or the
//! relay's process stands still; when that process ends so does the connection. It is never replaced by a
//! direct one, as was measured behind symmetric NATs.
//!
//! The target's reservation is any connection of it to the relay that lives when the dial comes. That the
//! connection to the relay ends later does not end what was relayed over it.

use super::{Conn, Net};
use crate::queue::{BoardIndex, ConnIndex};
use crate::time::{MILLI, Nanos};

/// What a relay adds to both hops: measured with rust-libp2p, under a millisecond.
pub(crate) const DETOUR: Nanos = MILLI;

impl Conn {
    /// From board to board, one way: one hop, or two.
    pub(super) fn hops(&self, way: u8) -> impl Iterator<Item = (BoardIndex, BoardIndex)> + use<> {
        let (from, to) = (self.ends[usize::from(way)].board, self.ends[usize::from(1 - way)].board);
        let first = (from, self.via.unwrap_or(to));
        std::iter::once(first).chain(self.via.map(|via| (via, to)))
    }
}

impl Net {
    /// Where the packets of an end go, and where those that come to it come from.
    pub(crate) fn hop(&self, conn: ConnIndex, end: u8) -> BoardIndex {
        let conn = &self.conns[conn as usize];
        conn.via.unwrap_or(conn.ends[usize::from(1 - end)].board)
    }

    /// From board to board, one way.
    pub(crate) fn hops(&self, conn: ConnIndex, way: u8) -> Vec<(BoardIndex, BoardIndex)> {
        self.conns[conn as usize].hops(way).collect()
    }

    /// How long the way is in the mean, ns.
    pub(super) fn length(&self, mut hops: impl Iterator<Item = (BoardIndex, BoardIndex)>) -> Nanos {
        let first = hops.next().map_or(0, |(from, to)| self.base(from, to));
        first + hops.map(|(from, to)| self.base(from, to) + DETOUR).sum::<Nanos>()
    }

    /// Connections that this board relays.
    pub(crate) fn relayed_by(&self, board: BoardIndex) -> Vec<ConnIndex> {
        let relays = |conn: &ConnIndex| self.conns[*conn as usize].via == Some(board);
        self.live.iter().copied().filter(relays).collect()
    }

    /// Whether two boards have a connection over which packets pass both ways, and by whom: themselves, or a relay.
    pub(crate) fn joined(&self, a: BoardIndex, b: BoardIndex) -> Option<Option<BoardIndex>> {
        let joins = |conn: &&ConnIndex| {
            let ends = &self.conns[**conn as usize].ends;
            let boards = [ends[0].board, ends[1].board];
            (boards == [a, b] || boards == [b, a])
                && ends.iter().all(|end| end.open)
                && (0..2).all(|way| !self.is_blocked(**conn, way))
        };
        let newest = self.live.iter().rev().find(joins)?;
        Some(self.conns[*newest as usize].via)
    }

    /// Whether bulk does not pass between two boards now. It takes the way of their connection; without any NAT a
    /// new one comes about at once.
    pub(crate) fn is_barred(&self, a: BoardIndex, b: BoardIndex) -> bool {
        if !self.nats.are_there() {
            return self.is_cut(a, b) || self.is_cut(b, a) || self.weather.is_clogged(a, b);
        }
        self.joined(a, b).is_none()
    }

    /// How long one packet of bulk takes, by 64 random bits.
    pub(crate) fn one_way_by_relay(&self, a: BoardIndex, b: BoardIndex, bits: u64) -> Nanos {
        let via = if self.nats.are_there() { self.joined(a, b).flatten() } else { None };
        match via {
            None => self.one_way(a, b, bits),
            Some(via) => {
                self.one_way(a, via, bits) + self.one_way(via, b, bits.rotate_left(32)) + DETOUR
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::law::LinkLaw;
    use crate::net::{Arrival, Load};
    use crate::queue::{Due, Queue};

    const RELAY: BoardIndex = 2;

    fn net(via: Option<BoardIndex>, loss: u64) -> (Net, ConnIndex, Queue) {
        let mut net = Net::new(3, LinkLaw::Wan, loss, 3);
        net.powered = vec![true; 3];
        let node = |board| (board, hedgerow::proto::id::PublicKey([board as u8; 32]));
        let conn = net.connect(node(0), node(1), via);
        (net, conn, Queue::default())
    }

    /// What comes of one frame from board 0: when it is at board 1, or none.
    fn arrives(net: &mut Net, conn: ConnIndex, queue: &mut Queue, now: Nanos) -> Option<Nanos> {
        net.send(now, conn, 0, Load::Frame(vec![1]), queue);
        while let Some((at, due)) = queue.pop(now + 5_000 * MILLI) {
            let Due::Arrive(conn, way) = due else { continue };
            if let Arrival::Load(_) = net.arrive(at, conn, way, queue) {
                return Some(at);
            }
        }
        None
    }

    #[test]
    fn what_is_relayed_takes_both_hops_and_a_millisecond() {
        let (mut net, conn, mut queue) = net(Some(RELAY), 0);
        let least = net.base(0, RELAY) + net.base(RELAY, 1) + MILLI;
        assert_eq!(net.length(net.conns[conn as usize].hops(0)), least);
        let takes = arrives(&mut net, conn, &mut queue, 0).unwrap();
        assert!((least..least + 20 * MILLI).contains(&takes), "{takes} of {least}");
        net.weather.delay(RELAY, 1, 500 * MILLI);
        let later = arrives(&mut net, conn, &mut queue, 1000 * MILLI).unwrap();
        assert!(later > 1500 * MILLI, "{later}");
    }

    #[test]
    fn a_cut_of_either_hop_and_a_stopped_relay_hold_it_and_the_straight_way_does_not_matter() {
        let hold: [fn(&mut Net); 4] = [
            |net| net.cut(0, RELAY, true),
            |net| net.cut(RELAY, 1, true),
            |net| net.paused[usize::from(RELAY)] = true,
            |net| net.powered[usize::from(RELAY)] = false,
        ];
        for hold in hold {
            let (mut net, conn, mut queue) = net(Some(RELAY), 0);
            hold(&mut net);
            assert_eq!(arrives(&mut net, conn, &mut queue, 0), None);
            assert_eq!(net.joined(0, 1), None);
        }
        let (mut net, conn, mut queue) = net(Some(RELAY), 0);
        net.cut(0, 1, true);
        net.cut(1, RELAY, true);
        assert!(arrives(&mut net, conn, &mut queue, 0).is_some());
    }

    #[test]
    fn it_is_lost_on_both_hops() {
        let lost = |via| {
            let (mut net, conn, mut queue) = net(via, 20);
            (0..2000).for_each(|n| {
                net.send(n * MILLI, conn, 0, Load::Frame(vec![1]), &mut queue);
            });
            net.lost
        };
        let (straight, relayed) = (lost(None), lost(Some(RELAY)));
        // 0.2 / 0.8 and 0.36 / 0.64 of a message.
        assert!((420..580).contains(&straight) && (1000..1250).contains(&relayed), "{relayed}");
    }

    #[test]
    fn a_relay_knows_what_it_relays() {
        let (net, conn, _) = net(Some(RELAY), 0);
        assert_eq!(net.relayed_by(RELAY), [conn]);
        assert_eq!((net.relayed_by(1), net.joined(1, 0)), (Vec::new(), Some(Some(RELAY))));
    }
}
