//! The handover: an active gives up its right on purpose, in favour of its standby.
//!
//! For a planned move (3b.1), and when a service does not start here any more (L6). The service is
//! frozen and its last state captured; when the standby holds it the service is killed; only when it is
//! dead and that is on this board's disk does the master hear of it. From then on this board never runs
//! that epoch again, whatever happens to the message.

use core::time::Duration;

use super::active::{Assignment, Run};
use super::{Failover, Kept, Notice};
use crate::proto::id::NodeId;
use crate::proto::io::Effect;
use crate::proto::journal::Record;
use crate::proto::machine::Time;
use crate::proto::ops::Purpose;
use crate::proto::order::Instance;
use crate::proto::table::CheckpointId;
use crate::proto::turn::Turn;

/// After a handover that failed.
const REST: Duration = Duration::from_secs(30);

/// A handover under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Handover {
    to: NodeId,
    stage: Stage,
    /// Without the standby's word by then the service goes on here.
    until: Time,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// The service is being frozen, and its last state captured.
    Capturing,
    /// The standby fetches that state.
    Copying(CheckpointId),
    /// The service is being killed.
    Killing(CheckpointId),
    /// That is being written down.
    Keeping,
}

impl Handover {
    /// Whether the service lives still, and may simply go on.
    pub(super) fn can_be_undone(&self) -> bool {
        matches!(self.stage, Stage::Capturing | Stage::Copying(_))
    }
}

impl Failover {
    /// Begins to hand an instance over to its standby.
    ///
    /// # Errors
    /// Why that is not possible now.
    pub(super) fn begin_handover(
        &mut self,
        turn: &mut Turn<'_>,
        instance: &Instance,
    ) -> Result<(), &'static str> {
        let until = turn.now + self.preset.lease * 2;
        let Some(assignment) = self.assignments.get_mut(instance) else {
            return Err("it does not run on this board");
        };
        if assignment.handover.is_some() || !assignment.is_wanted() {
            return Err("it is being moved already");
        }
        if assignment.run == Run::Starting {
            // What lies in its folder may be of another right still.
            return Err("it is being started");
        }
        let row = &assignment.row;
        let blank = assignment.is_blank();
        let (Some(to), true, None) = (row.standby, row.ready || blank, row.fill) else {
            return Err("no standby is ready to carry on");
        };
        if row.able != Some(true) {
            return Err("its standby could not start it, or has not said yet that it could");
        }
        let stateful = turn.specs.get(&row.spec).is_none_or(|spec| spec.state.is_some()) && !blank;
        let stage = match stateful {
            // Its folder, if there is one, is of another right: what this one would begin with goes on.
            true if assignment.is_unused() => {
                if !assignment.counts(turn.holdings, row.base) {
                    return Err("the state that it would begin with is not here");
                }
                Stage::Copying(row.base)
            }
            true => Stage::Capturing,
            false => Stage::Copying(CheckpointId::default()),
        };
        assignment.handover = Some(Handover { to, stage, until });
        match stage {
            Stage::Capturing => self.notices.push(Notice::Close(instance.clone(), true)),
            _ => self.tell_copies(instance),
        }
        self.hand_over(turn, instance);
        Ok(())
    }

    /// This board cannot run it: another one may.
    pub(super) fn resign(&mut self, turn: &mut Turn<'_>, instance: &Instance) {
        // Where it has just come from by a handover it goes on failing here, and says so.
        let came = |a: &Assignment| a.has_just_come(turn.now);
        if self.assignments.get(instance).is_some_and(came) {
            return;
        }
        // An error means that nobody else could run it either.
        let _ = self.begin_handover(turn, instance);
    }

    /// This board is leaving: what has to move is looked at now.
    pub(crate) fn hurry_away(&mut self, turn: &Turn<'_>) {
        for assignment in self.assignments.values_mut().filter(|a| a.is_wanted()) {
            assignment.claim_at = assignment.claim_at.min(turn.now);
        }
    }

    /// This board is about to go away: whatever has a standby is handed over. Its own right to give, so
    /// no operator is asked.
    pub(crate) fn resign_all(&mut self, turn: &mut Turn<'_>) {
        let all: Vec<Instance> = self.assignments.keys().cloned().collect();
        for instance in all {
            // An error means that nobody else could run it now, or that it is being moved already.
            let _ = self.begin_handover(turn, &instance);
        }
    }

    /// The last state is complete here, or could not be captured.
    pub(crate) fn on_final(
        &mut self,
        turn: &mut Turn<'_>,
        instance: &Instance,
        state: Option<CheckpointId>,
    ) {
        let Some(assignment) = self.assignments.get_mut(instance) else { return };
        // A folder that cannot be captured, after a power cut say, and cannot be started from either: then
        // what was captured before is all that there is.
        let counts = |id: &CheckpointId| assignment.counts(turn.holdings, *id);
        let newest = turn.holdings.own(instance).rev().find(counts);
        let state = state.or(newest.filter(|_| assignment.lies()));
        let Some(handover) = &mut assignment.handover else { return };
        match state {
            Some(id) if handover.stage == Stage::Capturing => handover.stage = Stage::Copying(id),
            Some(_) => {}
            None => return self.give_up_handover(turn, instance),
        }
        self.hand_over(turn, instance);
    }

    /// Takes a handover as far as it can go now.
    pub(super) fn hand_over(&mut self, turn: &mut Turn<'_>, instance: &Instance) {
        // Its own promise to a former active is a debt that a successor would not know of.
        let owes = self.is_bound_to(turn, instance).is_some() || turn.now < self.silent_until;
        let Some(assignment) = self.assignments.get_mut(instance) else { return };
        let Some(handover) = &mut assignment.handover else { return };
        if let Stage::Copying(id) = handover.stage {
            let held = turn.holdings.confirmed(instance, &handover.to);
            if id == CheckpointId::default() || held >= Some(id) {
                // The newest that both have: this board may let older ones go, and is to stand by.
                let last = held.filter(|_| id != CheckpointId::default()).unwrap_or(id);
                handover.stage = Stage::Killing(last);
                if !matches!(assignment.run, Run::Idle | Run::Waiting(_)) {
                    assignment.run = Run::Stopping;
                    turn.out.push(Effect::Stop { instance: instance.clone(), kill: true });
                }
            }
        }
        match handover.stage {
            Stage::Killing(_) if owes && assignment.began != Some(assignment.row.epoch) => {}
            Stage::Killing(last) if matches!(assignment.run, Run::Idle | Run::Waiting(_)) => {
                handover.stage = Stage::Keeping;
                let (epoch, to) = (assignment.row.epoch, handover.to);
                assignment.released = Some((epoch, to, last));
                let instance = instance.clone();
                let record = Record::Released { instance: instance.clone(), epoch, to, last };
                turn.persist(record, Purpose::Kept(Kept::Released(instance, epoch)));
            }
            Stage::Capturing | Stage::Copying(_) if turn.now >= handover.until => {
                self.give_up_handover(turn, instance);
            }
            Stage::Capturing | Stage::Copying(_) | Stage::Killing(_) | Stage::Keeping => {}
        }
    }

    fn give_up_handover(&mut self, turn: &mut Turn<'_>, instance: &Instance) {
        let Some(assignment) = self.assignments.get_mut(instance) else { return };
        if assignment.handover.take_if(|handover| handover.can_be_undone()).is_some() {
            assignment.hand_over_after = turn.now + REST;
            self.notices.push(Notice::Close(instance.clone(), false));
            turn.out.push(Effect::Thaw { instance: instance.clone() });
            self.tell_copies(instance);
        }
    }

    /// A promise of this board as active is durable: the master may hear of it.
    pub(crate) fn on_kept(&mut self, turn: &mut Turn<'_>, kept: Kept) {
        let (Kept::Assigned(instance, _)
        | Kept::Began(instance, _)
        | Kept::Released(instance, _)
        | Kept::Switching(instance, _)) = &kept;
        let Some(assignment) = self.assignments.get_mut(instance) else { return };
        match kept {
            Kept::Assigned(ref instance, epoch) => {
                assignment.note_kept(epoch);
                self.start_if_allowed(turn, instance);
            }
            Kept::Began(ref instance, epoch) => {
                assignment.began_kept = assignment.began_kept.max(Some(epoch));
                self.tell_copies(instance);
            }
            Kept::Released(_, epoch) if epoch == assignment.row.epoch => {
                assignment.handover = None;
                assignment.claim_at = turn.now;
            }
            Kept::Switching(ref instance, revision) if revision == assignment.row.revision => {
                assignment.switching = Some(revision);
                if let Some(former) = assignment.row.standby {
                    // The row may have changed during a switch: what was forgotten then binds still.
                    let former_until = assignment.lease.forget(&former);
                    assignment.former_until = assignment.former_until.max(former_until);
                }
                assignment.claim_at = turn.now;
                self.tell_copies(instance);
            }
            Kept::Released(..) | Kept::Switching(..) => {}
        }
    }
}
