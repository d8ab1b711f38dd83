//! The store: a map in memory, and a log of every change that was ever acknowledged.
//!
//! A record is `length u32 | checksum 8 bytes | body`, the checksum being the first bytes of the
//! BLAKE3 of the body. A change is acknowledged after `fdatasync`, and one is made at a time. So a
//! process or board that dies leaves one unfinished record at most, and nobody was promised that
//! one: it is cut. Anything else that does not read back is damage, and told.
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

const FILE: &str = "kv.log";
const HEAD_BYTES: usize = 4 + 8;
/// `what u8 | length of the key u16`.
const BODY_HEAD_BYTES: usize = 1 + 2;
const BODY_BYTES_MAX: usize = BODY_HEAD_BYTES + KEY_BYTES_MAX + VALUE_BYTES_MAX;
const PUT: u8 = 1;
const DELETE: u8 = 2;

/// An open store.
#[derive(Debug)]
pub(super) struct Store {
    file: File,
    map: HashMap<String, Vec<u8>>,
}

/// One change.
#[derive(PartialEq, Eq, Debug)]
enum Change<'a> {
    Put(&'a str, &'a [u8]),
    Delete(&'a str),
}

impl Store {
    /// Opens the store in `folder`, made if there is none, and reads its log.
    ///
    /// # Errors
    /// A file operation failed, or the log is damaged elsewhere than at its end.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let path = folder.join(FILE);
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let mut map = HashMap::new();
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
        Ok(Self { file, map })
    }

    /// The value of `key`.
    pub(super) fn get(&self, key: &str) -> Option<&[u8]> {
        self.map.get(key).map(Vec::as_slice)
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    /// Sets `key`; it is on the disk when this returns.
    ///
    /// # Errors
    /// It may or may not be on the disk: the store must not be used any more.
    pub(super) fn put(&mut self, key: &str, value: &[u8]) -> io::Result<()> {
        self.write(&Change::Put(key, value))
    }

    /// Removes `key`; says whether it was there.
    ///
    /// # Errors
    /// As for [`Store::put`].
    pub(super) fn delete(&mut self, key: &str) -> io::Result<bool> {
        let there = self.map.contains_key(key);
        if there {
            self.write(&Change::Delete(key))?;
        }
        Ok(there)
    }

    fn write(&mut self, change: &Change<'_>) -> io::Result<()> {
        self.file.write_all(&change.record()?)?;
        self.file.sync_data()?;
        change.apply(&mut self.map);
        Ok(())
    }
}

impl<'a> Change<'a> {
    fn record(&self) -> io::Result<Vec<u8>> {
        let (what, key, value) = match *self {
            Self::Put(key, value) => (PUT, key, value),
            Self::Delete(key) => (DELETE, key, &[][..]),
        };
        let too_long = || io::Error::new(io::ErrorKind::InvalidInput, "key or value too long");
        if key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
            return Err(too_long());
        }
        let mut body = vec![what];
        body.extend(u16::try_from(key.len()).map_err(|_| too_long())?.to_le_bytes());
        body.extend(key.as_bytes());
        body.extend(value);
        let mut record = u32::try_from(body.len()).map_err(|_| too_long())?.to_le_bytes().to_vec();
        record.extend(checksum(&body));
        record.extend(body);
        Ok(record)
    }

    fn parse(body: &'a [u8]) -> Option<Self> {
        let (head, rest) = body.split_at_checked(BODY_HEAD_BYTES)?;
        let length = u16::from_le_bytes([head[1], head[2]]);
        let (key, value) = rest.split_at_checked(length.into())?;
        let key = str::from_utf8(key).ok()?;
        match head[0] {
            PUT => Some(Self::Put(key, value)),
            DELETE => Some(Self::Delete(key)),
            _ => None,
        }
    }

    fn apply(&self, map: &mut HashMap<String, Vec<u8>>) {
        match *self {
            Self::Put(key, value) => drop(map.insert(key.to_owned(), value.to_vec())),
            Self::Delete(key) => drop(map.remove(key)),
        }
    }
}

/// The first change in `bytes` and how many of them it takes.
fn first(bytes: &[u8]) -> Option<(Change<'_>, usize)> {
    let (head, rest) = bytes.split_at_checked(HEAD_BYTES)?;
    let (length, sum) = head.split_at(4);
    let length = usize::try_from(u32::from_le_bytes(length.try_into().ok()?)).ok()?;
    let body = rest.get(..length).filter(|body| body.len() <= BODY_BYTES_MAX)?;
    let change = Change::parse(body).filter(|_| checksum(body) == sum)?;
    Some((change, HEAD_BYTES + length))
}

/// Applies changes up to the first that does not read back; gives where that is.
fn replay(bytes: &[u8], map: &mut HashMap<String, Vec<u8>>) -> usize {
    let mut at = 0;
    while let Some((change, length)) = first(&bytes[at..]) {
        change.apply(map);
        at += length;
    }
    at
}

/// More than one record's worth is unreadable, or an acknowledged one lies behind it.
fn is_damage(tail: &[u8]) -> bool {
    tail.len() > HEAD_BYTES + BODY_BYTES_MAX
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

    #[test]
    fn a_torn_tail_is_cut_wherever_it_is_torn_and_nothing_before_it_is_lost() {
        let place = Place::new("torn");
        let mut store = Store::open(&place.0).unwrap();
        store.put("a", b"1").unwrap();
        store.put("b", b"2").unwrap();
        assert!(store.delete("a").unwrap() && !store.delete("a").unwrap());
        drop(store);
        let good = fs::read(place.log()).unwrap();
        let last = Change::Put("c", b"never acknowledged").record().unwrap();
        for cut in 0..last.len() {
            for filler in [None, Some(0), Some(0xff)] {
                let mut torn = [&good[..], &last[..cut]].concat();
                torn.extend(filler.map_or(vec![], |byte| vec![byte; last.len() - cut]));
                fs::write(place.log(), torn).unwrap();
                let mut store = Store::open(&place.0).unwrap();
                assert_eq!((store.len(), store.get("b")), (1, Some(&b"2"[..])), "{cut}");
                store.put("d", b"4").unwrap();
                drop(store);
                let store = Store::open(&place.0).unwrap();
                assert_eq!((store.len(), store.get("d")), (2, Some(&b"4"[..])), "{cut}");
            }
        }
    }

    #[test]
    fn damage_before_acknowledged_changes_is_told_and_not_cut() {
        let place = Place::new("damage");
        let mut store = Store::open(&place.0).unwrap();
        store.put("a", b"1").unwrap();
        store.put("b", b"2").unwrap();
        drop(store);
        let good = fs::read(place.log()).unwrap();
        for at in 0..good.len() / 2 {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            fs::write(place.log(), &bad).unwrap();
            let error = Store::open(&place.0).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "byte {at}");
            assert_eq!(fs::read(place.log()).unwrap(), bad);
        }
    }

    #[test]
    fn what_is_too_long_changes_nothing() {
        let place = Place::new("long");
        let mut store = Store::open(&place.0).unwrap();
        assert!(store.put(&"k".repeat(KEY_BYTES_MAX + 1), b"").is_err());
        assert!(store.put("k", &vec![0; VALUE_BYTES_MAX + 1]).is_err());
        store.put(&"k".repeat(KEY_BYTES_MAX), &vec![0; VALUE_BYTES_MAX]).unwrap();
        drop(store);
        assert_eq!(Store::open(&place.0).unwrap().len(), 1);
    }
}
