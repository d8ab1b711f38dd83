//! The schema of `/v1` and of `-o json`: one struct for each answer, the same on both sides.
//!
//! What programs read must not change because the library's types do, so the node's views are
//! copied into these. Fields are added, never renamed; who reads them ignores what it does not know.
//! Ids are in their text form (base32, lower case).

mod service;

use hedgerow::net::Stamped;
use hedgerow::proto::id::{Digest16, MeshId, NodeId};
use hedgerow::proto::io::{InstanceView, MasterView, NodeView, StatusView, ViewState, WhyView};
use hedgerow::proto::record::Class;
use hedgerow::proto::wire::{WIRE_VERSION, WIRE_VERSION_MIN};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub(crate) use service::{Instance, Logs, Moved, Resolved};

/// `GET /v1/status`, `hedgerow status`: the mesh as seen from one board.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    /// The board that answers.
    pub(crate) node: NodeId,
    /// Its name.
    pub(crate) name: String,
    /// The mesh.
    pub(crate) mesh: MeshId,
    /// What its operator calls it.
    pub(crate) mesh_name: String,
    /// Which life of the board this is.
    pub(crate) incarnation: u64,
    /// `starting`, `joining`, `alone`, `whole`, `isolated`, `left` or `halted`.
    pub(crate) view: String,
    /// A sentence about `view`, with what to do next where that is not `whole`.
    pub(crate) view_why: String,
    /// How many members are up.
    pub(crate) up: u32,
    /// How many members somebody lost contact with.
    pub(crate) suspect: u32,
    /// How many members are held for dead.
    pub(crate) down: u32,
    /// How many members left.
    pub(crate) left: u32,
    /// Who decides; null while none is known.
    pub(crate) master: Option<Master>,
    /// Every member.
    pub(crate) nodes: Vec<Node>,
    /// Every instance of every service.
    #[serde(default)]
    pub(crate) workloads: Vec<Instance>,
}

/// Who decides, as seen from one board.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Master {
    /// The master that announced itself last.
    pub(crate) node: NodeId,
    /// Its name.
    pub(crate) name: String,
    /// Its term.
    pub(crate) term: u64,
    /// How often the table has changed.
    pub(crate) version: u64,
    /// The names of the boards that decide.
    pub(crate) voters: Vec<String>,
    /// How many of them are believed to be there.
    pub(crate) voters_up: u32,
    /// True on the master itself while its lease holds.
    pub(crate) reigns: bool,
    /// What is not as it should be, and what to do about it.
    pub(crate) why: String,
}

/// One member; `GET /v1/nodes` and `hedgerow nodes` give a list of them.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Node {
    /// Who.
    pub(crate) node: NodeId,
    /// Its name.
    pub(crate) name: String,
    /// True for the board that answers.
    pub(crate) me: bool,
    /// `up`, `suspect`, `down` or `left`.
    pub(crate) state: String,
    /// How much it may host: `Low`, `Med` or `Hi`.
    pub(crate) class: Class,
    /// The highest incarnation known.
    pub(crate) incarnation: u64,
    /// The version of Hedgerow that it runs.
    pub(crate) version: String,
    /// `self`, `linked` (a connection is open), or `-` (known through others).
    pub(crate) path: String,
    /// Milliseconds since it was heard first hand; null if the board that answers does not watch it.
    pub(crate) seen_ms: Option<u64>,
    /// Round trip of the last probe, microseconds.
    pub(crate) rtt_us: Option<u64>,
    /// Multiaddrs at which it says it can be reached.
    pub(crate) addresses: Vec<String>,
    /// Why it is in a state other than `up`.
    pub(crate) why: String,
}

/// `GET /v1/why/{object}`, `hedgerow why`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Why {
    /// What was found.
    pub(crate) object: String,
    /// What is known of it, one sentence each, most important first.
    pub(crate) findings: Vec<String>,
}

/// One line of `GET /v1/events` and of `hedgerow events`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct EventLine {
    /// Unix milliseconds by the board's clock.
    pub(crate) at_ms: u64,
    /// What kind: `started`, `admitted`, `refused`, `refused-by`, `member-up`, `suspected`,
    /// `refuted`, `member-down`, `member-left`, `isolated`, `stepped-down`, `table-chosen`,
    /// `voters-changed`, `master-is`, `revoked`, `runs`, `adopted`, `ended`, `copied`, `fetched`,
    /// `copy-failed`, `takes`, `appointed`, `protected`, `unable`, `topic`, `misbehaved`,
    /// `left`, `stays`, `halted`; and `lagged`, told to a listener that was too slow and missed `missed`
    /// events.
    pub(crate) event: String,
    /// A sentence for people.
    pub(crate) text: String,
    /// The other fields, by kind.
    #[serde(flatten)]
    pub(crate) fields: Map<String, Value>,
}

/// `GET /v1/version`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Version {
    /// Of Hedgerow.
    pub(crate) version: String,
    /// The oldest wire version spoken.
    pub(crate) wire_min: u16,
    /// The newest wire version spoken.
    pub(crate) wire_max: u16,
    /// The processor's architecture.
    pub(crate) arch: String,
}

/// `hedgerow version`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Versions {
    /// This program.
    pub(crate) program: Version,
    /// The running board, if one answers.
    pub(crate) daemon: Option<Version>,
}

/// The body of an answer that is an error (`application/problem+json`).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Problem {
    /// For programs, kebab-case.
    pub(crate) code: String,
    /// For people.
    pub(crate) message: String,
}

/// `hedgerow init`, `hedgerow join`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Prepared {
    /// The mesh.
    pub(crate) mesh: MeshId,
    /// What its operator calls it.
    pub(crate) mesh_name: String,
    /// This board.
    pub(crate) node: NodeId,
    /// The data folder.
    pub(crate) home: String,
    /// Where the root key lies, if it is here.
    pub(crate) root_key: Option<String>,
    /// Things to mind, one sentence each.
    pub(crate) warnings: Vec<String>,
}

/// `hedgerow up`, once the board takes part.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Running {
    /// The board.
    pub(crate) node: NodeId,
    /// The mesh.
    pub(crate) mesh: MeshId,
    /// Which life of the board this is.
    pub(crate) incarnation: u64,
    /// The control socket.
    pub(crate) socket: String,
}

/// `hedgerow leave`, `hedgerow ticket revoke`, `hedgerow stop`, `hedgerow rm`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Done {
    /// `left`, `revoked`, `stopped`, `stopping`, `removed` or `removing`.
    pub(crate) done: String,
    /// What it was done to.
    pub(crate) object: String,
}

/// `hedgerow ticket new`. The only answer that holds a secret.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct NewTicket {
    /// The ticket: whoever has it can join.
    pub(crate) ticket: String,
    /// Its public part, as in the log.
    #[serde(flatten)]
    pub(crate) entry: TicketEntry,
}

/// One line of `tickets.log`: a ticket that was made here, without its secret.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct TicketEntry {
    /// Its name.
    pub(crate) id: Digest16,
    /// `member` or `operator`.
    pub(crate) role: String,
    /// Unix seconds.
    pub(crate) issued: u64,
    /// Unix seconds; 0 = never.
    pub(crate) expires: u64,
    /// The boards it names as first contacts.
    pub(crate) bootstrap: Vec<NodeId>,
}

/// One line of `hedgerow ticket ls`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct ListedTicket {
    /// As in the log.
    #[serde(flatten)]
    pub(crate) entry: TicketEntry,
    /// `valid`, `expired` or `revoked`.
    pub(crate) state: String,
}

impl Status {
    /// The mesh with what runs in it.
    pub(crate) fn new(view: StatusView, workloads: Vec<InstanceView>) -> Self {
        Self {
            node: view.node,
            name: view.name,
            mesh: view.mesh,
            mesh_name: view.mesh_name,
            incarnation: view.incarnation,
            view: view_name(view.view).to_owned(),
            view_why: view.view_why,
            up: view.up,
            suspect: view.suspect,
            down: view.down,
            left: view.left,
            master: view.master.map(Into::into),
            nodes: view.nodes.into_iter().map(Into::into).collect(),
            workloads: workloads.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<MasterView> for Master {
    fn from(view: MasterView) -> Self {
        Self {
            node: view.node,
            name: view.name,
            term: view.term,
            version: view.version,
            voters: view.voters,
            voters_up: view.voters_up,
            reigns: view.reigns,
            why: view.why,
        }
    }
}

impl From<NodeView> for Node {
    fn from(view: NodeView) -> Self {
        Self {
            node: view.node,
            name: view.name,
            me: view.me,
            state: view.state.to_owned(),
            class: view.class,
            incarnation: view.incarnation,
            version: view.version,
            path: view.path.to_owned(),
            seen_ms: view.seen_ms,
            rtt_us: view.rtt_us,
            addresses: view.addresses,
            why: view.why,
        }
    }
}

impl From<WhyView> for Why {
    fn from(view: WhyView) -> Self {
        Self { object: view.object, findings: view.findings }
    }
}

impl EventLine {
    /// An event with its sentence.
    pub(crate) fn new(stamped: &Stamped, text: String) -> Self {
        let mut fields = match serde_json::to_value(&stamped.event) {
            Ok(Value::Object(fields)) => fields,
            _ => Map::new(),
        };
        let event = match fields.remove("event") {
            Some(Value::String(event)) => event,
            _ => "unknown".to_owned(),
        };
        Self { at_ms: stamped.at_ms, event, text, fields }
    }
}

impl Version {
    /// Of this program.
    pub(crate) fn of_this() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            wire_min: WIRE_VERSION_MIN,
            wire_max: WIRE_VERSION,
            arch: std::env::consts::ARCH.to_owned(),
        }
    }
}

fn view_name(view: ViewState) -> &'static str {
    match view {
        ViewState::Starting => "starting",
        ViewState::Joining => "joining",
        ViewState::Alone => "alone",
        ViewState::Whole => "whole",
        ViewState::Isolated => "isolated",
        ViewState::Left => "left",
        ViewState::Halted => "halted",
    }
}
