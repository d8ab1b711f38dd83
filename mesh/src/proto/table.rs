//! The table: who runs what, and who decides. Data without behaviour.
//!
//! The master owns it, its voters keep it durably, every member has a copy to read. It is replicated
//! as a versioned whole (decision D1); on the wire a row names boards by a u16 index into the list of
//! boards, so that a row stays under 128 bytes.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::bounded::List;
use super::id::{Epoch, NodeId, Term};
use super::order::Instance;
use super::record::Name;

/// Rows of a table.
pub const ROWS_MAX: usize = 1024;
/// Boards that a table can name: two per row and those that decide.
pub const TABLE_NODES_MAX: usize = 2048;
/// Voters of one configuration.
pub const VOTERS_MAX: usize = 3;

/// Orders that are remembered so as not to be carried out twice.
pub const ORDERS_MAX: usize = 128;

/// Boards that are drained at the same time; as many may be leaving.
pub const DRAINED_MAX: usize = 64;

/// One side of a configuration.
pub type Voters = List<NodeId, VOTERS_MAX>;

/// How often a mesh was recovered by force, in the upper half, and in the lower one a part of the last
/// such order's hash: two recoveries in two places are two generations, and the higher one counts (3b.5).
#[derive(
    Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize,
)]
pub struct Generation(pub u32);

impl Generation {
    /// The generation that an order with this hash begins.
    pub fn next(self, order: &[u8; 32]) -> Self {
        let tag = u32::from(u16::from_le_bytes([order[0], order[1]]));
        Self((self.number() + 1).min(u32::from(u16::MAX)) << 16 | tag)
    }

    /// How often the mesh was recovered by force.
    pub fn number(self) -> u32 {
        self.0 >> 16
    }

    /// Rights that are given in this generation are at least this, so that they were never given before.
    pub fn first_epoch(self) -> Epoch {
        Epoch(u64::from(self.0) << 32)
    }
}

/// Which table: compared in this order. The generation rises only when an operator recovers a mesh by
/// force.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize,
)]
pub struct Version {
    /// How often the mesh was recovered by force.
    pub generation: Generation,
    /// The master's term that made it.
    pub term: Term,
    /// Counts the changes.
    pub number: u64,
}

/// Names a checkpoint of an instance: the epoch that made it and its number in that epoch.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize,
)]
pub struct CheckpointId {
    /// The epoch of the active that made it.
    pub epoch: Epoch,
    /// Counts up within the epoch.
    pub seq: u64,
}

/// Who runs what, and who decides.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(into = "Compact", try_from = "Compact")]
pub struct Table {
    /// Which table.
    pub version: Version,
    /// Who decides: one board, or three.
    pub voters: Voters,
    /// While the voters change: who will decide. Every majority is then one of both.
    pub incoming: Option<Voters>,
    /// The instances, in the order of their keys.
    pub rows: Vec<Row>,
    /// Orders that were carried out and have not expired: the first half of the nonce, and the unix
    /// seconds of the expiry.
    pub orders: Vec<(u64, u64)>,
    /// Boards that are to host nothing and decide nothing, in the order of their ids: an operator is
    /// about to switch them off.
    pub drained: Vec<NodeId>,
    /// Boards that are leaving the mesh, by their own word, in the order of their ids: from here on the
    /// others count on them for nothing.
    pub leaving: Vec<NodeId>,
}

/// One instance of a service. Written in full in a journal, compactly in a table.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Row {
    /// The generation of the table that it is in. What was decided in a generation that is void counts for
    /// nothing, however high its epochs are.
    pub generation: Generation,
    /// The service.
    pub service: Name,
    /// Which of its instances.
    pub ordinal: u16,
    /// Changes exactly when the right to run changes.
    pub epoch: Epoch,
    /// The epoch whose states this one goes on from; the default: from the state `base` and no other.
    pub previous: Epoch,
    /// Rises with every change of this row.
    pub revision: u64,
    /// Who runs it.
    pub active: NodeId,
    /// Who carries on.
    pub standby: Option<NodeId>,
    /// Whether the standby holds a complete state of this row's lineage.
    pub ready: bool,
    /// What the standby says itself: whether what it runs is there, so that it could start it. None: it has
    /// not said so yet.
    pub able: Option<bool>,
    /// Who is being filled to become the standby.
    pub fill: Option<NodeId>,
    /// The active gave the instance up in a planned move.
    pub released: bool,
    /// The active lost its disk.
    pub lost: bool,
    /// Taken out of service.
    pub retiring: bool,
    /// Taken out of service for good: the row goes as soon as it is known that nothing runs any more.
    pub removing: bool,
    /// A floor for the state to start from.
    pub base: CheckpointId,
    /// BLAKE3 of the service's specification.
    pub spec: [u8; 32],
}

impl Row {
    /// Which instance this is.
    pub fn instance(&self) -> Instance {
        Instance { service: self.service.clone(), ordinal: self.ordinal }
    }

    /// Whether nobody ever ran this instance under another right.
    pub fn is_first(&self) -> bool {
        self.previous == Epoch::default() && self.base == CheckpointId::default()
    }

    /// Who gave the former right up, if it was given up: it stands by now.
    pub fn given_up_by(&self) -> Option<NodeId> {
        self.standby.filter(|_| self.released)
    }

    /// The right that follows this one. Its upper half is at least the generation: what a mesh that was
    /// recovered by force grants was never granted before (3b.5).
    pub fn next_epoch(&self, generation: Generation) -> Epoch {
        Epoch(self.epoch.0 + 1).max(generation.first_epoch())
    }

    /// Of two rows of one instance the one with the higher age is the newer one. The epoch before the
    /// revision: an instance that was removed and made anew counts its revisions from one.
    pub fn age(&self) -> (Generation, Epoch, u64) {
        (self.generation, self.epoch, self.revision)
    }
}

impl Table {
    /// Every board that counts in some majority.
    pub fn electorate(&self) -> BTreeSet<NodeId> {
        self.voters.iter().chain(self.incoming.iter().flatten()).copied().collect()
    }

    /// The same, as the first of a later generation: one voter, and everything else goes on.
    pub fn recovered(self, version: Version, voter: NodeId) -> Self {
        let mut rows = self.rows;
        rows.iter_mut().for_each(|row| row.generation = version.generation);
        Self { version, voters: List::capped([voter]), incoming: None, rows, ..self }
    }

    /// Whether an operator is about to switch this board off.
    pub fn is_drained(&self, node: &NodeId) -> bool {
        self.drained.binary_search(node).is_ok()
    }

    /// Whether this board is leaving the mesh.
    pub fn is_leaving(&self, node: &NodeId) -> bool {
        self.leaving.binary_search(node).is_ok()
    }

    /// Whether this board is to host and to decide nothing any more, for either reason.
    pub fn makes_way(&self, node: &NodeId) -> bool {
        self.is_drained(node) || self.is_leaving(node)
    }

    /// Where the row of an instance is, or would be.
    ///
    /// # Errors
    /// There is none; where to insert it.
    pub fn place_of(&self, instance: &Instance) -> Result<usize, usize> {
        let wanted = (&*instance.service, instance.ordinal);
        self.rows.binary_search_by(|row| key(row).cmp(&wanted))
    }

    /// The row of an instance.
    pub fn row(&self, instance: &Instance) -> Option<&Row> {
        self.place_of(instance).ok().map(|at| &self.rows[at])
    }

    /// Whether those for which `agrees` holds are a majority of the voters, and of the incoming ones
    /// too while the voters change (S1 of 3b: one step is unsafe).
    pub fn is_majority(&self, agrees: impl Fn(&NodeId) -> bool) -> bool {
        let of = |side: &Voters| side.iter().filter(|node| agrees(node)).count() * 2 > side.len();
        of(&self.voters) && self.incoming.as_ref().is_none_or(of)
    }
}

/// The table as it is written and sent.
#[derive(Serialize, Deserialize)]
struct Compact {
    version: Version,
    voters: List<u16, VOTERS_MAX>,
    incoming: Option<List<u16, VOTERS_MAX>>,
    nodes: List<NodeId, TABLE_NODES_MAX>,
    rows: List<CompactRow, ROWS_MAX>,
    orders: List<(u64, u64), ORDERS_MAX>,
    drained: List<u16, DRAINED_MAX>,
    leaving: List<u16, DRAINED_MAX>,
}

#[derive(Serialize, Deserialize)]
struct CompactRow {
    service: Name,
    ordinal: u16,
    epoch: Epoch,
    previous: Epoch,
    revision: u64,
    active: u16,
    standby: Option<u16>,
    fill: Option<u16>,
    /// Bit 0 ready, 1 released, 2 lost, 3 retiring, 4 removing, 5 able, 6 not able.
    flags: u8,
    base: CheckpointId,
    spec: [u8; 32],
}

impl From<Table> for Compact {
    fn from(table: Table) -> Self {
        let mut named = table.electorate();
        for row in &table.rows {
            named.extend([Some(row.active), row.standby, row.fill].into_iter().flatten());
        }
        named.extend(table.drained.iter().chain(&table.leaving));
        let nodes: Vec<NodeId> = named.into_iter().collect();
        let index = |node: &NodeId| nodes.binary_search(node).map_or(u16::MAX, |at| at as u16);
        let side = |side: &Voters| List::capped(side.iter().map(index));
        let rows = table.rows.iter().map(|row| CompactRow {
            service: row.service.clone(),
            ordinal: row.ordinal,
            epoch: row.epoch,
            previous: row.previous,
            revision: row.revision,
            active: index(&row.active),
            standby: row.standby.as_ref().map(index),
            fill: row.fill.as_ref().map(index),
            flags: u8::from(row.ready)
                | u8::from(row.released) << 1
                | u8::from(row.lost) << 2
                | u8::from(row.retiring) << 3
                | u8::from(row.removing) << 4
                | u8::from(row.able == Some(true)) << 5
                | u8::from(row.able == Some(false)) << 6,
            base: row.base,
            spec: row.spec,
        });
        Self {
            version: table.version,
            voters: side(&table.voters),
            incoming: table.incoming.as_ref().map(side),
            rows: List::capped(rows),
            nodes: List::capped(nodes.iter().copied()),
            orders: List::capped(table.orders),
            drained: List::capped(table.drained.iter().map(index)),
            leaving: List::capped(table.leaving.iter().map(index)),
        }
    }
}

/// A table whose rows name boards that it does not list, or whose rows are out of order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a table that contradicts itself")]
struct Crooked;

impl TryFrom<Compact> for Table {
    type Error = Crooked;

    fn try_from(compact: Compact) -> Result<Self, Crooked> {
        let node = |index: u16| compact.nodes.get(usize::from(index)).copied().ok_or(Crooked);
        let side = |side: &List<u16, VOTERS_MAX>| {
            let nodes = side.iter().map(|index| node(*index)).collect::<Result<Vec<_>, _>>()?;
            Ok(List::capped(nodes))
        };
        let mut rows = Vec::with_capacity(compact.rows.len());
        for row in &compact.rows {
            let able = match row.flags >> 5 {
                0 => None,
                1 => Some(true),
                2 => Some(false),
                _ => return Err(Crooked),
            };
            rows.push(Row {
                generation: compact.version.generation,
                service: row.service.clone(),
                ordinal: row.ordinal,
                epoch: row.epoch,
                previous: row.previous,
                revision: row.revision,
                active: node(row.active)?,
                standby: row.standby.map(node).transpose()?,
                fill: row.fill.map(node).transpose()?,
                ready: row.flags & 1 != 0,
                released: row.flags & 2 != 0,
                lost: row.flags & 4 != 0,
                retiring: row.flags & 8 != 0,
                removing: row.flags & 16 != 0,
                able,
                base: row.base,
                spec: row.spec,
            });
        }
        let sorted = rows.windows(2).all(|w| key(&w[0]) < key(&w[1]));
        let voters: Voters = side(&compact.voters)?;
        if !sorted || voters.is_empty() {
            return Err(Crooked);
        }
        let incoming = compact.incoming.as_ref().map(side).transpose()?;
        if incoming.as_ref().is_some_and(|incoming| incoming.is_empty()) {
            return Err(Crooked);
        }
        let orders = compact.orders.into_vec();
        let nodes = |of: &List<u16, DRAINED_MAX>| {
            of.iter().map(|index| node(*index)).collect::<Result<Vec<_>, _>>()
        };
        let drained = nodes(&compact.drained)?;
        let leaving = nodes(&compact.leaving)?;
        Ok(Self { version: compact.version, voters, incoming, rows, orders, drained, leaving })
    }
}

fn key(row: &Row) -> (&str, u16) {
    (&row.service, row.ordinal)
}

/// For tests.
#[cfg(test)]
pub(crate) mod samples {
    use super::*;

    /// A row of the third right, which goes on from the second one, with a standby that is ready.
    pub(crate) fn row(service: &str, active: NodeId, standby: Option<NodeId>) -> Row {
        Row {
            generation: Generation(0),
            service: Name::capped(service),
            ordinal: 0,
            epoch: Epoch(3),
            previous: Epoch(2),
            revision: 9,
            active,
            standby,
            ready: true,
            able: None,
            fill: None,
            released: false,
            lost: false,
            retiring: false,
            removing: false,
            base: CheckpointId { epoch: Epoch(2), seq: 40 },
            spec: [5; 32],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::wire::codec;

    fn node(n: u8) -> NodeId {
        super::super::id::PublicKey([n; 32])
    }

    fn table() -> Table {
        let row = |service: &str, active, standby| Row {
            fill: Some(node(7)),
            lost: true,
            ..samples::row(service, active, standby)
        };
        Table {
            version: Version { generation: Generation(0), term: Term(4), number: 12 },
            voters: List::capped([node(1), node(2), node(3)]),
            incoming: Some(List::capped([node(1), node(2), node(4)])),
            rows: vec![row("api", node(1), Some(node(9))), row("db", node(8), None)],
            orders: vec![(7, 1_800_000_000)],
            drained: vec![node(9)],
            leaving: vec![node(8)],
        }
    }

    #[test]
    fn a_table_reads_back_and_a_row_is_small() {
        let bytes = codec::encode(&table()).unwrap();
        assert_eq!(codec::decode::<Table>(&bytes).unwrap(), table());
        let mut big = table();
        big.rows = (0..ROWS_MAX)
            .map(|n| Row {
                service: Name::capped(&format!("service-{n:04}")),
                ..table().rows[0].clone()
            })
            .collect();
        let bytes = codec::encode(&big).unwrap();
        assert!(bytes.len() / ROWS_MAX <= 128, "{} bytes", bytes.len());
        assert_eq!(codec::decode::<Table>(&bytes).unwrap(), big);
    }

    #[test]
    fn what_a_void_generation_decided_is_older_than_anything_since() {
        let version = Version { generation: Generation(1 << 16), term: Term(1), number: 13 };
        let void = Row { epoch: Epoch(90), revision: 500, ..table().rows[0].clone() };
        let recovered = table().recovered(version, node(4));
        let of_now = recovered.row(&void.instance()).unwrap();
        assert!(of_now.age() > void.age());
        assert_eq!((of_now.epoch, of_now.active), (Epoch(3), node(1)), "it goes on as it was");
        assert_eq!(recovered.electorate(), BTreeSet::from([node(4)]));
    }

    #[test]
    fn while_the_voters_change_a_majority_is_one_of_both() {
        let agree = |nodes: &[u8]| {
            let nodes: Vec<NodeId> = nodes.iter().map(|n| node(*n)).collect();
            table().is_majority(|n| nodes.contains(n))
        };
        assert!(agree(&[1, 2]));
        assert!(!agree(&[1, 4]), "the old voters have not agreed (S1)");
        assert!(!agree(&[1, 3]), "the new voters have not agreed (S1)");
        assert!(agree(&[1, 3, 4]));
    }

    #[test]
    fn a_table_with_an_index_out_of_range_is_refused() {
        let mut compact = Compact::from(table());
        compact.rows =
            List::capped(compact.rows.into_iter().map(|row| CompactRow { active: 999, ..row }));
        let bytes = codec::encode(&compact).unwrap();
        assert!(codec::decode::<Table>(&bytes).is_err());
    }
}
