//! A service of one's own under 50 random schedules of faults.
//!
//! ```text
//! cargo run --release -p hedgerow-netsim --example hosted
//! ```
//!
//! A counter that answers only what its standby holds loses no answer, whatever happens to its boards. One that
//! answers first and commits then does, and the simulation finds the seeds in which somebody notices. Shrunk, one
//! of them is the least that it takes.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hedgerow::hosted::{Active, BoxFuture, Checkpoint, CommitError, Fault, Hosted, Restored};
use hedgerow_netsim::hosted::{HostError, Log, Note, Simulation};
use hedgerow_netsim::observe::Finding;
use hedgerow_netsim::plan::{Outcome, Plan};
use hedgerow_netsim::swarm::Schedule;
use hedgerow_netsim::{scenario, shrink};

/// What shrinking may take.
const BUDGET: Duration = Duration::from_secs(60);

/// What the counter says to the world outside: on a board to clients, here to a log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Says {
    /// It begins, with that many.
    Begins(u64),
    /// A client was told that its increment is number so many, and that it counts.
    Answers(u64),
}

/// Whom it says it to.
type Tell = Arc<dyn Fn(Says) + Send + Sync>;

/// The service: it counts, and tells each client its number.
struct Counter {
    value: AtomicU64,
    /// The mistake: it answers before it commits.
    hasty: bool,
    tell: Tell,
}

impl Counter {
    fn restored(from: &Restored, hasty: bool, tell: Tell) -> Result<Self, Fault> {
        Ok(Self { value: AtomicU64::new(from.value("value")?), hasty, tell })
    }
}

impl Hosted for Counter {
    fn checkpoint(&self, out: &mut Checkpoint) -> Result<(), Fault> {
        Ok(out.put_value("value", &self.value.load(Ordering::SeqCst))?)
    }

    fn restore(from: &Restored) -> Result<Self, Fault> {
        Self::restored(from, false, Arc::new(|_| {}))
    }

    fn run(self: Arc<Self>, ctx: Active) -> BoxFuture<'static, Result<(), Fault>> {
        Box::pin(async move {
            (self.tell)(Says::Begins(self.value.load(Ordering::SeqCst)));
            loop {
                tokio::select! {
                    biased;
                    () = ctx.fenced() => return Ok(()),
                    () = tokio::time::sleep(Duration::from_millis(50)) => {}
                }
                let value = self.value.fetch_add(1, Ordering::SeqCst) + 1;
                if self.hasty {
                    (self.tell)(Says::Answers(value));
                }
                match ctx.commit().await {
                    Ok(_) if self.hasty => {}
                    Ok(_) => (self.tell)(Says::Answers(value)),
                    // Counting goes on; nobody is told a number that might be forgotten.
                    Err(CommitError::Unprotected | CommitError::Unknown) => {}
                    Err(_) => return Ok(()),
                }
            }
        })
    }
}

/// What clients may rely on: whoever begins knows every number that was given out.
pub(crate) fn forgotten(notes: &[Note<Says>]) -> Option<Finding> {
    let mut answered = 0;
    for note in notes {
        match note.event {
            Says::Answers(value) => answered = answered.max(value),
            Says::Begins(value) if value < answered => {
                return Some(note.finding(&format!("{answered} was answered before")));
            }
            Says::Begins(_) => {}
        }
    }
    None
}

pub(crate) fn simulate(plan: &Plan, hasty: bool) -> Result<(Outcome, Vec<Note<Says>>), HostError> {
    let log = Log::default();
    let first = Counter { value: AtomicU64::new(0), hasty, tell: Arc::new(|_| {}) };
    let tells = log.clone();
    let restore = move |from: &Restored| {
        let log = tells.clone();
        Counter::restored(from, hasty, Arc::new(move |says| log.note(says)))
    };
    let simulation = Simulation::of(plan.clone()).host_with("s0", &first, restore)?;
    Ok((simulation.run(), log.take()))
}

/// Ten minutes of everything, but for an operator who throws states away.
pub(crate) fn chaos(seed: u64) -> Plan {
    Simulation::seed(seed, Schedule::Chaos).plan().clone()
}

/// Runs 50 seeds and says how it went. The seeds in which an answer was forgotten.
fn under_chaos(hasty: bool) -> Result<Vec<u64>, HostError> {
    let began = Instant::now();
    let (mut answers, mut begins, mut forgot) = (0, 0, Vec::new());
    for seed in 1..=50 {
        let (outcome, notes) = simulate(&chaos(seed), hasty)?;
        for finding in &outcome.findings {
            println!("  seed {seed}: {}: {}", finding.rule, finding.text);
        }
        begins += notes.iter().filter(|note| matches!(note.event, Says::Begins(_))).count();
        answers += notes.iter().filter(|note| matches!(note.event, Says::Answers(_))).count();
        if let Some(finding) = forgotten(&notes) {
            if forgot.is_empty() {
                println!("  seed {seed}: {}", finding.text);
            }
            forgot.push(seed);
        }
    }
    let took = began.elapsed().as_secs();
    println!("  50 seeds, {begins} beginnings, {answers} answers, {took} s");
    println!("  seeds in which an answer was forgotten: {}", forgot.len());
    Ok(forgot)
}

fn main() -> Result<ExitCode, HostError> {
    println!("commits, then answers:");
    let right = under_chaos(false)?;
    println!("answers, then commits:");
    let wrong = under_chaos(true)?;
    if let Some(seed) = wrong.first() {
        let fails = |plan: &Plan| match simulate(plan, true) {
            Ok((_, notes)) => forgotten(&notes).into_iter().collect(),
            // Nothing of it is left in this plan.
            Err(_) => Vec::new(),
        };
        if let Some(small) = shrink::shrink_by(&chaos(*seed), BUDGET, fails) {
            let (before, after) = (small.faults_before, small.plan.schedule.len());
            println!("seed {seed}, {before} faults shrunk to {after}:\n");
            println!("{}", scenario::text(&small.plan, &small.finding.text));
        }
    }
    Ok(ExitCode::from(u8::from(!right.is_empty() || wrong.is_empty())))
}
