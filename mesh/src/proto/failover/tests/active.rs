//! The active: when it starts, how it starts again, what it claims, what it says.

mod after_a_restart;
mod what_is_durable;

use super::*;
use crate::proto::failover::active::Run;
use crate::proto::io::Begin;
use crate::proto::journal::Tenure;
use crate::proto::spec::{Commit, Replicate};

/// The beginning that this board is told, if it starts at all.
pub(in crate::proto::failover) fn begins(bench: &mut Bench, ms: u64, row: &Row) -> Option<Begin> {
    let one = bench.one;
    bench.grant(ms, one, row).into_iter().find_map(|effect| match effect {
        Effect::Start { begin, epoch: Epoch(3), .. } => Some(begin),
        _ => None,
    })
}

/// This board is to run `kv` under its third right, by a table that is known since 0.
pub(in crate::proto::failover) fn assigned(
    stateful: bool,
    change: impl FnOnce(&mut Row),
) -> (Bench, Row) {
    let mut bench = Bench::new();
    let spec = bench.runs(stateful);
    bench.office.master = Some(bench.two);
    let mut row = Row { spec, able: Some(true), ..row("kv", bench.me, Some(bench.one)) };
    change(&mut row);
    bench.follows(0, vec![row.clone()]);
    bench.failover.take_notices();
    (bench, row)
}

/// The same, and it runs since 200 ms.
pub(in crate::proto::failover) fn running(
    stateful: bool,
    change: impl FnOnce(&mut Row),
) -> (Bench, Row) {
    let (mut bench, row) = assigned(stateful, change);
    bench.around.holdings.put(&kv(), state(2, 40));
    assert!(begins(&mut bench, 100, &row).is_some());
    bench.report(200, started());
    bench.failover.take_notices();
    (bench, row)
}

pub(in crate::proto::failover) fn assignment(bench: &mut Bench) -> &mut Assignment {
    bench.failover.assignments.get_mut(&kv()).expect("an assignment")
}

pub(in crate::proto::failover) fn fails() -> Report {
    ended(Exit::Failed { why: "no such file".to_owned() })
}

#[test]
fn it_starts_from_what_it_has_of_its_right_and_never_with_less() {
    let starts = |change: fn(&mut Row), own: &[(u64, u64)]| {
        let (mut bench, row) = assigned(true, change);
        own.iter().for_each(|(epoch, seq)| bench.around.holdings.put(&kv(), state(*epoch, *seq)));
        let begin = begins(&mut bench, 100, &row);
        (begin, assignment(&mut bench).lost)
    };
    assert_eq!(starts(|_| (), &[(2, 40), (2, 41)]), (Some(Begin::From(state(2, 41))), false));
    assert_eq!(starts(|_| (), &[(1, 9)]), (None, true), "what it is to begin with is not here");
    let first = |row: &mut Row| (row.previous, row.base) = Default::default();
    assert_eq!(starts(first, &[]), (Some(Begin::Empty { anew: true }), false));
    let lost = |row: &mut Row| row.lost = true;
    assert_eq!(starts(lost, &[(2, 40)]).0, Some(Begin::From(state(2, 40))));
    let retiring = |row: &mut Row| row.retiring = true;
    assert_eq!(starts(retiring, &[(2, 40)]), (None, false));
}

#[test]
fn what_began_under_this_right_goes_on_with_its_folder_unless_its_store_is_lost() {
    let goes_on = |commit, ready, own: bool| {
        let mut bench = Bench::new();
        let replicate = Replicate { every_ms: 1_000, commit, commit_timeout_ms: 0 };
        let spec = ServiceSpec { state: Some(Text::capped("data")), replicate, ..spec() };
        let spec = bench.around.specs.put(order(1, Action::Run(Box::new(spec)))).unwrap();
        let row = Row { spec, ready, ..row("kv", bench.me, Some(bench.one)) };
        if own {
            bench.around.holdings.put(&kv(), state(3, 5));
        }
        bench.follows(0, vec![row.clone()]);
        assignment(&mut bench).began = Some(Epoch(3));
        let begin = begins(&mut bench, 100, &row);
        (begin, assignment(&mut bench).lost)
    };
    let on = |id| (Some(Begin::GoOn { after_power_cut: id }), false);
    assert_eq!(goes_on(Commit::Async, true, true), on(None));
    assert_eq!(goes_on(Commit::Standby, true, true), on(Some(state(3, 5))));
    assert_eq!(goes_on(Commit::Standby, true, false), (None, true));
    assert_eq!(goes_on(Commit::Standby, false, false), on(None), "nobody else has more");
    assert_eq!(goes_on(Commit::Async, true, false), on(None));
}

#[test]
fn it_does_not_start_with_a_lease_too_short_to_live_in() {
    let starts = |lease_ms| {
        let (mut bench, row) = assigned(false, |_| ());
        let one = bench.one;
        let (instance, epoch) = (row.instance(), row.epoch);
        let grant = Grant { instance, epoch, sent: at(100).0, lease_ms, as_master: false };
        super::starts(&bench.act(100, |f, turn, office| f.on_grant(turn, office, one, &grant)))
    };
    // Killing it takes up to 200 ms.
    assert_eq!((starts(399), starts(400)), (0, 1));
}

#[test]
fn after_a_restart_an_unused_right_waits_until_what_was_forgotten_is_over_unless_it_was_given_up() {
    let starts = |released, ms| {
        let mut bench = Bench::after(1_500);
        let spec = bench.runs(false);
        let row = Row { spec, released, ..row("kv", bench.me, Some(bench.one)) };
        bench.follows(0, vec![row.clone()]);
        begins(&mut bench, ms, &row).is_some()
    };
    let free = promised(Duration::from_millis(1_500)).as_millis() as u64 + 1;
    assert_eq!(
        [starts(false, free - 2), starts(false, free), starts(true, 100)],
        [false, true, true]
    );
}

#[test]
fn an_order_for_another_service_is_not_run_in_its_place() {
    let mut bench = Bench::new();
    let other = ServiceSpec { name: Text::capped("db"), ..spec() };
    let spec = bench.around.specs.put(order(1, Action::Run(Box::new(other)))).unwrap();
    let row = Row { spec, ..row("kv", bench.me, Some(bench.one)) };
    bench.follows(0, vec![row.clone()]);
    assert_eq!(begins(&mut bench, 100, &row), None);
}

/// Ends it then, and says when it is started again.
fn waits(bench: &mut Bench, ms: u64, report: Report) -> Option<u64> {
    bench.report(ms, report);
    match assignment(bench).run {
        Run::Waiting(until) => Some(until.since(at(ms)).as_millis() as u64),
        _ => None,
    }
}

#[test]
fn what_ends_is_started_again_after_doubling_pauses_and_at_last_now_and_then_only() {
    let (mut bench, _) = running(false, |row| row.standby = row.standby.take());
    let code = || ended(Exit::Code { code: 1 });
    let pauses =
        [1_000, 1_001, 1_002, 1_003, 1_004].map(|ms| waits(&mut bench, ms, code()).unwrap());
    // The service may end three times in a minute.
    assert_eq!(pauses, [200, 400, 800, 10_000, 10_000]);
    assert_eq!(waits(&mut bench, 62_000, code()), Some(200), "a minute later it is forgotten");
    assert_eq!(waits(&mut bench, 62_001, ended(Exit::Fenced)), None, "that is not its fault");
}

#[test]
fn it_starts_again_when_the_pause_is_over() {
    let (mut bench, row) = running(false, |_| ());
    let one = bench.one;
    bench.report(1_000, ended(Exit::Code { code: 1 }));
    bench.grant(1_100, one, &row);
    assert_eq!(super::starts(&bench.act(1_199, Failover::handle_timeout)), 0);
    assert_eq!(super::starts(&bench.act(1_200, Failover::handle_timeout)), 1);
    assert_eq!(assignment(&mut bench).starts, 2);
}

#[test]
fn what_cannot_be_started_is_given_to_the_standby_after_three_tries() {
    let (mut bench, _) = running(false, |_| ());
    for ms in [1_000, 1_100] {
        bench.report(ms, fails());
        assert!(assignment(&mut bench).handover.is_none());
    }
    bench.report(1_200, fails());
    assert!(assignment(&mut bench).handover.is_some());
    let (mut bench, _) = running(false, |_| ());
    for ms in [1_000, 1_001, 1_002] {
        bench.report(ms, ended(Exit::Code { code: 1 }));
        assert!(assignment(&mut bench).handover.is_none());
    }
    bench.report(1_003, ended(Exit::Code { code: 1 }));
    assert!(assignment(&mut bench).handover.is_some(), "it ends again and again");
}

#[test]
fn reports_about_another_right_change_nothing() {
    let (mut bench, _) = running(false, |_| ());
    let ports = Default::default();
    for report in [
        Report::Ended { epoch: Epoch(2), exit: Exit::Fenced },
        Report::Lost { epoch: Epoch(2) },
        Report::Started { epoch: Epoch(4), ports },
    ] {
        assert_eq!(bench.report(300, report), []);
        assert_eq!(assignment(&mut bench).run, Run::Running);
    }
}

#[test]
fn a_report_of_a_start_counts_only_while_it_starts_and_is_told_everyone() {
    let (mut bench, row) = assigned(false, |_| ());
    bench.report(50, started());
    assert_eq!(assignment(&mut bench).run, Run::Idle);
    begins(&mut bench, 100, &row);
    let effects = bench.report(200, started());
    assert!(effects.iter().any(|e| matches!(e, Effect::Event(Event::Runs { epoch: 3, .. }))));
    let began =
        |e: &Effect| matches!(e, Effect::Persist { record: Record::Began(_, Epoch(3)), .. });
    assert!(effects.iter().any(began));
    let runs = |bench: &mut Bench| {
        let notices = bench.failover.take_notices();
        let told = notices.iter().find_map(|notice| match notice {
            Notice::Serving(signed) => signed.peek().ok(),
            _ => None,
        });
        let told = told.expect("it is told");
        assert_eq!((told.node, told.epoch, told.spec), (bench.me, Epoch(3), row.spec));
        (told.runs, !told.why.is_empty())
    };
    assert_eq!(runs(&mut bench), (true, false));
    bench.report(300, ended(Exit::Code { code: 3 }));
    assert_eq!(runs(&mut bench), (false, true));
}

#[test]
fn a_service_that_was_lost_while_it_started_cannot_go_on_here() {
    let (mut bench, row) = assigned(true, |_| ());
    bench.around.holdings.put(&kv(), state(2, 40));
    begins(&mut bench, 100, &row);
    bench.report(150, Report::Lost { epoch: Epoch(3) });
    let two = bench.two;
    assert!(assignment(&mut bench).lost && assignment(&mut bench).run == Run::Idle);
    assert_eq!(bench.claims(150), [(two, Claimed::Lost)]);
    let (mut bench, _) = running(true, |_| ());
    assignment(&mut bench).run = Run::Stopping;
    bench.report(300, Report::Lost { epoch: Epoch(3) });
    assert!(!assignment(&mut bench).lost, "it was to stop");
}

fn stops(effects: &[Effect]) -> Vec<bool> {
    let stops = effects.iter().filter_map(|effect| match effect {
        Effect::Stop { kill, .. } => Some(*kill),
        _ => None,
    });
    stops.collect()
}

#[test]
fn another_right_kills_what_runs_another_order_or_a_stop_ends_it_in_peace_and_another_standby_leaves_it()
 {
    let stopped = |change: fn(&mut Row, NodeId)| {
        let (mut bench, row) = running(false, |_| ());
        let mut next = Row { revision: 10, ..row };
        change(&mut next, bench.two);
        stops(&bench.follows(300, vec![next]))
    };
    assert!(stopped(|row, two| row.standby = Some(two)).is_empty());
    assert_eq!(stopped(|row, _| row.spec = [8; 32]), [false]);
    assert_eq!(stopped(|row, _| row.retiring = true), [false]);
    assert_eq!(stopped(|row, _| row.epoch = Epoch(4)), [true]);
    assert_eq!(stopped(|row, two| (row.active, row.epoch) = (two, Epoch(4))), [true]);
    let (mut bench, _) = running(false, |_| ());
    assert_eq!(stops(&bench.follows(300, vec![])), [false], "it was removed");
    let (mut bench, row) = running(false, |_| ());
    assert_eq!(bench.follows(300, vec![row]), [], "the same row once more");
    assert_eq!(assignment(&mut bench).learnt, at(0));
}

#[test]
fn a_right_that_begins_is_told_and_what_went_wrong_under_another_order_forgotten() {
    let mut bench = Bench::new();
    let row = row("kv", bench.me, Some(bench.one));
    let names = |effects: &[Effect]| {
        let appointed = |e: &Effect| matches!(e, Effect::Event(Event::Appointed { .. }));
        let protected = |e: &Effect| matches!(e, Effect::Event(Event::Protected { .. }));
        [effects.iter().any(appointed), effects.iter().any(protected)]
    };
    assert_eq!(names(&bench.follows(0, vec![row.clone()])), [true, true]);
    let mut next = |revision, change: fn(&mut Row)| {
        let mut next = Row { revision, ..row.clone() };
        change(&mut next);
        names(&bench.follows(revision, vec![next]))
    };
    assert_eq!(next(10, |_| ()), [false, false]);
    assert_eq!(next(11, |row| row.ready = false), [false, true]);
    assert_eq!(next(12, |row| (row.ready, row.epoch) = (false, Epoch(4))), [true, true]);
    let (mut bench, row) = running(false, |_| ());
    bench.report(300, fails());
    bench.follows(400, vec![Row { revision: 10, ready: false, ..row.clone() }]);
    assert!(assignment(&mut bench).last_exit.is_some());
    bench.follows(500, vec![Row { revision: 11, spec: [8; 32], ..row }]);
    assert!(assignment(&mut bench).last_exit.is_none());
}

#[test]
fn a_drained_board_gives_its_services_away_unless_nobody_else_could_start_them() {
    let gives = |change: fn(&mut Row), drained: fn(&Bench) -> Vec<NodeId>, ms| {
        let (mut bench, _) = running(false, change);
        let mut announced = bench.around.directory.newest().unwrap().clone();
        announced.table.version.number = 9;
        announced.table.drained = drained(&bench);
        announced.table.drained.sort_unstable();
        assert!(bench.around.directory.put(announced));
        let one = bench.one;
        let row = assignment(&mut bench).row.clone();
        bench.grant(ms - 1, one, &row);
        assignment(&mut bench).claim_at = at(ms);
        bench.act(ms, |f, turn, office| f.make_claim(turn, office, &kv()));
        assignment(&mut bench).handover.is_some()
    };
    assert!(gives(|_| (), |bench| vec![bench.me], 300));
    assert!(!gives(|_| (), |_| vec![], 300));
    assert!(!gives(|_| (), |bench| vec![bench.me, bench.one], 300), "it would come back at once");
    let back = |row: &mut Row| (row.released, row.base) = (true, state(1, 4));
    assert!(!gives(back, |bench| vec![bench.me], 599_999), "it was given back unused");
    assert!(gives(back, |bench| vec![bench.me], 600_000));
}

#[test]
fn what_is_to_be_copied_and_who_must_have_it_follows_the_row() {
    let told = |change: fn(&mut Bench)| {
        let (mut bench, _) = running(true, |_| ());
        bench.failover.take_notices();
        change(&mut bench);
        bench.failover.tell_copies(&kv());
        let notices = bench.failover.take_notices();
        let [Notice::Hosting(_, hosting)] = &notices[..] else { panic!("{notices:?}") };
        assert_eq!((hosting.epoch, hosting.runs, hosting.resumed), (Epoch(3), true, false));
        let name = |node: &NodeId| if *node == bench.one { 1 } else { 2 };
        let names = |nodes: &[NodeId]| nodes.iter().map(name).collect::<Vec<_>>();
        (names(&hosting.targets), names(&hosting.required), hosting.base)
    };
    let fill = |bench: &mut Bench| {
        let two = bench.two;
        assignment(bench).row.fill = Some(two);
    };
    assert_eq!(told(|_| ()), (vec![1], vec![1], None));
    assert_eq!(told(|bench| assignment(bench).row.ready = false), (vec![1], vec![], None));
    assert_eq!(told(fill), (vec![1, 2], vec![1], None));
    let switching = |bench: &mut Bench| {
        let two = bench.two;
        (assignment(bench).row.fill, assignment(bench).switching) = (Some(two), Some(9));
    };
    assert_eq!(told(switching), (vec![1, 2], vec![1, 2], None));
    let keeps = |bench: &mut Bench| {
        let two = bench.two;
        (assignment(bench).row.fill, assignment(bench).switch_kept_for) = (Some(two), Some(9));
    };
    assert_eq!(told(keeps), (vec![1, 2], vec![1, 2], None));
    assert_eq!(told(|bench| assignment(bench).bare = true).2, Some(state(2, 40)));
}

#[test]
fn a_settled_service_has_run_for_a_minute() {
    let settled = |ms: u64| {
        let (mut bench, _) = running(false, |_| ());
        bench.report(200 + ms, ended(Exit::Code { code: 1 }));
        assignment(&mut bench).has_settled
    };
    assert_eq!([settled(59_999), settled(60_000)], [false, true]);
}

#[test]
fn where_it_serves_is_told_by_the_first_address_of_this_board() {
    let told = |address: Option<&str>| {
        let (mut bench, row) = assigned(false, |_| ());
        let addresses = address.map(Text::capped);
        bench.around.me.set_addresses(crate::proto::bounded::List::capped(addresses));
        begins(&mut bench, 100, &row);
        let ports = crate::proto::bounded::List::capped([(Text::capped("http"), 8080)]);
        bench.failover.take_notices();
        bench.report(200, Report::Started { epoch: Epoch(3), ports });
        let notices = bench.failover.take_notices();
        let serving = notices.iter().find_map(|notice| match notice {
            Notice::Serving(signed) => signed.peek().ok(),
            _ => None,
        });
        serving.expect("it is told").endpoints[0].address.to_string()
    };
    assert_eq!(told(None), "127.0.0.1:8080");
    assert_eq!(told(Some("/ip4/10.0.0.5/udp/4001/quic-v1")), "10.0.0.5:8080");
    assert_eq!(told(Some("/ip6/fd00::5/udp/4001/quic-v1")), "[fd00::5]:8080");
    assert_eq!(told(Some("/dns4/board.lan/tcp/4001")), "board.lan:8080");
}

#[test]
fn what_began_and_cannot_be_started_any_more_is_bare_unless_a_state_of_it_was_captured() {
    let bare = |captured: bool, tries: u64| {
        let (mut bench, _) = running(true, |row| row.able = None);
        if captured {
            bench.around.holdings.put(&kv(), state(3, 1));
        }
        for ms in 0..tries {
            bench.report(1_000 + ms, fails());
        }
        assignment(&mut bench).bare
    };
    assert_eq!([bare(false, 2), bare(false, 3), bare(true, 3)], [false, true, false]);
}
