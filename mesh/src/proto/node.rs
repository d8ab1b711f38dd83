//! The one machine: routes every input to the part that owns it.
//!
//! The node itself knows only its own life – starting, running, left, halted – and who may speak:
//! before a peer has passed `hello`, nothing else of it is listened to. Everything that happens
//! after that belongs to a part.

mod commands;
mod departure;
mod door;
mod recover;
mod services;
mod stalls;
mod view;

use core::time::Duration;
use std::collections::BTreeSet;

use rand_chacha::ChaCha8Rng;

use commands::error;
pub use recover::RecoverError;

use super::authority::Authority;
use super::copies::{self, Copies};
use super::directory::Directory;
use super::effective_time::EffectiveTime;
use super::failover::{self, Failover, Office};
use super::holdings::Holdings;
use super::id::{Incarnation, NodeId, OpId, Term};
use super::io::{Effect, Event, Input, Reply, Report};
use super::journal::Record;
use super::links::Links;
use super::machine::{Effects, Time, Timeout};
use super::members::Members;
use super::membership::{Membership, Notice};
use super::myself::Myself;
use super::ops::{Ops, Purpose};
use super::order::SignedOrder;
use super::specs::Specs;
use super::ticket::{Address, Bootstrap, Revoked};
use super::topics::Topics;
use super::turn::Turn;
use super::wire::Message;
use super::wire::failover::Spec;
use super::wire::hello::Refusal;

/// A peer that refused this node, or was refused, is not dialled for that long.
const SHUN: Duration = Duration::from_secs(60);
/// … nor for that long where two boards have one key. Whoever refuses them sees by that that both are there still.
const TWIN_PAUSE: Duration = Duration::from_secs(10);
/// Where two boards have one key they are refused again and again; after so long without that it is over.
const TWINS_SHOWN: Duration = Duration::from_secs(60);
/// A node that was noticed on the LAN is wanted that long, to find out whether it is a member.
const CURIOSITY: Duration = Duration::from_secs(20);
/// Between two attempts to reach the boards named in the ticket while nobody else is known.
const BOOTSTRAP_INTERVAL: Duration = Duration::from_secs(5);

/// Times that one timeout may make another due at once.
const ROUNDS_MAX: usize = 8;
/// Why a node stops whose operator has revoked it, as [`Event::Halted`] says it.
pub const REVOKED: &str = "this board was revoked by the operator";

/// One node.
#[derive(Debug)]
pub struct Node {
    me: Myself,
    born: Time,
    phase: Phase,
    clock: EffectiveTime,
    members: Members,
    links: Links,
    membership: Membership,
    topics: Topics,
    /// Peers whose hello on the present connection has passed.
    admitted: BTreeSet<NodeId>,
    /// Peers that were refused on the present connection: nothing more of them is listened to.
    refused: BTreeSet<NodeId>,
    /// Whether this node founded the mesh, or any member has ever let it in.
    let_in: bool,
    /// For `status`.
    last_refusal: Option<LastRefusal>,
    directory: Directory,
    authority: Authority,
    failover: Failover,
    copies: Copies,
    specs: Specs,
    holdings: Holdings,
    ops: Ops,
    bootstrap_at: Time,
    departure: departure::Departure,
    /// When it was called last.
    called_at: Time,
    stalls: stalls::Stalls,
    rng: ChaCha8Rng,
}

/// The last refusal.
#[derive(Clone, Copy, Debug)]
struct LastRefusal {
    /// Who refused this node, or was refused.
    node: NodeId,
    reason: Refusal,
    by_me: bool,
    at: Time,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Phase {
    /// Made, but not called yet.
    Fresh,
    /// Waiting for its first records to be durable.
    Starting,
    Running,
    Leaving,
    Left,
    Halted(String),
}

impl Node {
    /// Something happened. Effects are appended to `out`, to be carried out in order.
    pub fn handle_input(&mut self, now: Time, input: Input, out: &mut Effects) {
        if let Phase::Halted(why) = &self.phase {
            return answer_halted(input, why, out);
        }
        self.note_call(now, out);
        match input {
            Input::WallClock(unix) => self.clock.saw(unix, now),
            Input::Addresses(addresses) => {
                if self.me.set_addresses(addresses) && self.phase == Phase::Running {
                    self.rise(now, Incarnation(0), out);
                }
            }
            Input::Discovered { node, address } => self.on_discovered(now, node, &address),
            Input::Connected { peer, address } => self.on_connected(now, peer, &address, out),
            Input::Disconnected { peer, why } => self.on_disconnected(now, peer, why, out),
            Input::DialFailed { peer, why } => {
                self.links.on_failure(&peer, why, now, &mut self.rng);
            }
            Input::Received { from, message } => self.on_message(now, from, message, out),
            Input::Garbled { from, .. } if self.refused.contains(&from) => {}
            Input::Garbled { from, what } => {
                out.push(Effect::Event(Event::Misbehaved { node: from, what }));
                if !self.admitted.contains(&from) {
                    self.refuse(now, from, Refusal::Garbled, out);
                }
            }
            Input::Persisted { op, result } => self.on_persisted(now, op, result, out),
            Input::Workload { instance, report: Report::Commit { ticket } } => {
                let (Parts { copies, .. }, mut turn) = self.turn(now, out);
                copies.on_commit(&mut turn, &instance, ticket);
            }
            Input::Workload { instance, report } => {
                let (Parts { failover, .. }, mut turn) = self.turn(now, out);
                failover.on_report(&mut turn, &instance, report);
            }
            Input::Captured { instance, id, result } => {
                let (Parts { copies, .. }, mut turn) = self.turn(now, out);
                copies.on_captured(&mut turn, &instance, id, result);
            }
            Input::Fetched { instance, id, from, result } => {
                let (Parts { copies, .. }, mut turn) = self.turn(now, out);
                copies.on_fetched(&mut turn, instance, id, from, result);
            }
            Input::Spoilt { instance, states } => {
                let (Parts { copies, .. }, mut turn) = self.turn(now, out);
                copies.on_spoilt(&mut turn, &instance, &states);
            }
            Input::Command { op, command } => self.on_command(now, op, command, out),
        }
        self.act_on_notices(now, out);
    }

    /// Time has passed. A call before [`Node::poll_timeout`] is due does nothing.
    pub fn handle_timeout(&mut self, now: Time, out: &mut Effects) {
        self.note_call(now, out);
        match self.phase {
            Phase::Fresh => self.start(out),
            // One thing due can make another due at once: an alert brings a verdict forward, a verdict
            // renews the rings, new rings begin to probe.
            Phase::Running => {
                for _ in 0..ROUNDS_MAX {
                    self.run_timeouts(now, out);
                    if self.poll_timeout().is_none_or(|timeout| timeout.at > now) {
                        break;
                    }
                }
            }
            Phase::Starting | Phase::Leaving | Phase::Left | Phase::Halted(_) => {}
        }
    }

    /// Notes when this node is called, and whether that is late. What a call made due in the past was not
    /// due before that call: nobody could have been in time for it.
    fn note_call(&mut self, now: Time, out: &mut Effects) {
        let preset = self.me.config().preset;
        let before = core::mem::replace(&mut self.called_at, now);
        if self.phase != Phase::Running || now.since(before) <= preset.stall_max() {
            return;
        }
        let due = self.poll_timeout().map_or(now, |timeout| timeout.at.max(before).min(now));
        if self.stalls.note(&preset, due, now) {
            let (late, carried) = (now.since(due), preset.stall_max());
            let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            let event = Event::Stalled { late_ms: ms(late), carried_ms: ms(carried) };
            out.push(Effect::Event(event));
        }
    }

    fn run_timeouts(&mut self, now: Time, out: &mut Effects) {
        if now >= self.bootstrap_at {
            self.seek_company(now);
        }
        let due = |timeout: Option<Timeout>| timeout.is_some_and(|timeout| timeout.at <= now);
        let office = self.office(now);
        let (Parts { membership, authority, failover, copies, .. }, mut turn) = self.turn(now, out);
        membership.handle_timeout(&mut turn);
        if due(authority.poll_timeout()) {
            authority.handle_timeout(&mut turn);
        }
        if due(failover.poll_timeout()) {
            failover.handle_timeout(&mut turn, &office);
        }
        if due(copies.poll_timeout()) {
            copies.handle_timeout(&mut turn);
        }
        self.links.handle_timeout(now, &self.members, out);
        if due(self.departure_timeout()) {
            self.run_departure(now, out);
        }
        self.act_on_notices(now, out);
    }

    /// When to call [`Node::handle_timeout`] next. None: not before the next input.
    pub fn poll_timeout(&self) -> Option<Timeout> {
        match self.phase {
            Phase::Fresh => Some(Timeout { at: self.born, reason: "start" }),
            Phase::Running => {
                let bootstrap = Timeout { at: self.bootstrap_at, reason: "bootstrap" };
                let parts =
                    Timeout::earlier(self.membership.poll_timeout(), self.links.poll_timeout());
                let parts = Timeout::earlier(parts, self.authority.poll_timeout());
                let parts = Timeout::earlier(parts, self.failover.poll_timeout());
                let parts = Timeout::earlier(parts, self.copies.poll_timeout());
                let parts = Timeout::earlier(parts, self.departure_timeout());
                Timeout::earlier(parts, Some(bootstrap))
            }
            Phase::Starting | Phase::Leaving | Phase::Left | Phase::Halted(_) => None,
        }
    }

    /// If this node is master and may decide: its term, and until when.
    pub fn reign(&self, now: Time) -> Option<(Term, Time)> {
        self.authority.reign(now)
    }

    /// The authority, to read.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    fn on_discovered(&mut self, now: Time, node: NodeId, address: &Address) {
        if node == self.me.id() {
            return;
        }
        self.links.learn(node, address);
        if self.members.get(&node).is_none() {
            self.links.want_until(node, now + CURIOSITY, now);
        }
    }

    fn on_connected(&mut self, now: Time, peer: NodeId, address: &Address, out: &mut Effects) {
        self.links.on_connected(peer, address, now);
        if self.phase == Phase::Running {
            out.push(Effect::Send { to: peer, message: self.me.hello(false).into() });
        }
    }

    fn on_disconnected(&mut self, now: Time, peer: NodeId, why: String, out: &mut Effects) {
        self.admitted.remove(&peer);
        self.refused.remove(&peer);
        if self.links.on_disconnected(&peer, why, now) {
            let (Parts { membership, .. }, mut turn) = self.turn(now, out);
            membership.on_link_lost(&mut turn, peer);
        }
    }

    fn on_message(&mut self, now: Time, from: NodeId, message: Message, out: &mut Effects) {
        if self.phase != Phase::Running || self.refused.contains(&from) {
            return;
        }
        match message {
            Message::Hello(hello) => return self.on_hello(now, from, hello, out),
            Message::Refused(refused) => return self.on_refused(now, from, &refused, out),
            Message::Welcome(welcome) => return self.on_welcome(from, welcome, out),
            _ => {}
        }
        if !self.admitted.contains(&from) {
            let what = format!("{} before its hello had passed", message.name());
            out.push(Effect::Event(Event::Misbehaved { node: from, what }));
            return;
        }
        self.let_in = true;
        if self.last_refusal.is_some_and(|last| !last.by_me && last.node == from) {
            self.last_refusal = None;
        }
        let office = self.office(now);
        let (Parts { membership, authority, failover, copies, topics }, mut turn) =
            self.turn(now, out);
        match message {
            Message::Probe(probe) => membership.on_probe(&mut turn, from, probe),
            Message::ProbeAck(ack) => membership.on_probe_ack(&mut turn, from, ack),
            Message::Ask(ask) => membership.on_ask(&mut turn, from, ask),
            Message::Answer(answer) => membership.on_answer(&mut turn, from, answer),
            Message::Facts(facts) => membership.on_facts(&mut turn, from, facts),
            Message::Summary(summary) => membership.on_summary(&mut turn, from, &summary),
            Message::Entries(entries) => membership.on_entries(&mut turn, from, &entries),
            Message::Publication(publication) => {
                topics.on_publication(&mut turn, from, publication);
            }
            Message::PreVote(question) => authority.on_pre_vote(&mut turn, from, question),
            Message::PreVoteOk(ok) => authority.on_pre_vote_ok(&mut turn, from, ok),
            Message::Vote(request) => authority.on_vote(&mut turn, from, request),
            Message::VoteOk(ok) => authority.on_vote_ok(&mut turn, from, ok),
            Message::App(app) => authority.on_app(&mut turn, from, app),
            Message::AppOk(ok) => authority.on_app_ok(&mut turn, from, ok),
            Message::Depart(depart) => authority.on_depart(&mut turn, from, depart),
            Message::Departure(answer) => self.on_departure(now, answer, out),
            Message::Submit(submit) => failover.on_submit(&mut turn, &office, from, submit),
            Message::Submitted(answer) => failover.on_submitted(&mut turn, from, &answer),
            Message::WantSpec(wanted) => {
                if let Some(order) = turn.specs.order(&wanted.hash).cloned() {
                    turn.send(from, Spec { order });
                }
            }
            Message::Pass(passed) => failover.on_pass(&mut turn, &office, from, &passed),
            Message::Spec(spec) => keep_spec(&mut turn, authority, from, spec.order),
            Message::Renew(renew) => failover.on_renew(&mut turn, &office, from, renew),
            Message::Grant(grant) => failover.on_grant(&mut turn, &office, from, &grant),
            Message::Claim(claim) => failover.on_claim(&mut turn, &office, from, claim),
            Message::Offer(offer) => copies.on_offer(&mut turn, from, offer),
            Message::Stored(stored) => copies.on_stored(&mut turn, from, &stored),
            Message::Unstorable(word) => copies.on_unstorable(&mut turn, from, &word),
            Message::Hello(_) | Message::Refused(_) | Message::Welcome(_) => {}
        }
    }

    /// Takes an incarnation above `above` and tells everyone; first reserves some if none is left.
    fn rise(&mut self, now: Time, above: Incarnation, out: &mut Effects) {
        match self.me.rise_above(above) {
            Ok(()) => {
                let (Parts { membership, .. }, mut turn) = self.turn(now, out);
                membership.announce_self(&mut turn);
                if let Some(upto) = self.me.wants_reserve() {
                    self.reserve(upto, None, out);
                }
            }
            Err(upto) => self.reserve(upto, Some(above), out),
        }
    }

    fn reserve(&mut self, upto: Incarnation, refute: Option<Incarnation>, out: &mut Effects) {
        let under_way =
            self.ops.any(|p| matches!(p, Purpose::Incarnations(other, _) if *other >= upto));
        if !under_way {
            let purpose = Purpose::Incarnations(upto, refute);
            self.ops.persist(Record::Incarnations { upto }, purpose, out);
        }
    }

    fn act_on_notices(&mut self, now: Time, out: &mut Effects) {
        if let Some(announcement) = self.authority.take_announcement() {
            let (Parts { membership, .. }, mut turn) = self.turn(now, out);
            membership.announce(&mut turn, announcement, None);
        }
        self.act_on_membership(now, out);
        self.act_on_copies(now, out);
        for notice in self.failover.take_notices() {
            let (Parts { membership, authority, copies, .. }, mut turn) = self.turn(now, out);
            match notice {
                failover::Notice::Change(change) => authority.submit(&mut turn, *change),
                failover::Notice::Serving(signed) => {
                    membership.on_serving(&mut turn, None, &signed)
                }
                failover::Notice::Tell(node) => membership.tell_table(&mut turn, node),
                failover::Notice::Hosting(instance, hosting) => {
                    copies.on_hosting(&mut turn, instance, hosting);
                }
                failover::Notice::NotHosting(instance) => {
                    copies.on_not_hosting(&mut turn, &instance)
                }
                failover::Notice::Checkpoint(instance) => copies.capture_now(&mut turn, &instance),
                failover::Notice::Close(instance, closing) => {
                    copies.close(&mut turn, &instance, closing);
                }
            }
        }
        self.act_on_copies(now, out);
        for (id, verdict) in self.authority.take_verdicts() {
            let (Parts { failover, .. }, mut turn) = self.turn(now, out);
            failover.on_verdict(&mut turn, id, verdict);
        }
    }

    fn act_on_copies(&mut self, now: Time, out: &mut Effects) {
        for notice in self.copies.take_notices() {
            let (Parts { failover, .. }, mut turn) = self.turn(now, out);
            match notice {
                copies::Notice::Progress(instance) => failover.on_progress(&mut turn, &instance),
                copies::Notice::Final(instance, state) => {
                    failover.on_final(&mut turn, &instance, state);
                }
            }
        }
    }

    fn act_on_membership(&mut self, now: Time, out: &mut Effects) {
        for notice in self.membership.take_notices() {
            match notice {
                Notice::Chosen => {
                    let (Parts { authority, failover, copies, .. }, mut turn) = self.turn(now, out);
                    authority.on_announced(&mut turn);
                    failover.on_table(&mut turn);
                    copies.on_table(&mut turn);
                }
                Notice::Remember(joined) => {
                    self.ops.persist(Record::Member(joined), Purpose::Memory, out);
                }
                Notice::Refute(incarnation) => self.rise(now, incarnation, out),
                Notice::Twins(node) => self.drop_twins(now, node, out),
                Notice::Revoked(revocation, signed) => {
                    let record = Record::Revocation(signed.clone());
                    self.ops.persist(record, Purpose::Memory, out);
                    let target = revocation.target.to_string();
                    out.push(Effect::Event(Event::Revoked { target }));
                    if let Revoked::Node(node) = revocation.target {
                        self.drop_revoked(now, node, signed, out);
                    }
                }
            }
        }
    }

    fn on_persisted(&mut self, now: Time, op: OpId, result: Result<(), String>, out: &mut Effects) {
        if let Err(why) = result {
            return self.halt(format!("the journal cannot be written: {why}"), out);
        }
        match self.ops.done(op) {
            Some(Purpose::Incarnations(upto, refute)) => {
                self.me.on_reserved(upto);
                if self.phase == Phase::Starting {
                    self.begin(now, out);
                } else if let Some(above) = refute {
                    self.rise(now, above, out);
                }
            }
            Some(Purpose::Leave(command)) => self.finish_leaving(now, command, out),
            Some(Purpose::Revocation(command)) => {
                out.push(Effect::Reply { op: command, reply: Reply::Done });
            }
            Some(Purpose::Spec(order)) => {
                if let Some(hash) = self.specs.put(*order) {
                    let office = self.office(now);
                    let (Parts { authority, failover, .. }, mut turn) = self.turn(now, out);
                    authority.take_offered(&mut turn);
                    authority.on_table_stored(&mut turn);
                    failover.on_spec_kept(&mut turn, &office, &hash);
                }
            }
            Some(Purpose::Authority(stored)) => {
                let (Parts { authority, .. }, mut turn) = self.turn(now, out);
                authority.on_stored(&mut turn, stored);
            }
            Some(Purpose::Kept(kept)) => {
                let (Parts { failover, .. }, mut turn) = self.turn(now, out);
                failover.on_kept(&mut turn, kept);
            }
            Some(Purpose::Memory) | None => {}
        }
    }

    fn office(&self, now: Time) -> Office {
        // A board that is no voter any more has an old table and an old master in its authority.
        let own = self.authority.table();
        let told = self.directory.newest().filter(|told| told.table.version > own.version);
        let (heard, term) = self.authority.master();
        let announced = self.directory.newest();
        let newer = announced.filter(|a| heard.is_none() || a.table.version.term > term);
        let table = told.map_or(own, |told| &told.table);
        Office {
            reign: self.authority.reign(now),
            master: newer.map(|newer| newer.master).or(heard),
            electorate: table.electorate().into_iter().collect(),
            changing: self.authority.changing().collect(),
            suspected: self.membership.suspicions().subjects().collect(),
        }
    }

    /// Nobody is connected: try the boards named in the ticket.
    fn seek_company(&mut self, now: Time) {
        self.bootstrap_at = now + BOOTSTRAP_INTERVAL;
        if self.links.usable().next().is_some() {
            return;
        }
        let Ok(ticket) = self.me.belonging.credential.ticket.peek() else { return };
        for first in ticket.bootstrap {
            self.look_for(&first, now + BOOTSTRAP_INTERVAL * 2, now);
        }
    }

    /// Wants a link to a board that a ticket names.
    fn look_for(&mut self, contact: &Bootstrap, until: Time, now: Time) {
        if contact.node != self.me.id() {
            self.links.want_until(contact.node, until, now);
            for address in contact.addresses.iter().rev() {
                self.links.learn(contact.node, address);
            }
        }
    }

    fn halt(&mut self, why: String, out: &mut Effects) {
        for peer in self.links.connected() {
            out.push(Effect::Disconnect { peer });
        }
        out.push(Effect::Event(Event::Halted { why: why.clone() }));
        self.phase = Phase::Halted(why);
    }

    /// The parts, and what they work with during this call.
    fn turn<'a>(&'a mut self, now: Time, out: &'a mut Effects) -> (Parts<'a>, Turn<'a>) {
        let turn = Turn {
            now,
            unix: self.clock.unix_at(now),
            me: &self.me,
            members: &mut self.members,
            links: &mut self.links,
            directory: &mut self.directory,
            specs: &mut self.specs,
            holdings: &mut self.holdings,
            ops: &mut self.ops,
            rng: &mut self.rng,
            out,
        };
        let parts = Parts {
            membership: &mut self.membership,
            authority: &mut self.authority,
            failover: &mut self.failover,
            copies: &mut self.copies,
            topics: &mut self.topics,
        };
        (parts, turn)
    }
}

struct Parts<'a> {
    membership: &'a mut Membership,
    authority: &'a mut Authority,
    failover: &'a mut Failover,
    copies: &'a mut Copies,
    topics: &'a mut Topics,
}

/// An order that was asked for has arrived: what it hashes to is computed here, and only what a row
/// names is kept.
fn keep_spec(turn: &mut Turn<'_>, authority: &Authority, from: NodeId, order: SignedOrder) {
    let hash = order.hash();
    let announced = turn.directory.newest().map(|newest| &newest.table);
    let named = authority
        .tables()
        .chain(announced)
        .any(|table| table.rows.iter().any(|row| row.spec == hash));
    // Several boards were asked, and the first answer may not be on the disk yet.
    let on_its_way =
        turn.ops.any(|p| matches!(p, Purpose::Spec(written) if written.hash() == hash));
    if !named || on_its_way || turn.specs.get(&hash).is_some() {
        return;
    }
    match order.verify(&turn.me.belonging.root, turn.me.config().cell) {
        Ok(_) => {
            let record = Record::Spec(Box::new(order.clone()));
            turn.persist(record, Purpose::Spec(Box::new(order)));
        }
        Err(error) => turn.misbehaved(from, error.to_string()),
    }
}

fn answer_halted(input: Input, why: &str, out: &mut Effects) {
    if let Input::Command { op, .. } = input {
        out.push(Effect::Reply { op, reply: error("halted", why) });
    }
}
