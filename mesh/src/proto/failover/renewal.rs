//! Renewal: the active asks its standby, and where that does not help the master, for its lease.

use core::time::Duration;
use std::collections::BTreeMap;

use super::active::Run;
use super::{Failover, Office};
use crate::proto::id::{Incarnation, NodeId};
use crate::proto::io::Effect;
use crate::proto::machine::Time;
use crate::proto::order::Instance;
use crate::proto::turn::Turn;
use crate::proto::wire::failover::{Grant, Renew};

/// The link to a grantor is wanted that long by one request.
const LINK_ERRAND: Duration = Duration::from_secs(30);

/// A grant is remembered for so many leases: a grantor that is asked again wants to see it confirmed.
const GRANTS_KEPT: u32 = 8;

/// The right to run, right now: what each grantor has granted under this epoch.
#[derive(Debug)]
pub struct Lease {
    grants: BTreeMap<NodeId, Granted>,
    pub(super) renew_at: Time,
    /// When there was a new link to the standby.
    linked: Option<Time>,
}

#[derive(Clone, Copy, Debug)]
struct Granted {
    /// The newest request that it has granted.
    sent: Time,
    until: Time,
}

impl Lease {
    pub(super) fn new(now: Time) -> Self {
        Self { grants: BTreeMap::new(), renew_at: now, linked: None }
    }

    /// Until when the instance may run, by this board's clock.
    pub fn until(&self) -> Time {
        self.grants.values().map(|granted| granted.until).max().unwrap_or_default()
    }

    /// Until when it may run by the word of others than `node`.
    pub(super) fn until_without(&self, node: &NodeId) -> Time {
        let others = self.grants.iter().filter(|(grantor, _)| *grantor != node);
        others.map(|(_, granted)| granted.until).max().unwrap_or_default()
    }

    /// When the newest request was sent that this grantor has granted.
    pub(super) fn sent(&self, grantor: &NodeId) -> Option<Time> {
        self.grants.get(grantor).map(|granted| granted.sent)
    }

    /// Whether this standby, which was linked just now, has granted nothing since: perhaps it was started again,
    /// and does not know yet what it stands by for. What it may go on with ends soon.
    fn hurries(&self, standby: &NodeId, now: Time, heartbeat: Duration) -> bool {
        let granted = |linked| self.sent(standby).is_some_and(|sent| sent >= linked);
        self.linked.is_some_and(|linked| now < linked + heartbeat * 2 && !granted(linked))
    }

    /// How long it may run still by the word of this grantor alone.
    fn left(&self, grantor: &NodeId, now: Time) -> Duration {
        self.grants.get(grantor).map_or(Duration::ZERO, |granted| granted.until.since(now))
    }

    /// A former standby's word does not count any more (S3). Grants of the new one and of masters do.
    /// Returns until when it did.
    pub(super) fn forget(&mut self, grantor: &NodeId) -> Time {
        self.grants.remove(grantor).map_or(Time::default(), |granted| granted.until)
    }
}

impl Failover {
    /// Asks for another lease, if it is time.
    pub(super) fn renew(&mut self, turn: &mut Turn<'_>, office: &Office, instance: &Instance) {
        let heartbeat = self.preset.heartbeat;
        let Some(assignment) = self.assignments.get_mut(instance) else { return };
        if !assignment.is_wanted() || turn.now < assignment.lease.renew_at {
            return;
        }
        let standby = assignment.row.standby.filter(|_| !assignment.is_switching());
        let hurries =
            standby.is_some_and(|node| assignment.lease.hurries(&node, turn.now, heartbeat));
        assignment.lease.renew_at = turn.now + if hurries { heartbeat / 4 } else { heartbeat };
        // What is being given up needs no more of it, and nobody is to promise any.
        if assignment.handover.is_some_and(|handover| !handover.can_be_undone()) {
            return;
        }
        let row = &assignment.row;
        let fresh = |node: &NodeId, within: Duration| {
            assignment.lease.sent(node).is_some_and(|sent| turn.now.since(sent) <= within)
        };
        let mut grantors: Vec<NodeId> = standby.into_iter().collect();
        // In steady state the pair needs no master. It does when the standby has been silent for two
        // heartbeats, is about to be replaced, or when there is no lease yet at all.
        let pair_holds = standby.is_some_and(|node| fresh(&node, heartbeat * 2));
        if !pair_holds || row.fill.is_some() {
            let masters = office.masters();
            // Whoever is believed to be master; if that one does not grant, whoever might be.
            let one = office.master.filter(|master| fresh(master, heartbeat * 3));
            grantors.extend(one.map_or(masters, |master| vec![master]));
        }
        let lease_ms = u32::try_from(self.preset.lease.as_millis()).unwrap_or(u32::MAX);
        let (epoch, members) = (row.epoch, &*turn.members);
        let renews: Vec<(NodeId, Renew)> = grantors
            .into_iter()
            .map(|grantor| {
                let acked = assignment.lease.sent(&grantor).map_or(0, |sent| sent.0);
                let left = assignment.lease.left(&grantor, turn.now).as_millis();
                let left_ms = u32::try_from(left).unwrap_or(u32::MAX);
                let life = members.get(&grantor).map_or(Incarnation(0), |it| it.incarnation());
                let (instance, sent) = (instance.clone(), turn.now.0);
                (grantor, Renew { instance, epoch, sent, acked, left_ms, life, lease_ms })
            })
            .collect();
        for (at, (grantor, renew)) in renews.iter().enumerate() {
            if renews[..at].iter().any(|(asked, _)| asked == grantor) {
                continue;
            }
            if *grantor == turn.me.id() {
                self.on_renew(turn, office, *grantor, renew.clone());
            } else {
                turn.links.want_until(*grantor, turn.now + LINK_ERRAND, turn.now);
                turn.send(*grantor, renew.clone());
            }
        }
    }

    /// There is a link to `peer`, perhaps anew: a standby that was started again goes on with what it has promised
    /// only while that lasts, so it is asked at once and often.
    pub(crate) fn on_linked(&mut self, peer: NodeId, now: Time) {
        let heartbeat = self.preset.heartbeat;
        for assignment in self.assignments.values_mut() {
            // Whoever says hello again and again is not asked each time.
            let rests = assignment.lease.linked.is_some_and(|linked| now < linked + heartbeat);
            if assignment.row.standby == Some(peer) && !rests {
                (assignment.lease.renew_at, assignment.lease.linked) = (now, Some(now));
            }
        }
    }

    /// A grantor has granted.
    pub(crate) fn on_grant(
        &mut self,
        turn: &mut Turn<'_>,
        office: &Office,
        from: NodeId,
        grant: &Grant,
    ) {
        let kill_bound = self.preset.kill_bound;
        let Some(assignment) = self.assignments.get_mut(&grant.instance) else { return };
        // A former standby's word must not prolong anything: its successor counts the silence (S3).
        let standby = assignment.row.standby == Some(from) && !assignment.is_switching();
        let counts = standby || (grant.as_master && office.masters().contains(&from));
        if assignment.row.epoch != grant.epoch || !assignment.is_wanted() || !counts {
            return;
        }
        let sent = Time(grant.sent);
        if sent > turn.now {
            return turn.misbehaved(from, "a grant of a request that was never made");
        }
        let lease = Duration::from_millis(u64::from(grant.lease_ms)).min(self.preset.lease);
        let before = assignment.lease.until();
        let granted =
            assignment.lease.grants.entry(from).or_insert(Granted { sent, until: Time::default() });
        granted.sent = granted.sent.max(sent);
        granted.until = granted.until.max(sent + lease);
        let (now, kept) = (turn.now, self.preset.lease * GRANTS_KEPT);
        assignment.lease.grants.retain(|_, granted| now.since(granted.sent) < kept);
        let until = assignment.lease.until();
        if until <= before || until <= turn.now + kill_bound {
            return;
        }
        match assignment.run {
            Run::Starting | Run::Running => {
                let (instance, epoch) = (grant.instance.clone(), grant.epoch);
                turn.out.push(Effect::Extend { instance, epoch, until });
            }
            Run::Idle => self.start_if_allowed(turn, &grant.instance),
            Run::Stopping | Run::Waiting(_) => {}
        }
        self.hand_over(turn, &grant.instance);
    }
}
