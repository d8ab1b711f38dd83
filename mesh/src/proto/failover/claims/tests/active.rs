//! What an active claims of its row, and when it gives its standby up for another.

use super::*;
use crate::proto::failover::tests::active::{assigned, assignment, begins, fails, running};
use crate::proto::failover::tests::{Bench, kv, state};

fn holds(bench: &mut Bench, epoch: u64, seq: u64) {
    let two = bench.two;
    bench.around.holdings.confirm(&kv(), two, state(epoch, seq));
}

/// What this board claims of its row then.
fn claims(bench: &mut Bench, ms: u64) -> Option<Claimed> {
    let assignment = &bench.failover.assignments[&kv()];
    bench.failover.claim_of(&bench.around.turn(ms), assignment)
}

#[test]
fn a_standby_that_holds_a_state_of_this_right_is_ready() {
    let ready = |confirmed: (u64, u64), began| {
        let (mut bench, _) = running(true, |row| row.ready = false);
        assignment(&mut bench).began = began;
        let one = bench.one;
        bench.around.holdings.confirm(&kv(), one, state(confirmed.0, confirmed.1));
        claims(&mut bench, 300) == Some(Claimed::Ready)
    };
    let used = Some(Epoch(3));
    assert_eq!([ready((3, 1), used), ready((2, 40), used)], [true, false]);
    assert_eq!([ready((2, 40), None), ready((2, 39), None)], [true, false], "nothing has begun");
}

#[test]
fn an_unready_standby_is_waited_for_less_and_one_whose_disk_takes_nothing_for_ten_seconds() {
    let (mut bench, row) = running(true, |row| row.ready = false);
    let one = bench.one;
    // It was heard at 100.
    assert_eq!(claims(&mut bench, 1_100), None);
    assert_eq!(claims(&mut bench, 1_101), Some(Claimed::NeedStandby));
    bench.around.holdings.note_unable(&kv(), one, at(5_000));
    let unable = |bench: &mut Bench, ms| {
        bench.grant(ms, one, &row);
        claims(bench, ms)
    };
    assert_eq!(unable(&mut bench, 15_000), None);
    assert_eq!(unable(&mut bench, 15_001), Some(Claimed::NeedStandby));
}

#[test]
fn a_standby_that_left_or_makes_way_is_replaced_at_once() {
    let (mut bench, _) = running(true, |_| ());
    let one = bench.one;
    assert_eq!(claims(&mut bench, 300), None);
    bench.around.members.set_standing(&one, Standing::Left, at(250));
    assert_eq!(claims(&mut bench, 300), Some(Claimed::NeedStandby));
    bench.around.members.set_standing(&one, Standing::Up, at(250));
    let mut announced = bench.around.directory.newest().unwrap().clone();
    (announced.table.version.number, announced.table.drained) = (9, vec![one]);
    assert!(bench.around.directory.put(announced));
    assert_eq!(claims(&mut bench, 300), Some(Claimed::NeedStandby));
    assignment(&mut bench).began = None;
    assert_eq!(claims(&mut bench, 300), None, "perhaps nobody else could start it");
}

#[test]
fn a_board_that_is_being_filled_and_is_gone_is_given_up() {
    let (mut bench, _) = running(true, |_| ());
    let two = bench.two;
    assignment(&mut bench).row.fill = Some(two);
    assert_eq!(claims(&mut bench, 9_000), None);
    bench.around.members.set_standing(&two, Standing::Down, at(250));
    assert_eq!(claims(&mut bench, 3_600), None);
    assert_eq!(claims(&mut bench, 3_601), Some(Claimed::AbortFill));
    bench.around.members.set_standing(&two, Standing::Left, at(250));
    assert_eq!(claims(&mut bench, 300), Some(Claimed::AbortFill));
    bench.around.members.set_standing(&two, Standing::Up, at(250));
    bench.around.holdings.note_unable(&kv(), two, at(0));
    assert_eq!(claims(&mut bench, 10_000), None);
    assert_eq!(claims(&mut bench, 10_001), Some(Claimed::AbortFill));
}

#[test]
fn a_fill_is_given_up_for_a_standby_that_is_of_use_after_all() {
    let claims = |change: fn(&mut Row), held: bool, granted: bool| {
        let (mut bench, row) = running(true, |_| ());
        let (one, two) = (bench.one, bench.two);
        if granted {
            bench.grant(8_900, one, &row);
        }
        if held {
            bench.around.holdings.confirm(&kv(), one, state(3, 4));
        }
        let row = &mut assignment(&mut bench).row;
        (row.fill, row.ready, row.able) = (Some(two), false, None);
        change(row);
        claims(&mut bench, 9_000)
    };
    assert_eq!(claims(|_| (), true, true), Some(Claimed::AbortFill));
    assert_eq!(claims(|_| (), false, true), None, "it holds nothing");
    assert_eq!(claims(|_| (), true, false), None, "it is silent still");
    assert_eq!(claims(|row| row.able = Some(false), true, true), None);
    assert_eq!(claims(|row| row.ready = true, true, true), None, "it is replaced");
}

#[test]
fn a_filled_board_takes_over_once_what_the_former_standby_granted_has_run_out() {
    let (mut bench, _) = running(true, |_| ());
    (assignment(&mut bench).switching, assignment(&mut bench).former_until) = (Some(9), at(2_000));
    assert_eq!(claims(&mut bench, 1_999), None);
    assert_eq!(claims(&mut bench, 2_000), Some(Claimed::Filled));
}

#[test]
fn an_order_to_go_back_is_claimed_while_it_is_waited_for() {
    let (mut bench, _) = running(true, |_| ());
    assignment(&mut bench).restoring = Some((state(2, 40), at(6_000)));
    assert_eq!(claims(&mut bench, 5_999), Some(Claimed::Restore(state(2, 40))));
    assert_ne!(claims(&mut bench, 6_000), Some(Claimed::Restore(state(2, 40))));
}

#[test]
fn a_service_that_is_removed_has_stopped_once_it_rests_here_and_is_not_only_lost_sight_of() {
    let stopped = |removing, run, ms| {
        let (mut bench, row) = running(true, |_| ());
        bench.follows(300, vec![Row { revision: 10, retiring: true, removing, ..row }]);
        (assignment(&mut bench).run, assignment(&mut bench).former_until) = (run, at(1_000));
        claims(&mut bench, ms) == Some(Claimed::Stopped)
    };
    assert!(stopped(true, Run::Idle, 1_000) && stopped(true, Run::Waiting(at(9_000)), 1_000));
    assert!(!stopped(true, Run::Idle, 999) && !stopped(true, Run::Stopping, 1_000));
    assert!(!stopped(false, Run::Idle, 1_000));
}

#[test]
fn what_cannot_begin_says_with_what_more_than_the_row_names_it_would() {
    let says = |own: (u64, u64), failed: bool| {
        let (mut bench, row) = assigned(true, |_| ());
        bench.around.holdings.put(&kv(), state(own.0, own.1));
        begins(&mut bench, 100, &row);
        if failed {
            bench.report(200, fails());
        }
        claims(&mut bench, 300)
    };
    assert_eq!(says((2, 41), true), Some(Claimed::Begins(state(2, 41))));
    assert_eq!(says((2, 41), false), None);
    assert_eq!(says((2, 40), true), None, "that is what the row names");
}

#[test]
fn where_both_boards_failed_a_third_one_is_asked_for() {
    let (mut bench, row) = assigned(true, |row| row.released = true);
    bench.around.holdings.put(&kv(), state(2, 40));
    begins(&mut bench, 100, &row);
    let one = bench.one;
    for ms in [200, 300, 400] {
        assert_ne!(claims(&mut bench, ms), Some(Claimed::NeedAnother));
        bench.report(ms, fails());
    }
    bench.grant(450, one, &row);
    assert_eq!(claims(&mut bench, 500), Some(Claimed::NeedAnother));
    assert!(!assignment(&mut bench).is_for_others(at(60_000 - 1)));
    assert!(assignment(&mut bench).is_for_others(at(60_000)), "back now and then");
}

#[test]
fn a_switch_is_written_down_once_the_new_board_holds_as_much_and_the_master_carries_on() {
    let switches = |change: fn(&mut Bench)| {
        let (mut bench, _) = running(true, |_| ());
        let two = bench.two;
        let master = bench.around.peer(5);
        bench.office.master = Some(master);
        assignment(&mut bench).row.fill = Some(two);
        let (instance, epoch) = (kv(), Epoch(3));
        let grant = Grant { instance, epoch, sent: at(250).0, lease_ms: 1_500, as_master: true };
        bench.act(260, |f, turn, office| f.on_grant(turn, office, master, &grant));
        let one = bench.one;
        bench.around.holdings.confirm(&kv(), one, state(3, 5));
        change(&mut bench);
        let effects = bench.act(300, |f, turn, office| f.switch_if_filled(turn, office, &kv()));
        let writes = |e: &Effect| {
            matches!(e, Effect::Persist { record: Record::Switching { revision: 9, .. }, .. })
        };
        effects.iter().any(writes)
    };
    assert!(!switches(|_| ()), "it holds nothing");
    assert!(!switches(|bench| holds(bench, 3, 4)));
    assert!(!switches(|bench| holds(bench, 2, 40)));
    let filled = |bench: &mut Bench| holds(bench, 3, 5);
    assert!(switches(filled));
    assert!(
        !switches(|bench| {
            holds(bench, 3, 5);
            assignment(bench).switching = Some(9);
        }),
        "that is written already"
    );
    assert!(!switches(|bench| {
        holds(bench, 3, 5);
        assignment(bench).row.retiring = true;
    }));
    assert!(
        !switches(|bench| {
            holds(bench, 3, 5);
            assignment(bench).recalled = Some(state(3, 6));
            bench.around.holdings.forget_confirmed(&kv());
            holds(bench, 3, 5);
        }),
        "at most that the former one had confirmed before a restart"
    );
    let (mut bench, _) = running(true, |_| ());
    holds(&mut bench, 3, 5);
    bench.act(300, |f, turn, office| f.switch_if_filled(turn, office, &kv()));
    assert!(assignment(&mut bench).switch_kept_for.is_none(), "nobody is being filled");
}
