//! What boards do with their countdowns and messages. Each rule names the file of the core it follows.

mod election;
mod takeover;

use super::faults::Fault;
use super::state::{MASTERS, Master, State, WORKERS};
use election::win;
use takeover::{ask, learn};

/// How far one run goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// False: nobody wants to run anything.
    pub(crate) workers: bool,
    pub(crate) terms: u8,
    pub(crate) epochs: u8,
    /// L on the slowest clock that the core allows, which is P on the fastest one, ticks.
    pub(crate) lease: u8,
    pub(crate) master_crashes: u8,
    pub(crate) worker_crashes: u8,
    /// Answers and disks take time: time may pass, and boards crash, between a request and the answer to it.
    pub(crate) delays: bool,
}

/// One thing that happens. Masters and workers are numbered from zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    /// Time passes for everybody.
    Tick,
    Stand(usize, u8),
    /// A vote becomes durable.
    Persist(usize),
    /// The candidate's request arrives at the voter.
    Vote(usize, usize),
    Win(usize),
    /// The master's heartbeat arrives at the voter, and the answer leaves.
    Beat(usize, usize),
    /// The answer to a heartbeat arrives.
    Answer(usize),
    /// The table of that term becomes durable there.
    Copy(usize, usize),
    /// The master knows that its table is chosen, and announces it.
    Commit(usize),
    StepDown(usize),
    CrashMaster(usize),
    /// The active's request arrives at its standby, and the grant leaves.
    RenewPair(usize),
    /// The same with a master.
    RenewMaster(usize, usize),
    /// A grant arrives.
    Grant(usize),
    Start(usize),
    /// The standby says `Take`.
    Ask(usize),
    /// `Take` arrives at a master, which agrees.
    Take(usize, usize),
    /// An active asks for a new right of its own (an operator's `restore`).
    Again(usize, usize),
    /// An announcement of that epoch arrives.
    Learn(usize, u8),
    /// The agent of a worker dies and starts again; its shim and the container go on. The journal may have lost
    /// the newest row.
    CrashAgent(usize, u8),
    /// The same, and the container dies as well.
    CrashWorker(usize, u8),
    /// A planted fault only: the standby starts on its own.
    Usurp(usize),
}

/// The rules within some bounds, one of them perhaps left out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) bounds: Bounds,
    pub(crate) fault: Option<Fault>,
}

impl Rules {
    fn lacks(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    /// P for a lease of that length (`promises.rs`, `promised`).
    fn promised(&self, lease: u8) -> u8 {
        lease - u8::from(self.lacks(Fault::NoDriftMargin))
    }

    /// What might happen; [`Rules::after`] says whether it can.
    pub(crate) fn candidates(&self, actions: &mut Vec<Action>) {
        actions.push(Action::Tick);
        for one in 0..MASTERS {
            actions.extend((1..=self.bounds.terms).map(|term| Action::Stand(one, term)));
            for other in (0..MASTERS).filter(|other| *other != one) {
                actions.extend([Action::Vote(one, other), Action::Beat(one, other)]);
            }
            actions.extend((1..=usize::from(self.bounds.terms)).map(|t| Action::Copy(t, one)));
            actions.extend([Action::Persist(one), Action::Win(one), Action::Answer(one)]);
            actions.extend([Action::Commit(one), Action::StepDown(one), Action::CrashMaster(one)]);
        }
        for worker in (0..WORKERS).filter(|_| self.bounds.workers) {
            for master in 0..MASTERS {
                actions.push(Action::RenewMaster(worker, master));
                actions.extend([Action::Take(worker, master), Action::Again(worker, master)]);
            }
            for epoch in 1..=self.bounds.epochs {
                actions.extend([Action::Learn(worker, epoch), Action::CrashAgent(worker, epoch)]);
                actions.push(Action::CrashWorker(worker, epoch));
            }
            actions.extend([Action::RenewPair(worker), Action::Grant(worker)]);
            actions.extend([Action::Start(worker), Action::Ask(worker)]);
            if self.lacks(Fault::SilenceIsEnough) {
                actions.push(Action::Usurp(worker));
            }
        }
    }

    /// What comes of it; none if it cannot happen.
    pub(crate) fn after(&self, state: &State, action: Action) -> Option<State> {
        let mut next = *state;
        match action {
            Action::Tick => self.tick(&mut next),
            Action::Stand(candidate, term) => self.stand(&mut next, candidate, term)?,
            Action::Persist(voter) => self.persist(&mut next, voter)?,
            Action::Vote(candidate, voter) => self.vote(&mut next, candidate, voter)?,
            Action::Win(candidate) => win(&mut next, candidate)?,
            Action::Beat(master, voter) => self.beat(&mut next, master, voter)?,
            Action::Answer(master) => {
                next.masters[master].reign_mut()?.take_answer();
            }
            Action::Copy(term, voter) => self.copy(&mut next, term, voter)?,
            Action::Commit(master) => self.commit(&mut next, master)?,
            Action::StepDown(master) => self.resign(&mut next, master)?,
            Action::CrashMaster(master) => self.crash_master(&mut next, master)?,
            Action::RenewPair(active) => self.renew_pair(&mut next, active)?,
            Action::RenewMaster(active, master) => self.renew_master(&mut next, active, master)?,
            Action::Grant(worker) => next.workers[worker].take_grant(),
            Action::Start(worker) => self.start(&mut next, worker)?,
            Action::Ask(worker) => ask(&mut next, worker)?,
            Action::Take(worker, master) => self.take(&mut next, worker, master)?,
            Action::Again(worker, master) => self.again(&mut next, worker, master)?,
            Action::Learn(worker, epoch) => learn(&mut next, worker, epoch)?,
            Action::CrashAgent(worker, row) => self.crash_worker(&mut next, worker, row, true)?,
            Action::CrashWorker(worker, row) => self.crash_worker(&mut next, worker, row, false)?,
            Action::Usurp(worker) => self.usurp(&mut next, worker)?,
        }
        for reign in next.masters.iter_mut().filter_map(Master::reign_mut) {
            // An answer that prolongs nothing is as good as none.
            reign.answer = if reign.answer > reign.lease { reign.answer } else { 0 };
        }
        for worker in &mut next.workers {
            worker.grant = if worker.grant > worker.lease { worker.grant } else { 0 };
        }
        (next != *state).then_some(next)
    }

    /// Every lease and every promise is a tick shorter, and the shim kills what has no lease any more.
    fn tick(&self, next: &mut State) {
        let pass = |left: &mut u8| *left = left.saturating_sub(1);
        let ages = !self.lacks(Fault::LeaseFromReceipt);
        for master in &mut next.masters {
            pass(&mut master.promise);
            pass(&mut master.silent);
            if let Some(reign) = master.reign_mut() {
                pass(&mut reign.lease);
                pass(&mut reign.owed);
                // Sent is sent: what is under way grows old as well.
                if ages {
                    pass(&mut reign.answer);
                }
            }
        }
        for worker in &mut next.workers {
            pass(&mut worker.lease);
            pass(&mut worker.promise);
            pass(&mut worker.silent);
            if ages {
                pass(&mut worker.grant);
            }
            if worker.lease == 0 {
                worker.runs = 0;
            }
        }
    }
}
