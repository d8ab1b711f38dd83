//! A disk that is full, or that may not be written to: told with what to do, and nothing is lost.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::board::{Board, finish, until};
use crate::machine::SmallDisk;

/// Enough for a board and some tickets.
const KIB: u32 = 512;

fn told(message: &str) {
    assert!(message.contains("No space left") && message.contains("free some space"), "{message}");
}

fn id_of(ticket: &Value) -> String {
    ticket["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_disk_that_is_full_at_the_start_is_told_and_no_harm_is_done() {
    let Some(disk) = SmallDisk::new(KIB) else { return };
    let mut board = disk.board();
    disk.fill();
    told(&board.ask(&["init", "home"]).failure(7, "data-folder"));
    disk.free();
    board.json(&["init", "home"]);
    // The first start has to write, too.
    disk.fill();
    told(&finish(board.up_command("founder"), "").failure(7, "journal"));
    disk.free();
    board.up("founder");
}

#[test]
fn a_disk_that_fills_up_stops_the_node_with_a_sentence_and_nothing_promised_is_lost() {
    let Some(disk) = SmallDisk::new(KIB) else { return };
    let mut founder = disk.board();
    founder.json(&["init", "home"]);
    founder.up("founder");
    let guest = Board::guest(&founder, "guest");
    let new = || founder.ask(&["ticket", "new"]);
    let mut tickets: Vec<String> = (0..30).map(|_| id_of(&new().json())).collect();
    let before = founder.status().unwrap();

    disk.fill();
    // What is left of a block that is in use may take some more.
    let failed = std::iter::repeat_with(new).find(|ended| match ended.code {
        Some(0) => {
            tickets.push(id_of(&ended.json()));
            false
        }
        _ => true,
    });
    told(&failed.unwrap().failure(7, "data-folder"));
    // Whatever the caller is told in the end, it is not that this was done.
    let done = tickets.iter().take_while(|ticket| {
        let ended = founder.ask(&["ticket", "revoke", ticket]);
        ended.code == Some(0)
    });
    let done = done.count();
    assert!(done < tickets.len(), "the journal never needed another block");
    assert_eq!(founder.ends(), Some(9), "it halts");
    let log = founder.log();
    assert!(log.contains("nothing that was promised is lost"), "{log}");
    told(log.lines().last().unwrap());
    until("the guest notices", || guest.sees(&before["node"]) == Some("down".into()));

    // Started again too early: the journal, which is written anew then, has no room.
    told(&finish(founder.up_command("founder"), "").failure(7, "journal"));
    disk.free();
    founder.up("founder");
    let after = founder.status().unwrap();
    assert_eq!(after["node"], before["node"], "the same board");
    assert!(after["incarnation"].as_u64() > before["incarnation"].as_u64(), "{after}");
    until("both see both up", || {
        [&founder, &guest].iter().all(|b| b.status().is_some_and(|status| status["up"] == 2))
    });
    let listed = founder.json(&["ticket", "ls"]);
    let listed = listed.as_array().unwrap();
    let is = |state: &str| -> BTreeSet<String> {
        listed.iter().filter(|ticket| ticket["state"] == state).map(id_of).collect()
    };
    let kept: BTreeSet<String> = tickets[..done].iter().cloned().collect();
    assert!(is("revoked").is_superset(&kept), "what was said to be done is done");
    // The founder's own and the guest's are the first two.
    assert_eq!(listed.len(), 2 + tickets.len(), "every ticket that was handed out is listed");
    founder.json(&["ticket", "revoke", tickets.last().unwrap()]);
}

#[test]
fn a_folder_that_may_not_be_written_to_is_told_with_what_to_do() {
    let Some(mut disk) = SmallDisk::new(KIB) else { return };
    let mut board = disk.board();
    board.json(&["init", "home"]);
    disk.read_only(true);
    let message = finish(board.up_command("founder"), "").failure(7, "data-folder");
    assert!(message.contains("writable folder with --home"), "{message}");
    let message = Board::at(board.home.join("below")).ask(&["init", "x"]).failure(7, "data-folder");
    assert!(message.contains("writable folder with --home"), "{message}");
    disk.read_only(false);
    board.up("founder");
}
