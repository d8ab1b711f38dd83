//! `hedgerow ticket`: makes, lists and revokes tickets. All that needs the root key is here.

pub(crate) mod log;
mod make;
mod revoke;

use std::time::{SystemTime, UNIX_EPOCH};

use hedgerow::net::{Home, KeyFile};
use hedgerow::proto::id::Keypair;

use crate::args::TicketCommand;
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::schema::ListedTicket;
use crate::text::{Table, date, wrap};

/// Carries out one of the ticket commands.
///
/// # Errors
/// As for each of them.
pub(crate) async fn run(context: &Context, command: TicketCommand) -> Outcome {
    match command {
        TicketCommand::New { role, expires } => make::make(context, role, expires).await,
        TicketCommand::Ls => list(context).await,
        TicketCommand::Revoke { ticket, node } => revoke::revoke(context, ticket, node).await,
    }
}

/// This board's clock of day, unix seconds.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

async fn list(context: &Context) -> Outcome {
    let revoked: Option<Vec<String>> = match context.client().get("/v1/revocations").await {
        Ok(revoked) => Some(revoked),
        Err(failure) if failure.exit == Exit::NoDaemon => None,
        Err(failure) => return Err(failure),
    };
    if revoked.is_none() {
        context.note("No daemon answers, so revoked tickets are not told apart here.");
    }
    let revoked = revoked.unwrap_or_default();
    let (entries, unreadable) = log::read(&context.home)?;
    if unreadable > 0 {
        context.note(&format!("{unreadable} lines of tickets.log are unreadable."));
    }
    let now = now();
    let listed: Vec<ListedTicket> = entries
        .into_iter()
        .map(|entry| {
            let state = match entry.expires {
                _ if revoked.contains(&format!("ticket {}", entry.id)) => "revoked",
                0 => "valid",
                expires if expires <= now => "expired",
                _ => "valid",
            };
            ListedTicket { entry, state: state.to_owned() }
        })
        .collect();
    context.show(&listed, |listed| {
        if listed.is_empty() {
            return wrap("No ticket was made in this data folder yet.", 0);
        }
        let mut table = Table::new(&[
            ("TICKET", 10),
            ("ROLE", 8),
            ("ISSUED (UTC)", 16),
            ("EXPIRES (UTC)", 16),
            ("STATE", 0),
        ]);
        for ListedTicket { entry, state } in listed {
            table.row(vec![
                entry.id.to_string().chars().take(10).collect(),
                entry.role.clone(),
                date(entry.issued),
                if entry.expires == 0 { "never".to_owned() } else { date(entry.expires) },
                state.clone(),
            ]);
        }
        table.render()
    })
}

/// The root key, or where to find it.
fn root_key(context: &Context) -> Outcome<Keypair> {
    // Without this, asking for a key would make the folder.
    if !context.home.exists() {
        let path = context.home.join("root.key");
        return Err(hedgerow::net::HomeError::NoKey(path).into());
    }
    Ok(Home::open(&context.home)?.key(KeyFile::Root)?)
}

/// The root key here and the running mesh must belong together.
fn same_mesh(root: &Keypair, status: &crate::schema::Status) -> Outcome {
    let mesh = hedgerow::proto::id::MeshId::of_root(&root.public());
    if mesh == status.mesh {
        return Ok(());
    }
    let message = format!(
        "the root key in this folder is that of the mesh {mesh}, but the board that runs here \
         belongs to {} ({}): use the root key of that mesh",
        status.mesh_name, status.mesh
    );
    Err(Failure::new(Exit::Failed, "other-mesh", message))
}
