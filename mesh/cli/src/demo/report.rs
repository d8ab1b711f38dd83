//! What the demo tells: a timeline while it plays, and a report of what was measured.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::caller::ledger::Figures;
use super::stage::Times;
use crate::context::print;
use crate::exit::Outcome;
use crate::text::wrap;

/// `hedgerow demo -o json`: what was measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// How many boards took part.
    pub(crate) nodes: u16,
    /// Chooses who dies and who leaves.
    pub(crate) seed: u64,
    /// Every step held, and the script came to its end.
    pub(crate) held: bool,
    /// When writes are acknowledged: `async` or `standby`.
    pub(crate) commit: &'static str,
    /// What was measured beside the steps.
    pub(crate) figures: Measured,
    /// Times of boards are known to within this many milliseconds.
    pub(crate) resolution_ms: u64,
    /// Where the boards' folders are, if they were kept.
    pub(crate) folder: Option<String>,
    /// What happened, in order.
    pub(crate) steps: Vec<Step>,
}

/// What was measured beside the steps; null where the script did not come so far.
#[derive(Clone, Default, Debug, Serialize)]
pub(crate) struct Measured {
    /// From the death of the active's board until every other one held it for dead, milliseconds.
    pub(crate) detection_ms: Option<u64>,
    /// The takeover.
    pub(crate) takeover: Option<Takeover>,
    /// What crossed the network to copy the state.
    pub(crate) copies: Option<Copies>,
    /// Writes that were acknowledged in a second while nothing happened.
    pub(crate) writes_per_second: Option<u64>,
    /// Writes that were acknowledged, in all.
    pub(crate) acknowledged: Option<u64>,
    /// Those of them that are gone.
    pub(crate) lost: Option<u64>,
    /// How long before the death the oldest of them was acknowledged, milliseconds.
    pub(crate) lost_age_ms: Option<u64>,
    /// From the last answer here to the first answer there in the planned move, milliseconds.
    pub(crate) move_ms: Option<u64>,
}

/// A takeover, milliseconds from the kill.
#[derive(Clone, Copy, Default, Debug, Serialize)]
pub(crate) struct Takeover {
    /// Until the standby asked for the right to run.
    pub(crate) asked_ms: Option<u64>,
    /// Until it knew that it had it.
    pub(crate) appointed_ms: Option<u64>,
    /// Until the service ran there.
    pub(crate) runs_ms: Option<u64>,
    /// Until a caller who knows only its name had the first answer from there.
    pub(crate) first_answer_ms: u64,
    /// Until the first write was acknowledged there.
    pub(crate) first_write_ms: u64,
    /// The new right.
    pub(crate) epoch: u64,
    /// The board that died was the master, too.
    pub(crate) with_master: bool,
}

/// What crossed the network to copy states.
#[derive(Clone, Copy, Default, Debug, Serialize)]
pub(crate) struct Copies {
    /// Whole states, to boards that had nothing to compare them with.
    pub(crate) full: u64,
    /// Bytes of the largest of them on the network.
    pub(crate) full_bytes: u64,
    /// Bytes of that state.
    pub(crate) state_bytes: u64,
    /// Deltas.
    pub(crate) deltas: u64,
    /// Bytes of one on the network, median.
    pub(crate) delta_bytes_median: u64,
    /// Bytes of the largest.
    pub(crate) delta_bytes_max: u64,
}

/// One thing that had to hold.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Step {
    /// For programs: `gather`, `voters`, `run`, `ready`, `agent`, `steady`, `death`, `takeover`,
    /// `standby`, `master`, `move`, `return`, `kept`, `remove`, `leave` or `no-false-death`.
    pub(crate) step: &'static str,
    /// Whom it is about, if one board.
    pub(crate) board: Option<String>,
    /// It held.
    pub(crate) held: bool,
    /// Until the first board knew, milliseconds.
    pub(crate) first_ms: Option<u64>,
    /// Until the last board knew, milliseconds; null if one never did.
    pub(crate) last_ms: Option<u64>,
    /// More than this counts as not held, milliseconds; 0: it takes no time.
    pub(crate) limit_ms: u64,
    /// What the caller saw since the one before that says so.
    pub(crate) caller: Option<Called>,
    /// A sentence.
    pub(crate) text: String,
}

/// What the caller saw.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Called {
    /// Writes that were acknowledged.
    pub(crate) acknowledged: u64,
    /// Requests without an answer, or with a bad one; each was made again.
    pub(crate) failed: u64,
    /// The longest time without an acknowledgement, milliseconds.
    pub(crate) longest_ms: u64,
}

impl From<Figures> for Called {
    fn from(figures: Figures) -> Self {
        let Figures { acknowledged, failed, longest } = figures;
        Self { acknowledged, failed, longest_ms: ms(longest) }
    }
}

/// Tells what happens as it happens, and keeps what was measured.
#[derive(Debug)]
pub(super) struct Timeline {
    begun: Instant,
    aloud: bool,
    complete: bool,
    report: Report,
}

impl Timeline {
    /// Begins now; `aloud` prints it for people.
    pub(super) fn new(aloud: bool, nodes: u16, seed: u64, commit: &'static str) -> Self {
        let report = Report {
            nodes,
            seed,
            held: false,
            commit,
            figures: Measured::default(),
            resolution_ms: 0,
            folder: None,
            steps: Vec::new(),
        };
        Self { begun: Instant::now(), aloud, complete: false, report }
    }

    /// Where to note what is measured.
    pub(super) fn figures(&mut self) -> &mut Measured {
        &mut self.report.figures
    }

    /// Tells something beside the timeline.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub(super) fn tell(&self, sentence: &str) -> Outcome {
        if self.aloud { print(&wrap(sentence, 2)) } else { Ok(()) }
    }

    /// Tells something that happens now.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub(super) fn now(&self, sentence: &str) -> Outcome {
        let at = self.begun.elapsed().as_secs_f64();
        self.tell(&format!("{at:>7.2} s {sentence}"))
    }

    /// Tells what a step came to, and keeps it. Gives back whether it held.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub(super) fn step(
        &mut self,
        step: &'static str,
        board: Option<&str>,
        times: &Times,
        what: &str,
    ) -> Outcome<bool> {
        let held = times.held();
        let first = times.all.iter().filter_map(|(_, time)| *time).min();
        let text = match (first, times.last()) {
            (Some(first), Some(last)) if times.all.len() > 1 => {
                format!("{what}: first {}, last {}", seconds(first), seconds(last))
            }
            (_, Some(last)) => format!("{what}: {}", seconds(last)),
            _ => {
                let late = times.all.iter().filter(|(_, time)| time.is_none());
                let late: Vec<&str> = late.map(|(name, _)| name.as_str()).collect();
                let patience = seconds(times.patience);
                format!("NOT HELD: {what}; {} not within {patience}", late.join(", "))
            }
        };
        self.keep(Step {
            step,
            board: board.map(str::to_owned),
            held,
            first_ms: first.map(ms),
            last_ms: times.last().map(ms),
            limit_ms: ms(times.patience),
            caller: None,
            text,
        })
    }

    /// Keeps a step that takes no time: something must simply be so.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub(super) fn fact(
        &mut self,
        step: &'static str,
        board: Option<&str>,
        held: bool,
        what: &str,
    ) -> Outcome<bool> {
        self.told(step, board, held, None, what)
    }

    /// As [`Timeline::fact`], with what the caller saw meanwhile.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub(super) fn called(
        &mut self,
        step: &'static str,
        held: bool,
        figures: Figures,
        what: &str,
    ) -> Outcome<bool> {
        let called = Called::from(figures);
        let what = format!(
            "{what}: {} writes acknowledged, {} requests repeated, longest pause {} ms",
            called.acknowledged, called.failed, called.longest_ms
        );
        self.told(step, None, held, Some(called), &what)
    }

    fn told(
        &mut self,
        step: &'static str,
        board: Option<&str>,
        held: bool,
        caller: Option<Called>,
        what: &str,
    ) -> Outcome<bool> {
        let text = if held { what.to_owned() } else { format!("NOT HELD: {what}") };
        let board = board.map(str::to_owned);
        let (first_ms, last_ms, limit_ms) = (None, None, 0);
        self.keep(Step { step, board, held, first_ms, last_ms, limit_ms, caller, text })
    }

    /// The script came to its end; figures are known to within `resolution`.
    pub(super) fn complete(&mut self, resolution: Duration) {
        self.complete = true;
        self.report.resolution_ms = ms(resolution);
    }

    /// What did not hold, one sentence each.
    pub(super) fn not_held(&self) -> Vec<String> {
        let failed = self.report.steps.iter().filter(|step| !step.held);
        failed.map(|step| step.text.clone()).collect()
    }

    /// The report.
    pub(super) fn finish(mut self, folder: Option<String>) -> Report {
        self.report.held = self.complete && self.report.steps.iter().all(|step| step.held);
        self.report.folder = folder;
        self.report
    }

    fn keep(&mut self, step: Step) -> Outcome<bool> {
        self.now(&step.text)?;
        let held = step.held;
        self.report.steps.push(step);
        Ok(held)
    }
}

/// The last line for people.
pub(super) fn verdict(report: &Report) -> String {
    let held = report.steps.iter().filter(|step| step.held).count();
    let left = match &report.folder {
        Some(folder) => format!("no process is left; the folders are in {folder}"),
        None => "no process and no folder is left".to_owned(),
    };
    let all = report.steps.len();
    let figures = format!("times of boards are exact to {} ms", report.resolution_ms);
    match report.held {
        true => wrap(&format!("All {all} steps held; {figures}; {left}."), 2),
        false => wrap(&format!("{held} of {all} steps held; {left}."), 2),
    }
}

/// A time for people.
pub(super) fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// A time for programs.
pub(super) fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
