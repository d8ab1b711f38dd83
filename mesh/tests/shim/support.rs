//! A board in a folder: a runtime, scripts as services, and ways to see what still runs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hedgerow::clock::{self, Timer};
use hedgerow::workload::handle::Handle;
use hedgerow::workload::instance::{Instance, Limits, Mode};
use hedgerow::workload::process::{Found, ProcessRuntime, Runtime};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A wait this long means that the test has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const MS: u64 = 1_000_000;
/// The kill bound of the services here: wide, because the machine is shared.
pub(crate) const D_MS: u32 = 400;
pub(crate) const D: u64 = D_MS as u64 * MS;

pub(crate) struct Board {
    pub(crate) runtime: ProcessRuntime,
    pub(crate) folder: PathBuf,
    fifo: File,
}

impl Board {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("hr-{}-{count}", std::process::id()));
        Self::at(&folder)
    }

    /// The board in this folder, perhaps left by another process.
    pub(crate) fn at(folder: &Path) -> Self {
        fs::create_dir_all(folder.join("state")).unwrap();
        let path = folder.join("fifo");
        if !path.exists() {
            rustix::fs::mknodat(
                rustix::fs::CWD,
                &path,
                rustix::fs::FileType::Fifo,
                rustix::fs::Mode::from_raw_mode(0o600),
                0,
            )
            .unwrap();
        }
        // Read and write, so that opening never waits and the FIFO never ends.
        let fifo = File::options().read(true).write(true).open(path).unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_hedgerow-shim"));
        let runtime = ProcessRuntime::new(program, &folder.join("run")).unwrap();
        Self { runtime, folder: folder.to_owned(), fifo }
    }

    /// A service that runs `script`. In it, `say WORD` speaks to the test, and `daemon.sh` says
    /// `daemon` and stays for ever.
    pub(crate) fn instance(&self, script: &str) -> Instance {
        let fifo = self.folder.join("fifo").display().to_string();
        let say = format!("say() {{ echo \"$*\" > {fifo}; }}\n");
        let stay = "while :; do sleep 1000; done\n";
        fs::write(self.state("run.sh"), format!("{say}{script}\n")).unwrap();
        fs::write(self.state("daemon.sh"), format!("{say}say daemon\n{stay}")).unwrap();
        Instance {
            service: "svc".to_owned(),
            ordinal: 0,
            epoch: 7,
            node: "node".to_owned(),
            command: vec!["/bin/sh".to_owned(), "run.sh".to_owned()],
            env: BTreeMap::new(),
            folder: self.folder.join("state"),
            kill_bound_ms: D_MS,
            mode: Mode::Fence,
            limits: Limits::default(),
            ports: BTreeMap::new(),
            spec: String::new(),
            isolate_pids: true,
        }
    }

    pub(crate) fn state(&self, name: &str) -> PathBuf {
        self.folder.join("state").join(name)
    }

    /// Starts `script` under a lease that lasts as long as anybody's patience.
    pub(crate) fn start(&self, script: &str) -> Handle {
        let until = clock::now_ns() + PATIENCE.as_nanos() as u64;
        self.runtime.start(&self.instance(script), until).unwrap()
    }

    /// The next word of a service.
    pub(crate) fn hear(&self) -> String {
        let mut word = Vec::new();
        loop {
            assert!(readable(&self.fifo, PATIENCE), "nothing was said, only {word:?}");
            let mut byte = [0];
            (&self.fifo).read_exact(&mut byte).unwrap();
            if byte[0] == b'\n' {
                return String::from_utf8(word).unwrap();
            }
            word.push(byte[0]);
        }
    }

    /// Every process that descends from a service of this board, however it daemonised: they all
    /// inherited `HEDGEROW_CONTROL`, which names this folder.
    pub(crate) fn alive(&self) -> Vec<Process> {
        let mark = format!("HEDGEROW_CONTROL={}/", self.folder.join("run").display());
        let pids = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|pid| {
            let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environ.windows(mark.len()).any(|window| window == mark.as_bytes())
        })
        .filter_map(Process::of)
        .collect()
    }

    /// Asserts that everything ends, also what was born after the last look.
    pub(crate) fn nothing_is_left_within(&self, wait: Duration) {
        let give_up_at = clock::now_ns() + wait.as_nanos() as u64;
        loop {
            let alive = self.alive();
            if alive.is_empty() {
                return;
            }
            let left = Duration::from_nanos(give_up_at.saturating_sub(clock::now_ns()));
            all_end_within(&alive, left);
        }
    }

    /// The one thing that `adopt` finds.
    pub(crate) fn adopt(&self) -> Found {
        let mut found = self.runtime.adopt().unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        for found in self.runtime.adopt().into_iter().flatten() {
            if let Found::Running(mut handle) = found {
                let _ = handle.connection().abort();
                let _ = handle.connection().wait_gone(PATIENCE);
            }
        }
        // Sweeps the cgroup that an aborted shim leaves.
        let _ = self.runtime.adopt();
        for process in self.alive() {
            process.signal(Signal::KILL);
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A process, by its pidfd: never mistaken for another.
pub(crate) struct Process {
    pub(crate) pid: i32,
    fd: OwnedFd,
}

impl Process {
    pub(crate) fn of(pid: i32) -> Option<Self> {
        Some(Self { pid, fd: pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()? })
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.fd, signal);
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.ends_within(Duration::ZERO)
    }

    pub(crate) fn ends_within(&self, wait: Duration) -> bool {
        readable(&self.fd, wait)
    }
}

/// Asserts that all of them end.
pub(crate) fn all_end_within(processes: &[Process], wait: Duration) {
    let give_up_at = Instant::now() + wait;
    for process in processes {
        let left = give_up_at.saturating_duration_since(Instant::now());
        assert!(process.ends_within(left), "process {} lives on", process.pid);
    }
}

pub(crate) fn readable(fd: &impl std::os::fd::AsFd, wait: Duration) -> bool {
    let wait = Timespec::try_from(wait).unwrap();
    poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&wait)).unwrap() == 1
}

/// Lets the lease clock reach an instant.
pub(crate) fn clock_reaches(at: u64) {
    let mut timer = Timer::new().unwrap();
    while clock::now_ns() < at {
        timer.arm(at).unwrap();
        assert!(readable(&timer, PATIENCE));
        timer.clear();
    }
}

/// A service that leaves a daemon behind (double fork, own session) and stays.
pub(crate) const WITH_DAEMON: &str = "(setsid sh daemon.sh </dev/null >/dev/null 2>&1 &)\n\
                               while :; do sleep 1000; done";
