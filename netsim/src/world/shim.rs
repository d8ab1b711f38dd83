//! Shims: services starting, running, committing and ending, whatever becomes of the agent.
//!
//! A service is created frozen, its folder is brought into the state that was asked for, and only then,
//! and only if its deadline has not come near meanwhile, does its first instruction run.

use std::time::Duration;

use hedgerow::proto::bounded::{List, Text};
use hedgerow::proto::failover::active::Found;
use hedgerow::proto::id::Epoch;
use hedgerow::proto::io::{Begin, CommitOutcome, Exit, Input, Report};
use hedgerow::proto::machine::Time;
use hedgerow::proto::order::Instance;
use hedgerow::proto::spec::{Commit, OnIsolation, PORTS_MAX, ServiceSpec};
use hedgerow::proto::specs::SpecHash;

use super::World;
use super::task::Task;
use crate::board::Wake;
use crate::faults::Fault;
use crate::host::{Folder, Run, Shim};
use crate::observe::What;
use crate::program::Origin;
use crate::queue::BoardIndex;
use crate::service::{Point, ServiceEvent};
use crate::time::{MILLI, Nanos, SECOND};

/// What an agent asks a shim for.
pub(super) struct Start {
    pub(super) epoch: Epoch,
    pub(super) until: Time,
    pub(super) kill_bound: Duration,
    pub(super) spec: Box<ServiceSpec>,
    pub(super) begin: Begin,
}

impl World {
    pub(super) fn start_service(&mut self, board: BoardIndex, instance: Instance, start: Start) {
        if self.board(board).host.shims.contains_key(&instance) {
            let text = format!("starts {instance}, which a shim of its own runs already");
            return self.find("starts-what-does-not-run", Some(board), text);
        }
        let now = self.now;
        self.serial += 1;
        let serial = self.serial;
        let state = self.board(board);
        let shim = Shim {
            serial,
            epoch: start.epoch,
            spec: start.spec.digest(),
            until: start.until,
            kill_bound: start.kill_bound,
            life: state.life,
            stateful: start.spec.state.is_some(),
            commits: start.spec.state.is_some() && start.spec.replicate.commit == Commit::Standby,
            keeps: start.spec.on_isolation == OnIsolation::KeepRunning,
            isolated: false,
            begin: start.begin,
            dead_at: None,
            stopping: false,
            run: None,
        };
        let mut takes = state.host.draws.between(2 * MILLI, 20 * MILLI);
        if matches!(start.begin, Begin::From(_)) {
            takes += state.host.draws.between(5 * MILLI, 200 * MILLI);
        }
        let look_at = state.clock.when(shim.look_at()).max(now);
        state.host.shims.insert(instance.clone(), shim);
        self.later(now + takes, Task::Begin(board, instance.clone(), serial));
        self.later(look_at, Task::Deadline(board, instance, serial));
    }

    /// The agent asks whether that could be started here.
    pub(super) fn check_service(&mut self, board: BoardIndex, instance: Instance, order: SpecHash) {
        let life = self.board(board).life;
        self.later(self.now + MILLI, Task::Check(board, life, instance, order));
    }

    pub(super) fn service_checked(
        &mut self,
        board: BoardIndex,
        life: u32,
        instance: &Instance,
        order: SpecHash,
    ) {
        if self.board(board).life != life {
            return;
        }
        let result = match self.board(board).host.empty {
            true => {
                self.feel(|fault| *fault == Fault::LacksProgram { node: board });
                Err("the simulated board lacks the program".to_owned())
            }
            false => Ok(()),
        };
        self.report(board, instance, Report::Checked { order, result });
    }

    /// Everything is prepared: the service runs, if it may still.
    pub(super) fn service_begins(&mut self, board: BoardIndex, instance: &Instance, serial: u64) {
        let now = self.now;
        let state = self.board(board);
        let local = state.clock.local(now);
        let Some(shim) = state.host.shims.get(instance).filter(|shim| shim.serial == serial) else {
            return;
        };
        if shim.stopping || shim.dead_at.is_some() || local >= shim.look_at() {
            // It is dead before it lived; its stop or its deadline says so.
            return;
        }
        if state.host.barren || state.host.empty {
            self.feel_that_nothing_starts(board);
            let why = "the simulated board cannot start anything".to_owned();
            return self.shim_ends(board, instance, "cannot start", Some(Exit::Failed { why }));
        }
        let Some(shim) = self.board(board).host.shims.get(instance) else { return };
        let (epoch, begin, stateful) = (shim.epoch, shim.begin, shim.stateful);
        let Some((origin, from)) = self.begins_with(board, instance, epoch, begin) else { return };
        if let Err(why) = self.program_begins(board, instance, origin) {
            let exit = Exit::Failed { why };
            return self.shim_ends(board, instance, "cannot begin", Some(exit));
        }
        let run = self.runs;
        self.runs += 1;
        let state = self.board(board);
        let life = state.life;
        if stateful {
            let folder = Folder { epoch, state: from, lost_power: false };
            state.host.folders.insert(instance.clone(), folder);
        }
        state.host.began.insert(instance.clone(), epoch.0);
        let Some(shim) = state.host.shims.get_mut(instance) else { return };
        shim.run = Some(Run::new(run, now));
        let (commits, started_by, spec) = (shim.commits, shim.life, Some(shim.spec));
        let begins = ServiceEvent::Begins {
            instance: instance.clone(),
            epoch: epoch.0,
            run,
            from,
            stateful,
        };
        self.see(board, What::Service(&begins));
        let report = match started_by == life {
            true => Report::Started { epoch, ports: ports() },
            false => Report::Found(Found { epoch, spec, ports: ports() }),
        };
        self.report(board, instance, report);
        if commits && !self.is_program(instance) {
            self.later(now + COMMIT_GAP_MIN, Task::Commit(board, instance.clone(), serial));
        }
    }

    /// Where the state of a service that begins comes from, and what it is. None if there is no such state,
    /// and the agent was told.
    fn begins_with(
        &mut self,
        board: BoardIndex,
        instance: &Instance,
        epoch: Epoch,
        begin: Begin,
    ) -> Option<(Origin, Option<Point>)> {
        let host = &mut self.board(board).host;
        let folder = host.folders.get(instance).filter(|folder| folder.epoch == epoch);
        let goes_on = matches!(begin, Begin::GoOn { after_power_cut: None });
        let commits = host.shims.get(instance).is_some_and(|shim| shim.commits);
        if goes_on && commits && host.is_torn(instance, epoch) {
            let text = format!("{instance} goes on from files that nobody has synced");
            self.find("nothing-torn-is-gone-on-from", Some(board), text);
            return None;
        }
        let (origin, from) = match (begin, folder) {
            (Begin::GoOn { after_power_cut: Some(id) }, Some(folder)) if folder.lost_power => {
                (Origin::State(id), None)
            }
            (_, Some(folder)) => (Origin::Folder, folder.state),
            (Begin::Empty { .. }, None) => (Origin::First, None),
            (Begin::From(id), None) => (Origin::State(id), None),
            (Begin::GoOn { .. }, None) => {
                host.shims.remove(instance);
                self.report(board, instance, Report::Lost { epoch });
                return None;
            }
        };
        let Origin::State(id) = origin else { return Some((origin, from)) };
        match self.read_state(board, instance, id) {
            Ok(state) => Some((origin, Some(state))),
            Err(why) => {
                self.forget_unreadable(board, instance, id);
                let exit = Exit::Failed { why };
                self.shim_ends(board, instance, "no such state", Some(exit));
                None
            }
        }
    }

    fn feel_that_nothing_starts(&mut self, board: BoardIndex) {
        let faults = [Fault::CannotStart { node: board }, Fault::LacksProgram { node: board }];
        self.feel(|fault| faults.contains(fault));
    }

    /// Tells a fresh agent what runs.
    pub(super) fn find_shims(&mut self, board: BoardIndex) {
        let shims = &self.boards[usize::from(board)].host.shims;
        let found: Vec<_> = shims
            .iter()
            .filter(|(_, shim)| shim.run.is_some())
            .map(|(instance, shim)| (instance.clone(), shim.epoch, shim.spec))
            .collect();
        for (instance, epoch, spec) in found {
            let found = Found { epoch, spec: Some(spec), ports: ports() };
            self.report(board, &instance, Report::Found(found));
        }
    }

    pub(super) fn extend(
        &mut self,
        board: BoardIndex,
        instance: &Instance,
        epoch: Epoch,
        until: Time,
    ) {
        let shim = self.board(board).host.shims.get_mut(instance);
        if let Some(shim) = shim.filter(|shim| shim.epoch == epoch) {
            shim.until = shim.until.max(until);
            self.connected(board, instance);
        }
        self.program_may_act(board, instance);
    }

    /// Services that go on without a lease do so from now on, if their deadline has passed.
    pub(super) fn isolate_overdue(&mut self, board: BoardIndex) {
        let now = self.now;
        let state = self.board(board);
        let local = state.clock.local(now);
        let mut isolated = Vec::new();
        for (instance, shim) in &mut state.host.shims {
            if shim.keeps && !shim.isolated && local >= shim.look_at() {
                shim.isolated = true;
                let run = shim.run.as_ref().map(|run| run.number);
                isolated.extend(run.map(|run| (instance.clone(), run)));
            }
        }
        for (instance, run) in isolated {
            self.see(board, What::Service(&ServiceEvent::Isolated { instance, run }));
        }
    }

    /// A service that went on without a lease may have one again.
    fn connected(&mut self, board: BoardIndex, instance: &Instance) {
        let now = self.now;
        let state = self.board(board);
        let local = state.clock.local(now);
        let Some(shim) = state.host.shims.get_mut(instance) else { return };
        if local >= shim.look_at() || !std::mem::replace(&mut shim.isolated, false) {
            return;
        }
        let epoch = shim.epoch.0;
        if let Some(run) = shim.run.as_ref().map(|run| run.number) {
            let connected = ServiceEvent::Connected { instance: instance.clone(), run, epoch };
            self.see(board, What::Service(&connected));
        }
    }

    pub(super) fn stop_service(&mut self, board: BoardIndex, instance: Instance, kill: bool) {
        let now = self.now;
        let host = &mut self.board(board).host;
        let Some(shim) = host.shims.get_mut(&instance) else { return };
        shim.stopping = true;
        let serial = shim.serial;
        let longest = if kill { 50 * MILLI } else { 400 * MILLI };
        let mut takes = host.draws.between(MILLI, longest);
        if host.stubborn && !kill {
            takes += STOP_GRACE;
            self.feel(|fault| *fault == Fault::SlowStop { node: board });
        }
        if self.program_is_fenced(board, &instance) {
            takes = if kill { 0 } else { STOP_GRACE };
            self.program_goes_on(board, &instance);
        }
        self.later(now + takes, Task::Stopped(board, instance, serial));
    }

    pub(super) fn service_stopped(&mut self, board: BoardIndex, instance: &Instance, serial: u64) {
        if self.board(board).host.shim(instance, serial).is_some() {
            self.shim_ends(board, instance, "stopped", Some(Exit::Stopped));
        }
    }

    pub(super) fn thaw(&mut self, board: BoardIndex, instance: &Instance) {
        let now = self.now;
        let host = &mut self.board(board).host;
        if let Some((_, freezes)) = host.captures.get_mut(instance) {
            *freezes = false;
        }
        if let Some(run) = host.shims.get_mut(instance).and_then(|shim| shim.run.as_mut()) {
            run.freeze(now, false);
        }
        self.program_goes_on(board, instance);
    }

    /// A deadline may have come: first of the killing, then of the death.
    pub(super) fn deadline(&mut self, board: BoardIndex, instance: &Instance, serial: u64) {
        let (now, is_program) = (self.now, self.is_program(instance));
        let state = self.board(board);
        let local = state.clock.local(now);
        let clock = state.clock;
        let host = &mut state.host;
        let draw = host.draws.bits();
        let Some(shim) = host.shim(instance, serial) else { return };
        if local < shim.look_at() {
            let at = clock.when(shim.look_at());
            return self.later(at, Task::Deadline(board, instance.clone(), serial));
        }
        // What has not begun never will.
        if shim.keeps && shim.run.is_some() {
            self.isolate_overdue(board);
            return self.later(now + SECOND, Task::Deadline(board, instance.clone(), serial));
        }
        if shim.dead_at.is_none() {
            // Half of them live to the last instant. A program is dropped half the kill bound before.
            let left = shim.until.0.saturating_sub(local.0);
            let spared = match draw {
                _ if is_program => shim.kill_bound.as_nanos() as u64 / 2,
                draw if draw.is_multiple_of(2) => 0,
                draw => (draw >> 1) % (left + 1),
            };
            let dead_at = Time((shim.until.0 - spared).max(local.0));
            shim.dead_at = Some(dead_at);
            if dead_at > local {
                let at = clock.when(dead_at);
                self.program_is_fenced(board, instance);
                return self.later(at, Task::Deadline(board, instance.clone(), serial));
            }
        }
        let exit = shim.killed_as();
        self.shim_ends(board, instance, "its lease ran out", Some(exit));
    }

    /// The rate of the clock has changed: deadlines come at other true times.
    pub(super) fn look_after_shims(&mut self, board: BoardIndex) {
        let now = self.now;
        let shims = &self.boards[usize::from(board)].host.shims;
        let all: Vec<_> = shims.iter().map(|(i, shim)| (i.clone(), shim.serial)).collect();
        for (instance, serial) in all {
            self.later(now, Task::Deadline(board, instance, serial));
        }
    }

    /// A shim is gone and the agent is told how, if there is something to tell.
    pub(super) fn shim_ends(
        &mut self,
        board: BoardIndex,
        instance: &Instance,
        how: &'static str,
        exit: Option<Exit>,
    ) {
        let now = self.now;
        let Some(shim) = self.board(board).host.shims.remove(instance) else { return };
        let program = self.program_ends(board, instance);
        let host = &mut self.board(board).host;
        if let Some(run) = shim.run {
            let mut left = run.point(now);
            if program == Some(false) {
                left.writes = run.safe;
            } else if program.is_none() && exit.is_none() {
                // Power is gone, and nobody synced the folder; services that do not commit do it
                // themselves, at least as often as they are captured.
                let safe = if shim.commits { 0 } else { run.safe.min(left.writes) };
                left.writes = host.draws.between(safe, left.writes);
            }
            if let Some(folder) = host.folders.get_mut(instance) {
                folder.state = Some(left);
                folder.lost_power |= exit.is_none();
            }
            let instance = instance.clone();
            let ends = ServiceEvent::Ends { instance, run: run.number, left, how };
            self.see(board, What::Service(&ends));
        }
        if let Some(exit) = exit {
            self.report(board, instance, Report::Ended { epoch: shim.epoch, exit });
        }
    }

    /// The host is without power.
    pub(super) fn shims_die(&mut self, board: BoardIndex) {
        let all: Vec<Instance> =
            self.boards[usize::from(board)].host.shims.keys().cloned().collect();
        for instance in all {
            self.shim_ends(board, &instance, "no power", None);
        }
    }

    /// Every service of a board ends by itself. True if there was one.
    pub(super) fn services_exit(&mut self, board: BoardIndex) -> bool {
        self.services_end(board, "it crashed", Exit::Code { code: 1 })
    }

    /// Every service of a board ends in this way. True if there was one.
    pub(super) fn services_end(&mut self, board: BoardIndex, why: &'static str, how: Exit) -> bool {
        let shims = &self.boards[usize::from(board)].host.shims;
        let running: Vec<Instance> = shims
            .iter()
            .filter(|(_, shim)| shim.run.as_ref().is_some_and(|run| !run.frozen))
            .map(|(instance, _)| instance.clone())
            .collect();
        for instance in &running {
            self.shim_ends(board, instance, why, Some(how.clone()));
        }
        !running.is_empty()
    }

    /// A client asks for everything up to now to be kept, and asks again some time later.
    pub(super) fn client_commits(&mut self, board: BoardIndex, instance: &Instance, serial: u64) {
        let now = self.now;
        let ticket = self.tickets + 1;
        let state = self.board(board);
        let is_there = state.node.is_some();
        let gap = state.host.draws.between(COMMIT_GAP_MIN, COMMIT_GAP_MAX);
        let Some(shim) = state.host.shim(instance, serial) else { return };
        let Some(run) = &mut shim.run else { return };
        let asks = is_there && !run.frozen && run.asked.len() < COMMITS_MAX;
        if asks {
            let writes = run.point(now).writes;
            run.asked.insert(ticket, writes);
            self.tickets = ticket;
        }
        self.later(now + gap, Task::Commit(board, instance.clone(), serial));
        if asks {
            self.report(board, instance, Report::Commit { ticket });
        }
    }

    /// The agent answers a commit.
    pub(super) fn commit_answered(
        &mut self,
        board: BoardIndex,
        instance: Instance,
        ticket: u64,
        outcome: CommitOutcome,
    ) {
        self.program_is_answered(board, &instance, ticket, outcome);
        let shim = self.board(board).host.shims.get_mut(&instance);
        let Some(run) = shim.and_then(|shim| shim.run.as_mut()) else { return };
        let Some(writes) = run.asked.remove(&ticket) else { return };
        if matches!(outcome, CommitOutcome::Ok(_)) {
            let point = Point { run: run.number, writes };
            self.see(board, What::Service(&ServiceEvent::Acknowledged { instance, point }));
        }
    }

    pub(super) fn report(&mut self, board: BoardIndex, instance: &Instance, report: Report) {
        let input = Input::Workload { instance: instance.clone(), report };
        self.wake(board, Wake::Input(Box::new(input)));
    }
}

/// Every simulated service has one port.
fn ports() -> List<(hedgerow::proto::record::Name, u16), PORTS_MAX> {
    List::capped([(Text::capped("web"), 8000)])
}

/// A shim kills what has not ended by itself so long after it was asked to.
const STOP_GRACE: Nanos = 5 * SECOND;
/// Between two commits of one client.
const COMMIT_GAP_MIN: Nanos = 100 * MILLI;
const COMMIT_GAP_MAX: Nanos = 900 * MILLI;
/// Commits of one client that wait.
const COMMITS_MAX: usize = 3;
