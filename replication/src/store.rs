//! The store: complete states, on disk, that survive anything a disk may do.
//!
//! Each instance has a folder. A checkpoint adds one pack (`pack.rs`): its new chunks and its
//! manifest. The index of chunks lives in memory and is built from the packs' footers when the
//! store is opened. There is no database and no file that is ever changed in place, so a crash
//! leaves either the old set of packs or the old set plus one: opening removes leftovers and needs
//! no repair step.
//!
//! ```text
//! <instance>/<serial>.pack          chunks and, mostly, a manifest; never changed
//! <instance>/<serial>.tmp           a pack being written; removed at open
//! <instance>/<transfer>.head .part  a transfer that can be resumed, see crate::receive
//! ```
//!
//! **What is durable** is exactly what [`Store::states`] lists: manifest whole, every chunk it
//! names in the index with the right length. [`Durable`] says so for one state and is the only
//! thing an acknowledgement may be made from. The key is (instance, [`CkptId`]); *which* of the
//! states belongs to a row's lineage is the caller's question (design 3b).
//!
//! Not here: which states matter beyond the newest two (the caller pins them for [`Store::gc`]),
//! deduplication between instances, and locking: one process opens a store.

mod disk;
mod draft;
mod error;
mod gc;
mod pack;
mod scrub;
mod shelf;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) use self::disk::{Disk, DiskFile};
pub use self::draft::Draft;
pub use self::error::StoreError;
pub use self::gc::GcReport;
pub use self::scrub::{Rotten, ScrubCursor, ScrubReport};
use self::shelf::Incoming;
pub(crate) use self::shelf::Shelf;
use crate::chunk::ChunkSource;
use crate::hash::{ChunkId, ManifestHash};
use crate::manifest::{CkptId, SealedManifest};
use crate::transfer::TransferHeader;
use crate::vfs::Vfs;

/// How the store behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoreConfig {
    /// Most bytes of packs and unfinished transfers, over all instances. Garbage collection may
    /// exceed it for a moment while it gathers. Default: no limit.
    pub quota_bytes: u64,
    /// How many of the newest complete states of an instance survive [`Store::gc`], beside those
    /// the caller pins. Default and minimum 2: the newest, and the one it replaces.
    pub states_kept: u32,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { quota_bytes: u64::MAX, states_kept: 2 }
    }
}

/// A complete, verified state in the store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct State {
    /// Which checkpoint.
    pub ckpt: CkptId,
    /// Which content.
    pub hash: ManifestHash,
}

/// Proof that a state is on the disk, whole and synced. Made only by this crate, and only after
/// the last sync: an acknowledgement is made from nothing else.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use = "this is what an acknowledgement is made from"]
pub struct Durable {
    instance: String,
    state: State,
}

impl Durable {
    /// Whose state.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Which checkpoint.
    pub fn ckpt(&self) -> CkptId {
        self.state.ckpt
    }

    /// Which content.
    pub fn hash(&self) -> ManifestHash {
        self.state.hash
    }
}

/// What [`Store::open`] found beside complete states.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OpenReport {
    /// Half-written files of a crash, removed. Nothing to do.
    pub leftovers: Vec<String>,
    /// Packs whose index is not readable: bit rot or a lying disk. Their chunks are not used;
    /// fetch the states again and suspect the disk.
    pub damaged: Vec<String>,
    /// Files the store did not write. Left alone.
    pub foreign: Vec<String>,
}

/// The states of all instances on this board. See the module's head.
#[derive(Debug)]
pub struct Store {
    disk: Disk,
    config: StoreConfig,
    shelves: BTreeMap<String, Shelf>,
    report: OpenReport,
}

impl Store {
    /// Opens the store on `vfs`, after a crash at any point as well: removes leftovers, makes sure
    /// that every name it is going to rely on is durable, and builds the index. An earlier process
    /// may have ended because a sync failed, so a name that another sync does not vouch for is made
    /// anew; see `shelf.rs`.
    ///
    /// Reads every pack's footer and every manifest; costs about 70 bytes of memory a chunk. A
    /// damaged pack is reported, not an error.
    pub fn open(vfs: Arc<dyn Vfs>, config: StoreConfig) -> Result<Self, StoreError> {
        let disk = Disk::new(vfs);
        let mut report = OpenReport::default();
        let mut shelves = BTreeMap::new();
        let mut names = Vec::new();
        for found in disk.list("")? {
            if !found.folder || shelf::check_name(&found.name).is_err() {
                report.foreign.push(found.name);
            } else if disk.list(&found.name)?.is_empty() {
                // Nothing is put into a folder before its name is durable: that of this one may not be.
                disk.remove_folder(&found.name)?;
            } else {
                names.push(found.name);
            }
        }
        disk.sync_folder("")?;
        for name in names {
            let shelf = Shelf::load(&disk, &name, &mut report)?;
            shelves.insert(name, shelf);
        }
        Ok(Self { disk, config, shelves, report })
    }

    /// What opening found.
    pub fn report(&self) -> &OpenReport {
        &self.report
    }

    /// The instances that have a folder, in order.
    pub fn instances(&self) -> impl Iterator<Item = &str> {
        self.shelves.keys().map(String::as_str)
    }

    /// The complete states of an instance, oldest first; empty for an unknown one.
    pub fn states(&self, instance: &str) -> Vec<State> {
        let shelf = self.shelves.get(instance);
        shelf.map(|shelf| shelf.states().keys().copied().collect()).unwrap_or_default()
    }

    /// Proof that a state is durable, for answering again after a restart.
    pub fn durable(&self, instance: &str, ckpt: CkptId) -> Option<Durable> {
        let state = self.states(instance).into_iter().find(|state| state.ckpt == ckpt)?;
        Some(Durable { instance: instance.to_owned(), state })
    }

    /// Reads and verifies a stored manifest.
    pub fn manifest(&self, instance: &str, ckpt: CkptId) -> Result<SealedManifest, StoreError> {
        let shelf = self.shelf(instance, ckpt)?;
        let states = shelf.states();
        let found = states.iter().find(|(state, _)| state.ckpt == ckpt);
        let (_, serial) = found.ok_or_else(|| unknown(instance, ckpt))?;
        shelf.read_manifest(&self.disk, *serial)
    }

    /// The chunks of an instance, for deltas and restores. Keeps the packs it reads open: make one
    /// per job, not one for ever.
    pub fn chunks<'a>(&'a self, instance: &'a str) -> StoreChunks<'a> {
        StoreChunks { store: self, instance, open: RefCell::default() }
    }

    /// Begins a state: chunks first, then [`Draft::commit`]. Makes the instance's folder if it is
    /// new.
    pub fn begin(&mut self, instance: &str) -> Result<Draft<'_>, StoreError> {
        self.ensure_shelf(instance)?;
        Draft::new(self, instance, 0)
    }

    /// Bytes of all packs and of what unfinished transfers may still write.
    pub fn used_bytes(&self) -> u64 {
        self.shelves.values().map(Shelf::used_bytes).sum()
    }

    pub(crate) fn disk(&self) -> &Disk {
        &self.disk
    }

    pub(crate) fn shelf_if_there(&self, instance: &str) -> Option<&Shelf> {
        self.shelves.get(instance)
    }

    /// The folder of an instance, made and synced if need be.
    pub(crate) fn ensure_shelf(&mut self, instance: &str) -> Result<&mut Shelf, StoreError> {
        shelf::check_name(instance)?;
        if !self.shelves.contains_key(instance) {
            self.disk.create_folder(instance)?;
            self.disk.sync_folder("")?;
        }
        Ok(self.shelves.entry(instance.to_owned()).or_insert_with(|| Shelf::new(instance)))
    }

    /// Refuses what would exceed the quota.
    pub(crate) fn check_quota(&self, needed_bytes: u64) -> Result<(), StoreError> {
        let (used_bytes, quota_bytes) = (self.used_bytes(), self.config.quota_bytes);
        if used_bytes.saturating_add(needed_bytes) > quota_bytes {
            return Err(StoreError::Quota { needed_bytes, used_bytes, quota_bytes });
        }
        Ok(())
    }

    /// Refuses another state under the number of a stored one.
    pub(crate) fn check_conflict(
        &self,
        instance: &str,
        ckpt: CkptId,
        offered: ManifestHash,
    ) -> Result<(), StoreError> {
        let stored = self.shelves.get(instance).and_then(|shelf| shelf.hash_of(ckpt));
        match stored.filter(|stored| *stored != offered) {
            None => Ok(()),
            Some(stored) => {
                let instance = instance.to_owned();
                Err(StoreError::StateConflict { instance, ckpt, stored, offered })
            }
        }
    }

    /// The headers of an instance's unfinished transfers, for resuming after a restart: open a
    /// [`crate::receive::Receiver`] with one and ask it what is missing.
    pub fn unfinished(&self, instance: &str) -> Result<Vec<TransferHeader>, StoreError> {
        let Some(shelf) = self.shelves.get(instance) else { return Ok(Vec::new()) };
        let mut all = Vec::new();
        for id in shelf.incoming.keys() {
            all.extend(TransferHeader::load(&self.disk, &shelf.head_path(*id))?);
        }
        Ok(all)
    }

    /// Counts a transfer's bytes against the quota, and keeps its ancestor.
    pub(crate) fn note_transfer(&mut self, instance: &str, header: &TransferHeader) {
        if let Some(shelf) = self.shelves.get_mut(instance) {
            let reserved_bytes = header.reserved_bytes();
            shelf.incoming.insert(header.id(), Incoming { reserved_bytes, from: header.from });
        }
    }

    /// Removes the files of an instance's transfers. They are leftovers from here on, so nothing
    /// need be synced.
    pub(crate) fn drop_transfers(&mut self, instance: &str) -> Result<(), StoreError> {
        let Some(shelf) = self.shelves.get_mut(instance) else { return Ok(()) };
        for id in std::mem::take(&mut shelf.incoming).into_keys() {
            self.disk.remove(&shelf.part_path(id))?;
            self.disk.remove(&shelf.head_path(id))?;
        }
        Ok(())
    }

    fn shelf(&self, instance: &str, ckpt: CkptId) -> Result<&Shelf, StoreError> {
        self.shelves.get(instance).ok_or_else(|| unknown(instance, ckpt))
    }
}

fn unknown(instance: &str, ckpt: CkptId) -> StoreError {
    StoreError::UnknownState { instance: instance.to_owned(), ckpt }
}

/// Reads chunks of one instance, each verified. See [`Store::chunks`].
#[derive(Debug)]
pub struct StoreChunks<'a> {
    store: &'a Store,
    instance: &'a str,
    open: RefCell<BTreeMap<u64, DiskFile>>,
}

impl ChunkSource for StoreChunks<'_> {
    fn read_chunk(&self, id: &ChunkId) -> Result<Vec<u8>, StoreError> {
        let missing = StoreError::ChunkMissing { id: *id };
        let shelf = self.store.shelves.get(self.instance).ok_or(missing)?;
        shelf.read_chunk(&self.store.disk, &mut self.open.borrow_mut(), id)
    }
}
