//! The line on which a service asks for a commit, and the lease file it may look at.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

use hedgerow::clock;
use hedgerow::workload::handle::Handle;
use hedgerow::workload::lease::{LeaseError, LeaseFile};
use hedgerow::workload::process::Found;
use hedgerow::workload::wire::{CommitResult, Notice};

use crate::support::*;

struct Line(BufReader<UnixStream>);

impl Line {
    fn to(handle: &Handle) -> Self {
        let stream = UnixStream::connect(handle.files().control()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(stream))
    }

    fn ask(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line
    }
}

fn next_commit(handle: &mut Handle) -> u64 {
    loop {
        match handle.connection().next_notice(PATIENCE).unwrap() {
            Some(Notice::CommitRequested { id }) => return id,
            Some(_) => {}
            None => panic!("no commit was requested"),
        }
    }
}

#[test]
fn each_result_has_its_line() {
    let board = Board::new();
    let mut handle = board.start("exec sleep 1000");
    let mut line = Line::to(&handle);
    for (result, text) in [
        (CommitResult::Ok { checkpoint: 17 }, "ok 17\n"),
        (CommitResult::Unprotected, "unprotected\n"),
        (CommitResult::Fenced, "fenced\n"),
        (CommitResult::Unknown, "unknown\n"),
    ] {
        line.ask("commit\n");
        let id = next_commit(&mut handle);
        handle.committed(id, result).unwrap();
        assert_eq!(line.answer(), text);
        assert!(handle.committed(id, result).is_err(), "answered twice");
    }
    line.ask("comit\n");
    assert_eq!((line.answer(), line.answer()), ("error\n".to_owned(), String::new()));
}

#[test]
fn several_wait_at_once_and_are_answered_in_any_order() {
    let board = Board::new();
    let mut handle = board.start("exec sleep 1000");
    let mut lines = Vec::new();
    let mut ids = Vec::new();
    for _ in 0..16 {
        let mut line = Line::to(&handle);
        line.ask("commit\n");
        ids.push(next_commit(&mut handle));
        lines.push(line);
    }
    assert_eq!(handle.status().unwrap().commits_waiting, 16);
    assert_eq!(Line::to(&handle).answer(), "", "the seventeenth is shut out");
    for (line, id) in lines.iter_mut().zip(&ids).rev() {
        handle.committed(*id, CommitResult::Ok { checkpoint: *id }).unwrap();
        assert_eq!(line.answer(), format!("ok {id}\n"));
    }
    // A second line waits for the first one's answer.
    lines[0].ask("commit\ncommit\n");
    let first = next_commit(&mut handle);
    assert_eq!(handle.status().unwrap().commits_waiting, 1);
    handle.committed(first, CommitResult::Ok { checkpoint: 1 }).unwrap();
    let second = next_commit(&mut handle);
    handle.committed(second, CommitResult::Ok { checkpoint: 2 }).unwrap();
    assert_eq!((lines[0].answer(), lines[0].answer()), ("ok 1\n".to_owned(), "ok 2\n".to_owned()));
}

#[test]
fn a_commit_waits_for_an_agent_and_the_next_agent_answers_it() {
    let board = Board::new();
    let mut handle = board.start("exec sleep 1000");
    let mut line = Line::to(&handle);
    line.ask("commit\n");
    let asked = next_commit(&mut handle);
    drop(handle);
    let Found::Running(mut handle) = board.adopt() else { panic!("not running") };
    assert_eq!(next_commit(&mut handle), asked);
    handle.committed(asked, CommitResult::Ok { checkpoint: 3 }).unwrap();
    assert_eq!(line.answer(), "ok 3\n");
}

#[test]
fn a_kill_in_the_middle_is_unknown() {
    let board = Board::new();
    let mut handle = board.start("exec sleep 1000");
    let mut line = Line::to(&handle);
    line.ask("commit\n");
    next_commit(&mut handle);
    handle.kill().unwrap();
    assert_eq!(line.answer(), "unknown\n");
}

#[test]
fn a_reader_of_the_lease_file_never_sees_a_mixture() {
    let board = Board::new();
    let mut handle = board.start("exec sleep 1000");
    let path = handle.files().lease();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let lease = LeaseFile::open(&path).unwrap();
            let (mut last, mut reads) = (0, 0_u64);
            while !done.load(Ordering::Relaxed) {
                let now = lease.read().unwrap();
                assert_eq!(now.epoch, 7);
                assert!(now.valid_until_ns >= last, "extensions only rise");
                last = now.valid_until_ns;
                reads += 1;
            }
            reads
        });
        for _ in 0..2_000 {
            handle.extend(clock::now_ns() + PATIENCE.as_nanos() as u64).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0);
    });
}

#[test]
fn the_lease_file_says_expired_before_the_service_dies() {
    let board = Board::new();
    for _ in 0..10 {
        let mut handle = board.start("say up; exec sleep 1000");
        assert_eq!(board.hear(), "up");
        let lease = LeaseFile::open(&handle.files().lease()).unwrap();
        assert!(lease.valid_now(7));
        let service = Process::of(handle.pid().unwrap() as i32).unwrap();
        let at_its_death = std::thread::spawn(move || {
            assert!(service.ends_within(PATIENCE));
            lease.read().unwrap()
        });
        handle.kill().unwrap();
        assert_eq!(at_its_death.join().unwrap().valid_until_ns, 0);
        handle.wait_exit(PATIENCE).unwrap();
    }
}

#[test]
fn a_torn_lease_file_is_not_valid() {
    let board = Board::new();
    let handle = board.start("exec sleep 1000");
    let path = handle.files().lease();
    let lease = LeaseFile::open(&path).unwrap();
    assert!(lease.valid_now(7));
    // Half of a stroke that never ends.
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(&[0xff; 4], 10).unwrap();
    assert!(matches!(lease.read(), Err(LeaseError::Torn { .. })));
    assert!(!lease.valid_now(7));
}
