//! `control.sock`: a line on which the service asks for a commit, and is told what became of it.
//!
//! ```text
//! service: commit\n
//! shim:    ok 17\n | unprotected\n | fenced\n | unknown\n | error\n
//! ```
//!
//! `ok N`: checkpoint N, with everything before the call, is on the ready standby. `unknown`: a timeout
//! or the end of the right to run came in the middle; it may have been kept. `error`: that was not
//! `commit`. A connection asks one thing at a time; a second line waits in the socket. While no agent
//! is there the service waits: a commit that nobody heard of cannot be answered.

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use super::peers::{accept_all, would_wait};
use super::wire::CommitResult;

/// Most connections of the service; so many commits can wait at once.
pub(crate) const CLIENTS_MAX: usize = 16;

/// Names a connection within one shim; never used twice.
pub(crate) type ClientId = u64;

/// The listener and the connections.
#[derive(Debug)]
pub(crate) struct Commits {
    listener: UnixListener,
    list: Vec<Client>,
    next_client: ClientId,
    next_commit: u64,
    fenced: bool,
}

#[derive(Debug)]
struct Client {
    id: ClientId,
    stream: UnixStream,
    line: Vec<u8>,
    waits_for: Option<u64>,
    broken: bool,
}

impl Commits {
    pub(crate) fn new(listener: UnixListener) -> Self {
        Self { listener, list: Vec::new(), next_client: 1, next_commit: 1, fenced: false }
    }

    pub(crate) fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Each connection, and whether it is to be read. One that waits is watched for its end only.
    pub(crate) fn sources(&self) -> impl Iterator<Item = (ClientId, BorrowedFd<'_>, bool)> {
        self.list.iter().map(|it| (it.id, it.stream.as_fd(), it.waits_for.is_none()))
    }

    pub(crate) fn accept(&mut self) {
        for stream in accept_all(&self.listener) {
            if self.list.len() < CLIENTS_MAX {
                let (id, line) = (self.next_client, Vec::new());
                self.next_client += 1;
                self.list.push(Client { id, stream, line, waits_for: None, broken: false });
            }
        }
    }

    /// Reads from a connection; returns the number of a commit that begins.
    pub(crate) fn read(&mut self, id: ClientId) -> Option<u64> {
        let client = self.list.iter_mut().find(|client| client.id == id)?;
        client.fill();
        let commit = self.begin(id);
        self.list.retain(|client| !client.broken);
        commit
    }

    /// The connection has ended; a commit that it waited for is forgotten.
    pub(crate) fn hang_up(&mut self, id: ClientId) {
        self.list.retain(|client| client.id != id);
    }

    /// Passes an answer on. If that connection asks for the next commit at once, its number is
    /// returned; `Err` if nobody waits for this one.
    pub(crate) fn answer(&mut self, commit: u64, result: CommitResult) -> Result<Option<u64>, ()> {
        let client =
            self.list.iter_mut().find(|client| client.waits_for == Some(commit)).ok_or(())?;
        client.waits_for = None;
        client.tell(&text(result));
        let id = client.id;
        let next = self.begin(id);
        self.list.retain(|client| !client.broken);
        Ok(next)
    }

    /// The commits that wait, oldest first.
    pub(crate) fn waiting(&self) -> Vec<u64> {
        let mut all: Vec<u64> = self.list.iter().filter_map(|client| client.waits_for).collect();
        all.sort_unstable();
        all
    }

    /// The right to run has ended: those that wait learn `unknown`, those that come learn `fenced`.
    pub(crate) fn fence(&mut self) {
        self.fenced = true;
        for client in self.list.iter_mut().filter(|client| client.waits_for.is_some()) {
            client.waits_for = None;
            client.tell(&text(CommitResult::Unknown));
        }
        self.list.retain(|client| !client.broken);
    }

    fn begin(&mut self, id: ClientId) -> Option<u64> {
        let fenced = self.fenced;
        let client = self.list.iter_mut().find(|client| client.id == id)?;
        while let Some(line) = client.next_line() {
            match line.as_slice() {
                b"commit" if fenced => client.tell(&text(CommitResult::Fenced)),
                b"commit" => {
                    client.waits_for = Some(self.next_commit);
                    self.next_commit += 1;
                    return client.waits_for;
                }
                _ => {
                    client.tell("error\n");
                    client.broken = true;
                }
            }
        }
        None
    }
}

impl Client {
    fn fill(&mut self) {
        let mut bytes = [0; LINE_BYTES_MAX];
        match self.stream.read(&mut bytes) {
            Ok(0) => self.broken = true,
            Ok(count) => self.line.extend_from_slice(&bytes[..count]),
            Err(error) if would_wait(&error) => {}
            Err(_) => self.broken = true,
        }
    }

    fn next_line(&mut self) -> Option<Vec<u8>> {
        if self.broken || self.waits_for.is_some() {
            return None;
        }
        let Some(end) = self.line.iter().position(|byte| *byte == b'\n') else {
            self.broken |= self.line.len() >= LINE_BYTES_MAX;
            return None;
        };
        let mut line: Vec<u8> = self.line.drain(..=end).collect();
        line.pop();
        Some(line)
    }

    /// A dozen bytes to one that waits for them: if they do not fit, it does not read at all.
    fn tell(&mut self, text: &str) {
        self.broken |= self.stream.write_all(text.as_bytes()).is_err();
    }
}

fn text(result: CommitResult) -> String {
    match result {
        CommitResult::Ok { checkpoint } => format!("ok {checkpoint}\n"),
        CommitResult::Unprotected => "unprotected\n".to_owned(),
        CommitResult::Fenced => "fenced\n".to_owned(),
        CommitResult::Unknown => "unknown\n".to_owned(),
    }
}

/// Nothing that is understood is longer.
const LINE_BYTES_MAX: usize = 64;
