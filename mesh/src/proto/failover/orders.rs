//! The desk: from an operator's signed order to a changed row.
//!
//! Any board takes an order and passes it to the master; the master checks it, keeps the order itself
//! durably, and asks the authority for the change.

use core::time::Duration;
use std::collections::BTreeMap;

use super::decide::{decide_drain, decide_row, decide_run, is_passed, service_of, who_carries_out};
use super::search::Search;
use super::{Failover, Notice, Office, want_spec};
use crate::proto::authority::changes::{Change, Verdict};
use crate::proto::bounded::Text;
use crate::proto::id::{Epoch, NodeId, OpId};
use crate::proto::io::{Effect, Reply, ReplyError};
use crate::proto::journal::Record;
use crate::proto::machine::Time;
use crate::proto::ops::Purpose;
use crate::proto::order::{Action, Instance, Order, SignedOrder};
use crate::proto::record::Name;
use crate::proto::specs::SpecHash;
use crate::proto::table::{CheckpointId, Row};
use crate::proto::turn::Turn;
use crate::proto::wire::failover::{Claimed, Pass, Submit, Submitted};

/// Orders on their way through this board.
pub const ORDERS_OPEN_MAX: usize = 256;
/// An order that is not answered by then is reported as unknown.
const ORDER_PATIENCE: Duration = Duration::from_secs(8);
/// The same for what another board carries out: a handover takes up to two leases and a restart.
const PASSED_PATIENCE: Duration = Duration::from_secs(6);
/// Between two attempts to reach the master.
const ORDER_RETRY: Duration = Duration::from_millis(200);

/// The code of an answer: whoever was asked is not master any more.
const NOT_MASTER: &str = "not-master";

/// Orders that wait for something.
#[derive(Default, Debug)]
pub(super) struct Desk {
    next: u64,
    retry_at: Time,
    open: BTreeMap<u64, Open>,
}

#[derive(Debug)]
struct Open {
    asked_by: Asker,
    until: Time,
    /// Not sent to a master before.
    not_before: Time,
    stage: Stage,
    /// For a board to begin on.
    search: Search,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asker {
    /// A command on this board.
    Here(OpId),
    /// Another board, and its number.
    Board(NodeId, u64),
}

#[derive(Debug)]
enum Stage {
    /// The master cannot be reached yet, or is not known.
    Waiting(Box<SignedOrder>),
    /// That board decides.
    PassedOn(NodeId, Box<SignedOrder>),
    /// The order itself is being made durable.
    Keeping(Box<Order>, SpecHash),
    /// The authority decides.
    Deciding(Box<Order>, SpecHash),
    /// It is decided in a moment: by a row that changed meanwhile, or once a board is found to begin on.
    Again(Box<Order>, SpecHash),
    /// Another board carries it out.
    Passed(OnItsWay),
}

/// An order that another board carries out.
#[derive(Clone, Debug)]
pub(super) struct Passed {
    pub(super) instance: Instance,
    /// The right that is to end.
    pub(super) epoch: Epoch,
    pub(super) by: NodeId,
    pub(super) done: Done,
}

/// What the next right is, if it is the one that was ordered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Done {
    /// The active gave the last one up.
    Moved,
    /// It begins with this state.
    Restored(CheckpointId),
    /// It begins with what that board has, which may claim it although no row names it.
    Recovered,
}

impl Passed {
    fn is_done(&self, row: &Row) -> bool {
        let by_hand = row.previous == Epoch::default();
        match self.done {
            Done::Moved => row.released,
            Done::Restored(base) => by_hand && row.base == base,
            Done::Recovered => by_hand && row.active == self.by,
        }
    }
}

/// An order on its way to the board that carries it out; repeated, since that board may not know yet
/// what the master knows.
#[derive(Debug)]
struct OnItsWay {
    passed: Passed,
    order: Box<Order>,
    signed: Box<SignedOrder>,
}

/// Where the numbers of orders of one life begin: so many bits are left for them.
const LIFE_SHIFT: u32 = 32;

/// Why an order is refused, for programs; each is the same whichever board was asked.
const CODES: [&str; 18] = [
    "being-removed",
    "busy",
    "conflict",
    "full",
    "leaving",
    "no-room",
    "no-such-state",
    "not-carried-out",
    "not-found",
    "not-needed",
    "not-ready",
    "not-serving",
    "refused",
    "standby-unable",
    "state-changed",
    "stopped",
    "too-many",
    "unknown",
];

/// What the table notes of an order: the first half of its nonce, and until when it is valid (unix seconds).
pub(super) type Noted = (u64, u64);

fn noted(order: &Order) -> Noted {
    let mut half = [0; 8];
    half.copy_from_slice(&order.nonce[..8]);
    (u64::from_le_bytes(half), order.expires)
}

/// What the asker is told.
type Answer = Result<(), (&'static str, String)>;

impl Desk {
    fn open(&mut self, turn: &Turn<'_>, asked_by: Asker, stage: Stage) -> u64 {
        // Of this life only: an answer to an earlier one must not meet another order.
        self.next = self.next.max(turn.me.record().incarnation.0 << LIFE_SHIFT) + 1;
        // Whoever asked from another board waits as long: its answer must be there by then.
        let patience = match stage {
            Stage::Passed(_) => PASSED_PATIENCE,
            _ => ORDER_PATIENCE,
        };
        let until = turn.now + patience;
        let search = Search::default();
        self.open.insert(self.next, Open { asked_by, until, not_before: turn.now, stage, search });
        self.next
    }

    /// Orders that another board carries out.
    fn passed(&self) -> Vec<(u64, Passed)> {
        let passed = |(id, open): (&u64, &Open)| match &open.stage {
            Stage::Passed(way) => Some((*id, way.passed.clone())),
            _ => None,
        };
        self.open.iter().filter_map(passed).collect()
    }

    /// The order that a change of the right carries out, to be noted with it: sent once more it is not carried
    /// out again.
    pub(super) fn order_behind(&self, before: &Row, after: &Row) -> Option<Noted> {
        let instance = before.instance();
        self.open.values().find_map(|open| match &open.stage {
            Stage::Passed(OnItsWay { passed, order, .. })
                if passed.instance == instance
                    && passed.epoch == before.epoch
                    && after.epoch != before.epoch
                    && passed.is_done(after) =>
            {
                Some(noted(order))
            }
            _ => None,
        })
    }

    /// Whether an operator wants that board to start the instance, whatever the row says.
    pub(super) fn recovers(&self, instance: &Instance, by: &NodeId) -> bool {
        let wanted =
            |p: &Passed| p.done == Done::Recovered && p.by == *by && p.instance == *instance;
        self.passed().iter().any(|(_, passed)| wanted(passed))
    }

    pub(super) fn due(&self) -> Option<Time> {
        let waits = |open: &Open| {
            matches!(open.stage, Stage::Waiting(_) | Stage::Passed(_) | Stage::Again(..))
        };
        let due =
            |open: &Open| if waits(open) { open.until.min(self.retry_at) } else { open.until };
        self.open.values().map(due).min()
    }

    pub(super) fn expire(&mut self, turn: &mut Turn<'_>) {
        let late: Vec<u64> = self
            .open
            .iter()
            .filter(|(_, open)| open.until <= turn.now)
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            let (code, text) = match self.open.get(&id).map(|open| &open.stage) {
                Some(Stage::Waiting(_)) => (
                    "no-master",
                    "no master can be reached from this board: nothing can be changed now; `hedgerow status` says why",
                ),
                Some(Stage::Passed(_)) => (
                    "not-carried-out",
                    "the board that is to carry it out has not done so in time: it cannot be reached, or cannot do it at the moment; `hedgerow ps` shows whether it happened after all",
                ),
                Some(Stage::Again(..)) => (
                    "conflict",
                    "something else changed it again and again; try again, `hedgerow ps` shows it",
                ),
                _ => (
                    "unknown",
                    "no master has answered in time: whether the order will be carried out is unknown; `hedgerow ps` shows it",
                ),
            };
            self.close(turn, id, Err((code, text.to_owned())));
        }
    }

    fn close(&mut self, turn: &mut Turn<'_>, id: u64, answer: Answer) {
        if let Some(open) = self.open.remove(&id) {
            tell(turn, open.asked_by, answer);
        }
    }
}

fn tell(turn: &mut Turn<'_>, asker: Asker, answer: Answer) {
    match asker {
        Asker::Here(op) => {
            let reply = match answer {
                Ok(()) => Reply::Done,
                Err((code, message)) => Reply::Error(ReplyError { code: code.to_owned(), message }),
            };
            turn.out.push(Effect::Reply { op, reply });
        }
        Asker::Board(node, seq) => {
            let (done, (code, text)) = match answer {
                Ok(()) => (true, ("", String::new())),
                Err(error) => (false, error),
            };
            let (code, text) = (Text::capped(code), Text::capped(&text));
            turn.send(node, Submitted { seq, done, code, text });
        }
    }
}

impl Failover {
    /// An operator gave an order on this board.
    pub(crate) fn on_order(
        &mut self,
        turn: &mut Turn<'_>,
        office: &Office,
        op: OpId,
        order: SignedOrder,
    ) {
        self.take_order(turn, office, Asker::Here(op), order);
    }

    /// Another board passes an order on.
    pub(crate) fn on_submit(
        &mut self,
        turn: &mut Turn<'_>,
        office: &Office,
        from: NodeId,
        submit: Submit,
    ) {
        let asker = Asker::Board(from, submit.seq);
        if office.reign.is_none() {
            let text = "the board that was asked is not master any more; try again";
            return tell(turn, asker, Err((NOT_MASTER, text.to_owned())));
        }
        self.take_order(turn, office, asker, submit.order);
    }

    /// The master's answer to an order that was passed on, or a refusal of the board that was to carry one out.
    pub(crate) fn on_submitted(&mut self, turn: &mut Turn<'_>, from: NodeId, answer: &Submitted) {
        let Some(open) = self.desk.open.get_mut(&answer.seq) else { return };
        match &open.stage {
            Stage::PassedOn(to, _) if *to != from => return,
            Stage::PassedOn(_, signed) if !answer.done && *answer.code == *NOT_MASTER => {
                // There will be another one.
                open.stage = Stage::Waiting(signed.clone());
                open.not_before = turn.now + ORDER_RETRY;
                return;
            }
            Stage::PassedOn(..) => {}
            // That it is done only the table says.
            Stage::Passed(way) if way.passed.by == from && !answer.done => {}
            _ => return,
        }
        let text: String = answer.text.chars().filter(|c| !c.is_control()).collect();
        // What a master of another version says may have no name here.
        let code = CODES.iter().copied().find(|code| **code == *answer.code);
        let verdict = if answer.done { Ok(()) } else { Err((code.unwrap_or("refused"), text)) };
        self.desk.close(turn, answer.seq, verdict);
    }

    /// An order is durable here: one may have been waiting for that.
    pub(crate) fn on_spec_kept(&mut self, turn: &mut Turn<'_>, office: &Office, hash: &SpecHash) {
        let waiting: Vec<u64> = self
            .desk
            .open
            .iter()
            .filter(|(_, open)| matches!(&open.stage, Stage::Keeping(_, kept) if kept == hash))
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            self.decide_now(turn, office, id);
        }
        self.start_what_waits_for(turn, hash);
    }

    /// Decides about an order that waited for something until now.
    fn decide_now(&mut self, turn: &mut Turn<'_>, office: &Office, id: u64) {
        let Some(open) = self.desk.open.get_mut(&id) else { return };
        let (Stage::Keeping(order, hash) | Stage::Again(order, hash)) = &open.stage else { return };
        let (order, hash) = (order.clone(), *hash);
        open.stage = Stage::Deciding(order.clone(), hash);
        self.decide(turn, office, id, &order, hash);
    }

    /// The authority has decided about a change.
    pub(crate) fn on_verdict(&mut self, turn: &mut Turn<'_>, id: u64, verdict: Verdict) {
        if verdict == Verdict::Conflict
            && let Some(open) = self.desk.open.get_mut(&id)
            && let Stage::Deciding(order, hash) = &open.stage
        {
            // What an operator wants does not depend on the revision of a row. Whoever asked from another board
            // is to have the answer before it gives up itself.
            open.until = open.until.min(turn.now + PASSED_PATIENCE);
            open.stage = Stage::Again(order.clone(), *hash);
            return;
        }
        let answer = match verdict {
            Verdict::Chosen | Verdict::Repeated => Ok(()),
            Verdict::Conflict => {
                Err(("conflict", "something else changed it at the same time; try again".to_owned()))
            }
            Verdict::Full => Err((
                "full",
                "the table of the mesh has no room for that: remove services, `hedgerow undrain` boards, or wait a minute if many orders were given".to_owned(),
            )),
            Verdict::Unknown => Err((
                "unknown",
                "the master changed meanwhile: whether the order will be carried out is unknown; `hedgerow ps` shows it".to_owned(),
            )),
        };
        self.desk.close(turn, id, answer);
    }

    fn take_order(
        &mut self,
        turn: &mut Turn<'_>,
        office: &Office,
        asker: Asker,
        signed: SignedOrder,
    ) {
        let again = matches!(asker, Asker::Board(..))
            && self.desk.open.values().any(|open| open.asked_by == asker);
        if again {
            // Each that is open is passed on again and again; the one that is there will be answered.
            return;
        }
        if self.desk.open.len() >= ORDERS_OPEN_MAX {
            let text = "too many orders at once; try again in a moment";
            return tell(turn, asker, Err(("busy", text.to_owned())));
        }
        let (root, cell) = (turn.me.belonging.root, turn.me.config().cell);
        let order = match signed.verify_fresh(&root, cell, turn.unix) {
            Ok(order) => order,
            Err(error) => return tell(turn, asker, Err(("refused", error.to_string()))),
        };
        if office.reign.is_some() {
            return self.keep_order(turn, office, asker, order, &signed);
        }
        self.desk.open(turn, asker, Stage::Waiting(Box::new(signed)));
        self.pass_on(turn, office);
    }

    /// Sends what waits to the master, once there is a link to it.
    pub(super) fn pass_on(&mut self, turn: &mut Turn<'_>, office: &Office) {
        if turn.now >= self.desk.retry_at {
            self.desk.retry_at = turn.now + ORDER_RETRY;
            self.pass_again(turn, office);
            let again =
                |(id, open): (&u64, &Open)| matches!(open.stage, Stage::Again(..)).then_some(*id);
            let again: Vec<u64> = self.desk.open.iter().filter_map(again).collect();
            for id in again {
                self.decide_now(turn, office, id);
            }
        }
        if office.reign.is_some() {
            return self.take_what_waits(turn, office);
        }
        let Some(master) = office.master.filter(|master| *master != turn.me.id()) else { return };
        for (seq, open) in &mut self.desk.open {
            let Stage::Waiting(signed) = &open.stage else { continue };
            if turn.now < open.not_before {
                continue;
            }
            turn.links.want_until(master, open.until, turn.now);
            if turn.send(master, Submit { seq: *seq, order: (**signed).clone() }) {
                open.stage = Stage::PassedOn(master, signed.clone());
            }
        }
    }

    /// This board has become master itself: what waited for one is decided here.
    fn take_what_waits(&mut self, turn: &mut Turn<'_>, office: &Office) {
        let waits = |(id, open): (&u64, &Open)| match &open.stage {
            Stage::Waiting(signed) => Some((*id, open.asked_by, (**signed).clone())),
            _ => None,
        };
        let waiting: Vec<_> = self.desk.open.iter().filter_map(waits).collect();
        for (id, asked_by, signed) in waiting {
            self.desk.open.remove(&id);
            self.take_order(turn, office, asked_by, signed);
        }
    }

    /// A newer table is known: what another board carries out may be done.
    pub(super) fn desk_follows_table(&mut self, turn: &mut Turn<'_>) {
        for (id, passed) in self.desk.passed() {
            match turn.directory.newest().and_then(|newest| newest.table.row(&passed.instance)) {
                Some(row) if row.epoch == passed.epoch => {}
                Some(row) if passed.is_done(row) => self.desk.close(turn, id, Ok(())),
                _ => {
                    let text = "another change was faster; `hedgerow ps` shows where it runs now";
                    self.desk.close(turn, id, Err(("conflict", text.to_owned())));
                }
            }
        }
    }

    /// The master passes on an operator's order. Checked here once more: a master that was taken over
    /// cannot move anything.
    pub(crate) fn on_pass(
        &mut self,
        turn: &mut Turn<'_>,
        office: &Office,
        from: NodeId,
        pass: &Pass,
    ) {
        let (root, cell) = (turn.me.belonging.root, turn.me.config().cell);
        let order = match pass.order.verify_fresh(&root, cell, turn.unix) {
            Ok(order) => order,
            Err(error) => return turn.misbehaved(from, error.to_string()),
        };
        if let Err(refusal) = self.carry_out(turn, office, &order.action, pass.epoch) {
            tell(turn, Asker::Board(from, pass.seq), Err(refusal));
        }
    }

    /// Does what an operator wants of this board. What cannot be done now, but perhaps in a moment, is seen
    /// by the master as a row that does not change.
    fn carry_out(
        &mut self,
        turn: &mut Turn<'_>,
        office: &Office,
        action: &Action,
        epoch: Epoch,
    ) -> Answer {
        let instance = |service: &Name| Instance { service: service.clone(), ordinal: 0 };
        let now = service_of(action).and_then(|service| self.row(turn, &instance(service)));
        if now.is_none_or(|row| row.epoch != epoch) {
            return Ok(());
        }
        let me = turn.name_of(&turn.me.id());
        let lacks = |service: &Name, what: &str| {
            let text = format!(
                "{me} has no {what} of `{service}`; `hedgerow why {service}` there lists those that it has"
            );
            Err(("no-such-state", text))
        };
        match action {
            Action::Move(service) => {
                let _ = self.begin_handover(turn, &instance(service));
            }
            Action::Checkpoint(service) => {
                self.notices.push(Notice::Checkpoint(instance(service)));
            }
            Action::Restore { service, at } => {
                let instance = instance(service);
                if !turn.holdings.own(&instance).any(|id| id == *at) {
                    return lacks(service, &format!("state {}.{}", at.epoch.0, at.seq));
                }
                if let Some(assignment) = self.assignments.get_mut(&instance) {
                    let until = turn.now + PASSED_PATIENCE;
                    assignment.restoring = Some((*at, until));
                    assignment.claim_at = turn.now;
                    self.tell_copies(&instance);
                }
            }
            Action::Recover { service, from } if *from == turn.me.id() => {
                let instance = instance(service);
                let Some(row) = self.row(turn, &instance) else { return Ok(()) };
                let Some(spec) = turn.specs.get(&row.spec) else {
                    want_spec(turn, &row);
                    return Ok(());
                };
                let stateless = spec.state.is_none();
                let newest = turn.holdings.own(&instance).next_back();
                match newest.or(stateless.then(CheckpointId::default)) {
                    Some(base) => self.claim(turn, office, &row, Claimed::Recover(base)),
                    None => return lacks(service, "state"),
                }
            }
            Action::Recover { .. }
            | Action::Run(_)
            | Action::Stop(_)
            | Action::Remove { .. }
            | Action::RecoverMesh { .. }
            | Action::Drain { .. } => {}
        }
        Ok(())
    }

    /// This node is master: lets another board, or itself, carry an order out.
    fn pass(
        &mut self,
        turn: &mut Turn<'_>,
        office: &Office,
        asker: Asker,
        order: &Order,
        signed: &SignedOrder,
    ) {
        let passed = match who_carries_out(turn, &order.action) {
            Ok(passed) => passed,
            Err(refusal) => return tell(turn, asker, Err(refusal)),
        };
        let (by, epoch) = (passed.by, passed.epoch);
        let mut seq = u64::default();
        if matches!(order.action, Action::Checkpoint(_)) {
            tell(turn, asker, Ok(()));
        } else {
            let (order, signed) = (Box::new(order.clone()), Box::new(signed.clone()));
            let stage = Stage::Passed(OnItsWay { passed, order, signed });
            seq = self.desk.open(turn, asker, stage);
        }
        if by == turn.me.id() {
            if let Err(refusal) = self.carry_out(turn, office, &order.action, epoch) {
                self.desk.close(turn, seq, Err(refusal));
            }
        } else {
            turn.links.want_until(by, turn.now + ORDER_PATIENCE, turn.now);
            turn.send(by, Pass { seq, order: signed.clone(), epoch });
        }
    }

    /// Repeats the orders that other boards carry out.
    fn pass_again(&mut self, turn: &mut Turn<'_>, office: &Office) {
        let me = turn.me.id();
        let mut mine = Vec::new();
        for (seq, open) in &self.desk.open {
            let Stage::Passed(way) = &open.stage else { continue };
            if way.passed.by == me {
                mine.push((*seq, way.order.action.clone(), way.passed.epoch));
            } else {
                let (order, epoch) = ((*way.signed).clone(), way.passed.epoch);
                turn.send(way.passed.by, Pass { seq: *seq, order, epoch });
            }
        }
        for (seq, action, epoch) in mine {
            if let Err(refusal) = self.carry_out(turn, office, &action, epoch) {
                self.desk.close(turn, seq, Err(refusal));
            }
        }
    }

    /// This node is master: makes the order durable if it is to be found again by its hash.
    fn keep_order(
        &mut self,
        turn: &mut Turn<'_>,
        office: &Office,
        asker: Asker,
        order: Order,
        signed: &SignedOrder,
    ) {
        if is_passed(&order.action) {
            let newest = turn.directory.newest();
            if newest.is_some_and(|newest| newest.table.orders.contains(&noted(&order))) {
                return tell(turn, asker, Ok(()));
            }
            return self.pass(turn, office, asker, &order, signed);
        }
        let hash = signed.hash();
        let keeps = matches!(order.action, Action::Run(_)) && turn.specs.get(&hash).is_none();
        if keeps {
            self.desk.open(turn, asker, Stage::Keeping(Box::new(order), hash));
            let record = Record::Spec(Box::new(signed.clone()));
            turn.persist(record, Purpose::Spec(Box::new(signed.clone())));
        } else {
            let stage = Stage::Deciding(Box::new(order.clone()), hash);
            let id = self.desk.open(turn, asker, stage);
            self.decide(turn, office, id, &order, hash);
        }
    }

    /// Turns an order into a change of the table that is chosen now.
    fn decide(
        &mut self,
        turn: &mut Turn<'_>,
        office: &Office,
        id: u64,
        order: &Order,
        hash: SpecHash,
    ) {
        let decided = match &order.action {
            Action::Run(spec) => {
                // What is wrong with the old one says nothing about the new one.
                let instance = Instance { service: spec.name.clone(), ordinal: 0 };
                self.passed_over.remove(&instance);
                self.fills.remove(&instance);
                let Some(open) = self.desk.open.get_mut(&id) else { return };
                match decide_run(turn, office, spec, hash, &mut open.search) {
                    Ok(Some(what)) => Ok(what),
                    Ok(None) => {
                        open.stage = Stage::Again(Box::new(order.clone()), hash);
                        return;
                    }
                    Err(refusal) => Err(refusal),
                }
            }
            Action::Stop(name) => decide_row(turn, name, |row| Some(Row { retiring: true, ..row })),
            Action::Remove { service, force } => decide_row(turn, service, |row| {
                (!force).then_some(Row { retiring: true, removing: true, ..row })
            }),
            Action::Drain { node, drained } => decide_drain(turn, *node, *drained),
            Action::RecoverMesh { .. } => {
                Err(("refused", "that order is carried out where it is given".to_owned()))
            }
            // Those are passed to the board that carries them out.
            Action::Move(name)
            | Action::Checkpoint(name)
            | Action::Restore { service: name, .. }
            | Action::Recover { service: name, .. } => decide_row(turn, name, Some),
        };
        match decided {
            Err(error) => self.desk.close(turn, id, Err(error)),
            Ok(what) => {
                let order = Some(noted(order));
                self.notices.push(Notice::Change(Box::new(Change { id, what, order })));
            }
        }
    }
}

#[cfg(test)]
mod tests;
