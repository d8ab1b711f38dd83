//! What an operator asks to be run: one service, as its service file says it.

use serde::{Deserialize, Serialize};

use super::bounded::{List, Text};
use super::id::Digest16;
use super::record::{Class, LABELS_MAX, Name};
use super::wire::codec;

/// Words of a command line.
pub const COMMAND_WORDS_MAX: usize = 64;
/// Named ports of one service.
pub const PORTS_MAX: usize = 8;
/// Environment variables of one service.
pub const ENV_MAX: usize = 32;

/// One word of a command line.
pub type Word = Text<512>;

/// A service. Times in milliseconds, sizes in bytes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// What it is called, mesh-wide.
    pub name: Name,
    /// The program and its arguments. `${PORT_NAME}` stands for the port of that name.
    pub command: List<Word, COMMAND_WORDS_MAX>,
    /// The folder that is replicated, relative to the service's own folder. None: it has no state.
    pub state: Option<Text<255>>,
    /// What happens when nobody can renew its lease.
    pub on_isolation: OnIsolation,
    /// The ports it serves.
    pub ports: List<Port, PORTS_MAX>,
    /// How its state is replicated.
    pub replicate: Replicate,
    /// Boards of these classes only; empty = any.
    pub classes: List<Class, 3>,
    /// Boards with all of these labels only.
    pub labels: List<(Name, Name), LABELS_MAX>,
    /// How often it is started again on the same board.
    pub restart: Restart,
    /// What it may use.
    pub limits: Limits,
    /// Added to its environment.
    pub env: List<(Name, Word), ENV_MAX>,
}

/// What happens to an active that no voter answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum OnIsolation {
    /// It is killed before its lease ends: at most one runs, always.
    #[default]
    Fence,
    /// It goes on. For services without state.
    KeepRunning,
}

/// A named port.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Port {
    /// What it is called in the environment (`PORT_NAME`) and in `resolve`.
    pub name: Name,
    /// The port; 0 = any free one.
    pub port: u16,
}

/// How state is replicated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Replicate {
    /// Between two checkpoints.
    pub every_ms: u32,
    /// When a commit returns.
    pub commit: Commit,
    /// How long a commit waits for a standby; 0 = for ever.
    pub commit_timeout_ms: u32,
}

/// When `commit()` returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Commit {
    /// At once: what happened since the last acknowledged checkpoint may be lost.
    #[default]
    Async,
    /// When the standby holds the state.
    Standby,
}

/// How often a service that ended is started again on the same board.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Restart {
    /// So many times …
    pub max: u16,
    /// … within that long; then another board is tried.
    pub within_ms: u32,
}

/// What a service may use; 0 = no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Limits {
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub pids: u32,
}

/// Why a specification cannot be run.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// The name would not do as a folder or in a URL.
    #[error(
        "`{0}` cannot be a service's name: use up to 63 lower-case letters, digits, `-`, `_` and `.`, beginning with a letter or digit"
    )]
    Name(String),
    /// Nothing to run.
    #[error("the service has no command")]
    NoCommand,
    /// The state folder would not lie inside the service's folder.
    #[error(
        "`{0}` cannot be the state folder: give a path relative to the service's folder, without `..`"
    )]
    State(String),
    /// Two settings exclude each other.
    #[error(
        "on_isolation = \"keep-running\" and commit = \"standby\" exclude each other: an isolated service cannot reach its standby"
    )]
    KeepRunningCommit,
    /// A port's name does not do as part of an environment variable.
    #[error("`{0}` cannot be a port's name: use letters, digits and `_`")]
    Port(String),
}

impl ServiceSpec {
    /// Names what it says: two that say the same have the same digest.
    pub fn digest(&self) -> Digest16 {
        let bytes = codec::encode(self).expect("a specification fits a frame");
        let mut digest = [0; 16];
        digest.copy_from_slice(&blake3::hash(&bytes).as_bytes()[..16]);
        Digest16(digest)
    }

    /// Looks whether this can be run at all. Every board asks, whoever signed it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), SpecError> {
        let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let plain = |c: char| word(c) || matches!(c, '-' | '_' | '.');
        let begins = self.name.starts_with(word);
        if !begins || !self.name.chars().all(plain) {
            return Err(SpecError::Name(self.name.to_string()));
        }
        if self.command.first().is_none_or(|program| program.is_empty()) {
            return Err(SpecError::NoCommand);
        }
        if let Some(state) = &self.state {
            let inside = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
            if !state.split('/').all(inside) {
                return Err(SpecError::State(state.to_string()));
            }
        }
        let keeps = self.on_isolation == OnIsolation::KeepRunning;
        if keeps && self.replicate.commit == Commit::Standby {
            return Err(SpecError::KeepRunningCommit);
        }
        let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        match self.ports.iter().find(|port| port.name.is_empty() || !port.name.chars().all(part)) {
            Some(port) => Err(SpecError::Port(port.name.to_string())),
            None => Ok(()),
        }
    }
}
