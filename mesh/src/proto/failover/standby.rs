//! The standby: counts the silence of the active, and takes over.
//!
//! Silence only *starts* a takeover. The standby asks the master once it has heard nothing for T + t
//! and its own promise has run out; the master agrees once its own has; only the row that the master
//! then commits gives the right to start (3b).

use core::time::Duration;

use super::{Failover, Office, want_spec};
use crate::proto::id::Epoch;
use crate::proto::io::Event;
use crate::proto::machine::Time;
use crate::proto::order::Instance;
use crate::proto::table::{CheckpointId, Row};
use crate::proto::turn::Turn;
use crate::proto::wire::failover::Claimed;

/// A board that could not start what it stands by for takes over so much later, to pass it on: its former
/// active could not go on any more, and may have been restarted only.
const UNABLE_PATIENCE: Duration = Duration::from_secs(30);
/// A claim to take over may reach a master that late: a connection that passes nothing ends before.
const TAKE_LASTS: Duration = Duration::from_secs(20);
/// The link to the master is wanted that long by one look.
const LINK_ERRAND: Duration = Duration::from_secs(30);

/// An instance that this board stands by for.
#[derive(Clone, Copy, Debug)]
pub struct Vigil {
    epoch: Epoch,
    /// When this board learnt that it stands by under this right. Silence before that says nothing: the
    /// active may have been living on another's word (S3).
    learnt: Time,
    pub(super) look_at: Time,
    /// When this board asked last to take over.
    asked: Option<Time>,
}

impl Failover {
    /// Takes up rows that name this board as standby and drops those that do not any more. Returns
    /// whether anything changed.
    pub(super) fn follow_standby_rows(&mut self, turn: &mut Turn<'_>) -> bool {
        let me = turn.me.id();
        let Some(newest) = turn.directory.newest() else { return false };
        // What is being removed needs the standby's word that it promises nothing any more.
        let stands = |row: &Row| row.standby == Some(me) && (!row.retiring || row.removing);
        let before = self.vigils.len();
        self.vigils.retain(|instance, _| newest.table.row(instance).is_some_and(stands));
        let mut changed = self.vigils.len() != before;
        let mut lacking: Vec<Row> = Vec::new();
        for row in newest.table.rows.iter().filter(|row| stands(row)) {
            let known = self.vigils.get_mut(&row.instance()).filter(|v| v.epoch == row.epoch);
            match known {
                // Something about the row is new: perhaps this board may take over now.
                Some(vigil) => vigil.look_at = turn.now,
                None => {
                    if turn.specs.get(&row.spec).is_none() {
                        lacking.push(row.clone());
                    }
                    let vigil = Vigil {
                        epoch: row.epoch,
                        learnt: turn.now,
                        look_at: turn.now,
                        asked: None,
                    };
                    self.vigils.insert(row.instance(), vigil);
                    changed = true;
                }
            }
        }
        let filled = |row: &Row| row.fill == Some(me);
        changed |= newest.table.rows.iter().any(filled);
        for row in lacking {
            want_spec(turn, &row);
        }
        changed
    }

    /// Looks whether an active has been silent for too long.
    pub(super) fn keep_vigil(&mut self, turn: &mut Turn<'_>, office: &Office) {
        let due: Vec<Instance> = self
            .vigils
            .iter()
            .filter(|(_, vigil)| vigil.look_at <= turn.now)
            .map(|(instance, _)| instance.clone())
            .collect();
        for instance in due {
            let Some(row) = self.row(turn, &instance) else { continue };
            if let Some(master) = office.master.filter(|master| *master != turn.me.id()) {
                // When the active dies there is no time to find the way to the master first.
                turn.links.want_until(master, turn.now + LINK_ERRAND, turn.now);
            }
            if row.removing {
                self.say_that_it_is_over(turn, office, &row);
                continue;
            }
            let free_at = self.free_to_take(&row);
            let stateless = turn.specs.get(&row.spec).is_some_and(|spec| spec.state.is_none());
            let own = turn.holdings.take_from(&row);
            let from = if stateless { Some(CheckpointId::default()) } else { own };
            let heartbeat = self.preset.heartbeat;
            let Some(vigil) = self.vigils.get_mut(&instance) else { continue };
            if turn.now < free_at {
                vigil.look_at = free_at;
                continue;
            }
            vigil.look_at = turn.now + heartbeat;
            if turn.specs.get(&row.spec).is_none() {
                want_spec(turn, &row);
            }
            let returns = !row.lost && turn.now < free_at + UNABLE_PATIENCE;
            let waits = returns && self.unable(&instance).is_some();
            let Some(from) = from.filter(|_| row.ready && !waits) else { continue };
            let Some(vigil) = self.vigils.get_mut(&instance) else { continue };
            if vigil.asked.replace(turn.now).is_none() {
                let epoch = row.epoch.0;
                turn.event(Event::Takes { instance: instance.to_string(), epoch });
            }
            self.claim(turn, office, &row, Claimed::Take { from });
        }
    }

    /// Whether this board has asked to take an instance over and may still be given it.
    pub(crate) fn may_be_given(&self, instance: &Instance, now: Time) -> bool {
        let asked = self.vigils.get(instance).and_then(|vigil| vigil.asked);
        asked.is_some_and(|asked| now.since(asked) < TAKE_LASTS)
    }

    /// Says that this board promises the active of a removed instance nothing any more.
    fn say_that_it_is_over(&mut self, turn: &mut Turn<'_>, office: &Office, row: &Row) {
        let instance = row.instance();
        let promise = self.granted.get(&instance).map_or(Time::default(), |g| g.promise.until());
        let free_at = promise.max(self.silent_until);
        if let Some(vigil) = self.vigils.get_mut(&instance) {
            vigil.look_at = free_at.max(turn.now + self.preset.heartbeat);
        }
        if turn.now >= free_at {
            self.claim(turn, office, row, Claimed::Stopped);
        }
    }

    /// Whether the active was heard by its standby, this board, within the last two heartbeats: it is not known
    /// to be gone before others have missed it, too.
    pub(crate) fn hears_active(&self, row: &Row, now: Time) -> bool {
        now.since(self.heard_active(row)) <= self.preset.heartbeat * 2
    }

    /// When the active was heard last, or this board became its standby; never: it is not.
    fn heard_active(&self, row: &Row) -> Time {
        let instance = row.instance();
        let learnt = self.vigils.get(&instance).map_or(Time::NEVER, |vigil| vigil.learnt);
        let granted = self.granted.get(&instance);
        let mine = granted.filter(|g| g.to == row.active && g.epoch == row.epoch);
        mine.map_or(learnt, |granted| granted.heard.max(learnt))
    }

    /// From when on this board may ask for the instance: the active silent for T + t since it was heard
    /// last, or since this board became its standby; no promise of this board to it, remembered or not.
    fn free_to_take(&self, row: &Row) -> Time {
        let granted = self.granted.get(&row.instance());
        let silence = self.heard_active(row) + self.preset.lease + self.preset.grace;
        let promise = granted.map_or(Time::default(), |granted| granted.promise.until());
        silence.max(promise).max(self.silent_until)
    }
}
