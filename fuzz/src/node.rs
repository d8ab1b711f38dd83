//! A live node among three members and a stranger, and whatever they, its disk and its operator do.
//!
//! The input is a list of steps. A member's frames are as hostile as bytes can be; some steps are what
//! a well-behaved world would do (a disk that answers, peers that acknowledge), because much of the
//! node wakes up only then. After every call: bounded effects, everything sent can be read by the
//! receiver, strangers hear nothing but the door, timers move on, and nobody but the operator or the
//! disk can make the node halt.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use hedgerow::proto::bounded::{Blob, List, Text};
use hedgerow::proto::failover::active::Found;
use hedgerow::proto::id::{Epoch, Incarnation, NodeId, OpId};
use hedgerow::proto::io::{Command, Effect, Event, Exit, Input, NotFetched, Report, Transferred};
use hedgerow::proto::journal;
use hedgerow::proto::machine::{Effects, Time};
use hedgerow::proto::node::Node;
use hedgerow::proto::order::{Action, Endpoint, Instance, Serving};
use hedgerow::proto::record::Leave;
use hedgerow::proto::signed::Signed;
use hedgerow::proto::table::CheckpointId;
use hedgerow::proto::wire::authority::{AppOk, PreVoteOk, VoteOk};
use hedgerow::proto::wire::copies::{Stored, Unstorable};
use hedgerow::proto::wire::failover::{Claim, Claimed, Grant, Pass, Submit};
use hedgerow::proto::wire::gossip::{Answer, Fact, Facts, ProbeAck};
use hedgerow::proto::wire::{self, FrameError, Message, codec};

use crate::Seed;
use crate::bytes::{Bytes, put_piece};
use crate::scene::{PEERS, SCENE, UNIX, address, service};
use crate::wire::messages;

/// Effects of one call: some for each of a full message of facts, and some.
const EFFECTS_MAX: usize = 512;
/// Steps of one input.
const STEPS_MAX: usize = 256;
/// Messages that are remembered to be answered.
const SENT_MAX: usize = 256;
/// Calls that may follow from one step.
const FOLLOW_UPS_MAX: usize = 64;

/// Kinds of steps; the first byte of a step chooses one.
const STEPS: usize = 16;
const FRAME: u8 = 0;
const TIME: u8 = 4;
const PERSISTED: u8 = 5;
const ANSWERED: u8 = 6;
const ORDER: u8 = 7;
const WORKLOAD: u8 = 8;
const COPY: u8 = 9;

/// A list of steps for a node.
pub fn node(data: &[u8]) {
    let mut steps = Bytes(data);
    let mut driver = Driver::new();
    for _ in 0..STEPS_MAX {
        if steps.is_empty() {
            break;
        }
        driver.step(&mut steps);
    }
    for command in [Command::Status, Command::Instances, Command::Nodes, Command::Revocations] {
        driver.command(command);
    }
}

struct Driver {
    node: Node,
    now: Time,
    out: Effects,
    ops: u64,
    writing: VecDeque<OpId>,
    sent: VecDeque<(NodeId, Message)>,
    admitted: BTreeSet<NodeId>,
    connected: BTreeSet<NodeId>,
    follow_ups: VecDeque<Input>,
    may_halt: bool,
}

impl Driver {
    /// A founder that has let the three peers in.
    fn new() -> Self {
        let now = Time(1_000_000_000);
        let node =
            Node::recover(SCENE.config(), [9; 32], Default::default(), Default::default(), now)
                .expect("a founder's ticket");
        let mut driver = Self {
            node,
            now,
            out: Effects::default(),
            ops: 0,
            writing: VecDeque::new(),
            sent: VecDeque::new(),
            admitted: BTreeSet::new(),
            connected: BTreeSet::new(),
            follow_ups: VecDeque::new(),
            may_halt: false,
        };
        driver.input(Input::WallClock(UNIX));
        driver.pass(Duration::ZERO);
        driver.persisted();
        driver.input(Input::Addresses(List::capped([address()])));
        (0..PEERS).for_each(|peer| driver.connect(peer));
        assert_eq!(driver.admitted.len(), PEERS);
        driver.persisted();
        driver
    }

    fn step(&mut self, steps: &mut Bytes<'_>) {
        match steps.below(STEPS) as u8 {
            FRAME..TIME => {
                let from = SCENE.peer(steps.below(PEERS + 1));
                self.frame(from, steps.piece());
            }
            TIME => self.pass(Duration::from_millis(u64::from(steps.short()) / 4)),
            PERSISTED => self.persisted(),
            ANSWERED => self.answered(),
            ORDER => self.order(steps),
            WORKLOAD => {
                let instance = instance(steps.below(3));
                let report = report(steps);
                self.input(Input::Workload { instance, report });
            }
            COPY => self.copy(steps),
            10 => {
                let from = steps.below(PEERS);
                let fact = fact(from, steps);
                let facts = List::capped([fact]);
                self.receive(SCENE.peer(from), Facts { facts }.into());
            }
            11 => self.connect(steps.below(PEERS + 1)),
            12 => {
                let peer = SCENE.peer(steps.below(PEERS + 1));
                let what = "as it pleases".to_owned();
                let input = match steps.below(4) {
                    0 if self.connected.remove(&peer) => Input::Disconnected { peer, why: what },
                    1 => Input::DialFailed { peer, why: what },
                    2 => Input::Garbled { from: peer, what },
                    _ => Input::Discovered { node: peer, address: address() },
                };
                self.input(input);
            }
            13 => {
                let service = service(steps.below(2));
                let topic = Text::capped("t");
                self.command(match steps.below(4) {
                    0 => Command::Resolve(service),
                    1 => Command::Why(Text::capped(&service)),
                    2 => Command::Publish { topic, body: Blob::default() },
                    _ => Command::Why(Text::capped(&SCENE.peer(0).to_string())),
                });
            }
            // A claim or a word of a state that fits what the table says now.
            14 => self.claim(steps),
            _ => match steps.below(16) {
                0 => {
                    self.may_halt = true;
                    let result = Err("the disk is gone".to_owned());
                    let op = self.writing.pop_front().unwrap_or_default();
                    self.input(Input::Persisted { op, result });
                }
                1 => self.command(Command::Leave { force: false }),
                2 => self.command(Command::Revoke(crate::records::revocation())),
                _ => {
                    let op = self.writing.pop_front().unwrap_or_default();
                    self.input(Input::Persisted { op, result: Ok(()) });
                }
            },
        }
    }

    /// Whatever a peer wrote, as the swarm passes it on.
    fn frame(&mut self, from: NodeId, frame: &[u8]) {
        match wire::decode(frame) {
            Ok(message) => self.receive(from, message),
            Err(FrameError::Unknown(_)) => {}
            Err(error) => self.input(Input::Garbled { from, what: error.to_string() }),
        }
    }

    fn receive(&mut self, from: NodeId, message: Message) {
        // The swarm opens no other protocol before a peer is let in; the node must not rely on it.
        if self.connected.contains(&from) {
            self.input(Input::Received { from, message });
        }
    }

    fn command(&mut self, command: Command) {
        self.ops += 1;
        self.input(Input::Command { op: OpId(1 << 48 | self.ops), command });
    }

    fn connect(&mut self, peer: usize) {
        let id = SCENE.peer(peer);
        if self.connected.insert(id) {
            self.input(Input::Connected { peer: id, address: address() });
        }
        self.receive(id, SCENE.hellos[peer].clone().into());
    }

    /// The disk has written everything.
    fn persisted(&mut self) {
        for _ in 0..FOLLOW_UPS_MAX {
            let Some(op) = self.writing.pop_front() else { break };
            self.input(Input::Persisted { op, result: Ok(()) });
        }
    }

    fn order(&mut self, steps: &mut Bytes<'_>) {
        let how = steps.below(4);
        let genuine = steps.below(SCENE.orders.len() + 4);
        let order = match SCENE.orders.get(genuine) {
            Some(order) => order.clone(),
            None => match codec::decode::<Action>(steps.piece()) {
                Ok(action) => SCENE.order(action),
                Err(_) => return,
            },
        };
        match how {
            0 => self.receive(SCENE.peer(0), Submit { seq: 7, order }.into()),
            1 => {
                let instance = instance(steps.below(3));
                let row = self.node.authority().table().row(&instance);
                let epoch = row.map_or(Epoch(1), |row| row.epoch);
                self.receive(SCENE.peer(1), Pass { seq: steps.byte().into(), order, epoch }.into());
            }
            _ => self.command(Command::Order(Box::new(order))),
        }
    }

    fn copy(&mut self, steps: &mut Bytes<'_>) {
        let instance = instance(steps.below(3));
        let id = checkpoint(steps);
        let failed = "the disk is slow".to_owned();
        let input = match steps.below(5) {
            0 => Input::Captured { instance, id, result: Ok(4096) },
            1 => Input::Captured { instance, id, result: Err(failed) },
            2 => {
                let result = Ok(Transferred { wire_bytes: 9, state_bytes: 4096, full: true });
                Input::Fetched { instance, id, from: SCENE.peer(0), result }
            }
            3 => Input::Spoilt { instance, states: List::capped([id]) },
            _ => {
                let result = Err(NotFetched { why: failed, own_disk: steps.below(2) == 0 });
                Input::Fetched { instance, id, from: SCENE.peer(1), result }
            }
        };
        self.input(input);
    }

    fn claim(&mut self, steps: &mut Bytes<'_>) {
        let from = steps.below(PEERS);
        let instance = instance(steps.below(2));
        let Some(row) = self.node.authority().table().row(&instance).cloned() else { return };
        let id = CheckpointId { epoch: row.epoch, seq: steps.byte().into() };
        let claim = match steps.below(18) {
            0 => Claimed::Take { from: id },
            1 => Claimed::NeedStandby,
            2 => Claimed::AbortFill,
            3 => Claimed::Filled,
            4 => Claimed::Ready,
            5 => Claimed::Release { to: SCENE.peer(steps.below(PEERS)), last: id },
            6 => Claimed::Lost,
            7 => Claimed::Restore(id),
            8 => Claimed::Recover(id),
            9 => Claimed::Stopped,
            12 => Claimed::Able(true),
            13 => Claimed::Able(false),
            14 => Claimed::Begins(id),
            15 => Claimed::NeedAnother,
            10 => {
                let word = Unstorable { instance, id, why: Text::capped("the disk is full") };
                return self.receive(SCENE.peer(from), word.into());
            }
            _ => return self.receive(SCENE.peer(from), Stored { instance, id }.into()),
        };
        let (epoch, revision) = (row.epoch, row.revision);
        self.receive(SCENE.peer(from), Claim { instance, epoch, revision, claim }.into());
    }

    /// Every peer answers what it was asked, as a good member does.
    fn answered(&mut self) {
        for _ in 0..FOLLOW_UPS_MAX {
            let Some((from, message)) = self.sent.pop_front() else { break };
            let answer = match message {
                Message::Probe(probe) => ProbeAck { seq: probe.seq, view: probe.view }.into(),
                Message::Ask(ask) => Answer {
                    seq: ask.seq,
                    subject: ask.subject,
                    heard_ms: 0,
                    at: ask.at.saturating_sub(1),
                    route: ask.route,
                }
                .into(),
                Message::PreVote(question) => {
                    PreVoteOk { term: question.term, granted: true }.into()
                }
                Message::Vote(question) => VoteOk { term: question.term, granted: true }.into(),
                Message::App(app) => {
                    let durable = app.table.map_or(app.committed, |table| table.version);
                    AppOk { term: app.term, sent: app.sent, durable }.into()
                }
                Message::Renew(renew) => Grant {
                    instance: renew.instance,
                    epoch: renew.epoch,
                    sent: renew.sent,
                    lease_ms: renew.lease_ms,
                    as_master: true,
                }
                .into(),
                Message::Offer(offer) => Stored { instance: offer.instance, id: offer.id }.into(),
                _ => continue,
            };
            self.receive(from, answer);
        }
    }

    /// Time passes; what is due fires.
    fn pass(&mut self, duration: Duration) {
        self.now = self.now + duration;
        self.node.handle_timeout(self.now, &mut self.out);
        let due = self.node.poll_timeout().filter(|timeout| timeout.at <= self.now);
        assert_eq!(due, None, "still due after `handle_timeout`");
        self.carry_out();
    }

    fn input(&mut self, input: Input) {
        // As the drivers do: what is due fires first.
        if self.node.poll_timeout().is_some_and(|timeout| timeout.at <= self.now) {
            self.pass(Duration::ZERO);
        }
        self.follow_ups.push_back(input);
        for _ in 0..FOLLOW_UPS_MAX {
            let Some(input) = self.follow_ups.pop_front() else { break };
            if let Input::Disconnected { peer, .. } = &input {
                self.admitted.remove(peer);
            }
            self.node.handle_input(self.now, input, &mut self.out);
            self.carry_out();
        }
    }

    fn carry_out(&mut self) {
        let mut out = std::mem::take(&mut self.out);
        let count = out.as_slice().len();
        assert!(count <= EFFECTS_MAX, "{count} effects of one call");
        out.drain().for_each(|effect| self.effect(effect));
        self.out = out;
    }

    fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Send { to, message } => {
                let frame = wire::encode(&message).expect("what is sent fits a frame");
                let read = wire::decode(&frame);
                assert_eq!(read.as_ref(), Ok(&message), "the receiver cannot read it");
                let door = matches!(
                    message,
                    Message::Hello(_) | Message::Refused(_) | Message::Welcome(_)
                );
                assert!(door || self.admitted.contains(&to), "{} to a stranger", message.name());
                if self.sent.len() < SENT_MAX {
                    self.sent.push_back((to, message));
                }
            }
            Effect::Persist { op, record } => {
                let frame = journal::frame(&record, 0).expect("what is kept fits a frame");
                let file = [&journal::MAGIC[..], &frame].concat();
                journal::scan(&file).expect("what is written can be read");
                self.writing.push_back(op);
            }
            Effect::Admit { peer } => {
                assert_ne!(peer, SCENE.peer(PEERS), "the stranger was let in");
                assert!(self.connected.contains(&peer));
                self.admitted.insert(peer);
            }
            Effect::Disconnect { peer } if self.connected.remove(&peer) => {
                let why = "hung up".to_owned();
                self.follow_ups.push_back(Input::Disconnected { peer, why });
            }
            Effect::Event(Event::Halted { why }) => assert!(self.may_halt, "halted: {why}"),
            _ => {}
        }
    }
}

fn instance(which: usize) -> Instance {
    Instance { service: service(which), ordinal: (which / 2) as u16 }
}

fn checkpoint(steps: &mut Bytes<'_>) -> CheckpointId {
    CheckpointId { epoch: Epoch(steps.byte().into()), seq: steps.byte().into() }
}

fn report(steps: &mut Bytes<'_>) -> Report {
    let ports = || List::capped([(Text::capped("http"), 8080)]);
    // Mostly the right that the row names.
    let epoch = Epoch(if steps.below(4) == 0 { steps.byte().into() } else { 3 });
    match steps.below(10) {
        0 => Report::Found(Found { epoch, spec: None, ports: ports() }),
        1 | 2 => Report::Started { epoch, ports: ports() },
        3 => Report::Ended { epoch, exit: Exit::Code { code: 1 } },
        4 => Report::Ended { epoch, exit: Exit::Fenced },
        5 => Report::Ended { epoch, exit: Exit::Stopped },
        6 => Report::Lost { epoch },
        7 => Report::Checked { order: SCENE.orders[0].hash(), result: Ok(()) },
        8 => {
            let result = Err("the program is not there".to_owned());
            Report::Checked { order: SCENE.orders[0].hash(), result }
        }
        _ => Report::Commit { ticket: steps.byte().into() },
    }
}

/// News with genuine signatures, true or not.
fn fact(from: usize, steps: &mut Bytes<'_>) -> Fact {
    let about = steps.below(PEERS + 1);
    let subject = if about == PEERS { SCENE.me.public() } else { SCENE.peer(about) };
    let incarnation = Incarnation(steps.long());
    match steps.below(6) {
        0 => Fact::Joined(Box::new(SCENE.joined(about))),
        1 => Fact::Alive(Box::new(SCENE.record(from, incarnation.0))),
        2 => Fact::Alert { subject, incarnation, by: SCENE.peer(from) },
        3 => Fact::Down { subject, incarnation },
        4 => {
            let leave = Leave { node: SCENE.peer(from), incarnation };
            let signed = Signed::seal(&leave, &SCENE.peers[from]).expect("a small value");
            Fact::Left(Box::new(signed))
        }
        _ => {
            let endpoint = Endpoint { name: Text::capped("http"), address: Text::capped("h:1") };
            let serving = Serving {
                instance: instance(about),
                epoch: Epoch(incarnation.0),
                life: Incarnation(1),
                stamp: steps.long(),
                node: SCENE.peer(from),
                runs: about.is_multiple_of(2),
                spec: [7; 32],
                why: Text::capped("it ended with exit code 1"),
                endpoints: List::capped([endpoint]),
            };
            let signed = Signed::seal(&serving, &SCENE.peers[from]).expect("a small value");
            Fact::Serving(Box::new(signed))
        }
    }
}

pub(crate) fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    // Each kind of message from a member, on its own: a change in a small input meets more.
    for (number, message) in messages().into_iter().enumerate() {
        let frame = wire::encode(&message).expect("a small message");
        let mut steps = vec![FRAME, 0];
        put_piece(&mut steps, &frame);
        steps.extend_from_slice(&[PERSISTED, TIME, 0, 2, ANSWERED]);
        seeds.push((format!("frame-{number:02}-{}", message.name()), steps));
    }
    // Two services are run, copied, moved and removed while everybody behaves.
    let settle = |steps: &mut Vec<u8>, rounds: usize| {
        for _ in 0..rounds {
            steps.extend_from_slice(&[TIME, 0, 4, PERSISTED, ANSWERED, PERSISTED]);
        }
    };
    let mut life = Vec::new();
    settle(&mut life, 12);
    for order in [0, 1] {
        life.extend_from_slice(&[ORDER, 2, order]);
        settle(&mut life, 4);
        life.extend_from_slice(&[WORKLOAD, order, 1]);
        settle(&mut life, 4);
    }
    for seq in [1, 2] {
        life.extend_from_slice(&[COPY, 0, 1, seq, 0]);
        settle(&mut life, 2);
    }
    life.extend_from_slice(&[WORKLOAD, 0, 7, 1]);
    settle(&mut life, 2);
    let base = life.clone();
    for (name, order) in
        [("stop", 2), ("remove", 3), ("move", 4), ("checkpoint", 5), ("restore", 6), ("drain", 9)]
    {
        let mut steps = base.clone();
        steps.extend_from_slice(&[ORDER, 2, order]);
        settle(&mut steps, 4);
        steps.extend_from_slice(&[WORKLOAD, 0, 5, 14, 0, 0, 0, 4]);
        settle(&mut steps, 2);
        seeds.push((name.to_owned(), steps));
    }
    let mut claims = base;
    for claim in 0..10 {
        claims.extend_from_slice(&[14, claim % 3, claim % 2, 1, claim]);
        settle(&mut claims, 1);
    }
    seeds.push(("claims".to_owned(), claims));
    let mut news = Vec::new();
    for kind in 0..6 {
        news.extend_from_slice(&[10, kind % 3, 1, 3, 0, 0, 0, 0, 0, 0, 0, kind, TIME, 0, 9]);
        news.extend_from_slice(&[12, kind % 4, kind % 4, 11, kind % 4, 13, 0, kind % 4]);
    }
    seeds.push(("news".to_owned(), news));
    seeds
}

#[cfg(test)]
mod tests {
    use hedgerow::proto::wire::failover::Spec;

    use super::*;

    /// Else a member could fill the disk with orders that an operator once gave.
    #[test]
    fn an_order_that_no_row_names_is_not_kept() {
        let mut driver = Driver::new();
        assert!(driver.writing.is_empty());
        let order = SCENE.orders[0].clone();
        driver.receive(SCENE.peer(0), Spec { order }.into());
        assert!(driver.writing.is_empty(), "a member's word is enough to write it down");
    }
}
