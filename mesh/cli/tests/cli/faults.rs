//! Each fault has its own sentence and its own exit code.

use std::fs;
use std::net::TcpListener;

use crate::board::{Board, Place, finish, fits, hedgerow, until};

#[test]
fn each_kind_of_mis_paste_is_told_as_such() {
    let founder = Board::founder();
    let ticket = founder.ticket();
    let guest = Board::new();
    let foreign = guest.ask(&["join", "https://example.org/join"]).failure(5, "not-a-ticket");
    assert!(foreign.contains("does not begin with `hedge1`"), "{foreign}");
    let cut = guest.ask(&["join", &ticket[..ticket.len() - 9]]).failure(5, "ticket-damaged");
    assert!(cut.contains("not copied whole"), "{cut}");
    let newer = guest.ask(&["join", "hedge2abc"]).failure(5, "ticket-newer");
    assert!(newer.contains("update this board"), "{newer}");
    let empty = finish(guest.command(&["join", "-", "-o", "json"]), "");
    empty.failure(5, "not-a-ticket");
    assert!(!guest.home.exists(), "nothing was made for a ticket that is none");

    // Line breaks of a mail program do no harm.
    let broken: Vec<&str> =
        ticket.as_bytes().chunks(60).map(|c| str::from_utf8(c).unwrap()).collect();
    guest.joins(&broken.join("\r\n  "));
    // Nor does what `ticket new` says about it.
    Board::new().joins(&format!("A ticket for the mesh home.\n\nhedgerow join {ticket}\n"));
}

#[test]
fn without_a_daemon_every_command_that_needs_one_says_so() {
    let board = Board::new();
    for words in [&["status"][..], &["nodes"], &["why", "x"], &["events"], &["leave"]] {
        let message = board.ask(words).failure(3, "no-daemon");
        assert!(message.contains("hedgerow join TICKET"), "what to do: {message}");
    }
    assert!(board.ask(&["version"]).json()["daemon"].is_null());
    board.ask(&["ticket", "new"]).failure(7, "no-key");
    assert!(!board.home.exists(), "asking makes nothing");
    let text = board.text(&["status"]);
    assert_eq!((text.code, text.out.as_str()), (Some(3), ""));
    fits(&text.err);
    board.json(&["init", "home"]);
    let message = board.ask(&["status"]).failure(3, "no-daemon");
    assert!(message.contains("start it: hedgerow") && message.contains(" up"), "{message}");
}

#[test]
fn a_broken_configuration_is_told_with_file_line_and_column() {
    let board = Board::new();
    board.json(&["init", "home"]);
    let file = board.home.join("hedgerow.toml");
    for (text, told) in [
        ("mdns = true\nnmae = \"x\"\n", ":2:1: unknown field `nmae`"),
        ("listen = [\n  7]\n", ":2:3: invalid type: integer `7`, expected a string in `listen"),
        ("name = \"a b\"\n", ":1:8: ' ' cannot be part of a name"),
        ("name = \"a\n", ":1:"),
    ] {
        fs::write(&file, text).unwrap();
        let message = finish(board.up_command("x"), "").failure(6, "config");
        let whole = format!("{}{told}", file.display());
        assert!(message.starts_with(&whole), "{message} / {whole}");
    }
    let mut command = board.up_command("x");
    command.env("HEDGEROW_LOG", "hedgerow=loudly");
    finish(command, "").failure(6, "log-filter");
}

#[test]
fn flags_beat_the_environment_which_beats_the_file() {
    let mut board = Board::new();
    board.json(&["init", "home"]);
    let tcp = "listen = [\"/ip4/127.0.0.1/tcp/0\"]\nmdns = false\n";
    fs::write(board.home.join("hedgerow.toml"), format!("name = \"file\"\n{tcp}")).unwrap();
    for (environment, flag, expected) in [
        (None, None, "file"),
        (Some("environment"), None, "environment"),
        (Some("environment"), Some("flag"), "flag"),
    ] {
        let mut command = board.command(&["up"]);
        command.args(flag.map(|name| ["--name", name]).iter().flatten());
        command.envs(environment.map(|name| ("HEDGEROW_NAME", name)));
        let null = || std::process::Stdio::null();
        let spawned = command.stdin(null()).stdout(null()).stderr(null()).spawn().unwrap();
        board.daemon = Some(spawned);
        crate::board::until("it answers", || board.status().is_some());
        assert_eq!(board.status().unwrap()["name"], expected);
        board.signal(rustix::process::Signal::INT);
        assert_eq!(board.ends(), Some(0));
    }
}

#[test]
fn a_port_in_use_and_a_wrong_address_are_told() {
    let board = Board::new();
    board.json(&["init", "home"]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let address = format!("/ip4/127.0.0.1/tcp/{port}");
    let up = |listen: &str| board.ask(&["up", "--no-mdns", "--listen", listen]);
    let message = up(&address).err;
    assert!(message.contains("the port is in use") && message.contains("--listen"), "{message}");
    assert_eq!(up(&address).code, Some(8));
    assert_eq!(up("127.0.0.1:4711").code, Some(8), "not a multiaddr");
}

#[test]
fn a_data_folder_that_cannot_be_used_is_told() {
    // A file in its place: root could write to any folder, so rights alone would test nothing.
    let place = Place::new();
    let file = place.0.join("file");
    fs::write(&file, "").unwrap();
    for words in [&["init", "home"][..], &["up"]] {
        let mut command = hedgerow();
        command.arg("--home").arg(&file).args(words).args(["-o", "json"]);
        let message = finish(command, "").failure(7, "data-folder");
        assert!(message.contains(file.to_str().unwrap()), "{message}");
    }
    let mut command = hedgerow();
    command.arg("--home").arg(place.0.join("x".repeat(100))).args(["up", "-o", "json"]);
    let message = finish(command, "").failure(7, "path-too-long");
    assert!(message.contains("shorter"), "{message}");
    let no_mesh = Board::new();
    no_mesh.ask(&["up", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0"]).failure(1, "no-mesh");
    // It may have been the wrong folder.
    let left = fs::read_dir(&no_mesh.home).map_or(0, Iterator::count);
    assert_eq!(left, 0, "the start in vain has left something behind");
    no_mesh.json(&["init", "home"]);
}

#[test]
fn a_folder_is_for_one_daemon_and_one_mesh() {
    let board = Board::founder();
    finish(board.up_command("second"), "").failure(7, "locked");
    assert!(board.status().is_some(), "the first one still answers");
    board.ask(&["init", "other"]).failure(7, "locked");

    let other = Board::new();
    other.json(&["init", "other"]);
    let message = other.ask(&["init", "third"]).failure(7, "belongs-already");
    assert!(message.contains("never changes its mesh"), "{message}");
    let foreign = board.ticket();
    other.ask(&["join", &foreign]).failure(5, "other-mesh");
}

#[test]
fn the_command_line_is_checked_before_anything_happens() {
    let board = Board::new();
    for words in [
        &["init", "a b"][..],
        &["ticket", "new", "--expires", "soon"],
        &["up", "--label", "nothing"],
        &["ticket", "revoke"],
        &["demo", "--nodes", "2"],
        &["nonsense"],
    ] {
        assert_eq!(board.text(words).code, Some(2), "{words:?}");
    }
    assert!(!board.home.exists());
}

#[test]
fn a_board_whose_ticket_has_expired_or_was_revoked_is_told_by_whom_and_what_to_do() {
    let founder = Board::founder();
    let expired = founder.json(&["ticket", "new", "--expires", "1s"]);
    let revoked = founder.json(&["ticket", "new"]);
    founder.json(&["ticket", "revoke", revoked["id"].as_str().unwrap()]);
    // A node reads the clock in whole seconds and counts on from there: it may be behind by almost two.
    let late = std::time::Duration::from_secs(expired["expires"].as_u64().unwrap() + 2);
    until("one has expired", || std::time::UNIX_EPOCH.elapsed().unwrap() > late);
    let listed = founder.json(&["ticket", "ls"]);
    assert!(listed.as_array().unwrap().iter().any(|ticket| ticket["state"] == "expired"));
    for (ticket, why) in [(expired, "the ticket has expired"), (revoked, "the ticket was revoked")]
    {
        let mut guest = Board::new();
        guest.joins(ticket["ticket"].as_str().unwrap());
        let mut command = guest.up_command("guest");
        let null = || std::process::Stdio::null();
        command.stdin(null()).stdout(null()).stderr(null());
        guest.daemon = Some(command.spawn().unwrap());
        until("the guest is told why", || {
            guest.status().is_some_and(|status| {
                let said = status["view_why"].as_str().unwrap();
                status["view"] == "joining" && said.contains(why) && said.contains("ticket new")
            })
        });
        let text = guest.text(&["status"]).out;
        assert!(text.contains(why), "{text}");
        fits(&text);
        assert_eq!(founder.json(&["nodes"]).as_array().unwrap().len(), 1, "it got in");
    }
}
