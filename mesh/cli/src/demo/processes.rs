//! The processes of a board beside its agent: its shims and what they run, found by the board's
//! folder, signalled by their id.
//!
//! A service outlives its agent on purpose, so killing an agent does not end it. A board that loses
//! its power loses all of them at once, and a demo that ends before its time leaves none of them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A shim that was killed takes its service with it in milliseconds.
const GONE_WITHIN: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The shims whose command line names something in `folder`.
pub(super) fn shims(folder: &Path) -> Vec<Pid> {
    let inside = [folder.as_os_str().as_bytes(), b"/"].concat();
    all()
        .filter(|id| {
            let command = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            let mut words = command.split(|byte| *byte == 0).skip(1);
            words.next() == Some(b"shim") && words.any(|word| word.starts_with(&inside))
        })
        .filter_map(Pid::from_raw)
        .collect()
}

/// The shims in `folder` and everything that they run, the services last.
pub(super) fn with_services(folder: &Path) -> Vec<Pid> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for id in all() {
        if let Some((_, parent)) = stat(id) {
            children.entry(parent).or_default().push(id);
        }
    }
    let mut found: Vec<i32> =
        shims(folder).into_iter().map(|shim| shim.as_raw_nonzero().get()).collect();
    let mut at = 0;
    while let Some(id) = found.get(at) {
        found.extend(children.get(id).into_iter().flatten().copied().collect::<Vec<i32>>());
        at += 1;
    }
    found.into_iter().filter_map(Pid::from_raw).collect()
}

/// Sends `signal` to each; who has ended already does not mind.
pub(super) fn signal(processes: &[Pid], signal: Signal) {
    for process in processes {
        let _ = kill_process(*process, signal);
    }
}

/// Whether a process still does anything.
pub(super) fn lives(process: Pid) -> bool {
    stat(process.as_raw_nonzero().get()).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

/// Ends every shim in `folder`, and with it what it runs.
pub(super) fn end(folder: &Path) {
    let begun = Instant::now();
    loop {
        let left = shims(folder);
        if left.is_empty() || begun.elapsed() > GONE_WITHIN {
            return;
        }
        signal(&left, Signal::KILL);
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn all() -> impl Iterator<Item = i32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
}

/// State and parent. `id (name) state parent …`; a name may hold anything, even a bracket.
fn stat(id: i32) -> Option<(char, i32)> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}
