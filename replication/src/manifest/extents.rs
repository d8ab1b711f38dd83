//! The content of a file: runs of chunks and runs of holes.
//!
//! One form per content: neighbouring runs differ in kind and none is empty. The rule is enforced
//! *while* decoding, so that a hostile manifest cannot turn two bytes of wire into 32 of memory.

use core::fmt;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::hash::ChunkId;
use crate::path::Blob;

/// What a file contains.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct FileBody {
    /// Length in bytes; for a memory image the end of the highest address.
    pub size: u64,
    /// Its chunks in order.
    #[serde(deserialize_with = "canonical")]
    pub extents: Vec<Extent>,
}

/// A run of chunks or of holes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Extent {
    /// So many chunks of zeros, at least one.
    Hole {
        /// How many.
        chunks: u64,
    },
    /// These chunks, at least one.
    Data(Vec<ChunkId>),
}

/// A chunk and its place in a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChunkAt {
    /// Which chunk of the file, counting holes.
    pub index: u64,
    /// Its name.
    pub id: ChunkId,
    /// Its length in bytes: the manifest's `chunk_bytes`, less for the last.
    pub len: u32,
}

impl FileBody {
    /// The chunks that are not holes, ascending by index.
    pub fn chunks(&self, chunk_bytes: u32) -> impl Iterator<Item = ChunkAt> {
        let mut next = 0u64;
        let size = self.size;
        self.extents.iter().flat_map(move |extent| {
            let first = next;
            next = next.saturating_add(extent.count());
            let ids = match extent {
                Extent::Hole { .. } => &[],
                Extent::Data(ids) => ids.as_slice(),
            };
            ids.iter().zip(first..).map(move |(&id, index)| {
                let rest = size.saturating_sub(index.saturating_mul(u64::from(chunk_bytes)));
                let len = u32::try_from(rest).unwrap_or(chunk_bytes).min(chunk_bytes);
                ChunkAt { index, id, len }
            })
        })
    }

    /// Appends a chunk, or a hole of one chunk for `None`.
    pub(crate) fn push(&mut self, chunk: Option<ChunkId>) {
        match (chunk, self.extents.last_mut()) {
            (Some(id), Some(Extent::Data(ids))) => ids.push(id),
            (Some(id), _) => self.extents.push(Extent::Data(vec![id])),
            (None, _) => self.push_hole(1),
        }
    }

    /// Appends a hole of so many chunks; none if 0.
    pub(crate) fn push_hole(&mut self, more: u64) {
        match self.extents.last_mut() {
            _ if more == 0 => {}
            Some(Extent::Hole { chunks }) => *chunks += more,
            _ => self.extents.push(Extent::Hole { chunks: more }),
        }
    }

    /// True if the extents are exactly as many chunks as the size asks for.
    pub(super) fn is_whole(&self, chunk_bytes: u32) -> bool {
        let sum = self.extents.iter().try_fold(0u64, |sum, run| sum.checked_add(run.count()));
        sum == Some(self.size.div_ceil(u64::from(chunk_bytes)))
    }

    /// True if the form is the one form of this content.
    pub(super) fn is_canonical(&self) -> bool {
        let mut before = None;
        self.extents.iter().all(|extent| {
            let fits = extent.count() > 0 && before != Some(extent.is_hole());
            before = Some(extent.is_hole());
            fits
        })
    }
}

impl Extent {
    /// How many chunks it stands for.
    pub fn count(&self) -> u64 {
        match self {
            Self::Hole { chunks } => *chunks,
            Self::Data(ids) => ids.len() as u64,
        }
    }

    fn is_hole(&self) -> bool {
        matches!(self, Self::Hole { .. })
    }
}

/// On the wire: a hole is its count and an empty string, data is 0 and its ids as one string.
#[derive(Serialize, Deserialize)]
struct WireExtent(u64, Blob);

impl Serialize for Extent {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Hole { chunks } => WireExtent(*chunks, Blob::default()),
            Self::Data(ids) => WireExtent(0, Blob(ids.iter().flat_map(|id| id.0).collect())),
        }
        .serialize(to)
    }
}

impl<'de> Deserialize<'de> for Extent {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let WireExtent(chunks, Blob(ids)) = WireExtent::deserialize(from)?;
        let (ids, rest) = ids.as_chunks::<32>();
        match (chunks, ids) {
            _ if !rest.is_empty() => Err(de::Error::custom("chunk ids are cut short")),
            (0, []) => Err(de::Error::custom("an empty extent")),
            (0, ids) => Ok(Self::Data(ids.iter().copied().map(ChunkId).collect())),
            (chunks, []) => Ok(Self::Hole { chunks }),
            _ => Err(de::Error::custom("an extent that is hole and data")),
        }
    }
}

fn canonical<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Extent>, D::Error> {
    struct Canonical;

    impl<'de> Visitor<'de> for Canonical {
        type Value = Vec<Extent>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("extents that alternate between hole and data")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<Extent>, A::Error> {
            let mut all: Vec<Extent> = Vec::new();
            while let Some(extent) = seq.next_element::<Extent>()? {
                if all.last().is_some_and(|last| last.is_hole() == extent.is_hole()) {
                    return Err(de::Error::custom("two neighbouring extents of one kind"));
                }
                all.push(extent);
            }
            Ok(all)
        }
    }

    from.deserialize_seq(Canonical)
}
