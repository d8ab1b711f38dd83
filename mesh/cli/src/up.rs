//! `hedgerow up`: the daemon, in the foreground.
//!
//! Starts the node, then the API around it, and waits for the first of three ends: a signal (the
//! board says goodbye to its connections), the board left its mesh, or the node halted. Logs go to
//! standard error; standard output gets one answer once the board takes part.

use std::io::IsTerminal as _;
use std::time::Duration;

use hedgerow::net::{Home, Node, Observed};
use hedgerow::proto::io::Event;
use rustix::fs::Mode;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal, umask};
use tokio::signal::unix::{self, SignalKind};
use tokio::time::timeout;
use tracing_subscriber::EnvFilter;

use crate::api::{self, Api};
use crate::args::UpArgs;
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::folder;
use crate::schema::Running;
use crate::settings;

/// The network may take that long to say goodbye.
const GOODBYE_WAIT: Duration = Duration::from_secs(5);

/// Runs the board until it ends.
///
/// # Errors
/// It does not start, or it halted: each with its own exit code.
pub(crate) async fn up(context: &Context, flags: UpArgs) -> Outcome {
    // Nothing that this process makes is for other users.
    umask(Mode::RWXG | Mode::RWXO);
    end_with_parent(flags.parent)?;
    log_to_stderr(context.verbose)?;
    api::check(&Home::at(&context.home))?;
    // Before the folder is made or touched: it may be the wrong one.
    if let Some((code, why)) = folder::not_ready(&context.home) {
        return Err(Failure::new(Exit::Failed, code, why));
    }
    let home = Home::open(&context.home)?;
    let ticket = folder::pending_ticket(&home)?;
    let settings = settings::resolve(&home, flags, ticket)?;
    // Before the node starts, so that no signal finds it without a handler.
    let mut signals = Signals::new()?;
    let mut node = Node::start(settings).await?;
    let api = Api::start(&home, node.client())?;
    let end = run(context, &home, &mut node, &mut signals).await;
    api.stop().await;
    if let End::Halted(failure) = end? {
        return Err(failure);
    }
    match timeout(GOODBYE_WAIT, node.shutdown()).await {
        Ok(stopped) => Ok(stopped?),
        Err(_) => {
            tracing::warn!("the network did not close in time; stopping all the same");
            Ok(())
        }
    }
}

enum End {
    /// A signal, or the board left.
    Stop,
    /// The node stopped by itself.
    Halted(Failure),
}

async fn run(
    context: &Context,
    home: &Home,
    node: &mut Node,
    signals: &mut Signals,
) -> Outcome<End> {
    let (past, mut live) = node.client().events_so_far();
    let mut past = past.into_iter();
    loop {
        let event = match past.next() {
            Some(stamped) => stamped.event,
            None => tokio::select! {
                name = signals.next() => {
                    tracing::info!(signal = name, "stopping");
                    return Ok(End::Stop);
                }
                stopped = node.stopped() => return Ok(End::Halted(match stopped {
                    Ok(()) => Failure::failed("the node stopped without saying why"),
                    Err(error) => error.into(),
                })),
                observed = live.next() => match observed {
                    Some(Observed::Event(stamped)) => stamped.event,
                    // What this loop waits for comes at most twice in a life, and the buffer is large.
                    Some(Observed::Lagged(_)) | None => continue,
                },
            },
        };
        match event {
            Event::Started { node, mesh, incarnation } => {
                folder::drop_ticket(home)?;
                let socket = home.socket().display().to_string();
                let running = Running { node, mesh, incarnation, socket };
                context.show(&running, |running| {
                    format!("Board {} is running. Ctrl-C stops it.", running.node.short())
                })?;
            }
            Event::Left => {
                tracing::info!("this board has left its mesh: stopping");
                return Ok(End::Stop);
            }
            _ => {}
        }
    }
}

/// The signals that ask a daemon to stop.
struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
}

impl Signals {
    fn new() -> Outcome<Self> {
        let listen = |kind| {
            unix::signal(kind)
                .map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")))
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Asks the kernel to kill this process when `parent` dies: `demo` leaves nothing behind, however it
/// ends itself.
fn end_with_parent(parent: Option<u32>) -> Outcome {
    let Some(parent) = parent else { return Ok(()) };
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| Failure::failed(format!("cannot follow the parent's death: {error}")))?;
    // It may have died before the kernel was asked.
    let parent = i32::try_from(parent).ok().and_then(Pid::from_raw);
    match parent.is_some() && getppid() == parent {
        true => Ok(()),
        false => Err(Failure::failed("the process that --parent names did not start this one")),
    }
}

fn log_to_stderr(verbose: u8) -> Outcome {
    let default = match verbose {
        0 => "info,libp2p=warn",
        1 => "info,hedgerow=debug,libp2p=warn",
        _ => "info,hedgerow=trace,libp2p=debug",
    };
    let filter = match std::env::var("HEDGEROW_LOG") {
        Ok(given) if !given.is_empty() => EnvFilter::try_new(&given).map_err(|error| {
            let message = format!("HEDGEROW_LOG={given:?}: {error}; for instance hedgerow=debug");
            Failure::new(Exit::Config, "log-filter", message)
        })?,
        _ => EnvFilter::new(default),
    };
    let format = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // An error says that logging is set up already, which is just as well.
    let _ = format.try_init();
    Ok(())
}
