//! What the tests share: noise, states in memory, scratch folders.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use hedgerow_replication::chunk::{ChunkSource, MemChunks};
use hedgerow_replication::manifest::{ManifestBuilder, Meta};
use hedgerow_replication::path::RelPath;
use hedgerow_replication::transfer::TransferError;
use hedgerow_replication::vfs::Vfs;
use hedgerow_replication::{
    Ancestor, CkptId, Durable, Layer, Receiver, SealedManifest, Store, StoreConfig, Transfer,
};

pub(crate) const SHOP: &str = "shop";
pub(crate) const CHUNK: usize = 16 << 10;

/// `len` bytes that do not compress, the same for the same seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

pub(crate) fn path(text: &str) -> RelPath {
    RelPath::new(text).unwrap()
}

pub(crate) fn ckpt(seq: u64) -> CkptId {
    CkptId { epoch: 1, seq }
}

/// A state of plain files.
pub(crate) fn state(seq: u64, files: &[(&str, &[u8])], chunks: &mut MemChunks) -> SealedManifest {
    let mut builder = ManifestBuilder::new(ckpt(seq), Layer::Instance, 4096);
    for (name, content) in files {
        let meta = Meta { mode: 0o644, ..Meta::default() };
        builder.file(path(name), meta, content, chunks).unwrap();
    }
    builder.seal().unwrap()
}

pub(crate) fn open(vfs: &(impl Vfs + Clone + 'static)) -> Store {
    Store::open(Arc::new(vfs.clone()), StoreConfig::default()).unwrap()
}

pub(crate) fn encode(
    state: &SealedManifest,
    from: Option<&SealedManifest>,
    chunks: &dyn ChunkSource,
) -> Transfer {
    let ancestor = from.map(|manifest| Ancestor { manifest, chunks });
    Transfer::encode(state, chunks, ancestor, 1).unwrap()
}

/// Takes a whole transfer, or what is still missing of it.
pub(crate) fn receive(store: &mut Store, transfer: &Transfer) -> Result<Durable, TransferError> {
    let mut receiver = Receiver::open(store, SHOP, transfer.header.bytes())?;
    for index in receiver.missing().collect::<Vec<_>>() {
        receiver.accept(index, &transfer.segments[index as usize])?;
    }
    receiver.finish(store)
}

/// Reads a whole file of a stored state.
pub(crate) fn content(store: &Store, seq: u64, name: &str) -> Vec<u8> {
    let state = store.manifest(SHOP, ckpt(seq)).unwrap();
    let body = state.file(&path(name)).unwrap();
    let mut bytes = vec![0; usize::try_from(body.size).unwrap()];
    let chunks = store.chunks(SHOP);
    for at in body.chunks(state.chunk_bytes) {
        let start = usize::try_from(at.index).unwrap() * state.chunk_bytes as usize;
        bytes[start..start + at.len as usize].copy_from_slice(&chunks.read_chunk(&at.id).unwrap());
    }
    bytes
}

/// A folder of its own, removed when dropped. In memory where the system has such a place.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = base.join(format!("hedgerow-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        _ = std::process::Command::new("chmod").args(["-R", "u+rwX"]).arg(&self.0).status();
        _ = std::fs::remove_dir_all(&self.0);
    }
}
