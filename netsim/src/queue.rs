//! What will happen next: a heap of (time, sequence), and nothing else decides order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::time::Nanos;

/// The board with this number.
pub type BoardIndex = u16;
/// A connection, numbered from 0 in the order of their making.
pub type ConnIndex = u32;

/// One thing that will happen in the world. Small, because the heap moves it about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Due {
    /// A node's timer may be due.
    Timer(BoardIndex),
    /// The first segment on one way of a connection arrives.
    Arrive(ConnIndex, u8),
    /// The datagram that is kept under this number arrives.
    Datagram(u32),
    /// What a disk is doing is done.
    Disk(BoardIndex, u32),
    /// A dial takes its next step.
    Dial(u32),
    /// An end has heard nothing for too long, if its count is still this one.
    Idle(ConnIndex, u8, u32),
    /// An end of a connection is told that the connection is gone.
    Close(ConnIndex, u8),
    /// An end must have been admitted by now.
    Late(ConnIndex, u8),
    /// A process is told the time of day, in the life of this number.
    Wall(BoardIndex, u32),
    /// A board is switched on for the first time.
    Start(BoardIndex),
    /// A process that has read its journal begins to run, in the life of this number.
    Boot(BoardIndex, u32),
    /// A process that has left the mesh ends, in the life of this number.
    Exit(BoardIndex, u32),
    /// A pause ends, if it is still this one.
    Resume(BoardIndex, u32),
    /// A fault of the schedule begins.
    Fault(u32),
    /// A fault of the schedule ends.
    Mend(u32),
    /// An expectation of the scenario is due.
    Expect(u32),
    /// Something that a host or an operator does later.
    Task(u32),
    /// All faults stop.
    Heal,
    /// Has everything converged?
    Settle,
}

/// The heap.
#[derive(Debug, Default)]
pub struct Queue {
    heap: BinaryHeap<Reverse<(Nanos, u64, Due)>>,
    sequence: u64,
}

impl Queue {
    /// `due` will happen at `at`, after everything that was put in before for the same time.
    pub fn push(&mut self, at: Nanos, due: Due) {
        self.sequence += 1;
        self.heap.push(Reverse((at, self.sequence, due)));
    }

    /// When the next thing happens.
    pub fn next(&self) -> Option<Nanos> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    /// The next thing to happen, no later than `end`.
    pub fn pop(&mut self, end: Nanos) -> Option<(Nanos, Due)> {
        let Reverse((at, ..)) = self.heap.peek()?;
        if *at > end {
            return None;
        }
        self.heap.pop().map(|Reverse((at, _, due))| (at, due))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_due_at_one_time_happen_in_the_order_in_which_they_were_put_in() {
        let mut queue = Queue::default();
        queue.push(2, Due::Heal);
        queue.push(1, Due::Timer(9));
        queue.push(1, Due::Timer(3));
        queue.push(3, Due::Settle);
        let order: Vec<_> = std::iter::from_fn(|| queue.pop(2)).collect();
        assert_eq!(order, [(1, Due::Timer(9)), (1, Due::Timer(3)), (2, Due::Heal)]);
    }
}
