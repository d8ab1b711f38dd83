//! What must never happen: one property per file.
//!
//! An invariant recomputes what it needs from observations alone and shares no code with what it
//! checks. It is told the true time, which no node ever knows. `kept`, `lineage`
//! and `granted` are no invariants but what several of them recompute: what disks hold for voters, which
//! table was made from which, and what was promised to actives.

mod acks_durable;
mod admission_gate;
mod answers_wait;
mod bounded_effects;
mod chosen_is_kept;
mod commits_kept;
mod durable_states;
mod epochs_rise;
mod granted;
mod incarnations;
mod joint_change;
mod journal_keeps;
mod kept;
pub(crate) mod lineage;
mod lost_disk;
mod no_lasting_false_down;
mod no_wrong_byte;
mod one_container;
mod one_identity;
mod one_order;
mod one_view;
mod one_vote;
mod own_vote;
mod promises_kept;
mod reigns_apart;
mod restart_silence;
mod revoked_out;
mod states_kept;
mod strangers;
mod told_once;

use crate::observe::{Findings, Observation};
use crate::time::Nanos;
use crate::world::RULES;

/// A property of every run.
pub trait Invariant {
    /// Its name in findings, as a sentence without spaces.
    fn name(&self) -> &'static str;

    /// What it says, in a sentence for somebody who has not read the design.
    fn means(&self) -> &'static str;

    /// Which observations it needs: bits of [`kind`](crate::observe::kind).
    fn wants(&self) -> u16;

    /// Looks at one observation.
    fn on(&mut self, seen: &Observation<'_>, findings: &mut Findings);

    /// The run is over.
    fn finish(&mut self, at: Nanos, findings: &mut Findings) {
        let _ = (at, findings);
    }
}

/// Every invariant, for a world of `boards` boards.
pub fn all(boards: usize) -> Vec<Box<dyn Invariant>> {
    vec![
        Box::new(admission_gate::AdmissionGate::new(boards)),
        Box::new(bounded_effects::BoundedEffects::new(boards)),
        Box::new(incarnations::Incarnations::default()),
        Box::new(journal_keeps::JournalKeeps::new(boards)),
        Box::new(no_lasting_false_down::NoLastingFalseDown::default()),
        Box::new(one_identity::OneIdentity::default()),
        Box::new(one_view::OneView::default()),
        Box::new(answers_wait::AnswersWait::new(boards)),
        Box::new(chosen_is_kept::ChosenIsKept::new(boards)),
        Box::new(joint_change::JointChange::new(boards)),
        Box::new(lost_disk::LostDisk::new(boards)),
        Box::new(one_order::OneOrder::new(boards)),
        Box::new(one_vote::OneVote::new(boards)),
        Box::new(reigns_apart::ReignsApart::default()),
        Box::new(restart_silence::RestartSilence::new(boards)),
        Box::new(strangers::Strangers::new(boards)),
        Box::new(revoked_out::RevokedOut::new(boards)),
        Box::new(told_once::ToldOnce::new(boards)),
        Box::new(one_container::OneContainer::default()),
        Box::new(epochs_rise::EpochsRise::default()),
        Box::new(own_vote::OwnVote::new(boards)),
        Box::new(promises_kept::PromisesKept::new(boards)),
        Box::new(states_kept::StatesKept::default()),
        Box::new(commits_kept::CommitsKept::default()),
        Box::new(acks_durable::AcksDurable::default()),
        Box::new(no_wrong_byte::NoWrongByte::default()),
        Box::new(durable_states::DurableStates::default()),
    ]
}

/// What a rule says, in a sentence: an invariant, or one of the rules that the world itself looks after.
pub fn means(rule: &str) -> Option<&'static str> {
    let of_world = RULES.iter().find(|(name, _)| *name == rule).map(|(_, means)| *means);
    of_world.or_else(|| {
        all(0).iter().find(|known| known.name() == rule).map(|invariant| invariant.means())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_has_its_own_name_and_says_what_it_means() {
        let mut names: Vec<_> = all(3).iter().map(|invariant| invariant.name()).collect();
        names.extend(RULES.map(|(name, _)| name));
        assert!(names.iter().all(|name| means(name).is_some_and(|means| means.ends_with('.'))));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert_eq!(means("no-such-rule"), None);
    }
}
