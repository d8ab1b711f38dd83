//! `hedgerow ticket new`: a ticket whose first contacts are boards that are up right now.

use hedgerow::net::{Home, random_seed};
use hedgerow::proto::bounded::{List, Text};
use hedgerow::proto::effective_time::BUILD_UNIX;
use hedgerow::proto::record::Name;
use hedgerow::proto::ticket::{BOOTSTRAP_NODES_MAX, Bootstrap, Role, Ticket, TicketRequest};

use super::{log, now, root_key, same_mesh};
use crate::args::RoleArg;
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::names::Lifetime;
use crate::schema::{NewTicket, Node, Status};
use crate::text;

/// Makes a ticket and prints the line that joins a board with it.
///
/// # Errors
/// The root key is not here, no daemon answers, or no board has an address to name.
pub(super) async fn make(context: &Context, role: RoleArg, lifetime: Lifetime) -> Outcome {
    let root = root_key(context)?;
    let status: Status = context.client().get("/v1/status").await?;
    same_mesh(&root, &status)?;
    let issued = now();
    refuse_to_expire_at_birth(issued, lifetime)?;
    let request = TicketRequest {
        mesh_name: Name::capped(&status.mesh_name),
        role: match role {
            RoleArg::Member => Role::Member,
            RoleArg::Operator => Role::Operator,
        },
        issued,
        expires: lifetime.end(issued),
        bootstrap: first_contacts(&status.nodes)?,
    };
    let ticket = Ticket::issue(&root, request, random_seed())
        .map_err(|error| Failure::failed(format!("cannot make the ticket: {error}")))?;
    let entry = log::entry(&ticket);
    log::append(&Home::open(&context.home)?, &entry)?;
    let new = NewTicket { ticket: ticket.to_string(), entry };
    context.show(&new, |new| for_people(&status.mesh_name, new))
}

/// A board without a battery for its clock may live in 1970. Others judge its tickets by the time that
/// it is, so one that is to expire would have done so already.
fn refuse_to_expire_at_birth(now: u64, lifetime: Lifetime) -> Outcome {
    if now >= BUILD_UNIX || lifetime == Lifetime::Never {
        return Ok(());
    }
    let message = format!(
        "this board's clock says {} UTC, which is before this version was made, so that every other \
         board would take the ticket for expired. Set the clock, or make a ticket that needs none \
         with --expires never and revoke it once it was used",
        text::date(now)
    );
    Err(Failure::new(Exit::Failed, "clock", message))
}

/// The board that answers, then others that are up; only such as have told an address.
fn first_contacts(nodes: &[Node]) -> Outcome<List<Bootstrap, BOOTSTRAP_NODES_MAX>> {
    let usable = |node: &&Node| node.state == "up" && !node.addresses.is_empty();
    let mut nodes: Vec<&Node> = nodes.iter().filter(usable).collect();
    nodes.sort_by_key(|node| (!node.me, node.path != "linked"));
    if nodes.is_empty() {
        let message = "this board has no address yet at which others could reach it; wait until \
                       it listens, or check --listen and --announce of `hedgerow up`";
        return Err(Failure::new(Exit::Failed, "no-address", message));
    }
    Ok(List::capped(nodes.iter().map(|node| Bootstrap {
        node: node.node,
        addresses: List::capped(node.addresses.iter().map(|address| Text::capped(address))),
    })))
}

/// The join line is the one line that may be longer than the screen: it has to be pasted whole.
fn for_people(mesh_name: &str, new: &NewTicket) -> String {
    let until = match new.entry.expires {
        0 => "It never expires".to_owned(),
        expires => format!("It lets boards in until {} UTC", text::date(expires)),
    };
    let about = format!(
        "A ticket for the mesh {mesh_name}, role {}. {until}; whoever has it can join, so send it \
         as you would a password. Run this on the other board:",
        new.entry.role
    );
    format!("{}\n\nhedgerow join {}\n", text::wrap(&about, 0), new.ticket)
}
