//! A board whose clock says 1970: no battery, no network yet. It is let in, takes part, and stays;
//! what it would sign with that date and nobody would believe is refused with a sentence.

use std::fs;

use rustix::process::Signal;

use crate::board::{Board, finish, until};
use crate::machine::{in_1970, libfaketime};

#[test]
fn a_board_in_1970_is_let_in_and_comes_back() {
    let Some(library) = libfaketime() else { return };
    let founder = Board::founder();
    let ticket = founder.json(&["ticket", "new", "--expires", "1h"]);
    let mut guest = Board::new();
    let mut join = guest.command(&["join", "-", "-o", "json"]);
    in_1970(&mut join, &library);
    finish(join, ticket["ticket"].as_str().unwrap()).json();
    let mut up = guest.up_command("guest");
    in_1970(&mut up, &library);
    guest.up_as(up);
    until("both see both up", || {
        [&founder, &guest].iter().all(|b| b.status().is_some_and(|status| status["up"] == 2))
    });
    let log = guest.log();
    assert!(log.contains("1970-01-02T"), "it does live in 1970: {log}");

    // Whatever its clock says after the next start, it is the same board in a later life.
    guest.signal(Signal::TERM);
    assert_eq!(guest.ends(), Some(0));
    guest.up("guest");
    let id = guest.id();
    until("the founder sees it again", || founder.sees(&id) == Some("up".into()));
}

#[test]
fn a_founder_in_1970_makes_no_ticket_that_is_expired_at_birth() {
    let Some(library) = libfaketime() else { return };
    let mut founder = Board::new();
    let mut init = founder.command(&["init", "home", "-o", "json"]);
    in_1970(&mut init, &library);
    finish(init, "").json();
    let mut up = founder.up_command("founder");
    in_1970(&mut up, &library);
    founder.up_as(up);
    let new = |expires: &str| {
        let mut command = founder.command(&["ticket", "new", "--expires", expires, "-o", "json"]);
        in_1970(&mut command, &library);
        finish(command, "")
    };
    let message = new("1h").failure(1, "clock");
    assert!(message.contains("1970") && message.contains("--expires never"), "{message}");
    // One that never expires needs no clock.
    let ticket = new("never").json();
    let mut guest = Board::new();
    guest.joins(ticket["ticket"].as_str().unwrap());
    guest.up("guest");
    until("both see both up", || {
        [&founder, &guest].iter().all(|b| b.status().is_some_and(|status| status["up"] == 2))
    });

    until("a master reigns", || founder.status().unwrap()["master"]["reigns"] == true);
    let file = founder.home.join("service.toml");
    fs::write(&file, "name = \"a\"\ncommand = [\"/bin/true\"]\n").unwrap();
    let mut run = founder.command(&["run", file.to_str().unwrap(), "-o", "json"]);
    in_1970(&mut run, &library);
    let ended = finish(run, "");
    assert!(ended.code != Some(0) && ended.err.contains("clock"), "{ended:?}");
}
