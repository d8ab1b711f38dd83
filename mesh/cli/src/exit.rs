//! How a command ends: the one table of exit codes, and the failure that carries one of them.
//!
//! Scripts branch on the number, programs on the code, people read the sentence. A [`Failure`] is
//! made where the fault is known best and travels up unchanged; nothing here decides what to do.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::process::ExitCode;

use hedgerow::error::{RunError, StartError};
use hedgerow::net::HomeError;
use hedgerow::proto::node::RecoverError;
use hedgerow::proto::ticket::TicketError;

use crate::text;

/// Every way in which `hedgerow` ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done.
    Ok = 0,
    /// Anything without a number of its own.
    Failed = 1,
    /// The command line is wrong; also what clap uses.
    Usage = 2,
    /// No daemon answers on the socket of the data folder.
    NoDaemon = 3,
    /// What the command was about does not exist, or is not unique.
    NotFound = 4,
    /// The ticket was mis-pasted or refused.
    Ticket = 5,
    /// The configuration is broken.
    Config = 6,
    /// The data folder or its disk.
    Folder = 7,
    /// No listening address can be used.
    Listen = 8,
    /// The node stopped by itself.
    Halted = 9,
}

/// Code and meaning, in order, as `--help` shows them.
const TABLE: [(Exit, &str); 10] = [
    (Exit::Ok, "done"),
    (Exit::Failed, "failed; the message says why"),
    (Exit::Usage, "the command line is wrong"),
    (Exit::NoDaemon, "no daemon answers in this data folder"),
    (Exit::NotFound, "not found, or more than one matches"),
    (Exit::Ticket, "the ticket was mis-pasted or refused"),
    (Exit::Config, "the configuration is broken"),
    (Exit::Folder, "the data folder or its disk cannot be used"),
    (Exit::Listen, "cannot listen on an address"),
    (Exit::Halted, "the node halted: its disk failed, or it was revoked"),
];

/// Why a command did not do what it was asked to.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Which row of the table.
    pub(crate) exit: Exit,
    /// For programs, kebab-case.
    pub(crate) code: Cow<'static, str>,
    /// For people: what happened, to what, what to do next.
    pub(crate) message: String,
}

/// What most functions of this binary return.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// The table as text, for `--help`.
pub(crate) fn table() -> String {
    TABLE.iter().fold("Exit codes:\n".to_owned(), |mut text, (exit, meaning)| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {}  {meaning}", *exit as u8);
        text
    })
}

impl Failure {
    /// A failure with everything told.
    pub(crate) fn new(
        exit: Exit,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self { exit, code: code.into(), message: message.into() }
    }

    /// A fault of the machine that has no number of its own.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, "failed", message)
    }

    /// Whoever read the output has gone away, as `head` does: nothing went wrong.
    pub(crate) fn reader_gone() -> Self {
        Self::new(Exit::Ok, "reader-gone", "")
    }

    /// Tells it on stderr and gives the exit code.
    pub(crate) fn report(&self, json: bool) -> ExitCode {
        if self.exit != Exit::Ok {
            let told = match json {
                true => serde_json::json!({
                    "code": self.code, "message": self.message, "exit": self.exit as u8,
                })
                .to_string(),
                false => text::wrap(&format!("hedgerow: {}", self.message), 2),
            };
            eprintln!("{told}");
        }
        ExitCode::from(self.exit as u8)
    }
}

impl From<HomeError> for Failure {
    fn from(error: HomeError) -> Self {
        let code = match &error {
            HomeError::Locked(_) => "locked",
            HomeError::RottenKey(_) => "rotten-key",
            HomeError::LostKey(_) => "lost-key",
            HomeError::LostJournal(_) => "lost-journal",
            HomeError::NoKey(_) => "no-key",
            _ => "data-folder",
        };
        Self::new(Exit::Folder, code, error.to_string())
    }
}

impl From<TicketError> for Failure {
    fn from(error: TicketError) -> Self {
        let code = match &error {
            TicketError::NotATicket => "not-a-ticket",
            TicketError::Damaged => "ticket-damaged",
            TicketError::Newer => "ticket-newer",
            _ => "ticket-not-genuine",
        };
        Self::new(Exit::Ticket, code, error.to_string())
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let message = error.to_string();
        match error {
            StartError::Home(error) => error.into(),
            StartError::Recording { .. } => Self::new(Exit::Folder, "recording", message),
            StartError::Journal(_) => Self::new(Exit::Folder, "journal", message),
            StartError::Listen(_) => Self::new(Exit::Listen, "cannot-listen", message),
            StartError::Recover(RecoverError::OtherMesh) => {
                Self::new(Exit::Ticket, "other-mesh", message)
            }
            StartError::Recover(RecoverError::NoMesh) => {
                Self::new(Exit::Failed, "no-mesh", message)
            }
            StartError::Recover(RecoverError::HasLeft) => {
                Self::new(Exit::Failed, "has-left", message)
            }
            _ => Self::failed(message),
        }
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        let (exit, code) = match &error {
            RunError::Halted(_) => (Exit::Halted, "halted"),
            _ => (Exit::Failed, "failed"),
        };
        Self::new(exit, code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_lists_every_code_once_in_order_and_fits_the_screen() {
        for (row, (exit, _)) in TABLE.iter().enumerate() {
            assert_eq!(usize::from(*exit as u8), row);
        }
        assert!(table().lines().all(|line| line.chars().count() <= text::WIDTH));
    }
}
