//! The grantor: promises an active that nobody else will run its instance for a while.

use core::time::Duration;

use super::{Failover, INSTANCES_MAX, Office};
use crate::proto::id::NodeId;
use crate::proto::promises::nested;
use crate::proto::turn::Turn;
use crate::proto::wire::failover::{Grant, Renew};

impl Failover {
    /// An active asks. `changing`: a change of its row is on its way, and might move the right to run.
    pub(crate) fn on_renew(
        &mut self,
        turn: &mut Turn<'_>,
        office: &Office,
        from: NodeId,
        renew: Renew,
        changing: bool,
    ) {
        let Some((_, until)) = office.reign else { return };
        let chosen = turn.directory.newest().and_then(|a| a.table.row(&renew.instance));
        let entitled = chosen.is_some_and(|row| {
            row.active == from && row.epoch == renew.epoch && !row.released && !row.retiring
        });
        if !entitled || changing {
            return;
        }
        let asked = Duration::from_millis(u64::from(renew.lease_ms)).min(self.preset.lease);
        let lease = asked.min(nested(until.since(turn.now)));
        if lease < self.preset.heartbeat || self.promises.len() >= INSTANCES_MAX {
            return;
        }
        self.promises.entry(renew.instance.clone()).or_default().extend(turn.now, lease);
        let lease_ms = u32::try_from(lease.as_millis()).unwrap_or(u32::MAX);
        let grant =
            Grant { instance: renew.instance, epoch: renew.epoch, sent: renew.sent, lease_ms };
        if from == turn.me.id() {
            self.on_grant(turn, from, &grant);
        } else {
            turn.send(from, grant);
        }
    }
}
