//! A mesh without a majority, by its operator's word.

use super::*;
use crate::proto::directory::Announcement;
use crate::proto::table::Generation;

const ORDER: [u8; 32] = [3; 32];

fn next() -> Generation {
    Generation::default().next(&ORDER)
}

#[test]
fn a_recovery_by_force_is_refused_while_it_is_not_called_for() {
    let mut bench = Bench::new();
    let (me, one, two) = (bench.me, bench.one, bench.two);
    let asks = |bench: &mut Bench, ms, dead: &[NodeId]| {
        bench.authority.recover_by_force(&mut bench.around.turn(START + ms), dead, &ORDER)
    };
    assert!(asks(&mut bench, 0, &[one]).unwrap_err().contains("--dead"));
    bench.authority.promise.hold_until(at(100));
    assert!(asks(&mut bench, 99, &[one, two]).unwrap_err().contains("a master is known here"));
    assert_eq!(asks(&mut bench, 100, &[one, two]), Ok(()));
    assert_eq!(bench.authority.table.voters, Voters::capped([me]));
    assert_eq!(bench.authority.table.version.generation, next());
    assert_eq!(
        (bench.authority.table.version.term, bench.authority.table.version.number),
        (BEFORE, 8)
    );

    let mut reigns = Bench::elected(0);
    assert!(asks(&mut reigns, 1, &[one, two]).unwrap_err().contains("a master is known here"));
    let mut knows_none = Bench::new();
    knows_none.authority.table = Table::default();
    assert!(asks(&mut knows_none, 0, &[]).unwrap_err().contains("never heard of a master"));
    let mut forgets = Bench::new();
    forgets.around = Surroundings::of(|config| config.board.durable = false);
    assert!(asks(&mut forgets, 0, &[one, two]).unwrap_err().contains("durable disk"));
}

#[test]
fn what_a_lost_master_may_have_granted_runs_out_before_anything_is_decided() {
    let mut bench = Bench::new();
    let dead = [bench.one, bench.two];
    bench.authority.recover_by_force(&mut bench.around.turn(START), &dead, &ORDER).unwrap();
    bench.act(0, |_, _| ());
    assert!(bench.authority.promise.binds(at(4_999)) && !bench.authority.promise.binds(at(5_000)));
    assert!(bench.authority.stand_at >= at(5_000));
    let mut slow = Bench::new();
    slow.authority.preset = Preset { lease: Duration::from_secs(20), ..Preset::LAN };
    slow.authority.recover_by_force(&mut slow.around.turn(START), &dead, &ORDER).unwrap();
    assert_eq!(slow.authority.promise.until(), at(0) + promised(Duration::from_secs(20)));
}

fn told(bench: &mut Bench, version: Version, drained: Vec<NodeId>) -> Vec<Effect> {
    let voters = List::capped([bench.one]);
    let table = Table { version, voters, drained, ..Table::default() };
    assert!(bench.around.directory.put(Announcement { master: bench.one, table }), "it is newer");
    bench.act(10, Authority::on_announced)
}

#[test]
fn until_it_decides_a_recovered_mesh_goes_on_from_the_latest_table_that_anyone_knows() {
    let mut bench = Bench::new();
    let (one, me) = (bench.one, bench.me);
    let dead = [bench.one, bench.two];
    bench.authority.recover_by_force(&mut bench.around.turn(START), &dead, &ORDER).unwrap();
    let earlier = |number| Version { term: BEFORE, number, ..Version::default() };
    told(&mut bench, earlier(7), vec![one]);
    assert_eq!(bench.authority.table.drained, [], "that is what it went on from");
    told(&mut bench, earlier(20), vec![one]);
    assert_eq!(bench.authority.table.drained, [one]);
    assert_eq!(bench.authority.table.voters, Voters::capped([me]));
    let gone_on = Version { generation: next(), ..earlier(21) };
    assert_eq!((bench.authority.table.version, bench.authority.durable), (gone_on, gone_on));
    bench.act(6_000, Authority::handle_timeout);
    assert!(bench.is_leader());
    told(&mut bench, earlier(30), vec![]);
    assert_eq!(bench.authority.table.drained, [one], "it decides already");
}

#[test]
fn a_later_generation_ends_whatever_a_board_was_and_two_recoveries_are_reported() {
    let mut bench = Bench::elected(0);
    let later = Version { generation: next(), ..Version::default() };
    let effects = told(&mut bench, later, vec![]);
    assert!(matches!(&effects[..], [Effect::Event(Event::SteppedDown { .. })]), "{effects:?}");
    assert_eq!((bench.authority.table.version, bench.authority.master().0), (later, None));
    let other = Version { generation: Generation(next().0 + 1), ..Version::default() };
    let effects = told(&mut bench, other, vec![]);
    assert!(matches!(&effects[..], [Effect::Event(Event::RecoveredTwice { generation: 1 })]));
    let mut stranger = Bench::new();
    stranger.authority.table = Table::default();
    told(&mut stranger, later, vec![]);
    assert_eq!(stranger.authority.table, Table::default(), "it has never decided");
}

#[test]
fn a_heartbeat_of_another_generation_counts_only_with_a_later_table() {
    let heard = |generation, with_table: bool| {
        let mut bench = Bench::new();
        bench.authority.table.version.generation = Generation(5 << 16);
        let one = bench.one;
        let version = Version { generation, term: Term(5), number: 1 };
        let table = with_table.then(|| Box::new(Table { version, ..Table::default() }));
        let app = App { generation, table, ..heartbeat(5, 0) };
        let sent = bench.sent(0, |a, turn| a.on_app(turn, one, app));
        assert_eq!(sent, [], "it is answered once it is of this one");
        bench.authority.table.version.number == 1
    };
    let [earlier, later] = [4 << 16, 6 << 16].map(Generation);
    assert_eq!(
        [heard(earlier, true), heard(later, false), heard(later, true)],
        [false, false, true]
    );
}
