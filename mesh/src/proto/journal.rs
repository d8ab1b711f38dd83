//! The journal: what a node must remember, as checksummed frames in one append-only file.
//!
//! The node says [`Record`]s; the driver appends [`frame`]s and fsyncs; after a crash [`scan`] reads
//! them back into a [`Durable`]. The file is bounded: the driver replaces it by [`snapshot`] of the
//! `Durable` once it has grown enough ([`wants_compaction`]).
//!
//! ```text
//! file  = MAGIC frame*
//! frame = len u32 LE | synced u64 LE | body (len bytes) | first 8 bytes of BLAKE3(len, synced, body)
//! ```
//!
//! `synced` is the length of the file that was known to be fsynced when the frame was written. It is
//! what tells a torn tail (an unfsynced suffix lost in a power cut: normal, cut off) from rot (bytes
//! that were durable once and changed: a lost promise, so the node must not start).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::authority::Remembered;
use super::bounded::List;
use super::config::Belonging;
use super::failover::orders::ORDERS_OPEN_MAX;
use super::holdings::{Held, PINNED_MAX};
use super::id::{Epoch, Incarnation, MeshId, NodeId, PublicKey, Term};
use super::order::{Instance, SignedOrder};
use super::record::Admission;
use super::signed::Signed;
use super::specs::SpecHash;
use super::table::{CheckpointId, Row, Table, Version};
use super::ticket::{Credential, Revocation, Revoked};
use super::wire::codec::{self, CodecError};
use super::wire::gossip::Joined;

/// The first bytes of a journal: a name and a format version.
pub const MAGIC: &[u8; 8] = b"hedgejr1";
/// Bytes of one frame's body.
pub const BODY_BYTES_MAX: usize = 256 * 1024;
/// A journal is not compacted below this size, bytes.
pub const COMPACT_BYTES_MIN: u64 = 64 * 1024;
/// Orders that are kept although no row names them: as many as may be on their way into a table.
pub const SPECS_UNNAMED_MAX: usize = ORDERS_OPEN_MAX;

const HEAD_BYTES: usize = 12;
const SUM_BYTES: usize = 8;

/// One thing to remember. The order and meaning of the variants are frozen with the wire.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Record {
    /// The mesh this node belongs to and the chain that let it in. A node never changes its mesh.
    /// Written again when a node that left comes back with a new ticket.
    Belongs {
        /// The mesh's root key.
        root: PublicKey,
        /// The chain.
        credential: Credential,
    },
    /// A member's word that it let this node in.
    Admission(Signed<Admission>),
    /// Every incarnation up to this one may have been used.
    Incarnations {
        /// Inclusive.
        upto: Incarnation,
    },
    /// A member: where to find it after a restart, and that it was let in.
    Member(Box<Joined>),
    /// A member is to be forgotten.
    Forget(NodeId),
    /// A ticket or a node is no longer welcome.
    Revocation(Box<Signed<Revocation>>),
    /// This node left on purpose and must not come back by itself.
    Left,
    /// The newest term this node took part in, its vote, and the longest lease it promised.
    Term {
        /// The term.
        term: Term,
        /// For whom it voted in it.
        vote: Option<NodeId>,
        /// Milliseconds.
        lease_ms: u32,
    },
    /// The newest table this node has as a voter or learner, chosen or not.
    Table(Box<Table>),
    /// The key that this journal belongs to. The first record of every journal: a key without it
    /// belongs to a board whose memory was lost, and must not be used again.
    Identity(NodeId),
    /// An order that rows of the table name by its hash.
    Spec(Box<SignedOrder>),
    /// A row that names this board: what it was running.
    Assigned(Box<Row>),
    /// This board is not to run that any more.
    Unassigned(Instance),
    /// From now on this board may hold a state of that epoch which nobody else has: it is about to start
    /// the instance.
    Began(Instance, Epoch),
    /// This board gave up the right to run an instance in favour of another, with that last state, and
    /// will never start it under that epoch again (S7, S8 of 3b).
    Released {
        /// Which.
        instance: Instance,
        /// The right that was given up.
        epoch: Epoch,
        /// Who is to go on.
        to: NodeId,
        /// The last state.
        last: CheckpointId,
    },
    /// This board, as active, does not count on its former standby any more, from that revision of the
    /// row on: the board that was filled is to take its place (S7, S9).
    Switching {
        /// Which.
        instance: Instance,
        /// The row that names the board that was filled.
        revision: u64,
    },
    /// This board has acted on a table of that version: after a restart it believes no older one.
    Saw(Version),
    /// Exactly these states of an instance are kept in this board's store until others are pinned.
    Pinned {
        /// Which.
        instance: Instance,
        /// The states; empty: none any more.
        states: List<CheckpointId, PINNED_MAX>,
    },
    /// The longest lease that this board grants to actives: so long it keeps silent after a restart.
    Grants {
        /// Milliseconds.
        lease_ms: u32,
    },
}

/// Everything that a node remembers across restarts.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Durable {
    /// The mesh, once known.
    pub belonging: Option<Belonging>,
    /// A member's word that it let this node in.
    pub admission: Option<Signed<Admission>>,
    /// The highest incarnation that may have been used.
    pub incarnation: Incarnation,
    /// Members by id.
    pub members: BTreeMap<NodeId, Joined>,
    /// Revocations by target.
    pub revocations: BTreeMap<Revoked, Signed<Revocation>>,
    /// True after this node left on purpose.
    pub left: bool,
    /// What it remembers as a voter.
    pub voter: Remembered,
    /// The newest table it has as a voter or learner.
    pub table: Option<Table>,
    /// The key that the journal belongs to.
    pub identity: Option<NodeId>,
    /// Orders by hash.
    pub specs: BTreeMap<SpecHash, SignedOrder>,
    /// The newest of them, oldest first: an order is written before the row that names it.
    pub newest_specs: VecDeque<SpecHash>,
    /// What it was running.
    pub assigned: BTreeMap<Instance, Tenure>,
    /// States that are kept in its store until others are pinned.
    pub pinned: Held,
    /// The newest table it has acted on.
    pub saw: Version,
    /// The longest lease it may have granted to an active, milliseconds.
    pub grants_ms: u32,
}

/// What a board remembers of an instance that it was to run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tenure {
    /// The row that said so.
    pub row: Row,
    /// Under which epoch it may have run here last.
    pub began: Option<Epoch>,
    /// The right that it gave up: epoch, successor, last state.
    pub released: Option<(Epoch, NodeId, CheckpointId)>,
    /// The revision from which on it does not count on its former standby.
    pub switching: Option<u64>,
}

impl Tenure {
    /// What is remembered of a row that was just learnt.
    pub fn new(row: Row) -> Self {
        Self { row, began: None, released: None, switching: None }
    }

    fn records(&self) -> Vec<Record> {
        let instance = self.row.instance();
        let mut records = vec![Record::Assigned(Box::new(self.row.clone()))];
        records.extend(self.began.map(|epoch| Record::Began(instance.clone(), epoch)));
        if let Some((epoch, to, last)) = self.released {
            records.push(Record::Released { instance: instance.clone(), epoch, to, last });
        }
        records.extend(self.switching.map(|revision| Record::Switching { instance, revision }));
        records
    }
}

/// What a [`scan`] found.
#[derive(Debug)]
pub struct Scan {
    /// What the readable frames add up to.
    pub durable: Durable,
    /// Bytes of the file that hold readable frames: cut the file here before appending.
    pub len: u64,
    /// Bytes after that which were never fsynced.
    pub torn: u64,
}

/// Why a journal cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScanError {
    /// Another file, or a later format.
    #[error("this is not a Hedgerow journal of format 1")]
    NotAJournal,
    /// Bytes that had been fsynced are damaged.
    #[error(
        "the journal is damaged at byte {at}, although everything up to byte {synced} had been written safely: the disk is failing. Promises may be lost, so this node does not start; move its data folder away and join anew with a ticket"
    )]
    Rot {
        /// Where the first unreadable frame begins.
        at: u64,
        /// How far the file had been fsynced.
        synced: u64,
    },
    /// A whole frame whose body this version does not know.
    #[error(
        "the journal holds a record at byte {at} that this version does not know ({error}): it was written by a newer Hedgerow; start that version"
    )]
    Newer {
        /// Where the frame begins.
        at: u64,
        /// What the decoder said.
        error: CodecError,
    },
}

impl Durable {
    /// Adds one record.
    pub fn apply(&mut self, record: Record) {
        match record {
            Record::Belongs { root, credential } => {
                let mesh = MeshId::of_root(&root);
                // Whoever was let in by one ticket and left was not let in by the next one yet.
                let ticket = credential.ticket.digest();
                let by_it = |by: &Signed<Admission>| by.peek().is_ok_and(|a| a.ticket == ticket);
                self.admission = self.admission.take().filter(by_it);
                self.belonging = Some(Belonging { root, mesh, credential });
                self.left = false;
            }
            Record::Admission(admission) => self.admission = Some(admission),
            Record::Incarnations { upto } => self.incarnation = self.incarnation.max(upto),
            Record::Member(joined) => {
                if let Ok(record) = joined.record.peek() {
                    self.members.insert(record.node, *joined);
                }
            }
            Record::Forget(node) => {
                self.members.remove(&node);
            }
            Record::Revocation(signed) => {
                if let Ok(revocation) = signed.peek() {
                    self.revocations.insert(revocation.target, *signed);
                }
            }
            Record::Left => self.left = true,
            Record::Term { term, vote, lease_ms } => {
                self.voter = Remembered { term, vote, lease_ms };
            }
            Record::Table(table) => self.accept(*table),
            Record::Identity(node) => self.identity = Some(node),
            Record::Spec(order) => {
                let hash = order.hash();
                self.newest_specs.retain(|known| *known != hash);
                if self.newest_specs.len() >= SPECS_UNNAMED_MAX {
                    self.newest_specs.pop_front();
                }
                self.newest_specs.push_back(hash);
                self.specs.insert(hash, *order);
            }
            Record::Assigned(row) => match self.assigned.get_mut(&row.instance()) {
                Some(tenure) => tenure.row = *row,
                None => drop(self.assigned.insert(row.instance(), Tenure::new(*row))),
            },
            Record::Unassigned(instance) => {
                self.assigned.remove(&instance);
            }
            Record::Began(instance, epoch) => {
                if let Some(tenure) = self.assigned.get_mut(&instance) {
                    tenure.began = Some(epoch);
                }
            }
            Record::Released { instance, epoch, to, last } => {
                if let Some(tenure) = self.assigned.get_mut(&instance) {
                    tenure.released = Some((epoch, to, last));
                }
            }
            Record::Switching { instance, revision } => {
                if let Some(tenure) = self.assigned.get_mut(&instance) {
                    tenure.switching = Some(revision);
                }
            }
            Record::Pinned { instance, states } if states.is_empty() => {
                self.pinned.remove(&instance);
            }
            Record::Pinned { instance, states } => {
                self.pinned.insert(instance, states.iter().copied().collect());
            }
            Record::Saw(version) => self.saw = self.saw.max(version),
            Record::Grants { lease_ms } => self.grants_ms = self.grants_ms.max(lease_ms),
        }
    }

    /// What this board chose alone it has acted on, although more may have to choose the next one.
    fn accept(&mut self, table: Table) {
        if let Some(former) = self.table.replace(table)
            && former.electorate().into_iter().eq(self.identity)
        {
            self.saw = self.saw.max(former.version);
        }
    }

    /// The orders that a row still names, and those that may not have a row yet.
    fn live_specs(&self) -> impl Iterator<Item = &SignedOrder> {
        let rows = self.table.iter().flat_map(|table| &table.rows);
        let rows = rows.chain(self.assigned.values().map(|tenure| &tenure.row));
        let mut older: BTreeSet<SpecHash> = rows.map(|row| row.spec).collect();
        older.retain(|hash| !self.newest_specs.contains(hash));
        let live = older.into_iter().chain(self.newest_specs.iter().copied());
        live.filter_map(|hash| self.specs.get(&hash))
    }

    /// The shortest list of records that adds up to this.
    pub fn records(&self) -> Vec<Record> {
        let mut records: Vec<Record> = self.identity.map(Record::Identity).into_iter().collect();
        if let Some(Belonging { root, credential, .. }) = &self.belonging {
            records.push(Record::Belongs { root: *root, credential: credential.clone() });
        }
        records.extend(self.admission.clone().map(Record::Admission));
        if self.incarnation > Incarnation(0) {
            records.push(Record::Incarnations { upto: self.incarnation });
        }
        records
            .extend(self.members.values().map(|joined| Record::Member(Box::new(joined.clone()))));
        records.extend(
            self.revocations.values().map(|signed| Record::Revocation(Box::new(signed.clone()))),
        );
        records.extend(self.left.then_some(Record::Left));
        let Remembered { term, vote, lease_ms } = self.voter;
        if self.voter != Remembered::default() {
            records.push(Record::Term { term, vote, lease_ms });
        }
        records.extend(self.table.clone().map(|table| Record::Table(Box::new(table))));
        records.extend(self.live_specs().map(|order| Record::Spec(Box::new(order.clone()))));
        records.extend(self.assigned.values().flat_map(Tenure::records));
        records.extend(self.pinned.iter().map(|(instance, states)| Record::Pinned {
            instance: instance.clone(),
            states: List::capped(states.iter().copied()),
        }));
        if self.saw != Version::default() {
            records.push(Record::Saw(self.saw));
        }
        if self.grants_ms > 0 {
            records.push(Record::Grants { lease_ms: self.grants_ms });
        }
        records
    }
}

/// The bytes to append for `record`, when `synced` bytes of the file are known to be fsynced.
///
/// # Errors
/// `TooLarge` when the record exceeds [`BODY_BYTES_MAX`]: a limit in this program is wrong.
pub fn frame(record: &Record, synced: u64) -> Result<Vec<u8>, CodecError> {
    let body = codec::encode(record)?;
    let len = u32::try_from(body.len()).expect("the codec limits it to a frame");
    let mut frame = Vec::with_capacity(HEAD_BYTES + body.len() + SUM_BYTES);
    frame.extend_from_slice(&len.to_le_bytes());
    frame.extend_from_slice(&synced.to_le_bytes());
    frame.extend_from_slice(&body);
    let sum = checksum(&frame);
    frame.extend_from_slice(&sum);
    Ok(frame)
}

/// A whole new file that adds up to `durable`.
///
/// # Errors
/// As for [`frame`].
pub fn snapshot(durable: &Durable) -> Result<Vec<u8>, CodecError> {
    let mut file = MAGIC.to_vec();
    for record in durable.records() {
        file.extend_from_slice(&frame(&record, 0)?);
    }
    Ok(file)
}

/// Whether a file of `len` bytes whose snapshot had `snapshot_len` should be replaced.
pub fn wants_compaction(len: u64, snapshot_len: u64) -> bool {
    len >= COMPACT_BYTES_MIN.max(snapshot_len.saturating_mul(4))
}

/// Reads a journal back. An empty file is an empty journal.
///
/// # Errors
/// Damage to bytes that had been fsynced, or a file that is no journal of this format.
pub fn scan(file: &[u8]) -> Result<Scan, ScanError> {
    if file.len() < MAGIC.len() && MAGIC.starts_with(file) {
        let torn = file.len() as u64;
        return Ok(Scan { durable: Durable::default(), len: 0, torn });
    }
    if !file.starts_with(MAGIC) {
        return Err(ScanError::NotAJournal);
    }
    let mut durable = Durable::default();
    let mut at = MAGIC.len();
    while at < file.len() {
        let Some((_, body, len)) = frame_at(file, at) else {
            let first_bad = at as u64;
            if let Some(synced) = synced_beyond(file, at, first_bad) {
                return Err(ScanError::Rot { at: first_bad, synced });
            }
            return Ok(Scan { durable, len: first_bad, torn: (file.len() - at) as u64 });
        };
        let record =
            codec::decode(body).map_err(|error| ScanError::Newer { at: at as u64, error })?;
        durable.apply(record);
        at += len;
    }
    Ok(Scan { durable, len: at as u64, torn: 0 })
}

/// `(synced, body, bytes of the whole frame)` of the frame at `at`, if there is a whole one.
fn frame_at(file: &[u8], at: usize) -> Option<(u64, &[u8], usize)> {
    let head = file.get(at..at + HEAD_BYTES)?;
    let len = u32::from_le_bytes(head[..4].try_into().ok()?) as usize;
    if len == 0 || len > BODY_BYTES_MAX {
        return None;
    }
    let synced = u64::from_le_bytes(head[4..].try_into().ok()?);
    let sum_at = at + HEAD_BYTES + len;
    let sum = file.get(sum_at..sum_at + SUM_BYTES)?;
    if checksum(&file[at..sum_at]) != sum {
        return None;
    }
    Some((synced, &file[at + HEAD_BYTES..sum_at], HEAD_BYTES + len + SUM_BYTES))
}

/// Looks behind a bad frame for a whole one that says that bytes past `bad` had been fsynced.
fn synced_beyond(file: &[u8], from: usize, bad: u64) -> Option<u64> {
    (from + 1..file.len()).find_map(|at| {
        let (synced, ..) = frame_at(file, at)?;
        (synced > bad && synced <= at as u64).then_some(synced)
    })
}

fn checksum(bytes: &[u8]) -> [u8; SUM_BYTES] {
    let mut sum = [0; SUM_BYTES];
    sum.copy_from_slice(&blake3::hash(bytes).as_bytes()[..SUM_BYTES]);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::bounded::Text;
    use crate::proto::order::{Action, samples};

    fn stop(n: u64) -> SignedOrder {
        samples::order(n, Action::Stop(Text::capped("kv")))
    }

    fn record(n: u64) -> Record {
        Record::Incarnations { upto: Incarnation(n) }
    }

    /// A journal of `count` records, each fsynced before the next one is written.
    fn journal(count: u64) -> (Vec<u8>, Vec<usize>) {
        let mut file = MAGIC.to_vec();
        let mut ends = vec![file.len()];
        for n in 1..=count {
            let synced = file.len() as u64;
            file.extend(frame(&record(n), synced).unwrap());
            ends.push(file.len());
        }
        (file, ends)
    }

    #[test]
    fn a_tail_torn_at_any_byte_is_cut_off_and_everything_before_it_survives() {
        let (file, ends) = journal(5);
        for cut in 0..=file.len() {
            let scan = scan(&file[..cut]).unwrap();
            let whole = ends.iter().filter(|end| **end <= cut).count().saturating_sub(1);
            assert_eq!(scan.durable.incarnation, Incarnation(whole as u64), "cut at {cut}");
            assert_eq!(scan.len + scan.torn, cut as u64);
        }
    }

    #[test]
    fn a_flipped_bit_in_bytes_that_were_fsynced_is_rot_and_never_a_torn_tail() {
        let (file, ends) = journal(5);
        // The last frame was never proved durable by a later one; all others were.
        for at in MAGIC.len()..ends[4] {
            for bit in 0..8 {
                let mut rotten = file.clone();
                rotten[at] ^= 1 << bit;
                assert!(
                    matches!(scan(&rotten), Err(ScanError::Rot { .. })),
                    "bit {bit} of byte {at} flipped unnoticed"
                );
            }
        }
    }

    #[test]
    fn sectors_lost_from_one_unfsynced_batch_are_a_torn_tail_even_if_later_ones_arrived() {
        let mut file = journal(1).0;
        let synced = file.len() as u64;
        let first = frame(&record(2), synced).unwrap();
        let hole = file.len()..file.len() + first.len();
        file.extend(first);
        file.extend(frame(&record(3), synced).unwrap());
        file[hole].fill(0);
        let scan = scan(&file).unwrap();
        assert_eq!((scan.durable.incarnation, scan.len), (Incarnation(1), synced));
    }

    #[test]
    fn a_snapshot_adds_up_to_what_it_was_made_from() {
        let durable = scan(&journal(5).0).unwrap().durable;
        assert_eq!(scan(&snapshot(&durable).unwrap()).unwrap().durable, durable);
    }

    /// Found by netsim: swarm/1 nodes=5 schedule=chaos seed=20760.
    #[test]
    fn an_order_that_no_row_names_yet_survives_a_compaction() {
        let mut durable = scan(&journal(1).0).unwrap().durable;
        let orders: Vec<SignedOrder> = (0..3).map(stop).collect();
        for order in &orders {
            durable.apply(Record::Spec(Box::new(order.clone())));
        }
        let kept = scan(&snapshot(&durable).unwrap()).unwrap().durable;
        assert_eq!(kept, durable);
        assert!(orders.iter().all(|order| kept.specs.contains_key(&order.hash())));
    }

    #[test]
    fn orders_that_no_row_names_do_not_fill_the_journal() {
        let mut durable = Durable::default();
        for n in 0..=SPECS_UNNAMED_MAX as u64 {
            durable.apply(Record::Spec(Box::new(stop(n))));
        }
        let kept = scan(&snapshot(&durable).unwrap()).unwrap().durable;
        assert_eq!(kept.specs.len(), SPECS_UNNAMED_MAX);
        assert!(!kept.specs.contains_key(&stop(0).hash()), "the oldest one goes first");
    }

    #[test]
    fn another_file_is_not_mistaken_for_a_journal() {
        assert_eq!(scan(b"#!/bin/sh\n").unwrap_err(), ScanError::NotAJournal);
        assert_eq!(scan(b"").unwrap().len, 0);
    }
}
