//! Errors at the edges: what happened, to what, what to do next.

use std::io;

use crate::net::{HomeError, JournalError, ListenError};
use crate::proto::node::RecoverError;
use crate::workload::process::RuntimeError;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Its data folder cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// Its journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// It does not know where it belongs.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// It cannot listen where it was told to.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// It cannot run services here.
    #[error("cannot run services on this board: {0}")]
    Runtime(#[from] RuntimeError),
    /// The recording that was wanted cannot be begun.
    #[error("cannot record into {}: {source}; give a file that does not exist yet, in a folder that does", path.display())]
    Recording {
        /// Which file.
        path: std::path::PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The operating system refused something basic.
    #[error("the operating system refused {what}: {source}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// Why a running node stopped by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// It gave up: its disk failed, or it was revoked.
    #[error("this node stopped: {0}")]
    Halted(String),
    /// The kernel's timers cannot be used.
    #[error("the kernel refused a timer: {0}")]
    Timer(io::Error),
    /// The task that owns the node panicked: a bug.
    #[error("this node stopped because of a bug in Hedgerow: {0}. Please report it, with its log")]
    Bug(String),
}

/// The node has stopped and answers no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the node has stopped")]
pub struct Gone;
