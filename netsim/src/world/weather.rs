//! Faults of the network, and whether a message met with them.

use super::World;
use super::task::Task;
use crate::board::Wake;
use crate::faults::{Fault, Sort};
use crate::net::nat::{KEEP_ALIVE, Kind};
use crate::queue::{BoardIndex, Due};
use crate::time::MILLI;

impl World {
    /// A fault of the network begins or ends.
    pub(super) fn change_weather(&mut self, number: u32, fault: &Fault, on: bool) {
        match fault {
            Fault::Delay { from, to, ms } => {
                let by = if on { ms * MILLI } else { 0 };
                for from in from {
                    to.iter().for_each(|to| self.net.weather.delay(*from, *to, by));
                }
            }
            Fault::Jitter { ms } => self.net.weather.jitter(if on { ms * MILLI } else { 0 }),
            Fault::Clog { node } => {
                self.net.weather.clog(*node, on);
                self.net.changed(self.now, &mut self.queue);
            }
            Fault::Bandwidth { node, kbit } => {
                self.net.weather.uplink(*node, on.then_some(kbit * 1000 / 8));
            }
            Fault::Nat { node, mapping, filter, expires } => {
                let kind = Kind { mapping: *mapping, filter: *filter, expires: *expires };
                self.change_nat(number, *node, on.then_some(kind));
            }
            Fault::Flap { .. } => match on {
                true => self.later(self.now, Task::Flap(number, true)),
                false => self.flap_ends(number, fault),
            },
            _ => {}
        }
    }

    /// A NAT comes or goes.
    fn change_nat(&mut self, number: u32, board: BoardIndex, kind: Option<Kind>) {
        let now = self.now;
        let Some(kind) = kind else {
            self.feel_nat(number, board);
            self.net.nats.remove(board);
            return self.net.changed(now, &mut self.queue);
        };
        let ends = self.net.ends_of(board);
        let peers = ends.into_iter().map(|(conn, end)| self.net.hop(conn, end));
        let peers: Vec<BoardIndex> = peers.collect();
        if self.net.nats.put(now, board, kind, &peers) {
            self.later(now + KEEP_ALIVE, Task::KeepAlive(number));
        }
    }

    /// A process behind a NAT gives a sign of life on each of its connections, as long as the NAT is there.
    pub(super) fn keep_alive(&mut self, number: u32) {
        let Fault::Nat { node, .. } = self.plan.schedule[number as usize].fault else { return };
        if !self.active.contains(&number) {
            return;
        }
        self.feel_nat(number, node);
        if self.boards[usize::from(node)].node.is_some() && !self.net.paused[usize::from(node)] {
            self.net.keep_alive(self.now, node, &mut self.queue);
        }
        self.later(self.now + KEEP_ALIVE, Task::KeepAlive(number));
    }

    fn feel_nat(&mut self, number: u32, board: BoardIndex) {
        if self.net.nats.take_felt(board) {
            self.felt.insert(number);
        }
    }

    /// One of several faults has ended: what the others do goes on.
    pub(super) fn renew_weather(&mut self) {
        for number in self.active.clone() {
            let fault = self.plan.schedule[number as usize].fault.clone();
            // Clogs are counted, and links come and go by themselves.
            let is_counted = matches!(fault, Fault::Clog { .. } | Fault::Flap { .. });
            if fault.sort() == Sort::Weather && !is_counted {
                self.change_weather(number, &fault, true);
            }
        }
    }

    /// A link comes or goes.
    pub(super) fn flap(&mut self, number: u32, cut: bool) {
        let fault = self.plan.schedule[number as usize].fault.clone();
        let Fault::Flap { ms, .. } = fault else { return };
        if self.active.contains(&number) {
            self.cut_off(&fault, cut);
            if !self.flapped.remove(&number) {
                self.flapped.insert(number);
            }
            self.later(self.now + ms.max(1) * MILLI, Task::Flap(number, !cut));
        }
    }

    fn flap_ends(&mut self, number: u32, fault: &Fault) {
        if self.flapped.remove(&number) {
            self.cut_off(fault, false);
        }
    }

    /// Cuts one board off from all others, or no longer.
    fn cut_off(&mut self, fault: &Fault, add: bool) {
        let Fault::Flap { node, .. } = *fault else { return };
        for other in (0..self.plan.boards).filter(|other| *other != node) {
            self.net.cut(node, other, add);
            self.net.cut(other, node, add);
        }
        self.net.changed(self.now, &mut self.queue);
    }

    /// Every connection of a board breaks at both ends. True if there was one.
    pub(super) fn reset_connections(&mut self, board: BoardIndex) -> bool {
        let ends = self.net.ends_of(board);
        for (conn, end) in &ends {
            self.detach(*conn, *end, "reset");
            self.queue.push(self.now, Due::Close(*conn, 1 - end));
        }
        !ends.is_empty()
    }

    /// Every connection of a board is dead, and nobody knows. True if there was one.
    pub(super) fn lose_connections(&mut self, board: BoardIndex) -> bool {
        let ends = self.net.ends_of(board);
        for (conn, _) in &ends {
            self.net.lose(self.now, *conn, &mut self.queue);
        }
        !ends.is_empty()
    }

    /// The board has another address from now on.
    pub(super) fn roam(&mut self, board: BoardIndex) -> bool {
        let had_any = self.lose_connections(board);
        self.board(board).roams += 1;
        self.wake(board, Wake::Addresses);
        had_any
    }

    /// A message leaves: faults that make it late are felt.
    pub(super) fn feel_weather(&mut self, from: BoardIndex, to: BoardIndex) {
        if !self.is_rough {
            return;
        }
        self.feel(|fault| match fault {
            Fault::Delay { from: sources, to: sinks, .. } => {
                sources.contains(&from) && sinks.contains(&to)
            }
            Fault::Jitter { .. } => true,
            Fault::Clog { node } | Fault::Flap { node, .. } => *node == from || *node == to,
            Fault::Bandwidth { node, .. } => *node == from,
            _ => false,
        });
    }
}
