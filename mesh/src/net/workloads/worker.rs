//! The thread between one shim and everybody here who has to do with it.
//!
//! It never waits for a disk, nor for an answer of the shim: whatever is asked goes out at once, and the
//! answers are taken as they come. So an extension of the lease is passed on while the service is being
//! frozen, captured, or told about its commits.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc as sync;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use tokio::sync::mpsc;

use super::Reported;
use super::workers::{Order, Stands};
use crate::net::hosted::Live;
use crate::proto::io::{CommitOutcome, Exit, Report};
use crate::proto::order::Instance;
use crate::workload::client::ClientError;
use crate::workload::handle::Handle;
use crate::workload::wire::{Cause, CommitResult, How, Message, Notice, Reply, Request};

/// How long a service may take to end by itself after `SIGTERM`.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// Where in a ticket the shim's own number of a commit ends.
const TICKET_BITS: u32 = 32;

/// One thread's end.
pub(super) struct Thread {
    pub(super) instance: Instance,
    pub(super) life: u32,
    pub(super) orders: sync::Receiver<Order>,
    pub(super) until: Arc<AtomicU64>,
    pub(super) launched: Arc<AtomicBool>,
    /// Set once it runs, if it runs inside this program.
    pub(super) live: Arc<OnceLock<Arc<Live>>>,
    pub(super) wake: Arc<OwnedFd>,
    pub(super) reports: mpsc::Sender<Reported>,
}

/// What a thread has asked of its shim.
#[derive(Default)]
struct Asked {
    /// The end of the lease that the shim was told last.
    until: u64,
    /// The call that freezes, and who waits for it.
    freeze: Option<(u64, sync::SyncSender<Stands>)>,
    /// True as long as it stands still, for whoever made it do so.
    still: Option<Arc<AtomicBool>>,
}

impl Thread {
    /// Tells the driver something, and waits until there is room for it.
    pub(super) fn report(&self, report: Report) {
        // An error means that the driver is gone; the shim goes on without it.
        let _ = self.reports.blocking_send((self.instance.clone(), report));
    }

    /// The end of its lease, as far as it was extended since this thread began.
    pub(super) fn until(&self) -> u64 {
        self.until.load(Ordering::Relaxed)
    }

    /// What to set once something of it may run.
    pub(super) fn launched(&self) -> Arc<AtomicBool> {
        self.launched.clone()
    }

    /// Whether it was to be stopped before it was started. Everything else that came before is void.
    pub(super) fn was_stopped(&self) -> bool {
        let mut stopped = false;
        for order in self.orders.try_iter() {
            match order {
                Order::Stop | Order::Kill => stopped = true,
                Order::Freeze(answer) => {
                    let why = "it is being started".to_owned();
                    let _ = answer.try_send(Err(why));
                }
                Order::Thaw | Order::Commit { .. } => {}
            }
        }
        stopped
    }

    /// Passes on what is asked and what happens, until the shim has ended.
    pub(super) fn watch(&self, mut handle: Handle) -> Exit {
        let mut asked = Asked::default();
        loop {
            if let Err(error) = self.pass_on(&mut handle, &mut asked) {
                // If it is gone, that is what comes next.
                tracing::debug!(instance = %self.instance, %error, "the shim cannot be asked");
            }
            match handle.connection().receive() {
                Ok(Some(Message::Notice(Notice::Exited(exit)))) => {
                    return exit_of(&exit.how, exit.cause);
                }
                Ok(Some(Message::Notice(notice))) => {
                    self.note(&notice);
                    continue;
                }
                Ok(Some(Message::Reply { id, reply })) => {
                    if self.on_reply(&mut asked, id, &reply) {
                        let _ = handle.connection().send(Request::Thaw);
                    }
                    continue;
                }
                Ok(None) => {}
                Err(error) => return Exit::Failed { why: format!("its shim is gone: {error}") },
            }
            let connection = handle.connection();
            let mut flags = PollFlags::IN;
            flags.set(PollFlags::OUT, connection.wants_write());
            let mut fds = [PollFd::new(connection, flags), PollFd::new(&self.wake, PollFlags::IN)];
            let _ = poll(&mut fds, None);
            let mut count = [0; 8];
            let _ = rustix::io::read(&self.wake, &mut count);
        }
    }

    /// Asks the shim for everything that has come up. The lease comes first.
    fn pass_on(&self, handle: &mut Handle, asked: &mut Asked) -> Result<(), ClientError> {
        let connection = handle.connection();
        connection.flush()?;
        let until = self.until();
        if until > asked.until {
            connection.send(Request::Extend { until })?;
            asked.until = until;
        }
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Freeze(answer) => match connection.send(Request::Freeze) {
                    Ok(call) => asked.freeze = Some((call, answer)),
                    Err(error) => drop(answer.try_send(Err(error.to_string()))),
                },
                Order::Thaw => {
                    asked.goes_on();
                    connection.send(Request::Thaw)?;
                }
                Order::Stop => {
                    asked.goes_on();
                    let grace_ms = u32::try_from(STOP_GRACE.as_millis()).unwrap_or(u32::MAX);
                    connection.send(Request::Stop { grace_ms })?;
                }
                Order::Kill => drop(connection.send(Request::Kill)?),
                Order::Commit { ticket, outcome } => {
                    if let Some(id) = commit_of(ticket, self.life) {
                        let result = result_of(outcome);
                        connection.send(Request::Committed { id, result })?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Returns true if it stands still now for nobody.
    fn on_reply(&self, asked: &mut Asked, id: u64, reply: &Reply) -> bool {
        if let Reply::Refused(refusal) = reply {
            tracing::debug!(instance = %self.instance, %refusal, "the shim refused");
        }
        let Some((_, answer)) = asked.freeze.take_if(|(call, _)| *call == id) else {
            return false;
        };
        let stands = match reply {
            Reply::Ok => {
                let still = Arc::new(AtomicBool::new(true));
                asked.still = Some(still.clone());
                Ok(still)
            }
            other => Err(match other {
                Reply::Refused(refusal) => refusal.to_string(),
                other => format!("its shim answered {other:?}"),
            }),
        };
        let frozen = stands.is_ok();
        // Whoever asked may not wait any more.
        answer.try_send(stands).is_err() && frozen
    }

    fn note(&self, notice: &Notice) {
        let instance = &self.instance;
        match notice {
            Notice::CommitRequested { id } => match ticket_of(*id, self.life) {
                Some(ticket) => self.report(Report::Commit { ticket }),
                None => tracing::warn!(%instance, id, "a commit number that no shim gives"),
            },
            Notice::BoundBroken { by_ns } => {
                tracing::error!(%instance, by_ns, "bound broken: a kill was not confirmed in time");
            }
            Notice::Late { by_ns } => tracing::warn!(%instance, by_ns, "this board stalls"),
            other => tracing::debug!(%instance, ?other, "shim"),
        }
    }
}

impl Asked {
    /// It does not stand still from now on, whoever relied on that.
    fn goes_on(&mut self) {
        if let Some(still) = self.still.take() {
            still.store(false, Ordering::Release);
        }
    }
}

/// What the node calls the commit that the shim of this thread calls `id`.
fn ticket_of(id: u64, life: u32) -> Option<u64> {
    let id = u32::try_from(id).ok()?;
    Some(u64::from(life) << TICKET_BITS | u64::from(id))
}

/// The number that the shim of this thread gave the commit. None for one of an earlier shim: its answer
/// must not be taken for that of another commit which happens to bear the same number.
fn commit_of(ticket: u64, life: u32) -> Option<u64> {
    (ticket >> TICKET_BITS == u64::from(life)).then_some(ticket & u64::from(u32::MAX))
}

fn result_of(outcome: CommitOutcome) -> CommitResult {
    match outcome {
        CommitOutcome::Ok(checkpoint) => CommitResult::Ok { checkpoint },
        CommitOutcome::Unprotected => CommitResult::Unprotected,
        CommitOutcome::Unknown => CommitResult::Unknown,
        CommitOutcome::Fenced => CommitResult::Fenced,
    }
}

fn exit_of(how: &How, cause: Cause) -> Exit {
    match (cause, how) {
        (Cause::Fenced, _) => Exit::Fenced,
        (Cause::Stopped | Cause::Killed, _) => Exit::Stopped,
        (_, How::Code(code)) => Exit::Code { code: *code },
        (_, How::Signal(signal)) => Exit::Signal { signal: *signal },
        (_, How::NotStarted(why)) => Exit::Failed { why: why.clone() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_to_a_commit_of_an_earlier_shim_is_not_one_to_the_next_shims() {
        let ticket = ticket_of(1, 7).unwrap();
        assert_eq!(commit_of(ticket, 7), Some(1));
        assert_eq!(commit_of(ticket, 8), None);
        assert_eq!(ticket_of(1 << 32, 7), None);
    }
}
