//! One process: the loop around a node.
//!
//! The rules are the real driver's: due timers fire before an input, effects are carried out in
//! order. What becomes of connections is in `gate`.

use hedgerow::proto::bounded::List;
use hedgerow::proto::io::{Command, Effect, Event, Input, Reply};
use hedgerow::proto::journal::Record;
use hedgerow::proto::machine::Time;
use hedgerow::proto::node::REVOKED;
use hedgerow::proto::wire;
use hedgerow::proto::wire::Message;
use hedgerow::proto::wire::hello::Refusal;

use super::World;
use super::gate::HELLO_KINDS;
use super::shim::Start;
use super::task::Task;
use crate::board::{self, Wake};
use crate::faults::Fault;
use crate::observe::What;
use crate::queue::{BoardIndex, Due};
use crate::time::{MILLI, Nanos, SECOND};

/// Between two looks at the wall clock.
const WALL_INTERVAL: Nanos = 10 * SECOND;
/// A process that has left ends after that long.
const EXIT_AFTER: Nanos = 500 * MILLI;

impl World {
    /// Gives a process something, at once or when it goes on.
    pub(super) fn wake(&mut self, board: BoardIndex, wake: Wake) {
        let paused = self.net.paused[usize::from(board)];
        let state = self.board(board);
        if state.node.is_none() {
            return;
        }
        state.inbox.push_back(wake);
        if state.stutters.is_some() {
            self.grind_later(board);
        } else if !paused {
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
                Wake::Persisted(op, result) => {
                    let result = result.map_err(str::to_owned);
                    self.give(board, Input::Persisted { op, result });
                }
                Wake::Wall => {
                    let seconds = self.boards[usize::from(board)].clock.wall(self.now);
                    self.give(board, Input::WallClock(seconds));
                }
                Wake::Addresses => {
                    let address = board::address(board, self.boards[usize::from(board)].roams);
                    self.give(board, Input::Addresses(List::capped([address])));
                }
                Wake::Command(op, command) => self.give(board, Input::Command { op, command }),
                Wake::Input(input) => self.give(board, *input),
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
        if state.stutters.is_some() {
            self.grind_later(board);
        } else if !paused {
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

    pub(super) fn receive(&mut self, board: BoardIndex, input: Input, frame: &[u8]) {
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
        self.note_belief(board);
        self.arm(board);
    }

    fn effect(&mut self, board: BoardIndex, effect: Effect) {
        if let Effect::Send { to, message } = &effect {
            if self.is_healed() && matches!(message, Message::Summary(_)) {
                self.compared.push((self.now, board, *to));
            }
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
                if let Record::Table(table) = &record {
                    self.deciders.written(table);
                }
                let begun = self.board(board).disk.append(op, record);
                self.disk_begun(board, begun);
            }
            Effect::Reply { reply: Reply::Status(view), .. } => {
                self.board(board).status = Some(view);
            }
            Effect::Reply { op, reply } => self.order_answered(op, &reply),
            Effect::Event(event) => self.event(board, &event),
            Effect::Start { instance, epoch, until, kill_bound, spec, begin } => {
                let start = Start { epoch, until, kill_bound, spec, begin };
                self.start_service(board, instance, start);
            }
            Effect::Extend { instance, epoch, until } => {
                self.extend(board, &instance, epoch, until);
            }
            Effect::Check { instance, order, .. } => self.check_service(board, instance, order),
            Effect::Stop { instance, kill } => self.stop_service(board, instance, kill),
            // Simulated folders of services that keep running are not compared.
            Effect::KeepAside { .. } => {}
            Effect::Thaw { instance } => self.thaw(board, &instance),
            Effect::Commit { instance, ticket, outcome } => {
                self.commit_answered(board, instance, ticket, outcome);
            }
            Effect::Capture { instance, id, freeze } => self.capture(board, instance, id, freeze),
            Effect::Serve { instance, to } => self.serve(board, instance, to.into_vec()),
            Effect::Fetch { instance, id, from } => self.fetch(board, instance, id, from),
            Effect::Keep { instance, states } => self.keep(board, &instance, &states),
        }
    }

    fn event(&mut self, board: BoardIndex, event: &Event) {
        match event {
            Event::MemberDown { node, .. } => self.note_blame(board, node, true),
            Event::Suspected { node, .. } => self.note_blame(board, node, false),
            Event::Refused { node, reason: Refusal::Twins } => {
                let boards = &self.boards;
                let is = |board: &BoardIndex| boards[usize::from(*board)].id == *node;
                let doubles: Vec<BoardIndex> = (0..self.plan.boards).filter(is).collect();
                let both = |fault: &Fault| match fault {
                    Fault::ClonedIdentity { node, onto } => doubles == [*node, *onto],
                    _ => false,
                };
                self.feel(both);
            }
            Event::Topic { body, .. } => {
                *self.told.entry(board).or_default() += 1;
                let number: Option<[u8; 4]> = (&**body).try_into().ok();
                self.felt.extend(number.map(u32::from_le_bytes));
            }
            Event::TableChosen { term, number, .. } => self.deciders.chosen(*term, *number),
            Event::Left => {
                let state = self.board(board);
                state.has_left = !state.is_forced_out;
                let life = state.life;
                self.queue.push(self.now + EXIT_AFTER, Due::Exit(board, life));
            }
            Event::Halted { why } => {
                let state = &self.boards[usize::from(board)];
                if *why == REVOKED && self.is_unwelcome(&state.id) {
                    // Whoever looks after it starts it again, as often as it stops.
                    let why = "its identity was revoked";
                    return self.later(self.now, Task::Fail(board, state.life, why, SECOND));
                }
                if !state.disk.has_failed() {
                    let text = format!("the node halted: {why}");
                    return self.find("nobody-halts", Some(board), text);
                }
                // The process ends with that, and whoever looks after it starts it again.
                self.later(self.now, Task::Fail(board, state.life, "its disk failed", SECOND));
            }
            _ => {}
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
                for (op, result) in answers {
                    match result {
                        Ok(()) => self.see(board, What::Durable(op)),
                        Err(_) => self.feel_failed_disk(board),
                    }
                    self.wake(board, Wake::Persisted(op, result));
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
