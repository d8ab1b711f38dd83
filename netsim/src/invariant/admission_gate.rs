//! Before a node has let a peer in, nothing but `Hello` and `Refused` passes between them.
//!
//! The sending half judges the node, the receiving half judges the gate of the driver. Design 2,
//! *Admission*: "until it has passed, the peer may use nothing".

use std::collections::BTreeSet;

use hedgerow::proto::id::NodeId;
use hedgerow::proto::io::{Effect, Input};
use hedgerow::proto::wire::Message;

use super::Invariant;
use crate::observe::{Finding, Findings, Observation, What, kind};

pub(super) struct AdmissionGate {
    admitted: Vec<BTreeSet<NodeId>>,
}

impl AdmissionGate {
    pub(super) fn new(boards: usize) -> Self {
        Self { admitted: vec![BTreeSet::new(); boards] }
    }
}

impl Invariant for AdmissionGate {
    fn name(&self) -> &'static str {
        "nothing-passes-before-admission"
    }

    fn means(&self) -> &'static str {
        "Until a board has let another one in, nothing passes between the two but greetings \
         and refusals."
    }

    fn wants(&self) -> u16 {
        kind::LIFE | kind::INPUT | kind::RECEIVED | kind::EFFECT | kind::SENT
    }

    fn on(&mut self, seen: &Observation<'_>, findings: &mut Findings) {
        let admitted = &mut self.admitted[usize::from(seen.board)];
        let (verb, peer, message) = match seen.what {
            What::Boot(_) | What::Gone { .. } => return admitted.clear(),
            What::Effect(Effect::Admit { peer }) => {
                admitted.insert(*peer);
                return;
            }
            What::Input(Input::Disconnected { peer, .. }) => {
                admitted.remove(peer);
                return;
            }
            What::Sent(Effect::Send { to, message }, _) => ("sent", to, message),
            What::Received(Input::Received { from, message }, _) => ("was given", from, message),
            _ => return,
        };
        if matches!(message, Message::Hello(_) | Message::Refused(_)) || admitted.contains(peer) {
            return;
        }
        let text = format!("{verb} {} before {} was let in", message.name(), peer.short());
        findings.push(Finding { at: seen.at, rule: self.name(), board: Some(seen.board), text });
    }
}
