//! What an operator does by hand, on three boards: an older state, an empty board, a lost majority.

use std::fs;
use std::process::Command;

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use serde_json::Value;

use crate::board::{Board, until};

/// Counts from 1 whenever it is started, one line at a time: a start shows in its state.
const COUNTS: &str = r#"
name = "counts"
command = ["/bin/sh", "-c", "i=0; while :; do i=$((i+1)); echo $i >> state/log; sleep 0.05; done"]
state = "state"
port = [{ name = "none" }]
replicate = { every = "60s" }
"#;

fn start(board: &mut Board, name: &str) {
    let up = board.up_command(name);
    // Where a file may grow no more that is to be an error, not the end: one test needs it.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]).arg(up.get_program());
    command.args(up.get_args()).args(["--preset", "lan"]);
    board.up_as(command);
}

fn boards(names: &[&str]) -> Vec<Board> {
    let mut founder = Board::new();
    founder.json(&["init", "home"]);
    start(&mut founder, "pi-0");
    let mut boards = vec![founder];
    for name in names {
        let mut guest = Board::new();
        guest.joins(&boards[0].ticket());
        start(&mut guest, name);
        boards.push(guest);
    }
    until("three decide", || decide(&boards[0]) == 3);
    boards
}

fn decide(board: &Board) -> usize {
    let status = board.status().unwrap_or_default();
    status["master"]["voters"].as_array().map_or(0, Vec::len)
}

fn counts(founder: &Board) -> Value {
    founder.json(&["ps"])[0].clone()
}

/// The board that runs it, once a standby could carry on.
fn settled(boards: &[Board], past: u64) -> &Board {
    until("it runs, and is protected", || {
        let it = counts(&boards[0]);
        it["epoch"].as_u64() > Some(past) && it["state"] == "running" && it["ready"] == true
    });
    let active = counts(&boards[0])["active"].as_str().unwrap().to_owned();
    let at: usize = active.strip_prefix("pi-").unwrap().parse().unwrap();
    &boards[at]
}

fn lines(board: &Board) -> Vec<u64> {
    let log = board.home.join("services/counts/state/log");
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

#[test]
fn an_older_state_is_restored_a_board_is_drained_and_a_lost_majority_is_replaced() {
    let mut boards = boards(&["pi-1", "pi-2"]);
    let file = boards[0].home.join("counts.toml");
    fs::write(&file, COUNTS).unwrap();
    boards[0].json(&["run", file.to_str().unwrap()]);

    let active = settled(&boards, 0);
    let before = counts(&boards[0])["epoch"].as_u64().unwrap();
    until("it has counted", || lines(active).len() > 5);
    boards[0].json(&["checkpoint", "counts"]);
    // What `why` lists of its states: the one made by hand is kept.
    let by_hand = || {
        let why = active.json(&["why", "counts"]);
        let mut findings = why["findings"].as_array().unwrap().iter().filter_map(Value::as_str);
        let states = findings.find(|finding| finding.starts_with("states in"))?;
        Some(states.split_once(" (kept)")?.0.rsplit(' ').next()?.to_owned())
    };
    until("the state made by hand is there", || by_hand().is_some());
    let first = by_hand().unwrap();
    // More than when that was made, however long it took.
    let made = lines(active).len();
    until("it has counted on", || lines(active).len() > made + 20);
    let counted = lines(active).len();
    let nowhere = boards[0].ask(&["restore", "counts", "--at", "1.1"]).failure(4, "no-such-state");
    assert!(nowhere.contains("has no state 1.1 of `counts`"), "{nowhere}");
    boards[0].json(&["restore", "counts", "--at", &first]);
    let active = settled(&boards, before);
    until("it was started again", || lines(active).iter().filter(|line| **line == 1).count() == 2);
    let kept = active.json(&["why", "counts"])["findings"].to_string();
    assert!(kept.contains("(kept)"), "what was captured by hand is not let go: {kept}");
    let again = lines(active).iter().rposition(|line| *line == 1).unwrap();
    assert!(again < counted, "it went on after {again} lines; {counted} had been written");

    let (drained, epoch) = (counts(&boards[0]), counts(&boards[0])["epoch"].as_u64().unwrap());
    let drained = drained["active"].as_str().unwrap();
    boards[0].json(&["drain", drained]);
    settled(&boards, epoch);
    assert_ne!(counts(&boards[0])["active"], drained);
    boards[0].json(&["undrain", drained]);
    assert!(lines(settled(&boards, epoch)).len() > again, "a move takes everything along");

    boards[0].ask(&["recover", "--dead", "pi-1"]).failure(2, "not-forced");
    boards[0].ask(&["recover", "--dead", "pi-1", "--force"]).failure(1, "not-recovered");
    for gone in &mut boards[1..] {
        gone.signal(Signal::KILL);
        gone.ends();
    }
    let recover = ["recover", "--dead", "pi-1", "--dead", "pi-2", "--force"];
    until("the lease of the last master is over", || boards[0].ask(&recover).code == Some(0));
    until("it decides alone", || {
        decide(&boards[0]) == 1 && boards[0].status().unwrap()["master"]["reigns"] == true
    });
    for (at, name) in [(1, "pi-1"), (2, "pi-2")] {
        start(&mut boards[at], name);
    }
    until("three decide again", || decide(&boards[0]) == 3);
    settled(&boards, epoch);
}

#[test]
fn a_standby_whose_disk_takes_nothing_is_replaced_and_a_removed_service_leaves_no_trace() {
    let boards = boards(&["pi-1", "pi-2"]);
    let file = boards[0].home.join("counts.toml");
    fs::write(&file, COUNTS.replace("60s", "200ms")).unwrap();
    boards[0].json(&["run", file.to_str().unwrap()]);
    let active = settled(&boards, 0);
    let standby = || counts(&boards[0])["standby"].as_str().unwrap().to_owned();
    let full = standby();

    let at: usize = full.strip_prefix("pi-").unwrap().parse().unwrap();
    let pid = Pid::from_child(boards[at].daemon.as_ref().unwrap());
    let bytes = Some(256 * 1024);
    prlimit(Some(pid), Resource::Fsize, Rlimit { current: bytes, maximum: bytes }).unwrap();
    let noise: Vec<u8> = (0_u32..1 << 17).flat_map(|n| n.wrapping_pow(7).to_le_bytes()).collect();
    fs::write(active.home.join("services/counts/state/noise"), noise).unwrap();
    until("another board stands by", || {
        let it = counts(&boards[0]);
        it["standby"] != full.as_str() && it["ready"] == true && it["fill"].is_null()
    });
    let past = active.ask(&["events"]).out;
    assert!(past.contains(&format!("{full} cannot store it")), "{past}");

    boards[0].json(&["rm", "counts"]);
    assert_eq!(boards[0].json(&["ps"]).as_array().map(Vec::len), Some(0), "rm waits for it");
    boards[0].json(&["run", file.to_str().unwrap()]);
    let again = settled(&boards, 0);
    let state = again.home.join("services/counts/state");
    assert_eq!(fs::read_dir(state).unwrap().count(), 1, "its log, begun anew");

    boards[0].json(&["run", file.to_str().unwrap()]);
    let so_far = lines(again).len();
    until("it has counted on", || lines(again).len() > so_far + 10);
    let starts = |board: &Board| lines(board).iter().filter(|line| **line == 1).count();
    assert_eq!(starts(again), 1, "the same order once more changes nothing");

    let leaver = counts(&boards[0])["active"].clone();
    again.json(&["leave"]);
    let stays = boards.iter().find(|board| board.home != again.home).unwrap();
    until("another board runs it", || {
        let it = counts(stays);
        it["state"] == "running" && it["active"] != leaver
    });
    let at: usize = counts(stays)["active"].as_str().unwrap()["pi-".len()..].parse().unwrap();
    let (left, kept) = (lines(again), lines(&boards[at]));
    assert!(kept.starts_with(&left), "it was handed over, with its last line: {left:?} {kept:?}");
}
