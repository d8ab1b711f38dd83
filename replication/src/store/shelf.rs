//! One instance's packs and the index over them.
//!
//! The index maps a chunk to its newest place: a pack written later wins, which is what makes a
//! repair effective. It holds no content and can always be built again from the footers.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::disk::{Disk, DiskFile};
use super::pack::{Footer, PackState, Place};
use super::{OpenReport, State, StoreError};
use crate::hash::{ChunkId, ManifestHash, TransferId};
use crate::manifest::{CkptId, Manifest, ManifestError, SealedManifest};
use crate::transfer::TransferHeader;

/// Longest instance name, in bytes.
const INSTANCE_BYTES_MAX: usize = 100;

#[derive(Debug)]
pub(crate) struct Shelf {
    name: String,
    pub(super) packs: BTreeMap<u64, Pack>,
    pub(super) index: BTreeMap<ChunkId, Location>,
    /// Packs that could not be read, by path.
    pub(super) damaged: Vec<String>,
    pub(crate) incoming: BTreeMap<TransferId, Incoming>,
    next_serial: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Location {
    pub(super) serial: u64,
    pub(super) place: Place,
}

impl Location {
    pub(super) fn len_bytes(&self) -> u64 {
        u64::from(self.place.len)
    }
}

#[derive(Debug)]
pub(super) struct Pack {
    pub(super) len_bytes: u64,
    pub(super) state: Option<PackState>,
    /// True if every chunk its manifest names is in the index, as far as anybody has looked.
    pub(super) complete: bool,
}

/// A transfer that has begun and not ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Incoming {
    /// What it may still write, counted against the quota.
    pub(crate) reserved_bytes: u64,
    /// The state it is a delta against; kept by garbage collection.
    pub(crate) from: Option<ManifestHash>,
}

/// Refuses names that are not usable as a folder.
pub(super) fn check_name(instance: &str) -> Result<(), StoreError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte);
    let good = (1..=INSTANCE_BYTES_MAX).contains(&instance.len())
        && !instance.starts_with('.')
        && instance.bytes().all(fits);
    if good {
        return Ok(());
    }
    Err(StoreError::BadInstance { name: instance.chars().take(INSTANCE_BYTES_MAX).collect() })
}

impl Shelf {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            packs: BTreeMap::new(),
            index: BTreeMap::new(),
            damaged: Vec::new(),
            incoming: BTreeMap::new(),
            next_serial: 1,
        }
    }

    /// Reads an instance's folder, after a crash at any point as well.
    pub(super) fn load(
        disk: &Disk,
        name: &str,
        report: &mut OpenReport,
    ) -> Result<Self, StoreError> {
        let mut shelf = Self::new(name);
        let mut parts = Vec::new();
        for found in disk.list(name)? {
            let path = format!("{name}/{}", found.name);
            match found.name.rsplit_once('.') {
                Some((_, "tmp")) => shelf.remove_leftover(disk, path, report)?,
                Some((stem, "pack")) => match u64::from_str_radix(stem, 16) {
                    Ok(serial) => shelf.load_pack(disk, serial, found.len_bytes, report)?,
                    Err(_) => report.foreign.push(path),
                },
                Some((stem, "head")) => match shelf.load_head(disk, &path, stem)? {
                    true => {}
                    false => shelf.remove_leftover(disk, path, report)?,
                },
                Some((stem, "part")) => parts.push((stem.to_owned(), path)),
                _ => report.foreign.push(path),
            }
        }
        shelf.name_newest_anew(disk)?;
        // Nothing is listed, hence acknowledged, on the strength of a name that may still vanish.
        disk.sync_folder(name)?;
        shelf.find_complete(disk)?;
        shelf.drop_finished_transfers(disk, report)?;
        for (stem, path) in parts {
            if !shelf.incoming.keys().any(|id| id.to_string() == stem) {
                shelf.remove_leftover(disk, path, report)?;
            }
        }
        Ok(shelf)
    }

    /// Gives the newest pack another number, hence a name that the next sync writes.
    ///
    /// It may have been renamed by a process that died before it synced the folder, or whose sync
    /// failed: then the kernel shows the name, has dropped it, and says of the next sync that all is
    /// well. Of no other pack is that in doubt, since a store that fails to sync writes no more, and
    /// one that is opened comes by here. The bytes of a pack are synced before it is called one.
    fn name_newest_anew(&mut self, disk: &Disk) -> Result<(), StoreError> {
        let Some((old, pack)) = self.packs.pop_last() else { return Ok(()) };
        let new = self.take_serial();
        disk.rename(&self.pack_path(old), &self.pack_path(new))?;
        self.packs.insert(new, pack);
        let moved = self.index.values_mut().filter(|at| at.serial == old);
        moved.for_each(|at| at.serial = new);
        Ok(())
    }

    pub(super) fn pack_path(&self, serial: u64) -> String {
        format!("{}/{serial:016x}.pack", self.name)
    }

    pub(super) fn tmp_path(&self, serial: u64) -> String {
        format!("{}/{serial:016x}.tmp", self.name)
    }

    pub(super) fn take_serial(&mut self) -> u64 {
        self.next_serial += 1;
        self.next_serial - 1
    }

    /// Complete states with the pack that holds their manifest.
    pub(super) fn states(&self) -> BTreeMap<State, u64> {
        let complete = self.packs.iter().filter(|(_, pack)| pack.complete);
        let state = |(serial, pack): (&u64, &Pack)| {
            let state = pack.state?;
            Some((State { ckpt: state.ckpt, hash: state.hash }, *serial))
        };
        complete.filter_map(state).collect()
    }

    /// What is stored, complete or not, under a checkpoint's number.
    pub(super) fn hash_of(&self, ckpt: CkptId) -> Option<ManifestHash> {
        let mut states = self.packs.values().filter_map(|pack| pack.state);
        states.find(|state| state.ckpt == ckpt).map(|state| state.hash)
    }

    /// The complete state with this content.
    pub(crate) fn state_of(&self, hash: ManifestHash) -> Option<State> {
        self.states().into_keys().find(|state| state.hash == hash)
    }

    pub(super) fn used_bytes(&self) -> u64 {
        let packs: u64 = self.packs.values().map(|pack| pack.len_bytes).sum();
        packs + self.incoming.values().map(|incoming| incoming.reserved_bytes).sum::<u64>()
    }

    /// Takes a finished pack into the index; later serials win.
    pub(super) fn add(&mut self, serial: u64, len_bytes: u64, footer: Footer) {
        for (id, place) in footer.chunks {
            let new = Location { serial, place };
            match self.index.entry(id) {
                Entry::Occupied(old) if old.get().serial > serial => {}
                Entry::Occupied(mut old) => _ = old.insert(new),
                Entry::Vacant(free) => _ = free.insert(new),
            }
        }
        let complete = footer.state.is_some();
        self.packs.insert(serial, Pack { len_bytes, state: footer.state, complete });
        self.next_serial = self.next_serial.max(serial + 1);
    }

    /// The first chunk of `manifest` that is nowhere, and how many there are.
    pub(super) fn missing(
        &self,
        manifest: &Manifest,
        also: impl Fn(&ChunkId) -> Option<Place>,
    ) -> Option<(ChunkId, u64)> {
        let here = |id: &ChunkId| also(id).or_else(|| Some(self.index.get(id)?.place));
        let mut lost = manifest
            .chunks()
            .filter(|(id, len)| here(id).is_none_or(|place| place.len != *len))
            .map(|(id, _)| id);
        let first = lost.next()?;
        Some((first, lost.count() as u64 + 1))
    }

    /// Reads and verifies a chunk; `open` caches the files.
    pub(super) fn read_chunk(
        &self,
        disk: &Disk,
        open: &mut BTreeMap<u64, DiskFile>,
        id: &ChunkId,
    ) -> Result<Vec<u8>, StoreError> {
        let at = self.index.get(id).ok_or(StoreError::ChunkMissing { id: *id })?;
        let file = match open.entry(at.serial) {
            Entry::Occupied(file) => file.into_mut(),
            Entry::Vacant(free) => free.insert(disk.open(&self.pack_path(at.serial))?),
        };
        let bytes = file.read_at(at.place.offset, at.place.len as usize)?;
        if ChunkId::of(&bytes) != *id {
            return Err(StoreError::ChunkRotten { id: *id, place: file.path().to_owned() });
        }
        Ok(bytes)
    }

    /// Reads and verifies the manifest in a pack.
    pub(super) fn read_manifest(
        &self,
        disk: &Disk,
        serial: u64,
    ) -> Result<SealedManifest, StoreError> {
        let place = self.pack_path(serial);
        let Some(state) = self.packs.get(&serial).and_then(|pack| pack.state) else {
            return Err(StoreError::PackDamaged { place, why: "holds no manifest" });
        };
        let bytes = disk.open(&place)?.read_at(state.place.offset, state.place.len as usize)?;
        let rotten = |source| StoreError::ManifestRotten { place: place.clone(), source };
        let sealed = SealedManifest::open(bytes).map_err(rotten)?;
        if sealed.hash() != state.hash || sealed.ckpt != state.ckpt {
            return Err(rotten(ManifestError::Header { why: "its hash is not its name" }));
        }
        Ok(sealed)
    }

    /// Decides afresh which states are complete. Reads every manifest.
    pub(super) fn find_complete(&mut self, disk: &Disk) -> Result<(), StoreError> {
        let serials: Vec<u64> =
            self.packs.iter().filter(|(_, pack)| pack.state.is_some()).map(|(s, _)| *s).collect();
        for serial in serials {
            let complete = match self.read_manifest(disk, serial) {
                Ok(sealed) => self.missing(&sealed, |_| None).is_none(),
                Err(error) if error.is_loss() => false,
                Err(other) => return Err(other),
            };
            if let Some(pack) = self.packs.get_mut(&serial) {
                pack.complete = complete;
            }
        }
        Ok(())
    }

    fn load_pack(
        &mut self,
        disk: &Disk,
        serial: u64,
        len_bytes: u64,
        report: &mut OpenReport,
    ) -> Result<(), StoreError> {
        let path = self.pack_path(serial);
        // Before anything else: a damaged pack's number must not be given out again.
        self.next_serial = self.next_serial.max(serial.saturating_add(1));
        match Footer::read(&disk.open(&path)?) {
            Ok(footer) => self.add(serial, len_bytes, footer),
            Err(StoreError::PackDamaged { .. }) => {
                self.damaged.push(path.clone());
                report.damaged.push(path);
            }
            Err(other) => return Err(other),
        }
        Ok(())
    }

    /// False if the header is torn, so that the transfer has to begin anew.
    fn load_head(&mut self, disk: &Disk, path: &str, stem: &str) -> Result<bool, StoreError> {
        let Some(header) = TransferHeader::load(disk, path)? else { return Ok(false) };
        if header.id().to_string() != stem {
            return Ok(false);
        }
        let reserved_bytes = header.reserved_bytes();
        self.incoming.insert(header.id(), Incoming { reserved_bytes, from: header.from });
        Ok(true)
    }

    /// A crash between the last sync of a state and the removal of its transfer leaves both.
    fn drop_finished_transfers(
        &mut self,
        disk: &Disk,
        report: &mut OpenReport,
    ) -> Result<(), StoreError> {
        let ids: Vec<TransferId> = self.incoming.keys().copied().collect();
        for id in ids {
            let path = self.head_path(id);
            let to = TransferHeader::load(disk, &path)?.map(|header| header.to);
            if to.is_some_and(|to| self.state_of(to).is_some()) {
                self.incoming.remove(&id);
                self.remove_leftover(disk, path, report)?;
            }
        }
        Ok(())
    }

    pub(crate) fn head_path(&self, id: TransferId) -> String {
        format!("{}/{id}.head", self.name)
    }

    pub(crate) fn part_path(&self, id: TransferId) -> String {
        format!("{}/{id}.part", self.name)
    }

    pub(crate) fn folder(&self) -> &str {
        &self.name
    }

    fn remove_leftover(
        &self,
        disk: &Disk,
        path: String,
        report: &mut OpenReport,
    ) -> Result<(), StoreError> {
        disk.remove(&path)?;
        report.leftovers.push(path);
        Ok(())
    }
}
