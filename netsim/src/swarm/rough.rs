//! Rough times: what makes messages late, connections that break, boards that are not well, disks that rot,
//! processes that speak nonsense. From a stream of its own.

use super::{AFTER_A_LOSS, AFTER_A_LOSS_CHAOS, FAULTS_MAX, START, Schedule};
use crate::faults::{Fault, Timed};
use crate::net::nat::{EXPIRES, Filter, Mapping};
use crate::plan::Plan;
use crate::queue::BoardIndex;
use crate::seed::{Purpose, Stream};
use crate::time::{MILLI, Nanos, SECOND};

/// A partition may last forty seconds, and the dead are dialled once a minute.
const ROAM_APART: Nanos = 120 * SECOND;

/// The kinds of fault that are drawn from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Delay,
    Jitter,
    Clog,
    Bandwidth,
    Flap,
    Bridge,
    Reset,
    HalfOpen,
    Nat,
    Roam,
    CrashLoop,
    Stutter,
    Suspend,
    ClockJump,
    BitRot,
    MisdirectedWrite,
    FsyncError,
    FullDisk,
    Garbage,
    Oversize,
    LowMemory,
    Revoke,
    Publish,
    Truncated,
    Replay,
    Blackout,
    StaleTerm,
    FalseIncarnation,
    Flood,
    VersionSkew,
}

const KINDS: [Kind; 22] = [
    Kind::Delay,
    Kind::Jitter,
    Kind::Clog,
    Kind::Bandwidth,
    Kind::Flap,
    Kind::Bridge,
    Kind::Reset,
    Kind::HalfOpen,
    Kind::Nat,
    Kind::Roam,
    Kind::CrashLoop,
    Kind::Stutter,
    Kind::Suspend,
    Kind::ClockJump,
    Kind::BitRot,
    Kind::MisdirectedWrite,
    Kind::FsyncError,
    Kind::FullDisk,
    Kind::Garbage,
    Kind::Truncated,
    Kind::Replay,
    Kind::Blackout,
];

/// Thought of later, and drawn from a stream of their own: seeds without them stay as they were.
const LATER: [Kind; 4] = [Kind::StaleTerm, Kind::FalseIncarnation, Kind::Flood, Kind::VersionSkew];
/// And again.
const LAST: [Kind; 2] = [Kind::Oversize, Kind::LowMemory];
/// And once more.
const NEWEST: [Kind; 2] = [Kind::Revoke, Kind::Publish];

pub(super) fn add(plan: &mut Plan, until: Nanos, family: Schedule) {
    let chaos = family == Schedule::Chaos;
    let mut draw = Stream::new(plan.seed, Purpose::Rough, 0, 0);
    if !draw.percent(50) {
        return;
    }
    // Each kind is in or out, as with the others.
    let share = if chaos { 60 } else { 25 };
    let mut kinds: Vec<Kind> = KINDS.into_iter().filter(|_| draw.percent(share)).collect();
    let mut later = Stream::new(plan.seed, Purpose::Rough, 2, 0);
    kinds.extend(LATER.into_iter().filter(|_| later.percent(share)));
    let mut last = Stream::new(plan.seed, Purpose::Rough, 3, 0);
    kinds.extend(LAST.into_iter().filter(|_| last.percent(share)));
    let mut newest = Stream::new(plan.seed, Purpose::Rough, 4, 0);
    kinds.extend(NEWEST.into_iter().filter(|_| newest.percent(share)));
    let gap_max = if chaos { 25 * SECOND } else { draw.between(3 * SECOND, 30 * SECOND) };
    let mut at = START;
    let mut number = 0;
    while !kinds.is_empty() {
        at += draw.between(100 * MILLI, gap_max);
        if at >= until || number >= FAULTS_MAX as u64 {
            return;
        }
        let kind = draw.pick(&kinds);
        let mut own = Stream::new(plan.seed, Purpose::Rough, 1, number);
        number += 1;
        let timed = fault(kind, at, plan.boards, &mut own);
        if timed.fault.loses_the_identity() && !may_lose_a_disk(plan, at, chaos) {
            continue;
        }
        if matches!(timed.fault, Fault::Roam { .. }) && !may_roam(plan, at) {
            continue;
        }
        plan.schedule.push(timed);
    }
}

/// Whether the last change of an address is known by now: boards that lose each other and both have new addresses
/// need somebody who knows one of them.
fn may_roam(plan: &Plan, at: Nanos) -> bool {
    let roamed = |timed: &&Timed| matches!(timed.fault, Fault::Roam { .. });
    plan.schedule.iter().filter(roamed).all(|timed| timed.at + ROAM_APART < at)
}

/// Whether no identity is lost for a while before and after: the mesh must replace one voter before it loses the
/// next.
fn may_lose_a_disk(plan: &Plan, at: Nanos, chaos: bool) -> bool {
    let apart = if chaos { AFTER_A_LOSS_CHAOS } else { AFTER_A_LOSS };
    let apart = apart + plan.preset.voter_grace.as_nanos() as Nanos;
    plan.schedule.iter().all(|timed| {
        let loses = timed.fault.loses_the_identity() || matches!(timed.fault, Fault::Leave { .. });
        !loses || timed.at.abs_diff(at) > apart
    })
}

fn fault(kind: Kind, at: Nanos, boards: BoardIndex, draw: &mut Stream) -> Timed {
    let node = draw.below(u64::from(boards)) as BoardIndex;
    let other = (node + 1 + draw.below(u64::from(boards.max(2)) - 1) as BoardIndex) % boards;
    let short = draw.between(200 * MILLI, 20 * SECOND);
    let long = draw.between(2 * SECOND, 60 * SECOND);
    let ms = draw.between(20, 3000);
    let (lasts, fault) = match kind {
        Kind::Delay => (Some(long), Fault::Delay { from: vec![node], to: vec![other], ms }),
        Kind::Jitter => (Some(long), Fault::Jitter { ms: ms / 3 + 1 }),
        Kind::Clog => (Some(short), Fault::Clog { node }),
        Kind::Bandwidth => (Some(long), Fault::Bandwidth { node, kbit: draw.between(8, 512) }),
        Kind::Flap => (Some(long), Fault::Flap { node, ms: ms + 200 }),
        Kind::Bridge => {
            let side = |bridge| (0..boards).filter(move |board| board % 2 == bridge);
            let with = |bridge: BoardIndex| -> Vec<BoardIndex> {
                side(bridge).filter(|board| *board != node).chain([node]).collect()
            };
            (Some(short), Fault::Partition { groups: vec![with(0), with(1)] })
        }
        Kind::Reset => (None, Fault::Reset { node }),
        Kind::HalfOpen => (None, Fault::HalfOpen { node }),
        Kind::Nat => (Some(long), nat(node, draw)),
        Kind::Roam => (None, Fault::Roam { node }),
        Kind::CrashLoop => (Some(short), Fault::CrashLoop { node, ms: ms + 200 }),
        Kind::Stutter => (Some(short), Fault::Stutter { node, ms: ms / 4 + 1 }),
        Kind::Suspend => (Some(short), Fault::Suspend { node }),
        Kind::ClockJump => {
            let seconds = draw.between(0, 7200) as i64 - 3600;
            (None, Fault::ClockJump { node, seconds })
        }
        Kind::BitRot => (Some(short), Fault::BitRot { node }),
        Kind::MisdirectedWrite => (Some(short), Fault::MisdirectedWrite { node }),
        Kind::FsyncError => (Some(short / 4), Fault::FsyncError { node }),
        Kind::FullDisk => (Some(short), Fault::FullDisk { node }),
        Kind::Garbage => (None, Fault::Garbage { node, to: other }),
        Kind::Oversize => (None, Fault::Oversize { node, to: other }),
        Kind::LowMemory => (Some(short), Fault::LowMemory { node }),
        Kind::Revoke => (Some(SECOND + short), Fault::Revoke { node }),
        Kind::Publish => (None, Fault::Publish { node }),
        Kind::Truncated => (None, Fault::Truncated { node, to: other }),
        Kind::Replay => (None, Fault::Replay { node, to: other }),
        Kind::StaleTerm => (None, Fault::StaleTerm { node, to: other }),
        Kind::FalseIncarnation => (None, Fault::FalseIncarnation { node, to: other }),
        Kind::VersionSkew => (None, Fault::VersionSkew { node, to: other }),
        Kind::Flood => {
            (Some(short), Fault::Flood { node, to: other, per_second: draw.between(20, 1000) })
        }
        Kind::Blackout => (Some(short), Fault::Blackout { nodes: vec![node, other] }),
    };
    Timed { at, cue: None, lasts, fault }
}

/// Boards probe and renew every second: no real mapping expires, one of half a second does whenever a link is idle.
fn nat(node: BoardIndex, draw: &mut Stream) -> Fault {
    let mapping = draw.pick(&[Mapping::EndpointIndependent, Mapping::Symmetric]);
    let filter = draw.pick(&[Filter::Open, Filter::PortRestricted]);
    let expires = draw.pick(&[500 * MILLI, 30 * SECOND, EXPIRES]);
    Fault::Nat { node, mapping, filter, expires }
}
