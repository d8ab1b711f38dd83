//! Swarm runs: one seed makes all options and a random schedule of faults.
//!
//! As in TigerBeetle's VOPR: first the options are drawn (how many faults, of which kinds, how long),
//! then the faults, so that one seed is all crashes and another all partitions (swarm testing, Groce
//! et al., ISSTA'12). A safety phase full of faults is followed by a liveness phase without any.
//!
//! Most seeds run one to three services, and do things to them. All of that is drawn from streams of its
//! own, so a seed's other faults are the same with and without services.
//!
//! Delays and queues, flapping links, sleeping boards, rotting disks and rogues come from a stream of their own as
//! well (`rough`): half of the seeds have some.
//!
//! Two of five seeds have faults that wait for something that a board does (`cued`).
//!
//! [`Schedule::Chaos`] is ten minutes of everything, an event every 0.1 to 12 s, with services in every
//! seed and boards that an operator drains: what a campaign over failover is made of.

mod cued;
mod rough;
mod services;

use crate::faults::{Fault, Timed};
use crate::law::LinkLaw;
use crate::plan::Plan;
use crate::queue::BoardIndex;
use crate::seed::{Purpose, Stream};
use crate::time::{MILLI, Nanos, PPM_MAX, SECOND};

/// Boards of a run that real services are tried in.
pub const BOARDS: BoardIndex = 5;

/// Boards of a seed's run unless told otherwise: 3 to 7, in one of ten seeds 8 to 14.
pub fn boards(seed: u64) -> BoardIndex {
    let mut draw = Stream::new(seed, Purpose::Options, 1, 0);
    let (low, high) = if draw.percent(10) { (8, BOARDS_MAX) } else { (3, 7) };
    draw.between(low, high) as BoardIndex
}

/// In smaller meshes boards come one by one.
const STORM_BOARDS_MIN: BoardIndex = 8;
/// The largest mesh that is drawn.
const BOARDS_MAX: u64 = 14;

/// Which family of plans.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Schedule {
    /// Each seed differs in how long and how rough it is, and in what happens.
    #[default]
    Swarm,
    /// Every seed is ten minutes of everything.
    Chaos,
}

impl Schedule {
    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "swarm" => Some(Self::Swarm),
            "chaos" => Some(Self::Chaos),
            _ => None,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Swarm => "swarm",
            Self::Chaos => "chaos",
        }
    }
}

/// The kinds of fault that a schedule draws from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Crash,
    PowerCut,
    Wipe,
    Pause,
    SlowFsync,
    Partition,
    OneWayCut,
    Loss,
    ClockRate,
    Leave,
}

const KINDS: [Kind; 10] = [
    Kind::Crash,
    Kind::PowerCut,
    Kind::Wipe,
    Kind::Pause,
    Kind::SlowFsync,
    Kind::Partition,
    Kind::OneWayCut,
    Kind::Loss,
    Kind::ClockRate,
    Kind::Leave,
];

/// The plan of a seed.
pub fn plan(seed: u64, boards: BoardIndex, family: Schedule) -> Plan {
    let mut options = Stream::new(seed, Purpose::Options, 0, 0);
    let faulty = match family {
        Schedule::Swarm => options.between(30, 150) * SECOND,
        Schedule::Chaos => 600 * SECOND,
    };
    let heal_at = START + faulty;
    let mut plan = Plan::calm(seed, boards, 0);
    plan.name = format!("swarm {seed}");
    plan.link = if options.percent(20) { LinkLaw::Lan } else { LinkLaw::Wan };
    plan.preset = plan.link.preset();
    plan.loss_percent = options.pick(&[0, 0, 5, 20]);
    plan.ppm_max = options.pick(&[50, PPM_MAX]);
    if boards > 2 && options.percent(30) {
        plan.late.insert(boards - 1);
    }
    plan.heal_at = Some(heal_at);
    plan.schedule = schedule(&plan, &mut options, heal_at, family);
    services::add(&mut plan, heal_at, family);
    rough::add(&mut plan, heal_at, family);
    services::add_rare(&mut plan, heal_at);
    if family == Schedule::Chaos {
        services::add_drains(&mut plan, heal_at);
    }
    plan.settle_within = Some(plan.settle_bound());
    plan.horizon = heal_at + plan.settle_bound().max(plan.voters_bound()) + MARGIN;
    for board in plan.late.clone() {
        let at = options.between(START, heal_at);
        plan.schedule.push(Timed {
            at,
            cue: None,
            lasts: None,
            fault: Fault::Join { node: board },
        });
    }
    join_storm(&mut plan, heal_at);
    cued::add(&mut plan, heal_at, family);
    cued::add_duels(&mut plan, heal_at, family);
    plan
}

/// In half of the larger meshes up to half of the boards come in one instant.
fn join_storm(plan: &mut Plan, until: Nanos) {
    let mut draw = Stream::new(plan.seed, Purpose::Options, 2, 0);
    if plan.boards < STORM_BOARDS_MIN || !draw.percent(50) {
        return;
    }
    let first = draw.between(u64::from(plan.boards / 2), u64::from(plan.boards) - 2) as BoardIndex;
    let nodes: Vec<BoardIndex> =
        (first..plan.boards).filter(|board| !plan.late.contains(board)).collect();
    plan.late.extend(&nodes);
    let at = draw.between(START, until);
    plan.schedule.push(Timed { at, cue: None, lasts: None, fault: Fault::JoinStorm { nodes } });
}

fn schedule(plan: &Plan, options: &mut Stream, until: Nanos, family: Schedule) -> Vec<Timed> {
    let (seed, boards, preset) = (plan.seed, plan.boards, plan.preset);
    // Each kind is in or out, but never all out.
    let mut kinds: Vec<Kind> = KINDS.into_iter().filter(|_| options.percent(50)).collect();
    if kinds.is_empty() {
        kinds.push(options.pick(&KINDS));
    }
    let mut gap_max = options.between(500 * MILLI, 12 * SECOND);
    if family == Schedule::Chaos {
        kinds = KINDS.to_vec();
        gap_max = 12 * SECOND;
    }
    let mut draw = Stream::new(seed, Purpose::Faults, 0, 0);
    let mut at = if draw.percent(20) { 0 } else { START };
    let chaos = family == Schedule::Chaos;
    let after_a_loss = if chaos { AFTER_A_LOSS_CHAOS } else { AFTER_A_LOSS };
    let spares_voters = !Stream::new(seed, Purpose::Faults, 2, 0).percent(10);
    let grace = if spares_voters { preset.voter_grace.as_nanos() as Nanos } else { 0 };
    let (mut leaves, mut lost, mut schedule) = (0, None, Vec::new());
    loop {
        at += draw.between(100 * MILLI, gap_max);
        if at >= until || schedule.len() >= FAULTS_MAX {
            return schedule;
        }
        let kind = draw.pick(&kinds);
        // A fault's own draws come from its own stream: leaving one out changes no other.
        let mut own = Stream::new(seed, Purpose::Faults, 1, schedule.len() as u64);
        let too_soon = lost.is_some_and(|before| at < before + after_a_loss + grace);
        match kind {
            Kind::Wipe if too_soon => continue,
            Kind::Leave if leaves >= boards / 3 => continue,
            Kind::Leave => leaves += 1,
            _ => {}
        }
        if matches!(kind, Kind::Leave | Kind::Wipe) {
            lost = Some(at);
        }
        schedule.push(fault(kind, at, boards, &mut own));
    }
}

fn fault(kind: Kind, at: Nanos, boards: BoardIndex, draw: &mut Stream) -> Timed {
    let node = draw.below(u64::from(boards)) as BoardIndex;
    let down = draw.between(200 * MILLI, 20 * SECOND);
    let cut = draw.between(500 * MILLI, 40 * SECOND);
    let (lasts, fault) = match kind {
        Kind::Crash => (Some(down), Fault::Crash { node }),
        Kind::PowerCut => (Some(down + SECOND), Fault::PowerCut { node }),
        Kind::Wipe => (Some(down + SECOND), Fault::Wipe { node }),
        Kind::Pause => {
            let short = draw.percent(50);
            let max = if short { 800 * MILLI } else { 8 * SECOND };
            (Some(draw.between(50 * MILLI, max)), Fault::Pause { node })
        }
        Kind::SlowFsync => (Some(draw.between(2 * SECOND, 30 * SECOND)), Fault::SlowFsync { node }),
        Kind::Partition => (Some(cut), partition(boards, draw)),
        Kind::OneWayCut => {
            let other = draw.below(u64::from(boards)) as BoardIndex;
            let everyone = (0..boards).filter(|board| *board != node).collect();
            let to = if draw.percent(50) { everyone } else { vec![other] };
            let (from, to) = if draw.percent(50) { (vec![node], to) } else { (to, vec![node]) };
            (Some(cut), Fault::OneWayCut { from, to })
        }
        Kind::Loss => (Some(cut), Fault::Loss { percent: draw.pick(&[0, 5, 20, 40]) }),
        Kind::ClockRate => {
            let ppm = draw.between(0, 2 * PPM_MAX.unsigned_abs() as u64) as i32 - PPM_MAX;
            (Some(cut), Fault::ClockRate { node, ppm })
        }
        Kind::Leave => (None, Fault::Leave { node, force: false }),
    };
    Timed { at, cue: None, lasts, fault }
}

/// Two or three groups; none may be everyone.
fn partition(boards: BoardIndex, draw: &mut Stream) -> Fault {
    let count = draw.between(2, 3) as usize;
    let mut groups = vec![Vec::new(); count];
    for board in 0..boards {
        groups[draw.below(count as u64) as usize].push(board);
    }
    if boards > 1
        && let Some(whole) = groups.iter().position(|group| group.len() == usize::from(boards))
        && let Some(alone) = groups[whole].pop()
    {
        groups[(whole + 1) % count].push(alone);
    }
    Fault::Partition { groups }
}

/// Faults usually begin when the mesh has formed.
const START: Nanos = 12 * SECOND;
/// Every wipe leaves an identity that is dead for good. A board that watches mostly such ones needs
/// half a minute to tell that from its own isolation. Until a lost voter is replaced, the next loss
/// takes the majority for good; in nine of ten runs that is avoided.
const AFTER_A_LOSS: Nanos = 40 * SECOND;
/// In the long schedules losses are rarer still: a mesh that cannot decide any more tests nothing.
const AFTER_A_LOSS_CHAOS: Nanos = 120 * SECOND;
/// Faults of one run.
const FAULTS_MAX: usize = 200;
/// The run ends after the bound, even if an operator had to help first, so that the bound is what
/// fails.
const MARGIN: Nanos = 40 * SECOND;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_meshes_are_drawn_mostly_and_each_size_comes_up() {
        let mut counts = [0; 15];
        (0..1000).for_each(|seed| counts[usize::from(boards(seed))] += 1);
        assert!(
            counts[..3].iter().all(|count| *count == 0)
                && counts[3..].iter().all(|count| *count > 0)
        );
        let large: u64 = counts[8..].iter().sum();
        assert!((70..130).contains(&large), "{large} of 1,000");
    }
}
