//! Orders that another board than the master carries out, and when they are done.

use super::*;

/// What this board does when a master passes that on to it for the third right of `kv`.
fn passed(bench: &mut Bench, action: Action, epoch: u64) -> Vec<Effect> {
    let (two, order) = (bench.two, order(7, action));
    let pass = Pass { seq: 5, order, epoch: Epoch(epoch) };
    bench.failover.take_notices();
    bench.act(100, |f, turn, office| f.on_pass(turn, office, two, &pass))
}

fn refusal(effects: &[Effect]) -> Option<String> {
    effects.iter().find_map(|effect| match effect {
        Effect::Send { message: Message::Submitted(answer), .. } => Some(answer.code.to_string()),
        _ => None,
    })
}

#[test]
fn what_a_master_passes_on_is_done_for_the_right_that_it_names_only() {
    let mut bench = Bench::new();
    let row = row("kv", bench.me, Some(bench.one));
    bench.follows(0, vec![row]);
    let captures = || Action::Checkpoint(name());
    passed(&mut bench, captures(), 2);
    assert_eq!(bench.failover.take_notices(), []);
    passed(&mut bench, captures(), 3);
    assert_eq!(bench.failover.take_notices(), [Notice::Checkpoint(kv())]);
}

#[test]
fn a_state_that_is_not_here_cannot_be_gone_back_to() {
    let mut bench = Bench::new();
    let row = row("kv", bench.me, Some(bench.one));
    bench.follows(0, vec![row]);
    bench.around.holdings.put(&kv(), state(3, 4));
    let restore = |seq| Action::Restore { service: name(), at: state(3, seq) };
    assert_eq!(refusal(&passed(&mut bench, restore(5), 3)).as_deref(), Some("no-such-state"));
    assert_eq!(refusal(&passed(&mut bench, restore(4), 3)), None);
    let asked = &bench.failover.assignments[&kv()];
    assert_eq!((asked.restoring, asked.claim_at), (Some((state(3, 4), at(6_100))), at(100)));
}

#[test]
fn a_board_recovers_with_the_newest_that_it_has_and_only_if_it_is_named() {
    let recovers = |named: bool, stateful, own: &[u64]| {
        let mut bench = Bench::new();
        let spec = bench.runs(stateful);
        let (me, one, two) = (bench.me, bench.one, bench.two);
        bench.office.master = Some(two);
        bench.follows(0, vec![Row { spec, ..row("kv", one, None) }]);
        own.iter().for_each(|seq| bench.around.holdings.put(&kv(), state(2, *seq)));
        let from = if named { me } else { one };
        let effects = passed(&mut bench, Action::Recover { service: name(), from }, 3);
        let claim = effects.iter().find_map(|effect| match effect {
            Effect::Send { message: Message::Claim(claim), .. } => Some(claim.claim),
            _ => None,
        });
        (claim, refusal(&effects))
    };
    let with = |base| (Some(Claimed::Recover(base)), None);
    assert_eq!(recovers(true, true, &[40, 41]), with(state(2, 41)));
    assert_eq!(recovers(true, false, &[]), with(CheckpointId::default()));
    assert_eq!(recovers(true, true, &[]), (None, Some("no-such-state".to_owned())));
    assert_eq!(recovers(false, true, &[40]), (None, None));
}

#[test]
fn each_kind_of_order_is_done_when_the_row_says_so() {
    let done = |action: fn(NodeId) -> Action, change: fn(&Row, NodeId) -> Row| {
        let mut bench = Bench::new();
        bench.reigns(60_000);
        let (one, two) = (bench.one, bench.two);
        let row = row("kv", one, Some(two));
        bench.follows(0, vec![row.clone()]);
        bench.orders(100, action(two));
        let next = change(&Row { epoch: Epoch(4), previous: Epoch(3), ..row }, two);
        Bench::told(&bench.follows(200, vec![next]))
    };
    let moved = |row: &Row, _: NodeId| Row { released: true, ..row.clone() };
    let by_hand = |row: &Row, _: NodeId| Row { previous: Epoch(0), ..row.clone() };
    let on_two = |row: &Row, two: NodeId| Row { previous: Epoch(0), active: two, ..row.clone() };
    let restores = |_| Action::Restore { service: name(), at: state(2, 40) };
    let recovers = |from| Action::Recover { service: name(), from };
    assert_eq!(done(|_| moves(), moved).as_deref(), Some(""));
    assert_eq!(done(restores, by_hand).as_deref(), Some(""));
    assert_eq!(done(recovers, on_two).as_deref(), Some(""));
    assert_eq!(done(|_| moves(), by_hand).as_deref(), Some("conflict"));
    assert_eq!(done(restores, moved).as_deref(), Some("conflict"));
    assert_eq!(done(recovers, by_hand).as_deref(), Some("conflict"));
    let other =
        |row: &Row, _: NodeId| Row { previous: Epoch(0), base: state(2, 41), ..row.clone() };
    assert_eq!(done(restores, other).as_deref(), Some("conflict"), "from another state");
    let unchanged = |row: &Row, _: NodeId| Row { epoch: Epoch(3), revision: 10, ..row.clone() };
    assert_eq!(done(|_| moves(), unchanged), None);
}

#[test]
fn numbers_of_orders_are_of_this_life_and_the_desk_knows_what_is_due() {
    let mut bench = Bench::new();
    assert_eq!(bench.failover.desk.due(), None);
    bench.office.master = Some(bench.one);
    let signed = || order(7, moves());
    let sent = bench.sent(100, |f, turn, office| f.on_order(turn, office, OP, signed()));
    let [(_, Message::Submit(submit))] = &sent[..] else { panic!() };
    assert_eq!(submit.seq, (1 << 32) + 1);
    assert_eq!(bench.failover.desk.due(), Some(at(8_100)), "it is on its way");
    bench.office.master = None;
    bench.act(150, |f, turn, office| f.on_order(turn, office, OpId(2), signed()));
    assert_eq!(bench.failover.desk.due(), Some(at(300)), "a master is looked for");
}
