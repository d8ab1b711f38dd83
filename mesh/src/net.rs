//! The driver's side: real sockets, real files, the one real clock around the pure core.
//!
//! ```text
//! swarm (libp2p) ─┐                       ┌─▶ swarm
//! disk (journal) ─┼─▶ driver ▶ proto::Node ┼─▶ disk
//! commands ───────┘                       └─▶ observe (logs, event streams), replies
//! ```

mod board;
mod client;
mod copies;
mod disk;
mod driver;
mod home;
pub(crate) mod hosted;
mod observe;
mod recorder;
mod swarm;
mod workloads;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

pub use client::Client;
pub(crate) use client::TryTellError;
pub use disk::JournalError;
pub(crate) use driver::unix_now;
pub use home::{Home, HomeError, HomeLock, KeyFile, random_seed, write_durably};
pub use observe::{EVENTS_KEPT, EVENTS_LAG_MAX, Events, Observed, Stamped, TOPIC_LAG_MAX};
pub use recorder::RECORDING_BYTES_MAX;
pub(crate) use swarm::fresh_memory_address;

use crate::clock;
use crate::error::{RunError, StartError};
use crate::proto::bounded::List;
use crate::proto::config::{Config, MembershipTiming};
use crate::proto::holdings::Held;
use crate::proto::id::{CellId, Keypair, NodeId};
use crate::proto::journal::{Durable, Record};
use crate::proto::machine::Time;
use crate::proto::promises::Preset;
use crate::proto::record::{LABELS_MAX, Name};
use crate::proto::recording::{self, Head};
use crate::proto::ticket::Ticket;
use copies::Copies;
use copies::shelf::Shelves;
use disk::Journal;
use driver::{Driver, Request};
use hosted::{Hosts, Overrun};
pub(crate) use observe::Published;
use observe::{Observer, Watcher};
use recorder::Recorder;
use swarm::{SwarmConfig, SwarmError};
use workloads::Workloads;

/// Commands that wait for the node.
const REQUESTS_MAX: usize = 256;
/// How long the journal's thread of a node that was dropped a moment ago may take to end.
const LOCK_WAIT: Duration = Duration::from_secs(1);

/// How to start a node.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its data folder.
    pub home: PathBuf,
    /// The name operators use.
    pub name: Name,
    /// Multiaddrs to listen on.
    pub listen: Vec<String>,
    /// Multiaddrs to tell others instead of the listening ones; empty = the listening ones.
    pub announce: Vec<String>,
    /// Find other boards on the LAN by mDNS.
    pub mdns: bool,
    /// `key=value`, for placement.
    pub labels: List<(Name, Name), LABELS_MAX>,
    /// The ticket to join with. Needed for the first start only.
    pub ticket: Option<Ticket>,
    /// Membership timing.
    pub membership: MembershipTiming,
    /// Lease timing.
    pub preset: Preset,
    /// A file, which must not exist yet, for a [recording] of this life. It will hold
    /// the board's private key.
    pub record: Option<PathBuf>,
    /// The program that is run as shim, see [`workload::dispatch`](crate::workload::dispatch). Empty: this
    /// node runs no processes.
    pub shim: PathBuf,
}

/// Why a node cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("{message}; {advice}")]
pub struct ListenError {
    message: String,
    advice: &'static str,
}

/// A running node. Dropping it stops the node as a crash would: nothing is flushed.
#[derive(Debug)]
pub struct Node {
    id: NodeId,
    requests: mpsc::Sender<Request>,
    stop: Option<oneshot::Sender<()>>,
    watcher: Watcher,
    task: JoinHandle<Result<(), RunError>>,
    hosts: Hosts,
    _lock: Arc<HomeLock>,
}

impl Node {
    /// Starts a node on the current tokio runtime.
    ///
    /// # Errors
    /// The data folder, the journal, the ticket or a listening address cannot be used; each has its
    /// own sentence.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        Self::start_hosting(settings, Hosts::new(Overrun::Abort)).await
    }

    /// As [`Node::start`], for a program that hosts services itself.
    pub(crate) async fn start_hosting(
        settings: Settings,
        hosts: Hosts,
    ) -> Result<Self, StartError> {
        let home = Home::open(&settings.home)?;
        let lock = Arc::new(lock_soon(&home).await?);
        let (journal, durable, identity) = open_journal(&home)?;
        let id = identity.public();
        let config = Config {
            keypair: identity.clone(),
            name: settings.name,
            cell: CellId::default(),
            board: board::read(&home),
            labels: settings.labels,
            ticket: settings.ticket,
            membership: settings.membership,
            preset: settings.preset,
        };
        let (shelves, held) = open_shelves(home.path()).await?;
        let now = Time(clock::now_ns());
        let head = Head {
            version: recording::VERSION.to_owned(),
            config,
            seed: *random_seed(),
            durable,
            held,
            now,
        };
        let node = head.node()?;
        let begin = |path: PathBuf| {
            Recorder::begin(&path, &head).map_err(|source| StartError::Recording { path, source })
        };
        let recorder = settings.record.map(begin).transpose()?;
        let swarm_config = swarm_config(identity, settings.listen, settings.mdns);
        let (swarm, swarm_events) =
            swarm::start(swarm_config()).await.map_err(ListenError::from)?;
        let journal = journal
            .spawn(lock.clone())
            .map_err(|source| StartError::System { what: "a thread", source })?;
        let (workloads, reported) =
            Workloads::open(&settings.shim, home.path(), id, shelves.clone(), hosts.clone())?;
        let (copies, copied) = Copies::new(shelves);
        let (requests, request_queue) = mpsc::channel(REQUESTS_MAX);
        let (stop, stopped) = oneshot::channel();
        let observer = Observer::new();
        let watcher = observer.watcher();
        let driver = Driver {
            node,
            swarm,
            swarm_config: Box::new(swarm_config),
            swarm_events,
            journal,
            workloads,
            reported,
            copies,
            copied,
            requests: request_queue,
            stop: stopped,
            observer,
            recorder,
            announce: settings.announce,
            state: driver::State::default(),
        };
        let task = tokio::spawn(driver.run());
        Ok(Self { id, requests, stop: Some(stop), watcher, task, hosts, _lock: lock })
    }

    /// Its id.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// A handle that can be cloned and shared.
    pub fn client(&self) -> Client {
        Client { requests: self.requests.clone(), watcher: self.watcher.clone() }
    }

    /// Waits until the node stops by itself.
    ///
    /// # Errors
    /// Why it stopped.
    pub async fn stopped(&mut self) -> Result<(), RunError> {
        match (&mut self.task).await {
            Ok(result) => result,
            Err(error) => Err(RunError::Bug(error.to_string())),
        }
    }

    /// Stops the node: what was sent is flushed, peers see the connection close.
    ///
    /// # Errors
    /// The node had stopped by itself before, and why.
    pub async fn shutdown(mut self) -> Result<(), RunError> {
        if let Some(stop) = self.stop.take() {
            // An error means that it has stopped already; `stopped` says why.
            let _ = stop.send(());
        }
        self.stopped().await
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // First what it runs, so that nothing outlives it by a moment.
        self.hosts.crash();
        self.task.abort();
    }
}

/// Locks the folder; waits a moment for the threads of a node that was dropped in this process.
async fn lock_soon(home: &Home) -> Result<HomeLock, HomeError> {
    const STEP: Duration = Duration::from_millis(20);
    let mut waited = Duration::ZERO;
    loop {
        match home.lock() {
            Err(HomeError::Locked(_)) if waited < LOCK_WAIT => tokio::time::sleep(STEP).await,
            other => return other,
        }
        waited += STEP;
    }
}

/// The journal, what it says, and the key that it belongs to: from the first start on.
fn open_journal(home: &Home) -> Result<(Journal, Durable, Keypair), StartError> {
    let (mut journal, durable) = Journal::open(home.journal())?;
    let identity = home.identity(durable.identity)?;
    if durable.identity.is_none() {
        let first = [Record::Identity(identity.public())];
        let path = home.journal();
        journal.append(&first).map_err(|source| JournalError::Io {
            what: "write",
            path,
            source,
        })?;
    }
    home.confirm_identity()?;
    Ok((journal, durable, identity))
}

/// Opens the stores, off the runtime: there may be much to read.
async fn open_shelves(home: &Path) -> Result<(Shelves, Held), StartError> {
    let home = home.to_owned();
    let opened = tokio::task::spawn_blocking(move || Shelves::open(&home)).await;
    let failed = |source| StartError::System { what: "the stores of copies", source };
    opened
        .map_err(|error| failed(io::Error::other(error)))?
        .map_err(|error| failed(io::Error::other(error)))
}

fn swarm_config(
    identity: Keypair,
    listen: Vec<String>,
    mdns: bool,
) -> impl Fn() -> SwarmConfig + Send + 'static {
    move || SwarmConfig {
        identity: identity.clone(),
        listen: listen.clone(),
        mdns,
        agent: concat!("hedgerow/", env!("CARGO_PKG_VERSION")).to_owned(),
    }
}

impl From<SwarmError> for ListenError {
    fn from(error: SwarmError) -> Self {
        let advice = match &error {
            SwarmError::Address { .. } => {
                "an address looks like /ip4/0.0.0.0/udp/4711/quic-v1 or /ip4/0.0.0.0/tcp/4711"
            }
            SwarmError::PortInUse { .. } => {
                "stop the program that uses it, or choose another port with --listen"
            }
            SwarmError::Listen { .. } => "choose an address of this board with --listen",
            SwarmError::Mdns(_) => {
                "check the network interfaces, or switch mDNS off with --no-mdns"
            }
            SwarmError::Transport(_) => "this is a bug in Hedgerow; please report it",
        };
        Self { message: error.to_string(), advice }
    }
}
