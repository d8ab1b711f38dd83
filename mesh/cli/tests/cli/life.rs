//! Daemons that are stopped, killed and started again.

use rustix::process::Signal;

use crate::board::{Board, until};

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
