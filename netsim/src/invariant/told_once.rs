//! What is published is told to applications once in a life, and only what was published.

use std::collections::BTreeSet;

use hedgerow::proto::id::NodeId;
use hedgerow::proto::io::{Command, Effect, Event, Input};

use super::Invariant;
use crate::observe::{Finding, Findings, Observation, What, kind};

/// Whose publication, and what it says: every one in a run says something else.
type Publication = (NodeId, Vec<u8>);

pub(super) struct ToldOnce {
    /// Who runs on each board.
    lives: Vec<Option<NodeId>>,
    published: BTreeSet<Publication>,
    /// What each board has told in its present life.
    told: Vec<BTreeSet<Publication>>,
}

impl ToldOnce {
    pub(super) fn new(boards: usize) -> Self {
        Self {
            lives: vec![None; boards],
            published: BTreeSet::new(),
            told: vec![BTreeSet::new(); boards],
        }
    }
}

impl Invariant for ToldOnce {
    fn name(&self) -> &'static str {
        "publications-are-told-once"
    }

    fn means(&self) -> &'static str {
        "What a member publishes is told once on each board, and nothing that nobody published."
    }

    fn wants(&self) -> u16 {
        kind::LIFE | kind::INPUT | kind::EFFECT
    }

    fn on(&mut self, seen: &Observation<'_>, findings: &mut Findings) {
        let board = usize::from(seen.board);
        match seen.what {
            What::Boot(boot) => {
                self.lives[board] = Some(boot.node);
                self.told[board].clear();
            }
            What::Input(Input::Command { command: Command::Publish { body, .. }, .. }) => {
                self.published.extend(self.lives[board].map(|node| (node, body.to_vec())));
            }
            What::Effect(Effect::Event(Event::Topic { from, body, .. })) => {
                let publication = (*from, body.to_vec());
                let is_real = self.published.contains(&publication);
                let is_new = self.told[board].insert(publication);
                if is_real && is_new {
                    return;
                }
                let what = if is_real { "a second time" } else { "which nobody published" };
                let text = format!("tells a publication of {}, {what}", from.short());
                let (at, rule) = (seen.at, self.name());
                findings.push(Finding { at, rule, board: Some(seen.board), text });
            }
            _ => {}
        }
    }
}
