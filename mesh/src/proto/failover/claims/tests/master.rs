//! The master: what it makes of claims, and whom it lets stand by.

use super::*;
use crate::proto::failover::tests::{Bench, kv, state};
use crate::proto::id::{OpId, PublicKey};
use crate::proto::io::Event;
use crate::proto::order::Action;
use crate::proto::order::samples::order;

/// The master of a mesh in which another board runs `kv`, a third one stands by, and a fourth one is free.
struct Mastery {
    bench: Bench,
    row: Row,
    free: NodeId,
}

fn master(stateful: bool, change: impl FnOnce(&mut Row, &Bench)) -> Mastery {
    let mut bench = Bench::new();
    let free = bench.around.peer(3);
    let spec = bench.runs(stateful);
    bench.reigns(600_000);
    let mut row = Row { spec, ..row("kv", bench.one, Some(bench.two)) };
    change(&mut row, &bench);
    bench.follows(0, vec![row.clone()]);
    Mastery { bench, row, free }
}

impl Mastery {
    fn judged(&mut self, ms: u64, from: NodeId, claim: Claimed) -> Option<Row> {
        let row = self.row.clone();
        self.bench.judged(ms, &row, from, claim).map(|row| row.expect("not removed"))
    }

    fn rest(&self, node: NodeId) -> Option<(Duration, Why)> {
        let of = self.bench.failover.passed_over.get(&kv())?;
        of.get(&node).map(|rest| (rest.lasts, rest.why))
    }
}

#[test]
fn a_claim_counts_for_the_row_that_is_chosen_now_and_who_knows_an_older_one_is_told() {
    let Mastery { mut bench, row, .. } = master(true, |row, _| row.ready = false);
    let one = bench.one;
    let mut claims = |epoch, revision, change: fn(&mut Office)| {
        let claim = Claim { instance: kv(), epoch: Epoch(epoch), revision, claim: Claimed::Ready };
        let office = bench.office.clone();
        change(&mut bench.office);
        bench.act(10, |f, turn, office| f.on_claim(turn, office, one, claim));
        bench.office = office;
        let notices = bench.failover.take_notices();
        let tells = notices.contains(&Notice::Tell(one));
        (tells, notices.iter().any(|n| matches!(n, Notice::Change(_))))
    };
    assert_eq!(claims(3, 9, |_| ()), (false, true));
    assert_eq!(claims(3, 8, |_| ()), (true, false));
    assert_eq!(claims(2, 20, |_| ()), (true, false));
    assert_eq!(claims(3, 10, |_| ()), (false, false), "it knows more");
    assert_eq!(claims(3, 9, |office| office.reign = None), (false, false));
    let changing = |office: &mut Office| office.changing = [(kv(), false)].into();
    assert_eq!(claims(3, 9, changing), (false, false));
    assert_eq!(row.revision, 9);
}

#[test]
fn a_claim_of_a_board_that_does_not_run_it_is_reported() {
    let Mastery { mut bench, row, .. } = master(true, |_, _| ());
    let two = bench.two;
    let claim = |claim| Claim { instance: kv(), epoch: row.epoch, revision: 9, claim };
    for claimed in [Claimed::Ready, Claimed::Lost, Claimed::NeedStandby, Claimed::Restore(row.base)]
    {
        let effects = bench.act(1, |f, turn, office| f.on_claim(turn, office, two, claim(claimed)));
        assert!(
            matches!(effects[..], [Effect::Event(Event::Misbehaved { node, .. })] if node == two)
        );
    }
}

#[test]
fn a_standby_that_is_ready_takes_over_once_the_master_is_not_bound_either() {
    let takes = |stateful, ms, change: fn(&mut Row, &Bench)| {
        let mut m = master(stateful, change);
        m.bench.failover.has_promised(&kv(), m.bench.one, at(1_000));
        let two = m.bench.two;
        m.judged(ms, two, Claimed::Take { from: state(3, 5) })
    };
    let next = takes(true, 1_000, |_, _| ()).expect("it takes over");
    let before = master(true, |_, _| ());
    let expected = Row {
        epoch: Epoch(4),
        previous: Epoch(3),
        active: before.bench.two,
        standby: Some(before.bench.one),
        base: state(3, 5),
        ready: false,
        fill: Some(before.free),
        ..before.row
    };
    assert_eq!(next, expected);
    assert_eq!(takes(true, 999, |_, _| ()), None, "its promise binds");
    assert_eq!(takes(true, 1_000, |row, _| row.ready = false), None);
    assert_eq!(takes(true, 1_000, |row, _| row.retiring = true), None);
    assert_eq!(takes(true, 1_000, |row, bench| row.standby = Some(bench.me)), None);
    assert!(takes(false, 1_000, |_, _| ()).unwrap().ready, "there is no state to hold");
    let lost = takes(true, 1_000, |row, _| row.lost = true).unwrap();
    assert!(!lost.lost && !lost.released && lost.able.is_none());
    let said = |row: &mut Row, bench: &Bench| (row.able, row.fill) = (Some(true), Some(bench.me));
    let next = takes(true, 1_000, said).unwrap();
    assert_eq!((next.able, next.fill), (None, Some(before.free)), "others are meant now");
    let newer = takes(true, 1_000, |row, _| row.base = state(3, 9)).unwrap();
    assert_eq!(newer.base, state(3, 9), "never less than the row names");
    let mut silent = master(true, |_, _| ());
    silent.bench.failover.silent_until = at(2_000);
    let two = silent.bench.two;
    let take = || Claimed::Take { from: state(3, 5) };
    assert_eq!(silent.judged(1_999, two, take()), None);
    assert!(silent.judged(2_000, two, take()).is_some());
}

#[test]
fn one_that_could_not_start_it_takes_over_only_to_pass_it_on() {
    let takes = |free: bool, lost| {
        let mut m = master(true, |row, _| (row.able, row.lost) = (Some(false), lost));
        if !free {
            m.bench.office.suspected.insert(m.free);
            m.bench.office.suspected.insert(m.bench.me);
        }
        let two = m.bench.two;
        m.judged(10, two, Claimed::Take { from: state(3, 5) }).map(|row| row.fill.is_some())
    };
    assert_eq!(takes(true, false), Some(true));
    assert_eq!(takes(false, false), None, "the former active may come back");
    assert_eq!(takes(false, true), Some(false), "it cannot");
}

#[test]
fn what_was_stopped_for_good_is_removed_by_the_word_of_its_active_or_of_a_standby_that_is_not_bound()
 {
    let removes = |removing, from: fn(&Bench) -> NodeId, ms| {
        let mut m = master(true, |row, _| (row.retiring, row.removing) = (true, removing));
        m.bench.failover.has_promised(&kv(), m.bench.one, at(1_000));
        let (from, row) = (from(&m.bench), m.row.clone());
        m.bench.judged(ms, &row, from, Claimed::Stopped) == Some(None)
    };
    assert!(removes(true, |bench| bench.one, 10));
    assert!(!removes(false, |bench| bench.one, 10));
    assert!(!removes(true, |bench| bench.two, 999), "the master is bound");
    assert!(removes(true, |bench| bench.two, 1_000));
    assert!(!removes(true, |bench| bench.me, 1_000), "it does not stand by");
}

#[test]
fn a_board_is_filled_where_one_is_wanted_and_none_is_being_filled() {
    for claim in [Claimed::NeedStandby, Claimed::NeedAnother] {
        let mut m = master(true, |_, _| ());
        let one = m.bench.one;
        let filled = m.judged(10, one, claim).expect("one is free");
        assert_eq!(filled, Row { fill: Some(m.free), ..m.row.clone() });
        let mut m = master(true, |row, bench| row.fill = Some(bench.me));
        assert_eq!(m.judged(10, one, claim), None);
    }
}

#[test]
fn a_board_whose_filling_is_given_up_rests_unless_it_died_or_makes_way() {
    let rests = |change: fn(&mut Mastery)| {
        let mut m = master(true, |_, _| ());
        let (one, free) = (m.bench.one, m.free);
        m.row = Row { fill: Some(free), revision: 10, ..m.row };
        m.bench.follows(1, vec![m.row.clone()]);
        change(&mut m);
        assert_eq!(m.judged(10, one, Claimed::AbortFill).map(|row| row.fill), Some(None));
        m.rest(free)
    };
    let dead = |m: &mut Mastery| {
        m.bench.around.members.set_standing(&m.free, Standing::Down, at(5));
    };
    assert_eq!(rests(|_| ()), Some((PASSED_OVER_FOR, Why::Silent)));
    assert_eq!(rests(dead), None);
    let drained = |m: &mut Mastery| {
        let mut announced = m.bench.around.directory.newest().unwrap().clone();
        (announced.table.version.number, announced.table.drained) = (9, vec![m.free]);
        assert!(m.bench.around.directory.put(announced));
    };
    assert_eq!(rests(drained), None);
}

#[test]
fn the_board_that_was_filled_takes_the_place_of_the_standby() {
    let filled = |optional: Option<bool>, change: fn(&mut Row)| {
        let mut m = master(true, |_, _| ());
        let (one, two, free) = (m.bench.one, m.bench.two, m.free);
        m.row = Row { fill: Some(free), revision: 10, ..m.row };
        change(&mut m.row);
        m.bench.follows(1, vec![m.row.clone()]);
        if let Some(optional) = optional {
            m.bench.failover.fills.insert(kv(), Fill { node: free, optional, able: Some(true) });
        }
        let row = m.judged(10, one, Claimed::Filled).expect("it was filled");
        assert_eq!((row.standby, row.fill), (Some(free), None));
        (row.ready, row.able, m.rest(two).is_some())
    };
    assert_eq!(filled(None, |_| ()), (true, None, true), "the former one was of no use");
    assert_eq!(filled(Some(false), |_| ()), (true, Some(true), true));
    assert_eq!(filled(Some(true), |_| ()), (true, Some(true), false), "it would have done");
    assert!(filled(None, |row| row.ready = false).0);
    let first = |row: &mut Row| (row.ready, row.previous, row.base) = Default::default();
    assert!(!filled(None, first).0, "it never ran: there is no state to hold");
    let mut none = master(true, |_, _| ());
    let one = none.bench.one;
    assert_eq!(none.judged(10, one, Claimed::Filled), None);
}

#[test]
fn words_of_the_active_about_its_standby_and_its_disk_change_the_row_so() {
    let changed = |claim, change: fn(&mut Row, &Bench)| {
        let mut m = master(true, change);
        let one = m.bench.one;
        m.judged(10, one, claim).map(|row| (row.ready, row.lost, row.epoch.0, row.previous.0))
    };
    assert_eq!(changed(Claimed::Ready, |row, _| row.ready = false), Some((true, false, 3, 2)));
    assert_eq!(changed(Claimed::Ready, |_, _| ()), None, "it is so");
    assert_eq!(changed(Claimed::Ready, |row, _| (row.ready, row.standby) = (false, None)), None);
    assert_eq!(changed(Claimed::Lost, |row, _| row.ready = false), Some((true, true, 3, 2)));
    let alone = |row: &mut Row, _: &Bench| row.standby = None;
    assert_eq!(changed(Claimed::Lost, alone), Some((false, true, 3, 2)));
    let restore = Claimed::Restore(state(1, 5));
    assert_eq!(changed(restore, |row, _| row.lost = true), Some((false, false, 4, 0)));
}

#[test]
fn a_right_that_is_given_up_goes_to_the_standby_that_was_meant_if_it_could_use_it() {
    let released = |to: fn(&Mastery) -> NodeId, last, change: fn(&mut Row, &Bench)| {
        let mut m = master(true, change);
        m.bench.failover.has_promised(&kv(), m.bench.one, at(9_000));
        let (one, to) = (m.bench.one, to(&m));
        let row = m.judged(10, one, Claimed::Release { to, last }).expect("a new right");
        assert_eq!(row.epoch, Epoch(4));
        let forgotten = m.bench.failover.promise(&kv()).is_none();
        assert_eq!(forgotten, row.released, "what was promised to whoever gave it up");
        (row.active != one, row.ready, row.base, row.previous.0, m.rest(one))
    };
    let standby = |m: &Mastery| m.bench.two;
    assert_eq!(released(standby, state(3, 7), |_, _| ()), (true, true, state(3, 7), 3, None));
    let unready = |row: &mut Row, _: &Bench| row.ready = false;
    assert_eq!(released(standby, state(3, 7), unready), (false, false, state(3, 7), 3, None));
    let unable = |row: &mut Row, _: &Bench| row.able = Some(false);
    assert_eq!(released(standby, state(3, 7), unable), (false, true, state(3, 7), 3, None));
    assert_eq!(released(|m| m.free, state(3, 7), |_, _| ()), (false, false, state(3, 7), 3, None));
    let failed = Some((UNABLE_FOR, Why::Failed));
    assert_eq!(released(standby, state(2, 40), |_, _| ()), (true, true, state(2, 40), 3, failed));
    assert_eq!(released(standby, state(2, 30), |_, _| ()).2, state(2, 40), "the least");
    let first = |row: &mut Row, _: &Bench| (row.ready, row.previous, row.base) = Default::default();
    let none = CheckpointId::default();
    assert_eq!(released(standby, none, first), (true, false, none, 0, None), "it never ran");
    let ran = |row: &mut Row, _: &Bench| (row.previous, row.base) = Default::default();
    assert_eq!(released(standby, none, ran).3, 3, "it did");
}

#[test]
fn a_board_is_let_recover_only_while_an_operator_wants_it() {
    let recovers = |ordered: bool, another: bool| {
        let mut m = master(true, |_, _| ());
        let (two, op) = (m.bench.two, OpId(1));
        if ordered {
            let signed = order(7, Action::Recover { service: kv().service, from: two });
            m.bench.act(5, |f, turn, office| f.on_order(turn, office, op, signed));
        }
        let by = if another { m.free } else { two };
        let row = m.judged(10, by, Claimed::Recover(state(2, 30)))?;
        assert_eq!((row.active, row.standby, row.previous.0), (two, None, 0));
        Some((row.base, row.ready, row.lost, row.epoch.0))
    };
    assert_eq!(recovers(true, false), Some((state(2, 30), false, false, 4)));
    assert_eq!(recovers(false, false), None);
    assert_eq!(recovers(true, true), None, "that board was not meant");
}

#[test]
fn what_a_standby_says_about_itself_is_noted_and_how_long_it_rests_doubles() {
    let mut m = master(true, |_, _| ());
    let (two, free) = (m.bench.two, m.free);
    assert_eq!(m.judged(10, free, Claimed::Able(true)), None, "it is not concerned");
    let row = m.judged(10, two, Claimed::Able(false)).expect("that is news");
    assert_eq!(row, Row { able: Some(false), ..m.row.clone() });
    assert_eq!(m.rest(two), Some((UNABLE_FOR, Why::Unable)));
    m.judged(20, two, Claimed::Able(false));
    assert_eq!(m.rest(two), Some((UNABLE_FOR, Why::Unable)), "while it rests that is known");
    let mut ms = 10;
    for lasts in [120, 240, 480, 960, 1_800, 1_800] {
        ms += 1_801_000;
        m.judged(ms, two, Claimed::Able(false));
        assert_eq!(m.rest(two).unwrap().0, Duration::from_secs(lasts));
    }
    m.judged(ms + 1, two, Claimed::Able(true));
    assert_eq!(m.rest(two), None);
    assert_eq!(UNABLE_FOR_MAX, Duration::from_secs(1_800));
}

#[test]
fn a_board_that_is_being_filled_and_could_not_start_it_gives_way_where_another_is_there() {
    let drops = |optional, free: bool, able| {
        let mut m = master(true, |row, bench| row.fill = Some(bench.me));
        m.bench.failover.fills.insert(kv(), Fill { node: m.bench.me, optional, able: None });
        if !free {
            m.bench.office.suspected.insert(m.free);
        }
        let me = m.bench.me;
        let row = m.judged(10, me, Claimed::Able(able));
        assert_eq!(m.bench.failover.fills[&kv()].able, Some(able));
        row.map(|row| row.fill)
    };
    assert_eq!(drops(false, true, false), Some(None));
    assert_eq!(drops(false, false, false), None, "better than none");
    assert_eq!(drops(true, false, false), Some(None), "the present one would do");
    assert_eq!(drops(true, true, true), None);
}

#[test]
fn a_standby_that_is_able_again_keeps_its_place_from_one_that_would_only_be_better() {
    let fill = |optional, before| {
        let mut m = master(true, |row, bench| (row.fill, row.able) = (Some(bench.me), before));
        m.bench.failover.fills.insert(kv(), Fill { node: m.bench.me, optional, able: None });
        let two = m.bench.two;
        m.judged(10, two, Claimed::Able(true)).map(|row| row.fill.is_some())
    };
    assert_eq!(fill(true, Some(false)), Some(false));
    assert_eq!(fill(false, Some(false)), Some(true), "the present one was of no use");
    assert_eq!(fill(true, None), Some(true));
}

/// What the master asks for when it looks.
fn looks(bench: &mut Bench, ms: u64) -> Vec<Option<Row>> {
    bench.failover.take_notices();
    bench.act(ms, |f, turn, office| f.appoint(turn, office));
    bench.changes()
}

#[test]
fn a_row_without_a_standby_gets_one_ready_where_there_is_no_state() {
    for stateful in [true, false] {
        let Mastery { mut bench, .. } = master(stateful, |row, _| row.standby = None);
        let changes = looks(&mut bench, 10);
        let [Some(row)] = &changes[..] else { panic!("{changes:?}") };
        assert!(row.standby.is_some_and(|node| node != row.active && node != bench.me));
        assert_eq!(row.ready, !stateful);
        assert_eq!(looks(&mut bench, 1_009), [], "a second later");
        assert_eq!(looks(&mut bench, 1_010).len(), 1);
        bench.office.changing.insert(kv(), false);
        assert_eq!(looks(&mut bench, 2_010), []);
        let reign = bench.office.reign.take();
        (bench.office.master, bench.office.changing) = (Some(bench.me), Default::default());
        assert_eq!(looks(&mut bench, 3_010), []);
        bench.office.reign = reign;
        assert_eq!(looks(&mut bench, 4_010).len(), 1, "it was interrupted only");
        bench.office = Office::default();
        assert_eq!(looks(&mut bench, 5_010), []);
        assert_eq!(bench.failover.appoint_at, Time::NEVER);
    }
    let Mastery { mut bench, .. } =
        master(true, |row, _| (row.standby, row.retiring) = (None, true));
    assert_eq!(looks(&mut bench, 10), []);
}

#[test]
fn a_better_standby_than_the_master_itself_or_than_an_unable_one_is_filled() {
    let better = |ms, change: fn(&mut Row, &Bench)| {
        let mut m = master(true, change);
        let changes = looks(&mut m.bench, ms);
        let optional = m.bench.failover.fills.get(&kv()).is_some_and(|fill| fill.optional);
        assert_eq!(optional, !changes.is_empty());
        changes.len()
    };
    let here = |row: &mut Row, bench: &Bench| row.standby = Some(bench.me);
    assert_eq!(better(29_999, here), 0, "the others have just come");
    assert_eq!(better(30_000, here), 1);
    let unable = |row: &mut Row, _: &Bench| row.able = Some(false);
    assert_eq!(better(10, unable), 1);
    assert_eq!(better(30_000, |_, _| ()), 0);
    for not in [
        (|row: &mut Row, _: &Bench| row.lost = true) as fn(&mut Row, &Bench),
        |row, _| row.retiring = true,
        |row, bench| row.fill = Some(bench.me),
    ] {
        let mut m = master(true, |row, bench| {
            unable(row, bench);
            not(row, bench);
        });
        assert_eq!(looks(&mut m.bench, 10), []);
    }
    let unready = |row: &mut Row, bench: &Bench| (row.standby, row.ready) = (Some(bench.me), false);
    assert_eq!(better(30_000, unready), 0, "it has to be ready first");
    let mut m = master(true, here);
    m.bench.office.changing.insert(kv(), false);
    assert_eq!(looks(&mut m.bench, 30_000), []);
}

#[test]
fn no_more_boards_are_passed_over_than_are_remembered_and_those_that_have_rested_make_room() {
    let mut m = master(true, |_, _| ());
    let board = |n: u8| PublicKey([n; 32]);
    let pass = |m: &mut Mastery, ms, n| {
        let rest = (Duration::from_secs(10), Why::Silent);
        m.bench.failover.pass_over(&m.bench.around.turn(ms), &m.row, board(n), rest);
        m.bench.failover.passed_over[&kv()].len()
    };
    for n in 0..32 {
        assert_eq!(pass(&mut m, u64::from(n), n), usize::from(n) + 1);
    }
    assert_eq!(pass(&mut m, 9_999, 77), 32);
    assert_eq!(m.rest(board(77)), None, "all rest still");
    assert_eq!(pass(&mut m, 10_000, 77), 32);
    assert!(m.rest(board(77)).is_some() && m.rest(board(0)).is_none());
    m.bench.failover.pass_over(
        &m.bench.around.turn(10_001),
        &m.row,
        board(77),
        (Duration::from_secs(1), Why::Failed),
    );
    let rest = m.bench.failover.passed_over[&kv()][&board(77)];
    assert_eq!((rest.until, rest.why), (at(20_000), Why::Failed), "not shorter, and the worse");
    let mut m = master(true, |_, _| ());
    pass(&mut m, 0, 1);
    assert_eq!(pass(&mut m, 1_809_999, 2), 2, "for how long the next one lasts");
    assert_eq!(pass(&mut m, 1_810_000, 2), 1);
}

#[test]
fn where_all_were_tried_nobody_else_is_but_one_that_was_is_better_than_none() {
    let mut m = master(true, |_, _| ());
    for n in 100..132 {
        let rest = (Duration::from_secs(10), Why::Unable);
        m.bench.failover.pass_over(&m.bench.around.turn(0), &m.row, PublicKey([n; 32]), rest);
    }
    let turn = m.bench.around.turn(10);
    let untried = m.bench.failover.choose_untried(&turn, &m.bench.office, &m.row, |_| true);
    assert_eq!(untried, None);
    assert_eq!(m.bench.failover.choose(&turn, &m.bench.office, &m.row), Some(m.free));
}
