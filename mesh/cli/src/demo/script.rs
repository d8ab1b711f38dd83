//! What happens in the demo, step by step. Each step is one function; a later step builds on what
//! the earlier ones left, so the first one that does not hold ends the script.

use std::time::Instant;

use futures::future::try_join_all;
use serde_json::Value;

use super::board::Board;
use super::report::Timeline;
use super::service;
use super::stage::{Stage, Times};
use crate::exit::{Failure, Outcome};
use crate::schema::{Done, NewTicket, Prepared, Status};

/// Plays everything.
///
/// # Errors
/// Something could not even be tried; what did not hold is in the timeline.
pub(super) async fn play(
    stage: &mut Stage,
    timeline: &mut Timeline,
    seed: u64,
    with_service: bool,
) -> Outcome {
    let (victim, leaver) = cast(stage.boards.len(), seed);
    let mut killed = vec![victim];
    let held = gather(stage, timeline).await?
        && (!with_service || service::play(stage, timeline, &mut killed).await?)
        && death(stage, timeline, victim).await?
        && comeback(stage, timeline, victim).await?
        && leave(stage, timeline, leaver).await?
        && no_false_death(stage, timeline, &killed).await?;
    if held {
        timeline.complete(stage.round());
    }
    Ok(())
}

/// Every board joins with a ticket of its own, and every one sees all the others.
async fn gather(stage: &mut Stage, timeline: &mut Timeline) -> Outcome<bool> {
    let founder = &mut stage.boards[0];
    let prepared: Prepared = founder.command(&["init", "demo"], "").await?;
    founder.id = Some(prepared.node);
    founder.start()?;
    let name = founder.name.clone();
    timeline.now(&format!("{name} founds the mesh `demo`"))?;
    let alone = |status: &Status| {
        status.view == "alone" && status.nodes.iter().any(|node| !node.addresses.is_empty())
    };
    let ready = stage.watch(Instant::now(), None, alone).await?;
    if ready.iter().any(|(_, time)| time.is_none()) {
        return timeline.step("gather", Some(&name), &ready, "the founder takes part");
    }
    let (founder, others) = stage.boards.split_at_mut(1);
    try_join_all(others.iter_mut().map(|board| invite(&founder[0], board))).await?;
    timeline.now(&format!("{} other boards get a ticket each and start", others.len()))?;
    let start = Instant::now();
    for board in others {
        board.start()?;
    }
    let all = stage.boards.len();
    let everyone = |status: &Status| {
        status.view == "whole" && usize::try_from(status.up).is_ok_and(|up| up == all)
    };
    let times = stage.watch(start, None, everyone).await?;
    timeline.step("gather", None, &times, &format!("all {all} see all {all} up"))
}

async fn invite(founder: &Board, guest: &mut Board) -> Outcome {
    let new: NewTicket = founder.command(&["ticket", "new", "--expires", "1h"], "").await?;
    let prepared: Prepared = guest.command(&["join", "-"], &new.ticket).await?;
    guest.id = Some(prepared.node);
    Ok(())
}

/// A board dies without a word; every other one holds it for dead.
async fn death(stage: &mut Stage, timeline: &mut Timeline, victim: usize) -> Outcome<bool> {
    let (name, pid) = (stage.boards[victim].name.clone(), stage.boards[victim].pid());
    let start = Instant::now();
    stage.boards[victim].kill();
    timeline.now(&format!("{name} is killed (kill -9, process {})", pid.unwrap_or_default()))?;
    let times = watch_one(stage, start, victim, "down").await?;
    let what = format!("the {} others hold {name} for dead", times.len());
    timeline.step("death", Some(&name), &times, &what)
}

/// The dead board is started again; it is the same one, and everyone sees it.
async fn comeback(stage: &mut Stage, timeline: &mut Timeline, victim: usize) -> Outcome<bool> {
    let name = stage.boards[victim].name.clone();
    timeline.now(&format!("{name} is started again"))?;
    let start = Instant::now();
    stage.boards[victim].start()?;
    let times = watch_one(stage, start, victim, "up").await?;
    let what = format!("the {} others see {name} up again", times.len());
    if !timeline.step("return", Some(&name), &times, &what)? {
        return Ok(false);
    }
    let all = u32::try_from(stage.boards.len()).unwrap_or(u32::MAX);
    let itself = stage.watch(start, None, |status| status.up == all).await?;
    let what = format!("all see all up, {name} included");
    if !timeline.step("return", Some(&name), &itself, &what)? {
        return Ok(false);
    }
    let now = stage.boards[victim].status().await.map(|status| status.node);
    let same = now.is_some() && now == stage.boards[victim].id;
    timeline.fact("return", Some(&name), same, &format!("{name} has the same id as before"))
}

/// A board leaves on purpose; every other one knows that, and its process ends by itself.
async fn leave(stage: &mut Stage, timeline: &mut Timeline, leaver: usize) -> Outcome<bool> {
    let name = stage.boards[leaver].name.clone();
    timeline.now(&format!("{name} leaves"))?;
    let start = Instant::now();
    stage.boards[leaver].command::<Done>(&["leave"], "").await?;
    let times = watch_one(stage, start, leaver, "left").await?;
    let what = format!("the {} others know that {name} left", times.len());
    if !timeline.step("leave", Some(&name), &times, &what)? {
        return Ok(false);
    }
    let well = stage.ends_well(leaver).await;
    timeline.fact("leave", Some(&name), well, &format!("{name} ended by itself, exit code 0"))
}

/// Nobody but those that were killed was ever held for dead, by anybody.
async fn no_false_death(
    stage: &mut Stage,
    timeline: &mut Timeline,
    killed: &[usize],
) -> Outcome<bool> {
    let ids = killed.iter().filter_map(|at| stage.boards[*at].id);
    let dead: Vec<String> = ids.map(|id| id.to_string()).collect();
    let mut false_deaths = 0;
    for board in stage.boards.iter().filter(|board| board.runs()) {
        let events = board.events().await?;
        let wrong = events.iter().filter(|event| {
            event.event == "member-down"
                && !event
                    .fields
                    .get("node")
                    .and_then(Value::as_str)
                    .is_some_and(|node| dead.iter().any(|id| id == node))
        });
        false_deaths += wrong.count();
    }
    let what = match false_deaths {
        0 => "nobody else was ever held for dead".to_owned(),
        some => format!("living boards were held for dead {some} times"),
    };
    timeline.fact("no-false-death", None, false_deaths == 0, &what)
}

/// Until every other running board sees board `whom` in `state`.
async fn watch_one(
    stage: &mut Stage,
    start: Instant,
    whom: usize,
    state: &'static str,
) -> Outcome<Times> {
    let board = &stage.boards[whom];
    let id = board.id.ok_or_else(|| Failure::failed(format!("{} has no id", board.name)))?;
    let sees = move |status: &Status| {
        status.nodes.iter().any(|node| node.node == id && node.state == state)
    };
    stage.watch(start, Some(whom), sees).await
}

/// Who dies and who leaves: two different boards, never the founder, by `seed`.
fn cast(boards: usize, seed: u64) -> (usize, usize) {
    // One round of splitmix64: neighbouring seeds choose differently.
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    let others = boards - 1;
    let choose = |from: u64, count: usize| usize::try_from(from % count as u64).unwrap_or(0);
    let victim = choose(mixed, others);
    let leaver = (victim + 1 + choose(mixed >> 32, others - 1)) % others;
    (victim + 1, leaver + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_different_boards_are_chosen_and_never_the_founder() {
        for boards in 3..=20 {
            for seed in 0..500 {
                let (victim, leaver) = cast(boards, seed);
                assert!(victim != leaver, "{boards} {seed}");
                assert!((1..boards).contains(&victim) && (1..boards).contains(&leaver));
            }
        }
    }
}
