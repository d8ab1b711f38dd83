//! One board's failover alone: what it does by the table and by what it is told.

pub(super) mod active;
mod grants;
mod handing;
mod operator;
mod standby;

use super::*;
use crate::proto::bounded::{List, Text};
use crate::proto::id::{Incarnation, PublicKey};
use crate::proto::io::{Effect, Event, Exit, Report};
use crate::proto::journal::Record;
use crate::proto::order::Action;
use crate::proto::order::samples::{order, spec};
use crate::proto::spec::ServiceSpec;
use crate::proto::table::CheckpointId;
use crate::proto::table::samples::row;
use crate::proto::turn::samples::{Surroundings, at};
use crate::proto::wire::Message;
use crate::proto::wire::failover::{Claim, Claimed, Grant, Renew};

pub(super) struct Bench {
    pub(super) around: Surroundings,
    pub(super) failover: Failover,
    pub(super) me: NodeId,
    pub(super) one: NodeId,
    pub(super) two: NodeId,
    pub(super) office: Office,
    pub(super) version: u64,
}

impl Bench {
    /// A board of three, none of them master, that promised nothing in an earlier life.
    pub(super) fn new() -> Self {
        Self::after(0)
    }

    /// The same after a restart: a lease of that length may bind.
    pub(super) fn after(grants_ms: u32) -> Self {
        let mut around = Surroundings::new();
        let (me, one, two) = (around.joins(), around.peer(1), around.peer(2));
        let failover = Failover::new(Preset::LAN, grants_ms, at(0));
        Self { around, failover, me, one, two, office: Office::default(), version: 0 }
    }

    /// This board is master until then.
    pub(super) fn reigns(&mut self, until_ms: u64) {
        self.office.reign = Some((Term(1), at(until_ms)));
        self.office.master = Some(self.me);
    }

    /// The order behind `kv`, with a state or without.
    pub(super) fn runs(&mut self, stateful: bool) -> [u8; 32] {
        let state = stateful.then(|| Text::capped("data"));
        let spec = ServiceSpec { state, ..spec() };
        self.around.specs.put(order(1, Action::Run(Box::new(spec)))).unwrap()
    }

    /// A newer table with these rows is known, and what this board has by it is durable.
    pub(super) fn follows(&mut self, ms: u64, rows: Vec<Row>) -> Vec<Effect> {
        let mine: Vec<Row> = rows.iter().filter(|row| row.active == self.me).cloned().collect();
        let mut effects = self.learns(ms, rows);
        for row in mine {
            let kept = Kept::Assigned(row.instance(), row.epoch);
            effects.extend(self.act(ms, |f, turn, _| f.on_kept(turn, kept)));
        }
        effects
    }

    /// A newer table with these rows is known.
    pub(super) fn learns(&mut self, ms: u64, rows: Vec<Row>) -> Vec<Effect> {
        self.version += 1;
        self.around.knows(self.version, rows);
        self.act(ms, |f, turn, _| f.on_table(turn))
    }

    pub(super) fn act(
        &mut self,
        ms: u64,
        what: impl FnOnce(&mut Failover, &mut Turn<'_>, &Office),
    ) -> Vec<Effect> {
        what(&mut self.failover, &mut self.around.turn(ms), &self.office);
        self.around.effects()
    }

    pub(super) fn sent(
        &mut self,
        ms: u64,
        what: impl FnOnce(&mut Failover, &mut Turn<'_>, &Office),
    ) -> Vec<(NodeId, Message)> {
        what(&mut self.failover, &mut self.around.turn(ms), &self.office);
        self.around.sent()
    }

    pub(super) fn grant(&mut self, ms: u64, from: NodeId, row: &Row) -> Vec<Effect> {
        let (instance, epoch) = (row.instance(), row.epoch);
        let grant = Grant { instance, epoch, sent: at(ms).0, lease_ms: 1_500, as_master: false };
        self.act(ms, |f, turn, office| f.on_grant(turn, office, from, &grant))
    }

    /// A report of the runtime about `kv`.
    pub(super) fn report(&mut self, ms: u64, report: Report) -> Vec<Effect> {
        self.act(ms, |f, turn, _| f.on_report(turn, &kv(), report))
    }

    /// What was claimed by messages, and of whom.
    pub(super) fn claims(&mut self, ms: u64) -> Vec<(NodeId, Claimed)> {
        let sent = self.sent(ms, Failover::handle_timeout);
        let claims = sent.into_iter().filter_map(|(to, message)| match message {
            Message::Claim(claim) => Some((to, claim.claim)),
            _ => None,
        });
        claims.collect()
    }

    /// What the master makes of the row when `from` claims that, if anything: none = removed.
    pub(super) fn judged(
        &mut self,
        ms: u64,
        row: &Row,
        from: NodeId,
        claim: Claimed,
    ) -> Option<Option<Row>> {
        self.failover.take_notices();
        let (epoch, revision) = (row.epoch, row.revision);
        let claim = Claim { instance: row.instance(), epoch, revision, claim };
        self.act(ms, |f, turn, office| f.on_claim(turn, office, from, claim));
        self.changes().pop()
    }

    /// The rows that are asked for since the last call.
    pub(super) fn changes(&mut self) -> Vec<Option<Row>> {
        use crate::proto::authority::changes::What;
        let notices = self.failover.take_notices().into_iter();
        let changes = notices.filter_map(|notice| match notice {
            Notice::Change(change) => match change.what {
                What::Row { row, .. } => Some(row),
                _ => None,
            },
            _ => None,
        });
        changes.collect()
    }
}

pub(super) fn kv() -> Instance {
    Instance { service: Text::capped("kv"), ordinal: 0 }
}

pub(super) fn state(epoch: u64, seq: u64) -> CheckpointId {
    CheckpointId { epoch: Epoch(epoch), seq }
}

fn starts(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Start { .. })).count()
}

fn started() -> Report {
    Report::Started { epoch: Epoch(3), ports: Default::default() }
}

fn ended(exit: Exit) -> Report {
    Report::Ended { epoch: Epoch(3), exit }
}

#[test]
fn whoever_might_be_master_is_told_the_present_one_first() {
    let [one, two, three] = [1, 2, 3].map(|n| PublicKey([n; 32]));
    let mut office = Office { electorate: vec![one, two, three], ..Office::default() };
    assert_eq!(office.masters(), [one, two, three]);
    office.master = Some(two);
    assert_eq!(office.masters(), [two, one, three]);
}

#[test]
fn the_order_behind_a_row_is_asked_for_of_its_boards_and_some_others() {
    let mut bench = Bench::new();
    for number in 3..10 {
        bench.around.peer(number);
    }
    let row = row("kv", bench.me, Some(bench.two));
    want_spec(&mut bench.around.turn(0), &row);
    let asked: Vec<NodeId> = bench.around.sent().into_iter().map(|(to, _)| to).collect();
    assert_eq!(asked.len(), SPEC_ASKED_MAX);
    assert!(asked[0] == bench.two && !asked.contains(&bench.me));
}

#[test]
fn what_no_row_names_any_more_is_forgotten_once_no_promise_binds() {
    let mut bench = Bench::new();
    let (one, two) = (bench.one, bench.two);
    let row = Row { fill: Some(two), ..row("kv", one, Some(two)) };
    bench.follows(0, vec![row.clone()]);
    bench.failover.has_promised(&kv(), one, at(1_000));
    bench.failover.passed_over.entry(kv()).or_default();
    let fill = |node| Fill { node, optional: true, able: None };
    bench.failover.fills.insert(kv(), fill(two));
    bench.follows(10, vec![row.clone()]);
    assert_eq!((bench.failover.fills.len(), bench.failover.passed_over.len()), (1, 1));
    bench.follows(20, vec![Row { fill: None, ..row }]);
    assert_eq!((bench.failover.fills.len(), bench.failover.passed_over.len()), (0, 1));
    bench.follows(999, vec![]);
    assert_eq!((bench.failover.granted.len(), bench.failover.passed_over.len()), (1, 0));
    assert_eq!(bench.failover.promise(&kv()), Some((one, at(1_000))));
    bench.follows(1_000, vec![]);
    assert_eq!(bench.failover.promise(&kv()), None);
}

#[test]
fn a_table_that_gives_this_board_something_to_do_is_not_forgotten_in_the_next_life() {
    let acted = |row: &dyn Fn(&Bench) -> Row| {
        let mut bench = Bench::new();
        let row = row(&bench);
        let effects = bench.follows(0, vec![row]);
        let saw = |e: &Effect| matches!(e, Effect::Persist { record: Record::Saw(_), .. });
        effects.iter().any(saw)
    };
    assert!(acted(&|b| row("kv", b.me, None)));
    assert!(acted(&|b| row("kv", b.one, Some(b.me))));
    assert!(acted(&|b| Row { fill: Some(b.me), ..row("kv", b.one, Some(b.two)) }));
    assert!(!acted(&|b| row("kv", b.one, Some(b.two))));
    assert!(!acted(&|b| Row { retiring: true, ..row("kv", b.one, Some(b.me)) }));
}

#[test]
fn what_is_due_next_is_known() {
    let mut bench = Bench::new();
    let due = |bench: &Bench| bench.failover.poll_timeout().map(|t| (t.at, t.reason));
    bench.act(0, Failover::handle_timeout);
    assert_eq!(due(&bench), None, "nothing to do");
    let row = row("kv", bench.one, Some(bench.me));
    bench.follows(100, vec![row]);
    bench.act(100, Failover::handle_timeout);
    assert_eq!(due(&bench), Some((at(1_100), "ability")), "it looks whether it could start that");
}
