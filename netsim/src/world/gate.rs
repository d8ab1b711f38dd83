//! Connections of one process to its peers, and what may pass over them: what the swarm does.
//!
//! The rules are the real gate's. Several connections to one peer are one peer: `Connected` with the
//! first, `Disconnected` with the last; what is sent goes over the newest since admission, before that
//! over the oldest. Until the node has let a peer in, only `Hello` and `Refused` pass; other frames that
//! arrive are parked, other messages that are sent are dropped. A connection that is not let in within
//! [`HELLO_TIMEOUT`] is closed. Hanging up flushes for at most [`FLUSH_TIMEOUT`].

use hedgerow::proto::id::NodeId;
use hedgerow::proto::io::Input;
use hedgerow::proto::wire::{self, FrameError};

use super::World;
use super::rogue::LATER_KIND;
use crate::board::{self, Peer, Wake};
use crate::net::Load;
use crate::net::datagram::Carrier;
use crate::queue::{BoardIndex, ConnIndex, Due};
use crate::time::{MILLI, Nanos, SECOND};

/// How long a connection may stay unadmitted.
const HELLO_TIMEOUT: Nanos = 10 * SECOND;
/// How long hanging up waits for what was sent to be read.
const FLUSH_TIMEOUT: Nanos = 300 * MILLI;
/// Connections to one peer.
const CONNS_PER_PEER_MAX: usize = 4;
/// Frames that wait to be sent to one peer; more are dropped.
const FRAMES_WAITING_MAX: usize = 1024;
/// Kinds of message that pass before admission: `Hello` and `Refused`.
pub(super) const HELLO_KINDS: [u16; 2] = [1, 2];
/// … and what is said but once on a connection, so that no protocol repeats it: these and `Welcome`.
const GREETING_KINDS: [u16; 3] = [1, 2, 3];

impl World {
    pub(super) fn send(&mut self, board: BoardIndex, to: &NodeId, is_hello: bool, frame: Vec<u8>) {
        self.messages += 1;
        self.bytes += frame.len() as u64;
        let Some(peer) = self.boards[usize::from(board)].peers.get(to) else { return };
        if peer.leaving || !(is_hello || peer.admitted) {
            return;
        }
        let Some((conn, end)) = peer.conns.first().copied() else { return };
        self.feel_weather(board, self.net.end(conn, 1 - end).board);
        let begins = frame.first_chunk::<2>().is_some_and(|kind| is_greeting(*kind));
        if self.plan.carrier == Carrier::Datagrams && !begins {
            return self.net.post(self.now, conn, end, frame, &mut self.queue);
        }
        if self.net.waiting(conn, end) >= FRAMES_WAITING_MAX {
            return;
        }
        self.net.send(self.now, conn, end, Load::Frame(frame), &mut self.queue);
    }

    /// A datagram is there. Where nobody has the connection any more, nobody is told.
    pub(super) fn datagram(&mut self, number: u32) {
        let Some((conn, end, frame)) = self.net.take_datagram(self.now, number) else { return };
        let receiver = self.net.end(conn, end);
        if receiver.open {
            self.wake(receiver.board, Wake::Frame(conn, end, frame));
        }
    }

    pub(super) fn frame(&mut self, board: BoardIndex, conn: ConnIndex, end: u8, frame: Vec<u8>) {
        let from = self.net.end(conn, 1 - end).node;
        let Some(peer) = self.boards[usize::from(board)].peers.get(&from) else { return };
        if peer.leaving || !self.net.end(conn, end).open {
            return;
        }
        let kind = frame.first_chunk::<2>().map(|kind| u16::from_le_bytes(*kind));
        if !peer.admitted && kind.is_none_or(|kind| !HELLO_KINDS.contains(&kind)) {
            self.net.end_mut(conn, end).parked.push(frame);
            return;
        }
        match wire::decode(&frame) {
            Ok(message) => self.receive(board, Input::Received { from, message }, &frame),
            Err(FrameError::Unknown(_)) => {}
            Err(error) if kind.is_some_and(|kind| kind >= LATER_KIND) => {
                let text = format!("a message of a later version is told as: {error}");
                self.find("later-kinds-are-skipped", Some(board), text);
            }
            Err(error) => self.give(board, Input::Garbled { from, what: error.to_string() }),
        }
    }

    /// Opens the gate; what was parked is handled next.
    pub(super) fn admit(&mut self, board: BoardIndex, peer: &NodeId) {
        let state = &mut self.boards[usize::from(board)];
        let Some(known) = state.peers.get_mut(peer) else { return };
        known.admitted = true;
        state.is_member = true;
        for (conn, end) in known.conns.iter().rev() {
            let parked = std::mem::take(&mut self.net.end_mut(*conn, *end).parked);
            // Before anything that came later on the same connection.
            for frame in parked.into_iter().rev() {
                state.inbox.push_front(Wake::Frame(*conn, *end, frame));
            }
        }
    }

    pub(super) fn attach(&mut self, board: BoardIndex, conn: ConnIndex, end: u8) {
        if !self.net.end(conn, end).open {
            return;
        }
        let other = self.net.end(conn, 1 - end);
        let roams = self.boards[usize::from(other.board)].roams;
        let (node, address) = (other.node, board::address(other.board, roams));
        let state = self.board(board);
        state.dialling.remove(&node);
        let known = state.peers.entry(node).or_default();
        if known.leaving || known.conns.len() >= CONNS_PER_PEER_MAX {
            self.shut(conn, end);
            self.net.close(self.now, conn, end, &mut self.queue);
            return;
        }
        // A peer that restarted connects anew while its former connection still looks alive. Before admission
        // the one that the hello went over is kept.
        let place = if known.admitted { 0 } else { known.conns.len() };
        known.conns.insert(place, (conn, end));
        let is_first = known.conns.len() == 1;
        self.queue.push(self.now + HELLO_TIMEOUT, Due::Late(conn, end));
        if is_first {
            self.give(board, Input::Connected { peer: node, address });
        }
    }

    /// The connection is gone, as far as the transport at this end knows.
    pub(super) fn detach(&mut self, conn: ConnIndex, end: u8, why: &'static str) {
        if self.net.end(conn, end).open {
            let board = self.net.end(conn, end).board;
            self.wake(board, Wake::Detach(conn, end, why));
        }
    }

    pub(super) fn detached(
        &mut self,
        board: BoardIndex,
        conn: ConnIndex,
        end: u8,
        why: &'static str,
    ) {
        if !self.net.end(conn, end).open {
            return;
        }
        self.net.close(self.now, conn, end, &mut self.queue);
        let node = self.net.end(conn, 1 - end).node;
        let state = &mut self.boards[usize::from(board)];
        let Some(peer) = state.peers.get_mut(&node) else { return };
        let Some(place) = peer.conns.iter().position(|known| *known == (conn, end)) else { return };
        peer.conns.remove(place);
        if peer.conns.is_empty() {
            state.peers.remove(&node);
            self.give(board, Input::Disconnected { peer: node, why: why.to_owned() });
        } else if place == 0 && peer.admitted {
            // The newest, once more.
            peer.conns.sort_unstable_by(|a, b| b.cmp(a));
        } else if place == 0 {
            // Nobody could tell whether the hello arrived; a clean new attempt follows.
            for (conn, end) in peer.conns.clone() {
                self.shut(conn, end);
                self.detach(conn, end, "the connection that the hello went over closed");
            }
        }
    }

    pub(super) fn hang_up(&mut self, board: BoardIndex, node: NodeId) {
        let state = &mut self.boards[usize::from(board)];
        if state.dialling.remove(&node).is_some() && !state.peers.contains_key(&node) {
            state.inbox.push_back(Wake::DialFailed(node, "given up"));
        }
        let Some(Peer { leaving, conns, .. }) = state.peers.get_mut(&node) else { return };
        *leaving = true;
        for (conn, end) in conns.clone() {
            self.net.end_mut(conn, end).parked.clear();
            self.shut(conn, end);
            self.queue.push(self.now + FLUSH_TIMEOUT, Due::Close(conn, end));
        }
    }

    /// Sends the end of the stream behind what was sent before.
    pub(super) fn shut(&mut self, conn: ConnIndex, end: u8) {
        self.net.send(self.now, conn, end, Load::Fin, &mut self.queue);
    }

    pub(super) fn late(&mut self, conn: ConnIndex, end: u8) {
        let at = self.net.end(conn, end);
        if !at.open {
            return;
        }
        let node = self.net.end(conn, 1 - end).node;
        let peer = self.boards[usize::from(at.board)].peers.get(&node);
        if peer.is_some_and(|peer| !peer.admitted) {
            self.shut(conn, end);
            self.detach(conn, end, "it was not let in in time");
        }
    }
}

/// Whether a message of this kind needs a reliable way, whatever carries the others.
fn is_greeting(kind: [u8; 2]) -> bool {
    GREETING_KINDS.contains(&u16::from_le_bytes(kind))
}
