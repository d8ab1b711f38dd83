//! The vocabulary of faults: one enum, one line each in a scenario file.
//!
//! A fault begins at a time and, where that means something, lasts for a time. The world counts each
//! as *injected* when it begins and as *felt* when it made a difference to somebody: a partition that
//! held no message back tested nothing.

mod envelope;
mod kinds;

use serde::{Deserialize, Serialize};

use crate::cue::Cue;
use crate::net::nat::{EXPIRES, Filter, Mapping};
use crate::queue::BoardIndex;
use crate::scenario::span;
use crate::time::Nanos;

pub use kinds::Sort;

/// Something that goes wrong, or is done to the mesh.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    /// The process ends at once; the host lives and resets its connections; what was written
    /// survives. It is started again when the fault ends.
    Crash {
        /// Which board.
        node: BoardIndex,
    },
    /// The whole board loses power; what was not fsynced is lost, torn or full of holes. It is
    /// switched on again when the fault ends.
    PowerCut {
        /// Which board.
        node: BoardIndex,
    },
    /// Power is cut and the disk is gone, identity included. When the fault ends, a new board with
    /// the same name joins with a new ticket. (If only the journal is gone the driver refuses the old
    /// key, so for a node that is the same.)
    Wipe {
        /// Which board.
        node: BoardIndex,
    },
    /// A board that is down is started.
    Restart {
        /// Which board.
        node: BoardIndex,
    },
    /// The process gets no input and no timer; at the end it gets everything at once.
    Pause {
        /// Which board.
        node: BoardIndex,
    },
    /// Every fsync takes 50 ms to 3 s.
    SlowFsync {
        /// Which board.
        node: BoardIndex,
    },
    /// Nothing passes between boards that are in no group together. Boards that are not named are one more
    /// group; a board in two groups is a bridge between them.
    Partition {
        /// Which boards stay together.
        groups: Vec<Vec<BoardIndex>>,
    },
    /// Nothing passes from these to those; the other direction works.
    OneWayCut {
        /// Who is not heard.
        from: Vec<BoardIndex>,
        /// By whom.
        to: Vec<BoardIndex>,
    },
    /// So many of a hundred segments are lost, everywhere. Streams are reliable, so it shows as delay.
    Loss {
        /// 0 to 50.
        percent: u8,
    },
    /// Packets from these to those take so much longer.
    Delay {
        /// Whose packets.
        from: Vec<BoardIndex>,
        /// To whom.
        to: Vec<BoardIndex>,
        /// So much, milliseconds.
        ms: u64,
    },
    /// Every packet takes up to so much longer, each one differently.
    Jitter {
        /// At most so much, milliseconds.
        ms: u64,
    },
    /// What goes to or from the board waits in a queue somewhere; at the end all of it arrives at once.
    Clog {
        /// Which board.
        node: BoardIndex,
    },
    /// The board's uplink carries no more than this; what it sends queues up.
    Bandwidth {
        /// Which board.
        node: BoardIndex,
        /// Kilobits per second.
        kbit: u64,
    },
    /// The board's link comes and goes, as long each time.
    Flap {
        /// Which board.
        node: BoardIndex,
        /// So long it is there, and so long it is not; milliseconds.
        ms: u64,
    },
    /// Every connection of the board breaks, and both ends know: one flipped bit does that to an
    /// authenticated stream.
    Reset {
        /// Which board.
        node: BoardIndex,
    },
    /// A middlebox forgets the board's connections: packets of those vanish both ways, nobody is told,
    /// and new connections come about.
    HalfOpen {
        /// Which board.
        node: BoardIndex,
    },
    /// The board is behind a NAT: who can dial it is said by [`crate::net::nat`].
    Nat {
        /// Which board.
        node: BoardIndex,
        /// What decides the external port.
        #[serde(default, skip_serializing_if = "is_default")]
        mapping: Mapping,
        /// Whose packets may come in.
        #[serde(default, skip_serializing_if = "is_default")]
        filter: Filter,
        /// A mapping is gone when nothing has left through it for longer than this, ns; a text like "30s".
        #[serde(default = "expires", skip_serializing_if = "expires_as_usual", with = "span")]
        expires: Nanos,
    },
    /// The board gets another address: its connections are dead, and nobody can dial the former one.
    Roam {
        /// Which board.
        node: BoardIndex,
    },
    /// The process ends so long after each of its starts, and is started again half a second later.
    CrashLoop {
        /// Which board.
        node: BoardIndex,
        /// So long it lives, milliseconds.
        ms: u64,
    },
    /// The process gets the processor only that often, and then handles all that has come.
    Stutter {
        /// Which board.
        node: BoardIndex,
        /// How often, milliseconds.
        ms: u64,
    },
    /// The whole board sleeps, services and their shims, too; its lease clock counts on.
    Suspend {
        /// Which board.
        node: BoardIndex,
    },
    /// The time of day is set; the lease clock does not care.
    ClockJump {
        /// Which board.
        node: BoardIndex,
        /// By so much, seconds; back if negative.
        seconds: i64,
    },
    /// Power is cut, and one bit of what was safe in the journal has flipped. The board refuses to start
    /// with that; its operator puts in a new disk, as after a wipe.
    BitRot {
        /// Which board.
        node: BoardIndex,
    },
    /// The same, with a sector of the journal that another write has hit.
    MisdirectedWrite {
        /// Which board.
        node: BoardIndex,
    },
    /// An image of the journal is taken. When the fault ends, power is cut, and the board comes back with the image:
    /// it has forgotten what it promised meanwhile.
    RestoredSnapshot {
        /// Which board.
        node: BoardIndex,
    },
    /// A copy of the board's card, without states of services, starts on a board that was never on: both have one
    /// key and one journal. When the fault ends the copy is switched off, and the card is gone.
    ClonedIdentity {
        /// Whose.
        node: BoardIndex,
        /// On which board.
        onto: BoardIndex,
    },
    /// Fsyncs of the journal fail: the process stops itself, and is started again a second later.
    FsyncError {
        /// Which board.
        node: BoardIndex,
    },
    /// The journal cannot grow: half of a record is written. The process stops itself, as above.
    FullDisk {
        /// Which board.
        node: BoardIndex,
    },
    /// The process sends nonsense to another one.
    Garbage {
        /// Who.
        node: BoardIndex,
        /// To whom.
        to: BoardIndex,
    },
    /// The process sends another one a message that is longer than any may be, or a list that says of itself that it
    /// has no end.
    Oversize {
        /// Who.
        node: BoardIndex,
        /// To whom.
        to: BoardIndex,
    },
    /// The process repeats the last message to another one without its end.
    Truncated {
        /// Who.
        node: BoardIndex,
        /// To whom.
        to: BoardIndex,
    },
    /// The process repeats its last messages to another one.
    Replay {
        /// Who.
        node: BoardIndex,
        /// To whom.
        to: BoardIndex,
    },
    /// The process says again what it said of terms and rights when it was young: it is authentic, and old.
    StaleTerm {
        /// Who.
        node: BoardIndex,
        /// To whom.
        to: BoardIndex,
    },
    /// The process tells another one that boards fell silent in lives that they never had, and takes a leap in its own.
    FalseIncarnation {
        /// Who.
        node: BoardIndex,
        /// To whom.
        to: BoardIndex,
    },
    /// The process speaks to another one as a later version may: kinds of message that nobody knows, and a record of
    /// itself with fields that are signed and not understood.
    VersionSkew {
        /// Who.
        node: BoardIndex,
        /// To whom.
        to: BoardIndex,
    },
    /// The process says its last messages to another one again and again.
    Flood {
        /// Who.
        node: BoardIndex,
        /// To whom.
        to: BoardIndex,
        /// So many messages a second.
        #[serde(rename = "per-second")]
        per_second: u64,
    },
    /// Power is cut at several boards in one instant.
    Blackout {
        /// Which boards.
        nodes: Vec<BoardIndex>,
    },
    /// The crystal errs by this much.
    ClockRate {
        /// Which board.
        node: BoardIndex,
        /// Parts per million, −10,000 to 10,000.
        ppm: i32,
    },
    /// The operator tells the board to leave the mesh.
    Leave {
        /// Which board.
        node: BoardIndex,
        /// At once, without handing anything over or asking anybody.
        #[serde(default, skip_serializing_if = "core::ops::Not::not")]
        force: bool,
    },
    /// A board that was never on is switched on.
    Join {
        /// Which board.
        node: BoardIndex,
    },
    /// Several boards are switched on for the first time in one instant.
    JoinStorm {
        /// Which boards.
        nodes: Vec<BoardIndex>,
    },
    /// Every service that runs on the board ends by itself, with an exit code.
    ServiceCrash {
        /// Which board.
        node: BoardIndex,
    },
    /// The board is short of memory: every three seconds the kernel kills what uses most of it, the services, or the
    /// agent's process where none runs.
    LowMemory {
        /// Which board.
        node: BoardIndex,
    },
    /// No service can be started on the board.
    CannotStart {
        /// Which board.
        node: BoardIndex,
    },
    /// What services run is not there: the board could start none, and can tell.
    LacksProgram {
        /// Which board.
        node: BoardIndex,
    },
    /// Services on the board do not end when they are asked to: they are killed once the shim's patience is
    /// over.
    SlowStop {
        /// Which board.
        node: BoardIndex,
    },
    /// The board's disk has no room for states of services, its own or others'.
    FullStore {
        /// Which board.
        node: BoardIndex,
    },
    /// Bits flip in every file of the board's stores of states; they stay so when the fault ends.
    StoreRot {
        /// Which board.
        node: BoardIndex,
    },
    /// Every fsync of the board's stores of states fails. When the fault ends the operator starts the agent
    /// again if a store has stopped, as its error asks for.
    StoreSyncError {
        /// Which board.
        node: BoardIndex,
        /// Only those of folders, which are to make names durable.
        #[serde(default, skip_serializing_if = "core::ops::Not::not")]
        names: bool,
    },
    /// Power is cut, and the folders of services and the store of their states are gone; the journal
    /// and the identity are not.
    StateLost {
        /// Which board.
        node: BoardIndex,
    },
    /// The operator orders a service to be run once more.
    Run {
        /// Its name.
        service: String,
    },
    /// The operator moves a service to its standby.
    Move {
        /// Its name.
        service: String,
    },
    /// The operator stops a service.
    Stop {
        /// Its name.
        service: String,
    },
    /// The operator stops a service and forgets it.
    Remove {
        /// Its name.
        service: String,
    },
    /// The operator lets a service start again from an earlier state that its board keeps.
    Restore {
        /// Its name.
        service: String,
        /// So many states before the newest one.
        back: usize,
    },
    /// The operator lets this board run a service with what it has: whoever has more is gone for good.
    Recover {
        /// Its name.
        service: String,
        /// Which board.
        node: BoardIndex,
    },
    /// The operator lets this board decide alone, by force: most of those that decide are gone for good.
    RecoverMesh {
        /// Which board.
        node: BoardIndex,
        /// Those that are gone.
        dead: Vec<BoardIndex>,
    },
    /// The operator revokes the identity of the board, wherever that may be; its agent stops once it hears of it. When
    /// the fault ends, a new board with the same name joins with a new ticket.
    Revoke {
        /// Which board.
        node: BoardIndex,
    },
    /// An application on the board publishes something to all members.
    Publish {
        /// Which board.
        node: BoardIndex,
    },
    /// The operator wants the board to host nothing and to decide nothing; when the fault ends, again.
    Drain {
        /// Which board.
        node: BoardIndex,
    },
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn expires() -> Nanos {
    EXPIRES
}

fn expires_as_usual(expires: &Nanos) -> bool {
    *expires == EXPIRES
}

/// Highest loss that a stream is simulated with, per cent.
pub const LOSS_PERCENT_MAX: u8 = 50;

/// The longest delay, jitter, life in a crash loop …, milliseconds.
pub const MILLISECONDS_MAX: u64 = 600_000;
/// The widest uplink that is simulated as a narrow one, kilobits per second.
pub const KBIT_MAX: u64 = 10_000_000;
/// The most that floods another board, messages per second: more calls of its node than that would be found to be a
/// livelock.
pub const FLOOD_MAX: u64 = 1000;
/// The furthest that a wall clock jumps, seconds.
pub const JUMP_MAX: u64 = 10 * 366 * 86_400;

/// A fault, when it begins and how long it lasts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Timed {
    /// True time, ns; of a fault that waits for something: not before that.
    pub at: Nanos,
    /// What it waits for, if not only for its time.
    pub cue: Option<Cue>,
    /// None: until the end of the run, or the fault is a moment.
    pub lasts: Option<Nanos>,
    /// What.
    pub fault: Fault,
}
