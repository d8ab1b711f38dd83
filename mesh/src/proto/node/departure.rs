//! Leaving on purpose: nothing is interrupted, and those who stay can go on deciding.
//!
//! ```text
//! asking ──master: go──▶ leaving ──services gone, master: go──▶ left
//!    │                      │
//!    └── refused: nothing   └── too slow: this board stays after all
//!        has moved
//! ```
//!
//! A board that is leaving is drained by its own word: what runs on it and what stands by on it moves, and
//! another board decides in its place if there is one. A board that finds itself listed as leaving although
//! it is not – it was switched off on the way – takes the word back.

use core::time::Duration;

use super::commands::error;
use super::{Node, Parts, Phase};
use crate::proto::id::{NodeId, OpId};
use crate::proto::io::{Effect, Event, Reply};
use crate::proto::journal::Record;
use crate::proto::machine::{Effects, Time, Timeout};
use crate::proto::members::Member;
use crate::proto::ops::Purpose;
use crate::proto::order::Instance;
use crate::proto::table::Row;
use crate::proto::wire::authority::{Depart, Departure as Answer, Intent, Word};
use crate::proto::wire::gossip::Standing;

/// Between two questions to the master.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// An older answer may be out of date.
const ANSWER_AGE_MAX: Duration = Duration::from_secs(1);
/// So long the master must say that it cannot do without this board: one lost heartbeat is no reason.
const NEEDED_FOR: Duration = Duration::from_secs(1);
/// Without any master for so long the board is told so.
const NO_MASTER_FOR: Duration = Duration::from_secs(8);
/// Until services are where they can go from, and then until they have gone: two handovers and a rest.
const PATIENCE: Duration = Duration::from_secs(60);
/// So long those who run what stands by here have to find another standby, if there is one. Longer than
/// [`ANSWER_AGE_MAX`]: an answer does not say to which question.
const REPLACED_WITHIN: Duration = Duration::from_secs(2);

/// How far this board is on its way out.
#[derive(Default, Debug)]
pub(super) struct Departure {
    under_way: Option<UnderWay>,
    ask_at: Time,
    /// Whether somebody here knows what became of leaving.
    told: bool,
}

/// A row that names this board, and its revision.
type Role = (Instance, u64);

#[derive(Debug)]
struct UnderWay {
    command: OpId,
    /// Whether the master was told to count on this board for nothing; until then nothing has moved.
    leaves: bool,
    /// What this board is named for, by the newest table that lists it as leaving, and since when.
    roles: Option<(Vec<Role>, Time)>,
    until: Time,
    /// When the master was asked first without an answer since.
    unanswered_since: Option<Time>,
    needed_since: Option<Time>,
    /// The last word.
    word: Option<Word>,
}

impl Node {
    pub(super) fn begin_to_leave(
        &mut self,
        now: Time,
        command: OpId,
        force: bool,
        out: &mut Effects,
    ) {
        if force {
            self.stay("forced", "this board leaves by force", out);
            return self.leave(command, out);
        }
        if self.is_by_itself() {
            return match self.needing(now, false) {
                None => self.leave(command, out),
                Some(instance) => {
                    let reply = error("services-stay", &services_stay(&instance));
                    out.push(Effect::Reply { op: command, reply });
                }
            };
        }
        if self.departure.under_way.is_some() {
            let reply =
                error("leaving-already", "this board is being taken out of the mesh already");
            return out.push(Effect::Reply { op: command, reply });
        }
        self.departure.told = true;
        self.departure.under_way = Some(UnderWay {
            command,
            leaves: false,
            roles: None,
            until: now + PATIENCE,
            unanswered_since: None,
            needed_since: None,
            word: None,
        });
        self.run_departure(now, out);
    }

    pub(super) fn departure_timeout(&self) -> Option<Timeout> {
        let acts = self.departure.under_way.is_some() || self.is_listed();
        acts.then_some(Timeout { at: self.departure.ask_at, reason: "departure" })
    }

    pub(super) fn run_departure(&mut self, now: Time, out: &mut Effects) {
        self.departure.ask_at = now + ASK_AGAIN;
        let roles = self.is_listed().then(|| self.roles());
        if let (Some(way), Some(roles)) = (&mut self.departure.under_way, roles)
            && way.leaves
            && way.roles.as_ref().is_none_or(|(known, _)| *known != roles)
        {
            way.roles = Some((roles, now));
        }
        let Some(way) = &self.departure.under_way else {
            if !core::mem::replace(&mut self.departure.told, true) {
                out.push(Effect::Event(Event::Stays));
            }
            return self.ask_to_leave(now, Intent::Stays, out);
        };
        if let Some((code, why)) = self.reason_to_stay(now, way) {
            return self.stay(&code, &why, out);
        }
        let leaves = way.leaves;
        if let Some(instance) = self.kept_by_a_stopped_one(now, leaves) {
            // It stays stopped, however long this board waits.
            return self.stay("services-stay", &services_stay(&instance), out);
        }
        if !leaves && self.needing(now, false).is_some() {
            // Nobody is asked before everything could go: a refusal has moved nothing.
            if let Some(way) = &mut self.departure.under_way {
                way.unanswered_since = None;
            }
            return;
        }
        if leaves {
            let (Parts { failover, .. }, turn) = self.turn(now, out);
            failover.hurry_away(&turn);
        }
        self.ask_to_leave(now, if leaves { Intent::Leaves } else { Intent::Asks }, out);
    }

    /// The master's word.
    pub(super) fn on_departure(&mut self, now: Time, answer: Answer, out: &mut Effects) {
        let Some(way) = &mut self.departure.under_way else { return };
        if Time(answer.sent) > now || now.since(Time(answer.sent)) > ANSWER_AGE_MAX {
            return;
        }
        way.word = Some(answer.word);
        way.unanswered_since = None;
        way.needed_since = match answer.word {
            Word::Needed => way.needed_since.or(Some(now)),
            Word::Go | Word::Wait => None,
        };
        if answer.word != Word::Go {
            return;
        }
        let command = way.command;
        if !way.leaves {
            way.leaves = true;
            way.until = now + PATIENCE;
            self.departure.ask_at = now;
            return;
        }
        let known = way.roles.clone();
        let rests = known.is_some_and(|(known, since)| {
            known == self.roles() && now.since(since) >= REPLACED_WITHIN
        });
        if rests && self.needing(now, true).is_none() {
            self.departure.under_way = None;
            self.leave(command, out);
        }
    }

    /// Its record says so, and nothing more is taken part in, from now on.
    fn leave(&mut self, command: OpId, out: &mut Effects) {
        self.phase = Phase::Leaving;
        self.ops.persist(Record::Left, Purpose::Leave(command), out);
    }

    pub(super) fn finish_leaving(&mut self, now: Time, command: OpId, out: &mut Effects) {
        let (Parts { membership, .. }, mut turn) = self.turn(now, out);
        membership.leave(&mut turn);
        for peer in self.links.connected() {
            out.push(Effect::Disconnect { peer });
        }
        self.phase = Phase::Left;
        out.push(Effect::Event(Event::Left));
        out.push(Effect::Reply { op: command, reply: Reply::Done });
    }

    /// Asks whoever might be master; that may be this board.
    fn ask_to_leave(&mut self, now: Time, intent: Intent, out: &mut Effects) {
        if let Some(way) = &mut self.departure.under_way {
            way.unanswered_since.get_or_insert(now);
        }
        let me = self.me.id();
        let masters = self.office(now).masters();
        let (Parts { authority, .. }, mut turn) = self.turn(now, out);
        let mut own_word = None;
        for master in masters {
            if master == me {
                own_word = authority.judge_departure(&mut turn, me, intent);
            } else {
                turn.links.want_until(master, turn.now + NO_MASTER_FOR, turn.now);
                turn.send(master, Depart { sent: now.0, intent });
            }
        }
        if let Some(word) = own_word {
            self.on_departure(now, Answer { sent: now.0, word }, out);
        }
    }

    /// Why this board will not leave after all, if it will not.
    fn reason_to_stay(&self, now: Time, way: &UnderWay) -> Option<(String, String)> {
        let reason = |code: &str, why: String| Some((code.to_owned(), why));
        let lasts = |since: Option<Time>, max| since.is_some_and(|since| now.since(since) >= max);
        let late = now >= way.until;
        if lasts(way.unanswered_since, NO_MASTER_FOR) {
            return reason("no-master", NO_MASTER.to_owned());
        }
        let needed = lasts(way.needed_since, NEEDED_FOR) && !way.leaves;
        if needed || (late && way.word == Some(Word::Needed)) {
            return reason("decides-alone", NEEDED.to_owned());
        }
        if !late {
            return None;
        }
        match self.needing(now, way.leaves) {
            Some(instance) if way.leaves => {
                reason("services-stay", services_stay(&instance) + MOVED)
            }
            Some(instance) => reason("services-stay", services_stay(&instance)),
            None => reason("unknown", SLOW.to_owned() + MOVED),
        }
    }

    /// Nothing comes of it. If it is listed as leaving already, that is taken back.
    fn stay(&mut self, code: &str, why: &str, out: &mut Effects) {
        if let Some(way) = self.departure.under_way.take() {
            out.push(Effect::Reply { op: way.command, reply: error(code, why) });
        }
    }

    /// The first instance that needs this board: before it is leaving, as nobody would be ready to carry on;
    /// then, until somebody else does.
    fn needing(&self, now: Time, leaving: bool) -> Option<Instance> {
        let needs = |row: &&Row| self.needs_me(row, now, leaving);
        let Some(newest) = self.directory.newest() else {
            // A board that was started again and has met nobody cannot know who else holds what it ran, or
            // what lies in its store.
            let mut ran = self.failover.assignments().map(|(_, assignment)| &assignment.row);
            let held = || self.holdings.instances().next().cloned();
            return ran.find(needs).map(Row::instance).or_else(held);
        };
        newest.table.rows.iter().find(needs).map(Row::instance)
    }

    /// A stopped instance whose state no other board will ever hold as it is. Asked before anything has moved.
    fn kept_by_a_stopped_one(&self, now: Time, leaving: bool) -> Option<Instance> {
        let me = self.me.id();
        let rows = self.directory.newest().map(|newest| &newest.table.rows);
        let other = |row: &Row| if row.active == me { row.standby } else { Some(row.active) };
        let gone = |node: NodeId| self.members.has_left(&node);
        let keeps = |row: &&Row| {
            let alone = other(row).is_none_or(gone);
            !leaving && row.retiring && alone && self.needs_me(row, now, false)
        };
        rows.into_iter().flatten().find(keeps).map(Row::instance)
    }

    fn needs_me(&self, row: &Row, now: Time, leaving: bool) -> bool {
        let me = self.me.id();
        let table = self.directory.newest().map(|newest| &newest.table);
        let stays = |node: &NodeId| {
            self.members.is_up(node) && table.is_some_and(|table| !table.makes_way(node))
        };
        let (runs, stands_by) = (row.active == me, row.standby == Some(me));
        if row.removing || !(runs || stands_by) {
            return false;
        }
        if row.retiring {
            // What is stopped does not move: one of the two who hold its state has to stay.
            let stateful = self.specs.get(&row.spec).is_none_or(|spec| spec.state.is_some());
            let other = if runs { row.standby } else { Some(row.active) };
            let held_here = runs || row.ready;
            let held_there = row.ready || !runs;
            return stateful && held_here && !(held_there && other.as_ref().is_some_and(stays));
        }
        if runs {
            let assignments = &mut self.failover.assignments();
            let here = assignments.find(|(instance, _)| **instance == row.instance());
            let ready = row.ready || here.is_some_and(|(_, assignment)| assignment.is_blank());
            let may_go = ready
                && row.fill.is_none()
                && row.able == Some(true)
                && row.standby.as_ref().is_some_and(stays);
            return leaving || !may_go;
        }
        // Its active may be dead, and this board the one to take over, or about to be.
        let takes = self.failover.may_be_given(&row.instance(), now);
        let gone =
            !self.members.is_up(&row.active) || (leaving && !self.failover.hears_active(row, now));
        takes || gone || (leaving && row.fill.is_some())
    }

    /// The rows that name this board.
    fn roles(&self) -> Vec<Role> {
        let me = self.me.id();
        let rows = self.directory.newest().map(|newest| &newest.table.rows);
        let named = |row: &&Row| row.active == me || [row.standby, row.fill].contains(&Some(me));
        let role = |row: &Row| (row.instance(), row.revision);
        rows.into_iter().flatten().filter(named).map(role).collect()
    }

    fn is_listed(&self) -> bool {
        let me = self.me.id();
        self.directory.newest().is_some_and(|newest| newest.table.is_leaving(&me))
    }

    /// Whether nobody is there whom it would concern, and nobody's majority needs this board. Who is held for dead
    /// may be back, and could then change nothing without the only board that decides.
    fn is_by_itself(&self) -> bool {
        let me = self.me.id();
        let electorate = self.authority.table().electorate();
        let decides_for_others = electorate.iter().any(|voter| *voter != me);
        let awaited = |(node, member): (&NodeId, &Member)| {
            *node != me && member.standing != Standing::Left && electorate.contains(&me)
        };
        !decides_for_others && self.members.up().count() <= 1 && !self.members.iter().any(awaited)
    }
}

const NO_MASTER: &str = "no master can be reached from this board, so nobody can say whether the mesh can do without it; `hedgerow status` says why. `hedgerow leave --force` leaves all the same: if this is one of the boards that decide, the others may be able to change nothing any more";
const NEEDED: &str = "this board is needed to decide: without it nothing in the mesh could be changed any more. Three boards must decide, and the other two be up and neither drained nor leaving, before it may leave: let more boards join, `hedgerow undrain` one, or wait until a dead one is replaced (`hedgerow status`). `hedgerow leave --force` leaves all the same";
const SLOW: &str = "this board has not left: those who decide did not manage to do without it in time, so it stays. Try again (`hedgerow status`), or `hedgerow leave --force`";
const MOVED: &str =
    ". What has moved from this board meanwhile stays where it is now: `hedgerow ps`";

fn services_stay(instance: &Instance) -> String {
    format!(
        "`{instance}` needs this board: it runs here, or its newest state is here, and no other board is ready to carry on, so this board stays; `hedgerow why {instance}` says why. Let a board that may host it join, start it if it is stopped, or remove it. `hedgerow leave --force` leaves all the same, and what only this board holds of it is gone"
    )
}
