//! The epochs of starts rise (design 3, invariant 4): no container begins under an epoch below one that
//! has been used, and one epoch is used by one board only.

use std::collections::BTreeMap;

use hedgerow::proto::order::Instance;

use super::Invariant;
use crate::observe::{Finding, Findings, Observation, What, kind};
use crate::queue::BoardIndex;
use crate::service::ServiceEvent;

#[derive(Default)]
pub(super) struct EpochsRise {
    /// The highest epoch that was used, and where.
    used: BTreeMap<Instance, (u64, BoardIndex)>,
}

impl Invariant for EpochsRise {
    fn name(&self) -> &'static str {
        "epochs-of-starts-rise"
    }

    fn means(&self) -> &'static str {
        "Each right to run a service has a higher epoch than the one before, and one epoch is \
         used by one board only."
    }

    fn wants(&self) -> u16 {
        kind::SERVICE
    }

    fn on(&mut self, seen: &Observation<'_>, findings: &mut Findings) {
        let What::Service(ServiceEvent::Begins { instance, epoch, .. }) = seen.what else { return };
        let (newest, by) = self.used.entry(instance.clone()).or_insert((*epoch, seen.board));
        let wrong = *epoch < *newest || (*epoch == *newest && *by != seen.board);
        if wrong {
            let text = format!("{instance} begins under epoch {epoch}; n{by} has used {newest}");
            let (at, rule, board) = (seen.at, self.name(), Some(seen.board));
            findings.push(Finding { at, rule, board, text });
            return;
        }
        (*newest, *by) = (*epoch, seen.board);
    }
}
