//! One run of a service, seen from the shim: the init, the gate, the process tree.
//!
//! Everything here returns at once. Whether a freeze or a kill has *happened* is asked again later,
//! by [`Run::is_frozen`] and [`Run::is_gone`], so that nothing stands between the shim and its clock.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{ChildStderr, ChildStdout, Command, Stdio};

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpid, kill_process, kill_process_group, pidfd_open,
    wait,
};

use super::cgroup::Cgroup;
use super::contain;
use super::frames::{Frames, frame};
use super::init::{GATE_BYTES_MAX, Gate, Release, Report, SELF};
use super::instance::{Files, Instance};
use super::peers::would_wait;
use super::tree;
use super::wire::{Containment, How};

/// The processes of one run.
#[derive(Debug)]
pub(crate) struct Run {
    init: Pid,
    init_fd: OwnedFd,
    gate: UnixStream,
    frames: Frames,
    out: ChildStdout,
    err: ChildStderr,
    service: Option<Pid>,
    containment: Containment,
    cgroup: Option<Cgroup>,
    init_reaped: bool,
    released: bool,
    ended: [bool; 4],
    how: Option<How>,
}

/// What can be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Gate,
    Init,
    Out,
    Err,
}

impl Run {
    /// Makes the namespaces, the cgroup and the init, and tells it to make the held process.
    ///
    /// The error says what was tried.
    pub(crate) fn spawn(instance: &Instance, files: &Files) -> Result<Self, String> {
        // The cgroup before the user namespace: afterwards the host's files may be out of reach.
        let name =
            format!("{}-{}-{}", instance.service, instance.ordinal, getpid().as_raw_nonzero());
        let cgroup = Cgroup::create(&name, instance.limits).ok();
        let left = cgroup.as_ref().map(|cgroup| Cgroup::left_at(cgroup.path().to_owned()));
        let run = Self::spawn_in(instance, cgroup).inspect_err(|_| {
            left.iter().for_each(Cgroup::remove);
        })?;
        if let Some(cgroup) = &run.cgroup {
            // For whoever cleans up after a shim that was killed.
            let _ = fs::write(files.cgroup(), cgroup.path().as_os_str().as_encoded_bytes());
        }
        Ok(run)
    }

    fn spawn_in(instance: &Instance, cgroup: Option<Cgroup>) -> Result<Self, String> {
        let failed = |what: &'static str| move |error| format!("{what}: {error}");
        let mut containment = contain::enter(instance.isolate_pids)
            .map_err(failed("the user namespace was made but could not be set up"))?;
        let (mut gate, theirs) = UnixStream::pair().map_err(failed("no socket for the init"))?;
        let mut command = Command::new(SELF);
        command.arg("shim-init").stdin(OwnedFd::from(theirs));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        if containment.pid_namespace {
            command.arg("--contained");
        }
        let mut child = command.spawn().map_err(failed("cannot spawn shim-init"))?;
        let init = Pid::from_child(&child);
        let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
            return Err("shim-init has no output pipes".to_owned());
        };
        let unblocked = rustix::io::ioctl_fionbio(&out, true)
            .and_then(|()| rustix::io::ioctl_fionbio(&err, true))
            .and_then(|()| rustix::io::ioctl_fionbio(&gate, true));
        let init_fd = unblocked
            .and_then(|()| pidfd_open(init, PidfdFlags::empty()))
            .map_err(|error| format!("no pidfd for shim-init (Linux 5.3 has them): {error}"))?;
        // In the cgroup before it spawns anything: what it spawns is in it too.
        let cgroup = cgroup.filter(|cgroup| match cgroup.add(init) {
            Ok(()) => true,
            Err(_) => {
                cgroup.remove();
                false
            }
        });
        if let Some(cgroup) = &cgroup {
            containment.cgroup = true;
            containment.memory_limited = cgroup.memory_limited;
            containment.pids_limited = cgroup.pids_limited;
        }
        gate.write_all(&frame(&Gate::Prepare)).map_err(failed("shim-init does not listen"))?;
        let frames = Frames::new(GATE_BYTES_MAX);
        Ok(Self {
            init,
            init_fd,
            gate,
            frames,
            out,
            err,
            service: None,
            containment,
            cgroup,
            init_reaped: false,
            released: false,
            ended: [false; 4],
            how: None,
        })
    }

    /// What to poll for readability; not what has come to its end.
    pub(crate) fn sources(&self) -> impl Iterator<Item = (Source, BorrowedFd<'_>)> {
        let all = [
            (Source::Gate, self.gate.as_fd()),
            (Source::Init, self.init_fd.as_fd()),
            (Source::Out, self.out.as_fd()),
            (Source::Err, self.err.as_fd()),
        ];
        all.into_iter().filter(|(source, _)| !self.ended[*source as usize])
    }

    /// What the init says; empty if nothing.
    pub(crate) fn reports(&mut self) -> Vec<Report> {
        let mut reports = Vec::new();
        let mut bytes = [0; 4096];
        while let Some(count) = self.read(Source::Gate, &mut bytes) {
            self.frames.push(&bytes[..count]);
            while let Ok(Some(body)) = self.frames.pop() {
                reports.extend(serde_json::from_slice::<Report>(&body));
            }
        }
        for report in &reports {
            match report {
                Report::Held { own_proc } => {
                    self.containment.own_proc = *own_proc;
                    self.service = self.find_service();
                }
                Report::Code(code) => self.how = Some(How::Code(*code)),
                Report::Signal(signal) => self.how = Some(How::Signal(*signal)),
                Report::Running | Report::TooLate(_) | Report::Failed(_) => {}
            }
        }
        reports
    }

    /// Lets the held process go, unless it is `run_until_ns`.
    pub(crate) fn release(&mut self, release: Release) -> Result<(), String> {
        self.released = true;
        self.gate
            .write_all(&frame(&Gate::Release(release)))
            .map_err(|error| format!("the command does not fit through the gate: {error}"))
    }

    /// Reads once from one source; `None` if there is nothing now or any more.
    pub(crate) fn read(&mut self, source: Source, bytes: &mut [u8]) -> Option<usize> {
        let result = match source {
            Source::Gate => self.gate.read(bytes),
            Source::Out => self.out.read(bytes),
            Source::Err => self.err.read(bytes),
            Source::Init => return None,
        };
        match result {
            Ok(count @ 1..) => Some(count),
            Err(error) if would_wait(&error) => None,
            Ok(_) | Err(_) => {
                self.ended[source as usize] = true;
                None
            }
        }
    }

    /// `SIGTERM` to the service's process group.
    pub(crate) fn terminate(&self) {
        if let Some(service) = self.service.filter(|_| self.how.is_none()) {
            let _ = kill_process_group(service, Signal::TERM);
        }
    }

    /// Begins to freeze, or thaws. Call again with `true` until [`Run::is_frozen`].
    pub(crate) fn freeze(&self, frozen: bool) -> io::Result<()> {
        match &self.cgroup {
            Some(cgroup) => cgroup.freeze(frozen),
            None if frozen => tree::stop_below(self.init).map(drop),
            None => tree::continue_below(self.init),
        }
    }

    /// Whether everything but the init stands still.
    pub(crate) fn is_frozen(&self) -> bool {
        match &self.cgroup {
            Some(cgroup) => cgroup.is_frozen(),
            None => tree::stands_still_below(self.init).unwrap_or(false),
        }
    }

    /// Kills everything. Call again until [`Run::is_gone`]; frozen processes die too.
    pub(crate) fn kill(&self) {
        if self.containment.pid_namespace {
            if !self.init_reaped {
                // Our own child, not reaped: its id is still its own. The kernel kills the rest;
                // the cgroup's kill would wait for a lock that the whole board shares.
                let _ = kill_process(self.init, Signal::KILL);
            }
            return;
        }
        if let Some(cgroup) = &self.cgroup {
            cgroup.kill();
        }
        let _ = tree::kill_below(getpid());
    }

    /// Whether everything is confirmed dead.
    ///
    /// The init of a PID namespace cannot be reaped before all else in it is dead. Uncontained, the
    /// best answer is that nothing alive is found below the shim.
    pub(crate) fn is_gone(&mut self) -> bool {
        self.reap();
        self.init_reaped
            && !self.cgroup.as_ref().is_some_and(Cgroup::is_populated)
            && (self.containment.pid_namespace
                || tree::below(getpid()).is_ok_and(|all| all.iter().all(|it| it.is_dead())))
    }

    /// Whether the init is dead and reaped, by whoever's doing.
    pub(crate) fn init_has_ended(&mut self) -> bool {
        self.reap();
        self.init_reaped
    }

    /// Whether it may have executed anything.
    pub(crate) fn was_released(&self) -> bool {
        self.released
    }

    pub(crate) fn how(&self) -> Option<&How> {
        self.how.as_ref()
    }

    /// The service's process id, as seen on the board, once it exists.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.service.map(|pid| pid.as_raw_nonzero().get().unsigned_abs())
    }

    pub(crate) fn containment(&self) -> &Containment {
        &self.containment
    }

    /// Leaves no cgroup behind. Everything must be gone.
    pub(crate) fn clean_up(&self, files: &Files) {
        if let Some(cgroup) = &self.cgroup {
            cgroup.remove();
            let _ = fs::remove_file(files.cgroup());
        }
    }

    /// Collects the init and, if we are a subreaper, whatever was left to us.
    fn reap(&mut self) {
        while let Ok(Some((pid, _))) = wait(WaitOptions::NOHANG) {
            self.init_reaped |= pid == self.init;
            self.ended[Source::Init as usize] = self.init_reaped;
        }
    }

    /// The init knows its child by another number than the board does.
    fn find_service(&self) -> Option<Pid> {
        tree::below(self.init).ok()?.first().map(|process| process.pid)
    }
}
