//! Shrinking: the least that still breaks the same rule.
//!
//! A random schedule that fails has dozens of faults, most of them beside the point. Faults are left out
//! by halves, quarters, … (ddmin; Zeller and Hildebrandt, IEEE TSE 28(2), 2002), then whole boards and
//! services, then whatever else makes a schedule hard to read, until nothing more can go. Since every
//! draw is keyed by what it is for, leaving something out reshuffles nothing else.
//!
//! Candidates run side by side; of those that fail the first one is taken, so the result does not depend
//! on how many run at once. Only the time that is allowed makes a difference.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::campaign;
use crate::cue::Cue;
use crate::faults::{Fault, Timed};
use crate::observe::Finding;
use crate::plan::Plan;
use crate::queue::BoardIndex;
use crate::time::{MILLI, Nanos, SECOND};

/// What is left, and what it took.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The smaller plan.
    pub plan: Plan,
    /// How it fails.
    pub finding: Finding,
    /// Faults before.
    pub faults_before: usize,
    /// Runs that it took.
    pub runs: u64,
    /// Wall time that it took.
    pub took: Duration,
    /// True if nothing more could be left out; false if the time was over first.
    pub minimal: bool,
}

struct Shrinker<'a> {
    fails: &'a (dyn Fn(&Plan) -> Vec<Finding> + Sync),
    plan: Plan,
    finding: Finding,
    runs: u64,
    deadline: Instant,
    workers: usize,
}

/// Makes a failing plan smaller, for so long. None if it does not fail.
pub fn shrink(plan: &Plan, budget: Duration) -> Option<Shrunk> {
    shrink_by(plan, budget, |plan| campaign::run(plan, None).findings)
}

/// As [`shrink`], for a failure of your own: what is wrong with a plan is what `fails` says. It is called on
/// several threads at once.
pub fn shrink_by(
    plan: &Plan,
    budget: Duration,
    fails: impl Fn(&Plan) -> Vec<Finding> + Sync,
) -> Option<Shrunk> {
    let began = Instant::now();
    let finding = fails(plan).into_iter().next()?;
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let deadline = began + budget;
    let mut shrinker =
        Shrinker { fails: &fails, plan: plan.clone(), finding, runs: 1, deadline, workers };
    let minimal = shrinker.reduce();
    let Shrinker { plan: least, finding, runs, .. } = shrinker;
    let faults_before = plan.schedule.len();
    Some(Shrunk { plan: least, finding, faults_before, runs, took: began.elapsed(), minimal })
}

impl Shrinker<'_> {
    /// Until nothing helps any more. False if the time is over first.
    fn reduce(&mut self) -> bool {
        self.cut_short();
        loop {
            let before = size(&self.plan);
            self.drop_faults();
            self.drop_boards();
            self.drop_services();
            self.calm_down();
            self.simplify();
            if self.is_over() {
                return false;
            }
            if size(&self.plan) == before {
                return true;
            }
        }
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Nothing after the failure matters, nor what is to come true then, nor what else is expected.
    fn cut_short(&mut self) {
        let at = self.finding.at;
        let only = |index: usize| {
            let mut plan = self.plan.clone();
            plan.expects = vec![plan.expects.swap_remove(index)];
            plan
        };
        let due = |index: &usize| self.plan.expects[*index].0 <= at;
        let mut alone: Vec<Plan> = (0..self.plan.expects.len()).filter(due).map(only).collect();
        if self.finding.rule != "expectation" {
            let mut plan = self.plan.clone();
            plan.expects.clear();
            alone = vec![plan];
        }
        self.first_of(alone);
        let mut plan = self.plan.clone();
        plan.horizon = plan.horizon.min(at + MILLI);
        plan.schedule.retain(|timed| timed.at <= at);
        plan.expects.retain(|(by, _)| *by <= at);
        plan.heal_at = plan.heal_at.filter(|heal_at| *heal_at <= at);
        plan.settle_within = plan.settle_within.filter(|_| plan.heal_at.is_some());
        self.first_of(vec![plan]);
    }

    /// Leaves out as many faults as possible: half of them at once, then a quarter, then fewer.
    fn drop_faults(&mut self) {
        let mut chunk = self.plan.schedule.len().div_ceil(2);
        while chunk > 0 && !self.is_over() {
            let mut from = 0;
            while from < self.plan.schedule.len() && !self.is_over() {
                let starts = (from..self.plan.schedule.len()).step_by(chunk).take(self.workers);
                let starts: Vec<usize> = starts.collect();
                let candidates = starts.iter().map(|start| self.without(*start, chunk)).collect();
                match self.first_of(candidates) {
                    // What came after it has moved up.
                    Some(which) => from = starts[which],
                    None => from += starts.len() * chunk,
                }
            }
            chunk = if chunk == 1 { 0 } else { chunk.div_ceil(2) };
        }
    }

    fn without(&self, start: usize, count: usize) -> Plan {
        let mut plan = self.plan.clone();
        let end = plan.schedule.len().min(start + count);
        plan.schedule.drain(start..end);
        plan
    }

    /// Fewer boards: first the smallest mesh that fails still, then one board after the other.
    fn drop_boards(&mut self) {
        let smaller = (1..self.plan.boards).map(|boards| self.with_boards(boards)).collect();
        self.first_of(smaller);
        let absent = |board| {
            let mut plan = self.plan.clone();
            plan.schedule.retain(|timed| !timed.fault.boards().contains(&board));
            plan.late.insert(board);
            (plan.late != self.plan.late || size(&plan) < size(&self.plan)).then_some(plan)
        };
        let absent = (1..self.plan.boards).filter_map(absent).collect();
        self.all_of(absent, |plan, smaller| {
            plan.late.extend(&smaller.late);
            plan.schedule.retain(|timed| smaller.schedule.contains(timed));
        });
    }

    fn with_boards(&self, boards: BoardIndex) -> Plan {
        let mut plan = self.plan.clone();
        plan.boards = boards;
        let known = |board: &BoardIndex| *board < boards;
        plan.late.retain(known);
        plan.strangers.retain(known);
        plan.relays.retain(known);
        plan.services.iter_mut().for_each(|service| service.board = service.board.min(boards - 1));
        let awaits = |timed: &Timed| timed.cue.as_ref().is_none_or(|cue| cue.board < boards);
        plan.schedule.retain_mut(|timed| awaits(timed) && fits(&mut timed.fault, boards));
        plan.expects.retain(|(_, expect)| expect.boards().iter().all(known));
        plan
    }

    fn drop_services(&mut self) {
        for number in (0..self.plan.services.len()).rev() {
            let mut plan = self.plan.clone();
            let gone = plan.services.remove(number).name;
            let awaits = |timed: &Timed| timed.cue.as_ref().and_then(Cue::service) == Some(&gone);
            plan.schedule.retain(|timed| timed.fault.service() != Some(&gone) && !awaits(timed));
            plan.expects.retain(|(_, expect)| expect.service() != Some(&gone));
            self.first_of(vec![plan]);
        }
    }

    /// A network without loss and clocks without error are easier to think about.
    fn calm_down(&mut self) {
        let mut plan = self.plan.clone();
        plan.loss_percent = 0;
        if self.plan.loss_percent > 0 {
            self.first_of(vec![plan]);
        }
        let mut plan = self.plan.clone();
        plan.ppm_max = 0;
        if self.plan.ppm_max > 0 {
            self.first_of(vec![plan]);
        }
    }

    /// Round times, and faults that last no longer than they must.
    fn simplify(&mut self) {
        for number in 0..self.plan.schedule.len() {
            for unit in [SECOND, 100 * MILLI, MILLI] {
                let mut plan = self.plan.clone();
                let timed = &mut plan.schedule[number];
                timed.at = timed.at / unit * unit;
                timed.lasts = timed.lasts.map(|lasts| (lasts / unit * unit).max(unit));
                if plan.schedule[number] == self.plan.schedule[number]
                    || self.is_over()
                    || self.first_of(vec![plan]).is_some()
                {
                    break;
                }
            }
        }
        self.plan.schedule.sort_by_key(|timed| timed.at);
    }

    /// The first of these that fails in the same way is taken.
    fn first_of(&mut self, candidates: Vec<Plan>) -> Option<usize> {
        for (round, batch) in candidates.chunks(self.workers).enumerate() {
            if self.is_over() {
                return None;
            }
            let found = self.judge(batch).into_iter().enumerate();
            if let Some((which, finding)) = found.filter_map(|(n, f)| Some((n, f?))).next() {
                (self.plan, self.finding) = (batch[which].clone(), finding);
                self.cut_here();
                return Some(round * self.workers + which);
            }
        }
        None
    }

    /// Each of these changes that fails in the same way is made, on top of those before.
    fn all_of(&mut self, candidates: Vec<Plan>, merge: impl Fn(&mut Plan, &Plan)) {
        for candidate in candidates {
            let mut plan = self.plan.clone();
            merge(&mut plan, &candidate);
            self.first_of(vec![plan]);
        }
    }

    /// A failure that comes earlier now is earlier over. One that comes at the very end may be about what
    /// has not come true by then. When a panic came nobody knows.
    fn cut_here(&mut self) {
        if self.finding.at > 0
            && self.finding.at + MILLI < self.plan.horizon
            && self.plan.heal_at.is_none()
        {
            self.plan.horizon = self.finding.at + MILLI;
        }
    }

    /// How each one breaks the rule that the first one broke.
    fn judge(&mut self, batch: &[Plan]) -> Vec<Option<Finding>> {
        self.runs += batch.len() as u64;
        let rule = self.finding.rule;
        let all = self.fails;
        let fails = |plan: &Plan| all(plan).into_iter().find(|finding| finding.rule == rule);
        std::thread::scope(|scope| {
            let runs: Vec<_> = batch.iter().map(|plan| scope.spawn(move || fails(plan))).collect();
            runs.into_iter().map(|run| run.join().unwrap_or(None)).collect()
        })
    }
}

/// Cuts a fault down to so many boards. False if nothing is left of it.
fn fits(fault: &mut Fault, boards: BoardIndex) -> bool {
    let known = |board: &BoardIndex| *board < boards;
    match fault {
        Fault::Partition { groups } => {
            groups.iter_mut().for_each(|group| group.retain(known));
            groups.retain(|group| !group.is_empty());
            !groups.is_empty()
        }
        Fault::OneWayCut { from, to } => {
            from.retain(known);
            to.retain(known);
            !from.is_empty() && !to.is_empty()
        }
        fault => fault.boards().iter().all(known),
    }
}

/// What is to become less.
fn size(plan: &Plan) -> (usize, usize, usize, u32, Nanos) {
    let rough = u32::from(plan.loss_percent > 0) + u32::from(plan.ppm_max > 0);
    let uneven: Nanos = plan.schedule.iter().map(uneven).sum();
    (plan.schedule.len(), present(plan).len(), plan.services.len(), rough, uneven)
}

/// The boards that take part.
pub fn present(plan: &Plan) -> BTreeSet<BoardIndex> {
    let joins = |board: &BoardIndex| plan.schedule.iter().any(|timed| timed.fault.brings(*board));
    (0..plan.boards).filter(|board| !plan.late.contains(board) || joins(board)).collect()
}

/// How far a fault's times are from being round.
fn uneven(timed: &Timed) -> Nanos {
    let of = |time: Nanos| {
        Nanos::from(!time.is_multiple_of(SECOND)) + Nanos::from(!time.is_multiple_of(100 * MILLI))
    };
    of(timed.at) + timed.lasts.map_or(0, of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expect::Expect;

    #[test]
    fn what_failed_first_is_what_is_made_small() {
        let mut plan = Plan::calm(1, 3, 40 * SECOND);
        // The one that fails later stands first.
        let left = |node| Expect::Left { node };
        plan.expects =
            vec![(30 * SECOND, left(1)), (20 * SECOND, left(2)), (10 * SECOND, Expect::AllUp)];
        let crash = Fault::Crash { node: 1 };
        plan.schedule.push(Timed { at: SECOND, cue: None, lasts: Some(SECOND), fault: crash });
        let shrunk = shrink(&plan, Duration::from_secs(60)).expect("nobody has left");
        assert!(shrunk.minimal);
        assert_eq!(shrunk.plan.expects, [(20 * SECOND, left(2))]);
        assert!(shrunk.plan.schedule.is_empty());
    }
}
