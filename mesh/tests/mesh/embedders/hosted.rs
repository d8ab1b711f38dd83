//! Services that run inside the program.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use hedgerow::Mesh;
use hedgerow::mesh::{
    Active, BoxFuture, Checkpoint, CommitError, Event, Events, Fault, Hosted, Meshes, Observed,
    Restored, Service,
};

use crate::host::until;

/// What one test wants of its services, and sees of them. They are restored from bytes, so what they
/// share is found by number.
#[derive(Default, Debug)]
struct Shared {
    /// The newest value that a commit confirmed.
    held: AtomicU64,
    /// The newest value that any of them has.
    value: AtomicU64,
    /// How many run at this moment.
    running: AtomicU64,
    /// The most that ran at once.
    most: AtomicU64,
    /// It is to block in the middle of a step.
    blocks: AtomicBool,
    /// It does.
    blocked: AtomicBool,
    /// It is to panic.
    panics: AtomicBool,
    outcome: std::sync::Mutex<Option<CommitError>>,
}

impl Shared {
    fn block(&self) {
        while self.blocks.load(Ordering::SeqCst) {
            self.blocked.store(true, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A test that fails must not block for ever.
struct Unblock(Arc<Shared>);

impl Drop for Unblock {
    fn drop(&mut self) {
        self.0.blocks.store(false, Ordering::SeqCst);
    }
}

static ALL: std::sync::Mutex<Vec<Arc<Shared>>> = std::sync::Mutex::new(Vec::new());

struct Counter {
    number: usize,
    shared: Arc<Shared>,
    value: AtomicU64,
}

fn counter() -> (usize, Arc<Shared>) {
    let mut all = ALL.lock().unwrap();
    all.push(Arc::default());
    (all.len() - 1, all[all.len() - 1].clone())
}

impl Counter {
    fn new(number: usize, value: u64) -> Self {
        let shared = ALL.lock().unwrap()[number].clone();
        Self { number, shared, value: AtomicU64::new(value) }
    }
}

/// Counts itself out when its future is dropped.
struct Runs(Arc<Shared>);

impl Drop for Runs {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Hosted for Counter {
    fn checkpoint(&self, out: &mut Checkpoint) -> Result<(), Fault> {
        out.put("number", self.number.to_string().as_bytes())?;
        Ok(out.put_value("value", &self.value.load(Ordering::SeqCst))?)
    }

    fn restore(from: &Restored) -> Result<Self, Fault> {
        let number = String::from_utf8(from.read("number")?)?.parse()?;
        Ok(Self::new(number, from.value("value")?))
    }

    fn run(self: Arc<Self>, ctx: Active) -> BoxFuture<'static, Result<(), Fault>> {
        Box::pin(async move {
            let shared = self.shared.clone();
            let now = shared.running.fetch_add(1, Ordering::SeqCst) + 1;
            shared.most.fetch_max(now, Ordering::SeqCst);
            let _runs = Runs(shared.clone());
            assert!(!ctx.lease().left.is_zero());
            loop {
                tokio::select! {
                    () = ctx.fenced() => return Ok(()),
                    () = tokio::time::sleep(Duration::from_millis(20)) => {}
                }
                assert!(!shared.panics.swap(false, Ordering::SeqCst), "as the test wanted");
                // The runtime goes on, but this is one step of the future all the same.
                tokio::task::block_in_place(|| shared.block());
                let value = self.value.fetch_add(1, Ordering::SeqCst) + 1;
                shared.value.fetch_max(value, Ordering::SeqCst);
                match ctx.commit().await {
                    Ok(_) => drop(shared.held.fetch_max(value, Ordering::SeqCst)),
                    Err(error) => *shared.outcome.lock().unwrap() = Some(error),
                }
            }
        })
    }
}

async fn host(mesh: &Mesh, number: usize) -> Service {
    let builder = mesh.service("counter").every(Duration::from_millis(200)).port("tcp", 0);
    builder.commit_within(Duration::from_secs(1)).host(Counter::new(number, 0)).await.unwrap()
}

async fn host_on_all(meshes: &Meshes, number: usize) -> Vec<Service> {
    let mut services = Vec::new();
    for mesh in meshes.iter() {
        services.push(host(mesh, number).await);
    }
    services
}

/// Which board runs it, by the word of that board.
async fn runs_on(meshes: &Meshes) -> Option<usize> {
    for (i, mesh) in meshes.iter().enumerate() {
        let all = mesh.services().await.unwrap_or_default();
        if all.iter().any(|one| one.lease_ms.is_some() && one.state == "running") {
            return Some(i);
        }
    }
    None
}

async fn held_past(shared: &Shared, value: u64) {
    let what = format!("more than {value} is held");
    until(&what, || async { shared.held.load(Ordering::SeqCst) > value }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_survives_the_crash_of_its_board_and_one_runs_at_a_time() {
    let (number, shared) = counter();
    let mut meshes = Mesh::memory(3).await.unwrap();
    let services = host_on_all(&meshes, number).await;
    held_past(&shared, 3).await;
    let first = runs_on(&meshes).await.unwrap();
    let other = &meshes[(first + 1) % 3];
    until("another board knows where", || async { other.resolve("counter").await.is_ok() }).await;
    let resolved = other.resolve("counter").await.unwrap();
    assert_eq!(resolved.board, meshes[first].name());
    assert!(resolved.to_string().starts_with("127.0.0.1:"), "{resolved}");

    meshes.crash(first);
    assert_eq!(shared.running.load(Ordering::SeqCst), 0, "a crash stops it at once");
    let held = shared.held.load(Ordering::SeqCst);
    held_past(&shared, held).await;
    let second = runs_on(&meshes).await.unwrap();
    assert_ne!(first, second);
    // It went on from at least there: one that had begun again would have to count a long time.
    assert_eq!(shared.most.load(Ordering::SeqCst), 1);
    until("its new place is known", || async {
        let now = meshes[second].resolve("counter").await;
        now.is_ok_and(|now| now.epoch > resolved.epoch && now.board == meshes[second].name())
    })
    .await;

    services[second].remove().await.unwrap();
    until("it has ended", || async { shared.running.load(Ordering::SeqCst) == 0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_and_a_shutdown_lose_nothing_at_all() {
    let (number, shared) = counter();
    let mut meshes = Mesh::memory(3).await.unwrap();
    let services = host_on_all(&meshes, number).await;
    held_past(&shared, 3).await;
    let first = runs_on(&meshes).await.unwrap();
    services[0].hand_over().await.unwrap();
    until("it runs elsewhere", || async { runs_on(&meshes).await.is_some_and(|i| i != first) })
        .await;
    held_past(&shared, shared.held.load(Ordering::SeqCst)).await;

    let second = runs_on(&meshes).await.unwrap();
    until("it has a standby again", || async {
        let view = services[second].view().await.unwrap();
        view.is_some_and(|view| view.ready)
    })
    .await;
    let before = Instant::now();
    meshes.shutdown(second).await;
    assert!(before.elapsed() < Duration::from_secs(10), "{:?}", before.elapsed());
    let value = shared.value.load(Ordering::SeqCst);
    held_past(&shared, value).await;
    assert_eq!(shared.most.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_board_goes_on_with_what_it_left_and_a_panic_is_an_end_like_another() {
    let (number, shared) = counter();
    let mut meshes = Mesh::memory(1).await.unwrap();
    host(&meshes[0], number).await;
    until("it counts", || async { shared.value.load(Ordering::SeqCst) > 0 }).await;
    let unprotected =
        || async { *shared.outcome.lock().unwrap() == Some(CommitError::Unprotected) };
    until("nobody else holds it", unprotected).await;

    let mut events = meshes[0].events();
    shared.panics.store(true, Ordering::SeqCst);
    let why = ended(&mut events).await;
    assert!(why.contains("panicked"), "{why}");
    until("it runs again", || async { shared.running.load(Ordering::SeqCst) == 1 }).await;

    meshes.shutdown(0).await;
    assert_eq!(shared.running.load(Ordering::SeqCst), 0);
    let value = shared.value.swap(0, Ordering::SeqCst);
    meshes.restart(0).await.unwrap();
    host(&meshes[0], number).await;
    // What was there when it ended in good order is there again.
    until("it counts on", || async { shared.value.load(Ordering::SeqCst) > 0 }).await;
    assert!(shared.value.load(Ordering::SeqCst) >= value, "after {value}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_board_whose_program_does_not_host_the_service_says_so_until_it_does() {
    let (number, shared) = counter();
    let meshes = Mesh::memory(2).await.unwrap();
    let mut events = meshes[1].events();
    // The master's own board is taken last, so it is to run on the other one.
    host(&meshes[0], number).await;
    let why = ended(&mut events).await;
    assert!(why.contains("hosts no service called `counter`"), "{why}");
    host(&meshes[1], number).await;
    until("it runs", || async { shared.running.load(Ordering::SeqCst) == 1 }).await;
    assert_eq!(runs_on(&meshes).await, Some(1));
}

/// Why the next instance ends that ends.
async fn ended(events: &mut Events) -> String {
    loop {
        if let Observed::Event(happened) = events.next().await.unwrap()
            && let Event::Ended { why, .. } = happened.event
        {
            return why;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_blocks_beyond_its_lease_is_marked_dead_where_the_program_is_to_live() {
    let (number, shared) = counter();
    let mut meshes = Mesh::memory(3).await.unwrap();
    host_on_all(&meshes, number).await;
    held_past(&shared, 1).await;
    let first = runs_on(&meshes).await.unwrap();
    let unblock = Unblock(shared.clone());
    shared.blocks.store(true, Ordering::SeqCst);
    until("it blocks", || async { shared.blocked.load(Ordering::SeqCst) }).await;
    // Its future is in the middle of a step: it cannot be dropped, and the test lives.
    meshes.crash(first);
    assert_eq!(shared.running.load(Ordering::SeqCst), 1);
    until("another board runs it", || async { runs_on(&meshes).await.is_some() }).await;
    drop(unblock);
    until("the old one is gone", || async { shared.running.load(Ordering::SeqCst) == 1 }).await;
}

/// The program that is aborted.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the next test, as a process of its own"]
async fn blocks_for_ever() {
    let (number, shared) = counter();
    let folder = std::env::temp_dir().join(format!("hedgerow-blocks-{}", std::process::id()));
    let builder = Mesh::builder().name("alone").data_dir(&folder).found("m");
    let builder = builder.leases(hedgerow::mesh::LeasePreset::Lan);
    let mesh = builder.listen("/ip4/127.0.0.1/tcp/0").start().await.unwrap();
    host(&mesh, number).await;
    until("it counts", || async { shared.value.load(Ordering::SeqCst) > 0 }).await;
    shared.blocks.store(true, Ordering::SeqCst);
    until("it blocks", || async { shared.blocked.load(Ordering::SeqCst) }).await;
    std::fs::remove_dir_all(&folder).unwrap();
    drop(mesh);
    tokio::time::sleep(Duration::from_secs(20)).await;
    println!("still here");
}

#[test]
fn one_that_blocks_beyond_its_lease_takes_its_program_with_it() {
    let name = "embedders::hosted::blocks_for_ever";
    let child = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stderr);
    assert!(said.contains("has not stopped although its lease is over"), "{said}");
    assert!(!child.status.success() && child.status.code().is_none(), "{}", child.status);
}
