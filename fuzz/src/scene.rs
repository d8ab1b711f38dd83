//! A mesh whose every secret is known: the boards, tickets and signed words that targets work with.

use std::sync::LazyLock;

use hedgerow::proto::bounded::{List, Text};
use hedgerow::proto::config::{Config, MembershipTiming};
use hedgerow::proto::id::{CellId, Incarnation, Keypair, MeshId, NodeId};
use hedgerow::proto::order::{Action, Order, SignedOrder};
use hedgerow::proto::promises::Preset;
use hedgerow::proto::record::{Board, Class, Name, NodeRecord, Reachability};
use hedgerow::proto::signed::Signed;
use hedgerow::proto::spec::{Commit, Limits, OnIsolation, Port, Replicate, Restart, ServiceSpec};
use hedgerow::proto::ticket::{Address, Bootstrap, Credential, Role, Ticket, TicketRequest};
use hedgerow::proto::wire::gossip::Joined;
use hedgerow::proto::wire::hello::Hello;
use hedgerow::proto::wire::{WIRE_VERSION, WIRE_VERSION_MIN};
use zeroize::Zeroizing;

/// The time of day, unix seconds.
pub(crate) const UNIX: u64 = 2_000_000_000;
/// Boards beside the one under test that hold a ticket.
pub(crate) const PEERS: usize = 3;

/// Everything that takes a signature to make, made once.
pub(crate) struct Scene {
    pub(crate) root: Keypair,
    pub(crate) me: Keypair,
    pub(crate) operator: Keypair,
    /// The boards with a ticket, and behind them one without.
    pub(crate) peers: Vec<Keypair>,
    /// Founds the mesh.
    pub(crate) founding: Ticket,
    /// Lets a board in.
    pub(crate) member: Ticket,
    /// Of the operator.
    pub(crate) credential: Credential,
    /// What each of the peers says first.
    pub(crate) hellos: Vec<Hello>,
    /// A genuine order of each kind.
    pub(crate) orders: Vec<SignedOrder>,
}

/// The one scene.
pub(crate) static SCENE: LazyLock<Scene> = LazyLock::new(Scene::new);

impl Scene {
    fn new() -> Self {
        let key = |number| Keypair::from_seed(&[number; 32]);
        let (root, me, operator) = (key(1), key(2), key(3));
        let contact = Bootstrap { node: me.public(), addresses: List::capped([address()]) };
        let ticket = |role, bootstrap, seed| {
            let request = TicketRequest {
                mesh_name: Name::capped("fuzz"),
                role,
                issued: UNIX - 1000,
                expires: 0,
                bootstrap,
            };
            Ticket::issue(&root, request, Zeroizing::new([seed; 32])).expect("a small ticket")
        };
        let founding = ticket(Role::Member, List::new(), 100);
        let member = ticket(Role::Member, List::capped([contact]), 101);
        let credential = ticket(Role::Operator, List::new(), 102).bind_operator(&operator.public());
        let mut scene = Self {
            peers: (10..=10 + PEERS as u8).map(key).collect(),
            root,
            me,
            operator,
            founding,
            member,
            credential,
            hellos: Vec::new(),
            orders: Vec::new(),
        };
        scene.hellos = (0..=PEERS).map(|peer| scene.hello(peer)).collect();
        scene.orders = actions(&scene).into_iter().map(|action| scene.order(action)).collect();
        scene
    }

    pub(crate) fn mesh(&self) -> MeshId {
        MeshId::of_root(&self.root.public())
    }

    /// The id of one of the peers.
    pub(crate) fn peer(&self, peer: usize) -> NodeId {
        self.peers[peer].public()
    }

    /// What a peer says of itself in one of its lives.
    pub(crate) fn record(&self, peer: usize, incarnation: u64) -> Signed<NodeRecord> {
        let record = NodeRecord {
            node: self.peer(peer),
            incarnation: Incarnation(incarnation),
            cell: CellId::default(),
            name: Text::capped(&format!("peer-{peer}")),
            board: board(),
            addresses: List::capped([address()]),
            reachability: Reachability::Unknown,
            link_cost: 1,
            labels: List::new(),
            extensions: List::new(),
        };
        Signed::seal(&record, &self.peers[peer]).expect("a small record")
    }

    /// The stranger, behind the peers, has a ticket of its own making.
    fn hello(&self, peer: usize) -> Hello {
        let stranger = || {
            let request = TicketRequest {
                mesh_name: Name::capped("fuzz"),
                role: Role::Member,
                issued: UNIX,
                expires: 0,
                bootstrap: List::new(),
            };
            let seed = Zeroizing::new([103; 32]);
            Ticket::issue(&self.peers[PEERS], request, seed).expect("a small ticket")
        };
        let ticket = if peer < PEERS { self.member.clone() } else { stranger() };
        Hello {
            wire: (WIRE_VERSION_MIN, WIRE_VERSION),
            mesh: self.mesh(),
            cell: CellId::default(),
            record: self.record(peer, 1),
            credential: ticket.bind_node(&self.peer(peer)),
            admission: None,
            answer: false,
        }
    }

    /// A peer as others pass it on.
    pub(crate) fn joined(&self, peer: usize) -> Joined {
        let Hello { record, credential, admission, .. } = self.hellos[peer].clone();
        Joined { record, credential, admission }
    }

    /// An order of the operator.
    pub(crate) fn order(&self, action: Action) -> SignedOrder {
        let mut nonce = [0; 16];
        let name = blake3::hash(format!("{action:?}").as_bytes());
        nonce.copy_from_slice(&name.as_bytes()[..16]);
        let order = Order {
            mesh: self.mesh(),
            cell: CellId::default(),
            operator: self.operator.public(),
            nonce,
            issued: UNIX,
            expires: UNIX + 250,
            action,
        };
        SignedOrder::seal(&order, &self.operator, self.credential.clone()).expect("a small order")
    }

    /// How the board under test is started.
    pub(crate) fn config(&self) -> Config {
        Config {
            keypair: self.me.clone(),
            name: Text::capped("me"),
            cell: CellId::default(),
            board: board(),
            labels: List::new(),
            ticket: Some(self.founding.clone()),
            membership: MembershipTiming::default(),
            preset: Preset::LAN,
        }
    }
}

/// Where every board can be reached.
pub(crate) fn address() -> Address {
    Text::capped("/ip4/192.0.2.1/tcp/4711")
}

/// The services that there are in this mesh.
pub(crate) fn service(which: usize) -> Name {
    Text::capped(["shop", "till"][which % 2])
}

/// A service with a state and a port.
pub(crate) fn spec(which: usize) -> ServiceSpec {
    ServiceSpec {
        name: service(which),
        command: List::capped([Text::capped("./serve"), Text::capped("${PORT_HTTP}")]),
        state: Some(Text::capped("state")),
        on_isolation: OnIsolation::Fence,
        ports: List::capped([Port { name: Text::capped("http"), port: 0 }]),
        replicate: Replicate { every_ms: 1000, commit: Commit::Standby, commit_timeout_ms: 500 },
        classes: List::new(),
        labels: List::new(),
        restart: Restart { max: 3, within_ms: 60_000 },
        limits: Limits::default(),
        env: List::new(),
    }
}

fn board() -> Board {
    Board { class: Class::Hi, durable: true, cores: 4, memory_bytes: 8 << 30, ..Board::default() }
}

fn actions(scene: &Scene) -> Vec<Action> {
    let shop = || service(0);
    vec![
        Action::Run(Box::new(spec(0))),
        Action::Run(Box::new(spec(1))),
        Action::Stop(shop()),
        Action::Remove { service: shop(), force: true },
        Action::Move(shop()),
        Action::Checkpoint(shop()),
        Action::Restore { service: shop(), at: Default::default() },
        Action::Recover { service: shop(), from: scene.peer(0) },
        Action::RecoverMesh { dead: List::capped([scene.peer(1)]) },
        Action::Drain { node: scene.peer(2), drained: true },
    ]
}
