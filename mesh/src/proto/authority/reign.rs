//! The reign: heartbeats, the lease, the commit of the table.

use core::time::Duration;
use std::collections::BTreeMap;

use super::{Authority, Role};
use crate::proto::directory::Announcement;
use crate::proto::id::NodeId;
use crate::proto::io::Event;
use crate::proto::machine::Time;
use crate::proto::promises::lease_end;
use crate::proto::table::{Table, Version, Voters};
use crate::proto::turn::Turn;
use crate::proto::wire::authority::{App, AppOk};

/// One version of the table is not sent to the same board more often than that while it has not confirmed it.
const RESEND: Duration = Duration::from_millis(500);
/// The master keeps links to its electorate by asking for them again and again.
const LINK_ERRAND: Duration = Duration::from_secs(30);

/// What a master knows of those who keep it in office.
#[derive(Debug)]
pub(super) struct Reign {
    me: NodeId,
    since: Time,
    next: Time,
    /// Without a lease by then it was elected in vain.
    deadline: Time,
    /// The latest end of any lease it has believed in: binds it after stepping down (S2).
    issued: Time,
    peers: BTreeMap<NodeId, Peer>,
    /// Since when this board is to decide no more.
    pub(super) makes_way_since: Option<Time>,
    /// Boards that receive the table in order to become voters.
    pub(super) learners: Vec<NodeId>,
}

#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Peer {
    /// When the newest heartbeat was sent that it has answered.
    acked: Option<Time>,
    /// When it was heard last.
    pub(super) heard: Option<Time>,
    /// The newest table that is durable there.
    pub(super) durable: Version,
    table_sent: Option<(Version, Time)>,
}

impl Reign {
    pub(super) fn new(me: NodeId, now: Time, lease: Duration) -> Self {
        Self {
            me,
            since: now,
            next: now,
            deadline: now + lease * 2,
            issued: now,
            peers: BTreeMap::new(),
            makes_way_since: None,
            learners: Vec::new(),
        }
    }

    pub(super) fn since(&self) -> Time {
        self.since
    }

    pub(super) fn next_at(&self) -> Time {
        self.next
    }

    pub(super) fn issued(&self) -> Time {
        self.issued
    }

    pub(super) fn peer(&self, node: &NodeId) -> Peer {
        self.peers.get(node).copied().unwrap_or_default()
    }

    /// When the lease ends that the electorate of `table` has confirmed. While the voters change, the
    /// earlier of both sides.
    pub(super) fn lease_end(&self, table: &Table, now: Time, lease: Duration) -> Option<Time> {
        let end = |side: &Voters| {
            let acked = |node: &NodeId| match *node == self.me {
                true => Some(now),
                false => self.peer(node).acked,
            };
            let mut sent: Vec<Option<Time>> = side.iter().map(acked).collect();
            lease_end(&mut sent, lease)
        };
        let voters = end(&table.voters)?;
        match &table.incoming {
            None => Some(voters),
            Some(incoming) => Some(voters.min(end(incoming)?)),
        }
    }
}

impl Authority {
    /// Another heartbeat is due, or the reign has just begun.
    pub(super) fn reign_on(&mut self, turn: &mut Turn<'_>) {
        self.note_peers(turn);
        self.note_issued(turn);
        let Role::Leader(reign) = &mut self.role else { return };
        let end = reign.lease_end(&self.table, turn.now, self.preset.lease).unwrap_or_default();
        if turn.now >= end.max(reign.deadline) {
            return self.step_down(turn, "a majority of the voters has not answered in time");
        }
        if turn.now < reign.next {
            return;
        }
        reign.next = turn.now + self.preset.heartbeat;
        self.want_specs(turn);
        self.govern(turn);
        // When the last version was chosen this master may have had no lease for a moment.
        self.propose_waiting(turn);
        self.send_heartbeats(turn);
    }

    pub(crate) fn on_app_ok(&mut self, turn: &mut Turn<'_>, from: NodeId, ok: AppOk) {
        if !self.heeds(turn, from, ok.term) {
            return;
        }
        if ok.term > self.term {
            return self.enter_term(turn, ok.term);
        }
        let Role::Leader(reign) = &mut self.role else { return };
        if ok.term < self.term {
            return;
        }
        let Some(peer) = reign.peers.get_mut(&from) else { return };
        if Time(ok.sent) > turn.now || ok.durable > self.table.version {
            return turn.misbehaved(from, "an answer to a heartbeat that was never sent");
        }
        peer.heard = Some(turn.now);
        peer.durable = peer.durable.max(ok.durable);
        if ok.sent != 0 {
            peer.acked = peer.acked.max(Some(Time(ok.sent)));
        }
        self.note_issued(turn);
        self.count_acks(turn);
    }

    /// Looks whether the table is chosen by now.
    pub(super) fn count_acks(&mut self, turn: &mut Turn<'_>) {
        let me = turn.me.id();
        let version = self.table.version;
        let Role::Leader(reign) = &self.role else { return };
        let durable = |node: &NodeId| match *node == me {
            true => self.durable >= version,
            false => reign.peer(node).durable >= version,
        };
        if self.committed >= version || !self.table.is_majority(durable) {
            return;
        }
        self.committed = version;
        turn.event(Event::TableChosen {
            term: version.term.0,
            number: version.number,
            voters: u16::try_from(self.table.voters.len()).unwrap_or(u16::MAX),
        });
        self.announcement = Some(Announcement { master: me, table: self.table.clone() });
        self.settle_changes();
        self.finish_voter_change(turn);
        self.propose_waiting(turn);
    }

    /// Puts a new version of the table on its way. One at a time.
    pub(super) fn propose(&mut self, turn: &mut Turn<'_>, change: impl FnOnce(&mut Table)) {
        debug_assert_eq!(self.committed, self.table.version, "one update in flight");
        change(&mut self.table);
        self.table.version.number += 1;
        self.persist_table(turn);
        self.note_peers(turn);
        self.send_heartbeats(turn);
    }

    fn send_heartbeats(&mut self, turn: &mut Turn<'_>) {
        let Role::Leader(reign) = &mut self.role else { return };
        let lease_ms = u32::try_from(self.preset.lease.as_millis()).unwrap_or(u32::MAX);
        for (node, peer) in &mut reign.peers {
            turn.links.want_until(*node, turn.now + LINK_ERRAND, turn.now);
            // Whoever has the last one gets the next at once. Tables do not pile up before a slow disk.
            let due = peer.table_sent.is_none_or(|(version, sent)| {
                peer.durable >= version || turn.now.since(sent) >= RESEND
            });
            let lacks = peer.durable < self.table.version && due;
            if lacks && turn.links.is_usable(node) {
                peer.table_sent = Some((self.table.version, turn.now));
            }
            let app = App {
                generation: self.table.version.generation,
                term: self.term,
                sent: turn.now.0,
                lease_ms,
                committed: self.committed,
                table: lacks.then(|| Box::new(self.table.clone())),
            };
            turn.send(*node, app);
        }
    }

    pub(super) fn want(&self, turn: &mut Turn<'_>, node: NodeId) {
        turn.links.want_until(node, turn.now + LINK_ERRAND, turn.now);
    }

    /// Keeps an account of exactly those that matter: the electorate and the learners.
    fn note_peers(&mut self, turn: &Turn<'_>) {
        let me = turn.me.id();
        let mut wanted = self.table.electorate();
        let Role::Leader(reign) = &mut self.role else { return };
        wanted.extend(reign.learners.iter().copied());
        wanted.remove(&me);
        reign.peers.retain(|node, _| wanted.contains(node));
        for node in wanted {
            reign.peers.entry(node).or_default();
        }
    }

    fn note_issued(&mut self, turn: &Turn<'_>) {
        let lease = self.preset.lease;
        let Role::Leader(reign) = &mut self.role else { return };
        if let Some(end) = reign.lease_end(&self.table, turn.now, lease) {
            reign.issued = reign.issued.max(end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Remembered;
    use super::*;
    use crate::proto::bounded::List;
    use crate::proto::promises::Preset;
    use crate::proto::turn::samples::{Surroundings, at};

    /// Elected by a joint table that ended its own vote, it puts itself in the place of a voter that is gone.
    #[test]
    fn a_master_without_a_vote_can_get_one() {
        let mut around = Surroundings::new();
        let me = around.joins();
        let (one, two) = (around.peer(1), around.peer(2));
        let gone = crate::proto::id::PublicKey([9; 32]);
        let mut table = Table { voters: List::capped([one, two, gone]), ..Table::default() };
        table.version.number = 5;
        let version = table.version;
        let mut authority = Authority::new(Preset::LAN, Remembered::default(), Some(table), at(0));
        authority.committed = version;
        let mut reign = Reign::new(me, at(0), Preset::LAN.lease);
        let answers =
            Peer { acked: Some(at(90)), heard: Some(at(100)), durable: version, table_sent: None };
        reign.peers = BTreeMap::from([(one, answers), (two, answers)]);
        authority.role = Role::Leader(Box::new(reign));
        authority.govern(&mut around.turn(100));
        let incoming = authority.table.incoming.as_ref().expect("a change of voters");
        assert!([one, two, me].iter().all(|node| incoming.contains(node)), "{incoming:?}");
    }

    /// The answer that chose the version before came so late that there was no lease any more just then.
    #[test]
    fn a_change_that_waited_is_made_once_there_is_a_lease_again() {
        let mut around = Surroundings::new();
        let me = around.joins();
        let (one, two) = (around.peer(1), around.peer(2));
        let mut table = Table { voters: List::capped([me, one, two]), ..Table::default() };
        table.version.number = 5;
        let version = table.version;
        let mut authority = Authority::new(Preset::LAN, Remembered::default(), Some(table), at(0));
        authority.committed = version;
        let lease = u64::try_from(Preset::LAN.lease.as_millis()).expect("it is short");
        let acked = |authority: &mut Authority, ms: u64| {
            let answers = Peer {
                acked: Some(at(ms)),
                heard: Some(at(ms)),
                durable: version,
                table_sent: None,
            };
            let Role::Leader(reign) = &mut authority.role else { panic!("it reigns") };
            reign.peers = BTreeMap::from([(one, answers), (two, answers)]);
        };
        authority.role = Role::Leader(Box::new(Reign::new(me, at(0), Preset::LAN.lease)));
        let what = super::super::changes::What::Drain { node: two, drained: true };
        authority.waiting.push(super::super::changes::Change { id: 1, what, order: None });
        acked(&mut authority, 0);
        let late = lease + 1;
        authority.propose_waiting(&mut around.turn(late));
        assert_eq!(authority.table.version, version, "who has no lease changes nothing");
        acked(&mut authority, late + 10);
        authority.reign_on(&mut around.turn(late + 20));
        assert!(authority.table.is_drained(&two));
    }
}
