//! What a scenario expects, and a judge who only knows what boards say when asked.

use serde::{Deserialize, Serialize};

use crate::evidence::Evidence;
use crate::queue::BoardIndex;

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
            | Self::UpAmong { nodes }
            | Self::NeverDown { nodes }
            | Self::MasterAmong { nodes }
            | Self::Voters { nodes } => nodes.clone(),
            Self::Left { node } | Self::Unknown { node } | Self::Isolated { node } => vec![*node],
            Self::AllUp
            | Self::SameView
            | Self::NoFalseDown
            | Self::NeverSuspected
            | Self::OneMaster
            | Self::NoMaster => Vec::new(),
        }
    }
}
