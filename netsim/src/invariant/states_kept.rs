//! A state that a board said to hold is what it starts from, or a newer one (design 3, invariant 8).
//!
//! A board that begins under a new epoch has confirmed states of the one before to its active: all of
//! them are captures of one chain of writes, so the newest contains the others. Whatever it begins with
//! must contain every one of them, unless its disk or the state on it was lost since. States that a
//! board confirmed while it was being filled and then was not needed for are of no concern: somebody
//! else took over, and be it that nothing began there.

use std::collections::{BTreeMap, BTreeSet};

use hedgerow::proto::io::Effect;
use hedgerow::proto::journal::Record;
use hedgerow::proto::order::Instance;
use hedgerow::proto::table::CheckpointId;
use hedgerow::proto::wire::Message;

use super::Invariant;
use crate::observe::{Finding, Findings, Observation, What, kind};
use crate::queue::BoardIndex;
use crate::service::{Ancestry, Point, ServiceEvent};

#[derive(Default)]
pub(super) struct StatesKept {
    ancestry: Ancestry,
    /// What lies in stores.
    stored: BTreeMap<(BoardIndex, Instance, CheckpointId), Option<Point>>,
    /// The newest state that a board confirmed to hold.
    confirmed: BTreeMap<(BoardIndex, Instance), (CheckpointId, Point)>,
    /// The newest right that was used.
    used: BTreeMap<Instance, u64>,
    /// Who learnt that it had which right, used or not.
    given: BTreeMap<(Instance, u64), BoardIndex>,
    /// States to which an operator has gone back, or wants to: more may be confirmed until that is carried out.
    restored: BTreeSet<(Instance, Point)>,
    /// Of these he has the answer: the next beginning is the last that it excuses.
    answered: BTreeSet<Instance>,
}

/// As the report says it, too.
fn said(point: Point) -> String {
    format!("write {} of run {}", point.writes, point.run)
}

impl StatesKept {
    fn begins(&self, board: BoardIndex, event: &ServiceEvent) -> Option<String> {
        let ServiceEvent::Begins { instance, epoch, from, stateful: true, .. } = event else {
            return None;
        };
        let (id, point) = self.confirmed.get(&(board, instance.clone()))?;
        if *epoch <= id.epoch.0 {
            // That rights rise is another rule.
            return None;
        }
        // The right that was used last before this one: revisions of the table lie between them.
        let used = self.used.get(instance).copied();
        let mut between = self
            .given
            .range((instance.clone(), id.epoch.0 + 1)..(instance.clone(), *epoch))
            .map(|(_, by)| *by);
        let elsewhere = between.any(|by| by != board);
        let follows = id.epoch.0 < *epoch && used == Some(id.epoch.0) && !elsewhere;
        let by_order = from.is_some_and(|from| self.restored.contains(&(instance.clone(), from)));
        if !follows || by_order || self.ancestry.contains(*from, *point) {
            return None;
        }
        let (of, seq) = (id.epoch.0, id.seq);
        let from = from.map_or("nothing".to_owned(), said);
        Some(format!(
            "{instance} begins under epoch {epoch} from {from}; this board had confirmed state {of}/{seq}, which is {}",
            said(*point)
        ))
    }
}

impl Invariant for StatesKept {
    fn name(&self) -> &'static str {
        "confirmed-states-are-kept"
    }

    fn means(&self) -> &'static str {
        "A board that said it holds a state of a service begins from that state, or from a \
         newer one."
    }

    fn wants(&self) -> u16 {
        kind::SERVICE | kind::SENT | kind::LIFE | kind::EFFECT
    }

    fn on(&mut self, seen: &Observation<'_>, findings: &mut Findings) {
        let board = seen.board;
        match seen.what {
            What::Sent(Effect::Send { message: Message::Stored(stored), .. }, _) => {
                let place = (board, stored.instance.clone(), stored.id);
                if let Some(Some(point)) = self.stored.get(&place) {
                    let confirmed = self.confirmed.entry((board, stored.instance.clone()));
                    let confirmed = confirmed.or_insert((stored.id, *point));
                    *confirmed = (*confirmed).max((stored.id, *point));
                }
            }
            What::DiskLost | What::Service(ServiceEvent::StateLost) => {
                self.stored.retain(|(of, ..), _| *of != board);
                self.confirmed.retain(|(of, _), _| *of != board);
            }
            What::Service(event) => {
                if let Some(text) = self.begins(board, event) {
                    let (at, rule) = (seen.at, self.name());
                    findings.push(Finding { at, rule, board: Some(board), text });
                }
                match event {
                    ServiceEvent::Begins { instance, run, epoch, from, .. } => {
                        self.ancestry.begin(*run, *from);
                        self.used.insert(instance.clone(), *epoch);
                        if self.answered.remove(instance) {
                            self.restored.retain(|(of, _)| of != instance);
                        }
                    }
                    ServiceEvent::Kept { instance, id, point } => {
                        self.stored.insert((board, instance.clone(), *id), *point);
                    }
                    // An operator goes back behind what boards have confirmed.
                    ServiceEvent::Forgiven { instance, from } => {
                        self.confirmed.retain(|(_, of), _| of != instance);
                        self.restored.extend(from.map(|from| (instance.clone(), from)));
                    }
                    ServiceEvent::Answered { instance, .. } => {
                        self.answered.insert(instance.clone());
                    }
                    ServiceEvent::Anew { instance } => {
                        self.confirmed.retain(|(_, of), _| of != instance);
                        self.stored.retain(|(_, of, _), _| of != instance);
                        self.used.remove(instance);
                        self.given.retain(|(of, _), _| of != instance);
                    }
                    ServiceEvent::Dropped { instance, id } => {
                        self.stored.remove(&(board, instance.clone(), *id));
                    }
                    // It may have to begin from less than it has confirmed.
                    ServiceEvent::Spoilt { instance, id } => {
                        self.stored.remove(&(board, instance.clone(), *id));
                        self.confirmed.remove(&(board, instance.clone()));
                    }
                    _ => {}
                }
            }
            what => {
                if let Some((_, Record::Assigned(row))) = what.record() {
                    self.given.insert((row.instance(), row.epoch.0), board);
                }
            }
        }
    }
}
