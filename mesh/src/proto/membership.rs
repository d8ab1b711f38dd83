//! Membership: who is in the mesh, and who of them is there.
//!
//! SWIM (Das, Gupta, Motivala, DSN 2002) probes random members and infects by piggyback. Over NATs
//! and relays links are dear, so here every member keeps a *few fixed* links instead, as in Rapid
//! (USENIX ATC'18): it watches about four others ([`rings`]), four watch it, and news travels over
//! just those links.
//!
//! - [`watch`]: one member under watch – probe, ask the other observers, raise an alert.
//! - [`suspicion`]: alerts of distinct members add up to `Down`; the subject refutes by signing its
//!   record with a higher incarnation.
//! - [`outbox`]: facts are pushed once over every link, coalesced.
//! - `news`: hard facts, told to everyone once.
//! - `digest`: what a push missed is found by comparing hashes, with neighbours and now and then
//!   with a random member; dead members are dialled now and then, so that split halves merge.
//! - [`twins`]: two boards with one key are found out and refused.
//!
//! A node that hears too few of those it watches is *isolated* and judges nobody for a while, or for
//! as long as it hears nobody at all. Gossip is a hint:
//! who may run a service never rests on it.
//!
//! Probes travel on reliable streams, so packet loss shows as delay, not as a lost probe.

mod digest;
mod news;
pub mod outbox;
mod refute;
pub mod rings;
pub mod suspicion;
pub mod twins;
pub mod watch;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use rand_chacha::rand_core::Rng;

use super::bounded::List;
use super::config::MembershipTiming;
use super::id::{Incarnation, NodeId};
use super::io::Event;
use super::machine::{Time, Timeout};
use super::record::{Leave, NodeRecord};
use super::signed::Signed;
use super::table::Version;
use super::ticket::Revocation;
use super::turn::Turn;
use super::wire::gossip::{Answer, Ask, Fact, Joined, Probe, ProbeAck, ROUTE_MAX, Standing};
use outbox::Outbox;
use rings::Rings;
use suspicion::Suspicions;
use twins::Twins;
use watch::{Step, Watch};

/// Questions about one member that wait for its next ack.
const QUESTIONS_MAX: usize = 8;
/// Other observers that are asked about a silent member.
const ASKED_MAX: usize = 4;
/// Rings follow the member list at most that often.
const RINGS_INTERVAL: Duration = Duration::from_secs(1);
/// A member that left the rings' successors is watched that long still, and so is one that is watched in place of
/// suspected observers.
const FORMER_WATCH: Duration = Duration::from_secs(10);
/// The same table is sent to the same peer that rarely; what it says may cross it on the way.
const TELL_AGAIN: Duration = Duration::from_secs(1);
/// Where one member in so many is suspected by two others, some have suspected observers only, and are watched by more.
/// Below it is one in 4,000 of those that died, and links are not opened for what may be a false alarm.
const MANY_SUSPECTED: usize = 8;
/// How long an isolated node that still hears somebody judges nobody.
const ISOLATION_PATIENCE: Duration = Duration::from_secs(30);
/// So long before a node is isolated it may already hear too few, and suspect the first of them.
const ISOLATION_SHOWS: Duration = Duration::from_secs(2);
/// Fewer watched members than this say nothing about one's own isolation.
const ISOLATION_MIN: usize = 3;

/// The part.
#[derive(Debug)]
pub struct Membership {
    timing: MembershipTiming,
    rings: Rings,
    rings_stale: bool,
    rings_at: Time,
    /// When to look whether others are to be watched, too, because many are suspected.
    cover_at: Option<Time>,
    covered: Time,
    watches: BTreeMap<NodeId, Watched>,
    questions: BTreeMap<NodeId, Vec<(Time, Ask)>>,
    suspicions: Suspicions,
    outbox: Outbox,
    leaves: BTreeMap<NodeId, Signed<Leave>>,
    compare: digest::Compare,
    /// Which table was sent to whom last because it spoke of an older one, and when.
    told: BTreeMap<NodeId, (Version, Time)>,
    /// Since when this node hears too few of those it watches.
    isolated: Option<Time>,
    /// See `slowness_now`, when it was last judged.
    slowness: u32,
    wander_at: Time,
    twins: Twins,
    notices: Vec<Notice>,
}

#[derive(Debug)]
struct Watched {
    watch: Watch,
    /// Set unless the member is a successor on a ring.
    until: Time,
}

/// What the node has to do about the news.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// Keep this member across restarts.
    Remember(Box<Joined>),
    /// Somebody holds this node for silent or dead at this incarnation.
    Refute(Incarnation),
    /// Keep this revocation across restarts, and act on it.
    Revoked(Revocation, Box<Signed<Revocation>>),
    /// A newer table is known.
    Chosen,
    /// This peer is two boards with one key.
    Twins(NodeId),
}

impl Membership {
    /// An empty list; the node puts itself and whom it remembers in.
    pub fn new(timing: MembershipTiming, now: Time) -> Self {
        Self {
            timing,
            rings: Rings::default(),
            rings_stale: true,
            rings_at: now,
            cover_at: None,
            covered: now,
            watches: BTreeMap::new(),
            questions: BTreeMap::new(),
            suspicions: Suspicions::default(),
            outbox: Outbox::default(),
            leaves: BTreeMap::new(),
            compare: digest::Compare::default(),
            told: BTreeMap::new(),
            isolated: None,
            slowness: 1000,
            wander_at: now + timing.wander_interval / 4,
            twins: Twins::default(),
            notices: Vec::new(),
        }
    }

    /// What the node has to do since it last asked.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        core::mem::take(&mut self.notices)
    }

    /// Whether this node hears too few of those it watches to judge anybody.
    pub fn is_isolated(&self) -> bool {
        self.isolated.is_some()
    }

    /// How many of the watched members are silent, of how many.
    pub fn silent(&self) -> (usize, usize) {
        let watched = self.watches.values().filter(|watched| watched.until == Time::NEVER);
        let (mut silent, mut of) = (0, 0);
        for watched in watched {
            of += 1;
            silent += usize::from(watched.watch.is_silent());
        }
        (silent, of)
    }

    /// The watch over `node`, if this node keeps one.
    pub fn watch(&self, node: &NodeId) -> Option<&Watch> {
        self.watches.get(node).map(|watched| &watched.watch)
    }

    /// The open suspicions.
    pub fn suspicions(&self) -> &Suspicions {
        &self.suspicions
    }

    /// A peer passed `hello`: it is a member.
    pub(crate) fn on_admitted(
        &mut self,
        turn: &mut Turn<'_>,
        peer: NodeId,
        record: NodeRecord,
        joined: Joined,
    ) {
        let down = turn.members.get(&peer).filter(|member| member.standing != Standing::Up);
        let refuted_by_this = down.is_none_or(|member| record.incarnation > member.incarnation());
        let known = turn.members.get(&peer).is_some();
        if refuted_by_this {
            self.accept(turn, record, joined, None);
        } else {
            // It may not know that others hold it for dead: tell it, so that it can refute.
            for fact in self.facts_about(turn, &peer, false) {
                self.outbox.push(peer, fact, turn.now);
            }
        }
        if let Some(watched) = self.watches.get_mut(&peer) {
            watched.watch.renew(turn.now);
        }
        self.twins.begins(peer, turn.now);
        // One side of every new link compares; towards a stranger both have much to say.
        if !known || turn.me.id() < peer {
            self.send_summary(turn, peer);
        }
    }

    /// Whether a peer that says hello with this record is refused: two boards have its key.
    pub(crate) fn refuses(
        &mut self,
        peer: &NodeId,
        record: &Signed<NodeRecord>,
        now: Time,
    ) -> bool {
        self.twins.refuses(peer, record, now)
    }

    /// The last connection to `peer` is gone.
    pub(crate) fn on_link_lost(&mut self, turn: &mut Turn<'_>, peer: NodeId) {
        self.outbox.drop_link(&peer);
        self.compare.drop_link(&peer);
        self.told.remove(&peer);
        self.twins.ends(&peer);
        let asks = self.watches.get_mut(&peer).is_some_and(|w| w.watch.on_link_lost(turn.now));
        if asks && turn.members.is_up(&peer) {
            self.ask_others(turn, peer);
        }
    }

    pub(crate) fn on_probe(&mut self, turn: &mut Turn<'_>, from: NodeId, probe: Probe) {
        if self.twins.on_probe(from, probe.seq, turn.now) {
            self.twins.refuse(from, turn.now);
            return self.notices.push(Notice::Twins(from));
        }
        let view = turn.view_hash();
        turn.send(from, ProbeAck { seq: probe.seq, view });
        self.on_view(turn, from, probe.view);
    }

    pub(crate) fn on_probe_ack(&mut self, turn: &mut Turn<'_>, from: NodeId, ack: ProbeAck) {
        self.on_view(turn, from, ack.view);
        let Some(watched) = self.watches.get_mut(&from) else { return };
        if !watched.watch.on_ack(ack.seq, turn.now) {
            return;
        }
        if let Some(sent) = watched.watch.proven {
            self.answer_questions(turn, from, sent);
        }
        // It lives, and somebody suspects it: make sure that it knows.
        if let Some(suspicion) = self.suspicions.get(&from)
            && let Some(by) = suspicion.by.first()
        {
            let alert = Fact::Alert { subject: from, incarnation: suspicion.incarnation, by: *by };
            self.outbox.push(from, alert, turn.now);
        }
    }

    pub(crate) fn on_ask(&mut self, turn: &mut Turn<'_>, from: NodeId, mut ask: Ask) {
        let at = usize::from(ask.at);
        let on_route = at > 0
            && ask.route.get(at) == Some(&turn.me.id())
            && ask.route.get(at - 1) == Some(&from);
        if !on_route {
            return turn.misbehaved(from, "a question with a route that does not lead here");
        }
        if let Some(next) = ask.route.get(at + 1).copied() {
            ask.at += 1;
            turn.send(next, ask);
            return;
        }
        let (subject, by) = (ask.subject, ask.route[0]);
        let nobody_else = self.vouchers(turn, &subject).all(|other| other == by);
        let fresh = self.fresh(&ask);
        let Some(watched) = self.watches.get_mut(&subject) else { return };
        // Who misses it itself would vouch by what is long ago.
        let silent = watched.watch.is_silent();
        if let Some(sent) = watched.watch.proven
            && !silent
            && sent + fresh >= turn.now
        {
            return answer(turn, &ask, turn.now.since(sent));
        }
        if turn.members.is_up(&by) {
            watched.watch.on_doubted(turn.now, by);
            if nobody_else {
                watched.watch.on_forsaken(turn.now);
            }
        }
        let waiting = self.questions.entry(subject).or_default();
        if waiting.len() < QUESTIONS_MAX {
            waiting.push((turn.now, ask));
        }
        if turn.links.is_usable(&subject)
            && let Some(seq) = watched.watch.probe_now(turn.now)
        {
            let view = turn.view_hash();
            turn.send(subject, Probe { seq, view });
        }
    }

    /// How old an answered probe may be for who asks; no older than the longest patience may want.
    fn fresh(&self, ask: &Ask) -> Duration {
        let most = self.timing.ack_timeout_max * 3 / 4;
        Duration::from_millis(u64::from(ask.fresh_ms)).min(most)
    }

    /// A probe that was sent at that time was answered. It may have been under way when somebody asked: those for whom
    /// that is too early wait for the next one.
    fn answer_questions(&mut self, turn: &mut Turn<'_>, about: NodeId, sent: Time) {
        let waiting = self.questions.remove(&about).unwrap_or_default();
        let enough = |(asked, ask): &(Time, Ask)| sent + self.fresh(ask) >= *asked;
        let (answered, waiting): (Vec<_>, Vec<_>) = waiting.into_iter().partition(enough);
        for (_, ask) in answered {
            answer(turn, &ask, turn.now.since(sent));
        }
        if !waiting.is_empty() {
            self.questions.insert(about, waiting);
        }
    }

    pub(crate) fn on_answer(&mut self, turn: &mut Turn<'_>, from: NodeId, mut answer: Answer) {
        let at = usize::from(answer.at);
        let on_route =
            answer.route.get(at) == Some(&turn.me.id()) && answer.route.get(at + 1) == Some(&from);
        if !on_route {
            return turn.misbehaved(from, "an answer with a route that does not lead here");
        }
        if let Some(before) = at.checked_sub(1) {
            let next = answer.route[before];
            answer.at -= 1;
            turn.send(next, answer);
            return;
        }
        if let Some(watched) = self.watches.get_mut(&answer.subject) {
            let ago = Duration::from_millis(u64::from(answer.heard_ms));
            watched.watch.on_vouched(turn.now, ago);
        }
    }

    pub(crate) fn handle_timeout(&mut self, turn: &mut Turn<'_>) {
        self.judge(turn);
        if turn.now >= self.wander_at {
            self.wander(turn);
        }
        if self.rings_stale && turn.now >= self.rings_at {
            self.renew_rings(turn);
        }
        if self.cover_at.is_some_and(|at| turn.now >= at) {
            self.cover(turn);
        }
        self.step_watches(turn);
        self.questions.retain(|_, waiting| {
            waiting.retain(|(asked, _)| turn.now.since(*asked) < self.timing.ack_timeout_max);
            !waiting.is_empty()
        });
        for (link, facts) in self.outbox.flush(turn.now, self.timing.coalesce) {
            turn.send(link, facts);
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Timeout> {
        let timing = &self.timing;
        let watches = self.watches.values().map(|w| w.watch.due(timing).min(w.until)).min();
        [
            watches.map(|at| Timeout { at, reason: "probe" }),
            self.verdict_due().map(|at| Timeout { at, reason: "suspicion" }),
            self.outbox.due().map(|at| Timeout { at, reason: "news" }),
            self.rings_stale.then_some(Timeout { at: self.rings_at, reason: "rings" }),
            self.cover_at.map(|at| Timeout { at, reason: "cover" }),
            Some(Timeout { at: self.wander_at, reason: "wander" }),
        ]
        .into_iter()
        .fold(None, Timeout::earlier)
    }

    fn renew_rings(&mut self, turn: &mut Turn<'_>) {
        self.rings = Rings::of(turn.members);
        self.rings_stale = false;
        self.rings_at = turn.now + RINGS_INTERVAL;
        let me = turn.me.id();
        for (node, watched) in &mut self.watches {
            let successor = self.rings.watched_by(&me).contains(node);
            watched.until = match (successor, watched.until) {
                (true, _) => Time::NEVER,
                (false, Time::NEVER) if turn.members.is_up(node) => turn.now + FORMER_WATCH,
                (false, Time::NEVER) => turn.now,
                (false, until) => until,
            };
        }
        for node in self.rings.watched_by(&me) {
            let phase = self.timing.probe_interval / 256 * (turn.rng.next_u32() >> 24);
            self.watches.entry(*node).or_insert_with(|| Watched {
                watch: Watch::new(turn.now, phase),
                until: Time::NEVER,
            });
        }
        self.watches.retain(|_, watched| watched.until > turn.now);
        turn.links.want_standing(&self.rings.neighbours(&me), turn.now);
    }

    /// Where many are suspected at once, watches in their place whom they would: observers may be among the dead, and
    /// who has only dead ones would be missed a round of suspicion later.
    fn cover(&mut self, turn: &mut Turn<'_>) {
        self.cover_at = None;
        if !self.suspects_many(turn) {
            return;
        }
        self.covered = turn.now;
        let suspected: BTreeSet<NodeId> = self.suspicions.subjects().collect();
        let until = turn.now + FORMER_WATCH;
        for node in rings::covered_by(&turn.me.id(), turn.members, &suspected) {
            turn.links.want_until(node, until, turn.now);
            let watched = self
                .watches
                .entry(node)
                .or_insert_with(|| Watched { watch: Watch::covering(turn.now), until });
            watched.until = watched.until.max(until);
        }
        for watched in self.watches.values_mut() {
            watched.watch.on_forsaken(turn.now);
        }
    }

    /// Whether so many are suspected that those who would vouch for a silent member may be among the dead.
    fn suspects_many(&self, turn: &Turn<'_>) -> bool {
        let up = turn.members.up().count();
        up > rings::FULL_MESH_MAX && self.suspicions.confirmed() * MANY_SUSPECTED >= up
    }

    /// Other observers of `subject` that might hear it: those that this node does not miss, and nobody suspects.
    fn vouchers(&self, turn: &Turn<'_>, subject: &NodeId) -> impl Iterator<Item = NodeId> {
        let me = turn.me.id();
        let missed = |node: &NodeId| self.watch(node).is_some_and(Watch::is_silent);
        let gone = move |node: &NodeId| self.suspicions.get(node).is_some() || missed(node);
        let others = self.rings.observers_of(subject).iter().copied();
        others.filter(move |other| *other != me && !gone(other))
    }

    /// Of those that are missed some may have nobody left who could vouch for them.
    fn note_forsaken(&mut self, turn: &Turn<'_>) {
        let missed = self.watches.iter().filter(|(_, watched)| watched.watch.is_silent());
        let forsaken = |node: &&NodeId| self.vouchers(turn, node).next().is_none();
        let forsaken: Vec<NodeId> =
            missed.map(|(node, _)| node).filter(forsaken).copied().collect();
        for node in forsaken {
            if let Some(watched) = self.watches.get_mut(&node) {
                watched.watch.on_forsaken(turn.now);
            }
        }
    }

    fn step_watches(&mut self, turn: &mut Turn<'_>) {
        let mut silent = Vec::new();
        let mut alerts = Vec::new();
        let mut view = None;
        self.watches.retain(|_, watched| watched.until > turn.now);
        for (node, watched) in &mut self.watches {
            while let Some(step) = watched.watch.step(turn.now, &self.timing) {
                match step {
                    Step::Probe(seq) => {
                        let view = *view.get_or_insert_with(|| turn.view_hash());
                        turn.send(*node, Probe { seq, view });
                    }
                    Step::Ask => silent.push(*node),
                    Step::Alert => alerts.push(*node),
                }
            }
        }
        for node in silent.into_iter().filter(|node| turn.members.is_up(node)).collect::<Vec<_>>() {
            self.ask_others(turn, node);
        }
        for node in alerts {
            if let Some(member) = turn.members.get(&node)
                && member.standing == Standing::Up
            {
                let (incarnation, me) = (member.incarnation(), turn.me.id());
                self.on_alert(turn, me, node, incarnation, me);
            }
        }
    }

    /// Asks the other observers of `subject`, by ways that do not lead through it.
    fn ask_others(&mut self, turn: &mut Turn<'_>, subject: NodeId) {
        let me = turn.me.id();
        let others = self.rings.observers_of(&subject).iter().filter(|other| **other != me);
        let seq = u64::from(turn.rng.next_u32());
        let fresh = self.watch(&subject).map_or(Duration::ZERO, Watch::fresh);
        let fresh_ms = u32::try_from(fresh.as_millis()).unwrap_or(u32::MAX);
        let mut asked = false;
        for other in others.take(ASKED_MAX).copied().collect::<Vec<_>>() {
            let route = match turn.links.is_usable(&other) {
                true => Some(vec![me, other]),
                false => self.rings.route(me, other, &subject, ROUTE_MAX),
            };
            let Some(route) = route.and_then(|route| List::try_from(route).ok()) else { continue };
            let next = route[1];
            asked |= turn.send(next, Ask { seq, subject, fresh_ms, route, at: 1 });
        }
        self.note_forsaken(turn);
        let nobody_left = !asked || self.suspects_many(turn);
        if nobody_left && let Some(watched) = self.watches.get_mut(&subject) {
            watched.watch.on_forsaken(turn.now);
        }
    }

    /// How slow this node's own links are, in parts per thousand of the shortest ack timeout.
    fn slowness_now(&self) -> u32 {
        let mut timeouts: Vec<Duration> = self
            .watches
            .values()
            .filter(|watched| !watched.watch.is_silent() && watched.watch.heard.is_some())
            .map(|watched| watched.watch.patience(&self.timing))
            .collect();
        timeouts.sort_unstable();
        let median =
            timeouts.get(timeouts.len() / 2).copied().unwrap_or(self.timing.ack_timeout_min);
        let scale = median.as_millis() * 1000 / self.timing.ack_timeout_min.as_millis().max(1);
        u32::try_from(scale).unwrap_or(u32::MAX).clamp(1000, 5000)
    }

    fn judge(&mut self, turn: &mut Turn<'_>) {
        // Once per turn: if it changed between judging and asking for the next call, a verdict could be
        // due in the past.
        self.slowness = self.slowness_now();
        self.note_isolation(turn);
        if self.withholds(turn) {
            self.suspicions.restart(turn.now);
        }
        for node in self.suspicions.due(turn.now, &self.timing, self.slowness, &self.rings) {
            let Some(suspicion) = self.suspicions.get(&node) else { continue };
            let heard = self.watch(&node).and_then(|watch| watch.heard);
            if heard > Some(suspicion.first) {
                self.suspicions.postpone(&node, turn.now);
                continue;
            }
            let (incarnation, alerters) = (suspicion.incarnation, suspicion.by.len());
            self.suspicions.clear(&node);
            self.mark_down(turn, node, incarnation, alerters);
        }
    }

    fn verdict_due(&self) -> Option<Time> {
        self.suspicions.next_due(&self.timing, self.slowness, &self.rings)
    }

    /// Whether this node judges nobody now: it has just become isolated, or hears nobody at all. Who
    /// hears somebody for that long is not cut off; the others are gone.
    fn withholds(&self, turn: &Turn<'_>) -> bool {
        let fresh = |since: Time| turn.now.since(since) < ISOLATION_PATIENCE;
        let alone = turn.links.usable().next().is_none();
        self.isolated.is_some_and(|since| fresh(since) || alone)
    }

    fn note_isolation(&mut self, turn: &mut Turn<'_>) {
        let (silent, of) = self.silent();
        let isolated = of >= ISOLATION_MIN && silent * 4 >= of * 3;
        if isolated != self.isolated.is_some() {
            if let Some(since) = self.isolated {
                self.begin_anew(turn, since);
            }
            self.isolated = isolated.then_some(turn.now);
            self.suspicions.restart(turn.now);
            let count = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
            turn.event(Event::Isolated { silent: count(silent), of: count(of), isolated });
        }
    }

    /// This node hears others again. What it has held against somebody since it heard too few nobody could refute, nor
    /// what others said that were cut off with it. What is older stands: those may be dead, and a single board that
    /// comes and goes must not make all others forget them again and again.
    fn begin_anew(&mut self, turn: &Turn<'_>, since: Time) {
        self.suspicions.forget(since - ISOLATION_SHOWS);
        for (node, watched) in &mut self.watches {
            if watched.watch.is_silent() && self.suspicions.get(node).is_none() {
                watched.watch.begin_anew(turn.now);
            }
        }
    }

    fn mark_down(
        &mut self,
        turn: &mut Turn<'_>,
        node: NodeId,
        incarnation: Incarnation,
        alerters: usize,
    ) {
        let name = turn.name_of(&node);
        if !turn.members.set_standing(&node, Standing::Down, turn.now) {
            return;
        }
        self.rings_stale = true;
        let alerters = u16::try_from(alerters).unwrap_or(u16::MAX);
        turn.event(Event::MemberDown { node, name, incarnation: incarnation.0, alerters });
    }
}

/// Sends the answer back along the route that the question came.
fn answer(turn: &mut Turn<'_>, ask: &Ask, heard: Duration) {
    let Some(at) = ask.at.checked_sub(1) else { return };
    let answer = Answer {
        seq: ask.seq,
        subject: ask.subject,
        heard_ms: u32::try_from(heard.as_millis()).unwrap_or(u32::MAX),
        route: ask.route.clone(),
        at,
    };
    turn.send(ask.route[usize::from(at)], answer);
}

#[cfg(test)]
mod tests;
