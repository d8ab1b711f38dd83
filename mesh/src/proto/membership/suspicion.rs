//! Suspicion: who lost contact with whom, and when that adds up to `Down`.
//!
//! The more distinct members lost contact with one life of a member, the sooner it is held for dead
//! (Lifeguard, Dadgar et al. 2018, section IV.B). A node whose own links are slow waits longer. Pure.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use super::rings::Rings;
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
    /// The same as `first`, never restarted.
    raised: Time,
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
            raised: now,
        });
        if suspicion.incarnation < incarnation {
            *suspicion = Suspicion { incarnation, first: now, by: BTreeSet::new(), raised: now };
        }
        suspicion.incarnation == incarnation
            && suspicion.by.len() < ALERTERS_MAX
            && suspicion.by.insert(by)
    }

    /// Drops a suspicion. Returns whether there was one.
    pub fn clear(&mut self, subject: &NodeId) -> bool {
        self.open.remove(subject).is_some()
    }

    /// Drops every suspicion that was raised since.
    pub fn forget(&mut self, since: Time) {
        self.open.retain(|_, suspicion| suspicion.raised < since);
    }

    /// How many are suspected by two at least that are not suspected themselves. One board alone may be deaf.
    pub fn confirmed(&self) -> usize {
        let counts = |by: &&NodeId| !self.open.contains_key(by);
        self.open.values().filter(|it| it.by.iter().filter(counts).count() >= 2).count()
    }

    /// The suspicion against `subject`.
    pub fn get(&self, subject: &NodeId) -> Option<&Suspicion> {
        self.open.get(subject)
    }

    /// Everyone who is suspected.
    pub fn subjects(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.open.keys().copied()
    }

    /// Members whose time is up, where `observers` watch whom and the own links are as slow as `scale` says.
    pub fn due(
        &self,
        now: Time,
        timing: &MembershipTiming,
        scale: u32,
        observers: &Rings,
    ) -> Vec<NodeId> {
        let until = |(node, suspicion): (&NodeId, &Suspicion)| {
            (*node, suspicion.until(timing, scale, observers.observers_of(node)))
        };
        self.open
            .iter()
            .map(until)
            .filter(|(_, until)| *until <= now)
            .map(|(node, _)| node)
            .collect()
    }

    /// When the next one's time is up.
    pub fn next_due(
        &self,
        timing: &MembershipTiming,
        scale: u32,
        observers: &Rings,
    ) -> Option<Time> {
        let until = |(node, suspicion): (&NodeId, &Suspicion)| {
            suspicion.until(timing, scale, observers.observers_of(node))
        };
        self.open.iter().map(until).min()
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
    fn until(&self, timing: &MembershipTiming, scale: u32, observers: &[NodeId]) -> Time {
        let alerters = self.by.len().clamp(1, 3);
        let wait: Duration = timing.down_after[alerters - 1];
        // Each has asked in vain for as long as its own link needs. Three of them, or all there are: what is left
        // is the way of a refutation, over whichever links are quick.
        let all = alerters > 1
            && !observers.is_empty()
            && observers.iter().all(|observer| self.by.contains(observer));
        let scale =
            if alerters == 3 || all { 1000 + scale.saturating_sub(1000) / 4 } else { scale };
        self.first + wait * scale / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::id::PublicKey;

    #[test]
    fn slow_links_count_less_once_three_or_all_observers_have_alerted() {
        let node = |n: u8| PublicKey([n; 32]);
        let timing = MembershipTiming::default();
        let [one, two, three] = timing.down_after;
        let wait = |alerters: u8, observers: &[NodeId]| {
            let by = (1..=alerters).map(node).collect();
            let first = Time::default();
            let suspicion = Suspicion { incarnation: Incarnation(0), first, by, raised: first };
            suspicion.until(&timing, 5000, observers).since(first)
        };
        let observers: Vec<NodeId> = (1..=4).map(node).collect();
        assert_eq!(wait(1, &observers), one * 5);
        assert_eq!(wait(2, &observers), two * 5);
        assert_eq!(wait(3, &observers), three * 2);
        assert_eq!(wait(2, &observers[..2]), two * 2, "all there are");
        assert_eq!(wait(1, &observers[..1]), one * 5, "nobody has confirmed it");
        assert_eq!(wait(2, &[]), two * 5, "who watches it is not known");
    }

    #[test]
    fn alerts_count_once_each_for_the_newest_life_and_up_to_a_limit() {
        let node = |n: u8| PublicKey([n; 32]);
        let mut suspicions = Suspicions::default();
        let mut add =
            |life, by, ms: u64| suspicions.add(node(99), Incarnation(life), node(by), Time(ms));
        assert!(add(2, 1, 10));
        assert!(!add(2, 1, 11), "it has said so");
        assert!(!add(1, 2, 12), "of a former life");
        assert!(add(2, 2, 13));
        assert!(add(3, 1, 20), "of a later one: all begins anew");
        assert!((2..=8).all(|by| add(3, by, 21)) && !add(3, 9, 22));
        let suspicion = suspicions.get(&node(99)).expect("it is suspected");
        assert_eq!((suspicion.first, suspicion.by.len()), (Time(20), ALERTERS_MAX));
        assert!(suspicions.clear(&node(99)) && !suspicions.clear(&node(99)));
        assert!(suspicions.get(&node(99)).is_none());
    }

    #[test]
    fn a_suspicion_is_due_when_its_wait_is_over_and_can_be_postponed() {
        let at = |ms: u64| Time(ms * 1_000_000);
        let [one, two] = [1, 2].map(|n: u8| PublicKey([n; 32]));
        let (timing, rings) = (MembershipTiming::default(), Rings::default());
        let mut suspicions = Suspicions::default();
        assert_eq!(suspicions.next_due(&timing, 1000, &rings), None);
        suspicions.add(one, Incarnation(1), two, at(100));
        suspicions.add(two, Incarnation(1), one, at(200));
        assert_eq!(suspicions.next_due(&timing, 1000, &rings), Some(at(4_100)));
        assert_eq!(suspicions.due(at(4_099), &timing, 1000, &rings), []);
        assert_eq!(suspicions.due(at(4_100), &timing, 1000, &rings), [one]);
        suspicions.postpone(&one, at(1_000));
        assert_eq!(suspicions.due(at(4_999), &timing, 1000, &rings), [two]);
        assert_eq!(suspicions.due(at(5_000), &timing, 1000, &rings), [one, two]);
        suspicions.restart(at(2_000));
        assert_eq!(suspicions.next_due(&timing, 1000, &rings), Some(at(6_000)));
    }
}
