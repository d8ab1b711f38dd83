//! ```text
//! cargo run -p hedgerow-examples --bin failover
//!
//! board-1 counts from 0
//! 5 is held by a second board
//! board-1 has crashed
//! board-2 counts from 5
//! 10 is held by a second board
//! ```
//!
//! A service that is hosted in the program: a counter. Three boards could run it, one does. When that
//! one crashes, its standby goes on with what was committed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hedgerow::Mesh;
use hedgerow::mesh::{Active, BoxFuture, Checkpoint, CommitError, Fault, Hosted, Restored};
use tokio::sync::mpsc;

/// What the counters of all boards tell `main`.
enum News {
    Begins(u64),
    Held(u64),
}

struct Counter {
    value: AtomicU64,
}

static NEWS: std::sync::OnceLock<mpsc::Sender<News>> = std::sync::OnceLock::new();

impl Hosted for Counter {
    fn checkpoint(&self, out: &mut Checkpoint) -> Result<(), Fault> {
        Ok(out.put_value("value", &self.value.load(Ordering::SeqCst))?)
    }

    fn restore(from: &Restored) -> Result<Self, Fault> {
        Ok(Self { value: AtomicU64::new(from.value("value")?) })
    }

    fn run(self: Arc<Self>, ctx: Active) -> BoxFuture<'static, Result<(), Fault>> {
        Box::pin(async move {
            tell(News::Begins(self.value.load(Ordering::SeqCst))).await;
            loop {
                tokio::select! {
                    () = ctx.fenced() => return Ok(()),
                    () = tokio::time::sleep(Duration::from_millis(50)) => {}
                }
                let value = self.value.fetch_add(1, Ordering::SeqCst) + 1;
                match ctx.commit().await {
                    Ok(_) => tell(News::Held(value)).await,
                    // Counting goes on; nobody is told a number that might be forgotten.
                    Err(CommitError::Unprotected | CommitError::Unknown) => {}
                    Err(_) => return Ok(()),
                }
            }
        })
    }
}

async fn tell(news: News) {
    if let Some(main) = NEWS.get() {
        // An error means that the program ends.
        let _ = main.send(news).await;
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (sender, mut news) = mpsc::channel(16);
    let _first = NEWS.set(sender);
    let mut meshes = Mesh::memory(3).await?;
    for mesh in meshes.iter() {
        let counter = Counter { value: AtomicU64::new(0) };
        mesh.service("counter").every(Duration::from_secs(1)).host(counter).await?;
    }

    let mut held = 0;
    let mut crashes = 0;
    while let Some(news) = news.recv().await {
        match news {
            News::Begins(from) => {
                println!("{} counts from {from}", runs_on(&meshes).await?);
                anyhow::ensure!(from >= held, "{held} was held, and is forgotten");
            }
            News::Held(value) => held = value,
        }
        if held >= 5 && crashes == 0 {
            println!("{held} is held by a second board");
            let board = runs_on(&meshes).await?;
            meshes.crash(meshes.position(&board).unwrap_or_default());
            println!("{board} has crashed");
            crashes += 1;
        } else if held >= 10 {
            println!("{held} is held by a second board");
            break;
        }
    }
    Ok(())
}

/// The board that runs it, by the word of those that have not crashed.
async fn runs_on(meshes: &hedgerow::mesh::Meshes) -> anyhow::Result<String> {
    loop {
        for mesh in meshes.iter() {
            let services = mesh.services().await.unwrap_or_default();
            // A lease is known on the board that runs it only.
            if let Some(one) = services.into_iter().find(|one| one.lease_ms.is_some()) {
                return Ok(one.active);
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
