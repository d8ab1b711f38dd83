//! `hedgerow demo`: a whole mesh at work on one computer, with real processes and real sockets.
//!
//! The harness starts daemons of this same binary, each with its own data folder, and lets them in
//! with real tickets. It may kill, cut and count; it never tells a node what the product should have
//! told it. What a board knows is read from that board's own `/v1`.
//!
//! ```text
//! script (what happens) ─▶ stage (boards, watching) ─▶ board (one process) ─▶ `hedgerow up`
//!    ├▶ service (a service, and what it survives) ─▶ caller (writes to it by its name)
//!    └▶ report (what was measured)
//! ```
//!
//! Nothing is left behind: [`Stage`] kills its processes, by their id, and removes their folders
//! when it is dropped, also by an error, a panic or Ctrl-C. If the harness itself is killed, the
//! kernel kills the boards, and the leases of what ran on them end; only then do the folders stay.

mod board;
mod caller;
mod report;
mod script;
mod service;
mod shims;
mod stage;

use hedgerow::net::random_seed;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::DemoArgs;
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use report::Timeline;
use stage::Stage;

/// Plays the demo.
///
/// # Errors
/// Something did not hold, or could not even be tried.
pub(crate) async fn demo(context: &Context, args: DemoArgs) -> Outcome {
    let seed = args.seed.unwrap_or_else(random);
    let mut stage = Stage::new(&args, seed)?;
    let mut timeline = Timeline::new(!context.json, args.nodes, seed);
    timeline.tell(&format!("{} boards on this computer, seed {seed}.", args.nodes))?;
    if args.keep {
        timeline.tell(&format!("Their folders stay in {}.", stage.folder().display()))?;
    }
    let played = tokio::select! {
        played = script::play(&mut stage, &mut timeline, seed, args.service) => played,
        interrupted = interrupted() => interrupted,
    };
    let kept = args.keep.then(|| stage.folder().display().to_string());
    // Before the report: what it says about leaving nothing behind is true by then.
    drop(stage);
    let report = timeline.finish(kept);
    if played.is_ok() || !report.steps.is_empty() {
        context.show(&report, report::verdict)?;
    }
    played?;
    match report.held {
        true => Ok(()),
        false => Err(Failure::new(
            Exit::Failed,
            "not-held",
            "not everything held; run it again with --keep and the same --seed, and look at the \
             boards' logs",
        )),
    }
}

async fn interrupted() -> Outcome {
    let listen = |kind| {
        signal(kind).map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")))
    };
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    Err(Failure::new(Exit::Failed, "interrupted", "interrupted; the boards were ended"))
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&random_seed()[..8]);
    // Short enough to be typed again.
    u64::from_le_bytes(bytes) % 1_000_000
}
