//! What a data folder says before any node runs in it: where it belongs, and the pending ticket.
//!
//! `init` and `join` leave the ticket in the file `ticket`; the first `up` takes it from there and
//! removes it once the journal remembers the mesh. A crash in between is harmless: the ticket is
//! simply offered again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hedgerow::net::{Home, write_durably};
use hedgerow::proto::id::MeshId;
use hedgerow::proto::journal;
use hedgerow::proto::ticket::Ticket;

use crate::exit::{Exit, Failure, Outcome};

/// What the journal says about this board's belonging.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Belonging {
    /// The mesh.
    pub(crate) mesh: MeshId,
    /// It left that mesh on purpose.
    pub(crate) left: bool,
    /// A member's word that it was let in lies here.
    pub(crate) admitted: bool,
}

/// Where the journal says that this board belongs; none before its first start.
///
/// # Errors
/// The journal cannot be read.
pub(crate) fn belonging(home: &Home) -> Outcome<Option<Belonging>> {
    let path = home.journal();
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fault("read", &path, &error)),
    };
    let scan = journal::scan(&bytes).map_err(|error| {
        Failure::new(Exit::Folder, "journal", format!("{}: {error}", path.display()))
    })?;
    let durable = scan.durable;
    Ok(durable.belonging.map(|belonging| Belonging {
        mesh: belonging.mesh,
        left: durable.left,
        admitted: durable.admission.is_some(),
    }))
}

/// Why `up` would not help in this folder, if it would not: a code and a sentence. Nothing is made there.
pub(crate) fn not_ready(path: &Path) -> Option<(&'static str, String)> {
    let home = Home::at(path);
    let place = path.display();
    if ticket_path(&home).exists() {
        return None;
    }
    match belonging(&home) {
        Ok(None) => {
            let text = format!(
                "{place} holds no board yet: `hedgerow init NAME` founds a mesh, `hedgerow join TICKET` \
                 makes this board ready for one, and then `hedgerow up` starts it; or name another \
                 folder with --home"
            );
            Some(("no-mesh", text))
        }
        Ok(Some(Belonging { left: true, .. })) => {
            let text = format!(
                "the board in {place} has left its mesh; to come back it needs a ticket, made with \
                 `hedgerow ticket new` on the board with the root key: `hedgerow join TICKET`, then \
                 `hedgerow up`"
            );
            Some(("has-left", text))
        }
        Ok(Some(_)) | Err(_) => None,
    }
}

/// Keeps a ticket for the next `up`, readable by this user only.
///
/// # Errors
/// It cannot be written.
pub(crate) fn keep_ticket(home: &Home, ticket: &Ticket) -> Outcome {
    let path = ticket_path(home);
    write_durably(&path, format!("{ticket}\n").as_bytes())
        .map_err(|error| fault("write", &path, &error))
}

/// The pending ticket.
///
/// # Errors
/// The file cannot be read, or holds no ticket.
pub(crate) fn pending_ticket(home: &Home) -> Outcome<Option<Ticket>> {
    let path = ticket_path(home);
    match fs::read_to_string(&path) {
        Ok(text) => Ticket::parse(&text).map(Some).map_err(|error| {
            Failure::new(Exit::Ticket, "pending-ticket", format!("{}: {error}", path.display()))
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(fault("read", &path, &error)),
    }
}

/// Forgets the pending ticket: the journal remembers the mesh from now on.
///
/// # Errors
/// The file is there and cannot be removed.
pub(crate) fn drop_ticket(home: &Home) -> Outcome {
    let path = ticket_path(home);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(fault("remove", &path, &error))
        }
        _ => Ok(()),
    }
}

/// A file of the data folder that cannot be used.
pub(crate) fn fault(what: &str, path: &Path, error: &io::Error) -> Failure {
    let advice = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; run this as the user whose board it is, or choose another folder with --home"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; free some space",
        _ => "",
    };
    let message = format!("cannot {what} {}: {error}{advice}", path.display());
    Failure::new(Exit::Folder, "data-folder", message)
}

fn ticket_path(home: &Home) -> PathBuf {
    home.path().join("ticket")
}
