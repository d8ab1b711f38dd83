//! Ability: whether a board could start what it stands by for, or is to stand by for.
//!
//! A board that lacks the program of a service holds its state as well as any other, and is of no use when
//! the active dies. So it looks before anybody relies on it, again now and then, and tells the master. One
//! that is to be filled does so before it fetches anything.

use core::time::Duration;

use super::{Failover, Office, want_spec};
use crate::proto::bounded::Text;
use crate::proto::id::NodeId;
use crate::proto::io::{Effect, Event};
use crate::proto::machine::Time;
use crate::proto::order::{Instance, SERVING_WHY_BYTES_MAX};
use crate::proto::specs::SpecHash;
use crate::proto::table::Row;
use crate::proto::turn::Turn;
use crate::proto::wire::failover::Claimed;

/// Between two looks: an operator may bring the program along, or take it away.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// The same where there was no answer yet.
const CHECK_AGAIN: Duration = Duration::from_secs(1);
/// The master is told again after so long, until the row says so.
const TELL_AGAIN: Duration = Duration::from_secs(1);

/// Whether this board could start an instance.
#[derive(Clone, Debug)]
pub(super) struct Ability {
    /// What it would run.
    spec: SpecHash,
    /// Or why not; none where that is not known yet.
    able: Option<Result<(), Text<SERVING_WHY_BYTES_MAX>>>,
    check_at: Time,
    pub(super) look_at: Time,
}

fn concerns(row: &Row, me: &NodeId) -> bool {
    [row.standby, row.fill].contains(&Some(*me)) && !row.retiring
}

impl Failover {
    /// Takes up rows that name this board as standby, or as the board to be filled.
    pub(super) fn follow_abilities(&mut self, turn: &Turn<'_>) {
        let me = turn.me.id();
        let Some(newest) = turn.directory.newest() else { return };
        let table = &newest.table;
        self.abilities.retain(|instance, _| table.row(instance).is_some_and(|r| concerns(r, &me)));
        for row in table.rows.iter().filter(|row| concerns(row, &me)) {
            let (spec, now) = (row.spec, turn.now);
            let new = || Ability { spec, able: None, check_at: now, look_at: now };
            let ability = self.abilities.entry(row.instance()).or_insert_with(new);
            if ability.spec != spec {
                *ability = new();
            }
            ability.look_at = now;
        }
    }

    /// Looks where that is due, and tells the master what the row does not say.
    pub(super) fn see_abilities(&mut self, turn: &mut Turn<'_>, office: &Office) {
        let due = self.abilities.iter().filter(|(_, ability)| ability.look_at <= turn.now);
        let due: Vec<Instance> = due.map(|(instance, _)| instance.clone()).collect();
        for instance in due {
            let row = turn.directory.newest().and_then(|n| n.table.row(&instance)).cloned();
            let (Some(row), Some(ability)) = (row, self.abilities.get_mut(&instance)) else {
                self.abilities.remove(&instance);
                continue;
            };
            if ability.check_at <= turn.now {
                // A program that has just begun may not know yet what it hosts.
                let again = if ability.able.is_some() { CHECK_INTERVAL } else { CHECK_AGAIN };
                ability.check_at = turn.now + again;
                match turn.specs.get(&row.spec).cloned().map(Box::new) {
                    Some(spec) => turn.out.push(Effect::Check {
                        instance: instance.clone(),
                        order: row.spec,
                        spec,
                    }),
                    None => want_spec(turn, &row),
                }
            }
            ability.look_at = ability.check_at;
            let Some(able) = ability.able.as_ref().map(Result::is_ok) else { continue };
            let is_known = row.standby == Some(turn.me.id()) && row.able == Some(able);
            if !is_known {
                ability.look_at = ability.check_at.min(turn.now + TELL_AGAIN);
                self.claim(turn, office, &row, Claimed::Able(able));
            }
        }
    }

    /// Whether this board could start an instance, by the order behind its specification.
    pub(super) fn on_checked(
        &mut self,
        turn: &mut Turn<'_>,
        instance: &Instance,
        order: SpecHash,
        result: Result<(), String>,
    ) {
        let Some(ability) = self.abilities.get_mut(instance).filter(|a| a.spec == order) else {
            return;
        };
        let able = result.map_err(|why| Text::capped(&why));
        if ability.able.as_ref() == Some(&able) {
            return;
        }
        ability.check_at = turn.now + CHECK_INTERVAL;
        if let Err(why) = &able {
            let (instance, why) = (instance.to_string(), why.to_string());
            turn.event(Event::Unable { instance, why });
        }
        ability.able = Some(able);
        ability.look_at = turn.now;
        if let Some(vigil) = self.vigils.get_mut(instance) {
            vigil.look_at = turn.now;
        }
    }

    /// Why this board could not start an instance that it stands by for, if it could not.
    pub(crate) fn unable(&self, instance: &Instance) -> Option<&str> {
        let able = self.abilities.get(instance)?.able.as_ref()?;
        able.as_ref().err().map(|why| &**why)
    }
}
