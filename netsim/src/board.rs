//! One board: a process (perhaps), a disk, a clock, and the driver's knowledge of its peers.

use std::collections::{BTreeMap, VecDeque};

use hedgerow::proto::bounded::{List, Text};
use hedgerow::proto::config::{Config, MembershipTiming};
use hedgerow::proto::id::{CellId, Keypair, MeshId, NodeId, OpId, Term};
use hedgerow::proto::io::{Command, Input, StatusView};
use hedgerow::proto::machine::{Effects, Time};
use hedgerow::proto::node::Node;
use hedgerow::proto::order::Instance;
use hedgerow::proto::promises::Preset;
use hedgerow::proto::record::{Board as Facts, Class};
use hedgerow::proto::signed::Signed;
use hedgerow::proto::ticket::{
    Address, Bootstrap, Credential, Revocation, Revoked, Role, Ticket, TicketRequest,
};
use hedgerow::proto::wire::{WIRE_VERSION, WIRE_VERSION_MIN};
use zeroize::Zeroizing;

use crate::disk::Disk;
use crate::host::Host;
use crate::queue::{BoardIndex, ConnIndex};
use crate::seed::{self, Purpose, Stream};
use crate::shelf::States;
use crate::time::{self, Clock, Nanos, PPM_MAX, SECOND};

/// See the module.
#[derive(Debug)]
pub struct Board {
    /// Its number.
    pub index: BoardIndex,
    /// Its identity, until the disk with it is lost.
    pub keypair: Keypair,
    /// The public half.
    pub id: NodeId,
    /// How often it has got a new identity.
    generation: u64,
    /// Its clocks.
    pub clock: Clock,
    /// Its disk.
    pub disk: Disk,
    /// What runs and lies on it besides the process.
    pub host: Host,
    /// The running process.
    pub node: Option<Box<Node>>,
    /// Counts its processes.
    pub life: u32,
    /// It was switched on and is not meant to be off: `heal` starts it again.
    pub wanted: bool,
    /// It founds the mesh: its ticket names nobody and never expires.
    pub is_founder: bool,
    /// It knows other members, or founded the mesh: it can be named in a ticket.
    pub is_member: bool,
    /// It was let go by the mesh and was not started since.
    pub has_left: bool,
    /// States that it held were lost, though its journal was not.
    pub has_lost: bool,
    /// When it is started next it gets a ticket that names these.
    pub led_to: Vec<BoardIndex>,
    /// It was told to leave whatever comes of it.
    pub is_forced_out: bool,
    /// Counts its pauses; the last one ends them all.
    pub pauses: u32,
    /// It gets the processor only that often.
    pub stutters: Option<Nanos>,
    /// … and will get it next at a time that is in the queue.
    pub grinding: bool,
    /// Everything on it stands still: what its host was to do meanwhile, and the services that were stopped.
    pub asleep: Option<Sleep>,
    /// Counts its changes of address.
    pub roams: u32,
    /// Its journal was damaged on purpose.
    pub rotten: bool,
    /// What the process has not got to yet.
    pub inbox: VecDeque<Wake>,
    /// What a process keeps about its peers, as the swarm does.
    pub peers: BTreeMap<NodeId, Peer>,
    /// Peers it is dialling, with the number of the dial.
    pub dialling: BTreeMap<NodeId, u32>,
    /// The earliest timer event in the queue: by its clock and in true time.
    pub armed: Option<(Time, Nanos)>,
    /// What its node said of its reign after the last call: the term, and the end by its own clock.
    pub belief: Option<(Term, Time)>,
    /// The last answer to `Status`.
    pub status: Option<StatusView>,
    /// Counts commands.
    pub commands: u64,
    /// Since when the process runs.
    pub running_since: Nanos,
    /// True time that its processes have run.
    pub ran: Nanos,
    /// The present second and the calls and effects in it.
    pub load: (u64, u64, u64),
    /// Kept between calls for its capacity.
    pub effects: Effects,
}

/// One peer with at least one connection.
#[derive(Debug, Default)]
pub struct Peer {
    /// The node has let it in.
    pub admitted: bool,
    /// The node has hung up on it; nothing more passes.
    pub leaving: bool,
    /// The first one, the carrier, carries what is sent: the newest since admission.
    pub conns: Vec<(ConnIndex, u8)>,
}

/// What waits while a whole board sleeps.
#[derive(Debug, Default)]
pub struct Sleep {
    /// Numbers of tasks, in the order in which they came up.
    pub tasks: Vec<u32>,
    /// Services that ran.
    pub stopped: Vec<Instance>,
}

/// Something for a process.
#[derive(Debug)]
pub enum Wake {
    /// A frame on a connection.
    Frame(ConnIndex, u8, Vec<u8>),
    /// A new connection.
    Attach(ConnIndex, u8),
    /// A connection is gone.
    Detach(ConnIndex, u8, &'static str),
    /// A dial failed.
    DialFailed(NodeId, &'static str),
    /// A record is safe, or never will be.
    Persisted(OpId, Result<(), &'static str>),
    /// The time of day.
    Wall,
    /// Where it can be reached.
    Addresses,
    /// Somebody wants something.
    Command(OpId, Command),
    /// The runtime or the copy plane says something.
    Input(Box<Input>),
}

impl Board {
    /// A board that was never on.
    pub fn new(seed: u64, index: BoardIndex, ppm_max: i32, states: States) -> Self {
        let keypair = keypair(seed, index, 0);
        let who = u64::from(index);
        Self {
            index,
            id: keypair.public(),
            keypair,
            generation: 0,
            clock: clock(seed, index, 0, 0, ppm_max),
            disk: Disk::new(
                Stream::new(seed, Purpose::Fsync, who, 0),
                Stream::new(seed, Purpose::Torn, who, 0),
            ),
            host: Host::new(states, seed, who),
            node: None,
            life: 0,
            wanted: false,
            is_founder: index == 0,
            is_member: index == 0,
            has_left: false,
            has_lost: false,
            led_to: Vec::new(),
            is_forced_out: false,
            pauses: 0,
            stutters: None,
            grinding: false,
            asleep: None,
            roams: 0,
            rotten: false,
            inbox: VecDeque::new(),
            peers: BTreeMap::new(),
            dialling: BTreeMap::new(),
            armed: None,
            belief: None,
            status: None,
            commands: 0,
            running_since: 0,
            ran: 0,
            load: (0, 0, 0),
            effects: Effects::default(),
        }
    }

    /// The disk with the identity on it is gone.
    pub fn new_identity(&mut self, seed: u64) {
        self.generation += 1;
        self.keypair = keypair(seed, self.index, self.generation);
        self.id = self.keypair.public();
    }

    /// After a power cut the lease clock starts anew.
    pub fn reset_clock(&mut self, seed: u64, now: Nanos) {
        let ppm = self.clock.ppm();
        self.clock = clock(seed, self.index, u64::from(self.life), now, PPM_MAX);
        self.clock.set_ppm(now, ppm);
    }

    /// What its next life is told.
    pub fn config(
        &self,
        timing: MembershipTiming,
        preset: Preset,
        ticket: Option<Ticket>,
    ) -> Config {
        Config {
            keypair: self.keypair.clone(),
            name: Text::capped(&format!("n{}", self.index)),
            cell: CellId::default(),
            board: facts(self.index),
            labels: List::new(),
            ticket,
            membership: timing,
            preset,
        }
    }
}

/// Where a board can be reached that has changed its address so often.
pub fn address(board: BoardIndex, roams: u32) -> Address {
    let text = if roams == 0 { format!("sim/{board}") } else { format!("sim/{board}.{roams}") };
    Text::capped(&text)
}

/// Which board had an address, and after how many changes.
pub fn board_at(address: &Address) -> Option<(BoardIndex, u32)> {
    let place = address.strip_prefix("sim/")?;
    let (board, roams) = place.split_once('.').unwrap_or((place, "0"));
    Some((board.parse().ok()?, roams.parse().ok()?))
}

/// A ticket for `index`: by the mesh's root, or by some other root for a stranger.
pub fn ticket(
    seed: u64,
    index: BoardIndex,
    now: Nanos,
    stranger: bool,
    bootstrap: &[(Address, NodeId)],
) -> Ticket {
    let root = root(seed, stranger);
    let contacts = bootstrap.iter().map(|(address, node)| Bootstrap {
        node: *node,
        addresses: List::capped([address.clone()]),
    });
    let issued = time::wall(now);
    let request = TicketRequest {
        mesh_name: Text::capped("sim"),
        role: Role::Member,
        issued,
        expires: if bootstrap.is_empty() { 0 } else { issued + TICKET_SECONDS },
        bootstrap: List::capped(contacts),
    };
    let secret = seed::bytes(seed, Purpose::Ticket, u64::from(index), now);
    Ticket::issue(&root, request, Zeroizing::new(secret)).expect("a ticket of four contacts fits")
}

/// Whoever gives orders.
#[derive(Debug)]
pub struct Operator {
    /// The mesh that this is an operator of.
    pub mesh: MeshId,
    /// Signs orders.
    pub key: Keypair,
    /// The proof that this key may give orders.
    pub credential: Credential,
}

/// The operator of the mesh. Made once for a run: three signatures for each order would be a third of it.
pub fn operator(seed: u64) -> Operator {
    let key = Keypair::from_seed(&seed::bytes(seed, Purpose::Keys, ROOT, 2));
    let root = root(seed, false);
    let request = TicketRequest {
        mesh_name: Text::capped("sim"),
        role: Role::Operator,
        issued: time::wall(0),
        expires: 0,
        bootstrap: List::new(),
    };
    let secret = seed::bytes(seed, Purpose::Ticket, ROOT, 0);
    let ticket = Ticket::issue(&root, request, Zeroizing::new(secret)).expect("it fits");
    let credential = ticket.bind_operator(&key.public());
    Operator { mesh: MeshId::of_root(&root.public()), key, credential }
}

/// Root's word that an identity is not welcome any more.
pub fn revocation(seed: u64, node: NodeId, now: Nanos) -> Signed<Revocation> {
    let root = root(seed, false);
    let mesh = MeshId::of_root(&root.public());
    let revocation = Revocation { mesh, target: Revoked::Node(node), at: time::wall(now) };
    Signed::seal(&revocation, &root).expect("it fits")
}

fn root(seed: u64, stranger: bool) -> Keypair {
    Keypair::from_seed(&seed::bytes(seed, Purpose::Keys, ROOT, u64::from(stranger)))
}

fn keypair(seed: u64, index: BoardIndex, generation: u64) -> Keypair {
    Keypair::from_seed(&seed::bytes(seed, Purpose::Keys, u64::from(index), generation))
}

fn clock(seed: u64, index: BoardIndex, boot: u64, now: Nanos, ppm_max: i32) -> Clock {
    let mut draw = Stream::new(seed, Purpose::Clock, u64::from(index), boot);
    let width = u64::from(ppm_max.unsigned_abs());
    let ppm = draw.between(0, 2 * width) as i32 - ppm_max;
    let local = draw.between(SECOND, 40 * 86_400 * SECOND);
    let wall_error = draw.between(0, 2 * WALL_ERROR_SECONDS_MAX) as i64;
    Clock::new(now, local, ppm, wall_error - WALL_ERROR_SECONDS_MAX as i64)
}

/// How many services a board runs at once.
pub fn room(index: BoardIndex) -> usize {
    usize::from(facts(index).class.index())
}

fn facts(index: BoardIndex) -> Facts {
    let (memory_bytes, cores) = [(8 << 30, 4), (4 << 30, 6), (1 << 30, 4)][usize::from(index) % 3];
    Facts {
        host: Text::capped(&format!("board-{index}")),
        arch: Text::capped("aarch64"),
        page_bytes: 4096,
        version: Text::capped(env!("CARGO_PKG_VERSION")),
        wire: (WIRE_VERSION_MIN, WIRE_VERSION),
        memory_bytes,
        cores,
        class: Class::of(memory_bytes, cores),
        durable: true,
        ..Facts::default()
    }
}

/// Stands for the root key where a board's number would be.
const ROOT: u64 = u64::MAX;
/// A ticket admits newcomers for a day.
const TICKET_SECONDS: u64 = 86_400;
/// Wall clocks err by at most this.
const WALL_ERROR_SECONDS_MAX: u64 = 5;
