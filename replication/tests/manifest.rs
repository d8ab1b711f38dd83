//! Hostile, odd and golden manifests.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod common;

use common::{ckpt, path, state};
use hedgerow_replication::chunk::MemChunks;
use hedgerow_replication::manifest::{
    Entry, Extent, FileBody, Kind, Manifest, ManifestBuilder, ManifestError, Meta, Xattr,
};
use hedgerow_replication::path::{Blob, RelPath};
use hedgerow_replication::{ChunkId, Layer, SealedManifest};
use proptest::prelude::*;

fn entry(name: &str, kind: Kind) -> Entry {
    Entry { path: path(name), meta: Meta::default(), kind }
}

fn sealed(entries: Vec<Entry>) -> Result<SealedManifest, ManifestError> {
    raw(|manifest| manifest.entries = entries)
}

/// Changes a good manifest, so that only what is changed can be at fault.
fn raw(change: impl FnOnce(&mut Manifest)) -> Result<SealedManifest, ManifestError> {
    let good = ManifestBuilder::new(ckpt(1), Layer::Instance, 4096).seal().unwrap();
    let mut manifest = (*good).clone();
    change(&mut manifest);
    manifest.seal()
}

fn why(result: Result<SealedManifest, ManifestError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn nothing_may_lie_below_anything_but_a_folder() {
    let link = |text: &str| Kind::Symlink(Blob(text.into()));
    let file = || Kind::File(FileBody::default());
    for parent in [link("/etc"), file(), Kind::Whiteout] {
        let text = why(sealed(vec![entry("a", parent), entry("a/passwd", file())]));
        assert!(
            text.contains("entry a/passwd lies below something that is not a folder"),
            "{text}"
        );
    }
    let text = why(sealed(vec![entry("a/b", file())]));
    assert!(text.contains("not a folder of this manifest"), "an unlisted parent: {text}");
    sealed(vec![entry("a", Kind::Folder), entry("a/b", file())]).unwrap();
}

#[test]
fn a_path_is_never_listed_twice_nor_out_of_order() {
    let link = || Kind::Symlink(Blob(b"/etc".to_vec()));
    let twice = sealed(vec![entry("a", link()), entry("a", Kind::Folder)]);
    assert!(why(twice).contains("ascending"));
    let turned = sealed(vec![entry("b", Kind::Folder), entry("a", Kind::Folder)]);
    assert!(why(turned).contains("ascending"));
}

#[test]
fn a_climbing_path_in_the_bytes_is_refused() {
    let good = sealed(vec![entry("aa", Kind::Folder), entry("aa/bb", Kind::Folder)]).unwrap();
    for evil in [b"../bb", b"/a/bb", b"aa//b", b"aa/..", b"aa/\0b"] {
        let mut bytes = good.bytes().to_vec();
        let at = bytes.windows(5).position(|window| window == b"aa/bb").unwrap();
        bytes[at..at + 5].copy_from_slice(evil);
        let error = SealedManifest::open(bytes).unwrap_err();
        assert!(matches!(error, ManifestError::Wire(_)), "{evil:?}: {error}");
    }
}

#[test]
fn hard_links_point_to_earlier_files_only() {
    let hard = |to: &str| Kind::HardLink(path(to));
    let file = || Kind::File(FileBody::default());
    sealed(vec![entry("a", file()), entry("b", hard("a"))]).unwrap();
    for entries in [
        vec![entry("a", hard("b")), entry("b", file())],
        vec![entry("a", hard("a"))],
        vec![entry("a", Kind::Symlink(Blob(b"/etc/shadow".to_vec()))), entry("b", hard("a"))],
    ] {
        assert!(why(sealed(entries)).contains("hard link"));
    }
}

#[test]
fn sizes_and_chunks_must_agree() {
    let id = ChunkId([1; 32]);
    let body = |size, extents| entry("a", Kind::File(FileBody { size, extents }));
    let hole = |chunks| Extent::Hole { chunks };
    sealed(vec![body(40_000, vec![hole(2), Extent::Data(vec![id])])]).unwrap();
    sealed(vec![body(i64::MAX as u64, vec![hole(1 << 49)])]).unwrap();
    for bad in [
        body(40_000, vec![hole(2)]),
        body(40_000, vec![hole(4)]),
        body(0, vec![hole(1)]),
        body(u64::MAX, vec![hole(1 << 50)]),
        body(100_000, vec![hole(u64::MAX), Extent::Data(vec![id; 8])]),
        body(40_000, vec![hole(1), hole(2)]),
        body(16384, vec![hole(0), Extent::Data(vec![id])]),
        body(0, vec![Extent::Data(Vec::new())]),
    ] {
        sealed(vec![bad.clone()]).expect_err(&format!("{bad:?}"));
    }
}

#[test]
fn header_numbers_are_bounded() {
    for bytes in [0, 1, 4095, 5000, 128 << 10, u32::MAX] {
        raw(|manifest| manifest.chunk_bytes = bytes).unwrap_err();
        raw(|manifest| manifest.page_bytes = bytes).unwrap_err();
    }
    raw(|manifest| manifest.root.mode = 0o10_000).unwrap_err();
    let many = |count: u8| {
        (0..count)
            .map(|i| Xattr { name: Blob(vec![b'a', i + 1]), value: Blob::default() })
            .collect()
    };
    raw(|manifest| manifest.root.xattrs = many(32)).unwrap();
    raw(|manifest| manifest.root.xattrs = many(33)).unwrap_err();
    let nul = Xattr { name: Blob(b"user.\0".to_vec()), value: Blob::default() };
    raw(|manifest| manifest.root.xattrs = vec![nul]).unwrap_err();
}

#[test]
fn a_length_bomb_is_refused_without_memory() {
    let mut bytes = b"HGM\x01".to_vec();
    bytes.extend([251, 0, 16, 251, 0, 64, 0, 1, 1, 0]); // pages, chunks, no ancestor, 1.1, base
    bytes.extend([0, 0, 0, 0, 0]); // root
    bytes.extend([253, 255, 255, 255, 255, 255, 255, 255, 127]); // entries: 2^63
    assert!(SealedManifest::open(bytes).is_err());
}

#[test]
fn the_manifest_has_golden_bytes() {
    let mut chunks = MemChunks::default();
    let mut builder = ManifestBuilder::new(ckpt(7), Layer::Instance, 4096);
    let meta = |mode| Meta {
        mode,
        uid: 1000,
        gid: 100,
        mtime_ns: 1_700_000_000_000_000_001,
        xattrs: vec![],
    };
    builder.file(path("etc/conf"), meta(0o640), b"port = 80\n", &mut chunks).unwrap();
    builder.entry(path("etc"), meta(0o755), Kind::Folder);
    builder.entry(path("hard"), Meta::default(), Kind::HardLink(path("etc/conf")));
    builder.entry(path("soft"), meta(0o777), Kind::Symlink(Blob(b"etc/conf".to_vec())));
    builder.entry(path("white"), meta(0), Kind::Whiteout);
    let mut sparse = vec![0; 3 * 16384];
    sparse[2 * 16384 + 5] = 1;
    builder.file(path("sparse"), meta(0o600), &sparse, &mut chunks).unwrap();
    let sealed = builder.seal().unwrap();
    let hex: String = sealed.bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, GOLDEN, "a wire change: raise the version in the magic");
    assert_eq!(*SealedManifest::open(sealed.bytes()).unwrap(), *sealed);
}

const GOLDEN: &str = concat!(
    "48474d01fb0010fb004000010702fbed01000000000603657463fbed01fbe80364fd0200546cfc392f2f0001",
    "086574632f636f6e66fba001fbe80364fd0200546cfc392f2f00000a0100209cdf683ff418f996639d4200dd",
    "4639b0740ab911e02063f1e3e772f5332bc5ac0468617264000000000003086574632f636f6e6604736f6674",
    "fbff01fbe80364fd0200546cfc392f2f0002086574632f636f6e6606737061727365fb8001fbe80364fd0200",
    "546cfc392f2f0000fb00c0020200002041d10ea65bfbe63e5b92eac36a6344a356f5c1fe6fe62a59e8d81817",
    "55095b1b05776869746500fbe80364fd0200546cfc392f2f0004",
);

fn any_kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Folder),
        Just(Kind::Whiteout),
        "[a-z/.]{1,8}".prop_map(|text| Kind::Symlink(Blob(text.into_bytes()))),
        (0u64..3, 1u64..3).prop_map(|(holes, data)| {
            let data = Extent::Data((0..data).map(|n| ChunkId::of(&[n as u8])).collect());
            let hole = (holes > 0).then_some(Extent::Hole { chunks: holes });
            let extents: Vec<Extent> = hole.into_iter().chain([data]).collect();
            let size = extents.iter().map(Extent::count).sum::<u64>() * 16384;
            Kind::File(FileBody { size, extents })
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_sealed_can_be_opened(names in proptest::collection::btree_map("[a-c]{1,3}", any_kind(), 0..12)) {
        let entries = names.into_iter().map(|(name, kind)| entry(&name, kind)).collect();
        let sealed = sealed(entries).unwrap();
        let opened = SealedManifest::open(sealed.bytes()).unwrap();
        prop_assert_eq!(opened.hash(), sealed.hash());
        prop_assert_eq!(&*opened, &*sealed);
        for cut in 0..sealed.bytes().len() {
            prop_assert!(SealedManifest::open(&sealed.bytes()[..cut]).is_err());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        _ = SealedManifest::open(bytes.clone());
        _ = SealedManifest::open([b"HGM\x01".as_slice(), &bytes].concat());
        _ = RelPath::new(bytes);
    }

    #[test]
    fn changed_bytes_never_panic_and_stay_inside(at in any::<prop::sample::Index>(), value in any::<u8>()) {
        let mut chunks = MemChunks::default();
        let good = state(1, &[("a", b"one"), ("b", &[7; 40_000])], &mut chunks);
        let mut bytes = good.bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = value;
        if let Ok(opened) = SealedManifest::open(bytes) {
            for entry in &opened.entries {
                prop_assert!(RelPath::new(entry.path.as_bytes()).is_ok());
            }
        }
    }
}
