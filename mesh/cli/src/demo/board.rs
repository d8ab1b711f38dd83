//! One board of the demo: a data folder and, while it lives, a `hedgerow up` process.
//!
//! The process is in a group of its own, so that Ctrl-C reaches only the harness, and asks the
//! kernel to be killed when the harness dies.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use hedgerow::proto::id::NodeId;
use serde::de::DeserializeOwned;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use rustix::process::{Pid, Signal};

use super::processes;
use crate::client::Client;
use crate::exit::{Failure, Outcome};
use crate::schema::Status;

/// Lines of a board's log that are shown when it ends unexpectedly.
const LOG_LINES_SHOWN: usize = 5;
/// A board that takes longer to say what it knows is asked again in the next round.
const ANSWER_WAIT: Duration = Duration::from_secs(2);

/// One board.
#[derive(Debug)]
pub(super) struct Board {
    /// Its name.
    pub(super) name: String,
    /// Its id, once it has been prepared.
    pub(super) id: Option<NodeId>,
    /// Its data folder.
    pub(super) home: PathBuf,
    preset: &'static str,
    /// Where its lives are recorded, if they are, and how many there were.
    recordings: Option<PathBuf>,
    lives: u32,
    process: Option<Child>,
}

impl Board {
    /// A board that does not run yet, with its data folder in `stage`.
    pub(super) fn new(stage: &Path, name: String, preset: &'static str) -> Self {
        let home = stage.join(&name);
        Self { home, name, id: None, preset, recordings: None, lives: 0, process: None }
    }

    /// From now on each of its lives is recorded in that folder.
    pub(super) fn record(&mut self, folder: &Path) {
        self.recordings = Some(folder.to_owned());
    }

    /// Runs one command of this binary on this board's folder and reads its JSON.
    ///
    /// # Errors
    /// It fails, with what it said.
    pub(super) async fn command<T: DeserializeOwned>(
        &self,
        words: &[&str],
        input: &str,
    ) -> Outcome<T> {
        let fault = |error: io::Error| Failure::failed(format!("hedgerow {}: {error}", words[0]));
        let mut command = tokio::process::Command::from(self.program()?);
        command.args(words).args(["-o", "json"]).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(fault)?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes()).await.map_err(fault)?;
        }
        let output = child.wait_with_output().await.map_err(fault)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let said = crate::text::clean(said.trim());
            return Err(self.broken(&format!("`hedgerow {}` failed: {said}", words.join(" "))));
        }
        serde_json::from_slice(&output.stdout)
            .map_err(|error| self.broken(&format!("`hedgerow {}`: {error}", words.join(" "))))
    }

    /// Starts its daemon. Must be called on the main thread: the kernel ends the daemon together with
    /// the thread that started it.
    ///
    /// # Errors
    /// The process cannot be started.
    pub(super) fn start(&mut self) -> Outcome {
        let fault = |error: io::Error| self.broken(&format!("cannot start it: {error}"));
        let log = OpenOptions::new().create(true).append(true).open(self.log()).map_err(fault)?;
        let out: File = log.try_clone().map_err(fault)?;
        let mut command = self.program()?;
        command
            .args(["up", "--no-mdns", "--preset", self.preset, "--name", &self.name])
            .args(["--parent", &std::process::id().to_string()])
            .args(["--listen", "/ip4/127.0.0.1/udp/0/quic-v1"])
            .args(["--listen", "/ip4/127.0.0.1/tcp/0"])
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(log);
        let life = self.lives + 1;
        if let Some(folder) = &self.recordings {
            let file = folder.join(format!("{}-{life}.recording", self.name));
            command.arg("--record").arg(file);
        }
        let process = command.spawn().map_err(fault)?;
        (self.process, self.lives) = (Some(process), life);
        Ok(())
    }

    /// What it knows; none while it does not answer.
    pub(super) async fn status(&self) -> Option<Status> {
        timeout(ANSWER_WAIT, self.client().get("/v1/status")).await.ok()?.ok()
    }

    /// Its API.
    pub(super) fn client(&self) -> Client {
        Client::new(self.home.clone(), String::new())
    }

    /// True while its daemon was started and has not been seen to end.
    pub(super) fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// Its agent's process.
    pub(super) fn agent(&self) -> Option<Pid> {
        self.process.as_ref().map(Pid::from_child)
    }

    /// How its daemon ended by itself, if it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.process.as_mut()?.try_wait().ok().flatten()?;
        self.process = None;
        Some(status)
    }

    /// Its agent, its shims and everything they run, by id.
    pub(super) fn processes(&self) -> Vec<Pid> {
        self.agent().into_iter().chain(processes::with_services(&self.home)).collect()
    }

    /// Kills all of it at once, as a power cut would; gives how many processes that were.
    pub(super) fn cut(&mut self) -> usize {
        let all = self.processes();
        processes::signal(&all, Signal::KILL);
        self.kill();
        processes::end(&self.home);
        all.len()
    }

    /// Kills its agent, and waits until it is gone. What runs on the board runs on.
    pub(super) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Errors say that it has ended already.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// A failure of this board, with the end of its log.
    pub(super) fn broken(&self, what: &str) -> Failure {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let shown = lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n");
        let tail = if shown.is_empty() { String::new() } else { format!("\nIts log:\n{shown}") };
        Failure::failed(format!("{}: {what}{tail}", self.name))
    }

    fn program(&self) -> Outcome<Command> {
        let program = std::env::current_exe()
            .map_err(|error| Failure::failed(format!("this program's file is gone: {error}")))?;
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            // What the caller set for its own board must not reach these.
            if name.to_string_lossy().starts_with("HEDGEROW_") && name != "HEDGEROW_LOG" {
                command.env_remove(name);
            }
        }
        command.arg("--home").arg(&self.home);
        Ok(command)
    }

    fn log(&self) -> PathBuf {
        self.home.join("log")
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.kill();
    }
}
