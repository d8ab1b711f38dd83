//! One identity votes for one candidate in a term, in all its lives together.
//!
//! A vote for another counts when it leaves, a vote for itself when it is on disk: before, it counts
//! for nothing.

use std::collections::BTreeMap;

use hedgerow::proto::id::NodeId;
use hedgerow::proto::io::Effect;
use hedgerow::proto::wire::Message;

use super::Invariant;
use super::kept::{self, Disks};
use crate::observe::{Finding, Findings, Observation, What, kind};

pub(super) struct OneVote {
    disks: Disks,
    votes: BTreeMap<(NodeId, u64), NodeId>,
}

impl OneVote {
    pub(super) fn new(boards: usize) -> Self {
        Self { disks: Disks::new(boards), votes: BTreeMap::new() }
    }
}

impl Invariant for OneVote {
    fn name(&self) -> &'static str {
        "one-vote-per-term"
    }

    fn means(&self) -> &'static str {
        "In one term a board votes for one candidate only, restarts included."
    }

    fn wants(&self) -> u16 {
        kept::WANTS | kind::SENT
    }

    fn on(&mut self, seen: &Observation<'_>, findings: &mut Findings) {
        let changed = self.disks.on(seen);
        let kept = self.disks.of(seen.board);
        let Some(me) = kept.node else { return };
        let (term, candidate) = match seen.what {
            What::Sent(Effect::Send { to, message: Message::VoteOk(ok) }, _) if ok.granted => {
                (ok.term.0, *to)
            }
            _ if changed && kept.vote == Some(me) => (kept.term, me),
            _ => return,
        };
        let first = *self.votes.entry((me, term)).or_insert(candidate);
        if first != candidate {
            let (first, candidate) = (first.short(), candidate.short());
            let text = format!("votes for {candidate} in term {term}, and before for {first}");
            let board = Some(seen.board);
            findings.push(Finding { at: seen.at, rule: self.name(), board, text });
        }
    }
}
