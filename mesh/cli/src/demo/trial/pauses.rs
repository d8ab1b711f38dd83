//! `trial pause`: processes of the board that runs the service are stopped and go on, as a virtual
//! machine or a board on a bad disk does. Two services must never answer.
//!
//! In odd runs only the agent is paused, for three leases: the shim kills the service at the end of its
//! lease. In even runs agent, shim and service are: nothing of it can run meanwhile, and when it goes on
//! the old service must die before it acknowledges anything.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use rustix::process::{Pid, Signal};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::{Summary, audit};
use crate::demo::caller::call::{Connection, Guide};
use crate::demo::caller::ledger::unix_us;
use crate::demo::deaths;
use crate::demo::play::Play;
use crate::demo::processes;
use crate::demo::service;
use crate::exit::Outcome;

/// Between two questions at one address.
const ASK_EVERY: Duration = Duration::from_millis(10);
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Asks every address that was ever told, all the time.
#[derive(Debug)]
struct Poll {
    answers: Arc<Mutex<Vec<Answered>>>,
    // Dropping it ends them.
    _tasks: JoinSet<()>,
}

/// One good answer.
#[derive(Clone, Copy, Debug)]
struct Answered {
    epoch: u64,
    asked_us: u64,
    answered_us: u64,
}

/// Pauses and looks.
pub(super) async fn pauses(play: &mut Play, runs: u32, summary: &mut Summary) -> Outcome {
    let poll = Poll::start(play.caller.guide().clone(), play.stage.bounds.0.lease);
    let (mut deaths_ms, mut answers) = (Vec::new(), Vec::new());
    eprintln!("run  board  paused      epochs   answer ms  old dead after ms");
    for run in 1..=runs {
        sleep(play.dice.between(Duration::from_millis(200), Duration::from_secs(1))).await;
        let Some(seen) = service::seen(&play.stage).await else { break };
        let all = run % 2 == 0;
        let board = &play.stage.boards[seen.active];
        let name = board.name.clone();
        let agent: Vec<Pid> = board.agent().into_iter().collect();
        let below = processes::with_services(&board.home);
        let paused = if all { [agent.clone(), below.clone()].concat() } else { agent };
        play.killed.push(seen.active);
        let (from_us, lease) = (unix_us(), play.stage.bounds.0.lease);
        processes::signal(&paused, Signal::STOP);
        sleep(lease * 3).await;
        let goes_on_us = unix_us();
        processes::signal(&paused, Signal::CONT);
        let dead = until_dead(&below, play.stage.bounds.takeover()).await;
        let patience = play.stage.bounds.takeover();
        let answered = play.caller.read_after(seen.epoch, patience).await;
        let (Some(dead), Some(answered)) = (dead, answered) else {
            summary.fails(format!("run {run}: the old service lives, or no new one answers"));
            break;
        };
        let answer_ms = answered.saturating_sub(from_us) / 1000;
        let now = service::seen(&play.stage).await.map_or(0, |seen| seen.epoch);
        eprintln!(
            "{run:>3}  {name:<6} {:<10} {:>3} ->{now:>3} {answer_ms:>10} {:>18.1}",
            if all { "everything" } else { "the agent" },
            seen.epoch,
            dead.as_secs_f64() * 1000.0
        );
        if all {
            deaths_ms.push(u64::try_from(dead.as_millis()).unwrap_or(u64::MAX));
            late_answers(&poll, play, (seen.epoch, goes_on_us), run, summary);
        }
        answers.push(answer_ms);
        summary.runs = run;
        if !deaths::healthy(play).await? {
            summary.fails(format!("run {run}: the mesh was not whole again in time"));
            break;
        }
    }
    let overlaps = poll.overlaps();
    if overlaps > 0 {
        summary.fails(format!("{overlaps} answers of an old service after one of a newer"));
    }
    summary.figure("answer_ms", answers);
    summary.figure("old_dead_after_ms", deaths_ms);
    summary.figure("good_answers", vec![poll.all().len() as u64]);
    summary.figure("answers_of_two", vec![overlaps]);
    audit(play, summary).await
}

/// Nothing of the old service may be answered or acknowledged once it goes on.
fn late_answers(
    poll: &Poll,
    play: &Play,
    (epoch, goes_on_us): (u64, u64),
    run: u32,
    summary: &mut Summary,
) {
    let late = |it: &&Answered| it.epoch == epoch && it.answered_us >= goes_on_us;
    let answers = poll.all().iter().filter(late).count();
    let acks = play.caller.ledger().since(0);
    let acks = acks.iter().filter(|ack| ack.epoch == epoch && ack.at_us >= goes_on_us).count();
    if answers + acks > 0 {
        summary.fails(format!(
            "run {run}: after its pause the old service gave {answers} answers and acknowledged \
             {acks} writes"
        ));
    }
}

async fn until_dead(processes: &[Pid], patience: Duration) -> Option<Duration> {
    let begun = Instant::now();
    while processes.iter().any(|process| processes::lives(*process)) {
        if begun.elapsed() > patience {
            return None;
        }
        sleep(LOOK_AGAIN).await;
    }
    Some(begun.elapsed())
}

impl Poll {
    fn start(guide: Arc<Guide>, patience: Duration) -> Self {
        let answers = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        tasks.spawn(ask_all(guide, patience, answers.clone()));
        Self { answers, _tasks: tasks }
    }

    fn all(&self) -> Vec<Answered> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers of a service to questions that were asked after a newer one had answered.
    fn overlaps(&self) -> u64 {
        let all = self.all();
        let mut first: BTreeMap<u64, u64> = BTreeMap::new();
        for it in &all {
            let at = first.entry(it.epoch).or_insert(it.answered_us);
            *at = (*at).min(it.answered_us);
        }
        let newer = |it: &&Answered| {
            first.range(it.epoch + 1..).any(|(_, answered_us)| it.asked_us > *answered_us)
        };
        all.iter().filter(newer).count() as u64
    }
}

/// One task for each address; a new address is asked as soon as somebody told it.
async fn ask_all(guide: Arc<Guide>, patience: Duration, answers: Arc<Mutex<Vec<Answered>>>) {
    let mut known = Vec::new();
    let mut tasks = JoinSet::new();
    loop {
        for address in guide.learnt() {
            if !known.contains(&address) {
                known.push(address.clone());
                tasks.spawn(ask(address, patience, answers.clone()));
            }
        }
        sleep(ASK_EVERY).await;
    }
}

async fn ask(address: String, patience: Duration, answers: Arc<Mutex<Vec<Answered>>>) {
    let mut connection = None;
    loop {
        sleep(ASK_EVERY).await;
        if connection.is_none() {
            connection = Connection::open(address.clone()).await;
        }
        let Some(open) = &mut connection else { continue };
        let asked_us = unix_us();
        match open.call(Method::GET, "/healthz", Bytes::new(), patience).await {
            Some(answer) if answer.status == StatusCode::OK => {
                let (epoch, answered_us) = (answer.epoch, unix_us());
                let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
                answers.push(Answered { epoch, asked_us, answered_us });
            }
            _ => connection = None,
        }
    }
}
