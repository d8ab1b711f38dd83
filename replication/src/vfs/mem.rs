//! A simulated disk that keeps its promises and not one more.
//!
//! Two pictures are held of everything: what a reader sees now, and what is durable. A crash throws
//! the first away and keeps the second, plus as much of the difference as [`Loss`] says: nothing, a
//! torn prefix, a random subset of 512-byte sectors, or all of it. Names have their own two
//! pictures. Faults are planned by *step*: every operation that changes or syncs something is one,
//! so a test can count the steps of a run and then crash before each of them in turn.
//!
//! Everything is decided by the seed and the calls. A failed sync behaves like Linux at its worst:
//! the unsynced bytes (or names) stay readable, are never written, and the next sync reports success.
//!
//! Not modelled: slow disks, lost *reads*, two names of one file, renames between folders.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Listed, Vfs, VfsFile};

const SECTOR_BYTES: usize = 512;

/// What a crash takes of what was not synced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// Everything unsynced: bytes and names.
    Whole,
    /// All but a prefix of the bytes written to each file; names at random, in order.
    TornPrefix,
    /// A random subset of 512-byte sectors of each file; a random subset of the names.
    Sectors,
    /// Nothing yet: the process died, the kernel did not. What was not synced still is not, and a
    /// later crash may take it.
    Nothing,
}

impl Loss {
    /// Every mode, for tests that try them all.
    pub const ALL: [Self; 4] = [Self::Whole, Self::TornPrefix, Self::Sectors, Self::Nothing];
}

/// The simulated disk. Clones share it.
#[derive(Clone, Debug)]
pub struct MemVfs(Arc<Mutex<Disk>>);

#[derive(Clone, Debug)]
struct Disk {
    files: BTreeMap<u64, Content>,
    /// Path to file, `None` for a folder.
    names: BTreeMap<String, Option<u64>>,
    durable_names: BTreeMap<String, Option<u64>>,
    unsynced_names: Vec<NameChange>,
    next_file: u64,
    boots: u64,
    steps: u64,
    crash_before: Option<u64>,
    fail_sync_from: Option<u64>,
    /// Only syncs of folders fail.
    only_names: bool,
    crashed: bool,
    capacity_bytes: u64,
    random: u64,
}

#[derive(Clone, Default, Debug)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// What a sync would write. Differs from `now` after a failed sync only.
    pending: Vec<u8>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Link(String, Option<u64>),
    Unlink(String),
    Rename(String, String, Option<u64>),
}

impl MemVfs {
    /// An empty disk of unlimited size. The seed decides what crashes take.
    pub fn new(seed: u64) -> Self {
        let names = BTreeMap::from([(String::new(), None)]);
        Self(Arc::new(Mutex::new(Disk {
            files: BTreeMap::new(),
            durable_names: names.clone(),
            names,
            unsynced_names: Vec::new(),
            next_file: 0,
            boots: 0,
            steps: 0,
            crash_before: None,
            fail_sync_from: None,
            only_names: false,
            crashed: false,
            capacity_bytes: u64::MAX,
            random: seed,
        })))
    }

    /// Another disk with all that is on this one, durable or not, to look at.
    pub fn copied(&self) -> Self {
        Self(Arc::new(Mutex::new(self.lock().clone())))
    }

    /// How many changing or syncing operations were asked for so far.
    pub fn steps(&self) -> u64 {
        self.lock().steps
    }

    /// The disk stops answering just before step `step` (the first step ever is 0). Every later
    /// operation fails until [`MemVfs::crash`].
    pub fn crash_before_step(&self, step: u64) {
        self.lock().crash_before = Some(step);
    }

    /// The first sync at or after step `step` fails, once.
    pub fn fail_sync_at_step(&self, step: u64) {
        let mut disk = self.lock();
        (disk.fail_sync_from, disk.only_names) = (Some(step), false);
    }

    /// The first sync of a folder at or after step `step` fails, once.
    pub fn fail_folder_sync_at_step(&self, step: u64) {
        let mut disk = self.lock();
        (disk.fail_sync_from, disk.only_names) = (Some(step), true);
    }

    /// From now on writes that would make the sum of all file lengths exceed this fail with
    /// `StorageFull`.
    pub fn set_capacity_bytes(&self, capacity_bytes: u64) {
        self.lock().capacity_bytes = capacity_bytes;
    }

    /// Flips one bit of a file, on the platter as in memory; does nothing beyond its end.
    pub fn flip_bit(&self, path: &str, byte: u64, bit: u8) {
        let mut disk = self.lock();
        let Some(Some(file)) = disk.names.get(path).copied() else { return };
        let Some(content) = disk.files.get_mut(&file) else { return };
        let Ok(byte) = usize::try_from(byte) else { return };
        for picture in [&mut content.now, &mut content.durable, &mut content.pending] {
            if let Some(at) = picture.get_mut(byte) {
                *at ^= 1 << (bit & 7);
            }
        }
    }

    /// Sum of the lengths of all files with a name, in bytes.
    pub fn used_bytes(&self) -> u64 {
        self.lock().used_bytes()
    }

    /// Power is lost and comes back: unsynced changes go as `loss` says, planned faults are
    /// cleared, open files are dead.
    pub fn crash(&self, loss: Loss) {
        let mut disk = self.lock();
        if loss != Loss::Nothing {
            disk.lose_bytes(loss);
            disk.lose_names(loss);
        }
        disk.boots += 1;
        disk.crash_before = None;
        disk.fail_sync_from = None;
        disk.crashed = false;
        // A name that was given and taken again, neither durably, may come back with the next crash.
        let names = disk.names.values().chain(disk.durable_names.values()).copied().flatten();
        let named: Vec<u64> =
            names.chain(disk.unsynced_names.iter().filter_map(NameChange::file)).collect();
        disk.files.retain(|file, _| named.contains(file));
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        // A panic of a test thread leaves the pictures consistent between operations.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an operation that changes something.
    fn step(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let mut disk = self.look()?;
        if disk.crash_before.is_some_and(|at| disk.steps >= at) {
            disk.crashed = true;
            return Err(io::Error::other("simulated power loss"));
        }
        disk.steps += 1;
        Ok(disk)
    }

    /// Begins an operation that only reads.
    fn look(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let disk = self.lock();
        if disk.crashed {
            return Err(io::Error::other("the simulated disk has no power"));
        }
        Ok(disk)
    }
}

impl Disk {
    fn used_bytes(&self) -> u64 {
        let files = self.names.values().flatten();
        files.filter_map(|file| self.files.get(file)).map(|content| content.now.len() as u64).sum()
    }

    /// The next number of SplitMix64 (Steele, Lea, Flood 2014, figure 15), below `below`.
    fn random(&mut self, below: usize) -> usize {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        usize::try_from(mixed % below.max(1) as u64).unwrap_or(0)
    }

    fn flip(&mut self) -> bool {
        self.random(2) == 1
    }

    fn lose_bytes(&mut self, loss: Loss) {
        let mut files = std::mem::take(&mut self.files);
        for content in files.values_mut() {
            let after = match loss {
                _ if content.pending == content.durable => std::mem::take(&mut content.durable),
                Loss::Whole | Loss::Nothing => std::mem::take(&mut content.durable),
                Loss::TornPrefix => {
                    let cut = self.random(content.pending.len() + 1);
                    let mut torn = content.pending[..cut].to_vec();
                    torn.extend(content.durable.iter().skip(cut));
                    torn
                }
                Loss::Sectors => self.tear_sectors(content),
            };
            *content = Content { now: after.clone(), durable: after.clone(), pending: after };
        }
        self.files = files;
    }

    fn tear_sectors(&mut self, content: &Content) -> Vec<u8> {
        let len = if self.flip() { content.pending.len() } else { content.durable.len() };
        let mut torn = Vec::with_capacity(len);
        while torn.len() < len {
            let picture = if self.flip() { &content.pending } else { &content.durable };
            let end = (torn.len() + SECTOR_BYTES).min(len);
            let known = picture.get(torn.len()..end.min(picture.len())).unwrap_or_default();
            torn.extend_from_slice(known);
            torn.resize(end, 0);
        }
        torn
    }

    fn lose_names(&mut self, loss: Loss) {
        let changes = std::mem::take(&mut self.unsynced_names);
        let kept = match loss {
            Loss::Whole | Loss::Nothing => 0,
            Loss::TornPrefix => self.random(changes.len() + 1),
            Loss::Sectors => changes.len(),
        };
        for change in changes.iter().take(kept) {
            if loss != Loss::Sectors || self.flip() {
                change.apply(&mut self.durable_names);
            }
        }
        // A name in a folder that did not survive is gone with it.
        let names = self.durable_names.clone();
        self.durable_names.retain(|path, _| path.is_empty() || names.contains_key(folder_of(path)));
        self.names = self.durable_names.clone();
    }

    /// True once when the planned sync error is due.
    fn sync_fails(&mut self, of_names: bool) -> bool {
        if self.only_names && !of_names {
            return false;
        }
        self.fail_sync_from.take_if(|from| self.steps > *from).is_some()
    }

    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.unsynced_names.push(change);
    }

    fn file(&self, path: &str) -> io::Result<u64> {
        self.names.get(path).copied().flatten().ok_or_else(|| not_found(path))
    }

    fn needs_folder(&self, path: &str) -> io::Result<()> {
        match self.names.get(path) {
            Some(None) => Ok(()),
            _ => Err(not_found(path)),
        }
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, Option<u64>>) {
        match self {
            Self::Link(path, file) => _ = names.insert(path.clone(), *file),
            Self::Unlink(path) => _ = names.remove(path),
            Self::Rename(from, to, file) => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
        }
    }

    fn file(&self) -> Option<u64> {
        match self {
            Self::Link(_, file) | Self::Rename(_, _, file) => *file,
            Self::Unlink(_) => None,
        }
    }

    fn is_in(&self, folder: &str) -> bool {
        let (Self::Link(path, _) | Self::Unlink(path) | Self::Rename(path, _, _)) = self;
        folder_of(path) == folder
    }
}

impl Vfs for MemVfs {
    fn create(&self, path: &str) -> io::Result<Box<dyn VfsFile>> {
        let mut disk = self.step()?;
        disk.needs_folder(folder_of(path))?;
        if disk.names.contains_key(path) {
            return Err(io::Error::new(ErrorKind::AlreadyExists, path.to_owned()));
        }
        let file = disk.next_file;
        disk.next_file += 1;
        disk.files.insert(file, Content::default());
        disk.change(NameChange::Link(path.to_owned(), Some(file)));
        Ok(Box::new(MemFile { vfs: self.clone(), file, boots: disk.boots }))
    }

    fn open(&self, path: &str) -> io::Result<Box<dyn VfsFile>> {
        let disk = self.look()?;
        Ok(Box::new(MemFile { vfs: self.clone(), file: disk.file(path)?, boots: disk.boots }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.step()?;
        if folder_of(from) != folder_of(to) {
            return Err(io::Error::new(ErrorKind::Unsupported, "rename between folders"));
        }
        let file = disk.file(from)?;
        disk.change(NameChange::Rename(from.to_owned(), to.to_owned(), Some(file)));
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut disk = self.step()?;
        disk.file(path)?;
        disk.change(NameChange::Unlink(path.to_owned()));
        Ok(())
    }

    fn create_folder(&self, path: &str) -> io::Result<()> {
        let mut disk = self.step()?;
        disk.needs_folder(folder_of(path))?;
        if !disk.names.contains_key(path) {
            disk.change(NameChange::Link(path.to_owned(), None));
        }
        Ok(())
    }

    fn remove_folder(&self, path: &str) -> io::Result<()> {
        let mut disk = self.step()?;
        disk.needs_folder(path)?;
        if disk.names.keys().any(|name| !name.is_empty() && folder_of(name) == path) {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        disk.change(NameChange::Unlink(path.to_owned()));
        Ok(())
    }

    fn sync_folder(&self, path: &str) -> io::Result<()> {
        let mut disk = self.step()?;
        disk.needs_folder(path)?;
        let changes = std::mem::take(&mut disk.unsynced_names);
        let (synced, rest): (Vec<_>, _) =
            changes.into_iter().partition(|change| change.is_in(path));
        disk.unsynced_names = rest;
        if disk.sync_fails(true) {
            return Err(io::Error::other("simulated fsync error"));
        }
        synced.iter().for_each(|change| change.apply(&mut disk.durable_names));
        Ok(())
    }

    fn list(&self, path: &str) -> io::Result<Vec<Listed>> {
        let disk = self.look()?;
        disk.needs_folder(path)?;
        let inside =
            disk.names.iter().filter(|(name, _)| !name.is_empty() && folder_of(name) == path);
        Ok(inside
            .map(|(name, file)| Listed {
                name: name.rsplit('/').next().unwrap_or(name).to_owned(),
                folder: file.is_none(),
                len_bytes: file
                    .and_then(|file| disk.files.get(&file))
                    .map_or(0, |content| content.now.len() as u64),
            })
            .collect())
    }
}

#[derive(Debug)]
struct MemFile {
    vfs: MemVfs,
    file: u64,
    boots: u64,
}

impl MemFile {
    fn with<T>(
        &self,
        disk: &mut Disk,
        act: impl FnOnce(&mut Content) -> io::Result<T>,
    ) -> io::Result<T> {
        if disk.boots != self.boots {
            return Err(io::Error::other("this file was open before the simulated power loss"));
        }
        disk.files.get_mut(&self.file).map_or_else(|| Err(not_found("open file")), act)
    }
}

impl VfsFile for MemFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.vfs.step()?;
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let end = start.checked_add(bytes.len()).ok_or_else(|| io::Error::other("too long"))?;
        let (used, capacity) = (disk.used_bytes(), disk.capacity_bytes);
        self.with(&mut disk, |content| {
            let growth = end.saturating_sub(content.now.len()) as u64;
            if used.saturating_add(growth) > capacity {
                return Err(ErrorKind::StorageFull.into());
            }
            for picture in [&mut content.now, &mut content.pending] {
                let len = picture.len().max(end);
                picture.resize(len, 0);
                picture[start..end].copy_from_slice(bytes);
            }
            Ok(())
        })
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let mut disk = self.vfs.look()?;
        self.with(&mut disk, |content| {
            let start = usize::try_from(offset).map_err(io::Error::other)?;
            let end = start.checked_add(into.len());
            match end.and_then(|end| content.now.get(start..end)) {
                Some(bytes) => into.copy_from_slice(bytes),
                None => return Err(ErrorKind::UnexpectedEof.into()),
            }
            Ok(())
        })
    }

    fn len_bytes(&self) -> io::Result<u64> {
        let mut disk = self.vfs.look()?;
        self.with(&mut disk, |content| Ok(content.now.len() as u64))
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut disk = self.vfs.step()?;
        if disk.sync_fails(false) {
            self.with(&mut disk, |content| {
                content.pending = content.durable.clone();
                Ok(())
            })?;
            return Err(io::Error::other("simulated fsync error"));
        }
        self.with(&mut disk, |content| {
            content.durable = content.pending.clone();
            Ok(())
        })
    }
}

fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn not_found(path: &str) -> io::Error {
    io::Error::new(ErrorKind::NotFound, path.to_owned())
}
