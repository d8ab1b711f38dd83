//! The grantor: promises an active that nobody else will run its instance for a while.
//!
//! Standby and master grant alike, and keep one promise between them where one board is both. A grant
//! needs proof that the active hears this grantor (*round-trip proof*): an active that sends but does
//! not hear would otherwise be promised for ever what it cannot use, and nobody could take over.

use core::time::Duration;

use super::{Failover, INSTANCES_MAX, Office};
use crate::proto::id::{Epoch, NodeId};
use crate::proto::machine::Time;
use crate::proto::order::Instance;
use crate::proto::promises::{Promise, nested};
use crate::proto::turn::Turn;
use crate::proto::wire::failover::{Grant, Renew};

/// What was promised about one instance.
#[derive(Clone, Copy, Debug)]
pub struct Granted {
    pub(super) promise: Promise,
    /// To whom.
    pub(super) to: NodeId,
    /// Under which epoch.
    pub(super) epoch: Epoch,
    /// The newest grant that the active has confirmed.
    acked: u64,
    /// When it was heard to hear this board, or to ask for the first time.
    pub(super) heard: Time,
}

impl Granted {
    fn begin(renew: &Renew, to: NodeId, now: Time, promise: Promise) -> Self {
        Self { promise, to, epoch: renew.epoch, acked: renew.acked, heard: now }
    }

    /// Whether `renew` begins anew: another holder or right; or this one after its promise has been over
    /// for so long that a standby who wanted to take over had its chance.
    fn is_over(&self, renew: &Renew, from: NodeId, now: Time, lease: Duration) -> bool {
        let other = self.to != from || self.epoch != renew.epoch;
        other || now >= self.promise.until() + lease
    }
}

impl Failover {
    /// An active asks.
    pub(crate) fn on_renew(
        &mut self,
        turn: &mut Turn<'_>,
        office: &Office,
        from: NodeId,
        renew: Renew,
    ) {
        let me = turn.me.id();
        let Some(row) = self.row(turn, &renew.instance) else { return };
        let entitled = row.active == from && row.epoch == renew.epoch;
        if !entitled || row.retiring || row.lost {
            // It may not know yet that it was replaced.
            if row.epoch > renew.epoch && office.reign.is_some() {
                self.notices.push(super::Notice::Tell(from));
            }
            return;
        }
        let asked = Duration::from_millis(u64::from(renew.lease_ms)).min(self.preset.lease);
        // The right to run may be moving at this moment: then nobody gets more of it (L4).
        let moves = office.changing.get(&renew.instance).is_some_and(|moves| *moves);
        let stands = row.standby == Some(me);
        let (lease, as_master) = match office.reign {
            // The word of a standby outlasts a reign. While another board takes its place only a master's counts.
            _ if stands && row.fill.is_none() => (asked, false),
            Some((_, until)) if !moves => (asked.min(nested(until.since(turn.now))), true),
            _ if stands => (asked, false),
            _ => return,
        };
        let silent = turn.now < self.silent_until && stands && !self.still_binds(turn, &renew);
        let full =
            self.granted.len() >= INSTANCES_MAX && !self.granted.contains_key(&renew.instance);
        if lease < self.preset.heartbeat || silent || full {
            return;
        }
        if !self.accept(turn.now, row.given_up_by(), from, &renew, lease) {
            return;
        }
        let lease_ms = u32::try_from(lease.as_millis()).unwrap_or(u32::MAX);
        let Renew { instance, epoch, sent, .. } = renew;
        let grant = Grant { instance, epoch, sent, lease_ms, as_master };
        if from == me {
            self.on_grant(turn, office, from, &grant);
        } else {
            turn.send(from, grant);
        }
    }

    /// Whether a promise to this active, which this board made before it restarted and has forgotten, binds
    /// it at this moment. Then it has promised nothing to anybody else since, nor taken over itself, and may
    /// go on with it. The active shows how long its lease rests on this board's word when it asks, and whom it
    /// asked: however long that was on its way, it was sent in this life.
    fn still_binds(&self, turn: &Turn<'_>, renew: &Renew) -> bool {
        let left = Duration::from_millis(u64::from(renew.left_ms)).min(self.preset.lease);
        turn.me.is_of_this_life(renew.life) && nested(left) > turn.now.since(self.born)
    }

    /// Extends the promise, if that is allowed.
    fn accept(
        &mut self,
        now: Time,
        given_up_by: Option<NodeId>,
        from: NodeId,
        renew: &Renew,
        lease: Duration,
    ) -> bool {
        let limit = self.preset.lease;
        let granted = match self.granted.get_mut(&renew.instance) {
            Some(granted) => granted,
            None => {
                let granted = Granted::begin(renew, from, now, Promise::default());
                self.granted.entry(renew.instance.clone()).or_insert(granted)
            }
        };
        if granted.to != from && granted.promise.binds(now) && Some(granted.to) != given_up_by {
            return false;
        }
        if granted.is_over(renew, from, now, limit) {
            let promise = if granted.to == from { granted.promise } else { Promise::default() };
            *granted = Granted::begin(renew, from, now, promise);
        } else if renew.acked > granted.acked {
            (granted.acked, granted.heard) = (renew.acked, now);
        } else if now.since(granted.heard) > limit {
            return false;
        }
        granted.promise.extend(now, lease);
        true
    }

    /// For tests of what else a promise forbids.
    #[cfg(test)]
    pub(super) fn has_promised(&mut self, instance: &Instance, to: NodeId, until: Time) {
        let mut promise = Promise::default();
        promise.hold_until(until);
        let granted = Granted { promise, to, epoch: Epoch(1), acked: 0, heard: Time(0) };
        self.granted.insert(instance.clone(), granted);
    }

    /// Own-vote rule: which other board this one has promised that nobody else runs the instance.
    pub(super) fn is_bound_to(&self, turn: &Turn<'_>, instance: &Instance) -> Option<NodeId> {
        let granted = self.granted.get(instance)?;
        (granted.to != turn.me.id() && granted.promise.binds(turn.now)).then_some(granted.to)
    }
}
