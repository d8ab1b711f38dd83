//! The two ways onto the wire: QUIC, and TCP with Noise and Yamux. Both prove the peer's key.
//!
//! [`FreshPorts`] corrects two habits of libp2p's TCP transport. It dials from the port it listens
//! on, so two nodes that dial each other at once collide in a TCP simultaneous open, and dialling
//! again soon after a close runs into `TIME_WAIT`. And it listens with `SO_REUSEPORT`, so a second
//! process of the same user binds the same port without an error and steals half the connections.

pub(super) mod memory;

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::Either;
use libp2p::core::Transport;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{
    Boxed, DialOpts, ListenerId, PortUse, TransportError, TransportEvent,
};
use libp2p::core::upgrade::Version;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId, identity, noise, quic, tcp, yamux};

/// From the first packet to a proven key.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(8);
/// A QUIC connection without a sign of life for this long is dead.
const QUIC_IDLE_TIMEOUT: Duration = Duration::from_secs(12);
/// QUIC sends a sign of life this often; at least two fit into the idle timeout.
const QUIC_KEEP_ALIVE: Duration = Duration::from_secs(4);
/// Bytes a peer may have in flight to us on one QUIC stream: what a parked stream can occupy.
const QUIC_STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
/// Bytes a peer may have in flight to us on one QUIC connection.
const QUIC_CONNECTION_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// Substreams of one connection: two lanes each way, bulk, identify and ping, and some air. On Yamux
/// both directions count together and each stream may hold 256 KiB unread.
const STREAMS_MAX: u32 = 24;

/// Builds both transports for this identity.
pub(super) fn build(
    keys: &identity::Keypair,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, noise::Error> {
    let mut quic = quic::Config::new(keys);
    quic.handshake_timeout = HANDSHAKE_TIMEOUT;
    quic.max_idle_timeout = QUIC_IDLE_TIMEOUT.as_millis() as u32;
    quic.keep_alive_interval = QUIC_KEEP_ALIVE;
    quic.max_concurrent_stream_limit = STREAMS_MAX;
    quic.max_stream_data = QUIC_STREAM_WINDOW_BYTES;
    quic.max_connection_data = QUIC_CONNECTION_WINDOW_BYTES;
    let quic = quic::tokio::Transport::new(quic)
        .map_err(quic_error)
        .map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection)));

    let tcp = FreshPorts(tcp::tokio::Transport::new(tcp::Config::new().nodelay(true)))
        .map_err(SocketError)
        .upgrade(Version::V1)
        .authenticate(noise::Config::new(keys)?)
        .multiplex(yamux_config())
        .timeout(HANDSHAKE_TIMEOUT)
        .map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection)));

    let either = quic.or_transport(tcp).map(|output, _| match output {
        Either::Left(output) | Either::Right(output) => output,
    });
    Ok(either.boxed())
}

fn yamux_config() -> yamux::Config {
    let mut yamux = yamux::Config::default();
    yamux.set_max_num_streams(STREAMS_MAX as usize);
    yamux
}

/// The system's error, as a cause of its own: libp2p's QUIC error and the `Either`s that its
/// transports are built of pass over the innermost error when asked for their source.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct SocketError(#[source] io::Error);

fn quic_error(error: quic::Error) -> SocketError {
    match error {
        quic::Error::Io(error) => SocketError(error),
        other => SocketError(io::Error::other(other)),
    }
}

/// True if the port is taken, however deep libp2p buried that.
pub(super) fn is_port_in_use(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|io| io.kind() == io::ErrorKind::AddrInUse) {
            return true;
        }
        // `source` of a wrapping `io::Error` skips what it wraps.
        next = match io.and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    false
}

/// TCP that dials from a fresh port and does not share the one it listens on.
struct FreshPorts(tcp::tokio::Transport);

impl Transport for FreshPorts {
    type Output = <tcp::tokio::Transport as Transport>::Output;
    type Error = io::Error;
    type ListenerUpgrade = <tcp::tokio::Transport as Transport>::ListenerUpgrade;
    type Dial = <tcp::tokio::Transport as Transport>::Dial;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        if let Some(socket) = tcp_socket(&address)
            && socket.port() != 0
        {
            check_free(socket).map_err(TransportError::Other)?;
        }
        self.0.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.0.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        self.0.dial(address, DialOpts { port_use: PortUse::New, ..options })
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Pin::new(&mut self.0).poll(cx)
    }
}

fn tcp_socket(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Tcp(port) => Some(SocketAddr::new(ip, port)),
        _ => None,
    }
}

/// Binds the address for a moment, the way libp2p would but without `SO_REUSEPORT`.
fn check_free(address: SocketAddr) -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketType, bind, socket, sockopt};
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let probe = socket(family, SocketType::STREAM, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&probe, true)?;
    }
    sockopt::set_socket_reuseaddr(&probe, true)?;
    bind(&probe, &address)?;
    Ok(())
}
