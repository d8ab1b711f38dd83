//! The gate: who may connect, and what happens to a connection from its first to its last moment.
//!
//! A libp2p behaviour that gives every connection a [`Handler`], turns what the handlers report into
//! [`SwarmEvent`]s, and folds the connections of one peer into one `Connected` and one
//! `Disconnected`. All events of peers leave through one queue, so they keep their order.
//!
//! It also limits connections. libp2p's own connection-limits behaviour would do most of that, but
//! 0.7.0 keeps an empty entry for every peer id that ever connected, so strangers with fresh keys
//! would eat memory for ever; and it cannot count the unadmitted.
//!
//! Duplicate connections (both sides dialled) are kept: closing one of them without agreeing which
//! is a race, and an idle one costs less than the race. One exception: if an unadmitted peer loses
//! the connection that our hello went over, its others are closed as well, since nobody could tell
//! whether the hello arrived. `Disconnected` then leads to a clean new attempt.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use libp2p::core::transport::PortUse;
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::swarm::behaviour::ConnectionEstablished;
use libp2p::swarm::dial_opts::PeerCondition;
use libp2p::swarm::{
    CloseConnection, ConnectionClosed, ConnectionDenied, ConnectionId, DialError, DialFailure,
    FromSwarm, ListenFailure, NetworkBehaviour, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use super::handler::{Handler, Report};
use super::peers::{Hub, Peer};
use super::{
    ESTABLISHED_MAX, ESTABLISHED_PER_PEER_MAX, HANDSHAKES_MAX, SwarmEvent, UNADMITTED_MAX, key,
};

/// See the module.
pub(super) struct Gate {
    hub: Arc<Hub>,
    /// How long a connection may stay unadmitted.
    patience: Duration,
    connections: BTreeMap<ConnectionId, Connection>,
    /// Incoming connections in their handshake, at most [`HANDSHAKES_MAX`].
    incoming: BTreeSet<ConnectionId>,
    /// Outgoing connections in their handshake, at most [`HANDSHAKES_MAX`].
    outgoing: BTreeSet<ConnectionId>,
    /// At most a few per connection: libp2p drains it before it polls the connections again.
    queue: VecDeque<ToSwarm<SwarmEvent, Infallible>>,
    waker: Option<Waker>,
}

struct Connection {
    peer_id: PeerId,
    peer: Arc<Peer>,
    dialled: bool,
    /// Set when we decided to close it.
    closing: Option<String>,
}

#[derive(Debug, thiserror::Error)]
enum Denied {
    #[error("at most {HANDSHAKES_MAX} connections are established at the same time")]
    Handshakes,
    #[error("at most {ESTABLISHED_MAX} connections are open at the same time")]
    Established,
    #[error("at most {ESTABLISHED_PER_PEER_MAX} connections per peer are open at the same time")]
    PerPeer,
    #[error("at most {UNADMITTED_MAX} connections may be unadmitted")]
    Unadmitted,
    #[error("the last connection to this peer is still closing")]
    Leaving,
    #[error("the peer has no ed25519 key")]
    Key,
}

impl Gate {
    /// `patience`: how long a connection may stay unadmitted.
    pub(super) fn new(hub: Arc<Hub>, patience: Duration) -> Self {
        Self {
            hub,
            patience,
            connections: BTreeMap::new(),
            incoming: BTreeSet::new(),
            outgoing: BTreeSet::new(),
            queue: VecDeque::new(),
            waker: None,
        }
    }

    fn push(&mut self, item: ToSwarm<SwarmEvent, Infallible>) {
        self.queue.push_back(item);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn emit(&mut self, event: SwarmEvent) {
        self.push(ToSwarm::GenerateEvent(event));
    }

    fn close(&mut self, connection: ConnectionId, reason: String) {
        let Some(known) = self.connections.get_mut(&connection) else { return };
        if known.closing.is_some() {
            return;
        }
        known.closing = Some(reason);
        let peer_id = known.peer_id;
        let connection = CloseConnection::One(connection);
        self.push(ToSwarm::CloseConnection { peer_id, connection });
    }

    fn establish(
        &mut self,
        connection: ConnectionId,
        peer_id: PeerId,
        dialled: bool,
    ) -> Result<Handler, Denied> {
        let node = key::node_id(&peer_id).ok_or(Denied::Key)?;
        let known = self.hub.peer(&node).map(|peer| peer.standing());
        if known.is_some_and(|standing| standing.leaving) {
            return Err(Denied::Leaving);
        }
        if self.connections.len() >= ESTABLISHED_MAX {
            return Err(Denied::Established);
        }
        let same = self.connections.values().filter(|known| known.peer_id == peer_id);
        if same.count() >= ESTABLISHED_PER_PEER_MAX {
            return Err(Denied::PerPeer);
        }
        if !known.is_some_and(|standing| standing.admitted) {
            self.make_room()?;
        }

        let peer = self.hub.attach(node, connection);
        let entry = Connection { peer_id, peer: peer.clone(), dialled, closing: None };
        self.connections.insert(connection, entry);
        Ok(Handler::new(peer, connection, self.patience))
    }

    /// Room for one more unadmitted connection. The oldest incoming one has had its chance and goes:
    /// refusing the newest would let anyone who holds all the places keep newcomers out.
    fn make_room(&mut self) -> Result<(), Denied> {
        let unadmitted =
            |known: &Connection| known.closing.is_none() && !known.peer.standing().admitted;
        if self.connections.values().filter(|known| unadmitted(known)).count() < UNADMITTED_MAX {
            return Ok(());
        }
        let oldest = self.connections.iter().find(|(_, known)| !known.dialled && unadmitted(known));
        let oldest = *oldest.ok_or(Denied::Unadmitted)?.0;
        self.close(oldest, Denied::Unadmitted.to_string());
        Ok(())
    }

    fn on_established(&mut self, established: &ConnectionEstablished<'_>) {
        let Some(known) = self.connections.get(&established.connection_id) else { return };
        if established.other_established > 0 {
            return;
        }
        let peer = known.peer.id;
        let address = match established.endpoint {
            ConnectedPoint::Dialer { address, .. } => address,
            ConnectedPoint::Listener { send_back_addr, .. } => send_back_addr,
        };
        self.emit(SwarmEvent::Connected { peer, address: without_peer(address) });
    }

    fn on_closed(&mut self, closed: &ConnectionClosed<'_>) {
        let Some(known) = self.connections.remove(&closed.connection_id) else { return };
        let detached = self.hub.detach(&known.peer, closed.connection_id);
        if detached.remaining.is_empty() {
            let reason = known.closing.unwrap_or_else(|| match closed.cause {
                Some(cause) => chain(cause),
                None => "closed".into(),
            });
            self.emit(SwarmEvent::Disconnected { peer: known.peer.id, reason });
        } else if detached.was_carrier && !known.peer.standing().admitted {
            for other in detached.remaining {
                self.close(other, "the connection that the hello went over closed".into());
            }
        }
    }

    fn on_dial_failure(&mut self, failure: &DialFailure<'_>) {
        self.outgoing.remove(&failure.connection_id);
        let Some(peer) = failure.peer_id.and_then(|peer| key::node_id(&peer)) else { return };
        match failure.error {
            // Connected already, or another dial to this peer is under way: no failure.
            DialError::DialPeerConditionFalse(
                PeerCondition::DisconnectedAndNotDialing
                | PeerCondition::Disconnected
                | PeerCondition::NotDialing,
            ) => {}
            error => {
                self.emit(SwarmEvent::DialFailed { peer, reason: why_not_dialled(error) });
                // A board with a new card has a new key and its former address: perhaps it is a member by now.
                if let DialError::WrongPeerId { obtained, address } = error
                    && let Some(peer) = key::node_id(obtained)
                {
                    self.emit(SwarmEvent::Discovered { peer, address: without_peer(address) });
                }
            }
        }
    }
}

impl NetworkBehaviour for Gate {
    type ConnectionHandler = Handler;
    type ToSwarm = SwarmEvent;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        if self.incoming.len() >= HANDSHAKES_MAX {
            return Err(ConnectionDenied::new(Denied::Handshakes));
        }
        self.incoming.insert(connection);
        Ok(())
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        _: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        if self.outgoing.len() >= HANDSHAKES_MAX {
            return Err(ConnectionDenied::new(Denied::Handshakes));
        }
        self.outgoing.insert(connection);
        Ok(Vec::new())
    }

    // This behaviour is the last one of the swarm: once it has agreed, the connection is established.
    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        self.incoming.remove(&connection);
        self.establish(connection, peer, false).map_err(ConnectionDenied::new)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        self.outgoing.remove(&connection);
        self.establish(connection, peer, true).map_err(ConnectionDenied::new)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(established) => self.on_established(&established),
            FromSwarm::ConnectionClosed(closed) => self.on_closed(&closed),
            FromSwarm::DialFailure(failure) => self.on_dial_failure(&failure),
            FromSwarm::ListenFailure(ListenFailure { connection_id, .. }) => {
                self.incoming.remove(&connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, connection: ConnectionId, report: Report) {
        let Some(known) = self.connections.get(&connection) else { return };
        if known.closing.is_some() {
            return;
        }
        let peer = known.peer.id;
        let standing = known.peer.standing();
        match report {
            Report::Late => {
                let reason = format!("not admitted within {:?}", self.patience);
                self.close(connection, reason);
            }
            Report::Drained => self.close(connection, "disconnected by this node".into()),
            Report::Misbehaved(what) => {
                self.close(connection, format!("misbehaved: {what}"));
                self.emit(SwarmEvent::Misbehaved { peer, what });
            }
            // It was told to go: what it still says is read, so that it can finish, but not heard.
            _ if standing.leaving => {}
            Report::Hello(frame) => self.emit(SwarmEvent::Hello { peer, frame }),
            Report::Control(frame) => self.emit(SwarmEvent::Control { peer, frame }),
            Report::Bulk(stream) => self.emit(SwarmEvent::Bulk { peer, stream }),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<SwarmEvent, Infallible>> {
        match self.queue.pop_front() {
            Some(item) => Poll::Ready(item),
            None => {
                self.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// An address without the `/p2p/…` at its end: the event names the peer already.
pub(super) fn without_peer(address: &Multiaddr) -> String {
    let mut address = address.clone();
    if let Some(libp2p::multiaddr::Protocol::P2p(_)) = address.iter().last() {
        address.pop();
    }
    address.to_string()
}

/// Why a dial failed, for people: each address that was tried, and what is at the bottom of it.
fn why_not_dialled(error: &DialError) -> String {
    match error {
        DialError::Transport(attempts) => {
            let each = attempts
                .iter()
                .map(|(address, error)| format!("{}: {}", without_peer(address), root(error)));
            each.collect::<Vec<_>>().join("; ")
        }
        DialError::WrongPeerId { address, .. } => {
            format!("{}: another board answers there", without_peer(address))
        }
        error => chain(error),
    }
}

fn root(error: &(dyn std::error::Error + 'static)) -> String {
    error.source().map_or_else(|| error.to_string(), root)
}

/// An error with its causes, since libp2p keeps what matters at the bottom.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
