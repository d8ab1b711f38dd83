//! What hosts and operators will do later. Small things in the queue name a task by its number.

use hedgerow::proto::order::Instance;
use hedgerow::proto::specs::SpecHash;
use hedgerow::proto::table::CheckpointId;

use super::World;
use super::copy::Fetch;
use crate::queue::{BoardIndex, Due};
use crate::service::Point;
use crate::time::Nanos;

/// One of them.
#[derive(Debug)]
pub(super) enum Task {
    /// It was looked whether a service could be started, in that life of the agent.
    Check(BoardIndex, u32, Instance, SpecHash),
    /// A service is prepared; the number is its shim's.
    Begin(BoardIndex, Instance, u64),
    /// A shim's deadline may have come.
    Deadline(BoardIndex, Instance, u64),
    /// A service that was told to stop has.
    Stopped(BoardIndex, Instance, u64),
    /// A client commits.
    Commit(BoardIndex, Instance, u64),
    /// A capture takes its snapshot, in that life of the agent.
    Snapshot(BoardIndex, u32, Instance, CheckpointId),
    /// A capture is durable.
    Captured(BoardIndex, u32, Instance, CheckpointId, Point),
    /// A fetch takes its next step.
    Fetch(Box<Fetch>),
    /// An operator tries an order.
    Order(usize),
    /// The process of that life ends, for this reason, and is started again so long after.
    Fail(BoardIndex, u32, &'static str, Nanos),
    /// A process that gets the processor now and then gets it.
    Grind(BoardIndex, u32),
    /// The link of a fault that makes it come and go does so: is it cut from now on?
    Flap(u32, bool),
    /// A board behind the NAT of this fault gives signs of life.
    KeepAlive(u32),
    /// The kernel of the board of this fault looks for memory.
    Starve(u32),
    /// A flood, of which so many messages were said.
    Flood(u32, u64),
}

impl Task {
    /// The board whose host is to do it.
    fn host(&self) -> Option<BoardIndex> {
        match self {
            Self::Check(board, ..)
            | Self::Begin(board, ..)
            | Self::Deadline(board, ..)
            | Self::Stopped(board, ..)
            | Self::Commit(board, ..)
            | Self::Snapshot(board, ..)
            | Self::Captured(board, ..) => Some(*board),
            Self::Fetch(_)
            | Self::Order(_)
            | Self::Fail(..)
            | Self::Grind(..)
            | Self::Flap(..)
            | Self::KeepAlive(_)
            | Self::Starve(_)
            | Self::Flood(..) => None,
        }
    }
}

impl World {
    pub(super) fn later(&mut self, at: Nanos, task: Task) {
        let number = self.task;
        self.task += 1;
        self.tasks.insert(number, task);
        self.queue.push(at.max(self.now), Due::Task(number));
    }

    pub(super) fn perform(&mut self, number: u32) {
        if let Some(host) = self.tasks.get(&number).and_then(Task::host)
            && let Some(sleep) = &mut self.board(host).asleep
        {
            return sleep.tasks.push(number);
        }
        match self.tasks.remove(&number) {
            Some(Task::Check(board, life, instance, order)) => {
                self.service_checked(board, life, &instance, order);
            }
            Some(Task::Begin(board, instance, serial)) => {
                self.service_begins(board, &instance, serial);
            }
            Some(Task::Deadline(board, instance, serial)) => {
                self.deadline(board, &instance, serial);
            }
            Some(Task::Stopped(board, instance, serial)) => {
                self.service_stopped(board, &instance, serial);
            }
            Some(Task::Commit(board, instance, serial)) => {
                self.client_commits(board, &instance, serial);
            }
            Some(Task::Snapshot(board, life, instance, id)) => {
                self.snapshot(board, life, instance, id);
            }
            Some(Task::Captured(board, life, instance, id, point)) => {
                self.captured(board, life, instance, id, point);
            }
            Some(Task::Fetch(fetch)) => self.fetch_step(*fetch),
            Some(Task::Order(order)) => self.try_order(order),
            Some(Task::Fail(board, life, why, after)) => self.fail(board, life, why, after),
            Some(Task::Grind(board, life)) => self.grind(board, life),
            Some(Task::Flap(fault, cut)) => self.flap(fault, cut),
            Some(Task::KeepAlive(fault)) => self.keep_alive(fault),
            Some(Task::Starve(fault)) => self.starve(fault),
            Some(Task::Flood(fault, said)) => self.flood(fault, said),
            None => {}
        }
    }
}
