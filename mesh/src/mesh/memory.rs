//! Several boards in one process, for tests.

use std::fs;
use std::ops::Index;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::{LeasePreset, Mesh, MeshError, OperatorKey};
use crate::net::{HomeError, fresh_memory_address};

/// Boards of one mesh in memory.
const BOARDS_MAX: usize = 64;
/// How long they may take to meet.
const MEET_MAX: Duration = Duration::from_secs(60);
/// How long what a crashed board was doing may take to end.
const FOLDER_MAX: Duration = Duration::from_secs(10);

/// Boards of one mesh in this process; see [`Mesh::memory`]. Dropping it removes their folders.
#[derive(Debug)]
pub struct Meshes {
    // Dropped first: nothing writes into the folders any more when they are removed.
    boards: Vec<Mesh>,
    addresses: Vec<String>,
    folder: Folder,
}

#[derive(Debug)]
struct Folder(PathBuf);

impl Meshes {
    pub(super) async fn start(n: usize) -> Result<Self, MeshError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("hedgerow-memory-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let folder = Folder(path.clone());
        let failed = |source| HomeError::Io { what: "make", path: path.clone(), source };
        fs::create_dir(&path).map_err(failed)?;
        let addresses: Result<Vec<_>, _> =
            (0..n.clamp(1, BOARDS_MAX)).map(|_| fresh_memory_address()).collect();
        let mut meshes = Self { boards: Vec::new(), addresses: addresses.map_err(failed)?, folder };
        for i in 0..meshes.addresses.len() {
            let board = match meshes.boards.first() {
                None => meshes.builder(i).found("memory").start().await?,
                Some(founder) => {
                    let ticket = founder.invite(None)?;
                    let key = OperatorKey::read(meshes.home(0))?;
                    meshes.builder(i).ticket(ticket).operator_key(key).start().await?
                }
            };
            meshes.boards.push(board);
        }
        meshes.meet(meshes.boards.len()).await?;
        Ok(meshes)
    }

    /// Crashes a board, as a power cut would: its services are not polled any more, nothing is flushed,
    /// nobody is told. Every call on it fails with [`MeshError::Gone`] until it is restarted.
    ///
    /// # Panics
    /// There is no such board.
    pub fn crash(&mut self, i: usize) {
        self.boards[i].crash();
    }

    /// Stops a board in good order, as [`Mesh::shutdown`] does; it can be restarted.
    ///
    /// # Panics
    /// There is no such board.
    pub async fn shutdown(&mut self, i: usize) {
        self.boards[i].stop().await;
    }

    /// Starts a board again from its folder, crashed or not. As a program that starts again, it has to
    /// host its services again.
    ///
    /// # Errors
    /// As [`Builder::start`](super::Builder::start).
    ///
    /// # Panics
    /// There is no such board.
    pub async fn restart(&mut self, i: usize) -> Result<(), MeshError> {
        self.crash(i);
        let key = OperatorKey::read(self.home(0))?;
        let builder = self.builder(i).operator_key(key).wait_for_folder(FOLDER_MAX);
        self.boards[i] = builder.start().await?;
        Ok(())
    }

    /// Waits until every board that was not crashed sees exactly `up` of them up.
    ///
    /// # Errors
    /// [`MeshError::NotMet`] after a minute.
    pub async fn meet(&self, up: usize) -> Result<(), MeshError> {
        let meet = async {
            for board in self.boards.iter().filter(|board| board.node.is_some()) {
                board.until(|members| members.up() == up).await?;
            }
            Ok(())
        };
        let seconds = MEET_MAX.as_secs();
        tokio::time::timeout(MEET_MAX, meet).await.unwrap_or(Err(MeshError::NotMet { seconds }))
    }

    /// Every board, crashed ones too.
    pub fn iter(&self) -> impl Iterator<Item = &Mesh> {
        self.boards.iter()
    }

    /// Which board has that name: they are called `board-0`, `board-1`, ….
    pub fn position(&self, name: &str) -> Option<usize> {
        self.boards.iter().position(|board| board.name == name)
    }

    fn home(&self, i: usize) -> PathBuf {
        self.folder.0.join(format!("board-{i}"))
    }

    fn builder(&self, i: usize) -> super::Builder {
        // A crash must not kill the test that asked for it.
        Mesh::builder()
            .name(&format!("board-{i}"))
            .data_dir(self.home(i))
            .listen(&self.addresses[i])
            .leases(LeasePreset::Lan)
            .danger_keep_program_past_lease()
    }
}

impl Index<usize> for Meshes {
    type Output = Mesh;

    fn index(&self, i: usize) -> &Mesh {
        &self.boards[i]
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What a dropped node's threads still write is in vain; a second look finds what they left.
        for _ in 0..3 {
            if fs::remove_dir_all(&self.0).is_ok() || !self.0.exists() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
