//! The part of the script about a service: it is run by name, written to by name, outlives the agent
//! of its board, and goes on under another master.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use serde_json::Value;
use tokio::time::sleep;

use super::caller::{self, Caller, Figures};
use super::report::Timeline;
use super::shims;
use super::stage::{PATIENCE, Stage};
use crate::exit::{Failure, Outcome};
use crate::schema::{Done, Instance, Status};

/// What the service is called; nobody who calls it knows more.
const NAME: &str = "kv";
/// Boards that decide.
const VOTERS: usize = 3;

/// Plays it; the boards that were killed are added to `killed`.
///
/// # Errors
/// Something could not even be tried.
pub(super) async fn play(
    stage: &mut Stage,
    timeline: &mut Timeline,
    killed: &mut Vec<usize>,
) -> Outcome<bool> {
    if !voters(stage, timeline).await? {
        return Ok(false);
    }
    let Some(active) = run(stage, timeline).await? else { return Ok(false) };
    let homes: Vec<PathBuf> = stage.boards.iter().map(|board| board.home.clone()).collect();
    let caller = Caller::start(NAME, homes.clone());
    if !caller.goes_on(PATIENCE).await {
        return timeline.fact("run", None, false, "a caller that knows its name can write to it");
    }
    killed.push(active);
    if !agent(stage, timeline, &caller, active, &homes).await? {
        return Ok(false);
    }
    let Some(master) = reigning(stage).await else {
        return timeline.fact("master", None, false, "a master reigns");
    };
    killed.push(master);
    if !another_master(stage, timeline, &caller, master).await? {
        return Ok(false);
    }
    let (all, missing) = caller.read_back(PATIENCE).await?;
    let what = match missing {
        0 => format!("all {all} acknowledged writes are there"),
        some => format!("{some} of {all} acknowledged writes are lost"),
    };
    Ok(timeline.fact("kept", None, missing == 0, &what)? && remove(stage, timeline).await?)
}

/// Three boards decide, and everyone knows which.
async fn voters(stage: &mut Stage, timeline: &mut Timeline) -> Outcome<bool> {
    let times = stage.watch(Instant::now(), None, three_voters).await?;
    timeline.step("voters", None, &times, "all know the three boards that decide")
}

fn three_voters(status: &Status) -> bool {
    status.master.as_ref().is_some_and(|master| {
        master.voters.len() == VOTERS && usize::try_from(master.voters_up) == Ok(VOTERS)
    })
}

/// The service is run as an operator would; gives its board.
async fn run(stage: &mut Stage, timeline: &mut Timeline) -> Outcome<Option<usize>> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::failed(format!("this program's file is gone: {error}")))?;
    let file = stage.folder().join("kv.toml");
    let text = format!(
        "name = \"{NAME}\"\ncommand = [{:?}, \"kv\", \"--data\", \"state\", \"--port\", \
         \"${{PORT_HTTP}}\"]\nstate = \"state\"\nport = [{{ name = \"http\" }}]\n",
        program.display().to_string()
    );
    fs::write(&file, text)
        .map_err(|error| Failure::failed(format!("cannot write {}: {error}", file.display())))?;
    let start = Instant::now();
    let path = file.display().to_string();
    let _: Value = stage.boards[0].command(&["run", &path], "").await?;
    let runs = |status: &Status| {
        status.workloads.iter().any(|it| it.state == "running" && !it.endpoints.is_empty())
    };
    let times = stage.watch(start, None, runs).await?;
    let instances: Vec<Instance> = stage.boards[0].client().get("/v1/instances").await?;
    let active = instances.first().map(|instance| instance.active.clone()).unwrap_or_default();
    let at = stage.boards.iter().position(|board| board.name == active);
    let what = format!("`run kv.toml`: it runs on {active}, all know where");
    let held = timeline.step("run", Some(&active), &times, &what)?;
    Ok(at.filter(|_| held))
}

/// The agent of its board is killed and started again; the service does not notice.
async fn agent(
    stage: &mut Stage,
    timeline: &mut Timeline,
    caller: &Caller,
    active: usize,
    homes: &[PathBuf],
) -> Outcome<bool> {
    let name = stage.boards[active].name.clone();
    let before = life(homes).await;
    let life_before = stage.boards[active].status().await.map(|status| status.incarnation);
    caller.take();
    let start = Instant::now();
    stage.boards[active].kill();
    timeline.now(&format!("the agent of {name} is killed (kill -9) and started again"))?;
    stage.boards[active].start()?;
    // Its new life must have taken the service over, under a lease that it got itself.
    let holds = move |status: &Status| {
        Some(status.incarnation) > life_before
            && status.workloads.iter().any(|it| it.lease_ms > Some(0))
    };
    let times = stage.watch_one(start, active, holds).await?;
    let what = format!("{name} holds the lease of {NAME} again");
    if !timeline.step("agent", Some(&name), &times, &what)? {
        return Ok(false);
    }
    let on = caller.goes_on(PATIENCE).await;
    let figures = caller.take();
    let after = life(homes).await;
    let same = before.is_some() && before == after;
    let what = format!("{NAME} is the same process as before");
    // What comes next does not rest on these two: it is played, and both stay in the report.
    timeline.fact("agent", Some(&name), same, &what)?;
    let what = format!("a caller lost no request: {}", told(figures));
    timeline.fact("agent", Some(&name), on && figures.failed == 0, &what)?;
    Ok(on)
}

/// The master's agent is killed; another reigns, and three living boards decide.
async fn another_master(
    stage: &mut Stage,
    timeline: &mut Timeline,
    caller: &Caller,
    old: usize,
) -> Outcome<bool> {
    let name = stage.boards[old].name.clone();
    let id = stage.boards[old].id;
    caller.take();
    let start = Instant::now();
    stage.boards[old].kill();
    timeline.now(&format!("{name}, the master, is killed (kill -9)"))?;
    let another =
        move |status: &Status| status.master.as_ref().is_some_and(|master| Some(master.node) != id);
    let times = stage.watch(start, Some(old), another).await?;
    if !timeline.step("master", Some(&name), &times, "every other board knows another master")? {
        return Ok(false);
    }
    // With a board to spare it takes the dead one's place; otherwise that one must return.
    let spare = stage.boards.len() > VOTERS;
    if !spare {
        timeline.now(&format!("{name} is started again"))?;
        stage.boards[old].start()?;
    }
    // Until it is held for dead its place counts as taken by a living board: that is not yet the cure.
    let dead = if spare { name.clone() } else { String::new() };
    let cured = move |status: &Status| {
        let named = |master: &crate::schema::Master| master.voters.contains(&dead);
        three_voters(status) && !status.master.as_ref().is_some_and(named)
    };
    let times = stage.watch(start, Some(old).filter(|_| spare), cured).await?;
    if !timeline.step("master", Some(&name), &times, "three living boards decide again")? {
        return Ok(false);
    }
    let on = caller.goes_on(PATIENCE).await;
    let figures = caller.take();
    let what = format!("the caller can write: {}", told(figures));
    if !timeline.fact("master", None, on, &what)? {
        return Ok(false);
    }
    if spare {
        stage.boards[old].start()?;
    }
    let all = u32::try_from(stage.boards.len()).unwrap_or(u32::MAX);
    let times = stage.watch(Instant::now(), None, |status| status.up == all).await?;
    timeline.step("master", Some(&name), &times, &format!("{name} is back, all see all up"))
}

/// The service is stopped and removed; nothing of it is left.
async fn remove(stage: &mut Stage, timeline: &mut Timeline) -> Outcome<bool> {
    let start = Instant::now();
    let _: Done = stage.boards[0].command(&["stop", NAME], "").await?;
    let stopped = |status: &Status| status.workloads.iter().all(|it| it.state == "stopped");
    let times = stage.watch(start, None, stopped).await?;
    if !timeline.step("remove", None, &times, "`stop kv`: all know that it is stopped")? {
        return Ok(false);
    }
    let _: Done = stage.boards[0].command(&["rm", NAME], "").await?;
    let times = stage.watch(start, None, |status| status.workloads.is_empty()).await?;
    if !timeline.step("remove", None, &times, "`rm kv`: all have forgotten it")? {
        return Ok(false);
    }
    while !shims::living(stage.folder()).is_empty() && start.elapsed() < PATIENCE {
        sleep(stage.round()).await;
    }
    let gone = shims::living(stage.folder()).is_empty();
    timeline.fact("remove", None, gone, "no process of it is left")
}

/// The board on which the master reigns.
async fn reigning(stage: &Stage) -> Option<usize> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        for (at, board) in stage.boards.iter().enumerate() {
            let status = board.status().await;
            if status.and_then(|status| status.master).is_some_and(|master| master.reigns) {
                return Some(at);
            }
        }
        sleep(stage.round()).await;
    }
    None
}

/// Which process serves: its id and when it began.
async fn life(homes: &[PathBuf]) -> Option<(Value, Value)> {
    let body = caller::ask(NAME, homes, "/epoch").await?;
    let mut told: Value = serde_json::from_slice(&body).ok()?;
    Some((told["pid"].take(), told["started_ms"].take()))
}

fn told(figures: Figures) -> String {
    format!(
        "{} writes acknowledged, {} failed, longest pause {} ms",
        figures.acknowledged,
        figures.failed,
        figures.longest.as_millis()
    )
}
