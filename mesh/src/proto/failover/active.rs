//! The active: renews its lease, and runs the instance while it holds one.
//!
//! ```text
//! idle ──lease──▶ starting ──▶ running ──exit──▶ waiting ──▶ idle
//!   ▲                │            │ lease over, or the row moved on
//!   └────────────────┴────────────┴──▶ stopping ──▶ idle, or gone
//! ```

use core::time::Duration;
use std::collections::VecDeque;

use super::{Failover, INSTANCES_MAX, Notice, Office};
use crate::proto::bounded::{List, Text};
use crate::proto::id::{Epoch, NodeId};
use crate::proto::io::{Effect, Event, Exit, Report};
use crate::proto::journal::Record;
use crate::proto::machine::Time;
use crate::proto::ops::Purpose;
use crate::proto::order::{Endpoint, Instance, Serving};
use crate::proto::record::Name;
use crate::proto::signed::Signed;
use crate::proto::spec::{PORTS_MAX, Restart};
use crate::proto::specs::SpecHash;
use crate::proto::table::Row;
use crate::proto::turn::Turn;
use crate::proto::wire::failover::{Grant, Renew, WantSpec};

/// Before the first repetition of a start that failed; doubles each time.
const BACKOFF_MIN: Duration = Duration::from_millis(200);
/// Once a service has ended too often: it is tried again that rarely.
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// Between two attempts to renew before any was ever granted.
const LINK_ERRAND: Duration = Duration::from_secs(30);

/// An instance that this board is to run.
#[derive(Debug)]
pub struct Assignment {
    /// The row that says so.
    pub row: Row,
    /// Until when it may run, by this board's clock.
    pub lease_until: Time,
    /// What it is doing.
    pub run: Run,
    /// How it ended last, for people.
    pub last_exit: Option<Exit>,
    /// How often it was started in this epoch.
    pub starts: u64,
    /// When it ended lately.
    ended: VecDeque<Time>,
    acked: u64,
    renew_at: Time,
}

/// What an instance is doing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Run {
    /// Nothing: no lease, no specification, or not to run.
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
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Under which right it was started.
    pub epoch: Epoch,
    /// Its ports.
    pub ports: List<(Name, u16), PORTS_MAX>,
}

impl Assignment {
    fn new(row: Row, now: Time) -> Self {
        Self {
            row,
            lease_until: Time::default(),
            run: Run::Idle,
            last_exit: None,
            starts: 0,
            ended: VecDeque::new(),
            acked: 0,
            renew_at: now,
        }
    }

    pub(super) fn due(&self) -> Time {
        let renew = if self.row.retiring { Time::NEVER } else { self.renew_at };
        match self.run {
            Run::Waiting(until) => until.min(renew),
            Run::Idle | Run::Starting | Run::Running | Run::Stopping => renew,
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
}

impl Failover {
    /// A newer table is known, or this node has just started: see what concerns this board.
    pub(crate) fn on_table(&mut self, turn: &mut Turn<'_>) {
        let me = turn.me.id();
        let Some(newest) = turn.directory.newest() else { return };
        let mine: Vec<Row> = newest.table.rows.iter().filter(|r| r.active == me).cloned().collect();
        let gone: Vec<Instance> = self
            .assignments
            .keys()
            .chain(self.found.keys())
            .filter(|instance| newest.table.row(instance).is_none_or(|row| row.active != me))
            .cloned()
            .collect();
        for instance in gone {
            self.found.remove(&instance);
            self.assignments.remove(&instance);
            turn.persist(Record::Unassigned(instance.clone()), Purpose::Memory);
            turn.out.push(Effect::Stop { instance, forget: true });
        }
        for row in mine.into_iter().take(INSTANCES_MAX) {
            self.assign(turn, row, true);
        }
    }

    /// This board is to run what `row` says. `fresh`: it was just learnt, and is to be remembered.
    pub(crate) fn assign(&mut self, turn: &mut Turn<'_>, row: Row, fresh: bool) {
        let instance = row.instance();
        let found = self.found.remove(&instance);
        let before = self.assignments.get(&instance);
        if before.is_some_and(|assignment| assignment.row.revision >= row.revision) {
            return;
        }
        if fresh {
            turn.persist(Record::Assigned(Box::new(row.clone())), Purpose::Memory);
        }
        let now = turn.now;
        let assignment = self
            .assignments
            .entry(instance.clone())
            .or_insert_with(|| Assignment::new(row.clone(), now));
        let restarts = assignment.row.epoch != row.epoch || assignment.row.spec != row.spec;
        if assignment.row.epoch != row.epoch {
            assignment.lease_until = Time::default();
            assignment.acked = 0;
            assignment.starts = 0;
        }
        let runs = !matches!(assignment.run, Run::Idle | Run::Waiting(_));
        assignment.row = row;
        assignment.renew_at = now;
        if let Some(found) = found {
            return self.adopt(turn, instance, found);
        }
        if runs && (restarts || assignment.row.retiring) {
            assignment.run = Run::Stopping;
            turn.out.push(Effect::Stop { instance, forget: false });
        }
    }

    /// A shim that was found after a restart runs this.
    pub(crate) fn on_found(&mut self, turn: &mut Turn<'_>, instance: Instance, found: Found) {
        if self.assignments.contains_key(&instance) {
            self.adopt(turn, instance, found);
        } else if self.found.len() < INSTANCES_MAX {
            // Its lease ends by itself if no row ever claims it.
            self.found.insert(instance, found);
        }
    }

    fn adopt(&mut self, turn: &mut Turn<'_>, instance: Instance, found: Found) {
        let Some(assignment) = self.assignments.get_mut(&instance) else { return };
        if assignment.row.epoch != found.epoch || assignment.row.retiring {
            assignment.run = Run::Stopping;
            turn.out.push(Effect::Stop { instance, forget: false });
            return;
        }
        assignment.run = Run::Running;
        turn.event(Event::Adopted { instance: instance.to_string(), epoch: found.epoch.0 });
        self.announce_serving(turn, &instance, &found.ports);
    }

    /// Renews what is due and starts what may start.
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
                self.start_if_allowed(turn, &instance);
            }
            self.renew(turn, office, &instance);
        }
    }

    fn renew(&mut self, turn: &mut Turn<'_>, office: &Office, instance: &Instance) {
        let Some(assignment) = self.assignments.get_mut(instance) else { return };
        if assignment.row.retiring || turn.now < assignment.renew_at {
            return;
        }
        assignment.renew_at = turn.now + self.preset.heartbeat;
        let lease_ms = u32::try_from(self.preset.lease.as_millis()).unwrap_or(u32::MAX);
        let renew = Renew {
            instance: instance.clone(),
            epoch: assignment.row.epoch,
            sent: turn.now.0,
            acked: assignment.acked,
            lease_ms,
        };
        // The master first; if it has not granted for two heartbeats, whoever might be master now.
        let stale = turn.now.since(Time(assignment.acked)) > self.preset.heartbeat * 3;
        let mut grantors: Vec<NodeId> = office.master.into_iter().collect();
        if stale {
            grantors.extend(office.electorate.iter().filter(|node| Some(**node) != office.master));
        }
        for grantor in grantors {
            if grantor == turn.me.id() {
                self.on_renew(turn, office, grantor, renew.clone(), false);
            } else {
                turn.links.want_until(grantor, turn.now + LINK_ERRAND, turn.now);
                turn.send(grantor, renew.clone());
            }
        }
    }

    pub(crate) fn on_grant(&mut self, turn: &mut Turn<'_>, from: NodeId, grant: &Grant) {
        let Some(assignment) = self.assignments.get_mut(&grant.instance) else { return };
        if assignment.row.epoch != grant.epoch || assignment.row.retiring {
            return;
        }
        if Time(grant.sent) > turn.now {
            return turn.misbehaved(from, "a grant of a request that was never made");
        }
        let lease = Duration::from_millis(u64::from(grant.lease_ms)).min(self.preset.lease);
        let until = Time(grant.sent) + lease;
        assignment.acked = assignment.acked.max(grant.sent);
        if until <= assignment.lease_until {
            return;
        }
        assignment.lease_until = until;
        match assignment.run {
            Run::Starting | Run::Running => {
                let (instance, epoch) = (grant.instance.clone(), grant.epoch);
                turn.out.push(Effect::Extend { instance, epoch, until });
            }
            Run::Idle => self.start_if_allowed(turn, &grant.instance),
            Run::Stopping | Run::Waiting(_) => {}
        }
    }

    fn start_if_allowed(&mut self, turn: &mut Turn<'_>, instance: &Instance) {
        let Some(assignment) = self.assignments.get_mut(instance) else { return };
        // The kill bound twice: once to die in, once to have lived in.
        let enough = turn.now + self.preset.kill_bound * 2;
        let may = assignment.lease_until >= enough && !assignment.row.retiring;
        if !may || assignment.run != Run::Idle {
            return;
        }
        let hash = assignment.row.spec;
        let Some(spec) = turn.specs.get(&hash) else {
            let peers: Vec<NodeId> = turn.links.usable().copied().take(4).collect();
            for peer in peers {
                turn.send(peer, WantSpec { hash });
            }
            return;
        };
        // A signed order for another service must not be run in this one's place.
        if spec.name != instance.service {
            return;
        }
        let spec = Box::new(spec.clone());
        assignment.run = Run::Starting;
        assignment.starts += 1;
        turn.out.push(Effect::Start {
            instance: instance.clone(),
            epoch: assignment.row.epoch,
            until: assignment.lease_until,
            kill_bound: self.preset.kill_bound,
            spec,
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
            self.start_if_allowed(turn, &instance);
        }
    }

    /// The runtime says what became of an instance.
    pub(crate) fn on_report(&mut self, turn: &mut Turn<'_>, instance: &Instance, report: Report) {
        if let Report::Found(found) = report {
            return self.on_found(turn, instance.clone(), found);
        }
        let Some(assignment) = self.assignments.get_mut(instance) else { return };
        let restart = turn
            .specs
            .get(&assignment.row.spec)
            .map_or(Restart { max: 3, within_ms: 60_000 }, |spec| spec.restart);
        match report {
            Report::Started { ports } => {
                // A stop may have been asked for meanwhile; then the end of it is what comes next.
                if assignment.run == Run::Starting {
                    assignment.run = Run::Running;
                    let epoch = assignment.row.epoch.0;
                    turn.event(Event::Runs { instance: instance.to_string(), epoch });
                    self.announce_serving(turn, instance, &ports);
                }
            }
            Report::Ended(exit) => {
                let stopping = assignment.run == Run::Stopping;
                let why = exit.to_string();
                assignment.last_exit = Some(exit.clone());
                // Being stopped or fenced is not the service's fault: no waiting.
                assignment.run = match stopping || exit == Exit::Fenced {
                    true => Run::Idle,
                    false => Run::Waiting(assignment.note_end(turn.now, restart)),
                };
                let epoch = assignment.row.epoch.0;
                turn.event(Event::Ended { instance: instance.to_string(), epoch, why });
                self.announce_serving(turn, instance, &List::new());
                self.start_if_allowed(turn, instance);
            }
            Report::Found(_) => {}
        }
    }

    /// Tells everyone where an instance serves; no ports: it does not.
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
            endpoints: List::capped(endpoints),
        };
        if let Ok(signed) = Signed::seal(&serving, turn.me.keypair()) {
            self.notices.push(Notice::Serving(Box::new(signed)));
        }
    }
}

/// Where this board can be reached, without a port: the first address it tells, or loopback.
fn host_of(turn: &Turn<'_>) -> String {
    let address = turn.me.record().addresses.first().map(ToString::to_string).unwrap_or_default();
    let mut parts = address.split('/').skip(1);
    match (parts.next(), parts.next()) {
        (Some("ip6"), Some(host)) => format!("[{host}]"),
        (Some(_), Some(host)) => host.to_owned(),
        _ => "127.0.0.1".to_owned(),
    }
}
