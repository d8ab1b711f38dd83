//! Who may die without taking the service along (the agent), and who may not (the shim).

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hedgerow::clock;
use hedgerow::workload::process::{Found, Runtime};
use hedgerow::workload::wire::{Cause, How};
use rustix::process::Signal;

use crate::support::*;

const AGENT_FOLDER: &str = "SHIM_TEST_AGENT_FOLDER";

#[test]
fn killing_the_shim_kills_the_service_and_its_daemon_within_d() {
    let board = Board::new();
    let mut handle = board.start(WITH_DAEMON);
    assert_eq!(board.hear(), "daemon");
    let alive = board.alive();
    assert!(alive.len() >= 2);

    handle.connection().abort().unwrap();
    // One that is dying has no environment to be known by any more, and has not ended yet.
    let give_up_at = Instant::now() + Duration::from_nanos(D);
    all_end_within(&alive, Duration::from_nanos(D));
    board.nothing_is_left_within(give_up_at.saturating_duration_since(Instant::now()));
    assert!(matches!(board.adopt(), Found::Died { .. }));
}

#[test]
fn uncontained_its_init_still_cleans_up_after_a_killed_shim() {
    let board = Board::new();
    let mut instance = board.instance(WITH_DAEMON);
    instance.isolate_pids = false;
    let until = clock::now_ns() + PATIENCE.as_nanos() as u64;
    let mut handle = board.runtime.start(&instance, until).unwrap();
    assert_eq!(board.hear(), "daemon");
    assert!(board.alive().len() >= 2);
    assert!(!handle.status().unwrap().containment.pid_namespace);
    handle.connection().abort().unwrap();
    board.nothing_is_left_within(PATIENCE);
}

/// The planted fault for the two above: what a PID namespace is there for.
#[test]
fn without_a_namespace_a_daemon_outlives_shim_and_init_killed_together() {
    let board = Board::new();
    let mut instance = board.instance(WITH_DAEMON);
    instance.isolate_pids = false;
    let until = clock::now_ns() + PATIENCE.as_nanos() as u64;
    let mut handle = board.runtime.start(&instance, until).unwrap();
    assert_eq!(board.hear(), "daemon");
    let init = Process::of(parent_of(handle.pid().unwrap())).unwrap();
    // Stopped, it cannot clean up; and its death is not the shim's.
    init.signal(Signal::STOP);
    handle.connection().abort().unwrap();
    assert!(handle.connection().wait_gone(PATIENCE).unwrap());
    init.signal(Signal::KILL);
    assert!(init.ends_within(PATIENCE));
    assert!(!board.alive().is_empty(), "the daemon lives: the checks above can fail");

    // An agent that comes back finds the cgroup by its file, if there was one, and sweeps.
    let was_in_cgroup = handle.files().cgroup().exists();
    assert!(matches!(board.adopt(), Found::Died { .. }));
    if was_in_cgroup {
        board.nothing_is_left_within(PATIENCE);
    }
}

#[test]
fn the_agents_death_touches_nothing_and_the_next_agent_adopts_the_same_process() {
    let board = Board::new();
    board.instance("trap 'say term; exit 0' TERM; say up; while :; do sleep 1 & wait $!; done");
    let mut agent = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "death::an_agent", "--nocapture"])
        .env(AGENT_FOLDER, &board.folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(agent.stdout.take().unwrap());
    let said = out
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("pid ").map(str::to_owned));
    let pid: u32 = said.unwrap().parse().unwrap();
    assert_eq!(board.hear(), "up");
    agent.kill().unwrap();
    agent.wait().unwrap();

    let Found::Running(mut handle) = board.adopt() else { panic!("not running") };
    assert_eq!(handle.pid(), Some(pid));
    let shim = format!("/proc/{}", handle.shim_pid());
    for process in [&shim, &format!("/proc/{pid}")] {
        let Ok(list) = fs::read_dir(format!("{process}/fd")) else { continue };
        let files: Vec<PathBuf> =
            list.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok()).collect();
        assert!(!files.contains(&board.folder.join("of-the-agent")), "{files:?}");
    }
    let status = fs::read_to_string(format!("{shim}/status")).unwrap();
    assert!(status.contains("Threads:\t1\n"), "{status}");
    // From `/proc`: a session begun outside the PID namespace has the number 0 in it.
    assert_ne!(session_of(handle.shim_pid()), session_of(std::process::id()));

    handle.stop(PATIENCE).unwrap();
    assert_eq!(board.hear(), "term");
    let exit = handle.wait_exit(PATIENCE).unwrap().unwrap();
    assert_eq!((exit.how, exit.cause), (How::Code(0), Cause::Stopped));
    assert!(matches!(board.adopt(), Found::Ended { exit, .. } if exit.pid == Some(pid)));
}

/// Not a test: the agent of the test above, in a process of its own.
#[test]
#[ignore = "run by the_agents_death_touches_nothing"]
fn an_agent() {
    let Ok(folder) = std::env::var(AGENT_FOLDER) else { return };
    let board = Board::at(&PathBuf::from(folder));
    let mine = File::create(board.folder.join("of-the-agent")).unwrap();
    // As if inherited from a careless parent.
    rustix::io::fcntl_setfd(&mine, rustix::io::FdFlags::empty()).unwrap();
    let script = fs::read_to_string(board.state("run.sh")).unwrap();
    let handle = board.start(&script);
    println!("\npid {}", handle.pid().unwrap());
    loop {
        std::thread::park();
    }
}

#[test]
fn a_second_shim_is_refused_and_a_new_one_follows_the_old() {
    let board = Board::new();
    let mut first = board.start("say up; exec sleep 1000");
    // Read by its shell, before the script is written anew.
    assert_eq!(board.hear(), "up");
    let until = clock::now_ns() + PATIENCE.as_nanos() as u64;
    let again = board.runtime.start(&board.instance("exec sleep 1000"), until);
    assert!(again.unwrap_err().to_string().contains("living shim"));
    first.kill().unwrap();
    let exit = first.wait_exit(PATIENCE).unwrap().unwrap();
    assert_eq!((exit.how, exit.cause), (How::Signal(9), Cause::Killed));
    // At once, while the first may still be on its way out.
    let mut second = board.start("exec sleep 1000");
    assert_ne!(first.shim_pid(), second.shim_pid());
    assert!(second.status().unwrap().pid.is_some());
}

#[test]
fn the_service_runs_at_the_agents_priority_whatever_the_shims_is() {
    let board = Board::new();
    let handle = board.start("exec sleep 1000");
    let nice = |pid: u32| field(pid, 16);
    assert_eq!(nice(handle.pid().unwrap()), nice(std::process::id()));
    assert!(nice(handle.shim_pid()) <= nice(std::process::id()));
}

fn parent_of(pid: u32) -> i32 {
    field(pid, 1)
}

fn session_of(pid: u32) -> i32 {
    field(pid, 3)
}

/// Field `index` of `/proc/PID/stat`, counted from the state.
fn field(pid: u32, index: usize) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.split(' ').nth(index).unwrap().parse().unwrap()
}
