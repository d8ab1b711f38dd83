//! Services through the command line: from a file to a running process, and to nothing again.

use std::fs;
use std::net::TcpListener;

use serde_json::Value;

use crate::board::{Board, fits, until};

/// A service that says where it runs and then waits.
const TALKS: &str = r#"
name = "talks"
command = ["/bin/sh", "-c", "echo hello from $HEDGEROW_SERVICE on $PORT_HTTP; while :; do sleep 1; done"]
port = [{ name = "http" }, { name = "admin" }]
"#;

/// The service file `text` in this board's folder.
fn file(board: &Board, text: &str) -> String {
    let path = board.home.join("service.toml");
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn reigns(board: &Board) -> bool {
    board.status().is_some_and(|status| status["master"]["reigns"] == true)
}

#[test]
fn a_service_is_run_listed_resolved_read_stopped_and_removed() {
    let founder = Board::founder();
    until("a master reigns", || reigns(&founder));
    assert!(founder.text(&["ps"]).out.starts_with("Nothing runs yet"));
    let ran = founder.text(&["run", &file(&founder, TALKS)]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.contains("founder") && ran.out.contains("unprotected"), "{ran:?}");
    until("it runs", || founder.json(&["ps"])[0]["state"] == "running");
    for words in [&["ps"][..], &["status"], &["resolve", "talks", "--port", "http"]] {
        fits(&founder.text(words).out);
    }
    assert!(founder.text(&["status"]).out.contains("WORKLOADS  talks running, active founder"));

    let address = founder.text(&["resolve", "talks", "--port", "http"]).out;
    let port = address.trim().strip_prefix("127.0.0.1:").unwrap().to_owned();
    let several = founder.ask(&["resolve", "talks"]).json();
    assert_eq!(several["endpoints"]["http"], address.trim());
    assert_eq!(founder.text(&["resolve", "talks"]).code, Some(4), "which of its ports?");
    founder.ask(&["resolve", "talks", "--port", "x"]).failure(4, "no-such-port");
    founder.ask(&["resolve", "nobody"]).failure(4, "not-found");

    let said = format!("hello from talks on {port}");
    until("its words are in the log", || founder.text(&["logs", "talks"]).out.contains(&said));
    assert!(founder.json(&["logs", "talks"])["lines"][0].as_str().unwrap().ends_with(&said));
    founder.ask(&["logs", "nobody"]).failure(4, "not-found");

    assert_eq!(founder.json(&["stop", "talks"])["done"], "stopped");
    until("it is stopped", || founder.json(&["ps"])[0]["state"] == "stopped");
    founder.ask(&["stop", "nobody"]).failure(4, "not-found");
    assert_eq!(founder.json(&["rm", "talks"])["done"], "removed");
    until("it is gone", || founder.json(&["ps"]) == Value::Array(Vec::new()));
}

#[test]
fn run_returns_once_what_the_file_says_now_runs_and_fails_if_that_does_not() {
    let founder = Board::founder();
    until("a master reigns", || reigns(&founder));
    let port = |ran: &Value| ran["endpoints"][0].as_str().unwrap().to_owned();
    // It takes its time to end.
    let slow = TALKS.replace("while :;", "trap 'sleep 1.5; exit 0' TERM; while :;");
    let first = founder.json(&["run", &file(&founder, &slow)]);
    assert_eq!(port(&founder.json(&["run", &file(&founder, &slow)])), port(&first), "the same");

    // What was running until now is not what was ordered: its ports are about to go away.
    let second = founder.json(&["run", &file(&founder, &TALKS.replace("hello", "good day"))]);
    assert_eq!(second["current"], true);
    assert_eq!(port(&founder.json(&["ps"])[0].clone()), port(&second));
    until("the new one speaks", || founder.text(&["logs", "talks"]).out.contains("good day"));

    // For a moment it does run.
    let brief = "name = \"brief\"\ncommand = [\"/bin/sh\", \"-c\", \"sleep 0.3; exit 3\"]";
    founder.ask(&["run", &file(&founder, brief)]).failure(1, "not-running");
    founder.json(&["rm", "brief"]);

    let missing = "name = \"bad\"\ncommand = [\"./nowhere\"]";
    let told = founder.ask(&["run", &file(&founder, missing)]).failure(1, "not-running");
    assert!(told.contains("hedgerow"), "{told}");
    let bad = founder.json(&["ps"]).as_array().unwrap().clone();
    let why = bad.iter().find(|it| it["instance"] == "bad").unwrap()["why"].to_string();
    assert!(why.contains("./nowhere (looked up in ") && why.contains("services/bad)"), "{why}");
}

#[test]
fn a_service_whose_port_is_taken_does_not_run_and_nobody_is_sent_there() {
    let founder = Board::founder();
    until("a master reigns", || reigns(&founder));
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    // It does not notice itself that somebody else serves there.
    let fixed =
        TALKS.replace("{ name = \"http\" }", &format!("{{ name = \"http\", port = {port} }}"));
    founder.ask(&["run", &file(&founder, &fixed)]).failure(1, "not-running");
    let told = founder.json(&["ps"])[0]["why"].to_string();
    assert!(told.contains(&port.to_string()) && told.contains("in use"), "{told}");
    founder.ask(&["resolve", "talks", "--port", "http"]).failure(1, "not-serving");
    drop(other);
    until("it runs once the port is free", || founder.json(&["ps"])[0]["state"] == "running");
}

#[test]
fn flags_about_a_board_go_with_init_only_if_it_is_started() {
    let board = Board::new();
    let told = board.ask(&["init", "home", "--name", "pi-1"]).failure(2, "without-up");
    assert!(told.contains("add --up"), "{told}");
    assert!(!board.home.exists(), "refused before anything was made");
}

#[test]
fn only_a_folder_with_the_operators_key_gives_orders_and_it_needs_no_root_key() {
    let founder = Board::founder();
    let guest = Board::guest(&founder, "guest");
    until("a master reigns", || reigns(&founder));
    // The root key may be kept offline …
    fs::remove_file(founder.home.join("root.key")).unwrap();
    let placed = founder.json(&["run", &file(&founder, TALKS)]);
    assert_eq!(placed["instance"], "talks");
    // … and a board that only joined may order nothing.
    let told = guest.ask(&["run", &file(&guest, TALKS)]).failure(7, "no-operator");
    assert!(told.contains("operator.key") && told.contains("hedgerow init"), "{told}");
    guest.ask(&["rm", "talks"]).failure(7, "no-operator");
    until("both know it", || guest.json(&["ps"])[0]["state"] == "running");

    let active = guest.json(&["ps"])[0]["active"].as_str().unwrap().to_owned();
    let other = if active == "guest" { &founder } else { &guest };
    let told = other.ask(&["logs", "talks"]).failure(4, "elsewhere");
    assert!(told.contains(&active), "{told}");

    // With both files, any board will do.
    for secret in ["operator.key", "operator.credential"] {
        fs::copy(founder.home.join(secret), guest.home.join(secret)).unwrap();
    }
    assert_eq!(guest.json(&["rm", "talks"])["done"], "removed");
    until("it is gone", || guest.json(&["ps"]) == Value::Array(Vec::new()));

    fs::remove_file(founder.home.join("operator.credential")).unwrap();
    let told = founder.ask(&["stop", "talks"]).failure(7, "no-operator");
    assert!(told.contains("operator.credential"), "{told}");
}

#[test]
fn a_leave_that_is_refused_moves_nothing() {
    let founder = Board::founder();
    let guest = Board::guest(&founder, "guest");
    until("a master reigns", || reigns(&founder));
    founder.json(&["run", &file(&founder, TALKS)]);
    let on_founder = || {
        let it = founder.json(&["ps"])[0].clone();
        (it["state"] == "running" && it["ready"] == true && it["active"] == "founder")
            .then(|| it["epoch"].clone())
    };
    until("it runs where it is to run, and is protected", || {
        if on_founder().is_some() {
            return true;
        }
        // Refused as long as nobody could carry on.
        founder.ask(&["failover", "talks"]);
        false
    });
    let before = on_founder();
    let told = founder.ask(&["leave"]).failure(1, "decides-alone");
    assert!(told.contains("needed to decide"), "{told}");
    assert_eq!(on_founder(), before);
    // The other one may, and what stood by is told to be gone.
    guest.json(&["leave"]);
    until("nobody stands by", || founder.json(&["ps"])[0]["ready"] == false);
    let why = founder.json(&["ps"])[0]["why"].as_str().unwrap().to_owned();
    assert!(why.contains("unprotected"), "{why}");
}

#[test]
fn the_only_board_of_a_service_leaves_by_force_only() {
    let mut founder = Board::founder();
    until("a master reigns", || reigns(&founder));
    founder.json(&["run", &file(&founder, TALKS)]);
    let told = founder.ask(&["leave"]).failure(1, "services-stay");
    assert!(told.contains("`talks` needs this board") && told.contains("--force"), "{told}");
    assert_eq!(founder.json(&["ps"])[0]["state"], "running");
    founder.json(&["leave", "--force"]);
    assert_eq!(founder.ends(), Some(0));
    let told = founder.ask(&["status"]).failure(3, "no-daemon");
    assert!(told.contains("has left its mesh") && told.contains("hedgerow join TICKET"), "{told}");
}

#[test]
fn a_bad_service_file_is_told_with_file_line_and_column() {
    let board = Board::new();
    board.json(&["init", "home"]);
    let path = file(&board, "name = \"a\"\ncommand = [\"true\"]\n  retsart = {}\n");
    let told = board.ask(&["run", &path]).failure(6, "service-file");
    assert!(told.starts_with(&format!("{path}:3:3: unknown field `retsart`")), "{told}");
    assert!(told.ends_with("did you mean `restart`?"), "{told}");
    board.ask(&["run", "/nowhere.toml"]).failure(7, "data-folder");
    let right = file(&board, TALKS);
    board.ask(&["run", &right]).failure(3, "no-daemon");
}
