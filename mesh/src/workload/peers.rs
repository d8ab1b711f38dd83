//! The agents that talk to a shim: bounded, non-blocking, same user only.
//!
//! A peer that does not read is dropped when its buffer is full; one that talks nonsense is told so
//! and dropped. Neither can hold the shim up: every call here returns at once.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use rustix::net::sockopt::socket_peercred;
use rustix::process::getuid;

use super::frames::{Frames, frame};
use super::wire::{
    Call, FRAME_BYTES_MAX, Message, Notice, Refusal, Reply, Request, VERSION, VERSION_OLDEST,
};

/// Most agents at once.
pub(crate) const PEERS_MAX: usize = 8;
/// Most bytes that wait for one agent to read them.
pub(crate) const OUT_BYTES_MAX: usize = 64 * 1024;

/// Names a connection within one shim; never used twice.
pub(crate) type PeerId = u64;

/// The listener and the connections.
#[derive(Debug)]
pub(crate) struct Peers {
    listener: UnixListener,
    list: Vec<Peer>,
    next: PeerId,
}

#[derive(Debug)]
struct Peer {
    id: PeerId,
    stream: UnixStream,
    frames: Frames,
    out: Vec<u8>,
    greeted: bool,
    subscribed: bool,
    /// Drop it once `out` is written.
    leaving: bool,
    broken: bool,
}

impl Peers {
    pub(crate) fn new(listener: UnixListener) -> Self {
        Self { listener, list: Vec::new(), next: 1 }
    }

    pub(crate) fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Each connection, and whether it also wants to write.
    pub(crate) fn sources(&self) -> impl Iterator<Item = (PeerId, BorrowedFd<'_>, bool)> {
        self.list.iter().map(|peer| (peer.id, peer.stream.as_fd(), !peer.out.is_empty()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Accepts who knocks. Strangers, and whoever comes when all places are taken, are shut out.
    pub(crate) fn accept(&mut self) {
        for stream in accept_all(&self.listener) {
            if self.list.len() == PEERS_MAX {
                continue;
            }
            let (id, frames) = (self.next, Frames::new(FRAME_BYTES_MAX));
            self.next += 1;
            let (out, greeted, subscribed) = (Vec::new(), false, false);
            let (leaving, broken) = (false, false);
            self.list.push(Peer { id, stream, frames, out, greeted, subscribed, leaving, broken });
        }
    }

    /// What this peer asks, greetings already answered. Call when it is readable.
    pub(crate) fn read(&mut self, id: PeerId) -> Vec<Call> {
        let Some(peer) = self.list.iter_mut().find(|peer| peer.id == id) else { return Vec::new() };
        let calls = peer.read();
        self.bury();
        calls
    }

    /// Writes what waits. Call when the peer is writable.
    pub(crate) fn flush(&mut self, id: PeerId) {
        if let Some(peer) = self.list.iter_mut().find(|peer| peer.id == id) {
            peer.flush();
        }
        self.bury();
    }

    /// Answers one call; nobody minds if the peer has gone.
    pub(crate) fn reply(&mut self, id: PeerId, call: u64, reply: Reply) {
        if let Some(peer) = self.list.iter_mut().find(|peer| peer.id == id) {
            peer.send(&Message::Reply { id: call, reply });
        }
        self.bury();
    }

    pub(crate) fn subscribe(&mut self, id: PeerId) {
        if let Some(peer) = self.list.iter_mut().find(|peer| peer.id == id) {
            peer.subscribed = true;
        }
    }

    /// Tells one subscriber, by way of `id`.
    pub(crate) fn notify_one(&mut self, id: PeerId, notice: Notice) {
        if let Some(peer) = self.list.iter_mut().find(|peer| peer.id == id) {
            peer.send(&Message::Notice(notice));
        }
        self.bury();
    }

    /// Tells every subscriber.
    pub(crate) fn notify(&mut self, notice: Notice) {
        let message = Message::Notice(notice);
        for peer in self.list.iter_mut().filter(|peer| peer.subscribed) {
            peer.send(&message);
        }
        self.bury();
    }

    /// Whether every peer has been written all that waits for it.
    pub(crate) fn are_flushed(&self) -> bool {
        self.list.iter().all(|peer| peer.out.is_empty())
    }

    fn bury(&mut self) {
        self.list.retain(|peer| !peer.broken);
    }
}

impl Peer {
    fn read(&mut self) -> Vec<Call> {
        let mut bytes = [0; READ_BYTES];
        match self.stream.read(&mut bytes) {
            Ok(0) => self.broken = true,
            Ok(count) => self.frames.push(&bytes[..count]),
            Err(error) if would_wait(&error) => {}
            Err(_) => self.broken = true,
        }
        let mut calls = Vec::new();
        while !self.broken && !self.leaving {
            let body = match self.frames.pop() {
                Ok(Some(body)) => body,
                Ok(None) => break,
                Err(oversized) => {
                    self.dismiss(0, Refusal::Malformed { what: oversized.to_string() });
                    break;
                }
            };
            calls.extend(self.understand(&body));
        }
        calls
    }

    fn understand(&mut self, body: &[u8]) -> Option<Call> {
        let call: Call = match serde_json::from_slice(body) {
            Ok(call) => call,
            Err(error) => {
                // A newer agent's request: the agent must learn that it is not known here.
                let id = serde_json::from_slice::<CallId>(body).map_or(0, |call| call.id);
                let refusal = Refusal::Malformed { what: error.to_string() };
                self.send(&Message::Reply { id, reply: Reply::Refused(refusal) });
                return None;
            }
        };
        match call.request {
            Request::Hello { version } if version < VERSION_OLDEST => {
                let refusal = Refusal::Version { oldest: VERSION_OLDEST, newest: VERSION };
                self.dismiss(call.id, refusal);
            }
            Request::Hello { version } => {
                self.greeted = true;
                let reply = Reply::Welcome { version: version.min(VERSION) };
                self.send(&Message::Reply { id: call.id, reply });
            }
            _ if !self.greeted => self.dismiss(call.id, Refusal::HelloFirst),
            _ => return Some(call),
        }
        None
    }

    fn dismiss(&mut self, call: u64, refusal: Refusal) {
        self.send(&Message::Reply { id: call, reply: Reply::Refused(refusal) });
        self.leaving = true;
        self.broken |= self.out.is_empty();
    }

    fn send(&mut self, message: &Message) {
        let bytes = frame(message);
        if self.out.len() + bytes.len() > OUT_BYTES_MAX {
            self.broken = true;
            return;
        }
        self.out.extend_from_slice(&bytes);
        self.flush();
    }

    fn flush(&mut self) {
        while !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Ok(count) => drop(self.out.drain(..count)),
                Err(error) if would_wait(&error) => return,
                Err(_) => {
                    self.broken = true;
                    return;
                }
            }
        }
        self.broken |= self.leaving;
    }
}

/// The one field of a call that every version has.
#[derive(serde::Deserialize)]
struct CallId {
    id: u64,
}

/// Everyone of our own user who waits at a non-blocking listener, as non-blocking streams.
pub(crate) fn accept_all(listener: &UnixListener) -> Vec<UnixStream> {
    let mut accepted = Vec::new();
    for _ in 0..ACCEPTED_AT_ONCE_MAX {
        let Ok((stream, _)) = listener.accept() else { break };
        let is_ours = socket_peercred(&stream).is_ok_and(|peer| peer.uid == getuid());
        if is_ours && stream.set_nonblocking(true).is_ok() {
            accepted.push(stream);
        }
    }
    accepted
}

/// Not an end: ask again when `poll` says so.
pub(crate) fn would_wait(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

const READ_BYTES: usize = 4096;
const ACCEPTED_AT_ONCE_MAX: usize = 16;
