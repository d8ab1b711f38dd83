//! The lease file: how a service, in any language, learns whether it may still answer.
//!
//! Twenty-four bytes: epoch `u64` little-endian, valid-until `u64` little-endian in nanoseconds of the
//! lease clock ([`crate::clock`]), and the first eight bytes of the BLAKE3 of those sixteen. The shim
//! writes all of it with one `pwrite`; the reader takes all of it with one `pread`, and if the
//! checksum does not match, it read a write in progress and reads again.
//!
//! Valid-until is the instant at which the shim *begins* to kill, `until - D`: an answer given while
//! the lease is valid has D to leave the board. `0` means expired: the shim writes it before it
//! kills, however the end came about. A service that was paused between the check and the answer
//! is beyond what any check can do; fence such effects downstream, by the epoch.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::clock;

/// Length of a lease file.
pub const LEASE_BYTES: usize = 24;

/// What a lease file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The epoch under which the service runs.
    pub epoch: u64,
    /// Until when, on the lease clock in nanoseconds; 0 if expired.
    pub valid_until_ns: u64,
}

/// Why a lease could not be read. Treat each as "not valid".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// The file is missing or unreadable.
    #[error("lease file {path}: {source}; do not answer")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Every read in a row met a checksum that does not match.
    #[error("lease file {path} is damaged: {READS_MAX} reads, no checksum matched; do not answer")]
    Torn {
        /// Which file.
        path: PathBuf,
    },
}

/// A lease file opened for reading; keep it open, a read costs one `pread`.
#[derive(Debug)]
pub struct LeaseFile {
    file: File,
    path: PathBuf,
}

impl LeaseFile {
    /// Opens the file that `HEDGEROW_LEASE_FILE` names.
    ///
    /// # Errors
    /// If it is not there.
    pub fn open(path: &Path) -> Result<Self, LeaseError> {
        let file =
            File::open(path).map_err(|source| LeaseError::Io { path: path.to_owned(), source })?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// What it says now.
    ///
    /// # Errors
    /// If it cannot be read, or no checksum matched in [`READS_MAX`] reads.
    pub fn read(&self) -> Result<Lease, LeaseError> {
        for _ in 0..READS_MAX {
            let mut bytes = [0; LEASE_BYTES];
            self.file
                .read_exact_at(&mut bytes, 0)
                .map_err(|source| LeaseError::Io { path: self.path.clone(), source })?;
            if let Some(lease) = Lease::decode(&bytes) {
                return Ok(lease);
            }
        }
        Err(LeaseError::Torn { path: self.path.clone() })
    }

    /// Whether the service may answer: the lease can be read, is of `epoch`, and has not run out.
    pub fn valid_now(&self, epoch: u64) -> bool {
        self.read()
            .is_ok_and(|lease| lease.epoch == epoch && clock::now_ns() < lease.valid_until_ns)
    }
}

impl Lease {
    /// The bytes of the file.
    pub fn encode(self) -> [u8; LEASE_BYTES] {
        let mut bytes = [0; LEASE_BYTES];
        bytes[..8].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.valid_until_ns.to_le_bytes());
        let sum = checksum(&bytes);
        bytes[16..].copy_from_slice(&sum);
        bytes
    }

    /// The inverse of [`Lease::encode`]; `None` if the checksum does not match.
    pub fn decode(bytes: &[u8; LEASE_BYTES]) -> Option<Self> {
        if bytes[16..] != checksum(bytes) {
            return None;
        }
        let word = |at: usize| bytes[at..at + 8].try_into().map(u64::from_le_bytes).ok();
        Some(Self { epoch: word(0)?, valid_until_ns: word(8)? })
    }
}

/// The shim's side: the one writer.
#[derive(Debug)]
pub(crate) struct LeaseWriter {
    file: File,
    epoch: u64,
}

impl LeaseWriter {
    /// Makes the file, expired.
    pub(crate) fn create(path: &Path, epoch: u64) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        file.set_len(LEASE_BYTES as u64)?;
        let writer = Self { file, epoch };
        writer.expire()?;
        Ok(writer)
    }

    pub(crate) fn publish(&self, valid_until_ns: u64) -> io::Result<()> {
        let bytes = Lease { epoch: self.epoch, valid_until_ns }.encode();
        match self.file.write_at(&bytes, 0)? {
            LEASE_BYTES => Ok(()),
            short => Err(io::Error::other(format!("{short} of {LEASE_BYTES} bytes of the lease"))),
        }
    }

    pub(crate) fn expire(&self) -> io::Result<()> {
        self.publish(0)
    }
}

fn checksum(bytes: &[u8; LEASE_BYTES]) -> [u8; 8] {
    let hash = blake3::hash(&bytes[..16]);
    let mut sum = [0; 8];
    sum.copy_from_slice(&hash.as_bytes()[..8]);
    sum
}

/// Reads until a checksum matches. Two writers' strokes are at least a heartbeat apart.
pub const READS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_these() {
        let bytes = Lease { epoch: 3, valid_until_ns: 0x0102 }.encode();
        assert_eq!(bytes[..16], [3, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[16..], blake3::hash(&bytes[..16]).as_bytes()[..8]);
        assert_eq!(Lease::decode(&bytes), Some(Lease { epoch: 3, valid_until_ns: 0x0102 }));
    }

    #[test]
    fn no_mixture_of_two_leases_passes_for_one() {
        let old = Lease { epoch: 3, valid_until_ns: 1_000_000_007 }.encode();
        let new = Lease { epoch: 4, valid_until_ns: 2_000_000_011 }.encode();
        for cut in 1..LEASE_BYTES {
            let mut torn = new;
            torn[cut..].copy_from_slice(&old[cut..]);
            let whole = torn == old || torn == new;
            assert_eq!(Lease::decode(&torn).is_some(), whole, "cut at {cut}");
        }
    }
}
