//! Agents that misbehave do not keep the shim from its clock, nor other agents from the shim.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use hedgerow::clock;
use hedgerow::workload::client::{ClientError, Connection};
use hedgerow::workload::handle::{ANSWER_WAIT, Handle};
use hedgerow::workload::process::Runtime;
use hedgerow::workload::wire::{Cause, Reply, Request};

use crate::support::*;

fn raw(handle: &Handle) -> UnixStream {
    let stream = UnixStream::connect(handle.files().socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn tell(stream: &mut UnixStream, json: &str) {
    stream.write_all(&(json.len() as u32).to_le_bytes()).unwrap();
    stream.write_all(json.as_bytes()).unwrap();
}

fn hear(stream: &mut UnixStream) -> String {
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut body = vec![0; u32::from_le_bytes(length) as usize];
    stream.read_exact(&mut body).unwrap();
    String::from_utf8(body).unwrap()
}

fn hung_up(stream: &mut UnixStream) -> bool {
    // Reset, if the shim left without reading everything.
    matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_))
}

#[test]
fn who_does_not_greet_or_cannot_be_understood_is_told_and_shown_out() {
    let board = Board::new();
    let mut handle = board.start("exec sleep 1000");

    let mut rude = raw(&handle);
    tell(&mut rude, r#"{"id":4,"request":{"do":"kill"}}"#);
    assert_eq!(
        hear(&mut rude),
        r#"{"reply":{"id":4,"reply":{"is":"refused","why":"hello_first"}}}"#
    );
    assert!(hung_up(&mut rude));

    let mut ancient = raw(&handle);
    tell(&mut ancient, r#"{"id":1,"request":{"do":"hello","version":0}}"#);
    assert!(hear(&mut ancient).contains(r#""why":"version","oldest":1,"newest":1"#));
    assert!(hung_up(&mut ancient));

    let mut bomb = raw(&handle);
    bomb.write_all(&u32::MAX.to_le_bytes()).unwrap();
    assert!(hear(&mut bomb).contains("malformed"));
    assert!(hung_up(&mut bomb));

    let mut newer = raw(&handle);
    tell(&mut newer, r#"{"id":1,"request":{"do":"hello","version":9}}"#);
    assert_eq!(hear(&mut newer), r#"{"reply":{"id":1,"reply":{"is":"welcome","version":1}}}"#);
    tell(&mut newer, r#"{"id":2,"request":{"do":"levitate"}}"#);
    assert!(
        hear(&mut newer)
            .starts_with(r#"{"reply":{"id":2,"reply":{"is":"refused","why":"malformed""#)
    );
    tell(&mut newer, r#"{"id":3,"request":{"do":"status"}}"#);
    assert!(hear(&mut newer).contains(r#""phase":"running""#), "still spoken to");

    assert!(handle.status().is_ok());
}

#[test]
fn the_ninth_agent_is_shut_out() {
    let board = Board::new();
    let handle = board.start("exec sleep 1000");
    let others: Vec<Connection> =
        (0..7).map(|_| Connection::open(handle.files(), ANSWER_WAIT).unwrap()).collect();
    let ninth = Connection::open(handle.files(), ANSWER_WAIT);
    assert!(matches!(ninth, Err(ClientError::HungUp { .. })), "{ninth:?}");
    drop(others);
}

#[test]
fn an_agent_that_does_not_read_is_dropped_and_delays_nothing() {
    let board = Board::new();
    let until = clock::now_ns() + 2_000 * MS;
    let mut handle = board.runtime.start(&board.instance("exec sleep 1000"), until).unwrap();
    let mut deaf = Connection::open(handle.files(), ANSWER_WAIT).unwrap();
    // Until its answers fill the socket and the shim's buffer.
    let dropped = (0..20_000).any(|_| match deaf.send(Request::Status) {
        Ok(_) => false,
        Err(ClientError::Full { .. }) => {
            clock_reaches(clock::now_ns() + MS);
            false
        }
        Err(_) => true,
    });
    assert!(dropped, "it was served for ever");
    let exit = handle.wait_exit(PATIENCE).unwrap().unwrap();
    assert_eq!((exit.cause, exit.bound_broken_ns), (Cause::Fenced, None));
    assert!(exit.at_ns < until);
}

#[test]
fn replies_bear_the_id_of_their_call() {
    let board = Board::new();
    let mut handle = board.start("exec sleep 1000");
    let connection = handle.connection();
    let first = connection.send(Request::Status).unwrap();
    let second = connection.send(Request::Extend { until: 1 }).unwrap();
    assert_ne!(first, second);
    assert!(matches!(connection.call(Request::Thaw, PATIENCE).unwrap(), Reply::Ok));
    assert_eq!(connection.version(), 1);
}
