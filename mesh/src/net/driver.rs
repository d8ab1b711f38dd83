//! The driver: one task that owns the node.
//!
//! Fire what is due, carry out the effects, then wait for one input; again. It waits for nothing
//! else: the journal, the swarm and whoever gave a command answer through bounded queues. A full
//! queue drops and says so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};

use super::copies::Copies;
use super::disk::Worker;
use super::observe::Observer;
use super::recorder::Recorder;
use super::swarm::{self, Swarm, SwarmConfig, SwarmEvent};
use super::workloads::{Reported, Start, Workloads};
use crate::clock;
use crate::error::RunError;
use crate::proto::bounded::{List, Text};
use crate::proto::id::{NodeId, OpId};
use crate::proto::io::{Command, Effect, Event, Input, Reply};
use crate::proto::machine::{Effects, Time};
use crate::proto::node::Node;
use crate::proto::order::Instance;
use crate::proto::table::CheckpointId;
use crate::proto::ticket::{ADDRESSES_MAX, Address};
use crate::proto::wire::{self, FrameError, Message};

/// Between two readings of the board's clock of day.
const WALL_CLOCK_INTERVAL: Duration = Duration::from_secs(10);
/// After the swarm broke down, a new one is started that much later.
const SWARM_RESTART: Duration = Duration::from_secs(1);

/// A command and who waits for its reply.
pub(crate) type Request = (Command, oneshot::Sender<Reply>);

/// Everything the driver holds.
pub(crate) struct Driver {
    pub(crate) node: Node,
    pub(crate) swarm: Swarm,
    pub(crate) swarm_config: Box<dyn Fn() -> SwarmConfig + Send>,
    pub(crate) swarm_events: mpsc::Receiver<SwarmEvent>,
    pub(crate) journal: Worker,
    pub(crate) workloads: Workloads,
    pub(crate) reported: mpsc::Receiver<Reported>,
    pub(crate) copies: Copies,
    pub(crate) copied: mpsc::Receiver<Input>,
    pub(crate) requests: mpsc::Receiver<Request>,
    pub(crate) stop: oneshot::Receiver<()>,
    pub(crate) observer: Observer,
    /// Writes down every call of the node, if that is wanted.
    pub(crate) recorder: Option<Recorder>,
    /// Told to others instead of the listening addresses, if not empty.
    pub(crate) announce: Vec<String>,
    pub(crate) state: State,
}

/// What the driver keeps count of.
#[derive(Default)]
pub(crate) struct State {
    effects: Effects,
    /// Inputs that the driver itself made while carrying out effects.
    backlog: VecDeque<Input>,
    waiting: BTreeMap<OpId, oneshot::Sender<Reply>>,
    next_op: u64,
    connected: BTreeSet<NodeId>,
    halted: Option<String>,
}

impl Driver {
    /// Runs the node until it is told to stop or halts.
    pub(crate) async fn run(mut self) -> Result<(), RunError> {
        let timer = clock::Timer::new().map_err(RunError::Timer)?;
        let mut timer = readable(timer).map_err(RunError::Timer)?;
        let mut wall_clock = tokio::time::interval(WALL_CLOCK_INTERVAL);
        self.tell_addresses();
        loop {
            self.settle();
            if let Some(why) = self.state.halted.take() {
                self.swarm.shutdown().await;
                return Err(RunError::Halted(why));
            }
            match self.node.poll_timeout() {
                Some(timeout) => timer.get_mut().arm(timeout.at.0).map_err(RunError::Timer)?,
                None => timer.get_mut().disarm().map_err(RunError::Timer)?,
            }
            tokio::select! {
                biased;
                _ = &mut self.stop => {
                    self.swarm.shutdown().await;
                    return Ok(());
                }
                Some((op, result)) = self.journal.answer() => {
                    self.input(Input::Persisted { op, result });
                }
                ready = timer.readable_mut() => {
                    let mut ready = ready.map_err(RunError::Timer)?;
                    ready.get_inner_mut().clear();
                    ready.clear_ready();
                }
                Some((instance, report)) = self.reported.recv() => {
                    self.input(Input::Workload { instance, report });
                }
                Some(outcome) = self.copied.recv() => self.input(outcome),
                Some((command, answer)) = self.requests.recv() => self.on_request(command, answer),
                _ = wall_clock.tick() => self.input(Input::WallClock(unix_now())),
                event = self.swarm_events.recv() => match event {
                    Some(event) => self.on_swarm(event).await,
                    None => self.restart_swarm("its task ended").await,
                },
            }
        }
    }

    /// Handles everything that is due now, and everything that follows from it.
    fn settle(&mut self) {
        loop {
            while let Some(input) = self.state.backlog.pop_front() {
                self.input(input);
            }
            let now = Time(clock::now_ns());
            if self.node.poll_timeout().is_none_or(|timeout| timeout.at > now) {
                return;
            }
            self.record(now, None);
            self.node.handle_timeout(now, &mut self.state.effects);
            self.carry_out();
        }
    }

    fn input(&mut self, input: Input) {
        let now = Time(clock::now_ns());
        self.record(now, Some(&input));
        self.node.handle_input(now, input, &mut self.state.effects);
        self.carry_out();
    }

    fn record(&mut self, now: Time, input: Option<&Input>) {
        if let Some(recorder) = &mut self.recorder {
            recorder.call(now, input);
        }
    }

    fn carry_out(&mut self) {
        if let Some(recorder) = &mut self.recorder {
            recorder.effects(self.state.effects.as_slice());
        }
        let effects: Vec<Effect> = self.state.effects.drain().collect();
        for effect in effects {
            match effect {
                Effect::Connect { peer, addresses } => {
                    let addresses = addresses.iter().map(ToString::to_string).collect();
                    if !self.swarm.dial(peer, addresses) {
                        let why = "too many dials at once".to_owned();
                        self.state.backlog.push_back(Input::DialFailed { peer, why });
                    }
                }
                Effect::Disconnect { peer } => drop(self.swarm.disconnect(peer)),
                Effect::Admit { peer } => {
                    // False: it has gone again, which comes as an input.
                    let _admitted_or_gone = self.swarm.admit(peer);
                    self.copies.on_admitted(&peer);
                }
                Effect::Send { to, message } => self.send(to, &message),
                Effect::Persist { op, record } => {
                    let told = self.journal.persist(op, record).into_iter();
                    let told = told.map(|(op, result)| Input::Persisted { op, result });
                    self.state.backlog.extend(told);
                }
                Effect::Start { instance, epoch, until, kill_bound, spec, begin } => {
                    let start = Start { instance, epoch, until, kill_bound, spec, begin };
                    self.workloads.start(start);
                }
                Effect::Check { instance, order, spec } => {
                    self.workloads.check(instance, order, &spec);
                }
                Effect::Extend { instance, until, .. } => self.workloads.extend(&instance, until),
                Effect::KeepAside { instance, epoch } => {
                    let folder = self.workloads.folder(&instance);
                    self.copies.keep_aside(&instance, folder, epoch);
                }
                Effect::Stop { instance, kill } => self.workloads.stop(&instance, kill),
                Effect::Capture { instance, id, freeze } => self.capture(instance, id, freeze),
                Effect::Thaw { instance } => self.workloads.thaw(&instance),
                Effect::Serve { instance, to } => self.copies.serve(instance, to),
                Effect::Fetch { instance, id, from } => {
                    self.copies.fetch(&self.swarm, instance, id, from);
                }
                Effect::Keep { instance, states } => self.copies.keep(&instance, states),
                Effect::Commit { instance, ticket, outcome } => {
                    self.workloads.commit(&instance, ticket, outcome);
                }
                Effect::Reply { op, reply } => {
                    if let Some(answer) = self.state.waiting.remove(&op) {
                        // Whoever asked may have gone away meanwhile.
                        let _ = answer.send(reply);
                    }
                }
                Effect::Event(event) => {
                    if let Event::Halted { why } = &event {
                        self.state.halted = Some(why.clone());
                    }
                    self.observer.event(event);
                }
            }
        }
    }

    fn capture(&mut self, instance: Instance, id: CheckpointId, freeze: bool) {
        let folder = self.workloads.folder(&instance);
        let freezer = self.workloads.workers().freezer(&instance, freeze);
        if let Err(why) = self.copies.capture(&instance, id, folder, freeze, freezer) {
            let result = Err(why);
            self.state.backlog.push_back(Input::Captured { instance, id, result });
        }
    }

    fn send(&mut self, to: NodeId, message: &Message) {
        match wire::encode(message) {
            Ok(frame) if is_hello(message) => drop(self.swarm.send_hello(to, frame)),
            // A full queue is counted by the swarm and reported as `Dropped`.
            Ok(frame) => drop(self.swarm.send_control(to, frame)),
            Err(error) => tracing::error!(%error, kind = message.name(), "a message is too large"),
        }
    }

    fn on_request(&mut self, command: Command, answer: oneshot::Sender<Reply>) {
        self.state.next_op += 1;
        let op = OpId(self.state.next_op);
        self.state.waiting.retain(|_, answer| !answer.is_closed());
        self.state.waiting.insert(op, answer);
        self.input(Input::Command { op, command });
    }

    async fn on_swarm(&mut self, event: SwarmEvent) {
        match event {
            SwarmEvent::Listening { address } => {
                tracing::info!(%address, "listening");
                self.tell_addresses();
            }
            SwarmEvent::NotListening { address, reason } => {
                tracing::warn!(%address, %reason, "no longer listening");
                self.tell_addresses();
            }
            SwarmEvent::Connected { peer, address, .. } => {
                self.state.connected.insert(peer);
                self.input(Input::Connected { peer, address: Text::capped(&address) });
            }
            SwarmEvent::Disconnected { peer, reason } => {
                self.state.connected.remove(&peer);
                self.input(Input::Disconnected { peer, why: reason });
            }
            SwarmEvent::DialFailed { peer, reason } => {
                self.input(Input::DialFailed { peer, why: reason });
            }
            SwarmEvent::Hello { peer, frame } => self.on_frame(peer, &frame, true),
            SwarmEvent::Control { peer, frame } => self.on_frame(peer, &frame, false),
            SwarmEvent::Misbehaved { peer, what } => {
                self.input(Input::Garbled { from: peer, what });
            }
            SwarmEvent::Discovered { peer, address } => {
                let address = Text::capped(&address);
                self.input(Input::Discovered { node: peer, address });
            }
            SwarmEvent::Dropped { peer, frames } => {
                tracing::warn!(peer = %peer.short(), frames, "the link is too slow: messages dropped");
            }
            SwarmEvent::Observed { address } => tracing::debug!(%address, "observed"),
            SwarmEvent::Bulk { peer, stream } => self.copies.on_stream(peer, stream),
            SwarmEvent::Failed { reason } => self.restart_swarm(&reason).await,
        }
    }

    fn on_frame(&mut self, from: NodeId, frame: &[u8], hello_lane: bool) {
        match wire::decode(frame) {
            Ok(message) if is_hello(&message) == hello_lane => {
                self.input(Input::Received { from, message });
            }
            Ok(message) => {
                let what = format!("{} on the wrong protocol", message.name());
                self.input(Input::Garbled { from, what });
            }
            Err(FrameError::Unknown(kind)) => self.observer.skipped(from, kind),
            Err(error) => self.input(Input::Garbled { from, what: error.to_string() }),
        }
    }

    /// A bug in a library must not take the node down: everything else goes on.
    async fn restart_swarm(&mut self, reason: &str) {
        tracing::error!(reason, "the network layer broke down; starting a new one");
        for peer in std::mem::take(&mut self.state.connected) {
            let why = "the network layer broke down".to_owned();
            self.input(Input::Disconnected { peer, why });
        }
        match swarm::start((self.swarm_config)()).await {
            Ok((swarm, events)) => (self.swarm, self.swarm_events) = (swarm, events),
            Err(error) => {
                tracing::error!(%error, "the network layer does not start again; trying once more");
                tokio::time::sleep(SWARM_RESTART).await;
            }
        }
        self.tell_addresses();
    }

    fn tell_addresses(&mut self) {
        let addresses = match self.announce.is_empty() {
            true => reachable(self.swarm.listen_addresses()),
            false => List::capped(self.announce.iter().map(|address| Text::capped(address))),
        };
        self.input(Input::Addresses(addresses));
    }
}

/// The addresses worth telling: loopback only where there is nothing else.
fn reachable(mut all: Vec<String>) -> List<Address, ADDRESSES_MAX> {
    all.sort();
    let is_loopback = |a: &String| a.starts_with("/ip4/127.") || a.starts_with("/ip6/::1/");
    if all.iter().any(|address| !is_loopback(address)) {
        all.retain(|address| !is_loopback(address));
    }
    List::capped(all.iter().map(|address| Text::capped(address)))
}

fn is_hello(message: &Message) -> bool {
    matches!(message, Message::Hello(_) | Message::Refused(_) | Message::Welcome(_))
}

#[expect(unsafe_code, reason = "tokio's only constructor that is not deprecated is unsafe")]
fn readable(timer: clock::Timer) -> std::io::Result<AsyncFd<clock::Timer>> {
    // SAFETY: the timer owns its descriptor, always returns that one, and is owned by the `AsyncFd`,
    // which deregisters it before dropping it.
    Ok(unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) }?)
}

/// The board's clock of day, unix seconds.
pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
