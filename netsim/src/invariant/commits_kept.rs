//! `commit = "standby"` loses nothing that was acknowledged (design 3, invariant 9; 3b.7).
//!
//! Every container begins from a state that contains all writes that a client was told to be kept. Only
//! where no folder and no store anywhere holds such a write any more is it lost without anybody's fault:
//! the disks of all its holders are gone. Not where a board deleted the last copy itself. And an operator may have taken the loss upon himself, for one
//! beginning on one board.

use std::collections::BTreeMap;

use hedgerow::proto::order::Instance;
use hedgerow::proto::table::CheckpointId;

use super::Invariant;
use crate::observe::{Finding, Findings, Observation, What, kind};
use crate::queue::BoardIndex;
use crate::service::{Ancestry, Point, ServiceEvent};

/// What an operator has taken upon himself.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Forgiven {
    /// That it begins from just this, wherever.
    From(Point),
    /// That it begins on this board, from whatever that has.
    On(BoardIndex),
}

/// For which rights an order to go back is meant. A takeover may begin from the same state before it is carried out.
struct Pardon {
    /// It ran under this one when that was ordered.
    above: u64,
    /// The last one, once the operator has his answer.
    upto: Option<u64>,
}

#[derive(Default)]
pub(super) struct CommitsKept {
    ancestry: Ancestry,
    /// What lies in stores.
    stored: BTreeMap<(BoardIndex, Instance, CheckpointId), Point>,
    /// What lies in folders; of a running service: what it began with, and more.
    folders: BTreeMap<(BoardIndex, Instance), Point>,
    /// The newest acknowledged write on each run.
    acknowledged: BTreeMap<Instance, BTreeMap<u32, u64>>,
    /// Beginnings for which an operator answers: of what, and from what, or else where.
    forgiven: BTreeMap<(Instance, Forgiven), Pardon>,
    /// Acknowledged writes of each run whose last copy a board deleted.
    deleted: BTreeMap<(Instance, u32), (u64, BoardIndex)>,
    /// The right under which each began last.
    begun: BTreeMap<Instance, u64>,
}

impl CommitsKept {
    /// An acknowledged write that `from` does not contain although somebody has it, or deleted it.
    fn lost(&self, instance: &Instance, from: Option<Point>) -> Option<(Point, BoardIndex)> {
        let runs = self.acknowledged.get(instance)?;
        let wanted = runs.iter().map(|(run, writes)| Point { run: *run, writes: *writes });
        let missing = wanted.filter(|wanted| !self.ancestry.contains(from, *wanted));
        let held = |wanted: Point| {
            let has = |state: &Point| self.ancestry.contains(Some(*state), wanted);
            let stored = self.stored.iter().filter(|((_, of, _), _)| of == instance);
            let folders = self.folders.iter().filter(|((_, of), _)| of == instance);
            let in_store = stored.map(|((board, ..), state)| (board, state));
            let in_folder = folders.map(|((board, _), state)| (board, state));
            let holder = in_store.chain(in_folder).find(|(_, state)| has(state));
            let deleted = self.deleted.get(&(instance.clone(), wanted.run));
            let deleted = deleted.filter(|(writes, _)| wanted.writes <= *writes);
            let holder = holder.map(|(board, _)| board).or(deleted.map(|(_, board)| board))?;
            Some((wanted, *holder))
        };
        missing.into_iter().find_map(held)
    }

    /// Whether an operator answers for what it begins with. His order is meant for the next right: under the present
    /// one a container may crash and come back from the same state before that is carried out.
    fn pardons(&self, instance: &Instance, what: Forgiven, epoch: u64) -> bool {
        let Some(pardon) = self.forgiven.get(&(instance.clone(), what)) else { return false };
        let begun = self.begun.get(instance).copied().unwrap_or_default();
        // A right that nobody could begin under is passed on.
        epoch > pardon.above && pardon.upto.is_none_or(|upto| epoch <= upto || begun < upto)
    }

    /// Notes which acknowledged writes nobody has any more now that this board has deleted a state. A folder in which
    /// the run goes on, or ended, has them.
    fn delete(&mut self, board: BoardIndex, instance: &Instance, id: CheckpointId) {
        let Some(gone) = self.stored.remove(&(board, instance.clone(), id)) else { return };
        let Some(runs) = self.acknowledged.get(instance) else { return };
        for (run, writes) in runs {
            let wanted = Point { run: *run, writes: *writes };
            let has = |state: &Point| self.ancestry.contains(Some(*state), wanted);
            let stored = self.stored.iter().any(|((_, of, _), state)| of == instance && has(state));
            let folder = |((_, of), state): (&(BoardIndex, Instance), &Point)| {
                of == instance && (state.run == *run || has(state))
            };
            if has(&gone) && !stored && !self.folders.iter().any(folder) {
                self.deleted.insert((instance.clone(), *run), (*writes, board));
            }
        }
    }

    fn service(&mut self, board: BoardIndex, event: &ServiceEvent) {
        match event {
            ServiceEvent::Begins { instance, run, from, epoch, .. } => {
                self.ancestry.begin(*run, *from);
                self.begun.insert(instance.clone(), *epoch);
                let state = Point { run: *run, writes: 0 };
                self.folders.insert((board, instance.clone()), state);
            }
            ServiceEvent::Ends { instance, left, .. } => {
                self.folders.insert((board, instance.clone()), *left);
            }
            ServiceEvent::Sleeps { .. }
            | ServiceEvent::Wakes { .. }
            | ServiceEvent::Isolated { .. }
            | ServiceEvent::Connected { .. } => {}
            ServiceEvent::Acknowledged { instance, point } => {
                let runs = self.acknowledged.entry(instance.clone()).or_default();
                let newest = runs.entry(point.run).or_default();
                *newest = point.writes.max(*newest);
            }
            ServiceEvent::Kept { instance, id, point } => {
                if let Some(point) = point {
                    self.stored.insert((board, instance.clone(), *id), *point);
                }
            }
            ServiceEvent::Dropped { instance, id } => self.delete(board, instance, *id),
            ServiceEvent::Spoilt { instance, id } => {
                self.stored.remove(&(board, instance.clone(), *id));
            }
            ServiceEvent::StateLost => self.lose(board),
            ServiceEvent::Anew { instance } => {
                self.acknowledged.remove(instance);
                self.deleted.retain(|(of, _), _| of != instance);
                self.stored.retain(|(_, of, _), _| of != instance);
                self.folders.retain(|(_, of), _| of != instance);
            }
            ServiceEvent::Forgiven { instance, from } => {
                let forgiven = from.map_or(Forgiven::On(board), Forgiven::From);
                let under = self.begun.get(instance).copied().unwrap_or_default();
                let pardon = Pardon { above: under, upto: None };
                self.forgiven.insert((instance.clone(), forgiven), pardon);
            }
            ServiceEvent::Answered { instance, upto } => {
                let all = self.forgiven.iter_mut().filter(|((of, _), _)| of == instance);
                all.for_each(|(_, pardon)| pardon.upto = Some(*upto));
            }
            ServiceEvent::Read { .. } | ServiceEvent::Opened(_) => {}
        }
    }

    fn lose(&mut self, board: BoardIndex) {
        self.stored.retain(|(of, ..), _| *of != board);
        self.folders.retain(|(of, _), _| *of != board);
    }
}

impl Invariant for CommitsKept {
    fn name(&self) -> &'static str {
        "acknowledged-commits-are-kept"
    }

    fn means(&self) -> &'static str {
        "What a service's client was told to be kept is kept: wherever the service begins \
         next, its state contains all of it."
    }

    fn wants(&self) -> u16 {
        kind::SERVICE | kind::LIFE
    }

    fn on(&mut self, seen: &Observation<'_>, findings: &mut Findings) {
        match seen.what {
            What::DiskLost => self.lose(seen.board),
            What::Service(event) => {
                if let ServiceEvent::Begins { instance, epoch, from, stateful: true, .. } = event {
                    let lost = self.lost(instance, *from);
                    // What could not be started where it was restored goes on elsewhere.
                    let forgiven = from
                        .is_some_and(|from| self.pardons(instance, Forgiven::From(from), *epoch))
                        | self.pardons(instance, Forgiven::On(seen.board), *epoch);
                    if let Some((point, holder)) = lost.filter(|_| !forgiven) {
                        let text = format!(
                            "{instance} begins under epoch {epoch} from {from:?}, without {point:?}, which was acknowledged and which n{holder} has, or deleted as the last one"
                        );
                        let (at, rule, board) = (seen.at, self.name(), Some(seen.board));
                        findings.push(Finding { at, rule, board, text });
                    }
                    // What nobody has any more is reported once, by being forgotten.
                    let ancestry = &self.ancestry;
                    if let Some(runs) = self.acknowledged.get_mut(instance) {
                        runs.retain(|run, writes| {
                            let wanted = Point { run: *run, writes: *writes };
                            ancestry.contains(*from, wanted)
                        });
                    }
                }
                self.service(seen.board, event);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use hedgerow::proto::id::Epoch;

    use super::*;
    use crate::service;

    /// What is found when a service begins from nothing on board 2, after these events on board 1.
    fn found(events: &[ServiceEvent]) -> usize {
        let (mut rule, mut findings) = (CommitsKept::default(), Findings::default());
        let mut see = |at, board, event: &ServiceEvent| {
            rule.on(&Observation { at, board, what: What::Service(event) }, &mut findings);
        };
        for (at, event) in (1..).zip(events) {
            see(at, 1, event);
        }
        see(99, 2, &begins(8, 2));
        findings.into_vec().len()
    }

    fn begins(epoch: u64, run: u32) -> ServiceEvent {
        let instance = service::instance("kv");
        ServiceEvent::Begins { instance, epoch, run, from: None, stateful: true }
    }

    #[test]
    fn the_last_copy_of_an_acknowledged_write_is_lost_with_a_disk_but_not_deleted() {
        let (instance, point) = (service::instance("kv"), Point { run: 1, writes: 5 });
        let id = CheckpointId { epoch: Epoch(7), seq: 1 };
        let kept = ServiceEvent::Kept { instance: instance.clone(), id, point: Some(point) };
        let acknowledged = ServiceEvent::Acknowledged { instance: instance.clone(), point };
        let lost = ServiceEvent::StateLost;
        let dropped = ServiceEvent::Dropped { instance: instance.clone(), id };
        let spoilt = ServiceEvent::Spoilt { instance: instance.clone(), id };
        let anew = ServiceEvent::Anew { instance };
        let again = kept.clone();
        let all = |last: &[&ServiceEvent]| {
            let first = [&begins(7, 1), &kept, &acknowledged].map(Clone::clone);
            let last = last.iter().map(|event| (*event).clone());
            found(&first.into_iter().chain(last).collect::<Vec<_>>())
        };
        assert_eq!(all(&[]), 1, "a board has it");
        assert_eq!(all(&[&lost]), 0, "its disk is gone");
        assert_eq!(all(&[&dropped, &lost]), 0, "the folder had it still");
        // A folder that is lost before what the store has.
        assert_eq!(all(&[&lost, &again, &spoilt]), 0, "the disk has spoilt it");
        assert_eq!(all(&[&lost, &again, &dropped]), 1, "it was deleted");
        assert_eq!(all(&[&lost, &again, &dropped, &anew]), 0, "it is another service");
    }
}
