//! What the demo tells: a timeline while it plays, and a report of what was measured.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::stage::{PATIENCE, Times};
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
    /// Figures are known to within this many milliseconds.
    pub(crate) resolution_ms: u64,
    /// Where the boards' folders are, if they were kept.
    pub(crate) folder: Option<String>,
    /// What happened, in order.
    pub(crate) steps: Vec<Step>,
}

/// One thing that had to hold.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Step {
    /// For programs: `gather`, `voters`, `run`, `agent`, `master`, `kept`, `remove`, `death`,
    /// `return`, `leave` or `no-false-death`.
    pub(crate) step: &'static str,
    /// Whom it is about, if one board.
    pub(crate) board: Option<String>,
    /// It held.
    pub(crate) held: bool,
    /// Until the first board knew, milliseconds.
    pub(crate) first_ms: Option<u64>,
    /// Until the last board knew, milliseconds; null if one never did.
    pub(crate) last_ms: Option<u64>,
    /// More than this counts as not held, milliseconds.
    pub(crate) limit_ms: u64,
    /// A sentence.
    pub(crate) text: String,
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
    pub(super) fn new(aloud: bool, nodes: u16, seed: u64) -> Self {
        let report =
            Report { nodes, seed, held: false, resolution_ms: 0, folder: None, steps: Vec::new() };
        Self { begun: Instant::now(), aloud, complete: false, report }
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
        let held = times.iter().all(|(_, time)| time.is_some());
        let first = times.iter().filter_map(|(_, time)| *time).min();
        let last = times.iter().filter_map(|(_, time)| *time).max().filter(|_| held);
        let text = match (first, last) {
            (Some(first), Some(last)) => {
                format!("{what}: first {}, last {}", seconds(first), seconds(last))
            }
            _ => {
                let late: Vec<&str> =
                    times.iter().filter(|(_, t)| t.is_none()).map(|(n, _)| n.as_str()).collect();
                format!("NOT HELD: {what}; {} not within {}", late.join(", "), seconds(PATIENCE))
            }
        };
        self.keep(Step {
            step,
            board: board.map(str::to_owned),
            held,
            first_ms: first.map(ms),
            last_ms: last.map(ms),
            limit_ms: ms(PATIENCE),
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
        let text = if held { what.to_owned() } else { format!("NOT HELD: {what}") };
        let board = board.map(str::to_owned);
        self.keep(Step { step, board, held, first_ms: None, last_ms: None, limit_ms: 0, text })
    }

    /// The script came to its end; figures are known to within `resolution`.
    pub(super) fn complete(&mut self, resolution: Duration) {
        self.complete = true;
        self.report.resolution_ms = ms(resolution);
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
    let figures = format!("figures are exact to {} ms", report.resolution_ms);
    match report.held {
        true => wrap(&format!("All {all} steps held; {figures}; {left}."), 2),
        false => wrap(&format!("{held} of {all} steps held; {left}."), 2),
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
