//! Events as sentences for people, with names where they are known.

use std::collections::BTreeMap;

use hedgerow::proto::id::NodeId;
use hedgerow::proto::io::{Event, NodeView};

/// The names of members, learnt from the list and kept up with by the events themselves.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeMap<NodeId, String>);

const STAYS: &str =
    "this board was stopped before it had left, and stays a member: `hedgerow leave` once more";

impl Names {
    /// The names in the list of members.
    pub(super) fn new(nodes: &[NodeView]) -> Self {
        Self(nodes.iter().map(|node| (node.node, node.name.clone())).collect())
    }

    fn of(&self, node: &NodeId) -> String {
        self.0.get(node).cloned().unwrap_or_else(|| node.short())
    }

    /// What happened, as a sentence.
    pub(super) fn sentence(&mut self, event: &Event) -> String {
        if let Event::MemberUp { node, name, .. } | Event::Admitted { node, name } = event {
            self.0.insert(*node, name.clone());
        }
        self.told(event)
    }

    fn told(&self, event: &Event) -> String {
        match event {
            Event::Started { node, incarnation, .. } => {
                format!("this board ({}) started, incarnation {incarnation}", node.short())
            }
            Event::Admitted { name, .. } => format!("{name} was let in here"),
            Event::Refused { node, reason } => {
                format!("{} was not let in: {}", self.of(node), reason.advice())
            }
            Event::RefusedBy { node, reason, .. } => {
                format!("{} did not let this board in: {}", self.of(node), reason.advice())
            }
            Event::MemberUp { name, incarnation, .. } => {
                format!("{name} is up, incarnation {incarnation}")
            }
            Event::Suspected { node, by } => {
                format!("{} does not answer {}", self.of(node), self.of(by))
            }
            Event::Refuted { node } => format!("{} answered for itself", self.of(node)),
            Event::MemberDown { name, alerters: 0, .. } => {
                format!("{name} is held for dead, as another member said")
            }
            Event::MemberDown { name, alerters, .. } => {
                format!(
                    "{name} is held for dead: {} lost contact with it",
                    counted(*alerters, "member")
                )
            }
            Event::MemberLeft { name, .. } => format!("{name} left"),
            Event::Isolated { silent, of, isolated: true } => {
                format!("{silent} of {of} watched members are silent: this board judges nobody")
            }
            Event::Isolated { isolated: false, .. } => "enough members answer again".to_owned(),
            Event::Runs { .. }
            | Event::Adopted { .. }
            | Event::Ended { .. }
            | Event::Copied { .. }
            | Event::Fetched { .. }
            | Event::CopyFailed { .. }
            | Event::Takes { .. }
            | Event::Unable { .. }
            | Event::SplitRan { .. }
            | Event::Orphaned { .. }
            | Event::Appointed { .. }
            | Event::Protected { .. } => self.about_instance(event),
            Event::SteppedDown { term, why } => {
                format!("this board is no longer master (term {term}): {why}")
            }
            Event::TableChosen { term, number, .. } => {
                format!("version {number} of the table was chosen in term {term}")
            }
            Event::VotersChanged { voters } => {
                format!("these boards decide from now on: {}", voters.join(", "))
            }
            Event::MasterIs { name, term, .. } => format!("{name} is master of term {term}"),
            Event::Revoked { target } => format!("revoked: {target}"),
            Event::Topic { topic, from, body } => {
                format!("{} published {} bytes on {topic}", self.of(from), body.len())
            }
            Event::Misbehaved { node, what } => format!("{} broke a rule: {what}", self.of(node)),
            Event::Stalled { late_ms, carried_ms } => {
                format!("this board stalled for {late_ms} ms; its leases carry {carried_ms} ms")
            }
            Event::RecoveredTwice { generation } => format!(
                "the mesh was recovered by force in two places (time {generation}): this board follows the other one, and what was decided here since may be lost"
            ),
            Event::Left => "this board left the mesh".to_owned(),
            Event::Stays => STAYS.to_owned(),
            Event::Halted { why } => format!("this board stopped for good: {why}"),
        }
    }

    /// What happened to an instance, as a sentence.
    fn about_instance(&self, event: &Event) -> String {
        match event {
            Event::Runs { instance, epoch } => format!("{instance} runs here, epoch {epoch}"),
            Event::Adopted { instance, epoch } => {
                format!("{instance} ran on while this board's agent restarted, epoch {epoch}")
            }
            Event::Ended { instance, why, .. } => format!("{instance} ended here: {why}"),
            Event::Copied { instance, epoch, seq, by } => {
                format!("{} holds state {epoch}.{seq} of {instance}", self.of(by))
            }
            Event::Fetched { instance, epoch, seq, cost } => format!(
                "state {epoch}.{seq} of {instance} was fetched: {} bytes for a state of {}",
                cost.wire_bytes, cost.state_bytes
            ),
            Event::CopyFailed { instance, why } => format!("{instance} was not copied: {why}"),
            Event::Orphaned { instance } => format!(
                "the mesh was recovered from a table that does not know {instance}; its newest state is kept here: run its file again, then `hedgerow recover {instance} --from` this board `--force`"
            ),
            Event::SplitRan { instance, old, new, for_ms } => format!(
                "{instance} ran here under epoch {old} for {for_ms} ms although epoch {new} had the right elsewhere; what was written here meanwhile is kept beside its state folder"
            ),
            Event::Takes { instance, epoch } => {
                format!("this board asks to take {instance} over; epoch {epoch} is silent")
            }
            Event::Unable { instance, why } => {
                format!("this board stands by for {instance} but could not start it: {why}")
            }
            Event::Appointed { instance, epoch } => {
                format!("{instance} is to run here from now on, epoch {epoch}")
            }
            Event::Protected { instance, standby: Some(standby), .. } => {
                format!("{instance} is protected: {} can carry on", self.of(standby))
            }
            Event::Protected { instance, standby: None, .. } => {
                format!("{instance} is not protected: no other board could carry on yet")
            }
            _ => String::new(),
        }
    }
}

fn counted(count: u16, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
