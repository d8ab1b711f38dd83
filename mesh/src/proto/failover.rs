//! Failover: which board runs an instance now, and until when.
//!
//! The table says who *should* run an instance; a lease says whether it *may*, right now. Each
//! instance has three voters, its active, its standby and the master, and any two of them decide: the
//! active runs while one of the others grants it a lease; the standby takes over with the master's
//! vote, once neither of them is bound by a promise to the active any more. Silence alone never starts
//! anything. The shim kills a service when its lease ends, with nobody's help; so a board that was cut
//! off has stopped before anyone else may start, whatever it believes.
//!
//! - [`active`]: the life of an instance on this board: start, start again, stop.
//! - [`renewal`]: the active asks for leases.
//! - [`grantor`]: the standby and the master grant them.
//! - [`standby`]: counts the silence of the active, and takes over.
//! - [`handover`]: the active gives up on purpose: a planned move, or a service that does not start.
//! - [`claims`]: what an active or a standby tells the master about its row, and what the master makes
//!   of it.
//! - `ability`: whether this board could start what it stands by for.
//! - [`orders`]: from an operator's signed order to a changed row, on the master.
//!
//! What a master grants never outlives its own lease (*nested*), so a new master inherits nothing. See
//! ARCHITECTURE.md, "Leases"; Das & Sidhanta, section III, for active, standby and super-peer; Gray and
//! Cheriton, SOSP 1989, for leases.

mod ability;
pub mod active;
pub mod claims;
mod decide;
pub mod grantor;
pub mod handover;
pub mod orders;
pub mod renewal;
mod search;
pub mod standby;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use ability::Ability;
use active::{Assignment, Found};
use grantor::Granted;
use orders::Desk;
use standby::Vigil;

use super::authority::changes::Change;
use super::copies::Hosting;
use super::id::{Epoch, NodeId, Term};
use super::io::Exit;
use super::machine::{Time, Timeout};
use super::order::{Instance, Serving};
use super::promises::{Preset, promised};
use super::signed::Signed;
use super::table::Row;
use super::turn::Turn;
use super::wire::failover::WantSpec;

/// Instances that one board runs, stands by for, or grants, at most.
pub const INSTANCES_MAX: usize = 1024;

/// The part.
#[derive(Debug)]
pub struct Failover {
    preset: Preset,
    /// What this board is to run.
    assignments: BTreeMap<Instance, Assignment>,
    /// What its shims run although no row is known that says so: a restart.
    found: BTreeMap<Instance, Ran>,
    /// What this board stands by for.
    vigils: BTreeMap<Instance, Vigil>,
    /// Whether it could start that, and what it is being filled with.
    abilities: BTreeMap<Instance, Ability>,
    /// What was promised to actives.
    granted: BTreeMap<Instance, Granted>,
    /// When this life began.
    born: Time,
    /// After a restart: until when a promise may bind that this board does not remember.
    silent_until: Time,
    /// As master: when to look for rows that lack a standby.
    appoint_at: Time,
    /// As master: boards that were of no use as a standby.
    passed_over: BTreeMap<Instance, BTreeMap<NodeId, Rest>>,
    /// As master: what was said by boards that are being filled.
    fills: BTreeMap<Instance, Fill>,
    desk: Desk,
    notices: Vec<Notice>,
}

/// What a shim ran when this node started.
#[derive(Debug)]
struct Ran {
    found: Found,
    /// It has ended since.
    exit: Option<Exit>,
}

/// A board that was of no use as a standby.
#[derive(Clone, Copy, Debug)]
struct Rest {
    /// Others are tried first until then.
    until: Time,
    /// How long that was.
    lasts: Duration,
    why: Why,
}

/// Why a board was of no use as a standby; what comes later says more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Why {
    /// It was there and was not filled, or its disk took nothing, or nobody heard it.
    Silent,
    /// What it would run was not there.
    Unable,
    /// It had the right, and could not start it.
    Failed,
}

impl Rest {
    fn began(&self) -> Time {
        self.until - self.lasts
    }
}

/// A board that is being filled.
#[derive(Debug)]
struct Fill {
    node: NodeId,
    /// Whether the present standby would do, too: this one would only be better.
    optional: bool,
    /// Whether it could start the instance, if it said so already.
    able: Option<bool>,
}

/// What the node has to do for this part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// Ask the authority for this change.
    Change(Box<Change>),
    /// Tell everyone where an instance serves.
    Serving(Box<Signed<Serving>>),
    /// Send that board the newest table: what it said rests on an older one.
    Tell(NodeId),
    /// This board runs an instance, under these circumstances.
    Hosting(Instance, Hosting),
    /// It does not any more.
    NotHosting(Instance),
    /// Capture its state now.
    Checkpoint(Instance),
    /// Capture the last state before a handover; false: no handover after all.
    Close(Instance, bool),
}

/// A promise of an active that is durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kept {
    /// This board has that right.
    Assigned(Instance, Epoch),
    /// An instance began under that right.
    Began(Instance, Epoch),
    /// It gave up the right to run.
    Released(Instance, Epoch),
    /// It does not count on its standby any more, from that revision of the row on.
    Switching(Instance, u64),
}

/// What this part needs to know of the authority.
#[derive(Clone, Debug, Default)]
pub struct Office {
    /// If this node is master: its term, and until when it may decide.
    pub reign: Option<(Term, Time)>,
    /// The master, by the last announcement or heartbeat.
    pub master: Option<NodeId>,
    /// Who might be master.
    pub electorate: Vec<NodeId>,
    /// Rows that are about to change, and whether the right to run is.
    pub changing: BTreeMap<Instance, bool>,
    /// Boards that somebody lost contact with: nothing new is placed there.
    pub suspected: BTreeSet<NodeId>,
}

impl Office {
    /// Who is to be told what needs a change: whoever might be master.
    pub(super) fn masters(&self) -> Vec<NodeId> {
        let others = self.electorate.iter().filter(|node| Some(**node) != self.master);
        self.master.iter().chain(others).copied().collect()
    }
}

/// Boards that are asked for one specification at a time.
const SPEC_ASKED_MAX: usize = 6;

/// Asks for the order behind a row: its boards, the voters, who got it with the table, and some others.
fn want_spec(turn: &mut Turn<'_>, row: &Row) {
    let named = [Some(row.active), row.standby].into_iter().flatten();
    let newest = turn.directory.newest();
    let voters = newest.map(|newest| newest.table.electorate()).unwrap_or_default();
    let mut asked: Vec<NodeId> = Vec::with_capacity(SPEC_ASKED_MAX);
    for node in named.chain(voters).chain(turn.links.usable().copied()) {
        if node != turn.me.id() && !asked.contains(&node) && asked.len() < SPEC_ASKED_MAX {
            asked.push(node);
        }
    }
    for node in asked {
        turn.send(node, WantSpec { hash: row.spec });
    }
}

impl Failover {
    /// Nothing is assigned yet. `grants_ms`: the longest lease that an earlier life may have granted.
    pub fn new(preset: Preset, grants_ms: u32, now: Time) -> Self {
        let forgotten = promised(Duration::from_millis(u64::from(grants_ms)));
        Self {
            preset,
            assignments: BTreeMap::new(),
            found: BTreeMap::new(),
            vigils: BTreeMap::new(),
            abilities: BTreeMap::new(),
            granted: BTreeMap::new(),
            born: now,
            silent_until: if grants_ms > 0 { now + forgotten } else { now },
            appoint_at: now,
            passed_over: BTreeMap::new(),
            fills: BTreeMap::new(),
            desk: Desk::default(),
            notices: Vec::new(),
        }
    }

    /// What the node has to do since it last asked.
    pub(crate) fn take_notices(&mut self) -> Vec<Notice> {
        core::mem::take(&mut self.notices)
    }

    /// What this board runs or is to run.
    pub fn assignments(&self) -> impl Iterator<Item = (&Instance, &Assignment)> {
        self.assignments.iter()
    }

    /// Until when this board has promised nobody but `to` runs the instance; for checkers.
    pub fn promise(&self, instance: &Instance) -> Option<(NodeId, Time)> {
        self.granted.get(instance).map(|granted| (granted.to, granted.promise.until()))
    }

    /// A newer table is known, or this node has just started: see what concerns this board.
    pub(crate) fn on_table(&mut self, turn: &mut Turn<'_>) {
        let acted = self.follow_active_rows(turn) | self.follow_standby_rows(turn);
        if acted {
            let version = turn.directory.version();
            turn.persist(super::journal::Record::Saw(version), super::ops::Purpose::Memory);
        }
        self.follow_abilities(turn);
        self.forget_what_is_gone(turn);
        self.appoint_at = turn.now;
        self.desk_follows_table(turn);
    }

    /// What no row names any more is let go: names of services come and go for as long as a board runs.
    fn forget_what_is_gone(&mut self, turn: &mut Turn<'_>) {
        let Some(newest) = turn.directory.newest() else { return };
        let (table, now) = (&newest.table, turn.now);
        let exists = |instance: &Instance| table.row(instance).is_some();
        self.granted.retain(|instance, g| g.promise.binds(now) || exists(instance));
        self.passed_over.retain(|instance, _| exists(instance));
        let fills = |instance: &Instance| table.row(instance).and_then(|row| row.fill);
        self.fills.retain(|instance, fill| fills(instance) == Some(fill.node));
        turn.holdings.retain(exists);
        let assigned = |hash: &[u8; 32]| self.assignments.values().any(|a| a.row.spec == *hash);
        let named = |hash: &[u8; 32]| table.rows.iter().any(|row| row.spec == *hash);
        turn.specs.retain(|hash| named(hash) || assigned(hash));
    }

    pub(crate) fn handle_timeout(&mut self, turn: &mut Turn<'_>, office: &Office) {
        self.run_actives(turn, office);
        self.see_abilities(turn, office);
        self.keep_vigil(turn, office);
        self.appoint(turn, office);
        self.desk.expire(turn);
        self.pass_on(turn, office);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Timeout> {
        let at = |at: Option<Time>, reason| {
            at.filter(|at| *at != Time::NEVER).map(|at| Timeout { at, reason })
        };
        let renew = at(self.assignments.values().map(Assignment::due).min(), "renew");
        let vigil = at(self.vigils.values().map(|vigil| vigil.look_at).min(), "vigil");
        let ability = at(self.abilities.values().map(|a| a.look_at).min(), "ability");
        let vigil = Timeout::earlier(vigil, ability);
        let orders = at(self.desk.due(), "orders");
        let appoint = at(Some(self.appoint_at), "appoint");
        Timeout::earlier(Timeout::earlier(renew, vigil), Timeout::earlier(orders, appoint))
    }

    /// The newest row that is known here: a board that restarted may remember a newer one than it has
    /// been told since.
    fn row(&self, turn: &Turn<'_>, instance: &Instance) -> Option<Row> {
        let told = turn.directory.newest().and_then(|newest| newest.table.row(instance));
        let remembered = self.assignments.get(instance).map(|assignment| &assignment.row);
        told.into_iter().chain(remembered).max_by_key(|row| row.age()).cloned()
    }
}

#[cfg(test)]
mod tests;
