//! `tickets.log`: the tickets that were made in a data folder, without their secrets.
//!
//! One JSON value on each line, appended and synced before a ticket is shown to anybody: a ticket
//! that is out can always be named and revoked. A line that cannot be read is skipped and counted.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use hedgerow::net::Home;
use hedgerow::proto::ticket::{Role, Ticket};

use crate::exit::{Failure, Outcome};
use crate::folder;
use crate::schema::TicketEntry;

/// What is kept of `ticket`.
pub(crate) fn entry(ticket: &Ticket) -> TicketEntry {
    let body = ticket.body();
    TicketEntry {
        id: ticket.id(),
        role: match body.role {
            Role::Member => "member",
            Role::Operator => "operator",
        }
        .to_owned(),
        issued: body.issued,
        expires: body.expires,
        bootstrap: body.bootstrap.iter().map(|first| first.node).collect(),
    }
}

/// Appends `entry` durably.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn append(home: &Home, entry: &TicketEntry) -> Outcome {
    let path = home.tickets();
    let mut line = serde_json::to_string(entry)
        .map_err(|error| Failure::failed(format!("cannot note the ticket: {error}")))?;
    line.push('\n');
    let written = (|| {
        let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
        let before = file.metadata()?.len();
        file.write_all(line.as_bytes()).and_then(|()| file.sync_all()).inspect_err(|_| {
            // Half a line would spoil the next one. Best effort: what remains is told as unreadable.
            let _ = file.set_len(before);
        })
    })();
    written.map_err(|error: io::Error| folder::fault("write", &path, &error))
}

/// Every readable entry, oldest first, and how many lines were not readable.
///
/// # Errors
/// The file is there and cannot be read.
pub(crate) fn read(home: &Path) -> Outcome<(Vec<TicketEntry>, usize)> {
    let path = home.join("tickets.log");
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        Err(error) => return Err(folder::fault("read", &path, &error)),
    };
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let entries: Vec<TicketEntry> =
        lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let unreadable = lines.len() - entries.len();
    Ok((entries, unreadable))
}
