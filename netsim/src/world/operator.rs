//! The operator: orders that are given on some board, and given again until one of them succeeds.

use std::collections::BTreeSet;

use hedgerow::proto::bounded::{List, Text};
use hedgerow::proto::id::{CellId, NodeId, OpId};
use hedgerow::proto::io::{Command, Reply};
use hedgerow::proto::order::{Action, Order, SignedOrder};
use hedgerow::proto::table::CheckpointId;

use super::World;
use super::task::Task;
use crate::board::{self, Operator, Wake};
use crate::expect::Expect;
use crate::faults::Fault;
use crate::observe::What as Seen;
use crate::queue::BoardIndex;
use crate::seed::{self, Purpose};
use crate::service::{Found, Point, Service, ServiceEvent};
use crate::time::{Nanos, SECOND};

/// What an operator wants, and what became of it.
#[derive(Debug)]
pub(super) struct Wanted {
    /// Of which service, or of what else. Of one subject one thing after another is wanted.
    pub(super) subject: String,
    pub(super) what: What,
    /// Where it is tried first.
    board: BoardIndex,
    pub(super) tries: u32,
    /// How often it was looked whether it can be said.
    looks: u32,
    /// The command that is not answered yet, and when it was given.
    asked: Option<(OpId, Nanos)>,
    pub(super) outcome: Option<bool>,
    /// The fault of the schedule that it is, if it is one.
    pub(super) fault: Option<u32>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum What {
    Run,
    Stop,
    Remove,
    Move,
    /// Start it from a state so many before the newest one.
    Restore(usize),
    /// Let this board run it with what it has.
    Recover(BoardIndex),
    /// These are gone for good: the board on which it is ordered decides alone.
    RecoverMesh(Vec<BoardIndex>),
    /// Let a board host and decide no more, or (false) again.
    Drain(NodeId, bool),
    /// That identity is not welcome any more.
    Revoke(NodeId),
}

impl World {
    /// The operator wants something; that is felt when it is carried out.
    /// So it makes no difference at once: false.
    pub(super) fn order_by_fault(&mut self, number: u32, fault: &Fault) -> bool {
        if let Fault::Revoke { node } = fault
            && !self.boards[usize::from(*node)].wanted
        {
            // Nobody revokes a board that is in a drawer.
            return false;
        }
        let what = match fault {
            Fault::Run { .. } => What::Run,
            Fault::Move { .. } => What::Move,
            Fault::Stop { .. } => What::Stop,
            Fault::Remove { .. } => What::Remove,
            Fault::Restore { back, .. } => What::Restore(*back),
            Fault::Recover { node, .. } => What::Recover(*node),
            Fault::RecoverMesh { dead, .. } => What::RecoverMesh(dead.clone()),
            Fault::Drain { node } => What::Drain(self.boards[usize::from(*node)].id, true),
            Fault::Revoke { node } => What::Revoke(self.boards[usize::from(*node)].id),
            _ => return false,
        };
        let (subject, board) = match fault {
            Fault::Drain { node } | Fault::Revoke { node } => (board_called(*node), 0),
            Fault::RecoverMesh { node, .. } => ("the mesh".to_owned(), *node),
            _ => {
                let name = fault.service().unwrap_or_default();
                let service = self.plan.services.iter().find(|known| known.name == name);
                (name.to_owned(), service.map_or(0, |service| service.board))
            }
        };
        self.want(self.now, &subject, what, board, Some(number));
        false
    }

    /// The identity that was drained may be another one than the board has now.
    pub(super) fn undrain(&mut self, node: BoardIndex, number: u32) {
        let drain = self.wanted.iter_mut().find(|wanted| wanted.fault == Some(number));
        let Some(Wanted { what: What::Drain(id, _), tries, outcome, .. }) = drain else { return };
        if *tries == 0 {
            // Nobody could be asked: it is not wanted any more.
            *outcome = Some(false);
            return;
        }
        let what = What::Drain(*id, false);
        self.want(self.now, &board_called(node), what, 0, None);
    }

    /// An operator recovers a mesh by the word that boards are gone. If one of those is there when that is carried out,
    /// or later is there again and does not hear of it, what follows is his to answer for.
    pub(super) fn judge_word(&mut self, fault: u32) {
        let Fault::RecoverMesh { node, dead } = &self.plan.schedule[fault as usize].fault else {
            return;
        };
        let there = |board: &BoardIndex| self.boards[usize::from(*board)].node.is_some();
        let is_new = !self.recovered.contains(&fault);
        let hears = |board: &BoardIndex| !self.net.is_cut(*node, *board);
        if dead.iter().any(|board| there(board) && (is_new || !hears(board))) {
            self.watch.excuse(self.plan.schedule[fault as usize].fault.may_break());
        }
        self.recovered.insert(fault);
    }

    /// Whether somebody was told that this identity is revoked.
    pub(super) fn is_unwelcome(&self, node: &NodeId) -> bool {
        self.wanted.iter().any(|wanted| wanted.what == What::Revoke(*node) && wanted.tries > 0)
    }

    /// Identities that were revoked.
    pub(super) fn revoked(&self) -> BTreeSet<NodeId> {
        let done = self.wanted.iter().filter(|wanted| wanted.outcome == Some(true));
        done.filter_map(|wanted| match wanted.what {
            What::Revoke(node) => Some(node),
            _ => None,
        })
        .collect()
    }

    pub(super) fn want(
        &mut self,
        at: Nanos,
        subject: &str,
        what: What,
        board: BoardIndex,
        fault: Option<u32>,
    ) {
        let number = self.wanted.len();
        let subject = subject.to_owned();
        self.wanted.push(Wanted {
            subject,
            what,
            board,
            tries: 0,
            looks: 0,
            asked: None,
            outcome: None,
            fault,
        });
        self.later(at, Task::Order(number));
    }

    /// Gives an order, again if it was not answered.
    pub(super) fn try_order(&mut self, number: usize) {
        let now = self.now;
        let wanted = &self.wanted[number];
        let before = self.wanted[..number].iter();
        let is_next = before
            .filter(|earlier| earlier.subject == wanted.subject)
            .all(|earlier| earlier.outcome.is_some());
        if wanted.outcome.is_some() || self.over {
            return;
        }
        // Not even the first try before that of what was wanted before.
        let waits = wanted.asked.is_some_and(|(_, at)| now < at + PATIENCE);
        let count = usize::from(self.plan.boards);
        let first = usize::from(wanted.board);
        // The word by which a board decides alone is said there and nowhere else.
        let asked = if matches!(wanted.what, What::RecoverMesh(_)) { 1 } else { count };
        let board = (0..asked).map(|n| (first + n) % count).find(|board| {
            let state = &self.boards[*board];
            let is_it = wanted.what == What::Revoke(state.id);
            state.node.is_some() && state.is_member && !self.net.paused[*board] && !is_it
        });
        let board = board.filter(|_| is_next && !waits).map(|board| board as BoardIndex);
        if board.is_some() && matches!(wanted.what, What::Restore(_)) {
            let wanted = &mut self.wanted[number];
            wanted.looks += 1;
            if wanted.looks > LOOKS_MAX {
                // There is nothing to go back to.
                wanted.outcome = Some(false);
                return;
            }
        }
        if let Some((board, command)) =
            board.and_then(|board| Some((board, self.command(board, number)?)))
        {
            let state = self.board(board);
            state.commands += 1;
            let op = OpId(ORDER_OPS + (u64::from(board) << 32) + state.commands);
            let wanted = &mut self.wanted[number];
            wanted.tries += 1;
            wanted.asked = Some((op, now));
            self.wake(board, Wake::Command(op, command));
        }
        self.later(now + LOOK_AGAIN, Task::Order(number));
    }

    /// What a board is told; nothing as long as that cannot be said.
    fn command(&mut self, board: BoardIndex, number: usize) -> Option<Command> {
        if let What::Revoke(node) = self.wanted[number].what {
            return Some(Command::Revoke(board::revocation(self.plan.seed, node, self.now)));
        }
        let action = self.action(number)?;
        Some(Command::Order(Box::new(self.order(board, number, action))))
    }

    /// What is ordered; nothing as long as that cannot be said.
    fn action(&mut self, number: usize) -> Option<Action> {
        let wanted = &self.wanted[number];
        let (name, what) = (Text::capped(&wanted.subject), wanted.what.clone());
        let service = self.plan.services.iter().find(|known| known.name == wanted.subject).cloned();
        let id = |board: &BoardIndex| self.boards[usize::from(*board)].id;
        Some(match what {
            What::Run => {
                let earlier = self.wanted[..number].iter().rev();
                let before = earlier
                    .filter(|other| other.subject == *name)
                    .find(|other| matches!(other.what, What::Run | What::Remove));
                let service = service?;
                let removed = |it: &Wanted| it.what == What::Remove && it.outcome == Some(true);
                if before.is_some_and(removed) {
                    // Another service of that name: nothing of the removed one is its state.
                    let instance = service.instance();
                    if self.wanted[number].tries == 0 {
                        self.boards.iter_mut().for_each(|board| board.host.is_anew(&instance));
                    }
                    self.see(0, Seen::Service(&ServiceEvent::Anew { instance }));
                }
                let mut spec = service.spec();
                if let Some(programs) = &self.programs {
                    programs.declare(&mut spec);
                }
                Action::Run(Box::new(spec))
            }
            What::Stop => Action::Stop(name),
            What::Remove => Action::Remove { service: name, force: false },
            What::Move => Action::Move(name),
            What::Drain(node, drained) => Action::Drain { node, drained },
            // That is no order: root says it.
            What::Revoke(_) => return None,
            What::RecoverMesh(dead) => {
                Action::RecoverMesh { dead: List::capped(dead.iter().map(id)) }
            }
            What::Recover(board) => {
                let from = id(&board);
                let instance = service?.instance();
                self.see(board, Seen::Service(&ServiceEvent::Forgiven { instance, from: None }));
                Action::Recover { service: name, from }
            }
            What::Restore(back) => {
                let (board, at, from) = self.earlier_state(&service?, back)?;
                let (instance, from) = (crate::service::instance(&name), Some(from));
                self.see(board, Seen::Service(&ServiceEvent::Forgiven { instance, from }));
                Action::Restore { service: name, at }
            }
        })
    }

    /// A state that the board of a service keeps, as `hedgerow why SERVICE` lists them there.
    fn earlier_state(
        &self,
        service: &Service,
        back: usize,
    ) -> Option<(BoardIndex, CheckpointId, Point)> {
        let board = self.running(&self.newest_row(service)?.active)?;
        let (instance, store) = (service.instance(), &board.host.store);
        let at = store.ids(&instance).rev().nth(back)?;
        match store.read(&instance, at) {
            Found::State(point) => Some((board.index, at, point)),
            Found::OtherBytes | Found::Nothing(_) => None,
        }
    }

    fn order(&self, board: BoardIndex, number: usize, action: Action) -> SignedOrder {
        let wanted = &self.wanted[number];
        let issued = self.boards[usize::from(board)].clock.wall(self.now);
        let unique = (number as u64) << 32 | u64::from(wanted.tries);
        let random = seed::bytes(self.plan.seed, Purpose::Order, unique, self.now);
        let mut nonce = [0; 16];
        nonce.copy_from_slice(&random[..16]);
        let order = Order {
            mesh: self.operator.mesh,
            cell: CellId::default(),
            operator: self.operator.key.public(),
            nonce,
            issued,
            expires: issued + ORDER_SECONDS,
            action,
        };
        let Operator { key, credential, .. } = &self.operator;
        SignedOrder::seal(&order, key, credential.clone()).expect("a small order fits")
    }

    /// A board answers.
    pub(super) fn order_answered(&mut self, op: OpId, reply: &Reply) {
        let asked = |wanted: &Wanted| wanted.asked.is_some_and(|(asked, _)| asked == op);
        let Some(number) = self.wanted.iter().position(asked) else { return };
        let wanted = &mut self.wanted[number];
        wanted.asked = None;
        let answer = match reply {
            Reply::Error(error) => &*error.code,
            _ => "done",
        };
        let record = self.records.entry(wanted.subject.clone()).or_default();
        record.answers.insert(answer.to_owned());
        match reply {
            Reply::Done => {
                wanted.outcome = Some(true);
                self.felt.extend(wanted.fault);
                if let Some(fault) = wanted.fault {
                    self.judge_word(fault);
                }
            }
            Reply::Error(error) => {
                // What nobody knows the outcome of may have been carried out, and what another change was
                // faster than may have begun: that is felt. So is a refusal that is expected.
                let is_expected = |(_, expect): &(_, Expect)| {
                    matches!(expect, Expect::Answered { service, code }
                        if *service == wanted.subject && *code == *error.code)
                };
                if ["unknown", "not-carried-out", "conflict"].contains(&&*error.code)
                    || self.plan.expects.iter().any(is_expected)
                {
                    self.felt.extend(wanted.fault);
                }
                // An earlier try was carried out, and its answer lost.
                if wanted.what == What::Remove && wanted.tries > 1 && *error.code == *"not-found" {
                    wanted.outcome = Some(true);
                }
                let may_be_impossible = matches!(
                    wanted.what,
                    What::Move | What::Stop | What::Restore(_) | What::Recover(_)
                );
                if may_be_impossible && wanted.tries >= TRIES_MAX {
                    wanted.outcome = Some(false);
                }
            }
            _ => {}
        }
        let wanted = &self.wanted[number];
        if wanted.outcome.is_some() && matches!(wanted.what, What::Restore(_) | What::Recover(_)) {
            let instance = crate::service::instance(&wanted.subject);
            // What was given up may be under way still.
            let late = u64::from(wanted.outcome == Some(false));
            let rows = self.newest_table().map_or(&[][..], |table| &table.rows);
            let row = rows.iter().find(|row| row.instance() == instance);
            let upto = row.map_or(0, |row| row.epoch.0) + late;
            self.see(0, Seen::Service(&ServiceEvent::Answered { instance, upto }));
        }
    }
}

/// What an operator's wishes about a board are filed under; no service can be called that.
fn board_called(node: BoardIndex) -> String {
    format!("board {node}")
}

/// An order that is not answered after that long is given again.
const PATIENCE: Nanos = 12 * SECOND;
/// Between two tries.
const LOOK_AGAIN: Nanos = SECOND;
/// What may well be impossible is tried so often.
const TRIES_MAX: u32 = 4;
/// How often it is looked for a state to go back to.
const LOOKS_MAX: u32 = 60;
/// How long an order may be on its way, seconds.
const ORDER_SECONDS: u64 = 60;
/// Numbers of orders start here, far above those of other commands.
const ORDER_OPS: u64 = 1 << 50;
