//! Voters change in two steps: a joint table first, then its new side alone (S1 of 3b).
//!
//! A mesh that is recovered by force begins anew with one voter, the board that makes its first table.
//!
//! Looks at each table when it is first written, next to the one that it was made from.

use hedgerow::proto::id::NodeId;

use super::Invariant;
use super::lineage::{Lineage, Written};
use crate::observe::{Finding, Findings, Observation, What, kind};

pub(super) struct JointChange {
    lineage: Lineage,
    /// Who each board is.
    nodes: Vec<Option<NodeId>>,
}

impl JointChange {
    pub(super) fn new(boards: usize) -> Self {
        Self { lineage: Lineage::new(boards), nodes: vec![None; boards] }
    }
}

impl Invariant for JointChange {
    fn name(&self) -> &'static str {
        "voters-change-by-joint-tables"
    }

    fn means(&self) -> &'static str {
        "Who decides changes in two steps: first the old and the new voters together, then \
         the new ones alone."
    }

    fn wants(&self) -> u16 {
        kind::LIFE | kind::EFFECT
    }

    fn on(&mut self, seen: &Observation<'_>, findings: &mut Findings) {
        if let What::Boot(boot) = seen.what {
            self.nodes[usize::from(seen.board)] = Some(boot.node);
        }
        let Written::New(version) = self.lineage.on(seen) else { return };
        let Some(new) = self.lineage.get(version) else { return };
        let Some(old) = new.from.and_then(|from| self.lineage.get(from)) else { return };
        let (by, new, old) = (self.nodes[usize::from(new.by)], &new.table, &old.table);
        let stays =
            new.voters == old.voters && (new.incoming == old.incoming || old.incoming.is_none());
        let ends = new.incoming.is_none() && Some(&new.voters) == old.incoming.as_ref();
        let anew = new.version.generation > old.version.generation
            && new.incoming.is_none()
            && new.voters.iter().eq(by.iter());
        if !old.voters.is_empty() && !stays && !ends && !anew {
            let text = format!("makes {version:?} with other voters at once");
            let board = Some(seen.board);
            findings.push(Finding { at: seen.at, rule: self.name(), board, text });
        }
    }
}
