//! The agent's end of a shim's socket.
//!
//! A [`Connection`] never blocks by itself: [`send`](Connection::send) queues and writes what fits,
//! [`receive`](Connection::receive) reads what is there. So the driver keeps it in a
//! `tokio::io::unix::AsyncFd` inside its one `select!` (on readable: `receive` until `None`, then
//! `clear_ready`; on writable while [`wants_write`](Connection::wants_write): `flush`), needs no
//! thread per shim, and a shim that is stopped or stuck costs it nothing. `Extend` is sent like that,
//! without waiting for the answer.
//!
//! [`call`](Connection::call) and [`next_notice`](Connection::next_notice) are the same with a bounded
//! wait, for commands, tests and blocking workers. They wait in `poll`, on the lease clock.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::socket_peercred;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::frames::{Frames, frame};
use super::instance::Files;
use super::wire::{Call, FRAME_BYTES_MAX, Message, Notice, Refusal, Reply, Request, VERSION};
use crate::clock;

/// A greeted connection to one shim.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    socket: PathBuf,
    shim: OwnedFd,
    frames: Frames,
    out: Vec<u8>,
    version: u16,
    next_call: u64,
    notices: VecDeque<Notice>,
}

/// What can go wrong with a shim.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody listens: it has ended (see `exit.json`), or was killed.
    #[error("no shim listens at {socket}: read exit.json, or take it for dead")]
    NobodyThere {
        /// Where.
        socket: PathBuf,
    },
    /// The connection has ended: the shim left, was killed, or dropped us for not reading.
    #[error("the shim at {socket} hung up: connect again, else read exit.json")]
    HungUp {
        /// Where.
        socket: PathBuf,
    },
    /// No answer in time. The request may still be carried out.
    #[error(
        "the shim at {socket} did not answer {request} within {waited:?}: is the board stalled?"
    )]
    TimedOut {
        /// Where.
        socket: PathBuf,
        /// What was asked.
        request: &'static str,
        /// How long.
        waited: Duration,
    },
    /// The shim said no.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    /// It does not read, and the queue to it is full.
    #[error("{OUT_BYTES_MAX} bytes wait for the shim at {socket}, which does not read: drop it")]
    Full {
        /// Where.
        socket: PathBuf,
    },
    /// It speaks something else.
    #[error("the shim at {socket} is not understood ({what}): does another program listen there?")]
    Nonsense {
        /// Where.
        socket: PathBuf,
        /// What was received.
        what: String,
    },
    /// The system said no.
    #[error("{socket}: {source}")]
    Io {
        /// Where.
        socket: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

impl Connection {
    /// Connects and greets, waiting at most `wait` for the welcome.
    ///
    /// # Errors
    /// [`ClientError::NobodyThere`] if there is no shim (any more), and all others but `Full`.
    pub fn open(files: &Files, wait: Duration) -> Result<Self, ClientError> {
        let socket = files.socket();
        let io = |source| ClientError::Io { socket: socket.clone(), source };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(|error| io(error.into()))?;
        let address = SocketAddrUnix::new(&socket).map_err(|error| io(error.into()))?;
        match connect(&fd, &address) {
            Ok(()) => {}
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::CONNREFUSED) => {
                return Err(ClientError::NobodyThere { socket });
            }
            Err(error) => return Err(io(error.into())),
        }
        let pid = socket_peercred(&fd).map_err(|error| io(error.into()))?.pid;
        let shim = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| io(error.into()))?;
        let mut connection = Self {
            stream: UnixStream::from(fd),
            socket,
            shim,
            frames: Frames::new(FRAME_BYTES_MAX),
            out: Vec::new(),
            version: 0,
            next_call: 1,
            notices: VecDeque::new(),
        };
        // The welcome also proves that the pidfd names the process that listens.
        match connection.call(Request::Hello { version: VERSION }, wait)? {
            Reply::Welcome { version } => connection.version = version,
            other => return Err(connection.nonsense(&other)),
        }
        Ok(connection)
    }

    /// The version spoken.
    pub fn version(&self) -> u16 {
        self.version
    }

    /// Queues a request and writes what fits; returns the id that its reply will bear.
    ///
    /// # Errors
    /// [`ClientError::Full`] if the shim does not read, [`ClientError::HungUp`], [`ClientError::Io`].
    pub fn send(&mut self, request: Request) -> Result<u64, ClientError> {
        let id = self.next_call;
        let bytes = frame(&Call { id, request });
        self.flush()?;
        if self.out.len() + bytes.len() > OUT_BYTES_MAX {
            return Err(ClientError::Full { socket: self.socket.clone() });
        }
        self.next_call += 1;
        self.out.extend_from_slice(&bytes);
        self.flush()?;
        Ok(id)
    }

    /// Whether something waits to be written.
    pub fn wants_write(&self) -> bool {
        !self.out.is_empty()
    }

    /// Writes what fits.
    ///
    /// # Errors
    /// [`ClientError::HungUp`], [`ClientError::Io`].
    pub fn flush(&mut self) -> Result<(), ClientError> {
        while !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Ok(count) => drop(self.out.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broken(error)),
            }
        }
        Ok(())
    }

    /// The next message, if one is there. A notice that `call` met comes first.
    ///
    /// # Errors
    /// [`ClientError::HungUp`] once everything that was sent has been returned; `Nonsense`; `Io`.
    pub fn receive(&mut self) -> Result<Option<Message>, ClientError> {
        match self.notices.pop_front() {
            Some(notice) => Ok(Some(Message::Notice(notice))),
            None => self.receive_new(),
        }
    }

    /// Sends a request and waits at most `wait` for its reply. Notices that arrive meanwhile are kept
    /// for [`Connection::receive`]; of more than [`NOTICES_MAX`] the oldest are dropped.
    ///
    /// # Errors
    /// Any; a refusal is [`ClientError::Refused`].
    pub fn call(&mut self, request: Request, wait: Duration) -> Result<Reply, ClientError> {
        let name = name(&request);
        let mine = self.send(request)?;
        let give_up_at = after(wait);
        loop {
            match self.receive_new()? {
                Some(Message::Reply { id, reply }) if id == mine => {
                    return match reply {
                        Reply::Refused(refusal) => Err(refusal.into()),
                        reply => Ok(reply),
                    };
                }
                // To an earlier call that nobody waits for.
                Some(Message::Reply { .. }) => {}
                Some(Message::Notice(notice)) => {
                    if self.notices.len() == NOTICES_MAX {
                        self.notices.pop_front();
                    }
                    self.notices.push_back(notice);
                }
                None if !self.wait_until(give_up_at)? => {
                    let socket = self.socket.clone();
                    return Err(ClientError::TimedOut { socket, request: name, waited: wait });
                }
                None => {}
            }
        }
    }

    /// Waits at most `wait` for the next notice; replies that come by are dropped.
    ///
    /// # Errors
    /// As [`Connection::receive`].
    pub fn next_notice(&mut self, wait: Duration) -> Result<Option<Notice>, ClientError> {
        let give_up_at = after(wait);
        loop {
            match self.receive()? {
                Some(Message::Notice(notice)) => return Ok(Some(notice)),
                Some(Message::Reply { .. }) => {}
                None if !self.wait_until(give_up_at)? => return Ok(None),
                None => {}
            }
        }
    }

    /// `SIGKILL` to the shim itself, for one that does not answer. What it runs dies with it, as far
    /// as it is contained.
    ///
    /// # Errors
    /// If it is dead already.
    pub fn abort(&self) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.shim, Signal::KILL)?)
    }

    /// Waits at most `wait` for the shim's process to end; true if it has.
    ///
    /// # Errors
    /// Only those of `poll`.
    pub fn wait_gone(&self, wait: Duration) -> io::Result<bool> {
        ready_before(&self.shim, PollFlags::IN, after(wait))
    }

    pub(crate) fn nonsense(&self, what: &impl core::fmt::Debug) -> ClientError {
        ClientError::Nonsense { socket: self.socket.clone(), what: format!("{what:?}") }
    }

    fn receive_new(&mut self) -> Result<Option<Message>, ClientError> {
        loop {
            match self.frames.pop() {
                Ok(Some(body)) => {
                    let message = serde_json::from_slice(&body);
                    return message.map(Some).map_err(|error| self.nonsense(&error));
                }
                Ok(None) => {}
                Err(oversized) => return Err(self.nonsense(&oversized)),
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(ClientError::HungUp { socket: self.socket.clone() }),
                Ok(count) => self.frames.push(&bytes[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broken(error)),
            }
        }
    }

    fn wait_until(&mut self, give_up_at: u64) -> Result<bool, ClientError> {
        self.flush()?;
        let mut flags = PollFlags::IN;
        flags.set(PollFlags::OUT, self.wants_write());
        ready_before(&self.stream, flags, give_up_at).map_err(|error| self.broken(error))
    }

    fn broken(&self, source: io::Error) -> ClientError {
        let socket = self.socket.clone();
        match source.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                ClientError::HungUp { socket }
            }
            _ => ClientError::Io { socket, source },
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl AsRawFd for Connection {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

/// Whether `fd` became ready before the lease clock reached `give_up_at`.
pub(crate) fn ready_before(fd: &impl AsFd, flags: PollFlags, give_up_at: u64) -> io::Result<bool> {
    loop {
        let left = Duration::from_nanos(give_up_at.saturating_sub(clock::now_ns()));
        let left_or_never = Timespec::try_from(left).ok();
        match poll(&mut [PollFd::new(fd, flags)], left_or_never.as_ref()) {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}

pub(crate) fn after(wait: Duration) -> u64 {
    clock::now_ns().saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX))
}

fn name(request: &Request) -> &'static str {
    match request {
        Request::Hello { .. } => "hello",
        Request::Start { .. } => "start",
        Request::Extend { .. } => "extend",
        Request::Freeze => "freeze",
        Request::Thaw => "thaw",
        Request::Stop { .. } => "stop",
        Request::Kill => "kill",
        Request::Status => "status",
        Request::Subscribe => "subscribe",
        Request::Committed { .. } => "committed",
    }
}

/// Most bytes that wait for a shim to read them: over a thousand `Extend`s.
pub const OUT_BYTES_MAX: usize = 64 * 1024;
/// Most notices that `call` keeps.
pub const NOTICES_MAX: usize = 256;
