//! Asking the boards what they see: for a scenario's expectations, and after all faults have ended
//! until everything has converged.

use std::collections::BTreeMap;

use hedgerow::proto::id::NodeId;

use super::World;
use crate::board;
use crate::evidence::Evidence;
use crate::expect::Expect;
use crate::queue::{BoardIndex, Due};
use crate::scenario;
use crate::time::{Nanos, SECOND, Seconds};

/// Between two looks whether everything has converged.
const LOOK_INTERVAL: Nanos = 2 * SECOND;
/// That long after the faults an operator looks for boards that cannot find the rest.
const OPERATOR_LOOKS: Nanos = 20 * SECOND;
/// Whose views differ compare them every two or three seconds: as often as that within …
const COMPARED_OFTEN: usize = 3;
/// … this.
const COMPARED_WITHIN: Nanos = 9 * SECOND;
/// So long it must stay converged.
const LOOKS_IN_A_ROW: u64 = 5;

/// Something that must come about after the faults.
struct Duty {
    rule: &'static str,
    /// Within this, ns.
    within: Nanos,
    verdict: Result<(), String>,
}

impl World {
    pub(super) fn expect(&mut self, number: u32) {
        let (by, expect) = self.plan.expects[number as usize].clone();
        let evidence = self.evidence();
        if let Err(text) = expect.judge(&evidence) {
            let entry = scenario::entry_text(by, &expect);
            self.find("expectation", None, format!("{entry} does not hold: {text}"));
        }
    }

    /// A fault that waited in vain means that the scenario has not shown what it is for.
    pub(super) fn judge_cues(&mut self) {
        for number in core::mem::take(&mut self.waiting) {
            let timed = &self.plan.schedule[number as usize];
            let Some(cue) = timed.cue.as_ref().filter(|cue| !cue.is_optional) else { continue };
            let text = format!("`{}` has waited in vain for \"{cue}\"", timed.fault.name());
            self.find("cue-comes", None, text);
        }
    }

    pub(super) fn begin_settling(&mut self) {
        self.compared.clear();
        if self.plan.settle_within.is_some() {
            self.queue.push(self.now + LOOK_INTERVAL, Due::Settle);
        }
    }

    /// Whether all faults are over.
    pub(super) fn is_healed(&self) -> bool {
        self.plan.heal_at.is_some_and(|healed| self.now >= healed)
    }

    /// Looks whether everything has converged, and ends the run when it has for long enough.
    pub(super) fn settle(&mut self) {
        let (Some(healed), Some(within)) = (self.plan.heal_at, self.plan.settle_within) else {
            return;
        };
        if self.needed_who_left() {
            let text =
                "all who decide are there or have left, and nobody can be elected".to_owned();
            return self.find("who-is-needed-stays", None, text);
        }
        if self.deciders_forgot() {
            let text = "most of those who decide are there, and nobody can be elected".to_owned();
            return self.find("who-decides-can-elect", None, text);
        }
        let evidence = self.evidence();
        if self.now - healed >= OPERATOR_LOOKS && self.settling_since.is_none() {
            let helped = self.rejoin_stranded(&evidence) || self.lead_together(&evidence);
            self.settling_since = Some(if helped { self.now } else { healed });
        }
        let healed = self.settling_since.unwrap_or(healed);
        let after = self.now - healed;
        let duties = self.duties(&evidence, within);
        self.note_duties(&duties, after);
        if let Some(duty) = duties.iter().find(|duty| duty.verdict.is_err()) {
            self.settled_after = None;
            self.unsettled = duty.verdict.clone().err();
        } else {
            self.unsettled = None;
            let since = *self.settled_after.get_or_insert(after);
            if after - since >= LOOKS_IN_A_ROW * LOOK_INTERVAL {
                let last = self.plan.expects.iter().map(|(by, _)| *by).max().unwrap_or_default();
                self.over = last < self.now;
                if !self.over {
                    // What is expected later is to be judged, too, and then everything must be well still.
                    self.queue.push(last + 1, Due::Settle);
                }
                return;
            }
        }
        for Duty { rule, within, verdict } in duties {
            if let Err(text) = verdict
                && after >= within
            {
                let text = format!("{} s after the last fault {text}", Seconds(within));
                return self.find(rule, None, text);
            }
        }
        self.queue.push(self.now + LOOK_INTERVAL, Due::Settle);
    }

    /// What must come about after the faults, each with its own bound.
    fn duties(&mut self, evidence: &Evidence, within: Nanos) -> [Duty; 6] {
        self.bereft = !self.can_elect();
        let exempt = self.bereft;
        let or_exempt = |verdict: Result<(), String>| if exempt { Ok(()) } else { verdict };
        let duty = |rule, within, verdict| Duty { rule, within, verdict };
        let view = Expect::AllUp.judge(evidence).and_then(|()| Expect::SameView.judge(evidence));
        let compare = self.judge_comparisons();
        let view = view.and(compare);
        let reigns = or_exempt(evidence.master().map(drop));
        let named = or_exempt(Expect::OneMaster.judge(evidence));
        let voters = or_exempt(self.judge_voters(evidence));
        let serves = or_exempt(self.judge_serving(evidence));
        let protected = or_exempt(self.judge_protected(evidence));
        let (master_within, voters_within) = (self.plan.master_bound(), self.plan.voters_bound());
        let (serving_within, protected_within) =
            (self.plan.serving_bound(), self.plan.protected_bound());
        [
            duty("converges-after-faults", within, view),
            duty("a-master-reigns-again", master_within, reigns),
            duty("all-name-the-master", within.max(master_within), named),
            duty("three-living-voters-again", within.max(voters_within), voters),
            duty("services-run-again", within.max(serving_within), serves),
            duty("services-have-standbys-again", within.max(protected_within), protected),
        ]
    }

    /// Boards that see the same have nothing more to tell each other, but for a comparison with a random member a minute.
    /// Where nobody can be elected any more, the newest table may be gone with those who had it, and whoever has acted
    /// on it believes no older one.
    fn judge_comparisons(&mut self) -> Result<(), String> {
        let since = self.now.saturating_sub(COMPARED_WITHIN);
        self.compared.retain(|(at, ..)| *at >= since);
        let mut pairs: BTreeMap<(BoardIndex, NodeId), usize> = BTreeMap::new();
        for (_, from, to) in &self.compared {
            *pairs.entry((*from, *to)).or_default() += 1;
        }
        match pairs.into_iter().find(|(_, times)| *times >= COMPARED_OFTEN) {
            Some(((from, to), _)) if !self.bereft => {
                Err(format!("n{from} compares what it knows with {} again and again", to.short()))
            }
            _ => Ok(()),
        }
    }

    /// Remembers when each of the last two came about.
    fn note_duties(&mut self, duties: &[Duty; 6], after: Nanos) {
        let [_, _, named, voters, serving, protected] = duties;
        let keep = |duty: &Duty, since: Option<Nanos>| {
            (duty.verdict.is_ok() && !self.bereft).then(|| since.unwrap_or(after))
        };
        let (master, voters) = (keep(named, self.master_after), keep(voters, self.voters_after));
        (self.master_after, self.voters_after) = (master, voters);
        self.serving_after = keep(serving, self.serving_after);
        self.protected_after = keep(protected, self.protected_after);
    }

    /// Boards that no chain of knowledge connects with the rest can never find it: whoever let them
    /// in has lost its disk. An operator sees that in `status`, moves their data away and joins them
    /// anew. True if there were any.
    fn rejoin_stranded(&mut self, evidence: &Evidence) -> bool {
        let islands = evidence.islands();
        let Some(main) = islands.iter().rev().max_by_key(|island| island.len()).cloned() else {
            return false;
        };
        let stranded: Vec<BoardIndex> =
            islands.into_iter().filter(|island| *island != main).flatten().collect();
        for board in &stranded {
            self.cut_power(*board);
            self.lose_disk(*board);
            self.switch_on(*board);
        }
        !stranded.is_empty()
    }

    /// Boards that know each other by addresses only that are nobody's any more can never meet. An operator sees
    /// that, and starts one of them again with a ticket that names boards of the rest. True if there were any.
    fn lead_together(&mut self, evidence: &Evidence) -> bool {
        let present: BTreeMap<String, BoardIndex> = self
            .boards
            .iter()
            .filter(|board| board.node.is_some())
            .map(|board| (board::address(board.index, board.roams).to_string(), board.index))
            .collect();
        let islands = evidence.islands_by(|from, to| {
            let Some(Some(view)) = evidence.views.get(&from) else { return false };
            let linked = view
                .nodes
                .iter()
                .any(|node| node.path == "linked" && node.node == evidence.ids[usize::from(to)]);
            let mut addresses = view.nodes.iter().flat_map(|node| &node.addresses);
            linked || addresses.any(|address| present.get(address) == Some(&to))
        });
        let Some(main) = islands.iter().rev().max_by_key(|island| island.len()).cloned() else {
            return false;
        };
        let first_of_others = islands.iter().filter(|island| **island != main).map(|it| it[0]);
        let lost: Vec<BoardIndex> = first_of_others.collect();
        for board in &lost {
            self.crash(*board, "its operator starts it again with a ticket");
            self.board(*board).led_to.clone_from(&main);
            self.switch_on(*board);
        }
        !lost.is_empty()
    }

    /// The horizon came first.
    pub(super) fn judge_settling(&mut self) {
        if let (Some(_), Some(text)) = (self.plan.settle_within, self.unsettled.take()) {
            self.find("converges-after-faults", None, format!("at the end {text}"));
        }
    }

    fn evidence(&mut self) -> Evidence {
        self.ask_all();
        let running = self.boards.iter().filter(|board| board.node.is_some());
        Evidence {
            views: running.map(|board| (board.index, board.status.clone())).collect(),
            strangers: self.plan.strangers.clone(),
            told: self.told.clone(),
            revoked: self.revoked(),
            ids: self.boards.iter().map(|board| board.id).collect(),
            blamed: self.blamed.clone(),
            masters: self.masters(),
            services: self.services(),
            drained: self.newest_table().map_or_else(Vec::new, |table| {
                let mut all = [&table.drained[..], &table.leaving].concat();
                all.sort_unstable();
                all
            }),
            now: self.now,
        }
    }
}
