//! The bulk protocol between two boards.

use std::os::unix::fs::FileExt;
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::super::Copies;
use super::super::spool::Packed;
use super::super::words::{Ask, HeldState, Tell, VERSION, Want, WireError, halves};
use super::*;
use crate::net::swarm::{self, BulkStream, Swarm, SwarmConfig, SwarmEvent};
use crate::proto::bounded::{Blob, List};
use crate::proto::id::{Keypair, NodeId};
use crate::proto::io::{Input, NotFetched, Transferred};

const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
const TCP: &str = "/ip4/127.0.0.1/tcp/0";
const PATIENCE: Duration = Duration::from_secs(30);
/// The large file of these tests.
const BYTES: usize = 3 << 20;

struct Board {
    id: NodeId,
    home: Home,
    swarm: Swarm,
    events: mpsc::Receiver<SwarmEvent>,
    copies: Copies,
    outcomes: mpsc::Receiver<Input>,
    queue: Queue,
}

impl Board {
    async fn new(seed: u8, listen: &str) -> Self {
        let config = SwarmConfig {
            identity: Keypair::from_seed(&[seed; 32]),
            listen: vec![listen.into()],
            mdns: false,
            agent: "test/1".into(),
        };
        let id = config.identity.public();
        let (swarm, events) = swarm::start(config).await.unwrap();
        let home = Home::new();
        let (shelves, queue) = stores(&home);
        let (copies, outcomes) = Copies::new(shelves);
        Self { id, home, swarm, events, copies, outcomes, queue }
    }

    async fn event<T>(&mut self, pick: impl Fn(SwarmEvent) -> Option<T>) -> T {
        let search = async {
            loop {
                if let Some(found) = pick(self.events.recv().await.unwrap()) {
                    return found;
                }
            }
        };
        timeout(PATIENCE, search).await.expect("the event comes in time")
    }

    async fn stream(&mut self) -> BulkStream {
        let bulk = |event| match event {
            SwarmEvent::Bulk { stream, .. } => Some(stream),
            _ => None,
        };
        self.event(bulk).await
    }

    async fn outcome(&mut self) -> Input {
        timeout(PATIENCE, self.outcomes.recv()).await.expect("an outcome in time").unwrap()
    }

    /// How the last fetch ended.
    async fn fetched(&mut self) -> Result<Transferred, NotFetched> {
        loop {
            match self.outcome().await {
                Input::Fetched { result, .. } => return result,
                Input::Garbled { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Changes eight bytes in the middle of the large file, and captures that.
    async fn capture(&mut self, seq: u64) {
        if seq == 1 {
            begin(&self.queue, &self.home.service(), 1, ANEW).await;
            fs::write(self.home.state().join("db"), noise(1, BYTES)).unwrap();
        }
        let db = fs::File::options().write(true).open(self.home.state().join("db")).unwrap();
        db.write_all_at(&seq.to_le_bytes(), BYTES as u64 / 2).unwrap();
        captured(&self.queue, &self.home.service(), id(1, seq)).await.unwrap();
    }
}

/// A board that has a state, and one that may fetch it.
async fn pair(listen: &str) -> (Board, Board) {
    let (mut a, mut b) = (Board::new(1, listen).await, Board::new(2, listen).await);
    assert!(a.swarm.dial(b.id, b.swarm.listen_addresses()));
    let connected = |event| matches!(event, SwarmEvent::Connected { .. }).then_some(());
    a.event(connected).await;
    b.event(connected).await;
    assert!(a.swarm.admit(b.id) && b.swarm.admit(a.id));
    a.capture(1).await;
    a.copies.serve(shop(), List::capped([b.id]));
    (a, b)
}

/// Fetches, with `a` answering whatever streams are opened; returns how many were.
async fn fetch(a: &mut Board, b: &mut Board, seq: u64) -> (Result<Transferred, NotFetched>, u32) {
    b.copies.fetch(&b.swarm, shop(), id(1, seq), a.id);
    let mut streams = 0;
    let serve = async {
        loop {
            if let Some(SwarmEvent::Bulk { peer, stream }) = a.events.recv().await {
                a.copies.on_stream(peer, stream);
                streams += 1;
            }
        }
    };
    let result = tokio::select! {
        never = serve => never,
        result = b.fetched() => result,
    };
    (result, streams)
}

/// What a receiver asks for that has nothing.
fn want(seq: u64) -> Want {
    Want { version: VERSION, instance: shop(), id: id(1, seq), held: List::new() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_arrives_in_full_and_the_next_one_as_what_changed_on_the_same_stream() {
    for listen in [QUIC, TCP] {
        let (mut a, mut b) = pair(listen).await;
        let (first, streams) = fetch(&mut a, &mut b, 1).await;
        let first = first.unwrap();
        assert!(first.full && first.wire_bytes > BYTES as u64, "{first:?}");
        assert_eq!((first.state_bytes, streams), (BYTES as u64, 1));
        for seq in 2..=4 {
            a.capture(seq).await;
            let (next, streams) = fetch(&mut a, &mut b, seq).await;
            let next = next.unwrap();
            assert!(!next.full && next.wire_bytes < 8192, "{next:?}");
            assert_eq!(streams, 0, "the stream is used again");
        }
        assert_eq!(complete(&b.queue).await.last(), Some(&id(1, 4)));
        begin(&b.queue, &b.home.service(), 2, Begin::From(id(1, 4))).await;
        let db = |board: &Board| fs::read(board.home.state().join("db")).unwrap();
        assert!(db(&a) == db(&b));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_rotted_where_a_service_is_to_begin_with_it_is_told() {
    let (mut a, _b) = pair(QUIC).await;
    rot(&a);
    let service = a.home.service();
    let begun = on(&a.queue, move |shelf| {
        folder::begin(shelf, &service, "state", Epoch(2), Begin::From(id(1, 1)))
    });
    assert!(begun.await.unwrap_err().to_string().contains("rotten"));
    assert!(matches!(a.outcome().await, Input::Spoilt { states, .. } if states[..] == [id(1, 1)]));
    assert_eq!(complete(&a.queue).await, []);
}

/// Flips a bit of the first state.
fn rot(board: &Board) {
    let packs = board.home.0.join("copies/shop.0/states");
    let pack = fs::read_dir(packs).unwrap().next().unwrap().unwrap().path();
    let pack = fs::File::options().read(true).write(true).open(pack).unwrap();
    let (mut byte, at) = ([0], BYTES as u64 / 3);
    pack.read_exact_at(&mut byte, at).unwrap();
    pack.write_all_at(&[byte[0] ^ 4], at).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_rotted_where_it_is_offered_is_told_and_the_next_capture_does_not_rest_on_it() {
    let (mut a, mut b) = pair(QUIC).await;
    rot(&a);
    let (refused, _) = fetch(&mut a, &mut b, 1).await;
    assert!(refused.unwrap_err().why.contains("rotten"));
    match a.outcome().await {
        Input::Spoilt { instance, states } => {
            assert_eq!((instance, &states[..]), (shop(), &[id(1, 1)][..]))
        }
        other => panic!("{other:?}"),
    }
    // What is not there any more is told again whenever it is asked for.
    assert!(fetch(&mut a, &mut b, 1).await.0.is_err());
    assert!(matches!(a.outcome().await, Input::Spoilt { states, .. } if states[..] == [id(1, 1)]));
    a.capture(2).await;
    assert!(fetch(&mut a, &mut b, 2).await.0.unwrap().full);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrived_before_a_stream_broke_is_not_sent_again() {
    let (mut a, mut b) = pair(QUIC).await;
    b.copies.fetch(&b.swarm, shop(), id(1, 1), a.id);
    let (mut hears, mut speaks) = halves(a.stream().await);
    let Some(Ask::Want(asked)) = hears.word(PATIENCE).await.unwrap() else { panic!() };
    assert_eq!(*asked, want(1));
    let packed = on(&a.queue, move |shelf| Packed::of(shelf, &want(1)).unwrap()).await;
    let header = packed.header.bytes();
    let header_bytes = header.len() as u32;
    speaks.word(&Tell::Begin { header_bytes, all: false }).await.unwrap();
    speaks.raw(header).await.unwrap();
    // Two thirds of it, until the receiver says that it has them, and it takes what comes after only when
    // it has put away what came before.
    let part = packed.count() * 2 / 3;
    let send = async {
        for index in 0..part {
            speaks.raw(&packed.segment(index).await.unwrap()).await.unwrap();
        }
        speaks.raw(&packed.segment(part).await.unwrap()[..100]).await.unwrap();
    };
    let end = header.len() as u64 + (0..part).map(|index| packed.len(index)).sum::<u64>();
    let hear = async {
        loop {
            match hears.word(PATIENCE).await.unwrap() {
                Some(Ask::Consumed(total)) if total >= end - (16 << 10) => break,
                Some(Ask::Consumed(_) | Ask::Missing(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    };
    tokio::join!(send, hear);
    drop((hears, speaks));
    let broke = b.fetched().await.unwrap_err();
    assert!(broke.why.contains("the stream broke"), "{broke}");
    assert!(complete(&b.queue).await.is_empty(), "a part is not a state");

    let (again, _) = fetch(&mut a, &mut b, 1).await;
    let again = again.unwrap();
    assert!(again.full && again.wire_bytes < BYTES as u64 / 2, "{again:?}");
    assert_eq!(complete(&b.queue).await, [id(1, 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_fetch_is_refused_and_may_ask_again_on_the_same_stream() {
    let (mut a, mut b) = pair(TCP).await;
    a.copies.serve(shop(), List::new());
    let (refused, streams) = fetch(&mut a, &mut b, 1).await;
    assert!(refused.unwrap_err().why.contains("gives no states"));
    assert_eq!(streams, 1);
    a.copies.serve(shop(), List::capped([b.id]));
    let (unknown, streams) = fetch(&mut a, &mut b, 7).await;
    let unknown = unknown.unwrap_err();
    assert!(unknown.why.contains("no complete state 1.7"), "{unknown}");
    let (fetched, more) = fetch(&mut a, &mut b, 1).await;
    assert!(fetched.is_ok() && streams + more == 0, "{fetched:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_fetch_replaces_one_under_way_which_is_not_answered() {
    let (mut a, mut b) = pair(QUIC).await;
    a.capture(2).await;
    b.copies.fetch(&b.swarm, shop(), id(1, 1), a.id);
    let _never_answered = a.stream().await;
    b.copies.fetch(&b.swarm, shop(), id(1, 2), a.id);
    let stream = a.stream().await;
    a.copies.on_stream(b.id, stream);
    match b.outcome().await {
        Input::Fetched { id: which, result, .. } => {
            assert_eq!((which, result.is_ok()), (id(1, 2), true));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_under_way_is_begun_anew_when_its_board_has_come_back() {
    let (mut a, mut b) = pair(QUIC).await;
    b.copies.fetch(&b.swarm, shop(), id(1, 1), a.id);
    // To a life of the board that has ended: nothing answers.
    let _unanswered = a.stream().await;
    b.copies.on_admitted(&a.id);
    let stream = a.stream().await;
    a.copies.on_stream(b.id, stream);
    b.fetched().await.unwrap();
    assert_eq!(complete(&b.queue).await, [id(1, 1)]);
}

/// Says this to the board that has the state; returns what it makes of it.
async fn said(a: &mut Board, b: &Board, words: Vec<Vec<u8>>) -> Input {
    let (opened, accepted) = tokio::join!(b.swarm.open_bulk(a.id), a.stream());
    a.copies.on_stream(b.id, accepted);
    let mut stream = opened.unwrap();
    for word in words {
        stream.write_all(&word).await.unwrap();
    }
    stream.flush().await.unwrap();
    let outcome = a.outcome().await;
    // And the stream is over, whatever was on its way.
    let mut rest = Vec::new();
    let _end_or_reset = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("an end");
    outcome
}

fn word(ask: &Ask) -> Vec<u8> {
    let body = crate::proto::wire::codec::encode(ask).unwrap();
    [&(body.len() as u32).to_le_bytes()[..], &body].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_breaks_a_rule_is_told_on_and_cut_off() {
    let (mut a, mut b) = pair(QUIC).await;
    let wanted = word(&Ask::Want(Box::new(want(1))));
    let cases = [
        ("announced", vec![vec![0xff; 8]]),
        ("malformed", vec![vec![2, 0, 0, 0, 9, 9]]),
        ("answer to nothing", vec![word(&Ask::Consumed(1))]),
        ("never sent", vec![wanted.clone(), word(&Ask::Consumed(u64::MAX))]),
        ("not a credit", vec![wanted.clone(), word(&Ask::Missing(Blob::default()))]),
        ("not a credit", vec![wanted.clone(), word(&Ask::Consumed(0))]),
    ];
    for (expected, words) in cases {
        match said(&mut a, &b, words).await {
            Input::Garbled { what, .. } => assert!(what.contains(expected), "{what}"),
            other => panic!("{other:?}"),
        }
    }
    // The board itself is as well as before.
    assert!(fetch(&mut a, &mut b, 1).await.0.is_ok());
}

/// Answers `b`'s fetch by hand; returns how that ended.
async fn answered(a: &mut Board, b: &mut Board, tells: Vec<Tell>, raw: &[u8]) -> String {
    b.copies.fetch(&b.swarm, shop(), id(1, 1), a.id);
    let (mut hears, mut speaks) = halves(a.stream().await);
    assert!(matches!(hears.word(PATIENCE).await.unwrap(), Some(Ask::Want(_))));
    for tell in tells {
        speaks.word(&tell).await.unwrap();
    }
    // The other side may have hung up already.
    let _ = speaks.raw(raw).await;
    let error = b.fetched().await.unwrap_err();
    let end = loop {
        match hears.word::<Ask>(PATIENCE).await {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert!(matches!(end, Ok(None) | Err(WireError::Io(_))), "{end:?}");
    error.why
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_breaks_a_rule_changes_nothing() {
    let (mut a, mut b) = pair(TCP).await;
    a.capture(2).await;
    let packed = |seq| move |shelf: &mut Shelf| Packed::of(shelf, &want(seq)).unwrap();
    let (right, other) = (on(&a.queue, packed(1)).await, on(&a.queue, packed(2)).await);
    let begins = |header_bytes: usize, all| Tell::Begin { header_bytes: header_bytes as u32, all };

    let error = answered(&mut a, &mut b, vec![begins(64 << 20, true)], &[]).await;
    assert!(error.contains("a header of"), "{error}");
    let error = answered(&mut a, &mut b, vec![Tell::Wait, begins(40, true)], &[7; 40]).await;
    assert!(error.contains("transfer header"), "{error}");
    let header = other.header.bytes();
    let error = answered(&mut a, &mut b, vec![begins(header.len(), true)], header).await;
    assert!(error.contains("instead"), "{error}");
    let header = right.header.bytes();
    let mut bytes = header.to_vec();
    bytes.extend(vec![7; right.len(0) as usize]);
    let error = answered(&mut a, &mut b, vec![begins(header.len(), true)], &bytes).await;
    assert!(error.contains("its hash is"), "{error}");

    assert!(complete(&b.queue).await.is_empty());
    assert!(fetch(&mut a, &mut b, 1).await.0.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ancestor_is_one_that_both_sides_have_with_the_same_content() {
    let (mut a, _b) = pair(QUIC).await;
    a.capture(2).await;
    let header = |held: Vec<HeldState>| {
        let want = Want { held: List::capped(held), ..want(2) };
        on(&a.queue, move |shelf| Packed::of(shelf, &want).unwrap().header)
    };
    let hash = on(&a.queue, |shelf| shelf.store().unwrap().states("states")[0].hash).await;
    assert_eq!(header(vec![]).await.from, None);
    assert_eq!(header(vec![HeldState { id: id(1, 1), hash: [7; 32] }]).await.from, None);
    assert_eq!(header(vec![HeldState { id: id(1, 1), hash: hash.0 }]).await.from, Some(hash));
}
