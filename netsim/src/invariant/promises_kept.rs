//! A grantor keeps its promises, across restarts (design 3, invariant 6).
//!
//! While a promise to one holder runs, no other holder and no other right is promised anything, and a
//! standby does not ask to take over from the one it promised to. A grantor that restarted cannot know
//! what it promised: until all of that is over it asks for nothing at all, and promises nothing to
//! anybody, but what binds it at that moment to the very same holder.

use hedgerow::proto::io::Effect;
use hedgerow::proto::wire::Message;
use hedgerow::proto::wire::failover::Claimed;

use super::Invariant;
use super::granted::{self, Promises};
use crate::observe::{Finding, Findings, Observation, What};
use crate::time::{Nanos, Seconds};

pub(super) struct PromisesKept {
    promises: Promises,
    /// Until when each board may still owe what an earlier life promised.
    silent: Vec<Nanos>,
}

impl PromisesKept {
    pub(super) fn new(boards: usize) -> Self {
        Self { promises: Promises::new(boards), silent: vec![0; boards] }
    }

    fn breaks(&self, seen: &Observation<'_>) -> Option<String> {
        let me = self.promises.node(seen)?;
        match seen.what {
            What::Sent(Effect::Send { to, message: Message::Grant(grant) }, _) => {
                let (instance, epoch) = (&grant.instance, grant.epoch.0);
                let silent = self.silent[usize::from(seen.board)];
                let goes_on = |p: &granted::Promised| p.to == *to && p.epoch == epoch;
                let same = self.promises.running(me, instance, seen.at).any(|p| goes_on(&p));
                if seen.at < silent && !same {
                    return Some(format!(
                        "grants {instance} although it restarted and may have promised it to another until {}",
                        Seconds(silent)
                    ));
                }
                let mut binding = self.promises.binding(me, instance, seen.at);
                let other = binding.find(|p| p.to != *to || p.epoch > epoch)?;
                Some(format!(
                    "grants {instance} under epoch {epoch} to {}; it is promised to {} under epoch {} until {}",
                    to.short(),
                    other.to.short(),
                    other.epoch,
                    Seconds(other.until)
                ))
            }
            What::Sent(Effect::Send { message: Message::Claim(claim), .. }, _)
                if matches!(claim.claim, Claimed::Take { .. }) =>
            {
                let (instance, epoch) = (&claim.instance, claim.epoch.0);
                let silent = self.silent[usize::from(seen.board)];
                if seen.at < silent {
                    return Some(format!(
                        "asks for {instance} although it restarted and may have promised it until {}",
                        Seconds(silent)
                    ));
                }
                let other = self.promises.binding(me, instance, seen.at).find(|p| p.to != me)?;
                Some(format!(
                    "asks to take {instance} over from epoch {epoch}; it is promised to {} until {}",
                    other.to.short(),
                    Seconds(other.until)
                ))
            }
            _ => None,
        }
    }
}

impl Invariant for PromisesKept {
    fn name(&self) -> &'static str {
        "grantors-keep-their-promises"
    }

    fn means(&self) -> &'static str {
        "A board that promised a service to one holder promises it to nobody else, and does \
         not ask for it itself, until that promise is over; a restart changes nothing."
    }

    fn wants(&self) -> u16 {
        granted::WANTS
    }

    fn on(&mut self, seen: &Observation<'_>, findings: &mut Findings) {
        if let What::Boot(boot) = seen.what {
            self.silent[usize::from(seen.board)] = self.promises.until(boot.node);
        }
        if let Some(text) = self.breaks(seen) {
            let (at, rule, board) = (seen.at, self.name(), Some(seen.board));
            findings.push(Finding { at, rule, board, text });
        }
        self.promises.on(seen);
    }
}
