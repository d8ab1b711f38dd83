//! The shim itself: one thread, one `poll`, and a clock that comes first.
//!
//! Each turn of the loop: wait; hear the agents, who may move the deadline (a bounded read each);
//! then look at the clock and kill what is due; only then commits and output. Nothing in a turn
//! waits for anybody: sockets and pipes do not block, and files belong on tmpfs.

pub(crate) mod launch;
mod requests;

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, poll};

use self::requests::Freezing;
use super::commits::{ClientId, Commits};
use super::deadline::{Deadline, Expiry};
use super::init::Report;
use super::instance::{Files, Instance, replace};
use super::lease::LeaseWriter;
use super::logs::{Logs, Stream, unix_ms};
use super::peers::{PeerId, Peers};
use super::run::{Run, Source};
use super::wire::{Cause, Exit, How, Notice, Phase, Refusal, Reply};
use crate::clock::{self, Timer};

/// All a shim knows.
#[derive(Debug)]
struct Shim {
    files: Files,
    instance: Instance,
    _lock: File,
    nice: i32,
    boot_id: String,
    timer: Timer,
    deadline: Deadline,
    lease_file: LeaseWriter,
    peers: Peers,
    commits: Commits,
    logs: Logs,
    run: Option<Run>,
    phase: Phase,
    starter: Option<(PeerId, u64)>,
    refusal: Option<Refusal>,
    freezing: Vec<Freezing>,
    frozen: bool,
    stop_at: Option<u64>,
    killing: Option<Killing>,
    pulse_at: u64,
    abandoned_at: u64,
    woken_late_max_ns: u64,
    over: bool,
}

#[derive(Clone, Copy, Debug)]
struct Killing {
    cause: Cause,
    began: u64,
}

/// Who has something to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Timer,
    AgentKnocks,
    Agent(PeerId),
    ServiceKnocks,
    Service(ClientId),
    Run(Source),
}

impl Shim {
    fn serve(mut self) -> io::Result<()> {
        while !self.over {
            let next = self.next_wake(clock::now_ns());
            self.timer.arm(next)?;
            let ready = self.wait()?;
            for (token, flags) in &ready {
                self.hear_agents(*token, *flags);
            }
            // Asked in every turn: a signal may have ended the wait in the timer's place.
            self.on_wake();
            self.on_time(clock::now_ns());
            for (token, flags) in &ready {
                self.hear_others(*token, *flags);
            }
        }
        self.leave()
    }

    fn wait(&self) -> io::Result<Vec<(Token, PollFlags)>> {
        let mut sources: Vec<(Token, BorrowedFd<'_>, PollFlags)> = vec![
            (Token::Timer, self.timer.as_fd(), PollFlags::IN),
            (Token::AgentKnocks, self.peers.listener(), PollFlags::IN),
            (Token::ServiceKnocks, self.commits.listener(), PollFlags::IN),
        ];
        for (id, fd, writes) in self.peers.sources() {
            let flags = if writes { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
            sources.push((Token::Agent(id), fd, flags));
        }
        for (id, fd, reads) in self.commits.sources() {
            let flags = if reads { PollFlags::IN } else { PollFlags::empty() };
            sources.push((Token::Service(id), fd, flags));
        }
        for (source, fd) in self.run.iter().flat_map(Run::sources) {
            sources.push((Token::Run(source), fd, PollFlags::IN));
        }
        let mut fds: Vec<PollFd<'_>> =
            sources.iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
        match poll(&mut fds, None) {
            Ok(_) => {}
            // A signal, such as the one that continues a stopped process: look at the clock.
            Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
        let all = sources.iter().zip(&fds).map(|((token, _, _), fd)| (*token, fd.revents()));
        Ok(all.filter(|(_, flags)| !flags.is_empty()).collect())
    }

    fn hear_agents(&mut self, token: Token, flags: PollFlags) {
        match token {
            Token::AgentKnocks => self.peers.accept(),
            Token::Agent(id) => {
                if flags.contains(PollFlags::OUT) {
                    self.peers.flush(id);
                }
                for call in self.peers.read(id) {
                    self.answer(id, call);
                }
            }
            Token::Timer | Token::ServiceKnocks | Token::Service(_) | Token::Run(_) => {}
        }
    }

    fn hear_others(&mut self, token: Token, flags: PollFlags) {
        match token {
            Token::ServiceKnocks => self.commits.accept(),
            Token::Service(id) if flags.contains(PollFlags::IN) => {
                if let Some(commit) = self.commits.read(id) {
                    self.peers.notify(Notice::CommitRequested { id: commit });
                }
            }
            Token::Service(id) => self.commits.hang_up(id),
            Token::Run(Source::Gate) => self.hear_init(),
            Token::Run(Source::Init) => self.on_init_end(),
            Token::Run(Source::Out) => self.take_output(Source::Out, Stream::Out),
            Token::Run(Source::Err) => self.take_output(Source::Err, Stream::Err),
            Token::Timer | Token::AgentKnocks | Token::Agent(_) => {}
        }
    }

    /// The one place where time has consequences.
    fn on_time(&mut self, now: u64) {
        if self.phase == Phase::Waiting {
            if self.peers.is_empty() && now >= self.abandoned_at {
                self.finish(now, How::NotStarted("no agent said Start".to_owned()));
            }
            return;
        }
        match self.deadline.expire(now) {
            Some(Expiry::Fence { until }) => {
                self.kill(now, Cause::Fenced);
                self.peers.notify(Notice::Fenced { until });
            }
            Some(Expiry::Isolate { until }) => self.peers.notify(Notice::Isolated { until }),
            None => {}
        }
        if self.stop_at.is_some_and(|at| now >= at) {
            self.kill(now, Cause::Stopped);
        }
        self.look_at_freeze(now);
        self.look_at_kill(clock::now_ns());
    }

    /// Says `Late` if this process was kept from running for long.
    fn on_wake(&mut self) {
        let Some(late) = self.timer.clear() else { return };
        let by_ns = u64::try_from(late.as_nanos()).unwrap_or(u64::MAX);
        self.woken_late_max_ns = self.woken_late_max_ns.max(by_ns);
        if self.run.is_some() && self.deadline.is_late_wake(by_ns) {
            self.peers.notify(Notice::Late { by_ns });
        }
        self.pulse_at = clock::now_ns() + PULSE_NS;
    }

    fn next_wake(&self, now: u64) -> u64 {
        let kill = self.killing.map(|_| now + KILL_RETRY_NS);
        let freeze = (!self.freezing.is_empty()).then_some(now + FREEZE_RETRY_NS);
        let deadline = if self.run.is_some() { self.deadline.next() } else { None };
        let idle = match self.phase {
            Phase::Waiting if self.peers.is_empty() => self.abandoned_at,
            _ => self.pulse_at,
        };
        [kill, freeze, deadline, self.stop_at].into_iter().flatten().fold(idle, u64::min)
    }

    /// Begins to kill, once; the lease file says so first.
    fn kill(&mut self, now: u64, cause: Cause) {
        if self.killing.is_some() {
            return;
        }
        self.expire_lease();
        self.killing = Some(Killing { cause, began: now });
        self.phase = Phase::Killing;
        self.stop_at = None;
        if let Some(run) = &self.run {
            run.kill();
        }
        self.commits.fence();
    }

    fn look_at_kill(&mut self, now: u64) {
        let (Some(killing), Some(run)) = (self.killing, &mut self.run) else { return };
        if run.is_gone() {
            run.reports();
            let how = match (run.how(), &self.refusal) {
                (Some(how), _) => how.clone(),
                (None, Some(refusal)) => How::NotStarted(refusal.to_string()),
                (None, None) if !run.was_released() => {
                    How::NotStarted("it ended before it was released".to_owned())
                }
                // The init was killed before it could tell, and the service with it.
                (None, None) => How::Signal(SIGKILL),
            };
            if !matches!(killing.cause, Cause::Itself | Cause::CannotStart) {
                self.peers.notify(Notice::Killed { took_ns: now.saturating_sub(killing.began) });
            }
            self.finish(now, how);
            return;
        }
        run.kill();
        if let Some(by_ns) = self.deadline.breaks_bound(now) {
            self.peers.notify(Notice::BoundBroken { by_ns });
        }
    }

    fn hear_init(&mut self) {
        let Some(run) = &mut self.run else { return };
        for report in run.reports() {
            let now = clock::now_ns();
            match report {
                Report::Held { .. } => self.release(now),
                Report::Running => self.on_running(),
                Report::TooLate(by_ns) => self.give_up(now, Refusal::DeadlinePassed { by_ns }),
                Report::Failed(what) => self.give_up(now, Refusal::CannotStart { what }),
                Report::Code(_) | Report::Signal(_) => self.on_service_end(now),
            }
        }
    }

    fn on_init_end(&mut self) {
        self.hear_init();
        if self.run.as_mut().is_some_and(Run::init_has_ended) {
            self.on_service_end(clock::now_ns());
        }
    }

    fn on_service_end(&mut self, now: u64) {
        match self.phase {
            Phase::Stopping => self.kill(now, Cause::Stopped),
            Phase::Waiting | Phase::Starting | Phase::Running | Phase::Killing => {
                self.kill(now, Cause::Itself);
            }
        }
    }

    fn take_output(&mut self, source: Source, stream: Stream) {
        let mut bytes = [0; OUTPUT_BYTES];
        if let Some(count) = self.run.as_mut().and_then(|run| run.read(source, &mut bytes)) {
            self.logs.take(stream, &bytes[..count]);
        }
    }

    /// Everything is dead, or never was: writes it down, tells everyone, ends the loop.
    fn finish(&mut self, now: u64, how: How) {
        for (source, stream) in [(Source::Out, Stream::Out), (Source::Err, Stream::Err)] {
            for _ in 0..OUTPUT_READS_AT_END_MAX {
                self.take_output(source, stream);
            }
        }
        self.logs.finish();
        self.expire_lease();
        let cause = self.killing.map_or(Cause::CannotStart, |killing| killing.cause);
        let exit = Exit {
            how,
            cause,
            at_ns: now,
            at_unix_ms: unix_ms(),
            boot_id: self.boot_id.clone(),
            epoch: self.instance.epoch,
            pid: self.run.as_ref().and_then(Run::pid),
            bound_broken_ns: self.deadline.overdue(now).filter(|_| cause != Cause::CannotStart),
        };
        if let Err(error) =
            replace(&self.files.exit(), serde_json::json!(exit).to_string().as_bytes())
        {
            eprintln!("cannot write {}: {error}", self.files.exit().display());
        }
        if let Some(run) = &self.run {
            run.clean_up(&self.files);
        }
        if let Some((peer, call)) = self.starter.take() {
            let run_until = self.deadline.run_until().filter(|_| cause == Cause::Fenced);
            let late =
                run_until.map(|at| Refusal::DeadlinePassed { by_ns: now.saturating_sub(at) });
            let refusal = self.refusal.take().or(late).unwrap_or(Refusal::NotRunning);
            self.peers.reply(peer, call, Reply::Refused(refusal));
        }
        self.peers.notify(Notice::Exited(exit));
        self.over = true;
    }

    /// Leaves when everyone has been told, or after a second.
    fn leave(mut self) -> io::Result<()> {
        let _ = fs::remove_file(self.files.socket());
        let _ = fs::remove_file(self.files.control());
        let until = clock::now_ns() + LINGER_NS;
        while !self.peers.are_flushed() && clock::now_ns() < until {
            self.timer.arm(until)?;
            for (token, flags) in self.wait()? {
                if let Token::Agent(id) = token
                    && flags.contains(PollFlags::OUT)
                {
                    self.peers.flush(id);
                }
            }
            self.timer.clear();
        }
        Ok(())
    }

    fn expire_lease(&self) {
        if let Err(error) = self.lease_file.expire() {
            eprintln!("cannot expire {}: {error}", self.files.lease().display());
        }
    }
}

const SIGKILL: i32 = 9;
/// At least this often a running shim measures how late it is woken. It costs one wake-up.
const PULSE_NS: u64 = 1_000_000_000;
/// A shim that nobody talks to and that runs nothing leaves after this.
const ABANDONED_NS: u64 = 30_000_000_000;
const KILL_RETRY_NS: u64 = 2_000_000;
const FREEZE_RETRY_NS: u64 = 1_000_000;
/// How long to wait at the end for agents that do not read.
const LINGER_NS: u64 = 1_000_000_000;
const OUTPUT_BYTES: usize = 16 * 1024;
/// More than a pipe holds.
const OUTPUT_READS_AT_END_MAX: usize = 8;
