//! `trial restarts`: agents are killed at random instants and started again, while the service is written
//! to. Nothing that was acknowledged may be gone, and every board must remain who it is.

use std::time::Duration;

use tokio::time::sleep;

use super::{Summary, audit};
use crate::demo::deaths;
use crate::demo::play::Play;
use crate::demo::service;
use crate::exit::Outcome;

/// Between two kills.
const INSTANTS: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(1500)];
/// An agent stays away at most that long.
const AWAY_MAX: Duration = Duration::from_millis(400);
/// So often everything is looked at.
const LOOK_EVERY: u32 = 20;

/// Kills and restarts.
pub(super) async fn restarts(play: &mut Play, kills: u32, summary: &mut Summary) -> Outcome {
    let begun = service::seen(&play.stage).await.map(|seen| seen.epoch);
    let mut of_active = 0;
    eprintln!("kill  board  ran kv  away ms");
    for kill in 1..=kills {
        sleep(play.dice.between(INSTANTS[0], INSTANTS[1])).await;
        let board = play.dice.below(play.stage.boards.len());
        let active = service::seen(&play.stage).await.map(|seen| seen.active);
        let away = play.dice.between(Duration::ZERO, AWAY_MAX);
        of_active += u64::from(active == Some(board));
        play.killed.push(board);
        play.stage.boards[board].kill();
        sleep(away).await;
        play.stage.boards[board].start()?;
        let ran = if active == Some(board) { "yes" } else { "no" };
        let name = &play.stage.boards[board].name;
        eprintln!("{kill:>4}  {name:<6} {ran:<6} {:>8}", away.as_millis());
        summary.runs = kill;
        if (kill % LOOK_EVERY == 0 || kill == kills) && !whole(play, kill, summary).await? {
            break;
        }
    }
    let now = service::seen(&play.stage).await.map(|seen| seen.epoch);
    summary.figure("kills_of_the_active", vec![of_active]);
    let epochs = now.zip(begun).map(|(now, begun)| now.saturating_sub(begun));
    summary.figure("epochs", epochs.into_iter().collect());
    audit(play, summary).await
}

/// Everything is well again, and everybody is who he was.
async fn whole(play: &mut Play, kill: u32, summary: &mut Summary) -> Outcome<bool> {
    if !deaths::healthy(play).await? {
        summary.fails(format!("kill {kill}: the mesh was not whole again in time"));
        return Ok(false);
    }
    for board in &play.stage.boards {
        let id = board.status().await.map(|status| status.node);
        if id.is_none() || id != board.id {
            summary.fails(format!("kill {kill}: {} is {id:?}, not {:?}", board.name, board.id));
        }
    }
    if !play.caller.goes_on(play.stage.bounds.takeover()).await {
        summary.fails(format!("kill {kill}: writes are not acknowledged"));
        return Ok(false);
    }
    Ok(true)
}
