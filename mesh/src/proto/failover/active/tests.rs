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
        failover.on_kept(&mut board.turn(0), Kept::Assigned(instance.clone(), epoch));
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
        failover.on_kept(&mut board.turn(0), Kept::Assigned(instance.clone(), epoch));
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
    failover.on_kept(&mut board.turn(0), Kept::Assigned(instance.clone(), epoch));
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
