//! Every scenario file runs here, and every run is the same twice.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use hedgerow_netsim::expect::Expect;
use hedgerow_netsim::observe::{Observation, Watcher};
use hedgerow_netsim::plan::Plan;
use hedgerow_netsim::swarm::Schedule;
use hedgerow_netsim::time::SECOND;
use hedgerow_netsim::world::World;
use hedgerow_netsim::{campaign, scenario, swarm, told};

fn scenario_files() -> Vec<PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    files
}

/// What is wrong with a scenario file, or with the node; and the events that boards told in it.
fn failures_of(file: &Path) -> (Vec<String>, BTreeSet<&'static str>) {
    let plan = scenario::parse(file, &std::fs::read_to_string(file).unwrap())
        .unwrap_or_else(|error| panic!("{error}"));
    let outcome = campaign::run(&plan, None);
    let findings = outcome.findings.iter();
    let mut failures: Vec<String> =
        findings.map(|finding| format!("{}: {finding:?}", file.display())).collect();
    for (fault, injected, felt) in outcome.tally.lines() {
        if injected != felt {
            failures.push(format!("{}: {fault} was not felt by anybody", file.display()));
        }
    }
    (failures, outcome.deeds.events)
}

#[test]
fn every_scenario_holds_every_fault_in_it_is_felt_and_every_event_is_told() {
    let files = scenario_files();
    let next = AtomicUsize::new(0);
    let work = || {
        let (mut failures, mut told) = (Vec::new(), BTreeSet::new());
        while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (wrong, events) = failures_of(file);
            failures.extend(wrong);
            told.extend(events);
        }
        (failures, told)
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let all: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let failures: Vec<String> = all.iter().flat_map(|(failures, _)| failures.clone()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let told: BTreeSet<&str> = all.into_iter().flat_map(|(_, told)| told).collect();
    let untold: Vec<&&str> = told::EVENTS.iter().filter(|event| !told.contains(*event)).collect();
    assert!(untold.is_empty(), "{untold:?}");
}

#[test]
fn one_seed_gives_one_trace_and_another_seed_another() {
    let trace = |seed| campaign::run(&swarm::plan(seed, 5, Schedule::Swarm), None).trace;
    let traces = [1, 2, 3].map(trace);
    assert_eq!(traces, [1, 2, 3].map(trace));
    assert!(traces[0] != traces[1] && traces[1] != traces[2] && traces[0] != traces[2]);
}

struct Nobody;

impl Watcher for Nobody {
    fn see(&mut self, _: &Observation<'_>) {}
}

#[test]
fn boards_that_know_each_other_from_before_need_not_join() {
    let mut plan = Plan::calm(1, 32, 12 * SECOND);
    plan.acquainted = true;
    plan.expects = vec![(10 * SECOND, Expect::AllUp), (10 * SECOND, Expect::SameView)];
    let mut world = World::measured(plan, Box::new(Nobody));
    world.run_until(12 * SECOND);
    let outcome = world.finish();
    assert_eq!(outcome.findings, []);
    let each_second = outcome.bytes / (outcome.node_time / SECOND);
    assert!(
        each_second < 2000,
        "{each_second} bytes per board and second: they told each other all"
    );
}
