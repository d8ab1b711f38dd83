//! The standby: counts the silence of the active, and takes over.
//!
//! Silence only *starts* a takeover. The standby asks the master once it has heard nothing for T + t
//! and its own promise has run out; the master agrees once its own has; only the row that the master
//! then commits gives the right to start (3b).

use core::time::Duration;

use super::{Failover, Office, want_spec};
use crate::proto::bounded::Text;
use crate::proto::id::Epoch;
use crate::proto::io::{Effect, Event};
use crate::proto::machine::Time;
use crate::proto::order::{Instance, SERVING_WHY_BYTES_MAX};
use crate::proto::specs::SpecHash;
use crate::proto::table::{CheckpointId, Row};
use crate::proto::turn::Turn;
use crate::proto::wire::failover::Claimed;

/// The link to the master is wanted that long by one look.
const LINK_ERRAND: Duration = Duration::from_secs(30);

/// Between two looks whether what an instance runs is there: an operator may bring it along.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// An instance that this board stands by for.
#[derive(Clone, Debug)]
pub struct Vigil {
    epoch: Epoch,
    /// What it would run.
    spec: SpecHash,
    /// Whether it could be started here, or why not; none where that is not known yet.
    able: Option<Result<(), Text<SERVING_WHY_BYTES_MAX>>>,
    check_at: Time,
    /// When this board learnt that it stands by under this right. Silence before that says nothing: the
    /// active may have been living on another's word (S3).
    learnt: Time,
    pub(super) look_at: Time,
    /// Whether it was said already that this board asks to take over.
    asked: bool,
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
            let same = |vigil: &&mut Vigil| vigil.epoch == row.epoch && vigil.spec == row.spec;
            let known = self.vigils.get_mut(&row.instance()).filter(same);
            match known {
                // Something about the row is new: perhaps this board may take over now.
                Some(vigil) => vigil.look_at = turn.now,
                None => {
                    if turn.specs.get(&row.spec).is_none() {
                        lacking.push(row.clone());
                    }
                    // The same right with another specification: the silence goes on.
                    let before = self.vigils.get(&row.instance());
                    let before = before.filter(|vigil| vigil.epoch == row.epoch);
                    let vigil = Vigil {
                        epoch: row.epoch,
                        spec: row.spec,
                        able: None,
                        check_at: turn.now,
                        learnt: before.map_or(turn.now, |vigil| vigil.learnt),
                        look_at: turn.now,
                        asked: false,
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
            self.see_whether_able(turn, office, &row);
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
            let Some(from) = from.filter(|_| row.ready) else { continue };
            if !core::mem::replace(&mut vigil.asked, true) {
                let epoch = row.epoch.0;
                turn.event(Event::Takes { instance: instance.to_string(), epoch });
            }
            self.claim(turn, office, &row, Claimed::Take { from });
        }
    }

    /// Looks now and then whether this board could start the instance, and tells the master where the row
    /// says otherwise.
    fn see_whether_able(&mut self, turn: &mut Turn<'_>, office: &Office, row: &Row) {
        let Some(vigil) = self.vigils.get_mut(&row.instance()) else { return };
        let spec = turn.specs.get(&row.spec).filter(|_| vigil.spec == row.spec);
        if let Some(spec) = spec.filter(|_| vigil.check_at <= turn.now) {
            vigil.check_at = turn.now + CHECK_INTERVAL;
            let spec = Box::new(spec.clone());
            turn.out.push(Effect::Check { instance: row.instance(), spec });
        }
        let able = vigil.able.as_ref().map(Result::is_ok);
        if let Some(able) = able.filter(|able| row.unable == *able && row.standby.is_some()) {
            self.claim(turn, office, row, Claimed::Able(able));
        }
    }

    /// Whether this board could start an instance that it stands by for.
    pub(super) fn on_checked(
        &mut self,
        turn: &mut Turn<'_>,
        instance: &Instance,
        result: Result<(), String>,
    ) {
        let Some(vigil) = self.vigils.get_mut(instance) else { return };
        let able = result.map_err(|why| Text::capped(&why));
        if vigil.able.as_ref() == Some(&able) {
            return;
        }
        if let Err(why) = &able {
            let (instance, why) = (instance.to_string(), why.to_string());
            turn.event(Event::Unable { instance, why });
        }
        vigil.able = Some(able);
        vigil.look_at = turn.now;
    }

    /// Why this board could not start an instance that it stands by for, if it could not.
    pub(crate) fn unable(&self, instance: &Instance) -> Option<&str> {
        let able = self.vigils.get(instance)?.able.as_ref()?;
        able.as_ref().err().map(|why| &**why)
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

    /// From when on this board may ask for the instance: the active silent for T + t since it was heard
    /// last, or since this board became its standby; no promise of this board to it, remembered or not.
    fn free_to_take(&self, row: &Row) -> Time {
        let instance = row.instance();
        let learnt = self.vigils.get(&instance).map_or(Time::NEVER, |vigil| vigil.learnt);
        let granted = self.granted.get(&instance);
        let mine = granted.filter(|g| g.to == row.active && g.epoch == row.epoch);
        let heard = mine.map_or(learnt, |granted| granted.heard.max(learnt));
        let silence = heard + self.preset.lease + self.preset.grace;
        let promise = granted.map_or(Time::default(), |granted| granted.promise.until());
        silence.max(promise).max(self.silent_until)
    }
}
