//! What waits until the active's own word is durable.

use super::*;
use crate::proto::copies::Hosting;

/// What `copies` was told last.
fn hosting(bench: &mut Bench) -> Hosting {
    let notices = bench.failover.take_notices().into_iter().rev();
    let mut told = notices.filter_map(|notice| match notice {
        Notice::Hosting(_, hosting) => Some(hosting),
        _ => None,
    });
    told.next().expect("it was told")
}

/// Found by a reviewer: a power cut took the right from a former standby that had begun under it, and it granted the
/// former right to the former active.
#[test]
fn nothing_begins_under_a_right_before_it_is_durable_that_this_board_has_it() {
    let mut bench = Bench::new();
    let spec = bench.around.specs.put(order(1, Action::Run(Box::new(spec())))).unwrap();
    let row = Row { spec, ..row("kv", bench.me, Some(bench.one)) };
    let starts = |effects: &[Effect]| effects.iter().any(|e| matches!(e, Effect::Start { .. }));
    assert!(!starts(&bench.learns(0, vec![row.clone()])));
    assert!(!starts(&bench.grant(100, bench.one, &row)));
    let kept = |epoch| Kept::Assigned(kv(), Epoch(epoch));
    let former = row.epoch.0 - 1;
    assert!(!starts(&bench.act(110, |f, turn, _| f.on_kept(turn, kept(former)))));
    assert!(starts(&bench.act(120, |f, turn, _| f.on_kept(turn, kept(row.epoch.0)))));
    // Another right, another word; the former one was kept.
    let next = Row { epoch: Epoch(row.epoch.0 + 1), revision: row.revision + 1, ..row };
    bench.learns(200, vec![next.clone()]);
    bench.act(210, |f, turn, office| {
        f.on_report(turn, &kv(), Report::Ended { epoch: Epoch(former + 1), exit: Exit::Stopped });
        f.run_actives(turn, office);
    });
    assert!(!starts(&bench.grant(300, bench.one, &next)));
    assert!(starts(&bench.act(310, |f, turn, _| f.on_kept(turn, kept(next.epoch.0)))));
}

#[test]
fn nothing_is_captured_before_it_is_durable_that_the_instance_began() {
    let (mut bench, row) = assigned(true, |_| ());
    bench.around.holdings.put(&kv(), state(2, 40));
    begins(&mut bench, 100, &row);
    bench.report(200, started());
    let told = hosting(&mut bench);
    assert!(told.runs && !told.began_is_durable);
    bench.act(210, |f, turn, _| f.on_kept(turn, Kept::Began(kv(), row.epoch)));
    let told = hosting(&mut bench);
    assert!(told.runs && told.began_is_durable);
}

#[test]
fn a_board_that_lost_its_copies_does_not_go_on_where_commits_may_have_been_acknowledged() {
    let goes_on = |ready: bool, switching: bool| {
        let mut bench = Bench::new();
        let mut spec = ServiceSpec { state: Some(Text::capped("data")), ..spec() };
        spec.replicate.commit = Commit::Standby;
        let spec = bench.around.specs.put(order(1, Action::Run(Box::new(spec)))).unwrap();
        let fill = Some(bench.two);
        let row = Row { spec, ready, fill, ..row("kv", bench.me, Some(bench.one)) };
        bench.follows(0, vec![row.clone()]);
        let assignment = assignment(&mut bench);
        assignment.began = Some(row.epoch);
        assignment.switching = switching.then_some(row.revision);
        // The word of a former standby counts for nothing during a switch; a master's does.
        let (epoch, sent) = (row.epoch, at(100).0);
        let grant = Grant { instance: kv(), epoch, sent, lease_ms: 1_500, as_master: true };
        let two = bench.two;
        bench.office.master = Some(two);
        starts(&bench.act(110, |f, turn, office| f.on_grant(turn, office, two, &grant))) == 1
    };
    assert!(goes_on(false, false), "nothing was acknowledged: its files are what there is");
    assert!(!goes_on(true, false), "by the standby");
    assert!(!goes_on(false, true), "by both, before the standby was ready");
}

#[test]
fn nothing_is_acknowledged_by_a_standby_that_was_not_ready_before_a_switch_is_written_down() {
    let required = |ready: bool| {
        let fill = Bench::new().two;
        let change = |row: &mut Row| (row.ready, row.fill) = (ready, Some(fill));
        let (mut bench, row) = assigned(true, change);
        assignment(&mut bench).switch_kept_for = Some(row.revision);
        bench.failover.tell_copies(&kv());
        let before = hosting(&mut bench).required.len();
        let kept = Kept::Switching(kv(), row.revision);
        bench.act(10, |f, turn, _| f.on_kept(turn, kept));
        [before, hosting(&mut bench).required.len()]
    };
    assert_eq!(required(true), [2, 2]);
    assert_eq!(required(false), [0, 2]);
}
