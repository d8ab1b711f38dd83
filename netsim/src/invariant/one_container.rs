//! At most one container of an instance runs at any true instant (design 3, invariant 3).
//!
//! A container counts from its first instruction to the last one that could have run, frozen or not. It
//! lives under its shim, so what becomes of the agent changes nothing here. While its whole board sleeps it does
//! not count: when the board wakes up, its shim looks at its clock first. Nor does it count while it goes on without
//! a lease, as `on_isolation = "keep-running"` wants: its owner takes it that another board may run it, too.

use std::collections::{BTreeMap, BTreeSet};

use hedgerow::proto::order::Instance;

use super::Invariant;
use crate::observe::{Finding, Findings, Observation, What, kind};
use crate::queue::BoardIndex;
use crate::service::ServiceEvent;

#[derive(Default)]
pub(super) struct OneContainer {
    /// What runs: which run, where, under which epoch.
    running: BTreeMap<Instance, Vec<(u32, BoardIndex, u64)>>,
    /// Runs that have no lease, and are to go on.
    isolated: BTreeSet<u32>,
}

impl Invariant for OneContainer {
    fn name(&self) -> &'static str {
        "at-most-one-container"
    }

    fn means(&self) -> &'static str {
        "A service runs in at most one place at any time."
    }

    fn wants(&self) -> u16 {
        kind::SERVICE
    }

    fn on(&mut self, seen: &Observation<'_>, findings: &mut Findings) {
        match seen.what {
            What::Service(ServiceEvent::Begins { instance, epoch, run, .. }) => {
                self.runs(seen, findings, instance, *run, ("begins", *epoch));
            }
            What::Service(ServiceEvent::Connected { instance, run, epoch }) => {
                self.isolated.remove(run);
                self.runs(seen, findings, instance, *run, ("has a lease again", *epoch));
            }
            What::Service(ServiceEvent::Wakes { run, .. }) if self.isolated.contains(run) => {}
            What::Service(ServiceEvent::Wakes { instance, run, epoch }) => {
                self.runs(seen, findings, instance, *run, ("wakes up", *epoch));
            }
            What::Service(
                what @ (ServiceEvent::Ends { instance, run, .. }
                | ServiceEvent::Sleeps { instance, run }
                | ServiceEvent::Isolated { instance, run }),
            ) => {
                if matches!(what, ServiceEvent::Isolated { .. }) {
                    self.isolated.insert(*run);
                }
                let running = self.running.entry(instance.clone()).or_default();
                running.retain(|(known, ..)| known != run);
            }
            _ => {}
        }
    }
}

impl OneContainer {
    fn runs(
        &mut self,
        seen: &Observation<'_>,
        findings: &mut Findings,
        instance: &Instance,
        run: u32,
        (does, epoch): (&str, u64),
    ) {
        let running = self.running.entry(instance.clone()).or_default();
        if let Some((_, other, under)) = running.first() {
            let text = format!(
                "{instance} {does} under epoch {epoch} while it runs on n{other} under epoch {under}"
            );
            let board = Some(seen.board);
            findings.push(Finding { at: seen.at, rule: self.name(), board, text });
            return;
        }
        running.push((run, seen.board, epoch));
    }
}
