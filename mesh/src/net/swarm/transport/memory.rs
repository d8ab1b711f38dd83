//! The third way, which leaves the process never: libp2p's in-memory transport, with Noise and Yamux as
//! over TCP. For embedders' own tests; a node that listens on `/memory/N` speaks nothing else.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use libp2p::core::Transport;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{
    Boxed, DialOpts, ListenerId, MemoryTransport, TransportError, TransportEvent,
};
use libp2p::core::upgrade::Version;
use libp2p::{Multiaddr, PeerId, identity, noise};

/// What its addresses begin with.
const PREFIX: &str = "/memory/";

/// Whether somebody who listens there wants this transport.
pub(in crate::net::swarm) fn is_wanted(listen: &[String]) -> bool {
    listen.iter().any(|address| address.starts_with(PREFIX))
}

/// Builds it for this identity.
pub(in crate::net::swarm) fn build(
    keys: &identity::Keypair,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, noise::Error> {
    let memory = Memory { inner: MemoryTransport::new(), listeners: Vec::new() };
    Ok(memory
        .upgrade(Version::V1)
        .authenticate(noise::Config::new(keys)?)
        .multiplex(super::yamux_config())
        .timeout(super::HANDSHAKE_TIMEOUT)
        .map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection)))
        .boxed())
}

/// libp2p's transport keeps the numbers of listeners that were dropped, so that nobody could listen
/// there again; and it says "no listener" where it means "taken".
struct Memory {
    inner: MemoryTransport,
    listeners: Vec<ListenerId>,
}

impl Drop for Memory {
    fn drop(&mut self) {
        for listener in self.listeners.drain(..) {
            self.inner.remove_listener(listener);
        }
    }
}

impl Transport for Memory {
    type Output = <MemoryTransport as Transport>::Output;
    type Error = <MemoryTransport as Transport>::Error;
    type ListenerUpgrade = <MemoryTransport as Transport>::ListenerUpgrade;
    type Dial = <MemoryTransport as Transport>::Dial;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<Self::Error>> {
        self.inner.listen_on(id, address)?;
        self.listeners.push(id);
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.listeners.retain(|listener| *listener != id);
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<Self::Error>> {
        self.inner.dial(address, options)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}

/// A number that nobody in this process listens on.
///
/// # Errors
/// Never in practice: the system has no randomness.
pub(crate) fn fresh_address() -> io::Result<String> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(format!("{PREFIX}{}", u64::from_le_bytes(bytes) | 1))
}
