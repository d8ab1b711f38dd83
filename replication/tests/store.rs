//! The store's other promises: quota, rot, discarding, collecting.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod common;

use std::sync::Arc;

use common::{CHUNK, SHOP, ckpt, content, encode, noise, open, path, receive, state};
use hedgerow_replication::chunk::{ChunkSink, ChunkSource, MemChunks};
use hedgerow_replication::store::{ScrubCursor, StoreError};
use hedgerow_replication::transfer::TransferError;
use hedgerow_replication::vfs::{Loss, MemVfs, Vfs};
use hedgerow_replication::{Receiver, Store, StoreConfig};

fn seqs(store: &Store) -> Vec<u64> {
    store.states(SHOP).iter().map(|state| state.ckpt.seq).collect()
}

/// Commits states of `count` checkpoints, each of which changes one of eight chunks.
fn fill(store: &mut Store, count: u64) -> Vec<Vec<u8>> {
    let mut db = noise(0, 8 * CHUNK);
    let mut all = Vec::new();
    for seq in 1..=count {
        let at = usize::try_from(seq % 8).unwrap() * CHUNK;
        db[at..at + CHUNK].copy_from_slice(&noise(seq, CHUNK));
        commit(store, seq, &db);
        all.push(db.clone());
    }
    all
}

fn commit(store: &mut Store, seq: u64, db: &[u8]) {
    let mut chunks = MemChunks::default();
    let state = state(seq, &[("db", db)], &mut chunks);
    let mut draft = store.begin(SHOP).unwrap();
    for (id, _) in state.chunks() {
        draft.put(id, &chunks.read_chunk(&id).unwrap()).unwrap();
    }
    assert_eq!(draft.commit(&state).unwrap().ckpt(), ckpt(seq));
}

#[test]
fn the_last_two_states_and_the_pinned_ones_stay() {
    let vfs = MemVfs::new(0);
    let mut store = open(&vfs);
    let contents = fill(&mut store, 6);
    assert_eq!(seqs(&store), [1, 2, 3, 4, 5, 6]);
    store.gc(SHOP, &[ckpt(2)]).unwrap();
    assert_eq!(seqs(&store), [2, 5, 6]);
    for seq in [2, 5, 6] {
        assert_eq!(content(&store, seq, "db"), contents[usize::try_from(seq).unwrap() - 1]);
    }
    store.gc(SHOP, &[]).unwrap();
    assert_eq!(seqs(&store), [5, 6]);
    let again = open(&vfs);
    assert_eq!(content(&again, 6, "db"), contents[5]);
    assert!(again.states(SHOP).ends_with(&store.states(SHOP)));
}

#[test]
fn hundreds_of_checkpoints_neither_fill_the_disk_nor_wear_it_out() {
    let vfs = MemVfs::new(0);
    let mut store = open(&vfs);
    let mut db = noise(0, 64 * CHUNK);
    let (mut stored, mut rewritten) = (db.len() as u64, 0);
    for seq in 1..=300 {
        // A growing part and a hot spot: the worst for one pack per checkpoint.
        let at = usize::try_from(seq * 13 % 50).unwrap() * CHUNK;
        db[at..at + CHUNK].copy_from_slice(&noise(seq, CHUNK));
        db[60 * CHUNK..61 * CHUNK].copy_from_slice(&noise(seq + 10_000, CHUNK));
        commit(&mut store, seq, &db);
        stored += 2 * CHUNK as u64;
        rewritten += store.gc(SHOP, &[]).unwrap().rewritten_bytes;
    }
    assert_eq!(seqs(&store), [299, 300]);
    assert_eq!(content(&open(&vfs), 300, "db"), db);
    let packs = vfs.list(SHOP).unwrap().len();
    assert!(packs <= 68, "{packs} packs");
    let held = store.used_bytes();
    assert!(held < 3 * db.len() as u64, "{held} bytes for a state of {}", db.len());
    println!("stored {stored}, rewritten {rewritten}, held {held} in {packs} packs");
    assert!(rewritten < stored / 3, "{rewritten} bytes rewritten for {stored} stored");
}

#[test]
fn the_ancestor_of_an_unfinished_transfer_stays() {
    let mut store = open(&MemVfs::new(0));
    let mut chunks = MemChunks::default();
    let all: Vec<_> =
        (1..=5u64).map(|seq| state(seq, &[("db", &noise(seq, 3 * CHUNK))], &mut chunks)).collect();
    let _ = receive(&mut store, &encode(&all[0], None, &chunks)).unwrap();
    let slow = encode(&all[4], Some(&all[0]), &chunks);
    let mut receiver = Receiver::open(&mut store, SHOP, slow.header.bytes()).unwrap();
    for one in &all[1..4] {
        let mut draft = store.begin(SHOP).unwrap();
        for (id, _) in one.chunks() {
            draft.put(id, &chunks.read_chunk(&id).unwrap()).unwrap();
        }
        let _ = draft.commit(one).unwrap();
        store.gc(SHOP, &[]).unwrap();
    }
    assert_eq!(seqs(&store), [1, 3, 4]);
    for (index, segment) in (0..).zip(&slow.segments) {
        receiver.accept(index, segment).unwrap();
    }
    let _ = receiver.finish(&mut store).unwrap();
    store.gc(SHOP, &[]).unwrap();
    assert_eq!(seqs(&store), [4, 5]);
}

#[test]
fn a_discarded_state_stays_away_and_harms_no_other() {
    let vfs = MemVfs::new(0);
    let mut store = open(&vfs);
    let contents = fill(&mut store, 5);
    store.discard(SHOP, ckpt(4)).unwrap();
    for store in [Some(store), None] {
        let store = store.unwrap_or_else(|| open(&vfs));
        assert_eq!(seqs(&store), [1, 2, 3, 5]);
        assert_eq!(content(&store, 5, "db"), contents[4], "it shares chunks with 4");
    }
    let gone = open(&vfs).discard(SHOP, ckpt(4));
    assert!(matches!(gone, Err(StoreError::UnknownState { .. })));
}

#[test]
fn discarding_is_safe_at_every_step_and_final_once_it_returns() {
    let before = |seed| {
        let vfs = MemVfs::new(seed);
        let contents = fill(&mut open(&vfs), 5);
        (vfs, contents)
    };
    for loss in Loss::ALL {
        for seed in 0..30 {
            let (vfs, contents) = before(seed);
            let mut store = open(&vfs);
            // Thirty steps are more than discarding takes: the last seeds crash after it.
            vfs.crash_before_step(vfs.steps() + seed);
            let discarded = store.discard(SHOP, ckpt(4)).is_ok();
            vfs.crash(loss);
            let store = open(&vfs);
            assert!(!discarded || seqs(&store) == [1, 2, 3, 5], "{loss:?} {seed}: it came back");
            assert_eq!(discarded, seed >= 7, "{loss:?} {seed}: fewer or more steps than thought");
            for seq in [1, 2, 3, 5] {
                let wanted = &contents[usize::try_from(seq).unwrap() - 1];
                assert_eq!(&content(&store, seq, "db"), wanted, "{loss:?} {seed}");
            }
        }
    }
}

#[test]
fn a_quota_refuses_clearly_and_before_writing() {
    let vfs = MemVfs::new(0);
    let config = StoreConfig { quota_bytes: 200_000, ..StoreConfig::default() };
    let mut store = Store::open(Arc::new(vfs.clone()), config).unwrap();
    let mut chunks = MemChunks::default();
    let small = state(1, &[("db", &noise(1, 60_000))], &mut chunks);
    let large = state(2, &[("db", &noise(2, 150_000))], &mut chunks);
    let _ = receive(&mut store, &encode(&small, None, &chunks)).unwrap();
    let before = vfs.used_bytes();
    let error = receive(&mut store, &encode(&large, None, &chunks)).unwrap_err();
    assert!(matches!(error, TransferError::Store(StoreError::Quota { .. })), "{error}");
    assert!(error.to_string().contains("of the quota of 200000"), "{error}");
    assert_eq!(vfs.used_bytes(), before);
    let mut draft = store.begin(SHOP).unwrap();
    let put =
        large.chunks().try_for_each(|(id, _)| draft.put(id, &chunks.read_chunk(&id).unwrap()));
    assert!(matches!(put, Err(StoreError::Quota { .. })));
    drop(draft);
    assert_eq!(vfs.used_bytes(), before, "a dropped draft leaves nothing");
    assert_eq!(seqs(&store), [1]);
}

#[test]
fn a_full_disk_is_said_and_passes() {
    let vfs = MemVfs::new(0);
    let mut store = open(&vfs);
    let mut chunks = MemChunks::default();
    let one = state(1, &[("db", &noise(1, 100_000))], &mut chunks);
    let transfer = encode(&one, None, &chunks);
    vfs.set_capacity_bytes(150_000);
    let error = receive(&mut store, &transfer).unwrap_err();
    assert!(matches!(error, TransferError::Store(StoreError::DiskFull { .. })), "{error}");
    assert!(store.states(SHOP).is_empty());
    vfs.set_capacity_bytes(1 << 30);
    let _ = receive(&mut store, &transfer).unwrap();
}

#[test]
fn the_scrub_finds_rot_and_a_peer_repairs_it() {
    let vfs = MemVfs::new(0);
    let mut store = open(&vfs);
    let contents = fill(&mut store, 2);
    let file = store.manifest(SHOP, ckpt(2)).unwrap();
    let victim = file.file(&path("db")).unwrap().chunks(16384).nth(5).unwrap().id;
    let bytes = store.chunks(SHOP).read_chunk(&victim).unwrap();
    let pack = vfs.list(SHOP).unwrap()[0].name.clone();
    let raw = {
        let file = vfs.open(&format!("{SHOP}/{pack}")).unwrap();
        let mut all = vec![0; usize::try_from(file.len_bytes().unwrap()).unwrap()];
        file.read_at(0, &mut all).unwrap();
        all
    };
    let at = raw.windows(64).position(|window| window == &bytes[..64]).unwrap();
    vfs.flip_bit(&format!("{SHOP}/{pack}"), at as u64 + 10, 0);
    let read = store.chunks(SHOP).read_chunk(&victim);
    assert!(matches!(read, Err(StoreError::ChunkRotten { id, .. }) if id == victim));

    let verified = store.verify(SHOP, ckpt(2));
    assert!(matches!(verified, Err(StoreError::ChunkRotten { id, .. }) if id == victim));

    let (mut cursor, mut chunks) = (ScrubCursor::default(), 0);
    let (mut rotten, mut lost) = (Vec::new(), Vec::new());
    loop {
        let step = store.scrub(cursor, 40_000).unwrap();
        rotten.extend(step.rotten);
        lost.extend(step.lost);
        chunks += step.chunks;
        let Some(next) = step.next else { break };
        cursor = next;
    }
    assert_eq!(chunks, 9, "eight and the one that changed");
    assert_eq!(rotten.len(), 1);
    assert_eq!((rotten[0].chunk, rotten[0].instance.as_str()), (victim, SHOP));
    assert_eq!(lost.iter().map(|(_, state)| state.ckpt.seq).collect::<Vec<_>>(), [1, 2]);
    assert!(store.states(SHOP).is_empty(), "a rotten state must not be taken over from");

    let wrong = store.repair(SHOP, &[(victim, vec![1, 2, 3])]);
    assert!(matches!(wrong, Err(StoreError::ChunkRotten { .. })));
    store.repair(SHOP, &[(victim, bytes)]).unwrap();
    store.verify(SHOP, ckpt(2)).unwrap();
    for store in [Some(store), None] {
        let store = store.unwrap_or_else(|| open(&vfs));
        assert_eq!(content(&store, 2, "db"), contents[1]);
        assert_eq!(seqs(&store), [1, 2]);
    }
}

#[test]
fn what_a_condemned_state_lacks_is_written_anew_by_the_next() {
    let vfs = MemVfs::new(0);
    let mut store = open(&vfs);
    let contents = fill(&mut store, 2);
    assert_eq!(store.condemn(SHOP, ckpt(2)).unwrap(), [], "it can be read");
    assert_eq!(store.condemn(SHOP, ckpt(9)).unwrap(), [ckpt(9)], "it was never there");
    let pack = format!("{SHOP}/{}", vfs.list(SHOP).unwrap()[0].name);
    vfs.flip_bit(&pack, 60_000, 0);
    assert_eq!(store.condemn(SHOP, ckpt(2)).unwrap(), [ckpt(1), ckpt(2)]);
    assert!(store.states(SHOP).is_empty());
    commit(&mut store, 3, &contents[1]);
    // Nor does it rest on what is rotten after a restart.
    for store in [Some(store), None] {
        let store = store.unwrap_or_else(|| open(&vfs));
        assert_eq!(content(&store, 3, "db"), contents[1]);
    }
}

#[test]
fn a_rotten_manifest_is_noticed_by_the_scrub() {
    let vfs = MemVfs::new(0);
    let mut store = open(&vfs);
    let _ = receive_one(&mut store);
    let pack = format!("{SHOP}/{}", vfs.list(SHOP).unwrap()[0].name);
    vfs.flip_bit(&pack, 8 + 36 + 3 + 36 + 20, 0); // head, chunk record, manifest record's head
    assert!(matches!(store.manifest(SHOP, ckpt(1)), Err(StoreError::ManifestRotten { .. })));
    let report = store.scrub(ScrubCursor::default(), u64::MAX).unwrap();
    assert_eq!((report.rotten.len(), report.lost.len(), report.next), (0, 1, None));
    assert!(store.states(SHOP).is_empty() && open(&vfs).states(SHOP).is_empty());
}

#[test]
fn a_damaged_pack_is_reported_and_its_state_can_be_sent_again() {
    let vfs = MemVfs::new(0);
    let mut chunks = MemChunks::default();
    let one = state(1, &[("db", &noise(1, 5 * CHUNK))], &mut chunks);
    let transfer = encode(&one, None, &chunks);
    let _ = receive(&mut open(&vfs), &transfer).unwrap();
    let pack = format!("{SHOP}/{}", vfs.list(SHOP).unwrap()[0].name);
    let len = vfs.list(SHOP).unwrap()[0].len_bytes;
    vfs.flip_bit(&pack, len - 100, 1);
    let mut store = open(&vfs);
    assert_eq!(store.report().damaged, [pack]);
    assert!(store.states(SHOP).is_empty());
    let _ = receive(&mut store, &transfer).unwrap();
    assert_eq!(seqs(&open(&vfs)), [1]);
}

#[test]
fn files_of_others_are_left_alone() {
    let vfs = MemVfs::new(0);
    let _ = receive_one(&mut open(&vfs));
    for name in ["README", "shop/notes.txt", "shop/zz.pack"] {
        vfs.create(name).unwrap();
    }
    vfs.create("shop/0000000000000099.tmp").unwrap();
    let store = open(&vfs);
    assert_eq!(store.report().foreign, ["README", "shop/notes.txt", "shop/zz.pack"]);
    assert_eq!(store.report().leftovers, ["shop/0000000000000099.tmp"]);
    assert_eq!(seqs(&store), [1]);
}

fn receive_one(store: &mut Store) -> hedgerow_replication::Durable {
    let mut chunks = MemChunks::default();
    let one = state(1, &[("db", b"one")], &mut chunks);
    receive(store, &encode(&one, None, &chunks)).unwrap()
}

#[test]
fn instance_names_cannot_leave_the_store() {
    let mut store = open(&MemVfs::new(0));
    for bad in ["", ".", "..", "../etc", "a/b", "a\0", ".hidden", &"x".repeat(101), "é"] {
        assert!(matches!(store.begin(bad), Err(StoreError::BadInstance { .. })), "{bad:?}");
    }
    store.begin("shop-1.a_b@c").unwrap();
}

#[test]
fn forgetting_an_instance_frees_its_room() {
    let vfs = MemVfs::new(0);
    let mut store = open(&vfs);
    fill(&mut store, 3);
    store.forget(SHOP).unwrap();
    assert_eq!((store.used_bytes(), vfs.used_bytes()), (0, 0));
    assert!(open(&vfs).states(SHOP).is_empty());
}

#[test]
fn a_state_whose_chunks_are_not_here_is_not_committed() {
    let mut chunks = MemChunks::default();
    let one = state(1, &[("db", &noise(1, 3 * CHUNK))], &mut chunks);
    let mut store = open(&MemVfs::new(0));
    let error = store.begin(SHOP).unwrap().commit(&one).unwrap_err();
    assert!(matches!(error, StoreError::Incomplete { missing: 3, .. }), "{error}");
}
