//! ```text
//! cargo run --release -p hedgerow-netsim --example model
//!
//! election: 3 masters, workers idle, terms <= 3, epochs <= 1, leases of 2 ticks, crashes 1 + 0, …
//!   910549 unique states, depth 36, 4.2 s, exhausted
//! leases: …     362792 unique states
//! answers: …    859760 unique states
//! restarts: …   773854 unique states
//! takeover: …  1228086 unique states
//! together: 4135041 states, …
//!   always     held   a voter votes once in a term
//!   always     held   at most one container runs      (and two more)
//!   sometimes  found  a takeover, under a higher epoch  (and eight more)
//! ```
//!
//! `--break NAME` leaves out one rule and prints the shortest way to the harm; `--break all` does that for
//! one rule after another and fails if that goes unnoticed. All runs together take about 31 s of processor
//! time, on two threads; depths differ a little from run to run.
//!
//! Election, leases and takeover as an abstract model, explored exhaustively by stateright: three boards that
//! vote and may be master, two workers of which one runs a service and the other stands by. The simulator
//! runs the real core on schedules drawn at random; this runs a sketch of it on all schedules within bounds.
//!
//! **Time** is a countdown of a few ticks. A holder's clock is as slow and a grantor's as fast as the core
//! allows (`promises.rs`): then a promise lasts exactly as long as the lease, in true time, counted from
//! receipt here and from sending there. With better clocks leases are shorter or promises longer, which
//! only forbids more. Between two ticks anything may happen in any order. Leases are two ticks long.
//!
//! **The network** is the past: what a board has said may arrive at any later moment, again and again, or
//! never. So it needs no messages, only what can still be said or heard: the newest table of each term, who
//! has voted for whom, which epochs were announced, a `Take` that stays under way for ever, the best answer
//! that has not arrived. A request that is late is only worth less to who sent it; of two answers only the
//! better one matters. Neither is kept.
//!
//! **Crashes** restart a board at once with what is durable. One that stays away does what a board does
//! whose messages are all lost. A worker loses its agent (the shim and the container go on until the lease
//! ends) or everything, and may forget the newest row that it knew, since nobody waits for that to be durable.
//!
//! **Five runs**, for one of all at once does not end within a minute: elections alone, with time between
//! receipt, disk and answer; with the same, one epoch and a crash of a worker, and an epoch change without;
//! an epoch change with a crash of a worker; two terms with an epoch change and no crash. In the last two an
//! answer comes in its tick or the request was lost, and a vote is durable in the moment of receipt. That
//! should hide no harm, since what lies in between binds a grantor and gives nobody anything. This is an
//! argument; the first three runs check part of it.
//!
//! | rule | core |
//! |---|---|
//! | `stand`, `win` | `authority/candidate.rs` |
//! | `vote`, `persist`, `beat`, `copy`, `crash_master` | `authority/voter.rs`, `authority.rs` |
//! | `take_answer`, `commit`, `resign` | `authority/reign.rs` |
//! | `propose`, `decides` | `authority/changes.rs` |
//! | `renew_pair`, `renew_master` | `failover/grantor.rs` |
//! | `take_grant` | `failover/renewal.rs` |
//! | `start`, `learn`, `crash_worker` | `failover/active.rs` |
//! | `ask` | `failover/standby.rs` |
//! | `take`, `again` | `failover/claims.rs` |
//!
//! **Laxer than the core**, so what holds here holds there: no PreVote, no bully's order, no silence of T + t,
//! no round-trip proof, no heartbeat interval; a master without a lease may linger; a new master forgets what it
//! granted in an earlier reign; a container that lost its right lives until its lease ends.
//!
//! **Not covered**: liveness; states of services (`ready`, lineage, commits: the service here has none);
//! replacing a standby (S3) or a voter (S1), growth, planned moves and `Release`, `rm`, `recover --force`;
//! boards that are master and worker at once, and more than one service; a master's crash together with a
//! takeover (its silence or its fall is covered), more than one crash in a run, more than two terms with workers
//! or than three without; presets that differ; disks that lie. The model follows the core by hand: a change there
//! that is not repeated here goes unnoticed. That is what the mutants of the simulator are for.

mod faults;
mod laws;
mod rules;
mod state;
mod tell;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use stateright::{Checker, Expectation, HasDiscoveries, Model};

use faults::Fault;
use laws::Mesh;
use rules::{Bounds, Rules};
use state::State;

/// The runs; each is exhaustive within its bounds.
const RUNS: [(&str, Bounds); 5] = [
    ("election", Bounds { workers: false, terms: 3, epochs: 1, master_crashes: 1, ..DELAYED }),
    ("leases", Bounds { epochs: 1, worker_crashes: 1, ..DELAYED }),
    ("answers", DELAYED),
    ("restarts", Bounds { worker_crashes: 1, ..PROMPT }),
    ("takeover", Bounds { terms: 2, ..PROMPT }),
];
const DELAYED: Bounds = Bounds { delays: true, ..PROMPT };
const PROMPT: Bounds = Bounds {
    workers: true,
    terms: 1,
    epochs: 2,
    lease: 2,
    master_crashes: 0,
    worker_crashes: 0,
    delays: false,
};

/// Checks election, leases and takeover exhaustively within small bounds.
#[derive(Parser)]
struct Arguments {
    /// Leaves out one rule, which must be noticed; `all`: one after another.
    #[arg(long = "break", value_name = "NAME")]
    fault: Option<String>,
}

/// What one run has shown.
struct Outcome {
    unique: usize,
    depth: usize,
    seconds: f64,
    /// The properties whose example or counterexample was found, and how one gets there.
    found: Vec<(&'static str, Vec<State>)>,
}

fn main() -> ExitCode {
    match Arguments::parse().fault.as_deref() {
        None => verify(),
        Some("all") => break_all(),
        Some(name) => match Fault::from_str(name, false) {
            Ok(fault) => break_one(fault),
            Err(_) => {
                let names = Fault::value_variants().iter().map(|fault| fault.name());
                eprintln!("no such fault; there are: all {}", names.collect::<Vec<_>>().join(" "));
                ExitCode::from(2)
            }
        },
    }
}

fn explore(mesh: Mesh) -> Outcome {
    let began = Instant::now();
    // A single thread finds the shortest path.
    let threads = if mesh.rules.fault.is_some() { 1 } else { 2 };
    let builder = mesh.checker().threads(threads).finish_when(HasDiscoveries::AnyFailures);
    let checker = builder.spawn_bfs().join();
    let found = checker.discoveries().into_iter();
    Outcome {
        unique: checker.unique_state_count(),
        depth: checker.max_depth(),
        seconds: began.elapsed().as_secs_f64(),
        found: found.map(|(name, path)| (name, path.into_states())).collect(),
    }
}

/// The properties of one kind.
fn names(expectation: &Expectation) -> BTreeSet<&'static str> {
    let mesh = Mesh { rules: Rules { bounds: PROMPT, fault: None } };
    let all = mesh.properties().into_iter();
    all.filter(|property| property.expectation == *expectation).map(|p| p.name).collect()
}

fn verify() -> ExitCode {
    let always = names(&Expectation::Always);
    let mut seen = BTreeSet::new();
    let (mut unique, mut seconds) = (0, 0.0);
    for (name, bounds) in RUNS {
        let mesh = Mesh { rules: Rules { bounds, fault: None } };
        let outcome = explore(mesh);
        let Outcome { unique: states, depth, seconds: took, found } = &outcome;
        println!("{name}: {}", describe(&bounds));
        let violated = found.iter().find(|(property, _)| always.contains(property));
        if let Some((property, path)) = violated {
            println!("  {states} unique states, depth {depth}, {took:.1} s, VIOLATED: {property}");
            print_path(&mesh, path);
            return ExitCode::FAILURE;
        }
        // Nothing else ends a run early.
        println!("  {states} unique states, depth {depth}, {took:.1} s, exhausted");
        seen.extend(outcome.found.iter().map(|(property, _)| *property));
        (unique, seconds) = (unique + outcome.unique, seconds + outcome.seconds);
    }
    println!("together: {unique} states, {seconds:.1} s");
    for property in always {
        println!("  always     held   {property}");
    }
    let wanted = names(&Expectation::Sometimes);
    for property in &wanted {
        let found = if seen.contains(property) { "found " } else { "NEVER " };
        println!("  sometimes  {found} {property}");
    }
    if wanted.is_subset(&seen) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn describe(bounds: &Bounds) -> String {
    let Bounds { workers, terms, epochs, lease, master_crashes, worker_crashes, delays } = bounds;
    let workers = if *workers { "2 workers" } else { "workers idle" };
    let delays = if *delays { "answers and disks take time" } else { "answers prompt or lost" };
    format!(
        "3 masters, {workers}, terms <= {terms}, epochs <= {epochs}, leases of {lease} ticks, \
         crashes {master_crashes} + {worker_crashes}, {delays}"
    )
}

/// Explores with one rule left out, in the run that shows it.
fn broken(fault: Fault) -> Option<(Mesh, Outcome, usize)> {
    let (_, bounds) = RUNS.into_iter().find(|(name, _)| *name == fault.run())?;
    let mesh = Mesh { rules: Rules { bounds, fault: Some(fault) } };
    let outcome = explore(mesh);
    let always = names(&Expectation::Always);
    let at = outcome.found.iter().position(|(property, _)| always.contains(property));
    at.map(|at| (mesh, outcome, at))
}

fn break_one(fault: Fault) -> ExitCode {
    let Some((mesh, outcome, at)) = broken(fault) else {
        println!("{}: NOT NOTICED", fault.name());
        return ExitCode::FAILURE;
    };
    let (property, states) = &outcome.found[at];
    println!("{} violates: {property}", fault.name());
    print_path(&mesh, states);
    println!("{} unique states, {:.1} s", outcome.unique, outcome.seconds);
    ExitCode::SUCCESS
}

fn break_all() -> ExitCode {
    let mut all_noticed = true;
    println!("{:<25} {:<36} {:>5} {:>9} {:>7}", "fault", "violates", "steps", "states", "seconds");
    for fault in Fault::value_variants() {
        let Some((_, outcome, at)) = broken(*fault) else {
            println!("{:<25} NOT NOTICED", fault.name());
            all_noticed = false;
            continue;
        };
        let (property, states) = &outcome.found[at];
        let (name, steps) = (fault.name(), states.len() - 1);
        println!(
            "{name:<25} {property:<36} {steps:>5} {:>9} {:>7.1}",
            outcome.unique, outcome.seconds
        );
    }
    if all_noticed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print_path(mesh: &Mesh, states: &[State]) {
    for (number, step) in (1..).zip(tell::steps(mesh, states)) {
        println!("{number:>4}  {step}");
    }
}
