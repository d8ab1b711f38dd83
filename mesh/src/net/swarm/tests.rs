//! Two or more real swarms on the loopback interface. Every wait is for an event and is bounded.

use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::*;

const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
const TCP: &str = "/ip4/127.0.0.1/tcp/0";
const PATIENCE: Duration = Duration::from_secs(20);

struct Node {
    id: NodeId,
    swarm: Swarm,
    events: mpsc::Receiver<SwarmEvent>,
}

fn config(seed: u8, listen: &str) -> SwarmConfig {
    SwarmConfig {
        identity: Keypair::from_seed(&[seed; 32]),
        listen: vec![listen.into()],
        mdns: false,
        agent: "test/1".into(),
    }
}

impl Node {
    async fn new(seed: u8, listen: &str) -> Self {
        Self::with_hello_timeout(seed, listen, HELLO_TIMEOUT).await
    }

    async fn with_hello_timeout(seed: u8, listen: &str, hello_timeout: Duration) -> Self {
        let config = config(seed, listen);
        let id = config.identity.public();
        let (swarm, events) = start_with(config, hello_timeout).await.unwrap();
        Self { id, swarm, events }
    }

    fn dial(&self, other: &Node) {
        assert!(self.swarm.dial(other.id, other.swarm.listen_addresses()));
    }

    /// The next event that `pick` wants; the others are dropped.
    async fn wait<T>(&mut self, pick: impl Fn(SwarmEvent) -> Option<T>) -> T {
        let search = async {
            loop {
                let event = self.events.recv().await.expect("the swarm lives");
                if let Some(found) = pick(event) {
                    return found;
                }
            }
        };
        timeout(PATIENCE, search).await.expect("the event comes in time")
    }

    async fn connected(&mut self) -> NodeId {
        self.wait(|event| match event {
            SwarmEvent::Connected { peer, .. } => Some(peer),
            _ => None,
        })
        .await
    }

    async fn disconnected(&mut self) -> String {
        self.wait(|event| match event {
            SwarmEvent::Disconnected { reason, .. } => Some(reason),
            _ => None,
        })
        .await
    }

    async fn hello(&mut self) -> Vec<u8> {
        self.wait(|event| match event {
            SwarmEvent::Hello { frame, .. } => Some(frame),
            SwarmEvent::Control { .. } => panic!("a control frame came through the gate"),
            _ => None,
        })
        .await
    }

    async fn control(&mut self) -> Vec<u8> {
        self.wait(|event| match event {
            SwarmEvent::Control { frame, .. } => Some(frame),
            _ => None,
        })
        .await
    }

    async fn bulk(&mut self) -> BulkStream {
        self.wait(|event| match event {
            SwarmEvent::Bulk { stream, .. } => Some(stream),
            _ => None,
        })
        .await
    }
}

/// Two connected nodes that have not admitted each other.
async fn strangers(listen: &str) -> (Node, Node) {
    let (mut a, mut b) = (Node::new(1, listen).await, Node::new(2, listen).await);
    a.dial(&b);
    assert_eq!(a.connected().await, b.id);
    assert_eq!(b.connected().await, a.id);
    (a, b)
}

/// Two nodes that have admitted each other.
async fn members(listen: &str) -> (Node, Node) {
    let (a, b) = strangers(listen).await;
    assert!(a.swarm.admit(b.id) && b.swarm.admit(a.id));
    (a, b)
}

async fn until(mut condition: impl FnMut() -> bool) {
    let spin = async {
        while !condition() {
            yield_now().await;
        }
    };
    timeout(PATIENCE, spin).await.expect("the condition holds in time");
}

async fn greet(listen: &str) {
    let (mut a, mut b) = strangers(listen).await;
    assert!(a.swarm.send_hello(b.id, b"from a".to_vec()));
    assert!(b.swarm.send_hello(a.id, b"from b".to_vec()));
    assert_eq!(b.hello().await, b"from a");
    assert_eq!(a.hello().await, b"from b");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_say_hello_over_quic() {
    greet(QUIC).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_say_hello_over_tcp() {
    greet(TCP).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fifth_hello_and_a_long_hello_are_not_taken() {
    let (a, b) = strangers(QUIC).await;
    assert!(!a.swarm.send_hello(b.id, vec![0; HELLO_BYTES_MAX + 1]));
    for _ in 0..HELLO_FRAMES_MAX {
        assert!(a.swarm.send_hello(b.id, vec![0; HELLO_BYTES_MAX]));
    }
    assert!(!a.swarm.send_hello(b.id, vec![0]));
}

async fn send_before_admission(listen: &str) {
    let (mut a, mut b) = strangers(listen).await;
    a.swarm.admit(b.id);
    for number in 0..3 {
        assert!(a.swarm.send_control(b.id, vec![number]));
    }
    let b_at_a = a.swarm.hub.peer(&b.id).expect("connected");
    until(|| b_at_a.unwritten() == 0).await;
    // Two round trips after the frames have left: `hello` panics should one be delivered.
    for _ in 0..2 {
        a.swarm.send_hello(b.id, b"ping".to_vec());
        assert_eq!(b.hello().await, b"ping");
        b.swarm.send_hello(a.id, b"pong".to_vec());
        assert_eq!(a.hello().await, b"pong");
    }
    // The substream was parked, not refused: nothing is lost.
    b.swarm.admit(a.id);
    for number in 0..3 {
        assert_eq!(b.control().await, [number]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn control_frames_wait_for_admission_over_quic() {
    send_before_admission(QUIC).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn control_frames_wait_for_admission_over_tcp() {
    send_before_admission(TCP).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_to_a_stranger_is_dropped_and_counted() {
    let (mut a, b) = strangers(QUIC).await;
    assert!(!a.swarm.send_control(b.id, vec![1]));
    assert!(!a.swarm.send_control(b.id, vec![2]));
    let mut counted = 0;
    while counted < 2 {
        counted += a
            .wait(|event| match event {
                SwarmEvent::Dropped { frames, .. } => Some(frames),
                _ => None,
            })
            .await;
    }
    assert_eq!(counted, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_refused_a_bulk_stream() {
    let (a, b) = strangers(TCP).await;
    assert_eq!(a.swarm.open_bulk(b.id).await.unwrap_err(), BulkError::NotAdmitted);
    a.swarm.admit(b.id);
    let error = a.swarm.open_bulk(b.id).await.unwrap_err();
    assert!(matches!(error, BulkError::Refused(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_wait_in_the_queue_until_written_and_move_to_the_next_carrier() {
    let id = Keypair::from_seed(&[1; 32]).public();
    let [first, second] = [7, 3].map(libp2p::swarm::ConnectionId::new_unchecked);
    let hub = Hub::default();
    let peer = hub.attach(id, first);
    hub.attach(id, second);
    peer.admit();
    assert!(peer.push(Lane::Control, vec![1]) && peer.push(Lane::Control, vec![2]));

    let mut bytes = Vec::new();
    assert_eq!(peer.peek(Lane::Control, second, &mut bytes), 0);
    assert_eq!(peer.peek(Lane::Control, first, &mut bytes), 2);
    peer.written(Lane::Control, first, 1);
    assert!(hub.detach(&peer, first).was_carrier);
    bytes.clear();
    assert_eq!(peer.peek(Lane::Control, second, &mut bytes), 1);
    assert_eq!(bytes, [1, 0, 0, 0, 2]);

    assert!(hub.detach(&peer, second).remaining.is_empty());
    assert!(hub.peer(&id).is_none() && peer.unwritten() == 0);
}

async fn send_many(listen: &str) {
    const FRAMES: u32 = 10_000;
    let (a, mut b) = members(listen).await;
    let (swarm, to) = (a.swarm.clone(), b.id);
    let sender = tokio::spawn(async move {
        for number in 0..FRAMES {
            while !swarm.send_control(to, number.to_le_bytes().to_vec()) {
                yield_now().await;
            }
        }
    });
    for number in 0..FRAMES {
        assert_eq!(b.control().await, number.to_le_bytes());
    }
    sender.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_frames_arrive_in_order_over_quic() {
    send_many(QUIC).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_frames_arrive_in_order_over_tcp() {
    send_many(TCP).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_frame_arrives_and_a_longer_one_is_not_taken() {
    let (a, mut b) = members(QUIC).await;
    assert!(!a.swarm.send_control(b.id, vec![0; FRAME_BYTES_MAX + 1]));
    assert!(a.swarm.send_control(b.id, vec![7; FRAME_BYTES_MAX]));
    assert_eq!(b.control().await, vec![7; FRAME_BYTES_MAX]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_drops_the_newest_frame() {
    let (a, mut b) = members(TCP).await;
    // B takes no events, so that everything between the two fills up in the end.
    let mut taken = 0u32;
    let frame = |number: u32| [&number.to_le_bytes()[..], &[0; 64 * 1024]].concat();
    while a.swarm.send_control(b.id, frame(taken)) {
        taken += 1;
    }
    for number in 0..taken {
        assert_eq!(b.control().await[..4], number.to_le_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversize_frame_ends_the_connection() {
    let (a, mut b) = members(QUIC).await;
    let peer = a.swarm.hub.peer(&b.id).expect("connected");
    peer.push_unchecked(vec![0; FRAME_BYTES_MAX + 1]);
    let what = b
        .wait(|event| match event {
            SwarmEvent::Misbehaved { peer, what } if peer == a.id => Some(what),
            _ => None,
        })
        .await;
    assert!(what.contains("262145 bytes announced"), "{what}");
    assert!(b.disconnected().await.starts_with("misbehaved"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_admitted_in_time_is_disconnected() {
    let mut a = Node::with_hello_timeout(1, TCP, Duration::from_millis(50)).await;
    let mut b = Node::new(2, TCP).await;
    b.dial(&a);
    a.connected().await;
    assert_eq!(a.disconnected().await, "not admitted within 50ms");
    b.disconnected().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_admitted_in_time_stays() {
    let mut a = Node::with_hello_timeout(1, QUIC, Duration::from_millis(300)).await;
    let mut b = Node::with_hello_timeout(2, QUIC, Duration::from_millis(300)).await;
    b.dial(&a);
    b.connected().await;
    a.connected().await;
    assert!(a.swarm.admit(b.id) && b.swarm.admit(a.id));
    let early = timeout(Duration::from_millis(600), a.disconnected()).await;
    assert!(early.is_err(), "disconnected: {early:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_takes_the_place_of_the_oldest_stranger() {
    let mut server = Node::new(200, TCP).await;
    let mut strangers = Vec::new();
    for seed in 0..UNADMITTED_MAX as u8 {
        let mut stranger = Node::new(seed, TCP).await;
        stranger.dial(&server);
        stranger.connected().await;
        assert_eq!(server.connected().await, stranger.id);
        strangers.push(stranger);
    }
    let mut newcomer = Node::new(100, TCP).await;
    newcomer.dial(&server);
    newcomer.connected().await;
    let gone = server
        .wait(|event| match event {
            SwarmEvent::Disconnected { peer, .. } => Some(peer),
            _ => None,
        })
        .await;
    assert_eq!(gone, strangers[0].id);
}

async fn dial_a_stranger_by_the_wrong_name(listen: &str) {
    let (mut a, b) = (Node::new(1, listen).await, Node::new(2, listen).await);
    let somebody_else = Keypair::from_seed(&[9; 32]).public();
    assert!(a.swarm.dial(somebody_else, b.swarm.listen_addresses()));
    let failed = a
        .wait(|event| match event {
            SwarmEvent::DialFailed { peer, .. } => Some(peer),
            SwarmEvent::Connected { peer, .. } => panic!("connected to {peer}"),
            _ => None,
        })
        .await;
    assert_eq!(failed, somebody_else);
    let (found, at) = a
        .wait(|event| match event {
            SwarmEvent::Discovered { peer, address } => Some((peer, address)),
            _ => None,
        })
        .await;
    assert_eq!(found, b.id, "who it is that answers there");
    assert!(b.swarm.listen_addresses().contains(&at), "{at}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dial_that_meets_another_key_fails() {
    dial_a_stranger_by_the_wrong_name(QUIC).await;
    dial_a_stranger_by_the_wrong_name(TCP).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dial_without_a_usable_address_fails() {
    let mut a = Node::new(1, QUIC).await;
    let peer = Keypair::from_seed(&[9; 32]).public();
    for addresses in [vec![], vec!["nonsense".to_owned()], vec!["/ip4/127.0.0.1/tcp/1".to_owned()]]
    {
        assert!(a.swarm.dial(peer, addresses));
        a.wait(|event| matches!(event, SwarmEvent::DialFailed { .. }).then_some(())).await;
    }
}

async fn refuse_politely(listen: &str) {
    for _ in 0..10 {
        let (a, mut b) = strangers(listen).await;
        assert!(a.swarm.send_hello(b.id, b"no room".to_vec()));
        assert!(a.swarm.disconnect(b.id));
        assert!(!a.swarm.send_hello(b.id, b"too late".to_vec()));
        assert_eq!(b.hello().await, b"no room");
        b.disconnected().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disconnect_delivers_the_last_hello_over_quic() {
    refuse_politely(QUIC).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disconnect_delivers_the_last_hello_over_tcp() {
    refuse_politely(TCP).await;
}

async fn dial_at_once(listen: &str) {
    let (mut a, mut b) = (Node::new(1, listen).await, Node::new(2, listen).await);
    a.dial(&b);
    b.dial(&a);
    a.connected().await;
    b.connected().await;
    assert!(a.swarm.admit(b.id) && b.swarm.admit(a.id));
    assert!(a.swarm.send_control(b.id, b"to b".to_vec()));
    assert!(b.swarm.send_control(a.id, b"to a".to_vec()));
    let (to_a, to_b) = (once(&mut a, |event| matches!(event, SwarmEvent::Control { .. })), async {
        once(&mut b, |event| matches!(event, SwarmEvent::Control { .. })).await
    });
    tokio::join!(to_a, to_b);
    a.swarm.disconnect(b.id);
    once(&mut a, |event| matches!(event, SwarmEvent::Disconnected { .. })).await;
    once(&mut b, |event| matches!(event, SwarmEvent::Disconnected { .. })).await;
}

/// Waits for an event; a second `Connected` on the way is a fault.
async fn once(node: &mut Node, wanted: impl Fn(&SwarmEvent) -> bool) {
    node.wait(|event| {
        assert!(!matches!(event, SwarmEvent::Connected { .. }), "connected twice");
        wanted(&event).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dialling_each_other_at_once_connects_once() {
    for _ in 0..5 {
        dial_at_once(QUIC).await;
        dial_at_once(TCP).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_megabyte_comes_back_over_a_bulk_stream() {
    for listen in [QUIC, TCP] {
        let (a, mut b) = members(listen).await;
        let sent: Vec<u8> = (0..1024 * 1024u32).map(|index| (index % 251) as u8).collect();
        let opened = a.swarm.open_bulk(b.id);
        let (opened, accepted) = tokio::join!(opened, b.bulk());
        let echo = tokio::spawn(async move {
            let (reader, mut writer) = accepted.split();
            futures::io::copy(reader, &mut writer).await.unwrap();
            writer.close().await.unwrap();
        });
        let (mut reader, mut writer) = opened.unwrap().split();
        let mut received = Vec::new();
        let write = async {
            writer.write_all(&sent).await.unwrap();
            writer.close().await.unwrap();
        };
        let both = async { tokio::join!(write, reader.read_to_end(&mut received)).1.unwrap() };
        timeout(PATIENCE, both).await.expect("a megabyte in time");
        assert!(received == sent, "{} bytes came back", received.len());
        echo.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_third_bulk_stream_is_reset_until_one_closes() {
    let (a, mut b) = members(QUIC).await;
    let mut held = Vec::new();
    for _ in 0..BULK_INBOUND_MAX {
        let (opened, accepted) = tokio::join!(a.swarm.open_bulk(b.id), b.bulk());
        held.push((opened.unwrap(), accepted));
    }
    let mut third = a.swarm.open_bulk(b.id).await.unwrap();
    let end = timeout(PATIENCE, third.read(&mut [0; 8])).await.expect("an end in time");
    assert!(!matches!(end, Ok(1..)), "the third stream is alive");
    held.clear();
    let (opened, _accepted) = tokio::join!(a.swarm.open_bulk(b.id), b.bulk());
    opened.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_swarm_is_disconnected_on_the_other_side() {
    for listen in [QUIC, TCP] {
        let (a, mut b) = members(listen).await;
        drop(a);
        b.disconnected().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_delivers_what_was_queued() {
    for listen in [QUIC, TCP] {
        let (a, mut b) = members(listen).await;
        assert!(a.swarm.send_control(b.id, b"last words".to_vec()));
        let Node { swarm, events: _events, .. } = a;
        timeout(Duration::from_secs(5), swarm.shutdown()).await.expect("a shutdown in time");
        assert_eq!(b.control().await, b"last words");
        b.disconnected().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named() {
    for listen in [QUIC, TCP] {
        let first = Node::new(1, listen).await;
        let taken = first.swarm.listen_addresses().remove(0);
        match start(config(2, &taken)).await {
            Err(SwarmError::PortInUse { address }) => assert_eq!(address, taken),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("two swarms share {taken}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_none_is_named() {
    for address in ["nonsense", "/ip4/127.0.0.1", "/unix/tmp"] {
        match start(config(1, address)).await {
            Err(SwarmError::Address { address: named, .. }) => assert_eq!(named, address),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("listening on {address}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_the_last_event() {
    for spawned in [false, true] {
        let mut a = Node::new(1, QUIC).await;
        a.swarm.commands.try_send(Command::Panic { spawned }).expect("room");
        let reason = a
            .wait(|event| match event {
                SwarmEvent::Failed { reason } => Some(reason),
                _ => None,
            })
            .await;
        assert_eq!(reason, "planted");
        assert!(a.events.recv().await.is_none());
    }
}
