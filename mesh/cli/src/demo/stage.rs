//! The stage: a temporary folder with all boards, and the eyes that watch them.
//!
//! Watching means asking each board's own `/v1/status` again and again until it says what is
//! awaited. A time is therefore known to within one round of questions ([`Stage::round`]).

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::time::sleep;

use super::board::Board;
use super::bounds::Bounds;
use super::processes;
use crate::args::MeshArgs;
use crate::exit::{Exit, Failure, Outcome};
use crate::schema::Status;

/// Between two rounds of questions, for each board there is: asking must not disturb the boards.
const ROUND_PER_BOARD: Duration = Duration::from_millis(5);

/// All boards, and where they live.
#[derive(Debug)]
pub(super) struct Stage {
    /// The boards; the first one is the founder.
    pub(super) boards: Vec<Board>,
    /// How long things may take.
    pub(super) bounds: Bounds,
    // Dropped after the boards: fields are dropped in their order.
    folder: Folder,
}

/// From when on something is awaited, and how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Since {
    /// Times are measured from then.
    pub(super) start: Instant,
    /// More than this is too long.
    pub(super) patience: Duration,
}

/// How long each watched board took.
#[derive(Debug)]
pub(super) struct Times {
    /// Its name, and none if it took too long.
    pub(super) all: Vec<(String, Option<Duration>)>,
    /// What is too long.
    pub(super) patience: Duration,
}

impl Since {
    /// From now on.
    pub(super) fn now(patience: Duration) -> Self {
        Self { start: Instant::now(), patience }
    }
}

impl Times {
    /// Whether nobody took too long.
    pub(super) fn held(&self) -> bool {
        self.all.iter().all(|(_, time)| time.is_some())
    }

    /// What the slowest took, if all came.
    pub(super) fn last(&self) -> Option<Duration> {
        self.all.iter().filter_map(|(_, time)| *time).max().filter(|_| self.held())
    }
}

/// A temporary folder that is removed with everything in it.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    keep: bool,
}

impl Stage {
    /// A new folder for so many boards; none is started.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub(super) fn new(args: &MeshArgs, seed: u64) -> Outcome<Self> {
        let name = format!("hedgerow-demo-{}-{seed}", std::process::id());
        let path = std::env::temp_dir().join(name);
        DirBuilder::new().mode(0o700).create(&path).map_err(|error| {
            let message = format!("cannot make {}: {error}; TMPDIR says where", path.display());
            Failure::new(Exit::Folder, "data-folder", message)
        })?;
        let preset = args.preset.preset().name;
        let board = |number| Board::new(&path, format!("pi-{number}"), preset);
        let boards = (1..=args.nodes).map(board).collect();
        let bounds = Bounds(args.preset.preset());
        Ok(Self { boards, bounds, folder: Folder { path, keep: args.keep } })
    }

    /// Records every life of every board from now on; gives the folder.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub(super) fn record(&mut self) -> Outcome<PathBuf> {
        let folder = self.folder.path.join("recordings");
        std::fs::create_dir(&folder).map_err(|error| {
            Failure::failed(format!("cannot make {}: {error}", folder.display()))
        })?;
        self.boards.iter_mut().for_each(|board| board.record(&folder));
        Ok(folder)
    }

    /// The folder stays when this is dropped.
    pub(super) fn keep(&mut self) {
        self.folder.keep = true;
    }

    /// Where the boards live.
    pub(super) fn folder(&self) -> &Path {
        &self.folder.path
    }

    /// The boards' folders.
    pub(super) fn homes(&self) -> Vec<PathBuf> {
        self.boards.iter().map(|board| board.home.clone()).collect()
    }

    /// The board of that name.
    pub(super) fn named(&self, name: &str) -> Option<usize> {
        self.boards.iter().position(|board| board.name == name)
    }

    /// Between two rounds of questions.
    pub(super) fn round(&self) -> Duration {
        ROUND_PER_BOARD * u32::try_from(self.boards.len()).unwrap_or(u32::MAX)
    }

    /// Asks every running board but `except` until it answers something `awaited`; measures each from
    /// its `start`.
    ///
    /// # Errors
    /// A board's process ended meanwhile.
    pub(super) async fn watch(
        &mut self,
        since: Since,
        except: Option<usize>,
        awaited: impl Fn(&Status) -> bool,
    ) -> Outcome<Times> {
        let watched: Vec<usize> = (0..self.boards.len())
            .filter(|at| Some(*at) != except && self.boards[*at].runs())
            .collect();
        self.watch_these(since, &watched, awaited).await
    }

    /// As [`Stage::watch`], but only one board.
    ///
    /// # Errors
    /// Its process ended meanwhile.
    pub(super) async fn watch_one(
        &mut self,
        since: Since,
        at: usize,
        awaited: impl Fn(&Status) -> bool,
    ) -> Outcome<Times> {
        self.watch_these(since, &[at], awaited).await
    }

    async fn watch_these(
        &mut self,
        since: Since,
        watched: &[usize],
        awaited: impl Fn(&Status) -> bool,
    ) -> Outcome<Times> {
        let Since { start, patience } = since;
        let mut times: Vec<Option<Duration>> = vec![None; self.boards.len()];
        while start.elapsed() < patience && watched.iter().any(|at| times[*at].is_none()) {
            for at in watched {
                if let Some(status) = self.boards[*at].ended() {
                    return Err(self.boards[*at].broken(&format!("ended by itself, {status}")));
                }
            }
            let pending = watched.iter().filter(|at| times[**at].is_none());
            let asked = pending.map(|at| {
                let board = &self.boards[*at];
                async move { (*at, board.status().await, start.elapsed()) }
            });
            for (at, status, elapsed) in join_all(asked).await {
                if status.is_some_and(|status| awaited(&status)) {
                    times[at] = Some(elapsed);
                }
            }
            sleep(self.round()).await;
        }
        let all = watched.iter().map(|at| (self.boards[*at].name.clone(), times[*at])).collect();
        Ok(Times { all, patience })
    }

    /// Waits until the process of a board has ended by itself, and says whether it did so well.
    pub(super) async fn ends_well(&mut self, at: usize) -> bool {
        let start = Instant::now();
        while start.elapsed() < self.bounds.work() {
            if let Some(status) = self.boards[at].ended() {
                return status.success();
            }
            sleep(self.round()).await;
        }
        false
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // By now the boards are gone: what still runs in here was left by an error.
        processes::end(&self.path);
        if self.keep {
            return;
        }
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                eprintln!("hedgerow: cannot remove {}: {error}", self.path.display());
            }
            _ => {}
        }
    }
}
