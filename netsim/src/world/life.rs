//! Processes starting, stopping and pausing; hosts losing their power.

use std::collections::VecDeque;

use hedgerow::proto::config::Config;
use hedgerow::proto::journal::Durable;
use hedgerow::proto::node::Node;
use hedgerow::proto::ticket::BOOTSTRAP_NODES_MAX;

use super::World;
use crate::board::{self, Wake};
use crate::disk::CannotOpen;
use crate::observe::{Boot, What};
use crate::queue::{BoardIndex, Due};
use crate::seed::{self, Purpose};
use crate::service::ServiceEvent;
use crate::time::{Nanos, SECOND};

impl World {
    /// Gives the board power and starts its process.
    pub(super) fn switch_on(&mut self, board: BoardIndex) {
        let now = self.now;
        let state = self.board(board);
        if state.node.is_some() {
            return;
        }
        state.wanted = true;
        let was_off = !self.net.powered[usize::from(board)];
        self.net.powered[usize::from(board)] = true;
        let state = self.board(board);
        state.life += 1;
        let life = state.life;
        match state.disk.recover(state.id) {
            Ok((_, takes)) => self.queue.push(now + takes, Due::Boot(board, life)),
            Err(CannotOpen::Fails) => self.cannot_start_yet(board, life),
            Err(error) => self.journal_is_damaged(board, &error.to_string()),
        }
        if was_off {
            self.net.changed(now, &mut self.queue);
        }
    }

    /// The process cannot write its journal, and ends. Whoever looks after it starts it again.
    fn cannot_start_yet(&mut self, board: BoardIndex, life: u32) {
        self.feel_failed_disk(board);
        self.queue.push(self.now + STARTED_AGAIN_AFTER, Due::Boot(board, life));
    }

    /// The process refuses to start. Its operator reads why, puts in another disk, and lets the board join anew.
    fn journal_is_damaged(&mut self, board: BoardIndex, why: &str) {
        if !self.boards[usize::from(board)].rotten {
            return self.find("journal-survives", Some(board), why.to_owned());
        }
        self.lose_disk(board);
        self.switch_on(board);
    }

    /// The journal is read: the process runs.
    pub(super) fn boot(&mut self, board: BoardIndex, life: u32) {
        let state = self.board(board);
        if state.life != life || state.node.is_some() {
            return;
        }
        let durable = match state.disk.recover(state.id) {
            Ok((durable, _)) => durable,
            Err(CannotOpen::Fails) => return self.cannot_start_yet(board, life),
            Err(error) => return self.find("journal-survives", Some(board), error.to_string()),
        };
        if durable.identity != Some(state.id) {
            let text = "the journal does not name its board's key".to_owned();
            return self.find("journal-survives", Some(board), text);
        }
        let Some(config) = self.config(board, &durable) else {
            // Nobody is there whom a ticket could name: the operator waits.
            return self.queue.push(self.now + TICKET_RETRY, Due::Boot(board, life));
        };
        let (seed, now) = (self.plan.seed, self.now);
        let entitled = !self.plan.strangers.contains(&board);
        let state = &mut self.boards[usize::from(board)];
        let boot = Boot { node: state.id, life, durable: &durable, entitled };
        self.watch.see(now, board, What::Boot(boot));
        let secret = seed::bytes(seed, Purpose::Life, u64::from(board), u64::from(life));
        let local = state.clock.local(now);
        let held = self.open_stores(board);
        let state = &mut self.boards[usize::from(board)];
        match Node::recover(config, secret, durable, held, local) {
            Ok(node) => state.node = Some(Box::new(node)),
            Err(error) => return self.find("nodes-recover", Some(board), error.to_string()),
        }
        (state.has_left, state.is_forced_out) = (false, false);
        state.led_to = Vec::new();
        state.running_since = now;
        state.armed = None;
        if std::mem::take(&mut state.rotten) {
            let text = "it starts with a journal that was damaged".to_owned();
            return self.find("damage-is-noticed", Some(board), text);
        }
        for fault in self.recovered.clone() {
            self.judge_word(fault);
        }
        self.find_shims(board);
        self.wake(board, Wake::Addresses);
        self.wall(board, life);
        self.doom(board, life);
    }

    /// What a life is told, with a ticket where an operator would give one.
    fn config(&self, board: BoardIndex, durable: &Durable) -> Option<Config> {
        let state = &self.boards[usize::from(board)];
        if durable.belonging.is_some() && !durable.left && state.led_to.is_empty() {
            return Some(state.config(self.plan.timing, self.plan.preset, None));
        }
        // Whom an operator would name: boards that are up and in, the founder first.
        let contacts: Vec<_> = self
            .boards
            .iter()
            .filter(|other| other.index != board && other.node.is_some() && other.is_member)
            .filter(|other| state.led_to.is_empty() || state.led_to.contains(&other.index))
            .take(BOOTSTRAP_NODES_MAX)
            .map(|other| (board::address(other.index, other.roams), other.id))
            .collect();
        let founds = state.is_founder && state.led_to.is_empty();
        let contacts = if founds { Vec::new() } else { contacts };
        if contacts.is_empty() && !state.is_founder {
            return None;
        }
        let stranger = self.plan.strangers.contains(&board);
        let ticket = board::ticket(self.plan.seed, board, self.now, stranger, &contacts);
        Some(state.config(self.plan.timing, self.plan.preset, Some(ticket)))
    }

    /// The process is gone; the host lives and closes its connections.
    pub(super) fn crash(&mut self, board: BoardIndex, how: &'static str) -> bool {
        if self.boards[usize::from(board)].asleep.is_some() {
            // Nothing happens on a board that sleeps.
            return false;
        }
        let connections = self.net.ends_of(board);
        if !self.end_process(board, how) {
            return false;
        }
        self.programs_die(board);
        self.board(board).disk.crash();
        self.relay_ends(board, true);
        for (conn, end) in connections {
            self.shut(conn, end);
            self.net.close(self.now, conn, end, &mut self.queue);
        }
        self.net.changed(self.now, &mut self.queue);
        true
    }

    /// What a process relayed is dead with it; its host says so, if it lives.
    fn relay_ends(&mut self, board: BoardIndex, tells: bool) {
        if !self.plan.relays.contains(&board) {
            return;
        }
        for conn in self.net.relayed_by(board) {
            self.net.lose(self.now, conn, &mut self.queue);
            for end in 0..2 {
                let told = self.net.end(conn, end).board;
                if tells && !self.net.is_cut(board, told) {
                    let takes = self.net.round_trip(board, told) / 2;
                    self.queue.push(self.now + takes, Due::Close(conn, end));
                }
            }
        }
    }

    /// The host is without power: nobody is told.
    pub(super) fn cut_power(&mut self, board: BoardIndex) -> bool {
        if !self.net.powered[usize::from(board)] {
            return false;
        }
        let connections = self.net.ends_of(board);
        self.end_process(board, "no power");
        self.net.powered[usize::from(board)] = false;
        self.shims_die(board);
        self.relay_ends(board, false);
        for (conn, end) in connections {
            self.net.forget_held(conn, end);
            self.net.close(self.now, conn, end, &mut self.queue);
        }
        let (seed, now) = (self.plan.seed, self.now);
        let state = self.board(board);
        // A start that was under way does not happen either.
        state.life += 1;
        state.disk.cut_power();
        state.host.store.cut_power();
        state.reset_clock(seed, now);
        self.net.changed(now, &mut self.queue);
        true
    }

    /// The disk is gone and a new one is in.
    pub(super) fn lose_disk(&mut self, board: BoardIndex) {
        let (states, seed) = (self.plan.states, self.plan.seed);
        let state = self.board(board);
        (state.is_founder, state.is_member) = (false, false);
        state.disk.wipe();
        state.rotten = false;
        state.host.lose_state(states, seed, u64::from(board) | u64::from(state.life) << 16);
        state.new_identity(seed);
        self.introduce(board);
        self.see(board, What::DiskLost);
    }

    /// What services left behind and the store of their states is gone; the journal is not.
    pub(super) fn lose_state(&mut self, board: BoardIndex) -> bool {
        let (states, seed) = (self.plan.states, self.plan.seed);
        let state = self.board(board);
        let had_any = !state.host.folders.is_empty() || !state.host.store.is_empty();
        let began = std::mem::take(&mut state.host.began);
        state.host.lose_state(states, seed, u64::from(board) | u64::from(state.life) << 16);
        state.host.began = began;
        state.has_lost |= had_any;
        self.see(board, What::Service(&ServiceEvent::StateLost));
        had_any
    }

    /// A process that left the mesh ends by itself.
    pub(super) fn exit(&mut self, board: BoardIndex, life: u32) {
        if self.board(board).asleep.is_some() {
            // It ends once its board is awake.
            return self.queue.push(self.now + SECOND, Due::Exit(board, life));
        }
        if self.board(board).life == life {
            self.board(board).wanted = false;
            self.crash(board, "it has left");
        }
    }

    pub(super) fn pause(&mut self, board: BoardIndex) -> u32 {
        self.board(board).pauses += 1;
        self.net.paused[usize::from(board)] = true;
        self.net.changed(self.now, &mut self.queue);
        self.see(board, What::Paused(true));
        self.boards[usize::from(board)].pauses
    }

    /// The process goes on: due timers, then everything that came meanwhile.
    pub(super) fn resume(&mut self, board: BoardIndex, pause: u32) {
        let state = self.board(board);
        let sleeps = state.asleep.is_some();
        if state.pauses != pause || sleeps || !self.net.paused[usize::from(board)] {
            return;
        }
        self.net.paused[usize::from(board)] = false;
        self.net.changed(self.now, &mut self.queue);
        self.see(board, What::Paused(false));
        self.board(board).armed = None;
        self.fire(board);
        self.work(board);
    }

    fn end_process(&mut self, board: BoardIndex, how: &'static str) -> bool {
        let now = self.now;
        let state = self.board(board);
        if state.node.take().is_none() {
            // It may have been on its way up.
            state.life += 1;
            return false;
        }
        state.ran += now - state.running_since;
        state.inbox = VecDeque::new();
        state.host.agent_gone();
        state.peers.clear();
        state.dialling.clear();
        state.armed = None;
        state.status = None;
        state.belief = None;
        state.pauses += 1;
        state.grinding = false;
        state.asleep = None;
        self.net.paused[usize::from(board)] = false;
        self.see(board, What::Gone { how });
        true
    }

    /// Starts every board that is meant to be on.
    pub(super) fn start_all(&mut self) {
        for board in 0..self.plan.boards {
            let state = self.board(board);
            if state.wanted && state.node.is_none() {
                self.switch_on(board);
            }
        }
    }
}

/// A process that cannot write is started again after that long.
const STARTED_AGAIN_AFTER: Nanos = crate::time::SECOND;
/// How often an operator looks whether a ticket can be made.
const TICKET_RETRY: Nanos = crate::time::SECOND;
