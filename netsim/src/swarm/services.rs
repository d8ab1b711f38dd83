//! The services of a swarm run and what is done to them, from streams of their own.

use hedgerow::proto::spec::{Commit, OnIsolation};

use super::{AFTER_A_LOSS, FAULTS_MAX, START, Schedule};
use crate::faults::{Fault, Timed};
use crate::plan::Plan;
use crate::queue::BoardIndex;
use crate::seed::{Purpose, Stream};
use crate::service::Service;
use crate::shelf::States;
use crate::time::{MILLI, Nanos, SECOND};

/// What happens to services, besides what happens to their boards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ServiceKind {
    Move,
    ServiceCrash,
    CannotStart,
    LacksProgram,
    StateLost,
    Rerun,
    Stop,
}

/// Moves are the most telling, and many are refused.
const SERVICE_KINDS: [ServiceKind; 9] = [
    ServiceKind::Move,
    ServiceKind::Move,
    ServiceKind::Move,
    ServiceKind::ServiceCrash,
    ServiceKind::CannotStart,
    ServiceKind::LacksProgram,
    ServiceKind::StateLost,
    ServiceKind::Rerun,
    ServiceKind::Stop,
];

pub(super) fn add(plan: &mut Plan, until: Nanos, family: Schedule) {
    let (seed, boards) = (plan.seed, plan.boards);
    match seed.is_multiple_of(BYTES_EVERY) {
        true => add_store_faults(plan, until),
        false => plan.states = States::Names,
    }
    let mut draw = Stream::new(seed, Purpose::Services, 0, 0);
    if family == Schedule::Swarm && draw.percent(20) {
        return;
    }
    let count = draw.between(1, 3).min(u64::from(boards));
    for number in 0..count {
        let commit = if draw.percent(70) { Commit::Standby } else { Commit::Async };
        let keeps = Stream::new(seed, Purpose::Services, 4, number).percent(40);
        plan.services.push(Service {
            name: format!("s{number}"),
            at: draw.between(8 * SECOND, START + 4 * SECOND),
            board: draw.below(u64::from(boards)) as BoardIndex,
            every: draw.between(200, 2000) * MILLI,
            commit,
            stateful: draw.percent(90),
            on_isolation: match keeps && commit == Commit::Async {
                true => OnIsolation::KeepRunning,
                false => OnIsolation::Fence,
            },
            bytes: draw.between(1, 600) * 1024,
        });
    }
    let chaos = family == Schedule::Chaos;
    if boards >= 4 && draw.percent(25) {
        // For good: three others have what services run.
        let node = draw.below(u64::from(boards)) as BoardIndex;
        let fault = Fault::LacksProgram { node };
        plan.schedule.push(Timed { at: SECOND, cue: None, lasts: None, fault });
    }
    let kinds: Vec<ServiceKind> =
        SERVICE_KINDS.into_iter().filter(|_| draw.percent(50) || chaos).collect();
    let gap_max = if chaos { 30 * SECOND } else { draw.between(5 * SECOND, 60 * SECOND) };
    let mut at = START + 4 * SECOND;
    let mut number = 0;
    let mut lost = None;
    while !kinds.is_empty() {
        at += draw.between(100 * MILLI, gap_max);
        if at >= until || number >= FAULTS_MAX as u64 {
            return;
        }
        let kind = draw.pick(&kinds);
        let mut own = Stream::new(seed, Purpose::Services, 1, number);
        number += 1;
        if kind == ServiceKind::StateLost {
            if lost.is_some_and(|before| at < before + 3 * AFTER_A_LOSS) {
                continue;
            }
            lost = Some(at);
        }
        let timed = service_fault(kind, at, plan, &mut own);
        // Who stops a service wants it back.
        if let Fault::Stop { service } = &timed.fault {
            let at = at + own.between(5 * SECOND, 20 * SECOND);
            let fault = Fault::Run { service: service.clone() };
            plan.schedule.push(Timed { at: at.min(until), cue: None, lasts: None, fault });
        }
        plan.schedule.push(timed);
    }
}

/// What an operator does rarely, and what goes wrong where states lie: in half of the seeds with services.
pub(super) fn add_rare(plan: &mut Plan, until: Nanos) {
    let mut draw = Stream::new(plan.seed, Purpose::Services, 5, 0);
    if plan.services.is_empty() || !draw.percent(50) {
        return;
    }
    let mut at = START + 8 * SECOND;
    loop {
        at += draw.between(SECOND, 60 * SECOND);
        let lasts = draw.between(SECOND, 30 * SECOND);
        let node = draw.below(u64::from(plan.boards)) as BoardIndex;
        let which = draw.below(plan.services.len() as u64) as usize;
        let service = plan.services[which].name.clone();
        let (what, back) = (draw.below(3), draw.between(0, 3) as usize);
        if at + lasts >= until || plan.schedule.len() >= FAULTS_MAX {
            return;
        }
        let (lasts, fault) = match what {
            0 => (None, Fault::Restore { service, back }),
            1 => {
                // Who removes a service wants another one of that name.
                let fault = Fault::Run { service: service.clone() };
                plan.schedule.push(Timed { at: at + lasts, cue: None, lasts: None, fault });
                // Only what is removed may end in peace.
                for node in (0..plan.boards).filter(|_| draw.percent(30)) {
                    let fault = Fault::SlowStop { node };
                    plan.schedule.push(Timed { at, cue: None, lasts: Some(lasts), fault });
                }
                (None, Fault::Remove { service })
            }
            _ if plan.states == States::Names => continue,
            _ => (Some(lasts), Fault::StoreRot { node }),
        };
        plan.schedule.push(Timed { at, cue: None, lasts, fault });
    }
}

/// Disks with stores of states are full now and then, or fail to sync.
fn add_store_faults(plan: &mut Plan, until: Nanos) {
    let mut draw = Stream::new(plan.seed, Purpose::Services, 3, 0);
    let mut at = START + 4 * SECOND;
    loop {
        at += draw.between(SECOND, 60 * SECOND);
        let lasts = draw.between(SECOND, 20 * SECOND);
        let node = draw.below(u64::from(plan.boards)) as BoardIndex;
        let fault = match draw.percent(60) {
            true => Fault::FullStore { node },
            false => Fault::StoreSyncError { node, names: draw.percent(50) },
        };
        if at + lasts >= until {
            return;
        }
        plan.schedule.push(Timed { at, cue: None, lasts: Some(lasts), fault });
    }
}

/// Boards that an operator drains for a while, one after the other, since who drains several may leave too
/// few that can decide.
pub(super) fn add_drains(plan: &mut Plan, until: Nanos) {
    let mut draw = Stream::new(plan.seed, Purpose::Services, 2, 0);
    let mut at = START;
    loop {
        at += draw.between(20 * SECOND, 120 * SECOND);
        let lasts = draw.between(10 * SECOND, 40 * SECOND);
        if at + lasts >= until {
            return;
        }
        let node = draw.below(u64::from(plan.boards)) as BoardIndex;
        plan.schedule.push(Timed {
            at,
            cue: None,
            lasts: Some(lasts),
            fault: Fault::Drain { node },
        });
        at += lasts;
    }
}

fn service_fault(kind: ServiceKind, at: Nanos, plan: &Plan, draw: &mut Stream) -> Timed {
    let node = draw.below(u64::from(plan.boards)) as BoardIndex;
    let which = draw.below(plan.services.len() as u64) as usize;
    let service = plan.services[which].name.clone();
    let lasts = draw.between(SECOND, 20 * SECOND);
    let (lasts, fault) = match kind {
        ServiceKind::Move => (None, Fault::Move { service }),
        ServiceKind::ServiceCrash => (None, Fault::ServiceCrash { node }),
        ServiceKind::CannotStart => (Some(3 * lasts), Fault::CannotStart { node }),
        ServiceKind::LacksProgram => (Some(3 * lasts), Fault::LacksProgram { node }),
        ServiceKind::StateLost => (Some(lasts), Fault::StateLost { node }),
        ServiceKind::Rerun => (None, Fault::Run { service }),
        ServiceKind::Stop => (None, Fault::Stop { service }),
    };
    Timed { at, cue: None, lasts, fault }
}

/// Every so many seeds have the production store, which nearly doubles what a run costs.
const BYTES_EVERY: u64 = 8;
