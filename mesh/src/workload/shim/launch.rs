//! How a shim comes to be: detached from the agent, alone in its folder, listening.
//!
//! `shim --dir FOLDER` makes a session of its own, starts the shim proper in it (`--serve`), waits until
//! that listens, and leaves: so the agent is not the shim's parent, has no zombie to collect, and
//! learns from an exit code whether the shim is there.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{getpriority_process, setpriority_process};

use super::{ABANDONED_NS, PULSE_NS, Shim};
use crate::clock::{self, Timer};
use crate::workload::commits::Commits;
use crate::workload::deadline::Deadline;
use crate::workload::init::SELF;
use crate::workload::instance::{Files, Instance};
use crate::workload::lease::LeaseWriter;
use crate::workload::logs::Logs;
use crate::workload::peers::Peers;
use crate::workload::wire::Phase;

/// `shim --dir FOLDER`: starts the shim proper and returns when it listens.
pub(crate) fn launch_main(dir: &Path) -> ExitCode {
    match launch(dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// `shim --dir FOLDER --serve`: the shim proper.
pub(crate) fn serve_main(dir: &Path) -> ExitCode {
    let served = Shim::open(dir).and_then(|shim| {
        println!("{READY}");
        shim.serve().map_err(|error| format!("shim: {error}"))
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn launch(dir: &Path) -> Result<(), String> {
    // Out of the agent's session: no signal to its group or terminal reaches the shim.
    let _ = rustix::process::setsid();
    let files = Files::new(dir).map_err(|error| error.to_string())?;
    let failed = |error: io::Error| format!("cannot start a shim in {}: {error}", dir.display());
    close_on_exec().map_err(failed)?;
    let complaints = File::create(files.complaints()).map_err(failed)?;
    let mut shim = Command::new(SELF)
        .args(["shim", "--dir"])
        .arg(files.dir())
        .arg("--serve")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(complaints)
        .spawn()
        .map_err(failed)?;
    let mut said = String::new();
    if let Some(out) = shim.stdout.take() {
        BufReader::new(out).read_line(&mut said).map_err(failed)?;
    }
    match said.trim() {
        READY => Ok(()),
        "" => Err(format!("the shim died at once; see {}", files.complaints().display())),
        problem => Err(problem.to_owned()),
    }
}

impl Shim {
    fn open(dir: &Path) -> Result<Self, String> {
        let files = Files::new(dir).map_err(|error| error.to_string())?;
        let at = |error: io::Error| format!("cannot use {}: {error}", files.dir().display());
        fs::set_permissions(files.dir(), fs::Permissions::from_mode(0o700)).map_err(at)?;
        let lock = lock(&files)?;
        let instance = Instance::load(&files).map_err(|error| error.to_string())?;
        let _ = fs::remove_file(files.exit());
        let _ = rustix::thread::set_name(c"hedgerow-shim");
        // Pages once used stay: the kill must not wait for a card to read them back. Not FUTURE: that
        // could make an allocation fail.
        let _ = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::ONFAULT);
        // Before everybody else when it is due; the service gets the old one back.
        let nice = getpriority_process(None).unwrap_or(0);
        let _ = setpriority_process(None, NICE.min(nice));
        let now = clock::now_ns();
        Ok(Self {
            _lock: lock,
            nice,
            boot_id: clock::boot_id().map_err(at)?,
            timer: Timer::new().map_err(at)?,
            deadline: Deadline::new(instance.kill_bound_ns(), instance.mode),
            lease_file: LeaseWriter::create(&files.lease(), instance.epoch).map_err(at)?,
            peers: Peers::new(listen(&files.socket()).map_err(at)?),
            commits: Commits::new(listen(&files.control()).map_err(at)?),
            logs: Logs::open(files.log()),
            run: None,
            phase: Phase::Waiting,
            starter: None,
            refusal: None,
            freezing: Vec::new(),
            frozen: false,
            stop_at: None,
            killing: None,
            pulse_at: now + PULSE_NS,
            abandoned_at: now + ABANDONED_NS,
            woken_late_max_ns: 0,
            over: false,
            files,
            instance,
        })
    }
}

/// Whatever the agent inherited and never marked stays behind, or the shim would hold it for years: the
/// end of a pipe that somebody waits for, a port.
fn close_on_exec() -> io::Result<()> {
    for entry in fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        let Some(number) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        if number > 2 {
            #[expect(unsafe_code, reason = "safe Rust cannot name a descriptor it did not open")]
            // SAFETY: borrowed for one fcntl; it was just listed as open, and this process has one
            // thread, so nobody closes it meanwhile.
            let fd = unsafe { BorrowedFd::borrow_raw(number) };
            fcntl_setfd(fd, FdFlags::CLOEXEC)?;
        }
    }
    Ok(())
}

fn lock(files: &Files) -> Result<File, String> {
    let path = files.lock();
    let file = File::create(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut tries = 0;
    while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        // The one before may still be saying goodbye.
        if tries == LOCK_TRIES_MAX {
            return Err(format!("another shim runs in {}: adopt it", files.dir().display()));
        }
        tries += 1;
        std::thread::sleep(LOCK_RETRY);
    }
    Ok(file)
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    // Ours alone: the folder is locked.
    let _ = fs::remove_file(path);
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

const READY: &str = "ready";
const LOCK_RETRY: Duration = Duration::from_millis(20);
/// Three times the linger.
const LOCK_TRIES_MAX: u32 = 150;
/// The priority of a shim and its helpers, where it may be raised: they run for microseconds.
const NICE: i32 = -15;
