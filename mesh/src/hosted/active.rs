//! What a hosted service knows of its right to run.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::BoxFuture;
use crate::proto::io::CommitOutcome;

/// The right to run: given to [`run`](super::Hosted::run), cheap to clone, good for that run only.
#[derive(Clone)]
pub struct Active {
    right: Arc<dyn Right>,
}

/// Who gives a service its right to run: the node of its board, or what stands for that node in a test. Not for
/// services: they have [`Active`].
pub trait Right: fmt::Debug + Send + Sync + 'static {
    /// Behind [`Active::epoch`].
    fn epoch(&self) -> u64;

    /// How long it may act from now, whether it was told to end or not.
    fn left(&self) -> Duration;

    /// Whether it was told to end. Once true, it stays so.
    fn is_fenced(&self) -> bool;

    /// Behind [`Active::fenced`].
    fn fenced(&self) -> BoxFuture<'_, ()>;

    /// Behind [`Active::commit`].
    fn commit(&self) -> BoxFuture<'_, Result<u64, CommitError>>;

    /// Behind [`Active::port`].
    fn port(&self, name: &str) -> Option<u16>;
}

/// How long a service may act. A copy: ask again before each thing that must not happen twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lease {
    /// The right: each is higher than all before it. Pass it on with whatever leaves this board, so that
    /// others can refuse what an older right sends late.
    pub epoch: u64,
    /// What is left. Zero: it must not act any more.
    pub left: Duration,
}

/// Why a commit was not confirmed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// No other board holds the state, and the time is up.
    #[error(
        "no other board holds this state yet: if this board dies now, it is lost; add a board, or try again once the service has a standby"
    )]
    Unprotected,
    /// It may have been kept, or not: the right to run ended, or the standby did not answer in time.
    #[error("whether this is kept is unknown; whoever runs next finds it in its state, or not")]
    Unknown,
    /// This board may not run it any more.
    #[error("this board may not run the service any more: return from `run`")]
    Fenced,
}

impl From<CommitOutcome> for Result<u64, CommitError> {
    fn from(outcome: CommitOutcome) -> Self {
        match outcome {
            CommitOutcome::Ok(number) => Ok(number),
            CommitOutcome::Unprotected => Err(CommitError::Unprotected),
            CommitOutcome::Unknown => Err(CommitError::Unknown),
            CommitOutcome::Fenced => Err(CommitError::Fenced),
        }
    }
}

impl Active {
    /// A right that somebody else looks after than the node of a board, to test a service with.
    pub fn new(right: Arc<dyn Right>) -> Self {
        Self { right }
    }

    /// The right that this run rests on.
    pub fn epoch(&self) -> u64 {
        self.right.epoch()
    }

    /// How long it may act from now.
    pub fn lease(&self) -> Lease {
        let left = if self.right.is_fenced() { Duration::ZERO } else { self.right.left() };
        Lease { epoch: self.epoch(), left }
    }

    /// Resolves when it must end: its lease runs out, or it is to be stopped or moved. From then on it
    /// has half the kill bound (0.1 s on a LAN) before it is dropped, or 5 s if an operator stops it.
    pub async fn fenced(&self) {
        self.right.fenced().await;
    }

    /// Asks for everything up to now to be kept: a checkpoint is made, and this returns when the standby
    /// holds it durably. Returns the checkpoint's number. If the service was declared with
    /// [`commit_at_once`](crate::mesh::ServiceBuilder::commit_at_once) it does not wait.
    ///
    /// # Errors
    /// Each variant says what is known; only after `Ok` may others rely on it.
    pub async fn commit(&self) -> Result<u64, CommitError> {
        if self.right.is_fenced() {
            return Err(CommitError::Fenced);
        }
        self.right.commit().await
    }

    /// The number of one of its ports, as the service declared them; port 0 has become a free one.
    pub fn port(&self, name: &str) -> Option<u16> {
        self.right.port(name)
    }
}

impl fmt::Debug for Active {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.right)
    }
}
