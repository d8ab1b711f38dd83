//! Coming to life: from the journal to the first hello.
//!
//! Before a node says anything, the mesh it belongs to and a block of incarnations are durable: a
//! restart can then never use an incarnation twice, and never forgets where it belongs.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::{Node, Parts, Phase, REVOKED};
use crate::proto::authority::Authority;
use crate::proto::config::{Belonging, Config};
use crate::proto::copies::Copies;
use crate::proto::directory::Directory;
use crate::proto::effective_time::EffectiveTime;
use crate::proto::failover::Failover;
use crate::proto::holdings::{Held, Holdings};
use crate::proto::id::{Incarnation, NodeId};
use crate::proto::io::{Effect, Event};
use crate::proto::journal::{Durable, Record, Tenure};
use crate::proto::links::Links;
use crate::proto::machine::{Effects, Time};
use crate::proto::members::Members;
use crate::proto::membership::Membership;
use crate::proto::myself::{INCARNATIONS_RESERVED, Myself};
use crate::proto::ops::{Ops, Purpose};
use crate::proto::signed::Signed;
use crate::proto::specs::Specs;
use crate::proto::table::Version;
use crate::proto::ticket::{Revocation, Revoked};
use crate::proto::topics::Topics;
use crate::proto::wire::gossip::Joined;

/// Why a node cannot come to life.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// Neither the journal nor the configuration says where it belongs.
    #[error(
        "this node belongs to no mesh yet: found one with `hedgerow init`, or join one with `hedgerow join TICKET`"
    )]
    NoMesh,
    /// The ticket is for another mesh than the journal's.
    #[error(
        "this node belongs to another mesh than the ticket's: a node never changes its mesh. Use another data folder, or move this one away"
    )]
    OtherMesh,
    /// The node left on purpose and no new ticket was given.
    #[error("this node has left its mesh: join again with `hedgerow join TICKET`")]
    HasLeft,
}

/// Boards that a new ticket names are looked for that long.
const CONTACTS_WANTED: Duration = Duration::from_secs(60);

impl Node {
    /// A node that remembers `durable` and whose store holds the states `held`. `seed` is fresh
    /// randomness for this life.
    ///
    /// Nothing is sent or written before the first [`Node::handle_timeout`].
    ///
    /// # Errors
    /// The node belongs nowhere, or its ticket contradicts its journal.
    pub fn recover(
        config: Config,
        seed: [u8; 32],
        durable: Durable,
        held: Held,
        now: Time,
    ) -> Result<Self, RecoverError> {
        let id = config.keypair.public();
        let floor = floor(&durable, &id);
        let offered = config.ticket.as_ref().map(|ticket| Belonging::by_ticket(ticket, &id));
        let belonging = match (durable.belonging, offered) {
            (Some(known), Some(offered)) if known.mesh != offered.mesh => {
                return Err(RecoverError::OtherMesh);
            }
            // A board that was admitted, or founded the mesh, keeps its credential: the new ticket may be revoked.
            (Some(known), _)
                if !durable.left && (durable.admission.is_some() || is_founders(&known)) =>
            {
                known
            }
            (_, Some(offered)) => offered,
            (Some(_), None) if durable.left => return Err(RecoverError::HasLeft),
            (Some(known), None) => known,
            (None, None) => return Err(RecoverError::NoMesh),
        };
        let membership = Membership::new(config.membership, now);
        let preset = config.preset;
        let mut specs = Specs::default();
        for order in durable.specs.into_values() {
            specs.put(order);
        }
        let authority = Authority::new(config.preset, durable.voter, durable.table, now);
        let admission = durable.admission.filter(|signed| {
            signed.peek().is_ok_and(|a| a.ticket == belonging.credential.ticket.digest())
        });
        let founded = is_founders(&belonging);
        let mut node = Self {
            let_in: founded || admission.is_some(),
            me: Myself::new(config, belonging, admission, durable.incarnation),
            born: now,
            phase: Phase::Fresh,
            clock: EffectiveTime::new(now),
            members: Members::default(),
            links: Links::default(),
            membership,
            topics: Topics::default(),
            admitted: BTreeSet::new(),
            refused: BTreeSet::new(),
            last_refusal: None,
            directory: Directory::new(floor),
            authority,
            failover: Failover::new(preset, durable.grants_ms, now),
            copies: Copies::default(),
            specs,
            holdings: Holdings::new(held, &durable.pinned),
            ops: Ops::default(),
            bootstrap_at: now,
            departure: super::departure::Departure::default(),
            called_at: now,
            stalls: Default::default(),
            rng: ChaCha8Rng::from_seed(seed),
        };
        node.let_in |= node.is_founder();
        node.recall(durable.members.into_values(), durable.revocations, now);
        node.recall_assignments(durable.assigned.into_values(), now);
        Ok(node)
    }

    /// What was running when this node stopped may run still, under its shims.
    fn recall_assignments(&mut self, tenures: impl Iterator<Item = Tenure>, now: Time) {
        let mut out = Effects::default();
        let (Parts { failover, .. }, mut turn) = self.turn(now, &mut out);
        for tenure in tenures {
            failover.recall(&mut turn, tenure);
        }
    }

    /// Whether this node founded the mesh.
    fn is_founder(&self) -> bool {
        is_founders(&self.me.belonging)
    }

    fn recall(
        &mut self,
        members: impl Iterator<Item = Joined>,
        revocations: BTreeMap<Revoked, Signed<Revocation>>,
        now: Time,
    ) {
        for (target, signed) in revocations {
            self.members.revoke(target, signed);
        }
        let mut out = Effects::default();
        let (Parts { membership, .. }, mut turn) = self.turn(now, &mut out);
        for joined in members {
            membership.recall(&mut turn, joined);
        }
    }

    /// Makes durable what must be before the first word is said.
    pub(super) fn start(&mut self, out: &mut Effects) {
        self.phase = Phase::Starting;
        let belongs = Record::Belongs {
            root: self.me.belonging.root,
            credential: self.me.belonging.credential.clone(),
        };
        self.ops.persist(belongs, Purpose::Memory, out);
        let upto = Incarnation(self.me.record().incarnation.0 + INCARNATIONS_RESERVED);
        let lease_ms = u32::try_from(self.me.config().preset.lease.as_millis()).unwrap_or(u32::MAX);
        self.ops.persist(Record::Grants { lease_ms }, Purpose::Memory, out);
        // The last of these: once it is durable, so are the others.
        let purpose = Purpose::Incarnations(upto, None);
        self.ops.persist(Record::Incarnations { upto }, purpose, out);
    }

    /// The first records are durable: take part.
    pub(super) fn begin(&mut self, now: Time, out: &mut Effects) {
        if self.members.is_revoked(&Revoked::Node(self.me.id())) {
            return self.halt(REVOKED.to_owned(), out);
        }
        self.phase = Phase::Running;
        self.bootstrap_at = now;
        let founder = self.is_founder();
        let (Parts { membership, authority, .. }, mut turn) = self.turn(now, out);
        membership.announce_self(&mut turn);
        if founder {
            authority.found(&mut turn);
        }
        out.push(Effect::Event(Event::Started {
            node: self.me.id(),
            mesh: self.me.belonging.mesh,
            incarnation: self.me.record().incarnation.0,
        }));
        for peer in self.links.connected() {
            out.push(Effect::Send { to: peer, message: self.me.hello(false).into() });
        }
        self.look_for_contacts(now);
    }

    /// A ticket that was given for this life: a member that has lost the addresses of all others, or those of a part
    /// of the mesh, is led back by it.
    fn look_for_contacts(&mut self, now: Time) {
        let Some(ticket) = &self.me.config().ticket else { return };
        for contact in ticket.body().bootstrap {
            self.look_for(&contact, now + CONTACTS_WANTED, now);
        }
    }
}

/// Whether this is the belonging of the node that founded the mesh: its ticket names nobody to contact first.
fn is_founders(belonging: &Belonging) -> bool {
    belonging.credential.ticket.peek().is_ok_and(|body| body.bootstrap.is_empty())
}

/// The version of the table below which this board believes no announcement: it has acted on that one. What it
/// did last may not have come to the disk before a power cut, but what the only voter has accepted was chosen
/// by that alone, and it was told nobody else first.
fn floor(durable: &Durable, id: &NodeId) -> Version {
    let own = durable.table.as_ref().filter(|table| table.electorate().iter().eq([id]));
    own.map_or(durable.saw, |table| table.version.max(durable.saw))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::bounded::List;
    use crate::proto::id::{Keypair, Term};
    use crate::proto::table::{Generation, Table};

    /// Found by netsim: a power cut took the row from a sole voter that had chosen it and begun to run it, and
    /// it granted the former right to the former active, whose older table it believed.
    #[test]
    fn only_what_the_only_voter_has_accepted_is_a_floor() {
        let [me, other] = [1, 2].map(|byte| Keypair::from_seed(&[byte; 32]).public());
        let version = |number| Version { generation: Generation(0), term: Term(1), number };
        let of = |voters: &[NodeId], number, saw| {
            let voters = List::capped(voters.iter().copied());
            let table = Table { version: version(number), voters, ..Table::default() };
            let durable = Durable { table: Some(table), saw: version(saw), ..Durable::default() };
            floor(&durable, &me).number
        };
        assert_eq!(of(&[me], 13, 11), 13);
        assert_eq!(of(&[me], 11, 13), 13);
        assert_eq!(of(&[me, other], 13, 11), 11, "perhaps it was never chosen");
        assert_eq!(of(&[other], 13, 11), 11);
        assert_eq!(floor(&Durable::default(), &me), Version::default());
    }

    /// Found by a reviewer: what others are to choose, too, may be said again in a later term before it is chosen.
    #[test]
    fn what_the_only_voter_chose_before_others_joined_it_stays_a_floor() {
        let [me, other] = [1, 2].map(|byte| Keypair::from_seed(&[byte; 32]).public());
        let voters = |ids: &[NodeId]| List::capped(ids.iter().copied());
        let of = |me: NodeId, term, number, incoming| {
            let version = Version { generation: Generation(0), term: Term(term), number };
            let table = Table { version, voters: voters(&[me]), incoming, ..Table::default() };
            Record::Table(Box::new(table))
        };
        let floor_of = |voter| {
            let mut durable = Durable::default();
            let joins = Some(voters(&[voter, other]));
            let tables =
                [of(voter, 1, 5, None), of(voter, 1, 6, joins.clone()), of(voter, 2, 7, joins)];
            for record in [Record::Identity(me)].into_iter().chain(tables) {
                durable.apply(record);
            }
            let mut again = Durable::default();
            durable.records().into_iter().for_each(|record| again.apply(record));
            assert_eq!(again.saw, durable.saw);
            floor(&again, &me)
        };
        let chosen = Version { generation: Generation(0), term: Term(1), number: 5 };
        assert_eq!(floor_of(me), chosen);
        assert_eq!(floor_of(other), Version::default());
    }
}
