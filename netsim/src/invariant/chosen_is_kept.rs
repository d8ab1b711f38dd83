//! A table is only said to be chosen when a majority of its voters has it on disk.
//!
//! While the voters change, a majority of the old and of the new ones. What an identity once kept
//! counts even if its disk was lost since: the answer may have been on its way.

use std::collections::BTreeMap;

use hedgerow::proto::id::NodeId;
use hedgerow::proto::io::{Effect, Event};
use hedgerow::proto::table::Version;

use super::Invariant;
use super::kept::{self, Disks};
use super::lineage::Lineage;
use crate::observe::{Finding, Findings, Observation, What};

pub(super) struct ChosenIsKept {
    disks: Disks,
    lineage: Lineage,
    /// The newest table that each identity ever kept.
    had: BTreeMap<NodeId, Version>,
}

impl ChosenIsKept {
    pub(super) fn new(boards: usize) -> Self {
        let (disks, lineage) = (Disks::new(boards), Lineage::new(boards));
        Self { disks, lineage, had: BTreeMap::new() }
    }

    fn is_kept(&self, version: Version) -> bool {
        let Some(made) = self.lineage.get(version) else { return false };
        let has = |node: &&NodeId| self.had.get(*node).is_some_and(|had| *had >= version);
        [Some(&made.table.voters), made.table.incoming.as_ref()]
            .into_iter()
            .flatten()
            .all(|side| side.iter().filter(has).count() > side.len() / 2)
    }
}

impl Invariant for ChosenIsKept {
    fn name(&self) -> &'static str {
        "what-is-chosen-is-kept"
    }

    fn means(&self) -> &'static str {
        "A master says that a table is chosen only when most of its voters have it on disk."
    }

    fn wants(&self) -> u16 {
        kept::WANTS
    }

    fn on(&mut self, seen: &Observation<'_>, findings: &mut Findings) {
        let _copy_or_new = self.lineage.on(seen);
        if self.disks.on(seen) {
            let kept = self.disks.of(seen.board);
            if let Some(node) = kept.node {
                let had = self.had.entry(node).or_default();
                *had = (*had).max(kept.table);
            }
        }
        let What::Effect(Effect::Event(Event::TableChosen { term, number, .. })) = seen.what else {
            return;
        };
        if !self.lineage.find(*term, *number).is_some_and(|version| self.is_kept(version)) {
            let text =
                format!("says that table {number} of term {term} is chosen: too few keep it");
            let board = Some(seen.board);
            findings.push(Finding { at: seen.at, rule: self.name(), board, text });
        }
    }
}
