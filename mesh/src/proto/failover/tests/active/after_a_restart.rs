//! What a board that was started again finds and remembers.

use super::*;

#[test]
fn what_a_shim_runs_still_is_gone_on_with_if_it_is_of_this_right_and_order() {
    let adopts = |epoch, spec: Option<crate::proto::id::Digest16>, before_the_row: bool| {
        let mut bench = Bench::new();
        let hash = bench.runs(false);
        let row = Row { spec: hash, ..row("kv", bench.me, Some(bench.one)) };
        let found = Report::Found(Found { epoch: Epoch(epoch), spec, ports: Default::default() });
        let effects = match before_the_row {
            true => {
                assert_eq!(bench.report(0, found), []);
                bench.follows(10, vec![row])
            }
            false => {
                bench.follows(0, vec![row]);
                bench.report(10, found)
            }
        };
        let thawed = effects.iter().any(|e| matches!(e, Effect::Thaw { .. }));
        (stops(&effects), thawed, assignment(&mut bench).run.clone())
    };
    let of_now = Some(Bench::new().spec_digest());
    for before in [true, false] {
        for spec in [of_now, None] {
            assert_eq!(adopts(3, spec, before), (vec![], true, Run::Running));
        }
        assert_eq!(adopts(2, of_now, before), (vec![true], false, Run::Stopping));
        let other = Some(crate::proto::id::Digest16([0; 16]));
        assert_eq!(adopts(3, other, before), (vec![false], true, Run::Stopping));
    }
}

#[test]
fn what_ended_before_its_row_was_known_does_not_run_and_goes_on_under_that_right() {
    let mut bench = Bench::new();
    let hash = bench.runs(true);
    let row = Row { spec: hash, base: state(2, 7), ..row("kv", bench.me, Some(bench.one)) };
    bench
        .report(0, Report::Found(Found { epoch: Epoch(3), spec: None, ports: Default::default() }));
    assert_eq!(bench.report(5, ended(Exit::Fenced)), []);
    bench.follows(10, vec![row.clone()]);
    assert_eq!(assignment(&mut bench).run, Run::Idle);
    let effects = bench.grant(20, bench.one, &row);
    let begins = |e: &Effect| match e {
        Effect::Start { begin, .. } => Some(*begin),
        _ => None,
    };
    assert_eq!(effects.iter().find_map(begins), Some(Begin::GoOn { after_power_cut: None }));
}

impl Bench {
    fn spec_digest(&mut self) -> crate::proto::id::Digest16 {
        let hash = self.runs(false);
        self.around.specs.get(&hash).unwrap().digest()
    }
}

#[test]
fn a_restarted_board_remembers_what_it_ran_and_gave_up() {
    let recalled = |began, own: &[(u64, u64)], released| {
        let mut bench = Bench::after(1_500);
        let row = row("kv", bench.me, Some(bench.one));
        own.iter().for_each(|(epoch, seq)| bench.around.holdings.put(&kv(), state(*epoch, *seq)));
        let tenure = Tenure { row, began, released, switching: Some(9) };
        bench.act(0, |f, turn, _| f.recall(turn, tenure));
        let silent = bench.failover.silent_until;
        let a = assignment(&mut bench);
        assert!(a.is_switching() && a.former_until == silent.max(at(1_500)));
        (a.began, a.resumed, a.recalled, a.is_released())
    };
    assert_eq!(recalled(None, &[], None), (None, false, None, false));
    assert_eq!(recalled(Some(Epoch(2)), &[], None), (Some(Epoch(2)), false, None, false));
    assert_eq!(recalled(Some(Epoch(3)), &[], None), (Some(Epoch(3)), true, None, false));
    let captured = [(2, 40), (3, 4), (3, 5)];
    assert_eq!(recalled(None, &captured, None), (Some(Epoch(3)), true, Some(state(3, 5)), false));
    let gave = |epoch| Some((Epoch(epoch), PublicKey([1; 32]), state(3, 5)));
    assert!(recalled(None, &[], gave(3)).3 && !recalled(None, &[], gave(2)).3);
}

#[test]
fn a_row_that_is_older_than_what_is_remembered_takes_nothing_away() {
    let mut bench = Bench::new();
    let mine = Row { epoch: Epoch(4), ..row("kv", bench.me, None) };
    let tenure = Tenure { row: mine, began: None, released: None, switching: None };
    bench.act(0, |f, turn, _| f.recall(turn, tenure));
    let older = row("kv", bench.one, None);
    assert_eq!(bench.follows(10, vec![older.clone()]), []);
    assert!(bench.failover.assignments.contains_key(&kv()));
    let effects = bench.follows(20, vec![Row { epoch: Epoch(5), ..older }]);
    assert_eq!(stops(&effects), [true]);
    assert!(bench.failover.assignments.is_empty());
}
