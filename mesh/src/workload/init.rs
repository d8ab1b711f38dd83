//! The two helpers between shim and service: `shim-init` and `shim-exec`.
//!
//! `shim-init` is pid 1 of the PID namespace. It dies with the shim (`PR_SET_PDEATHSIG`, and the end of
//! file on its gate for a shim that was dead before that was set), adopts and reaps orphans, and
//! reports how the service ended. `shim-exec` becomes the service: it exists and has its process id,
//! but is held at its gate until the shim, having looked at the deadline, releases it; then it looks
//! at the clock once more and execs. The gate is file descriptor 0 of each, a socket, because 0 is
//! the one descriptor that safe Rust lets a child find.
//!
//! Uncontained, `shim-init` does not die at once with the shim, but first kills what is below it.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::thread;

use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, set_child_subreaper,
    set_parent_process_death_signal, setpriority_process, wait,
};
use serde::{Deserialize, Serialize};

use super::contain;
use super::frames::{Frames, frame};
use super::tree;
use crate::clock;

/// This executable, also after an update has replaced it on disk.
pub(crate) const SELF: &str = "/proc/self/exe";

/// From the shim down to the init, and on to the process that becomes the service.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Gate {
    /// Make the process, held. The init is in its cgroup now.
    Prepare,
    /// Run, unless it is `run_until_ns` on the lease clock.
    Release(Release),
}

/// What the service is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Release {
    pub(crate) run_until_ns: u64,
    pub(crate) argv: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) folder: PathBuf,
    pub(crate) nice: i32,
}

/// From below up to the shim.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The process exists and is held.
    Held {
        /// Whether `/proc` shows the namespace's own processes.
        own_proc: bool,
    },
    /// The service has been execed.
    Running,
    /// It was released too late, by this many nanoseconds, and has executed nothing.
    TooLate(u64),
    /// It could not be execed.
    Failed(String),
    /// It returned this code.
    Code(i32),
    /// It died of this signal.
    Signal(i32),
}

/// `shim-init`. With `probing` only tries whether `/proc` can be remounted.
pub(crate) fn init_main(contained: bool, probing: bool) -> ExitCode {
    let own_proc = contained && contain::remount_proc().is_ok();
    if probing {
        return if own_proc { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    match init(contained, own_proc) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hedgerow shim-init: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `shim-exec`.
pub(crate) fn exec_main(contained: bool) -> ExitCode {
    // Only failure comes back.
    if let Err(error) = exec(contained) {
        eprintln!("hedgerow shim-exec: {error}");
    }
    ExitCode::from(EXIT_CANNOT_EXEC)
}

fn init(contained: bool, own_proc: bool) -> io::Result<()> {
    let _ = rustix::thread::set_name(c"hedgerow-init");
    let mut shim = gate()?;
    if contained {
        // After the last change of credentials, which would clear it.
        // A shim that died before this line is met below, as the end of its gate.
        set_parent_process_death_signal(Some(Signal::KILL))?;
    } else {
        set_child_subreaper(Some(getpid()))?;
    }
    let mut from_shim = Frames::new(GATE_BYTES_MAX);
    if receive(&mut shim, &mut from_shim)?.is_none() {
        return Ok(());
    }
    let (mut held, service) = spawn_held(contained)?;
    shim.write_all(&frame(&Report::Held { own_proc }))?;
    // A shim that died, or refused: the held process sees the end of file, or our death.
    let Some(release) = receive(&mut shim, &mut from_shim)? else { return Ok(()) };
    send(&mut held, &release)?;
    let refusal = receive(&mut held, &mut Frames::new(GATE_BYTES_MAX))?;
    match refusal {
        Some(report) => return send(&mut shim, &report),
        // The gate closes on exec.
        None => shim.write_all(&frame(&Report::Running))?,
    }
    drop(held);
    if !contained {
        let lifeline = shim.try_clone()?;
        thread::Builder::new().stack_size(LIFELINE_STACK_BYTES).spawn(|| outlive(lifeline))?;
    }
    let status = reap_until(service)?;
    // The shim may be gone already; then there is nobody to tell.
    let _ = shim.write_all(&frame(&report_of(status)));
    if !contained {
        kill_everything_below();
    }
    Ok(())
}

fn spawn_held(contained: bool) -> io::Result<(UnixStream, Pid)> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new(SELF);
    command.arg("shim-exec").stdin(OwnedFd::from(theirs));
    if contained {
        command.arg("--contained");
    }
    let child = command.spawn()?;
    Ok((ours, Pid::from_child(&child)))
}

fn exec(contained: bool) -> io::Result<()> {
    let mut init = gate()?;
    if !contained {
        set_parent_process_death_signal(Some(Signal::KILL))?;
    }
    let Some(body) = receive(&mut init, &mut Frames::new(GATE_BYTES_MAX))? else { return Ok(()) };
    let Ok(Gate::Release(release)) = serde_json::from_slice(&body) else {
        return Err(io::Error::other("the gate opened with something else than a release"));
    };
    let report = become_service(&release);
    init.write_all(&frame(&report))
}

/// Returns only if it could not.
fn become_service(release: &Release) -> Report {
    let Some((program, args)) = release.argv.split_first() else {
        return Report::Failed("the command is empty".to_owned());
    };
    if let Err(error) = std::env::set_current_dir(&release.folder) {
        return Report::Failed(format!("cannot enter {}: {error}", release.folder.display()));
    }
    // Its own session and process group: the group is what `Stop` signals.
    let _ = rustix::process::setsid();
    let _ = setpriority_process(None, release.nice);
    let mut command = Command::new(program);
    command.args(args).env_clear().envs(&release.env).stdin(Stdio::null());
    let now = clock::now_ns();
    if now >= release.run_until_ns {
        return Report::TooLate(now - release.run_until_ns);
    }
    let error = command.exec();
    // Relative to a folder that operators rarely see.
    let looked = match program.contains('/') && !program.starts_with('/') {
        true => format!(" (looked up in {})", release.folder.display()),
        false => String::new(),
    };
    Report::Failed(format!("cannot run {program}{looked}: {error}"))
}

/// Waits for the service; reaps every orphan that comes by meanwhile.
fn reap_until(service: Pid) -> io::Result<WaitStatus> {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == service => return Ok(status),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn report_of(status: WaitStatus) -> Report {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Report::Code(code),
        (None, Some(signal)) => Report::Signal(signal),
        (None, None) => Report::Failed(format!("ended with wait status {}", status.as_raw())),
    }
}

/// The lifeline thread of an uncontained init: when the shim has gone, everything goes.
fn outlive(mut shim: UnixStream) {
    let mut byte = [0; 1];
    while !matches!(shim.read(&mut byte), Ok(0)) {}
    kill_everything_below();
    std::process::exit(0);
}

fn kill_everything_below() {
    for _ in 0..KILL_ROUNDS_MAX {
        if tree::kill_below(getpid()).unwrap_or(0) == 0 {
            return;
        }
        thread::yield_now();
    }
}

/// File descriptor 0, which this process was given as a socket, closed on exec.
fn gate() -> io::Result<UnixStream> {
    Ok(UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?))
}

/// The next frame's body; `None` at the end of file.
fn receive(from: &mut UnixStream, frames: &mut Frames) -> io::Result<Option<Vec<u8>>> {
    loop {
        if let Some(body) = frames.pop().map_err(io::Error::other)? {
            return Ok(Some(body));
        }
        let mut bytes = [0; 4096];
        match from.read(&mut bytes) {
            Ok(0) => return Ok(None),
            Ok(count) => frames.push(&bytes[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A peer that died with bytes unread resets: it has gone all the same.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

/// Passes a frame's body on as it is.
fn send(to: &mut UnixStream, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    to.write_all(&length.to_le_bytes())?;
    to.write_all(body)
}

/// Longest frame at a gate: command and environment, escaped as JSON.
pub(crate) const GATE_BYTES_MAX: usize = 512 * 1024;
/// As shells have it.
const EXIT_CANNOT_EXEC: u8 = 127;
const LIFELINE_STACK_BYTES: usize = 64 * 1024;
/// A service that forks faster than this many walks escapes; it was uncontained anyway.
const KILL_ROUNDS_MAX: u32 = 1_000;
