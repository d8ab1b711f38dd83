//! A voter that restarted takes part in nothing until every lease that it may have forgotten is over.
//!
//! The longest lease L that an identity ever confirmed, as voter or as master, binds it for
//! L (1+ρ)/(1−ρ) on its own clock, ρ = 1 %: on any clock within the bound for at least L/(1−ρ) of true
//! time. Until then no granted vote leaves, no candidacy, and no answer that counts for a lease.

use std::collections::BTreeMap;

use hedgerow::proto::id::NodeId;
use hedgerow::proto::io::{Effect, Input};
use hedgerow::proto::wire::Message;

use super::Invariant;
use crate::observe::{Finding, Findings, Observation, What, kind};
use crate::time::{MILLI, Nanos, Seconds};

#[derive(Clone, Default)]
struct Voter {
    node: Option<NodeId>,
    /// No promise before this.
    silent_until: Nanos,
    /// The longest lease that each master asked for in this life, ms.
    asked: BTreeMap<NodeId, u32>,
}

pub(super) struct RestartSilence {
    voters: Vec<Voter>,
    /// The longest lease that each identity confirmed in any life, ms.
    confirmed: BTreeMap<NodeId, u32>,
}

impl RestartSilence {
    pub(super) fn new(boards: usize) -> Self {
        Self { voters: vec![Voter::default(); boards], confirmed: BTreeMap::new() }
    }

    fn confirm(&mut self, seen: &Observation<'_>, lease_ms: u32) {
        if let Some(node) = self.voters[usize::from(seen.board)].node {
            let longest = self.confirmed.entry(node).or_default();
            *longest = (*longest).max(lease_ms);
        }
    }

    /// A message leaves: whether it promises something, and in a word.
    fn sent(
        &mut self,
        seen: &Observation<'_>,
        to: &NodeId,
        message: &Message,
    ) -> Option<&'static str> {
        match message {
            Message::PreVoteOk(ok) if ok.granted => Some("a vote in advance"),
            Message::VoteOk(ok) if ok.granted => Some("a vote"),
            Message::Vote(_) => Some("a candidacy"),
            Message::AppOk(ok) if ok.sent != 0 => {
                let asked = self.voters[usize::from(seen.board)].asked.get(to).copied();
                self.confirm(seen, asked.unwrap_or_default());
                Some("a confirmed lease")
            }
            // A master counts its own word, too.
            Message::App(app) => {
                self.confirm(seen, app.lease_ms);
                Some("a heartbeat")
            }
            _ => None,
        }
    }
}

impl Invariant for RestartSilence {
    fn name(&self) -> &'static str {
        "restarted-voters-keep-silent"
    }

    fn means(&self) -> &'static str {
        "A voter that restarted may have forgotten what it promised, so it does not vote, \
         stand or confirm a lease until every lease that it may have forgotten is over."
    }

    fn wants(&self) -> u16 {
        kind::LIFE | kind::RECEIVED | kind::SENT
    }

    fn on(&mut self, seen: &Observation<'_>, findings: &mut Findings) {
        let voter = &mut self.voters[usize::from(seen.board)];
        match seen.what {
            What::Boot(boot) => {
                let lease = self.confirmed.get(&boot.node).copied().unwrap_or_default();
                let silence = u64::from(lease) * MILLI * 100 / 99;
                *voter = Voter {
                    node: Some(boot.node),
                    silent_until: if lease == 0 { 0 } else { seen.at + silence },
                    asked: BTreeMap::new(),
                };
            }
            What::Received(Input::Received { from, message: Message::App(app) }, _) => {
                let asked = voter.asked.entry(*from).or_default();
                *asked = (*asked).max(app.lease_ms);
            }
            What::Sent(Effect::Send { to, message }, _) => {
                let until = voter.silent_until;
                let promise = self.sent(seen, to, message);
                if let Some(promise) = promise.filter(|_| seen.at < until) {
                    let text = format!("{promise} leaves, silence lasts until {}", Seconds(until));
                    let board = Some(seen.board);
                    findings.push(Finding { at: seen.at, rule: self.name(), board, text });
                }
            }
            _ => {}
        }
    }
}
