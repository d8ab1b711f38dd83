//! The socket as another program meets it, without this binary's client.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use serde_json::Value;

use crate::board::{Board, PATIENCE};

/// One request; gives the status and the body.
fn http(board: &Board, method: &str, path: &str, body: &[u8]) -> (u16, String, String) {
    let mut socket = UnixStream::connect(board.home.join("api.sock")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).unwrap();
    // A body that is refused may not be read to its end.
    let _ = socket.write_all(body);
    let mut answer = String::new();
    let _ = socket.read_to_string(&mut answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_lowercase(), body.to_owned())
}

#[test]
fn errors_are_problems_with_a_code_and_a_sentence() {
    let board = Board::founder();
    let long = format!("/v1/why/{}", "x".repeat(129));
    let long_name = format!("/v1/resolve/{}", "x".repeat(64));
    for (method, path, body, status, code) in [
        ("GET", "/v2/status", &b""[..], 404, "no-such-path"),
        ("POST", "/v1/status", b"", 405, "no-such-method"),
        ("GET", "/v1/why/nobody", b"", 404, "not-found"),
        ("GET", "/v1/why/%2e%2e%2fx%20y", b"", 404, "not-found"),
        ("GET", &long, b"", 400, "object-too-long"),
        ("GET", "/v1/events?follow=perhaps", b"", 400, "bad-query"),
        ("POST", "/v1/revoke", b"rubbish", 400, "not-a-revocation"),
        ("GET", &long_name, b"", 400, "name-too-long"),
        ("GET", "/v1/resolve/nobody", b"", 404, "not-found"),
        ("POST", "/v1/order", &[0; 48 * 1024], 400, "not-an-order"),
        ("POST", "/v1/order", &[0; 48 * 1024 + 1], 413, "too-large"),
        ("POST", "/v1/publish/t", &[0; 16 * 1024 + 1], 413, "too-large"),
    ] {
        let (got, head, text) = http(&board, method, path, body);
        assert_eq!(got, status, "{method} {path}: {text}");
        assert!(head.contains("application/problem+json"), "{head}");
        let problem: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(problem["code"], code);
        assert!(problem["message"].as_str().unwrap().len() > 10);
    }
}

#[test]
fn a_revocation_by_another_root_is_refused() {
    use hedgerow::proto::id::{Keypair, MeshId};
    use hedgerow::proto::signed::Signed;
    use hedgerow::proto::ticket::{Revocation, Revoked};
    use hedgerow::proto::wire::codec;

    let board = Board::founder();
    let other = Keypair::from_seed(&[3; 32]);
    let revocation = Revocation {
        mesh: MeshId::of_root(&other.public()),
        target: Revoked::Node(other.public()),
        at: 1,
    };
    let signed: Signed<Revocation> = Signed::seal(&revocation, &other).unwrap();
    let body = codec::encode(&signed).unwrap();
    let (status, _, text) = http(&board, "POST", "/v1/revoke", &body);
    assert_eq!(status, 403, "{text}");
    let (_, _, revocations) = http(&board, "GET", "/v1/revocations", b"");
    assert_eq!(revocations, "[]");
}

#[test]
fn an_order_that_no_operator_of_this_mesh_signed_is_refused_and_told_why() {
    use hedgerow::proto::bounded::{List, Text};
    use hedgerow::proto::id::{CellId, Keypair, MeshId};
    use hedgerow::proto::order::{Action, Order, SignedOrder};
    use hedgerow::proto::ticket::{Credential, Role, Ticket, TicketRequest};
    use hedgerow::proto::wire::codec;

    let founder = Board::founder();
    crate::board::until("a master reigns", || {
        founder.status().unwrap()["master"]["reigns"] == true
    });
    let own = founder.json(&["ticket", "new"])["ticket"].as_str().unwrap().to_owned();
    let member = Ticket::parse(&own).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let stranger = Keypair::from_seed(&[7; 32]);
    let request = TicketRequest {
        mesh_name: Text::capped("home"),
        role: Role::Operator,
        issued: now,
        expires: 0,
        bootstrap: List::new(),
    };
    let foreign = Ticket::issue(&stranger, request, hedgerow::net::random_seed()).unwrap();
    let order = |nonce: u8, seconds| Order {
        mesh: MeshId::of_root(&member.root),
        cell: CellId::default(),
        operator: stranger.public(),
        nonce: [nonce; 16],
        issued: now,
        expires: now + seconds,
        action: Action::Remove { service: Text::capped("shop"), force: false },
    };
    let key = hedgerow::net::Home::open(&founder.home).unwrap();
    let operator = key.key(hedgerow::net::KeyFile::Operator).unwrap();
    let credential = std::fs::read(founder.home.join("operator.credential")).unwrap();
    let credential: Credential = codec::decode(&credential).unwrap();
    let genuine = |order: Order| Order { operator: operator.public(), ..order };
    let tampered = |order| SignedOrder::seal(&genuine(order), &stranger, credential.clone());
    let late = Order { issued: now - 100, expires: now - 1, ..genuine(order(4, 0)) };
    for (signed, why) in [
        // A board's ticket makes no operator, nor does another mesh's, nor an operator's name alone.
        (
            SignedOrder::seal(&order(1, 100), &stranger, member.bind_operator(&stranger.public())),
            "role",
        ),
        (
            SignedOrder::seal(&order(2, 100), &stranger, foreign.bind_operator(&stranger.public())),
            "mesh",
        ),
        (tampered(order(3, 100)), "forged"),
        (SignedOrder::seal(&late, &operator, credential.clone()), "expired"),
        (SignedOrder::seal(&genuine(order(5, 100_000)), &operator, credential.clone()), "expired"),
    ] {
        let body = codec::encode(&signed.unwrap()).unwrap();
        let (status, _, text) = http(&founder, "POST", "/v1/order", &body);
        let problem: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((status, &problem["code"]), (403, &"refused".into()), "{why}: {text}");
        assert!(problem["message"].as_str().unwrap().contains(why), "{why}: {text}");
    }
}

#[test]
fn a_publication_is_heard_on_the_other_board() {
    let founder = Board::founder();
    let guest = Board::guest(&founder, "guest");
    let (status, _, text) = http(&founder, "POST", "/v1/publish/telemetry%3Ax%3Atemp", b"21");
    assert_eq!((status, text.as_str()), (200, "{\"done\":true}"));
    crate::board::until("it is heard", || {
        let (_, head, events) = http(&guest, "GET", "/v1/events", b"");
        assert!(head.contains("application/x-ndjson"));
        events.lines().any(|line| {
            let event: Value = serde_json::from_str(line).unwrap();
            event["event"] == "topic" && event["topic"] == "telemetry:x:temp"
        })
    });
}

#[test]
fn many_callers_that_say_nothing_do_not_lock_the_others_out() {
    let board = Board::founder();
    let silent: Vec<UnixStream> =
        (0..80).map_while(|_| UnixStream::connect(board.home.join("api.sock")).ok()).collect();
    assert!(silent.len() > 64, "more than may be served at once");
    // They are hung up on after some seconds, and the next one is served.
    let (status, _, _) = http(&board, "GET", "/v1/version", b"");
    assert_eq!(status, 200);
    drop(silent);
}
