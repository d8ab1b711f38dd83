//! `trial takeover` and `trial commit`: the board that runs the service dies.

use std::time::Duration;

use tokio::time::sleep;

use super::{Summary, WRITES_PER_SECOND_MIN, audit};
use crate::demo::caller::ledger::unix_us;
use crate::demo::deaths;
use crate::demo::play::Play;
use crate::demo::report::Takeover;
use crate::demo::service;
use crate::exit::Outcome;

/// A run of `commit` kills between these times after everything was well.
const INSTANTS: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(3)];
/// So many acknowledgements before a run are looked at, too: two seconds of writing.
const LOOKED_BACK: usize = 1000;
/// What was acknowledged within this time before the death tells the rate.
const RATE_OVER: Duration = Duration::from_millis(500);

/// How long until the standby answers.
pub(super) async fn takeover(play: &mut Play, runs: u32, summary: &mut Summary) -> Outcome {
    let mut all: Vec<Takeover> = Vec::new();
    eprintln!("run  board  master   asked    told    runs  answer   write   lost");
    for run in 1..=runs {
        // Not always at the same point between two heartbeats, two copies, two probes.
        sleep(play.dice.between(Duration::ZERO, Duration::from_secs(1))).await;
        let Some((taken, lost, board)) = die(play, run, summary).await? else { break };
        let ms = |ms: Option<u64>| ms.map_or_else(|| "-".to_owned(), |ms| ms.to_string());
        eprintln!(
            "{run:>3}  {:<6} {:<6} {:>7} {:>7} {:>7} {:>7} {:>7} {lost:>6}",
            play.stage.boards[board].name,
            if taken.with_master { "yes" } else { "no" },
            ms(taken.asked_ms),
            ms(taken.appointed_ms),
            ms(taken.runs_ms),
            taken.first_answer_ms,
            taken.first_write_ms,
        );
        all.push(taken);
        summary.runs = run;
        if !heal(play, board, run, summary).await? {
            break;
        }
    }
    let of = |master: bool, what: fn(&Takeover) -> Option<u64>| {
        all.iter().filter(|it| it.with_master == master).filter_map(what).collect::<Vec<u64>>()
    };
    summary.figure("asked_ms", of(false, |it| it.asked_ms));
    summary.figure("appointed_ms", of(false, |it| it.appointed_ms));
    summary.figure("runs_ms", of(false, |it| it.runs_ms));
    summary.figure("answer_ms", of(false, |it| Some(it.first_answer_ms)));
    summary.figure("write_ms", of(false, |it| Some(it.first_write_ms)));
    summary.figure("with_master_answer_ms", of(true, |it| Some(it.first_answer_ms)));
    summary.figure("with_master_write_ms", of(true, |it| Some(it.first_write_ms)));
    audit(play, summary).await
}

async fn die(
    play: &mut Play,
    run: u32,
    summary: &mut Summary,
) -> Outcome<Option<(Takeover, usize, usize)>> {
    let Some(seen) = service::seen(&play.stage).await else {
        summary.fails(format!("run {run}: nobody knows where the service is"));
        return Ok(None);
    };
    let from = play.caller.ledger().len().saturating_sub(LOOKED_BACK);
    let death = deaths::cut(play, seen.active).await?;
    let Some(taken) = deaths::taken_over(play, &death).await else {
        summary.fails(format!("run {run}: nobody took over in time"));
        return Ok(None);
    };
    let loss = deaths::loss(play, &death, from).await?;
    if !loss.held {
        summary.fails(format!("run {run}: {} acknowledged writes are lost", loss.lost));
    }
    Ok(Some((taken, loss.lost, death.board)))
}

/// What is lost when it dies at any instant.
pub(super) async fn commit(play: &mut Play, runs: u32, summary: &mut Summary) -> Outcome {
    let (mut lost, mut ages, mut bounds) = (Vec::new(), Vec::new(), Vec::new());
    let (mut rates, mut answers) = (Vec::new(), Vec::new());
    eprintln!("run  board  writes/s  answer   looked    lost  age ms  bound ms");
    for run in 1..=runs {
        let instant = play.dice.between(INSTANTS[0], INSTANTS[1]);
        // What was written before the last copy but one cannot be lost; with asynchronous copies that may
        // have been before this run.
        let from = play.caller.ledger().len().saturating_sub(LOOKED_BACK);
        sleep(instant).await;
        let Some(seen) = service::seen(&play.stage).await else { break };
        let before = unix_us() - u64::try_from(RATE_OVER.as_micros()).unwrap_or(0);
        let written = play.caller.figures(before).acknowledged;
        let rate = written * 1000 / u64::try_from(RATE_OVER.as_millis()).unwrap_or(1);
        let death = deaths::cut(play, seen.active).await?;
        let Some(taken) = deaths::taken_over(play, &death).await else {
            summary.fails(format!("run {run}: nobody took over in time"));
            break;
        };
        let loss = deaths::loss(play, &death, from).await?;
        if !loss.held {
            let deaths::Loss { lost, age_ms, bound_ms, .. } = &loss;
            summary.fails(format!("run {run}: {lost} lost, age {age_ms:?}, bound {bound_ms:?}"));
        }
        let ms = |ms: Option<u64>| ms.map_or_else(|| "-".to_owned(), |ms| ms.to_string());
        eprintln!(
            "{run:>3}  {:<6} {rate:>8} {:>7} {:>8} {:>7} {:>7} {:>9}",
            play.stage.boards[death.board].name,
            taken.first_answer_ms,
            loss.looked,
            loss.lost,
            ms(loss.age_ms),
            ms(loss.bound_ms),
        );
        rates.push(rate);
        answers.push(taken.first_answer_ms);
        lost.push(loss.lost as u64);
        ages.extend(loss.age_ms);
        bounds.extend(loss.bound_ms);
        summary.runs = run;
        if !heal(play, death.board, run, summary).await? {
            break;
        }
    }
    let slow = rates.iter().filter(|rate| **rate < WRITES_PER_SECOND_MIN).count();
    if slow * 2 > rates.len() {
        summary.fails(format!("{slow} runs had fewer than {WRITES_PER_SECOND_MIN} writes/s"));
    }
    summary.figure("writes_per_second", rates);
    summary.figure("answer_ms", answers);
    summary.figure("lost_per_death", lost);
    summary.figure("lost_age_ms", ages);
    summary.figure("last_copy_age_ms", bounds);
    audit(play, summary).await
}

/// Starts the dead board again and waits until all is well.
async fn heal(play: &mut Play, board: usize, run: u32, summary: &mut Summary) -> Outcome<bool> {
    let well = deaths::heal(play, board).await?;
    if !well {
        summary.fails(format!("run {run}: the mesh was not whole again in time"));
    }
    Ok(well)
}
