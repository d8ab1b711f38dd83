//! Faults right after something that a board does. What goes wrong in the five milliseconds between a word and its
//! fsync a time drawn at random meets once in a million runs. From a stream of its own.

use super::{FAULTS_MAX, START, Schedule};
use crate::cue::Cue;
use crate::faults::{Fault, Timed};
use crate::plan::Plan;
use crate::queue::BoardIndex;
use crate::seed::{Purpose, Stream};
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

/// One cue, and one to three faults by it: the board that does it loses power, say, behind a slow disk, and hears
/// only one other when it is back.
fn after_a_cue(plan: &Plan, until: Nanos, draw: &mut Stream) -> Vec<Timed> {
    let board = draw.below(u64::from(plan.boards)) as BoardIndex;
    let other = draw.below(u64::from(plan.boards)) as BoardIndex;
    let at = draw.between(START, until);
    let cue = cue(plan, board, draw);
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
        let cue = cue.clone().map(|cue| Cue { plus, ..cue });
        Timed { at, cue, lasts: Some(lasts), fault }
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

fn cue(plan: &Plan, board: BoardIndex, draw: &mut Stream) -> Option<Cue> {
    let act = draw.pick(&ACTS);
    let named = act.contains(' ');
    let service = match plan.services.len() as u64 {
        0 if named => "",
        // Without services nothing begins or ends.
        0 => return format!("n{board} writes Table?").parse().ok(),
        count => &plan.services[draw.below(count) as usize].name,
    };
    let name = if named { "" } else { service };
    format!("n{board} {act} {}?", name).replace(" ?", "?").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_act_is_a_cue() {
        for act in ACTS.iter().filter(|act| act.contains(' ')) {
            let cue: Cue = format!("n1 {act}?").parse().expect(act);
            assert!(cue.is_optional);
        }
        let plans = (0..200).map(|seed| super::super::plan(seed, 5, Schedule::Swarm));
        let cues: Vec<Timed> =
            plans.flat_map(|plan| plan.schedule).filter(|timed| timed.cue.is_some()).collect();
        assert!(cues.len() > 100, "{}", cues.len());
    }
}
