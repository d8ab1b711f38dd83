//! Words under a signature: none is taken for genuine unless its signer made exactly these bytes.

use hedgerow::proto::admission;
use hedgerow::proto::config::Belonging;
use hedgerow::proto::id::{CellId, Incarnation, Keypair, PublicKey};
use hedgerow::proto::members::Members;
use hedgerow::proto::myself::Myself;
use hedgerow::proto::order::{Action, Instance, Order, Serving, SignedOrder};
use hedgerow::proto::record::{Admission, Leave};
use hedgerow::proto::signed::{Signable, Signed};
use hedgerow::proto::ticket::{Credential, Revocation, Revoked};
use hedgerow::proto::wire::codec;
use hedgerow::proto::wire::hello::Hello;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Seed;
use crate::scene::{PEERS, SCENE, UNIX, service};

/// Kinds of signed words; the first byte of an input chooses one.
const KINDS: u8 = 9;

/// A signed word of a peer or an operator.
pub fn records(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    let (root, cell) = (SCENE.root.public(), CellId::default());
    let peer = &SCENE.peers[0];
    match kind % KINDS {
        0 => {
            let Some(order) = read::<SignedOrder>(data) else { return };
            let _name = order.hash();
            if order.verify_fresh(&root, cell, UNIX).is_ok() {
                assert!(SCENE.orders.iter().any(|genuine| genuine.order == order.order));
                assert_eq!(order.credential, SCENE.credential);
            }
        }
        1 => opens(data, &SCENE.record(0, 1), peer),
        2 => opens(data, &leave(), peer),
        3 => opens(data, &admission(), peer),
        4 => opens(data, &serving(), peer),
        5 => {
            if let Some(revocation) = read::<Signed<Revocation>>(data)
                && revocation.by_root(&root).is_some()
            {
                assert_eq!(revocation, self::revocation());
            }
        }
        6 => {
            let Some(credential) = read::<Credential>(data) else { return };
            let genuine = &SCENE.hellos[0].credential;
            if credential.verify_node(&root, &peer.public()).is_ok() {
                assert_eq!(credential, *genuine);
            }
            if credential.verify_operator(&root, &SCENE.operator.public()).is_ok() {
                assert_eq!(credential, SCENE.credential);
            }
        }
        7 => hello(data),
        _ => {
            // What an operator may sign, whatever it says, is judged without a panic.
            let Some(order) = read::<Order>(data) else { return };
            let key = &SCENE.operator;
            let Ok(signed) = SignedOrder::seal(&order, key, SCENE.credential.clone()) else {
                return;
            };
            if let Ok(told) = signed.verify_fresh(&root, cell, UNIX) {
                assert_eq!((told.operator, told.mesh), (key.public(), SCENE.mesh()));
                if let Action::Run(spec) = &told.action {
                    let state = spec.state.as_ref().map_or("x", |state| state);
                    assert!(!state.starts_with('/') && state.split('/').all(|part| part != ".."));
                    assert!(!spec.name.contains('/') && !spec.name.starts_with('.'));
                }
            }
        }
    }
}

fn read<T: DeserializeOwned>(data: &[u8]) -> Option<T> {
    codec::decode(data).ok()
}

/// Whatever opens with the signer's key is what the signer signed.
fn opens<T: Signable>(data: &[u8], genuine: &Signed<T>, signer: &Keypair) {
    let Some(signed) = read::<Signed<T>>(data) else { return };
    let _before_it_is_judged = signed.peek();
    if signed.open(&signer.public()).is_ok() {
        assert_eq!(signed.digest(), genuine.digest(), "forged");
    }
    assert!(signed.open(&SCENE.me.public()).is_err(), "by another key");
}

/// A hello that lets a board in is that board's own, and its credential is root's.
fn hello(data: &[u8]) {
    let Some(hello) = read::<Hello>(data) else { return };
    let id = SCENE.me.public();
    let belonging = Belonging::by_ticket(&SCENE.founding, &id);
    let me = Myself::new(SCENE.config(), belonging, None, Incarnation(0));
    let peer = SCENE.peer(0);
    if let Ok(accepted) = admission::judge(hello, &peer, &me, &Members::default(), UNIX) {
        assert_eq!(accepted.record.node, peer);
        assert_eq!(accepted.joined.record, SCENE.hellos[0].record, "a forged record");
        assert_eq!(accepted.joined.credential, SCENE.hellos[0].credential, "a forged credential");
    }
    let stranger: PublicKey = SCENE.peer(PEERS);
    let Some(hello) = read::<Hello>(data) else { return };
    assert!(admission::judge(hello, &stranger, &me, &Members::default(), UNIX).is_err());
}

fn sealed<T: Signable>(value: &T, key: &Keypair) -> Signed<T> {
    Signed::seal(value, key).expect("a small value")
}

fn leave() -> Signed<Leave> {
    sealed(&Leave { node: SCENE.peer(0), incarnation: Incarnation(1) }, &SCENE.peers[0])
}

fn admission() -> Signed<Admission> {
    let ticket = SCENE.member.id();
    let word = Admission { node: SCENE.peer(1), ticket, by: SCENE.peer(0), at: UNIX };
    sealed(&word, &SCENE.peers[0])
}

fn serving() -> Signed<Serving> {
    let word = Serving {
        instance: Instance { service: service(0), ordinal: 0 },
        epoch: Default::default(),
        life: Incarnation(1),
        stamp: 5,
        node: SCENE.peer(0),
        runs: true,
        spec: [7; 32],
        why: Default::default(),
        endpoints: Default::default(),
    };
    sealed(&word, &SCENE.peers[0])
}

/// Root's word that the second peer is not welcome any more.
pub(crate) fn revocation() -> Signed<Revocation> {
    let target = Revoked::Node(SCENE.peer(1));
    sealed(&Revocation { mesh: SCENE.mesh(), target, at: UNIX }, &SCENE.root)
}

pub(crate) fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let mut add = |name: &str, kind: u8, body: Vec<u8>| {
        seeds.push((name.to_owned(), [vec![kind], body].concat()));
    };
    add("order-run", 0, write(&SCENE.orders[0]));
    add("order-drain", 0, write(SCENE.orders.last().expect("there are orders")));
    add("record", 1, write(&SCENE.record(0, 1)));
    add("leave", 2, write(&leave()));
    add("admission", 3, write(&admission()));
    add("serving", 4, write(&serving()));
    add("revocation", 5, write(&revocation()));
    add("credential-node", 6, write(&SCENE.hellos[0].credential));
    add("credential-operator", 6, write(&SCENE.credential));
    add("hello", 7, write(&SCENE.hellos[0]));
    add("hello-stranger", 7, write(&SCENE.hellos[PEERS]));
    for (number, order) in SCENE.orders.iter().enumerate() {
        let body: Order = order.order.peek().expect("made here");
        add(&format!("action-{number}"), 8, write(&body));
    }
    seeds
}

fn write<T: Serialize>(value: &T) -> Vec<u8> {
    codec::encode(value).expect("a small value")
}
