//! `cargo run --release -p hedgerow-replication --example figures -- [MEGABYTES] [DIRTY_PERMILLE] [FOLDER]`
//!
//! One state, one change, one delta, all the way to a durable copy and back to a folder, with bytes
//! and milliseconds for each step. Defaults: 64 MB, 10 ‰ of the 4 KiB pages dirty, a quarter of
//! each dirty page changed; stores and folders below FOLDER (default: the system's temporary one),
//! so fsync costs what that disk costs. The content is half noise, half text. Expected on two
//! cores and a fast disk: a delta of about 170 KB, encode and apply well below 100 ms each.

use std::error::Error;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use hedgerow_replication::vfs::OsVfs;
use hedgerow_replication::{
    Ancestor, CaptureOptions, Captured, CkptId, Layer, Receiver, Store, StoreConfig, Transfer,
    capture, restore,
};

const PAGE: usize = 4096;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let megabytes: usize = args.next().map_or(Ok(64), |text| text.parse())?;
    let dirty_permille: usize = args.next().map_or(Ok(10), |text| text.parse())?;
    let base = args.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = base.join(format!("hedgerow-figures-{}", std::process::id()));
    let live = dir.join("live");
    fs::create_dir_all(&live)?;
    let pages = megabytes * (1 << 20) / PAGE;
    fs::write(live.join("state"), content(pages))?;
    let outcome = run(&dir, &live, pages, dirty_permille);
    fs::remove_dir_all(&dir)?;
    outcome
}

fn run(dir: &Path, live: &Path, pages: usize, permille: usize) -> Result<(), Box<dyn Error>> {
    let open = |name: &str| -> Result<Store, Box<dyn Error>> {
        Ok(Store::open(Arc::new(OsVfs::new(dir.join(name))?), StoreConfig::default())?)
    };
    let (mut active, mut standby) = (open("active")?, open("standby")?);
    println!(
        "state {} KiB, {} of {pages} pages dirty",
        (pages * PAGE) >> 10,
        pages * permille / 1000
    );
    println!("{:32} {:>9} {:>9}", "", "KiB", "ms");
    let first = round(&mut active, &mut standby, live, 1, None)?;
    dirty(&live.join("state"), pages, pages * permille / 1000)?;
    round(&mut active, &mut standby, live, 2, Some(&first))?;

    let start = Instant::now();
    let reopened = open("standby")?;
    line("reopen the store", reopened.used_bytes(), start);
    let start = Instant::now();
    let state = reopened.manifest("shop", CkptId { epoch: 1, seq: 2 })?;
    restore(&state, &reopened.chunks("shop"), &dir.join("copy"), Default::default())?;
    line("restore", (pages * PAGE) as u64, start);
    let same = fs::read(dir.join("copy/state"))? == fs::read(live.join("state"))?;
    println!("restored copy is {}", if same { "identical" } else { "DIFFERENT" });
    Ok(())
}

fn round(
    active: &mut Store,
    standby: &mut Store,
    live: &Path,
    seq: u64,
    previous: Option<&Captured>,
) -> Result<Captured, Box<dyn Error>> {
    println!("-- {}", if previous.is_some() { "delta" } else { "full" });
    let start = Instant::now();
    let options = CaptureOptions {
        ckpt: CkptId { epoch: 1, seq },
        layer: Layer::Instance,
        page_bytes: 4096,
        now_ns: 0,
        previous,
        full: false,
    };
    let mut draft = active.begin("shop")?;
    let captured = capture(live, &options, &mut draft)?;
    line("capture", captured.report.read_bytes, start);
    let start = Instant::now();
    let before = standby.used_bytes();
    let _ = draft.commit(&captured.manifest)?;
    line("commit on the active", captured.manifest.bytes().len() as u64, start);
    let start = Instant::now();
    let chunks = active.chunks("shop");
    let ancestor = previous.map(|old| Ancestor { manifest: &old.manifest, chunks: &chunks });
    let sent = Transfer::encode(&captured.manifest, &chunks, ancestor, 3)?;
    line(
        "encode: bytes to send",
        sent.header.packed_bytes() + sent.header.bytes().len() as u64,
        start,
    );
    let manifest = sent.segments.iter().take(sent.header.manifest_segments as usize);
    println!("{:32} {:9.1}", "  of which manifest", kib(manifest.map(|s| s.len() as u64).sum()));
    println!("{:32} {:>9}", "  segments", sent.segments.len());

    let start = Instant::now();
    let mut receiver = Receiver::open(standby, "shop", sent.header.bytes())?;
    for (index, segment) in (0..).zip(&sent.segments) {
        receiver.accept(index, segment)?;
    }
    line("receive", sent.header.packed_bytes(), start);
    let start = Instant::now();
    let _ = receiver.finish(standby)?;
    line("apply until durable: stored", standby.used_bytes() - before, start);
    Ok(captured)
}

/// Every other page is noise, the rest are like a log.
fn content(pages: usize) -> Vec<u8> {
    let mut bytes = vec![0; pages * PAGE];
    for (number, page) in bytes.chunks_mut(PAGE).enumerate() {
        if number % 2 == 0 {
            fill(page, number as u64);
        } else {
            let text = format!("{number:08} GET /orders/{} 200 12 ms\n", number * 7919);
            page.iter_mut().zip(text.bytes().cycle()).for_each(|(to, from)| *to = from);
        }
    }
    bytes
}

/// Changes 1,024 bytes in each of `dirty` pages spread evenly.
fn dirty(file: &Path, pages: usize, dirty: usize) -> Result<(), Box<dyn Error>> {
    let file = fs::File::options().write(true).open(file)?;
    for number in 0..dirty {
        let page = number * pages / dirty.max(1);
        let mut bytes = [0; 1024];
        fill(&mut bytes, (number + 1_000_000) as u64);
        file.write_all_at(&bytes, (page * PAGE + 512) as u64)?;
    }
    Ok(())
}

fn fill(bytes: &mut [u8], seed: u64) {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(bytes);
}

fn line(what: &str, bytes: u64, since: Instant) {
    println!("{what:32} {:9.1} {:9.1}", kib(bytes), since.elapsed().as_secs_f64() * 1000.0);
}

fn kib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0
}
