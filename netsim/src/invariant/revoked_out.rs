//! Whom the operator has revoked is let in, and held for a member, by nobody who knows.
//!
//! A member knows from when it asks its disk to keep the revocation, and in later lives if the disk did.

use std::collections::BTreeSet;

use hedgerow::proto::id::NodeId;
use hedgerow::proto::io::{Effect, Event};
use hedgerow::proto::journal::Record;
use hedgerow::proto::ticket::Revoked;

use super::Invariant;
use crate::observe::{Finding, Findings, Observation, What, kind};

pub(super) struct RevokedOut {
    /// Whom each board knows to be revoked.
    known: Vec<BTreeSet<NodeId>>,
}

impl RevokedOut {
    pub(super) fn new(boards: usize) -> Self {
        Self { known: vec![BTreeSet::new(); boards] }
    }
}

impl Invariant for RevokedOut {
    fn name(&self) -> &'static str {
        "who-is-revoked-stays-out"
    }

    fn means(&self) -> &'static str {
        "A board that the operator has revoked is let in, or held for up, by nobody who knows of that."
    }

    fn wants(&self) -> u16 {
        kind::LIFE | kind::EFFECT
    }

    fn on(&mut self, seen: &Observation<'_>, findings: &mut Findings) {
        let known = &mut self.known[usize::from(seen.board)];
        match seen.what {
            What::Boot(boot) => {
                let revoked = boot.durable.revocations.keys();
                *known = revoked.filter_map(|revoked| node(*revoked)).collect();
            }
            What::Effect(Effect::Persist { record: Record::Revocation(signed), .. }) => {
                known.extend(signed.peek().ok().and_then(|revocation| node(revocation.target)));
            }
            What::Effect(
                effect @ (Effect::Admit { peer }
                | Effect::Event(Event::MemberUp { node: peer, .. })),
            ) if known.contains(peer) => {
                let lets_in = matches!(effect, Effect::Admit { .. });
                let does = if lets_in { "lets in" } else { "holds for up" };
                let text = format!("{does} {}, of whom it knows that it was revoked", peer.short());
                let (at, rule) = (seen.at, self.name());
                findings.push(Finding { at, rule, board: Some(seen.board), text });
            }
            _ => {}
        }
    }
}

fn node(revoked: Revoked) -> Option<NodeId> {
    match revoked {
        Revoked::Node(node) => Some(node),
        Revoked::Ticket(_) => None,
    }
}
