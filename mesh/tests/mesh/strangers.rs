//! A node against whoever can reach its port.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use hedgerow::net::Observed;
use hedgerow::proto::id::Keypair;
use hedgerow::proto::io::Event;
use hedgerow::proto::record::Admission;
use hedgerow::proto::signed::Signed;
use hedgerow::proto::ticket::Ticket;
use hedgerow::proto::wire::Message;
use hedgerow::proto::wire::gossip::Probe;
use hedgerow::proto::wire::hello::{Hello, Refusal, Welcome};
use tokio::time::timeout;

use crate::host::{Host, Mesh, until, until_all_up};
use crate::raw::{CONTROL, Dice, HELLO, Line, encoded, framed, hello};

/// Fewer than a node tolerates, so that each stranger is judged for what it says.
const AT_ONCE: usize = 24;
/// A connection that is not admitted is closed after ten seconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// What one stranger does: opens these substreams in turn and writes these bytes to them.
struct Attack {
    what: &'static str,
    key: Keypair,
    writes: Vec<(&'static str, Vec<u8>)>,
}

/// What came of it.
#[derive(Default, Debug)]
struct Outcome {
    hello: Option<Hello>,
    refused: Option<Refusal>,
    let_in: bool,
    closed: bool,
}

/// Attacks until the node hangs up.
async fn attack(attack: &Attack, address: &str) -> Outcome {
    let mut outcome = Outcome::default();
    let Ok(mut line) = Line::dial(&attack.key, address).await else {
        outcome.closed = true;
        return outcome;
    };
    let mut streams = Vec::new();
    for (protocol, bytes) in &attack.writes {
        match line.write(protocol, bytes).await {
            Ok(stream) => streams.push(stream),
            // The node may hang up before everything is said.
            Err(_) => break,
        }
    }
    let heard = async {
        while let Some(message) = line.hear().await {
            match message {
                Message::Hello(hello) => outcome.hello = Some(hello),
                Message::Refused(refused) => outcome.refused = Some(refused.reason),
                _ => outcome.let_in = true,
            }
        }
    };
    outcome.closed = timeout(PATIENCE, heard).await.is_ok();
    outcome
}

/// What a member has noticed since the beginning.
#[derive(Clone, Default)]
struct Watch(Arc<Mutex<BTreeMap<String, usize>>>);

impl Watch {
    fn over(host: &Host) -> Self {
        let watch = Self::default();
        let (counts, mut events) = (watch.0.clone(), host.client().events());
        tokio::spawn(async move {
            while let Some(observed) = events.next().await {
                let what = match observed {
                    Observed::Lagged(_) => "lagged",
                    Observed::Event(stamped) => match stamped.event {
                        Event::Refused { .. } => "refused",
                        Event::Misbehaved { .. } => "misbehaved",
                        Event::Admitted { .. } => "admitted",
                        Event::Suspected { .. } => "suspected",
                        Event::MemberDown { .. } => "down",
                        Event::Isolated { .. } => "isolated",
                        Event::SteppedDown { .. } => "stepped down",
                        Event::Halted { .. } => "halted",
                        _ => "else",
                    },
                };
                *counts.lock().unwrap().entry(what.to_owned()).or_default() += 1;
            }
        });
        watch
    }

    fn count(&self, what: &str) -> usize {
        self.0.lock().unwrap().get(what).copied().unwrap_or_default()
    }

    fn assert_calm(&self) {
        for trouble in ["lagged", "suspected", "down", "isolated", "stepped down", "halted"] {
            assert_eq!(self.count(trouble), 0, "{trouble}: {:?}", self.0.lock().unwrap());
        }
    }
}

/// Two members, and what strangers need to know to attack the first of them.
struct Scene {
    mesh: Mesh,
    target: Host,
    other: Host,
    address: String,
    quic: String,
    good: Ticket,
    foreign: Ticket,
    dice: Dice,
}

impl Scene {
    async fn new() -> Self {
        let mesh = Mesh::new();
        let mut target = Host::new("target");
        let mut settings = target.settings(Some(mesh.ticket(0, &[]).await));
        settings.listen =
            vec!["/ip4/127.0.0.1/udp/0/quic-v1".to_owned(), "/ip4/127.0.0.1/tcp/0".to_owned()];
        target.node = Some(hedgerow::net::Node::start(settings).await.unwrap());
        until("it has started", || async { target.listens().await == 2 }).await;
        let other = mesh.join("other", &target).await;
        until_all_up(&[&target, &other]).await;
        let addresses = target.me().await.addresses;
        let find = |part: &str| addresses.iter().find(|a| a.contains(part)).unwrap().clone();
        let good = mesh.ticket(0, &[]).await;
        let foreign = Mesh::new().ticket(0, &[]).await;
        let (address, quic) = (find("/tcp/"), find("quic"));
        Self { mesh, target, other, address, quic, good, foreign, dice: Dice(7) }
    }

    /// Attacks of one kind: `make` gets dice, the stranger's key and its perfectly good hello.
    fn kind(
        &mut self,
        what: &'static str,
        count: usize,
        mut make: impl FnMut(&mut Dice, &Keypair, Vec<u8>) -> Vec<(&'static str, Vec<u8>)>,
    ) -> Vec<Attack> {
        let one = |_| {
            let key = self.dice.key();
            let valid = encoded(hello(&self.good, &key, &key));
            let writes = make(&mut self.dice, &key, valid);
            Attack { what, key, writes }
        };
        (0..count).map(one).collect()
    }

    fn attacks(&mut self) -> Vec<Attack> {
        let probe = || framed(&encoded(Probe { seq: 1, view: 2 }));
        let victim = self.dice.key();
        let (good, foreign) = (self.good.clone(), self.foreign.clone());
        let stolen = encoded(hello(&good, &victim, &victim));
        // The slow ones first: they are closed after ten seconds, beside the others. So is whoever says
        // something of a kind that this version does not know, as most random frames do.
        let mut all = self.kind("says nothing", 4, |_, _, _| vec![]);
        all.extend(self.kind("announces and goes silent", 4, |_, _, valid| {
            vec![(HELLO, framed(&valid)[..60].to_vec())]
        }));
        all.extend(
            self.kind("control before hello", 8, |_, _, _| vec![(CONTROL, probe().repeat(9))]),
        );
        all.extend(self.kind("random frame", 6, |dice, _, _| {
            let length = dice.below(700);
            vec![(HELLO, framed(&dice.bytes(length)))]
        }));
        all.extend(self.kind("random hello", 74, |dice, _, valid| {
            let noise = dice.bytes(valid.len() - 2);
            vec![(HELLO, framed(&[&valid[..2], &noise].concat()))]
        }));
        all.extend(self.kind("truncated", 40, |dice, _, valid| {
            vec![(HELLO, framed(&valid[..2 + dice.below(valid.len() - 2)]))]
        }));
        all.extend(self.kind("one byte too many", 4, |dice, _, valid| {
            vec![(HELLO, framed(&[valid, dice.bytes(1)].concat()))]
        }));
        all.extend(self.kind("one bit flipped", 80, |dice, _, valid| {
            vec![(HELLO, framed(&dice.flipped(&valid)))]
        }));
        all.extend(self.kind("oversize", 16, |dice, _, _| {
            let length = [8193, 262_145, 0x8000_0000, u32::MAX][dice.below(4)].to_le_bytes();
            vec![(HELLO, [length.to_vec(), dice.bytes(20_000)].concat())]
        }));
        all.extend(self.kind("signed by another key", 16, |dice, key, _| {
            vec![(HELLO, framed(&encoded(hello(&good, key, &dice.key()))))]
        }));
        all.extend(self.kind("another's credential", 8, |dice, key, _| {
            let mut mixed = hello(&good, key, key);
            mixed.credential = good.bind_node(&dice.key().public());
            vec![(HELLO, framed(&encoded(mixed)))]
        }));
        all.extend(self.kind("replayed", 16, |_, _, _| vec![(HELLO, framed(&stolen))]));
        all.extend(self.kind("foreign mesh", 8, |_, key, _| {
            vec![(HELLO, framed(&encoded(hello(&foreign, key, key))))]
        }));
        all.extend(self.kind("foreign ticket, right mesh", 8, |_, key, _| {
            let mut lie = hello(&foreign, key, key);
            lie.mesh = hello(&good, key, key).mesh;
            vec![(HELLO, framed(&encoded(lie)))]
        }));
        // The first is refused; the second is a good one and comes too late.
        all.extend(self.kind("a second hello", 8, |_, key, valid| {
            let bad = framed(&encoded(hello(&foreign, key, key)));
            vec![(HELLO, [bad, framed(&valid)].concat())]
        }));
        all.extend(self.kind("a control frame as hello", 8, |_, _, _| vec![(HELLO, probe())]));
        all
    }

    async fn end(&self) {
        let guest = self.mesh.join("guest", &self.target).await;
        until_all_up(&[&self.target, &self.other, &guest]).await;
        assert_eq!(self.target.status().await.nodes.len(), 3, "nobody else got in");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_strangers_are_turned_away_and_the_mesh_does_not_notice() {
    let began = Instant::now();
    let mut scene = Scene::new().await;
    let attacks = scene.attacks();
    assert!(attacks.len() >= 300, "{}", attacks.len());
    let watches = [Watch::over(&scene.target), Watch::over(&scene.other)];
    let (tcp, quic) = (&scene.address, &scene.quic);
    let outcomes: Vec<(&Attack, Outcome)> = stream::iter(attacks.iter().enumerate())
        .map(|(at, one)| async move {
            let address = if at.is_multiple_of(4) { quic } else { tcp };
            (one, attack(one, address).await)
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let mut silently: BTreeMap<&str, usize> = BTreeMap::new();
    for (attack, outcome) in &outcomes {
        let Outcome { refused, closed, let_in, .. } = outcome;
        assert!(*closed && !*let_in, "{}: {:?}", attack.what, (refused, closed, let_in));
        *silently.entry(attack.what).or_default() += usize::from(refused.is_none());
    }
    println!("{} strangers in {:?}; not told why: {silently:?}", outcomes.len(), began.elapsed());
    assert_eq!(watches[0].count("admitted"), 0);
    watches.iter().for_each(Watch::assert_calm);
    scene.end().await;
    watches.iter().for_each(Watch::assert_calm);
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_that_hold_every_place_do_not_keep_a_board_out() {
    let mut scene = Scene::new().await;
    let watch = Watch::over(&scene.target);
    let silent = scene.kind("says nothing", 80, |_, _, _| vec![]);
    let mut held = Vec::new();
    for one in &silent {
        held.push(Line::dial(&one.key, &scene.address).await.unwrap());
    }
    scene.end().await;
    watch.assert_calm();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_cannot_vouch_for_a_board() {
    let mut scene = Scene::new().await;
    // The founder was let in by nobody, so it would take anyone's word for it.
    let silent = scene.kind("asks", 1, |_, _, _| vec![]).remove(0);
    let shown = attack(&silent, &scene.address).await.hello.unwrap();
    assert!(shown.admission.is_none());
    let liar = scene.dice.key();
    let word = Admission {
        node: scene.target.id(),
        ticket: shown.credential.ticket.digest(),
        by: liar.public(),
        at: 1_700_000_000,
    };
    let welcome = Welcome { admission: Signed::seal(&word, &liar).unwrap() };
    let writes = vec![(HELLO, framed(&encoded(welcome)))];
    attack(&Attack { what: "vouches", key: liar, writes }, &scene.address).await;
    let silent = scene.kind("asks again", 1, |_, _, _| vec![]).remove(0);
    let shown = attack(&silent, &scene.address).await.hello.unwrap();
    assert!(shown.admission.is_none(), "a stranger's word is kept and shown to everybody");
}
