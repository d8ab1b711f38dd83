//! The active: the life of an instance on this board.
//!
//! ```text
//! idle ──lease, state──▶ starting ──▶ running ──exit──▶ waiting ──▶ idle
//!   ▲                        │            │ lease over, or the row moved on
//!   └────────────────────────┴────────────┴──▶ stopping ──▶ idle, or gone
//! ```

use core::time::Duration;
use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::handover::Handover;
use super::renewal::Lease;
use super::{Failover, INSTANCES_MAX, Kept, Notice, Office, Ran, want_spec};
use crate::proto::bounded::{List, Text};
use crate::proto::copies::Hosting;
use crate::proto::holdings::Holdings;
use crate::proto::id::{Digest16, Epoch, NodeId};
use crate::proto::io::{Begin, Effect, Event, Exit, Report};
use crate::proto::journal::{Record, Tenure};
use crate::proto::machine::Time;
use crate::proto::ops::Purpose;
use crate::proto::order::{Endpoint, Instance, Serving};
use crate::proto::record::Name;
use crate::proto::signed::Signed;
use crate::proto::spec::{Commit, OnIsolation, PORTS_MAX, Restart, ServiceSpec};
use crate::proto::specs::SpecHash;
use crate::proto::table::{CheckpointId, Row};
use crate::proto::turn::Turn;

/// Before the first repetition of a start that failed; doubles each time.
const BACKOFF_MIN: Duration = Duration::from_millis(200);
/// Once a service has ended too often: it is tried again that rarely.
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// It ran that long under one right.
const SETTLED_AFTER: Duration = Duration::from_secs(60);
/// Starts in a row that fail before another board is asked to try (L6).
const FAILURES_MAX: u32 = 3;
/// What was moved here and could not be started: before it is given back.
const GIVEN_BACK_AFTER: Duration = Duration::from_secs(60);
/// What came back since nobody else could start it: before this board, though drained, gives it away again.
const KEPT_FOR: Duration = Duration::from_secs(600);

/// An instance that this board is to run.
#[derive(Debug)]
pub struct Assignment {
    /// The row that says so.
    pub row: Row,
    /// What it is doing.
    pub run: Run,
    /// How it ended last, for people.
    pub last_exit: Option<Exit>,
    /// How often it was started in this epoch.
    pub starts: u64,
    /// Under which right it was started or found last; reports about others are late.
    pub(super) under: Epoch,
    /// By which order it was started last.
    started_by: SpecHash,
    /// Its right to run, right now.
    pub lease: Lease,
    /// The right that this board gave up for good: the epoch, the successor, the last state.
    pub released: Option<(Epoch, NodeId, CheckpointId)>,
    /// The revision of the row from which on the former standby does not count any more.
    pub switching: Option<u64>,
    /// What it ran on is lost.
    pub lost: bool,
    pub(super) handover: Option<Handover>,
    /// An operator wants it started again from this state, and is told by then that it was not done.
    pub(super) restoring: Option<(CheckpointId, Time)>,
    /// After a handover that failed the service is left in peace until then, unless somebody orders it.
    pub(super) hand_over_after: Time,
    /// Until when a former standby's word prolonged its lease.
    pub(super) former_until: Time,
    /// The revision for which it is being written down that the standby does not count any more.
    pub(super) switch_kept_for: Option<u64>,
    /// The right that it is durable here that this board has: under one that a power cut takes from its memory
    /// nothing begins, or it would promise a former active what it has used up itself.
    kept: Option<Epoch>,
    /// Under which epoch its folder was written last by a service that ran here.
    pub(super) began: Option<Epoch>,
    /// The same, durable: an earlier word is lost with the power.
    pub(super) began_kept: Option<Epoch>,
    /// When to tell the master again what needs a change.
    pub(super) claim_at: Time,
    /// Whether it ran under this epoch in an earlier life of this board.
    pub(super) resumed: bool,
    /// The newest state of this epoch that this board held when it came back to life.
    pub(super) recalled: Option<CheckpointId>,
    /// When this row was learnt.
    pub(super) learnt: Time,
    /// When this right was.
    appointed: Time,
    /// Which board handed it over.
    came_from: Option<NodeId>,
    /// Since when it runs.
    runs_since: Time,
    /// Whether it ran well under this right: where it came from says nothing any more.
    pub(super) has_settled: bool,
    /// When it ended lately.
    ended: VecDeque<Time>,
    failures: u32,
    /// It began here, nothing of it was captured before a power cut, say, and it can be neither started nor
    /// captured any more: what the right began with is all that there is.
    pub(super) bare: bool,
}

/// What an instance is doing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Run {
    /// Nothing: no lease, no state, no specification, or not to run.
    Idle,
    /// Its shim was told to start it.
    Starting,
    /// It runs.
    Running,
    /// Its shim was told to stop it.
    Stopping,
    /// It ended and is started again then.
    Waiting(Time),
}

/// An instance that a shim runs already.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Found {
    /// Under which right it was started.
    pub epoch: Epoch,
    /// What its specification says ([`ServiceSpec::digest`]); none if it was started by a version of
    /// Hedgerow that did not note it.
    pub spec: Option<Digest16>,
    /// Its ports.
    pub ports: List<(Name, u16), PORTS_MAX>,
}

impl Assignment {
    fn new(row: Row, now: Time) -> Self {
        Self {
            came_from: row.standby.filter(|_| row.released),
            row,
            run: Run::Idle,
            last_exit: None,
            starts: 0,
            under: Epoch::default(),
            started_by: SpecHash::default(),
            lease: Lease::new(now),
            released: None,
            switching: None,
            lost: false,
            handover: None,
            restoring: None,
            hand_over_after: now,
            former_until: now,
            switch_kept_for: None,
            kept: None,
            began: None,
            began_kept: None,
            claim_at: now,
            resumed: false,
            recalled: None,
            learnt: now,
            appointed: now,
            runs_since: now,
            has_settled: false,
            ended: VecDeque::new(),
            failures: 0,
            bare: false,
        }
    }

    /// Whether this board gave the present right up.
    pub fn is_released(&self) -> bool {
        self.released.is_some_and(|(epoch, ..)| epoch == self.row.epoch)
    }

    /// Whether the former standby does not count any more, while the row still names it.
    pub fn is_switching(&self) -> bool {
        self.switching == Some(self.row.revision)
    }

    /// Whether it is being written down that the standby does not count any more.
    pub(super) fn keeps(&self, revision: u64) -> bool {
        self.switch_kept_for == Some(revision)
    }

    /// Whether it never ran anywhere: there is no state of it that a standby would have to hold.
    pub(crate) fn is_blank(&self) -> bool {
        self.row.is_first() && !self.row.ready && self.began.is_none()
    }

    /// Whether nothing has begun under this right: what it would begin with is all that there is of it.
    pub(super) fn is_unused(&self) -> bool {
        self.began != Some(self.row.epoch)
    }

    /// Whether nothing of this right is left but what it began with, or was to begin with.
    pub(super) fn has_base_only(&self) -> bool {
        self.bare || self.is_unused()
    }

    /// Whether it was to begin under this right, in vain.
    pub(super) fn cannot_begin(&self) -> bool {
        self.is_unused() && self.failures > 0
    }

    /// Whether a state is of this right, or what an unused one begins with.
    pub(super) fn counts(&self, holdings: &Holdings, id: CheckpointId) -> bool {
        let begins = || self.names(id) && holdings.start_of(&self.row) == Some(id);
        id.epoch == self.row.epoch || (self.has_base_only() && begins())
    }

    /// Whether a state is the one that the row names.
    pub(super) fn names(&self, id: CheckpointId) -> bool {
        id == self.row.base && id != CheckpointId::default()
    }

    /// Whether another board should try although nothing has begun here.
    pub(super) fn is_for_others(&self, now: Time) -> bool {
        self.is_unused() && self.failures >= FAILURES_MAX && !self.has_just_come(now)
    }

    /// Whether a third board should try: neither this one nor the one that it came from could start it.
    pub(super) fn needs_another(&self, now: Time) -> bool {
        self.is_unused() && self.failures >= FAILURES_MAX && self.has_just_come(now)
    }

    /// Whether it does not run, has failed here again and again, and waits for a next try.
    pub(super) fn lies(&self) -> bool {
        self.failures >= FAILURES_MAX && matches!(self.run, Run::Idle | Run::Waiting(_))
    }

    /// Whether it was given back unused by the board that it would go to again: there it cannot be started.
    pub(super) fn is_better_off_here(&self, now: Time) -> bool {
        let row = &self.row;
        let unused = row.base.epoch < row.previous && row.base != CheckpointId::default();
        let back = row.standby.is_some() && row.standby == self.came_from;
        row.released && unused && back && now.since(self.appointed) < KEPT_FOR
    }

    /// Whether a handover has brought it here, and it has not run well since. Two boards that hand a broken
    /// service to and fro help nobody. What cannot even be started here may go on to a third one, or back now
    /// and then.
    pub(super) fn has_just_come(&self, now: Time) -> bool {
        let failed = matches!(self.last_exit, Some(Exit::Failed { .. }));
        let back = self.row.standby == self.came_from;
        let goes_on = failed && (!back || now.since(self.appointed) >= GIVEN_BACK_AFTER);
        self.row.released && !self.has_settled && !goes_on
    }

    /// Whether it is to run here, if it may.
    pub(super) fn is_wanted(&self) -> bool {
        !self.row.retiring && !self.lost && !self.is_released()
    }

    pub(super) fn due(&self) -> Time {
        if self.row.retiring {
            return if self.row.removing { self.claim_at } else { Time::NEVER };
        }
        let renew = if self.is_wanted() { self.lease.renew_at } else { Time::NEVER };
        let due = renew.min(self.claim_at);
        match self.run {
            Run::Waiting(until) => until.min(due),
            Run::Idle | Run::Starting | Run::Running | Run::Stopping => due,
        }
    }

    /// Notes that it ended and says when to start it again; past `restart.max` ends within
    /// `restart.within` only now and then.
    fn note_end(&mut self, now: Time, restart: Restart) -> Time {
        let within = Duration::from_millis(u64::from(restart.within_ms));
        while self.ended.front().is_some_and(|at| now.since(*at) > within) {
            self.ended.pop_front();
        }
        let recent = self.ended.len();
        if recent <= usize::from(restart.max) {
            self.ended.push_back(now);
        }
        if recent >= usize::from(restart.max) {
            return now + BACKOFF_MAX;
        }
        now + BACKOFF_MAX.min(BACKOFF_MIN * 2_u32.saturating_pow(recent as u32))
    }

    /// Whether it failed so often that another board should try.
    fn is_hopeless(&self, restart: Restart) -> bool {
        self.failures >= FAILURES_MAX || self.ended.len() > usize::from(restart.max)
    }
}

impl Failover {
    /// Takes up rows that name this board as active and drops those that do not any more. Returns
    /// whether anything changed.
    pub(super) fn follow_active_rows(&mut self, turn: &mut Turn<'_>) -> bool {
        let me = turn.me.id();
        let Some(newest) = turn.directory.newest() else { return false };
        let mine: Vec<Row> = newest.table.rows.iter().filter(|r| r.active == me).cloned().collect();
        let gone: Vec<Instance> = self
            .assignments
            .keys()
            .chain(self.found.keys())
            .filter(|instance| match newest.table.row(instance) {
                None => true,
                // A restarted board may be told less than it remembers.
                Some(row) => {
                    let known = self.assignments.get(*instance).map(|a| a.row.age());
                    row.active != me && known.is_none_or(|age| age < row.age())
                }
            })
            .cloned()
            .collect();
        let mut changed = !gone.is_empty();
        for instance in gone {
            self.drop_assignment(turn, &instance);
        }
        for row in mine.into_iter().take(INSTANCES_MAX) {
            changed |= self.assign(turn, row);
        }
        changed
    }

    fn drop_assignment(&mut self, turn: &mut Turn<'_>, instance: &Instance) {
        self.found.remove(instance);
        self.note_split(turn, instance);
        self.assignments.remove(instance);
        turn.persist(Record::Unassigned(instance.clone()), Purpose::Memory);
        // What was removed may end in peace; what another board has the right to run may not.
        let kill =
            turn.directory.newest().is_some_and(|newest| newest.table.row(instance).is_some());
        turn.out.push(Effect::Stop { instance: instance.clone(), kill });
        self.notices.push(Notice::NotHosting(instance.clone()));
    }

    /// A service that keeps running in isolation (3b.6) ran here without a lease, and by now the right is
    /// another one: both sides may have written.
    fn note_split(&mut self, turn: &mut Turn<'_>, instance: &Instance) {
        let Some(assignment) = self.assignments.get(instance) else { return };
        let Some(newest) = turn.directory.newest() else { return };
        let Some(row) = newest.table.row(instance) else { return };
        let until = assignment.lease.until();
        let alone = assignment.run == Run::Running && until <= turn.now;
        let keeps = turn.specs.get(&assignment.row.spec).is_some_and(|spec| {
            spec.on_isolation == OnIsolation::KeepRunning && spec.state.is_some()
        });
        let (old, new) = (assignment.row.epoch, row.epoch);
        if !alone || !keeps || new <= old {
            return;
        }
        let for_ms = u64::try_from(turn.now.since(until).as_millis()).unwrap_or(u64::MAX);
        let event =
            Event::SplitRan { instance: instance.to_string(), old: old.0, new: new.0, for_ms };
        turn.event(event);
        turn.out.push(Effect::KeepAside { instance: instance.clone(), epoch: old });
    }

    /// What this board was running when it stopped may run still, under its shim.
    pub(crate) fn recall(&mut self, turn: &mut Turn<'_>, tenure: Tenure) {
        let instance = tenure.row.instance();
        let mut assignment = Assignment::new(tenure.row, turn.now);
        assignment.kept = Some(assignment.row.epoch);
        (assignment.began, assignment.began_kept) = (tenure.began, tenure.began);
        assignment.resumed = tenure.began == Some(assignment.row.epoch);
        assignment.recall_captures(turn.holdings, &instance);
        assignment.released = tenure.released;
        assignment.switching = tenure.switching;
        // What a former standby granted to an earlier life is not remembered.
        assignment.former_until = self.silent_until.max(turn.now + self.preset.lease);
        self.assignments.insert(instance, assignment);
    }

    /// This board is to run what `row` says. Returns whether that is news.
    fn assign(&mut self, turn: &mut Turn<'_>, row: Row) -> bool {
        let instance = row.instance();
        let ran = self.found.remove(&instance);
        let now = turn.now;
        let known = self.assignments.get(&instance).map(|assignment| assignment.row.clone());
        if known.as_ref().is_some_and(|known| known.age() >= row.age()) {
            return false;
        }
        let kept = Kept::Assigned(instance.clone(), row.epoch);
        turn.persist(Record::Assigned(Box::new(row.clone())), Purpose::Kept(kept));
        self.note_split(turn, &instance);
        let assignment = self
            .assignments
            .entry(instance.clone())
            .or_insert_with(|| Assignment::new(row.clone(), now));
        let moved = known.as_ref().is_none_or(|known| known.epoch != row.epoch);
        let changed = known.as_ref().is_some_and(|known| known.spec != row.spec);
        let restarts = moved || changed;
        if changed {
            // What is wrong with the old one says nothing about the new one.
            assignment.last_exit = None;
            assignment.ended.clear();
            assignment.failures = 0;
        }
        if moved {
            let before = core::mem::replace(assignment, Assignment::new(row.clone(), now));
            (assignment.run, assignment.under) = (before.run, before.under);
            (assignment.began, assignment.began_kept) = (before.began, before.began_kept);
            assignment.started_by = before.started_by;
            // That it was assigned, or began, may not have come to the disk before a power cut.
            assignment.recall_captures(turn.holdings, &instance);
            turn.event(Event::Appointed { instance: instance.to_string(), epoch: row.epoch.0 });
        }
        // What is dead already, or written down as given up, is not taken back.
        let thaws = assignment.handover.take_if(|handover| handover.can_be_undone()).is_some();
        let guard = |row: &Row| (row.standby.filter(|_| row.ready), row.epoch);
        if known.as_ref().map(guard) != Some(guard(&row)) {
            let (standby, epoch) = guard(&row);
            let (instance, epoch) = (instance.to_string(), epoch.0);
            turn.event(Event::Protected { instance, epoch, standby });
        }
        assignment.row = row;
        assignment.learnt = now;
        assignment.lease.renew_at = now;
        assignment.claim_at = now;
        let runs = !matches!(assignment.run, Run::Idle | Run::Waiting(_));
        let stops = runs && (restarts || assignment.row.retiring);
        if let Some(Ran { found, exit }) = ran {
            self.adopt(turn, instance.clone(), found);
            if let Some(exit) = exit {
                self.on_ended(turn, &instance, exit);
            }
            return true;
        }
        if stops {
            assignment.run = Run::Stopping;
            turn.out.push(Effect::Stop { instance: instance.clone(), kill: moved });
        } else if thaws {
            self.notices.push(Notice::Close(instance.clone(), false));
            turn.out.push(Effect::Thaw { instance: instance.clone() });
        }
        self.tell_copies(&instance);
        true
    }

    /// A shim that was found after a restart runs this.
    fn on_found(&mut self, turn: &mut Turn<'_>, instance: Instance, found: Found) {
        if self.assignments.contains_key(&instance) {
            self.adopt(turn, instance, found);
        } else if self.found.len() < INSTANCES_MAX {
            // Its lease ends by itself if no row ever claims it.
            self.found.insert(instance, Ran { found, exit: None });
        }
    }

    fn adopt(&mut self, turn: &mut Turn<'_>, instance: Instance, found: Found) {
        let Some(assignment) = self.assignments.get_mut(&instance) else { return };
        assignment.under = found.epoch;
        if assignment.row.epoch != found.epoch || !assignment.is_wanted() {
            assignment.run = Run::Stopping;
            turn.out.push(Effect::Stop { instance, kill: true });
            return;
        }
        assignment.note_began(turn, &instance);
        // A handover may have been under way when the former agent died; it is not any more.
        turn.out.push(Effect::Thaw { instance: instance.clone() });
        let wanted = turn.specs.get(&assignment.row.spec).map(ServiceSpec::digest);
        if found.spec.is_some() && wanted.is_some() && found.spec != wanted {
            // The former agent died after it had learnt of another specification and before it acted.
            assignment.run = Run::Stopping;
            turn.out.push(Effect::Stop { instance: instance.clone(), kill: false });
            return self.tell_copies(&instance);
        }
        assignment.run = Run::Running;
        assignment.runs_since = turn.now;
        assignment.started_by = assignment.row.spec;
        turn.event(Event::Adopted { instance: instance.to_string(), epoch: found.epoch.0 });
        self.announce_serving(turn, &instance, &found.ports);
        self.tell_copies(&instance);
    }

    /// Renews what is due, says what needs a change, and starts what may start.
    pub(super) fn run_actives(&mut self, turn: &mut Turn<'_>, office: &Office) {
        let due: Vec<Instance> = self
            .assignments
            .iter()
            .filter(|(_, assignment)| assignment.due() <= turn.now)
            .map(|(instance, _)| instance.clone())
            .collect();
        for instance in due {
            if let Some(assignment) = self.assignments.get_mut(&instance)
                && matches!(assignment.run, Run::Waiting(until) if until <= turn.now)
            {
                assignment.run = Run::Idle;
            }
            self.renew(turn, office, &instance);
            self.start_if_allowed(turn, &instance);
            self.hand_over(turn, &instance);
            self.make_claim(turn, office, &instance);
        }
    }

    /// Starts an instance if it has a lease, a state, a specification, and nobody else may run it.
    pub(super) fn start_if_allowed(&mut self, turn: &mut Turn<'_>, instance: &Instance) {
        let bound_to = self.is_bound_to(turn, instance);
        let silent = turn.now < self.silent_until;
        let Some(assignment) = self.assignments.get_mut(instance) else { return };
        let kept = assignment.kept == Some(assignment.row.epoch);
        let idle = kept && assignment.run == Run::Idle && assignment.handover.is_none();
        // The kill bound twice: once to die in, once to have lived in.
        let lease_until = assignment.lease.until();
        if !idle || !assignment.is_wanted() || lease_until < turn.now + self.preset.kill_bound * 2 {
            return;
        }
        // Own-vote rule: this board's promise to a former active, remembered or not, is a vote against
        // itself. Not if that one has said that it stopped for good, nor where this right has been used. Who gave
        // the right up stands by now; somebody else who was promised, before that one, has said nothing.
        let goes_on = assignment.began == Some(assignment.row.epoch);
        let bound = bound_to.is_some_and(|to| Some(to) != assignment.row.given_up_by());
        if !goes_on && (bound || (silent && !assignment.row.released)) {
            return;
        }
        let hash = assignment.row.spec;
        let Some(spec) = turn.specs.get(&hash) else {
            let row = assignment.row.clone();
            return want_spec(turn, &row);
        };
        // A signed order for another service must not be run in this one's place.
        if spec.name != instance.service {
            return;
        }
        let spec = Box::new(spec.clone());
        // Whoever commits relies on copies, not on its own syncs.
        let commits = spec.replicate.commit == Commit::Standby;
        let begin = match (spec.state.is_some(), turn.holdings.start_of(&assignment.row)) {
            (false, _) => Begin::Empty { anew: false },
            // The standby has a copy and this board, which made it, has none: its store is lost. Nobody can
            // tell whether its files have what was acknowledged since.
            (true, None) if goes_on && commits && assignment.has_acknowledged() => {
                assignment.lost = true;
                return;
            }
            (true, own) if goes_on => {
                let after_power_cut = own.filter(|_| commits);
                Begin::GoOn { after_power_cut }
            }
            (true, Some(id)) => Begin::From(id),
            // Nothing is the beginning of the first right ever only.
            (true, None) if assignment.row.is_first() => {
                Begin::Empty { anew: !assignment.row.released }
            }
            (true, None) => {
                assignment.lost = true;
                return;
            }
        };
        assignment.run = Run::Starting;
        assignment.under = assignment.row.epoch;
        assignment.started_by = hash;
        assignment.starts += 1;
        turn.out.push(Effect::Start {
            instance: instance.clone(),
            epoch: assignment.row.epoch,
            until: lease_until,
            kill_bound: self.preset.kill_bound,
            spec,
            begin,
        });
    }

    /// A specification has arrived.
    pub(super) fn start_what_waits_for(&mut self, turn: &mut Turn<'_>, hash: &SpecHash) {
        let waiting: Vec<Instance> = self
            .assignments
            .iter()
            .filter(|(_, assignment)| assignment.row.spec == *hash && assignment.run == Run::Idle)
            .map(|(instance, _)| instance.clone())
            .collect();
        for instance in waiting {
            self.tell_copies(&instance);
            self.start_if_allowed(turn, &instance);
        }
    }

    /// The runtime says what became of an instance.
    pub(crate) fn on_report(&mut self, turn: &mut Turn<'_>, instance: &Instance, report: Report) {
        match report {
            Report::Found(found) => self.on_found(turn, instance.clone(), found),
            // A late word about an earlier right says nothing about this one.
            Report::Started { epoch, .. }
            | Report::Ended { epoch, .. }
            | Report::Lost { epoch }
                if self.is_of_another_right(instance, epoch) => {}
            Report::Started { ports, .. } => self.on_started(turn, instance, &ports),
            Report::Ended { epoch, exit } => match self.found.get_mut(instance) {
                // Whether it is started again is for a row to say.
                Some(ran) if ran.found.epoch == epoch => ran.exit = Some(exit),
                _ => self.on_ended(turn, instance, exit),
            },
            Report::Lost { .. } => {
                if let Some(assignment) = self.assignments.get_mut(instance) {
                    // It was to stop: what it would have begun with is the next one's business.
                    assignment.lost |= assignment.run == Run::Starting;
                    assignment.run = Run::Idle;
                    assignment.claim_at = turn.now;
                    self.tell_copies(instance);
                }
            }
            Report::Checked { order, result } => self.on_checked(turn, instance, order, result),
            // Whoever captures answers that.
            Report::Commit { .. } => {}
        }
    }

    fn is_of_another_right(&self, instance: &Instance, epoch: Epoch) -> bool {
        let under = self.assignments.get(instance).map(|assignment| assignment.under);
        under.is_some_and(|under| under != epoch)
    }

    fn on_started(
        &mut self,
        turn: &mut Turn<'_>,
        instance: &Instance,
        ports: &List<(Name, u16), PORTS_MAX>,
    ) {
        let Some(assignment) = self.assignments.get_mut(instance) else { return };
        // A stop may have been asked for meanwhile; then the end of it is what comes next.
        if assignment.run != Run::Starting {
            return;
        }
        assignment.run = Run::Running;
        assignment.runs_since = turn.now;
        assignment.failures = 0;
        assignment.note_began(turn, instance);
        let epoch = assignment.row.epoch.0;
        turn.event(Event::Runs { instance: instance.to_string(), epoch });
        self.announce_serving(turn, instance, ports);
        self.tell_copies(instance);
    }

    fn on_ended(&mut self, turn: &mut Turn<'_>, instance: &Instance, exit: Exit) {
        let Some(assignment) = self.assignments.get_mut(instance) else { return };
        let restart = turn
            .specs
            .get(&assignment.row.spec)
            .map_or(Restart { max: 3, within_ms: 60_000 }, |spec| spec.restart);
        let stopping = assignment.run == Run::Stopping;
        let ran = assignment.run == Run::Running;
        assignment.has_settled |= ran && turn.now.since(assignment.runs_since) >= SETTLED_AFTER;
        let why = exit.to_string();
        assignment.failures += u32::from(matches!(exit, Exit::Failed { .. }));
        assignment.last_exit = Some(exit.clone());
        // Being stopped or fenced is not the service's fault: no waiting.
        assignment.run = match stopping || exit == Exit::Fenced {
            true => Run::Idle,
            false => Run::Waiting(assignment.note_end(turn.now, restart)),
        };
        let captured = turn.holdings.own(instance).any(|id| id.epoch == assignment.row.epoch);
        assignment.bare = assignment.lies() && !captured;
        let hopeless = !stopping && assignment.is_hopeless(restart);
        let epoch = assignment.row.epoch.0;
        turn.event(Event::Ended { instance: instance.to_string(), epoch, why });
        self.announce_serving(turn, instance, &List::new());
        self.tell_copies(instance);
        if let Some(assignment) = self.assignments.get_mut(instance) {
            assignment.claim_at = turn.now;
        }
        if hopeless {
            self.resign(turn, instance);
        }
        self.hand_over(turn, instance);
        self.start_if_allowed(turn, instance);
    }

    /// Says what there is to capture, who is to get it, and who must have it.
    pub(super) fn tell_copies(&mut self, instance: &Instance) {
        let Some(assignment) = self.assignments.get(instance) else { return };
        let row = &assignment.row;
        // From the moment on at which both were found to hold everything: what is acknowledged while that is
        // being written down must not be with the former standby alone. Where that one was not ready nothing is
        // acknowledged before it is written down: after a power cut nobody would know that anything was.
        let keeps = row.ready && assignment.keeps(row.revision);
        let switches = assignment.is_switching() || keeps;
        let required = match switches {
            true => row.standby.into_iter().chain(row.fill).collect(),
            false => row.standby.filter(|_| row.ready).into_iter().collect(),
        };
        let gives = assignment.bare || assignment.cannot_begin() || assignment.handover.is_some();
        let hosting = Hosting {
            epoch: row.epoch,
            spec: row.spec,
            base: (gives && assignment.has_base_only()).then_some(row.base),
            targets: row.standby.into_iter().chain(row.fill).collect(),
            successor: row.fill.filter(|_| row.ready && !switches),
            required,
            restoring: assignment.restoring.map(|(at, _)| at),
            runs: assignment.run == Run::Running,
            began_is_durable: assignment.began == assignment.began_kept,
            resumed: assignment.resumed,
        };
        self.notices.push(Notice::Hosting(instance.clone(), hosting));
    }

    /// Tells everyone whether an instance serves here, and where.
    fn announce_serving(
        &mut self,
        turn: &mut Turn<'_>,
        instance: &Instance,
        ports: &List<(Name, u16), PORTS_MAX>,
    ) {
        let Some(assignment) = self.assignments.get(instance) else { return };
        let host = host_of(turn);
        let endpoints = ports.iter().map(|(name, port)| Endpoint {
            name: name.clone(),
            address: Text::capped(&format!("{host}:{port}")),
        });
        let serving = Serving {
            instance: instance.clone(),
            epoch: assignment.row.epoch,
            life: turn.me.record().incarnation,
            stamp: turn.now.0,
            node: turn.me.id(),
            runs: assignment.run == Run::Running,
            spec: assignment.started_by,
            why: match &assignment.last_exit {
                Some(exit) if assignment.run != Run::Running => Text::capped(&exit.to_string()),
                _ => Text::default(),
            },
            endpoints: List::capped(endpoints),
        };
        if let Ok(signed) = Signed::seal(&serving, turn.me.keypair()) {
            self.notices.push(Notice::Serving(Box::new(signed)));
        }
    }
}

impl Assignment {
    /// Whether commits may have been acknowledged under this right: by a standby that is ready, or by both during a
    /// switch.
    fn has_acknowledged(&self) -> bool {
        self.row.ready || self.is_switching()
    }

    /// What an earlier life captured under this right proves that it began here.
    fn recall_captures(&mut self, holdings: &Holdings, instance: &Instance) {
        let epoch = self.row.epoch;
        self.recalled = holdings.own(instance).filter(|id| id.epoch == epoch).max();
        if self.recalled.is_some() {
            (self.began, self.began_kept, self.resumed) = (Some(epoch), Some(epoch), true);
        }
    }

    /// It is durable that this board has this right.
    pub(super) fn note_kept(&mut self, epoch: Epoch) {
        self.kept = self.kept.max(Some(epoch));
    }

    /// From now on the folder of this instance may hold what nobody else has.
    fn note_began(&mut self, turn: &mut Turn<'_>, instance: &Instance) {
        self.bare = false;
        if self.began != Some(self.row.epoch) {
            self.began = Some(self.row.epoch);
            let (instance, epoch) = (instance.clone(), self.row.epoch);
            let record = Record::Began(instance.clone(), epoch);
            turn.persist(record, Purpose::Kept(Kept::Began(instance, epoch)));
        }
    }
}

/// Where this board can be reached, without a port: the first address it tells, or loopback.
fn host_of(turn: &Turn<'_>) -> String {
    let address = turn.me.record().addresses.first().map(ToString::to_string).unwrap_or_default();
    let mut parts = address.split('/').skip(1);
    match (parts.next(), parts.next()) {
        (Some("ip6"), Some(host)) => format!("[{host}]"),
        (Some("ip4" | "dns" | "dns4" | "dns6"), Some(host)) => host.to_owned(),
        _ => "127.0.0.1".to_owned(),
    }
}

#[cfg(test)]
mod tests;
