//! `foca` 2.0 (SWIM with suspicion) on netsim's datagrams: same distances, jitter, loss and seeds.
//!
//! Identities renew themselves after a false death, as foca's own examples do: same address, a number
//! that is higher by one. Everybody begins with the whole member list, as ours does.

use std::cell::{RefCell, RefMut};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::num::NonZeroU32;

use foca::{
    AccumulatingRuntime, Config, Foca, Identity, Member, NoCustomBroadcast, OwnedNotification,
    PostcardCodec, Timer,
};
use hedgerow_netsim::law::LinkLaw;
use hedgerow_netsim::net::Net;
use hedgerow_netsim::queue::BoardIndex;
use hedgerow_netsim::seed::{self, Purpose, Stream};
use hedgerow_netsim::time::{MILLI, Nanos, SECOND};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::ledger::Ledger;
use crate::trial::System;

/// foca's own configurations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Preset {
    /// `Config::new_lan`: probe 1 s, ack 0.5 s, gossip 3 × per 200 ms, suspicion 4 s · log₁₀ N.
    Lan,
    /// `Config::new_wan`: probe 5 s, ack 3 s, gossip 4 × per 500 ms, suspicion 30 s · log₁₀ N.
    Wan,
}

/// What a member is called on the wire.
pub(crate) trait Name: Identity + Serialize + DeserializeOwned {
    /// The name of a board in its first life.
    fn of(board: BoardIndex) -> Self;
    /// Which board it is.
    fn board(&self) -> BoardIndex;
    /// How often it was renewed.
    fn life(&self) -> u64;
}

/// 40 bytes: as long as a public key and an incarnation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct LongName {
    key: [u8; 32],
    life: [u8; 8],
}

/// 8 bytes: an IPv4 address without port and a number.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct ShortName {
    address: [u8; 4],
    life: [u8; 4],
}

/// A cluster.
pub(crate) struct Cluster<N: Name> {
    now: Nanos,
    net: Net,
    members: Vec<Option<Foca<N, PostcardCodec, ChaCha8Rng, NoCustomBroadcast>>>,
    queue: BTreeMap<(Nanos, u64), (BoardIndex, Due<N>)>,
    sequence: u64,
    runtime: AccumulatingRuntime<N>,
    ledger: RefCell<Ledger>,
}

/// What happens to a member.
enum Due<N> {
    Start,
    Timer(Timer<N>),
    Packet(Vec<u8>),
}

impl Preset {
    fn config(self, boards: BoardIndex) -> Config {
        let size = NonZeroU32::new(u32::from(boards)).expect("there are boards");
        match self {
            Self::Lan => Config::new_lan(size),
            Self::Wan => Config::new_wan(size),
        }
    }
}

impl<N: Name> Cluster<N> {
    pub(crate) fn new(
        seed: u64,
        boards: BoardIndex,
        preset: Preset,
        bursts: Option<Nanos>,
    ) -> Self {
        let member = |board| {
            let secret = seed::bytes(seed, Purpose::Life, u64::from(board), 1);
            let rng = ChaCha8Rng::from_seed(secret);
            Some(Foca::new(N::of(board), preset.config(boards), rng, PostcardCodec))
        };
        let mut net = Net::new(seed, LinkLaw::Wan, 0, usize::from(boards));
        net.lose_in_bursts(bursts);
        let mut cluster = Self {
            now: 0,
            net,
            members: (0..boards).map(member).collect(),
            queue: BTreeMap::new(),
            sequence: 0,
            runtime: AccumulatingRuntime::new(),
            ledger: RefCell::new(Ledger::new(boards)),
        };
        for board in 0..boards {
            let mut draw = Stream::new(seed, Purpose::Start, u64::from(board), 0);
            cluster.push(draw.between(100 * MILLI, SECOND / 2), board, Due::Start);
        }
        cluster
    }

    fn push(&mut self, at: Nanos, board: BoardIndex, due: Due<N>) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), (board, due));
    }

    fn happen(&mut self, board: BoardIndex, due: Due<N>) {
        let boards = self.members.len() as BoardIndex;
        let Some(member) = &mut self.members[usize::from(board)] else { return };
        // Errors say that a packet was no good or a timer came late; the protocol carries on.
        let _carries_on = match due {
            Due::Start => {
                let others = (0..boards).filter(|other| *other != board);
                let others = others.map(|other| Member::alive(N::of(other)));
                member.apply_many(others, false, &mut self.runtime)
            }
            Due::Timer(timer) => member.handle_timer(timer, &mut self.runtime),
            Due::Packet(bytes) => member.handle_data(&bytes, &mut self.runtime),
        };
        self.carry_out(board);
    }

    fn carry_out(&mut self, board: BoardIndex) {
        while let Some((to, bytes)) = self.runtime.to_send() {
            self.ledger.borrow_mut().sent("packet", bytes.len());
            let to = to.board();
            if let Some(at) = self.net.datagram(self.now, board, to, bytes.len()) {
                self.push(at, to, Due::Packet(bytes.to_vec()));
            }
        }
        while let Some((after, timer)) = self.runtime.to_schedule() {
            let at = self.now + after.as_nanos() as Nanos;
            self.push(at, board, Due::Timer(timer));
        }
        let mut ledger = self.ledger.borrow_mut();
        while let Some(notification) = self.runtime.to_notify() {
            match notification {
                OwnedNotification::MemberUp(name) => ledger.up(self.now, board, name.board()),
                OwnedNotification::MemberDown(name) => {
                    ledger.down(self.now, board, name.board(), name.life());
                }
                _ => {}
            }
        }
    }
}

impl<N: Name> System for Cluster<N> {
    fn round(&self) -> Nanos {
        // Announcements: every 30 s (lan) or 60 s (wan).
        60 * SECOND
    }

    fn run_until(&mut self, end: Nanos) {
        while let Some(entry) = self.queue.first_entry()
            && entry.key().0 <= end
        {
            self.now = entry.key().0;
            let (board, due) = entry.remove();
            self.happen(board, due);
        }
        self.now = end;
    }

    fn set_loss(&mut self, percent: u8) {
        self.net.loss_percent = u64::from(percent);
    }

    fn crash(&mut self, board: BoardIndex) {
        self.members[usize::from(board)] = None;
        self.ledger.borrow_mut().crash(self.now, board);
    }

    fn ledger(&self) -> RefMut<'_, Ledger> {
        self.ledger.borrow_mut()
    }
}

impl Name for LongName {
    fn of(board: BoardIndex) -> Self {
        let mut key = [0xa5; 32];
        key[..2].copy_from_slice(&board.to_le_bytes());
        Self { key, life: [0; 8] }
    }

    fn board(&self) -> BoardIndex {
        BoardIndex::from_le_bytes([self.key[0], self.key[1]])
    }

    fn life(&self) -> u64 {
        u64::from_le_bytes(self.life)
    }
}

impl Name for ShortName {
    fn of(board: BoardIndex) -> Self {
        let [low, high] = board.to_le_bytes();
        Self { address: [10, 0, high, low], life: [0; 4] }
    }

    fn board(&self) -> BoardIndex {
        BoardIndex::from_le_bytes([self.address[3], self.address[2]])
    }

    fn life(&self) -> u64 {
        u64::from(u32::from_le_bytes(self.life))
    }
}

impl Identity for LongName {
    type Addr = [u8; 32];

    fn renew(&self) -> Option<Self> {
        Some(Self { key: self.key, life: (self.life() + 1).to_le_bytes() })
    }

    fn addr(&self) -> Self::Addr {
        self.key
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.life() > adversary.life()
    }
}

impl Identity for ShortName {
    type Addr = [u8; 4];

    fn renew(&self) -> Option<Self> {
        let life = u32::from_le_bytes(self.life).wrapping_add(1);
        Some(Self { address: self.address, life: life.to_le_bytes() })
    }

    fn addr(&self) -> Self::Addr {
        self.address
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.life() > adversary.life()
    }
}
