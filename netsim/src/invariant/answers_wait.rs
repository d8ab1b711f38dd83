//! What a voter answers is on its disk: the vote, the term of a heartbeat, the table.
//!
//! A heartbeat of an older term is refused at once with a term that may not be on disk yet; that
//! promises nothing and is left out.

use std::collections::BTreeMap;

use hedgerow::proto::id::NodeId;
use hedgerow::proto::io::{Effect, Input};
use hedgerow::proto::wire::Message;

use super::Invariant;
use super::kept::{self, Disks};
use crate::observe::{Finding, Findings, Observation, What, kind};

pub(super) struct AnswersWait {
    disks: Disks,
    /// For each board, the highest term of a heartbeat from each master in this life, and that of the last one:
    /// who repeats old ones is refused once more.
    heard: Vec<BTreeMap<NodeId, (u64, u64)>>,
}

impl AnswersWait {
    pub(super) fn new(boards: usize) -> Self {
        Self { disks: Disks::new(boards), heard: vec![BTreeMap::new(); boards] }
    }

    /// What is wrong with this message, if anything.
    fn wrong(&self, seen: &Observation<'_>) -> Option<String> {
        let What::Sent(Effect::Send { to, message }, _) = seen.what else { return None };
        let kept = self.disks.of(seen.board);
        match message {
            Message::VoteOk(ok) if ok.granted => {
                let is_kept = kept.term == ok.term.0 && kept.vote == Some(*to);
                (!is_kept).then(|| format!("a vote in term {} leaves before it is kept", ok.term.0))
            }
            Message::AppOk(ok) => {
                let heard = self.heard[usize::from(seen.board)].get(to);
                let answers = heard.is_some_and(|(highest, last)| {
                    *highest == ok.term.0 && (*last == ok.term.0 || ok.sent != 0)
                });
                if answers && kept.term < ok.term.0 {
                    return Some(format!("term {} is answered before it is kept", ok.term.0));
                }
                (ok.durable > kept.table)
                    .then(|| format!("{:?} is confirmed, {:?} is kept", ok.durable, kept.table))
            }
            _ => None,
        }
    }
}

impl Invariant for AnswersWait {
    fn name(&self) -> &'static str {
        "answers-wait-for-the-disk"
    }

    fn means(&self) -> &'static str {
        "What a voter answers (a vote, a term, a table) is on its disk before the answer \
         leaves, so that a restart cannot take it back."
    }

    fn wants(&self) -> u16 {
        kept::WANTS | kind::SENT | kind::RECEIVED
    }

    fn on(&mut self, seen: &Observation<'_>, findings: &mut Findings) {
        self.disks.on(seen);
        let heard = &mut self.heard[usize::from(seen.board)];
        match seen.what {
            What::Boot(_) => heard.clear(),
            What::Received(Input::Received { from, message: Message::App(app) }, _) => {
                let (highest, last) = heard.entry(*from).or_default();
                *last = app.term.0;
                *highest = (*highest).max(app.term.0);
            }
            _ => {}
        }
        if let Some(text) = self.wrong(seen) {
            let board = Some(seen.board);
            findings.push(Finding { at: seen.at, rule: self.name(), board, text });
        }
    }
}
