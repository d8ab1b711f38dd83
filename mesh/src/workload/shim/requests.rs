//! What the shim does when an agent asks, and how a start goes.
//!
//! `Start` → the init is spawned and makes the process, held → `Held` → the deadline is looked at, the
//! lease file becomes valid, the gate opens → the process looks at the clock and execs → `Running`.
//! Whatever goes wrong on the way ends this shim: its PID namespace is used up.

use super::{Killing, Notice, Phase, Refusal, Reply, Run, Shim};
use crate::clock;
use crate::workload::init::Release;
use crate::workload::peers::PeerId;
use crate::workload::wire::{
    Call, Cause, CommitResult, Containment, How, Request, STOP_GRACE_MS_MAX, Status,
};

/// Somebody waits until everything stands still.
#[derive(Debug)]
pub(super) struct Freezing {
    peer: PeerId,
    call: u64,
    give_up_at: u64,
}

impl Shim {
    pub(super) fn answer(&mut self, peer: PeerId, call: Call) {
        let now = clock::now_ns();
        let id = call.id;
        let reply = match call.request {
            // Greeted when it was read.
            Request::Hello { .. } => return,
            Request::Start { until } => match self.start(now, until) {
                Ok(()) => {
                    self.starter = Some((peer, id));
                    return;
                }
                Err(refusal) => Reply::Refused(refusal),
            },
            Request::Extend { until } => refused(self.extend(now, until)),
            Request::Freeze => match self.freeze(now, peer, id) {
                Ok(()) => return,
                Err(refusal) => Reply::Refused(refusal),
            },
            Request::Thaw => refused(self.thaw()),
            Request::Stop { grace_ms } => refused(self.stop(now, grace_ms)),
            Request::Kill => {
                self.kill_on_demand(now);
                Reply::Ok
            }
            Request::Status => Reply::Status(Box::new(self.status())),
            Request::Subscribe => return self.subscribe(peer, id),
            Request::Committed { id, result } => refused(self.committed(id, result)),
        };
        self.peers.reply(peer, id, reply);
    }

    fn start(&mut self, now: u64, until: u64) -> Result<(), Refusal> {
        if self.phase != Phase::Waiting || self.run.is_some() {
            return Err(Refusal::StartedBefore);
        }
        let environment = self.instance.environment(&self.files);
        if let Err(error) = self.instance.argv(&environment) {
            return Err(Refusal::CannotStart { what: error.to_string() });
        }
        self.deadline.extend(now, until)?;
        match Run::spawn(&self.instance, &self.files) {
            Ok(run) => self.run = Some(run),
            Err(what) => {
                // Half made: this process is in namespaces that it cannot use again.
                let refusal = Refusal::CannotStart { what: what.clone() };
                self.finish(now, How::NotStarted(what));
                return Err(refusal);
            }
        }
        self.phase = Phase::Starting;
        Ok(())
    }

    /// The process exists and is held. Now, and not before, the deadline is judged.
    pub(super) fn release(&mut self, now: u64) {
        let (Some(run), Some(run_until_ns)) = (&mut self.run, self.deadline.run_until()) else {
            return;
        };
        if self.phase != Phase::Starting {
            return;
        }
        if now >= run_until_ns {
            return self.give_up(now, Refusal::DeadlinePassed { by_ns: now - run_until_ns });
        }
        if run.pid().is_none() {
            let what = "the held process is not seen in /proc".to_owned();
            return self.give_up(now, Refusal::CannotStart { what });
        }
        let env = self.instance.environment(&self.files);
        let (folder, nice) = (self.instance.folder.clone(), self.nice);
        let released =
            self.instance.argv(&env).map_err(|error| error.to_string()).and_then(|argv| {
                self.lease_file
                    .publish(run_until_ns)
                    .map_err(|error| format!("lease file: {error}"))?;
                run.release(Release { run_until_ns, argv, env, folder, nice })
            });
        if let Err(what) = released {
            self.give_up(now, Refusal::CannotStart { what });
        }
    }

    pub(super) fn on_running(&mut self) {
        let Some(pid) = self.run.as_ref().and_then(Run::pid) else { return };
        if self.phase == Phase::Starting {
            self.phase = Phase::Running;
        }
        if let Some((peer, call)) = self.starter.take() {
            self.peers.reply(peer, call, Reply::Started { pid });
        }
        self.peers.notify(Notice::Started { pid });
    }

    /// The start has failed; the caller is told when nothing is left of it.
    pub(super) fn give_up(&mut self, now: u64, refusal: Refusal) {
        self.refusal.get_or_insert(refusal);
        self.kill(now, Cause::CannotStart);
    }

    fn extend(&mut self, now: u64, until: u64) -> Result<Reply, Refusal> {
        self.is_running()?;
        let until = self.deadline.extend(now, until)?;
        let valid_until = self.deadline.run_until().unwrap_or(0);
        if self.phase != Phase::Starting
            && let Err(error) = self.lease_file.publish(valid_until)
        {
            // The service will read an older lease and fall silent: safe.
            eprintln!("cannot write {}: {error}", self.files.lease().display());
        }
        Ok(Reply::Extended { until })
    }

    fn freeze(&mut self, now: u64, peer: PeerId, call: u64) -> Result<(), Refusal> {
        self.is_running()?;
        if let Some(run) = &self.run {
            run.freeze(true).map_err(|_| Refusal::NotFrozen { waited_ms: 0 })?;
        }
        self.frozen = true;
        self.freezing.push(Freezing { peer, call, give_up_at: now + FREEZE_NS });
        Ok(())
    }

    pub(super) fn look_at_freeze(&mut self, now: u64) {
        if self.freezing.is_empty() {
            return;
        }
        let stands_still = self.run.as_ref().is_some_and(Run::is_frozen);
        let reply = if self.killing.is_some() {
            Reply::Refused(Refusal::NotRunning)
        } else if stands_still {
            Reply::Ok
        } else if self.freezing.iter().any(|it| now >= it.give_up_at) {
            let _ = self.thaw();
            Reply::Refused(Refusal::NotFrozen { waited_ms: (FREEZE_NS / 1_000_000) as u32 })
        } else {
            // Forked since the last walk, or in the kernel still.
            let _ = self.run.as_ref().map(|run| run.freeze(true));
            return;
        };
        for waits in std::mem::take(&mut self.freezing) {
            self.peers.reply(waits.peer, waits.call, reply.clone());
        }
    }

    fn thaw(&mut self) -> Result<Reply, Refusal> {
        self.is_running()?;
        if let Some(run) = &self.run
            && let Err(error) = run.freeze(false)
        {
            eprintln!("cannot thaw: {error}");
        }
        self.frozen = false;
        Ok(Reply::Ok)
    }

    fn stop(&mut self, now: u64, grace_ms: u32) -> Result<Reply, Refusal> {
        self.is_running()?;
        // A frozen process would not hear the signal.
        self.thaw()?;
        if let Some(run) = &self.run {
            run.terminate();
        }
        self.phase = Phase::Stopping;
        let grace_ns = u64::from(grace_ms.min(STOP_GRACE_MS_MAX)) * 1_000_000;
        self.stop_at = Some(now.saturating_add(grace_ns));
        Ok(Reply::Ok)
    }

    fn kill_on_demand(&mut self, now: u64) {
        if self.phase == Phase::Waiting {
            self.killing = Some(Killing { cause: Cause::Killed, began: now });
            self.finish(now, How::NotStarted("killed before it was started".to_owned()));
        } else {
            self.kill(now, Cause::Killed);
        }
    }

    fn subscribe(&mut self, peer: PeerId, call: u64) {
        self.peers.subscribe(peer);
        self.peers.reply(peer, call, Reply::Status(Box::new(self.status())));
        for id in self.commits.waiting() {
            self.peers.notify_one(peer, Notice::CommitRequested { id });
        }
    }

    fn committed(&mut self, id: u64, result: CommitResult) -> Result<Reply, Refusal> {
        match self.commits.answer(id, result) {
            Ok(next) => {
                if let Some(id) = next {
                    self.peers.notify(Notice::CommitRequested { id });
                }
                Ok(Reply::Ok)
            }
            Err(()) => Err(Refusal::NoSuchCommit { id }),
        }
    }

    fn status(&self) -> Status {
        let run = self.run.as_ref();
        Status {
            service: self.instance.service.clone(),
            ordinal: self.instance.ordinal,
            epoch: self.instance.epoch,
            phase: self.phase,
            pid: run.and_then(Run::pid),
            shim_pid: std::process::id(),
            until: self.deadline.until(),
            isolated: self.deadline.isolated(),
            frozen: self.frozen,
            containment: run.map_or_else(Containment::default, |run| run.containment().clone()),
            woken_late_max_ns: self.woken_late_max_ns,
            commits_waiting: u32::try_from(self.commits.waiting().len()).unwrap_or(u32::MAX),
            log_lines_lost: self.logs.lines_lost(),
        }
    }

    fn is_running(&self) -> Result<(), Refusal> {
        match self.phase {
            Phase::Starting | Phase::Running | Phase::Stopping => Ok(()),
            Phase::Waiting | Phase::Killing => Err(Refusal::NotRunning),
        }
    }
}

fn refused(result: Result<Reply, Refusal>) -> Reply {
    result.unwrap_or_else(Reply::Refused)
}

/// How long a freeze may take before it is taken back.
const FREEZE_NS: u64 = 1_000_000_000;
