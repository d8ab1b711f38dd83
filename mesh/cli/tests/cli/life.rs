//! Daemons that are stopped, killed and started again.

use std::fs;

use hedgerow::proto::io::Input;
use hedgerow::proto::machine::{Effects, Time};
use hedgerow::proto::recording::{Call, Recording, digest};
use rustix::process::Signal;

use crate::board::{Board, finish, until};

/// The first call of a recording, if any, that comes to something else than it did.
fn differs(recording: Recording) -> Option<usize> {
    let mut node = recording.head.node().unwrap();
    let mut effects = Effects::default();
    recording.calls.into_iter().position(|call| {
        match call.input {
            Some(input) => node.handle_input(Time(call.now), input, &mut effects),
            None => node.handle_timeout(Time(call.now), &mut effects),
        }
        let same = digest(effects.as_slice()) == call.effects;
        effects.drain().for_each(drop);
        !same
    })
}

#[test]
fn sigterm_ends_it_cleanly_and_the_others_notice() {
    let mut founder = Board::founder();
    let mut guest = Board::guest(&founder, "guest");
    let id = guest.id();
    guest.signal(Signal::TERM);
    assert_eq!(guest.ends(), Some(0), "{}", guest.log());
    assert!(!guest.home.join("api.sock").exists(), "it clears its socket away");
    until("the founder knows", || founder.sees(&id) == Some("down".into()));
    founder.signal(Signal::INT);
    assert_eq!(founder.ends(), Some(0));
}

#[test]
fn after_kill_9_it_comes_back_as_the_same_board() {
    let founder = Board::founder();
    let mut guest = Board::guest(&founder, "guest");
    let before = guest.status().unwrap();
    guest.signal(Signal::KILL);
    assert_eq!(guest.ends(), None, "killed");
    assert!(guest.home.join("api.sock").exists(), "a stale socket is left");
    assert_eq!(guest.ask(&["status"]).code, Some(3), "and nobody is mistaken for a daemon");
    guest.up("guest");
    let after = guest.status().unwrap();
    assert_eq!(after["node"], before["node"]);
    assert!(after["incarnation"].as_u64() > before["incarnation"].as_u64(), "{after}");
    until("the founder sees its new life", || {
        let status = founder.status().unwrap();
        status["nodes"].as_array().unwrap().iter().any(|node| {
            node["node"] == after["node"]
                && node["state"] == "up"
                && node["incarnation"].as_u64() >= after["incarnation"].as_u64()
        })
    });
}

#[test]
fn init_and_join_go_on_as_up_when_asked() {
    let mut board = Board::new();
    let mut command = board.command(&["init", "home", "--up"]);
    command.env("HEDGEROW_LISTEN", "/ip4/127.0.0.1/tcp/0").env("HEDGEROW_NO_MDNS", "true");
    let null = || std::process::Stdio::null();
    let spawned = command.stdin(null()).stdout(null()).stderr(null()).spawn().unwrap();
    board.daemon = Some(spawned);
    until("it runs", || board.status().is_some_and(|status| status["view"] == "alone"));
    board.signal(Signal::TERM);
    assert_eq!(board.ends(), Some(0));
}

#[test]
fn a_recorded_life_can_be_lived_again_call_by_call() {
    let founder = Board::founder();
    let mut guest = Board::new();
    guest.joins(&founder.ticket());
    let file = guest.home.join("life.recording");
    let mut up = guest.up_command("guest");
    up.arg("--record").arg(&file);
    guest.up_as(up);
    until("it sees both", || guest.status().is_some_and(|status| status["up"] == 2));
    // What has been written by now is there, whatever becomes of the process.
    until("enough is recorded", || fs::metadata(&file).is_ok_and(|file| file.len() > 8192));
    guest.signal(Signal::KILL);
    guest.ends();

    let bytes = fs::read(&file).unwrap();
    let recording = Recording::read(&bytes).unwrap();
    assert!(recording.calls.len() > 20, "{} calls", recording.calls.len());
    assert_eq!(differs(recording), None);
    // Planted: one message never came.
    let mut other = Recording::read(&bytes).unwrap();
    let is_message = |call: &Call| matches!(call.input, Some(Input::Received { .. }));
    let first = other.calls.iter().position(is_message).unwrap();
    other.calls.remove(first);
    assert!(differs(other).is_some(), "what is compared must be able to differ");

    let mut again = guest.up_command("guest");
    again.arg("--record").arg(&file);
    let told = crate::board::finish(again, "").failure(7, "recording");
    assert!(told.contains("does not exist yet"), "{told}");
    assert_eq!(crate::board::mode(&file), 0o600, "it holds the private key");
}

/// After a restart both have other ports, and there is no mDNS: neither knows where the other one is.
#[test]
fn a_member_that_has_lost_the_others_is_led_back_by_a_new_ticket() {
    let mut founder = Board::founder();
    let mut guest = Board::guest(&founder, "guest");
    for board in [&mut founder, &mut guest] {
        board.signal(Signal::TERM);
        assert_eq!(board.ends(), Some(0));
    }
    founder.up("founder");
    let text = finish(guest.command(&["join", "-"]), &founder.ticket());
    assert!(text.out.contains("is a member already"), "{text:?}");
    guest.up("guest");
    until("they are linked", || {
        [&founder, &guest].iter().all(|board| {
            let nodes = board.json(&["nodes"]);
            nodes.as_array().unwrap().iter().any(|node| node["path"] == "linked")
        })
    });
}
