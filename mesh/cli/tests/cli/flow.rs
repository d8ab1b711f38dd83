//! What an operator does, from the first command to the last.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::board::{Board, fits, mode, until};

#[test]
fn a_mesh_of_two_from_init_to_leave() {
    let founder = Board::founder();
    assert_eq!(mode(&founder.home), 0o700);
    for secret in ["api.sock", "root.key", "operator.key", "identity.key", "tickets.log"] {
        assert_eq!(mode(&founder.home.join(secret)), 0o600, "{secret}");
    }
    assert!(!founder.home.join("ticket").exists(), "the journal has taken the ticket over");
    assert_eq!(founder.status().unwrap()["view"], "alone");

    let mut guest = Board::guest(&founder, "barn-3");
    let status = guest.status().unwrap();
    assert_eq!((&status["mesh_name"], &status["view"]), (&"home".into(), &"whole".into()));
    assert_eq!(status["name"], "barn-3");

    let text = founder.text(&["status"]).out;
    assert!(text.starts_with("home   2 nodes: 2 up    "), "{text}");
    assert!(text.lines().next().unwrap().ends_with("view: whole mesh"), "{text}");
    assert!(text.contains("founder *"), "{text}");
    let nodes = founder.json(&["nodes"]);
    assert_eq!(nodes.as_array().unwrap().len(), 2);
    let why = founder.json(&["why", "barn-3"]);
    assert!(why["findings"][0].as_str().unwrap().starts_with("up"), "{why}");
    for words in [&["status"][..], &["nodes"], &["why", "barn-3"], &["events"], &["version"]] {
        fits(&founder.text(words).out);
    }

    let id = guest.id();
    let left = guest.json(&["leave"]);
    assert_eq!((&left["done"], &left["object"]), (&"left".into(), &"barn-3".into()));
    assert_eq!(guest.ends(), Some(0), "a board that left stops: {}", guest.log());
    until("the founder knows", || founder.sees(&id) == Some("left".into()));
    let text = founder.text(&["status"]).out;
    assert!(text.contains("1 up, 1 left"), "{text}");
    fits(&text);
    let error = guest.ask(&["up"]).failure(1, "has-left");
    assert!(error.contains("hedgerow join TICKET"), "{error}");

    // A ticket that is refused does not bind it: the next one may be good.
    let revoked = founder.json(&["ticket", "new"]);
    founder.json(&["ticket", "revoke", revoked["id"].as_str().unwrap()]);
    guest.joins(revoked["ticket"].as_str().unwrap());
    guest.up("barn-3");
    until("it is told", || {
        let said = guest.status().unwrap()["view_why"].as_str().unwrap().to_owned();
        said.contains("the ticket was revoked")
    });
    guest.signal(rustix::process::Signal::TERM);
    guest.ends();
    guest.joins(&founder.ticket());
    guest.up("barn-3");
    assert_eq!(guest.id(), id, "the same board");
    until("it is back", || founder.sees(&id) == Some("up".into()));
}

#[test]
fn events_are_told_past_and_live_until_the_daemon_stops() {
    let mut board = Board::founder();
    let past = board.ask(&["events"]);
    let first: Value = serde_json::from_str(past.out.lines().next().unwrap()).unwrap();
    assert_eq!((&first["event"], &first["node"]), (&"started".into(), &board.id()));

    let mut command = board.command(&["events", "-f", "-o", "json"]);
    let mut follower = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut next =
        || lines.next().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    assert_eq!(next().unwrap()["event"], "started", "the past comes first");
    let guest = Board::guest(&board, "guest");
    let up = std::iter::from_fn(&mut next).find(|event| event["event"] == "member-up").unwrap();
    assert_eq!((&up["name"], &up["node"]), (&"guest".into(), &guest.id()));

    board.signal(rustix::process::Signal::TERM);
    assert_eq!(board.ends(), Some(0));
    assert!(std::iter::from_fn(&mut next).count() < 100, "the stream ends with the daemon");
    assert!(follower.wait().unwrap().success());
}

#[test]
fn tickets_are_made_listed_and_revoked() {
    let founder = Board::founder();
    let text = founder.text(&["ticket", "new", "--expires", "24h"]);
    assert_eq!(text.code, Some(0));
    fits(&text.out);
    let line = text.out.lines().last().unwrap();
    let guest = Board::new();
    // People paste the whole line.
    let joined = guest.ask(&["join", line]).json();
    assert_eq!(joined["mesh_name"], "home");
    assert_eq!(mode(&guest.home.join("ticket")), 0o600);

    let new = founder.json(&["ticket", "new", "--role", "operator", "--expires", "never"]);
    assert_eq!((&new["role"], &new["expires"]), (&"operator".into(), &0.into()));
    let secret = new["ticket"].as_str().unwrap();
    let log = std::fs::read_to_string(founder.home.join("tickets.log")).unwrap();
    assert!(!log.contains(&secret[..40]), "no secret is in the log");
    let listed = founder.json(&["ticket", "ls"]);
    assert_eq!(listed.as_array().unwrap().len(), 3, "the founder's own is the first: {listed}");

    let prefix = &new["id"].as_str().unwrap()[..8];
    let revoked = founder.json(&["ticket", "revoke", prefix]);
    assert_eq!(revoked["object"], format!("ticket {}", new["id"].as_str().unwrap()));
    let listed = founder.json(&["ticket", "ls"]);
    let states: Vec<&Value> = listed.as_array().unwrap().iter().map(|t| &t["state"]).collect();
    assert_eq!(states, ["valid", "valid", "revoked"]);
    fits(&founder.text(&["ticket", "ls"]).out);

    std::fs::remove_file(founder.home.join("tickets.log")).unwrap();
    founder.ask(&["ticket", "revoke", "zzzz"]).failure(4, "not-found");
    // Without the log, the ticket itself or its full id still does.
    founder.json(&["ticket", "revoke", line.strip_prefix("hedgerow join ").unwrap()]);
    founder.json(&["ticket", "revoke", new["id"].as_str().unwrap()]);
}

#[test]
fn a_board_that_is_thrown_out_is_told_and_shown_as_revoked() {
    let founder = Board::founder();
    let mut guest = Board::guest(&founder, "guest");
    let id = guest.id();
    founder.ask(&["ticket", "revoke", "--node", "founder"]).failure(1, "revokes-itself");
    founder.ask(&["ticket", "revoke", "--node", "nobody"]).failure(4, "not-found");
    founder.json(&["ticket", "revoke", "--node", "guest"]);
    until("the founder shows it", || {
        founder.text(&["status"]).out.contains("revoked by the operator")
    });
    assert_eq!(founder.sees(&id), Some("left".into()));
    // Either the revocation itself reached it, or the founder hung up with a refusal.
    until("the guest is told", || {
        let ended = guest.daemon.as_mut().unwrap().try_wait().unwrap();
        match ended {
            Some(status) => status.code() == Some(9),
            None => guest.ask(&["events"]).out.contains("NodeRevoked"),
        }
    });
}
