//! Observation: the one place where the node's events become logs and streams.
//!
//! error = the operator must act; warn = degraded; info = a line worth a day; debug = a round.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tokio::sync::broadcast;

use crate::proto::id::NodeId;
use crate::proto::io::Event;

/// Events that a slow listener may lag behind before it misses some.
pub const EVENTS_LAG_MAX: usize = 1024;
/// Past events that are kept for whoever asks later.
pub const EVENTS_KEPT: usize = 256;
/// Among them, of the copies of one instance to one board.
const COPIES_KEPT: usize = 8;
/// Messages of one topic that a slow subscriber may lag behind before it misses some.
pub const TOPIC_LAG_MAX: usize = 64;
/// Kinds of unknown messages that are counted apart.
const SKIPPED_KINDS_MAX: usize = 64;

/// An event and when it happened.
#[derive(Clone, Debug, Serialize)]
pub struct Stamped {
    /// Unix milliseconds by this board's clock.
    pub at_ms: u64,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

/// Where events go. Held by the driver alone: its streams end with it.
#[derive(Debug)]
pub(crate) struct Observer {
    live: broadcast::Sender<Stamped>,
    kept: Arc<Mutex<VecDeque<Stamped>>>,
    topics: Arc<Mutex<Topics>>,
    skipped: BTreeMap<u16, u64>,
}

/// Where events come from. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Watcher {
    live: broadcast::WeakSender<Stamped>,
    kept: Arc<Mutex<VecDeque<Stamped>>>,
    topics: Weak<Mutex<Topics>>,
}

/// Who listens to which topic.
type Topics = BTreeMap<String, broadcast::Sender<Published>>;

/// A message on a topic and who published it.
pub(crate) type Published = (NodeId, Arc<[u8]>);

/// A bounded stream of events, see [`Client::events`](super::Client::events).
#[derive(Debug)]
pub struct Events {
    live: broadcast::Receiver<Stamped>,
}

/// One item of [`Events`].
#[derive(Clone, Debug)]
pub enum Observed {
    /// Something happened.
    Event(Stamped),
    /// The listener was too slow and missed that many.
    Lagged(u64),
}

impl Observer {
    pub(crate) fn new() -> Self {
        let kept = Arc::new(Mutex::new(VecDeque::new()));
        let topics = Arc::default();
        Self { live: broadcast::channel(EVENTS_LAG_MAX).0, kept, topics, skipped: BTreeMap::new() }
    }

    /// Whoever wants to hear of it.
    pub(crate) fn watcher(&self) -> Watcher {
        let (live, kept) = (self.live.downgrade(), self.kept.clone());
        Watcher { live, kept, topics: Arc::downgrade(&self.topics) }
    }

    pub(crate) fn event(&mut self, event: Event) {
        log(&event);
        if let Event::Topic { topic, from, body } = &event {
            let topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(listeners) = topics.get(topic) {
                // An error only says that nobody listens.
                let _ = listeners.send((*from, Arc::from(&body[..])));
            }
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let stamped = Stamped { at_ms, event };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // What comes once for each copy would displace everything else.
        let alike = |old: &Stamped| is_next_copy(&stamped.event, &old.event);
        if kept.iter().filter(|old| alike(old)).count() >= COPIES_KEPT {
            kept.iter().position(alike).map(|oldest| kept.remove(oldest));
        }
        if kept.len() == EVENTS_KEPT {
            kept.pop_front();
        }
        kept.push_back(stamped.clone());
        // An error only says that nobody listens.
        let _ = self.live.send(stamped);
    }

    /// A message of a later version was skipped.
    pub(crate) fn skipped(&mut self, from: NodeId, kind: u16) {
        if self.skipped.len() < SKIPPED_KINDS_MAX || self.skipped.contains_key(&kind) {
            let count = self.skipped.entry(kind).or_default();
            *count += 1;
            tracing::debug!(from = %from.short(), kind, count = *count, "unknown message skipped");
        }
    }
}

impl Watcher {
    pub(crate) fn subscribe(&self) -> Events {
        // Without a sender it is a stream that has ended.
        let live = self.live.upgrade().unwrap_or_else(|| broadcast::channel(1).0);
        Events { live: live.subscribe() }
    }

    /// The last events and the stream that goes on right after them: none missing, none twice.
    pub(crate) fn kept_and_subscribe(&self) -> (Vec<Stamped>, Events) {
        // `event` keeps and sends under this lock.
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.iter().cloned().collect(), self.subscribe())
    }

    /// The last events, oldest first.
    pub(crate) fn kept(&self) -> Vec<Stamped> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// What is published on one topic from now on.
    pub(crate) fn subscribe_to(&self, topic: &str) -> broadcast::Receiver<Published> {
        let Some(topics) = self.topics.upgrade() else { return broadcast::channel(1).1 };
        let mut topics = topics.lock().unwrap_or_else(PoisonError::into_inner);
        topics.retain(|_, listeners| listeners.receiver_count() > 0);
        let listeners = topics.entry(topic.to_owned());
        listeners.or_insert_with(|| broadcast::channel(TOPIC_LAG_MAX).0).subscribe()
    }
}

impl Events {
    /// The next event; none once the node has stopped.
    pub async fn next(&mut self) -> Option<Observed> {
        match self.live.recv().await {
            Ok(stamped) => Some(Observed::Event(stamped)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Observed::Lagged(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// Whether both are about copies of one instance to one board.
fn is_next_copy(new: &Event, old: &Event) -> bool {
    match (new, old) {
        (Event::Copied { instance, by, .. }, Event::Copied { instance: of, by: whom, .. }) => {
            instance == of && by == whom
        }
        (Event::Fetched { instance, .. }, Event::Fetched { instance: of, .. }) => instance == of,
        _ => false,
    }
}

fn log(event: &Event) {
    match event {
        Event::Started { node, mesh, incarnation } => {
            tracing::info!(node = %node.short(), %mesh, incarnation, "started");
        }
        Event::Admitted { node, name } => tracing::info!(node = %node.short(), name, "let in"),
        Event::Refused { node, reason } => {
            tracing::warn!(node = %node.short(), ?reason, "not let in");
        }
        Event::RefusedBy { node, reason, text } => {
            tracing::warn!(node = %node.short(), ?reason, text, "refused this node");
        }
        Event::MemberUp { node, name, incarnation } => {
            tracing::info!(node = %node.short(), name, incarnation, "up");
        }
        Event::Suspected { node, by } => {
            tracing::debug!(node = %node.short(), by = %by.short(), "suspected");
        }
        Event::Refuted { node } => tracing::debug!(node = %node.short(), "refuted"),
        Event::MemberDown { node, name, incarnation, alerters } => {
            tracing::warn!(node = %node.short(), name, incarnation, alerters, "down");
        }
        Event::MemberLeft { node, name } => tracing::info!(node = %node.short(), name, "left"),
        Event::Isolated { silent, of, isolated: true } => {
            tracing::warn!(silent, of, "isolated: judging nobody");
        }
        Event::Isolated { silent, of, isolated: false } => {
            tracing::info!(silent, of, "no longer isolated");
        }
        Event::Runs { .. }
        | Event::Adopted { .. }
        | Event::Ended { .. }
        | Event::Copied { .. }
        | Event::Fetched { .. }
        | Event::CopyFailed { .. }
        | Event::Takes { .. }
        | Event::Unable { .. }
        | Event::Appointed { .. }
        | Event::Protected { .. }
        | Event::SplitRan { .. }
        | Event::Orphaned { .. } => log_instance(event),
        Event::SteppedDown { term, why } => tracing::warn!(term, why, "no longer master"),
        Event::TableChosen { term, number, voters } => {
            tracing::debug!(term, number, voters, "table chosen");
        }
        Event::VotersChanged { voters } => tracing::info!(?voters, "other boards decide"),
        Event::MasterIs { node, name, term } => {
            tracing::info!(node = %node.short(), name, term, "master");
        }
        Event::Revoked { target } => tracing::warn!(target, "revoked"),
        Event::Topic { topic, from, body } => {
            tracing::trace!(topic, from = %from.short(), bytes = body.len(), "published");
        }
        Event::Misbehaved { node, what } => {
            tracing::warn!(node = %node.short(), what, "broke a rule");
        }
        Event::Left => tracing::info!("left the mesh"),
        Event::Stays => tracing::warn!("stopped while it was leaving: stays a member"),
        Event::Stalled { late_ms, carried_ms } => {
            tracing::warn!(
                late_ms,
                carried_ms,
                "this board stalls for longer than its leases carry"
            );
        }
        Event::RecoveredTwice { generation } => {
            tracing::error!(generation, "recovered by force in two places: the other one counts");
        }
        Event::Halted { why } => tracing::error!(why, "halted"),
    }
}

/// What happened to an instance.
fn log_instance(event: &Event) {
    match event {
        Event::Runs { instance, epoch } => tracing::info!(instance, epoch, "runs here"),
        Event::Adopted { instance, epoch } => tracing::info!(instance, epoch, "runs on"),
        Event::Ended { instance, epoch, why } => tracing::warn!(instance, epoch, why, "ended"),
        Event::Copied { instance, epoch, seq, by } => {
            tracing::debug!(instance, epoch, seq, by = %by.short(), "copied");
        }
        Event::Fetched { instance, epoch, seq, cost } => {
            tracing::debug!(instance, epoch, seq, wire_bytes = cost.wire_bytes, "fetched");
        }
        Event::Orphaned { instance } => {
            tracing::error!(
                instance,
                "the recovered mesh does not know it; its newest state is kept"
            );
        }
        Event::CopyFailed { instance, why } => tracing::warn!(instance, why, "copying failed"),
        Event::Takes { instance, epoch } => tracing::warn!(instance, epoch, "asks to take over"),
        Event::Unable { instance, why } => {
            tracing::warn!(instance, why, "stands by, but could not start it");
        }
        Event::Appointed { instance, epoch } => tracing::info!(instance, epoch, "to run here"),
        Event::Protected { instance, epoch, standby: Some(standby) } => {
            tracing::info!(instance, epoch, standby = %standby.short(), "protected");
        }
        Event::Protected { instance, epoch, standby: None } => {
            tracing::warn!(instance, epoch, "not protected");
        }
        Event::SplitRan { instance, old, new, for_ms } => {
            tracing::error!(
                instance,
                old,
                new,
                for_ms,
                "ran here while another board had the right"
            );
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::id::Keypair;

    #[test]
    fn a_copy_each_second_displaces_nothing_else_from_what_is_kept() {
        let mut observer = Observer::new();
        let copied = |seq, by| Event::Copied { instance: "kv".to_owned(), epoch: 1, seq, by };
        let (one, two) =
            (Keypair::from_seed(&[1; 32]).public(), Keypair::from_seed(&[2; 32]).public());
        observer.event(Event::Left);
        for seq in 0..2 * EVENTS_KEPT as u64 {
            observer.event(copied(seq, one));
        }
        observer.event(copied(1, two));
        let kept: Vec<Event> = observer.watcher().kept().into_iter().map(|it| it.event).collect();
        let newest =
            (2 * EVENTS_KEPT - COPIES_KEPT..2 * EVENTS_KEPT).map(|seq| copied(seq as u64, one));
        let expected: Vec<Event> =
            [Event::Left].into_iter().chain(newest).chain([copied(1, two)]).collect();
        assert_eq!(kept, expected);
    }
}
