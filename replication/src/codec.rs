//! Bytes in, fewer bytes out: varints, changed runs, XOR, and zstd within bounds.
//!
//! Pure functions, each with its inverse. A *run* is a stretch of a chunk that differs from the
//! same stretch of the ancestor's chunk; runs closer than [`RUN_GAP_MIN`] are one, because naming a
//! run costs about two bytes. Every decoder here is fed by peers: it never panics, and never
//! produces more than the caller allowed, whatever the input claims (no zstd bombs).
//!
//! Not here: which of the forms a chunk takes (`delta.rs`), and prefixes made of gathered old
//! pages, which come with the persistent index.

use std::io;

use zstd::zstd_safe::{CParameter, DCtx};

/// Equal bytes between two runs that are still sent as part of one run.
const RUN_GAP_MIN: usize = 8;

/// Appends `value` in LEB128.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Takes things off the front of a slice; `None` when there is not enough.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn varint(&mut self) -> Option<u32> {
        let mut value = 0u64;
        for shift in [0, 7, 14, 21, 28] {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return u32::try_from(value).ok();
            }
        }
        None
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        self.bytes(1).map(|one| one[0])
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        let (head, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*head))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The stretches in which two slices of one length differ, as (start, end), ascending.
pub(crate) fn runs(old: &[u8], new: &[u8]) -> Vec<(usize, usize)> {
    let mut all: Vec<(usize, usize)> = Vec::new();
    let mut at = 0;
    while let Some(start) = next_difference(old, new, at) {
        let mut end = start + 1;
        while end < new.len() && old[end] != new[end] {
            end += 1;
        }
        match all.last_mut() {
            Some(last) if start - last.1 < RUN_GAP_MIN => last.1 = end,
            _ => all.push((start, end)),
        }
        at = end;
    }
    all
}

/// Skips equal bytes sixteen at a time.
fn next_difference(old: &[u8], new: &[u8], from: usize) -> Option<usize> {
    let (old, new) = (old.get(from..)?, new.get(from..)?);
    let same = old
        .as_chunks::<16>()
        .0
        .iter()
        .zip(new.as_chunks::<16>().0)
        .take_while(|(a, b)| u128::from_ne_bytes(**a) == u128::from_ne_bytes(**b))
        .count()
        * 16;
    let rest = old[same..].iter().zip(&new[same..]).position(|(a, b)| a != b)?;
    Some(from + same + rest)
}

/// XORs `mask` onto `bytes`, as far as the shorter goes.
pub(crate) fn xor(bytes: &mut [u8], mask: &[u8]) {
    bytes.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
}

/// Compresses as one zstd frame that records its length and no checksum (BLAKE3 covers it).
///
/// `prefix` is content the receiver has as well. Beware of levels 1 to 3 with a prefix larger than
/// their hash table, which they lose silently: so the tables are sized to the data here.
pub(crate) fn pack(bytes: &[u8], prefix: &[u8], level: i32) -> io::Result<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::new(level)?;
    if !prefix.is_empty() {
        // The smallest power of two that covers both, within what every decoder accepts.
        let log = (bytes.len() + prefix.len()).max(1024).ilog2() + 1;
        compressor.set_parameter(CParameter::WindowLog(log.min(24)))?;
        compressor.set_parameter(CParameter::HashLog(log.min(22)))?;
        let context = compressor.context_mut();
        context.ref_prefix(prefix).map_err(refused)?;
    }
    compressor.compress(bytes)
}

/// The inverse of [`pack`]. Fails unless the result is exactly `len` bytes, and never holds more.
pub(crate) fn unpack(packed: &[u8], prefix: &[u8], len: usize) -> io::Result<Vec<u8>> {
    let mut context = DCtx::create();
    if !prefix.is_empty() {
        context.ref_prefix(prefix).map_err(refused)?;
    }
    let mut bytes = Vec::with_capacity(len);
    let found = context.decompress(&mut bytes, packed).map_err(refused)?;
    if found != len || bytes.len() != len {
        return Err(io::Error::other(format!("{found} bytes instead of the declared {len}")));
    }
    Ok(bytes)
}

fn refused(code: usize) -> io::Error {
    io::Error::other(zstd::zstd_safe::get_error_name(code))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn near_runs_are_joined_and_far_ones_are_not() {
        let old = [0u8; 64];
        let mut new = old;
        (new[3], new[9], new[40]) = (1, 1, 1);
        assert_eq!(runs(&old, &new), [(3, 10), (40, 41)]);
        assert_eq!(runs(&old, &old), []);
    }

    #[test]
    fn a_bomb_is_refused_before_it_expands() {
        let bomb = pack(&vec![0; 10 << 20], &[], 3).unwrap();
        assert!(bomb.len() < 2048);
        assert!(unpack(&bomb, &[], 1 << 20).is_err());
        assert!(unpack(&bomb, &[], (10 << 20) + 1).is_err(), "shorter than declared");
    }

    #[test]
    fn a_prefix_is_worth_its_bytes_at_every_level() {
        let mut random = 1u32;
        let mut noise = |len: usize| -> Vec<u8> {
            std::iter::repeat_with(|| {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                random.to_be_bytes()[0]
            })
            .take(len)
            .collect()
        };
        let old = noise(400 << 10);
        let mut new = old[100 << 10..300 << 10].to_vec();
        new[5000] ^= 1;
        for level in [1, 3, 9] {
            let packed = pack(&new, &old, level).unwrap();
            assert!(packed.len() < 1000, "level {level}: {} bytes", packed.len());
            assert_eq!(unpack(&packed, &old, new.len()).unwrap(), new);
        }
    }

    proptest! {
        #[test]
        fn runs_cover_exactly_the_difference(
            old in proptest::collection::vec(0u8..3, 0..200),
            flips in proptest::collection::vec((0usize..200, any::<u8>()), 0..20),
        ) {
            let mut new = old.clone();
            for (at, value) in flips {
                if let Some(byte) = new.get_mut(at) { *byte = value; }
            }
            let found = runs(&old, &new);
            let mut rebuilt = old.clone();
            for (start, end) in &found {
                rebuilt[*start..*end].copy_from_slice(&new[*start..*end]);
            }
            prop_assert_eq!(rebuilt, new);
            prop_assert!(found.windows(2).all(|two| two[0].1 + RUN_GAP_MIN <= two[1].0));
        }

        #[test]
        fn varints_survive(value in any::<u32>()) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            let mut reader = Reader(&bytes);
            prop_assert_eq!(reader.varint(), Some(value));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            _ = unpack(&bytes, &[], 1000);
            _ = Reader(&bytes).varint();
        }
    }
}
