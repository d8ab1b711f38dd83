//! Programs in the place of ideal services: what the world tells them, and what it makes of their deeds.
//!
//! The account of writes goes on as for an ideal service, so every invariant looks after programs, too. Three
//! things differ: a program commits when it wants to; it ends as it is told to, or half the kill bound before
//! its lease does; and it dies with the agent, whose process it is part of.

use hedgerow::proto::io::{CommitOutcome, Exit, Report};
use hedgerow::proto::order::Instance;
use hedgerow::proto::table::CheckpointId;

use super::World;
use crate::host::Shim;
use crate::observe::{Watch, Watcher};
use crate::plan::{Outcome, Plan};
use crate::program::{Act, Deed, Origin, Programs, Right, Spot};
use crate::queue::BoardIndex;
use crate::time::Nanos;

/// Runs a plan with programs in the place of some of its services. The trace is of both.
pub fn run_programs(
    plan: &Plan,
    watcher: Option<Box<dyn Watcher>>,
    programs: Box<dyn Programs>,
) -> Outcome {
    let mut world = World::new(plan.clone(), Watch::new(usize::from(plan.boards), watcher));
    world.programs = Some(programs);
    world.run();
    let trace = world.programs.as_ref().map(|programs| programs.trace());
    let mut outcome = world.finish();
    let whole = [outcome.trace, trace.unwrap_or_default()].concat();
    outcome.trace = *blake3::hash(&whole).as_bytes();
    outcome
}

impl World {
    pub(super) fn is_program(&self, instance: &Instance) -> bool {
        self.programs.as_ref().is_some_and(|programs| programs.are_of(instance))
    }

    fn spot(&self, board: BoardIndex) -> Spot {
        Spot { board, now: self.now, clock: self.boards[usize::from(board)].clock }
    }

    /// Lets programs run until the next thing happens, no later than `end`. True if one did something first.
    pub(super) fn programs_act(&mut self, end: Nanos) -> bool {
        let Some(programs) = &mut self.programs else { return false };
        let to = self.queue.next().map_or(end, |at| at.min(end));
        let (boards, paused) = (&self.boards, &self.net.paused);
        let clock = |board| {
            let board = usize::from(board);
            (!paused[board]).then(|| boards[board].clock)
        };
        let Some(act) = programs.run(self.now, to, &clock) else { return false };
        self.now = self.now.max(act.at);
        self.steps += 1;
        self.program_did(act);
        true
    }

    fn program_did(&mut self, act: Act) {
        let (now, board, instance) = (self.now, act.board, act.instance);
        let Some(shim) = self.board(board).host.shims.get_mut(&instance) else { return };
        match act.deed {
            Deed::Commits(ticket) => {
                if let Some(run) = &mut shim.run {
                    let writes = run.point(now).writes;
                    run.asked.insert(ticket, writes);
                    self.report(board, &instance, Report::Commit { ticket });
                }
            }
            Deed::Ends(result) => {
                let told_to = shim.stopping || shim.dead_at.is_some();
                let (how, exit) = match result {
                    _ if told_to => ("it ended as it was told to", shim.killed_as()),
                    Ok(()) => ("it ended", Exit::Code { code: 0 }),
                    Err(why) => ("it failed", Exit::Error { why }),
                };
                self.shim_ends(board, &instance, how, Some(exit));
            }
        }
    }

    /// The service is about to begin. An error if it is a program that cannot.
    pub(super) fn program_begins(
        &mut self,
        board: BoardIndex,
        instance: &Instance,
        origin: Origin,
    ) -> Result<(), String> {
        let spot = self.spot(board);
        let Some(programs) = self.programs.as_mut().filter(|p| p.are_of(instance)) else {
            return Ok(());
        };
        let shim = self.boards[usize::from(board)].host.shims.get(instance);
        let Some(&Shim { epoch, until, kill_bound, .. }) = shim else { return Ok(()) };
        programs.begin(spot, instance, Right { epoch: epoch.0, until, kill_bound }, origin)
    }

    /// The lease of a service is prolonged.
    pub(super) fn program_may_act(&mut self, board: BoardIndex, instance: &Instance) {
        let Some(programs) = &mut self.programs else { return };
        if let Some(shim) = self.boards[usize::from(board)].host.shims.get(instance) {
            programs.extend(board, instance, shim.until);
        }
    }

    /// The service is to end. True if it is a program that runs.
    pub(super) fn program_is_fenced(&mut self, board: BoardIndex, instance: &Instance) -> bool {
        let spot = self.spot(board);
        self.programs.as_mut().is_some_and(|programs| programs.fence(spot, instance))
    }

    pub(super) fn program_goes_on(&mut self, board: BoardIndex, instance: &Instance) {
        if let Some(programs) = &mut self.programs {
            programs.go_on(board, instance);
        }
    }

    /// A state of the service is captured. An error if it is a program that does not write one.
    pub(super) fn program_checkpoints(
        &mut self,
        board: BoardIndex,
        instance: &Instance,
        id: CheckpointId,
        stays: bool,
    ) -> Result<(), String> {
        let spot = self.spot(board);
        let Some(programs) = self.programs.as_mut().filter(|p| p.are_of(instance)) else {
            return Ok(());
        };
        programs.checkpoint(spot, instance, id, stays)?;
        let shim = self.board(board).host.shims.get_mut(instance);
        if let Some(run) = shim.and_then(|shim| shim.run.as_mut()) {
            // Its folder is synced before anything is captured from there.
            run.safe = run.point(spot.now).writes;
        }
        Ok(())
    }

    pub(super) fn program_is_answered(
        &mut self,
        board: BoardIndex,
        instance: &Instance,
        ticket: u64,
        outcome: CommitOutcome,
    ) {
        if let Some(programs) = &mut self.programs {
            programs.answer(board, instance, ticket, outcome);
        }
    }

    /// See [`Programs::end`].
    pub(super) fn program_ends(&mut self, board: BoardIndex, instance: &Instance) -> Option<bool> {
        let spot = self.spot(board);
        self.programs.as_mut()?.end(spot, instance)
    }

    /// The agent's process is gone, and programs were part of it.
    pub(super) fn programs_die(&mut self, board: BoardIndex) {
        let shims = self.boards[usize::from(board)].host.shims.keys();
        let all: Vec<Instance> = shims.filter(|it| self.is_program(it)).cloned().collect();
        for instance in all {
            self.shim_ends(board, &instance, "its process is gone", Some(Exit::Stopped));
        }
    }
}
