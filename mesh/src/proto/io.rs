//! The whole vocabulary between a node and whoever drives it, on one page.
//!
//! [`Input`] is everything that can happen to a node, [`Effect`] everything it can ask for,
//! [`Event`] everything it tells the outside world, [`Command`] and [`Reply`] what its operator or
//! its application says to it. What a node answers to questions about itself is in
//! [`views`](super::views).

use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::bounded::{Blob, List, Text};
use super::failover::active::Found;
use super::id::{Epoch, MeshId, NodeId, OpId};
use super::journal::Record;
use super::machine::Time;
use super::order::{Instance, SignedOrder};
use super::record::Name;
use super::signed::Signed;
use super::spec::{PORTS_MAX, ServiceSpec};
use super::specs::SpecHash;
use super::table::CheckpointId;
use super::ticket::{ADDRESSES_MAX, Address, Revocation};
use super::wire::Message;
use super::wire::gossip::{PUBLICATION_BYTES_MAX, TOPIC_BYTES_MAX};
use super::wire::hello::Refusal;

pub use super::views::{
    InstanceView, MasterView, NodeView, ResolvedView, StatusView, ViewState, WhyView,
};

/// Boards that an active sends its state to: the standby, and the one that is to become it.
pub const COPIES_MAX: usize = 2;
/// States of one instance that a board keeps.
pub const STATES_KEPT_MAX: usize = 16;

/// Something happened.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "short-lived: built, handled, dropped")]
pub enum Input {
    /// The board's clock shows these unix seconds. At start and about every ten seconds.
    WallClock(u64),
    /// The addresses under which this node can be reached have changed.
    Addresses(List<Address, ADDRESSES_MAX>),
    /// A node (of whatever mesh) was noticed on the LAN, or has answered where another one was dialled.
    Discovered {
        /// Who it says it is.
        node: NodeId,
        /// Where.
        address: Address,
    },
    /// There is a connection to `peer`, whose key the transport has proved. Nothing more is known.
    Connected {
        /// Who.
        peer: NodeId,
        /// The address at the other end, for people.
        address: Address,
    },
    /// The last connection to `peer` is gone.
    Disconnected {
        /// Who.
        peer: NodeId,
        /// Why, for people.
        why: String,
    },
    /// An attempt to connect to `peer` failed.
    DialFailed {
        /// Who.
        peer: NodeId,
        /// Why, for people.
        why: String,
    },
    /// A message arrived.
    Received {
        /// From whom; the transport has proved it.
        from: NodeId,
        /// What.
        #[serde(with = "super::wire::as_frame")]
        message: Message,
    },
    /// Bytes arrived that are not a message, or broke a limit of the transport.
    Garbled {
        /// From whom.
        from: NodeId,
        /// What was wrong, for people.
        what: String,
    },
    /// A record is on the disk and fsynced, or never will be.
    Persisted {
        /// Of the `Persist`.
        op: OpId,
        /// An error stops the node: an fsync is never retried.
        result: Result<(), String>,
    },
    /// The runtime says what became of an instance on this board.
    Workload {
        /// Which.
        instance: Instance,
        /// What.
        report: Report,
    },
    /// A capture has ended: the state is complete and durable in this board's store, or there is none.
    Captured {
        /// Of which instance.
        instance: Instance,
        /// As the `Capture` named it.
        id: CheckpointId,
        /// How large the whole state is, bytes; or why it could not be captured, for people.
        result: Result<u64, String>,
    },
    /// A state of another board has arrived: verified, complete and durable in this board's store.
    Fetched {
        /// Of which instance.
        instance: Instance,
        /// As the `Fetch` named it.
        id: CheckpointId,
        /// From whom.
        from: NodeId,
        /// What it cost; or why it did not arrive.
        result: Result<Transferred, NotFetched>,
    },
    /// The operator or the application wants something.
    Command {
        /// For the reply.
        op: OpId,
        /// What.
        command: Command,
    },
    /// States in this board's own store turned out not to be readable: they do not exist. What of them is rotten is
    /// written anew by the next capture.
    Spoilt {
        /// Of which instance.
        instance: Instance,
        /// Which.
        states: List<CheckpointId, STATES_KEPT_MAX>,
    },
}

/// Do this.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::large_enum_variant, reason = "short-lived: built, carried out, dropped")]
pub enum Effect {
    /// Open a connection. Answered by `Connected` or `DialFailed`.
    Connect {
        /// To whom.
        peer: NodeId,
        /// Candidates, best first.
        addresses: List<Address, ADDRESSES_MAX>,
    },
    /// Close all connections to `peer`, after what was sent before has left.
    Disconnect {
        /// To whom.
        peer: NodeId,
    },
    /// The peer has passed `hello`: let it use the other protocols.
    Admit {
        /// Who.
        peer: NodeId,
    },
    /// Send a message.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: Message,
    },
    /// Append to the journal and fsync. Answered by `Persisted`.
    Persist {
        /// For the answer.
        op: OpId,
        /// What.
        record: Record,
    },
    /// Start an instance through its shim. Answered by `Workload`.
    Start {
        /// Which.
        instance: Instance,
        /// The right that it runs under.
        epoch: Epoch,
        /// From then on none of its instructions may run, unless the lease is extended.
        until: Time,
        /// How long before `until` its shim begins to kill it.
        kill_bound: Duration,
        /// What to run.
        spec: Box<ServiceSpec>,
        /// The state that it begins with.
        begin: Begin,
    },
    /// What lies in the folder of an instance was written without a lease, while another board may have
    /// run it. Before it is begun anew here, the folder is to be kept under another name.
    KeepAside {
        /// Which.
        instance: Instance,
        /// The right that it was written under.
        epoch: Epoch,
    },
    /// Its lease was extended.
    Extend {
        /// Which.
        instance: Instance,
        /// The right that it runs under.
        epoch: Epoch,
        /// The new deadline.
        until: Time,
    },
    /// See whether an instance could be started on this board: whether what it runs is there. Answered by
    /// `Workload`, unless that is not known yet.
    Check {
        /// Which.
        instance: Instance,
        /// For the answer: which order says what it would run.
        order: SpecHash,
        /// What it would run.
        spec: Box<ServiceSpec>,
    },
    /// Stop an instance, if it runs. Answered by `Workload`, if it ran.
    Stop {
        /// Which.
        instance: Instance,
        /// At once, without asking it to end by itself first.
        kill: bool,
    },
    /// Capture the state of an instance into this board's store, under that name: of one that does not run,
    /// its folder as it lies. Answered by `Captured`. At most one at a time for an instance.
    Capture {
        /// Which.
        instance: Instance,
        /// What the state will be called. Never used for another state.
        id: CheckpointId,
        /// The service stays frozen afterwards, until `Thaw` or `Stop`.
        freeze: bool,
    },
    /// Let a frozen instance go on.
    Thaw {
        /// Which.
        instance: Instance,
    },
    /// From now on exactly these boards may fetch states of that instance from this one.
    Serve {
        /// Which.
        instance: Instance,
        /// Who.
        to: List<NodeId, COPIES_MAX>,
    },
    /// Fetch a state from the board that has it; verify it and make it durable. Answered by `Fetched`.
    /// A newer one for the same instance replaces one under way, which is then not answered.
    Fetch {
        /// Of which instance.
        instance: Instance,
        /// Which state.
        id: CheckpointId,
        /// From whom.
        from: NodeId,
    },
    /// Keep exactly these states of an instance in this board's store; the others may be forgotten.
    Keep {
        /// Which.
        instance: Instance,
        /// The states. Empty: everything about it is forgotten.
        states: List<CheckpointId, STATES_KEPT_MAX>,
    },
    /// Answer a service's commit.
    Commit {
        /// Which.
        instance: Instance,
        /// As it was asked.
        ticket: u64,
        /// What became of it.
        outcome: CommitOutcome,
    },
    /// Answer a command.
    Reply {
        /// Of the command.
        op: OpId,
        /// What.
        reply: Reply,
    },
    /// Tell the outside world.
    Event(Event),
}

/// What the runtime says about an instance.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Report {
    /// It was running already when this node started.
    Found(Found),
    /// It runs.
    Started {
        /// Under which right.
        epoch: Epoch,
        /// Its ports by name.
        ports: List<(Name, u16), PORTS_MAX>,
    },
    /// It does not run any more, or could not be started.
    Ended {
        /// Under which right it ran or was to run.
        epoch: Epoch,
        /// How it ended.
        #[serde(with = "plain::Exit")]
        exit: Exit,
    },
    /// It was to go on with the state that it left behind, but that state is not there any more.
    Lost {
        /// Under which right.
        epoch: Epoch,
    },
    /// It asks for everything up to now to be kept; answered by `Commit`.
    Commit {
        /// Echoed in the answer.
        ticket: u64,
    },
    /// What a check has found.
    Checked {
        /// As the `Check` named it.
        order: SpecHash,
        /// Whether it could be started, or why not, for people.
        result: Result<(), String>,
    },
}

/// The state that an instance begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Begin {
    /// None: its first start ever.
    Empty {
        /// Whether what lies in its folder was left by a removed service of the same name. Otherwise it
        /// was brought along.
        anew: bool,
    },
    /// This state, from this board's store, in place of whatever is in its folder.
    From(CheckpointId),
    /// What it left behind when it ran here last, under the same right.
    GoOn {
        /// Where the board has lost power since: this state from its store instead. What lies in the
        /// folder may be older than what was committed; nobody synced it.
        after_power_cut: Option<CheckpointId>,
    },
}

/// What it cost to fetch a state.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Transferred {
    /// Bytes that crossed the network.
    pub wire_bytes: u64,
    /// Bytes of the whole state.
    pub state_bytes: u64,
    /// True when nothing was there to compare it with.
    pub full: bool,
}

/// Why a state did not arrive.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{why}")]
pub struct NotFetched {
    /// For people.
    pub why: String,
    /// True when this board's own disk does not take it: it will not fare better from elsewhere.
    pub own_disk: bool,
}

/// What became of a commit (3b.7). *Unknown* is never a failure: it may have been kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CommitOutcome {
    /// Every holder that must has it durably, as part of this checkpoint or, where the service does
    /// not ask for more, it is part of the next checkpoint to come.
    Ok(u64),
    /// No other board holds the state, and the service did not want to wait longer.
    Unprotected,
    /// The right to run ended, or time ran out, in the middle.
    Unknown,
    /// This instance has no right to run any more.
    Fenced,
}

/// How an instance ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, thiserror::Error)]
#[serde(tag = "exit", rename_all = "kebab-case")]
pub enum Exit {
    /// By itself.
    #[error("it ended with exit code {code}")]
    Code {
        /// Its exit code.
        code: i32,
    },
    /// By a signal that this node did not send.
    #[error("it was killed by signal {signal}")]
    Signal {
        /// Which.
        signal: i32,
    },
    /// Its lease ran out.
    #[error("its lease ran out, so it was killed")]
    Fenced,
    /// This node stopped it.
    #[error("it was stopped")]
    Stopped,
    /// By itself, and it said why.
    #[error("it ended with an error: {why}")]
    Error {
        /// What it said.
        why: String,
    },
    /// It could not be started.
    #[error("it could not be started: {why}")]
    Failed {
        /// Why.
        why: String,
    },
}

/// Endings as they are written into recordings: the form that people read has its kind among its fields,
/// which the codec cannot read back.
mod plain {
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    #[serde(remote = "super::Exit")]
    pub(super) enum Exit {
        Code { code: i32 },
        Signal { signal: i32 },
        Fenced,
        Stopped,
        Error { why: String },
        Failed { why: String },
    }
}

/// What the outside world is told: the one source for the application, logs, metrics and timeline.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The node has its identity on disk and takes part.
    Started {
        /// Who it is.
        node: NodeId,
        /// Where it belongs.
        mesh: MeshId,
        /// Which life.
        incarnation: u64,
    },
    /// A board was let in by this node for the first time.
    Admitted {
        /// Who.
        node: NodeId,
        /// Its name.
        name: String,
    },
    /// A board was not let in.
    Refused {
        /// Who.
        node: NodeId,
        /// Why.
        reason: Refusal,
    },
    /// A member refused this node.
    RefusedBy {
        /// Who.
        node: NodeId,
        /// Why.
        reason: Refusal,
        /// What the other side said.
        text: String,
    },
    /// A member appeared, or came back.
    MemberUp {
        /// Who.
        node: NodeId,
        /// Its name.
        name: String,
        /// Which life.
        incarnation: u64,
    },
    /// Somebody lost contact with a member.
    Suspected {
        /// Who fell silent.
        node: NodeId,
        /// Who noticed.
        by: NodeId,
    },
    /// A suspected member answered for itself.
    Refuted {
        /// Who.
        node: NodeId,
    },
    /// A member is held for dead.
    MemberDown {
        /// Who.
        node: NodeId,
        /// Its name.
        name: String,
        /// Which life.
        incarnation: u64,
        /// How many members lost contact with it; 0 when this was learnt from a digest.
        alerters: u16,
    },
    /// A member left on purpose.
    MemberLeft {
        /// Who.
        node: NodeId,
        /// Its name.
        name: String,
    },
    /// This node hears too few of those it watches to judge anybody, or does again.
    Isolated {
        /// How many of them are silent.
        silent: u16,
        /// Of how many.
        of: u16,
        /// False when it is over.
        isolated: bool,
    },
    /// This node stopped being master.
    SteppedDown {
        /// Of which term.
        term: u64,
        /// Why.
        why: String,
    },
    /// The table that this master proposed was chosen.
    TableChosen {
        /// In which term.
        term: u64,
        /// Which change.
        number: u64,
        /// By how many voters it is kept.
        voters: u16,
    },
    /// Other boards decide from now on.
    VotersChanged {
        /// Their names.
        voters: Vec<String>,
    },
    /// A master announced itself.
    MasterIs {
        /// Who.
        node: NodeId,
        /// Its name.
        name: String,
        /// In which term.
        term: u64,
    },
    /// A ticket or a board was revoked.
    Revoked {
        /// What.
        target: String,
    },
    /// An instance runs on this board.
    Runs {
        /// Which.
        instance: String,
        /// Under which right.
        epoch: u64,
    },
    /// An instance that was running before this node restarted runs on.
    Adopted {
        /// Which.
        instance: String,
        /// Under which right.
        epoch: u64,
    },
    /// A state of an instance on this board is held durably by another one.
    Copied {
        /// Which instance.
        instance: String,
        /// Under which right it was captured.
        epoch: u64,
        /// Which of the captures under that right.
        seq: u64,
        /// Who holds it.
        by: NodeId,
    },
    /// A state was fetched from an instance's active.
    Fetched {
        /// Which instance.
        instance: String,
        /// Under which right it was captured.
        epoch: u64,
        /// Which of the captures under that right.
        seq: u64,
        /// What it cost.
        #[serde(flatten)]
        cost: Transferred,
    },
    /// A state could not be captured, or not be fetched; it is tried again.
    CopyFailed {
        /// Which instance.
        instance: String,
        /// Why.
        why: String,
    },
    /// This board asks to take over an instance: its active is silent.
    Takes {
        /// Which.
        instance: String,
        /// The right that is to end.
        epoch: u64,
    },
    /// This board stands by for an instance that it could not start.
    Unable {
        /// Which.
        instance: String,
        /// Why not.
        why: String,
    },
    /// The right to run an instance went to this board.
    Appointed {
        /// Which.
        instance: String,
        /// The new right.
        epoch: u64,
    },
    /// An instance has a standby that can carry on, or has none any more.
    Protected {
        /// Which.
        instance: String,
        /// Under which right.
        epoch: u64,
        /// The standby that holds its state; none: no other board could carry on.
        standby: Option<NodeId>,
    },
    /// An instance on this board ended.
    Ended {
        /// Which.
        instance: String,
        /// Under which right it ran.
        epoch: u64,
        /// How.
        why: String,
    },
    /// A message on a topic.
    Topic {
        /// Which.
        topic: String,
        /// Who published it.
        from: NodeId,
        /// The message.
        #[serde(skip)]
        body: Blob<PUBLICATION_BYTES_MAX>,
    },
    /// A peer broke a rule of the protocol.
    Misbehaved {
        /// Who.
        node: NodeId,
        /// Which rule.
        what: String,
    },
    /// This board was not called in time, by more than the leases of its preset carry.
    Stalled {
        /// By how much, milliseconds.
        late_ms: u64,
        /// What its leases carry, milliseconds.
        carried_ms: u64,
    },
    /// An instance that keeps running in isolation ran here while another board had the right to. What
    /// was written here meanwhile is kept aside, in its folder.
    SplitRan {
        /// Which.
        instance: String,
        /// The right that it ran under here.
        old: u64,
        /// The right that counts.
        new: u64,
        /// For how long it ran without a lease, milliseconds.
        for_ms: u64,
    },
    /// The mesh was recovered by force from a table that does not know this instance. Its newest state is
    /// kept on this board.
    Orphaned {
        /// Which instance.
        instance: String,
    },
    /// Operators recovered the mesh in two places; this board follows the other one from now on. What was
    /// decided here since may be lost.
    RecoveredTwice {
        /// How often the mesh was recovered by force.
        generation: u32,
    },
    /// This node has left the mesh.
    Left,
    /// This node was leaving when its last life ended, and stays.
    Stays,
    /// This node stopped for good; only a restart helps.
    Halted {
        /// Why.
        why: String,
    },
}

/// What an operator or an application wants.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Command {
    /// The mesh as seen from here.
    Status,
    /// Every member.
    Nodes,
    /// Everything known about one object: a member's name or the beginning of its id.
    Why(Text<128>),
    /// Leave the mesh on purpose: first what runs here is handed over, and those who decide are asked
    /// whether they can do without this board. Answered when it has left, or will not.
    Leave {
        /// At once, whatever comes of it.
        force: bool,
    },
    /// Hand every instance that runs here over to its standby: this board is about to go away. What has
    /// no standby stays.
    HandOver,
    /// Tell every member on a topic.
    Publish {
        /// Which.
        topic: Text<TOPIC_BYTES_MAX>,
        /// The message.
        body: Blob<PUBLICATION_BYTES_MAX>,
    },
    /// What has been revoked.
    Revocations,
    /// Every instance in the table.
    Instances,
    /// Where a service serves.
    Resolve(Name),
    /// What an operator wants changed.
    Order(Box<SignedOrder>),
    /// Spread a revocation signed by root.
    Revoke(Signed<Revocation>),
}

/// The answer to a [`Command`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(untagged)]
#[allow(clippy::large_enum_variant, reason = "short-lived: built, sent, dropped")]
pub enum Reply {
    /// To `Status`.
    Status(StatusView),
    /// To `Nodes`.
    Nodes(Vec<NodeView>),
    /// To `Why`.
    Why(WhyView),
    /// To `Revocations`: `ticket ID` or `node ID`.
    Revocations(Vec<String>),
    /// To `Instances`.
    Instances(Vec<InstanceView>),
    /// To `Resolve`.
    Resolved(ResolvedView),
    /// Done.
    Done,
    /// Not done.
    Error(ReplyError),
}

/// Why a command was not carried out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, thiserror::Error)]
#[error("{message}")]
pub struct ReplyError {
    /// For programs, kebab-case.
    pub code: String,
    /// For people: what happened, to what, what to do next.
    pub message: String,
}
