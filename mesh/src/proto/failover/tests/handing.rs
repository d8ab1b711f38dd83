//! The handover: in favour of whom, in which order, and what ends it.

use super::*;
use crate::proto::failover::active::Run;

/// This board runs `kv` under its third right, protected by a standby that could start it.
fn running(stateful: bool, change: impl FnOnce(&mut Row)) -> Bench {
    let mut bench = Bench::new();
    let spec = bench.runs(stateful);
    bench.office.master = Some(bench.two);
    let mut row = Row { spec, able: Some(true), ..row("kv", bench.me, Some(bench.one)) };
    change(&mut row);
    bench.around.holdings.put(&kv(), state(2, 40));
    bench.follows(0, vec![row.clone()]);
    let one = bench.one;
    bench.grant(100, one, &row);
    bench.report(200, started());
    bench.failover.take_notices();
    bench
}

fn begins(bench: &mut Bench, ms: u64) -> Result<(), &'static str> {
    bench.failover.begin_handover(&mut bench.around.turn(ms), &kv())
}

fn closes(bench: &mut Bench) -> Vec<bool> {
    let notices = bench.failover.take_notices().into_iter();
    let closes = notices.filter_map(|notice| match notice {
        Notice::Close(_, on) => Some(on),
        _ => None,
    });
    closes.collect()
}

#[test]
fn what_cannot_be_handed_over_says_why() {
    let refused = |change: fn(&mut Row)| begins(&mut running(true, change), 300).err();
    assert_eq!(refused(|_| ()), None);
    for unready in [
        (|row: &mut Row| row.standby = None) as fn(&mut Row),
        |row| row.ready = false,
        |row| row.fill = Some(row.active),
    ] {
        assert_eq!(refused(unready), Some("no standby is ready to carry on"));
    }
    for unable in [None, Some(false)] {
        let mut bench = running(true, |_| ());
        bench.failover.assignments.get_mut(&kv()).unwrap().row.able = unable;
        assert!(begins(&mut bench, 300).unwrap_err().contains("could not start it"));
    }
    let mut bench = running(true, |_| ());
    bench.failover.assignments.get_mut(&kv()).unwrap().run = Run::Starting;
    assert_eq!(begins(&mut bench, 300), Err("it is being started"));
    bench.failover.assignments.clear();
    assert_eq!(begins(&mut bench, 300), Err("it does not run on this board"));
    let mut bench = running(true, |_| ());
    begins(&mut bench, 300).unwrap();
    assert_eq!(begins(&mut bench, 310), Err("it is being moved already"));
}

fn stops(effects: &[Effect]) -> usize {
    effects.iter().filter(|e| matches!(e, Effect::Stop { kill: true, .. })).count()
}

fn released(effects: &[Effect]) -> Option<CheckpointId> {
    effects.iter().find_map(|effect| match effect {
        Effect::Persist { record: Record::Released { last, .. }, .. } => Some(*last),
        _ => None,
    })
}

#[test]
fn the_last_state_is_captured_then_copied_then_the_service_killed_and_only_then_the_master_told() {
    let mut bench = running(true, |_| ());
    let (one, two) = (bench.one, bench.two);
    begins(&mut bench, 300).unwrap();
    assert_eq!(closes(&mut bench), [true]);
    assert_eq!(bench.around.effects(), []);
    assert_eq!(bench.act(310, |f, turn, _| f.on_final(turn, &kv(), Some(state(3, 8)))), []);
    bench.around.holdings.confirm(&kv(), one, state(3, 7));
    assert_eq!(bench.act(320, |f, turn, _| f.on_progress(turn, &kv())), [], "an older one");
    bench.around.holdings.confirm(&kv(), one, state(3, 8));
    let effects = bench.act(330, |f, turn, _| f.on_progress(turn, &kv()));
    assert_eq!((stops(&effects), released(&effects)), (1, None));
    let claims = bench.claims(331);
    assert!(claims.is_empty(), "{claims:?}");
    let effects = bench.report(340, ended(Exit::Stopped));
    assert_eq!(released(&effects), Some(state(3, 8)));
    assert_eq!(bench.claims(600), [], "not before that is durable");
    let kept = Kept::Released(kv(), Epoch(3));
    bench.act(610, |f, turn, _| f.on_kept(turn, kept));
    let release = Claimed::Release { to: one, last: state(3, 8) };
    assert_eq!(bench.claims(610), [(two, release)]);
    assert!(bench.failover.assignments[&kv()].is_released());
    assert_eq!(
        starts(&bench.act(5_000, Failover::handle_timeout)),
        0,
        "never again under this right"
    );
}

#[test]
fn a_service_without_a_state_is_killed_at_once() {
    let mut bench = running(false, |_| ());
    begins(&mut bench, 300).unwrap();
    assert_eq!(stops(&bench.around.effects()), 1);
    assert!(closes(&mut bench).is_empty());
    let effects = bench.report(310, ended(Exit::Stopped));
    assert_eq!(released(&effects), Some(CheckpointId::default()));
}

#[test]
fn a_handover_that_takes_too_long_is_given_up_and_the_service_left_in_peace_for_a_while() {
    let mut bench = running(true, |_| ());
    begins(&mut bench, 300).unwrap();
    closes(&mut bench);
    let thaws = |effects: &[Effect]| effects.iter().any(|e| matches!(e, Effect::Thaw { .. }));
    assert!(!thaws(&bench.act(3_299, |f, turn, _| f.hand_over(turn, &kv()))));
    assert!(thaws(&bench.act(3_300, |f, turn, _| f.hand_over(turn, &kv()))));
    assert_eq!(closes(&mut bench), [false]);
    assert_eq!(bench.failover.assignments[&kv()].hand_over_after, at(33_300));
    assert_eq!(bench.act(3_301, |f, turn, _| f.on_final(turn, &kv(), None)), [], "it is over");
    begins(&mut bench, 3_400).expect("an operator may order it all the same");
    let failed = bench.act(3_410, |f, turn, _| f.on_final(turn, &kv(), None));
    assert!(thaws(&failed), "it could not be captured");
}

#[test]
fn what_is_being_killed_or_written_down_is_not_taken_back() {
    let mut bench = running(false, |_| ());
    begins(&mut bench, 300).unwrap();
    bench.around.effects();
    assert_eq!(bench.act(9_000, |f, turn, _| f.hand_over(turn, &kv())), []);
    let row = bench.failover.assignments[&kv()].row.clone();
    bench.follows(9_100, vec![Row { revision: 10, ..row }]);
    assert!(bench.failover.assignments[&kv()].handover.is_some());
    let sent = bench.sent(9_200, |f, turn, office| f.renew(turn, office, &kv()));
    assert_eq!(sent, [], "it needs no lease any more");
}

#[test]
fn a_newer_row_takes_back_a_handover_that_has_only_begun() {
    let mut bench = running(true, |_| ());
    begins(&mut bench, 300).unwrap();
    closes(&mut bench);
    let row = bench.failover.assignments[&kv()].row.clone();
    let effects = bench.follows(310, vec![Row { revision: 10, ready: false, ..row }]);
    assert!(effects.iter().any(|e| matches!(e, Effect::Thaw { .. })));
    assert_eq!(closes(&mut bench), [false]);
    assert!(bench.failover.assignments[&kv()].handover.is_none());
}

#[test]
fn what_never_began_here_goes_on_with_what_it_would_have_begun_with() {
    let mut bench = running(true, |_| ());
    let assignment = bench.failover.assignments.get_mut(&kv()).unwrap();
    (assignment.began, assignment.run) = (None, Run::Idle);
    let one = bench.one;
    bench.around.holdings.confirm(&kv(), one, state(2, 40));
    begins(&mut bench, 300).unwrap();
    assert_eq!(released(&bench.around.effects()), Some(state(2, 40)));
    let mut bench = running(true, |_| ());
    let assignment = bench.failover.assignments.get_mut(&kv()).unwrap();
    (assignment.began, assignment.run) = (None, Run::Idle);
    bench.around.holdings.keep(&kv(), &[]);
    assert_eq!(begins(&mut bench, 300), Err("the state that it would begin with is not here"));
}

#[test]
fn who_owes_a_promise_to_a_former_active_does_not_give_away_what_it_never_used() {
    let mut bench = running(false, |_| ());
    let assignment = bench.failover.assignments.get_mut(&kv()).unwrap();
    (assignment.began, assignment.run) = (None, Run::Idle);
    let former = bench.around.peer(7);
    bench.failover.has_promised(&kv(), former, at(2_000));
    begins(&mut bench, 300).unwrap();
    assert_eq!(released(&bench.around.effects()), None);
    let hands =
        |bench: &mut Bench, ms| released(&bench.act(ms, |f, turn, _| f.hand_over(turn, &kv())));
    assert_eq!(hands(&mut bench, 1_999), None);
    assert!(hands(&mut bench, 2_000).is_some());
    let mut bench = running(false, |_| ());
    bench.failover.has_promised(&kv(), former, at(2_000));
    begins(&mut bench, 300).unwrap();
    assert!(released(&bench.report(310, ended(Exit::Stopped))).is_some(), "it was used");
}

#[test]
fn a_board_that_goes_away_hands_everything_over_and_one_that_leaves_looks_at_once() {
    let mut bench = running(false, |_| ());
    let assignment = bench.failover.assignments.get_mut(&kv()).unwrap();
    assignment.claim_at = at(9_000);
    bench.failover.hurry_away(&bench.around.turn(300));
    assert_eq!(bench.failover.assignments[&kv()].claim_at, at(300));
    bench.failover.hurry_away(&bench.around.turn(400));
    assert_eq!(bench.failover.assignments[&kv()].claim_at, at(300));
    assert_eq!(stops(&bench.act(500, |f, turn, _| f.resign_all(turn))), 1);
    let mut bench = running(false, |_| ());
    assert_eq!(stops(&bench.act(500, |f, turn, _| f.resign(turn, &kv()))), 1);
    let mut bench = running(false, |row| row.released = true);
    let effects = bench.act(500, |f, turn, _| f.resign(turn, &kv()));
    assert_eq!(stops(&effects), 0, "a handover has just brought it here");
}

#[test]
fn a_standby_that_is_given_up_counts_no_more_once_that_is_durable() {
    let mut bench = running(true, |row| row.fill = Some(row.active));
    let one = bench.one;
    let until = bench.failover.assignments[&kv()].lease.until();
    bench.act(300, |f, turn, _| f.on_kept(turn, Kept::Switching(kv(), 8)));
    assert!(!bench.failover.assignments[&kv()].is_switching(), "of an older row");
    bench.act(300, |f, turn, _| f.on_kept(turn, Kept::Switching(kv(), 9)));
    let assignment = &bench.failover.assignments[&kv()];
    assert!(assignment.is_switching() && assignment.lease.sent(&one).is_none());
    assert_eq!((assignment.former_until, assignment.claim_at), (until, at(300)));
    let row = assignment.row.clone();
    bench.grant(400, one, &row);
    assert_eq!(bench.failover.assignments[&kv()].lease.until(), Time::default());
    bench.act(500, |f, turn, _| f.on_kept(turn, Kept::Released(kv(), Epoch(2))));
    assert!(bench.failover.assignments[&kv()].claim_at == at(300), "of an older right");
}
