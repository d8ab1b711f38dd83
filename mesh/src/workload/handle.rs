//! One running instance, as its agent holds it.
//!
//! The same for every runtime, because behind it is a shim. The calls wait for the shim's answer, within
//! named bounds; a driver that must not wait uses [`Handle::connection`].

use std::fs;
use std::time::Duration;

use super::client::{ClientError, Connection, after};
use super::instance::Files;
use super::wire::{CommitResult, Exit, Notice, Reply, Request, Status};

/// One instance, through its shim. Dropping it changes nothing for the instance.
#[derive(Debug)]
pub struct Handle {
    files: Files,
    connection: Connection,
    status: Status,
}

impl Handle {
    pub(crate) fn open(files: Files) -> Result<Self, ClientError> {
        let mut connection = Connection::open(&files, ANSWER_WAIT)?;
        match connection.call(Request::Subscribe, ANSWER_WAIT)? {
            Reply::Status(status) => Ok(Self { files, connection, status: *status }),
            other => Err(connection.nonsense(&other)),
        }
    }

    /// Starts the service; returns its process id when it runs. Once per handle's shim.
    ///
    /// # Errors
    /// The shim's refusals; then nothing of it runs, and a retry takes a new shim.
    pub fn start(&mut self, until: u64) -> Result<u32, ClientError> {
        match self.connection.call(Request::Start { until }, START_WAIT)? {
            Reply::Started { pid } => {
                self.status.pid = Some(pid);
                Ok(pid)
            }
            other => Err(self.connection.nonsense(&other)),
        }
    }

    /// Moves the deadline; returns the one in force.
    ///
    /// # Errors
    /// Refused if the deadline has passed or nothing runs.
    pub fn extend(&mut self, until: u64) -> Result<u64, ClientError> {
        match self.connection.call(Request::Extend { until }, ANSWER_WAIT)? {
            Reply::Extended { until } => Ok(until),
            other => Err(self.connection.nonsense(&other)),
        }
    }

    /// Stops all its processes, and returns when they stand still.
    ///
    /// # Errors
    /// Refused if they do not within a second; then they run.
    pub fn freeze(&mut self) -> Result<(), ClientError> {
        self.expect_ok(Request::Freeze, START_WAIT)
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// Refused if nothing runs.
    pub fn thaw(&mut self) -> Result<(), ClientError> {
        self.expect_ok(Request::Thaw, ANSWER_WAIT)
    }

    /// `SIGTERM`, and after `grace` the kill. Returns at once, see [`Handle::wait_exit`].
    ///
    /// # Errors
    /// Refused if nothing runs.
    pub fn stop(&mut self, grace: Duration) -> Result<(), ClientError> {
        let grace_ms = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
        self.expect_ok(Request::Stop { grace_ms }, ANSWER_WAIT)
    }

    /// Kills it. Returns at once, see [`Handle::wait_exit`].
    ///
    /// # Errors
    /// If the shim does not answer: then [`Connection::abort`].
    pub fn kill(&mut self) -> Result<(), ClientError> {
        self.expect_ok(Request::Kill, ANSWER_WAIT)
    }

    /// Answers a [`Notice::CommitRequested`].
    ///
    /// # Errors
    /// Refused if that commit does not wait any more.
    pub fn committed(&mut self, id: u64, result: CommitResult) -> Result<(), ClientError> {
        self.expect_ok(Request::Committed { id, result }, ANSWER_WAIT)
    }

    /// How it is.
    ///
    /// # Errors
    /// If the shim has gone.
    pub fn status(&mut self) -> Result<&Status, ClientError> {
        match self.connection.call(Request::Status, ANSWER_WAIT)? {
            Reply::Status(status) => self.status = *status,
            other => return Err(self.connection.nonsense(&other)),
        }
        Ok(&self.status)
    }

    /// Waits at most `wait` until everything is dead; `None` if it was not.
    ///
    /// # Errors
    /// [`ClientError::HungUp`] if the shim was killed and so could not say how it ended.
    pub fn wait_exit(&mut self, wait: Duration) -> Result<Option<Exit>, ClientError> {
        let give_up_at = after(wait);
        loop {
            let left = give_up_at.saturating_sub(crate::clock::now_ns());
            match self.connection.next_notice(Duration::from_nanos(left)) {
                Ok(Some(Notice::Exited(exit))) => return Ok(Some(exit)),
                Ok(Some(_)) => {}
                Ok(None) => return Ok(None),
                Err(error) => return Exit::load(&self.files).map(Some).ok_or(error),
            }
        }
    }

    /// The process id of the service, as last told.
    pub fn pid(&self) -> Option<u32> {
        self.status.pid
    }

    /// The process id of its shim.
    pub fn shim_pid(&self) -> u32 {
        self.status.shim_pid
    }

    /// Where its files are.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// The connection itself, for a driver that must not block.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    fn expect_ok(&mut self, request: Request, wait: Duration) -> Result<(), ClientError> {
        match self.connection.call(request, wait)? {
            Reply::Ok => Ok(()),
            other => Err(self.connection.nonsense(&other)),
        }
    }
}

impl Exit {
    /// Reads `exit.json`; `None` if there is none that makes sense.
    pub fn load(files: &Files) -> Option<Self> {
        serde_json::from_slice(&fs::read(files.exit()).ok()?).ok()
    }
}

/// How long a start or a freeze may take.
pub const START_WAIT: Duration = Duration::from_secs(10);
/// How long any other answer may take.
pub const ANSWER_WAIT: Duration = Duration::from_secs(2);
