//! One seed: the mesh is looked at up to a drawn moment, and runs again from its beginning once for each
//! fault, which strikes whoever had the roles then. Equal plans give equal runs, so all runs of a seed are one
//! until that moment, and each is a plan that says everything itself.

use std::cell::RefCell;
use std::rc::Rc;

use anyhow::{Result, ensure};
use hedgerow::proto::spec::{Commit, OnIsolation};
use hedgerow_netsim::campaign;
use hedgerow_netsim::faults::{Fault, Timed};
use hedgerow_netsim::law::LinkLaw;
use hedgerow_netsim::observe::Finding;
use hedgerow_netsim::plan::{Outcome, Plan};
use hedgerow_netsim::queue::BoardIndex;
use hedgerow_netsim::seed::{Purpose, Stream};
use hedgerow_netsim::service::Service;
use hedgerow_netsim::time::{Nanos, SECOND};

use crate::cases::{Case, SERVICE, Scene};
use crate::ledger::{Ledger, Roles, Scribe};

/// The operator orders the service then.
const ORDERED: Nanos = 10 * SECOND;
/// Faults begin in the ten seconds after this; a mesh has settled by then.
const SETTLED: Nanos = 25 * SECOND;
/// Bytes of the service's state, and how often it is copied.
const BYTES: u64 = 100 << 10;
const EVERY: Nanos = SECOND;

/// A mesh, and the moment at which something happens to it.
pub(crate) struct Trial {
    plan: Plan,
    now: Nanos,
    roles: Roles,
}

/// What came of one fault.
pub(crate) struct Run {
    /// Replays it.
    pub(crate) plan: Plan,
    /// How long it took until what must happen had happened; none: not within the bound.
    pub(crate) took: Option<Nanos>,
    /// The longest time that the service did not run, from where times count.
    pub(crate) pause: Nanos,
    /// The service was down where it must not be.
    pub(crate) paused: bool,
    pub(crate) findings: Vec<Finding>,
}

impl Trial {
    /// None if at the drawn moment not all have their roles, or one board has two that could be two boards'.
    ///
    /// # Errors
    /// A rule was broken before anything happened.
    pub(crate) fn of(
        seed: u64,
        boards: BoardIndex,
        link: LinkLaw,
        loss_percent: u8,
    ) -> Result<Option<Self>> {
        let mut draw = Stream::new(seed, Purpose::Faults, 0, 0);
        let now = draw.between(SETTLED, SETTLED + 10 * SECOND);
        let mut plan = Plan::calm(seed, boards, now);
        "takeover".clone_into(&mut plan.name);
        (plan.link, plan.preset, plan.loss_percent) = (link, link.preset(), loss_percent);
        // Not on the board that founds the mesh, which is master where nobody else is better.
        plan.services.push(Service {
            name: SERVICE.to_owned(),
            at: ORDERED,
            board: boards - 1,
            every: EVERY,
            commit: Commit::Standby,
            stateful: true,
            on_isolation: OnIsolation::Fence,
            bytes: BYTES,
        });
        let (ledger, outcome) = run(&plan);
        let findings = outcome.findings;
        ensure!(findings.is_empty(), "seed {seed}, before anything happened: {findings:?}");
        let is_apart = |Roles { active, standby, master, .. }: &Roles| {
            active != master && (standby != master || boards == 2)
        };
        let roles = ledger.roles(now).filter(is_apart);
        Ok(roles.map(|roles| Self { plan, now, roles }))
    }

    /// Who did what at that moment.
    pub(crate) fn roles(&self) -> &Roles {
        &self.roles
    }

    /// The longest that anything is waited for: it takes P, a rank and T + t at worst where nothing is lost,
    /// and 2 (T + t) until a silent standby is replaced.
    pub(crate) fn bound(link: LinkLaw) -> Nanos {
        5 * silence(link) + 10 * SECOND
    }

    /// Lets a fault happen; `number` keys its draws. None if its moment did not come: no other standby was filled.
    ///
    /// # Errors
    /// The run was not the one that was looked at.
    pub(crate) fn run(&self, number: u64, case: &Case) -> Result<Option<Run>> {
        let (link, seed) = (self.plan.link, self.plan.seed);
        let mut scene = Scene {
            now: self.now,
            roles: self.roles,
            boards: self.plan.boards,
            silence: silence(link),
            draw: Stream::new(seed, Purpose::Faults, 1 + number, 0),
        };
        let mut act = (case.begin)(&mut scene);
        let mut plan = self.plan.clone();
        plan.schedule = act.schedule;
        plan.horizon = act.since + Self::bound(link);
        let (mut ledger, mut outcome) = run(&plan);
        ensure!(
            ledger.met() == Some(self.roles),
            "seed {seed}, {}: {:?} when the fault began, {:?} when it was looked at",
            case.name,
            ledger.met(),
            self.roles
        );
        if act.then_dies_filling && outcome.findings.is_empty() {
            let filling = ledger.filling(act.since, self.roles.active, plan.horizon);
            let Some((from, to)) = filling else { return Ok(None) };
            act.since = scene.draw.between(from, to);
            let fault = Fault::PowerCut { node: self.roles.active };
            plan.schedule.push(Timed { at: act.since, cue: None, lasts: None, fault });
            plan.horizon = act.since + Self::bound(link);
            (ledger, outcome) = run(&plan);
        }
        let (since, end) = (act.since, plan.horizon);
        let took = act.goal.took(&ledger, self.roles, since, end);
        let pause = ledger.longest_pause(since, end);
        let paused = pause > 0 && !act.goal.may_pause();
        Ok(Some(Run { plan, took, pause, paused, findings: outcome.findings }))
    }
}

/// T + t, ns.
fn silence(link: LinkLaw) -> Nanos {
    let preset = link.preset();
    (preset.lease + preset.grace).as_nanos() as Nanos
}

fn run(plan: &Plan) -> (Ledger, Outcome) {
    let ledger = Rc::new(RefCell::new(Ledger::default()));
    let outcome = campaign::run(plan, Some(Box::new(Scribe(Rc::clone(&ledger)))));
    (ledger.take(), outcome)
}
