//! All services of a simulation, as the world's programs.
//!
//! Where several run, time passes for all of them a millisecond at a time, so that none is ahead of what
//! another does to the world.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use hedgerow::hosted::Hosted;
use hedgerow::proto::io::CommitOutcome;
use hedgerow::proto::machine::Time;
use hedgerow::proto::order::Instance;
use hedgerow::proto::spec::ServiceSpec;
use hedgerow::proto::table::CheckpointId;

use super::log::{Present, Trace};
use super::service::Running;
use super::states::States;
use super::{Kind, Simulation};
use crate::observe::What;
use crate::program::{Act, Origin, Programs, Right, Spot};
use crate::queue::BoardIndex;
use crate::time::{Clock, MILLI, Nanos};

/// Numbers of commits start here, far above those of ideal services.
const TICKETS: u64 = 1 << 32;

/// See the module.
pub(super) struct Services {
    simulation: Simulation,
    running: BTreeMap<(BoardIndex, Instance), Running>,
    /// Tasks of services that have ended, in processes that have not.
    left: Vec<(BoardIndex, Instance, Running)>,
    /// Boards whose process is gone; one that begins a service has one again.
    gone: BTreeSet<BoardIndex>,
    states: States,
    /// What they have done and the world has not heard of.
    acts: VecDeque<Act>,
    /// All have run up to there.
    at: Nanos,
    tickets: Arc<AtomicU64>,
    trace: Trace,
}

impl Services {
    pub(super) fn new(simulation: Simulation, again: bool) -> Self {
        Self {
            simulation,
            running: BTreeMap::new(),
            left: Vec::new(),
            gone: BTreeSet::new(),
            states: States::default(),
            acts: VecDeque::new(),
            at: 0,
            tickets: Arc::new(AtomicU64::new(TICKETS)),
            trace: Trace::new(again),
        }
    }

    fn of(&self, board: BoardIndex, instance: &Instance) -> Option<&Running> {
        self.running.get(&(board, instance.clone()))
    }

    fn restore(
        &self,
        kind: &Kind,
        spot: Spot,
        epoch: u64,
        from: &hedgerow::hosted::Restored,
    ) -> Result<Arc<dyn Hosted>, String> {
        let present = Present { spot, epoch, since: None, trace: self.trace.clone() };
        let restored = present.during(|| catch_unwind(AssertUnwindSafe(|| (kind.restore)(from))));
        match restored {
            Ok(Ok(service)) => Ok(service),
            Ok(Err(error)) => Err(format!("it cannot be restored from its state: {error}")),
            Err(_) => Err("it panicked while it was restored from its state".to_owned()),
        }
    }

    /// Lets all run for one step, no further than `to`, and no further than the first of them that does
    /// something. Where that ends.
    fn step(&mut self, mut to: Nanos, clock: &dyn Fn(BoardIndex) -> Option<Clock>) -> Nanos {
        let running = self.running.iter_mut().map(|((board, it), running)| (*board, it, running));
        let left = self.left.iter_mut().map(|(board, it, running)| (*board, &*it, running));
        for (board, instance, running) in running.chain(left) {
            let Some(clock) = clock(board) else {
                running.pause();
                continue;
            };
            let Some((at, deeds)) = running.run(Spot { board, now: self.at, clock }, to) else {
                continue;
            };
            to = to.min(at);
            let act = |deed| Act { at, board, instance: instance.clone(), deed };
            self.acts.extend(deeds.into_iter().map(act));
        }
        self.left.retain(|(.., running)| running.has_tasks());
        self.acts.make_contiguous().sort_by_key(|act| act.at);
        to
    }
}

impl Programs for Services {
    fn are_of(&self, instance: &Instance) -> bool {
        self.simulation.hosted.contains_key(instance)
    }

    fn declare(&self, spec: &mut ServiceSpec) {
        let is_it = |instance: &&Instance| instance.service == spec.name;
        if self.simulation.hosted.keys().any(|instance| is_it(&instance)) {
            spec.replicate.commit = self.simulation.commit;
            spec.replicate.commit_timeout_ms = self.simulation.commit_timeout_ms;
        }
    }

    fn begin(
        &mut self,
        spot: Spot,
        instance: &Instance,
        right: Right,
        origin: Origin,
    ) -> Result<(), String> {
        let Some(kind) = self.simulation.hosted.get(instance).cloned() else {
            return Err(format!("nothing hosts {instance}"));
        };
        let from = match origin {
            Origin::First => Some(kind.first.clone()),
            Origin::Folder => self.states.in_folder(spot.board, instance),
            Origin::State(id) => self.states.kept(instance, id),
        };
        let from = from.ok_or_else(|| format!("the simulator has forgotten {origin:?}"))?;
        let service = self.restore(&kind, spot, right.epoch, &from)?;
        self.states.write(spot.board, instance, from);
        self.gone.remove(&spot.board);
        let (tickets, trace) = (self.tickets.clone(), self.trace.clone());
        let running = Running::start(service, spot, right, tickets, trace)?;
        self.running.insert((spot.board, instance.clone()), running);
        Ok(())
    }

    fn extend(&mut self, board: BoardIndex, instance: &Instance, until: Time) {
        if let Some(running) = self.of(board, instance) {
            running.extend(until);
        }
    }

    fn fence(&mut self, spot: Spot, instance: &Instance) -> bool {
        let running = self.of(spot.board, instance);
        running.inspect(|running| running.fence()).is_some()
    }

    fn go_on(&mut self, board: BoardIndex, instance: &Instance) {
        if let Some(running) = self.of(board, instance) {
            running.go_on();
        }
    }

    fn checkpoint(
        &mut self,
        spot: Spot,
        instance: &Instance,
        id: CheckpointId,
        stays: bool,
    ) -> Result<(), String> {
        if let Some(running) = self.of(spot.board, instance) {
            if stays {
                running.stand_still();
            }
            match running.checkpoint(spot) {
                Ok(state) => self.states.write(spot.board, instance, Arc::new(state)),
                Err(why) => {
                    running.go_on();
                    return Err(why);
                }
            }
        }
        self.states.capture(spot.board, instance, id);
        Ok(())
    }

    fn answer(
        &mut self,
        board: BoardIndex,
        instance: &Instance,
        ticket: u64,
        outcome: CommitOutcome,
    ) {
        if let Some(running) = self.of(board, instance) {
            running.answer(ticket, outcome);
        }
    }

    fn end(&mut self, spot: Spot, instance: &Instance) -> Option<bool> {
        let mut running = self.running.remove(&(spot.board, instance.clone()))?;
        running.kill(spot);
        let last = running.ended_well().then(|| running.checkpoint(spot).ok()).flatten();
        if running.has_tasks() && !self.gone.contains(&spot.board) {
            self.left.push((spot.board, instance.clone(), running));
        }
        Some(last.map(|state| self.states.write(spot.board, instance, Arc::new(state))).is_some())
    }

    fn see(&mut self, board: BoardIndex, what: &What<'_>) {
        match what {
            What::Service(event) => self.states.see(board, event),
            What::DiskLost => self.states.lose(board),
            // With the process everything is gone that ran in it.
            What::Gone { .. } => {
                self.gone.insert(board);
                self.left.retain(|(on, ..)| *on != board);
            }
            _ => {}
        }
    }

    fn run(
        &mut self,
        now: Nanos,
        to: Nanos,
        clock: &dyn Fn(BoardIndex) -> Option<Clock>,
    ) -> Option<Act> {
        self.at = self.at.max(now);
        while self.acts.is_empty() && self.at < to {
            self.at = match self.running.len() + self.left.len() {
                0 => return None,
                1 => self.step(to, clock),
                _ => self.step(to.min(self.at + MILLI), clock),
            };
        }
        match self.acts.front() {
            Some(act) if act.at <= to => self.acts.pop_front(),
            _ => None,
        }
    }

    fn trace(&self) -> [u8; 32] {
        self.trace.finish()
    }
}
