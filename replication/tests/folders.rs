//! Real folders: capture sees everything, restore gives everything back.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use common::{CHUNK, SHOP, Scratch, ckpt, encode, noise, open, path, receive};
use hedgerow_replication::capture::CaptureReport;
use hedgerow_replication::chunk::MemChunks;
use hedgerow_replication::manifest::{Extent, Kind};
use hedgerow_replication::restore::{RestoreError, RestoreOptions};
use hedgerow_replication::vfs::MemVfs;
use hedgerow_replication::{CaptureOptions, Captured, Layer, SealedManifest, capture, restore};
use proptest::prelude::*;

/// A day after every file time of these tests: hints may be trusted.
const LATER_NS: i64 = 86_400_000_000_000;

fn now_ns() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_nanos()).unwrap()
}

fn options(seq: u64, previous: Option<&Captured>) -> CaptureOptions<'_> {
    let now_ns = now_ns() + LATER_NS;
    let (ckpt, layer) = (ckpt(seq), Layer::Instance);
    CaptureOptions { ckpt, layer, page_bytes: 4096, now_ns, previous, full: false }
}

fn take(root: &Path, seq: u64, previous: Option<&Captured>, chunks: &mut MemChunks) -> Captured {
    capture(root, &options(seq, previous), chunks).unwrap()
}

/// Everything about a tree that a state promises to bring back.
fn picture(root: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(place) = todo.pop() {
        let meta = fs::symlink_metadata(&place).unwrap();
        let name = place.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        let kind = if meta.is_symlink() {
            format!("link to {:?}", fs::read_link(&place).unwrap())
        } else if meta.is_dir() {
            todo.extend(fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().path()));
            "folder".to_owned()
        } else {
            let bytes = fs::read(&place).unwrap();
            format!("file {} {}", bytes.len(), blake3::hash(&bytes))
        };
        let mode = if meta.is_symlink() { 0 } else { meta.mode() };
        let owner = (meta.uid(), meta.gid(), meta.mtime(), meta.mtime_nsec());
        // Several names of a symlink become several symlinks: nobody can tell by using them.
        let twin = if meta.is_file() { meta.nlink() } else { 0 };
        all.insert(name, format!("{kind} {mode:o} {owner:?} {twin} names"));
    }
    all
}

fn set_mtime(place: &Path, seconds: u64, nanos: u32) {
    let time = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos);
    File::open(place).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
}

/// Through the whole pipe: store, transfer, another store, restore.
fn through(state: &SealedManifest, from: Option<&SealedManifest>, chunks: &MemChunks, to: &Path) {
    let mut standby = open(&MemVfs::new(1));
    if let Some(from) = from {
        let _ = receive(&mut standby, &encode(from, None, chunks)).unwrap();
    }
    let _ = receive(&mut standby, &encode(state, from, chunks)).unwrap();
    let stored = standby.manifest(SHOP, state.ckpt).unwrap();
    restore(&stored, &standby.chunks(SHOP), to, RestoreOptions::default()).unwrap();
}

#[test]
fn a_tree_with_everything_in_it_comes_back() {
    let scratch = Scratch::new();
    let live = scratch.join("live");
    fs::create_dir_all(live.join("a/empty")).unwrap();
    fs::write(live.join("a/exact"), noise(1, 2 * CHUNK)).unwrap();
    fs::write(live.join("a/odd"), noise(2, 3 * CHUNK + 77)).unwrap();
    fs::write(live.join("a-before-slash"), b"").unwrap();
    fs::write(live.join("setuid"), b"#!").unwrap();
    fs::set_permissions(live.join("setuid"), Permissions::from_mode(0o4751)).unwrap();
    fs::hard_link(live.join("a/odd"), live.join("a/twin")).unwrap();
    symlink("../../etc/passwd", live.join("a/out")).unwrap();
    symlink("loop", live.join("loop")).unwrap();
    let sparse = File::create(live.join("sparse")).unwrap();
    sparse.set_len(50 << 20).unwrap();
    sparse.write_all_at(b"deep", 40 << 20).unwrap();
    fs::write(live.join("a/readonly"), b"r").unwrap();
    fs::set_permissions(live.join("a/readonly"), Permissions::from_mode(0o400)).unwrap();
    let name = std::ffi::OsStr::new("user.mark");
    let marked =
        rustix::fs::setxattr(live.join("a/exact"), name, b"kept", rustix::fs::XattrFlags::empty());
    set_mtime(&live.join("a/exact"), 1_000_000_000, 123_456_789);
    fs::set_permissions(live.join("a/empty"), Permissions::from_mode(0o1570)).unwrap();
    set_mtime(&live.join("a"), 5, 0);

    let mut chunks = MemChunks::default();
    let captured = take(&live, 1, None, &mut chunks);
    assert_eq!(captured.report.special, []);
    let body = captured.manifest.file(&path("sparse")).unwrap();
    assert!(body.extents.len() == 3, "{:?}", body.extents);
    assert!(captured.report.read_bytes < 1 << 20, "holes are not read");

    let copy = scratch.join("copy");
    through(&captured.manifest, None, &chunks, &copy);
    assert_eq!(picture(&copy), picture(&live));
    assert!(fs::metadata(copy.join("sparse")).unwrap().blocks() < 1000, "still sparse");
    if marked.is_ok() {
        let mut value = [0; 16];
        let len = rustix::fs::getxattr(copy.join("a/exact"), name, &mut value).unwrap();
        assert_eq!(&value[..len], b"kept");
    }
    let again = take(&copy, 1, None, &mut chunks);
    assert_eq!(again.manifest.hash(), captured.manifest.hash(), "same content, same state");
}

#[test]
fn sockets_and_fifos_are_skipped_and_listed() {
    let scratch = Scratch::new();
    let live = scratch.join("live");
    fs::create_dir(&live).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(live.join("socket")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(live.join("fifo")).status().unwrap();
    assert!(made.success());
    fs::write(live.join("file"), b"f").unwrap();
    let captured = take(&live, 1, None, &mut MemChunks::default());
    assert_eq!(captured.report.special, [path("fifo"), path("socket")]);
    assert_eq!(captured.manifest.entries.len(), 1);
}

#[test]
fn a_whiteout_is_part_of_a_state() {
    let scratch = Scratch::new();
    let live = scratch.join("live");
    fs::create_dir(&live).unwrap();
    let kind = rustix::fs::FileType::CharacterDevice;
    let place = live.join("gone");
    if rustix::fs::mknodat(rustix::fs::CWD, &place, kind, rustix::fs::Mode::empty(), 0).is_err() {
        return; // This kernel or container forbids it.
    }
    let mut chunks = MemChunks::default();
    let captured = take(&live, 1, None, &mut chunks);
    assert_eq!(captured.manifest.entries[0].kind, Kind::Whiteout);
    let copy = scratch.join("copy");
    through(&captured.manifest, None, &chunks, &copy);
    assert_eq!(fs::symlink_metadata(copy.join("gone")).unwrap().rdev(), 0);
    assert_eq!(take(&copy, 1, None, &mut chunks).manifest.hash(), captured.manifest.hash());
}

#[test]
fn unchanged_files_are_not_read_again() {
    let scratch = Scratch::new();
    let live = scratch.join("live");
    fs::create_dir(&live).unwrap();
    fs::write(live.join("big"), noise(1, 40 * CHUNK)).unwrap();
    fs::write(live.join("small"), b"1").unwrap();
    let mut chunks = MemChunks::default();
    let first = take(&live, 1, None, &mut chunks);
    fs::write(live.join("small"), b"22").unwrap();
    let second = take(&live, 2, Some(&first), &mut chunks);
    assert_eq!(second.report, CaptureReport { read_bytes: 2, ..CaptureReport::default() });
    assert_eq!(second.manifest.ancestor, Some(first.manifest.hash()));
    assert_eq!(second.manifest.file(&path("big")), first.manifest.file(&path("big")));
}

#[test]
fn a_file_touched_around_the_last_capture_is_read_again() {
    let scratch = Scratch::new();
    let live = scratch.join("live");
    fs::create_dir(&live).unwrap();
    fs::write(live.join("file"), b"racy").unwrap();
    let mut chunks = MemChunks::default();
    let honest = CaptureOptions { now_ns: now_ns(), ..options(1, None) };
    let first = capture(&live, &honest, &mut chunks).unwrap();
    let second = take(&live, 2, Some(&first), &mut chunks);
    assert_eq!(second.report.read_bytes, 4, "touched within 2 s of the capture before");
    let third = take(&live, 3, Some(&second), &mut chunks);
    assert_eq!(third.report.read_bytes, 0, "long before this one");
}

#[test]
fn a_change_that_hides_behind_its_old_mtime_is_seen() {
    let scratch = Scratch::new();
    let live = scratch.join("live");
    fs::create_dir(&live).unwrap();
    let file = live.join("file");
    fs::write(&file, b"old!").unwrap();
    set_mtime(&file, 1_000_000_000, 0);
    let mut chunks = MemChunks::default();
    let first = take(&live, 1, None, &mut chunks);
    std::thread::sleep(Duration::from_millis(10)); // ctime has the kernel's tick, 4 ms
    fs::write(&file, b"new!").unwrap();
    set_mtime(&file, 1_000_000_000, 0);
    let second = take(&live, 2, Some(&first), &mut chunks);
    assert_ne!(second.manifest.file(&path("file")), first.manifest.file(&path("file")));
}

#[test]
fn a_full_capture_reads_everything() {
    let scratch = Scratch::new();
    let live = scratch.join("live");
    fs::create_dir(&live).unwrap();
    fs::write(live.join("file"), noise(1, 5 * CHUNK)).unwrap();
    let mut chunks = MemChunks::default();
    let first = take(&live, 1, None, &mut chunks);
    let full = CaptureOptions { full: true, ..options(2, Some(&first)) };
    let second = capture(&live, &full, &mut chunks).unwrap();
    assert_eq!(second.report.read_bytes, 5 * CHUNK as u64);
    assert_eq!(second.report.missed, []);
}

#[test]
fn a_chunk_the_sink_has_lost_is_read_again() {
    let scratch = Scratch::new();
    let live = scratch.join("live");
    fs::create_dir(&live).unwrap();
    fs::write(live.join("file"), noise(1, 5 * CHUNK)).unwrap();
    let first = take(&live, 1, None, &mut MemChunks::default());
    let second = take(&live, 2, Some(&first), &mut MemChunks::default());
    assert_eq!(second.report.read_bytes, 5 * CHUNK as u64);
}

#[test]
fn a_file_that_changes_while_it_is_read_is_said() {
    use hedgerow_replication::ChunkId;
    use hedgerow_replication::chunk::ChunkSink;
    use hedgerow_replication::store::StoreError;
    /// Appends to the file each time one of its chunks is put: a service that was not frozen.
    struct Meddler(File, u32);
    impl ChunkSink for Meddler {
        fn holds(&self, _: &ChunkId) -> bool {
            false
        }
        fn put(&mut self, _: ChunkId, _: &[u8]) -> Result<(), StoreError> {
            if self.1 > 0 {
                self.1 -= 1;
                let end = self.0.metadata().unwrap().len();
                self.0.write_all_at(b"more", end).unwrap();
            }
            Ok(())
        }
    }
    let scratch = Scratch::new();
    let live = scratch.join("live");
    fs::create_dir(&live).unwrap();
    fs::write(live.join("log"), noise(1, 100)).unwrap();
    for (writes, unsettled) in [(2, 0), (u32::MAX, 1)] {
        let file = File::options().write(true).open(live.join("log")).unwrap();
        let captured = capture(&live, &options(1, None), &mut Meddler(file, writes)).unwrap();
        assert_eq!(captured.report.unsettled.len(), unsettled, "{writes} writes");
    }
}

#[test]
fn a_failed_restore_leaves_the_old_folder_alone() {
    let scratch = Scratch::new();
    let (live, target) = (scratch.join("live"), scratch.join("target"));
    fs::create_dir(&live).unwrap();
    fs::write(live.join("a"), b"new").unwrap();
    fs::create_dir(&target).unwrap();
    fs::write(target.join("old"), b"old").unwrap();
    let before = picture(&target);
    let mut chunks = MemChunks::default();
    let captured = take(&live, 1, None, &mut chunks);
    let nothing = MemChunks::default();
    let error = restore(&captured.manifest, &nothing, &target, RestoreOptions::default());
    assert!(matches!(error, Err(RestoreError::Content { .. })), "{error:?}");
    assert_eq!(picture(&target), before);
    restore(&captured.manifest, &chunks, &target, RestoreOptions::default()).unwrap();
    assert_eq!(picture(&target), picture(&live), "an existing target is replaced");
    let left: Vec<_> = fs::read_dir(target.parent().unwrap()).unwrap().collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn a_memory_image_is_a_file_keyed_by_address() {
    use hedgerow_replication::chunk::ChunkSink;
    use hedgerow_replication::manifest::{FileBody, ManifestBuilder, Meta};
    let mut chunks = MemChunks::default();
    let page = noise(1, CHUNK);
    let id = hedgerow_replication::ChunkId::of(&page);
    chunks.put(id, &page).unwrap();
    let mut builder = ManifestBuilder::new(ckpt(1), Layer::Instance, 4096);
    let address_chunks = 0x7fff_0000_0000 / CHUNK as u64;
    let extents = vec![Extent::Hole { chunks: address_chunks }, Extent::Data(vec![id])];
    let size = (address_chunks + 1) * CHUNK as u64;
    builder.entry(path("memory-17"), Meta::default(), Kind::File(FileBody { size, extents }));
    let sealed = builder.seal().unwrap();
    assert!(sealed.bytes().len() < 100, "the unmapped space costs nothing");
    let mut standby = open(&MemVfs::new(0));
    let _ = receive(&mut standby, &encode(&sealed, None, &chunks)).unwrap();
}

/// One change to a tree.
#[derive(Clone, Debug)]
enum Change {
    Write(u8, u64, u32),
    Patch(u8, u32, u8),
    Folder(u8),
    Link(u8, u8),
    Symlink(u8, String),
    Remove(u8),
    Mode(u8, u32),
    Truncate(u8, u32),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => (0u8..12, any::<u64>(), 0u32..70_000).prop_map(|(a, b, c)| Change::Write(a, b, c)),
        3 => (0u8..12, 0u32..70_000, any::<u8>()).prop_map(|(a, b, c)| Change::Patch(a, b, c)),
        2 => (0u8..12).prop_map(Change::Folder),
        1 => (0u8..12, 0u8..12).prop_map(|(a, b)| Change::Link(a, b)),
        1 => (0u8..12, "[a-z./]{1,12}").prop_map(|(a, b)| Change::Symlink(a, b)),
        1 => (0u8..12).prop_map(Change::Remove),
        1 => (0u8..12, 0u32..0o1000).prop_map(|(a, b)| Change::Mode(a, b | 0o600)),
        1 => (0u8..12, 0u32..90_000).prop_map(|(a, b)| Change::Truncate(a, b)),
    ]
}

/// Twelve names, some inside folders that may or may not exist.
fn place(root: &Path, name: u8) -> std::path::PathBuf {
    let names = ["a", "b", "c", "d", "d-x", "d/e", "d/f", "d/g", "d/g/h", "i", "i/j", "k"];
    root.join(names[usize::from(name)])
}

/// Applies a change as far as the tree allows it.
fn apply(root: &Path, change: &Change) {
    match change {
        Change::Write(name, seed, len) => {
            let place = place(root, *name);
            if !fs::symlink_metadata(&place).is_ok_and(|meta| meta.is_symlink()) {
                _ = fs::write(place, noise(*seed, *len as usize));
            }
        }
        Change::Patch(name, at, value) => on_file(root, *name, |file| {
            file.write_all_at(&[*value], u64::from(*at)).unwrap();
        }),
        Change::Truncate(name, len) => on_file(root, *name, |file| {
            file.set_len(u64::from(*len)).unwrap();
        }),
        Change::Folder(name) => _ = fs::create_dir(place(root, *name)),
        Change::Link(from, to) => _ = fs::hard_link(place(root, *from), place(root, *to)),
        Change::Symlink(name, text) => _ = symlink(text, place(root, *name)),
        Change::Remove(name) => {
            let place = place(root, *name);
            _ = fs::remove_file(&place).or_else(|_| fs::remove_dir_all(&place));
        }
        Change::Mode(name, mode) => {
            let place = place(root, *name);
            if fs::symlink_metadata(&place).is_ok_and(|meta| !meta.is_symlink()) {
                // A folder one cannot enter would only test the test.
                fs::set_permissions(place, Permissions::from_mode(mode | 0o700)).unwrap();
            }
        }
    }
}

fn on_file(root: &Path, name: u8, act: impl FnOnce(&File)) {
    let place = place(root, name);
    if fs::symlink_metadata(&place).is_ok_and(|meta| meta.is_file()) {
        act(&File::options().write(true).open(place).unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Random trees, changed at random: restored with and without ancestor they are the same.
    #[test]
    fn any_tree_comes_back_with_and_without_ancestor(
        first in proptest::collection::vec(change(), 0..20),
        second in proptest::collection::vec(change(), 0..10),
    ) {
        let scratch = Scratch::new();
        let live = scratch.join("live");
        fs::create_dir(&live).unwrap();
        let mut chunks = MemChunks::default();
        first.iter().for_each(|change| apply(&live, change));
        // Honest clock: the racy rule has to notice every change that follows at once.
        let honest = CaptureOptions { now_ns: now_ns(), ..options(1, None) };
        let one = capture(&live, &honest, &mut chunks).unwrap();
        second.iter().for_each(|change| apply(&live, change));
        let two = take(&live, 2, Some(&one), &mut chunks);
        let full = CaptureOptions { full: true, ..options(2, Some(&one)) };
        let checked = capture(&live, &full, &mut chunks).unwrap();
        prop_assert_eq!(two.manifest.hash(), checked.manifest.hash());
        through(&two.manifest, Some(&one.manifest), &chunks, &scratch.join("delta"));
        through(&two.manifest, None, &chunks, &scratch.join("full"));
        let wanted = picture(&live);
        prop_assert_eq!(picture(&scratch.join("delta")), wanted.clone());
        prop_assert_eq!(picture(&scratch.join("full")), wanted);
    }
}
