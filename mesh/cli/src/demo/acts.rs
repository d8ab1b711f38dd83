//! The acts about the service: it runs with a standby, outlives its agent, its board and the master,
//! and moves when it is told to.

use std::time::Duration;

use tokio::time::sleep;

use super::caller::ledger::unix_us;
use super::deaths::{self, Death};
use super::play::Play;
use super::report::{ms, seconds};
use super::service;
use super::stage::Since;
use crate::args::CommitArg;
use crate::exit::{Failure, Outcome};
use crate::schema::Status;

/// What is written before anything happens, to have something to copy: 1 MiB.
const LOAD_VALUES: u64 = 256;
/// For so long nothing is done, so that several copies are made of what was written.
const STEADY: Duration = Duration::from_secs(3);
/// Acknowledgements that are looked for at once after a death; in the end all are.
const LOOK_BACK: usize = 3000;

/// It runs on one board, a second one holds its state, and a caller writes to it by its name.
pub(super) async fn begin(play: &mut Play) -> Outcome<bool> {
    let from = unix_us();
    if !service::run(play).await? || !standby(play, "ready").await? {
        return Ok(false);
    }
    let bounds = play.stage.bounds;
    let loaded = play.caller.load(LOAD_VALUES, bounds.fill()).await;
    play.caller.start();
    let on = loaded && play.caller.goes_on(bounds.takeover()).await;
    let figures = play.caller.figures(from);
    play.timeline.called("run", on, figures, "a caller that knows its name writes to it")
}

/// The agent of its board is killed and started again; the service does not notice.
pub(super) async fn agent(play: &mut Play) -> Outcome<bool> {
    let seen = service::seen(&play.stage).await.ok_or_else(nowhere)?;
    let (active, bounds) = (seen.active, play.stage.bounds);
    let name = play.stage.boards[active].name.clone();
    let before = service::life(play).await;
    let status = play.stage.boards[active].status().await;
    let life_before = status.map(|status| status.incarnation);
    let (from, at) = (play.caller.ledger().len(), unix_us());
    let since = Since::now(bounds.work());
    play.killed.push(active);
    play.stage.boards[active].kill();
    play.timeline.now(&format!("the agent of {name} is killed (kill -9) and started again"))?;
    play.stage.boards[active].start()?;
    // Its new life must have taken the service over, under a lease that it got itself.
    let holds = move |status: &Status| {
        Some(status.incarnation) > life_before
            && status.workloads.iter().any(|it| it.lease_ms > Some(0))
    };
    let times = play.stage.watch_one(since, active, holds).await?;
    let in_time = times.last().is_some_and(|last| last < bounds.fence());
    let what = format!("{name} holds the lease of kv again");
    if !in_time {
        // A busy computer: the service was killed as it should be, and goes on somewhere.
        play.timeline.now("the agent took longer to start than the lease lasts")?;
    } else if !play.timeline.step("agent", Some(&name), &times, &what)? {
        return Ok(false);
    }
    let on = play.caller.goes_on(bounds.takeover()).await;
    let same = before.is_some() && before == service::life(play).await;
    let figures = play.caller.figures(at);
    if in_time {
        let what = "kv is the same process as before";
        play.timeline.fact("agent", Some(&name), same, what)?;
    }
    let audit = play.audit(from.saturating_sub(LOOK_BACK), |_| true).await?;
    let what = format!("{} acknowledged writes read back, {} lost", audit.all, audit.lost.len());
    // What comes next does not rest on these: it is played, and all stay in the report.
    play.timeline.fact("agent", None, audit.lost.is_empty(), &what)?;
    // A commit waits for the agent; the caller need not ask twice, and surely not for long.
    let short = figures.longest < bounds.request() * 2 || !in_time;
    play.timeline.called("agent", on && short, figures, "the caller meanwhile")?;
    Ok(on && standby(play, "agent").await?)
}

/// For a while nothing happens: so many writes are acknowledged when all is well.
pub(super) async fn steady(play: &mut Play) -> Outcome<bool> {
    let at = unix_us();
    sleep(STEADY).await;
    let figures = play.caller.figures(at);
    let rate = figures.acknowledged / STEADY.as_secs().max(1);
    play.timeline.figures().writes_per_second = Some(rate);
    let what = format!("{rate} writes a second when nothing happens");
    play.timeline.called("steady", figures.acknowledged > 0, figures, &what)
}

/// The whole board of the active dies: its standby takes over, and gets a new standby.
pub(super) async fn active_dies(play: &mut Play) -> Outcome<bool> {
    let active = service::seen(&play.stage).await.ok_or_else(nowhere)?.active;
    let from = play.caller.ledger().len();
    let death = cut(play, active, "which runs kv").await?;
    if !(detection(play, &death).await? && takeover(play, &death, "takeover").await?) {
        return Ok(false);
    }
    Ok(kept(play, &death, from, "takeover").await? && standby(play, "standby").await?)
}

/// Three living boards decide again: a spare one, or the dead one once it is back.
pub(super) async fn voters_again(play: &mut Play) -> Outcome<bool> {
    let dead: Vec<usize> =
        (0..play.stage.boards.len()).filter(|at| !play.stage.boards[*at].runs()).collect();
    let spare = play.stage.boards.len() - dead.len() >= service::VOTERS;
    for at in dead.iter().filter(|_| !spare) {
        let name = play.stage.boards[*at].name.clone();
        play.timeline.now(&format!("{name} is started again: no other board could decide"))?;
        play.stage.boards[*at].start()?;
    }
    let names: Vec<String> = dead.iter().map(|at| play.stage.boards[*at].name.clone()).collect();
    // Until a dead board is held for dead its place counts as taken: that is not yet the cure.
    let names = if spare { names } else { Vec::new() };
    let since = Since::now(play.stage.bounds.voters());
    let cured = |status: &Status| service::three_voters(status, &names);
    let times = play.stage.watch(since, None, cured).await?;
    play.timeline
        .step("voters", None, &times, "all know three living boards that decide")
        .map(|held| held && times.held())
}

/// The board of the master dies, with whatever runs on it: another one reigns, kv serves.
pub(super) async fn master_dies(play: &mut Play) -> Outcome<bool> {
    let Some(master) = service::reigning(&play.stage).await else {
        return play.timeline.fact("master", None, false, "a master reigns");
    };
    let from = play.caller.ledger().len();
    let id = play.stage.boards[master].id;
    let seen = service::seen(&play.stage).await.ok_or_else(nowhere)?;
    let what = match (seen.active == master, seen.standby == Some(master)) {
        (true, _) => "the master, which also runs kv",
        (_, true) => "the master, which also stands by for kv",
        _ => "the master",
    };
    let death = cut(play, master, what).await?;
    let name = play.stage.boards[master].name.clone();
    let another =
        move |status: &Status| status.master.as_ref().is_some_and(|master| Some(master.node) != id);
    let since = Since { start: death.at, patience: play.stage.bounds.election() };
    let times = play.stage.watch(since, Some(master), another).await?;
    let what = "every other board knows another master";
    if !play.timeline.step("master", Some(&name), &times, what)? {
        return Ok(false);
    }
    if death.ran && !takeover(play, &death, "master").await? {
        return Ok(false);
    }
    let bounds = play.stage.bounds;
    let on = play.caller.goes_on(bounds.takeover() + bounds.fill()).await;
    let figures = play.caller.figures(death.at_us);
    if !play.timeline.called("master", on, figures, "kv still serves")? {
        return Ok(false);
    }
    Ok(kept(play, &death, from, "master").await? && standby(play, "master").await?)
}

/// The operator moves the service: nothing is lost, and it is silent for a moment only.
pub(super) async fn planned_move(play: &mut Play) -> Outcome<bool> {
    let seen = service::seen(&play.stage).await.ok_or_else(nowhere)?;
    let (from, at) = (play.caller.ledger().len(), unix_us());
    play.timeline.now("the operator orders `failover kv`")?;
    let moved = service::order_move(&play.stage).await;
    let what = match &moved {
        Ok(moved) => format!("kv was moved to {}", moved.to.as_deref().unwrap_or("its standby")),
        Err(failure) => format!("kv was not moved: {}", failure.message),
    };
    if !play.timeline.fact("move", None, moved.is_ok(), &what)? {
        return Ok(false);
    }
    let first = play.caller.answered_after(seen.epoch, play.stage.bounds.handover()).await;
    let last = play.caller.ledger().last_of(seen.epoch);
    let gap = first.zip(last).map(|(first, last)| first.at_us.saturating_sub(last.at_us) / 1000);
    play.timeline.figures().move_ms = gap;
    let what = format!(
        "nobody was answered between the last write there and the first here for {} ms",
        gap.unwrap_or_default()
    );
    if !play.timeline.fact("move", None, gap.is_some(), &what)? {
        return Ok(false);
    }
    let audit = play.audit(from.saturating_sub(LOOK_BACK), |_| true).await?;
    let figures = play.caller.figures(at);
    let what = format!("{} of {} acknowledged writes lost", audit.lost.len(), audit.all);
    play.timeline.called("move", audit.lost.is_empty(), figures, &what)?;
    standby(play, "move").await
}

async fn cut(play: &mut Play, board: usize, what: &str) -> Outcome<Death> {
    let name = play.stage.boards[board].name.clone();
    let death = deaths::cut(play, board).await?;
    let processes = death.processes;
    let what = format!("the board of {name}, {what}, dies: kill -9 of its {processes} processes");
    play.timeline.now(&what)?;
    Ok(death)
}

async fn detection(play: &mut Play, death: &Death) -> Outcome<bool> {
    let board = &play.stage.boards[death.board];
    let (name, id) = (board.name.clone(), board.id);
    let since = Since { start: death.at, patience: play.stage.bounds.detection() };
    let down = move |status: &Status| {
        status.nodes.iter().any(|node| Some(node.node) == id && node.state == "down")
    };
    let times = play.stage.watch(since, Some(death.board), down).await?;
    play.timeline.figures().detection_ms = times.last().map(ms);
    let what = format!("the {} others hold {name} for dead", times.all.len());
    play.timeline.step("death", Some(&name), &times, &what)
}

async fn takeover(play: &mut Play, death: &Death, step: &'static str) -> Outcome<bool> {
    let taken = deaths::taken_over(play, death).await;
    let Some(taken) = taken else {
        let limit = seconds(play.stage.bounds.takeover());
        let what = format!("its standby has not answered within {limit}");
        return play.timeline.fact(step, None, false, &what);
    };
    let figures = play.timeline.figures();
    if figures.takeover.is_none() {
        figures.takeover = Some(taken);
    }
    let at = |ms: Option<u64>| ms.map_or_else(|| "?".to_owned(), |ms| format!("{ms} ms"));
    let what = format!(
        "the standby has taken over, epoch {} -> {}: after {} it asked, after {} it was told, after \
         {} kv ran, after {} ms it answered the caller, after {} ms it acknowledged a write",
        death.epoch,
        taken.epoch,
        at(taken.asked_ms),
        at(taken.appointed_ms),
        at(taken.runs_ms),
        taken.first_answer_ms,
        taken.first_write_ms
    );
    play.timeline.fact(step, None, true, &what)
}

async fn kept(play: &mut Play, death: &Death, from: usize, step: &'static str) -> Outcome<bool> {
    let loss = deaths::loss(play, death, from.saturating_sub(LOOK_BACK)).await?;
    let figures = play.timeline.figures();
    figures.lost_age_ms = figures.lost_age_ms.max(loss.age_ms);
    let age = loss.age_ms.map(|ms| format!(", the oldest {ms} ms before the death"));
    let bound = match (play.commit, loss.bound_ms) {
        (CommitArg::Async, Some(ms)) => format!(" (newest state held elsewhere: {ms} ms)"),
        _ => String::new(),
    };
    let what = format!(
        "{} of {} acknowledged writes lost{}{bound}",
        loss.lost,
        loss.looked,
        age.unwrap_or_default()
    );
    let figures = play.caller.figures(death.at_us);
    play.timeline.called(step, loss.held, figures, &what)
}

/// All know that it runs and that a living standby can carry on.
async fn standby(play: &mut Play, step: &'static str) -> Outcome<bool> {
    let since = Since::now(play.stage.bounds.fill());
    let times = play.stage.watch(since, None, service::protected).await?;
    let standby = service::seen(&play.stage).await.and_then(|seen| seen.standby);
    let name = standby.map(|at| play.stage.boards[at].name.clone());
    let what = format!("the standby, {}, is ready", name.as_deref().unwrap_or("none"));
    play.timeline.step(step, name.as_deref(), &times, &what)
}

fn nowhere() -> Failure {
    Failure::failed("no board knows where the service is")
}
