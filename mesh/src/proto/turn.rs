//! What a part works with during one call.

use rand_chacha::ChaCha8Rng;

use super::directory::Directory;
use super::holdings::Holdings;
use super::id::NodeId;
use super::io::{Effect, Event};
use super::journal::Record;
use super::links::Links;
use super::machine::{Effects, Time};
use super::members::Members;
use super::myself::Myself;
use super::ops::{Ops, Purpose};
use super::specs::Specs;
use super::wire::Message;

/// The surroundings of one call: read by every part. `members` and `directory` have one writer,
/// `membership`, and `holdings` has `copies`; of `links` the others use `want_until` only.
pub(crate) struct Turn<'a> {
    pub(crate) now: Time,
    /// Effective time, unix seconds.
    pub(crate) unix: u64,
    pub(crate) me: &'a Myself,
    pub(crate) members: &'a mut Members,
    pub(crate) links: &'a mut Links,
    pub(crate) directory: &'a mut Directory,
    pub(crate) specs: &'a mut Specs,
    pub(crate) holdings: &'a mut Holdings,
    pub(crate) ops: &'a mut Ops,
    pub(crate) rng: &'a mut ChaCha8Rng,
    pub(crate) out: &'a mut Effects,
}

impl Turn<'_> {
    /// Sends to a peer that has passed `hello`; to others nothing can be sent.
    pub(crate) fn send(&mut self, to: NodeId, message: impl Into<Message>) -> bool {
        let usable = self.links.is_usable(&to);
        if usable {
            self.out.push(Effect::Send { to, message: message.into() });
        }
        usable
    }

    /// Asks for a record to be made durable.
    pub(crate) fn persist(&mut self, record: Record, purpose: Purpose) {
        self.ops.persist(record, purpose, self.out);
    }

    /// Eight bytes that are equal when two boards agree about everyone and about the table.
    pub(crate) fn view_hash(&self) -> u64 {
        self.members.view_hash() ^ self.directory.hash()
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.out.push(Effect::Event(event));
    }

    pub(crate) fn misbehaved(&mut self, node: NodeId, what: impl Into<String>) {
        self.event(Event::Misbehaved { node, what: what.into() });
    }

    pub(crate) fn name_of(&self, node: &NodeId) -> String {
        self.members.get(node).map_or_else(|| node.short(), |m| m.record.name.to_string())
    }
}

/// For tests.
#[cfg(test)]
pub(crate) mod samples {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;
    use crate::proto::bounded::{List, Text};
    use crate::proto::config::{Belonging, Config, MembershipTiming};
    use crate::proto::directory::Announcement;
    use crate::proto::id::{CellId, Incarnation, Keypair};
    use crate::proto::members::Member;
    use crate::proto::order::samples::ticket;
    use crate::proto::promises::Preset;
    use crate::proto::record::Board;
    use crate::proto::table::{Row, Table};
    use crate::proto::ticket::{Address, Role};
    use crate::proto::wire::gossip::Standing;

    /// The surroundings of a board that knows nobody yet, for the parts alone.
    pub(crate) struct Surroundings {
        pub(crate) me: Myself,
        pub(crate) members: Members,
        pub(crate) links: Links,
        pub(crate) directory: Directory,
        pub(crate) specs: Specs,
        pub(crate) holdings: Holdings,
        ops: Ops,
        rng: ChaCha8Rng,
        out: Effects,
    }

    impl Surroundings {
        pub(crate) fn new() -> Self {
            Self::of(|_| ())
        }

        /// The same of a board that is not like the others.
        pub(crate) fn of(unlike: impl FnOnce(&mut Config)) -> Self {
            Self {
                me: board(0, unlike),
                members: Members::default(),
                links: Links::default(),
                directory: Directory::default(),
                specs: Specs::default(),
                holdings: Holdings::default(),
                ops: Ops::default(),
                rng: ChaCha8Rng::seed_from_u64(0),
                out: Effects::default(),
            }
        }

        /// A call at that time, milliseconds.
        pub(crate) fn turn(&mut self, ms: u64) -> Turn<'_> {
            Turn {
                now: at(ms),
                unix: 1,
                me: &self.me,
                members: &mut self.members,
                links: &mut self.links,
                directory: &mut self.directory,
                specs: &mut self.specs,
                holdings: &mut self.holdings,
                ops: &mut self.ops,
                rng: &mut self.rng,
                out: &mut self.out,
            }
        }

        /// The effects since this was asked last.
        pub(crate) fn effects(&mut self) -> Vec<Effect> {
            self.out.drain().collect()
        }

        /// A table with these rows was announced, as number `number` of its master.
        pub(crate) fn knows(&mut self, number: u64, rows: Vec<Row>) {
            let mut table = Table { rows, ..Table::default() };
            table.version.number = number;
            assert!(
                self.directory.put(Announcement { master: self.me.id(), table }),
                "it is newer"
            );
        }

        /// This board is in the list itself.
        pub(crate) fn joins(&mut self) -> NodeId {
            self.member(0, |_| ())
        }

        /// Another board: a member that is up, and to which there is a link.
        pub(crate) fn peer(&mut self, number: u8) -> NodeId {
            let peer = self.remembers(number);
            self.links(peer);
            peer
        }

        /// There is a link to a board now.
        pub(crate) fn links(&mut self, peer: NodeId) {
            self.links.on_connected(peer, &Address::default(), at(0));
            self.links.on_admitted(peer, at(0));
        }

        /// Another board: a member that was up when it was heard of last.
        pub(crate) fn remembers(&mut self, number: u8) -> NodeId {
            self.member(number, |_| ())
        }

        /// The messages since the effects were asked for last, and to whom.
        pub(crate) fn sent(&mut self) -> Vec<(NodeId, Message)> {
            let effects = self.effects().into_iter();
            let sent = effects.filter_map(|effect| match effect {
                Effect::Send { to, message } => Some((to, message)),
                _ => None,
            });
            sent.collect()
        }

        /// Another member that is up, and not like the others.
        pub(crate) fn member(&mut self, number: u8, unlike: impl FnOnce(&mut Config)) -> NodeId {
            let board = board(number, unlike);
            let peer = board.id();
            let (record, signed) = (board.record().clone(), board.signed().clone());
            let (credential, admission) = (board.belonging.credential, None);
            let (standing, since) = (Standing::Up, at(0));
            let member = Member { record, signed, credential, admission, standing, since };
            self.members.put(member).expect("there is room");
            peer
        }
    }

    /// The board of that number, as itself: for what it signs.
    pub(crate) fn board(number: u8, unlike: impl FnOnce(&mut Config)) -> Myself {
        let keypair = Keypair::from_seed(&[10 + number; 32]);
        let belonging = Belonging::by_ticket(&ticket(Role::Member), &keypair.public());
        let mut config = Config {
            keypair,
            name: Text::capped(&format!("n{number}")),
            cell: CellId::default(),
            board: Board { durable: true, ..Board::default() },
            labels: List::new(),
            ticket: None,
            membership: MembershipTiming::default(),
            preset: Preset::LAN,
        };
        unlike(&mut config);
        Myself::new(config, belonging, None, Incarnation(0))
    }

    pub(crate) fn at(ms: u64) -> Time {
        Time(ms * 1_000_000)
    }
}
