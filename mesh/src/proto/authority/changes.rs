//! Changes of the table: asked for by other parts, decided here.
//!
//! All changes that wait go into the next version of the table (L4 of 3b). A change says which
//! revision of the row it was made for; if another was faster it is refused, never merged.

use super::{Authority, Role};
use crate::proto::id::NodeId;
use crate::proto::order::Instance;
use crate::proto::table::{DRAINED_MAX, ORDERS_MAX, ROWS_MAX, Row, Table};
use crate::proto::turn::Turn;

/// Changes that wait for the next version.
pub const CHANGES_MAX: usize = 1024;

/// A change of the table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// Names it in the verdict.
    pub id: u64,
    /// What it is about.
    pub what: What,
    /// The order behind it: its nonce's first half, and until when it would be valid (unix seconds).
    pub order: Option<(u64, u64)>,
}

/// What a change is about.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::large_enum_variant, reason = "short-lived: made, chosen, dropped")]
pub enum What {
    /// One row.
    Row {
        /// Which.
        instance: Instance,
        /// The revision that it was made for; none = there must be no such row.
        made_for: Option<u64>,
        /// The new row; none = remove it. Its revision is set here.
        row: Option<Row>,
    },
    /// Whether a board is to host and to decide.
    Drain {
        /// Which.
        node: NodeId,
        /// True: not any more.
        drained: bool,
    },
    /// Whether a board is leaving the mesh.
    Leave {
        /// Which.
        node: NodeId,
        /// False: it stays after all.
        leaving: bool,
    },
}

/// A row that is part of the version in flight.
pub(super) type Moving = (Instance, bool);

impl What {
    /// Which row it changes, and whether it moves the right to run.
    fn moves(&self, table: &Table) -> Option<Moving> {
        let right = |row: &Row| (row.active, row.epoch, row.retiring);
        match self {
            Self::Row { instance, row, .. } => {
                let moves = table.row(instance).map(right) != row.as_ref().map(right);
                Some((instance.clone(), moves))
            }
            Self::Drain { .. } | Self::Leave { .. } => None,
        }
    }
}

/// What became of a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is part of a chosen table.
    Chosen,
    /// The row had changed meanwhile.
    Conflict,
    /// The table has no room for it.
    Full,
    /// This node is not master, or not any more: whether it will be chosen is unknown.
    Unknown,
    /// The very same order was carried out before.
    Repeated,
}

impl Authority {
    /// Asks for a change. The verdict comes by [`Authority::take_verdicts`].
    pub(crate) fn submit(&mut self, turn: &mut Turn<'_>, change: Change) {
        let full = self.waiting.len() >= CHANGES_MAX;
        if full || self.reign(turn.now).is_none() {
            self.verdicts.push((change.id, Verdict::Unknown));
            return;
        }
        self.waiting.push(change);
        self.propose_waiting(turn);
    }

    /// What became of changes since the last call.
    pub(crate) fn take_verdicts(&mut self) -> Vec<(u64, Verdict)> {
        core::mem::take(&mut self.verdicts)
    }

    /// Rows that are about to change, and whether the right to run is: then nothing is granted for them
    /// until it is decided (L4).
    pub(crate) fn changing(&self) -> impl Iterator<Item = Moving> + '_ {
        let waiting = self.waiting.iter().filter_map(|change| change.what.moves(&self.table));
        self.in_flight.iter().filter_map(|(_, moving)| moving.clone()).chain(waiting)
    }

    /// Puts everything that waits into one new version, if none is in flight.
    pub(super) fn propose_waiting(&mut self, turn: &mut Turn<'_>) {
        let settled = self.committed == self.table.version && self.table.incoming.is_none();
        if self.waiting.is_empty() || !settled || self.reign(turn.now).is_none() {
            return;
        }
        let mut table = self.table.clone();
        let unix = turn.unix;
        table.orders.retain(|(_, expires)| *expires > unix);
        for change in core::mem::take(&mut self.waiting) {
            let moving = change.what.moves(&table);
            match apply(&mut table, &change) {
                Ok(()) => self.in_flight.push((change.id, moving)),
                Err(verdict) => self.verdicts.push((change.id, verdict)),
            }
        }
        if !self.in_flight.is_empty() {
            self.propose(turn, |current| *current = table);
        }
    }

    /// The version in flight was chosen.
    pub(super) fn settle_changes(&mut self) {
        let settled = core::mem::take(&mut self.in_flight);
        self.verdicts.extend(settled.into_iter().map(|(id, ..)| (id, Verdict::Chosen)));
    }

    /// The reign is over: what waits or is in flight may be chosen by another master, or not.
    pub(super) fn abandon_changes(&mut self) {
        debug_assert!(matches!(self.role, Role::Leader(_)), "only a master has changes");
        let in_flight = core::mem::take(&mut self.in_flight).into_iter().map(|(id, ..)| id);
        let waiting = core::mem::take(&mut self.waiting).into_iter().map(|change| change.id);
        self.verdicts.extend(in_flight.chain(waiting).map(|id| (id, Verdict::Unknown)));
    }
}

fn apply(table: &mut Table, change: &Change) -> Result<(), Verdict> {
    if let Some((nonce, _)) = change.order
        && table.orders.iter().any(|(known, _)| *known == nonce)
    {
        return Err(Verdict::Repeated);
    }
    if table.orders.len() >= ORDERS_MAX && change.order.is_some() {
        return Err(Verdict::Full);
    }
    match &change.what {
        What::Row { instance, made_for, row } => {
            change_row(table, instance, *made_for, row.clone())?;
        }
        What::Drain { node, drained } => list(&mut table.drained, *node, *drained)?,
        What::Leave { node, leaving } => list(&mut table.leaving, *node, *leaving)?,
    }
    table.orders.extend(change.order);
    Ok(())
}

fn change_row(
    table: &mut Table,
    instance: &Instance,
    made_for: Option<u64>,
    row: Option<Row>,
) -> Result<(), Verdict> {
    let place = table.place_of(instance);
    let revision = place.ok().map(|at| table.rows[at].revision);
    if revision != made_for || (place.is_err() && row.is_none()) {
        return Err(Verdict::Conflict);
    }
    if place.is_err() && table.rows.len() >= ROWS_MAX {
        return Err(Verdict::Full);
    }
    match (place, row) {
        (Ok(at), Some(row)) => {
            table.rows[at] = Row { revision: table.rows[at].revision + 1, ..row };
        }
        (Ok(at), None) => drop(table.rows.remove(at)),
        (Err(at), Some(row)) => table.rows.insert(at, Row { revision: 1, ..row }),
        (Err(_), None) => {}
    }
    Ok(())
}

/// Puts a board on a list of those that make way, or takes it off.
fn list(those: &mut Vec<NodeId>, node: NodeId, on: bool) -> Result<(), Verdict> {
    match (those.binary_search(&node), on) {
        (Err(_), true) if those.len() >= DRAINED_MAX => return Err(Verdict::Full),
        (Err(at), true) => those.insert(at, node),
        (Ok(at), false) => drop(those.remove(at)),
        (Ok(_), true) | (Err(_), false) => {}
    }
    Ok(())
}
