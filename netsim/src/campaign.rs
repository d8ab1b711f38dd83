//! Campaigns: many seeds, one line per failure that replays it, and what it all cost.

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{self, AssertUnwindSafe};
use std::time::{Duration, Instant};

use crate::observe::{Finding, Watcher};
use crate::plan::{Outcome, Plan};
use crate::queue::BoardIndex;
use crate::replay::Replay;
use crate::story::{Deeds, Reigns};
use crate::swarm::{self, Schedule};
use crate::tally::Tally;
use crate::time::{Nanos, PPM_MAX, SECOND, Seconds};
use crate::world;

/// What to run.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// Which seeds.
    pub seeds: Range<u64>,
    /// Boards of every run; none: each seed draws them.
    pub nodes: Option<BoardIndex>,
    /// Which family of plans.
    pub schedule: Schedule,
    /// No new run is begun after this much wall time.
    pub budget: Option<Duration>,
    /// Goes on after a failure.
    pub keep_going: bool,
    /// Runs every seed twice and compares.
    pub twice: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Summary {
    /// Runs.
    pub runs: u64,
    /// The failures: what replays each, and what was wrong.
    pub failures: Vec<(Replay, Vec<Finding>)>,
    /// Faults injected and felt.
    pub tally: Tally,
    /// Loss from the beginning, per cent → runs.
    pub losses: BTreeMap<u8, u64>,
    /// Runs with clocks that err by up to 1 % from the beginning.
    pub drifting: u64,
    /// True time simulated.
    pub virtual_time: Nanos,
    /// The same, of all nodes together.
    pub node_time: Nanos,
    /// Messages sent.
    pub messages: u64,
    /// Segments lost.
    pub lost: u64,
    /// The slowest convergence after the faults, and its seed.
    pub slowest: Option<(Nanos, u64)>,
    /// What the masters did, all runs together.
    pub masters: Reigns,
    /// Wall time.
    pub took: Duration,
    /// Time of this process on the processor.
    pub cpu: Duration,
}

/// Runs a plan; a panic of the node is a finding like any other.
pub fn run(plan: &Plan, watcher: Option<Box<dyn Watcher>>) -> Outcome {
    caught(|| world::run(plan, watcher))
}

/// A run, with a panic as a finding.
pub(crate) fn caught(run: impl FnOnce() -> Outcome) -> Outcome {
    let result = panic::catch_unwind(AssertUnwindSafe(run));
    result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        let text = text.unwrap_or_else(|| "a panic without words".to_owned());
        Outcome {
            findings: vec![Finding { at: 0, rule: "no-panic", board: None, text }],
            trace: [0; 32],
            ended: 0,
            node_time: 0,
            steps: 0,
            messages: 0,
            bytes: 0,
            lost: 0,
            tally: Tally::default(),
            settled_after: None,
            deeds: Deeds::default(),
        }
    })
}

impl Campaign {
    /// Runs all seeds, or as many as the budget allows.
    pub fn run(&self, mut on_failure: impl FnMut(&Replay, &[Finding])) -> Summary {
        let mut summary = Summary::default();
        let (began, cpu) = (Instant::now(), cpu_time());
        for seed in self.seeds.clone() {
            if self.budget.is_some_and(|budget| began.elapsed() >= budget) {
                break;
            }
            let nodes = self.nodes.unwrap_or_else(|| swarm::boards(seed));
            let replay = Replay::swarm(seed, nodes, self.schedule);
            let plan = swarm::plan(seed, nodes, self.schedule);
            let mut outcome = run(&plan, None);
            if self.twice && outcome.findings.is_empty() {
                let again = run(&plan, None);
                if again.trace != outcome.trace {
                    let text = "the same seed did something else the second time".to_owned();
                    let at = outcome.ended;
                    outcome.findings =
                        vec![Finding { at, rule: "deterministic", board: None, text }];
                }
            }
            summary.add(seed, &plan, &outcome);
            if !outcome.findings.is_empty() {
                on_failure(&replay, &outcome.findings);
                summary.failures.push((replay, outcome.findings));
                if !self.keep_going {
                    break;
                }
            }
        }
        summary.took = began.elapsed();
        summary.cpu = cpu_time().saturating_sub(cpu);
        summary
    }
}

impl Summary {
    fn add(&mut self, seed: u64, plan: &Plan, outcome: &Outcome) {
        self.runs += 1;
        *self.losses.entry(plan.loss_percent).or_default() += 1;
        self.drifting += u64::from(plan.ppm_max == PPM_MAX);
        self.tally.add(&outcome.tally);
        self.virtual_time += outcome.ended;
        self.node_time += outcome.node_time;
        self.messages += outcome.messages;
        self.lost += outcome.lost;
        self.masters.add(seed, &outcome.deeds);
        if let Some(after) = outcome.settled_after {
            self.slowest = self.slowest.max(Some((after, seed)));
        }
    }

    /// Marks that a campaign of this size should have reached and has not.
    pub fn missing_marks(&self) -> Vec<&'static str> {
        if self.runs < RUNS_FOR_MARKS { Vec::new() } else { self.masters.missing() }
    }

    /// The summary as text.
    pub fn text(&self) -> String {
        let mut lines = vec![format!("{:<14} {:>9} {:>9}", "fault", "injected", "felt")];
        lines.extend(
            self.tally
                .lines()
                .map(|(name, injected, felt)| format!("{name:<14} {injected:>9} {felt:>9}")),
        );
        lines.push(format!("{:<14} {:>9} {:>9}", "lost segments", "", self.lost));
        let loss = self.losses.iter().map(|(percent, runs)| format!("{percent} %: {runs}"));
        lines.push(format!(
            "runs by loss: {}; with clocks ± 1 %: {}",
            loss.collect::<Vec<_>>().join(", "),
            self.drifting
        ));
        let hours = |nanos: Nanos| nanos as f64 / (3600 * SECOND) as f64;
        let cpu = self.cpu.as_secs_f64().max(0.001);
        lines.push(format!(
            "{} runs, {} failures; {:.2} virtual hours, {:.1} node-hours, {} messages",
            self.runs,
            self.failures.len(),
            hours(self.virtual_time),
            hours(self.node_time),
            self.messages
        ));
        let (injected, felt) = self.tally.total();
        let mean = |count: u64| count as f64 / self.runs.max(1) as f64;
        lines.push(format!("per run {:.1} faults, {:.1} of them felt", mean(injected), mean(felt)));
        lines.extend(self.masters.lines(self.runs));
        if let Some((after, seed)) = self.slowest {
            let after = Seconds(after);
            lines.push(format!("slowest convergence after the faults: {after} s (seed {seed})"));
        }
        lines.push(format!(
            "{:.1} s of wall time, {cpu:.1} s of CPU: {:.1} node-hours per CPU-second",
            self.took.as_secs_f64(),
            hours(self.node_time) / cpu
        ));
        lines.join("\n")
    }
}

/// A campaign of so many runs must reach every mark.
const RUNS_FOR_MARKS: u64 = 1000;

/// What this process has used of the processor, from /proc (10 ms steps); wall time elsewhere.
pub fn cpu_time() -> Duration {
    let ticks = std::fs::read_to_string("/proc/self/stat").ok().and_then(|stat| {
        let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
        Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
    });
    match ticks {
        Some(ticks) => Duration::from_millis(ticks * 10),
        None => START.get_or_init(Instant::now).elapsed(),
    }
}

static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
