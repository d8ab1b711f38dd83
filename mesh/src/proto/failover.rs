//! Failover: which board runs an instance now, and until when.
//!
//! The table says who *should* run an instance; a lease says whether it *may*, right now. The active
//! keeps asking its grantors for a lease and runs only while it holds one; its shim kills it when the
//! lease ends, with nobody's help. So a board that was cut off has stopped before anyone else may
//! start, whatever it believes.
//!
//! - [`active`]: renews, starts, starts again, stops.
//! - [`grantor`]: grants. Today the master alone does; with a standby the pair will grant itself.
//! - [`orders`]: from an operator's signed order to a changed row, on the master.
//!
//! What is granted never outlives the master's own lease (*nested*), so a new master inherits
//! nothing. See design notes in ARCHITECTURE.md, "Leases".

pub mod active;
pub mod grantor;
pub mod orders;

use std::collections::BTreeMap;

use active::Assignment;
use orders::Desk;

use super::authority::changes::Change;
use super::id::{NodeId, Term};
use super::machine::{Time, Timeout};
use super::order::{Instance, Serving};
use super::promises::{Preset, Promise};
use super::signed::Signed;
use super::turn::Turn;

/// Instances that one board runs or grants, at most.
pub const INSTANCES_MAX: usize = 1024;

/// The part.
#[derive(Debug)]
pub struct Failover {
    preset: Preset,
    /// What this board is to run.
    assignments: BTreeMap<Instance, Assignment>,
    /// What its shims run although no row is known that says so: a restart.
    found: BTreeMap<Instance, active::Found>,
    /// What was promised to actives.
    promises: BTreeMap<Instance, Promise>,
    desk: Desk,
    notices: Vec<Notice>,
}

/// What the node has to do for this part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// Ask the authority for this change.
    Change(Box<Change>),
    /// Tell everyone where an instance serves.
    Serving(Box<Signed<Serving>>),
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
}

impl Failover {
    /// Nothing is assigned yet.
    pub fn new(preset: Preset) -> Self {
        Self {
            preset,
            assignments: BTreeMap::new(),
            found: BTreeMap::new(),
            promises: BTreeMap::new(),
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

    pub(crate) fn handle_timeout(&mut self, turn: &mut Turn<'_>, office: &Office) {
        self.run_actives(turn, office);
        self.desk.expire(turn);
        self.pass_on(turn, office);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Timeout> {
        let renew = self.assignments.values().map(Assignment::due).min();
        Timeout::earlier(
            renew.filter(|at| *at != Time::NEVER).map(|at| Timeout { at, reason: "renew" }),
            self.desk.due().map(|at| Timeout { at, reason: "orders" }),
        )
    }
}
