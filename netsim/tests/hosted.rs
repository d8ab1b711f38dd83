//! Services of one's own in the simulated world: what happens to boards happens to them.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hedgerow::hosted::{Active, BoxFuture, Checkpoint, Fault, Hosted, Restored};
use hedgerow_netsim::hosted::{Log, Note, Simulation};
use hedgerow_netsim::plan::Outcome;
use hedgerow_netsim::time::{MILLI, Nanos, SECOND};

#[path = "../examples/hosted.rs"]
#[allow(dead_code, reason = "its main is not run here")]
mod example;

#[test]
fn a_counter_that_commits_before_it_answers_forgets_nothing() {
    for seed in 1..=2 {
        let (outcome, notes) = example::simulate(&example::chaos(seed), false).unwrap();
        assert_eq!(outcome.findings, [], "seed {seed}");
        assert!(notes.len() > 100, "seed {seed}: {} notes", notes.len());
        assert_eq!(example::forgotten(&notes), None, "seed {seed}");
    }
}

#[test]
fn one_that_answers_before_it_commits_is_caught() {
    let caught = |seed| {
        let (outcome, notes) = example::simulate(&example::chaos(seed), true).unwrap();
        assert_eq!(outcome.findings, [], "the world itself is in order");
        example::forgotten(&notes).is_some()
    };
    assert!((1..=4).any(caught));
}

/// What a [`Ticker`] does beside ticking.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Habit {
    Obeys,
    IgnoresTheFence,
    SpawnsATask,
    Blocks,
    ReadsAGlobal,
    Polls,
    Commits,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Says {
    Begins(u64),
    Ticks(u64),
    Spawned,
    IsFenced,
    Answered(String),
    Gone,
}

/// Ticks every ten milliseconds.
struct Ticker {
    value: AtomicU64,
    habit: Habit,
    log: Log<Says>,
}

struct Gone(Log<Says>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.note(Says::Gone);
    }
}

static GLOBAL: AtomicU64 = AtomicU64::new(0);

impl Ticker {
    async fn tick(&self, ctx: &Active) {
        let value = self.value.fetch_add(1, Ordering::SeqCst) + 1;
        self.log.note(Says::Ticks(value));
        match self.habit {
            Habit::Blocks => tokio::task::spawn_blocking(|| ()).await.unwrap(),
            Habit::ReadsAGlobal => {
                self.log.note(Says::Ticks(GLOBAL.fetch_add(1, Ordering::SeqCst)));
            }
            Habit::Polls => loop {
                tokio::task::yield_now().await;
            },
            Habit::Commits => {
                let answer = format!("{:?}", ctx.commit().await);
                self.log.note(Says::Answered(answer));
            }
            _ => {}
        }
    }
}

impl Hosted for Ticker {
    fn checkpoint(&self, out: &mut Checkpoint) -> Result<(), Fault> {
        Ok(out.put_value("value", &self.value.load(Ordering::SeqCst))?)
    }

    fn restore(_: &Restored) -> Result<Self, Fault> {
        Err("a test brings its own".into())
    }

    fn run(self: Arc<Self>, ctx: Active) -> BoxFuture<'static, Result<(), Fault>> {
        Box::pin(async move {
            let _gone = Gone(self.log.clone());
            self.log.note(Says::Begins(self.value.load(Ordering::SeqCst)));
            if self.habit == Habit::SpawnsATask {
                let log = self.log.clone();
                tokio::spawn(async move {
                    loop {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                        log.note(Says::Spawned);
                    }
                });
            }
            loop {
                tokio::select! {
                    biased;
                    () = ctx.fenced(), if self.habit != Habit::IgnoresTheFence => {
                        assert!(ctx.lease().left.is_zero());
                        self.log.note(Says::IsFenced);
                        return Ok(());
                    }
                    () = tokio::time::sleep(Duration::from_millis(10)) => {}
                }
                assert!(self.habit == Habit::IgnoresTheFence || !ctx.lease().left.is_zero());
                self.tick(&ctx).await;
            }
        })
    }
}

fn simulation(habit: Habit, boards: u16, faults: &str) -> (Simulation, Log<Says>) {
    let text = format!(
        "about = \"x\"\nnodes = {boards}\nhorizon = \"60s\"\n\n[[service]]\nname = \"ticker\"\nat = \"15s\"\n\n{faults}"
    );
    let log = Log::default();
    let first = Ticker { value: AtomicU64::new(7), habit, log: log.clone() };
    let own = log.clone();
    let restore = move |from: &Restored| -> Result<Ticker, Fault> {
        Ok(Ticker { value: AtomicU64::new(from.value("value")?), habit, log: own.clone() })
    };
    let simulation = Simulation::scenario(&text).unwrap();
    (simulation.host_with("ticker", &first, restore).unwrap(), log)
}

fn run(habit: Habit, faults: &str) -> (Outcome, Vec<Note<Says>>) {
    let (simulation, log) = simulation(habit, 5, faults);
    let outcome = simulation.run();
    assert_eq!(outcome.findings, []);
    (outcome, log.take())
}

/// Who runs it if nothing happens.
fn active() -> u16 {
    let (_, notes) = run(Habit::Obeys, "");
    assert!(matches!(notes[0].event, Says::Begins(7)), "{}", notes[0]);
    assert!(notes.iter().all(|note| note.board == notes[0].board));
    notes[0].board
}

fn fault(what: &str, lasts: &str) -> String {
    let node = active();
    format!("[[fault]]\nat = \"30s\"\ndo = \"{what}\"\nnode = {node}\n{lasts}\n")
}

fn cut_off() -> String {
    let node = active();
    format!("[[fault]]\nat = \"30s\"\ndo = \"partition\"\ngroups = [[{node}]]\n")
}

fn first(notes: &[Note<Says>], event: &Says) -> usize {
    notes.iter().position(|note| note.event == *event).unwrap()
}

/// After that time: who began next, and with what.
fn next_begins(notes: &[Note<Says>], after: Nanos) -> (&Note<Says>, u64) {
    let later = notes.iter().filter(|note| note.at > after);
    let begins = later.filter_map(|note| match note.event {
        Says::Begins(value) => Some((note, value)),
        _ => None,
    });
    begins.into_iter().next().unwrap()
}

fn last_tick(notes: &[Note<Says>]) -> u64 {
    let tick = |note: &Note<Says>| match note.event {
        Says::Ticks(value) => Some(value),
        _ => None,
    };
    notes.iter().rev().find_map(tick).unwrap()
}

#[test]
fn without_power_it_is_gone_at_once_and_the_standby_goes_on_from_a_checkpoint() {
    for habit in [Habit::Obeys, Habit::SpawnsATask] {
        let (_, notes) = run(habit, &fault("power-cut", ""));
        let gone = first(&notes, &Says::Gone);
        assert_eq!(notes[gone].at, 30 * SECOND);
        let (begins, value) = next_begins(&notes, 30 * SECOND);
        assert_eq!(gone + 1, first(&notes, &begins.event), "nothing of it is left");
        assert!(begins.board != notes[0].board && begins.epoch > notes[0].epoch, "{begins}");
        // It is checkpointed once a second, and ticks a hundred times.
        let last = last_tick(&notes[..gone]);
        assert!(value <= last && last < value + 150, "{last}, then {value}");
    }
}

#[test]
fn a_crash_of_the_agent_ends_it_and_it_begins_again_there() {
    let (_, notes) = run(Habit::SpawnsATask, &fault("crash", "for = \"1s\""));
    let gone = first(&notes, &Says::Gone);
    assert_eq!(notes[gone].at, 30 * SECOND);
    let (begins, value) = next_begins(&notes, 30 * SECOND);
    assert_eq!((begins.board, begins.epoch), (notes[0].board, notes[0].epoch));
    assert!(value <= last_tick(&notes[..gone]) && value > 1000, "{value}");
    assert!(!notes[gone..].iter().any(|note| note.at < begins.at && note.event == Says::Spawned));
}

#[test]
fn a_planned_move_loses_nothing() {
    let faults = "[[fault]]\nat = \"30s\"\ndo = \"move\"\nservice = \"ticker\"\n";
    let (_, notes) = run(Habit::Obeys, faults);
    // It stood still from its last capture on, so it is not told to end any more.
    let gone = first(&notes, &Says::Gone);
    let (begins, value) = next_begins(&notes, notes[gone].at);
    assert!(begins.board != notes[0].board, "{begins}");
    assert_eq!(value, last_tick(&notes[..gone]));
}

#[test]
fn a_service_that_is_stopped_is_told_and_keeps_its_last_state() {
    let order =
        |at, what| format!("[[fault]]\nat = \"{at}\"\ndo = \"{what}\"\nservice = \"ticker\"\n\n");
    let faults = order("30s", "stop") + &order("40s", "run");
    let (_, notes) = run(Habit::Obeys, &faults);
    let fenced = first(&notes, &Says::IsFenced);
    assert_eq!(notes[fenced + 1].event, Says::Gone);
    let (begins, value) = next_begins(&notes, notes[fenced].at);
    assert!(begins.at > 40 * SECOND, "{begins}");
    assert_eq!(value, last_tick(&notes[..fenced]));

    // What does not end is dropped after five seconds or as its lease ends, and goes on from its last
    // checkpoint.
    let (_, notes) = run(Habit::IgnoresTheFence, &faults);
    let gone = first(&notes, &Says::Gone);
    let waited = notes[gone].at - notes[fenced].at;
    assert!(waited > 3 * SECOND && waited <= 5 * SECOND + MILLI, "{waited}");
    let (_, value) = next_begins(&notes, notes[gone].at);
    assert!(value < last_tick(&notes[..gone]), "{value}");
}

#[test]
fn its_lease_ends_where_nobody_prolongs_it_and_what_ignores_that_is_dropped() {
    let faults = cut_off();
    let (_, notes) = run(Habit::Obeys, &faults);
    let obeyed = notes[first(&notes, &Says::IsFenced)].at;
    let (_, notes) = run(Habit::IgnoresTheFence, &faults);
    let gone = notes[first(&notes, &Says::Gone)].at;
    assert!(obeyed > 33 * SECOND && obeyed < 35 * SECOND, "{obeyed}");
    // Half the kill bound, give or take a clock that errs by 1 %, and whole milliseconds.
    let between = gone - obeyed;
    assert!(between.abs_diff(250 * MILLI) < 5 * MILLI, "{between}");
    let (begins, _) = next_begins(&notes, 30 * SECOND);
    assert!(begins.at > gone, "{begins}");
}

#[test]
fn what_it_hands_to_other_tasks_outlives_its_right() {
    let (_, notes) = run(Habit::SpawnsATask, &cut_off());
    let gone = notes[first(&notes, &Says::Gone)].clone();
    let (begins, _) = next_begins(&notes, gone.at);
    let late = |note: &&Note<Says>| note.board == gone.board && note.at > begins.at;
    let late = notes.iter().filter(late).filter(|note| note.event == Says::Spawned).count();
    assert!(late > 1000, "{late}");
}

#[test]
fn a_paused_process_does_nothing_and_time_goes_on_for_it() {
    let (_, notes) = run(Habit::Obeys, &fault("pause", "for = \"2s\""));
    let during = |note: &&Note<Says>| note.at > 30 * SECOND && note.at < 32 * SECOND;
    assert_eq!(notes.iter().filter(during).count(), 0);
    let before = notes.iter().filter(|note| note.at <= 30 * SECOND).count();
    let after = &notes[before];
    assert!(after.at < 32 * SECOND + 20 * MILLI, "{after}");
    assert_eq!(after.event, Says::Ticks(last_tick(&notes[..before]) + 1), "one tick was missed");
}

#[test]
fn a_commit_with_no_standby_fails_after_five_seconds_of_virtual_time() {
    let (simulation, log) = simulation(Habit::Commits, 1, "");
    assert_eq!(simulation.run().findings, []);
    let notes = log.take();
    let refused = Says::Answered("Err(Unprotected)".to_owned());
    let answer = first(&notes, &refused);
    let waited = notes[answer].at - notes[answer - 1].at;
    assert!(waited.abs_diff(5 * SECOND) < 100 * MILLI, "{waited}");

    assert_eq!(simulation.clone().commit_at_once().run().findings, []);
    let notes = log.take();
    assert!(!notes.iter().any(|note| note.event == refused));
    assert!(notes.len() > 1000, "{}", notes.len());
}

#[test]
fn a_commit_returns_when_the_standby_has_it() {
    let (_, notes) = run(Habit::Commits, "");
    let answers = |note: &&Note<Says>| matches!(note.event, Says::Answered(_));
    let good =
        |note: &&Note<Says>| matches!(&note.event, Says::Answered(text) if text.starts_with("Ok"));
    let (all, good) = (notes.iter().filter(answers).count(), notes.iter().filter(good).count());
    assert!(good > 20 && good + 2 >= all, "{good} of {all}");
}

#[test]
fn the_same_plan_does_the_same_twice_and_a_service_that_does_not_is_found() {
    for habit in [Habit::Obeys, Habit::Blocks, Habit::SpawnsATask, Habit::Commits] {
        let (simulation, log) = simulation(habit, 5, &fault("power-cut", ""));
        assert_eq!(simulation.run_twice().findings, []);
        let notes = log.take();
        assert_eq!(simulation.run().findings, []);
        assert_eq!(log.take(), notes, "and twice means that it is noted once");
    }
    let (simulation, _) = simulation(Habit::ReadsAGlobal, 5, "");
    let findings = simulation.run_twice().findings;
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].rule, "deterministic");
}

#[test]
fn one_that_polls_instead_of_waiting_fails_and_does_not_hang() {
    let (_, notes) = run(Habit::Polls, "");
    let begins = notes.iter().filter(|note| matches!(note.event, Says::Begins(_))).count();
    assert!(begins > 1, "it was started again");
}

#[test]
fn a_name_that_the_plan_does_not_know_is_refused_with_those_that_it_knows() {
    let (simulation, log) = simulation(Habit::Obeys, 5, "");
    let first = Ticker { value: AtomicU64::new(0), habit: Habit::Obeys, log };
    let error = simulation.host("s7", &first).err().unwrap().to_string();
    assert!(error.contains("`s7`") && error.contains("ticker"), "{error}");
}
