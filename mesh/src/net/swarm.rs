//! The swarm: connections to other nodes, and what may pass over them.
//!
//! libp2p gives us transport, security, multiplexing and discovery on the LAN; the protocols are our
//! own three: `/hedgerow/hello/1`, `/hedgerow/control/1` and `/hedgerow/bulk/1`. Hello and control
//! carry frames (u32 LE length + bytes; what the bytes mean is `proto::wire`'s business), bulk is a
//! naked stream. No libp2p type leaves this module.
//!
//! Strangers get nothing: until the driver calls [`Swarm::admit`], a connection carries hello frames
//! and nothing else, and it is closed when that takes too long. Admission belongs to a peer and
//! lasts while any connection to it lives.
//!
//! ```text
//!   Swarm (handle) ──dial──▶ task ── owns ── libp2p::Swarm ── Gate (behaviour) ── one Handler per
//!      │                      │                                      │            connection
//!      │                 SwarmEvent ◀────────────────────────────────┘                │
//!      └── frames, admit, disconnect ──▶ Hub: one Peer per node ◀─────────────────────┘
//! ```
//!
//! Every queue is bounded. Towards the peer, a full queue drops the newest frame and says so. Towards
//! the driver nothing is dropped: while it does not take events, connections are not read, and the
//! peers' own queues fill.
//!
//! What a caller may rely on: control frames to one peer arrive in order and at most once while one
//! connection lives. When a connection or a substream breaks, frames that were written to it may be
//! lost, and frames on the next one may overtake what still was in the old one. Nothing here retries
//! a dial, remembers addresses, paces bulk or crosses a NAT.

mod bulk;
mod frame;
mod gate;
mod handler;
mod key;
mod peers;
mod protocol;
mod sender;
mod task;
#[cfg(test)]
mod tests;
mod transport;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

pub(crate) use self::bulk::{BulkError, BulkStream};
use self::peers::{Hub, Lane};
use self::task::{Command, Task};
pub(crate) use self::transport::memory::fresh_address as fresh_memory_address;
use crate::proto::id::{Keypair, NodeId};

/// Longest frame, in bytes after the length.
pub(crate) const FRAME_BYTES_MAX: usize = 256 * 1024;
/// Longest hello frame, in bytes after the length.
pub(crate) const HELLO_BYTES_MAX: usize = 8 * 1024;
/// Hello frames per connection and direction.
pub(crate) const HELLO_FRAMES_MAX: usize = 4;
/// Control frames waiting for one peer.
pub(crate) const CONTROL_QUEUE_FRAMES: usize = 1024;
/// Bytes of control frames waiting for one peer, their lengths included.
pub(crate) const CONTROL_QUEUE_BYTES: usize = 1024 * 1024;

/// How long a connection may stay unadmitted.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// How long `disconnect` waits for queued frames to be written and read.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(300);
/// How long opening a hello or control substream may take.
const SUBSTREAM_OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long opening a bulk substream may take.
const BULK_OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Inbound bulk substreams open at once, per peer.
const BULK_INBOUND_MAX: usize = 2;
/// `open_bulk` calls waiting for their connection's attention, per peer.
const BULK_REQUESTS_MAX: usize = 4;
/// Connections that are not admitted yet.
const UNADMITTED_MAX: usize = 32;
/// Connections in their handshake, per direction.
const HANDSHAKES_MAX: usize = 32;
/// Established connections altogether.
const ESTABLISHED_MAX: usize = 512;
/// Established connections to one peer: one dialled by each side, and the same while they change.
const ESTABLISHED_PER_PEER_MAX: usize = 4;
/// Events waiting for the driver. Frames are among them, so this is also a bound on their memory.
const EVENTS_MAX: usize = 64;
/// Commands waiting for the swarm task. It takes them at once, whatever else it waits for.
const COMMANDS_MAX: usize = 256;
/// Addresses tried per dial; the rest is ignored.
const DIAL_ADDRESSES_MAX: usize = 16;

/// How to start a swarm.
pub(crate) struct SwarmConfig {
    /// Proves who we are on every connection.
    pub(crate) identity: Keypair,
    /// Multiaddrs to listen on, such as `/ip4/0.0.0.0/udp/4711/quic-v1` and `/ip4/0.0.0.0/tcp/4711`;
    /// port 0 lets the system choose; or `/memory/N` alone, which leaves this process never. Several, or none to only dial.
    pub(crate) listen: Vec<String>,
    /// Announce ourselves on the LAN, and emit [`SwarmEvent::Discovered`]. False: no socket for it.
    pub(crate) mdns: bool,
    /// Name and version, told to every peer that connects, admitted or not.
    pub(crate) agent: String,
}

/// Why a swarm did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum SwarmError {
    /// Correct the address.
    #[error("{address:?} is not an address to listen on: {cause}")]
    Address { address: String, cause: String },
    /// Stop the other process, or choose another port.
    #[error("cannot listen on {address}: the port is in use")]
    PortInUse { address: String },
    /// The system refused, for instance because the address is not one of this machine.
    #[error("cannot listen on {address}: {cause}")]
    Listen { address: String, cause: String },
    /// Switch mDNS off, or repair the machine's network interfaces.
    #[error("mDNS does not start: {0}")]
    Mdns(io::Error),
    /// The identity key could not be turned into transport keys.
    #[error("the transports do not start: {0}")]
    Transport(String),
}

/// What happened on the network.
#[derive(Debug)]
pub(crate) enum SwarmEvent {
    /// We listen on this address, with its real port.
    Listening { address: String },
    /// We no longer listen on this address: its interface went away, or its listener broke.
    NotListening { address: String, reason: String },
    /// The first connection to a peer; its key is proven, it is not admitted.
    Connected { peer: NodeId, address: String },
    /// The last connection to a peer is gone, and so is all that was queued for it.
    Disconnected { peer: NodeId, reason: String },
    /// None of the addresses led to this peer.
    DialFailed { peer: NodeId, reason: String },
    /// A hello frame, at most [`HELLO_BYTES_MAX`].
    Hello { peer: NodeId, frame: Vec<u8> },
    /// A control frame of an admitted peer, at most [`FRAME_BYTES_MAX`].
    Control { peer: NodeId, frame: Vec<u8> },
    /// An admitted peer opened a bulk stream.
    Bulk { peer: NodeId, stream: BulkStream },
    /// A peer broke a rule; the connection is being closed.
    Misbehaved { peer: NodeId, what: String },
    /// So many control frames to this peer were not sent since the last such event.
    Dropped { peer: NodeId, frames: u64 },
    /// mDNS saw this peer. Unproven: anyone on the LAN can say so.
    Discovered { peer: NodeId, address: String },
    /// A peer, admitted or not, says that it sees us under this address. Repeated per connection.
    Observed { address: String },
    /// The swarm panicked and is gone with all its connections; start a new one. Always the last.
    Failed { reason: String },
}

/// A cheap handle to a running swarm. The swarm stops when the last handle or the event receiver is
/// dropped: peers see the connection close, and nothing is flushed.
#[derive(Clone)]
pub(crate) struct Swarm {
    hub: Arc<Hub>,
    commands: mpsc::Sender<Command>,
}

/// Starts the swarm task on the current tokio runtime, and waits until the addresses it listens on
/// are known (a second at most, for machines without a network).
pub(crate) async fn start(
    config: SwarmConfig,
) -> Result<(Swarm, mpsc::Receiver<SwarmEvent>), SwarmError> {
    start_with(config, HELLO_TIMEOUT).await
}

async fn start_with(
    config: SwarmConfig,
    hello_timeout: Duration,
) -> Result<(Swarm, mpsc::Receiver<SwarmEvent>), SwarmError> {
    let hub = Arc::new(Hub::default());
    let (commands, command_inbox) = mpsc::channel(COMMANDS_MAX);
    let (events, event_outbox) = mpsc::channel(EVENTS_MAX);
    let mut task = Task::new(&config, hello_timeout, hub.clone(), command_inbox, events)?;
    task.listen(&config.listen).await?;
    tokio::spawn(task.supervise());
    Ok((Swarm { hub, commands }, event_outbox))
}

impl Swarm {
    /// Dials a peer at these addresses, several at once, and accepts nobody else there. Ends in
    /// `Connected` or `DialFailed`, except that it does nothing for a connected peer, and that dials
    /// to one peer are not repeated while one is under way. False: try again later.
    pub(crate) fn dial(&self, peer: NodeId, addresses: Vec<String>) -> bool {
        self.hub.peer(&peer).is_some()
            || self.commands.try_send(Command::Dial { peer, addresses }).is_ok()
    }

    /// Sends what is queued, for 300 ms at most, then closes all connections to a peer and gives up
    /// dialling it. Ends in `Disconnected` if it was connected; no frame of it is delivered any more.
    pub(crate) fn disconnect(&self, peer: NodeId) -> bool {
        match self.hub.peer(&peer) {
            Some(peer) => peer.leave(),
            None => return self.commands.try_send(Command::Abort { peer }).is_ok(),
        }
        true
    }

    /// Lets control frames and bulk streams pass, in both directions. False if it is not connected.
    ///
    /// Takes effect at once and on whatever connection the peer has now, so an admission that was
    /// decided for an earlier connection covers this one as well: the key is the same.
    pub(crate) fn admit(&self, peer: NodeId) -> bool {
        let connected = self.hub.peer(&peer);
        connected.as_deref().map(peers::Peer::admit).is_some()
    }

    /// Queues a hello frame. False if it is too long, the fifth one, or the peer is not connected.
    pub(crate) fn send_hello(&self, peer: NodeId, frame: Vec<u8>) -> bool {
        self.hub.peer(&peer).is_some_and(|peer| peer.push(Lane::Hello, frame))
    }

    /// Queues a control frame. False if it was dropped, since the queue is full, the frame is too
    /// long, or the peer is not admitted (a `Dropped` event counts these) or not connected at all.
    pub(crate) fn send_control(&self, peer: NodeId, frame: Vec<u8>) -> bool {
        self.hub.peer(&peer).is_some_and(|peer| peer.push(Lane::Control, frame))
    }

    /// Opens a bulk stream to an admitted peer, within 10 s.
    pub(crate) async fn open_bulk(&self, peer: NodeId) -> Result<BulkStream, BulkError> {
        let (request, answer) = oneshot::channel();
        self.hub.peer(&peer).ok_or(BulkError::NotConnected)?.request_bulk(request)?;
        match timeout(BULK_OPEN_TIMEOUT, answer).await {
            Ok(Ok(opened)) => opened.map(|stream| BulkStream::new(stream, None)),
            Ok(Err(_request_dropped)) => Err(BulkError::Closed),
            Err(_elapsed) => Err(BulkError::Timeout),
        }
    }

    /// The addresses we listen on now, with their real ports.
    pub(crate) fn listen_addresses(&self) -> Vec<String> {
        self.hub.listening()
    }

    /// Disconnects from everybody, as [`Swarm::disconnect`] does, and stops the swarm. Events that
    /// were not taken yet are lost. Returns within a second, whatever the peers do.
    pub(crate) async fn shutdown(self) {
        let (done, stopped) = oneshot::channel();
        if self.commands.send(Command::Shutdown { done }).await.is_ok() {
            // An error means that the task is gone, which is what we wanted.
            let _stopped_or_gone = stopped.await;
        }
    }
}
