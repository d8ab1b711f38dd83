//! `hedgerow ticket revoke`: root's word that a ticket or a board is no longer welcome.
//!
//! A ticket need not be in the log: one that was made elsewhere, or whose line is lost, is named by
//! its full id or by the ticket itself. The same holds for a board that is known no more.

use hedgerow::proto::id::{Digest16, NodeId};
use hedgerow::proto::signed::Signed;
use hedgerow::proto::ticket::{Revocation, Revoked, Ticket};
use hedgerow::proto::wire::codec;

use super::{log, now, root_key, same_mesh};
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::schema::{Done, Status};
use crate::text;
use crate::which;

/// Revokes a ticket or a board.
///
/// # Errors
/// The root key is not here, no daemon answers, or nothing matches.
pub(super) async fn revoke(
    context: &Context,
    ticket: Option<String>,
    node: Option<String>,
) -> Outcome {
    let root = root_key(context)?;
    let client = context.client();
    let status: Status = client.get("/v1/status").await?;
    same_mesh(&root, &status)?;
    let target = match (ticket, node) {
        (Some(ticket), _) => Revoked::Ticket(which_ticket(context, ticket.trim())?),
        (None, Some(node)) => Revoked::Node(which_node(context, node.trim()).await?),
        (None, None) => return Err(Failure::new(Exit::Usage, "usage", "revoke what?")),
    };
    if target == Revoked::Node(status.node) {
        let message = "this is the very board that runs here: to take it out of the mesh use \
                       `hedgerow leave`, or revoke it from another board with the root key";
        return Err(Failure::new(Exit::Failed, "revokes-itself", message));
    }
    let revocation = Revocation { mesh: status.mesh, target, at: now() };
    let signed: Result<Signed<Revocation>, _> = Signed::seal(&revocation, &root);
    let body = signed
        .and_then(|signed| codec::encode(&signed))
        .map_err(|error| Failure::failed(format!("cannot sign the revocation: {error}")))?;
    client.post("/v1/revoke", body).await?;
    let done = Done { done: "revoked".to_owned(), object: target.to_string() };
    context.show(&done, |done| {
        let effect = match target {
            Revoked::Ticket(_) => "It admits nobody new; boards that came with it before stay.",
            Revoked::Node(_) => "It is disconnected everywhere and cannot come back.",
        };
        text::wrap(&format!("Revoked: {}. {effect}", done.object), 2)
    })
}

fn which_ticket(context: &Context, given: &str) -> Outcome<Digest16> {
    if given.starts_with("hedge") {
        return Ok(Ticket::parse(given)?.id());
    }
    let given = given.to_ascii_lowercase();
    if let Some(id) = Digest16::parse(&given) {
        return Ok(id);
    }
    let (entries, _) = log::read(&context.home)?;
    let mut found: Vec<Digest16> = entries
        .iter()
        .map(|entry| entry.id)
        .filter(|id| id.to_string().starts_with(&given))
        .collect();
    found.dedup();
    match found[..] {
        [id] => Ok(id),
        [] => Err(not_found(format!(
            "no ticket made here has an id that begins with `{given}`; `hedgerow ticket ls` lists \
             them. One that was made elsewhere is named by its full id or by the ticket itself"
        ))),
        _ => Err(not_found(format!("{} tickets begin with `{given}`; give more", found.len()))),
    }
}

/// A board that is known no more is named by its full id.
async fn which_node(context: &Context, given: &str) -> Outcome<NodeId> {
    match NodeId::parse(given) {
        Some(id) => Ok(id),
        None => Ok(which::board_for_good(context, given).await?.node),
    }
}

fn not_found(message: String) -> Failure {
    Failure::new(Exit::NotFound, "not-found", message)
}
