//! The service's side of `control.sock`: one line asks that everything up to now be kept elsewhere too.
//!
//! The line is answered by the agent, through the shim; while no agent is there it waits. An answer
//! that does not come, because the shim is gone, leaves open what became of the state.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// One connection, made when it is needed.
#[derive(Debug)]
pub(super) struct Control {
    path: PathBuf,
    open: Option<BufReader<UnixStream>>,
}

/// What became of a commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Committed {
    /// The standby holds it.
    Kept,
    /// No other board holds it, and the service file says not to wait for one.
    Unprotected,
    /// The right to run has ended, before or meanwhile: another board may hold it or not.
    Unknown,
}

impl Control {
    /// Nothing is opened yet.
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), open: None }
    }

    /// Asks, and waits for the answer however long it takes.
    pub(super) fn commit(&mut self) -> Committed {
        self.ask().unwrap_or_else(|_| {
            self.open = None;
            Committed::Unknown
        })
    }

    fn ask(&mut self) -> io::Result<Committed> {
        if self.open.is_none() {
            self.open = Some(BufReader::new(UnixStream::connect(&self.path)?));
        }
        let Some(open) = &mut self.open else { return Ok(Committed::Unknown) };
        open.get_mut().write_all(b"commit\n")?;
        let mut line = String::new();
        if open.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(match line.split_whitespace().next() {
            Some("ok") => Committed::Kept,
            Some("unprotected") => Committed::Unprotected,
            _ => Committed::Unknown,
        })
    }
}
