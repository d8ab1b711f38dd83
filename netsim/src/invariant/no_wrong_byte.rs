//! A store never gives a wrong byte: what is read under a state's name is exactly what was captured under
//! it, on whichever board, or an error (design 4; design 8, checks).
//!
//! The first board that keeps a state is the one that captured it; from then on its name means that.

use std::collections::BTreeMap;

use hedgerow::proto::order::Instance;
use hedgerow::proto::table::CheckpointId;

use super::Invariant;
use crate::observe::{Finding, Findings, Observation, What, kind};
use crate::service::{Found, Point, ServiceEvent};

#[derive(Default)]
pub(super) struct NoWrongByte {
    captured: BTreeMap<(Instance, CheckpointId), Point>,
}

impl Invariant for NoWrongByte {
    fn name(&self) -> &'static str {
        "a-store-never-gives-a-wrong-byte"
    }

    fn means(&self) -> &'static str {
        "What a board reads from its store under a state's name is exactly what was captured \
         under that name, or nothing."
    }

    fn wants(&self) -> u16 {
        kind::SERVICE
    }

    fn on(&mut self, seen: &Observation<'_>, findings: &mut Findings) {
        let What::Service(event) = seen.what else { return };
        let (instance, id, found) = match event {
            ServiceEvent::Kept { instance, id, point: Some(point) } => {
                self.captured.entry((instance.clone(), *id)).or_insert(*point);
                (instance, id, &Found::State(*point))
            }
            ServiceEvent::Read { instance, id, found } => (instance, id, found),
            ServiceEvent::Anew { instance } => {
                return self.captured.retain(|(of, _), _| of != instance);
            }
            _ => return,
        };
        let captured = self.captured.get(&(instance.clone(), *id));
        let wrong = match found {
            Found::State(point) => captured.is_some_and(|captured| captured != point),
            Found::OtherBytes => true,
            Found::Nothing(_) => false,
        };
        if wrong {
            let (of, seq) = (id.epoch.0, id.seq);
            let text =
                format!("has {found:?} as state {of}/{seq} of {instance}, which is {captured:?}");
            let (at, rule, board) = (seen.at, self.name(), Some(seen.board));
            findings.push(Finding { at, rule, board, text });
        }
    }
}
