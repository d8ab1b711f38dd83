//! What truly became of services, and whether all of them serve again after the faults.
//!
//! A service must serve again if one of its two holders can start it ([`World::can_serve`]); where both
//! were lost, with a disk or with the state on it, only an operator could help, and it is *orphaned*,
//! exempt and counted.

use std::collections::BTreeMap;

use hedgerow::proto::id::NodeId;
use hedgerow::proto::table::{CheckpointId, Row, Table};

use super::World;
use super::operator::What as Asked;
use crate::board::{self, Board};
use crate::evidence::{Evidence, ServiceEvidence};
use crate::queue::BoardIndex;
use crate::service::{Service, ServiceEvent};

impl World {
    /// Takes note of what became of a service.
    pub(super) fn note_service(&mut self, board: BoardIndex, event: &ServiceEvent) {
        let now = self.now;
        match event {
            ServiceEvent::Begins { instance, epoch, from, .. } => {
                let record = self.records.entry(instance.to_string()).or_default();
                record.epochs.insert(*epoch);
                let by_order = record.forgiven.remove(&(board, *from))
                    | record.forgiven.remove(&(board, None));
                record.set_back += u64::from(by_order);
                record.is_back(now);
            }
            ServiceEvent::Wakes { instance, .. } => {
                self.records.entry(instance.to_string()).or_default().is_back(now);
            }
            ServiceEvent::Ends { instance, .. } | ServiceEvent::Sleeps { instance, .. } => {
                // What ends when its board wakes up may have been taken over long ago.
                let elsewhere = self.boards.iter().any(|other| {
                    let shim = other.host.shims.get(instance).filter(|_| other.asleep.is_none());
                    other.index != board && shim.is_some_and(|shim| shim.run.is_some())
                });
                if !elsewhere {
                    let record = self.records.entry(instance.to_string()).or_default();
                    record.down_since = record.down_since.or(Some(now));
                }
            }
            ServiceEvent::Acknowledged { instance, .. } => {
                self.records.entry(instance.to_string()).or_default().commits += 1;
            }
            ServiceEvent::Forgiven { instance, from } => {
                let record = self.records.entry(instance.to_string()).or_default();
                record.forgiven.insert((board, *from));
            }
            ServiceEvent::Anew { .. }
            | ServiceEvent::Isolated { .. }
            | ServiceEvent::Answered { .. }
            | ServiceEvent::Connected { .. }
            | ServiceEvent::Kept { .. }
            | ServiceEvent::Dropped { .. }
            | ServiceEvent::Read { .. }
            | ServiceEvent::Spoilt { .. }
            | ServiceEvent::Opened(_)
            | ServiceEvent::StateLost => {}
        }
    }

    pub(super) fn services(&self) -> BTreeMap<String, ServiceEvidence> {
        let of = |service: &Service| {
            let record = self.records.get(&service.name).cloned().unwrap_or_default();
            let (runs, row) = (self.runs_of(service), self.newest_row(service));
            let keeps = |board: &&Board| board.host.store.has_any(&service.instance());
            let kept_by = self.boards.iter().filter(keeps).map(|board| board.index).collect();
            (service.name.clone(), ServiceEvidence { runs, row, kept_by, record })
        };
        self.plan.services.iter().map(of).collect()
    }

    fn runs_of(&self, service: &Service) -> Vec<(u16, u64)> {
        let instance = service.instance();
        let run = |board: &Board| {
            let shim = board.host.shims.get(&instance)?;
            shim.run.as_ref().map(|_| (board.index, shim.epoch.0))
        };
        self.boards.iter().filter_map(run).collect()
    }

    pub(super) fn newest_row(&self, service: &Service) -> Option<Row> {
        self.newest_table()?.row(&service.instance()).cloned()
    }

    pub(super) fn newest_table(&self) -> Option<&Table> {
        let tables = self.boards.iter().filter_map(|b| Some(b.node.as_ref()?.authority().table()));
        tables.max_by_key(|table| table.version)
    }

    /// Whether every service that somebody can start runs, once, under its present right.
    pub(super) fn judge_serving(&mut self, evidence: &Evidence) -> Result<(), String> {
        self.orphans = 0;
        let mut verdict = Ok(());
        for service in self.plan.services.clone() {
            let Some(known) = evidence.services.get(&service.name) else { continue };
            let ordered = |what| {
                self.wanted.iter().any(|wanted| {
                    wanted.subject == service.name
                        && wanted.what == what
                        && wanted.outcome == Some(true)
                })
            };
            let Some(row) = &known.row else {
                if ordered(Asked::Run) && !ordered(Asked::Remove) {
                    verdict = Err(format!("{} is in no table", service.name));
                }
                continue;
            };
            let is_used = !known.record.epochs.is_empty();
            if service.stateful
                && is_used
                && !row.retiring
                && !self.can_serve(&service, row)
                && self.let_go(row)
            {
                verdict = Err(format!("who held the state of {} was let go", service.name));
                continue;
            }
            if row.retiring {
                continue;
            }
            if known.runs.iter().any(|(_, epoch)| *epoch == row.epoch.0) {
                continue;
            }
            if !self.can_serve(&service, row) || !self.could_start(evidence, row) {
                self.orphans += 1;
                continue;
            }
            let (name, epoch) = (&service.name, row.epoch.0);
            verdict = Err(format!("{name} does not run under its right {epoch}: {:?}", known.runs));
        }
        verdict
    }

    /// Whether every service that runs has a standby that could carry on, where another board has room for one.
    pub(super) fn judge_protected(&self, evidence: &Evidence) -> Result<(), String> {
        for service in &self.plan.services {
            let Some(known) = evidence.services.get(&service.name) else { continue };
            let Some(row) = known.row.as_ref().filter(|row| !row.retiring) else { continue };
            if known.runs.is_empty() {
                continue;
            }
            let name = &service.name;
            let standby = row.standby.and_then(|standby| self.running(&standby));
            let Some(standby) = standby else {
                if !self.has_room(evidence, row) {
                    continue;
                }
                return Err(format!("{name} has no living standby"));
            };
            let holds = !service.stateful || self.can_take(standby, service, row);
            if !row.ready || !holds || row.fill.is_some() {
                return Err(format!("the standby of {name}, n{}, is not ready", standby.index));
            }
        }
        Ok(())
    }

    /// Whether a board has the program that the row names, or could be given the service.
    fn could_start(&self, evidence: &Evidence, row: &Row) -> bool {
        let named = [Some(row.active), row.standby].into_iter().flatten();
        let mut named = named.filter_map(|node| self.running(&node));
        named.any(|board| !board.host.empty)
            || self.with_room(evidence, row).any(|board| !board.host.empty)
    }

    fn has_room(&self, evidence: &Evidence, row: &Row) -> bool {
        self.with_room(evidence, row).next().is_some()
    }

    /// Boards that are up, other than the active, and could stand by for one more service of that active: they run
    /// fewer than their class holds, and still would if that active died.
    fn with_room<'a>(
        &'a self,
        evidence: &'a Evidence,
        row: &'a Row,
    ) -> impl Iterator<Item = &'a Board> {
        let rows = self.newest_table().map_or(&[][..], |table| &table.rows);
        let burden = move |node: NodeId| {
            let others = rows.iter().filter(|other| other.instance() != row.instance());
            let falls_to_it = |other: &&Row| {
                let stands_by = other.standby == Some(node) || other.fill == Some(node);
                (other.active == node && !other.retiring)
                    || (other.active == row.active && stands_by)
            };
            others.filter(falls_to_it).count()
        };
        let boards = evidence.members().map(|board| &self.boards[usize::from(board)]);
        let others = boards.filter(|board| board.id != row.active);
        others.filter(move |board| burden(board.id) < board::room(board.index))
    }

    /// Whether nobody of those whom a row names is dead or has lost a state, and one has left by the mesh's
    /// word.
    fn let_go(&self, row: &Row) -> bool {
        let of = |node: &NodeId| self.boards.iter().find(|board| board.id == *node);
        let named = || [Some(row.active), row.standby].into_iter().flatten();
        // Who has lost states is excused until it holds one of this service again.
        let robbed = |b: &Board| b.has_lost && !b.host.store.has_any(&row.instance());
        let there =
            |node| of(&node).is_some_and(|b| b.has_left || (b.node.is_some() && !robbed(b)));
        !row.lost
            && named().all(there)
            && named().any(|node| of(&node).is_some_and(|board| board.has_left))
    }

    /// Whether the active or the standby that a row names could run it.
    fn can_serve(&self, service: &Service, row: &Row) -> bool {
        let instance = service.instance();
        // Who holds only what has rotted does not know yet.
        let holds_any = |board: &Board| {
            let store = &board.host.store;
            store.ids(&instance).any(|id| store.is_sound(&instance, id))
        };
        let active = self.running(&row.active).filter(|_| !row.lost).is_some_and(|board| {
            let host = &board.host;
            // What lies torn in the folder is gone on from only with a state from the store.
            let torn = host.is_torn(&instance, row.epoch);
            let goes_on = host.folders.get(&instance).is_some_and(|f| f.epoch == row.epoch)
                && (!torn || holds_any(board));
            let begins = host.began.get(&instance) != Some(&row.epoch.0);
            let newest = host.store.ids(&instance).next_back();
            let has_start = row.base == CheckpointId::default()
                || newest.is_some_and(|id| host.store.is_sound(&instance, id));
            !service.stateful || goes_on || (begins && has_start)
        });
        let standby = row.standby.filter(|_| row.ready || row.lost);
        let standby = standby.and_then(|standby| self.running(&standby));
        active
            || standby.is_some_and(|board| {
                self.can_take(board, service, row) && (!service.stateful || holds_any(board))
            })
    }

    fn can_take(&self, board: &Board, service: &Service, row: &Row) -> bool {
        let fits = |id: CheckpointId| id.epoch == row.epoch || id == row.base;
        !service.stateful || board.host.store.ids(&service.instance()).any(fits)
    }

    pub(super) fn running(&self, node: &NodeId) -> Option<&Board> {
        let board = &self.boards[usize::from(*self.directory.get(node)?)];
        (board.id == *node && board.node.is_some()).then_some(board)
    }
}
