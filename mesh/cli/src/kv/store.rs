//! The store: a log of every change that was ever acknowledged, and the map that it adds up to.
//!
//! A record is `length u32 | checksum 8 bytes | body`, the checksum being the first bytes of the
//! BLAKE3 of the body; the body is a batch of changes that were made together. One record is written
//! at a time, and acknowledged after `fdatasync`. So a process or board that dies leaves one unfinished
//! record at most, and nobody was promised that one: it is cut. The same holds for a copy that was
//! taken at any instant. Anything else that does not read back is damage, and told.
//!
//! The log is never shortened: this store is for showing things, not for years.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

/// The longest key, bytes.
pub(super) const KEY_BYTES_MAX: usize = 1024;
/// The longest value, bytes.
pub(super) const VALUE_BYTES_MAX: usize = 64 * 1024;
/// Changes that are made together, bytes.
pub(super) const BATCH_BYTES_MAX: usize = 1 << 20;

const FILE: &str = "kv.log";
const HEAD_BYTES: usize = 4 + 8;
/// `what u8 | length of the key u16 | length of the value u32`.
const CHANGE_HEAD_BYTES: usize = 1 + 2 + 4;
const PUT: u8 = 1;
const DELETE: u8 = 2;

/// Every key that is there, with its value.
pub(super) type Map = HashMap<String, Vec<u8>>;

/// An open log.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
}

/// One change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Change {
    /// Sets a key.
    Put(String, Vec<u8>),
    /// Removes one.
    Delete(String),
}

impl Log {
    /// Opens the log in `folder`, made if there is none, and reads it.
    ///
    /// # Errors
    /// A file operation failed, or the log is damaged elsewhere than at its end.
    pub(super) fn open(folder: &Path) -> io::Result<(Self, Map)> {
        fs::create_dir_all(folder)?;
        let path = folder.join(FILE);
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let mut map = Map::new();
        let good = replay(&bytes, &mut map);
        if good < bytes.len() {
            if is_damage(&bytes[good..]) {
                return Err(damaged(path, good));
            }
            file.set_len(good as u64)?;
        }
        // Also the name of a new file, and what a process that died had not synced.
        file.sync_all()?;
        File::open(folder)?.sync_all()?;
        Ok((Self { file }, map))
    }

    /// Appends a batch of at least one change, [`BATCH_BYTES_MAX`] in all; it is on the disk when this
    /// returns.
    ///
    /// # Errors
    /// It may or may not be on the disk: the log must not be used any more.
    pub(super) fn append(&mut self, changes: &[Change]) -> io::Result<()> {
        self.file.write_all(&record(changes)?)?;
        self.file.sync_data()
    }
}

impl Change {
    /// How much of a batch it takes.
    pub(super) fn bytes(&self) -> usize {
        let (_, key, value) = self.parts();
        CHANGE_HEAD_BYTES + key.len() + value.len()
    }

    /// The key that it changes.
    pub(super) fn key(&self) -> &str {
        self.parts().1
    }

    /// Makes it.
    pub(super) fn apply(self, map: &mut Map) {
        match self {
            Self::Put(key, value) => drop(map.insert(key, value)),
            Self::Delete(key) => drop(map.remove(&key)),
        }
    }

    fn parts(&self) -> (u8, &str, &[u8]) {
        match self {
            Self::Put(key, value) => (PUT, key, value),
            Self::Delete(key) => (DELETE, key, &[]),
        }
    }

    fn write(&self, body: &mut Vec<u8>) -> io::Result<()> {
        let too_long = || io::Error::new(io::ErrorKind::InvalidInput, "key or value too long");
        let (what, key, value) = self.parts();
        if key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
            return Err(too_long());
        }
        body.push(what);
        body.extend(u16::try_from(key.len()).map_err(|_| too_long())?.to_le_bytes());
        body.extend(u32::try_from(value.len()).map_err(|_| too_long())?.to_le_bytes());
        body.extend(key.as_bytes());
        body.extend(value);
        Ok(())
    }

    /// The first change in `body`, and what follows it.
    fn parse(body: &[u8]) -> Option<(Self, &[u8])> {
        let (head, rest) = body.split_at_checked(CHANGE_HEAD_BYTES)?;
        let key_bytes = u16::from_le_bytes([head[1], head[2]]);
        let value_bytes = u32::from_le_bytes(head[3..].try_into().ok()?);
        let (key, rest) = rest.split_at_checked(key_bytes.into())?;
        let (value, rest) = rest.split_at_checked(usize::try_from(value_bytes).ok()?)?;
        let key = str::from_utf8(key).ok()?.to_owned();
        match head[0] {
            PUT => Some((Self::Put(key, value.to_vec()), rest)),
            DELETE => Some((Self::Delete(key), rest)),
            _ => None,
        }
    }
}

fn record(changes: &[Change]) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    for change in changes {
        change.write(&mut body)?;
    }
    if body.is_empty() || body.len() > BATCH_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no batch to write"));
    }
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    Ok([&length.to_le_bytes()[..], &checksum(&body), &body].concat())
}

/// The first batch in `bytes` and how many of them it takes.
fn first(bytes: &[u8]) -> Option<(Vec<Change>, usize)> {
    let (head, rest) = bytes.split_at_checked(HEAD_BYTES)?;
    let (length, sum) = head.split_at(4);
    let length = usize::try_from(u32::from_le_bytes(length.try_into().ok()?)).ok()?;
    let mut body = rest.get(..length).filter(|_| (1..=BATCH_BYTES_MAX).contains(&length))?;
    if checksum(body) != sum {
        return None;
    }
    let mut changes = Vec::new();
    while !body.is_empty() {
        let (change, rest) = Change::parse(body)?;
        changes.push(change);
        body = rest;
    }
    Some((changes, HEAD_BYTES + length))
}

/// Makes the changes up to the first batch that does not read back; gives where that is.
fn replay(bytes: &[u8], map: &mut Map) -> usize {
    let mut at = 0;
    while let Some((changes, length)) = first(&bytes[at..]) {
        changes.into_iter().for_each(|change| change.apply(map));
        at += length;
    }
    at
}

/// More than one record's worth is unreadable, or an acknowledged one lies behind it.
fn is_damage(tail: &[u8]) -> bool {
    tail.len() > HEAD_BYTES + BATCH_BYTES_MAX
        || (1..tail.len()).any(|at| first(&tail[at..]).is_some())
}

fn damaged(path: PathBuf, at: usize) -> io::Error {
    let message = format!(
        "{} is damaged at byte {at}, and acknowledged changes lie behind it: restore it from a copy",
        path.display()
    );
    io::Error::new(io::ErrorKind::InvalidData, message)
}

fn checksum(body: &[u8]) -> [u8; 8] {
    let mut sum = [0; 8];
    sum.copy_from_slice(&blake3::hash(body).as_bytes()[..8]);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let name = format!("hedgerow-kv-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }

        fn log(&self) -> PathBuf {
            self.0.join(FILE)
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn put(key: &str, value: &str) -> Change {
        Change::Put(key.to_owned(), value.as_bytes().to_vec())
    }

    #[test]
    fn a_torn_tail_is_cut_wherever_it_is_torn_and_nothing_before_it_is_lost() {
        let place = Place::new("torn");
        let (mut log, _) = Log::open(&place.0).unwrap();
        log.append(&[put("a", "1"), put("b", "2")]).unwrap();
        log.append(&[Change::Delete("a".to_owned())]).unwrap();
        drop(log);
        let good = fs::read(place.log()).unwrap();
        let last = record(&[put("c", "never"), put("e", "acknowledged")]).unwrap();
        for cut in 0..last.len() {
            for filler in [None, Some(0), Some(0xff)] {
                let mut torn = [&good[..], &last[..cut]].concat();
                torn.extend(filler.map_or(vec![], |byte| vec![byte; last.len() - cut]));
                fs::write(place.log(), torn).unwrap();
                let (mut log, map) = Log::open(&place.0).unwrap();
                assert_eq!((map.len(), map["b"].as_slice()), (1, &b"2"[..]), "{cut}");
                log.append(&[put("d", "4")]).unwrap();
                let (_, map) = Log::open(&place.0).unwrap();
                assert_eq!((map.len(), map["d"].as_slice()), (2, &b"4"[..]), "{cut}");
            }
        }
    }

    #[test]
    fn damage_before_acknowledged_changes_is_told_and_not_cut() {
        let place = Place::new("damage");
        let (mut log, _) = Log::open(&place.0).unwrap();
        log.append(&[put("a", "1")]).unwrap();
        log.append(&[put("b", "2")]).unwrap();
        let good = fs::read(place.log()).unwrap();
        for at in 0..good.len() / 2 {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            fs::write(place.log(), &bad).unwrap();
            let error = Log::open(&place.0).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "byte {at}");
            assert_eq!(fs::read(place.log()).unwrap(), bad);
        }
    }

    #[test]
    fn what_is_too_long_changes_nothing() {
        let place = Place::new("long");
        let (mut log, _) = Log::open(&place.0).unwrap();
        let (key, value) = ("k".repeat(KEY_BYTES_MAX), "v".repeat(VALUE_BYTES_MAX));
        assert!(log.append(&[put(&format!("{key}k"), "")]).is_err());
        assert!(log.append(&[put("k", &format!("{value}v"))]).is_err());
        assert!(log.append(&[]).is_err());
        log.append(&[put(&key, &value)]).unwrap();
        assert_eq!(Log::open(&place.0).unwrap().1.len(), 1);
    }
}
