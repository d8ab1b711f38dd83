//! What is new in a state, and how each new chunk is said in terms of its ancestor.
//!
//! Both boards hold the ancestor and (the receiver: as soon as its segments are there) the new
//! manifest. So both can list, in the same order, the chunks that are *novel*: named by the new
//! manifest, not by the ancestor's. A chunk the ancestor has anywhere is a reference that costs
//! nothing, and a novel one is sent once however often it occurs. Neither its name nor its base is
//! sent: both follow from the two manifests. What is sent is a *piece* per novel chunk:
//!
//! * **runs**: the changed stretches against the ancestor's chunk at the same place of the same
//!   file; always for sparse changes;
//! * **XOR** with it, or **raw**: for dense changes, whichever of the three compresses smallest.
//!
//! Pieces are gathered into the plain text of a segment: operations first, literals after, because
//! like bytes compress better together. Matching moved content, prefixes of gathered old pages and
//! a shorter manifest are later steps: they add kinds of pieces.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use crate::codec::{self, Reader, put_varint};
use crate::hash::ChunkId;
use crate::manifest::Manifest;

const RAW: u8 = 0;
const RUNS: u8 = 1;
const XOR: u8 = 2;
/// Runs that need less than this part of the chunk are taken without trying the other forms.
const SPARSE_PART: usize = 4;
/// For comparing forms only; the segment is compressed by the caller's level.
const TRIAL_LEVEL: i32 = 1;
const HEAD_BYTES: usize = 12;

/// A chunk the ancestor does not have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Novel {
    pub(crate) id: ChunkId,
    pub(crate) len: u32,
    /// The ancestor's chunk at the same place of the same file.
    pub(crate) base: Option<ChunkId>,
}

/// The novel chunks of `new` in the order both boards agree on: by path, then by index. The base
/// is that of the first occurrence that has one.
pub(crate) fn novel(new: &Manifest, ancestor: Option<&Manifest>) -> Vec<Novel> {
    let known: BTreeSet<ChunkId> =
        ancestor.into_iter().flat_map(Manifest::chunks).map(|(id, _)| id).collect();
    let aligned = ancestor.filter(|old| old.chunk_bytes == new.chunk_bytes);
    let mut all: Vec<Novel> = Vec::new();
    let mut listed: BTreeMap<ChunkId, usize> = BTreeMap::new();
    for (entry, body) in new.files() {
        let old = aligned.and_then(|old| old.file(&entry.path));
        let mut bases = old.into_iter().flat_map(|body| body.chunks(new.chunk_bytes)).peekable();
        for at in body.chunks(new.chunk_bytes).filter(|at| !known.contains(&at.id)) {
            while bases.next_if(|base| base.index < at.index).is_some() {}
            let base = bases.peek().filter(|base| base.index == at.index).map(|base| base.id);
            match listed.get(&at.id).and_then(|place| all.get_mut(*place)) {
                Some(before) => before.base = before.base.or(base),
                None => {
                    listed.insert(at.id, all.len());
                    all.push(Novel { id: at.id, len: at.len, base });
                }
            }
        }
    }
    all
}

/// The plain text of a segment while it grows.
#[derive(Clone, Default, Debug)]
pub(crate) struct Pieces {
    first: u32,
    count: u32,
    ops: Vec<u8>,
    literals: Vec<u8>,
}

impl Pieces {
    /// Begins with the novel chunk number `first`.
    pub(crate) fn starting_at(first: u32) -> Self {
        Self { first, ..Self::default() }
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Length of the plain text, in bytes.
    pub(crate) fn len_bytes(&self) -> usize {
        HEAD_BYTES + self.ops.len() + self.literals.len()
    }

    /// Adds one chunk, in the form that costs least.
    pub(crate) fn push(&mut self, new: &[u8], base: Option<&[u8]>) -> io::Result<()> {
        self.count += 1;
        let Some(base) = base else {
            self.ops.push(RAW);
            self.literals.extend_from_slice(new);
            return Ok(());
        };
        let base = &fit(base, new.len());
        let (ops, literals) = run_form(base, new);
        if (ops.len() + literals.len()) * SPARSE_PART <= new.len() {
            self.ops.extend_from_slice(&ops);
            self.literals.extend_from_slice(&literals);
            return Ok(());
        }
        let mut mixed = new.to_vec();
        codec::xor(&mut mixed, base);
        let cost = |bytes: &[u8]| Ok::<_, io::Error>(codec::pack(bytes, &[], TRIAL_LEVEL)?.len());
        let runs_cost = cost(&[ops.as_slice(), &literals].concat())?;
        let (raw_cost, xor_cost) = (cost(new)?, cost(&mixed)?);
        if runs_cost <= raw_cost.min(xor_cost) {
            self.ops.extend_from_slice(&ops);
            self.literals.extend_from_slice(&literals);
        } else if xor_cost < raw_cost {
            self.ops.push(XOR);
            self.literals.extend_from_slice(&mixed);
        } else {
            self.ops.push(RAW);
            self.literals.extend_from_slice(new);
        }
        Ok(())
    }

    /// first u32 | count u32 | length of the operations u32 | operations | literals.
    pub(crate) fn plain(&self) -> Vec<u8> {
        let ops_len = u32::try_from(self.ops.len()).unwrap_or(u32::MAX);
        let mut out = Vec::with_capacity(self.len_bytes());
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&ops_len.to_le_bytes());
        out.extend_from_slice(&self.ops);
        out.extend_from_slice(&self.literals);
        out
    }
}

/// Reads a segment's plain text back, piece by piece. From a peer: trusts nothing.
#[derive(Debug)]
pub(crate) struct PieceReader<'a> {
    ops: Reader<'a>,
    literals: Reader<'a>,
    /// Number of the first novel chunk.
    pub(crate) first: u32,
    /// How many chunks follow.
    pub(crate) count: u32,
}

impl<'a> PieceReader<'a> {
    pub(crate) fn new(plain: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(plain);
        let (first, count) = (reader.u32()?, reader.u32()?);
        let ops_len = usize::try_from(reader.u32()?).ok()?;
        let ops = Reader(reader.bytes(ops_len)?);
        Some(Self { ops, literals: reader, first, count })
    }

    /// The next chunk, of `len` bytes. The result is not verified yet. `None` if the text is
    /// malformed.
    pub(crate) fn next(&mut self, len: usize, base: Option<&[u8]>) -> Option<Vec<u8>> {
        match (self.ops.byte()?, base) {
            (RAW, _) => self.literals.bytes(len).map(<[u8]>::to_vec),
            (XOR, Some(base)) => {
                let mut bytes = self.literals.bytes(len)?.to_vec();
                codec::xor(&mut bytes, base);
                Some(bytes)
            }
            (RUNS, Some(base)) => self.runs(fit(base, len)),
            _ => None,
        }
    }

    /// True if nothing is left over.
    pub(crate) fn is_done(&self) -> bool {
        self.ops.is_empty() && self.literals.is_empty()
    }

    fn runs(&mut self, mut bytes: Vec<u8>) -> Option<Vec<u8>> {
        let mut at = 0usize;
        for _ in 0..self.ops.varint()? {
            let start = at.checked_add(usize::try_from(self.ops.varint()?).ok()?)?;
            let end = start.checked_add(usize::try_from(self.ops.varint()?).ok()?)?;
            // An empty run would let a short text keep this loop busy for long.
            let into = bytes.get_mut(start..end).filter(|into| !into.is_empty())?;
            into.copy_from_slice(self.literals.bytes(end - start)?);
            at = end;
        }
        Some(bytes)
    }
}

/// The base cut or zero-filled to the length of the new chunk.
fn fit(base: &[u8], len: usize) -> Vec<u8> {
    let mut fitted = base[..base.len().min(len)].to_vec();
    fitted.resize(len, 0);
    fitted
}

fn run_form(base: &[u8], new: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    let runs = codec::runs(base, new);
    let mut ops = vec![RUNS];
    let mut literals = Vec::new();
    put_varint(&mut ops, number(runs.len()));
    let mut at = 0;
    for (start, end) in runs {
        put_varint(&mut ops, number(start - at));
        put_varint(&mut ops, number(end - start));
        literals.extend_from_slice(&new[start..end]);
        at = end;
    }
    (ops, literals)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(new: &[u8], base: Option<&[u8]>) -> usize {
        let mut pieces = Pieces::starting_at(7);
        pieces.push(new, base).unwrap();
        let plain = pieces.plain();
        assert_eq!(plain.len(), pieces.len_bytes());
        let mut reader = PieceReader::new(&plain).unwrap();
        assert_eq!((reader.first, reader.count), (7, 1));
        assert_eq!(reader.next(new.len(), base).as_deref(), Some(new));
        assert!(reader.is_done());
        plain.len()
    }

    #[test]
    fn a_sparse_change_costs_its_bytes() {
        let base = vec![7; 16 << 10];
        let mut new = base.clone();
        new[100..108].copy_from_slice(b"new data");
        assert!(round_trip(&new, Some(&base)) < 32);
    }

    #[test]
    fn dense_but_near_values_are_xored() {
        let base: Vec<u8> = (0..16384u32).map(|i| ((i * i) >> 3).to_le_bytes()[0]).collect();
        let new: Vec<u8> = base.iter().map(|byte| byte ^ 1).collect();
        let mut pieces = Pieces::starting_at(0);
        pieces.push(&new, Some(&base)).unwrap();
        assert_eq!(pieces.ops, [XOR]);
        round_trip(&new, Some(&base));
    }

    #[test]
    fn a_grown_and_a_shrunk_chunk_survive() {
        let base = vec![7; 5000];
        round_trip(&[7; 9000], Some(&base));
        round_trip(&[7; 10], Some(&base));
        round_trip(&[1, 2, 3], None);
    }

    proptest! {
        #[test]
        fn pieces_survive(
            new in proptest::collection::vec(0u8..4, 1..400),
            base in proptest::option::of(proptest::collection::vec(0u8..4, 0..400)),
        ) {
            round_trip(&new, base.as_deref());
        }

        #[test]
        fn arbitrary_bytes_never_panic(
            plain in proptest::collection::vec(any::<u8>(), 0..200),
            base in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..50)),
        ) {
            if let Some(mut reader) = PieceReader::new(&plain) {
                while reader.next(40, base.as_deref()).is_some() {}
            }
        }
    }
}
