//! What a state is, as bytes: a function of what it is a state of.
//!
//! One file never changes, so its chunk is found again and again; of the other one a few bytes change between
//! two states of one run, so that they are sent as deltas. Reading compares every byte: what is not exactly
//! the content of some point is no state.

use hedgerow_replication::chunk::ChunkSource;
use hedgerow_replication::manifest::Manifest;
use hedgerow_replication::path::RelPath;

use crate::service::{Found, Point};

/// The file that says how many writes of which run.
const WRITES: &str = "writes";
/// The file that is the same in every state.
const PROGRAM: &str = "program";
const PROGRAM_BYTES: usize = 96;
/// What a run began with, behind the two numbers.
const RUN_BYTES: usize = 180;

/// The files of a state, ascending by path.
pub(super) fn files(point: Point) -> [(RelPath, Vec<u8>); 2] {
    [(path(PROGRAM), vec![0x48; PROGRAM_BYTES]), (path(WRITES), writes(point))]
}

/// What a stored state is.
pub(super) fn read(state: &Manifest, chunks: &dyn ChunkSource) -> Found {
    let mut found = Vec::new();
    for (entry, body) in state.files() {
        let mut bytes = Vec::new();
        for at in body.chunks(state.chunk_bytes) {
            match chunks.read_chunk(&at.id) {
                Ok(chunk) => bytes.extend_from_slice(&chunk),
                Err(error) => return Found::Nothing(error.to_string()),
            }
        }
        found.push((entry.path.clone(), bytes));
    }
    let point = found.last().and_then(|(_, bytes)| point(bytes));
    match point.filter(|point| files(*point).as_slice() == found) {
        Some(point) => Found::State(point),
        None => Found::OtherBytes,
    }
}

fn writes(point: Point) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 + 8 + RUN_BYTES);
    bytes.extend_from_slice(&point.run.to_le_bytes());
    bytes.extend_from_slice(&point.writes.to_le_bytes());
    let rest =
        (0..RUN_BYTES as u32).map(|at| (point.run.wrapping_mul(0x9e37_79b9) ^ (at * at)) as u8);
    bytes.extend(rest);
    bytes
}

fn point(bytes: &[u8]) -> Option<Point> {
    let (run, rest) = bytes.split_first_chunk()?;
    let (writes, _) = rest.split_first_chunk()?;
    Some(Point { run: u32::from_le_bytes(*run), writes: u64::from_le_bytes(*writes) })
}

fn path(name: &str) -> RelPath {
    RelPath::new(name).expect("a plain name is a path")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_a_write_changes_few_bytes() {
        let of = |writes| self::writes(Point { run: 3, writes });
        for writes in 0..300 {
            let (before, after) = (of(writes), of(writes + 1));
            assert!(before.iter().zip(&after).filter(|(a, b)| a != b).count() <= 2, "{writes}");
            assert_eq!(point(&after), Some(Point { run: 3, writes: writes + 1 }));
        }
    }
}
