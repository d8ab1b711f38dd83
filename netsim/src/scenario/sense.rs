//! What can mean nothing is refused: a limit that is passed, a board that attacks itself, a list of nobody.

use hedgerow::proto::record::NAME_BYTES_MAX;
use hedgerow::proto::spec::{Commit, OnIsolation};

use crate::expect::Expect;
use crate::faults::{
    FLOOD_MAX, Fault, JUMP_MAX, KBIT_MAX, LOSS_PERCENT_MAX, MILLISECONDS_MAX, Timed,
};
use crate::plan::Plan;
use crate::service::Service;
use crate::time::PPM_MAX;

/// Kilobytes of one state: every capture of it is held in memory.
const KILOBYTES_MAX: u64 = 100_000;

/// Whether a fault can do anything.
///
/// # Errors
/// What is wrong with it, and what to do.
pub(super) fn of_fault(timed: &Timed) -> Result<(), String> {
    let Timed { fault, lasts, .. } = timed;
    let milliseconds = |ms| !(1..=MILLISECONDS_MAX).contains(&ms);
    let what = match fault {
        Fault::Loss { percent } if *percent > LOSS_PERCENT_MAX => {
            format!("`percent` must be from 0 to {LOSS_PERCENT_MAX}")
        }
        Fault::ClockRate { ppm, .. } if ppm.unsigned_abs() > PPM_MAX.unsigned_abs() => {
            format!("`ppm` must be from -{PPM_MAX} to {PPM_MAX}: the protocol assumes ± 1 %")
        }
        fault if fault.milliseconds().is_some_and(milliseconds) => {
            format!("`ms` must be from 1 to {MILLISECONDS_MAX}")
        }
        Fault::Bandwidth { kbit, .. } if !(1..=KBIT_MAX).contains(kbit) => {
            format!("`kbit` must be from 1 to {KBIT_MAX}")
        }
        Fault::Flood { per_second, .. } if !(1..=FLOOD_MAX).contains(per_second) => {
            format!("`per-second` must be from 1 to {FLOOD_MAX}")
        }
        Fault::Nat { expires: 0, .. } => {
            "`expires` must be more than 0: a mapping that is gone at once lets nothing out"
                .to_owned()
        }
        Fault::ClockJump { seconds, .. } if seconds.unsigned_abs() > JUMP_MAX => {
            format!("`seconds` must be from -{JUMP_MAX} to {JUMP_MAX}: ten years")
        }
        Fault::RecoverMesh { node, dead } if dead.contains(node) => {
            "`dead` names the board that is to recover the mesh".to_owned()
        }
        fault if aims_at_itself(fault) => {
            format!("`to` must be another board than `node`: `{}` takes two", fault.name())
        }
        fault if names_nobody(fault) => {
            format!("`{}` names no board, so nothing would happen", fault.name())
        }
        fault if fault.is_moment() && lasts.is_some() => {
            format!("`{}` is over at once: leave out `for`", fault.name())
        }
        fault if *lasts == Some(0) => {
            format!("`{}` for no time does nothing: leave out `for`, or say how long", fault.name())
        }
        _ => return Ok(()),
    };
    Err(what)
}

fn aims_at_itself(fault: &Fault) -> bool {
    match fault {
        Fault::Garbage { node, to }
        | Fault::Oversize { node, to }
        | Fault::Truncated { node, to }
        | Fault::Replay { node, to }
        | Fault::StaleTerm { node, to }
        | Fault::FalseIncarnation { node, to }
        | Fault::VersionSkew { node, to }
        | Fault::Flood { node, to, .. } => node == to,
        _ => false,
    }
}

fn names_nobody(fault: &Fault) -> bool {
    match fault {
        Fault::JoinStorm { nodes } | Fault::Blackout { nodes } => nodes.is_empty(),
        Fault::OneWayCut { from, to } => from.is_empty() || to.is_empty(),
        Fault::Partition { groups } => groups.iter().all(Vec::is_empty),
        _ => false,
    }
}

/// Whether an expectation can fail.
///
/// # Errors
/// What is wrong with it, and what to do.
pub(super) fn of_expect(expect: &Expect) -> Result<(), String> {
    match expect {
        Expect::Down { nodes } | Expect::NeverDown { nodes } | Expect::Told { nodes, .. }
            if nodes.is_empty() =>
        {
            Err("`nodes` names no board: that is always true".to_owned())
        }
        _ => Ok(()),
    }
}

/// Whether a service can run as it is described.
///
/// # Errors
/// What is wrong with it, and what to do.
pub(super) fn of_service(service: &Service, plan: &Plan, kilobytes: u64) -> Result<(), String> {
    let Service { name, at, every, .. } = service;
    if name.len() > NAME_BYTES_MAX {
        return Err(format!("`name` has {} bytes; {NAME_BYTES_MAX} are the most", name.len()));
    }
    if plan.services.iter().any(|other| other.name == *name) {
        return Err(format!("there is a service `{name}` already: give this one another name"));
    }
    if kilobytes > KILOBYTES_MAX {
        return Err(format!("`kilobytes` must be from 0 to {KILOBYTES_MAX}, not {kilobytes}"));
    }
    if *every == 0 {
        return Err("`every` must be more than 0: a state is captured so often".to_owned());
    }
    if *at >= plan.horizon {
        return Err(
            "`at` is not before the `horizon`: the service would never be ordered".to_owned()
        );
    }
    if service.on_isolation == OnIsolation::KeepRunning && service.commit == Commit::Standby {
        return Err(
            "`on-isolation = \"keep-running\"` needs `commit = \"async\"`: an isolated service cannot reach its standby, and commits wait for that by default"
                .to_owned(),
        );
    }
    service.spec().check().map_err(|error| error.to_string())
}
