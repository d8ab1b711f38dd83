//! Admission: nobody joins who was not let in.
//!
//! The first message on every connection is `Hello`; both sides show the chain root → ticket → node
//! and judge it alone, without asking anyone. Until the other side has passed, it may use nothing:
//! the driver opens no other protocol before [`Effect::Admit`](super::io::Effect::Admit).
//!
//! A ticket must be unexpired only when its holder is let in for the first time. The member that
//! lets it in signs an [`Admission`]; later hellos rest on that, or on being known already.
//!
//! This part judges; it keeps no state.

use super::id::{CellId, NodeId};
use super::members::{MEMBERS_MAX, Members};
use super::myself::Myself;
use super::record::{Admission, NodeRecord};
use super::ticket::{Grant, Revoked};
use super::wire::gossip::Joined;
use super::wire::hello::{Hello, Refusal};
use super::wire::{WIRE_VERSION, WIRE_VERSION_MIN};

/// What a hello that passed means.
#[derive(Debug)]
pub struct Accepted {
    /// The peer's record, verified.
    pub record: NodeRecord,
    /// Everything others need to check the same.
    pub joined: Joined,
    /// Set when the peer was let in by this very hello: what this node should sign.
    pub first: Option<Admission>,
    /// When the peer's ticket was made, by a clock that root vouched for.
    pub ticket_issued: u64,
}

/// Judges a hello from `peer` at effective time `unix`.
///
/// # Errors
/// Why the peer may not come in.
pub fn judge(
    hello: Hello,
    peer: &NodeId,
    me: &Myself,
    members: &Members,
    unix: u64,
) -> Result<Accepted, Refusal> {
    let (min, max) = hello.wire;
    if max < WIRE_VERSION_MIN || min > WIRE_VERSION {
        return Err(Refusal::WireVersion);
    }
    if hello.mesh != me.belonging.mesh {
        return Err(Refusal::ForeignMesh);
    }
    if hello.cell != me.config().cell {
        return Err(Refusal::ForeignCell);
    }
    if members.is_revoked(&Revoked::Node(*peer)) {
        return Err(Refusal::NodeRevoked);
    }
    let joined =
        Joined { record: hello.record, credential: hello.credential, admission: hello.admission };
    let (record, grant) = verify(&joined, me.config().cell, me, members)?;
    if record.node != *peer {
        return Err(Refusal::Garbled);
    }
    if members.get(peer).is_none() && members.len() >= MEMBERS_MAX {
        return Err(Refusal::Full);
    }
    let first = match vouched_before(&joined, peer, &grant, me, members) {
        Ok(()) => None,
        Err(refusal) => {
            unexpired(&grant, members, unix).map_err(|now| match refusal {
                // An admission by somebody unknown explains more than the expiry.
                Refusal::UnknownAdmitter => Refusal::UnknownAdmitter,
                _ => now,
            })?;
            Some(Admission { node: *peer, ticket: grant.ticket, by: me.id(), at: unix })
        }
    };
    Ok(Accepted { record, joined, first, ticket_issued: grant.body.issued })
}

/// Checks the signatures and the chain of a member that another member vouches for by passing it
/// on; expiry was judged when it was admitted.
///
/// # Errors
/// `Garbled` or `Forged`.
pub fn verify(
    joined: &Joined,
    cell: CellId,
    me: &Myself,
    members: &Members,
) -> Result<(NodeRecord, Grant), Refusal> {
    let claimed = joined.record.peek().map_err(|_| Refusal::Garbled)?;
    // What the list holds was verified when it was put in: the same bytes need not be checked again.
    let known = members.get(&claimed.node);
    let grant = match known.filter(|known| known.credential == joined.credential) {
        Some(known) => {
            let body = known.credential.ticket.peek().map_err(|_| Refusal::Forged)?;
            Grant { ticket: known.credential.ticket.digest(), body }
        }
        None => {
            let root = &me.belonging.root;
            joined.credential.verify_node(root, &claimed.node).map_err(|_| Refusal::Forged)?
        }
    };
    let record = match known.filter(|known| known.signed == joined.record) {
        Some(known) => known.record.clone(),
        None => joined.record.open(&claimed.node).map_err(|_| Refusal::Garbled)?,
    };
    if record.cell != cell {
        return Err(Refusal::ForeignCell);
    }
    Ok((record, grant))
}

/// Whether somebody whose word counts here has let this peer in already.
fn vouched_before(
    joined: &Joined,
    peer: &NodeId,
    grant: &Grant,
    me: &Myself,
    members: &Members,
) -> Result<(), Refusal> {
    // The same ticket as when this node learnt of it; a member cannot come back with another's.
    if members.get(peer).is_some_and(|known| known.credential.ticket == joined.credential.ticket) {
        return Ok(());
    }
    // Root named this very board in the ticket that this node came with.
    let own_ticket = me.belonging.credential.ticket.peek();
    if own_ticket.is_ok_and(|body| body.bootstrap.iter().any(|first| first.node == *peer)) {
        return Ok(());
    }
    let Some(signed) = &joined.admission else { return Err(Refusal::Expired) };
    let claimed = signed.peek().map_err(|_| Refusal::Garbled)?;
    if claimed.node != *peer || claimed.ticket != grant.ticket {
        return Err(Refusal::Forged);
    }
    let revoked = members.is_revoked(&Revoked::Node(claimed.by));
    if claimed.by != me.id() && (members.get(&claimed.by).is_none() || revoked) {
        return Err(Refusal::UnknownAdmitter);
    }
    signed.open(&claimed.by).map(drop).map_err(|_| Refusal::Forged)
}

fn unexpired(grant: &Grant, members: &Members, unix: u64) -> Result<(), Refusal> {
    if members.is_revoked(&Revoked::Ticket(grant.ticket)) {
        return Err(Refusal::TicketRevoked);
    }
    if grant.body.expires != 0 && unix >= grant.body.expires {
        return Err(Refusal::Expired);
    }
    Ok(())
}
