//! The deadline is kept by the shim, without anybody's help.

use hedgerow::clock;
use hedgerow::workload::handle::Handle;
use hedgerow::workload::instance::Mode;
use hedgerow::workload::lease::LeaseFile;
use hedgerow::workload::process::Runtime;
use hedgerow::workload::wire::{Cause, Exit, How, Notice, Request};
use rustix::process::Signal;

use crate::support::*;

/// Long enough for a daemon to come up on a busy machine.
const LEASE: u64 = 2_000 * MS;

fn notices_until_exit(handle: &mut Handle) -> (Vec<Notice>, Exit) {
    let mut all = Vec::new();
    loop {
        match handle.connection().next_notice(PATIENCE).unwrap() {
            Some(Notice::Exited(exit)) => return (all, exit),
            Some(notice) => all.push(notice),
            None => panic!("not dead within {PATIENCE:?}; so far {all:?}"),
        }
    }
}

fn expiry_kills_all(isolate_pids: bool) {
    let board = Board::new();
    let mut instance = board.instance(WITH_DAEMON);
    instance.isolate_pids = isolate_pids;
    let until = clock::now_ns() + LEASE;
    let mut handle = board.runtime.start(&instance, until).unwrap();
    assert_eq!(board.hear(), "daemon");
    let alive = board.alive();
    assert!(alive.len() >= 2, "service and daemon at least");

    let (notices, exit) = notices_until_exit(&mut handle);
    all_end_within(&alive, PATIENCE);
    assert!(board.alive().is_empty());
    assert_eq!((exit.how, exit.cause), (How::Signal(9), Cause::Fenced));
    assert_eq!(exit.bound_broken_ns, None);
    assert!((until - D..until).contains(&exit.at_ns), "{} of {until}", exit.at_ns);
    assert!(notices.contains(&Notice::Fenced { until }), "{notices:?}");
    assert!(notices.iter().any(|it| matches!(it, Notice::Killed { .. })), "{notices:?}");
}

#[test]
fn expiry_kills_the_service_and_its_daemon_within_d() {
    expiry_kills_all(true);
}

#[test]
fn expiry_kills_them_without_a_pid_namespace_too() {
    expiry_kills_all(false);
}

#[test]
fn keep_running_without_the_fence_outlives_the_deadline_and_comes_back() {
    let board = Board::new();
    let mut instance = board.instance(WITH_DAEMON);
    instance.mode = Mode::KeepRunning;
    let until = clock::now_ns() + LEASE;
    let mut handle = board.runtime.start(&instance, until).unwrap();
    let lease = LeaseFile::open(&handle.files().lease()).unwrap();
    assert_eq!(board.hear(), "daemon");
    let started = handle.connection().next_notice(PATIENCE).unwrap();
    assert!(matches!(started, Some(Notice::Started { .. })), "{started:?}");
    // This is also the proof that the test above sees a service that is not killed.
    assert_eq!(
        handle.connection().next_notice(PATIENCE).unwrap(),
        Some(Notice::Isolated { until })
    );
    clock_reaches(until);
    assert!(board.alive().len() >= 2);
    assert!(handle.status().unwrap().isolated);
    assert!(!lease.valid_now(7), "isolated is not the same as entitled");

    handle.extend(clock::now_ns() + LEASE).unwrap();
    assert!(!handle.status().unwrap().isolated);
    assert!(lease.valid_now(7));
}

#[test]
fn extending_keeps_it_alive_and_an_extension_that_came_too_late_does_not() {
    let board = Board::new();
    let mut handle =
        board.runtime.start(&board.instance("exec sleep 1000"), clock::now_ns() + LEASE).unwrap();
    let lease = LeaseFile::open(&handle.files().lease()).unwrap();
    let first_end = handle.status().unwrap().until.unwrap();
    let until = first_end + 500 * MS;
    assert_eq!(handle.extend(until).unwrap(), until);
    assert_eq!(handle.extend(first_end).unwrap(), until, "never moved back");
    assert_eq!(lease.read().unwrap().valid_until_ns, until - D);
    clock_reaches(first_end - D + 50 * MS);
    assert!(lease.valid_now(7));
    assert!(!lease.valid_now(8), "another epoch's lease");

    let exit = handle.wait_exit(PATIENCE).unwrap().unwrap();
    assert_eq!(exit.cause, Cause::Fenced);
    assert!(exit.at_ns >= until - D);
    assert_eq!(lease.read().unwrap().valid_until_ns, 0, "expired, not merely past");
    assert!(handle.extend(clock::now_ns() + LEASE).is_err());
}

/// Stops the shim and the service, lets the deadline pass, and lets both go on.
fn pause_past_deadline(extension: Option<u64>) -> (Board, Handle, Vec<Process>) {
    let board = Board::new();
    let until = clock::now_ns() + LEASE;
    let mut handle = board.runtime.start(&board.instance(WITH_DAEMON), until).unwrap();
    assert_eq!(board.hear(), "daemon");
    let alive = board.alive();
    let shim = Process::of(handle.shim_pid() as i32).unwrap();
    shim.signal(Signal::STOP);
    alive.iter().for_each(|process| process.signal(Signal::STOP));
    if let Some(more) = extension {
        handle.connection().send(Request::Extend { until: until + more }).unwrap();
    }
    clock_reaches(until + 50 * MS);
    assert!(alive.iter().all(|process| !process.is_gone()), "nobody was there to kill them");
    shim.signal(Signal::CONT);
    alive.iter().for_each(|process| process.signal(Signal::CONT));
    (board, handle, alive)
}

#[test]
fn paused_past_the_deadline_it_dies_as_soon_as_the_shim_goes_on() {
    let (board, mut handle, alive) = pause_past_deadline(None);
    let resumed = clock::now_ns();
    let (notices, exit) = notices_until_exit(&mut handle);
    all_end_within(&alive, PATIENCE);
    assert!(board.alive().is_empty());
    // A bound for a shared machine; the figure (p99) is in FIGURES, from `shim-figures`.
    assert!(exit.at_ns < resumed + 1_000 * MS, "{} ms", (exit.at_ns - resumed) / MS);
    assert!(exit.bound_broken_ns.is_some_and(|by| by >= 50 * MS), "{exit:?}");
    assert!(notices.iter().any(|it| matches!(it, Notice::Late { by_ns } if *by_ns > D / 2)));
    assert_eq!(exit.cause, Cause::Fenced);
}

#[test]
fn paused_with_an_extension_waiting_it_lives() {
    let (board, mut handle, _) = pause_past_deadline(Some(PATIENCE.as_nanos() as u64));
    assert!(handle.extend(0).unwrap() > clock::now_ns());
    assert!(board.alive().len() >= 2, "the grant held all the time");
}

#[test]
fn frozen_it_stands_still_and_past_the_deadline_it_dies_all_the_same() {
    let board = Board::new();
    let until = clock::now_ns() + LEASE;
    let script = "say up; i=0; while :; do i=$((i+1)); done";
    let mut handle = board.runtime.start(&board.instance(script), until).unwrap();
    assert_eq!(board.hear(), "up");
    let pid = handle.pid().unwrap();
    let cpu_ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit_once(") ").unwrap().1.split(' ').nth(11).unwrap().parse::<u64>().unwrap()
    };

    handle.freeze().unwrap();
    assert!(handle.status().unwrap().frozen);
    let before = cpu_ticks();
    clock_reaches(clock::now_ns() + 200 * MS);
    assert_eq!(cpu_ticks(), before, "a loop that is frozen uses no time");
    handle.thaw().unwrap();
    let spun = clock::now_ns() + 10_000 * MS;
    while cpu_ticks() == before && clock::now_ns() < spun {
        clock_reaches(clock::now_ns() + 10 * MS);
    }
    assert!(cpu_ticks() > before, "thawed, it goes on: the check above can fail");

    handle.freeze().unwrap();
    let exit = handle.wait_exit(PATIENCE).unwrap().unwrap();
    assert_eq!((exit.cause, exit.bound_broken_ns), (Cause::Fenced, None));
    assert!(board.alive().is_empty());
}

#[test]
fn without_a_cgroup_nor_a_namespace_freezing_works_by_signals() {
    let board = Board::new();
    let mut instance = board.instance(WITH_DAEMON);
    instance.isolate_pids = false;
    let until = clock::now_ns() + PATIENCE.as_nanos() as u64;
    let mut handle = board.runtime.start(&instance, until).unwrap();
    assert_eq!(board.hear(), "daemon");
    handle.freeze().unwrap();
    handle.stop(std::time::Duration::from_millis(1)).unwrap();
    let exit = handle.wait_exit(PATIENCE).unwrap().unwrap();
    assert_eq!(exit.cause, Cause::Stopped);
    assert!(board.alive().is_empty());
}
