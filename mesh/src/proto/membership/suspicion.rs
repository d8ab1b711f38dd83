//! Suspicion: who lost contact with whom, and when that adds up to `Down`.
//!
//! The more distinct members lost contact with one life of a member, the sooner it is held for dead
//! (Lifeguard, Dadgar et al. 2018, section IV.B). A node whose own links are slow waits longer. Pure.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use crate::proto::config::MembershipTiming;
use crate::proto::id::{Incarnation, NodeId};
use crate::proto::machine::Time;

/// Distinct alerters that are remembered per member; three already bring the shortest wait.
const ALERTERS_MAX: usize = 8;

/// All open suspicions.
#[derive(Default, Debug)]
pub struct Suspicions {
    open: BTreeMap<NodeId, Suspicion>,
}

/// Members that lost contact with one life of a member.
#[derive(Debug)]
pub struct Suspicion {
    /// Which life.
    pub incarnation: Incarnation,
    /// When the first alert was heard here.
    pub first: Time,
    /// Who raised one.
    pub by: BTreeSet<NodeId>,
}

impl Suspicions {
    /// Counts an alert. Returns whether it is news.
    pub fn add(
        &mut self,
        subject: NodeId,
        incarnation: Incarnation,
        by: NodeId,
        now: Time,
    ) -> bool {
        let suspicion = self.open.entry(subject).or_insert_with(|| Suspicion {
            incarnation,
            first: now,
            by: BTreeSet::new(),
        });
        if suspicion.incarnation < incarnation {
            *suspicion = Suspicion { incarnation, first: now, by: BTreeSet::new() };
        }
        suspicion.incarnation == incarnation
            && suspicion.by.len() < ALERTERS_MAX
            && suspicion.by.insert(by)
    }

    /// Drops a suspicion. Returns whether there was one.
    pub fn clear(&mut self, subject: &NodeId) -> bool {
        self.open.remove(subject).is_some()
    }

    /// The suspicion against `subject`.
    pub fn get(&self, subject: &NodeId) -> Option<&Suspicion> {
        self.open.get(subject)
    }

    /// Everyone who is suspected.
    pub fn subjects(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.open.keys().copied()
    }

    /// Members whose time is up.
    pub fn due(&self, now: Time, timing: &MembershipTiming, scale: u32) -> Vec<NodeId> {
        let due = |suspicion: &Suspicion| suspicion.until(timing, scale) <= now;
        self.open.iter().filter(|(_, suspicion)| due(suspicion)).map(|(node, _)| *node).collect()
    }

    /// When the next one's time is up.
    pub fn next_due(&self, timing: &MembershipTiming, scale: u32) -> Option<Time> {
        self.open.values().map(|suspicion| suspicion.until(timing, scale)).min()
    }

    /// Starts every wait anew: this node could not hear well until now.
    pub fn restart(&mut self, now: Time) {
        for suspicion in self.open.values_mut() {
            suspicion.first = now;
        }
    }

    /// Postpones one verdict: this node hears the member itself.
    pub fn postpone(&mut self, subject: &NodeId, now: Time) {
        if let Some(suspicion) = self.open.get_mut(subject) {
            suspicion.first = now;
        }
    }
}

impl Suspicion {
    /// `scale` is how slow the node's own links are, in parts per thousand of the shortest timeout.
    fn until(&self, timing: &MembershipTiming, scale: u32) -> Time {
        let alerters = self.by.len().clamp(1, 3);
        let wait: Duration = timing.down_after[alerters - 1];
        // Three have asked in vain, each as long as its own link needs: what is left is the way of a
        // refutation, over whichever links are quick.
        let scale = if alerters == 3 { 1000 + scale.saturating_sub(1000) / 4 } else { scale };
        self.first + wait * scale / 1000
    }
}
