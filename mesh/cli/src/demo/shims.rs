//! The shims that an ended demo may leave: found by their folder, ended by their id.
//!
//! A service outlives its agent on purpose, so killing a board does not end it; its lease would, a
//! second later. A demo that ends before its time does not wait for that.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A shim that was killed takes its service with it in milliseconds.
const GONE_WITHIN: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The shims and services whose command line names `folder` or something in it.
pub(super) fn living(folder: &Path) -> Vec<Pid> {
    let inside = [folder.as_os_str().as_bytes(), b"/"].concat();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    ids.filter(|id| {
        let command = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let mut words = command.split(|byte| *byte == 0).skip(1);
        words.next() == Some(b"shim") && words.any(|word| word.starts_with(&inside))
    })
    .filter_map(Pid::from_raw)
    .collect()
}

/// Ends every shim in `folder`, and with it what it runs.
pub(super) fn end(folder: &Path) {
    let begun = Instant::now();
    loop {
        let shims = living(folder);
        if shims.is_empty() || begun.elapsed() > GONE_WITHIN {
            return;
        }
        for shim in shims {
            // An error says that it has ended already.
            let _ = kill_process(shim, Signal::KILL);
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}
