mod active;
mod master;

use super::*;
use crate::proto::authority::changes::What;
use crate::proto::id::{Epoch, Term};
use crate::proto::io::Effect;
use crate::proto::order::samples::run;
use crate::proto::promises::Preset;
use crate::proto::table::samples::row;
use crate::proto::turn::samples::{Surroundings, at};
use crate::proto::wire::failover::Grant;
use crate::proto::wire::gossip::Standing;

/// What the master makes of a row, or nothing, when its active claims that.
fn judged(board: &mut Surroundings, row: &Row, claim: Claimed) -> Option<Row> {
    let mut failover = Failover::new(Preset::LAN, 0, at(0));
    let office = Office { reign: Some((Term(1), at(60_000))), ..Office::default() };
    let (epoch, revision) = (row.epoch, row.revision);
    let claim = Claim { instance: row.instance(), epoch, revision, claim };
    failover.on_claim(&mut board.turn(10), &office, row.active, claim);
    failover.take_notices().into_iter().find_map(|notice| match notice {
        Notice::Change(change) => match change.what {
            What::Row { row, .. } => row,
            _ => None,
        },
        _ => None,
    })
}

#[test]
fn an_active_begins_with_a_newer_state_of_the_right_before_its_own_only() {
    let mut board = Surroundings::new();
    let row = row("kv", board.peer(1), Some(board.peer(2)));
    board.knows(1, vec![row.clone()]);
    let mut begins = |epoch, seq| {
        let base = CheckpointId { epoch: Epoch(epoch), seq };
        judged(&mut board, &row, Claimed::Begins(base)).map(|row| (row.base, row.ready))
    };
    let newer = CheckpointId { epoch: Epoch(2), seq: 41 };
    assert_eq!(begins(2, 41), Some((newer, false)), "the standby may not hold it");
    assert_eq!(begins(2, 40), None, "that is what the row names");
    assert_eq!(begins(2, 39), None, "acknowledged writes would be lost");
    assert_eq!(begins(3, 1), None, "that is a state of its own right");
    assert_eq!(begins(1, 50), None, "that is not what it goes on from");
}

#[test]
fn a_standby_that_the_last_state_was_not_given_to_is_not_ready_for_the_next_right() {
    let mut board = Surroundings::new();
    let [active, standby, former] = [1, 2, 3].map(|number| board.peer(number));
    let row = row("kv", active, Some(standby));
    board.knows(1, vec![row.clone()]);
    let mut released = |to, last| {
        let next = judged(&mut board, &row, Claimed::Release { to, last }).unwrap();
        (next.active, next.ready)
    };
    let last = CheckpointId { epoch: Epoch(3), seq: 7 };
    assert_eq!(released(standby, last), (standby, true));
    assert_eq!(released(former, last), (active, false), "the former one holds it");
    assert_eq!(released(former, CheckpointId::default()), (active, true), "there is none to hold");
}

#[test]
fn a_master_removes_a_service_without_a_standby_once_its_active_is_not_bound() {
    let mut board = Surroundings::new();
    let row = Row { retiring: true, removing: true, ..row("kv", board.peer(1), None) };
    board.knows(1, vec![row.clone()]);
    let mut office = Office { reign: Some((Term(1), at(60_000))), ..Office::default() };
    let mut removes = |office: &Office| {
        let mut failover = Failover::new(Preset::LAN, 0, at(0));
        failover.appoint(&mut board.turn(10), office);
        failover.take_notices().len()
    };
    assert_eq!(removes(&office), 1);
    office.changing.insert(row.instance(), false);
    assert_eq!(removes(&office), 0, "that is on its way");
}

/// A switch of which the active hears too late that it was chosen would end the service: the standby's word
/// is gone by then.
#[test]
fn a_standby_is_not_given_up_while_the_masters_word_runs_out() {
    let switches = |ms| {
        let mut board = Surroundings::new();
        let [standby, fill, master] = [1, 2, 3].map(|number| board.peer(number));
        let row = Row {
            fill: Some(fill),
            ready: false,
            previous: Epoch::default(),
            base: CheckpointId::default(),
            ..row("kv", board.turn(0).me.id(), Some(standby))
        };
        let (instance, epoch) = (row.instance(), row.epoch);
        board.knows(1, vec![row]);
        let mut failover = Failover::new(Preset::LAN, 0, at(0));
        failover.on_table(&mut board.turn(0));
        let office = Office { master: Some(master), ..Office::default() };
        let (sent, lease_ms, as_master) = (at(100).0, 1500, true);
        let grant = Grant { instance: instance.clone(), epoch, sent, lease_ms, as_master };
        failover.on_grant(&mut board.turn(110), &office, master, &grant);
        failover.switch_if_filled(&mut board.turn(ms), &office, &instance);
        let switching = |record: &Record| matches!(record, Record::Switching { .. });
        let effects = board.effects();
        effects.iter().any(|e| matches!(e, Effect::Persist { record, .. } if switching(record)))
    };
    // It ends at 1,600 ms; killing takes 200, and the next word may be 250 away.
    assert!(switches(1_149));
    assert!(!switches(1_150));
}

fn rest(began_ms: u64, why: Why) -> Rest {
    let lasts = Duration::from_secs(10);
    Rest { until: at(began_ms) + lasts, lasts, why }
}

#[test]
fn a_board_that_was_silent_rests_unless_it_was_dead_and_is_back() {
    let mut board = Surroundings::new();
    let peer = board.peer(1);
    let spec = board.specs.put(run(1)).unwrap();
    let row = Row { spec, ..row("kv", board.turn(0).me.id(), None) };
    board.knows(1, vec![row.clone()]);
    let mut failover = Failover::new(Preset::LAN, 0, at(0));
    failover.passed_over.entry(row.instance()).or_default().insert(peer, rest(1_000, Why::Silent));
    let unable = Row { able: Some(false), ..row.clone() };
    let tried = |board: &mut Surroundings, row, ms| {
        failover.choose_untried(&board.turn(ms), &Office::default(), row, |_| true)
    };
    assert_eq!(tried(&mut board, &row, 10_999), None);
    assert_eq!(tried(&mut board, &row, 11_000), Some(peer), "it has rested");
    let sooner = 1_000 + PASSED_OVER_FOR_UNABLE.as_millis() as u64;
    assert_eq!(tried(&mut board, &unable, sooner - 1), None);
    assert_eq!(tried(&mut board, &unable, sooner), Some(peer), "the standby cannot start it");
    board.members.set_standing(&peer, Standing::Down, at(2_000));
    board.members.set_standing(&peer, Standing::Up, at(3_000));
    assert_eq!(tried(&mut board, &row, 3_000), Some(peer));
}

#[test]
fn a_standby_that_is_able_now_is_not_passed_over_and_others_still_are() {
    let mut board = Surroundings::new();
    let [standby, unable, silent] = [1, 2, 3].map(|number| board.peer(number));
    let row = row("kv", board.turn(0).me.id(), Some(standby));
    board.knows(1, vec![row.clone()]);
    let able = |failover: &mut Failover, board: &mut Surroundings| {
        let turn = board.turn(2_000);
        failover.judge_ability(&turn, &Office::default(), &row, (standby, true));
        failover.passed_over[&row.instance()].keys().copied().collect::<BTreeSet<_>>()
    };
    let mut failover = Failover::new(Preset::LAN, 0, at(0));
    let of = failover.passed_over.entry(row.instance()).or_default();
    of.insert(standby, rest(1_000, Why::Unable));
    of.insert(unable, rest(1_000, Why::Unable));
    of.insert(silent, rest(1_000, Why::Silent));
    assert_eq!(able(&mut failover, &mut board), BTreeSet::from([unable, silent]));
    let of = failover.passed_over.entry(row.instance()).or_default();
    of.insert(standby, rest(1_000, Why::Failed));
    assert_eq!(able(&mut failover, &mut board), BTreeSet::from([standby, unable, silent]));
}

#[test]
fn a_claim_asks_for_the_link_that_it_needs() {
    let mut board = Surroundings::new();
    let master = board.peer(1);
    board.links.on_disconnected(&master, "closed".to_owned(), at(1));
    let office = Office { master: Some(master), ..Office::default() };
    let row = row("kv", board.turn(0).me.id(), None);
    let mut failover = Failover::new(Preset::LAN, 0, at(0));
    failover.claim(&mut board.turn(60_000), &office, &row, Claimed::NeedStandby);
    let Turn { now, members, links, out, .. } = board.turn(60_001);
    links.handle_timeout(now, members, out);
    let connects = |e: &Effect| matches!(e, Effect::Connect { peer, .. } if *peer == master);
    assert!(board.effects().iter().any(connects));
}

#[test]
fn a_silent_standby_is_replaced_sooner_when_the_others_hold_it_for_dead_too() {
    let mut board = Surroundings::new();
    let standby = board.peer(1);
    let row = row("kv", board.turn(0).me.id(), Some(standby));
    board.knows(1, vec![row.clone()]);
    let mut failover = Failover::new(Preset::LAN, 0, at(0));
    failover.on_table(&mut board.turn(0));
    let claims = |board: &mut Surroundings, ms| {
        failover.claim_of(&board.turn(ms), &failover.assignments[&row.instance()])
    };
    // A lease and the grace are 1.8 s.
    assert_eq!(claims(&mut board, 3_600), None);
    assert_eq!(claims(&mut board, 3_601), Some(Claimed::NeedStandby));
    board.members.set_standing(&standby, Standing::Down, at(1));
    assert_eq!(claims(&mut board, 1_800), None);
    assert_eq!(claims(&mut board, 1_801), Some(Claimed::NeedStandby));
}
