//! Leases: who asks whom, who grants what, and what counts.

use super::*;

fn renew(epoch: u64, sent_ms: u64, acked_ms: u64) -> Renew {
    let (sent, acked) = (at(sent_ms).0, at(acked_ms).0);
    let (epoch, life) = (Epoch(epoch), Incarnation(1));
    Renew { instance: kv(), epoch, sent, acked, left_ms: 0, life, lease_ms: 1_500 }
}

/// What this board grants then: milliseconds, and whether as master.
fn granted(bench: &mut Bench, ms: u64, from: NodeId, renew: Renew) -> Option<(u32, bool)> {
    let sent_at = renew.sent;
    let sent = bench.sent(ms, |f, turn, office| f.on_renew(turn, office, from, renew));
    match &sent[..] {
        [] => None,
        [(to, Message::Grant(grant))] => {
            assert_eq!((*to, grant.sent), (from, sent_at), "it names the request");
            Some((grant.lease_ms, grant.as_master))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_standby_grants_to_the_active_of_the_present_right_and_to_nobody_else() {
    let mut bench = Bench::new();
    let (one, two) = (bench.one, bench.two);
    let row = row("kv", one, Some(bench.me));
    bench.follows(0, vec![row.clone()]);
    assert_eq!(granted(&mut bench, 100, two, renew(3, 90, 0)), None);
    assert_eq!(granted(&mut bench, 100, one, renew(2, 90, 0)), None);
    assert_eq!(granted(&mut bench, 100, one, renew(3, 90, 0)), Some((1_500, false)));
    let (to, until) = bench.failover.promise(&kv()).unwrap();
    assert_eq!((to, until), (one, at(100) + promised(Duration::from_millis(1_500))));
    let longer = Renew { lease_ms: 9_000, ..renew(3, 100, 90) };
    assert_eq!(
        granted(&mut bench, 110, one, longer),
        Some((1_500, false)),
        "its own preset counts"
    );
    for changed in [Row { retiring: true, ..row.clone() }, Row { lost: true, ..row }] {
        bench.follows(120, vec![Row { revision: 20 + bench.version, ..changed }]);
        assert_eq!(granted(&mut bench, 130, one, renew(3, 120, 100)), None);
    }
    assert!(bench.failover.take_notices().iter().all(|n| !matches!(n, Notice::Tell(_))));
}

#[test]
fn what_a_master_grants_ends_with_its_own_lease_and_it_tells_who_was_replaced() {
    let mut bench = Bench::new();
    let (one, two) = (bench.one, bench.two);
    bench.follows(0, vec![row("kv", one, Some(two))]);
    assert_eq!(granted(&mut bench, 90, one, renew(3, 90, 0)), None, "it is neither");
    bench.reigns(1_100);
    assert_eq!(granted(&mut bench, 100, one, renew(3, 90, 0)), Some((980, true)));
    assert_eq!(granted(&mut bench, 850, one, renew(3, 840, 90)), None, "shorter than a heartbeat");
    bench.failover.take_notices();
    assert_eq!(granted(&mut bench, 200, two, renew(2, 190, 0)), None);
    assert_eq!(bench.failover.take_notices(), [Notice::Tell(two)]);
    assert_eq!(granted(&mut bench, 200, two, renew(3, 190, 0)), None);
    assert_eq!(bench.failover.take_notices(), [], "it knows that row");
}

#[test]
fn a_master_grants_nothing_while_the_right_moves_unless_it_stands_by() {
    let grants = |standby_is_me, moves| {
        let mut bench = Bench::new();
        let standby = if standby_is_me { bench.me } else { bench.two };
        let one = bench.one;
        bench.follows(0, vec![row("kv", one, Some(standby))]);
        bench.reigns(60_000);
        bench.office.changing.insert(kv(), moves);
        granted(&mut bench, 100, one, renew(3, 90, 0))
    };
    assert_eq!(grants(false, true), None);
    assert_eq!(grants(false, false), Some((1_500, true)), "only a standby changes, say");
    assert_eq!(grants(true, true), Some((1_500, false)));
}

/// Found by a reviewer's schedules: a master that stood by was started again, and its active had nothing left to go
/// on with, since what it had been granted ended with the reign.
#[test]
fn a_master_that_stands_by_promises_as_a_standby_unless_another_takes_its_place() {
    let grants = |fill| {
        let mut bench = Bench::new();
        let (me, one) = (bench.me, bench.one);
        let fill = if fill { Some(bench.two) } else { None };
        bench.follows(0, vec![Row { fill, ..row("kv", one, Some(me)) }]);
        bench.reigns(1_100);
        granted(&mut bench, 100, one, renew(3, 90, 0))
    };
    assert_eq!(grants(false), Some((1_500, false)));
    assert_eq!(grants(true), Some((980, true)), "that one counts the silence soon");
}

#[test]
fn an_active_asks_at_once_when_the_link_to_its_standby_is_back() {
    let (mut bench, row) = super::active::running(true, |_| ());
    let standby = row.standby.unwrap();
    let asks = |bench: &mut Bench, ms| {
        let sent = bench.sent(ms, Failover::handle_timeout);
        sent.iter().any(|(to, m)| *to == standby && matches!(m, Message::Renew(_)))
    };
    assert!(asks(&mut bench, 1_000) && !asks(&mut bench, 1_001));
    bench.failover.on_linked(bench.me, at(1_002));
    assert!(!asks(&mut bench, 1_002), "that is not its standby");
    bench.failover.on_linked(standby, at(1_003));
    assert!(asks(&mut bench, 1_003) && !asks(&mut bench, 1_065));
    assert!(asks(&mut bench, 1_066), "it may not have known yet what it is asked about");
    bench.grant(1_070, standby, &row);
    assert!(asks(&mut bench, 1_130) && !asks(&mut bench, 1_379), "now it has granted");
    bench.failover.on_linked(standby, at(2_000));
    bench.failover.on_linked(standby, at(2_001));
    let often = (2_000..4_000).filter(|ms| asks(&mut bench, *ms)).count();
    assert_eq!(often, 8 + 6, "for two heartbeats, and then as usual");
}

#[test]
fn an_active_that_does_not_hear_what_is_granted_is_granted_no_more_after_a_lease() {
    let mut bench = Bench::new();
    let one = bench.one;
    bench.follows(0, vec![row("kv", one, Some(bench.me))]);
    let mut asks = |ms, acked| granted(&mut bench, ms, one, renew(3, ms, acked)).is_some();
    assert!(asks(100, 0) && asks(1_600, 0));
    assert!(!asks(1_601, 0), "it sends and cannot hear");
    assert!(asks(1_700, 1_600) && asks(3_200, 1_600));
    assert!(!asks(3_201, 1_600));
    // The promise of 3,200 ms is over at 4,731; a standby that wants to take over has a lease for it.
    assert!(!asks(6_230, 1_600));
    assert!(asks(6_231, 1_600), "nobody took over: it begins anew");
}

#[test]
fn a_promise_to_one_binds_against_another_until_it_ends() {
    let mut bench = Bench::new();
    let (one, two, me) = (bench.one, bench.two, bench.me);
    bench.failover.has_promised(&kv(), two, at(1_000));
    bench.follows(0, vec![row("kv", one, Some(me))]);
    assert_eq!(granted(&mut bench, 999, one, renew(3, 990, 0)), None);
    assert!(granted(&mut bench, 1_000, one, renew(3, 1_000, 0)).is_some());
    assert_eq!(bench.failover.is_bound_to(&bench.around.turn(1_001), &kv()), Some(one));
    bench.failover.has_promised(&kv(), me, at(9_000));
    assert_eq!(bench.failover.is_bound_to(&bench.around.turn(1_001), &kv()), None);
}

#[test]
fn after_a_right_was_given_up_a_promise_to_an_earlier_active_still_binds() {
    let grants = |to_who_gave_it_up: bool| {
        let mut bench = Bench::new();
        let (me, one, two) = (bench.me, bench.one, bench.two);
        bench.reigns(60_000);
        bench.follows(0, vec![Row { released: true, ..row("kv", one, Some(two)) }]);
        let to = if to_who_gave_it_up { two } else { me };
        bench.failover.has_promised(&kv(), to, at(5_000));
        [100, 5_100].map(|ms| granted(&mut bench, ms, one, renew(3, ms, 0)).is_some())
    };
    assert_eq!(grants(true), [true, true], "whoever gave it up runs nothing any more");
    assert_eq!(grants(false), [false, true], "an earlier one may still");
}

#[test]
fn after_a_restart_a_standby_grants_nothing_until_what_it_forgot_is_over_or_shown_to_bind_still() {
    let mut bench = Bench::after(1_500);
    let one = bench.one;
    bench.follows(0, vec![row("kv", one, Some(bench.me))]);
    let asks = |bench: &mut Bench, ms, left_ms| {
        granted(bench, ms, one, Renew { left_ms, ..renew(3, ms, 0) }).is_some()
    };
    assert!(!asks(&mut bench, 100, 0));
    assert!(!asks(&mut bench, 100, 102), "98 % of that is over");
    for life in [0, 2] {
        let of_another = Renew { left_ms: 1_400, life: Incarnation(life), ..renew(3, 100, 0) };
        assert!(
            granted(&mut bench, 100, one, of_another).is_none(),
            "it was meant for life {life}"
        );
    }
    assert!(asks(&mut bench, 100, 103), "its word for this one binds at this moment");
    let free = promised(Duration::from_millis(1_500)).as_millis() as u64;
    let mut bench = Bench::after(1_500);
    bench.follows(0, vec![row("kv", one, Some(bench.me))]);
    assert!(!asks(&mut bench, free - 1, 9_000) && asks(&mut bench, free + 1, 0));
    let mut master = Bench::after(1_500);
    master.follows(0, vec![row("kv", one, Some(master.two))]);
    master.reigns(60_000);
    assert!(asks(&mut master, 100, 0), "nothing that a former master granted outlives its reign");
}

/// Whom this board asks then.
fn asked(bench: &mut Bench, ms: u64) -> Vec<NodeId> {
    let sent = bench.sent(ms, |f, turn, office| f.renew(turn, office, &kv()));
    sent.iter().filter(|(_, m)| matches!(m, Message::Renew(_))).map(|(to, _)| *to).collect()
}

#[test]
fn an_active_asks_its_standby_and_without_its_word_whoever_might_be_master() {
    let mut bench = Bench::new();
    let (one, two, master) = (bench.one, bench.two, bench.around.peer(3));
    bench.office.master = Some(master);
    bench.office.electorate = vec![master, two];
    let row = row("kv", bench.me, Some(one));
    bench.follows(0, vec![row.clone()]);
    assert_eq!(asked(&mut bench, 0), [one, master, two], "there is no lease yet");
    assert_eq!(asked(&mut bench, 249), []);
    bench.grant(250, one, &row);
    assert_eq!(asked(&mut bench, 750), [one], "the pair needs no master");
    assert_eq!(bench.around.links.errand(&one), at(30_750));
    assert_eq!(asked(&mut bench, 1_001), [one, master, two], "silent for two heartbeats");
    let (instance, epoch) = (kv(), Epoch(3));
    let grant = Grant { instance, epoch, sent: at(1_001).0, lease_ms: 1_500, as_master: true };
    bench.act(1_010, |f, turn, office| f.on_grant(turn, office, master, &grant));
    assert_eq!(asked(&mut bench, 1_751), [one, master], "that one grants");
    assert_eq!(asked(&mut bench, 2_002), [one, master, two]);
    bench.grant(2_010, one, &row);
    bench.follows(2_020, vec![Row { fill: Some(two), revision: 10, ..row }]);
    assert_eq!(asked(&mut bench, 2_020), [one, master, two], "the standby is about to be replaced");
}

#[test]
fn a_request_shows_what_of_it_was_heard_and_how_long_it_lasts() {
    let mut bench = Bench::new();
    let one = bench.one;
    let row = row("kv", bench.me, Some(one));
    bench.follows(0, vec![row.clone()]);
    bench.grant(100, one, &row);
    let sent = bench.sent(350, |f, turn, office| f.renew(turn, office, &kv()));
    let renew = Renew { left_ms: 1_250, ..renew(3, 350, 100) };
    assert_eq!(sent, [(one, Message::Renew(renew))]);
}

#[test]
fn only_the_word_of_the_standby_or_of_a_master_about_the_present_right_counts() {
    let until = |from: u8, epoch, as_master| {
        let mut bench = Bench::new();
        let (master, other) = (bench.two, bench.around.peer(3));
        bench.office.master = Some(master);
        let row = row("kv", bench.me, Some(bench.one));
        bench.follows(0, vec![row]);
        let from = [bench.one, master, other][usize::from(from)];
        let (instance, epoch) = (kv(), Epoch(epoch));
        let grant = Grant { instance, epoch, sent: at(100).0, lease_ms: 9_000, as_master };
        bench.act(110, |f, turn, office| f.on_grant(turn, office, from, &grant));
        bench.failover.assignments[&kv()].lease.until()
    };
    let lease = at(1_600);
    assert_eq!([until(0, 3, false), until(1, 3, true)], [lease; 2], "never longer than its own");
    for (from, epoch, as_master) in [(0, 2, false), (1, 3, false), (2, 3, true), (1, 4, true)] {
        assert_eq!(until(from, epoch, as_master), Time::default(), "{from} {epoch} {as_master}");
    }
}

#[test]
fn a_grant_prolongs_what_runs_unless_it_is_no_news_or_too_short() {
    let mut bench = Bench::new();
    let (one, spec) = (bench.one, bench.runs(false));
    let row = Row { spec, ..row("kv", bench.me, Some(one)) };
    bench.follows(0, vec![row.clone()]);
    assert_eq!(starts(&bench.grant(100, one, &row)), 1);
    let extends = |effects: Vec<Effect>| match &effects[..] {
        [Effect::Extend { epoch: Epoch(3), until, .. }] => Some(*until),
        [] => None,
        other => panic!("{other:?}"),
    };
    assert_eq!(extends(bench.grant(300, one, &row)), Some(at(1_800)), "while it starts");
    bench.report(400, started());
    assert_eq!(extends(bench.grant(500, one, &row)), Some(at(2_000)));
    assert_eq!(extends(bench.grant(500, one, &row)), None, "the same once more");
    let (instance, epoch) = (kv(), Epoch(3));
    let mut late = |ms| {
        let sent = at(510).0;
        let (instance, lease_ms, as_master) = (instance.clone(), 1_500, false);
        let grant = Grant { instance, epoch, sent, lease_ms, as_master };
        extends(bench.act(ms, |f, turn, office| f.on_grant(turn, office, one, &grant)))
    };
    assert_eq!(late(1_810), None, "it would be killed by then");
    let future = Grant { instance, epoch, sent: at(901).0, lease_ms: 1_500, as_master: false };
    let effects = bench.act(900, |f, turn, office| f.on_grant(turn, office, one, &future));
    assert!(matches!(effects[..], [Effect::Event(Event::Misbehaved { .. })]));
}
