//! From a folder to a manifest: what has changed, without guessing.
//!
//! Capture walks a folder and writes new chunks into a [`ChunkSink`] (mostly a [`Draft`] of the
//! store). To be fast it may skip reading a file whose inode, size, mtime and ctime are those of
//! the last capture. That is only a *hint*, and it is trusted by git's racy rule: a file touched
//! within [`RACY_NS`] of the last capture is read again, because a second write within the clock's
//! granularity would leave the same times. `full` reads everything regardless (every 64th
//! checkpoint and each planned move), and reports the files whose hint lied.
//!
//! Freeze the service before capturing. If it runs on, a file that changes while it is read is
//! noticed by its size and times, read again a few times, and then listed as unsettled: its content
//! may be a mixture. Changes within one tick of the kernel's clock (about 4 ms) and stores through
//! a mapping are not noticed.
//!
//! Several names of one file stay one file; several names of one symlink or whiteout become several.
//!
//! Not here: the clock (the caller says what time it is), memory images (a runtime adds them to the
//! manifest as files keyed by address), mount points below the folder (they are walked into).
//!
//! [`Draft`]: crate::store::Draft

mod read;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use self::read::{Read, Stat};
use crate::chunk::ChunkSink;
use crate::hash::ManifestHash;
use crate::manifest::{
    CkptId, Entry, FileBody, Kind, Layer, Manifest, ManifestBuilder, ManifestError, Meta,
    SealedManifest,
};
use crate::path::{PathError, RelPath};
use crate::store::StoreError;

/// A file touched this shortly before the last capture, or later, is read again. In nanoseconds.
pub const RACY_NS: i64 = 2_000_000_000;

/// How often a file that changes while it is read is read before it is listed as unsettled.
const READ_ATTEMPTS: u32 = 3;

/// What to capture, and how.
#[derive(Clone, Copy, Debug)]
pub struct CaptureOptions<'a> {
    /// Number of the new checkpoint.
    pub ckpt: CkptId,
    /// Layer of the new state.
    pub layer: Layer,
    /// Page size of this machine, in bytes.
    pub page_bytes: u32,
    /// The wall clock when the capture begins, in nanoseconds since 1970: the clock that file times
    /// come from.
    pub now_ns: i64,
    /// The capture before, `None` for a first one.
    pub previous: Option<&'a Captured>,
    /// Reads every byte, whatever the hints say.
    pub full: bool,
}

/// A captured state.
#[derive(Clone, Debug)]
pub struct Captured {
    /// The state; its new chunks are in the sink.
    pub manifest: SealedManifest,
    /// Hints for the next capture. Only of use in the process that made them.
    hints: Hints,
    /// What happened on the way.
    pub report: CaptureReport,
}

/// What capture skipped, and what it could not vouch for. All paths ascending.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CaptureReport {
    /// Sockets, fifos and devices: not part of a state.
    pub special: Vec<RelPath>,
    /// Files that changed each time they were read, or vanished. Not to be acknowledged as a
    /// consistent state: freeze the service.
    pub unsettled: Vec<RelPath>,
    /// With `full`: files whose hint said "unchanged" and whose bytes say otherwise.
    pub missed: Vec<RelPath>,
    /// Bytes read from files; what the hints saved is the rest.
    pub read_bytes: u64,
}

/// When and how each file was last seen.
#[derive(Clone, Debug, Default)]
struct Hints {
    of: Option<ManifestHash>,
    captured_ns: i64,
    stats: BTreeMap<RelPath, Stat>,
}

/// Why a folder could not be captured. Nothing was made durable.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// The file system refused.
    #[error("could not {doing} {path}: {source}", path = path.display())]
    Io {
        /// Verb of the sentence.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// A path longer than a state may have.
    #[error(transparent)]
    Path(#[from] PathError),
    /// More entries, attributes or bytes than a manifest may have.
    #[error("the folder does not fit a manifest: {0}; split it into layers")]
    Manifest(#[from] ManifestError),
    /// The sink refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Captures the folder `root`, putting chunks that `sink` lacks.
///
/// The result depends only on the folder's content and metadata, never on how the file system lays
/// it out: chunks of zeros are holes whether they are allocated or not.
pub fn capture(
    root: &Path,
    options: &CaptureOptions<'_>,
    sink: &mut dyn ChunkSink,
) -> Result<Captured, CaptureError> {
    let previous = options.previous.filter(|previous| {
        previous.hints.of == Some(previous.manifest.hash())
            && previous.manifest.page_bytes == options.page_bytes
    });
    let root_meta = walk::meta_of(root, &walk::stat(root)?)?;
    let mut builder =
        ManifestBuilder::new(options.ckpt, options.layer, options.page_bytes).root(root_meta);
    if let Some(before) = options.previous {
        builder = builder.ancestor(before.manifest.hash());
    }
    let mut job = Job {
        root,
        full: options.full,
        previous,
        chunk_bytes: crate::chunk::chunk_bytes_for(options.page_bytes),
        sink,
        links: BTreeMap::new(),
        folders: BTreeSet::new(),
        hints: Hints { captured_ns: options.now_ns, ..Hints::default() },
        report: CaptureReport::default(),
    };
    for found in walk::walk(root)? {
        if let Some(entry) = job.entry(found)? {
            builder.entry(entry.path, entry.meta, entry.kind);
        }
    }
    let (mut hints, report) = (job.hints, job.report);
    let manifest = builder.seal()?;
    hints.of = Some(manifest.hash());
    Ok(Captured { manifest, hints, report })
}

struct Job<'a> {
    root: &'a Path,
    full: bool,
    previous: Option<&'a Captured>,
    chunk_bytes: u32,
    sink: &'a mut dyn ChunkSink,
    /// Files with several names: the first one captured.
    links: BTreeMap<(u64, u64), RelPath>,
    folders: BTreeSet<RelPath>,
    hints: Hints,
    report: CaptureReport,
}

impl<'a> Job<'a> {
    fn entry(&mut self, found: walk::Found) -> Result<Option<Entry>, CaptureError> {
        let path = found.path;
        if path.parent().is_some_and(|parent| !self.folders.contains(&parent)) {
            // Its folder vanished between listing and looking.
            self.report.unsettled.push(path);
            return Ok(None);
        }
        let place = path.under(self.root);
        let seen = match walk::look(&place)? {
            Some(seen) => seen,
            None => {
                self.report.unsettled.push(path);
                return Ok(None);
            }
        };
        let mut meta = seen.meta;
        let kind = match seen.kind {
            walk::Sort::Folder => {
                self.folders.insert(path.clone());
                Kind::Folder
            }
            walk::Sort::Symlink(text) => Kind::Symlink(text),
            walk::Sort::Whiteout => Kind::Whiteout,
            walk::Sort::Special => {
                self.report.special.push(path);
                return Ok(None);
            }
            walk::Sort::File { inode: Some(inode) } if self.links.contains_key(&inode) => {
                meta = Meta::default();
                Kind::HardLink(self.links[&inode].clone())
            }
            walk::Sort::File { inode } => match self.file(&path, &place)? {
                Some(kind) => {
                    self.links.extend(inode.map(|inode| (inode, path.clone())));
                    kind
                }
                None => return Ok(None),
            },
        };
        Ok(Some(Entry { path, meta, kind }))
    }

    /// The content of a file, by its hint or by reading it; `None` if it vanished.
    fn file(&mut self, path: &RelPath, place: &Path) -> Result<Option<Kind>, CaptureError> {
        let hinted = self.hinted(path, place)?;
        if let (Some((body, stat)), false) = (hinted, self.full) {
            self.hints.stats.insert(path.clone(), stat);
            return Ok(Some(Kind::File(body.clone())));
        }
        let hinted = hinted.map(|(body, _)| body);
        for attempt in 1..=READ_ATTEMPTS {
            let Some(read) = read::read(place, self.chunk_bytes, self.sink)? else { break };
            let Read { body, stat, settled, read_bytes } = read;
            self.report.read_bytes += read_bytes;
            if !settled && attempt < READ_ATTEMPTS {
                continue;
            }
            if settled {
                self.hints.stats.insert(path.clone(), stat);
            } else {
                self.report.unsettled.push(path.clone());
            }
            if settled && hinted.is_some_and(|hinted| *hinted != body) {
                self.report.missed.push(path.clone());
            }
            return Ok(Some(Kind::File(body)));
        }
        self.report.unsettled.push(path.clone());
        Ok(None)
    }

    /// The content of last time, if the hint may be trusted and the sink still has all of it.
    fn hinted(
        &self,
        path: &RelPath,
        place: &Path,
    ) -> Result<Option<(&'a FileBody, Stat)>, CaptureError> {
        let Some(previous) = self.previous else { return Ok(None) };
        let manifest: &'a Manifest = &previous.manifest;
        let (Some(body), Some(stat)) = (manifest.file(path), previous.hints.stats.get(path)) else {
            return Ok(None);
        };
        let fresh = stat.may_be_trusted(previous.hints.captured_ns)
            && read::stat_of(place)? == Some(*stat)
            && body.chunks(self.chunk_bytes).all(|at| self.sink.holds(&at.id));
        Ok(fresh.then_some((body, *stat)))
    }
}

fn name(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CaptureError {
    move |source| CaptureError::Io { doing, path: path.to_owned(), source }
}
