//! Recovery by force: two of three voters are gone for good, and an operator says so (3b.5).
//!
//! The board on which the order is given makes a table of the next *generation* with itself as the only
//! voter. Every version of it is above every version of the generation before, so boards that return
//! give way as soon as they hear of it. Until then at-most-one is the operator's word: those who were
//! named dead may live on in another partition.

use super::{Authority, Role};
use crate::proto::bounded::List;
use crate::proto::id::NodeId;
use crate::proto::promises::{LEASE_MAX, promised};
use crate::proto::table::{Table, Version};
use crate::proto::turn::Turn;

impl Authority {
    /// Makes this board the only voter of the next generation.
    ///
    /// # Errors
    /// Why that is not called for, and what to do instead.
    pub(crate) fn recover_by_force(
        &mut self,
        turn: &mut Turn<'_>,
        dead: &[NodeId],
    ) -> Result<(), &'static str> {
        if !turn.me.record().board.durable {
            return Err(
                "this board forgets what it writes when it loses power, so it cannot decide for a mesh: recover on a board with a durable disk",
            );
        }
        if self.is_bound(turn) || self.reign(turn.now).is_some() {
            return Err(
                "a master is known here and its lease has not run out: nothing needs to be recovered. If it is gone, try again in a few seconds",
            );
        }
        let told = turn.directory.newest().map(|newest| newest.table.clone()).unwrap_or_default();
        let newest = if told.version > self.table.version { told } else { self.table.clone() };
        if newest.voters.is_empty() {
            return Err("no table is known here: this board has never heard of a master");
        }
        if newest.is_majority(|node| !dead.contains(node)) {
            return Err(
                "enough of the boards that decide are not named dead: they elect a master by themselves once they can reach each other. Name those that are gone for good with --dead (`hedgerow status` lists the voters)",
            );
        }
        let version = Version {
            generation: newest.version.generation + 1,
            term: self.term,
            number: newest.version.number + 1,
        };
        let voters = List::capped([turn.me.id()]);
        self.adopt(turn, Table { version, voters, incoming: None, ..newest });
        // What a master that is not heard any more may have granted runs out first.
        self.promise.hold_until(turn.now + promised(self.preset.lease.min(LEASE_MAX)));
        self.schedule(turn, self.promise.until());
        Ok(())
    }

    /// A table was announced. One of a later generation ends whatever this board was in an earlier one.
    pub(crate) fn on_announced(&mut self, turn: &mut Turn<'_>) {
        let Some(newest) = turn.directory.newest() else { return };
        let known = self.table.version.generation;
        if !self.table.voters.is_empty() && newest.table.version.generation > known {
            let table = newest.table.clone();
            self.adopt(turn, table);
        }
    }

    /// Takes a table of a later generation in place of the own one.
    pub(super) fn adopt(&mut self, turn: &mut Turn<'_>, table: Table) {
        if !matches!(self.role, Role::Follower) {
            self.step_down(turn, "the mesh was recovered by force");
        }
        self.master = None;
        self.owed = None;
        self.committed = Version::default();
        self.durable = Version::default();
        self.table = table;
        self.persist_table(turn);
    }
}
