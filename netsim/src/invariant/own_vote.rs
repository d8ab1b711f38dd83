//! Nobody starts an instance while its own promise to another holder runs (design 3, invariant 5).

use super::Invariant;
use super::granted::{self, Promises};
use crate::observe::{Finding, Findings, Observation, What, kind};
use crate::service::ServiceEvent;
use crate::time::Seconds;

pub(super) struct OwnVote {
    promises: Promises,
}

impl OwnVote {
    pub(super) fn new(boards: usize) -> Self {
        Self { promises: Promises::new(boards) }
    }
}

impl Invariant for OwnVote {
    fn name(&self) -> &'static str {
        "own-vote-rule"
    }

    fn means(&self) -> &'static str {
        "A board starts a service only when its own promise to another board, that this one \
         may run it, is over."
    }

    fn wants(&self) -> u16 {
        granted::WANTS | kind::SERVICE
    }

    fn on(&mut self, seen: &Observation<'_>, findings: &mut Findings) {
        self.promises.on(seen);
        let What::Service(ServiceEvent::Begins { instance, epoch, .. }) = seen.what else { return };
        let Some(me) = self.promises.node(seen) else { return };
        let other = self.promises.binding(me, instance, seen.at).find(|promised| promised.to != me);
        if let Some(promised) = other {
            let text = format!(
                "{instance} begins under epoch {epoch}; this board has promised it to {} under epoch {} until {}",
                promised.to.short(),
                promised.epoch,
                Seconds(promised.until)
            );
            let (at, rule, board) = (seen.at, self.name(), Some(seen.board));
            findings.push(Finding { at, rule, board, text });
        }
    }
}
