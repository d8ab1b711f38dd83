//! What must never happen: one property per file.
//!
//! An invariant recomputes what it needs from observations alone and shares no code with what it
//! checks. It is told the true time, which no node ever knows. Authority and leases bring their own
//! invariants later; the observations already carry every input, effect and event.

mod admission_gate;
mod bounded_effects;
mod incarnations;
mod journal_keeps;
mod no_lasting_false_down;
mod one_view;
mod strangers;

use crate::observe::{Findings, Observation};
use crate::time::Nanos;

/// A property of every run.
pub trait Invariant {
    /// Its name in findings, as a sentence without spaces.
    fn name(&self) -> &'static str;

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
        Box::new(one_view::OneView::default()),
        Box::new(strangers::Strangers::new(boards)),
    ]
}
