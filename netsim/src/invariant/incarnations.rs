//! No two lives of one identity use the same incarnation.
//!
//! An incarnation is used when it leaves the board in the board's own signed record.

use std::collections::BTreeMap;

use hedgerow::proto::id::NodeId;
use hedgerow::proto::io::{Effect, Event};
use hedgerow::proto::record::NodeRecord;
use hedgerow::proto::signed::Signed;
use hedgerow::proto::wire::Message;
use hedgerow::proto::wire::gossip::Fact;

use super::Invariant;
use crate::observe::{Finding, Findings, Observation, What, kind};
use crate::queue::BoardIndex;

#[derive(Default)]
pub(super) struct Incarnations {
    /// Identity and life of each board.
    now: BTreeMap<BoardIndex, (NodeId, u32)>,
    /// For each identity: incarnation → the life that used it.
    used: BTreeMap<NodeId, BTreeMap<u64, u32>>,
}

impl Incarnations {
    fn uses(&mut self, seen: &Observation<'_>, incarnation: u64, findings: &mut Findings) {
        let Some((node, life)) = self.now.get(&seen.board) else { return };
        let by = *self.used.entry(*node).or_default().entry(incarnation).or_insert(*life);
        if by != *life {
            let text =
                format!("life {life} uses incarnation {incarnation}, which life {by} has used");
            let board = Some(seen.board);
            findings.push(Finding { at: seen.at, rule: self.name(), board, text });
        }
    }

    fn record(
        &mut self,
        seen: &Observation<'_>,
        record: &Signed<NodeRecord>,
        findings: &mut Findings,
    ) {
        let Ok(record) = record.peek() else { return };
        if self.now.get(&seen.board).is_some_and(|(node, _)| *node == record.node) {
            self.uses(seen, record.incarnation.0, findings);
        }
    }
}

impl Invariant for Incarnations {
    fn name(&self) -> &'static str {
        "no-incarnation-is-used-twice"
    }

    fn means(&self) -> &'static str {
        "No two lives of a board use the same incarnation number: after a restart it takes a \
         higher one."
    }

    fn wants(&self) -> u16 {
        kind::LIFE | kind::EFFECT | kind::SENT
    }

    fn on(&mut self, seen: &Observation<'_>, findings: &mut Findings) {
        match seen.what {
            What::Boot(boot) => {
                self.now.insert(seen.board, (boot.node, boot.life));
            }
            // With an old journal it cannot know which ones it has used.
            What::SetBack => {
                if let Some((node, _)) = self.now.get(&seen.board) {
                    self.used.remove(node);
                }
            }
            What::Effect(Effect::Event(Event::Started { incarnation, .. })) => {
                self.uses(seen, *incarnation, findings);
            }
            What::Sent(Effect::Send { message, .. }, _) => match message {
                Message::Hello(hello) => self.record(seen, &hello.record, findings),
                Message::Facts(facts) => {
                    for fact in &facts.facts {
                        match fact {
                            Fact::Alive(record) => self.record(seen, record, findings),
                            Fact::Joined(joined) => self.record(seen, &joined.record, findings),
                            _ => {}
                        }
                    }
                }
                _ => {}
            },
            _ => {}
        }
    }
}
