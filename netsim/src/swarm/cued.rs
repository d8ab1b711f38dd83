//! Faults right after something that a board does. What goes wrong in the five milliseconds between a word and its
//! fsync a time drawn at random meets once in a million runs. From a stream of its own.

use super::{FAULTS_MAX, START, Schedule};
use crate::cue::Cue;
use crate::faults::{Fault, Timed};
use crate::plan::Plan;
use crate::queue::BoardIndex;
use crate::seed::{Purpose, Stream};
use crate::service::Service;
use crate::time::{MILLI, Nanos, SECOND};

/// What boards do that is worth a fault; the two last ones need the name of a service.
const ACTS: [&str; 20] = [
    "writes Assigned",
    "writes Table",
    "writes Saw",
    "writes Began",
    "writes Released",
    "writes Switching",
    "writes Term",
    "writes Admission",
    "writes Revocation",
    "sends Take",
    "sends Release",
    "sends Filled",
    "sends Ready",
    "sends NeedStandby",
    "sends Stored",
    "gets Take",
    "gets Release",
    "gets Stored",
    "begins",
    "ends",
];
/// How long after it.
const PLUS: [Nanos; 7] = [0, MILLI, 5 * MILLI, 20 * MILLI, 100 * MILLI, 500 * MILLI, 2 * SECOND];
/// A fault may be over by the end of the schedule.
const LASTS_MAX: Nanos = 20 * SECOND;

/// … and a duel, too.
const DUEL_LASTS: Nanos = 40 * SECOND;

/// Adds some to two of five seeds, and to all of chaos.
pub(super) fn add(plan: &mut Plan, until: Nanos, family: Schedule) {
    let mut draw = Stream::new(plan.seed, Purpose::Faults, 3, 0);
    let chaos = family == Schedule::Chaos;
    if (!chaos && !draw.percent(40)) || until <= START + LASTS_MAX {
        return;
    }
    let cues = if chaos { 12 } else { 4 };
    for number in 0..draw.between(1, cues) {
        let mut own = Stream::new(plan.seed, Purpose::Faults, 4, number);
        for timed in after_a_cue(plan, until - LASTS_MAX, &mut own) {
            if plan.schedule.len() < FAULTS_MAX {
                plan.schedule.push(timed);
            }
        }
    }
}

/// Adds duels to some of the seeds that have services, and to all of chaos.
pub(super) fn add_duels(plan: &mut Plan, until: Nanos, family: Schedule) {
    let mut draw = Stream::new(plan.seed, Purpose::Faults, 5, 0);
    let chaos = family == Schedule::Chaos;
    let room = until > START + DUEL_LASTS && plan.boards > 2 && !plan.services.is_empty();
    if !room || (!chaos && !draw.percent(25)) {
        return;
    }
    for number in 0..draw.between(1, if chaos { 3 } else { 1 }) {
        let mut own = Stream::new(plan.seed, Purpose::Faults, 6, number);
        for timed in duel(plan, until - DUEL_LASTS, &mut own) {
            if plan.schedule.len() < FAULTS_MAX {
                plan.schedule.push(timed);
            }
        }
    }
}

/// Two boards, each of which may believe that a service is its own: one is cut off where the service probably runs, the
/// other takes over, loses power as it begins, and then the two have only each other.
fn duel(plan: &Plan, until: Nanos, draw: &mut Stream) -> Vec<Timed> {
    let service = &plan.services[draw.below(plan.services.len() as u64) as usize];
    let former = service.board;
    // While it probably still runs where it was ordered.
    let at = draw.between(START, until.min(START + 30 * SECOND));
    let (cut_off, off) = (draw.between(10 * SECOND, 25 * SECOND), draw.between(SECOND, 5 * SECOND));
    let (plus, alone) = (draw.pick(&PLUS[..5]), draw.between(20 * SECOND, DUEL_LASTS));
    let is_slow = draw.percent(70);
    let apart = |pair: &[BoardIndex]| {
        let others = (0..plan.boards).filter(|one| !pair.contains(one)).collect();
        Fault::Partition { groups: vec![pair.to_vec(), others] }
    };
    let timed = |cue, lasts, fault| Timed { at, cue, lasts: Some(lasts), fault };
    let mut faults = vec![timed(None, cut_off, apart(&[former]))];
    for heir in (0..plan.boards).filter(|board| *board != former) {
        let begins = format!("n{heir} begins {}?", service.name).parse().expect("a service begins");
        let cue = Some(Cue { plus, ..begins });
        faults.push(timed(cue.clone(), off, Fault::PowerCut { node: heir }));
        faults.push(timed(cue, alone, apart(&[former, heir])));
        if is_slow {
            faults.push(timed(None, cut_off, Fault::SlowFsync { node: heir }));
        }
    }
    faults
}

/// One cue, and one to three faults by it: the board that does it loses power, say, behind a slow disk, and hears
/// only one other when it is back.
fn after_a_cue(plan: &Plan, until: Nanos, draw: &mut Stream) -> Vec<Timed> {
    let board = draw.below(u64::from(plan.boards)) as BoardIndex;
    let other = draw.below(u64::from(plan.boards)) as BoardIndex;
    let at = draw.between(START, until);
    let cue = cue(&plan.services, board, draw);
    let plus = draw.pick(&PLUS);
    let lasts = draw.between(SECOND, LASTS_MAX);
    let rest = || (0..plan.boards).filter(move |one| *one != board);
    let fault = match draw.below(6) {
        0..=2 => Fault::PowerCut { node: board },
        3 => Fault::Crash { node: board },
        4 => Fault::OneWayCut { from: vec![board], to: rest().collect() },
        _ => Fault::Pause { node: board },
    };
    let timed = |plus, lasts, fault| {
        let cue = Cue { plus, ..cue.clone() };
        Timed { at, cue: Some(cue), lasts: Some(lasts), fault }
    };
    let mut faults = vec![timed(plus, lasts, fault)];
    if draw.percent(50) && plan.boards > 2 {
        let pair = if other == board { vec![board] } else { vec![board, other] };
        let others = rest().filter(|one| *one != other).collect();
        let fault = Fault::Partition { groups: vec![pair, others] };
        faults.push(timed(plus, draw.between(SECOND, 3 * LASTS_MAX), fault));
    }
    if draw.percent(40) {
        let fault = Fault::SlowFsync { node: board };
        faults.push(Timed { at, cue: None, lasts: Some(lasts), fault });
    }
    faults
}

fn cue(services: &[Service], board: BoardIndex, draw: &mut Stream) -> Cue {
    let act = draw.pick(&ACTS);
    let service = match services.len() as u64 {
        0 => None,
        count => Some(&services[draw.below(count) as usize]),
    };
    let named = act.contains(' ');
    let words = match service {
        _ if named => format!("n{board} {act}?"),
        Some(service) => format!("n{board} {act} {}?", service.name),
        // Without services nothing begins or ends.
        None => format!("n{board} writes Table?"),
    };
    words.parse().expect("each act is a cue: a test draws them all")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_act_is_a_cue() {
        let mut plans = (1..).map(|seed| super::super::plan(seed, 5, Schedule::Chaos));
        let services = plans.find(|plan| !plan.services.is_empty()).expect("most have").services;
        for services in [&services[..1], &[]] {
            let mut draw = Stream::new(1, Purpose::Faults, 9, 0);
            let drawn: BTreeSet<String> =
                (0..500).map(|_| cue(services, 3, &mut draw).to_string()).collect();
            // Two of them need a service.
            assert_eq!(drawn.len(), if services.is_empty() { ACTS.len() - 2 } else { ACTS.len() });
            assert!(drawn.iter().all(|cue| cue.starts_with("n3 ") && cue.ends_with('?')));
        }
        let plans = (0..200).map(|seed| super::super::plan(seed, 5, Schedule::Swarm));
        let cues: Vec<Timed> =
            plans.flat_map(|plan| plan.schedule).filter(|timed| timed.cue.is_some()).collect();
        assert!(cues.len() > 100, "{}", cues.len());
    }
}
