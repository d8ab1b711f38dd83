//! The demo plays to its end, and leaves nothing behind however it ends.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::board::{Place, children, finish_within, fits, hedgerow, lives, until};

/// Half a minute on an idle computer in release.
const DEMO_PATIENCE: Duration = Duration::from_secs(600);

fn demo(place: &Place, words: &[&str]) -> Command {
    let mut command = hedgerow();
    command.env("TMPDIR", &place.0).arg("demo").args(words);
    command
}

fn left(place: &Place) -> usize {
    std::fs::read_dir(&place.0).unwrap().count()
}

#[test]
fn five_boards_play_it_to_the_end_and_nothing_acknowledged_is_lost() {
    let place = Place::new();
    let ended = finish_within(demo(&place, &["--seed", "7", "-o", "json"]), "", DEMO_PATIENCE);
    let report = ended.json();
    assert_eq!((&report["held"], &report["nodes"]), (&true.into(), &5.into()), "{report:#}");
    let mut steps: Vec<&str> =
        report["steps"].as_array().unwrap().iter().map(|s| s["step"].as_str().unwrap()).collect();
    steps.dedup();
    for step in ["gather", "ready", "agent", "death", "takeover", "standby", "master", "move"] {
        assert!(steps.contains(&step), "{step}: {report:#}");
    }
    assert_eq!(steps[steps.len() - 4..], ["kept", "remove", "leave", "no-false-death"]);
    let figures = &report["figures"];
    assert_eq!(figures["lost"], 0, "{report:#}");
    assert!(figures["takeover"]["first_answer_ms"].as_u64().unwrap() > 1_000, "{report:#}");
    assert!(figures["copies"]["full_bytes"].as_u64().unwrap() > 1 << 20, "{report:#}");
    assert_eq!(left(&place), 0);
}

#[test]
fn a_demo_that_is_interrupted_or_killed_leaves_no_process_behind() {
    for (signal, code) in [(Signal::INT, Some(1)), (Signal::KILL, None)] {
        let place = Place::new();
        let mut command = demo(&place, &["--nodes", "3"]);
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut harness: Child = quiet.spawn().unwrap();
        let mut boards = Boards(Vec::new());
        until("three boards run", || {
            boards.0 = children(harness.id());
            let sockets = (1..=3).filter(|n| socket_exists(&place, *n)).count();
            sockets == 3 && boards.0.len() == 3
        });
        kill_process(Pid::from_child(&harness), signal).unwrap();
        assert_eq!(harness.wait().unwrap().code(), code);
        until("its boards are gone", || !boards.0.iter().any(|id| lives(*id)));
        if signal == Signal::INT {
            assert_eq!(left(&place), 0);
        }
    }
}

#[test]
fn its_timeline_fits_the_screen_and_its_folders_stay_when_asked() {
    let place = Place::new();
    let words = ["--commit", "async", "--keep"];
    let ended = finish_within(demo(&place, &words), "", DEMO_PATIENCE);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    fits(&ended.out);
    assert!(ended.out.contains("steps held"), "{}", ended.out);
    let folder = std::fs::read_dir(&place.0).unwrap().next().unwrap().unwrap().path();
    assert!(folder.join("pi-1/log").exists() && folder.join("acknowledged.log").exists());
}

/// Processes that must be gone; should the test fail, they are at least not left behind by it.
struct Boards(Vec<u32>);

impl Drop for Boards {
    fn drop(&mut self) {
        for id in self.0.iter().filter(|id| lives(**id)) {
            let id = Pid::from_raw((*id).try_into().unwrap()).unwrap();
            let _ = kill_process(id, Signal::KILL);
        }
    }
}

fn socket_exists(place: &Place, number: usize) -> bool {
    let mut stages = std::fs::read_dir(&place.0).unwrap().flatten();
    stages.any(|stage| stage.path().join(format!("pi-{number}/api.sock")).exists())
}
