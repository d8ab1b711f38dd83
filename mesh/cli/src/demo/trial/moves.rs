//! `trial move`: an operator moves the service to its standby.

use std::time::Duration;

use tokio::time::sleep;

use super::{Summary, audit};
use crate::demo::deaths;
use crate::demo::play::Play;
use crate::demo::service;
use crate::exit::Outcome;

/// For how long nobody answers, and that nothing is lost.
pub(super) async fn moves(play: &mut Play, runs: u32, summary: &mut Summary) -> Outcome {
    let (mut reads, mut gaps) = (Vec::new(), Vec::new());
    eprintln!("run  from   to     unanswered ms   no write ms");
    for run in 1..=runs {
        sleep(play.dice.between(Duration::ZERO, Duration::from_secs(1))).await;
        let Some(seen) = service::seen(&play.stage).await else { break };
        let moved = match service::order_move(&play.stage).await {
            Ok(moved) => moved,
            Err(failure) => {
                summary.fails(format!("run {run}: {}", failure.message));
                break;
            }
        };
        let patience = play.stage.bounds.handover();
        let first = play.caller.answered_after(seen.epoch, patience).await;
        let ledger = play.caller.ledger();
        let gap = first.zip(ledger.last_of(seen.epoch));
        let Some((first, last)) = gap else {
            summary.fails(format!("run {run}: no write was acknowledged after the move"));
            break;
        };
        let written = first.at_us.saturating_sub(last.at_us) / 1000;
        let read = ledger.first_read_after(seen.epoch).zip(ledger.last_read_of(seen.epoch));
        let read = read.map_or(written, |(first, last)| first.saturating_sub(last) / 1000);
        let from = play.stage.boards[seen.active].name.clone();
        let to = moved.to.unwrap_or_default();
        eprintln!("{run:>3}  {from:<6} {to:<6} {read:>13} {written:>13}");
        reads.push(read);
        gaps.push(written);
        summary.runs = run;
        if !deaths::healthy(play).await? {
            summary.fails(format!("run {run}: no standby was ready again in time"));
            break;
        }
    }
    summary.figure("unanswered_ms", reads);
    summary.figure("no_write_ms", gaps);
    audit(play, summary).await
}
