//! `hedgerow init`: makes the root key, the operator key, this board's identity and its ticket.
//!
//! The first board is let in like every other, by a ticket; it has no first contacts, since there is
//! nobody yet. Nothing is running meanwhile: the folder's lock is held.

use hedgerow::net::{Home, KeyFile, random_seed};
use hedgerow::proto::bounded::List;
use hedgerow::proto::id::MeshId;
use hedgerow::proto::ticket::{Role, Ticket, TicketRequest};

use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::folder;
use crate::names::ShortName;
use crate::schema::Prepared;
use crate::service::operator;
use crate::settings;
use crate::text;
use crate::ticket::{log, now};

/// Founds the mesh `name`. With `then_up`, the next step is not suggested, since it is taken.
///
/// # Errors
/// The folder belongs to a mesh already, or cannot be written.
pub(crate) fn init(context: &Context, name: &ShortName, then_up: bool) -> Outcome {
    let home = Home::open(&context.home)?;
    let _lock = home.lock()?;
    refuse_if_taken(context, &home)?;
    let node = home.node_id()?;
    let operator = home.make_key(KeyFile::Operator)?;
    let old_root = home.key_path(KeyFile::Root).exists();
    // An `init` that was cut short left its root key here; what rests on it must stay valid.
    home.make_key(KeyFile::Root)?;
    let root = home.key(KeyFile::Root)?;
    let request = TicketRequest {
        mesh_name: name.to_name(),
        role: Role::Operator,
        issued: now(),
        expires: 0,
        bootstrap: List::new(),
    };
    let ticket = Ticket::issue(&root, request, random_seed())
        .map_err(|error| Failure::failed(format!("cannot make the first ticket: {error}")))?;
    log::append(&home, &log::entry(&ticket))?;
    operator::keep_credential(&home, &ticket.bind_operator(&operator.public()))?;
    settings::write_template(&home)?;
    // Last: from here on the folder counts as taken.
    folder::keep_ticket(&home, &ticket)?;
    let mut warnings = Vec::new();
    if old_root {
        warnings.push("There was a root key already: the mesh was made with that one.".to_owned());
    }
    let prepared = Prepared {
        mesh: MeshId::of_root(&root.public()),
        mesh_name: name.to_string(),
        node,
        home: context.home.display().to_string(),
        root_key: Some(home.key_path(KeyFile::Root).display().to_string()),
        warnings,
    };
    context.show(&prepared, |prepared| for_people(context, prepared, then_up))
}

fn refuse_if_taken(context: &Context, home: &Home) -> Outcome {
    let (mesh, next) = if let Some(belonging) = folder::belonging(home)? {
        (belonging.mesh, "up")
    } else if let Some(ticket) = folder::pending_ticket(home)? {
        (ticket.body().mesh, "up")
    } else {
        return Ok(());
    };
    let message = format!(
        "{} belongs to the mesh {mesh} already, and a board never changes its mesh. Start it with \
         `{}`, or give --home another folder to found a second mesh",
        context.home.display(),
        context.command(next)
    );
    Err(Failure::new(Exit::Folder, "belongs-already", message))
}

fn for_people(context: &Context, prepared: &Prepared, then_up: bool) -> String {
    let root_key = prepared.root_key.as_deref().unwrap_or_default();
    let mut lines = vec![
        format!("Mesh {} ({}), first board {}.", prepared.mesh_name, prepared.mesh, {
            prepared.node.short()
        }),
        format!("Root key: {root_key}"),
        text::wrap(
            "  Whoever holds it lets boards in and throws them out. Back it up now. It need not \
             stay on this board: only `ticket new` and `ticket revoke` want it; services are \
             run with operator.key and operator.credential.",
            2,
        ),
    ];
    lines.extend(prepared.warnings.iter().map(|warning| text::wrap(warning, 2)));
    if !then_up {
        lines.push("Next:".to_owned());
        lines.push(format!("  {}", context.command("up")));
        lines.push(format!("  {}", context.command("ticket new")));
        lines.push("  … and on every other board the line that it prints.".to_owned());
    }
    lines.join("\n")
}
