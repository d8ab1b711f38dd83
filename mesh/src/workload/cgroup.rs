//! A cgroup (version 2) for one instance, where one is writable.
//!
//! It freezes and kills as one, and enforces limits if its controllers are delegated. It is *used if
//! there*: under systemd that takes `Delegate=yes`, and `KillMode=process`, or systemd kills the
//! shims together with the agent. Version 1 is not used.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::process::Pid;

use super::client::{after, ready_before};
use super::instance::Limits;

/// The cgroup of one instance; removed by [`Cgroup::remove`], not by dropping.
#[derive(Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
    pub(crate) memory_limited: bool,
    pub(crate) pids_limited: bool,
}

impl Cgroup {
    /// Makes a cgroup below the one this process is in.
    pub(crate) fn create(name: &str, limits: Limits) -> io::Result<Self> {
        let parent = own().ok_or(io::ErrorKind::NotFound)?;
        let path = parent.join(format!("hedgerow-{name}"));
        fs::create_dir(&path)?;
        let mut cgroup = Self { path, memory_limited: false, pids_limited: false };
        if !cgroup.path.join("cgroup.freeze").exists() {
            cgroup.remove();
            return Err(io::ErrorKind::Unsupported.into());
        }
        // Fails where the parent holds processes or a controller is not delegated: then unlimited.
        for controller in ["+memory", "+pids"] {
            let _ = fs::write(parent.join("cgroup.subtree_control"), controller);
        }
        if let Some(bytes) = limits.memory_bytes {
            cgroup.memory_limited = cgroup.write("memory.max", &bytes.to_string()).is_ok();
            // One process out of memory is the whole service out of memory.
            let _ = cgroup.write("memory.oom.group", "1");
        }
        if let Some(pids) = limits.pids {
            // The init is not the service's.
            let most = u64::from(pids) + 1;
            cgroup.pids_limited = cgroup.write("pids.max", &most.to_string()).is_ok();
        }
        Ok(cgroup)
    }

    /// One that a shim left behind.
    pub(crate) fn left_at(path: PathBuf) -> Self {
        Self { path, memory_limited: false, pids_limited: false }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn add(&self, pid: Pid) -> io::Result<()> {
        self.write("cgroup.procs", &pid.as_raw_nonzero().to_string())
    }

    pub(crate) fn freeze(&self, frozen: bool) -> io::Result<()> {
        self.write("cgroup.freeze", if frozen { "1" } else { "0" })
    }

    /// Whether everything in it stands still.
    pub(crate) fn is_frozen(&self) -> bool {
        self.event("frozen") == Some(true)
    }

    /// Whether any process, zombies aside, is left in it.
    pub(crate) fn is_populated(&self) -> bool {
        self.event("populated") == Some(true)
    }

    /// Kills everything in it: as one on Linux ≥ 5.14, else one by one.
    pub(crate) fn kill(&self) {
        if self.write("cgroup.kill", "1").is_ok() {
            return;
        }
        let Ok(procs) = fs::read_to_string(self.path.join("cgroup.procs")) else { return };
        for pid in procs.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }

    /// Removes it; it must be empty.
    pub(crate) fn remove(&self) {
        let _ = fs::remove_dir(&self.path);
    }

    /// Kills what is left in it and waits until that is dead; false if it was not in time.
    pub(crate) fn kill_and_remove(&self, wait: Duration) -> bool {
        let give_up_at = after(wait);
        // Its poll tells of changes, so the file is opened before the first look.
        let events = fs::File::open(self.path.join("cgroup.events"));
        self.kill();
        while self.is_populated() {
            let changed = match &events {
                Ok(events) => ready_before(events, PollFlags::PRI, give_up_at).unwrap_or(false),
                Err(_) => false,
            };
            if !changed {
                return false;
            }
        }
        self.remove();
        true
    }

    fn event(&self, key: &str) -> Option<bool> {
        let events = fs::read_to_string(self.path.join("cgroup.events")).ok()?;
        let line = events.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
        Some(line == "1")
    }

    fn write(&self, file: &str, text: &str) -> io::Result<()> {
        fs::write(self.path.join(file), text)
    }
}

/// The version-2 cgroup this process is in.
fn own() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mount = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (path, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| path.to_owned())
    })?;
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(Path::new(&mount).join(group.trim_start_matches('/')))
}
