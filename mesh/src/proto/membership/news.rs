//! News: hard facts about members and about the table, told to everyone once.
//!
//! A fact that is news here is passed on over every link but the one that it came from; what is lost
//! on the way is repaired by the digest.

use core::time::Duration;
use std::collections::BTreeSet;

use super::{Membership, Notice};
use crate::proto::admission;
use crate::proto::bounded::List;
use crate::proto::directory::Announcement;
use crate::proto::id::NodeId;
use crate::proto::io::Event;
use crate::proto::members::Member;
use crate::proto::order::Serving;
use crate::proto::record::{Leave, NodeRecord};
use crate::proto::signed::Signed;
use crate::proto::table::{Row, Table};
use crate::proto::ticket::{Revocation, Revoked};
use crate::proto::turn::Turn;
use crate::proto::wire::gossip::{Fact, Facts, Joined, Standing};

/// The link to a board that a change concerns is wanted that long.
const CONCERNED: Duration = Duration::from_secs(5);

impl Membership {
    pub(crate) fn on_facts(&mut self, turn: &mut Turn<'_>, from: NodeId, facts: Facts) {
        for fact in facts.facts {
            match fact {
                Fact::Joined(joined) => self.on_joined(turn, from, *joined),
                Fact::Alive(signed) => self.on_alive(turn, from, &signed),
                Fact::Alert { subject, incarnation, by } => {
                    self.on_alert(turn, from, subject, incarnation, by);
                }
                Fact::Down { subject, incarnation } => {
                    self.on_down(turn, from, subject, incarnation);
                }
                Fact::Left(signed) => self.on_left(turn, from, &signed),
                Fact::Revoked(signed) => self.on_revoked(turn, Some(from), &signed),
                Fact::Chosen(announcement) => self.announce(turn, *announcement, Some(from)),
                Fact::Serving(signed) => self.on_serving(turn, Some(from), &signed),
            }
        }
    }

    /// This node's own record changed: put it into the list and tell everyone.
    pub(crate) fn announce_self(&mut self, turn: &mut Turn<'_>) {
        let first = turn.members.get(&turn.me.id()).is_none();
        let member = Member {
            record: turn.me.record().clone(),
            signed: turn.me.signed().clone(),
            credential: turn.me.belonging.credential.clone(),
            admission: turn.me.admission.clone(),
            standing: Standing::Up,
            since: turn.now,
        };
        if turn.members.put(member).is_err() {
            turn.misbehaved(turn.me.id(), "the member list is full: this node is not in it");
        }
        self.rings_stale |= first;
        let signed = Box::new(turn.me.signed().clone());
        self.flood(turn, &Fact::Alive(signed), None);
    }

    /// A table was chosen: keeps it if it is news, and tells everyone.
    pub(crate) fn announce(
        &mut self,
        turn: &mut Turn<'_>,
        announcement: Announcement,
        from: Option<NodeId>,
    ) {
        let term = announcement.table.version.term;
        let before = turn.directory.newest().map(|newest| newest.table.version.term);
        let master = announcement.master;
        // Only the master is the first to know. Whom it concerns is told at once and not only by way of the
        // rings: where most boards are gone at once, that way ends at the next of them.
        let concerned = match from {
            None => concerned(turn, &announcement.table),
            Some(_) => BTreeSet::new(),
        };
        if !turn.directory.put(announcement.clone()) {
            return;
        }
        if before != Some(term) {
            let name = turn.name_of(&master);
            turn.event(Event::MasterIs { node: master, name, term: term.0 });
        }
        self.notices.push(Notice::Chosen);
        let fact = Fact::Chosen(Box::new(announcement));
        let neighbours = self.rings.neighbours(&turn.me.id());
        for node in concerned.difference(&neighbours) {
            // Without a link: once there is one, both compare what they know.
            turn.links.want_until(*node, turn.now + CONCERNED, turn.now);
            if turn.links.is_usable(node) {
                self.outbox.push(*node, fact.clone(), turn.now);
            }
        }
        self.flood(turn, &fact, from);
    }

    /// Sends one peer the newest table: what it said rests on an older one.
    pub(crate) fn tell_table(&mut self, turn: &mut Turn<'_>, to: NodeId) {
        let Some(newest) = turn.directory.newest() else { return };
        let version = newest.table.version;
        let known = self
            .told
            .get(&to)
            .is_some_and(|(told, at)| *told == version && turn.now.since(*at) < super::TELL_AGAIN);
        let fact = Fact::Chosen(Box::new(newest.clone()));
        if !known && turn.send(to, Facts { facts: List::capped([fact]) }) {
            self.told.insert(to, (version, turn.now));
        }
    }

    /// An active says where it serves.
    pub(crate) fn on_serving(
        &mut self,
        turn: &mut Turn<'_>,
        from: Option<NodeId>,
        signed: &Signed<Serving>,
    ) {
        let Ok(claimed) = signed.peek() else { return };
        if !turn.members.is_welcome(&claimed.node) || turn.directory.knows_serving(&claimed) {
            return;
        }
        let Ok(serving) = signed.open(&claimed.node) else {
            let who = from.unwrap_or_else(|| turn.me.id());
            return turn.misbehaved(who, "forged where an instance serves");
        };
        if turn.directory.put_serving(serving, signed.clone()) {
            self.flood(turn, &Fact::Serving(Box::new(signed.clone())), from);
        }
    }

    /// Puts in a member that this node remembers from an earlier life.
    pub(crate) fn recall(&mut self, turn: &mut Turn<'_>, joined: Joined) {
        if let Ok((record, _)) =
            admission::verify(&joined, turn.me.config().cell, turn.me, turn.members)
            && !turn.members.is_revoked(&Revoked::Node(record.node))
        {
            self.put(turn, record, joined);
            self.rings_stale = true;
        }
    }

    /// Tells everyone that this node leaves. The news is sent at once.
    pub(crate) fn leave(&mut self, turn: &mut Turn<'_>) {
        let fact = Fact::Left(Box::new(turn.me.leave()));
        let peers: Vec<NodeId> = turn.links.usable().copied().collect();
        for peer in peers {
            turn.send(peer, Facts { facts: List::capped([fact.clone()]) });
        }
    }

    fn on_joined(&mut self, turn: &mut Turn<'_>, from: NodeId, joined: Joined) {
        let Ok(claimed) = joined.record.peek() else {
            return turn.misbehaved(from, "a record that cannot be read");
        };
        let node = claimed.node;
        if node == turn.me.id() || turn.members.is_revoked(&Revoked::Node(node)) {
            return;
        }
        if turn.members.get(&node).is_some_and(|m| m.incarnation() >= claimed.incarnation) {
            return;
        }
        match admission::verify(&joined, turn.me.config().cell, turn.me, turn.members) {
            Ok((record, _)) => self.accept(turn, record, joined, Some(from)),
            Err(refusal) => {
                turn.misbehaved(
                    from,
                    format!("vouched for {}: {}", node.short(), refusal.advice()),
                );
            }
        }
    }

    fn on_alive(&mut self, turn: &mut Turn<'_>, from: NodeId, signed: &Signed<NodeRecord>) {
        let Ok(claimed) = signed.peek() else {
            return turn.misbehaved(from, "a record that cannot be read");
        };
        // Strangers come as `Joined`; the digest fetches that when this overtook it.
        let Some(member) = turn.members.get(&claimed.node) else { return };
        if claimed.node == turn.me.id() || member.incarnation() >= claimed.incarnation {
            return;
        }
        let Ok(record) = signed.open(&claimed.node) else {
            return turn.misbehaved(from, format!("forged a record of {}", claimed.node.short()));
        };
        let joined = Joined { record: signed.clone(), ..member.joined() };
        self.accept(turn, record, joined, Some(from));
    }

    /// A verified record with a higher incarnation than any known: the member lives.
    pub(super) fn accept(
        &mut self,
        turn: &mut Turn<'_>,
        record: NodeRecord,
        joined: Joined,
        from: Option<NodeId>,
    ) {
        let node = record.node;
        let before = turn.members.get(&node);
        // Whoever was revoked lives on, and those who have not heard yet pass on what it says of itself.
        if before.is_some_and(|m| m.incarnation() >= record.incarnation)
            || turn.members.is_revoked(&Revoked::Node(node))
        {
            return;
        }
        let known = before.is_some();
        let was_up = before.is_some_and(|member| member.standing == Standing::Up);
        let moved = before.is_none_or(|member| member.record.addresses != record.addresses);
        let (name, incarnation) = (record.name.to_string(), record.incarnation.0);
        let fact = match known {
            true => Fact::Alive(Box::new(joined.record.clone())),
            false => Fact::Joined(Box::new(joined.clone())),
        };
        if !self.put(turn, record, joined.clone()) {
            return;
        }
        if self.suspicions.clear(&node) {
            turn.event(Event::Refuted { node });
        }
        if let Some(watched) = self.watches.get_mut(&node) {
            watched.watch.renew(turn.now);
        }
        if !was_up {
            self.rings_stale = true;
            self.leaves.remove(&node);
            turn.event(Event::MemberUp { node, name, incarnation });
        }
        if moved {
            self.notices.push(Notice::Remember(Box::new(joined)));
        }
        self.flood(turn, &fact, from);
    }

    pub(super) fn put(&mut self, turn: &mut Turn<'_>, record: NodeRecord, joined: Joined) -> bool {
        let node = record.node;
        let member = Member {
            record,
            signed: joined.record,
            credential: joined.credential,
            admission: joined.admission,
            standing: Standing::Up,
            since: turn.now,
        };
        let fits = turn.members.put(member).is_ok();
        if !fits {
            turn.misbehaved(node, "the member list is full: it is not taken in");
        }
        fits
    }

    fn on_left(&mut self, turn: &mut Turn<'_>, from: NodeId, signed: &Signed<Leave>) {
        let Ok(claimed) = signed.peek() else {
            return turn.misbehaved(from, "a leave that cannot be read");
        };
        let Some(member) = turn.members.get(&claimed.node) else { return };
        if member.standing == Standing::Left || member.incarnation() != claimed.incarnation {
            return;
        }
        if signed.open(&claimed.node).is_err() {
            return turn.misbehaved(from, format!("forged a leave of {}", claimed.node.short()));
        }
        let name = turn.name_of(&claimed.node);
        turn.members.set_standing(&claimed.node, Standing::Left, turn.now);
        self.suspicions.clear(&claimed.node);
        self.leaves.insert(claimed.node, signed.clone());
        self.rings_stale = true;
        turn.event(Event::MemberLeft { node: claimed.node, name });
        self.flood(turn, &Fact::Left(Box::new(signed.clone())), Some(from));
    }

    /// Takes in a revocation, from a peer or from the operator of this node.
    pub(crate) fn on_revoked(
        &mut self,
        turn: &mut Turn<'_>,
        from: Option<NodeId>,
        signed: &Signed<Revocation>,
    ) {
        let Some(revocation) = signed.by_root(&turn.me.belonging.root) else {
            let who = from.unwrap_or_else(|| turn.me.id());
            return turn.misbehaved(who, "a revocation that root did not sign");
        };
        if !turn.members.revoke(revocation.target, signed.clone()) {
            return;
        }
        if let Revoked::Node(node) = revocation.target {
            self.suspicions.clear(&node);
            self.rings_stale |= turn.members.set_standing(&node, Standing::Left, turn.now);
            turn.directory.forget_serving(&node);
        }
        self.notices.push(Notice::Revoked(revocation, Box::new(signed.clone())));
        self.flood(turn, &Fact::Revoked(Box::new(signed.clone())), from);
    }

    /// Tells every neighbour but the one it came from.
    pub(super) fn flood(&mut self, turn: &mut Turn<'_>, fact: &Fact, from: Option<NodeId>) {
        for neighbour in self.rings.neighbours(&turn.me.id()) {
            if Some(neighbour) != from && turn.links.is_usable(&neighbour) {
                self.outbox.push(neighbour, fact.clone(), turn.now);
            }
        }
    }
}

/// The other boards of rows that are new or changed in a table.
fn concerned(turn: &Turn<'_>, table: &Table) -> BTreeSet<NodeId> {
    let Some(before) = turn.directory.newest() else { return BTreeSet::new() };
    let is_news =
        |row: &&Row| before.table.row(&row.instance()).is_none_or(|known| known.age() != row.age());
    let parties = |row: &Row| [Some(row.active), row.standby, row.fill].into_iter().flatten();
    let mut concerned: BTreeSet<NodeId> =
        table.rows.iter().filter(is_news).flat_map(parties).collect();
    concerned.remove(&turn.me.id());
    concerned
}
