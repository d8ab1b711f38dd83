//! How long the service is without what a fault has taken from it: the design's table of faults, in times.
//!
//! ```text
//! cargo run --release -p hedgerow-netsim --example takeover
//! ```
//!
//! runs each fault with each preset at each loss on many seeds, before the eyes of every invariant, and prints
//! one table (each preset and loss on stderr as soon as it is measured). Exits with 1 if a rule was broken, with
//! 2 if it could not measure. `--slowest` prints the line that replays the slowest run of each cell, for `netsim replay LINE --timeline`.

mod cases;
mod ledger;
mod trial;

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;
use hedgerow_netsim::campaign;
use hedgerow_netsim::faults::LOSS_PERCENT_MAX;
use hedgerow_netsim::law::LinkLaw;
use hedgerow_netsim::observe::Finding;
use hedgerow_netsim::plan::Plan;
use hedgerow_netsim::queue::BoardIndex;
use hedgerow_netsim::replay::Replay;
use hedgerow_netsim::time::{Nanos, SECOND};

use crate::cases::{CASES, Case};
use crate::trial::{Run, Trial};

/// Measures in simulation how long takeovers take, and what else must happen after a fault.
#[derive(Parser)]
struct Options {
    /// Runs of each cell. Of 100 one is above the p99; of fewer it is the maximum.
    #[arg(long, default_value_t = 100)]
    runs: usize,
    /// Lease timings, each with the link that it is for: lan, wan.
    #[arg(long, value_delimiter = ',', default_value = "lan,wan", value_parser = preset)]
    preset: Vec<LinkLaw>,
    /// Losses from the beginning, per cent.
    #[arg(long, value_delimiter = ',', default_value = "0,5,20")]
    loss: Vec<u8>,
    /// Only faults whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Prints the line that replays the slowest run of each cell.
    #[arg(long)]
    slowest: bool,
}

/// One line of the table.
struct Cell {
    /// Which case.
    number: usize,
    link: LinkLaw,
    loss: u8,
    runs: Vec<Run>,
}

fn main() -> ExitCode {
    match measure(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("takeover: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether every rule held.
fn measure(options: &Options) -> Result<bool> {
    if options.runs == 0 || options.loss.iter().any(|loss| *loss > LOSS_PERCENT_MAX) {
        bail!("give --runs of 1 or more and a --loss of up to {LOSS_PERCENT_MAX} per cent");
    }
    let mut cells = Vec::new();
    for link in &options.preset {
        for loss in &options.loss {
            for boards in [5, 2] {
                let measured = options.cells(boards, *link, *loss)?;
                measured.iter().for_each(|cell| eprintln!("{}", cell.text()));
                cells.extend(measured);
            }
        }
    }
    if cells.is_empty() {
        bail!("no fault has such a name");
    }
    // Stable: presets and losses stay in their order.
    cells.sort_by_key(|cell| cell.number);
    say(HEAD)?;
    for cell in &cells {
        say(&cell.text())?;
    }
    say(NOTES)?;
    say(&format!("{:.0} s of CPU", campaign::cpu_time().as_secs_f64()))?;
    if options.slowest {
        for cell in &cells {
            say(&cell.slowest())?;
        }
    }
    let failed: Vec<&Run> =
        cells.iter().flat_map(|cell| &cell.runs).filter(|run| !run.findings.is_empty()).collect();
    for Run { plan, findings, .. } in &failed {
        for Finding { rule, text, .. } in findings {
            say(&format!("FAILED {rule}: {text}"))?;
        }
        say(&replay(plan))?;
    }
    Ok(failed.is_empty())
}

impl Options {
    /// All faults of meshes of this size at one preset and loss.
    fn cells(&self, boards: BoardIndex, link: LinkLaw, loss: u8) -> Result<Vec<Cell>> {
        let is_wanted = |case: &Case| {
            case.boards == boards && self.only.as_ref().is_none_or(|only| case.name.contains(only))
        };
        let wanted = CASES.iter().enumerate().filter(|(_, case)| is_wanted(case));
        let mut cells: Vec<Cell> =
            wanted.map(|(number, _)| Cell { number, link, loss, runs: Vec::new() }).collect();
        for seed in self.seed..self.seed + (self.runs * SEEDS_PER_RUN) as u64 {
            let mut wanting: Vec<&mut Cell> =
                cells.iter_mut().filter(|cell| cell.runs.len() < self.runs).collect();
            if wanting.is_empty() {
                break;
            }
            let Some(trial) = Trial::of(seed, boards, link, loss)? else { continue };
            for cell in &mut wanting {
                let case = &CASES[cell.number];
                if case.fits(trial.roles()) {
                    cell.runs.extend(trial.run(cell.number as u64, case)?);
                }
            }
        }
        Ok(cells)
    }
}

impl Cell {
    fn text(&self) -> String {
        let name = CASES[self.number].name;
        let is_late = |run: &&Run| run.took.is_none() || run.paused;
        let pause = self.runs.iter().map(|run| run.pause).max();
        format!(
            "{name:<42} {:<4} {:>3}% {:>5} {:>7} {:>7} {:>7} {:>7} {:>6} {:>8}",
            self.link.preset().name,
            self.loss,
            self.runs.len(),
            seconds(self.took_by(50)),
            seconds(self.took_by(99)),
            seconds(self.took_by(100)),
            seconds(pause),
            self.runs.iter().filter(is_late).count(),
            self.runs.iter().map(|run| run.findings.len()).sum::<usize>(),
        )
    }

    /// Nearest rank: the smallest time that `percent` of a hundred runs do not exceed; none: never.
    fn took_by(&self, percent: usize) -> Option<Nanos> {
        let mut took: Vec<Nanos> = self.runs.iter().map(order).collect();
        took.sort_unstable();
        let rank = (took.len() * percent).div_ceil(100).max(1);
        took.get(rank - 1).copied().filter(|took| *took != Nanos::MAX)
    }

    fn slowest(&self) -> String {
        let name = CASES[self.number].name;
        let (preset, loss) = (self.link.preset().name, self.loss);
        let slowest = self.runs.iter().max_by_key(|run| order(run));
        let line = slowest.map_or_else(String::new, |run| replay(&run.plan));
        format!("{name}, {preset}, {loss} %: {line}")
    }
}

/// What never happened comes last.
fn order(run: &Run) -> Nanos {
    run.took.unwrap_or(Nanos::MAX)
}

fn replay(plan: &Plan) -> String {
    format!("netsim replay '{}'", Replay::explicit(plan.clone()))
}

fn seconds(took: Option<Nanos>) -> String {
    took.map_or_else(|| "never".to_owned(), |took| format!("{:.2}", took as f64 / SECOND as f64))
}

fn preset(name: &str) -> Result<LinkLaw> {
    match name {
        "lan" => Ok(LinkLaw::Lan),
        "wan" => Ok(LinkLaw::Wan),
        _ => bail!("the presets are lan and wan"),
    }
}

/// A closed pipe is an end like any other.
fn say(text: &str) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

/// So many seeds are tried for one run.
const SEEDS_PER_RUN: usize = 10;

const HEAD: &str = "fault                                      preset loss  runs  median     p99     \
                    max   pause missed findings";
const NOTES: &str = "
Times in seconds, p99 by nearest rank. They count from the fault unless its name says otherwise, until the first
instruction of the service on another board (on any board after a heal or a return), another board's reign, or
the chosen table that names another ready standby; where the name says pause, they are the service's pause.
pause: the longest time of any run in which the service ran nowhere or was frozen for its last state. missed:
runs in which it did not happen within 5 (T + t) + 10 s, or the service paused where it must not. findings: broken
rules, which must be none. Meshes without a ready standby and three voters in time are passed over, and so are those
in which active, standby and master are not three boards (of two boards: the active is the one that decides); runs
are fewer where of ten times as many meshes too few would do.
";
