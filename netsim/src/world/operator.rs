//! The operator: orders that are given on some board, and given again until one of them succeeds.

use hedgerow::proto::bounded::Text;
use hedgerow::proto::id::{CellId, MeshId, OpId};
use hedgerow::proto::io::{Command, Reply};
use hedgerow::proto::order::{Action, Order, SignedOrder};

use super::World;
use super::task::Task;
use crate::board::{self, Wake};
use crate::queue::BoardIndex;
use crate::seed::{self, Purpose};
use crate::time::{Nanos, SECOND};

/// What an operator wants, and what became of it.
#[derive(Debug)]
pub(super) struct Wanted {
    /// Of which service.
    pub(super) service: String,
    pub(super) what: What,
    /// Where it is tried first.
    board: BoardIndex,
    tries: u32,
    /// The command that is not answered yet, and when it was given.
    asked: Option<(OpId, Nanos)>,
    pub(super) outcome: Option<bool>,
    /// The fault of the schedule that it is, if it is one.
    fault: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum What {
    Run,
    Stop,
    Remove,
    Move,
}

impl World {
    pub(super) fn want(
        &mut self,
        at: Nanos,
        service: &str,
        what: What,
        board: BoardIndex,
        fault: Option<u32>,
    ) {
        let number = self.wanted.len();
        let service = service.to_owned();
        self.wanted.push(Wanted {
            service,
            what,
            board,
            tries: 0,
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
            .filter(|earlier| earlier.service == wanted.service)
            .all(|earlier| earlier.outcome.is_some());
        if wanted.outcome.is_some() || self.over {
            return;
        }
        // Not even the first try before that of what was wanted before.
        let waits = wanted.asked.is_some_and(|(_, at)| now < at + PATIENCE);
        let count = usize::from(self.plan.boards);
        let first = usize::from(wanted.board);
        let board = (0..count).map(|n| (first + n) % count).find(|board| {
            let state = &self.boards[*board];
            state.node.is_some() && state.is_member && !self.net.paused[*board]
        });
        if let (true, false, Some(board)) = (is_next, waits, board) {
            let board = board as BoardIndex;
            let signed = self.order(board, number);
            let state = self.board(board);
            state.commands += 1;
            let op = OpId(ORDER_OPS + (u64::from(board) << 32) + state.commands);
            let wanted = &mut self.wanted[number];
            wanted.tries += 1;
            wanted.asked = Some((op, now));
            self.wake(board, Wake::Command(op, Command::Order(Box::new(signed))));
        }
        self.later(now + LOOK_AGAIN, Task::Order(number));
    }

    fn order(&self, board: BoardIndex, number: usize) -> SignedOrder {
        let wanted = &self.wanted[number];
        let name = Text::capped(&wanted.service);
        let issued = self.boards[usize::from(board)].clock.wall(self.now);
        let (root, operator) = board::operator(self.plan.seed);
        let unique = (number as u64) << 32 | u64::from(wanted.tries);
        let random = seed::bytes(self.plan.seed, Purpose::Order, unique, self.now);
        let mut nonce = [0; 16];
        nonce.copy_from_slice(&random[..16]);
        let spec = self.plan.services.iter().find(|service| service.name == wanted.service);
        let action = match (wanted.what, spec) {
            (What::Run, Some(service)) => Action::Run(Box::new(service.spec())),
            (What::Stop, _) => Action::Stop(name),
            (What::Remove, _) => Action::Remove { service: name, force: false },
            (What::Move | What::Run, _) => Action::Move(name),
        };
        let order = Order {
            mesh: MeshId::of_root(&root.public()),
            cell: CellId::default(),
            operator: operator.public(),
            nonce,
            issued,
            expires: issued + ORDER_SECONDS,
            action,
        };
        let credential = board::operator_credential(self.plan.seed);
        SignedOrder::seal(&order, &operator, credential).expect("a small order fits")
    }

    /// A board answers.
    pub(super) fn order_answered(&mut self, op: OpId, reply: &Reply) {
        let asked = |wanted: &&mut Wanted| wanted.asked.is_some_and(|(asked, _)| asked == op);
        let Some(wanted) = self.wanted.iter_mut().find(asked) else { return };
        wanted.asked = None;
        match reply {
            Reply::Done => {
                wanted.outcome = Some(true);
                self.felt.extend(wanted.fault);
            }
            Reply::Error(error) => {
                // Whatever is unknown may have been carried out: that is felt.
                if matches!(error.code.as_str(), "unknown" | "not-carried-out") {
                    self.felt.extend(wanted.fault);
                }
                if wanted.what == What::Move && wanted.tries >= MOVES_MAX {
                    wanted.outcome = Some(false);
                }
            }
            _ => {}
        }
    }
}

/// An order that is not answered after that long is given again.
const PATIENCE: Nanos = 12 * SECOND;
/// Between two tries.
const LOOK_AGAIN: Nanos = SECOND;
/// A move is tried so often.
const MOVES_MAX: u32 = 4;
/// How long an order may be on its way, seconds.
const ORDER_SECONDS: u64 = 60;
/// Numbers of orders start here, far above those of other commands.
const ORDER_OPS: u64 = 1 << 50;
