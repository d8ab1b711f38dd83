//! A handle to a running node.

use core::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot};

use super::driver::Request;
use super::observe::{Events, Published, Stamped, Watcher};
use crate::error::Gone;
use crate::proto::io::{Command, InstanceView, Reply};

/// Between two looks at what has changed, where nobody tells.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A handle to a running node that can be cloned and shared.
#[derive(Clone, Debug)]
pub struct Client {
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) watcher: Watcher,
}

/// Why a command was not taken.
pub(crate) enum TryTellError {
    /// Too many wait already.
    Full,
    /// The node has stopped.
    Gone,
}

impl Client {
    /// Gives a command and waits for the reply.
    ///
    /// # Errors
    /// The node has stopped.
    pub async fn ask(&self, command: Command) -> Result<Reply, Gone> {
        let (answer, reply) = oneshot::channel();
        self.requests.send((command, answer)).await.map_err(|_| Gone)?;
        reply.await.map_err(|_| Gone)
    }

    /// Lets every service that runs here and has a standby go there. False if that took longer than `within`:
    /// what is left then is taken over once its lease has run out.
    pub async fn hand_over(&self, within: Duration) -> bool {
        // Where it is known what a board's lease is, it is this one's. A standby that is not there or not
        // ready may be replaced meanwhile by one that is.
        let leaves = |view: &InstanceView| {
            let wanted = !matches!(view.state, "stopping" | "stopped" | "removing");
            view.lease_ms.is_some() && view.standby.is_some() && wanted
        };
        let all_gone = async {
            while let Ok(Reply::Instances(all)) = self.ask(Command::Instances).await {
                if !all.iter().any(leaves) {
                    return;
                }
                // Again and again: what cannot be handed over now may be a moment later.
                let _ = self.ask(Command::HandOver).await;
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        tokio::time::timeout(within, all_gone).await.is_ok()
    }

    /// Gives a command if there is room for it right now; the reply is not waited for.
    pub(crate) fn try_tell(&self, command: Command) -> Result<(), TryTellError> {
        self.requests.try_send((command, oneshot::channel().0)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => TryTellError::Full,
            mpsc::error::TrySendError::Closed(_) => TryTellError::Gone,
        })
    }

    /// What is published on a topic from now on.
    pub(crate) fn topic(&self, name: &str) -> broadcast::Receiver<Published> {
        self.watcher.subscribe_to(name)
    }

    /// What happens from now on. Bounded: who listens too slowly is told how much it missed.
    pub fn events(&self) -> Events {
        self.watcher.subscribe()
    }

    /// The last events, oldest first, and the stream that goes on right after them.
    pub fn events_so_far(&self) -> (Vec<Stamped>, Events) {
        self.watcher.kept_and_subscribe()
    }

    /// The last events, oldest first.
    pub fn past_events(&self) -> Vec<Stamped> {
        self.watcher.kept()
    }
}
