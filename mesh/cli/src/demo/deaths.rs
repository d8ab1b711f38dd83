//! The death of the board that runs the service, and what is measured of it. Script and trials share it.

use std::time::Instant;

use hedgerow::proto::promises::promised;
use tokio::time::sleep_until;

use super::caller::Audit;
use super::caller::ledger::unix_us;
use super::play::Play;
use super::report::{Copies, Takeover};
use super::service;
use super::stage::Since;
use crate::args::CommitArg;
use crate::exit::{Failure, Outcome};
use crate::schema::Status;

/// A board that was cut off from its power.
#[derive(Clone, Debug)]
pub(super) struct Death {
    /// Which.
    pub(super) board: usize,
    /// When, Unix microseconds.
    pub(super) at_us: u64,
    /// The same, for what boards are watched for.
    pub(super) at: Instant,
    /// The newest right to run the service by then.
    pub(super) epoch: u64,
    /// Whether it ran the service.
    pub(super) ran: bool,
    /// Whether the master was on it.
    pub(super) with_master: bool,
    /// How many processes it took.
    pub(super) processes: usize,
}

/// What was lost with a board.
#[derive(Clone, Debug)]
pub(super) struct Loss {
    /// How many acknowledged writes were looked for.
    pub(super) looked: usize,
    /// How many are gone.
    pub(super) lost: usize,
    /// How long before the death the oldest of them was acknowledged, milliseconds.
    pub(super) age_ms: Option<u64>,
    /// How long before the death the newest state was captured that another board is known to hold.
    pub(super) bound_ms: Option<u64>,
    /// Whether that is no more than was promised.
    pub(super) held: bool,
}

/// Kills everything on a board at once.
///
/// # Errors
/// Nobody knows where the service is.
pub(super) async fn cut(play: &mut Play, board: usize) -> Outcome<Death> {
    let seen = service::seen(&play.stage).await;
    let seen = seen.ok_or_else(|| Failure::failed("nobody knows where the service is"))?;
    let status = play.stage.boards[board].status().await;
    let with_master = status.and_then(|status| status.master).is_some_and(|it| it.reigns);
    let (at, at_us) = (Instant::now(), unix_us());
    let processes = play.stage.boards[board].cut();
    play.killed.push(board);
    let (epoch, ran) = (seen.epoch, seen.active == board);
    Ok(Death { board, at_us, at, epoch, ran, with_master, processes })
}

/// Waits for the first answer of the standby, and for the first write that it acknowledges; none if
/// that takes too long. With `commit = "standby"` a write needs a new standby first.
pub(super) async fn taken_over(play: &Play, death: &Death) -> Option<Takeover> {
    let bounds = play.stage.bounds;
    let answered = play.caller.read_after(death.epoch, bounds.takeover()).await?;
    let first = play.caller.answered_after(death.epoch, bounds.fill()).await?;
    let from_ms = death.at_us / 1000;
    Some(Takeover {
        // That event names the right that is to end.
        asked_ms: play.ears.until_first(from_ms, "takes", death.epoch.saturating_sub(1)),
        appointed_ms: play.ears.until_first(from_ms, "appointed", death.epoch),
        runs_ms: play.ears.until_first(from_ms, "runs", death.epoch),
        first_answer_ms: answered.saturating_sub(death.at_us) / 1000,
        first_write_ms: first.at_us.saturating_sub(death.at_us) / 1000,
        epoch: first.epoch,
        with_master: death.with_master,
    })
}

/// Looks for what was acknowledged from the `from`th acknowledgement on, until the death.
///
/// # Errors
/// The service does not give it back in time.
pub(super) async fn loss(play: &mut Play, death: &Death, from: usize) -> Outcome<Loss> {
    let epoch = death.epoch;
    let Audit { all, lost } = play.audit(from, |ack| ack.epoch <= epoch).await?;
    let captured = play.ears.captured_us(epoch);
    let before_death = |at_us: u64| death.at_us.saturating_sub(at_us) / 1000;
    let held = match play.commit {
        // What was acknowledged before the capture is part of it.
        CommitArg::Async if death.ran => {
            lost.iter().all(|ack| captured.is_some_and(|at| ack.at_us >= at))
        }
        CommitArg::Async | CommitArg::Standby => lost.is_empty(),
    };
    Ok(Loss {
        looked: all,
        lost: lost.len(),
        age_ms: lost.first().map(|ack| before_death(ack.at_us)),
        bound_ms: captured.map(before_death),
        held,
    })
}

/// Starts a dead board again and waits until nothing is missing: everybody sees everybody, three
/// living boards decide and have a voice, and the service has a standby that can carry on.
///
/// # Errors
/// A board ended by itself. False: it took too long.
pub(super) async fn heal(play: &mut Play, board: usize) -> Outcome<bool> {
    if !play.stage.boards[board].runs() {
        play.stage.boards[board].start()?;
    }
    // Until then it keeps silent as a voter, for what it may have promised: should another voter die
    // meanwhile there is no master, which is another fault than the one that is tried.
    let has_a_voice = Instant::now() + promised(play.stage.bounds.0.lease);
    let well = healthy(play).await?;
    sleep_until(has_a_voice.into()).await;
    Ok(well)
}

/// Waits until nothing is missing, as after [`heal`].
///
/// # Errors
/// A board ended by itself. False: it took too long.
pub(super) async fn healthy(play: &mut Play) -> Outcome<bool> {
    let bounds = play.stage.bounds;
    let all = u32::try_from(play.stage.boards.len()).unwrap_or(u32::MAX);
    let well = |status: &Status| {
        status.up == all && service::three_voters(status, &[]) && service::protected(status)
    };
    let since = Since::now(bounds.voters() + bounds.fill());
    Ok(play.stage.watch(since, None, well).await?.held())
}

/// What was copied so far, by what the boards say that fetched it.
pub(super) fn copies(play: &Play) -> Copies {
    let fetched = play.ears.since(0, "fetched");
    let mut copies = Copies::default();
    let mut deltas = Vec::new();
    for event in fetched {
        let wire = event.number("wire_bytes").unwrap_or(0);
        match event.line.fields.get("full").and_then(serde_json::Value::as_bool) {
            Some(true) => {
                copies.full += 1;
                if wire >= copies.full_bytes {
                    copies.full_bytes = wire;
                    copies.state_bytes = event.number("state_bytes").unwrap_or(0);
                }
            }
            _ => deltas.push(wire),
        }
    }
    deltas.sort_unstable();
    copies.deltas = deltas.len() as u64;
    copies.delta_bytes_median = deltas.get(deltas.len() / 2).copied().unwrap_or(0);
    copies.delta_bytes_max = deltas.last().copied().unwrap_or(0);
    copies
}
