//! Nodes to test with: each with its own data folder, on ports that the system chooses.

use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hedgerow::net::{Client, Node, Settings};
use hedgerow::proto::bounded::{List, Text};
use hedgerow::proto::config::MembershipTiming;
use hedgerow::proto::id::{Keypair, NodeId};
use hedgerow::proto::io::{Command, Event, NodeView, Reply, StatusView};
use hedgerow::proto::promises::Preset;
use hedgerow::proto::record::Name;
use hedgerow::proto::ticket::{Bootstrap, Role, Ticket, TicketRequest};

/// Longer than anything here may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);

/// A board: its folder outlives its node, so that it can be started again.
pub(crate) struct Host {
    pub(crate) home: PathBuf,
    pub(crate) name: String,
    pub(crate) node: Option<Node>,
}

/// A mesh's root key.
pub(crate) struct Mesh {
    pub(crate) root: Keypair,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

fn unique() -> u32 {
    COUNT.fetch_add(1, Ordering::Relaxed)
}

impl Mesh {
    pub(crate) fn new() -> Self {
        Self { root: Keypair::from_seed(&hedgerow::net::random_seed()) }
    }

    /// A ticket whose first contacts are these boards.
    pub(crate) async fn ticket(&self, expires: u64, first: &[&Host]) -> Ticket {
        let mut bootstrap = Vec::new();
        for host in first {
            let me = host.me().await;
            let addresses = List::capped(me.addresses.iter().map(|a| Text::capped(a)));
            bootstrap.push(Bootstrap { node: me.node, addresses });
        }
        let request = TicketRequest {
            mesh_name: Name::capped("test"),
            role: Role::Member,
            issued: 1_700_000_000,
            expires,
            bootstrap: List::capped(bootstrap),
        };
        Ticket::issue(&self.root, request, hedgerow::net::random_seed()).unwrap()
    }

    /// A running founder.
    pub(crate) async fn found(&self) -> Host {
        let mut host = Host::new("founder");
        host.start(Some(self.ticket(0, &[]).await)).await;
        host
    }

    /// A running board that joined through `first`.
    pub(crate) async fn join(&self, name: &str, first: &Host) -> Host {
        let mut host = Host::new(name);
        host.start(Some(self.ticket(0, &[first]).await)).await;
        host
    }
}

impl Host {
    pub(crate) fn new(name: &str) -> Self {
        let folder = format!("hedgerow-test-{}-{}", std::process::id(), unique());
        Self { home: std::env::temp_dir().join(folder), name: name.to_owned(), node: None }
    }

    pub(crate) fn settings(&self, ticket: Option<Ticket>) -> Settings {
        // Half of the boards speak TCP only, so that both transports are used.
        let tcp = "/ip4/127.0.0.1/tcp/0".to_owned();
        let quic = "/ip4/127.0.0.1/udp/0/quic-v1".to_owned();
        Settings {
            record: None,
            home: self.home.clone(),
            name: Name::capped(&self.name),
            listen: if unique().is_multiple_of(2) { vec![tcp] } else { vec![quic, tcp] },
            announce: Vec::new(),
            mdns: false,
            labels: List::new(),
            ticket,
            membership: MembershipTiming::default(),
            preset: Preset::LAN,
            // Not defined for the example that shares this file; it runs no services.
            shim: option_env!("CARGO_BIN_EXE_hedgerow-shim").unwrap_or("/bin/false").into(),
        }
    }

    pub(crate) async fn start(&mut self, ticket: Option<Ticket>) {
        let node = Node::start(self.settings(ticket)).await.unwrap();
        self.node = Some(node);
        until("the node has started", || async { self.me_if_started().await.is_some() }).await;
    }

    pub(crate) fn client(&self) -> Client {
        self.node.as_ref().unwrap().client()
    }

    pub(crate) async fn status(&self) -> StatusView {
        match self.client().ask(Command::Status).await.unwrap() {
            Reply::Status(status) => status,
            other => panic!("{other:?}"),
        }
    }

    async fn me_if_started(&self) -> Option<NodeView> {
        let me = self.status().await.nodes.into_iter().find(|node| node.me)?;
        (!me.addresses.is_empty()).then_some(me)
    }

    /// How many addresses it can be reached at, as far as it knows yet.
    pub(crate) async fn listens(&self) -> usize {
        self.me_if_started().await.map_or(0, |me| me.addresses.len())
    }

    pub(crate) async fn me(&self) -> NodeView {
        self.me_if_started().await.unwrap()
    }

    pub(crate) fn id(&self) -> NodeId {
        self.node.as_ref().unwrap().id()
    }

    /// How this board sees another one.
    pub(crate) async fn sees(&self, other: &NodeId) -> Option<&'static str> {
        let status = self.status().await;
        status.nodes.iter().find(|node| node.node == *other).map(|node| node.state)
    }

    pub(crate) fn past(&self) -> Vec<Event> {
        self.client().past_events().into_iter().map(|stamped| stamped.event).collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.node = None;
        let _ = std::fs::remove_dir_all(&self.home);
    }
}

/// Waits until `condition` holds, asking again and again; panics when it takes too long.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let asked = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, asked).await.is_ok(), "not within {PATIENCE:?}: {what}");
}

/// Waits until every one of these boards sees every one of them up.
pub(crate) async fn until_all_up(hosts: &[&Host]) {
    let ids: Vec<NodeId> = hosts.iter().map(|host| host.id()).collect();
    for host in hosts {
        until("all see all up", || async {
            let status = host.status().await;
            ids.iter().all(|id| status.nodes.iter().any(|n| n.node == *id && n.state == "up"))
        })
        .await;
    }
}
