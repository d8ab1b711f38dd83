//! The active's side: when to capture, whom to offer, when a commit is answered.

use core::time::Duration;
use std::collections::BTreeMap;

use super::{Copies, Hosting, Notice};
use crate::proto::bounded::List;
use crate::proto::id::NodeId;
use crate::proto::io::{CommitOutcome, Effect, Event};
use crate::proto::machine::Time;
use crate::proto::order::Instance;
use crate::proto::spec::{Commit, Replicate};
use crate::proto::table::CheckpointId;
use crate::proto::turn::Turn;
use crate::proto::wire::copies::{Offer, Stored, Unstorable};

/// Where a life's own numbers of checkpoints begin: so many bits are left for one life.
const LIFE_SHIFT: u32 = 32;
/// Commits of one instance that wait; its shim allows 16 connections.
pub const COMMITS_MAX: usize = 64;
/// An offer that is not answered is repeated.
const OFFER_AGAIN: Duration = Duration::from_millis(500);
/// A board whose disk does not take states is asked that rarely.
const UNABLE_AGAIN: Duration = Duration::from_secs(5);
/// The link to a target is wanted that long by one offer.
const LINK_ERRAND: Duration = Duration::from_secs(30);
/// After a capture failed.
const CAPTURE_AGAIN: Duration = Duration::from_secs(1);
/// So long the next capture waits for the board that is to become standby to hold the last one …
const SUCCESSOR_PATIENCE: Duration = Duration::from_secs(5);
/// … and after that so long not again.
const SUCCESSOR_AGAIN: Duration = Duration::from_secs(40);
/// Checkpoints are not made more often than that, whatever a service file says.
const EVERY_MIN: Duration = Duration::from_millis(10);

/// One instance that this board runs.
#[derive(Debug)]
pub struct Source {
    hosting: Hosting,
    replicate: Replicate,
    /// The number of the newest capture under this epoch, complete or not.
    seq: u64,
    capturing: Option<Capturing>,
    /// The newest complete capture of this epoch, and when its capture began.
    newest: Option<(CheckpointId, Time)>,
    /// When the next capture is due.
    next_at: Time,
    /// Until when the next capture waits for the standby's successor, if it does.
    waits: Option<Time>,
    /// Before that it does not wait once more.
    waits_again: Time,
    /// What each target is fetching, and when it was offered last.
    offered: BTreeMap<NodeId, (CheckpointId, Time)>,
    commits: Vec<Waiting>,
    /// The next capture is the last one before a handover; the service stays frozen.
    closing: bool,
    /// The next capture is one that an operator asked for: it is kept.
    by_hand: bool,
    /// When the state was captured that the standby confirmed last.
    confirmed_at: Option<Time>,
}

#[derive(Debug)]
pub(super) struct Capturing {
    pub(super) id: CheckpointId,
    since: Time,
    last: bool,
    by_hand: bool,
}

#[derive(Debug)]
struct Waiting {
    ticket: u64,
    /// The capture that contains it; none has begun since it was asked for.
    part_of: Option<u64>,
    since: Time,
    until: Option<Time>,
}

impl Source {
    fn new(hosting: Hosting, replicate: Replicate, seq: u64, now: Time) -> Self {
        Self {
            hosting,
            replicate,
            seq,
            capturing: None,
            newest: None,
            next_at: now,
            waits: None,
            waits_again: now,
            offered: BTreeMap::new(),
            commits: Vec::new(),
            closing: false,
            by_hand: false,
            confirmed_at: None,
        }
    }

    /// When the state was captured that the standby confirmed last, by this board's clock.
    pub fn confirmed_at(&self) -> Option<Time> {
        self.confirmed_at
    }

    /// Since when a commit of the service waits for another board, if one does.
    pub fn commits_wait_since(&self) -> Option<Time> {
        self.commits.iter().map(|commit| commit.since).min()
    }

    pub(super) fn capturing(&self) -> Option<&Capturing> {
        self.capturing.as_ref()
    }

    pub(super) fn due(&self) -> Option<Time> {
        let offers = self.offered.values().map(|(_, at)| *at + OFFER_AGAIN);
        let commits = self.commits.iter().filter_map(|commit| commit.until);
        let next_at = self.waits.map_or(self.next_at, |until| until.max(self.next_at));
        let capture = (self.wants_capture() && self.capturing.is_none()).then_some(next_at);
        offers.chain(commits).chain(capture).min()
    }

    /// Nobody to send it to, or nobody has taken the last one yet: a capture would only wear the disk.
    fn wants_capture(&self) -> bool {
        if !self.hosting.began_is_durable {
            return false;
        }
        let asked = self.closing || self.commits.iter().any(|commit| commit.part_of.is_none());
        // What it began with may be another state by now: whether that is taken says nothing.
        let newest = self.newest.filter(|(newest, _)| newest.epoch == self.hosting.epoch);
        let taken = newest.is_none_or(|(newest, _)| {
            let busy = |node: &NodeId| self.offered.get(node).is_some_and(|(id, _)| *id == newest);
            !self.hosting.targets.iter().all(busy)
        });
        let worth_it = !self.hosting.targets.is_empty() && (taken || asked);
        (self.hosting.runs || self.closing) && (worth_it || self.by_hand)
    }

    /// Whether the next capture waits for the standby's successor, which holds `confirmed`. A standby that takes
    /// states faster would stay for ever: its successor counts only once it holds as much.
    fn waits_for_successor(&mut self, confirmed: Option<CheckpointId>, now: Time) -> bool {
        let newest = self.newest.map(|(newest, _)| newest);
        // Its first state is a whole one, and may take long.
        let begun = confirmed.is_some_and(|id| id.epoch == self.hosting.epoch);
        let late = |commit: &Waiting| {
            commit.until.is_some_and(|until| until <= now + SUCCESSOR_PATIENCE * 2)
        };
        let hurries = self.closing || self.by_hand || self.commits.iter().any(late);
        if self.hosting.successor.is_none() || !begun || confirmed >= newest || hurries {
            self.waits = None;
        } else if self.waits.is_none() && now >= self.waits_again {
            self.waits = Some(now + SUCCESSOR_PATIENCE);
            self.waits_again = now + SUCCESSOR_PATIENCE + SUCCESSOR_AGAIN;
        } else if self.waits.is_some_and(|until| until <= now) {
            self.waits = None;
        }
        self.waits.is_some()
    }

    /// Whether a word of `node` about a state concerns this right.
    fn may_hold(&self, node: &NodeId, id: CheckpointId) -> bool {
        let offered = self.offered.get(node).is_some_and(|(offered, _)| *offered == id);
        self.hosting.targets.contains(node) && (id.epoch == self.hosting.epoch || offered)
    }

    fn every(&self) -> Duration {
        Duration::from_millis(u64::from(self.replicate.every_ms)).max(EVERY_MIN)
    }
}

impl Copies {
    /// What is known of an instance on this board has changed.
    pub(crate) fn on_hosting(&mut self, turn: &mut Turn<'_>, instance: Instance, hosting: Hosting) {
        let spec = turn.specs.get(&hosting.spec);
        // Without a state there is nothing to copy; without a specification nothing runs.
        let Some(replicate) = spec.filter(|s| s.state.is_some()).map(|s| s.replicate) else {
            return;
        };
        let epoch = hosting.epoch;
        let known = self.sources.get_mut(&instance).filter(|source| source.hosting.epoch == epoch);
        let retargeted = known.as_ref().is_none_or(|s| s.hosting.targets != hosting.targets);
        match known {
            Some(source) => {
                source.offered.retain(|node, _| hosting.targets.contains(node));
                turn.holdings.forget_unable(&instance, |node| !hosting.targets.contains(node));
                source.hosting = hosting;
                source.replicate = replicate;
            }
            None => {
                // A restart under the same right goes on after what it captured before.
                let own = turn.holdings.own(&instance).filter(|id| id.epoch == epoch).max();
                // The store may have lost what an earlier life captured and others hold; a number must
                // never name two states, so every life has numbers of its own.
                let life = turn.me.record().incarnation.0 << LIFE_SHIFT;
                let floor = if hosting.resumed { life } else { 0 };
                let seq = own.map_or(0, |id| id.seq).max(floor);
                let mut source = Source::new(hosting, replicate, seq, turn.now);
                source.newest = own.map(|id| (id, turn.now));
                turn.holdings.forget_confirmed(&instance);
                // Whoever waited under the former right is told; and one capture at a time, also now.
                self.end(turn, &instance, CommitOutcome::Unknown);
                let before = self.sources.remove(&instance).and_then(|s| s.capturing);
                source.capturing = before.or_else(|| self.left_over.remove(&instance));
                self.sources.insert(instance.clone(), source);
            }
        }
        self.give_base(turn, &instance);
        if retargeted && let Some(source) = self.sources.get(&instance) {
            let to = List::capped(source.hosting.targets.iter().copied());
            turn.out.push(Effect::Serve { instance: instance.clone(), to });
        }
        self.answer_commits(turn, &instance);
        if self.sources.get(&instance).is_some_and(|source| !source.hosting.runs) {
            // Whoever asked ended with its service.
            self.end(turn, &instance, CommitOutcome::Unknown);
        }
        self.proceed(turn, &instance);
    }

    /// Where nothing has begun yet what the row names is the newest that there is.
    fn give_base(&mut self, turn: &Turn<'_>, instance: &Instance) {
        let Some(source) = self.sources.get_mut(instance) else { return };
        let base = source.hosting.base;
        let base = base.filter(|base| turn.holdings.own(instance).any(|own| own == *base));
        if let Some(base) = base
            && source.newest.is_none_or(|(newest, _)| newest < base)
        {
            source.newest = Some((base, turn.now));
            // What the row named before is wanted nowhere any more, and would be offered for ever.
            source.offered.clear();
        }
    }

    /// This board does not run the instance any more.
    pub(crate) fn on_not_hosting(&mut self, turn: &mut Turn<'_>, instance: &Instance) {
        self.end(turn, instance, CommitOutcome::Unknown);
        if let Some(source) = self.sources.remove(instance) {
            self.left_over.extend(source.capturing.map(|capturing| (instance.clone(), capturing)));
            turn.out.push(Effect::Serve { instance: instance.clone(), to: List::new() });
        }
    }

    /// The next state is the last one before a handover: the service stays frozen after it. False takes
    /// that back.
    pub(crate) fn close(&mut self, turn: &mut Turn<'_>, instance: &Instance, closing: bool) {
        let Some(source) = self.sources.get_mut(instance) else {
            return self.notices.push(Notice::Final(instance.clone(), None));
        };
        source.closing = closing;
        if closing {
            source.next_at = turn.now;
        }
        self.proceed(turn, instance);
    }

    /// An operator wants a checkpoint now, not when the next one is due, and wants it kept.
    pub(crate) fn capture_now(&mut self, turn: &mut Turn<'_>, instance: &Instance) {
        if let Some(source) = self.sources.get_mut(instance) {
            (source.next_at, source.by_hand) = (turn.now, true);
        }
        self.proceed(turn, instance);
    }

    pub(crate) fn handle_timeout(&mut self, turn: &mut Turn<'_>) {
        let due: Vec<Instance> = self
            .sources
            .iter()
            .filter(|(_, source)| source.due().is_some_and(|at| at <= turn.now))
            .map(|(instance, _)| instance.clone())
            .collect();
        for instance in due {
            self.give_up_late_commits(turn, &instance);
            self.proceed(turn, &instance);
        }
    }

    /// The service asks for everything up to now to be kept (3b.7).
    pub(crate) fn on_commit(&mut self, turn: &mut Turn<'_>, instance: &Instance, ticket: u64) {
        let answer = |turn: &mut Turn<'_>, outcome| {
            turn.out.push(Effect::Commit { instance: instance.clone(), ticket, outcome });
        };
        let Some(source) = self.sources.get_mut(instance) else {
            return answer(turn, CommitOutcome::Unknown);
        };
        if source.replicate.commit == Commit::Async {
            return answer(turn, CommitOutcome::Ok(source.seq + 1));
        }
        if source.commits.len() >= COMMITS_MAX {
            return answer(turn, CommitOutcome::Unknown);
        }
        let patience = Duration::from_millis(u64::from(source.replicate.commit_timeout_ms));
        let until = (!patience.is_zero()).then_some(turn.now + patience);
        source.commits.push(Waiting { ticket, part_of: None, since: turn.now, until });
        source.next_at = turn.now;
        self.proceed(turn, instance);
    }

    /// A capture has ended.
    pub(crate) fn on_captured(
        &mut self,
        turn: &mut Turn<'_>,
        instance: &Instance,
        id: CheckpointId,
        result: Result<u64, String>,
    ) {
        if result.is_ok() {
            turn.holdings.put(instance, id);
        }
        let Some(source) = self.sources.get_mut(instance) else {
            self.left_over.remove(instance);
            return self.keep_what_the_row_needs(turn, instance);
        };
        let Some(capturing) = source.capturing.take_if(|capturing| capturing.id == id) else {
            return;
        };
        match result {
            // Of a former right: it is no capture of this one's.
            _ if id.epoch != source.hosting.epoch => {}
            Ok(_) => {
                source.newest = Some((id, capturing.since));
                if capturing.by_hand {
                    Self::pin(turn, instance, id);
                }
            }
            Err(why) => {
                source.next_at = turn.now + CAPTURE_AGAIN;
                source.by_hand |= capturing.by_hand;
                let again = |commit: &mut Waiting| {
                    commit.part_of = commit.part_of.filter(|part| *part != id.seq)
                };
                source.commits.iter_mut().for_each(again);
                turn.event(Event::CopyFailed { instance: instance.to_string(), why });
            }
        }
        if capturing.last && source.closing && id.epoch == source.hosting.epoch {
            source.closing = false;
            let newest = source.newest.filter(|(newest, _)| *newest == id).map(|(id, _)| id);
            self.notices.push(Notice::Final(instance.clone(), newest));
        }
        self.notices.push(Notice::Progress(instance.clone()));
        self.proceed(turn, instance);
    }

    /// States in this board's store cannot be read: they are none. Offering them would go on for ever; the next
    /// capture replaces them.
    pub(crate) fn on_spoilt(
        &mut self,
        turn: &mut Turn<'_>,
        instance: &Instance,
        states: &[CheckpointId],
    ) {
        let (spoilt, unpinned) = turn.holdings.take(instance, states);
        let Some(last) = spoilt.last() else { return };
        let why =
            format!("its state {}/{} here cannot be read: check the disk", last.epoch.0, last.seq);
        turn.event(Event::CopyFailed { instance: instance.to_string(), why });
        if unpinned {
            Self::note_pins(turn, instance);
        }
        if let Some(source) = self.sources.get_mut(instance) {
            source.offered.retain(|_, (id, _)| !spoilt.contains(id));
            let last_one = source.capturing.as_ref().is_some_and(|capturing| capturing.last);
            let newest = source.newest.is_some_and(|(newest, _)| spoilt.contains(&newest));
            if newest && !source.closing && !last_one {
                // Should it be what a handover waits for, it waits in vain.
                self.notices.push(Notice::Final(instance.clone(), None));
            }
        }
        self.proceed(turn, instance);
    }

    /// Another board holds a state durably.
    pub(crate) fn on_stored(&mut self, turn: &mut Turn<'_>, from: NodeId, stored: &Stored) {
        let Stored { instance, id } = stored;
        let Some(source) = self.sources.get_mut(instance) else { return };
        if !source.may_hold(&from, *id) {
            return;
        }
        if source.newest.is_none_or(|(newest, _)| *id > newest) {
            return turn.misbehaved(from, "it claims to hold a state that was never captured");
        }
        source.offered.retain(|node, (offered, _)| *node != from || *offered > *id);
        if source.newest.is_some_and(|(newest, _)| newest == *id) {
            source.confirmed_at = source.newest.map(|(_, at)| at);
        }
        if turn.holdings.confirm(instance, from, *id) {
            let (name, epoch, seq) = (instance.to_string(), id.epoch.0, id.seq);
            turn.event(Event::Copied { instance: name, epoch, seq, by: from });
            self.notices.push(Notice::Progress(instance.clone()));
        }
        self.answer_commits(turn, instance);
        self.proceed(turn, instance);
    }

    /// The disk of another board does not take a state.
    pub(crate) fn on_unstorable(&mut self, turn: &mut Turn<'_>, from: NodeId, word: &Unstorable) {
        let Unstorable { instance, id, why } = word;
        let Some(source) = self.sources.get_mut(instance) else { return };
        if !source.may_hold(&from, *id) {
            return;
        }
        if let Some((_, at)) = source.offered.get_mut(&from) {
            *at = turn.now + (UNABLE_AGAIN - OFFER_AGAIN);
        }
        if turn.holdings.note_unable(instance, from, turn.now) {
            let why = format!("{} cannot store it: {why}", turn.name_of(&from));
            turn.event(Event::CopyFailed { instance: instance.to_string(), why });
        }
    }

    /// Captures what is due, offers what is complete, forgets what nobody needs.
    fn proceed(&mut self, turn: &mut Turn<'_>, instance: &Instance) {
        let Some(source) = self.sources.get_mut(instance) else { return };
        let successor = source.hosting.successor;
        let confirmed = successor.and_then(|node| turn.holdings.confirmed(instance, &node));
        let due =
            source.capturing.is_none() && source.wants_capture() && source.next_at <= turn.now;
        if due && !source.waits_for_successor(confirmed, turn.now) {
            source.seq += 1;
            let id = CheckpointId { epoch: source.hosting.epoch, seq: source.seq };
            let last = source.closing;
            let by_hand = core::mem::take(&mut source.by_hand);
            source.capturing = Some(Capturing { id, since: turn.now, last, by_hand });
            source.next_at = turn.now + source.every();
            for commit in source.commits.iter_mut().filter(|commit| commit.part_of.is_none()) {
                commit.part_of = Some(id.seq);
            }
            turn.out.push(Effect::Capture { instance: instance.clone(), id, freeze: last });
        }
        if let Some((newest, _)) = source.newest {
            for target in &source.hosting.targets {
                let confirmed = turn.holdings.confirmed(instance, target);
                let id = match source.offered.get(target) {
                    Some((_, at)) if turn.now < *at + OFFER_AGAIN => continue,
                    Some((id, _))
                        if id.epoch == newest.epoch
                            && turn.holdings.own(instance).any(|own| own == *id) =>
                    {
                        *id
                    }
                    _ if confirmed >= Some(newest) => continue,
                    // It cannot be read any more; the next one is offered.
                    _ if turn.holdings.own(instance).all(|own| own != newest) => continue,
                    _ => newest,
                };
                source.offered.insert(*target, (id, turn.now));
                turn.links.want_until(*target, turn.now + LINK_ERRAND, turn.now);
                turn.send(*target, Offer { instance: instance.clone(), id });
            }
        }
        self.keep_what_the_row_needs(turn, instance);
    }

    /// An active keeps what its targets have or fetch, to compare with, its newest, and what it is to be
    /// started from.
    pub(super) fn kept_by_source(&self, turn: &Turn<'_>, instance: &Instance) -> Vec<CheckpointId> {
        let Some(source) = self.sources.get(instance) else { return Vec::new() };
        let offered = source.offered.values().map(|(id, _)| *id);
        let confirmed = source
            .hosting
            .targets
            .iter()
            .filter_map(|node| turn.holdings.confirmed(instance, node));
        let newest = source.newest.map(|(id, _)| id);
        offered.chain(confirmed).chain(newest).chain(source.hosting.restoring).collect()
    }

    /// Answers the commits that every board holds that must.
    fn answer_commits(&mut self, turn: &mut Turn<'_>, instance: &Instance) {
        let Some(source) = self.sources.get_mut(instance) else { return };
        let epoch = source.hosting.epoch;
        let held = source
            .hosting
            .required
            .iter()
            .map(|node| turn.holdings.confirmed(instance, node).filter(|id| id.epoch == epoch))
            .min()
            .flatten();
        let Some(held) = held else { return };
        source.commits.retain(|commit| {
            let done = commit.part_of.is_some_and(|part| part <= held.seq);
            if done {
                let (instance, ticket) = (instance.clone(), commit.ticket);
                let outcome = CommitOutcome::Ok(held.seq);
                turn.out.push(Effect::Commit { instance, ticket, outcome });
            }
            !done
        });
    }

    fn give_up_late_commits(&mut self, turn: &mut Turn<'_>, instance: &Instance) {
        let Some(source) = self.sources.get_mut(instance) else { return };
        let outcome = match source.hosting.required.is_empty() {
            true => CommitOutcome::Unprotected,
            false => CommitOutcome::Unknown,
        };
        let now = turn.now;
        source.commits.retain(|commit| {
            let late = commit.until.is_some_and(|until| until <= now);
            if late {
                let (instance, ticket) = (instance.clone(), commit.ticket);
                turn.out.push(Effect::Commit { instance, ticket, outcome });
            }
            !late
        });
    }

    /// The right ended: whether what was asked for is kept is not known here.
    fn end(&mut self, turn: &mut Turn<'_>, instance: &Instance, outcome: CommitOutcome) {
        let Some(source) = self.sources.get_mut(instance) else { return };
        for commit in core::mem::take(&mut source.commits) {
            let (instance, ticket) = (instance.clone(), commit.ticket);
            turn.out.push(Effect::Commit { instance, ticket, outcome });
        }
    }
}
