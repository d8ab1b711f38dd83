//! What is read from a peer, from the journal, and from what a person pasted.

use hedgerow::proto::bounded::{Blob, List, Text};
use hedgerow::proto::id::{Epoch, Incarnation, Term};
use hedgerow::proto::journal::{self, Durable, MAGIC, Record};
use hedgerow::proto::machine::{Effects, Time};
use hedgerow::proto::node::Node;
use hedgerow::proto::order::Instance;
use hedgerow::proto::table::{CheckpointId, Generation, Row, Table, Version};
use hedgerow::proto::ticket::Ticket;
use hedgerow::proto::wire::authority::{App, AppOk, PreVote, Vote};
use hedgerow::proto::wire::copies::Offer;
use hedgerow::proto::wire::failover::{Claim, Claimed, Renew, Submit};
use hedgerow::proto::wire::gossip::{
    Ask, Entries, Entry, Fact, Facts, Probe, Publication, Standing, Summary,
};
use hedgerow::proto::wire::hello::{Refusal, Refused};
use hedgerow::proto::wire::{self, FRAME_BYTES_MAX, Message, codec};

use crate::Seed;
use crate::bytes::Bytes;
use crate::scene::{SCENE, service};

/// A frame of a peer: what decodes, encodes again and means the same.
pub fn frame(data: &[u8]) {
    let Ok(message) = wire::decode(data) else { return };
    // Over-long numbers are accepted, so the bytes may differ and get fewer, never more.
    let again = wire::encode(&message).expect("what was received can be sent");
    assert!(again.len() <= data.len() && again.len() <= FRAME_BYTES_MAX);
    assert_eq!(wire::decode(&again).as_ref(), Ok(&message));
}

/// A journal, as the disk gives it back; and the same records with their checksums made right.
pub fn journal(data: &[u8]) {
    scan(data);
    let mut file = MAGIC.to_vec();
    let mut rest = Bytes(data);
    rest.take(MAGIC.len());
    while !rest.is_empty() {
        // As `frame` lays it out, with whatever length that leaves.
        let len = u32::from_le_bytes(rest.long().to_le_bytes()[..4].try_into().expect("4 of 8"));
        rest.take(4);
        let body = rest.take(len as usize % 4096);
        rest.take(8);
        let begin = file.len();
        file.extend_from_slice(&(body.len() as u32).to_le_bytes());
        file.extend_from_slice(&0u64.to_le_bytes());
        file.extend_from_slice(body);
        let sum = blake3::hash(&file[begin..]);
        file.extend_from_slice(&sum.as_bytes()[..8]);
    }
    if let Some(durable) = scan(&file) {
        live(durable);
    }
}

fn scan(file: &[u8]) -> Option<Durable> {
    let scan = journal::scan(file).ok()?;
    assert_eq!(scan.len + scan.torn, file.len() as u64, "every byte is readable or torn");
    let whole = &file[..usize::try_from(scan.len).expect("of a slice")];
    let again = journal::scan(whole).expect("what was readable stays readable");
    assert_eq!((again.torn, &again.durable), (0, &scan.durable));
    let snapshot = journal::snapshot(&scan.durable).expect("what was read can be written");
    let compacted = journal::scan(&snapshot).expect("a snapshot is readable").durable;
    // Compacting drops orders that no row names, and nothing the second time.
    assert_eq!(compacted.records(), scan.durable.records());
    Some(scan.durable)
}

/// A node that remembers this comes to life, or says why not.
fn live(durable: Durable) {
    let config = SCENE.config();
    let Ok(mut node) = Node::recover(config, [7; 32], durable, Default::default(), Time(1)) else {
        return;
    };
    let mut out = Effects::default();
    for second in 0..3 {
        node.handle_timeout(Time(second * 1_000_000_000 + 1), &mut out);
        out.drain().for_each(drop);
    }
}

/// A ticket as a person pastes it; and the same content with its checksum made right.
pub fn ticket(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    parse(&text);
    if let Some(coded) = text.trim().to_ascii_uppercase().strip_prefix("HEDGE1")
        && let Ok(bytes) = data_encoding::BASE32_NOPAD.decode(coded.as_bytes())
    {
        parse(&sealed(&bytes[..bytes.len().saturating_sub(4)]));
    }
    parse(&sealed(data));
}

fn parse(text: &str) {
    let Ok(ticket) = Ticket::parse(text) else { return };
    let again = Ticket::parse(&ticket.to_string()).expect("what was parsed prints and parses");
    assert_eq!((again.id(), again.body()), (ticket.id(), ticket.body()));
    let root = SCENE.root.public();
    if ticket.root == root {
        let genuine = [SCENE.founding.id(), SCENE.member.id()];
        assert!(genuine.contains(&ticket.id()), "a ticket that root never signed");
    }
    let credential = ticket.bind_node(&SCENE.peer(0));
    assert!(credential.verify_node(&ticket.root, &SCENE.peer(0)).is_ok());
    assert!(credential.verify_node(&ticket.root, &SCENE.peer(1)).is_err());
}

fn sealed(content: &[u8]) -> String {
    let sum = blake3::hash(content);
    let bytes = [content, &sum.as_bytes()[..4]].concat();
    format!("hedge1{}", data_encoding::BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
}

/// A row of the shop, on the first peer.
pub(crate) fn row() -> Row {
    Row {
        generation: Generation(0),
        service: service(0),
        ordinal: 0,
        epoch: Epoch(3),
        previous: Epoch(2),
        revision: 5,
        active: SCENE.peer(0),
        standby: Some(SCENE.me.public()),
        ready: true,
        able: Some(true),
        fill: Some(SCENE.peer(1)),
        released: false,
        lost: false,
        retiring: false,
        removing: true,
        base: CheckpointId { epoch: Epoch(2), seq: 4 },
        spec: SCENE.orders[0].hash(),
    }
}

/// A table with that row.
pub(crate) fn table() -> Table {
    Table {
        version: Version { generation: Generation(0), term: Term(9), number: 12 },
        voters: List::capped([SCENE.me.public(), SCENE.peer(0), SCENE.peer(1)]),
        rows: vec![row()],
        orders: vec![(1, crate::scene::UNIX + 9)],
        drained: vec![SCENE.peer(2)],
        leaving: vec![SCENE.peer(1)],
        ..Table::default()
    }
}

/// One message of most kinds, as a member would send them.
pub(crate) fn messages() -> Vec<Message> {
    let instance = || Instance { service: service(0), ordinal: 0 };
    let (me, peer) = (SCENE.me.public(), SCENE.peer(1));
    let entry = Entry { node: peer, incarnation: Incarnation(9), standing: Standing::Up };
    let facts = vec![
        Fact::Joined(Box::new(SCENE.joined(1))),
        Fact::Alive(Box::new(SCENE.record(0, 7))),
        Fact::Alert { subject: peer, incarnation: Incarnation(1), by: SCENE.peer(0) },
        Fact::Down { subject: me, incarnation: Incarnation(1) },
    ];
    let last = Version { generation: Generation(0), term: Term(8), number: 11 };
    let at = CheckpointId { epoch: Epoch(3), seq: 1 };
    let (epoch, revision) = (Epoch(3), 5);
    let route = List::capped([SCENE.peer(0), me]);
    vec![
        SCENE.hellos[0].clone().into(),
        Refused { reason: Refusal::Expired, text: Text::capped("no") }.into(),
        Probe { seq: 1, view: 2 }.into(),
        Ask { seq: 3, subject: peer, fresh_ms: 500, route, at: 1 }.into(),
        Facts { facts: List::capped(facts) }.into(),
        Summary { buckets: List::capped([1; 64]), revocations: 2, directory: 3 }.into(),
        Entries { buckets: u64::MAX, entries: List::capped([entry]), rest: true, reply: false }
            .into(),
        Publication {
            from: SCENE.peer(0),
            seq: 1,
            topic: Text::capped("telemetry:a:temp"),
            body: Blob::try_from(b"21".to_vec()).expect("short"),
        }
        .into(),
        PreVote { term: Term(9), last }.into(),
        Vote { term: Term(9), last }.into(),
        App {
            generation: Generation(0),
            term: Term(9),
            sent: 1,
            lease_ms: 1500,
            committed: last,
            table: Some(Box::new(table())),
        }
        .into(),
        AppOk { term: Term(1), sent: 1, durable: last }.into(),
        Submit { seq: 1, order: SCENE.orders[0].clone() }.into(),
        Renew {
            instance: instance(),
            epoch,
            sent: 1,
            acked: 0,
            left_ms: 700,
            life: Incarnation(2),
            lease_ms: 1500,
        }
        .into(),
        Claim {
            instance: instance(),
            epoch,
            revision,
            claim: Claimed::Take { from: CheckpointId::default() },
        }
        .into(),
        Claim {
            instance: instance(),
            epoch,
            revision,
            claim: Claimed::Release { to: me, last: at },
        }
        .into(),
        Offer { instance: instance(), id: at }.into(),
    ]
}

pub(crate) fn frame_seeds() -> Vec<Seed> {
    let seed = |(number, message): (usize, Message)| {
        let frame = wire::encode(&message).expect("a small message");
        (format!("{number:02}-{}", message.name()), frame)
    };
    messages().into_iter().enumerate().map(seed).collect()
}

pub(crate) fn journal_seeds() -> Vec<Seed> {
    let instance = || Instance { service: service(0), ordinal: 0 };
    let records = [
        Record::Identity(SCENE.me.public()),
        Record::Belongs {
            root: SCENE.root.public(),
            credential: SCENE.founding.bind_node(&SCENE.me.public()),
        },
        Record::Incarnations { upto: Incarnation(64) },
        Record::Member(Box::new(SCENE.joined(0))),
        Record::Term { term: Term(3), vote: Some(SCENE.peer(0)), lease_ms: 1500 },
        Record::Table(Box::new(table())),
        Record::Spec(Box::new(SCENE.orders[0].clone())),
        Record::Assigned(Box::new(row())),
        Record::Began(instance(), Epoch(3)),
        Record::Switching { instance: instance(), revision: 5 },
        Record::Saw(Version { generation: Generation(0), term: Term(8), number: 11 }),
        Record::Grants { lease_ms: 1500 },
    ];
    let mut file = MAGIC.to_vec();
    for record in &records {
        let frame = journal::frame(record, file.len() as u64).expect("a small record");
        file.extend_from_slice(&frame);
    }
    let torn = file[..file.len() - 5].to_vec();
    vec![("whole".to_owned(), file), ("torn".to_owned(), torn)]
}

pub(crate) fn ticket_seeds() -> Vec<Seed> {
    let text = SCENE.member.to_string();
    let content = codec::encode(&SCENE.peer(0)).expect("a key");
    vec![
        ("member".to_owned(), text.clone().into_bytes()),
        ("founding".to_owned(), SCENE.founding.to_string().into_bytes()),
        ("wrapped".to_owned(), text.replace('a', "A\n ").into_bytes()),
        ("content".to_owned(), content),
    ]
}
