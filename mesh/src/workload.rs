//! What runs: the shim, which owns one running instance, and the runtimes that start it.
//!
//! **What.** A *shim* is one small process per running instance (containerd has the same part). It
//! owns the service's process tree, its stdio, its exit status and the **lease deadline**. The agent
//! only says `Extend{until}`; when it stops saying so the shim kills the service, with nobody's help.
//!
//! **Why a process of its own.** The agent may be updated, restarted, killed or stuck; neither the
//! service nor the fence may depend on it. And at-most-one-container holds only if whoever holds the
//! deadline does nothing else: one thread, no async runtime, no disk and no peer that could make
//! it wait.
//!
//! ```text
//! agent ── shim.sock ──▶ shim ── fd 0 ──▶ shim-init (pid 1 of a PID namespace) ──▶ the service
//!           Extend…       │ deadline, logs,        PDEATHSIG = KILL, reaps            control.sock
//!                         │ exit.json, lease file                                     lease file
//! ```
//!
//! **The deadline, exactly.** `until` is a reading of the lease clock ([`crate::clock::now_ns`]).
//! *From `until` on no instruction of the service may run.* D is the kill bound of the instance. The
//! shim begins to kill at `until - D` and knows the kill confirmed by `until`, or says
//! [`BoundBroken`](wire::Notice::BoundBroken). So the caller passes the end of its newest grant as it
//! is, without taking anything off; the service runs only while now < `until - D`. A service is
//! started only while that holds, checked once when asked and again by the process that is about to
//! `exec` it. Nothing that runs on a suspended or paused board can do better than "dead within D of
//! resuming", because the service may be scheduled before the shim.
//!
//! **How everything dies.** The service lives in a PID namespace; when its init dies the kernel
//! kills the rest, daemonised grandchildren too, and the init cannot be reaped before they are gone:
//! a reaped init *is* the confirmation. The init dies with the shim (`PR_SET_PDEATHSIG`). Where the
//! namespace is not allowed the shim falls back to walking `/proc`, and [`wire::Containment`] says
//! so: a service that daemonises then outlives a shim killed together with its init.
//!
//! **Files.** Keep the instance folders on tmpfs (`/run/hedgerow/…`): nothing the deadline needs may
//! wait for a dying SD card. The names are in [`instance::Files`].
//!
//! **What not.** No policy: whether to restart, where, with what state is the agent's business. One
//! shim is one run: a restart is a new shim in the same folder. No health checks, no checkpoints;
//! freezing is here, what is copied meanwhile is not. The watchdog of the board is the agent's.

pub mod client;
pub mod handle;
pub mod instance;
pub mod lease;
pub mod process;
pub(crate) mod program;
pub mod wire;

mod cgroup;
mod commits;
mod contain;
mod deadline;
mod frames;
mod init;
mod logs;
mod peers;
mod run;
mod shim;
mod tree;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// Runs one of the hidden subcommands (`shim`, `shim-init`, `shim-exec`), if `args` names one.
///
/// A program that hosts process workloads calls this first in `main`, before it starts any thread,
/// with `std::env::args_os().skip(1)`, and leaves with the code if there is one. The programs then
/// started by [`process::ProcessRuntime`] are that same executable.
pub fn dispatch(args: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let mut args = args.map(|arg| arg.to_string_lossy().into_owned());
    let command = args.next()?;
    let rest: Vec<String> = args.collect();
    let dir = || match rest.first().map(String::as_str) {
        Some("--dir") => rest.get(1).map(PathBuf::from),
        _ => None,
    };
    let flag = |name: &str| rest.iter().any(|arg| arg == name);
    Some(match command.as_str() {
        "shim" if flag("--probe") => contain::probe_main(),
        "shim" => match dir() {
            Some(dir) if flag("--serve") => shim::launch::serve_main(&dir),
            Some(dir) => shim::launch::launch_main(&dir),
            None => {
                eprintln!("usage: shim --dir FOLDER (holding {})", instance::Files::INSTANCE);
                ExitCode::from(EXIT_USAGE)
            }
        },
        "shim-init" => init::init_main(flag("--contained"), flag("--probe")),
        "shim-exec" => init::exec_main(flag("--contained")),
        _ => return None,
    })
}

const EXIT_USAGE: u8 = 2;
