//! Process trees, by walking `/proc`.
//!
//! The way that needs no permission: find everything below a process and signal it. It is a race
//! against a service that forks, so whoever kills or freezes this way repeats it until a walk finds
//! nothing left to do, and still has to call it *uncontained*: what is reparented away from the root
//! is not found. A cgroup or a PID namespace does better.

use std::fs;
use std::io;

use rustix::process::{Pid, Signal, kill_process};

/// One process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: Pid,
    parent: i32,
    state: u8,
}

impl Process {
    /// Neither running any more nor able to: dead, whether or not somebody collected its status.
    pub(crate) fn is_dead(self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }

    /// Stopped by a signal or by a tracer.
    pub(crate) fn is_stopped(self) -> bool {
        matches!(self.state, b'T' | b't')
    }
}

/// Everything below `root`, without `root` itself, parents before children.
pub(crate) fn below(root: Pid) -> io::Result<Vec<Process>> {
    let all = snapshot()?;
    let mut found: Vec<Process> = Vec::new();
    let mut parents = vec![root.as_raw_nonzero().get()];
    while let Some(parent) = parents.pop() {
        for process in all.iter().filter(|process| process.parent == parent) {
            parents.push(process.pid.as_raw_nonzero().get());
            found.push(*process);
        }
    }
    Ok(found)
}

/// Sends `SIGKILL` to everything below `root`; returns how many were alive.
pub(crate) fn kill_below(root: Pid) -> io::Result<usize> {
    signal_each(below(root)?.into_iter().filter(|process| !process.is_dead()), Signal::KILL)
}

/// Sends `SIGSTOP` to everything below `root`; returns how many were not standing still before.
pub(crate) fn stop_below(root: Pid) -> io::Result<usize> {
    let moving = below(root)?.into_iter().filter(|it| !it.is_dead() && !it.is_stopped());
    signal_each(moving, Signal::STOP)
}

/// Whether everything below `root`, sent `SIGSTOP` before, stands still.
///
/// A parent inside `vfork` cannot stop before its child has execed, but runs nothing either.
pub(crate) fn stands_still_below(root: Pid) -> io::Result<bool> {
    let all = below(root)?;
    let in_vfork = |it: &Process| {
        let pid = it.pid.as_raw_nonzero().get();
        it.state == b'D' && all.iter().any(|child| child.parent == pid && child.is_stopped())
    };
    Ok(all.iter().all(|it| it.is_dead() || it.is_stopped() || in_vfork(it)))
}

/// Sends `SIGCONT` to everything below `root`, children first.
pub(crate) fn continue_below(root: Pid) -> io::Result<()> {
    signal_each(below(root)?.into_iter().rev(), Signal::CONT).map(drop)
}

fn signal_each(processes: impl Iterator<Item = Process>, signal: Signal) -> io::Result<usize> {
    let mut count = 0;
    for process in processes {
        // One that has gone meanwhile is as good as signalled.
        match kill_process(process.pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => count += 1,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(count)
}

fn snapshot() -> io::Result<Vec<Process>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // It may have gone between the listing and here.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        all.extend(parse_stat(pid, &stat));
    }
    Ok(all)
}

/// Reads `pid (comm) state ppid …`; `comm` may contain anything, so the last `)` ends it.
fn parse_stat(pid: i32, stat: &str) -> Option<Process> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let parent = fields.next()?.parse().ok()?;
    Some(Process { pid: Pid::from_raw(pid)?, parent, state })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_full_of_brackets_does_not_confuse_the_parser() {
        let process = parse_stat(7, "7 (a) S 1 (b)) T 42 7 7 0").unwrap();
        assert_eq!(process.parent, 42);
        assert!(process.is_stopped());
    }

    #[test]
    fn a_child_is_found_below_its_parent() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = Pid::from_child(&child);
        let found = below(rustix::process::getpid()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.iter().any(|process| process.pid == pid), "{found:?}");
    }
}
