//! Reads one file into chunks, skipping holes, and says whether it stood still meanwhile.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{OFlags, SeekFrom};

use super::{CaptureError, RACY_NS, name};
use crate::chunk::ChunkSink;
use crate::manifest::{FileBody, put_chunk};

/// What a file's inode says. Equal is a hint that the content is equal, no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stat {
    device: u64,
    inode: u64,
    size: u64,
    mtime_ns: i128,
    ctime_ns: i128,
}

pub(super) struct Read {
    pub(super) body: FileBody,
    pub(super) stat: Stat,
    /// True if size and times were the same before and after.
    pub(super) settled: bool,
    pub(super) read_bytes: u64,
}

impl Stat {
    fn of(meta: &Metadata) -> Self {
        let ns = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            mtime_ns: ns(meta.mtime(), meta.mtime_nsec()),
            ctime_ns: ns(meta.ctime(), meta.ctime_nsec()),
        }
    }

    /// Git's racy rule: false if the file was touched so shortly before the capture that a later
    /// write could have left the same times.
    pub(super) fn may_be_trusted(&self, captured_ns: i64) -> bool {
        let safe_ns = i128::from(captured_ns) - i128::from(RACY_NS);
        self.mtime_ns < safe_ns && self.ctime_ns < safe_ns
    }
}

/// The stat of a regular file; `None` if it is gone or something else.
pub(super) fn stat_of(place: &Path) -> Result<Option<Stat>, CaptureError> {
    match std::fs::symlink_metadata(place) {
        Ok(meta) if meta.is_file() => Ok(Some(Stat::of(&meta))),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(name("look at", place)(error)),
    }
}

/// Reads a file once. `None` if it is gone, or no longer a regular file.
pub(super) fn read(
    place: &Path,
    chunk_bytes: u32,
    sink: &mut dyn ChunkSink,
) -> Result<Option<Read>, CaptureError> {
    // A fifo or a symlink may have taken the file's place since it was listed.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(place) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            return Ok(None);
        }
        Err(error) => return Err(name("open", place)(error)),
    };
    let before = file.metadata().map_err(name("look at", place))?;
    if !before.is_file() {
        return Ok(None);
    }
    let stat = Stat::of(&before);
    let mut body = FileBody { size: stat.size, extents: Vec::new() };
    let chunk = u64::from(chunk_bytes.max(1));
    let mut data = Data { file: &file, start: 0, end: 0 };
    let mut bytes = vec![0; chunk_bytes as usize];
    let (mut at, mut read_bytes) = (0, 0);
    while at < stat.size {
        let next = data.next_from(at, stat.size).map_err(name("find holes of", place))?;
        let skipped = (next - at) / chunk;
        if skipped > 0 {
            // Up to the end of the file the last, shorter chunk is a hole as well.
            let rest = if next == stat.size { (next - at).div_ceil(chunk) } else { skipped };
            body.push_hole(rest);
            at = at.saturating_add(rest.saturating_mul(chunk));
            continue;
        }
        let len = usize::try_from(chunk.min(stat.size - at)).unwrap_or(bytes.len());
        let into = &mut bytes[..len];
        match file.read_exact_at(into, at) {
            Ok(()) => {}
            // It shrank: not settled, and the rest reads as zeros this time.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => into.fill(0),
            Err(error) => return Err(name("read", place)(error)),
        }
        body.push(put_chunk(into, sink)?);
        read_bytes += len as u64;
        at += len as u64;
    }
    let after = Stat::of(&file.metadata().map_err(name("look at", place))?);
    Ok(Some(Read { body, stat, settled: stat == after, read_bytes }))
}

/// Where the file has data, as far as the file system says.
struct Data<'a> {
    file: &'a File,
    start: u64,
    end: u64,
}

impl Data<'_> {
    /// The first byte from `at` on that may not be in a hole; `size` if there is none.
    fn next_from(&mut self, at: u64, size: u64) -> io::Result<u64> {
        if at >= self.end {
            let seek = |from| rustix::fs::seek(self.file, from);
            (self.start, self.end) = match seek(SeekFrom::Data(at)) {
                Ok(start) => (start, seek(SeekFrom::Hole(start)).unwrap_or(size).min(size)),
                Err(rustix::io::Errno::NXIO) => (size, size),
                // No such call here: all is data.
                Err(rustix::io::Errno::INVAL) => (at, size),
                Err(error) => return Err(error.into()),
            };
        }
        Ok(self.start.clamp(at, size.max(at)))
    }
}
