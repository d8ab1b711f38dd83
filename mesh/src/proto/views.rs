//! What a node answers when it is asked about the mesh, a member or a service. Data without behaviour, as
//! seen from that node at that moment.

use serde::Serialize;

use super::id::{Digest16, MeshId, NodeId};
use super::record::Class;

/// The mesh as seen from one node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct StatusView {
    /// The node that answers.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// The mesh.
    pub mesh: MeshId,
    /// What its operator calls it.
    pub mesh_name: String,
    /// Its incarnation.
    pub incarnation: u64,
    /// How much of the mesh it sees.
    pub view: ViewState,
    /// A sentence about `view`, with what to do next where that is not `whole`.
    pub view_why: String,
    /// Members by standing.
    pub up: u32,
    /// Members that somebody lost contact with.
    pub suspect: u32,
    /// Members held for dead.
    pub down: u32,
    /// Members that left.
    pub left: u32,
    /// Who decides; none is known yet where this is missing.
    pub master: Option<MasterView>,
    /// Every member.
    pub nodes: Vec<NodeView>,
}

/// Who decides, as seen from one node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct MasterView {
    /// The master that announced itself last.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Its term.
    pub term: u64,
    /// How often the table has changed.
    pub version: u64,
    /// The names of the boards that decide.
    pub voters: Vec<String>,
    /// How many of them are believed to be there.
    pub voters_up: u32,
    /// True on the master itself while its lease holds.
    pub reigns: bool,
    /// What is not as it should be, and what to do about it.
    pub why: String,
}

/// How much of the mesh a node sees.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ViewState {
    /// The node's first record is not on disk yet.
    Starting,
    /// It has a ticket but no member has let it in yet.
    Joining,
    /// It is the only member that it knows.
    Alone,
    /// Everyone it watches answers, or enough of them.
    Whole,
    /// It hears too few of those it watches to judge anybody.
    Isolated,
    /// It has left.
    Left,
    /// It stopped for good.
    Halted,
}

/// One member as seen from one node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct NodeView {
    /// Who.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// True for the node that answers.
    pub me: bool,
    /// `up`, `suspect`, `down` or `left`.
    pub state: &'static str,
    /// How much it may host.
    pub class: Class,
    /// The highest incarnation known.
    pub incarnation: u64,
    /// The version of Hedgerow that it runs.
    pub version: String,
    /// `self`, `linked` (a connection is open), or `-` (known through others).
    pub path: &'static str,
    /// Milliseconds since it was heard first hand; none if this node does not watch it.
    pub seen_ms: Option<u64>,
    /// Round trip of the last probe, microseconds.
    pub rtt_us: Option<u64>,
    /// Where it says it can be reached.
    pub addresses: Vec<String>,
    /// Why it is in a state other than `up`.
    pub why: String,
}

/// One instance as seen from one node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct InstanceView {
    /// Its name.
    pub instance: String,
    /// `running`, `starting`, `down`, `stopping`, `stopped`, `removing`.
    pub state: &'static str,
    /// The name of the board that runs it.
    pub active: String,
    /// The name of the board that carries on; none: it is unprotected.
    pub standby: Option<String>,
    /// The right that it runs under.
    pub epoch: u64,
    /// `name=host:port`.
    pub endpoints: Vec<String>,
    /// How often it was started in this epoch; known on its board only.
    pub starts: Option<u64>,
    /// Milliseconds that its lease lasts still; known on its board only.
    pub lease_ms: Option<u64>,
    /// Whether the standby could carry on: it is there, and so are a state and what to run.
    pub ready: bool,
    /// Whether the standby said that what to run is not there.
    pub unable: bool,
    /// The name of the board that is being filled to become the standby.
    pub fill: Option<String>,
    /// How old the newest state is that another board holds, milliseconds; known on its board only.
    pub copy_age_ms: Option<u64>,
    /// Names what its specification says; none where the order behind it is not known.
    pub spec: Option<Digest16>,
    /// Whether what runs is what its specification says now.
    pub current: bool,
    /// Why it is not simply running and protected, and what to do next.
    pub why: String,
}

/// Where a service serves, as far as one node knows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ResolvedView {
    /// The service.
    pub service: String,
    /// The right that it runs under.
    pub epoch: u64,
    /// The board that serves it.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Port name → `host:port`.
    pub endpoints: std::collections::BTreeMap<String, String>,
}

/// Everything known about one object.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct WhyView {
    /// What was found.
    pub object: String,
    /// What is known of it, one sentence each, most important first.
    pub findings: Vec<String>,
}
