//! What happens in the demo, step by step. Each step is one function; a later step builds on what
//! the earlier ones left, so the first one that does not hold ends the script.

use futures::future::try_join_all;

use super::board::Board;
use super::play::Play;
use super::stage::{Since, Times};
use super::{acts, deaths, service};
use crate::args::CommitArg;
use crate::exit::{Failure, Outcome};
use crate::schema::{Done, NewTicket, Prepared, Status};

/// Plays everything.
///
/// # Errors
/// Something could not even be tried; what did not hold is in the timeline.
pub(super) async fn play(play: &mut Play) -> Outcome {
    let leaver = 1 + play.dice.below(play.stage.boards.len() - 1);
    let held = gather(play).await?
        && acts::voters_again(play).await?
        && acts::begin(play).await?
        && acts::agent(play).await?
        && acts::steady(play).await?
        && acts::active_dies(play).await?
        && acts::voters_again(play).await?
        && acts::master_dies(play).await?
        && acts::planned_move(play).await?
        && comeback(play).await?
        && kept(play).await?
        && service::remove(play).await?
        && leave(play, leaver).await?
        && no_false_death(play)?;
    if held {
        play.timeline.complete(play.stage.round());
    }
    Ok(())
}

/// Every board joins with a ticket of its own, and every one sees all the others.
pub(super) async fn gather(play: &mut Play) -> Outcome<bool> {
    let Play { stage, timeline, .. } = play;
    let founder = &mut stage.boards[0];
    let prepared: Prepared = founder.command(&["init", "demo"], "").await?;
    founder.id = Some(prepared.node);
    founder.start()?;
    let name = founder.name.clone();
    timeline.now(&format!("{name} founds the mesh `demo`"))?;
    let alone = |status: &Status| {
        status.view == "alone" && status.nodes.iter().any(|node| !node.addresses.is_empty())
    };
    let ready = stage.watch(Since::now(stage.bounds.work()), None, alone).await?;
    if !ready.held() {
        return timeline.step("gather", Some(&name), &ready, "the founder takes part");
    }
    let (founder, others) = stage.boards.split_at_mut(1);
    try_join_all(others.iter_mut().map(|board| invite(&founder[0], board))).await?;
    timeline.now(&format!("{} other boards get a ticket each and start", others.len()))?;
    let since = Since::now(stage.bounds.work());
    for board in others {
        board.start()?;
    }
    let all = stage.boards.len();
    let everyone = |status: &Status| {
        status.view == "whole" && usize::try_from(status.up).is_ok_and(|up| up == all)
    };
    let times = stage.watch(since, None, everyone).await?;
    service::share_operator(stage)?;
    timeline.step("gather", None, &times, &format!("all {all} see all {all} up"))
}

async fn invite(founder: &Board, guest: &mut Board) -> Outcome {
    let new: NewTicket = founder.command(&["ticket", "new", "--expires", "1h"], "").await?;
    let prepared: Prepared = guest.command(&["join", "-"], &new.ticket).await?;
    guest.id = Some(prepared.node);
    Ok(())
}

/// The dead boards are started again; they are the same ones, and everyone sees them.
async fn comeback(play: &mut Play) -> Outcome<bool> {
    let dead: Vec<usize> =
        (0..play.stage.boards.len()).filter(|at| !play.stage.boards[*at].runs()).collect();
    for at in dead {
        let name = play.stage.boards[at].name.clone();
        play.timeline.now(&format!("{name} is started again"))?;
        let since = Since::now(play.stage.bounds.detection());
        play.stage.boards[at].start()?;
        let times = watch_one(play, since, at, "up").await?;
        let what = format!("the {} others see {name} up again", times.all.len());
        if !play.timeline.step("return", Some(&name), &times, &what)? {
            return Ok(false);
        }
        let now = play.stage.boards[at].status().await.map(|status| status.node);
        let same = now.is_some() && now == play.stage.boards[at].id;
        let what = format!("{name} has the same id as before");
        if !play.timeline.fact("return", Some(&name), same, &what)? {
            return Ok(false);
        }
    }
    let all = u32::try_from(play.stage.boards.len()).unwrap_or(u32::MAX);
    let well = |status: &Status| status.up == all && service::three_voters(status, &[]);
    let since = Since::now(play.stage.bounds.voters());
    let times = play.stage.watch(since, None, well).await?;
    play.timeline.step("return", None, &times, "all see all up, three of them decide")
}

/// Everything that was ever acknowledged is read back, as the caller's account on the disk has it.
async fn kept(play: &mut Play) -> Outcome<bool> {
    let patience = play.stage.bounds.voters();
    let audit = play.caller.finish(patience).await?;
    let copies = deaths::copies(play);
    let lost = audit.lost.len();
    let figures = play.timeline.figures();
    figures.copies = Some(copies);
    figures.acknowledged = Some(audit.all as u64);
    figures.lost = Some(lost as u64);
    let what = format!(
        "{} whole copies of the state, the largest {} bytes on the network for {}; {} deltas, median \
         {} bytes, the largest {}",
        copies.full,
        copies.full_bytes,
        copies.state_bytes,
        copies.deltas,
        copies.delta_bytes_median,
        copies.delta_bytes_max
    );
    play.timeline.now(&what)?;
    // What a death may cost was judged when it happened.
    let known = audit.lost.iter().all(|ack| play.lost.contains(&(ack.connection, ack.count)));
    let held = known && (lost == 0 || play.commit == CommitArg::Async);
    let what = format!("of all {} acknowledged writes {lost} are lost", audit.all);
    play.timeline.fact("kept", None, held, &what)
}

/// A board leaves on purpose; every other one knows that, and its process ends by itself.
async fn leave(play: &mut Play, leaver: usize) -> Outcome<bool> {
    let name = play.stage.boards[leaver].name.clone();
    play.timeline.now(&format!("{name} leaves"))?;
    let since = Since::now(play.stage.bounds.detection());
    play.stage.boards[leaver].command::<Done>(&["leave"], "").await?;
    let times = watch_one(play, since, leaver, "left").await?;
    let what = format!("the {} others know that {name} left", times.all.len());
    if !play.timeline.step("leave", Some(&name), &times, &what)? {
        return Ok(false);
    }
    let well = play.stage.ends_well(leaver).await;
    play.timeline.fact("leave", Some(&name), well, &format!("{name} ended by itself, exit code 0"))
}

/// Nobody but those that were killed was ever held for dead, by anybody.
fn no_false_death(play: &mut Play) -> Outcome<bool> {
    let ids = play.killed.iter().filter_map(|at| play.stage.boards[*at].id);
    let dead: Vec<String> = ids.map(|id| id.to_string()).collect();
    let deaths = play.ears.since(0, "member-down");
    let false_deaths = deaths
        .iter()
        .filter(|event| !event.text("node").is_some_and(|node| dead.iter().any(|id| id == node)))
        .count();
    let what = match false_deaths {
        0 => "nobody else was ever held for dead".to_owned(),
        some => format!("living boards were held for dead {some} times"),
    };
    play.timeline.fact("no-false-death", None, false_deaths == 0, &what)
}

/// Until every other running board sees board `whom` in `state`.
async fn watch_one(
    play: &mut Play,
    since: Since,
    whom: usize,
    state: &'static str,
) -> Outcome<Times> {
    let board = &play.stage.boards[whom];
    let id = board.id.ok_or_else(|| Failure::failed(format!("{} has no id", board.name)))?;
    let sees = move |status: &Status| {
        status.nodes.iter().any(|node| node.node == id && node.state == state)
    };
    play.stage.watch(since, Some(whom), sees).await
}
