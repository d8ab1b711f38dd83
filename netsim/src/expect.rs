//! What a scenario expects, and a judge who only knows what boards say when asked.

use hedgerow::proto::id::NodeId;
use serde::{Deserialize, Serialize};

use crate::evidence::Evidence;
use crate::queue::BoardIndex;
use crate::time::MILLI;

/// Something that must be true at a time.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "that", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Expect {
    /// Every running member sees every running member up.
    AllUp,
    /// Every running member that is not named sees these boards down.
    Down {
        /// Which.
        nodes: Vec<BoardIndex>,
    },
    /// Every running member sees that this board left.
    Left {
        /// Which.
        node: BoardIndex,
    },
    /// These boards, and nobody else, see each other up.
    UpAmong {
        /// Which.
        nodes: Vec<BoardIndex>,
    },
    /// No member has this board in its list.
    Unknown {
        /// Which.
        node: BoardIndex,
    },
    /// All running members say exactly the same of everyone.
    SameView,
    /// Until then nobody has taken a running board for dead.
    NoFalseDown,
    /// Until then nobody has even suspected a running board.
    NeverSuspected,
    /// Until then nobody has taken these boards for dead, running, paused or cut off as they were.
    NeverDown {
        /// Which.
        nodes: Vec<BoardIndex>,
    },
    /// Exactly one board reigns, and every running member names it.
    OneMaster,
    /// Exactly one board reigns, one of these.
    MasterAmong {
        /// Which.
        nodes: Vec<BoardIndex>,
    },
    /// Nobody reigns.
    NoMaster,
    /// Exactly one board reigns, and exactly these decide, with no change under way.
    Voters {
        /// Which.
        nodes: Vec<BoardIndex>,
    },
    /// A service runs on exactly this board, under the right that the newest table names.
    RunsOn {
        /// Its name.
        service: String,
        /// Which board.
        node: BoardIndex,
    },
    /// A service runs nowhere.
    RunsNowhere {
        /// Its name.
        service: String,
    },
    /// The newest table names these boards for a service.
    Roles {
        /// Its name.
        service: String,
        /// Who runs it.
        active: BoardIndex,
        /// Who carries on; nobody: there is no standby.
        standby: Option<BoardIndex>,
        /// Whether the standby could.
        ready: bool,
    },
    /// So many rights to run a service have been used, no more.
    Rights {
        /// Its name.
        service: String,
        /// How many.
        count: usize,
    },
    /// Since it began first, a service was never down for longer than that.
    NeverDownFor {
        /// Its name.
        service: String,
        /// Milliseconds.
        ms: u64,
    },
    /// This board keeps a state of a service.
    Keeps {
        /// Its name.
        service: String,
        /// Which board.
        node: BoardIndex,
    },
    /// Each of these boards has told its applications of at least so many publications of others.
    Told {
        /// Which.
        nodes: Vec<BoardIndex>,
        /// How many.
        #[serde(rename = "at-least")]
        at_least: u64,
    },
    /// Its client was told at least so often that its writes are kept.
    Commits {
        /// Its name.
        service: String,
        /// How often.
        #[serde(rename = "at-least")]
        at_least: u64,
    },
    /// So often it began from less than there was, because an operator wanted that.
    SetBack {
        /// Its name.
        service: String,
        /// How often.
        count: u64,
    },
    /// An order about it was answered so.
    Answered {
        /// Its name.
        service: String,
        /// The code of a refusal, or `done`.
        code: String,
    },
    /// By the newest table exactly these boards are drained or leaving.
    Drained {
        /// Which.
        nodes: Vec<BoardIndex>,
    },
    /// This board says that it hears too few of those it watches.
    Isolated {
        /// Which.
        node: BoardIndex,
    },
}

impl Expect {
    /// Whether it holds.
    ///
    /// # Errors
    /// A sentence that says what is not as expected.
    pub fn judge(&self, evidence: &Evidence) -> Result<(), String> {
        match self {
            Self::AllUp => evidence.all_up(),
            Self::Down { nodes } => evidence.each("down", nodes),
            Self::Left { node } => evidence.each("left", &[*node]),
            Self::UpAmong { nodes } => evidence.up_among(nodes),
            Self::Unknown { node } => evidence.unknown(*node),
            Self::SameView => evidence.same_view(),
            Self::NoFalseDown => evidence.nobody(|blame| blame.down && blame.falsely),
            Self::NeverSuspected => evidence.nobody(|blame| blame.falsely),
            Self::NeverDown { nodes } => {
                evidence.nobody(|blame| blame.down && nodes.contains(&blame.who))
            }
            Self::OneMaster => evidence.one_master(),
            Self::MasterAmong { nodes } => {
                let master = evidence.master()?.board;
                let is = nodes.contains(&master);
                if is { Ok(()) } else { Err(format!("n{master} is master")) }
            }
            Self::NoMaster => match evidence.masters.first() {
                None => Ok(()),
                Some(master) => Err(format!("n{} is master", master.board)),
            },
            Self::Voters { nodes } => evidence.voters(nodes),
            Self::RunsOn { service, node } => evidence.runs_on(service, *node),
            Self::RunsNowhere { service } => evidence.runs_nowhere(service),
            Self::Roles { service, active, standby, ready } => {
                evidence.roles(service, *active, *standby, *ready)
            }
            Self::Rights { service, count } => {
                let used = evidence.service(service)?.record.epochs.len();
                if used == *count { Ok(()) } else { Err(format!("{used} rights were used")) }
            }
            Self::NeverDownFor { service, ms } => {
                let longest = evidence.longest_gap(service)? / MILLI;
                let was = if longest <= *ms { Ok(()) } else { Err(()) };
                was.map_err(|()| format!("it was down for {longest} ms"))
            }
            Self::Keeps { service, node } => {
                let kept = &evidence.service(service)?.kept_by;
                if kept.contains(node) { Ok(()) } else { Err(format!("it is kept by {kept:?}")) }
            }
            Self::Told { nodes, at_least } => evidence.have_told(nodes, *at_least),
            Self::Commits { service, at_least } => {
                let commits = evidence.service(service)?.record.commits;
                let are = if commits >= *at_least { Ok(()) } else { Err(()) };
                are.map_err(|()| format!("only {commits} commits were acknowledged"))
            }
            Self::SetBack { service, count } => {
                let was = evidence.service(service)?.record.set_back;
                if was == *count { Ok(()) } else { Err(format!("that happened {was} times")) }
            }
            Self::Answered { service, code } => {
                let heard = &evidence.service(service)?.record.answers;
                let was = if heard.contains(code) { Ok(()) } else { Err(()) };
                was.map_err(|()| format!("the answers were {heard:?}"))
            }
            Self::Drained { nodes } => {
                let mut wanted: Vec<_> =
                    nodes.iter().map(|node| evidence.ids[usize::from(*node)]).collect();
                wanted.sort_unstable();
                let are = evidence.drained.iter().map(NodeId::short).collect::<Vec<_>>();
                let is = wanted == evidence.drained;
                if is { Ok(()) } else { Err(format!("drained are {}", are.join(", "))) }
            }
            Self::Isolated { node } => {
                let view = evidence.view(*node)?;
                let is = format!("{:?}", view.view);
                if is == "Isolated" { Ok(()) } else { Err(format!("n{node} says {is}")) }
            }
        }
    }

    /// Every board that it names.
    pub fn boards(&self) -> Vec<BoardIndex> {
        match self {
            Self::Down { nodes }
            | Self::Told { nodes, .. }
            | Self::UpAmong { nodes }
            | Self::NeverDown { nodes }
            | Self::MasterAmong { nodes }
            | Self::Drained { nodes }
            | Self::Voters { nodes } => nodes.clone(),
            Self::Left { node }
            | Self::Unknown { node }
            | Self::RunsOn { node, .. }
            | Self::Keeps { node, .. }
            | Self::Isolated { node } => {
                vec![*node]
            }
            Self::Roles { active, standby, .. } => {
                [Some(*active), *standby].into_iter().flatten().collect()
            }
            Self::RunsNowhere { .. }
            | Self::Rights { .. }
            | Self::NeverDownFor { .. }
            | Self::Commits { .. }
            | Self::SetBack { .. }
            | Self::Answered { .. }
            | Self::AllUp
            | Self::SameView
            | Self::NoFalseDown
            | Self::NeverSuspected
            | Self::OneMaster
            | Self::NoMaster => Vec::new(),
        }
    }

    /// The service that it names.
    pub fn service(&self) -> Option<&str> {
        match self {
            Self::RunsOn { service, .. }
            | Self::RunsNowhere { service }
            | Self::Keeps { service, .. }
            | Self::Roles { service, .. }
            | Self::Rights { service, .. }
            | Self::NeverDownFor { service, .. }
            | Self::Commits { service, .. }
            | Self::SetBack { service, .. }
            | Self::Answered { service, .. } => Some(service),
            _ => None,
        }
    }
}
