//! Nothing runs before it may, and how it ended is told as it was.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hedgerow::clock;
use hedgerow::workload::client::ClientError;
use hedgerow::workload::process::{Runtime, RuntimeError, free_ports};
use hedgerow::workload::wire::{Cause, How, Phase, Refusal};

use crate::support::*;

#[test]
fn after_the_deadline_nothing_starts() {
    let board = Board::new();
    let instance = board.instance("touch ran");
    let mut handle = board.runtime.prepare(&instance).unwrap();
    for until in [0, clock::now_ns(), clock::now_ns() + D / 2] {
        let refused = handle.start(until).unwrap_err();
        assert!(
            matches!(refused, ClientError::Refused(Refusal::DeadlinePassed { .. })),
            "{refused}"
        );
    }
    assert_eq!(handle.status().unwrap().phase, Phase::Waiting);
    assert!(!board.state("ran").exists());
    // Refused before anything was made: the same shim can still be started.
    handle.start(clock::now_ns() + PATIENCE.as_nanos() as u64).unwrap();
    let exit = handle.wait_exit(PATIENCE).unwrap().unwrap();
    assert_eq!(exit.how, How::Code(0));
    assert!(board.state("ran").exists(), "the check above can fail");
}

/// The deadline passes somewhere between the request and the exec: what "never ran" did not run.
#[test]
fn a_deadline_that_passes_on_the_way_stops_the_start_on_the_way() {
    let (mut started, mut refused, mut held_back) = (0, 0, 0);
    for step in 0..24 {
        let board = Board::new();
        let mut handle = board.runtime.prepare(&board.instance("touch ran")).unwrap();
        let slack = step * step * 60_000;
        match handle.start(clock::now_ns() + D + slack) {
            Ok(_) => started += 1,
            Err(ClientError::Refused(Refusal::DeadlinePassed { .. })) => {
                refused += 1;
                assert!(board.alive().is_empty());
                // Fenced just after the release it may have run, within its lease.
                let asked_in_time = handle.status().is_err();
                let never_ran = !asked_in_time || {
                    let exit = handle.wait_exit(PATIENCE).unwrap().unwrap();
                    matches!(exit.how, How::NotStarted(_))
                };
                held_back += u32::from(asked_in_time && never_ran);
                assert!(!(never_ran && board.state("ran").exists()), "ran with {slack} ns left");
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(held_back > 0, "{started} started, {refused} refused, {held_back} held back");
}

/// An init whose gate the test holds in place of the shim.
fn held_init(board: &Board) -> (Child, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    let init = Command::new(env!("CARGO_BIN_EXE_hedgerow-shim"))
        .arg("shim-init")
        .current_dir(board.folder.join("state"))
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    tell(&ours, "\"Prepare\"");
    assert!(hear(&ours).starts_with("{\"Held\""));
    (init, ours)
}

fn tell(mut gate: &UnixStream, json: &str) {
    gate.write_all(&(json.len() as u32).to_le_bytes()).unwrap();
    gate.write_all(json.as_bytes()).unwrap();
}

fn hear(mut gate: &UnixStream) -> String {
    let mut length = [0; 4];
    gate.read_exact(&mut length).unwrap();
    let mut body = vec![0; u32::from_le_bytes(length) as usize];
    gate.read_exact(&mut body).unwrap();
    String::from_utf8(body).unwrap()
}

fn release(board: &Board, run_until_ns: u64) -> String {
    let folder = board.folder.join("state");
    serde_json::json!({ "Release": {
        "run_until_ns": run_until_ns,
        "argv": ["/bin/sh", "run.sh"],
        "env": { "PATH": "/usr/bin:/bin" },
        "folder": folder,
        "nice": 0,
    }})
    .to_string()
}

#[test]
fn a_held_process_exists_and_has_executed_nothing_of_the_service() {
    let board = Board::new();
    board.instance("touch ran");
    let (mut init, gate) = held_init(&board);
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", init.id())).unwrap();
    let held = Process::of(children.trim().parse().unwrap()).unwrap();
    let exe = fs::read_link(format!("/proc/{}/exe", held.pid)).unwrap();
    assert!(exe.ends_with("hedgerow-shim"), "{}", exe.display());
    // A shim that dies now takes it along.
    drop(gate);
    assert!(held.ends_within(PATIENCE));
    init.wait().unwrap();
    assert!(!board.state("ran").exists());

    let (mut init, gate) = held_init(&board);
    tell(&gate, &release(&board, clock::now_ns() - 1));
    assert!(hear(&gate).starts_with("{\"TooLate\""));
    init.wait().unwrap();
    assert!(!board.state("ran").exists());

    let (mut init, gate) = held_init(&board);
    tell(&gate, &release(&board, u64::MAX));
    assert_eq!(hear(&gate), "\"Running\"");
    assert_eq!(hear(&gate), "{\"Code\":0}");
    init.wait().unwrap();
    assert!(board.state("ran").exists(), "released, it runs: the checks above can fail");
}

#[test]
fn the_exit_code_or_the_signal_is_told_and_kept() {
    for (script, how) in [
        ("exit 0", How::Code(0)),
        ("exit 7", How::Code(7)),
        ("kill -TERM $$", How::Signal(15)),
        ("kill -SEGV $$", How::Signal(11)),
        ("kill -KILL $$", How::Signal(9)),
    ] {
        let board = Board::new();
        let mut handle = board.start(script);
        let exit = handle.wait_exit(PATIENCE).unwrap().unwrap();
        assert_eq!((exit.how, exit.cause), (how, Cause::Itself), "{script}");
        assert_eq!((exit.epoch, exit.boot_id), (7, clock::boot_id().unwrap()));
    }
}

#[test]
fn stop_asks_first_and_kills_after_the_grace() {
    let board = Board::new();
    let mut handle = board.start("trap 'exit 3' TERM; say up; while :; do sleep 1000 & wait; done");
    assert_eq!(board.hear(), "up");
    handle.stop(PATIENCE).unwrap();
    let exit = handle.wait_exit(PATIENCE).unwrap().unwrap();
    assert_eq!((exit.how, exit.cause), (How::Code(3), Cause::Stopped));

    let mut handle = board.start("trap '' TERM; say up; while :; do sleep 1000; done");
    assert_eq!(board.hear(), "up");
    handle.stop(Duration::from_millis(20)).unwrap();
    let exit = handle.wait_exit(PATIENCE).unwrap().unwrap();
    assert_eq!((exit.how, exit.cause), (How::Signal(9), Cause::Stopped));
}

#[test]
fn what_cannot_be_run_is_named() {
    let board = Board::new();
    let until = clock::now_ns() + PATIENCE.as_nanos() as u64;
    let mut instance = board.instance("");
    instance.command = vec!["/nonexistent/program".to_owned()];
    let error = board.runtime.start(&instance, until).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/program"), "{error}");
    assert!(matches!(
        error,
        RuntimeError::Client(ClientError::Refused(Refusal::CannotStart { .. }))
    ));

    instance = board.instance("exit 0");
    instance.folder = "/nonexistent/folder".into();
    let error = board.runtime.start(&instance, until).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/folder"), "{error}");
}

#[test]
fn the_service_sees_its_environment_its_namespace_and_its_ports() {
    let board = Board::new();
    let mut instance = board.instance("say $HEDGEROW_SERVICE $HEDGEROW_ORDINAL $HEDGEROW_EPOCH $HEDGEROW_NODE $PORT_HTTP $1 [$CARGO]");
    let port = free_ports(1).unwrap()[0];
    instance.ports.insert("http".to_owned(), port);
    instance.command.push("${PORT_HTTP}".to_owned());
    let until = clock::now_ns() + PATIENCE.as_nanos() as u64;
    let _handle = board.runtime.start(&instance, until).unwrap();
    assert_eq!(board.hear(), format!("svc 0 7 node {port} {port} []"));
}

#[test]
fn inside_a_namespace_proc_shows_the_namespace() {
    let board = Board::new();
    let probe = board.runtime.probe().unwrap();
    let mut handle = board.start("say $$ $(ls -d /proc/[0-9]* | wc -l); exec sleep 1000");
    let said = board.hear();
    let containment = handle.status().unwrap().containment.clone();
    assert_eq!(containment.own_proc, probe.own_proc);
    assert_eq!(containment.pid_namespace, probe.pid_namespace);
    if containment.own_proc {
        let (pid, count) = said.split_once(' ').unwrap();
        assert_eq!(pid, "2");
        assert!(count.parse::<u32>().unwrap() < 10, "{said}");
    }
}

#[test]
fn ports_are_free_and_different() {
    let mut ports = free_ports(8).unwrap();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 8);
    assert!(!ports.contains(&0));
}

#[test]
fn output_is_kept_within_its_bounds() {
    let board = Board::new();
    let mut handle = board
        .start("echo first; echo bad >&2; head -c 300000 /dev/zero | tr '\\0' '\\n'; echo last");
    let log = handle.files().log();
    assert_eq!(handle.wait_exit(PATIENCE).unwrap().unwrap().how, How::Code(0));
    let mut total = 0;
    for entry in fs::read_dir(handle.files().dir()).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_string_lossy().starts_with("service.log") {
            total += entry.metadata().unwrap().len();
        }
    }
    assert!(total <= 4 * 256 * 1024, "{total} bytes of logs");
    assert!(fs::read_to_string(log).unwrap().ends_with(" out last\n"), "the newest is kept");
}
