//! `hedgerow trial`: one thing of the script, again and again, for the figures.
//!
//! The mesh and the service are made once; after each run what died is started again and the next run
//! begins when nothing is missing any more. Every choice is made from the printed seed. Each run is one
//! line on standard error as it ends, the summary is the answer.

mod deaths;
mod moves;
mod pauses;
mod restarts;

use std::time::Duration;

use serde::Serialize;

use super::caller::ledger::Ack;
use super::play::{Load, Play};
use super::{acts, script};
use crate::args::{MeshArgs, TrialKind};
use crate::exit::{Failure, Outcome};

/// Enough to have several writes on their way at any instant; some hundred a second.
const LOAD: Load = Load { connections: 16, every: Duration::from_millis(40) };
/// Below this a trial of what is lost says little.
const WRITES_PER_SECOND_MIN: u64 = 200;

/// What a trial came to.
#[derive(Clone, Default, Debug, Serialize)]
pub(crate) struct Summary {
    /// What was tried.
    pub(crate) trial: String,
    /// With which leases.
    pub(crate) preset: &'static str,
    /// When writes were acknowledged.
    pub(crate) commit: &'static str,
    /// How many boards.
    pub(crate) nodes: u16,
    /// What made the choices.
    pub(crate) seed: u64,
    /// How many runs there were.
    pub(crate) runs: u32,
    /// Everything held, in every run.
    pub(crate) held: bool,
    /// What did not hold.
    pub(crate) not_held: Vec<String>,
    /// The figures, by name.
    pub(crate) figures: Vec<Figure>,
}

/// One figure over all runs.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    /// What it is, its unit last.
    pub(crate) name: &'static str,
    /// How many values there are.
    pub(crate) count: usize,
    /// The middle one.
    pub(crate) median: u64,
    /// 95 of 100 are not larger.
    pub(crate) p95: u64,
    /// 99 of 100 are not larger.
    pub(crate) p99: u64,
    /// The largest.
    pub(crate) max: u64,
    /// All together.
    pub(crate) sum: u64,
}

impl Figure {
    /// Of these values.
    fn new(name: &'static str, mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        let at = |percent: usize| {
            let rank = (values.len() * percent).div_ceil(100).max(1);
            values.get(rank - 1).copied().unwrap_or(0)
        };
        let (median, p95, p99) = (at(50), at(95), at(99));
        let (max, sum) = (values.last().copied().unwrap_or(0), values.iter().sum());
        Self { name, count: values.len(), median, p95, p99, max, sum }
    }
}

impl Summary {
    /// Adds a figure, unless there is nothing to tell.
    fn figure(&mut self, name: &'static str, values: Vec<u64>) {
        if !values.is_empty() {
            self.figures.push(Figure::new(name, values));
        }
    }

    /// Notes what did not hold, and tells it at once.
    fn fails(&mut self, what: String) {
        eprintln!("NOT HELD: {what}");
        self.not_held.push(what);
    }

    /// With everything that is known from outside.
    pub(super) fn seal(
        mut self,
        seed: u64,
        kind: TrialKind,
        args: &MeshArgs,
        failed: Vec<String>,
    ) -> Self {
        self.trial = format!("{kind:?}").to_lowercase();
        self.preset = args.preset.preset().name;
        self.commit = args.commit.name();
        (self.nodes, self.seed) = (args.nodes, seed);
        self.not_held.extend(failed);
        self.held = self.not_held.is_empty() && self.runs > 0;
        self
    }
}

/// How the service is called.
pub(super) fn load(kind: TrialKind) -> Load {
    match kind {
        // One write at a time on few connections: what counts there is when something is answered.
        TrialKind::Takeover | TrialKind::Pause => {
            Load { connections: 4, every: Duration::from_millis(50) }
        }
        TrialKind::Commit | TrialKind::Move | TrialKind::Restarts => LOAD,
    }
}

/// Tries it.
///
/// # Errors
/// Something could not even be tried.
pub(super) async fn play(play: &mut Play, kind: TrialKind, runs: u32) -> Outcome<Summary> {
    let begun = script::gather(play).await?
        && acts::voters_again(play).await?
        && acts::begin(play).await?
        && super::deaths::healthy(play).await?;
    if !begun {
        return Err(Failure::failed("the mesh did not come to life; nothing was tried"));
    }
    let mut summary = Summary::default();
    match kind {
        TrialKind::Takeover => deaths::takeover(play, runs, &mut summary).await?,
        TrialKind::Commit => deaths::commit(play, runs, &mut summary).await?,
        TrialKind::Move => moves::moves(play, runs, &mut summary).await?,
        TrialKind::Pause => pauses::pauses(play, runs, &mut summary).await?,
        TrialKind::Restarts => restarts::restarts(play, runs, &mut summary).await?,
    }
    Ok(summary)
}

/// The summary as a table.
pub(super) fn for_people(summary: &Summary) -> String {
    let Summary { trial, preset, commit, nodes, seed, runs, .. } = summary;
    let mut text = format!(
        "trial {trial}: {runs} runs, {nodes} boards, preset {preset}, commit {commit}, seed {seed}\n\
         {:<28} {:>6} {:>8} {:>8} {:>8} {:>8}\n",
        "", "count", "median", "p95", "p99", "max"
    );
    for figure in &summary.figures {
        let Figure { name, count, median, p95, p99, max, .. } = figure;
        text.push_str(&format!("{name:<28} {count:>6} {median:>8} {p95:>8} {p99:>8} {max:>8}\n"));
    }
    for what in &summary.not_held {
        text.push_str(&crate::text::wrap(&format!("NOT HELD: {what}"), 2));
        text.push('\n');
    }
    text + if summary.held { "Everything held.\n" } else { "Not everything held.\n" }
}

/// The end of every trial that writes: everything that was acknowledged is read back.
async fn audit(play: &mut Play, summary: &mut Summary) -> Outcome {
    let patience = play.stage.bounds.voters();
    let audit = play.caller.finish(patience).await?;
    summary.figure("acknowledged_writes", vec![audit.all as u64]);
    summary.figure("lost_writes", vec![audit.lost.len() as u64]);
    let known = |ack: &&Ack| play.lost.contains(&(ack.connection, ack.count));
    let unknown = audit.lost.len() - audit.lost.iter().filter(known).count();
    if unknown > 0 {
        let all = audit.all;
        summary.fails(format!("{unknown} of {all} acknowledged writes are lost, and were there"));
    }
    let copies = super::deaths::copies(play);
    summary.figure("full_copy_bytes", vec![copies.full_bytes]);
    summary.figure("delta_bytes_median", vec![copies.delta_bytes_median]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let figure = Figure::new("x_ms", (1..=30).rev().collect());
        assert_eq!((figure.median, figure.p95, figure.p99, figure.max), (15, 29, 30, 30));
        assert_eq!(Figure::new("x_ms", vec![7]).p95, 7);
    }
}
