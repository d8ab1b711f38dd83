//! Claims: what an active or a standby tells the master about its row, and what the master makes of it.
//!
//! A claim is a fact that stays true until the row changes, so it is simply repeated until it does. The
//! master compares it with the row that is chosen *now*; one made for another revision is answered with
//! the table. See 3b.1 to 3b.4.

use super::active::{Assignment, Run};
use super::orders::Noted;
use super::{Failover, Fill, Kept, Notice, Office, Rest, Why};
use crate::proto::authority::changes::{Change, What};
use crate::proto::id::{Epoch, NodeId};
use crate::proto::journal::Record;
use crate::proto::machine::Time;
use crate::proto::ops::Purpose;
use crate::proto::order::Instance;
use crate::proto::placement::choose_standby;
use crate::proto::table::{CheckpointId, ORDERS_MAX, Row};
use crate::proto::turn::Turn;
use crate::proto::wire::failover::{Claim, Claimed};

use core::time::Duration;
use std::collections::BTreeSet;

/// A master looks that often for rows that lack a standby; also whenever the table changes.
const APPOINT_INTERVAL: Duration = Duration::from_secs(1);
/// The link to a master is wanted that long by one claim.
const LINK_ERRAND: Duration = Duration::from_secs(30);
/// A board whose disk takes no state for so long is of no use as a standby.
const UNSTORABLE_PATIENCE: Duration = Duration::from_secs(10);
/// A board that was of no use as a standby is tried last for so long.
const PASSED_OVER_FOR: Duration = Duration::from_secs(300);
/// The same where the one that stands by could not start it.
const PASSED_OVER_FOR_UNABLE: Duration = Duration::from_secs(30);
/// The same where what it would run was not there.
const UNABLE_FOR: Duration = Duration::from_secs(60);
/// Doubled each time, up to this.
const UNABLE_FOR_MAX: Duration = Duration::from_secs(1800);
/// A board that has been up for so long is worth moving a standby to that could as well stay.
const STEADY_AFTER: Duration = Duration::from_secs(30);
/// Boards that are remembered so, for one instance.
const PASSED_OVER_MAX: usize = 32;
/// The change behind no order: nobody waits for its verdict.
const NOBODY: u64 = 0;

impl Failover {
    /// Somebody holds more of an instance than before: a claim may be due, or a handover go on.
    pub(crate) fn on_progress(&mut self, turn: &mut Turn<'_>, instance: &Instance) {
        self.hand_over(turn, instance);
        if let Some(assignment) = self.assignments.get_mut(instance) {
            assignment.claim_at = turn.now;
        }
    }

    /// As active: tells the master what needs a change of the row, if anything does.
    pub(super) fn make_claim(&mut self, turn: &mut Turn<'_>, office: &Office, instance: &Instance) {
        let heartbeat = self.preset.heartbeat;
        let Some(assignment) = self.assignments.get_mut(instance) else { return };
        if turn.now < assignment.claim_at {
            return;
        }
        assignment.claim_at = turn.now + heartbeat;
        let row = assignment.row.clone();
        let rested = turn.now >= assignment.hand_over_after;
        // To another drained board it would come back at once, and so on for ever.
        let moves = turn.directory.newest().is_some_and(|newest| {
            let drained = |node: &NodeId| newest.table.makes_way(node);
            drained(&turn.me.id()) && !row.standby.is_some_and(|standby| drained(&standby))
        });
        let moves = moves && !assignment.is_better_off_here(turn.now);
        if rested && (moves || assignment.is_for_others(turn.now)) {
            // An error means that nobody else is ready to carry on yet: it is tried again.
            let _ = self.begin_handover(turn, instance);
        }
        self.switch_if_filled(turn, office, instance);
        let Some(assignment) = self.assignments.get(instance) else { return };
        if let Some(claimed) = self.claim_of(turn, assignment) {
            self.claim(turn, office, &row, claimed);
        }
    }

    fn claim_of(&self, turn: &Turn<'_>, assignment: &Assignment) -> Option<Claimed> {
        let row = &assignment.row;
        if row.retiring {
            // A shim of an earlier life may not have been found yet; its lease is over by then.
            let found = turn.now >= assignment.former_until;
            let rests = matches!(assignment.run, Run::Idle | Run::Waiting(_)) && found;
            return (row.removing && rests).then_some(Claimed::Stopped);
        }
        if let Some((epoch, to, last)) = assignment.released
            && epoch == row.epoch
        {
            // Not before it is durable: a message may be believed long after it was sent (S7).
            return assignment.handover.is_none().then_some(Claimed::Release { to, last });
        }
        if let Some((at, _)) = assignment.restoring.filter(|(_, until)| turn.now < *until) {
            return Some(Claimed::Restore(at));
        }
        if assignment.lost {
            return Some(Claimed::Lost);
        }
        if (assignment.cannot_begin() || assignment.bare)
            && let Some(start) = turn.holdings.start_of(row)
            && start > row.base
            && start.epoch < row.epoch
        {
            // Others get what the row names, no more and no less.
            return Some(Claimed::Begins(start));
        }
        if assignment.is_switching() {
            // What the former standby granted has run out here, whatever presets the others use: the
            // successor counts the silence from when it learns of its role (S3).
            let over = turn.now >= assignment.former_until;
            return over.then_some(Claimed::Filled);
        }
        self.claim_about_copies(turn, assignment)
    }

    /// Whether whoever stands by, or is to, is of use.
    fn claim_about_copies(&self, turn: &Turn<'_>, assignment: &Assignment) -> Option<Claimed> {
        let row = &assignment.row;
        let instance = row.instance();
        // Silence alone may be this board's link; a standby that the others hold for dead, too, is waited for
        // half as long. One that is not ready protects nothing yet: another may as well begin.
        let takeover = self.preset.lease + self.preset.grace;
        let dead = row.standby.is_some_and(|standby| !turn.members.is_up(&standby));
        let patience = match row.ready {
            true if dead => takeover,
            true => takeover * 2,
            false => self.preset.heartbeat * 4,
        };
        let silent = |since: Time| turn.now.since(since.max(assignment.learnt)) > patience;
        let unable = |node: &NodeId| {
            let since = turn.holdings.unable_since(&instance, node);
            since.is_some_and(|since| turn.now.since(since) > UNSTORABLE_PATIENCE)
        };
        // Who leaves on purpose says so, and does not come back: no silence has to last.
        let left = |node: &NodeId| turn.members.has_left(node);
        let standby = row.standby;
        let granted =
            standby.and_then(|standby| assignment.lease.sent(&standby)).unwrap_or_default();
        let useless = |node: &NodeId| {
            let drained = turn.directory.newest().is_some_and(|n| n.table.makes_way(node));
            // Until it has begun here a drained former active is needed: perhaps nobody else could start it.
            let drained = drained && !assignment.is_unused();
            silent(granted) || drained || unable(node) || left(node)
        };
        let holds = |node: &NodeId| {
            let id = turn.holdings.confirmed(&instance, node);
            id.is_some_and(|id| assignment.counts(turn.holdings, id))
        };
        if let Some(fill) = row.fill {
            // The standby is of use after all: where states are made faster than the other board takes them,
            // that one may never hold as much.
            let back = standby.is_some_and(|standby| holds(&standby) && !useless(&standby));
            let back = back && !row.ready && row.able != Some(false);
            let silent = !turn.members.is_up(&fill) && silent(assignment.learnt);
            let makes_way = turn.directory.newest().is_some_and(|n| n.table.makes_way(&fill));
            let gone = silent || left(&fill) || makes_way;
            return (gone || back || unable(&fill)).then_some(Claimed::AbortFill);
        }
        let standby = standby?;
        if !row.ready && holds(&standby) {
            return Some(Claimed::Ready);
        }
        let useless = useless(&standby);
        if !useless && assignment.needs_another(turn.now) {
            return Some(Claimed::NeedAnother);
        }
        useless.then_some(Claimed::NeedStandby)
    }

    /// The board that is being filled holds everything that the standby holds, and the master would
    /// carry on: from now on the standby does not count (3b.2, S3, S10).
    fn switch_if_filled(&mut self, turn: &mut Turn<'_>, office: &Office, instance: &Instance) {
        let kill_bound = self.preset.kill_bound;
        let heartbeat = self.preset.heartbeat;
        let Some(assignment) = self.assignments.get_mut(instance) else { return };
        let row = &assignment.row;
        let (Some(fill), Some(standby)) = (row.fill, row.standby) else { return };
        let idle = assignment.handover.is_none() && assignment.is_wanted();
        if !idle || assignment.switching == Some(row.revision) || assignment.keeps(row.revision) {
            return;
        }
        let stateless = turn.specs.get(&row.spec).is_some_and(|spec| spec.state.is_none());
        let of_now = |id: &CheckpointId| assignment.counts(turn.holdings, *id);
        let filled = turn.holdings.confirmed(instance, &fill).filter(of_now);
        let held = turn.holdings.confirmed(instance, &standby).filter(of_now);
        // After a restart nobody remembers here what the standby had confirmed: at most what this board
        // held then (S10).
        let held = held.or(assignment.recalled);
        let by_master = assignment.lease.until_without(&standby);
        let carried =
            by_master > turn.now + kill_bound + heartbeat || office.master == Some(standby);
        let blank = assignment.is_blank();
        if (filled.is_some() && filled >= held || stateless || blank) && carried {
            let revision = row.revision;
            assignment.switch_kept_for = Some(revision);
            self.tell_copies(instance);
            let instance = instance.clone();
            let record = Record::Switching { instance: instance.clone(), revision };
            turn.persist(record, Purpose::Kept(Kept::Switching(instance, revision)));
        }
    }

    /// Tells whoever might be master.
    pub(super) fn claim(
        &mut self,
        turn: &mut Turn<'_>,
        office: &Office,
        row: &Row,
        claimed: Claimed,
    ) {
        let claim = Claim {
            instance: row.instance(),
            epoch: row.epoch,
            revision: row.revision,
            claim: claimed,
        };
        for master in office.masters() {
            if master == turn.me.id() {
                self.on_claim(turn, office, master, claim.clone());
            } else {
                turn.links.want_until(master, turn.now + LINK_ERRAND, turn.now);
                turn.send(master, claim.clone());
            }
        }
    }

    /// As master: a board says that a row needs a change.
    pub(crate) fn on_claim(
        &mut self,
        turn: &mut Turn<'_>,
        office: &Office,
        from: NodeId,
        claim: Claim,
    ) {
        if office.reign.is_none() || office.changing.contains_key(&claim.instance) {
            return;
        }
        let Some(newest) = turn.directory.newest() else { return };
        let generation = newest.table.version.generation;
        let Some(row) = newest.table.row(&claim.instance).cloned() else { return };
        let claimed = (row.generation, claim.epoch, claim.revision);
        if row.age() != claimed {
            if row.age() > claimed && from != turn.me.id() {
                self.notices.push(Notice::Tell(from));
            }
            return;
        }
        // Every right is above those that it follows, and above those of earlier generations.
        let epoch = row.next_epoch(generation);
        let next = Row { epoch, fill: None, released: false, able: None, ..row.clone() };
        let changed = match claim.claim {
            Claimed::Take { from: base } => self.judge_take(turn, office, &row, (from, base), next),
            Claimed::Recover(base) => self.judge_recovery(from, next, base),
            Claimed::Stopped => {
                let over = from == row.active || self.is_unbound(turn, &row, from);
                if row.removing && over {
                    self.change(&row, None);
                }
                None
            }
            Claimed::Able(able) => self.judge_ability(turn, office, &row, (from, able)),
            _ if row.active != from => {
                return turn.misbehaved(from, "a claim for an instance that it does not run");
            }
            Claimed::Release { to, last } => Some(self.judge_release(turn, &row, next, (to, last))),
            Claimed::Restore(base) => {
                Some(Row { previous: Epoch(0), base, ready: false, lost: false, ..next })
            }
            Claimed::NeedStandby if row.fill.is_none() => {
                self.choose(turn, office, &row).map(|fill| Row { fill: Some(fill), ..row.clone() })
            }
            Claimed::AbortFill => {
                self.pass_over_if_useless(turn, &row, row.fill);
                Some(Row { fill: None, ..row.clone() })
            }
            Claimed::Filled if row.fill.is_some() => Some(self.judge_filled(turn, &row)),
            Claimed::Ready => row.standby.map(|_| Row { ready: true, ..row.clone() }),
            // The standby may take over with the newest complete state it has, ready or not (S5).
            Claimed::Lost => Some(Row { lost: true, ready: row.standby.is_some(), ..row.clone() }),
            // The standby may hold the former base only.
            Claimed::Begins(base) if base > row.base && base.epoch == row.previous => {
                Some(Row { base, ready: false, ..row.clone() })
            }
            Claimed::NeedAnother if row.fill.is_none() => self.judge_need(turn, office, &row),
            Claimed::NeedStandby | Claimed::NeedAnother | Claimed::Filled | Claimed::Begins(_) => {
                None
            }
        };
        if let Some(changed) = changed.filter(|changed| *changed != row) {
            let newest = turn.directory.newest();
            let room = newest.is_some_and(|newest| newest.table.orders.len() < ORDERS_MAX);
            let order = self.desk.order_behind(&row, &changed).filter(|_| room);
            self.change_by(order, &row, Some(changed));
        }
    }

    /// Whether `by` is the standby of an instance, which is not bound to its active any more, and neither is
    /// this master: then nothing of it can run, whatever its active says. Without a standby the master's
    /// word is enough.
    fn is_unbound(&self, turn: &Turn<'_>, row: &Row, by: NodeId) -> bool {
        let granted = self.granted.get(&row.instance());
        let binds = granted.is_some_and(|granted| granted.promise.binds(turn.now));
        let silent = turn.now < self.silent_until;
        row.standby.unwrap_or(turn.me.id()) == by && !binds && !silent
    }

    /// The standby votes for itself; this is the master's vote.
    fn judge_take(
        &self,
        turn: &Turn<'_>,
        office: &Office,
        row: &Row,
        (from, base): (NodeId, CheckpointId),
        next: Row,
    ) -> Option<Row> {
        let bound = self.granted.get(&row.instance()).is_some_and(|g| g.promise.binds(turn.now));
        let silent = turn.now < self.silent_until;
        if row.standby != Some(from) || !row.ready || row.retiring || bound || silent {
            return None;
        }
        let stateless = turn.specs.get(&row.spec).is_some_and(|spec| spec.state.is_none());
        // Whatever it starts from, it is at least what it has now: should it lose that before it starts,
        // it must not begin with less. Newer states may still come (S12).
        let base = base.max(row.base);
        let next = Row {
            previous: row.epoch,
            base,
            active: from,
            standby: Some(row.active),
            ready: stateless,
            lost: false,
            ..next
        };
        // The board that fell silent is most likely dead, and whoever waits for commits would wait for
        // it: another one is filled at once. It becomes the standby by the new active's own word only;
        // appointed here it could take over from an active that never learnt of its right.
        let able = row.able != Some(false) || row.lost;
        let fill = match able {
            true => self.choose(turn, office, &next),
            // One that cannot start it may pass it on; with nobody to pass it to the former active may as
            // well come back and go on.
            false => {
                let unable = Row { able: row.able, ..next.clone() };
                Some(self.choose_untried(turn, office, &unable, |_| true)?)
            }
        };
        Some(Row { fill, ..next })
    }

    /// The board that was filled takes the standby's place.
    fn judge_filled(&mut self, turn: &Turn<'_>, row: &Row) -> Row {
        let fill = self.fills.get(&row.instance()).filter(|f| row.fill == Some(f.node));
        let able = fill.and_then(|fill| fill.able);
        if !fill.is_some_and(|fill| fill.optional) {
            self.pass_over_if_useless(turn, row, row.standby);
        }
        // One that never ran has no state that the new standby could hold.
        let ready = row.ready || !row.is_first();
        Row { standby: row.fill, fill: None, ready, able, ..row.clone() }
    }

    /// Neither the active nor its standby could start it: a board that was not tried yet may.
    fn judge_need(&mut self, turn: &Turn<'_>, office: &Office, row: &Row) -> Option<Row> {
        // That one was silent lately counts for as little as where the standby has not what it runs.
        let unable = Row { able: Some(false), ..row.clone() };
        let node = self.choose_untried(turn, office, &unable, |_| true)?;
        self.fills.insert(row.instance(), Fill { node, optional: true, able: None });
        Some(Row { fill: Some(node), ..row.clone() })
    }

    /// The active has stopped for good under this epoch. If its standby cannot carry on it gets a new
    /// right itself.
    fn judge_release(
        &mut self,
        turn: &Turn<'_>,
        row: &Row,
        next: Row,
        (to, last): (NodeId, CheckpointId),
    ) -> Row {
        if last != CheckpointId::default() && last.epoch < row.epoch {
            // Nothing has begun there.
            self.pass_over_longer(turn, row, row.active, Why::Failed);
        }
        let blank = row.is_first() && !row.ready && last == CheckpointId::default();
        // Whatever the last state is, what the row named before is the least.
        let base = last.max(row.base);
        let previous = if blank { Epoch::default() } else { row.epoch };
        let next = Row { previous, base, ..next };
        // What the standby said last counts: it may be another one than the active knew.
        let able = row.able != Some(false);
        if (row.ready || blank) && able && row.standby == Some(to) {
            // What was promised to whoever gives it up. An earlier one may still hold on to such a promise.
            let instance = row.instance();
            self.granted.retain(|of, granted| *of != instance || granted.to != row.active);
            let (standby, ready) = (Some(row.active), row.ready);
            return Row { active: to, standby, ready, released: true, ..next };
        }
        // Its standby, if that is the one meant, holds the last state still; without a state every one does.
        let kept = row.standby == Some(to) || last == CheckpointId::default();
        Row { ready: row.ready && row.standby.is_some() && kept, ..next }
    }

    /// An operator wants a board to start what it has, since those who have more are gone for good.
    fn judge_recovery(&self, from: NodeId, next: Row, base: CheckpointId) -> Option<Row> {
        let wanted = self.desk.recovers(&next.instance(), &from);
        wanted.then_some(Row {
            previous: Epoch::default(),
            base,
            active: from,
            standby: None,
            ready: false,
            lost: false,
            ..next
        })
    }

    /// As master: finds a standby for every row that has none, or has this very board and could have another.
    pub(super) fn appoint(&mut self, turn: &mut Turn<'_>, office: &Office) {
        if turn.now < self.appoint_at {
            return;
        }
        if office.reign.is_none() {
            // A new reign begins with a table. One that was interrupted goes on without.
            let interrupted = office.master == Some(turn.me.id());
            self.appoint_at = if interrupted { turn.now + APPOINT_INTERVAL } else { Time::NEVER };
            return;
        }
        self.appoint_at = turn.now + APPOINT_INTERVAL;
        let Some(newest) = turn.directory.newest() else { return };
        let over = |row: &&Row| row.removing && self.is_unbound(turn, row, turn.me.id());
        let over: Vec<Row> = newest.table.rows.iter().filter(over).cloned().collect();
        let lacking: Vec<Row> = newest
            .table
            .rows
            .iter()
            .filter(|row| row.standby.is_none() && !row.retiring)
            .filter(|row| !office.changing.contains_key(&row.instance()))
            .cloned()
            .collect();
        for row in over.iter().filter(|row| !office.changing.contains_key(&row.instance())) {
            self.change(row, None);
        }
        self.find_better_standbys(turn, office);
        for row in lacking {
            if let Some(standby) = self.choose(turn, office, &row) {
                let stateless = turn.specs.get(&row.spec).is_some_and(|s| s.state.is_none());
                let changed = Row { standby: Some(standby), ready: stateless, ..row.clone() };
                self.change(&row, Some(changed));
            }
        }
    }

    /// As master: lets another board stand by where that is better. In the place of this one: a former active
    /// is standby after a handover, and a standby may become master. In the place of one that could not
    /// start it.
    fn find_better_standbys(&mut self, turn: &Turn<'_>, office: &Office) {
        let me = turn.me.id();
        let Some(newest) = turn.directory.newest() else { return };
        let badly_placed = |row: &&Row| {
            // Where the active is about to hand over that comes first.
            let here = row.standby == Some(me) && row.ready && !newest.table.makes_way(&row.active);
            let free = row.fill.is_none() && !row.retiring && !row.lost;
            let unable = row.able == Some(false);
            free && (here || unable) && !office.changing.contains_key(&row.instance())
        };
        let badly_placed: Vec<Row> =
            newest.table.rows.iter().filter(badly_placed).cloned().collect();
        for row in badly_placed {
            // To keep off the master a board that has just come back and may go again is not worth it.
            let steady = |node: &NodeId| {
                let member = turn.members.get(node);
                member.is_some_and(|member| turn.now.since(member.since) >= STEADY_AFTER)
            };
            let fill = self
                .choose_untried(turn, office, &row, |node| row.able == Some(false) || steady(node));
            if let Some(node) = fill {
                self.fills.insert(row.instance(), Fill { node, optional: true, able: None });
                self.change(&row, Some(Row { fill, ..row.clone() }));
            }
        }
    }

    /// A board to stand by for this row. One that did not do is better than none.
    fn choose(&self, turn: &Turn<'_>, office: &Office, row: &Row) -> Option<NodeId> {
        self.choose_untried(turn, office, row, |_| true)
            .or_else(|| choose_without(turn, &office.suspected, row))
    }

    /// One that was not of no use lately, and is `fit` in the caller's eyes.
    fn choose_untried(
        &self,
        turn: &Turn<'_>,
        office: &Office,
        row: &Row,
        fit: impl Fn(&NodeId) -> bool,
    ) -> Option<NodeId> {
        let now = turn.now;
        let rests = |node: &NodeId, rest: &Rest| match rest.why {
            Why::Unable | Why::Failed => now < rest.until,
            // Held for dead since, and back: what was wrong with it may have been just that.
            Why::Silent if turn.members.get(node).is_some_and(|m| m.since > rest.began()) => false,
            Why::Silent if row.able == Some(false) => now < rest.began() + PASSED_OVER_FOR_UNABLE,
            Why::Silent => now < rest.until,
        };
        let passed_over = self.passed_over.get(&row.instance()).into_iter().flatten();
        let passed_over =
            passed_over.filter(|(node, rest)| rests(node, rest)).map(|(node, _)| *node);
        let passed_over: Vec<NodeId> = passed_over.collect();
        if passed_over.len() >= PASSED_OVER_MAX {
            // Who else was tried is not remembered: each try copies the whole state.
            return None;
        }
        let unfit = turn.members.up().map(|(node, _)| *node).filter(|node| !fit(node));
        let without = office.suspected.iter().copied().chain(passed_over).chain(unfit).collect();
        choose_without(turn, &without, row)
    }

    /// A board was of no use as a standby. Not where that was because it died or makes way: back again it
    /// does as well as any other.
    fn pass_over_if_useless(&mut self, turn: &Turn<'_>, row: &Row, node: Option<NodeId>) {
        let table = turn.directory.newest().map(|newest| &newest.table);
        let useless = |node: &NodeId| {
            let makes_way = table.is_some_and(|table| table.makes_way(node));
            turn.members.is_up(node) && !makes_way
        };
        if let Some(node) = node.filter(useless) {
            self.pass_over(turn, row, node, (PASSED_OVER_FOR, Why::Silent));
        }
    }

    /// Others are tried first for a while.
    fn pass_over(
        &mut self,
        turn: &Turn<'_>,
        row: &Row,
        node: NodeId,
        (lasts, why): (Duration, Why),
    ) {
        let of = self.passed_over.entry(row.instance()).or_default();
        // Remembered for longer, for how long the next one lasts.
        of.retain(|_, rest| turn.now < rest.until + UNABLE_FOR_MAX);
        if of.len() >= PASSED_OVER_MAX && !of.contains_key(&node) {
            // One that is tried again anyway makes room: else this one would be, too, at once.
            let over = of.iter().find(|(_, rest)| rest.until <= turn.now).map(|(node, _)| *node);
            over.and_then(|over| of.remove(&over));
        }
        if of.len() < PASSED_OVER_MAX || of.contains_key(&node) {
            let known = of.get(&node).filter(|rest| turn.now < rest.until);
            let until = known.map_or(turn.now, |rest| rest.until).max(turn.now + lasts);
            let why = known.map_or(why, |rest| rest.why.max(why));
            of.insert(node, Rest { until, lasts, why });
        }
    }

    /// Asked again and again it answers the same, as a rule, and each time is a change of the table.
    fn pass_over_longer(&mut self, turn: &Turn<'_>, row: &Row, node: NodeId, why: Why) {
        let of = self.passed_over.get(&row.instance());
        let before = of.and_then(|of| of.get(&node)).filter(|rest| rest.why == why);
        let before = before.map_or(Duration::ZERO, |rest| rest.lasts);
        let lasts = (before * 2).clamp(UNABLE_FOR, UNABLE_FOR_MAX);
        self.pass_over(turn, row, node, (lasts, why));
    }

    /// A board that stands by, or is being filled to do so, says whether it could start the instance.
    fn judge_ability(
        &mut self,
        turn: &Turn<'_>,
        office: &Office,
        row: &Row,
        (from, able): (NodeId, bool),
    ) -> Option<Row> {
        if ![row.standby, row.fill].contains(&Some(from)) {
            return None;
        }
        let of = self.passed_over.entry(row.instance()).or_default();
        let rest = of.get(&from).copied();
        if able {
            // That it could not start it all the same is another matter.
            of.retain(|node, rest| *node != from || rest.why == Why::Failed);
        } else if rest.is_none_or(|rest| rest.until <= turn.now || rest.why == Why::Silent) {
            self.pass_over_longer(turn, row, from, Why::Unable);
        }
        let fill = self.fills.get(&row.instance()).filter(|fill| row.fill == Some(fill.node));
        let optional = fill.is_some_and(|fill| fill.optional);
        if row.standby == Some(from) {
            // Whoever was to take its place need not, now that it is able.
            let drops = optional && able && row.able == Some(false);
            let fill = row.fill.filter(|_| !drops);
            return Some(Row { able: Some(able), fill, ..row.clone() });
        }
        self.fills.insert(row.instance(), Fill { node: from, optional, able: Some(able) });
        // Where nobody else is there, a board that keeps the state is better than none.
        let drops =
            !able && (optional || self.choose_untried(turn, office, row, |_| true).is_some());
        drops.then(|| Row { fill: None, ..row.clone() })
    }

    fn change(&mut self, row: &Row, changed: Option<Row>) {
        self.change_by(None, row, changed);
    }

    fn change_by(&mut self, order: Option<Noted>, row: &Row, changed: Option<Row>) {
        self.notices.push(Notice::Change(Box::new(Change {
            id: NOBODY,
            what: What::Row {
                instance: row.instance(),
                made_for: Some(row.revision),
                row: changed,
            },
            order,
        })));
    }
}

fn choose_without(turn: &Turn<'_>, without: &BTreeSet<NodeId>, row: &Row) -> Option<NodeId> {
    let spec = turn.specs.get(&row.spec)?;
    let table = &turn.directory.newest()?.table;
    choose_standby(row, spec, turn.members, table, &turn.me.id(), without).ok()
}

#[cfg(test)]
mod tests;
