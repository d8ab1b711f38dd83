use super::*;
use crate::proto::bounded::Text;
use crate::proto::order::Action;
use crate::proto::order::samples::{order, spec};
use crate::proto::promises::Preset;
use crate::proto::spec::ServiceSpec;
use crate::proto::table::samples::row;
use crate::proto::turn::samples::{Surroundings, at};
use crate::proto::wire::failover::Grant;

#[test]
fn what_kept_running_in_isolation_while_another_had_the_right_is_told_and_set_aside() {
    let set_aside = |on_isolation| {
        let mut board = Surroundings::new();
        let other = board.peer(1);
        let spec = ServiceSpec { on_isolation, state: Some(Text::capped("data")), ..spec() };
        let spec = board.specs.put(order(1, Action::Run(Box::new(spec)))).unwrap();
        let row = Row { spec, ..row("kv", board.turn(0).me.id(), Some(other)) };
        board.knows(1, vec![row.clone()]);
        let mut failover = Failover::new(Preset::LAN, 0, at(0));
        failover.on_table(&mut board.turn(0));
        failover.assignments.get_mut(&row.instance()).unwrap().run = Run::Running;
        let taken = Row { epoch: Epoch(4), previous: Epoch(3), active: other, ..row };
        board.knows(2, vec![taken]);
        board.effects();
        failover.on_table(&mut board.turn(9_000));
        let aside = |e: &&Effect| matches!(e, Effect::KeepAside { epoch: Epoch(3), .. });
        board.effects().iter().filter(aside).count()
    };
    assert_eq!(set_aside(OnIsolation::KeepRunning), 1);
    assert_eq!(set_aside(OnIsolation::Fence), 0, "it was killed in time");
}

#[test]
fn what_begins_for_the_first_time_finds_an_empty_folder_and_what_was_moved_unused_its_own() {
    let begins = |released| {
        let mut board = Surroundings::new();
        let standby = board.peer(1);
        let spec = ServiceSpec { state: Some(Text::capped("data")), ..spec() };
        let spec = board.specs.put(order(1, Action::Run(Box::new(spec)))).unwrap();
        let (previous, base) = Default::default();
        let row = row("kv", board.turn(0).me.id(), Some(standby));
        let row = Row { previous, base, spec, released, ..row };
        let (instance, epoch) = (row.instance(), row.epoch);
        board.knows(1, vec![row]);
        let mut failover = Failover::new(Preset::LAN, 0, at(0));
        failover.on_table(&mut board.turn(0));
        let (sent, lease_ms, as_master) = (at(100).0, 1500, false);
        let grant = Grant { instance, epoch, sent, lease_ms, as_master };
        failover.on_grant(&mut board.turn(110), &Office::default(), standby, &grant);
        board.effects().into_iter().find_map(|effect| match effect {
            Effect::Start { begin, .. } => Some(begin),
            _ => None,
        })
    };
    assert_eq!(begins(false), Some(Begin::Empty { anew: true }));
    assert_eq!(begins(true), Some(Begin::Empty { anew: false }));
}

#[test]
fn a_right_that_was_given_up_frees_from_no_promise_but_to_whoever_gave_it_up() {
    let starts = |promised: u8| {
        let mut board = Surroundings::new();
        let [giver, _] = [1, 2].map(|number| board.peer(number));
        let to = board.peer(promised);
        let spec = board.specs.put(order(1, Action::Run(Box::new(spec())))).unwrap();
        let row = Row { spec, released: true, ..row("kv", board.turn(0).me.id(), Some(giver)) };
        let (instance, epoch) = (row.instance(), row.epoch);
        board.knows(1, vec![row]);
        let mut failover = Failover::new(Preset::LAN, 0, at(0));
        failover.on_table(&mut board.turn(0));
        failover.has_promised(&instance, to, at(5_000));
        let mut starts_at = |ms: u64| {
            let (sent, lease_ms, as_master) = (at(ms - 10).0, 1500, false);
            let grant = Grant { instance: instance.clone(), epoch, sent, lease_ms, as_master };
            failover.on_grant(&mut board.turn(ms), &Office::default(), giver, &grant);
            board.effects().iter().any(|effect| matches!(effect, Effect::Start { .. }))
        };
        [starts_at(110), starts_at(5_010)]
    };
    assert_eq!(starts(1), [true, false], "whoever gave it up runs nothing any more");
    assert_eq!(starts(2), [false, true], "an earlier one may still");
}

#[test]
fn what_waited_for_its_specification_starts_when_that_arrives() {
    let mut board = Surroundings::new();
    let standby = board.peer(1);
    let signed = order(1, Action::Run(Box::new(spec())));
    let hash = signed.hash();
    let row = Row { spec: hash, ..row("kv", board.turn(0).me.id(), Some(standby)) };
    let (instance, epoch) = (row.instance(), row.epoch);
    board.knows(1, vec![row]);
    let mut failover = Failover::new(Preset::LAN, 0, at(0));
    failover.on_table(&mut board.turn(0));
    let (sent, lease_ms, as_master) = (at(100).0, 1500, false);
    let grant = Grant { instance, epoch, sent, lease_ms, as_master };
    failover.on_grant(&mut board.turn(110), &Office::default(), standby, &grant);
    let starts = |board: &mut Surroundings| {
        board.effects().iter().filter(|e| matches!(e, Effect::Start { .. })).count()
    };
    assert_eq!(starts(&mut board), 0);
    board.specs.put(signed).unwrap();
    failover.start_what_waits_for(&mut board.turn(120), &hash);
    assert_eq!(starts(&mut board), 1);
}

#[test]
fn nothing_is_captured_before_it_is_durable_that_the_instance_began() {
    let mut board = Surroundings::new();
    let standby = board.peer(1);
    let spec = ServiceSpec { state: Some(Text::capped("data")), ..spec() };
    let spec = board.specs.put(order(1, Action::Run(Box::new(spec)))).unwrap();
    let (previous, base) = Default::default();
    let row = row("kv", board.turn(0).me.id(), Some(standby));
    let row = Row { previous, base, spec, ..row };
    let (instance, epoch) = (row.instance(), row.epoch);
    board.knows(1, vec![row]);
    let mut failover = Failover::new(Preset::LAN, 0, at(0));
    failover.on_table(&mut board.turn(0));
    failover.assignments.get_mut(&instance).unwrap().run = Run::Starting;
    let may_capture = |failover: &mut Failover| {
        failover.take_notices().into_iter().rev().find_map(|notice| match notice {
            Notice::Hosting(_, hosting) => Some(hosting.runs && hosting.is_kept),
            _ => None,
        })
    };
    failover.on_started(&mut board.turn(10), &instance, &List::new());
    assert_eq!(may_capture(&mut failover), Some(false));
    failover.on_kept(&mut board.turn(20), Kept::Began(instance, epoch));
    assert_eq!(may_capture(&mut failover), Some(true));
}

#[test]
fn a_board_that_lost_its_copies_does_not_go_on_where_commits_may_have_been_acknowledged() {
    let goes_on = |ready: bool, switching: bool| {
        let mut board = Surroundings::new();
        let [standby, fill] = [1, 2].map(|number| board.peer(number));
        let mut spec = ServiceSpec { state: Some(Text::capped("data")), ..spec() };
        spec.replicate.commit = Commit::Standby;
        let spec = board.specs.put(order(1, Action::Run(Box::new(spec)))).unwrap();
        let row = row("kv", board.turn(0).me.id(), Some(standby));
        let row = Row { spec, ready, fill: Some(fill), ..row };
        let (instance, epoch, revision) = (row.instance(), row.epoch, row.revision);
        board.knows(1, vec![row]);
        let mut failover = Failover::new(Preset::LAN, 0, at(0));
        failover.on_table(&mut board.turn(0));
        let assignment = failover.assignments.get_mut(&instance).unwrap();
        assignment.began = Some(epoch);
        assignment.switching = switching.then_some(revision);
        let (sent, lease_ms, as_master) = (at(100).0, 1500, false);
        let grant = Grant { instance, epoch, sent, lease_ms, as_master };
        failover.on_grant(&mut board.turn(110), &Office::default(), standby, &grant);
        board.effects().iter().any(|effect| matches!(effect, Effect::Start { .. }))
    };
    assert!(goes_on(false, false), "nothing was acknowledged: its files are what there is");
    assert!(!goes_on(true, false), "by the standby");
    assert!(!goes_on(false, true), "by both, before the standby was ready");
}

#[test]
fn nothing_is_acknowledged_by_a_standby_that_was_not_ready_before_a_switch_is_written_down() {
    let required = |ready: bool| {
        let mut board = Surroundings::new();
        let [standby, fill] = [1, 2].map(|number| board.peer(number));
        let row = row("kv", board.turn(0).me.id(), Some(standby));
        let row = Row { ready, fill: Some(fill), ..row };
        let (instance, revision) = (row.instance(), row.revision);
        board.knows(1, vec![row]);
        let mut failover = Failover::new(Preset::LAN, 0, at(0));
        failover.on_table(&mut board.turn(0));
        failover.assignments.get_mut(&instance).unwrap().switch_kept_for = Some(revision);
        let who = |failover: &mut Failover| {
            failover.tell_copies(&instance);
            failover.take_notices().into_iter().rev().find_map(|notice| match notice {
                Notice::Hosting(_, hosting) => Some(hosting.required.len()),
                _ => None,
            })
        };
        let before = who(&mut failover);
        failover.on_kept(&mut board.turn(10), Kept::Switching(instance.clone(), revision));
        [before, who(&mut failover)]
    };
    assert_eq!(required(true), [Some(2), Some(2)]);
    assert_eq!(required(false), [Some(0), Some(2)]);
}
