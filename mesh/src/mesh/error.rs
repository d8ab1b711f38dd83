//! What can go wrong, and what to do about it.

use crate::error::{RunError, StartError};
use crate::hosted::Fault;
use crate::net::HomeError;
use crate::proto::io::Reply;
use crate::proto::spec::SpecError;

/// Why something that was asked of a [`Mesh`](super::Mesh) was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MeshError {
    /// The builder was not told where to keep this board's data.
    #[error("a board needs a folder of its own that outlives it: call data_dir(…)")]
    NoDataDir,
    /// A name does not do.
    #[error("`{name}` cannot be {what}: it must have 1 to {max} bytes")]
    Name {
        /// What was given.
        name: String,
        /// What it was to be.
        what: &'static str,
        /// How many bytes there is room for.
        max: usize,
    },
    /// The node did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A key or another file of a data folder cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// A file is there but makes no sense.
    #[error("{path} is damaged; restore it from a backup")]
    Damaged {
        /// Which.
        path: std::path::PathBuf,
    },
    /// A mesh is founded once.
    #[error(
        "{0} belongs to a mesh already: start it without found(…), or give another data folder to found a second mesh"
    )]
    BelongsAlready(std::path::PathBuf),
    /// No board has an address yet that a ticket could name.
    #[error(
        "no board of this mesh has an address yet that others could reach: listen on one first"
    )]
    NoAddress,
    /// A ticket or an order cannot be made.
    #[error("it does not fit: {0}; use shorter names, or fewer ports and labels")]
    TooLarge(String),
    /// The boards of `Mesh::memory` did not come together.
    #[error("the boards did not all meet within {seconds} s; is this machine overloaded?")]
    NotMet {
        /// How long was waited.
        seconds: u64,
    },
    /// The node has stopped.
    #[error("this node has stopped; start it again")]
    Gone,
    /// The node has stopped by itself.
    #[error(transparent)]
    Stopped(RunError),
    /// Services cannot be changed without a key.
    #[error(
        "only an operator may do that: give this board operator_key(…), or do it where the key is"
    )]
    NoOperator,
    /// The service cannot be run.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The service that is to be hosted could not write its first state.
    #[error("the service cannot be checkpointed: {0}")]
    Checkpoint(Fault),
    /// The mesh says no.
    #[error("{message}")]
    Refused {
        /// For programs, kebab-case: `not-found`, `not-serving`, `no-master`, `no-room`, `unknown`, ….
        code: String,
        /// For people: what happened, to what, what to do next.
        message: String,
    },
}

impl MeshError {
    pub(super) fn unexpected(reply: &Reply) -> Self {
        let (code, message) = match reply {
            Reply::Error(error) => (error.code.clone(), error.message.clone()),
            other => ("bug".to_owned(), format!("an answer to another question: {other:?}")),
        };
        Self::Refused { code, message }
    }
}
