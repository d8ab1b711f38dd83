//! The standby: silence, takeovers, and whether it could start what it stands by for.

use super::*;

/// Stands by for an active of which nothing was heard, since time 0; the master is another board.
fn vigil(stateful: bool, change: impl FnOnce(&mut Row)) -> Bench {
    let mut bench = Bench::new();
    let spec = bench.runs(stateful);
    bench.office.master = Some(bench.two);
    let mut row = Row { spec, ..row("kv", bench.one, Some(bench.me)) };
    change(&mut row);
    bench.follows(0, vec![row]);
    bench
}

fn takes(bench: &mut Bench, ms: u64) -> Option<CheckpointId> {
    bench.claims(ms).into_iter().find_map(|(to, claim)| match claim {
        Claimed::Take { from } => {
            assert_eq!(to, bench.two);
            Some(from)
        }
        _ => None,
    })
}

#[test]
fn a_standby_takes_over_after_a_lease_and_the_grace_of_silence_and_says_so_once() {
    let mut bench = vigil(false, |_| ());
    let none = CheckpointId::default();
    assert_eq!(takes(&mut bench, 1_799), None);
    assert_eq!(bench.around.links.errand(&bench.two), at(31_799), "the way to the master is there");
    let takes_event = |effects: &[Effect]| {
        effects.iter().filter(|e| matches!(e, Effect::Event(Event::Takes { epoch: 3, .. }))).count()
    };
    let effects = bench.act(1_800, Failover::handle_timeout);
    assert_eq!(takes_event(&effects), 1);
    assert_eq!(takes(&mut bench, 2_049), None);
    assert_eq!(takes(&mut bench, 2_050), Some(none), "it is said again and again");
    assert_eq!(takes_event(&bench.act(2_300, Failover::handle_timeout)), 0);
}

#[test]
fn silence_counts_from_what_was_heard_last_and_never_while_a_promise_binds() {
    let mut bench = vigil(false, |_| ());
    let one = bench.one;
    let renew = |sent_ms: u64, acked_ms: u64, lease_ms| Renew {
        instance: kv(),
        epoch: Epoch(3),
        sent: at(sent_ms).0,
        acked: at(acked_ms).0,
        left_ms: 0,
        life: Incarnation(1),
        lease_ms,
    };
    bench.act(1_000, |f, turn, office| f.on_renew(turn, office, one, renew(990, 0, 1_500)));
    assert_eq!(takes(&mut bench, 2_799), None);
    assert!(takes(&mut bench, 2_800).is_some());
    let mut bench = vigil(false, |_| ());
    bench.failover.has_promised(&kv(), bench.two, at(4_000));
    assert_eq!(takes(&mut bench, 3_999), None, "a promise to an earlier one");
    assert!(takes(&mut bench, 4_000).is_some());
    let mut bench = vigil(false, |_| ());
    bench.failover.silent_until = at(5_000);
    assert_eq!(takes(&mut bench, 4_999), None, "one that is forgotten");
    assert!(takes(&mut bench, 5_000).is_some());
}

#[test]
fn an_active_is_heard_for_two_heartbeats_after_its_last_word() {
    let mut bench = vigil(false, |_| ());
    let row = row("kv", bench.one, Some(bench.me));
    let hears = |bench: &mut Bench, ms| bench.failover.hears_active(&row, at(ms));
    assert!(hears(&mut bench, 500) && !hears(&mut bench, 501), "since it stands by");
    let one = bench.one;
    let (instance, life) = (kv(), Incarnation(1));
    let sent = at(1_000).0;
    let renew =
        Renew { instance, epoch: Epoch(3), sent, acked: 0, left_ms: 0, life, lease_ms: 1_500 };
    bench.act(1_000, |f, turn, office| f.on_renew(turn, office, one, renew));
    assert!(hears(&mut bench, 1_500) && !hears(&mut bench, 1_501));
}

#[test]
fn it_takes_over_with_the_newest_state_that_goes_on_and_only_if_the_row_calls_it_ready() {
    let from = |change: fn(&mut Row), own: &[(u64, u64)]| {
        let mut bench = vigil(true, change);
        own.iter().for_each(|(epoch, seq)| bench.around.holdings.put(&kv(), state(*epoch, *seq)));
        takes(&mut bench, 1_800)
    };
    assert_eq!(from(|_| (), &[(2, 40), (3, 1), (3, 2)]), Some(state(3, 2)));
    assert_eq!(from(|_| (), &[]), None, "it has nothing");
    assert_eq!(from(|row| row.ready = false, &[(3, 2)]), None);
    assert_eq!(from(|_| (), &[(2, 41)]), None, "acknowledged writes of this right may be missing");
    assert_eq!(from(|row| row.lost = true, &[(2, 41)]), Some(state(2, 41)));
}

#[test]
fn one_that_could_not_start_it_waits_for_the_former_active_first_unless_that_lost_everything() {
    let takes_at = |change: fn(&mut Row)| {
        let mut bench = vigil(false, change);
        let spec = bench.around.directory.newest().unwrap().table.rows[0].spec;
        let unable = Report::Checked { order: spec, result: Err("no such file".to_owned()) };
        bench.report(10, unable);
        [1_800, 31_799, 32_100].map(|ms| takes(&mut bench, ms).is_some())
    };
    assert_eq!(takes_at(|_| ()), [false, false, true]);
    assert_eq!(takes_at(|row| row.lost = true), [true, true, true]);
}

#[test]
fn when_the_row_changes_it_looks_at_once_and_a_new_right_begins_the_silence_anew() {
    let mut bench = vigil(false, |row| row.ready = false);
    assert_eq!(takes(&mut bench, 1_800), None);
    let row = bench.around.directory.newest().unwrap().table.rows[0].clone();
    let ready = Row { ready: true, revision: 10, ..row.clone() };
    bench.follows(1_900, vec![ready.clone()]);
    assert!(takes(&mut bench, 1_900).is_some());
    bench.follows(2_000, vec![Row { epoch: Epoch(4), ..ready.clone() }]);
    assert_eq!(takes(&mut bench, 3_799), None);
    assert!(takes(&mut bench, 3_800).is_some());
    bench.follows(3_900, vec![Row { epoch: Epoch(5), standby: Some(bench.two), ..ready }]);
    assert!(bench.failover.vigils.is_empty(), "it does not stand by any more");
}

#[test]
fn the_order_behind_a_new_row_is_asked_for_where_it_lacks_and_only_there() {
    let wants = |known: bool| {
        let mut bench = Bench::new();
        let spec = if known { bench.runs(false) } else { [5; 32] };
        let row = Row { spec, ..row("kv", bench.one, Some(bench.me)) };
        let effects = bench.follows(0, vec![row]);
        let asked = effects.iter().filter_map(|effect| match effect {
            Effect::Send { to, message: Message::WantSpec(_) } => Some(*to),
            _ => None,
        });
        asked.collect::<BTreeSet<_>>().len()
    };
    assert_eq!((wants(true), wants(false)), (0, 2));
}

#[test]
fn the_order_behind_a_row_is_asked_of_those_who_decide_however_many_others_are_there() {
    let asked = |decides: bool| {
        let mut bench = Bench::new();
        let last = (3..12).map(|number| bench.around.peer(number)).max().unwrap();
        let row = row("kv", bench.one, Some(bench.me));
        bench.follows(0, vec![row.clone()]);
        let mut announced = bench.around.directory.newest().unwrap().clone();
        announced.table.version.number += 1;
        announced.table.voters = List::capped(decides.then_some(last));
        assert!(bench.around.directory.put(announced));
        bench.around.effects();
        let sent = bench.sent(0, |_, turn, _| want_spec(turn, &row));
        let asked: BTreeSet<NodeId> = sent.iter().map(|(to, _)| *to).collect();
        (sent.len(), asked.len(), asked.contains(&last))
    };
    assert_eq!(asked(false), (6, 6, false), "nobody is asked twice");
    assert_eq!(asked(true), (6, 6, true));
}

#[test]
fn of_a_removed_service_it_says_that_it_promises_nothing_any_more() {
    let mut bench = vigil(false, |row| (row.retiring, row.removing) = (true, true));
    let (one, two) = (bench.one, bench.two);
    bench.failover.has_promised(&kv(), one, at(900));
    bench.failover.silent_until = at(1_000);
    assert_eq!(bench.claims(100), []);
    assert_eq!(bench.claims(999), []);
    assert_eq!(bench.claims(1_000), [(two, Claimed::Stopped)]);
    assert_eq!(bench.claims(1_249), []);
    assert_eq!(bench.claims(1_250), [(two, Claimed::Stopped)]);
}

fn checks(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Check { .. })).count()
}

#[test]
fn a_board_looks_again_soon_until_it_knows_whether_it_could_start_it_and_then_now_and_then() {
    let mut bench = vigil(false, |_| ());
    let spec = bench.around.directory.newest().unwrap().table.rows[0].spec;
    let looks = |bench: &mut Bench, ms| checks(&bench.act(ms, Failover::handle_timeout));
    assert_eq!([looks(&mut bench, 0), looks(&mut bench, 999), looks(&mut bench, 1_000)], [1, 0, 1]);
    bench.report(1_500, Report::Checked { order: [8; 32], result: Ok(()) });
    assert_eq!(bench.claims(1_500), [], "that was about another order");
    bench.report(1_500, Report::Checked { order: spec, result: Ok(()) });
    let says = vec![(bench.two, Claimed::Able(true))];
    assert_eq!(bench.claims(1_500), says);
    assert_eq!(bench.claims(1_700), []);
    bench.failover.vigils.clear();
    assert_eq!([looks(&mut bench, 11_499), looks(&mut bench, 11_500)], [0, 1]);
    assert_eq!([looks(&mut bench, 21_499), looks(&mut bench, 21_500)], [0, 1]);
}

#[test]
fn the_master_is_told_whether_it_could_start_it_until_the_row_says_so() {
    let mut bench = vigil(false, |_| ());
    let row = bench.around.directory.newest().unwrap().table.rows[0].clone();
    let unable = || Report::Checked { order: row.spec, result: Err("no such file".to_owned()) };
    let effects = bench.report(10, unable());
    assert!(matches!(&effects[..], [Effect::Event(Event::Unable { .. })]));
    assert_eq!(bench.failover.unable(&kv()), Some("no such file"));
    assert_eq!(bench.report(11, unable()), [], "that is known");
    bench.act(11, Failover::handle_timeout);
    let says = |bench: &mut Bench, ms| {
        bench.claims(ms).iter().filter(|(_, c)| *c == Claimed::Able(false)).count()
    };
    assert_eq!([says(&mut bench, 1_010), says(&mut bench, 1_011)], [0, 1]);
    bench.follows(1_100, vec![Row { able: Some(false), revision: 10, ..row.clone() }]);
    assert_eq!([says(&mut bench, 1_100), says(&mut bench, 2_200)], [0, 0]);
    bench.follows(2_300, vec![Row { able: Some(true), revision: 11, ..row.clone() }]);
    assert_eq!(says(&mut bench, 2_300), 1, "it is not so any more");
    bench.report(2_400, Report::Checked { order: row.spec, result: Ok(()) });
    assert_eq!(bench.failover.unable(&kv()), None);
}

#[test]
fn a_board_that_is_to_be_filled_looks_too_and_one_that_is_not_concerned_does_not() {
    let looks = |change: fn(&mut Row, NodeId)| {
        let mut bench = Bench::new();
        let spec = bench.runs(true);
        let mut row = Row { spec, ..row("kv", bench.one, Some(bench.two)) };
        change(&mut row, bench.me);
        bench.follows(0, vec![row]);
        checks(&bench.act(0, Failover::handle_timeout))
    };
    assert_eq!(looks(|row, me| row.fill = Some(me)), 1);
    assert_eq!(looks(|row, me| row.standby = Some(me)), 1);
    assert_eq!(looks(|_, _| ()), 0);
    assert_eq!(looks(|row, me| (row.fill, row.retiring) = (Some(me), true)), 0);
}

#[test]
fn another_order_is_looked_at_anew() {
    let mut bench = vigil(false, |_| ());
    let row = bench.around.directory.newest().unwrap().table.rows[0].clone();
    bench.report(10, Report::Checked { order: row.spec, result: Err("gone".to_owned()) });
    bench.follows(20, vec![Row { revision: 10, ..row.clone() }]);
    assert!(bench.failover.unable(&kv()).is_some());
    bench.follows(30, vec![Row { revision: 11, spec: [5; 32], ..row }]);
    assert_eq!(bench.failover.unable(&kv()), None);
}
