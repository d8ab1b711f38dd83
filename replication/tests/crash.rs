//! Power is lost before every single write, sync, rename and removal of receiving and collecting,
//! and the disk keeps no more than it must: nothing acknowledged is lost, and nobody has to repair
//! anything. The last tests plant the fault this is about (acknowledging before the sync) and show
//! that the checker would see it.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod common;

use std::io;
use std::sync::Arc;

use common::{CHUNK, SHOP, ckpt, content, encode, noise, receive, state};
use hedgerow_replication::chunk::MemChunks;
use hedgerow_replication::store::{State, StoreError};
use hedgerow_replication::transfer::TransferError;
use hedgerow_replication::vfs::{Listed, Loss, MemVfs, Vfs, VfsFile};
use hedgerow_replication::{SealedManifest, Store, StoreConfig, Transfer};

/// Six states of 16 chunks. Each changes the same ten and one other, so that most of every old pack
/// is dead and something in it is not: collecting has to gather.
struct Script {
    states: Vec<SealedManifest>,
    contents: Vec<Vec<u8>>,
    full: Vec<Transfer>,
    deltas: Vec<Transfer>,
}

impl Script {
    fn new() -> Self {
        let mut chunks = MemChunks::default();
        let mut db = noise(0, 16 * CHUNK);
        let (mut states, mut contents) = (Vec::new(), Vec::new());
        for seq in 1..=6u64 {
            for changed in (0..10).chain([10 + seq % 6]) {
                let at = usize::try_from(changed).unwrap() * CHUNK;
                db[at..at + CHUNK].copy_from_slice(&noise(seq * 100 + changed, CHUNK));
            }
            states.push(state(seq, &[("db", &db)], &mut chunks));
            contents.push(db.clone());
        }
        let full = states.iter().map(|state| encode(state, None, &chunks)).collect();
        let delta = |two: &[SealedManifest]| encode(&two[1], Some(&two[0]), &chunks);
        let mut deltas = vec![encode(&states[0], None, &chunks)];
        deltas.extend(states.windows(2).map(delta));
        Self { states, contents, full, deltas }
    }

    /// Receives and collects until the end or the first error; says what was acknowledged, and how
    /// much was gathered.
    fn run(&self, disk: &dyn Fn() -> Arc<dyn Vfs>, acked: &mut Vec<State>) -> Result<u64, String> {
        let mut gathered_bytes = 0;
        let mut store = Store::open(disk(), StoreConfig::default()).map_err(|e| e.to_string())?;
        for (index, delta) in self.deltas.iter().enumerate() {
            let done = match receive(&mut store, delta) {
                Err(TransferError::AncestorMissing { .. }) => {
                    receive(&mut store, &self.full[index])
                }
                other => other,
            };
            let durable = done.map_err(|error| error.to_string())?;
            let state = State { ckpt: durable.ckpt(), hash: durable.hash() };
            if acked.last().is_none_or(|last| *last < state) {
                acked.push(state);
            }
            let report = store.gc(SHOP, &[]).map_err(|error| error.to_string())?;
            gathered_bytes += report.rewritten_bytes;
        }
        Ok(gathered_bytes)
    }

    /// What must be true when the store is opened after a crash.
    fn check(&self, disk: Arc<dyn Vfs>, acked: &[State]) -> Result<(), String> {
        let store = Store::open(disk, StoreConfig::default()).map_err(|e| e.to_string())?;
        let states = store.states(SHOP);
        let mut last_two = acked.iter().rev().take(2);
        if let Some(lost) = last_two.find(|one| !states.contains(one)) {
            return Err(format!("acknowledged {} is lost; left: {states:?}", lost.ckpt));
        }
        if !store.report().damaged.is_empty() {
            return Err(format!("damaged: {:?}", store.report().damaged));
        }
        for state in states {
            let index = usize::try_from(state.ckpt.seq).unwrap() - 1;
            assert_eq!(state.hash, self.states[index].hash());
            if content(&store, state.ckpt.seq, "db") != self.contents[index] {
                return Err(format!("{} has other bytes", state.ckpt));
            }
        }
        Ok(())
    }
}

fn same(vfs: &MemVfs) -> impl Fn() -> Arc<dyn Vfs> {
    let vfs = vfs.clone();
    move || Arc::new(vfs.clone())
}

#[test]
fn a_crash_before_any_step_loses_nothing_acknowledged() {
    crash_everywhere(Loss::Whole, 1);
}

#[test]
fn a_crash_that_tears_writes_loses_nothing_acknowledged() {
    crash_everywhere(Loss::TornPrefix, 2);
}

#[test]
fn a_crash_that_keeps_random_sectors_loses_nothing_acknowledged() {
    crash_everywhere(Loss::Sectors, 2);
}

#[test]
fn a_killed_process_loses_nothing_acknowledged() {
    crash_everywhere(Loss::Nothing, 1);
}

fn crash_everywhere(loss: Loss, seeds: u64) {
    let script = Script::new();
    let rehearsal = MemVfs::new(0);
    let gathered_bytes = script.run(&same(&rehearsal), &mut Vec::new()).unwrap();
    assert!(gathered_bytes > 0, "the script has to make the collector gather");
    let steps = rehearsal.steps();
    let mut resumed = 0;
    for (seed, step) in (0..seeds).flat_map(|seed| (0..steps).map(move |step| (seed, step))) {
        let at = format!("{loss:?}, seed {seed}, before step {step}");
        let vfs = MemVfs::new(seed * 1000 + step);
        let mut acked = Vec::new();
        let check = |acked: &[State]| {
            script.check(Arc::new(vfs.clone()), acked).unwrap_or_else(|error| {
                panic!("{at}: {error}");
            });
        };
        vfs.crash_before_step(step);
        script.run(&same(&vfs), &mut acked).unwrap_err();
        vfs.crash(loss);
        check(&acked);
        let opened = common::open(&vfs);
        resumed += u32::from(!opened.unfinished(SHOP).unwrap().is_empty());
        // What an opened store lists may be acknowledged, so it must not be postponed only.
        let listed = opened.states(SHOP);
        vfs.crash(Loss::Whole);
        assert_eq!(common::open(&vfs).states(SHOP), listed, "{at}");
        check(&acked);
        script.run(&same(&vfs), &mut acked).unwrap_or_else(|error| panic!("{at}: {error}"));
        check(&acked);
        assert_eq!(acked.last().unwrap().ckpt, ckpt(6), "{at}");
        assert_no_leftovers(&vfs, &at);
    }
    println!("{loss:?}: {} crashes, {resumed} with a transfer to resume", steps * seeds);
    assert!(resumed > 0);
}

fn assert_no_leftovers(vfs: &MemVfs, at: &str) {
    let names = vfs.list(SHOP).unwrap();
    let odd = names.iter().find(|found| !found.name.ends_with(".pack"));
    assert_eq!(odd, None, "{at}");
}

#[test]
fn a_failed_sync_at_any_step_stops_the_store_and_loses_nothing_acknowledged() {
    let script = Script::new();
    let rehearsal = MemVfs::new(0);
    script.run(&same(&rehearsal), &mut Vec::new()).unwrap();
    for step in 0..rehearsal.steps() {
        let vfs = MemVfs::new(step);
        let mut acked = Vec::new();
        vfs.fail_sync_at_step(step);
        if script.run(&same(&vfs), &mut acked).is_ok() {
            continue; // No sync was left to fail.
        }
        vfs.crash(Loss::Whole);
        script.check(Arc::new(vfs.clone()), &acked).unwrap_or_else(|e| panic!("{step}: {e}"));
        script.run(&same(&vfs), &mut acked).unwrap();
    }
}

#[test]
fn what_is_listed_or_acknowledged_after_a_failed_sync_and_a_restart_survives_a_power_cut() {
    let script = Script::new();
    let rehearsal = MemVfs::new(0);
    script.run(&same(&rehearsal), &mut Vec::new()).unwrap();
    for (step, goes_on) in (0..rehearsal.steps()).flat_map(|step| [(step, false), (step, true)]) {
        let vfs = MemVfs::new(step);
        let mut acked = Vec::new();
        vfs.fail_sync_at_step(step);
        if script.run(&same(&vfs), &mut acked).is_ok() {
            continue; // No sync was left to fail.
        }
        vfs.crash(Loss::Nothing);
        let listed = common::open(&vfs).states(SHOP);
        if goes_on {
            script.run(&same(&vfs), &mut acked).unwrap();
        } else {
            acked = listed;
        }
        vfs.crash(Loss::Whole);
        script.check(Arc::new(vfs.clone()), &acked).unwrap_or_else(|e| panic!("{step}: {e}"));
    }
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_until_reopened() {
    let script = Script::new();
    let vfs = MemVfs::new(1);
    let mut store = common::open(&vfs);
    let _ = receive(&mut store, &script.deltas[0]).unwrap();
    vfs.fail_sync_at_step(vfs.steps());
    assert!(receive(&mut store, &script.deltas[1]).is_err());
    let again = receive(&mut store, &script.deltas[1]);
    assert!(matches!(again, Err(TransferError::Store(StoreError::Stopped))), "{again:?}");
    let mut store = common::open(&vfs);
    let _ = receive(&mut store, &script.deltas[1]).unwrap();
}

/// The planted fault: a disk that says "synced" and does nothing, which is what acknowledging
/// before the sync comes to.
#[derive(Clone, Debug)]
struct IgnoresSync {
    disk: MemVfs,
    files: bool,
    folders: bool,
}

#[derive(Debug)]
struct IgnoresFileSync(Box<dyn VfsFile>);

impl IgnoresSync {
    fn wrap(&self, file: Box<dyn VfsFile>) -> Box<dyn VfsFile> {
        if self.files { Box::new(IgnoresFileSync(file)) } else { file }
    }
}

impl Vfs for IgnoresSync {
    fn create(&self, path: &str) -> io::Result<Box<dyn VfsFile>> {
        Ok(self.wrap(self.disk.create(path)?))
    }
    fn open(&self, path: &str) -> io::Result<Box<dyn VfsFile>> {
        Ok(self.wrap(self.disk.open(path)?))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &str) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn create_folder(&self, path: &str) -> io::Result<()> {
        self.disk.create_folder(path)
    }
    fn remove_folder(&self, path: &str) -> io::Result<()> {
        self.disk.remove_folder(path)
    }
    fn sync_folder(&self, path: &str) -> io::Result<()> {
        if self.folders { Ok(()) } else { self.disk.sync_folder(path) }
    }
    fn list(&self, path: &str) -> io::Result<Vec<Listed>> {
        self.disk.list(path)
    }
}

impl VfsFile for IgnoresFileSync {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, bytes)
    }
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, into)
    }
    fn len_bytes(&self) -> io::Result<u64> {
        self.0.len_bytes()
    }
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether crashes before each step, on a disk that ignores syncs, are seen as lost states.
fn faults_seen(files: bool, folders: bool, loss: Loss) -> u32 {
    let script = Script::new();
    let mut seen = 0;
    for step in (5..95).step_by(3) {
        let vfs = MemVfs::new(step);
        vfs.crash_before_step(step);
        let faulty = IgnoresSync { disk: vfs.clone(), files, folders };
        let mut acked = Vec::new();
        _ = script.run(&|| Arc::new(faulty.clone()), &mut acked);
        vfs.crash(loss);
        seen += u32::from(script.check(Arc::new(vfs), &acked).is_err());
    }
    seen
}

#[test]
fn acknowledging_before_the_file_sync_would_be_caught() {
    for loss in [Loss::Whole, Loss::TornPrefix, Loss::Sectors] {
        assert!(faults_seen(true, false, loss) > 5, "{loss:?}");
    }
}

#[test]
fn acknowledging_before_the_folder_sync_would_be_caught() {
    for loss in [Loss::Whole, Loss::TornPrefix, Loss::Sectors] {
        assert!(faults_seen(false, true, loss) > 5, "{loss:?}");
    }
}
