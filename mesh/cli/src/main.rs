//! The `hedgerow` binary: one per board.
//!
//! `up` is the daemon: a [`hedgerow::net::Node`] with the API on a unix socket around it. Every
//! other command is a short-lived client of that socket, or prepares the data folder while no daemon
//! runs. `demo` starts several daemons of this same binary and shows them at work.
//!
//! ```text
//! args ─▶ init, join ─▶ folder ─▶ up ─▶ api (routes, problem) ◀── unix socket ──┐
//!      └▶ see, service, ticket ────────────────────▶ client ────────────────────┘
//!      └▶ demo ─▶ real `hedgerow` processes, one of them `kv`
//! ```
//!
//! Nothing here knows a rule of the protocol: those live in the library.

mod api;
mod args;
mod client;
mod context;
mod demo;
mod exit;
mod folder;
mod init;
mod join;
mod kv;
mod names;
mod schema;
mod see;
mod service;
mod settings;
mod text;
mod ticket;
mod up;
mod upkeep;
mod which;

use std::process::ExitCode;

use clap::Parser as _;
use tokio::runtime::Builder;

use args::{Args, Command, Output};
use context::Context;
use exit::{Failure, Outcome};

/// Threads of a daemon: one for the node, one for its network and its callers.
const DAEMON_THREADS: usize = 2;

fn main() -> ExitCode {
    // This very binary is also the shim that owns one running service.
    if let Some(code) = hedgerow::workload::dispatch(std::env::args_os().skip(1)) {
        return code;
    }
    let args = Args::parse();
    let json = args.output == Output::Json;
    match Context::new(&args).and_then(|context| run(&context, args.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(json),
    }
}

fn run(context: &Context, command: Command) -> Outcome {
    match command {
        Command::Init { mesh, up: then_up, flags } => {
            flags.only_with(then_up)?;
            init::init(context, &mesh, then_up)?;
            if then_up { daemon(context, flags) } else { Ok(()) }
        }
        Command::Join { ticket, up: then_up, flags } => {
            flags.only_with(then_up)?;
            join::join(context, &ticket, then_up)?;
            if then_up { daemon(context, flags) } else { Ok(()) }
        }
        Command::Up(flags) => daemon(context, flags),
        Command::Demo(args) => client(demo::demo(context, args)),
        Command::Trial(args) => client(demo::trial(context, args)),
        Command::Status => client(see::status(context)),
        Command::Nodes => client(see::nodes(context)),
        Command::Why { object } => client(see::why(context, &object)),
        Command::Events { follow } => client(see::events(context, follow)),
        Command::Run { file } => client(service::run(context, &file)),
        Command::Stop { name } => client(service::stop(context, &name)),
        Command::Rm { name, force } => client(service::remove(context, &name, force)),
        Command::Failover { name } => client(service::failover(context, &name)),
        Command::Checkpoint { name } => client(upkeep::checkpoint(context, &name)),
        Command::Restore { name, at } => client(upkeep::restore(context, &name, at)),
        Command::Drain { board } => client(upkeep::drain(context, &board, true)),
        Command::Undrain { board } => client(upkeep::drain(context, &board, false)),
        Command::Recover { service, from, dead, force } => {
            let (service, from) = (service.as_ref(), from.as_deref());
            client(upkeep::recover(context, service, from, &dead, force))
        }
        Command::Ps => client(service::see::ps(context)),
        Command::Resolve { name, port } => {
            client(service::see::resolve(context, &name, port.as_deref()))
        }
        Command::Logs { name } => client(service::logs::logs(context, &name)),
        Command::Ticket(command) => client(ticket::run(context, command)),
        Command::Kv { data, port, commit } => client(kv::serve(&data, port, commit)),
        Command::Leave { force } => client(see::leave(context, force)),
        Command::Version => client(see::version(context)),
    }
}

fn daemon(context: &Context, flags: args::UpArgs) -> Outcome {
    let runtime = Builder::new_multi_thread().worker_threads(DAEMON_THREADS).enable_all().build();
    runtime.map_err(|error| no_runtime(&error))?.block_on(up::up(context, flags))
}

/// One thread: the processes that `demo` starts must be children of the main thread.
fn client(work: impl Future<Output = Outcome>) -> Outcome {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| no_runtime(&error))?.block_on(work)
}

fn no_runtime(error: &std::io::Error) -> Failure {
    Failure::failed(format!("the operating system refused a thread or a timer: {error}"))
}
