//! The service's output: bounded, rotated, with the time of day and the stream before each line.
//!
//! `2026-11-21T23:16:38.123Z out listening on 8080`. A line longer than [`LINE_BYTES_MAX`] is cut; its
//! further pieces say `out+`. At most [`FILES_MAX`] files of at most [`FILE_BYTES_MAX`] exist; a file
//! that cannot be written costs lines, counted, and never stops the service or the shim.
//!
//! The shim owns the pipes so that the death of the agent is not the service's next write error.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

use rustix::time::{ClockId, clock_gettime};

/// Longest piece of a line.
pub(crate) const LINE_BYTES_MAX: usize = 4 * 1024;
/// Longest file.
pub(crate) const FILE_BYTES_MAX: u64 = 256 * 1024;
/// The current file and those before it.
pub(crate) const FILES_MAX: u32 = 4;

/// Which of the two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    Err,
}

/// The files and the two unfinished lines.
#[derive(Debug)]
pub(crate) struct Logs {
    path: PathBuf,
    file: Option<File>,
    bytes: u64,
    unfinished: [Unfinished; 2],
    lines_lost: u64,
}

#[derive(Debug, Default)]
struct Unfinished {
    bytes: Vec<u8>,
    continues: bool,
}

impl Logs {
    /// Goes on with the file that is there.
    pub(crate) fn open(path: PathBuf) -> Self {
        let mut logs =
            Self { path, file: None, bytes: 0, unfinished: Default::default(), lines_lost: 0 };
        logs.reopen();
        logs
    }

    /// Takes what was read from one stream.
    pub(crate) fn take(&mut self, stream: Stream, bytes: &[u8]) {
        let mut lines = Lines::default();
        let mut line = std::mem::take(&mut self.unfinished[stream as usize]);
        for byte in bytes {
            if *byte == b'\n' {
                lines.push(stream, &line);
                line.bytes.clear();
                line.continues = false;
                self.write_if_full(&mut lines);
                continue;
            }
            if line.bytes.len() == LINE_BYTES_MAX {
                lines.push(stream, &line);
                line.bytes.clear();
                line.continues = true;
                self.write_if_full(&mut lines);
            }
            line.bytes.push(*byte);
        }
        self.unfinished[stream as usize] = line;
        self.write(&mut lines);
    }

    /// Writes the lines that did not end.
    pub(crate) fn finish(&mut self) {
        for stream in [Stream::Out, Stream::Err] {
            let line = std::mem::take(&mut self.unfinished[stream as usize]);
            if !line.bytes.is_empty() {
                let mut lines = Lines::default();
                lines.push(stream, &line);
                self.write(&mut lines);
            }
        }
    }

    pub(crate) fn lines_lost(&self) -> u64 {
        self.lines_lost
    }

    fn write_if_full(&mut self, lines: &mut Lines) {
        if lines.text.len() >= BATCH_BYTES {
            self.write(lines);
        }
    }

    fn write(&mut self, lines: &mut Lines) {
        if lines.count == 0 {
            return;
        }
        let bytes = lines.text.len() as u64;
        if self.bytes + bytes > FILE_BYTES_MAX {
            self.rotate();
        }
        let written = match &mut self.file {
            Some(file) => file.write_all(&lines.text),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        match written {
            Ok(()) => self.bytes += bytes,
            Err(_) => self.lines_lost += lines.count,
        }
        *lines = Lines::default();
    }

    fn rotate(&mut self) {
        let older = |age: u32| match age {
            0 => self.path.clone(),
            _ => PathBuf::from(format!("{}.{age}", self.path.display())),
        };
        for age in (0..FILES_MAX - 1).rev() {
            let _ = fs::rename(older(age), older(age + 1));
        }
        self.reopen();
    }

    fn reopen(&mut self) {
        self.file = OpenOptions::new().append(true).create(true).open(&self.path).ok();
        self.bytes =
            self.file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |it| it.len());
    }
}

#[derive(Default)]
struct Lines {
    text: Vec<u8>,
    count: u64,
}

impl Lines {
    fn push(&mut self, stream: Stream, line: &Unfinished) {
        let name = match (stream, line.continues) {
            (Stream::Out, false) => "out ",
            (Stream::Out, true) => "out+ ",
            (Stream::Err, false) => "err ",
            (Stream::Err, true) => "err+ ",
        };
        self.text.extend_from_slice(utc(unix_ms()).as_bytes());
        self.text.push(b' ');
        self.text.extend_from_slice(name.as_bytes());
        self.text.extend_from_slice(&line.bytes);
        self.text.push(b'\n');
        self.count += 1;
    }
}

/// Milliseconds since 1970, by the time of day, which may be wrong on a board without a battery.
pub(crate) fn unix_ms() -> u64 {
    let now = clock_gettime(ClockId::Realtime);
    let secs = u64::try_from(now.tv_sec).unwrap_or(0);
    let ms = u64::try_from(now.tv_nsec / 1_000_000).unwrap_or(0);
    secs.saturating_mul(1_000).saturating_add(ms)
}

/// `2026-11-21T23:16:38.123Z`.
fn utc(unix_ms: u64) -> String {
    let (days, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    let (mut year, mut day) = (1970, days);
    while day >= year_days(year) {
        day -= year_days(year);
        year += 1;
    }
    let mut month = 1;
    while day >= month_days(year, month) {
        day -= month_days(year, month);
        month += 1;
    }
    let (day, ms) = (day + 1, ms % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn year_days(year: u64) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

fn month_days(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Lines are written together up to about this size, so a flood costs few system calls.
const BATCH_BYTES: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("hedgerow-logs-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn the_time_of_day_reads_right() {
        assert_eq!(utc(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(utc(1_795_302_998_123), "2026-11-21T23:16:38.123Z");
    }

    #[test]
    fn lines_of_the_two_streams_do_not_mix_and_long_ones_are_cut() {
        let dir = folder("lines");
        let mut logs = Logs::open(dir.join("log"));
        logs.take(Stream::Out, b"one ");
        logs.take(Stream::Err, b"bad\n");
        logs.take(Stream::Out, b"line\n");
        logs.take(Stream::Out, &[b'x'; LINE_BYTES_MAX + 1]);
        logs.finish();
        let text = fs::read_to_string(dir.join("log")).unwrap();
        let lines: Vec<&str> = text.lines().map(|line| &line[25..]).collect();
        assert_eq!(lines[..2], ["err bad", "out one line"]);
        assert_eq!(lines[2].len(), 4 + LINE_BYTES_MAX);
        assert_eq!(lines[3], "out+ x");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_flood_stays_within_the_files() {
        let dir = folder("flood");
        let mut logs = Logs::open(dir.join("log"));
        for _ in 0..200 {
            logs.take(Stream::Out, "\n".repeat(1_000).as_bytes());
            logs.take(Stream::Err, &[b'y'; 10_000]);
        }
        let sizes: Vec<u64> =
            fs::read_dir(&dir).unwrap().map(|it| it.unwrap().metadata().unwrap().len()).collect();
        assert_eq!(sizes.len(), FILES_MAX as usize);
        assert!(sizes.iter().all(|size| *size <= FILE_BYTES_MAX), "{sizes:?}");
        assert_eq!(logs.lines_lost(), 0);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_written_costs_lines_only() {
        let mut logs = Logs::open(PathBuf::from("/nonexistent/log"));
        logs.take(Stream::Out, b"a\nb\n");
        assert_eq!(logs.lines_lost(), 2);
    }
}
