//! What another board says a service's state is, and how it sends it.

use std::sync::{Arc, LazyLock};

use hedgerow::proto::wire::codec;
use hedgerow_replication::chunk::{ChunkSource, MemChunks};
use hedgerow_replication::manifest::{Kind, Manifest, ManifestBuilder, Meta};
use hedgerow_replication::path::{Blob, RelPath};
use hedgerow_replication::transfer::{Header, SegmentId, TransferHeader};
use hedgerow_replication::vfs::{Loss, MemVfs};
use hedgerow_replication::{
    Ancestor, CkptId, Layer, Receiver, SealedManifest, Store, StoreConfig, Transfer,
};

use crate::Seed;
use crate::bytes::{Bytes, put_piece};

const MANIFEST_MAGIC: &[u8] = b"HGM\x01";
const HEADER_MAGIC: &[u8] = b"HGT\x01";
const INSTANCE: &str = "shop";
/// What the store may use. A header that promises more is refused before anything is written.
const QUOTA_BYTES: u64 = 4 << 20;

/// A manifest: what opens names only what lies inside, each below a folder that came before.
pub fn manifest(data: &[u8]) {
    open(data);
    open(&[MANIFEST_MAGIC, data.get(4..).unwrap_or_default()].concat());
}

fn open(bytes: &[u8]) {
    let Ok(sealed) = SealedManifest::open(bytes) else { return };
    assert_eq!(sealed.bytes(), bytes);
    let again = Manifest::clone(&sealed).seal().expect("what opens can be sealed");
    assert_eq!(*again, *sealed);
    let mut last: Option<&RelPath> = None;
    for entry in &sealed.entries {
        assert!(last.is_none_or(|last| *last < entry.path), "not in order");
        last = Some(&entry.path);
        let names = entry.path.as_bytes().split(|&byte| byte == b'/');
        for name in names {
            assert!(!matches!(name, b"" | b"." | b"..") && !name.contains(&0), "{}", entry.path);
        }
        if let Some(parent) = entry.path.parent() {
            let kind = sealed.entry(&parent).map(|parent| &parent.kind);
            assert_eq!(kind, Some(&Kind::Folder), "{}", entry.path);
        }
    }
    let mut named = 0;
    for (_, len) in sealed.chunks() {
        assert!((1..=sealed.chunk_bytes).contains(&len));
        named += 1;
    }
    assert!(named * 32 <= bytes.len(), "more chunks than were named");
}

/// A transfer from a board that may lie. Whatever arrives, the store stays sound and within its quota,
/// and a state is there only when it is whole.
pub fn transfer(data: &[u8]) {
    let mut input = Bytes(data);
    let how = input.byte();
    let (mend, has_ancestor, crash) = (how & 1 != 0, how & 2 != 0, how & 4 != 0);
    let mut header = input.piece().to_vec();
    let mut segments = Vec::new();
    while !input.is_empty() {
        segments.push(input.piece());
    }
    if mend && let Some(mended) = mended(&header, &segments) {
        header = mended;
    }
    let vfs = MemVfs::new(1);
    let config = StoreConfig { quota_bytes: QUOTA_BYTES, ..StoreConfig::default() };
    let mut store = Store::open(Arc::new(vfs.clone()), config).expect("an empty disk");
    if has_ancestor {
        let first = &STATES.first;
        let mut receiver =
            Receiver::open(&mut store, INSTANCE, first.header.bytes()).expect("a genuine header");
        for (index, segment) in (0..).zip(&first.segments) {
            receiver.accept(index, segment).expect("a genuine segment");
        }
        let _durable = receiver.finish(&mut store).expect("a genuine transfer");
    }
    receive(&mut store, &header, &segments);
    whole(&store, &vfs);
    if crash {
        vfs.crash(Loss::ALL[usize::from(how >> 3) % Loss::ALL.len()]);
        let mut store = Store::open(Arc::new(vfs.clone()), config).expect("the disk works");
        assert!(store.report().damaged.is_empty(), "{:?}", store.report());
        whole(&store, &vfs);
        receive(&mut store, &header, &segments);
        whole(&store, &vfs);
    }
}

fn receive(store: &mut Store, header: &[u8], segments: &[&[u8]]) {
    let before = store.states(INSTANCE);
    let Ok(mut receiver) = Receiver::open(store, INSTANCE, header) else {
        return assert_eq!(store.states(INSTANCE), before);
    };
    let to = receiver.header().to;
    for (index, segment) in (0..).zip(segments) {
        let _refused_or_not = receiver.accept(index, segment);
    }
    match receiver.finish(store) {
        Ok(durable) => assert_eq!(durable.hash(), to),
        Err(_) => {
            assert_eq!(store.states(INSTANCE), before);
            receiver.abandon(store).expect("the disk works");
        }
    }
}

/// Every state in the store can be read to its last byte, and nothing exceeds the quota.
fn whole(store: &Store, vfs: &MemVfs) {
    assert!(store.used_bytes() <= QUOTA_BYTES, "{} bytes reserved", store.used_bytes());
    assert!(vfs.used_bytes() <= QUOTA_BYTES, "{} bytes used", vfs.used_bytes());
    let chunks = store.chunks(INSTANCE);
    for state in store.states(INSTANCE) {
        let manifest = store.manifest(INSTANCE, state.ckpt).expect("listed, so readable");
        assert_eq!(manifest.hash(), state.hash);
        for (id, len) in manifest.chunks() {
            let bytes = chunks.read_chunk(&id).expect("listed, so whole");
            assert_eq!(bytes.len(), len as usize);
        }
    }
}

/// The header, telling the truth about segments that were changed: a liar that is at least consistent.
fn mended(header: &[u8], segments: &[&[u8]]) -> Option<Vec<u8>> {
    let mut header: Header = codec::decode(header.get(4..)?).ok()?;
    for (declared, segment) in header.segments.iter_mut().zip(segments) {
        declared.id = SegmentId::of(segment);
        declared.packed_bytes = u32::try_from(segment.len()).ok()?;
    }
    let body = codec::encode(&header).ok()?;
    let bytes = [HEADER_MAGIC, &body].concat();
    TransferHeader::open(bytes.clone()).ok()?;
    Some(bytes)
}

struct States {
    manifests: Vec<SealedManifest>,
    first: Transfer,
    delta: Transfer,
    full: Transfer,
}

static STATES: LazyLock<States> = LazyLock::new(|| {
    let mut chunks = MemChunks::default();
    let mut db: Vec<u8> = (0..40_000u32).map(|at| (at / 100) as u8).collect();
    let one = state(1, &db, b"one", &mut chunks);
    db[20_000..20_004].copy_from_slice(b"news");
    let two = state(2, &db, b"one, two", &mut chunks);
    let ancestor = Ancestor { manifest: &one, chunks: &chunks };
    let encode = |state, from| Transfer::encode(state, &chunks, from, 3).expect("a small state");
    let (first, delta, full) =
        (encode(&one, None), encode(&two, Some(ancestor)), encode(&two, None));
    States { first, delta, full, manifests: vec![one, two] }
});

fn state(seq: u64, db: &[u8], log: &[u8], chunks: &mut MemChunks) -> SealedManifest {
    let path = |text: &str| RelPath::new(text).expect("a good path");
    let meta = || Meta { mode: 0o644, ..Meta::default() };
    let mut builder = ManifestBuilder::new(CkptId { epoch: 1, seq }, Layer::Instance, 4096);
    builder.entry(path("data"), Meta { mode: 0o755, ..meta() }, Kind::Folder);
    builder.file(path("data/db"), meta(), db, chunks).expect("memory");
    builder.file(path("data/log"), meta(), log, chunks).expect("memory");
    builder.file(path("holes"), meta(), &[0; 100_000], chunks).expect("memory");
    builder.entry(path("link"), meta(), Kind::Symlink(Blob(b"data/db".to_vec())));
    builder.entry(path("link2"), meta(), Kind::HardLink(path("data/log")));
    builder.seal().expect("a good state")
}

/// Names that are one bit away from climbing.
fn dots() -> SealedManifest {
    let path = |text: &str| RelPath::new(text).expect("a good path");
    let mut builder = ManifestBuilder::new(CkptId::default(), Layer::Base, 4096);
    builder.entry(path("a"), Meta::default(), Kind::Folder);
    for name in [",.", ".,", "a/,.", "a/.,"] {
        builder.entry(path(name), Meta::default(), Kind::Whiteout);
    }
    builder.seal().expect("a good state")
}

pub(crate) fn manifest_seeds() -> Vec<Seed> {
    let seeds = (1..).zip(&STATES.manifests);
    let mut seeds: Vec<Seed> =
        seeds.map(|(number, state)| (format!("state-{number}"), state.bytes().to_vec())).collect();
    seeds.push(("dots".to_owned(), dots().bytes().to_vec()));
    seeds
}

pub(crate) fn transfer_seeds() -> Vec<Seed> {
    let seed = |how: u8, transfer: &Transfer| {
        let mut bytes = vec![how];
        put_piece(&mut bytes, transfer.header.bytes());
        for segment in &transfer.segments {
            put_piece(&mut bytes, segment);
        }
        bytes
    };
    let (delta, full) = (&STATES.delta, &STATES.full);
    vec![
        ("full".to_owned(), seed(0, full)),
        ("full-mended".to_owned(), seed(1, full)),
        ("delta".to_owned(), seed(2, delta)),
        ("delta-mended".to_owned(), seed(3, delta)),
        ("delta-crash".to_owned(), seed(2 + 4, delta)),
        ("orphan".to_owned(), seed(0, delta)),
    ]
}
