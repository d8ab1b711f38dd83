//! A service that runs inside a program, as its author sees it: what he implements ([`Hosted`]) and what he
//! is given ([`Active`], [`Checkpoint`], [`Restored`]).
//!
//! Who holds such a service to its lease is somewhere else: on a board the node, in a test netsim. Both stand
//! behind [`Right`].

mod active;
mod state;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

pub use active::{Active, CommitError, Lease, Right};
#[cfg(feature = "net")]
pub(crate) use state::FOLDER;
pub use state::{Checkpoint, Restored, StateError};

/// A future on the heap.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
/// Whatever went wrong in a hosted service. Every error converts into it, `anyhow`'s too.
pub type Fault = Box<dyn std::error::Error + Send + Sync>;

/// A service that runs inside this program, on one board of the mesh at a time.
///
/// Its life on a board: [`restore`](Self::restore) from the newest state, [`run`](Self::run) as long as
/// the board may, [`checkpoint`](Self::checkpoint) again and again meanwhile. When its board dies, the
/// standby does the same with the newest state that it holds.
pub trait Hosted: Send + Sync + 'static {
    /// Writes all that [`restore`](Self::restore) needs. Called while `run` is going, on a thread that may
    /// block; must be of one moment, so take a lock for as long as it copies. Must not wait for anything
    /// that `run` holds across an `.await`: before a planned move `run` stands still meanwhile.
    ///
    /// # Errors
    /// Nothing is kept of this attempt, and it is made again later.
    fn checkpoint(&self, out: &mut Checkpoint) -> Result<(), Fault>;

    /// Makes the service from what some `checkpoint` has written, perhaps on another board, perhaps by an
    /// older version of this program. Called on a thread that may block.
    ///
    /// # Errors
    /// The service does not start here; after three times another board is tried.
    fn restore(from: &Restored) -> Result<Self, Fault>
    where
        Self: Sized;

    /// Does the work, until [`Active::fenced`] resolves; then it must return soon. Polled on the tokio
    /// runtime that the node was started on.
    ///
    /// What it hands to other tasks or threads is its own business: Hedgerow stops this future and no
    /// other, so those must end with it.
    ///
    /// # Errors
    /// As if a process had failed: it is started again, after a while on another board.
    fn run(self: Arc<Self>, ctx: Active) -> BoxFuture<'static, Result<(), Fault>>;
}
