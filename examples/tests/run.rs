//! The examples do what their first comments say.

#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain has failed")]

use std::process::Command;

fn output(program: &str) -> Vec<String> {
    let output = Command::new(program).output().unwrap();
    let (out, err) = (output.stdout, String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(output.status.success(), "{}\n{err}\n{}", output.status, String::from_utf8_lossy(&out));
    String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn hello_sees_three_boards_and_hears_a_message() {
    assert_eq!(
        output(env!("CARGO_BIN_EXE_hello")),
        ["board-0 sees board-0 Up, board-1 Up, board-2 Up", "board-0 hears from board-2: 21.5 °C",]
    );
}

#[test]
fn failover_goes_on_with_what_was_held() {
    let lines = output(env!("CARGO_BIN_EXE_failover"));
    let [first, held, crashed, second, more] = lines.as_slice() else { panic!("{lines:#?}") };
    let (first, from) = first.split_once(" counts from ").unwrap();
    assert_eq!((from, held.as_str()), ("0", "5 is held by a second board"));
    assert_eq!(*crashed, format!("{first} has crashed"));
    let (second, from) = second.split_once(" counts from ").unwrap();
    assert_ne!(first, second);
    assert!(from.parse::<u64>().unwrap() >= 5, "{lines:#?}");
    assert!(more.ends_with(" is held by a second board"), "{lines:#?}");
}
