//! The page on simulating one's own service is true: this is its code, and it is nothing else but that.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hedgerow::hosted::{Active, BoxFuture, Checkpoint, Fault, Hosted, Restored};

/// Clients: on a board somebody at a socket.
trait Front: Default + Send + Sync + 'static {
    /// Somebody wants a number.
    fn asked(&self) -> BoxFuture<'_, ()>;
    /// Here it is.
    fn answer(&self, number: u64);
}

struct Counter<F> {
    value: AtomicU64,
    front: F,
}

impl<F: Front> Counter<F> {
    fn restored(from: &Restored, front: F) -> Result<Self, Fault> {
        Ok(Self { value: AtomicU64::new(from.value("value")?), front })
    }
}

impl<F: Front> Hosted for Counter<F> {
    fn checkpoint(&self, out: &mut Checkpoint) -> Result<(), Fault> {
        Ok(out.put_value("value", &self.value.load(Ordering::SeqCst))?)
    }

    fn restore(from: &Restored) -> Result<Self, Fault> {
        Self::restored(from, F::default())
    }

    fn run(self: Arc<Self>, ctx: Active) -> BoxFuture<'static, Result<(), Fault>> {
        Box::pin(async move {
            loop {
                tokio::select! {
                    biased;
                    () = ctx.fenced() => return Ok(()),
                    () = self.front.asked() => {}
                }
                let number = self.value.fetch_add(1, Ordering::SeqCst) + 1;
                // Nobody is told a number that might be forgotten.
                if ctx.commit().await.is_ok() {
                    self.front.answer(number);
                }
            }
        })
    }
}

use std::time::Duration;

use hedgerow_netsim::hosted::{HostError, Log, Note, Simulation};
use hedgerow_netsim::observe::Finding;
use hedgerow_netsim::plan::{Outcome, Plan};
use hedgerow_netsim::swarm::Schedule;
use hedgerow_netsim::{scenario, shrink};

#[derive(Clone, PartialEq, Debug)]
enum Saw {
    Begin(u64),
    Answer(u64),
}

/// Twenty clients a second.
#[derive(Default)]
struct Clients(Log<Saw>);

impl Front for Clients {
    fn asked(&self) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(Duration::from_millis(50)))
    }

    fn answer(&self, number: u64) {
        self.0.note(Saw::Answer(number));
    }
}

fn simulate(of: Simulation, name: &str) -> Result<(Outcome, Vec<Note<Saw>>), HostError> {
    let log = Log::default();
    let of_clients = log.clone();
    let restore = move |from: &Restored| {
        let counter = Counter::restored(from, Clients(of_clients.clone()))?;
        of_clients.note(Saw::Begin(counter.value.load(Ordering::SeqCst)));
        Ok(counter)
    };
    let first = Counter { value: AtomicU64::new(0), front: Clients(log.clone()) };
    let outcome = of.host_with(name, &first, restore)?.run();
    Ok((outcome, log.take()))
}

const POWER_CUT: &str = r#"
about = "the board that counts loses power, and comes back later"
nodes = 5
horizon = "200s"
heal = "50s"

[[service]]
name = "counter"
at = "15s"

[[fault]]
when = "n3 begins counter"
plus = "10s"
for = "15s"
do = "power-cut"
node = 3
"#;

#[test]
fn the_board_loses_power() {
    let simulation = Simulation::scenario(POWER_CUT).unwrap();
    let (outcome, notes) = simulate(simulation, "counter").unwrap();
    for note in &notes {
        println!("{note}");
    }
    assert!(outcome.findings.is_empty(), "{:?}", outcome.findings);
    let boards: Vec<u16> = notes.iter().map(|note| note.board).collect();
    assert!(boards.iter().any(|board| *board != boards[0]), "nobody went on");
}

/// Whoever begins knows every number that was given out.
fn forgotten(notes: &[Note<Saw>]) -> Option<Finding> {
    let mut given = 0;
    for note in notes {
        match note.event {
            Saw::Answer(number) => given = given.max(number),
            Saw::Begin(number) if number < given => {
                return Some(note.finding(&format!("{given} was given out before")));
            }
            Saw::Begin(_) => {}
        }
    }
    None
}

#[test]
fn no_number_is_forgotten_whatever_happens() {
    for seed in 1..=3 {
        let simulation = Simulation::seed(seed, Schedule::Chaos);
        let (outcome, notes) = simulate(simulation, "s0").unwrap();
        assert!(outcome.findings.is_empty(), "seed {seed}: {:?}", outcome.findings);
        assert_eq!(forgotten(&notes), None, "seed {seed}");
    }
}

fn smallest(plan: &Plan) -> Option<String> {
    let fails = |plan: &Plan| match simulate(Simulation::of(plan.clone()), "s0") {
        Ok((_, notes)) => forgotten(&notes).into_iter().collect(),
        // It was left out of this plan.
        Err(_) => Vec::new(),
    };
    let small = shrink::shrink_by(plan, Duration::from_secs(60), fails)?;
    Some(scenario::text(&small.plan, "a number is forgotten"))
}

const PAGE: &str = include_str!("../HOSTED.md");

#[test]
fn the_page_says_what_is_run_here() {
    let blocks: Vec<&str> = PAGE.split("```rust\n").skip(1).collect();
    assert_eq!(blocks.len(), 8);
    for block in blocks {
        let block = block.split("```").next().unwrap();
        assert!(include_str!("hosted_page.rs").contains(block), "not here:\n{block}");
    }
}

#[test]
fn a_number_that_is_given_too_early_is_found_and_the_plan_made_small() {
    let note = |event| Note { at: 1, board: 0, epoch: 1, event };
    assert!(forgotten(&[note(Saw::Answer(2)), note(Saw::Begin(1))]).is_some());
    // The service of the page is right, so there is nothing to make smaller.
    let plan = Simulation::scenario(POWER_CUT).unwrap().plan().clone();
    assert_eq!(smallest(&plan), None);
}
