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
use crate::proto::id::OpId;
use crate::proto::io::{Effect, Event, Reply};
use crate::proto::journal::Record;
use crate::proto::machine::{Effects, Time, Timeout};
use crate::proto::ops::Purpose;
use crate::proto::order::Instance;
use crate::proto::wire::authority::{Depart, Departure as Answer, Intent, Word};

/// Between two questions to the master.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// An older answer may be out of date.
const ANSWER_AGE_MAX: Duration = Duration::from_secs(1);
/// So long the master must say that it cannot do without this board: one lost heartbeat is no reason.
const NEEDED_FOR: Duration = Duration::from_secs(1);
/// Without any master for so long the board is told so.
const NO_MASTER_FOR: Duration = Duration::from_secs(8);
/// Until services are where they can go from, and then until they have gone.
const PATIENCE: Duration = Duration::from_secs(40);
/// So long those who run what stands by here have to find another standby, if there is one.
const REPLACED_WITHIN: Duration = Duration::from_secs(1);

/// How far this board is on its way out.
#[derive(Default, Debug)]
pub(super) struct Departure {
    under_way: Option<UnderWay>,
    ask_at: Time,
}

#[derive(Debug)]
struct UnderWay {
    command: OpId,
    /// Whether the master was told to count on this board for nothing; until then nothing has moved.
    leaves: bool,
    /// Since when the table says so.
    listed_since: Option<Time>,
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
        if force || self.is_by_itself() {
            return self.leave(command, out);
        }
        if self.departure.under_way.is_some() {
            let reply =
                error("leaving-already", "this board is being taken out of the mesh already");
            return out.push(Effect::Reply { op: command, reply });
        }
        self.departure.under_way = Some(UnderWay {
            command,
            leaves: false,
            listed_since: None,
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
        let listed = self.is_listed();
        if let Some(way) = self.departure.under_way.as_mut().filter(|way| way.leaves && listed) {
            way.listed_since.get_or_insert(now);
        }
        let Some(way) = &self.departure.under_way else {
            return self.ask_to_leave(now, Intent::Stays, out);
        };
        if let Some((code, why)) = self.reason_to_stay(now, way) {
            return self.stay(&code, &why, out);
        }
        let leaves = way.leaves;
        let (Parts { failover, .. }, turn) = self.turn(now, out);
        if leaves {
            failover.hurry_away(&turn);
        } else if failover.irreplaceable(&turn).is_some() {
            // Nobody is asked before everything could go: a refusal has moved nothing.
            return;
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
        } else if way.listed_since.is_some_and(|since| !self.is_waited_for(now, since)) {
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
        let stuck = self.failover.still_here();
        match stuck {
            Some(instance) => reason("services-stay", services_stay(&instance)),
            None => reason("unknown", SLOW.to_owned()),
        }
    }

    /// Nothing comes of it. If it is listed as leaving already, that is taken back.
    fn stay(&mut self, code: &str, why: &str, out: &mut Effects) {
        if let Some(way) = self.departure.under_way.take() {
            out.push(Effect::Reply { op: way.command, reply: error(code, why) });
        }
    }

    /// Whether something runs here still, or somebody else is about to stand by in its place.
    fn is_waited_for(&self, now: Time, listed_since: Time) -> bool {
        let me = self.me.id();
        let table = self.directory.newest().map(|newest| &newest.table);
        let mut rows = table.into_iter().flat_map(|table| &table.rows);
        let replaced =
            rows.any(|row| row.standby == Some(me) && row.fill.is_some() && !row.retiring);
        self.failover.still_here().is_some()
            || replaced
            || now.since(listed_since) < REPLACED_WITHIN
    }

    fn is_listed(&self) -> bool {
        let me = self.me.id();
        self.directory.newest().is_some_and(|newest| newest.table.is_leaving(&me))
    }

    /// Whether nobody is there whom it would concern, and nobody's majority needs this board.
    fn is_by_itself(&self) -> bool {
        let me = self.me.id();
        let decides_for_others = self.authority.table().electorate().iter().any(|v| *v != me);
        self.members.up().count() <= 1 && !decides_for_others
    }
}

const NO_MASTER: &str = "no master can be reached from this board, so nobody can say whether the mesh can do without it; `hedgerow status` says why. `hedgerow leave --force` leaves all the same: if this is one of the boards that decide, the others may be able to change nothing any more";
const NEEDED: &str = "this board is needed to decide: without it nothing in the mesh could be changed any more. Three boards must decide and the other two be up before it may leave: let more boards join, or wait until a dead one is replaced (`hedgerow status`). `hedgerow leave --force` leaves all the same";
const SLOW: &str = "this board has not left: those who decide did not manage to do without it in time. It stays as it was; try again (`hedgerow status`), or `hedgerow leave --force`";

fn services_stay(instance: &Instance) -> String {
    format!(
        "`{instance}` runs on this board and no other board is ready to carry on, so this board stays; `hedgerow why {instance}` says why. Stop it, or let a board that may host it join. `hedgerow leave --force` leaves all the same, and what only this board holds of it is gone"
    )
}
