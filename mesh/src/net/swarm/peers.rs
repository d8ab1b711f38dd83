//! What the handle, the gate and the connection handlers know in common about each peer.
//!
//! The obvious way to send a frame, handle to swarm task to behaviour to connection task, has four
//! queues, and libp2p stops polling every behaviour while one connection's command queue is full.
//! So frames do not travel that way: the handle puts them into the peer's bounded queue here and
//! wakes the connection that writes them. It also makes [`Peer::admit`] take effect at once, before
//! a frame that is sent after it.
//!
//! A peer exists here exactly while it has a connection. One connection, the *carrier*, writes what
//! we send: the newest one since admission. A frame stays in its queue until the
//! carrier's substream has accepted all of it, so a broken substream loses none that were waiting.
//!
//! Locks are held for a few instructions, never across an await, and never two at once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use libp2p::Stream;
use libp2p::swarm::ConnectionId;
use tokio::sync::{Notify, oneshot};

use super::bulk::BulkError;
use super::frame::PREFIX_BYTES;
use super::{
    BULK_INBOUND_MAX, BULK_REQUESTS_MAX, CONTROL_QUEUE_BYTES, CONTROL_QUEUE_FRAMES,
    FRAME_BYTES_MAX, HELLO_BYTES_MAX, HELLO_FRAMES_MAX,
};
use crate::proto::id::NodeId;

/// Frames are gathered into one write of about this many bytes.
const WRITE_BYTES: usize = 16 * 1024;

/// Where the answer to one `open_bulk` goes.
pub(super) type BulkRequest = oneshot::Sender<Result<Stream, BulkError>>;

/// One of the two outbound frame streams.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lane {
    /// `/hedgerow/hello/1`: open from the first moment.
    Hello,
    /// `/hedgerow/control/1`: shut until the peer is admitted.
    Control,
}

/// What a connection handler must know before it does anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Standing {
    /// The gate is open.
    pub(super) admitted: bool,
    /// `disconnect` was called: write what is queued, then close.
    pub(super) leaving: bool,
}

/// All connected peers.
#[derive(Default)]
pub(super) struct Hub {
    peers: Mutex<BTreeMap<NodeId, Arc<Peer>>>,
    listening: Mutex<Vec<String>>,
    dropped: Arc<Notify>,
}

/// One connected peer.
pub(super) struct Peer {
    /// Who it is, proven by the handshake.
    pub(super) id: NodeId,
    state: Mutex<State>,
    dropped: Arc<Notify>,
}

#[derive(Default)]
struct State {
    admitted: bool,
    leaving: bool,
    carrier: Option<ConnectionId>,
    links: BTreeMap<ConnectionId, Link>,
    hello: VecDeque<Vec<u8>>,
    control: VecDeque<Vec<u8>>,
    control_bytes: usize,
    dropped_frames: u64,
    bulk_requests: VecDeque<BulkRequest>,
    bulk_inbound: usize,
}

#[derive(Default)]
struct Link {
    waker: Option<Waker>,
    hellos_sent: usize,
}

/// What is left of a peer after one of its connections closed.
pub(super) struct Detached {
    /// The connection was the one that wrote our frames.
    pub(super) was_carrier: bool,
    /// Connections that are still open.
    pub(super) remaining: Vec<ConnectionId>,
}

impl Hub {
    /// The peer, if it is connected.
    pub(super) fn peer(&self, id: &NodeId) -> Option<Arc<Peer>> {
        lock(&self.peers).get(id).cloned()
    }

    /// All connected peers.
    pub(super) fn peers(&self) -> Vec<Arc<Peer>> {
        lock(&self.peers).values().cloned().collect()
    }

    /// Adds a connection, and with the first one its peer.
    pub(super) fn attach(&self, id: NodeId, connection: ConnectionId) -> Arc<Peer> {
        let peer = lock(&self.peers)
            .entry(id)
            .or_insert_with(|| {
                Arc::new(Peer { id, state: Mutex::default(), dropped: self.dropped.clone() })
            })
            .clone();
        let mut state = peer.lock();
        state.links.insert(connection, Link::default());
        // A peer that restarted connects anew while its former connection still looks alive: what is
        // written to that one is lost. Before admission the one that our hello went over is kept.
        if state.admitted || state.carrier.is_none() {
            state.carrier = Some(connection);
        }
        drop(state);
        peer
    }

    /// Removes a connection, and with the last one its peer and all that was queued for it.
    pub(super) fn detach(&self, peer: &Peer, connection: ConnectionId) -> Detached {
        let (detached, waker) = peer.detach(connection);
        if detached.remaining.is_empty() {
            lock(&self.peers).remove(&peer.id);
        }
        wake(waker);
        detached
    }

    /// Resolves after frames were dropped somewhere.
    pub(super) async fn dropped(&self) {
        self.dropped.notified().await;
    }

    /// The addresses we listen on now.
    pub(super) fn listening(&self) -> Vec<String> {
        lock(&self.listening).clone()
    }

    /// Changes the addresses we listen on.
    pub(super) fn set_listening(&self, change: impl FnOnce(&mut Vec<String>)) {
        change(&mut lock(&self.listening));
    }
}

impl Peer {
    /// Opens the gate on all its connections, present and future, while one lives.
    pub(super) fn admit(&self) {
        let mut state = self.lock();
        state.admitted = true;
        self.wake_all(state);
    }

    /// From now on nothing is accepted for sending; what is queued is flushed, then all its
    /// connections close themselves.
    pub(super) fn leave(&self) {
        let mut state = self.lock();
        state.leaving = true;
        self.wake_all(state);
    }

    /// Called by a handler each time it is polled; `waker` is woken when there is news for it.
    pub(super) fn attend(&self, connection: ConnectionId, waker: &Waker) -> Standing {
        let mut state = self.lock();
        if let Some(link) = state.links.get_mut(&connection) {
            match &mut link.waker {
                Some(known) => known.clone_from(waker),
                none => *none = Some(waker.clone()),
            }
        }
        Standing { admitted: state.admitted, leaving: state.leaving }
    }

    /// How this peer stands.
    pub(super) fn standing(&self) -> Standing {
        let state = self.lock();
        Standing { admitted: state.admitted, leaving: state.leaving }
    }

    /// Queues a frame. False if it was not taken; a control frame is counted as dropped then.
    pub(super) fn push(&self, lane: Lane, frame: Vec<u8>) -> bool {
        let mut state = self.lock();
        let taken = match lane {
            Lane::Hello => state.push_hello(frame),
            Lane::Control => state.push_control(frame),
        };
        if !taken {
            if lane == Lane::Control {
                state.dropped_frames += 1;
                self.dropped.notify_one();
            }
            return false;
        }
        let waker = state.carrier_waker();
        drop(state);
        wake(waker);
        true
    }

    /// True if this connection has something to write on `lane`.
    pub(super) fn has_frames(&self, lane: Lane, connection: ConnectionId) -> bool {
        let mut state = self.lock();
        state.carrier == Some(connection) && !state.queue(lane).is_empty()
    }

    /// Appends waiting frames in wire form to `bytes`, without taking them from the queue. Returns
    /// how many; 0 also when another connection is the carrier.
    pub(super) fn peek(&self, lane: Lane, connection: ConnectionId, bytes: &mut Vec<u8>) -> usize {
        let mut state = self.lock();
        if state.carrier != Some(connection) {
            return 0;
        }
        let mut count = 0;
        for frame in state.queue(lane) {
            if count > 0 && bytes.len() + frame.len() > WRITE_BYTES {
                break;
            }
            let length = u32::try_from(frame.len()).expect("checked when it was queued");
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(frame);
            count += 1;
        }
        count
    }

    /// Takes the first `count` frames from the queue: they are written.
    pub(super) fn written(&self, lane: Lane, connection: ConnectionId, count: usize) {
        let mut state = self.lock();
        if state.carrier != Some(connection) {
            return;
        }
        let count = count.min(state.queue(lane).len());
        let bytes: usize = state.queue(lane).drain(..count).map(|frame| cost(&frame)).sum();
        if lane == Lane::Control {
            state.control_bytes -= bytes;
        }
    }

    /// Frames dropped since the last call.
    pub(super) fn take_dropped(&self) -> u64 {
        std::mem::take(&mut self.lock().dropped_frames)
    }

    /// Asks the carrier for a bulk substream.
    pub(super) fn request_bulk(&self, request: BulkRequest) -> Result<(), BulkError> {
        let mut state = self.lock();
        if !state.admitted || state.leaving {
            return Err(BulkError::NotAdmitted);
        }
        if state.carrier.is_none() {
            return Err(BulkError::Closed);
        }
        state.bulk_requests.retain(|earlier| !earlier.is_closed());
        if state.bulk_requests.len() >= BULK_REQUESTS_MAX {
            return Err(BulkError::Busy);
        }
        state.bulk_requests.push_back(request);
        let waker = state.carrier_waker();
        drop(state);
        wake(waker);
        Ok(())
    }

    /// A bulk substream somebody waits for, if this connection is to open it.
    pub(super) fn next_bulk(&self, connection: ConnectionId) -> Option<BulkRequest> {
        let mut state = self.lock();
        if state.carrier != Some(connection) {
            return None;
        }
        std::iter::from_fn(|| state.bulk_requests.pop_front()).find(|request| !request.is_closed())
    }

    /// Counts one more inbound bulk substream, unless the peer has its share.
    pub(super) fn enter_bulk(self: &Arc<Self>) -> Option<BulkSlot> {
        let mut state = self.lock();
        if state.bulk_inbound >= BULK_INBOUND_MAX {
            return None;
        }
        state.bulk_inbound += 1;
        Some(BulkSlot(self.clone()))
    }

    /// Queues a control frame that no honest node would send.
    #[cfg(test)]
    pub(super) fn push_unchecked(&self, frame: Vec<u8>) {
        let mut state = self.lock();
        state.control_bytes += cost(&frame);
        state.control.push_back(frame);
        self.wake_all(state);
    }

    /// Control frames that no substream has accepted yet.
    #[cfg(test)]
    pub(super) fn unwritten(&self) -> usize {
        self.lock().control.len()
    }

    fn detach(&self, connection: ConnectionId) -> (Detached, Option<Waker>) {
        let mut state = self.lock();
        state.links.remove(&connection);
        let was_carrier = state.carrier == Some(connection);
        if was_carrier {
            // The newest, once more: the oldest may lead to a former life of the peer, and what is
            // written to it is lost until it times out.
            state.carrier = state.links.keys().next_back().copied();
        }
        if state.carrier.is_none() {
            // Whoever waits for a bulk stream is told now, even if an older one keeps `self` alive.
            let admitted = state.admitted;
            *state = State { admitted, bulk_inbound: state.bulk_inbound, ..State::default() };
        }
        let remaining = state.links.keys().copied().collect();
        (Detached { was_carrier, remaining }, state.carrier_waker())
    }

    fn wake_all(&self, state: MutexGuard<'_, State>) {
        let wakers: Vec<Waker> =
            state.links.values().filter_map(|link| link.waker.clone()).collect();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    fn push_hello(&mut self, frame: Vec<u8>) -> bool {
        if self.leaving || frame.len() > HELLO_BYTES_MAX {
            return false;
        }
        let Some(link) = self.carrier.and_then(|carrier| self.links.get_mut(&carrier)) else {
            return false;
        };
        if link.hellos_sent >= HELLO_FRAMES_MAX {
            return false;
        }
        link.hellos_sent += 1;
        self.hello.push_back(frame);
        true
    }

    fn push_control(&mut self, frame: Vec<u8>) -> bool {
        let bytes = self.control_bytes + cost(&frame);
        if !self.admitted
            || self.leaving
            || frame.len() > FRAME_BYTES_MAX
            || self.control.len() >= CONTROL_QUEUE_FRAMES
            || bytes > CONTROL_QUEUE_BYTES
        {
            return false;
        }
        self.control_bytes = bytes;
        self.control.push_back(frame);
        true
    }

    fn queue(&mut self, lane: Lane) -> &mut VecDeque<Vec<u8>> {
        match lane {
            Lane::Hello => &mut self.hello,
            Lane::Control => &mut self.control,
        }
    }

    fn carrier_waker(&self) -> Option<Waker> {
        self.links.get(&self.carrier?)?.waker.clone()
    }
}

/// One inbound bulk substream of a peer; dropping it makes room for another.
pub(super) struct BulkSlot(Arc<Peer>);

impl Drop for BulkSlot {
    fn drop(&mut self) {
        self.0.lock().bulk_inbound -= 1;
    }
}

fn cost(frame: &[u8]) -> usize {
    PREFIX_BYTES + frame.len()
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Nothing in here is left half-changed by a panic, so a poisoned lock is still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_the_carrier_closes_the_newest_other_connection_takes_over() {
        let (hub, id) = (Hub::default(), crate::proto::id::PublicKey([7; 32]));
        let [former_life, second, third] = [1, 2, 3].map(ConnectionId::new_unchecked);
        let peer = hub.attach(id, former_life);
        peer.admit();
        hub.attach(id, second);
        hub.attach(id, third);
        assert!(peer.push(Lane::Control, vec![1]));
        assert!(peer.has_frames(Lane::Control, third), "the newest one carries");
        hub.detach(&peer, third);
        assert!(peer.has_frames(Lane::Control, second));
        assert!(!peer.has_frames(Lane::Control, former_life));
    }
}
