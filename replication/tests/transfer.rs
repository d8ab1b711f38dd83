//! The wire side: resuming, refusing, and never trusting a byte.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod common;

use common::{CHUNK, SHOP, ckpt, content, encode, noise, open, path, receive, state};
use hedgerow_replication::chunk::MemChunks;
use hedgerow_replication::receive::Accepted;
use hedgerow_replication::store::StoreError;
use hedgerow_replication::transfer::{
    SEGMENT_PACKED_BYTES_MAX, SEGMENT_PLAIN_BYTES_MAX, SegmentId, TransferError, TransferHeader,
};
use hedgerow_replication::vfs::{Loss, MemVfs, Vfs};
use hedgerow_replication::{ChunkId, Receiver, Transfer};
use proptest::prelude::*;

/// A transfer of several segments.
fn big() -> (Transfer, Vec<u8>) {
    let mut chunks = MemChunks::default();
    let bytes = noise(1, 2 << 20);
    let state = state(1, &[("db", &bytes)], &mut chunks);
    (encode(&state, None, &chunks), bytes)
}

#[test]
fn segments_arrive_in_any_order_and_twice() {
    let (transfer, bytes) = big();
    assert!(transfer.segments.len() > 8);
    let mut store = open(&MemVfs::new(0));
    let mut receiver = Receiver::open(&mut store, SHOP, transfer.header.bytes()).unwrap();
    for index in receiver.missing().collect::<Vec<_>>().into_iter().rev() {
        let segment = &transfer.segments[index as usize];
        assert_eq!(receiver.accept(index, segment).unwrap(), Accepted::New);
        assert_eq!(receiver.accept(index, segment).unwrap(), Accepted::Known);
    }
    let durable = receiver.finish(&mut store).unwrap();
    assert_eq!(durable.ckpt(), ckpt(1));
    assert_eq!(content(&store, 1, "db"), bytes);
    assert_eq!(receiver.finish(&mut store).unwrap(), durable, "finishing twice is harmless");
}

#[test]
fn after_a_crash_only_missing_segments_are_asked_for() {
    let (transfer, _) = big();
    let all = u32::try_from(transfer.segments.len()).unwrap();
    for loss in Loss::ALL {
        let vfs = MemVfs::new(3);
        let mut store = open(&vfs);
        let mut receiver = Receiver::open(&mut store, SHOP, transfer.header.bytes()).unwrap();
        let before: Vec<u32> = (0..all).filter(|index| index % 3 != 1).collect();
        for &index in &before {
            receiver.accept(index, &transfer.segments[index as usize]).unwrap();
        }
        vfs.crash(loss);
        let mut store = open(&vfs);
        let [header] = &store.unfinished(SHOP).unwrap()[..] else { panic!("{loss:?}: forgotten") };
        let header = header.bytes().to_vec();
        let mut receiver = Receiver::open(&mut store, SHOP, header).unwrap();
        let missing: Vec<u32> = receiver.missing().collect();
        if loss == Loss::Nothing {
            let never: Vec<u32> = (0..all).filter(|index| index % 3 == 1).collect();
            assert_eq!(missing, never);
        }
        for &index in &missing {
            assert_eq!(
                receiver.accept(index, &transfer.segments[index as usize]).unwrap(),
                Accepted::New
            );
        }
        assert_eq!(receiver.finish(&mut store).unwrap().ckpt(), ckpt(1), "{loss:?}");
    }
}

#[test]
fn synced_progress_survives_a_power_loss() {
    let mut chunks = MemChunks::default();
    let state = state(1, &[("db", &noise(1, 6 << 20))], &mut chunks);
    let transfer = encode(&state, None, &chunks);
    let vfs = MemVfs::new(3);
    let mut store = open(&vfs);
    let mut receiver = Receiver::open(&mut store, SHOP, transfer.header.bytes()).unwrap();
    for index in 0..transfer.segments.len() - 1 {
        receiver.accept(u32::try_from(index).unwrap(), &transfer.segments[index]).unwrap();
    }
    vfs.crash(Loss::Whole);
    let receiver = Receiver::open(&mut open(&vfs), SHOP, transfer.header.bytes()).unwrap();
    let again = receiver.missing().count();
    assert!(again < transfer.segments.len() / 2, "{again} of {}", transfer.segments.len());
}

#[test]
fn a_corrupt_segment_is_refused_and_named() {
    let (transfer, _) = big();
    let mut store = open(&MemVfs::new(0));
    let mut receiver = Receiver::open(&mut store, SHOP, transfer.header.bytes()).unwrap();
    let mut bad = transfer.segments[4].clone();
    bad[77] ^= 1;
    let error = receiver.accept(4, &bad).unwrap_err();
    assert!(matches!(error, TransferError::CorruptSegment { index: 4, .. }));
    assert!(error.to_string().starts_with("segment 4 refused"), "{error}");
    assert!(matches!(
        receiver.accept(4, &bad[1..]),
        Err(TransferError::SegmentLength { index: 4, .. })
    ));
    let other = &transfer.segments[5];
    assert!(receiver.accept(4, other).is_err(), "a segment in the wrong place");
    let foreign = receiver.accept(4000, other);
    assert!(matches!(foreign, Err(TransferError::NoSuchSegment { index: 4000, .. })));
    assert!(receiver.missing().any(|index| index == 4));
    assert!(matches!(receiver.finish(&mut store), Err(TransferError::Unfinished { .. })));
}

#[test]
fn a_segment_that_rots_on_the_disk_is_asked_for_again() {
    let (transfer, _) = big();
    let vfs = MemVfs::new(0);
    let mut store = open(&vfs);
    let mut receiver = Receiver::open(&mut store, SHOP, transfer.header.bytes()).unwrap();
    for index in receiver.missing().collect::<Vec<_>>() {
        receiver.accept(index, &transfer.segments[index as usize]).unwrap();
    }
    let part = format!("{SHOP}/{}.part", transfer.header.id());
    let at = u64::from(transfer.header.segments[0].packed_bytes) + 9;
    vfs.flip_bit(&part, at, 3);
    let error = receiver.finish(&mut store).unwrap_err();
    assert!(matches!(error, TransferError::CorruptSegment { index: 1, .. }), "{error}");
    assert_eq!(receiver.missing().collect::<Vec<_>>(), [1]);
    receiver.accept(1, &transfer.segments[1]).unwrap();
    assert_eq!(receiver.finish(&mut store).unwrap().ckpt(), ckpt(1));
}

#[test]
fn a_delta_is_small_and_rebuilds_the_state() {
    let mut chunks = MemChunks::default();
    let mut db = noise(1, 4 << 20);
    let first = state(1, &[("db", &db), ("log", b"one\n")], &mut chunks);
    db[5 * CHUNK + 100..5 * CHUNK + 150].copy_from_slice(&noise(2, 50));
    let second = state(2, &[("db", &db), ("copy", &db), ("log", b"one\ntwo\n")], &mut chunks);
    let delta = encode(&second, Some(&first), &chunks);
    // "copy" repeats 256 chunk names in the manifest: one match. "db" lends it its base.
    assert!(delta.header.packed_bytes() < 2000, "{} bytes", delta.header.packed_bytes());
    let mut store = open(&MemVfs::new(0));
    let _ = receive(&mut store, &encode(&first, None, &chunks)).unwrap();
    let _ = receive(&mut store, &delta).unwrap();
    assert_eq!(content(&store, 2, "copy"), db);
    assert_eq!(content(&store, 2, "log"), b"one\ntwo\n");
}

#[test]
fn a_delta_without_its_ancestor_is_refused_at_once() {
    let mut chunks = MemChunks::default();
    let first = state(1, &[("db", b"one")], &mut chunks);
    let second = state(2, &[("db", b"two")], &mut chunks);
    let delta = encode(&second, Some(&first), &chunks);
    let error = Receiver::open(&mut open(&MemVfs::new(0)), SHOP, delta.header.bytes()).unwrap_err();
    assert!(
        matches!(error, TransferError::AncestorMissing { from } if from == first.hash()),
        "{error}"
    );
}

#[test]
fn an_ancestor_whose_manifest_has_rotted_is_not_here_and_the_whole_state_is_taken() {
    let mut chunks = MemChunks::default();
    let first = state(1, &[("db", b"one")], &mut chunks);
    let second = state(2, &[("db", b"two")], &mut chunks);
    let vfs = MemVfs::new(0);
    let mut store = open(&vfs);
    let _ = receive(&mut store, &encode(&first, None, &chunks)).unwrap();
    let pack = format!("{SHOP}/{}", vfs.list(SHOP).unwrap()[0].name);
    vfs.flip_bit(&pack, 8 + 36 + 3 + 36 + 20, 0); // head, chunk record, manifest record's head
    assert!(matches!(store.manifest(SHOP, first.ckpt), Err(StoreError::ManifestRotten { .. })));
    let delta = encode(&second, Some(&first), &chunks);
    let error = Receiver::open(&mut store, SHOP, delta.header.bytes()).unwrap_err();
    assert!(matches!(error, TransferError::AncestorMissing { .. }), "{error}");
    let _ = receive(&mut store, &encode(&second, None, &chunks)).unwrap();
    assert_eq!(content(&store, 2, "db"), b"two");
}

#[test]
fn a_checkpoint_number_names_one_state_only() {
    let mut chunks = MemChunks::default();
    let one = state(1, &[("db", b"one")], &mut chunks);
    let two = state(1, &[("db", b"two")], &mut chunks);
    let mut store = open(&MemVfs::new(0));
    let durable = receive(&mut store, &encode(&one, None, &chunks)).unwrap();
    let again = receive(&mut store, &encode(&one, None, &chunks)).unwrap();
    assert_eq!(durable, again, "sending the same again is harmless");
    let conflict = receive(&mut store, &encode(&two, None, &chunks));
    assert!(matches!(conflict, Err(TransferError::Store(StoreError::StateConflict { .. }))));
}

#[test]
fn a_new_header_replaces_an_unfinished_transfer() {
    let (transfer, _) = big();
    let vfs = MemVfs::new(0);
    let mut store = open(&vfs);
    let mut receiver = Receiver::open(&mut store, SHOP, transfer.header.bytes()).unwrap();
    receiver.accept(1, &transfer.segments[1]).unwrap();
    let mut chunks = MemChunks::default();
    let second = state(2, &[("db", b"new")], &mut chunks);
    let _ = receive(&mut store, &encode(&second, None, &chunks)).unwrap();
    assert!(store.unfinished(SHOP).unwrap().is_empty());
    assert!(vfs.used_bytes() < 2000, "{} bytes stay", vfs.used_bytes());
}

#[test]
fn segments_keep_their_limits_whatever_the_content() {
    let mut chunks = MemChunks::default();
    let mut mixed = noise(1, 1 << 20);
    mixed.extend(b"compressible ".repeat(300_000));
    mixed.extend(noise(2, 1 << 20));
    let state = state(1, &[("db", &mixed)], &mut chunks);
    let transfer = encode(&state, None, &chunks);
    for (segment, declared) in transfer.segments.iter().zip(&transfer.header.segments) {
        assert!(segment.len() <= SEGMENT_PACKED_BYTES_MAX as usize);
        assert!(declared.plain_bytes <= SEGMENT_PLAIN_BYTES_MAX);
        assert_eq!(SegmentId::of(segment), declared.id);
    }
    let mut store = open(&MemVfs::new(0));
    let _ = receive(&mut store, &transfer).unwrap();
    assert_eq!(content(&store, 1, "db"), mixed);
    assert_eq!(transfer.header.bytes(), encode(&state, None, &chunks).header.bytes());
}

/// A lying sender: the header is consistent, a chunk is not what the manifest says.
#[test]
fn a_chunk_that_is_not_what_the_manifest_says_is_refused() {
    use hedgerow_replication::chunk::{ChunkSource, MemChunks};
    struct Liar(MemChunks, ChunkId);
    impl ChunkSource for Liar {
        fn read_chunk(&self, id: &ChunkId) -> Result<Vec<u8>, StoreError> {
            let mut bytes = self.0.read_chunk(id)?;
            if *id == self.1 {
                bytes[0] ^= 1;
            }
            Ok(bytes)
        }
    }
    let mut chunks = MemChunks::default();
    let bytes = noise(1, 5 * CHUNK);
    let state = state(1, &[("db", &bytes)], &mut chunks);
    let victim = state.file(&path("db")).unwrap().chunks(state.chunk_bytes).nth(3).unwrap().id;
    let transfer = encode(&state, None, &Liar(chunks, victim));
    let mut store = open(&MemVfs::new(0));
    let error = receive(&mut store, &transfer).unwrap_err();
    assert!(matches!(error, TransferError::ChunkMismatch { id, .. } if id == victim), "{error}");
    assert!(store.states(SHOP).is_empty());
}

#[test]
fn the_header_has_golden_bytes() {
    let mut chunks = MemChunks::default();
    let one = state(1, &[("db", b"hedgerow")], &mut chunks);
    let two = state(2, &[("db", b"hedgerows")], &mut chunks);
    let delta = encode(&two, Some(&one), &chunks);
    // The hashes of segments depend on the zstd version, the layout must not: cut them out.
    let mut bytes = delta.header.bytes().to_vec();
    let at = |needle: &[u8], bytes: &[u8]| {
        bytes.windows(32).position(|window| window == needle).expect("the hash is in the header")
    };
    for segment in &delta.header.segments {
        let start = at(&segment.id.0, &bytes);
        bytes.splice(start..start + 33, *b"<id>");
    }
    assert_eq!(hex(&bytes), GOLDEN_HEADER, "a wire change: raise the version in the magic");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const GOLDEN_HEADER: &str = concat!(
    "4847540101fd7c2f61bde5b30c8ae0c659ec37ea13dc44f783428719321eace02e40520d5328c7d0a86d6317",
    "583da9128486b6463d7eff71aaa3195e3756884867208ec1070102450109023c69643e453c69643e11",
);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn arbitrary_header_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        _ = TransferHeader::open(bytes.clone());
        _ = TransferHeader::open([b"HGT\x01".as_slice(), &bytes].concat());
    }

    /// One changed byte anywhere in a header is refused, or changes what the header says.
    #[test]
    fn a_changed_header_never_yields_another_state(at in 0usize..150, bit in 0u8..8) {
        let mut chunks = MemChunks::default();
        let one = state(1, &[("db", b"hedgerow")], &mut chunks);
        let transfer = encode(&one, None, &chunks);
        let mut bytes = transfer.header.bytes().to_vec();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        let mut store = open(&MemVfs::new(0));
        if let Ok(mut receiver) = Receiver::open(&mut store, SHOP, bytes) {
            for index in receiver.missing().collect::<Vec<_>>() {
                if let Some(segment) = transfer.segments.get(index as usize) {
                    _ = receiver.accept(index, segment);
                }
            }
            if let Ok(durable) = receiver.finish(&mut store) {
                prop_assert_eq!(durable.hash(), one.hash());
            }
        }
    }
}
