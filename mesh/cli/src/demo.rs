//! `hedgerow demo`: a whole mesh at work on one computer, with real processes and real sockets.
//!
//! The harness starts daemons of this same binary, each with its own data folder, and lets them in
//! with real tickets. It may kill, cut and count; it never tells a node what the product should have
//! told it. What a board knows is read from that board's own `/v1`.
//!
//! ```text
//! script (what happens), acts (to the service) ─▶ play ─▶ stage (boards, watching) ─▶ board ─▶ `up`
//! trial (the same again and again) ──────┘    ├▶ caller (writes to the service by its name)
//!                                             ├▶ ears (what the boards say)
//!                                             └▶ report (what was measured)
//! ```
//!
//! Nothing is left behind: [`stage::Stage`] kills its processes, by their id, and removes their folders
//! when it is dropped, also by an error, a panic or Ctrl-C. If the harness itself is killed, the
//! kernel kills the boards, and the leases of what ran on them end; only then do the folders stay.

mod acts;
mod board;
mod bounds;
mod caller;
mod deaths;
mod dice;
mod ears;
mod play;
mod processes;
mod report;
mod script;
mod service;
mod stage;
mod trial;

use std::time::Duration;

use hedgerow::net::random_seed;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{DemoArgs, TrialArgs};
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use play::{Load, Play};

/// How the demo's service is called.
const LOAD: Load = Load { connections: 8, every: Duration::from_millis(20) };

/// Plays the demo.
///
/// # Errors
/// Something did not hold, or could not even be tried.
pub(crate) async fn demo(context: &Context, args: DemoArgs) -> Outcome {
    let args = args.mesh;
    let seed = args.seed.unwrap_or_else(random);
    let mut play = Play::new(&args, seed, LOAD, !context.json)?;
    play.timeline.tell(&format!("{} boards on this computer, seed {seed}.", args.nodes))?;
    if args.keep {
        let folder = play.stage.folder().display().to_string();
        play.timeline.tell(&format!("Their folders stay in {folder}."))?;
    }
    let recordings = play.stage.record()?.display().to_string();
    let fate =
        if args.keep { "" } else { " They go with the boards, unless something does not hold." };
    play.timeline.tell(&format!("Each board's core is recorded in {recordings}.{fate}"))?;
    let played = tokio::select! {
        played = script::play(&mut play) => played,
        interrupted = interrupted() => interrupted,
    };
    // Before the report: what it says about leaving nothing behind is true by then.
    let keep = args.keep || !play.timeline.not_held().is_empty();
    let (timeline, kept) = play.end(keep);
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
            format!(
                "not everything held; what each board's core did is in {recordings}: `netsim replay FILE \
                 --timeline` steps through it again"
            ),
        )),
    }
}

/// Tries one thing again and again, and measures it.
///
/// # Errors
/// Something did not hold, or could not even be tried.
pub(crate) async fn trial(context: &Context, args: TrialArgs) -> Outcome {
    let seed = args.mesh.seed.unwrap_or_else(random);
    let mut play = Play::new(&args.mesh, seed, trial::load(args.kind), false)?;
    eprintln!("trial {:?}, {} runs, seed {seed}", args.kind, args.runs);
    let played = tokio::select! {
        played = trial::play(&mut play, args.kind, args.runs) => played,
        interrupted = interrupted() => interrupted.map(|()| trial::Summary::default()),
    };
    let (timeline, kept) = play.end(args.mesh.keep);
    if let Some(folder) = kept {
        eprintln!("the boards' folders are in {folder}");
    }
    let failed = timeline.not_held();
    let summary = played?.seal(seed, args.kind, &args.mesh, failed);
    context.show(&summary, trial::for_people)?;
    match summary.held {
        true => Ok(()),
        false => Err(not_held()),
    }
}

fn not_held() -> Failure {
    Failure::new(
        Exit::Failed,
        "not-held",
        "not everything held; run it again with --keep and the same --seed, and look at the \
         boards' logs",
    )
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
