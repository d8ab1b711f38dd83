//! A service that goes on where nobody hears it, and what becomes of it afterwards (design 3b.6): three
//! boards on a LAN, and the cable of the one that runs it is pulled.

use std::fs;

use serde_json::Value;

use crate::board::{Board, until};
use crate::network::Lan;

/// Ends by itself, should this test be ended before it can see to that.
const GOES_ON: &str = r#"
name = "goes-on"
command = ["/bin/sh", "-c", "for i in $(seq 1200); do echo $i >> state/log; sleep 0.1; done"]
state = "state"
on_isolation = "keep-running"
replicate = { every = "500ms" }
"#;

/// What a board says of the service.
fn it(board: &Board) -> Value {
    board.json(&["ps"])[0].clone()
}

fn log(board: &Board) -> String {
    fs::read_to_string(board.home.join("services/goes-on/state/log")).unwrap_or_default()
}

#[test]
fn a_service_that_keeps_running_alone_gives_way_once_it_is_heard_again() {
    let Some(lan) = Lan::new(3) else { return };
    let mut boards: Vec<Board> = (0..3).map(|_| Board::new()).collect();
    boards[0].json(&["init", "home"]);
    for (place, name) in ["pi-0", "pi-1", "pi-2"].into_iter().enumerate() {
        if place > 0 {
            boards[place].joins(&boards[0].ticket());
        }
        lan.up(&mut boards[place], place, name, "lan");
    }
    let voters = |status: Value| status["master"]["voters"].as_array().map_or(0, Vec::len);
    until("three decide", || boards.iter().all(|b| b.status().map_or(0, voters) == 3));
    let file = boards[0].home.join("goes-on.toml");
    fs::write(&file, GOES_ON).unwrap();
    boards[0].json(&["run", file.to_str().unwrap()]);
    until("it is protected", || {
        let it = it(&boards[0]);
        it["state"] == "running" && it["ready"] == true
    });
    let before = it(&boards[0]);
    let place = |name: &Value| name.as_str().unwrap()["pi-".len()..].parse::<usize>().unwrap();
    let (alone, epoch) = (place(&before["active"]), before["epoch"].as_u64().unwrap());
    let other = (alone + 1) % 3;
    assert!(lan.plug(alone, false));
    until("another board carries on", || {
        let it = it(&boards[other]);
        it["epoch"].as_u64() > Some(epoch) && it["state"] == "running"
    });
    let length = log(&boards[alone]).len();
    until("it goes on alone", || log(&boards[alone]).len() > length + 50);
    let begun = log(&boards[alone]).lines().filter(|line| *line == "1").count();
    assert_eq!(begun, 1, "the very same process");
    assert_eq!(it(&boards[alone])["epoch"], before["epoch"], "nobody told this board");

    assert!(lan.plug(alone, true));
    until("it has given way", || {
        let it = it(&boards[alone]);
        it["epoch"].as_u64() > Some(epoch) && it["active"] != before["active"]
    });
    until("its board says that two ran", || {
        boards[alone].ask(&["events"]).out.contains("split-ran")
    });
    let aside = || {
        let folders = fs::read_dir(boards[alone].home.join("services")).unwrap().flatten();
        folders.map(|entry| entry.path()).find(|path| path.join(".hedgerow-split").exists())
    };
    until("what it wrote alone is set aside, with a note", || aside().is_some());
    let written = fs::read_to_string(aside().unwrap().join("state/log")).unwrap();
    assert!(written.len() > length + 50, "all of it");
    boards[0].json(&["rm", "goes-on"]);
}
