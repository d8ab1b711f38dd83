//! Placement: which board runs what. Pure functions over a snapshot.
//!
//! Hard conditions first (up, wanted class and labels, a durable disk for state, room by class);
//! among those that fit, the least used board, the master's own last, ties by hash so that equal
//! boards share equally and every board would decide alike.

use super::id::NodeId;
use super::members::{Member, Members};
use super::order::Instance;
use super::spec::ServiceSpec;
use super::table::Table;

/// Why no board fits.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no board has room for it: {reasons}. Add a board, stop another service, or ask for less")]
pub struct NoRoom {
    /// How many boards failed at which condition.
    reasons: String,
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
) -> Result<NodeId, NoRoom> {
    let mut refused: std::collections::BTreeMap<&'static str, usize> = Default::default();
    let best = members
        .up()
        .filter(|(node, member)| match unfit(node, member, spec, table) {
            None => true,
            Some(why) => {
                *refused.entry(why).or_default() += 1;
                false
            }
        })
        .min_by_key(|(node, _)| (used(node, table), *node == master, tie(instance, node)));
    best.map(|(node, _)| *node).ok_or_else(|| NoRoom {
        reasons: match refused.is_empty() {
            true => "no board is up".to_owned(),
            false => refused
                .iter()
                .map(|(why, count)| format!("{count} {why}"))
                .collect::<Vec<_>>()
                .join(", "),
        },
    })
}

/// Why a board cannot run a service, if it cannot.
fn unfit(
    node: &NodeId,
    member: &Member,
    spec: &ServiceSpec,
    table: &Table,
) -> Option<&'static str> {
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
    if used(node, table) >= usize::from(board.class.index()) {
        return Some("full");
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
