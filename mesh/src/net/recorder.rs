//! Writes a [recording](crate::proto::recording) of this node's life while it lives.
//!
//! A thread of its own writes: the driver must never wait for a disk. What the disk does not keep up with
//! ends the recording, with a word in the log; it never holds the node up.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use crate::proto::io::{Effect, Input};
use crate::proto::machine::Time;
use crate::proto::recording::{Call, Head, digest};

/// Calls that wait for the disk.
const WAITING_MAX: usize = 4096;
/// A recording is not made larger: some weeks of an idle board, a day of a busy one.
pub const RECORDING_BYTES_MAX: u64 = 4 << 30;

/// The driver's end.
pub(crate) struct Recorder {
    lines: Option<SyncSender<Vec<u8>>>,
    bytes: u64,
    call: Option<Call>,
}

impl Recorder {
    /// Begins a recording in a new file that only this user can read.
    ///
    /// # Errors
    /// The file exists already, or cannot be made.
    pub(crate) fn begin(path: &Path, head: &Head) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let head = head.encode().map_err(io::Error::other)?;
        let (lines, written) = sync_channel(WAITING_MAX);
        let bytes = head.len() as u64;
        let path = path.display().to_string();
        thread::Builder::new().name("recorder".to_owned()).spawn(move || {
            if let Err(error) = write(file, &head, &written) {
                tracing::warn!(%error, path, "the recording ends here");
            }
        })?;
        Ok(Self { lines: Some(lines), bytes, call: None })
    }

    /// The node is about to be called.
    pub(crate) fn call(&mut self, now: Time, input: Option<&Input>) {
        if self.lines.is_some() {
            self.call = Some(Call { now: now.0, input: input.cloned(), effects: 0 });
        }
    }

    /// This came out of it.
    pub(crate) fn effects(&mut self, effects: &[Effect]) {
        let (Some(mut call), Some(lines)) = (self.call.take(), &self.lines) else { return };
        call.effects = digest(effects);
        let why = match call.encode() {
            Err(error) => error.to_string(),
            Ok(bytes) if self.bytes + bytes.len() as u64 > RECORDING_BYTES_MAX => {
                "it is as large as it may become".to_owned()
            }
            Ok(bytes) => {
                self.bytes += bytes.len() as u64;
                match lines.try_send(bytes) {
                    Ok(()) => return,
                    Err(_) => "the disk does not keep up, or is gone".to_owned(),
                }
            }
        };
        tracing::warn!(why, "the recording ends here");
        // What follows would not follow from what is in it.
        self.lines = None;
    }
}

fn write(mut file: File, head: &[u8], written: &Receiver<Vec<u8>>) -> io::Result<()> {
    file.write_all(head)?;
    while let Ok(mut bytes) = written.recv() {
        // What has come meanwhile goes with it.
        bytes.extend(written.try_iter().flatten());
        file.write_all(&bytes)?;
    }
    file.sync_all()
}
