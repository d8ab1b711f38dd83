//! Recovery by force: two of three voters are gone for good, and an operator says so (3b.5).
//!
//! The board on which the order is given makes a table of the next *generation* with itself as the only
//! voter. Every version of it is above every version of the generation before, so boards that return
//! give way as soon as they hear of it. Until then at-most-one is the operator's word: those who were
//! named dead may live on in another partition.
//!
//! Before it decides anything it asks everybody who is there for the table that they know: the last
//! takeover of the dead may be known to nobody but the board that took over. Should operators recover
//! one mesh in two places, both make a generation of the same number; the order's hash tells them
//! apart, and the lower one is void as soon as they meet.

use core::time::Duration;

use super::{Authority, Role};
use crate::proto::id::NodeId;
use crate::proto::io::Event;
use crate::proto::promises::{LEASE_MAX, promised};
use crate::proto::table::{Table, Version};
use crate::proto::turn::Turn;

/// So long others may tell what they know before the recovered table is decided upon: a dial, a hello
/// and an exchange on a slow link.
const GATHER: Duration = Duration::from_secs(5);

impl Authority {
    /// Makes this board the only voter of the next generation.
    ///
    /// # Errors
    /// Why that is not called for, and what to do instead.
    pub(crate) fn recover_by_force(
        &mut self,
        turn: &mut Turn<'_>,
        dead: &[NodeId],
        order: &[u8; 32],
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
            generation: newest.version.generation.next(order),
            term: self.term,
            number: newest.version.number + 1,
        };
        let from = newest.version;
        self.adopt(turn, newest.recovered(version, turn.me.id()));
        (self.gathers, self.gone_on_from) = (true, from);
        // What a master that is not heard any more may have granted runs out first.
        let wait = promised(self.preset.lease.min(LEASE_MAX)).max(GATHER);
        self.promise.hold_until(turn.now + wait);
        self.schedule(turn, self.promise.until());
        Ok(())
    }

    /// A table was announced. One of a later generation ends whatever this board was in an earlier one.
    pub(crate) fn on_announced(&mut self, turn: &mut Turn<'_>) {
        let Some(newest) = turn.directory.newest() else { return };
        let (known, told) = (self.table.version.generation, newest.table.version.generation);
        if self.gathers && told < known && matches!(self.role, Role::Follower) {
            return self.gather(turn);
        }
        if !self.table.voters.is_empty() && told > known {
            let table = newest.table.clone();
            if told.number() == known.number() {
                turn.event(Event::RecoveredTwice { generation: told.number() });
            }
            self.adopt(turn, table);
        }
    }

    /// Somebody knows a later table of the generation that is being replaced than this board did when the
    /// order was given: nothing has been decided yet, so that one is what is gone on from.
    fn gather(&mut self, turn: &mut Turn<'_>) {
        let Some(newest) = turn.directory.newest() else { return };
        if newest.table.version <= self.gone_on_from {
            return;
        }
        self.gone_on_from = newest.table.version;
        let Version { generation, term, number } = self.table.version;
        let number = number.max(newest.table.version.number) + 1;
        let version = Version { generation, term, number };
        self.table = newest.table.clone().recovered(version, turn.me.id());
        self.persist_table(turn);
    }

    /// Takes a table of a later generation in place of the own one.
    pub(super) fn adopt(&mut self, turn: &mut Turn<'_>, table: Table) {
        if !matches!(self.role, Role::Follower) {
            self.step_down(turn, "the mesh was recovered by force");
        }
        self.master = None;
        self.owed = None;
        self.gathers = false;
        self.committed = Version::default();
        self.durable = Version::default();
        self.table = table;
        self.persist_table(turn);
    }
}
