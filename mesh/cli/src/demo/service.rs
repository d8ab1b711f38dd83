//! The service of the script: how an operator runs it, moves it and ends it, and what boards say of it.

use std::fs;
use std::time::Instant;

use serde_json::Value;
use tokio::time::sleep;

use super::play::Play;
use super::processes;
use super::stage::{Since, Stage};
use crate::exit::{Failure, Outcome};
use crate::schema::{Done, Instance, Master, Moved, Status};

/// What the service is called; nobody who calls it knows more.
pub(super) const NAME: &str = "kv";
/// Boards that decide.
pub(super) const VOTERS: usize = 3;
/// What makes a folder an operator's.
const OPERATOR: [&str; 2] = ["operator.key", "operator.credential"];

/// Where the service is, by the board that knows the latest right.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// The board that runs it.
    pub(super) active: usize,
    /// The board that carries on.
    pub(super) standby: Option<usize>,
    /// The right that it runs under.
    pub(super) epoch: u64,
}

/// Copies the operator's key to every board: orders must be possible whichever of them dies.
///
/// # Errors
/// A file cannot be copied.
pub(super) fn share_operator(stage: &Stage) -> Outcome {
    for board in &stage.boards[1..] {
        for file in OPERATOR {
            let copied = fs::copy(stage.boards[0].home.join(file), board.home.join(file));
            copied.map_err(|error| board.broken(&format!("cannot copy {file}: {error}")))?;
        }
    }
    Ok(())
}

/// Three boards decide, all of them believed to be alive and none of them in `dead`.
pub(super) fn three_voters(status: &Status, dead: &[String]) -> bool {
    let alive = |master: &Master| {
        master.voters.len() == VOTERS
            && usize::try_from(master.voters_up) == Ok(VOTERS)
            && !dead.iter().any(|name| master.voters.contains(name))
    };
    status.master.as_ref().is_some_and(alive)
}

/// It runs, and a living standby can carry on.
pub(super) fn protected(status: &Status) -> bool {
    let up = |name: &String| status.nodes.iter().any(|it| it.name == *name && it.state == "up");
    status.workloads.iter().any(|it| {
        it.instance == NAME
            && it.state == "running"
            && it.ready
            && it.fill.is_none()
            && up(&it.active)
            && it.standby.as_ref().is_some_and(up)
    })
}

/// Runs it as an operator would, and waits until all know where.
///
/// # Errors
/// It could not even be tried.
pub(super) async fn run(play: &mut Play) -> Outcome<bool> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::failed(format!("this program's file is gone: {error}")))?;
    let file = play.stage.folder().join("kv.toml");
    let commit = play.commit.name();
    let text = format!(
        "name = \"{NAME}\"\ncommand = [{:?}, \"kv\", \"--data\", \"state\", \"--port\", \
         \"${{PORT_HTTP}}\", \"--commit\", \"{commit}\"]\nstate = \"state\"\nport = [{{ name = \
         \"http\" }}]\nreplicate = {{ every = {:?}, commit = \"{commit}\" }}\n",
        program.display().to_string(),
        play.every,
    );
    fs::write(&file, text)
        .map_err(|error| Failure::failed(format!("cannot write {}: {error}", file.display())))?;
    let since = Since::now(play.stage.bounds.work());
    let path = file.display().to_string();
    let _: Value = operator(&play.stage)?.command(&["run", &path], "").await?;
    let runs = |status: &Status| {
        status.workloads.iter().any(|it| it.state == "running" && !it.endpoints.is_empty())
    };
    let times = play.stage.watch(since, None, runs).await?;
    let active = match seen(&play.stage).await {
        Some(seen) => play.stage.boards[seen.active].name.clone(),
        None => "no board".to_owned(),
    };
    let what = format!("`run kv.toml`: it runs on {active}, all know where");
    play.timeline.step("run", Some(&active), &times, &what)
}

/// Orders the planned move.
///
/// # Errors
/// It is refused, or nobody knows whether it was carried out.
pub(super) async fn order_move(stage: &Stage) -> Outcome<Moved> {
    operator(stage)?.command(&["failover", NAME], "").await
}

/// Stops and removes it; nothing of it is left.
///
/// # Errors
/// It could not even be tried.
pub(super) async fn remove(play: &mut Play) -> Outcome<bool> {
    let Play { stage, timeline, .. } = play;
    let since = Since::now(stage.bounds.work());
    let _: Done = operator(stage)?.command(&["stop", NAME], "").await?;
    let stopped = |status: &Status| status.workloads.iter().all(|it| it.state == "stopped");
    let times = stage.watch(since, None, stopped).await?;
    if !timeline.step("remove", None, &times, "`stop kv`: all know that it is stopped")? {
        return Ok(false);
    }
    let _: Done = operator(stage)?.command(&["rm", NAME], "").await?;
    let times = stage.watch(since, None, |status| status.workloads.is_empty()).await?;
    if !timeline.step("remove", None, &times, "`rm kv`: all have forgotten it")? {
        return Ok(false);
    }
    let waits = Since::now(stage.bounds.work());
    while !processes::shims(stage.folder()).is_empty() && waits.start.elapsed() < waits.patience {
        sleep(stage.round()).await;
    }
    let gone = processes::shims(stage.folder()).is_empty();
    timeline.fact("remove", None, gone, "no process of it is left")
}

/// Where it is now.
pub(super) async fn seen(stage: &Stage) -> Option<Seen> {
    let mut newest: Option<Instance> = None;
    for board in stage.boards.iter().filter(|board| board.runs()) {
        let Some(status) = board.status().await else { continue };
        for instance in status.workloads.into_iter().filter(|it| it.instance == NAME) {
            if newest.as_ref().is_none_or(|known| known.epoch < instance.epoch) {
                newest = Some(instance);
            }
        }
    }
    let instance = newest?;
    Some(Seen {
        active: stage.named(&instance.active)?,
        standby: instance.standby.and_then(|standby| stage.named(&standby)),
        epoch: instance.epoch,
    })
}

/// The board on which the master reigns.
pub(super) async fn reigning(stage: &Stage) -> Option<usize> {
    let begun = Instant::now();
    while begun.elapsed() < stage.bounds.election() {
        for (at, board) in stage.boards.iter().enumerate().filter(|(_, board)| board.runs()) {
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
pub(super) async fn life(play: &Play) -> Option<(Value, Value)> {
    let body = play.caller.guide().get("/epoch", play.stage.bounds.request()).await?;
    let mut told: Value = serde_json::from_slice(&body).ok()?;
    Some((told["pid"].take(), told["started_ms"].take()))
}

/// Any living board will do for an operator: all of them have the key.
fn operator(stage: &Stage) -> Outcome<&super::board::Board> {
    stage
        .boards
        .iter()
        .find(|board| board.runs())
        .ok_or_else(|| Failure::failed("no board is left to give orders on"))
}
