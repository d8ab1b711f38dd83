//! One process: the loop around a node, and what the swarm does for it.
//!
//! The rules are the real driver's. Timers fire before an input. Several connections to one peer are
//! one peer: `Connected` with the first, `Disconnected` with the last; the oldest carries what is
//! sent. Until the node has let a peer in, only `Hello` and `Refused` pass; other frames that arrive
//! are parked, other messages that are sent are dropped. A connection that is not let in within
//! [`HELLO_TIMEOUT`] is closed. Hanging up flushes for at most [`FLUSH_TIMEOUT`].

use hedgerow::proto::bounded::List;
use hedgerow::proto::id::NodeId;
use hedgerow::proto::io::{Command, Effect, Event, Input, Reply};
use hedgerow::proto::machine::Time;
use hedgerow::proto::wire::{self, FrameError, Message};

use super::World;
use crate::board::{self, Peer, Wake};
use crate::net::Load;
use crate::observe::What;
use crate::queue::{BoardIndex, ConnIndex, Due};
use crate::time::{MILLI, Nanos, SECOND};

/// How long a connection may stay unadmitted.
const HELLO_TIMEOUT: Nanos = 10 * SECOND;
/// How long hanging up waits for what was sent to be read.
const FLUSH_TIMEOUT: Nanos = 300 * MILLI;
/// Connections to one peer.
const CONNS_PER_PEER_MAX: usize = 4;
/// Between two looks at the wall clock.
const WALL_INTERVAL: Nanos = 10 * SECOND;
/// A process that has left ends after that long.
const EXIT_AFTER: Nanos = 500 * MILLI;
/// Kinds of message that pass before admission: `Hello` and `Refused`.
const HELLO_KINDS: [u16; 2] = [1, 2];

impl World {
    /// Gives a process something, at once or when it goes on.
    pub(super) fn wake(&mut self, board: BoardIndex, wake: Wake) {
        let paused = self.net.paused[usize::from(board)];
        let state = self.board(board);
        if state.node.is_none() {
            return;
        }
        state.inbox.push_back(wake);
        if !paused {
            self.work(board);
        }
    }

    /// Lets a process handle all that it was given.
    pub(super) fn work(&mut self, board: BoardIndex) {
        while let Some(wake) = self.board(board).inbox.pop_front() {
            if self.watch.failed() {
                return;
            }
            match wake {
                Wake::Frame(conn, end, frame) => self.frame(board, conn, end, frame),
                Wake::Attach(conn, end) => self.attach(board, conn, end),
                Wake::Detach(conn, end, why) => self.detached(board, conn, end, why),
                Wake::DialFailed(peer, why) => {
                    self.give(board, Input::DialFailed { peer, why: why.to_owned() });
                }
                Wake::Persisted(op) => self.give(board, Input::Persisted { op, result: Ok(()) }),
                Wake::Wall => {
                    let seconds = self.boards[usize::from(board)].clock.wall(self.now);
                    self.give(board, Input::WallClock(seconds));
                }
                Wake::Addresses => {
                    self.give(board, Input::Addresses(List::capped([board::address(board)])));
                }
                Wake::Command(op, command) => self.give(board, Input::Command { op, command }),
            }
        }
    }

    /// A timer event came up.
    pub(super) fn timer(&mut self, board: BoardIndex) {
        let now = self.now;
        let paused = self.net.paused[usize::from(board)];
        let state = self.board(board);
        if state.armed.is_none_or(|(_, at)| at != now) {
            return;
        }
        state.armed = None;
        if !paused {
            self.fire(board);
            self.work(board);
        }
    }

    /// Fires what is due, as the driver does before every input, and arms the next timer.
    pub(super) fn fire(&mut self, board: BoardIndex) {
        let now = self.now;
        let state = self.board(board);
        let local = state.clock.local(now);
        let Some(node) = &mut state.node else { return };
        if node.poll_timeout().is_none_or(|timeout| timeout.at > local) {
            return self.arm(board);
        }
        let mut effects = std::mem::take(&mut state.effects);
        node.handle_timeout(local, &mut effects);
        let still_due = node.poll_timeout().filter(|timeout| timeout.at <= local);
        self.see(board, What::Fired);
        self.carry_out(board, effects);
        if let Some(timeout) = still_due {
            let text = format!("still due after `handle_timeout`: {}", timeout.reason);
            self.find("timers-move-on", Some(board), text);
        }
    }

    /// Gives the node an input other than a message.
    pub(super) fn give(&mut self, board: BoardIndex, input: Input) {
        self.fire(board);
        self.see(board, What::Input(&input));
        self.call(board, input);
    }

    fn receive(&mut self, board: BoardIndex, input: Input, frame: &[u8]) {
        self.fire(board);
        self.see(board, What::Received(&input, frame));
        self.call(board, input);
    }

    fn call(&mut self, board: BoardIndex, input: Input) {
        let now = self.now;
        let state = self.board(board);
        let local = state.clock.local(now);
        let Some(node) = &mut state.node else { return };
        let mut effects = std::mem::take(&mut state.effects);
        node.handle_input(local, input, &mut effects);
        self.carry_out(board, effects);
    }

    fn arm(&mut self, board: BoardIndex) {
        let now = self.now;
        let state = &mut self.boards[usize::from(board)];
        let Some(timeout) = state.node.as_ref().and_then(|node| node.poll_timeout()) else {
            return;
        };
        // An earlier event will look again, so most calls end here.
        if timeout.at == Time::NEVER || state.armed.is_some_and(|(at, _)| at <= timeout.at) {
            return;
        }
        let at = state.clock.when(timeout.at).max(now);
        state.armed = Some((timeout.at, at));
        self.queue.push(at, Due::Timer(board));
    }

    fn carry_out(&mut self, board: BoardIndex, mut effects: hedgerow::proto::machine::Effects) {
        let count = effects.as_slice().len();
        for effect in effects.drain() {
            self.effect(board, effect);
        }
        let second = self.now / SECOND;
        let state = self.board(board);
        state.effects = effects;
        if state.load.0 != second {
            state.load = (second, 0, 0);
        }
        state.load.1 += 1;
        state.load.2 += count as u64;
        let in_this_second = state.load.1 + state.load.2;
        self.see(board, What::Called { effects: count, in_this_second });
        self.arm(board);
    }

    fn effect(&mut self, board: BoardIndex, effect: Effect) {
        if let Effect::Send { to, message } = &effect {
            let (to, is_hello) = (*to, HELLO_KINDS.contains(&message.kind()));
            match wire::encode(message) {
                Ok(frame) => {
                    self.see(board, What::Sent(&effect, &frame));
                    self.send(board, &to, is_hello, frame);
                }
                Err(error) => {
                    let text = format!("{} does not fit a frame: {error}", message.name());
                    self.find("frames-fit", Some(board), text);
                }
            }
            return;
        }
        self.see(board, What::Effect(&effect));
        match effect {
            Effect::Send { .. } => {}
            Effect::Connect { peer, addresses } => self.dial(board, peer, &addresses),
            Effect::Disconnect { peer } => self.hang_up(board, peer),
            Effect::Admit { peer } => self.admit(board, &peer),
            Effect::Persist { op, record } => {
                let begun = self.board(board).disk.append(op, record);
                self.disk_begun(board, begun);
            }
            Effect::Reply { reply: Reply::Status(view), .. } => {
                self.board(board).status = Some(view);
            }
            Effect::Reply { .. } => {}
            Effect::Event(event) => self.event(board, &event),
        }
    }

    fn event(&mut self, board: BoardIndex, event: &Event) {
        match event {
            Event::MemberDown { node, .. } => self.note_blame(board, node, true),
            Event::Suspected { node, .. } => self.note_blame(board, node, false),
            Event::Left => {
                let life = self.board(board).life;
                self.queue.push(self.now + EXIT_AFTER, Due::Exit(board, life));
            }
            Event::Halted { why } => {
                self.find("nobody-halts", Some(board), format!("the node halted: {why}"));
            }
            _ => {}
        }
    }

    fn send(&mut self, board: BoardIndex, to: &NodeId, is_hello: bool, frame: Vec<u8>) {
        self.messages += 1;
        self.bytes += frame.len() as u64;
        let Some(peer) = self.boards[usize::from(board)].peers.get(to) else { return };
        if peer.leaving || !(is_hello || peer.admitted) {
            return;
        }
        let Some((conn, end)) = peer.conns.first().copied() else { return };
        self.net.send(self.now, conn, end, Load::Frame(frame), &mut self.queue);
    }

    fn frame(&mut self, board: BoardIndex, conn: ConnIndex, end: u8, frame: Vec<u8>) {
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
            Err(error) => self.give(board, Input::Garbled { from, what: error.to_string() }),
        }
    }

    /// Opens the gate; what was parked is handled next.
    fn admit(&mut self, board: BoardIndex, peer: &NodeId) {
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

    fn attach(&mut self, board: BoardIndex, conn: ConnIndex, end: u8) {
        if !self.net.end(conn, end).open {
            return;
        }
        let other = self.net.end(conn, 1 - end);
        let (node, address) = (other.node, board::address(other.board));
        let state = self.board(board);
        state.dialling.remove(&node);
        let known = state.peers.entry(node).or_default();
        if known.leaving || known.conns.len() >= CONNS_PER_PEER_MAX {
            self.shut(conn, end);
            self.net.close(self.now, conn, end, &mut self.queue);
            return;
        }
        known.conns.push((conn, end));
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

    fn detached(&mut self, board: BoardIndex, conn: ConnIndex, end: u8, why: &'static str) {
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
        } else if place == 0 && !peer.admitted {
            // Nobody could tell whether the hello arrived; a clean new attempt follows.
            for (conn, end) in peer.conns.clone() {
                self.shut(conn, end);
                self.detach(conn, end, "the connection that the hello went over closed");
            }
        }
    }

    fn hang_up(&mut self, board: BoardIndex, node: NodeId) {
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

    pub(super) fn wall(&mut self, board: BoardIndex, life: u32) {
        let state = self.board(board);
        if state.life == life && state.node.is_some() {
            self.queue.push(self.now + WALL_INTERVAL, Due::Wall(board, life));
            self.wake(board, Wake::Wall);
        }
    }

    pub(super) fn disk_done(&mut self, board: BoardIndex, turn: u32) {
        match self.board(board).disk.done(turn) {
            Ok((answers, next)) => {
                for op in answers {
                    self.see(board, What::Durable(op));
                    self.wake(board, Wake::Persisted(op));
                }
                self.disk_begun(board, Ok(next));
            }
            Err(error) => self.find("journal-is-readable", Some(board), error),
        }
    }

    fn disk_begun(&mut self, board: BoardIndex, begun: Result<Option<crate::disk::Begun>, String>) {
        match begun {
            Ok(None) => {}
            Ok(Some(begun)) => {
                if begun.slowed {
                    self.feel_slow_disk(board);
                }
                self.queue.push(self.now + begun.takes, Due::Disk(board, begun.turn));
            }
            Err(error) => self.find("journal-frames-fit", Some(board), error),
        }
    }

    /// Asks every running board for its status; the answers are in the boards afterwards.
    pub(super) fn ask_all(&mut self) {
        for board in 0..self.plan.boards {
            let state = self.board(board);
            state.status = None;
            state.commands += 1;
            let op = hedgerow::proto::id::OpId(COMMAND_OPS + state.commands);
            self.wake(board, Wake::Command(op, Command::Status));
        }
    }
}

/// Numbers of commands start here, far above those of a node's own requests.
const COMMAND_OPS: u64 = 1 << 48;

// Only the codec may know how a kind is written, but the gate must tell hellos apart unread.
const _: fn(&Message) -> u16 = Message::kind;
