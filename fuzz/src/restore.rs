//! Restoring a state that another board described: everything inside the folder, or nothing at all.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use hedgerow_replication::chunk::MemChunks;
use hedgerow_replication::manifest::{Kind, ManifestBuilder, Meta};
use hedgerow_replication::path::{Blob, RelPath};
use hedgerow_replication::restore::{RestoreError, RestoreOptions, restore as put_back};
use hedgerow_replication::{CkptId, Layer, SealedManifest};

use crate::Seed;
use crate::bytes::{Bytes, put_piece};

/// Names that a path or a link is put together from.
const NAMES: [&[u8]; 14] = [
    b"a",
    b"b",
    b"c",
    b"..",
    b".",
    b"",
    b"canary",
    b"state",
    b"\0",
    b"a/b",
    b"../out",
    b".restoring-state",
    b"\xff",
    b"a-b",
];
const ENTRIES_MAX: usize = 64;

/// Entries of a manifest, and where they end up.
pub fn restore(data: &[u8]) {
    let mut input = Bytes(data);
    let how = input.byte();
    let mut chunks = MemChunks::default();
    let sealed = match how & 1 {
        0 => SealedManifest::open(input.0).ok(),
        _ => built(&mut input, &mut chunks),
    };
    let Some(state) = sealed else { return };
    let scratch = Scratch::new();
    let target = scratch.0.join("in/state");
    for _ in 0..=how >> 1 & 1 {
        let before = target.exists();
        let options = RestoreOptions { ignore_owners: true };
        match put_back(&state, &chunks, &target, options) {
            Ok(()) => {
                let expected: BTreeSet<PathBuf> =
                    state.entries.iter().map(|entry| entry.path.under(&target)).collect();
                assert_eq!(all_below(&target), expected);
            }
            Err(RestoreError::OldStays { .. }) => return,
            Err(_) => assert_eq!(target.exists(), before, "the target is unchanged"),
        }
        scratch.nothing_else(&target);
    }
}

fn built(input: &mut Bytes<'_>, chunks: &mut MemChunks) -> Option<SealedManifest> {
    let mut builder = ManifestBuilder::new(CkptId::default(), Layer::Instance, 4096);
    for _ in 0..ENTRIES_MAX {
        if input.is_empty() {
            break;
        }
        let kind = input.below(6);
        let path = RelPath::new(path(input));
        let mode = u32::from(input.short()) & 0o7777;
        let meta = Meta { mode, mtime_ns: input.long() as i64, ..Meta::default() };
        let Ok(path) = path else { continue };
        match kind {
            0 | 1 => builder.entry(path, meta, Kind::Folder),
            2 => builder.file(path, meta, input.piece(), chunks).expect("memory"),
            3 => builder.entry(path, meta, Kind::Symlink(Blob(self::path(input)))),
            4 => match RelPath::new(self::path(input)) {
                Ok(target) => builder.entry(path, meta, Kind::HardLink(target)),
                Err(_) => continue,
            },
            _ => builder.entry(path, meta, Kind::Whiteout),
        }
    }
    builder.seal().ok()
}

fn path(input: &mut Bytes<'_>) -> Vec<u8> {
    let count = 1 + input.below(4);
    let names: Vec<&[u8]> = (0..count).map(|_| NAMES[input.below(NAMES.len())]).collect();
    names.join(&b'/')
}

/// Everything below a folder; links are not followed.
fn all_below(folder: &Path) -> BTreeSet<PathBuf> {
    let mut all = BTreeSet::new();
    let Ok(entries) = fs::read_dir(folder) else { return all };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            all.append(&mut all_below(&entry.path()));
        }
        all.insert(entry.path());
    }
    all
}

/// A folder with something in it that nobody may touch, in memory where the system has such a place.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = base.join(format!("hedgerow-fuzz-{}-{number}", std::process::id()));
        fs::create_dir_all(folder.join("in")).expect("a scratch folder");
        fs::write(folder.join("in/canary"), b"sings").expect("a scratch file");
        fs::write(folder.join("canary"), b"sings").expect("a scratch file");
        Self(folder)
    }

    fn nothing_else(&self, target: &Path) {
        let outside: BTreeSet<PathBuf> =
            all_below(&self.0).into_iter().filter(|path| !path.starts_with(target)).collect();
        let canaries = [self.0.join("canary"), self.0.join("in/canary")];
        let expected = canaries.iter().cloned().chain([self.0.join("in")]).collect();
        assert_eq!(outside, expected, "something is outside the target");
        for canary in &canaries {
            assert_eq!(fs::read(canary).expect("it is still there"), b"sings");
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if fs::remove_dir_all(&self.0).is_err() {
            // Without privileges a folder may forbid it.
            let _ = std::process::Command::new("chmod").args(["-R", "u+rwX"]).arg(&self.0).status();
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

pub(crate) fn seeds() -> Vec<Seed> {
    let mut seeds: Vec<Seed> = crate::state::manifest_seeds()
        .into_iter()
        .map(|(name, manifest)| (format!("raw-{name}"), [vec![0], manifest].concat()))
        .collect();
    let entry = |kind: u8, names: &[&str]| {
        let place = |name: &&str| NAMES.iter().position(|known| *known == name.as_bytes());
        let mut bytes = vec![kind, names.len() as u8 - 1];
        bytes.extend(names.iter().map(|name| place(name).expect("one of the names") as u8));
        bytes
    };
    let meta = [0xed, 0x01, 0, 0, 0, 0, 0, 0, 0, 0];
    let link = |names: &[&str]| entry(0, names)[1..].to_vec();
    let mut plain = vec![1 + 2];
    plain.extend([entry(0, &["a"]), meta.to_vec(), entry(2, &["a", "b"]), meta.to_vec()].concat());
    put_piece(&mut plain, b"content");
    plain.extend([entry(4, &["c"]), meta.to_vec(), link(&["a", "b"])].concat());
    plain.extend([entry(5, &["b"]), meta.to_vec()].concat());
    let mut climbing = vec![1];
    climbing.extend([entry(3, &["a"]), meta.to_vec(), link(&["..", ".."])].concat());
    climbing.extend([entry(2, &["a", "canary"]), meta.to_vec()].concat());
    put_piece(&mut climbing, b"cuckoo");
    let mut straight = vec![1];
    straight.extend([entry(2, &["..", "canary"]), meta.to_vec()].concat());
    put_piece(&mut straight, b"cuckoo");
    straight.extend([entry(2, &["a"]), meta.to_vec()].concat());
    put_piece(&mut straight, b"content");
    seeds.push(("plain".to_owned(), plain));
    seeds.push(("through-a-link".to_owned(), climbing));
    seeds.push(("straight-up".to_owned(), straight));
    seeds
}
