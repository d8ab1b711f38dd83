//! What a run, or a campaign, met with: each kind of fault, how often it was injected and how often felt.

use std::collections::{BTreeMap, BTreeSet};

use crate::faults::Timed;

/// How often each kind of fault was injected and felt.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tally(BTreeMap<&'static str, (u64, u64)>);

impl Tally {
    /// One run's faults: those that began, and those of them that were felt.
    pub fn of(schedule: &[Timed], begun: &BTreeSet<u32>, felt: &BTreeSet<u32>) -> Self {
        let mut tally = Self::default();
        for index in begun {
            let line = tally.0.entry(schedule[*index as usize].fault.kind()).or_default();
            line.0 += 1;
            line.1 += u64::from(felt.contains(index));
        }
        tally
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        for (name, (injected, felt)) in &other.0 {
            let line = self.0.entry(name).or_default();
            line.0 += injected;
            line.1 += felt;
        }
    }

    /// Faults of all kinds: injected, and felt.
    pub fn total(&self) -> (u64, u64) {
        self.lines().fold((0, 0), |sum, (_, injected, felt)| (sum.0 + injected, sum.1 + felt))
    }

    /// (name, injected, felt) by name.
    pub fn lines(&self) -> impl Iterator<Item = (&'static str, u64, u64)> + '_ {
        self.0.iter().map(|(name, (injected, felt))| (*name, *injected, *felt))
    }
}
