//! The task that owns the libp2p swarm.
//!
//! It waits for three things at once: commands, room for the next event, and the swarm; and polls
//! the swarm only when every earlier event has been handed over. That is the back-pressure: libp2p
//! then stops reading from connections, and commands still work.
//!
//! A panic anywhere in libp2p or in here, including the tasks libp2p spawns for its connections,
//! ends the swarm with [`SwarmEvent::Failed`], so that the driver can start another one.

use std::any::Any;
use std::collections::{HashSet, VecDeque};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use libp2p::core::transport::{ListenerId, TransportError};
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent as Libp2pEvent};
use libp2p::{Multiaddr, identify, mdns, ping};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use super::gate::{Gate, chain, without_peer};
use super::peers::Hub;
use super::{
    COMMANDS_MAX, DIAL_ADDRESSES_MAX, FLUSH_TIMEOUT, SwarmConfig, SwarmError, SwarmEvent, key,
    transport,
};
use crate::proto::id::NodeId;

/// How long drops are added up before they are reported.
const DROP_REPORT_DELAY: Duration = Duration::from_millis(200);
/// How long a start waits to learn the addresses it listens on.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a shutdown may take beyond the flush.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(300);
/// TCP has no sign of life of its own, so libp2p's ping provides it, after this much silence.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// A pong that takes longer is a failure; the second in a row closes the connection.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Inbound substreams of one connection in negotiation.
const NEGOTIATING_MAX: usize = 16;
/// Events of one connection waiting for the swarm task.
const CONNECTION_EVENTS_MAX: usize = 2;
/// Named in identify; nobody checks it.
const IDENTIFY_PROTOCOL: &str = "/hedgerow/1";

/// What the handle cannot do by itself.
pub(super) enum Command {
    /// Dial a peer that was not connected a moment ago.
    Dial {
        peer: NodeId,
        addresses: Vec<String>,
    },
    /// Give up dialling a peer that is not connected.
    Abort {
        peer: NodeId,
    },
    Shutdown {
        done: oneshot::Sender<()>,
    },
    /// Panics: in the swarm task, or in a task like those that libp2p spawns.
    #[cfg(test)]
    Panic {
        spawned: bool,
    },
}

/// What runs on a connection. `gate` is last: what the others refuse, it never sees.
#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    mdns: Toggle<mdns::tokio::Behaviour>,
    gate: Gate,
}

/// See the module.
pub(super) struct Task {
    swarm: libp2p::Swarm<Behaviour>,
    hub: Arc<Hub>,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<SwarmEvent>,
    /// Events that the driver has no room for yet; what one libp2p event led to.
    outbox: VecDeque<SwarmEvent>,
    drops_due: Option<Instant>,
    /// Dials since the swarm was polled last.
    dials_unpolled: usize,
    /// A task that libp2p spawned has panicked.
    panics: mpsc::Receiver<String>,
    #[cfg(test)]
    panicked: mpsc::Sender<String>,
}

/// Why the task ends.
enum End {
    /// Nobody is interested any more.
    Abandoned,
    Shutdown(oneshot::Sender<()>),
    Panic(String),
}

impl Task {
    /// Builds the swarm; it does not listen yet.
    pub(super) fn new(
        config: &SwarmConfig,
        hello_timeout: Duration,
        hub: Arc<Hub>,
        commands: mpsc::Receiver<Command>,
        events: mpsc::Sender<SwarmEvent>,
    ) -> Result<Self, SwarmError> {
        let keys = key::to_libp2p(&config.identity);
        let me = keys.public().to_peer_id();
        let transport = match transport::memory::is_wanted(&config.listen) {
            true => transport::memory::build(&keys),
            false => transport::build(&keys),
        };
        let transport = transport.map_err(|error| SwarmError::Transport(error.to_string()))?;
        let mdns = config
            .mdns
            .then(|| mdns::tokio::Behaviour::new(mdns::Config::default(), me))
            .transpose()
            .map_err(SwarmError::Mdns)?;
        // Strangers learn our agent and how we see them, but not where else we listen.
        let identify = identify::Config::new(IDENTIFY_PROTOCOL.into(), keys.public())
            .with_agent_version(config.agent.clone())
            .with_hide_listen_addrs(true)
            .with_cache_size(0);
        let ping = ping::Config::new().with_interval(PING_INTERVAL).with_timeout(PING_TIMEOUT);
        let behaviour = Behaviour {
            identify: identify::Behaviour::new(identify),
            ping: ping::Behaviour::new(ping),
            mdns: mdns.into(),
            gate: Gate::new(hub.clone(), hello_timeout),
        };
        let (panicked, panics) = mpsc::channel(1);
        let swarm_config = libp2p::swarm::Config::with_executor(watched(panicked.clone()))
            .with_max_negotiating_inbound_streams(NEGOTIATING_MAX)
            .with_per_connection_event_buffer_size(CONNECTION_EVENTS_MAX);
        let swarm = libp2p::Swarm::new(transport, behaviour, me, swarm_config);
        Ok(Self {
            swarm,
            hub,
            commands,
            events,
            outbox: VecDeque::new(),
            drops_due: None,
            dials_unpolled: 0,
            panics,
            #[cfg(test)]
            panicked,
        })
    }

    /// Listens on all of these, and waits a moment for the addresses that come of it.
    pub(super) async fn listen(&mut self, addresses: &[String]) -> Result<(), SwarmError> {
        let mut waiting = HashSet::new();
        for address in addresses {
            let parsed: Multiaddr =
                address.parse().map_err(|error: libp2p::multiaddr::Error| SwarmError::Address {
                    address: address.clone(),
                    cause: error.to_string(),
                })?;
            let listener = self.swarm.listen_on(parsed);
            waiting.insert(listener.map_err(|error| listen_error(address.clone(), &error))?);
        }
        // An address that does not turn up in time is still announced by its event later.
        let _known_or_late = timeout(LISTEN_TIMEOUT, self.await_addresses(waiting)).await;
        Ok(())
    }

    async fn await_addresses(&mut self, mut waiting: HashSet<ListenerId>) {
        while !waiting.is_empty() {
            let event = self.swarm.select_next_some().await;
            if let Libp2pEvent::NewListenAddr { listener_id, .. } = &event {
                waiting.remove(listener_id);
            }
            self.on_event(event);
        }
    }

    /// Runs until the end, and reports a panic as the last event.
    pub(super) async fn supervise(self) {
        let events = self.events.clone();
        let reason = match AssertUnwindSafe(self.run()).catch_unwind().await {
            Ok(None) => return,
            Ok(Some(reason)) => reason,
            Err(panic) => panic_text(&*panic),
        };
        // An error means that nobody listens: the panic hook has printed it anyway.
        let _sent_or_nobody_there = events.send(SwarmEvent::Failed { reason }).await;
    }

    /// Ends with the text of a panic, or with nothing to say.
    async fn run(mut self) -> Option<String> {
        match self.work().await {
            End::Abandoned => None,
            End::Panic(reason) => Some(reason),
            End::Shutdown(done) => {
                self.leave_everybody().await;
                drop(self);
                // An error means that the caller did not wait.
                let _told_or_gone = done.send(());
                None
            }
        }
    }

    async fn work(&mut self) -> End {
        let (events, hub) = (self.events.clone(), self.hub.clone());
        loop {
            let drops_due = self.drops_due.unwrap_or_else(Instant::now);
            tokio::select! {
                biased;
                Some(reason) = self.panics.recv() => return End::Panic(reason),
                command = self.commands.recv() => match command {
                    None => return End::Abandoned,
                    Some(Command::Shutdown { done }) => return End::Shutdown(done),
                    Some(Command::Dial { peer, addresses }) => self.dial(peer, addresses),
                    Some(Command::Abort { peer }) => self.abort(&peer),
                    #[cfg(test)]
                    Some(Command::Panic { spawned: false }) => panic!("planted"),
                    #[cfg(test)]
                    Some(Command::Panic { spawned: true }) => {
                        watched(self.panicked.clone())(Box::pin(async { panic!("planted") }));
                    }
                },
                room = events.reserve(), if !self.outbox.is_empty() => {
                    let (Ok(room), Some(event)) = (room, self.outbox.pop_front()) else {
                        return End::Abandoned;
                    };
                    room.send(event);
                },
                () = events.closed(), if self.outbox.is_empty() => return End::Abandoned,
                () = hub.dropped(), if self.drops_due.is_none() => {
                    self.drops_due = Some(Instant::now() + DROP_REPORT_DELAY);
                },
                () = sleep_until(drops_due), if self.drops_due.is_some() => {
                    self.drops_due = None;
                    self.report_drops();
                },
                event = self.swarm.select_next_some(), if self.outbox.is_empty() => {
                    self.dials_unpolled = 0;
                    self.on_event(event);
                },
            }
        }
    }

    /// Flushes and closes all connections. Events are no longer handed over.
    async fn leave_everybody(&mut self) {
        self.hub.peers().iter().for_each(|peer| peer.leave());
        let all_gone = async {
            while self.swarm.connected_peers().next().is_some() {
                self.swarm.select_next_some().await;
            }
        };
        // Whoever has not gone by then is cut off.
        let _gone_or_cut_off = timeout(FLUSH_TIMEOUT + SHUTDOWN_GRACE, all_gone).await;
    }

    fn dial(&mut self, peer: NodeId, addresses: Vec<String>) {
        // Each dial may leave a failure to report, and nobody is taking reports.
        if self.dials_unpolled >= COMMANDS_MAX {
            return;
        }
        self.dials_unpolled += 1;
        let Some(peer_id) = key::peer_id(&peer) else {
            let reason = "the node id is not an ed25519 key".into();
            return self.outbox.push_back(SwarmEvent::DialFailed { peer, reason });
        };
        let parsed: Vec<Multiaddr> = addresses
            .iter()
            .take(DIAL_ADDRESSES_MAX)
            .filter_map(|address| address.parse().ok())
            .collect();
        if parsed.is_empty() {
            let reason = format!("no usable address in {addresses:?}");
            return self.outbox.push_back(SwarmEvent::DialFailed { peer, reason });
        }
        // The gate hears of a failure, this one and any later one, and reports it.
        let _reported_by_gate =
            self.swarm.dial(DialOpts::peer_id(peer_id).addresses(parsed).build());
    }

    fn abort(&mut self, peer: &NodeId) {
        if let Some(peer_id) = key::peer_id(peer) {
            // An error means that there was no connection: only dials are meant here.
            let _not_connected = self.swarm.disconnect_peer_id(peer_id);
        }
    }

    fn report_drops(&mut self) {
        for peer in self.hub.peers() {
            let frames = peer.take_dropped();
            if frames > 0 {
                self.outbox.push_back(SwarmEvent::Dropped { peer: peer.id, frames });
            }
        }
    }

    fn on_event(&mut self, event: Libp2pEvent<BehaviourEvent>) {
        match event {
            Libp2pEvent::Behaviour(event) => self.on_behaviour_event(event),
            Libp2pEvent::NewListenAddr { address, .. } => {
                let address = without_peer(&address);
                self.hub.set_listening(|all| all.push(address.clone()));
                self.outbox.push_back(SwarmEvent::Listening { address });
            }
            Libp2pEvent::ExpiredListenAddr { address, .. } => {
                self.not_listening(&address, "the address left its interface");
            }
            Libp2pEvent::ListenerClosed { addresses, reason, .. } => {
                let reason = match &reason {
                    Ok(()) => "the listener ended".into(),
                    Err(error) => chain(error),
                };
                for address in &addresses {
                    self.not_listening(address, &reason);
                }
            }
            _ => {}
        }
    }

    fn not_listening(&mut self, address: &Multiaddr, reason: &str) {
        let address = without_peer(address);
        self.hub.set_listening(|all| all.retain(|known| *known != address));
        self.outbox.push_back(SwarmEvent::NotListening { address, reason: reason.into() });
    }

    fn on_behaviour_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Gate(event) => self.outbox.push_back(event),
            BehaviourEvent::Identify(identify::Event::Received { info, .. }) => {
                let address = without_peer(&info.observed_addr);
                self.outbox.push_back(SwarmEvent::Observed { address });
            }
            BehaviourEvent::Ping(ping::Event { connection, result: Err(failure), .. })
                if !matches!(failure, ping::Failure::Unsupported) =>
            {
                self.swarm.close_connection(connection);
            }
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => {
                for (peer, address) in found {
                    let Some(peer) = key::node_id(&peer) else { continue };
                    let address = without_peer(&address);
                    self.outbox.push_back(SwarmEvent::Discovered { peer, address });
                }
            }
            _ => {}
        }
    }
}

/// Spawns libp2p's tasks on tokio. A panic in one would leave a connection that is dead but listed.
fn watched(
    panicked: mpsc::Sender<String>,
) -> impl Fn(Pin<Box<dyn Future<Output = ()> + Send>>) + Send {
    move |task| {
        let panicked = panicked.clone();
        tokio::spawn(async move {
            if let Err(panic) = AssertUnwindSafe(task).catch_unwind().await {
                // Full means that another panic is being reported already.
                let _first_or_not = panicked.try_send(panic_text(&*panic));
            }
        });
    }
}

fn listen_error(address: String, error: &TransportError<std::io::Error>) -> SwarmError {
    match error {
        TransportError::MultiaddrNotSupported(_) => {
            SwarmError::Address { address, cause: "neither QUIC nor TCP".into() }
        }
        TransportError::Other(error) if transport::is_port_in_use(error) => {
            SwarmError::PortInUse { address }
        }
        TransportError::Other(error) => SwarmError::Listen { address, cause: chain(error) },
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic".into())
}
