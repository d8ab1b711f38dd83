//! The node record: what a board says of itself, under its own signature (decision D5).
//!
//! Nobody else can forge a board's addresses, labels or class. Role and partner are not in it: they
//! follow from the table. A record carries the board's incarnation; a board refutes a suspicion by
//! signing its record again with a higher one.

use serde::{Deserialize, Serialize};

use super::bounded::{Blob, List, Text};
use super::id::{CellId, Domain, Incarnation, NodeId};
use super::signed::Signable;
use super::ticket::{ADDRESSES_MAX, Address};

/// Bytes of a board's name.
pub const NAME_BYTES_MAX: usize = 63;
/// Labels of one board.
pub const LABELS_MAX: usize = 8;
/// Signed extensions of one record (forward compatibility, decision D2).
pub const EXTENSIONS_MAX: usize = 8;
/// Bytes of one extension.
pub const EXTENSION_BYTES_MAX: usize = 256;

/// A short name.
pub type Name = Text<NAME_BYTES_MAX>;

/// What a board says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Whose record this is; also the key that signs it.
    pub node: NodeId,
    /// Which life and which refutation: a higher one replaces a lower one.
    pub incarnation: Incarnation,
    /// The cell it belongs to.
    pub cell: CellId,
    /// The name operators use.
    pub name: Name,
    /// What the board is.
    pub board: Board,
    /// Where it can be reached, best first.
    pub addresses: List<Address, ADDRESSES_MAX>,
    /// Whether others can open connections to it.
    pub reachability: Reachability,
    /// What a byte to or from it costs, relative to a LAN (1); used when choosing whom to fetch from.
    pub link_cost: u16,
    /// `key=value`, for placement.
    pub labels: List<(Name, Name), LABELS_MAX>,
    /// Fields of later versions, carried and signed but not understood here.
    pub extensions: List<(u16, Blob<EXTENSION_BYTES_MAX>), EXTENSIONS_MAX>,
}

/// The facts about the hardware and the software on it, measured once per boot.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Board {
    /// The operating system's host name.
    pub host: Name,
    /// Hardware addresses of its network cards, for Wake-on-LAN.
    pub macs: List<[u8; 6], 4>,
    /// `x86_64`, `aarch64`, `arm`, ….
    pub arch: Text<16>,
    /// Bytes of one memory page.
    pub page_bytes: u32,
    /// The kernel's id of this boot.
    pub boot_id: [u8; 16],
    /// The version of Hedgerow that runs there.
    pub version: Text<32>,
    /// The lowest and the highest wire version it speaks.
    pub wire: (u16, u16),
    /// Usable memory (`MemTotal`), bytes.
    pub memory_bytes: u64,
    /// Processor cores.
    pub cores: u16,
    /// How much the board may host.
    pub class: Class,
    /// Whether what it writes survives a power cut (false on tmpfs).
    pub durable: bool,
    /// What it can run, and how faithfully state moves.
    pub runtimes: List<(Name, Fidelity), 4>,
}

/// How faithfully a runtime moves a service's state to another board.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Fidelity {
    /// Processes continue where they were.
    Memory,
    /// The service saved what it needs.
    AppState,
    /// Files only.
    DiskOnly,
}

/// Whether others can open connections to a board.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Reachability {
    /// Not found out yet.
    #[default]
    Unknown,
    /// Yes.
    Public,
    /// Only from its own network, or through a relay.
    Private,
}

/// The frugality index of a board (Findex paper, section 3.2; thresholds by `MemTotal` are ours).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub enum Class {
    /// Index 1: under 1.5 GiB, or one core.
    #[default]
    Low,
    /// Index 2: under 6 GiB, or fewer than four cores.
    Med,
    /// Index 4.
    Hi,
}

const GIB: u64 = 1 << 30;

impl Class {
    /// The class by memory, never above the number of cores.
    pub fn of(memory_bytes: u64, cores: u16) -> Self {
        let by_memory = match memory_bytes {
            m if m < GIB * 3 / 2 => Self::Low,
            m if m < GIB * 6 => Self::Med,
            _ => Self::Hi,
        };
        let by_cores = match cores {
            0 | 1 => Self::Low,
            2 | 3 => Self::Med,
            _ => Self::Hi,
        };
        by_memory.min(by_cores)
    }

    /// How many instances such a board hosts: 1, 2 or 4.
    pub fn index(self) -> u16 {
        match self {
            Self::Low => 1,
            Self::Med => 2,
            Self::Hi => 4,
        }
    }
}

impl Signable for NodeRecord {
    const DOMAIN: Domain = Domain::Record;
}

/// A member's word that it let `node` in while its ticket was good. Later hellos rest on it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Admission {
    /// Who was let in.
    pub node: NodeId,
    /// With which ticket.
    pub ticket: super::id::Digest16,
    /// By whom; also the key that signs this.
    pub by: NodeId,
    /// When, unix seconds by the admitting member's effective time.
    pub at: u64,
}

impl Signable for Admission {
    const DOMAIN: Domain = Domain::Admission;
}

/// A node's word that it left on purpose and is not to be suspected or waited for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Leave {
    /// Who left; also the key that signs this.
    pub node: NodeId,
    /// At which incarnation: a later life of the same board cancels it.
    pub incarnation: Incarnation,
}

impl Signable for Leave {
    const DOMAIN: Domain = Domain::Leave;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boards_of_the_paper_fall_into_the_classes_of_the_paper() {
        let of = |mib: u64, cores| Class::of(mib << 20, cores);
        assert_eq!(of(906, 4), Class::Low, "Raspberry Pi 3B, 1 GB");
        assert_eq!(of(1990, 8), Class::Med, "Odroid XU4, 2 GB");
        assert_eq!(of(3790, 6), Class::Med, "RockPro64, 4 GB");
        assert_eq!(of(7900, 4), Class::Hi, "Raspberry Pi 5, 8 GB");
        assert_eq!(of(7900, 2), Class::Med, "never above the number of cores");
    }
}
