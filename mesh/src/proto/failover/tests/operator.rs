//! What becomes of an operator's orders, and what the operator is told.

mod carried_out;

use super::*;
use crate::proto::authority::changes::{Change, Verdict, What};
use crate::proto::failover::orders::ORDERS_OPEN_MAX;
use crate::proto::id::OpId;
use crate::proto::io::Reply;
use crate::proto::order::{Serving, SignedOrder};
use crate::proto::table::DRAINED_MAX;
use crate::proto::wire::failover::{Pass, Submit, Submitted};
use crate::proto::wire::gossip::Standing;

const OP: OpId = OpId(1);

impl Bench {
    /// The code of the answer to the operator: "" = done; none = it waits.
    fn told(effects: &[Effect]) -> Option<String> {
        effects.iter().find_map(|effect| match effect {
            Effect::Reply { op: OP, reply: Reply::Done } => Some(String::new()),
            Effect::Reply { op: OP, reply: Reply::Error(error) } => {
                assert!(error.message.len() > 20, "it says what to do: {error:?}");
                Some(error.code.clone())
            }
            _ => None,
        })
    }

    fn orders(&mut self, ms: u64, action: Action) -> Vec<Effect> {
        let signed = order(7, action);
        self.act(ms, |f, turn, office| f.on_order(turn, office, OP, signed))
    }

    /// An operator orders that of this board, which is master.
    fn says(&mut self, action: Action) -> Option<String> {
        let effects = self.orders(100, action);
        Self::told(&effects)
    }

    fn change(&mut self) -> Option<Change> {
        let notices = self.failover.take_notices().into_iter();
        let mut changes = notices.filter_map(|notice| match notice {
            Notice::Change(change) => Some(*change),
            _ => None,
        });
        changes.next()
    }

    fn changed_row(&mut self) -> Option<Row> {
        match self.change()?.what {
            What::Row { row, .. } => row,
            _ => None,
        }
    }

    fn serves(&mut self, row: &Row) {
        self.says_it_serves(row, true);
    }

    fn says_it_serves(&mut self, row: &Row, runs: bool) {
        let serving = Serving {
            instance: row.instance(),
            epoch: row.epoch,
            life: crate::proto::id::Incarnation(1),
            stamp: 1,
            node: row.active,
            runs,
            spec: row.spec,
            why: Text::default(),
            endpoints: Default::default(),
        };
        let key = crate::proto::id::Keypair::from_seed(&[9; 32]);
        let signed = Signed::seal(&serving, &key).unwrap();
        assert!(self.around.directory.put_serving(serving, signed));
    }
}

fn name() -> Text<63> {
    Text::capped("kv")
}

fn moves() -> Action {
    Action::Move(name())
}

fn run_order(change: impl FnOnce(&mut ServiceSpec)) -> Action {
    let mut spec = spec();
    change(&mut spec);
    Action::Run(Box::new(spec))
}

#[test]
fn orders_about_a_service_that_is_not_there_or_stopped_say_so() {
    let mut bench = Bench::new();
    let (one, two) = (bench.one, bench.two);
    bench.reigns(60_000);
    let actions = || {
        let at = state(2, 40);
        let (service, from) = (name(), two);
        [
            moves(),
            Action::Checkpoint(name()),
            Action::Restore { service: service.clone(), at },
            Action::Recover { service, from },
        ]
    };
    bench.follows(0, vec![]);
    for action in actions()
        .into_iter()
        .chain([Action::Stop(name()), Action::Remove { service: name(), force: false }])
    {
        assert_eq!(bench.says(action).as_deref(), Some("not-found"));
    }
    bench.follows(0, vec![Row { retiring: true, ..row("kv", one, Some(two)) }]);
    for action in actions() {
        assert_eq!(bench.says(action).as_deref(), Some("stopped"));
    }
}

#[test]
fn a_service_moves_only_to_a_standby_that_is_ready_and_could_start_it() {
    let says = |change: fn(&mut Row)| {
        let mut bench = Bench::new();
        bench.reigns(60_000);
        let mut row = row("kv", bench.one, Some(bench.two));
        change(&mut row);
        bench.follows(0, vec![row]);
        bench.says(moves())
    };
    assert_eq!(says(|row| row.standby = None).as_deref(), Some("not-ready"));
    assert_eq!(says(|row| row.ready = false).as_deref(), Some("not-ready"));
    assert_eq!(says(|row| row.fill = Some(row.active)).as_deref(), Some("not-ready"));
    assert_eq!(says(|row| row.able = Some(false)).as_deref(), Some("standby-unable"));
    assert_eq!(says(|row| row.able = Some(true)), None, "it is on its way");
    assert_eq!(says(|_| ()), None);
}

#[test]
fn what_runs_need_not_be_recovered_and_what_does_not_cannot_be_captured() {
    let says = |serves: bool, up: bool, action: fn(NodeId) -> Action| {
        let mut bench = Bench::new();
        bench.reigns(60_000);
        let row = row("kv", bench.one, Some(bench.two));
        bench.follows(0, vec![row.clone()]);
        if serves {
            bench.serves(&row);
        }
        if !up {
            bench.around.members.set_standing(&bench.one, Standing::Down, at(1));
        }
        let two = bench.two;
        bench.says(action(two))
    };
    let recovers = |from| Action::Recover { service: name(), from };
    assert_eq!(says(true, true, recovers).as_deref(), Some("not-needed"));
    assert_eq!(says(true, false, recovers), None, "its board is gone");
    assert_eq!(says(false, true, recovers), None);
    let captures = |_| Action::Checkpoint(name());
    assert_eq!(says(true, true, captures).as_deref(), Some(""));
    assert_eq!(says(false, true, captures).as_deref(), Some("not-serving"));
    assert_eq!(says(true, false, captures).as_deref(), Some("not-serving"));
}

/// Found by a generated mutant.
#[test]
fn a_word_about_a_former_right_does_not_say_that_it_runs() {
    let captures = |epoch, runs| {
        let mut bench = Bench::new();
        bench.reigns(60_000);
        let row = row("kv", bench.one, Some(bench.two));
        bench.follows(0, vec![row.clone()]);
        bench.says_it_serves(&Row { epoch: Epoch(epoch), ..row }, runs);
        bench.says(Action::Checkpoint(name()))
    };
    assert_eq!(captures(3, true).as_deref(), Some(""));
    assert_eq!(captures(2, true).as_deref(), Some("not-serving"));
    assert_eq!(captures(3, false).as_deref(), Some("not-serving"));
}

#[test]
fn the_master_passes_an_order_on_to_the_board_that_can_carry_it_out() {
    let passed = |action: fn(NodeId) -> Action| {
        let mut bench = Bench::new();
        bench.reigns(60_000);
        let (one, two) = (bench.one, bench.two);
        bench.follows(0, vec![row("kv", one, Some(two))]);
        let signed = order(7, action(two));
        let sent = bench.sent(100, |f, turn, office| f.on_order(turn, office, OP, signed.clone()));
        let [(to, Message::Pass(Pass { order, epoch, .. }))] = &sent[..] else {
            panic!("{sent:?}")
        };
        assert_eq!((order, *epoch), (&signed, Epoch(3)));
        assert_eq!(bench.around.links.errand(to), at(8_100));
        if *to == one { "active" } else { "standby" }
    };
    assert_eq!(passed(|_| moves()), "active");
    assert_eq!(passed(|_| Action::Restore { service: name(), at: state(2, 40) }), "active");
    assert_eq!(passed(|from| Action::Recover { service: name(), from }), "standby");
}

#[test]
fn what_is_passed_on_is_repeated_and_given_up_in_time() {
    let mut bench = Bench::new();
    bench.reigns(60_000);
    let row = row("kv", bench.one, Some(bench.two));
    bench.follows(0, vec![row]);
    bench.orders(100, moves());
    let passes = |bench: &mut Bench, ms| {
        let sent = bench.sent(ms, |f, turn, office| f.pass_on(turn, office));
        sent.iter().filter(|(_, m)| matches!(m, Message::Pass(_))).count()
    };
    assert_eq!(
        [passes(&mut bench, 200), passes(&mut bench, 399), passes(&mut bench, 400)],
        [1, 0, 1]
    );
    let mut expires = |ms| Bench::told(&bench.act(ms, |f, turn, _| f.desk.expire(turn)));
    assert_eq!([expires(6_099), expires(6_100)], [None, Some("not-carried-out".to_owned())]);
}

#[test]
fn a_new_service_begins_where_there_is_room_with_a_standby() {
    let mut bench = Bench::new();
    bench.reigns(60_000);
    bench.follows(0, vec![]);
    let signed = order(7, run_order(|_| ()));
    let hash = signed.hash();
    let effects = bench.act(100, |f, turn, office| f.on_order(turn, office, OP, signed.clone()));
    let keeps = |e: &Effect| matches!(e, Effect::Persist { record: Record::Spec(_), .. });
    assert!(effects.iter().any(keeps) && bench.change().is_none(), "it is kept first");
    bench.around.specs.put(signed).unwrap();
    bench.act(110, |f, turn, office| f.on_spec_kept(turn, office, &hash));
    let change = bench.change().expect("a change");
    assert_eq!(change.order, Some((7, 60)));
    let What::Row { made_for: None, row: Some(row), .. } = change.what else { panic!() };
    let others = [bench.one, bench.two];
    assert!(others.contains(&row.active) && row.standby.is_some_and(|s| s != row.active));
    assert!(row.ready, "there is no state that it would have to hold");
    assert_eq!((row.epoch, row.spec), (Epoch(bench.version + 1), hash));
    let id = change.id;
    let effects = bench.act(120, |f, turn, _| f.on_verdict(turn, id, Verdict::Chosen));
    assert_eq!(Bench::told(&effects).as_deref(), Some(""));
    assert_eq!(bench.act(121, |f, turn, _| f.on_verdict(turn, id, Verdict::Chosen)), [], "once");
}

#[test]
fn a_service_that_no_board_has_room_for_is_refused() {
    let mut bench = Bench::new();
    bench.reigns(60_000);
    bench.follows(0, vec![]);
    let nowhere = |spec: &mut ServiceSpec| {
        spec.labels =
            crate::proto::bounded::List::capped([(Text::capped("gpu"), Text::capped("yes"))]);
    };
    let signed = order(7, run_order(nowhere));
    let hash = bench.around.specs.put(signed).unwrap();
    assert_eq!(bench.says(run_order(nowhere)).as_deref(), Some("no-room"));
    assert!(bench.around.specs.get(&hash).is_some());
}

#[test]
fn what_exists_is_changed_but_for_whether_it_has_a_state() {
    let changed = |change: fn(&mut ServiceSpec), of: fn(&mut Row)| {
        let mut bench = Bench::new();
        bench.reigns(60_000);
        let spec = bench.runs(false);
        let mut row = Row { spec, able: Some(true), ..row("kv", bench.one, Some(bench.two)) };
        of(&mut row);
        bench.follows(0, vec![row]);
        bench.around.specs.put(order(7, run_order(change))).unwrap();
        let code = bench.says(run_order(change));
        (code, bench.changed_row().map(|row| (row.spec == spec, row.able, row.retiring)))
    };
    let stateful = |spec: &mut ServiceSpec| spec.state = Some(Text::capped("data"));
    assert_eq!(changed(stateful, |_| ()), (Some("state-changed".to_owned()), None));
    let removing = |row: &mut Row| (row.retiring, row.removing) = (true, true);
    assert_eq!(changed(|_| (), removing), (Some("being-removed".to_owned()), None));
    let again = |row: &mut Row| row.retiring = true;
    assert_eq!(changed(|_| (), again), (None, Some((true, Some(true), false))), "it runs again");
    let other = |spec: &mut ServiceSpec| {
        spec.command = crate::proto::bounded::List::capped([Text::capped("./b")])
    };
    assert_eq!(changed(other, |_| ()), (None, Some((false, None, false))));
}

#[test]
fn a_service_is_stopped_removed_or_forgotten_as_ordered() {
    let changed = |action| {
        let mut bench = Bench::new();
        bench.reigns(60_000);
        let row = row("kv", bench.one, Some(bench.two));
        bench.follows(0, vec![row]);
        assert_eq!(bench.says(action), None, "it is decided first");
        let What::Row { made_for: Some(9), row, .. } = bench.change().unwrap().what else {
            panic!()
        };
        row.map(|row| (row.retiring, row.removing))
    };
    assert_eq!(changed(Action::Stop(name())), Some((true, false)));
    assert_eq!(changed(Action::Remove { service: name(), force: false }), Some((true, true)));
    assert_eq!(changed(Action::Remove { service: name(), force: true }), None);
}

#[test]
fn boards_are_drained_that_are_there_and_up_to_a_limit() {
    let mut bench = Bench::new();
    bench.reigns(60_000);
    let (one, stranger) = (bench.one, PublicKey([99; 32]));
    let drain = |node, drained| Action::Drain { node, drained };
    bench.follows(0, vec![]);
    assert_eq!(bench.says(drain(stranger, true)).as_deref(), Some("not-found"));
    for drained in [true, false] {
        assert_eq!(bench.says(drain(one, drained)), None);
        assert_eq!(bench.change().unwrap().what, What::Drain { node: one, drained });
    }
    let mut announced = bench.around.directory.newest().unwrap().clone();
    announced.table.version.number += 1;
    announced.table.leaving = vec![one];
    announced.table.drained = (1..=DRAINED_MAX as u8).map(|n| PublicKey([n; 32])).collect();
    assert!(bench.around.directory.put(announced));
    assert_eq!(bench.says(drain(one, false)).as_deref(), Some("leaving"));
    assert_eq!(bench.says(drain(one, true)).as_deref(), Some("too-many"));
    let two = bench.two;
    assert_eq!(bench.says(drain(two, false)), None);
}

#[test]
fn verdicts_are_told_and_a_conflict_is_tried_again_for_a_while() {
    let told = |verdict| {
        let mut bench = Bench::new();
        bench.reigns(60_000);
        let row = row("kv", bench.one, Some(bench.two));
        bench.follows(0, vec![row]);
        bench.says(Action::Stop(name()));
        let id = bench.change().unwrap().id;
        let told = Bench::told(&bench.act(200, |f, turn, _| f.on_verdict(turn, id, verdict)));
        (bench, told)
    };
    for (verdict, code) in [
        (Verdict::Chosen, ""),
        (Verdict::Repeated, ""),
        (Verdict::Full, "full"),
        (Verdict::Unknown, "unknown"),
    ] {
        assert_eq!(told(verdict).1.as_deref(), Some(code));
    }
    let (mut bench, code) = told(Verdict::Conflict);
    assert_eq!(code, None);
    bench.act(400, |f, turn, office| f.pass_on(turn, office));
    let again = bench.change().expect("it is decided once more");
    bench.act(410, |f, turn, _| f.on_verdict(turn, again.id, Verdict::Conflict));
    let mut expires = |ms| Bench::told(&bench.act(ms, |f, turn, _| f.desk.expire(turn)));
    assert_eq!([expires(6_199), expires(6_200)], [None, Some("conflict".to_owned())]);
    let (mut bench, _) = told(Verdict::Conflict);
    bench.act(400, |f, turn, office| f.pass_on(turn, office));
    let expires = Bench::told(&bench.act(6_200, |f, turn, _| f.desk.expire(turn)));
    assert_eq!(expires.as_deref(), Some("unknown"), "it is being decided");
}

#[test]
fn an_order_that_is_not_genuine_or_one_too_many_is_refused() {
    let mut bench = Bench::new();
    bench.reigns(60_000);
    let mut forged: SignedOrder = order(1, moves());
    let another = crate::proto::id::Keypair::from_seed(&[9; 32]);
    forged.order = Signed::seal(&forged.order.peek().unwrap(), &another).unwrap();
    let effects = bench.act(0, |f, turn, office| f.on_order(turn, office, OP, forged));
    assert_eq!(Bench::told(&effects).as_deref(), Some("refused"));
    bench.office = Office::default();
    for number in 0..ORDERS_OPEN_MAX as u64 {
        let signed = order(number, moves());
        let op = OpId(100 + number);
        assert_eq!(bench.act(0, |f, turn, office| f.on_order(turn, office, op, signed)), []);
    }
    assert_eq!(bench.says(moves()).as_deref(), Some("busy"));
    bench.reigns(60_000);
    let mesh = Action::RecoverMesh { dead: Default::default() };
    bench.failover.desk = Default::default();
    assert_eq!(bench.says(mesh).as_deref(), Some("refused"), "it is carried out where it is given");
}

#[test]
fn another_board_is_answered_by_its_number() {
    let mut bench = Bench::new();
    let one = bench.one;
    let submit = || Submit { seq: 33, order: order(7, moves()) };
    let answer = |bench: &mut Bench| {
        let sent = bench.sent(100, |f, turn, office| f.on_submit(turn, office, one, submit()));
        let [(to, Message::Submitted(Submitted { seq: 33, done, code, .. }))] = &sent[..] else {
            panic!("{sent:?}")
        };
        assert_eq!(*to, one);
        (*done, code.to_string())
    };
    assert_eq!(answer(&mut bench), (false, "not-master".to_owned()));
    bench.reigns(60_000);
    bench.follows(0, vec![]);
    assert_eq!(answer(&mut bench), (false, "not-found".to_owned()));
}

#[test]
fn an_order_waits_for_a_master_and_goes_to_the_one_that_is_known_or_is_decided_here() {
    let mut bench = Bench::new();
    let one = bench.one;
    assert_eq!(bench.orders(0, moves()), []);
    bench.office.master = Some(one);
    let sent = bench.sent(100, |f, turn, office| f.pass_on(turn, office));
    assert!(matches!(&sent[..], [(to, Message::Submit(_))] if *to == one));
    assert_eq!(bench.around.links.errand(&one), at(8_000));
    assert_eq!(bench.sent(300, |f, turn, office| f.pass_on(turn, office)), [], "once");
    let expires = Bench::told(&bench.act(8_000, |f, turn, _| f.desk.expire(turn)));
    assert_eq!(expires.as_deref(), Some("unknown"), "that one decides");
    let mut bench = Bench::new();
    bench.orders(0, moves());
    bench.follows(0, vec![]);
    bench.reigns(60_000);
    let effects = bench.act(100, |f, turn, office| f.pass_on(turn, office));
    assert_eq!(Bench::told(&effects).as_deref(), Some("not-found"));
}

#[test]
fn the_answer_of_the_master_is_told_as_it_is_and_unknown_words_as_a_refusal() {
    let told = |from_other: bool, done, code: &str| {
        let mut bench = Bench::new();
        let (one, two) = (bench.one, bench.two);
        bench.office.master = Some(one);
        let signed = order(7, moves());
        let sent = bench.sent(0, |f, turn, office| f.on_order(turn, office, OP, signed));
        let [(_, Message::Submit(submit))] = &sent[..] else { panic!() };
        let (code, text) = (Text::capped(code), Text::capped("try another day\u{7}, please"));
        let answer = Submitted { seq: submit.seq, done, code, text };
        let from = if from_other { two } else { one };
        let effects = bench.act(10, |f, turn, _| f.on_submitted(turn, from, &answer));
        let clean = |e: &Effect| !matches!(e, Effect::Reply { reply: Reply::Error(e), .. } if e.message.contains('\u{7}'));
        assert!(effects.iter().all(clean));
        Bench::told(&effects)
    };
    assert_eq!(told(false, true, "").as_deref(), Some(""));
    assert_eq!(told(false, false, "not-ready").as_deref(), Some("not-ready"));
    assert_eq!(told(false, false, "of-the-future").as_deref(), Some("refused"));
    assert_eq!(told(true, true, ""), None, "nobody asked that one");
}

#[test]
fn what_another_board_has_carried_out_is_noted_with_its_change_and_not_passed_on_again() {
    let mut bench = Bench::new();
    bench.reigns(60_000);
    let (one, two) = (bench.one, bench.two);
    let row = Row { ready: true, able: Some(true), ..row("kv", one, Some(two)) };
    bench.follows(0, vec![row.clone()]);
    bench.orders(100, moves());
    let claim = |claim| Claim { instance: kv(), epoch: row.epoch, revision: row.revision, claim };
    let mut noted = |from, claimed| {
        bench.failover.take_notices();
        bench.act(200, |f, turn, office| f.on_claim(turn, office, from, claim(claimed)));
        bench.change().map(|change| change.order)
    };
    assert_eq!(noted(two, Claimed::Able(false)), Some(None), "that is not what was ordered");
    let noted = noted(one, Claimed::Release { to: two, last: state(3, 4) });
    let Some(Some(noted)) = noted else { panic!("{noted:?}") };
    let passes = |bench: &mut Bench, ms| {
        let sent =
            bench.sent(ms, |f, turn, office| f.on_order(turn, office, OP, order(7, moves())));
        sent.len()
    };
    bench.follows(300, vec![Row { epoch: Epoch(4), released: true, active: two, ..row.clone() }]);
    assert_eq!(passes(&mut bench, 300), 1, "it is not noted yet");
    let mut announced = bench.around.directory.newest().unwrap().clone();
    announced.table.version.number += 1;
    announced.table.orders = vec![noted];
    assert!(bench.around.directory.put(announced));
    assert_eq!(bench.says(moves()).as_deref(), Some(""), "it is done");
    assert_eq!(passes(&mut bench, 400), 0);
}

/// Found by netsim: a board that says again and again what it has said had an order opened each time, and each of
/// those was passed on again and again.
#[test]
fn an_order_that_a_board_repeats_is_open_once() {
    let mut bench = Bench::new();
    bench.reigns(60_000);
    let (one, two) = (bench.one, bench.two);
    bench.follows(0, vec![row("kv", one, Some(two))]);
    let mut asks = |ms, from, seq| {
        let submit = Submit { seq, order: order(7, moves()) };
        bench.act(ms, |f, turn, office| f.on_submit(turn, office, from, submit));
        // Each that is open is passed on once more.
        bench.sent(ms + 500, |f, turn, office| f.pass_on(turn, office)).len()
    };
    assert_eq!([asks(100, two, 9), asks(1_000, two, 9)], [1, 1]);
    assert_eq!([asks(2_000, two, 10), asks(3_000, one, 9)], [2, 3], "those are others");
}
