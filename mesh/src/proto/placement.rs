//! Placement: which board runs what. Pure functions over a snapshot.
//!
//! Hard conditions first (up, wanted class and labels, a durable disk for state, room by class);
//! among those that fit, the least used board, ties by hash so that equal boards share equally and every
//! board would decide alike. The master's own comes last among equals, and as a standby after all others:
//! where one board is both, its death leaves an active with nobody to prolong its lease.

use std::collections::BTreeSet;

use super::id::NodeId;
use super::members::{Member, Members};
use super::order::Instance;
use super::spec::ServiceSpec;
use super::table::{Row, Table};

/// Why no board fits.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no board has room for it: {reasons}. Add a board, stop another service, or ask for less")]
pub struct NoRoom {
    /// How many boards failed at which condition, in words.
    pub reasons: String,
}

/// The best board to run `instance`.
///
/// # Errors
/// None fits, and why.
pub fn choose_active(
    instance: &Instance,
    spec: &ServiceSpec,
    members: &Members,
    table: &Table,
    master: &NodeId,
    silent: &BTreeSet<NodeId>,
) -> Result<NodeId, NoRoom> {
    let full = |node: &NodeId, member: &Member| {
        used(node, table) >= usize::from(member.record.board.class.index())
    };
    let rank = |node: &NodeId| (used(node, table), node == master, tie(instance, node));
    choose(spec, (members, silent), table, full, |_| false, rank)
}

/// The best board to stand by for `row`: another one than its active, than its present standby, and
/// than the board that is being filled.
///
/// A board may stand by for more than it could run at once, as long as the death of any *one* other
/// board leaves it able to run what it then has to (n + k of Das, section III.A, with k = 1).
///
/// # Errors
/// None fits, and why.
pub fn choose_standby(
    row: &Row,
    spec: &ServiceSpec,
    members: &Members,
    table: &Table,
    master: &NodeId,
    silent: &BTreeSet<NodeId>,
) -> Result<NodeId, NoRoom> {
    let instance = row.instance();
    let holds =
        |other: &Row, node: &NodeId| other.standby == Some(*node) || other.fill == Some(*node);
    let full = |node: &NodeId, member: &Member| {
        let others = table.rows.iter().filter(|other| other.instance() != instance);
        let promoted = others.filter(|other| other.active == row.active && holds(other, node));
        let room = usize::from(member.record.board.class.index());
        used(node, table) + promoted.count() >= room
    };
    let rank = |node: &NodeId| {
        let standing_by = table.rows.iter().filter(|other| holds(other, node)).count();
        (node == master, used(node, table) + standing_by, tie(&instance, node))
    };
    let taken = |node: &NodeId| *node == row.active || holds(row, node);
    choose(spec, (members, silent), table, full, taken, rank)
}

fn choose<R: Ord>(
    spec: &ServiceSpec,
    (members, silent): (&Members, &BTreeSet<NodeId>),
    table: &Table,
    full: impl Fn(&NodeId, &Member) -> bool,
    taken: impl Fn(&NodeId) -> bool,
    rank: impl Fn(&NodeId) -> R,
) -> Result<NodeId, NoRoom> {
    let mut refused: std::collections::BTreeMap<&'static str, usize> = Default::default();
    let best = members
        .up()
        .filter(|(node, _)| !taken(node))
        .filter(|(node, member)| {
            match unfit(member, spec)
                .or(table.is_drained(node).then_some("drained"))
                .or(table.is_leaving(node).then_some("leaving"))
                .or(silent.contains(node).then_some("silent"))
                .or(full(node, member).then_some("full"))
            {
                None => true,
                Some(why) => {
                    *refused.entry(why).or_default() += 1;
                    false
                }
            }
        })
        .min_by_key(|(node, _)| rank(node));
    best.map(|(node, _)| *node).ok_or_else(|| NoRoom {
        reasons: match refused.is_empty() {
            true => "no other board is up".to_owned(),
            false => refused
                .iter()
                .map(|(why, count)| format!("{count} {why}"))
                .collect::<Vec<_>>()
                .join(", "),
        },
    })
}

/// Why a board cannot run a service, if it cannot.
fn unfit(member: &Member, spec: &ServiceSpec) -> Option<&'static str> {
    let board = &member.record.board;
    let labelled = |wanted| member.record.labels.iter().any(|label| label == wanted);
    if !spec.classes.is_empty() && !spec.classes.contains(&board.class) {
        return Some("of another class");
    }
    if !spec.labels.iter().all(labelled) {
        return Some("without the labels");
    }
    if spec.state.is_some() && !board.durable {
        return Some("without a durable disk");
    }
    None
}

/// How many instances a board runs.
fn used(node: &NodeId, table: &Table) -> usize {
    table.rows.iter().filter(|row| row.active == *node && !row.retiring).count()
}

fn tie(instance: &Instance, node: &NodeId) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(instance.service.as_bytes());
    hasher.update(&instance.ordinal.to_le_bytes());
    hasher.update(&node.0);
    let mut tie = [0; 8];
    tie.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    tie
}
