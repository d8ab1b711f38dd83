//! Whoever lost its disk never votes under its old identity again.

use std::collections::BTreeSet;

use hedgerow::proto::id::NodeId;
use hedgerow::proto::io::Effect;
use hedgerow::proto::wire::Message;

use super::Invariant;
use crate::observe::{Finding, Findings, Observation, What, kind};

pub(super) struct LostDisk {
    now: Vec<Option<NodeId>>,
    lost: BTreeSet<NodeId>,
}

impl LostDisk {
    pub(super) fn new(boards: usize) -> Self {
        Self { now: vec![None; boards], lost: BTreeSet::new() }
    }
}

impl Invariant for LostDisk {
    fn name(&self) -> &'static str {
        "a-lost-disk-never-votes"
    }

    fn means(&self) -> &'static str {
        "A board that lost its disk has lost its memory, so it never votes under its old \
         identity again."
    }

    fn wants(&self) -> u16 {
        kind::LIFE | kind::SENT
    }

    fn on(&mut self, seen: &Observation<'_>, findings: &mut Findings) {
        let now = &mut self.now[usize::from(seen.board)];
        match seen.what {
            What::Boot(boot) => *now = Some(boot.node),
            What::DiskLost => self.lost.extend(now.take()),
            What::Sent(Effect::Send { message, .. }, _) => {
                let votes = match message {
                    Message::VoteOk(ok) => ok.granted,
                    Message::PreVoteOk(ok) => ok.granted,
                    Message::AppOk(ok) => ok.sent != 0,
                    Message::Vote(_) => true,
                    _ => false,
                };
                if votes && now.is_some_and(|node| self.lost.contains(&node)) {
                    let text =
                        format!("sends {} under an identity whose disk is lost", message.name());
                    let board = Some(seen.board);
                    findings.push(Finding { at: seen.at, rule: self.name(), board, text });
                }
            }
            _ => {}
        }
    }
}
