//! What agent and shim say to each other over `shim.sock`.
//!
//! A frame is a `u32` little-endian length, at most [`FRAME_BYTES_MAX`], and that many bytes of JSON.
//! The agent sends [`Call`]s; the shim answers each with one [`Message::Reply`] that bears the call's
//! id, in any order, and sends [`Message::Notice`]s to those who subscribed.
//!
//! **Versions.** A shim outlives agents, so a new agent meets old shims. `Hello` must come first; the
//! shim answers with the version it will speak, at most the one offered. Within a version fields are
//! only added, unknown fields are skipped, and an unknown notice reads as [`Notice::Unknown`].
//!
//! JSON, because there are a few messages a second and a person may want to read them: `socat` and
//! this page are enough to operate a shim by hand.

use serde::{Deserialize, Serialize};

/// The version spoken here.
pub const VERSION: u16 = 1;
/// The oldest version still spoken.
pub const VERSION_OLDEST: u16 = 1;
/// Longest frame body, either way.
pub const FRAME_BYTES_MAX: usize = 16 * 1024;

/// A numbered request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Chosen by the agent; comes back in the reply.
    pub id: u64,
    /// What is asked.
    pub request: Request,
}

/// What an agent may ask. Instants are lease-clock nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Request {
    /// The first request of a connection.
    Hello {
        /// The newest version the agent speaks.
        version: u16,
    },
    /// Create the service's process, held; check the deadline; let it run. Once per shim.
    /// Answered by `Started` when it runs, or by a refusal.
    Start {
        /// From this instant on no instruction of the service may run.
        until: u64,
    },
    /// Move the deadline. An earlier one than the present leaves the present in force.
    Extend {
        /// As for `Start`.
        until: u64,
    },
    /// Stop all its processes; answered when all stand still. The deadline goes on.
    Freeze,
    /// Let them go on.
    Thaw,
    /// `SIGTERM` to the service's process group, and `Kill` if it is not gone after the grace.
    /// Answered at once; `Exited` follows.
    Stop {
        /// Milliseconds, at most [`STOP_GRACE_MS_MAX`].
        grace_ms: u32,
    },
    /// `SIGKILL` to everything. Answered at once; `Killed` and `Exited` follow.
    Kill,
    /// Ask for [`Status`].
    Status,
    /// Be told what happens; answered with the [`Status`], then commits that wait are requested again.
    Subscribe,
    /// Answer a [`Notice::CommitRequested`].
    Committed {
        /// Which one.
        id: u64,
        /// What became of it.
        result: CommitResult,
    },
}

/// What the service is told about its `commit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum CommitResult {
    /// The ready standby holds the state.
    Ok {
        /// The checkpoint's number in this epoch.
        checkpoint: u64,
    },
    /// No standby, and the service asked not to wait for one.
    Unprotected,
    /// This epoch may not commit any more.
    Fenced,
    /// It may or may not have been kept: a timeout, or a fence in the middle.
    Unknown,
}

/// From the shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// The answer to one call.
    Reply {
        /// The call's id.
        id: u64,
        /// The answer.
        reply: Reply,
    },
    /// Something happened.
    Notice(Notice),
}

/// The answer to a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reply {
    /// Done, or under way.
    Ok,
    /// To `Hello`.
    Welcome {
        /// The version this connection speaks.
        version: u16,
    },
    /// To `Start`: it runs.
    Started {
        /// The service's process id, as seen on the board.
        pid: u32,
    },
    /// To `Extend`: the deadline now in force.
    Extended {
        /// Lease-clock nanoseconds.
        until: u64,
    },
    /// To `Status` and `Subscribe`.
    Status(Box<Status>),
    /// Not done.
    Refused(Refusal),
}

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "why", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Refusal {
    /// Too late: `until - D` has passed. The service was not run, or is being killed.
    #[error("the deadline passed {by_ns} ns ago: get a new grant; this epoch may be over")]
    DeadlinePassed {
        /// How late, against `until - D`.
        by_ns: u64,
    },
    /// The deadline is further away than a lease can be.
    #[error("the deadline is further than {max_ns} ns away: is it of this boot's lease clock?")]
    TooFar {
        /// The furthest, see [`LEASE_NS_MAX`].
        max_ns: u64,
    },
    /// `Start` came before; a restart is a new shim.
    #[error("this shim has started its service already: start another shim")]
    StartedBefore,
    /// There is nothing running to do that to.
    #[error("the service is not running; its exit.json tells how it ended")]
    NotRunning,
    /// The service could not be started.
    #[error("{what}; put it right on this board, or mend the service file")]
    CannotStart {
        /// What was tried and what the system said.
        what: String,
    },
    /// Some process would not stand still; all were thawed again.
    #[error("not everything froze within {waited_ms} ms; it runs again: try later")]
    NotFrozen {
        /// How long it was waited for.
        waited_ms: u32,
    },
    /// No such commit waits: answered before, or the service has gone.
    #[error("no commit {id} waits here")]
    NoSuchCommit {
        /// The id given.
        id: u64,
    },
    /// The agent speaks only versions that this shim does not.
    #[error("this shim speaks versions {oldest} to {newest}")]
    Version {
        /// The oldest.
        oldest: u16,
        /// The newest.
        newest: u16,
    },
    /// The connection did not begin with `Hello`.
    #[error("say hello first")]
    HelloFirst,
    /// The frame is no request of this version.
    #[error("not a request: {what}")]
    Malformed {
        /// Where it stopped making sense.
        what: String,
    },
}

/// Something happened. Instants are lease-clock nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Notice {
    /// The service runs.
    Started {
        /// Its process id, as seen on the board.
        pid: u32,
    },
    /// Nothing of the service runs any more, and the shim is about to leave.
    Exited(Exit),
    /// The shim was woken late by more than half the kill bound: this board stalls; ask for longer
    /// leases.
    Late {
        /// By how much.
        by_ns: u64,
    },
    /// At `until` the kill was not confirmed. Sent once, when that is noticed.
    BoundBroken {
        /// How long after `until` it was noticed.
        by_ns: u64,
    },
    /// The lease ran out; the kill has begun.
    Fenced {
        /// The deadline that ran out.
        until: u64,
    },
    /// The lease ran out and the service goes on, as `keep-running` says.
    Isolated {
        /// The deadline that ran out.
        until: u64,
    },
    /// The service asks to commit; answer with `Committed`.
    CommitRequested {
        /// Rises from 1 in each shim.
        id: u64,
    },
    /// A kill is confirmed: everything is dead.
    Killed {
        /// How long it took, from the first signal.
        took_ns: u64,
    },
    /// A notice of a newer shim.
    #[serde(other)]
    Unknown,
}

/// How an instance ended; also the content of `exit.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The exit code or signal of the service's first process.
    pub how: How,
    /// Who ended it.
    pub cause: Cause,
    /// When everything was confirmed dead, lease clock.
    pub at_ns: u64,
    /// The same by the time of day, milliseconds since 1970.
    pub at_unix_ms: u64,
    /// The boot that `at_ns` belongs to.
    pub boot_id: String,
    /// The epoch it ran under.
    pub epoch: u64,
    /// Its process id, if it got so far.
    pub pid: Option<u32>,
    /// By how much the kill bound was broken, if it was: from `until` to the confirmation.
    pub bound_broken_ns: Option<u64>,
}

/// Exit code, signal, or never begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// It returned this code.
    Code(i32),
    /// It died of this signal.
    Signal(i32),
    /// It never ran.
    NotStarted(String),
}

/// Who ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It ended by itself, or something outside killed it.
    Itself,
    /// The deadline.
    Fenced,
    /// `Stop`.
    Stopped,
    /// `Kill`.
    Killed,
    /// It could not be started.
    CannotStart,
}

/// What a shim knows of its service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The service's name.
    pub service: String,
    /// Which instance.
    pub ordinal: u16,
    /// Its epoch.
    pub epoch: u64,
    /// How far it is.
    pub phase: Phase,
    /// The service's process id, as seen on the board, once it exists.
    pub pid: Option<u32>,
    /// The shim's own.
    pub shim_pid: u32,
    /// The deadline in force.
    pub until: Option<u64>,
    /// Whether the deadline ran out and the service goes on, as `keep-running` says.
    pub isolated: bool,
    /// Whether it is frozen.
    pub frozen: bool,
    /// What holds its processes.
    pub containment: Containment,
    /// The latest the shim was ever woken, nanoseconds.
    pub woken_late_max_ns: u64,
    /// Commits that wait for an answer.
    pub commits_waiting: u32,
    /// Output lines that could not be written.
    pub log_lines_lost: u64,
}

/// How far an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// No `Start` yet.
    Waiting,
    /// Its process is being made, or exists and is held.
    Starting,
    /// It runs, or is frozen.
    Running,
    /// It has been sent `SIGTERM`.
    Stopping,
    /// It is being killed.
    Killing,
}

/// What holds the processes of a service on this board.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Containment {
    /// A PID namespace: everything dies with its init, and the init with the shim.
    pub pid_namespace: bool,
    /// It needed a user namespace, because the shim is not root.
    pub user_namespace: bool,
    /// Inside, `/proc` shows the namespace's own processes.
    pub own_proc: bool,
    /// A cgroup (version 2): frozen and killed as one.
    pub cgroup: bool,
    /// The memory limit is enforced.
    pub memory_limited: bool,
    /// The process limit is enforced.
    pub pids_limited: bool,
}

impl Containment {
    /// Whether daemonised descendants cannot escape. If not, `status` and `why` must say
    /// "descendants uncontained".
    pub fn holds_descendants(&self) -> bool {
        self.pid_namespace || self.cgroup
    }
}

/// Longest grace of `Stop`: ten minutes.
pub const STOP_GRACE_MS_MAX: u32 = 600_000;
/// Furthest deadline: ten minutes. A lease is some seconds; a longer one is a mistake that would
/// switch the fence off.
pub const LEASE_NS_MAX: u64 = 600_000_000_000;

#[cfg(test)]
mod tests {
    use super::super::frames::frame;
    use super::*;

    #[test]
    fn the_bytes_are_these() {
        let call = Call { id: 1, request: Request::Extend { until: 5 } };
        let text = r#"{"id":1,"request":{"do":"extend","until":5}}"#;
        assert_eq!(frame(&call), [&44u32.to_le_bytes()[..], text.as_bytes()].concat());
        let notice = Message::Notice(Notice::Late { by_ns: 9 });
        assert_eq!(&frame(&notice)[4..], br#"{"notice":{"event":"late","by_ns":9}}"#);
    }

    #[test]
    fn what_a_newer_shim_adds_does_not_confuse_an_older_agent() {
        let newer = r#"{"notice":{"event":"struck_by_lightning","volts":9}}"#;
        let message: Message = serde_json::from_str(newer).unwrap();
        assert_eq!(message, Message::Notice(Notice::Unknown));
        let wider = r#"{"reply":{"id":2,"reply":{"is":"started","pid":3,"colour":"red"}}}"#;
        let message: Message = serde_json::from_str(wider).unwrap();
        assert_eq!(message, Message::Reply { id: 2, reply: Reply::Started { pid: 3 } });
    }

    #[test]
    fn every_shape_survives_the_round_trip() {
        let exit = Exit {
            how: How::Signal(9),
            cause: Cause::Fenced,
            at_ns: u64::MAX,
            at_unix_ms: 2,
            boot_id: "b".to_owned(),
            epoch: 3,
            pid: Some(4),
            bound_broken_ns: None,
        };
        let refused = Refusal::CannotStart { what: "no".to_owned() };
        for message in [
            Message::Notice(Notice::Exited(exit)),
            Message::Reply { id: 1, reply: Reply::Refused(refused) },
            Message::Reply { id: 1, reply: Reply::Ok },
        ] {
            let json = serde_json::to_string(&message).unwrap();
            assert_eq!(serde_json::from_str::<Message>(&json).unwrap(), message, "{json}");
        }
        let result = CommitResult::Ok { checkpoint: 7 };
        let request = Request::Committed { id: 1, result };
        let json = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<Request>(&json).unwrap(), request, "{json}");
    }
}
