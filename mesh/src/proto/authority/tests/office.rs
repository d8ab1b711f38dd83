//! What a master does in office: heartbeats, changes, departures, who decides with it.

use super::*;
use crate::proto::authority::changes::{CHANGES_MAX, What};
use crate::proto::order::Instance;
use crate::proto::table::samples::row;
use crate::proto::table::{DRAINED_MAX, ORDERS_MAX};
use crate::proto::wire::authority::{Depart, Departure, Intent, Word};
use crate::proto::wire::gossip::Standing;

const TERM: u64 = BEFORE.0 + 1;

fn apps(effects: &[Effect]) -> Vec<&App> {
    let sent = effects.iter().filter_map(|effect| match effect {
        Effect::Send { message: Message::App(app), .. } => Some(app),
        _ => None,
    });
    sent.collect()
}

#[test]
fn a_master_beats_each_heartbeat_and_reigns_for_a_lease_from_what_was_answered() {
    let mut bench = Bench::elected(0);
    assert_eq!(apps(&bench.act(249, Authority::handle_timeout)).len(), 0);
    let effects = bench.act(250, Authority::handle_timeout);
    let committed = bench.authority.table.version;
    let beat = App { committed, ..heartbeat(TERM, 250) };
    assert_eq!(apps(&effects), [&beat, &beat]);
    assert_eq!(bench.around.links.errand(&bench.one), at(30_250));
    bench.answered_by(250, &[bench.two]);
    let reigns = |bench: &Bench, ms| bench.authority.reign(at(ms)).map(|(_, until)| until);
    assert_eq!(reigns(&bench, 1_749), Some(at(1_750)), "one of the others is enough");
    assert_eq!(reigns(&bench, 1_750), None);
    assert!(bench.authority.is_bound(&bench.around.turn(START + 1_749)));
    assert!(!bench.authority.is_bound(&bench.around.turn(START + 1_750)));
}

#[test]
fn a_master_that_nobody_answers_steps_down() {
    let mut bench = Bench::elected(0);
    bench.act(1_499, Authority::handle_timeout);
    assert!(bench.is_leader());
    bench.act(2_999, Authority::handle_timeout);
    assert!(bench.is_leader(), "it has just come into office");
    let effects = bench.act(3_000, Authority::handle_timeout);
    assert!(matches!(&effects[..], [Effect::Event(Event::SteppedDown { .. })]), "{effects:?}");
}

#[test]
fn a_table_is_sent_again_only_after_a_while_and_nothing_more_once_it_is_confirmed() {
    let mut bench = Bench::elected(0);
    let node = bench.one;
    let drain = change(1, What::Drain { node, drained: true });
    let first = bench.act(100, |a, turn| a.submit(turn, drain));
    let with_table =
        |effects: &[Effect]| apps(effects).iter().filter(|a| a.table.is_some()).count();
    assert_eq!(with_table(&first), 2);
    bench.answered_by(100, &[bench.one]);
    assert_eq!(with_table(&bench.act(599, Authority::handle_timeout)), 0);
    assert_eq!(with_table(&bench.act(850, Authority::handle_timeout)), 1, "one has it");
    bench.answered_by(850, &[bench.two]);
    assert_eq!(with_table(&bench.act(2_000, Authority::handle_timeout)), 0);
}

#[test]
fn a_table_is_chosen_and_announced_once_a_majority_has_it() {
    let mut bench = Bench::elected(0);
    let (node, before) = (bench.two, bench.authority.committed);
    assert!(
        bench.authority.take_announcement().is_some()
            && bench.authority.take_announcement().is_none()
    );
    bench.act(10, |a, turn| a.submit(turn, change(1, What::Drain { node, drained: true })));
    let term = bench.authority.term;
    let older = AppOk { term, sent: at(10).0, durable: before };
    bench.act(11, |a, turn| a.on_app_ok(turn, node, older));
    assert_eq!((bench.authority.committed, bench.authority.take_verdicts()), (before, vec![]));
    let effects = bench.answered_by(12, &[node]);
    let chosen = |e: &Effect| {
        matches!(e, Effect::Event(Event::TableChosen { term: TERM, number: 9, voters: 3 }))
    };
    assert!(effects.iter().any(chosen), "{effects:?}");
    assert_eq!(bench.authority.take_verdicts(), [(1, Verdict::Chosen)]);
    let told = bench.authority.take_announcement().unwrap();
    assert_eq!((told.master, told.table.drained), (bench.me, vec![node]));
    assert_eq!(bench.answered_by(13, &[bench.one]), [], "once");
}

#[test]
fn answers_to_what_was_never_sent_are_reported_and_others_do_not_count() {
    let mut bench = Bench::elected(0);
    let (one, stranger) = (bench.one, bench.around.peer(9));
    let durable = bench.authority.table.version;
    let ok = |term, sent_ms| AppOk { term: Term(term), sent: at(sent_ms).0, durable };
    let mut says = |from, ok| bench.act(500, |a, turn| a.on_app_ok(turn, from, ok));
    assert!(misbehaved(&says(one, ok(TERM, 501))));
    assert!(misbehaved(&says(
        one,
        AppOk { durable: Version { number: 99, ..durable }, ..ok(TERM, 500) }
    )));
    assert!(!misbehaved(&says(one, ok(TERM - 1, 501))), "it is of an earlier term");
    assert!(!misbehaved(&says(stranger, ok(TERM, 501))), "nobody asked it");
    let reigns = bench.authority.reign(at(500)).map(|(_, until)| until);
    assert_eq!(reigns, Some(at(1_500)), "none of them prolonged anything");
    bench.act(500, |a, turn| a.on_app_ok(turn, one, AppOk { sent: 0, ..ok(TERM, 0) }));
    assert_eq!(
        bench.authority.reign(at(500)).map(|(_, until)| until),
        Some(at(1_500)),
        "of a silent one"
    );
    bench.act(500, |a, turn| a.on_app_ok(turn, one, ok(TERM + 1, 0)));
    assert!(!bench.is_leader(), "a later term has begun");
}

#[test]
fn while_the_voters_change_a_lease_needs_both_sides() {
    let mut bench = Bench::elected(0);
    let new = bench.around.peer(3);
    bench.authority.table.incoming = Some(List::capped([bench.one, bench.two, new]));
    assert_eq!(bench.authority.reign(at(1)).map(|(_, until)| until), Some(at(1_500)));
    bench.authority.table.incoming = Some(List::capped([bench.me, bench.one, new]));
    assert_eq!(bench.authority.reign(at(1)).map(|(_, until)| until), Some(at(1_500)));
    bench.authority.table.incoming = Some(List::capped([new]));
    assert_eq!(bench.authority.reign(at(1)), None);
}

fn change(id: u64, what: What) -> Change {
    Change { id, what, order: None }
}

fn row_change(id: u64, made_for: Option<u64>, row: Option<Row>) -> Change {
    let instance = Instance { service: row_of(1).service, ordinal: 0 };
    change(id, What::Row { instance, made_for, row })
}

fn row_of(revision: u64) -> Row {
    let node = crate::proto::id::PublicKey([7; 32]);
    Row { revision, ..row("kv", node, None) }
}

/// What becomes of a change, and of the rows.
fn decided(bench: &mut Bench, ms: u64, change: Change) -> (Verdict, usize) {
    bench.act(ms, |a, turn| a.submit(turn, change));
    bench.answered_by(ms, &[bench.one]);
    let verdicts = bench.authority.take_verdicts();
    let [(_, verdict)] = verdicts[..] else { panic!("{verdicts:?}") };
    (verdict, bench.authority.table.rows.len())
}

#[test]
fn a_row_is_changed_for_the_revision_that_it_has_and_no_other() {
    let mut bench = Bench::elected(0);
    let mut says = |made_for, row| decided(&mut bench, 1, row_change(1, made_for, row));
    assert_eq!(says(None, None), (Verdict::Conflict, 0));
    assert_eq!(says(Some(1), Some(row_of(0))), (Verdict::Conflict, 0), "there is none");
    assert_eq!(says(None, Some(row_of(5))), (Verdict::Chosen, 1));
    assert_eq!(says(None, Some(row_of(5))), (Verdict::Conflict, 1), "there is one");
    assert_eq!(says(Some(2), Some(row_of(5))), (Verdict::Conflict, 1));
    assert_eq!(says(Some(1), Some(row_of(5))), (Verdict::Chosen, 1));
    assert_eq!(says(Some(1), None), (Verdict::Conflict, 1), "it has revision 2 by now");
    assert_eq!(says(Some(2), None), (Verdict::Chosen, 0));
}

#[test]
fn a_board_is_listed_once_and_taken_off_again_up_to_a_limit() {
    let mut bench = Bench::elected(0);
    let node = |n: usize| crate::proto::id::PublicKey([n as u8; 32]);
    for (number, drained, listed) in
        [(9, true, 1), (8, true, 2), (9, true, 2), (7, false, 2), (9, false, 1)]
    {
        decided(&mut bench, 1, change(1, What::Drain { node: node(number), drained }));
        assert_eq!(bench.authority.table.drained.len(), listed);
    }
    assert!(bench.authority.table.is_drained(&node(8)));
    bench.authority.table.leaving = (1..=DRAINED_MAX).map(node).collect();
    let full = change(1, What::Leave { node: node(DRAINED_MAX + 1), leaving: true });
    assert_eq!(decided(&mut bench, 1, full).0, Verdict::Full);
    let known = change(1, What::Leave { node: node(DRAINED_MAX), leaving: true });
    assert_eq!(decided(&mut bench, 1, known).0, Verdict::Chosen);
}

#[test]
fn an_order_is_carried_out_once_until_it_expires() {
    let mut bench = Bench::elected(0);
    let node = bench.two;
    let by =
        |order| Change { order: Some(order), ..change(1, What::Drain { node, drained: true }) };
    assert_eq!(decided(&mut bench, 1, by((77, 60))).0, Verdict::Chosen);
    assert_eq!(decided(&mut bench, 1, by((77, 60))).0, Verdict::Repeated);
    assert_eq!(decided(&mut bench, 1, by((78, 60))).0, Verdict::Chosen);
    // It is the first second of 1970 here: the first one is over, the second one is not.
    bench.authority.table.orders = vec![(77, 1), (78, 2)];
    assert_eq!(decided(&mut bench, 1, by((77, 60))).0, Verdict::Chosen);
    assert_eq!(decided(&mut bench, 1, by((78, 60))).0, Verdict::Repeated);
    bench.authority.table.orders = (0..ORDERS_MAX as u64).map(|n| (1_000 + n, 60)).collect();
    assert_eq!(decided(&mut bench, 1, by((77, 60))).0, Verdict::Full);
    let of_nobody = change(1, What::Drain { node, drained: false });
    assert_eq!(decided(&mut bench, 1, of_nobody).0, Verdict::Chosen, "it takes no room");
}

#[test]
fn changes_wait_for_the_version_in_flight_and_then_share_the_next_one() {
    let mut bench = Bench::elected(0);
    let drain = |id, node| change(id, What::Drain { node, drained: true });
    let (one, two) = (bench.one, bench.two);
    let before = bench.authority.table.version.number;
    for (id, node) in [(1, one), (2, two), (3, bench.me)] {
        bench.act(1, |a, turn| a.submit(turn, drain(id, node)));
    }
    assert_eq!(bench.authority.table.version.number, before + 1);
    bench.answered_by(2, &[one]);
    assert_eq!(bench.authority.take_verdicts(), [(1, Verdict::Chosen)]);
    assert_eq!(bench.authority.table.version.number, before + 2);
    bench.answered_by(3, &[one]);
    assert_eq!(bench.authority.take_verdicts(), [(2, Verdict::Chosen), (3, Verdict::Chosen)]);
}

#[test]
fn whoever_is_not_master_any_more_does_not_know_what_becomes_of_changes() {
    let mut bench = Bench::elected(0);
    let node = bench.two;
    let drain = |id| change(id, What::Drain { node, drained: true });
    for id in [1, 2] {
        bench.act(1, |a, turn| a.submit(turn, drain(id)));
    }
    bench.act(3_000, |a, turn| a.submit(turn, drain(3)));
    assert_eq!(bench.authority.take_verdicts(), [(3, Verdict::Unknown)], "its lease is over");
    bench.act(3_000, Authority::handle_timeout);
    assert_eq!(bench.authority.take_verdicts(), [(1, Verdict::Unknown), (2, Verdict::Unknown)]);
    let mut bench = Bench::elected(0);
    bench.authority.waiting = (0..CHANGES_MAX as u64).map(drain).collect();
    bench.act(1, |a, turn| a.submit(turn, drain(5_000)));
    assert_eq!(bench.authority.take_verdicts(), [(5_000, Verdict::Unknown)], "too many wait");
}

#[test]
fn a_row_that_is_about_to_change_is_known_with_whether_the_right_moves() {
    let known = |changed: Option<Row>| {
        let mut bench = Bench::elected_with(0, vec![row_of(9)]);
        bench.act(1, |a, turn| a.submit(turn, row_change(1, Some(9), changed.clone())));
        let in_flight: Vec<bool> = bench.authority.changing().map(|(_, moves)| moves).collect();
        bench.act(1, |a, turn| a.submit(turn, row_change(2, Some(10), changed)));
        (in_flight, bench.authority.changing().count())
    };
    assert_eq!(known(Some(Row { lost: true, ..row_of(9) })), (vec![false], 2));
    assert_eq!(
        known(Some(Row { epoch: crate::proto::id::Epoch(4), ..row_of(9) })),
        (vec![true], 2)
    );
    assert_eq!(known(Some(Row { retiring: true, ..row_of(9) })), (vec![true], 2));
    assert_eq!(known(None), (vec![true], 2));
}

/// What the master answers to a board.
fn says(bench: &mut Bench, ms: u64, node: NodeId, intent: Intent) -> Option<Word> {
    let sent = bench.sent(ms, |a, turn| a.on_depart(turn, node, Depart { sent: 3, intent }));
    sent.into_iter().find_map(|message| match message {
        Message::Departure(Departure { sent, word }) => {
            assert_eq!(sent, 3, "it names the question");
            Some(word)
        }
        _ => None,
    })
}

#[test]
fn who_wants_to_leave_waits_until_it_is_chosen_and_goes_then() {
    let mut bench = Bench::elected(0);
    let host = bench.around.peer(3);
    let (one, two) = (bench.one, bench.two);
    assert_eq!(says(&mut bench, 499, host, Intent::Asks), Some(Word::Wait), "it was just elected");
    bench.beats(250, 500, &[one, two]);
    assert_eq!(says(&mut bench, 500, host, Intent::Asks), Some(Word::Go));
    assert_eq!(bench.authority.table.leaving, [], "asking changes nothing");
    assert_eq!(says(&mut bench, 501, host, Intent::Leaves), Some(Word::Wait));
    assert_eq!(bench.authority.table.leaving, [host]);
    assert_eq!(says(&mut bench, 502, host, Intent::Leaves), Some(Word::Wait), "not chosen yet");
    bench.answered_by(503, &[one, two]);
    assert_eq!(says(&mut bench, 504, host, Intent::Leaves), Some(Word::Go));
    assert_eq!(says(&mut bench, 505, host, Intent::Stays), None);
    assert_eq!(bench.authority.table.leaving, []);
    bench.answered_by(506, &[one, two]);
    let before = bench.authority.table.version;
    assert_eq!(says(&mut bench, 507, host, Intent::Stays), None);
    assert_eq!(bench.authority.table.version, before, "that is known");
}

#[test]
fn who_is_needed_to_decide_is_told_so_until_another_takes_its_place() {
    let mut bench = Bench::elected(0);
    let (one, two, me) = (bench.one, bench.two, bench.me);
    bench.beats(250, 500, &[one, two]);
    assert_eq!(says(&mut bench, 500, one, Intent::Asks), Some(Word::Go), "two of three are left");
    let own =
        bench.authority.judge_departure(&mut bench.around.turn(START + 500), me, Intent::Asks);
    assert_eq!(own, Some(Word::Go));
    bench.beats(750, 1_250, &[one]);
    assert_eq!(
        says(&mut bench, 1_250, one, Intent::Asks),
        Some(Word::Needed),
        "the third is silent"
    );
    bench.around.members.set_standing(&two, Standing::Left, at(1_250));
    bench.around.peer(3);
    assert_eq!(
        says(&mut bench, 1_251, one, Intent::Asks),
        Some(Word::Wait),
        "there will be another"
    );
    assert_eq!(
        Bench::new().authority.judge_departure(
            &mut bench.around.turn(START + 1),
            one,
            Intent::Asks
        ),
        None
    );
}

#[test]
fn a_master_that_leaves_makes_way_first() {
    let mut bench = Bench::elected(0);
    let (one, two, me) = (bench.one, bench.two, bench.me);
    bench.beats(250, 500, &[one, two]);
    assert_eq!(
        says(&mut bench, 501, me, Intent::Leaves),
        None,
        "nobody is sent an answer of its own"
    );
    bench.answered_by(502, &[one, two]);
    let word =
        bench.authority.judge_departure(&mut bench.around.turn(START + 503), me, Intent::Leaves);
    assert_eq!(word, Some(Word::Wait));
    bench.act(750, Authority::handle_timeout);
    assert!(!bench.is_leader(), "another can decide");
}

#[test]
fn a_drained_master_stays_while_its_services_have_not_moved_and_not_for_ever() {
    let makes_way = |row: fn(&Bench) -> Row, ms| {
        let mut bench = Bench::elected(0);
        let (one, two) = (bench.one, bench.two);
        bench.authority.table.drained = vec![bench.me];
        bench.authority.table.rows = vec![row(&bench)];
        bench.authority.table.rows.iter_mut().for_each(|row| row.spec = [5; 32]);
        bench.beats(250, ms, &[one, two]);
        !bench.is_leader()
    };
    let mine = |bench: &Bench| row("kv", bench.me, None);
    assert!(!makes_way(mine, 20_000));
    assert!(makes_way(mine, 20_250));
    assert!(!makes_way(|bench| row("kv", bench.one, Some(bench.me)), 1_000));
    assert!(!makes_way(|b| Row { fill: Some(b.two), ..row("kv", b.one, None) }, 1_000));
    assert!(
        makes_way(|bench| row("kv", bench.one, Some(bench.two)), 1_000),
        "it has no part in it"
    );
    assert!(makes_way(|b| Row { retiring: true, ..row("kv", b.me, None) }, 1_000));
}

#[test]
fn a_voter_that_stays_silent_is_replaced_once_the_other_has_the_table() {
    let mut bench = Bench::elected(0);
    let (one, two) = (bench.one, bench.two);
    let new = bench.around.peer(3);
    bench.around.members.set_standing(&two, Standing::Down, at(1_000));
    bench.beats(250, 9_750, &[one]);
    assert!(bench.authority.table.incoming.is_none());
    bench.beats(10_000, 10_000, &[one]);
    assert!(bench.authority.table.incoming.is_none(), "it has not said that it has the table");
    bench.beats(10_250, 10_250, &[one, new]);
    bench.act(10_500, Authority::handle_timeout);
    let incoming = bench.authority.table.incoming.clone().expect("a change of voters");
    assert!(incoming.contains(&new) && incoming.contains(&bench.me) && !incoming.contains(&two));
    bench.answered_by(10_510, &[one, new]);
    assert_eq!(
        (bench.authority.table.voters.clone(), bench.authority.table.incoming.clone()),
        (incoming, None)
    );
}

#[test]
fn boards_that_left_and_dead_ones_that_were_leaving_are_forgotten() {
    let mut bench = Bench::elected(0);
    let (one, two) = (bench.one, bench.two);
    let [left, dead, drained_dead] = [3, 4, 5].map(|number| bench.around.peer(number));
    let mut those = vec![left, dead];
    those.sort_unstable();
    bench.authority.table.leaving = those;
    let mut those = vec![left, drained_dead];
    those.sort_unstable();
    bench.authority.table.drained = those;
    bench.beats(250, 1_000, &[one, two]);
    assert_eq!(bench.authority.table.leaving.len(), 2);
    bench.around.members.set_standing(&left, Standing::Left, at(1_000));
    for node in [dead, drained_dead] {
        bench.around.members.set_standing(&node, Standing::Down, at(1_000));
    }
    bench.beats(1_250, 10_750, &[one, two]);
    assert_eq!(bench.authority.table.leaving, [dead]);
    assert_eq!(bench.authority.table.drained, [drained_dead]);
    bench.beats(11_000, 11_000, &[one, two]);
    assert_eq!(bench.authority.table.leaving, [], "down for as long as a voter may be");
    assert_eq!(bench.authority.table.drained, [drained_dead], "it comes back drained");
}

#[test]
fn what_is_due_next_is_a_heartbeat_or_an_election() {
    let due = |bench: &Bench| bench.authority.poll_timeout().map(|t| (t.at, t.reason));
    assert_eq!(due(&Bench::elected(0)), Some((at(250), "heartbeat")));
    let mut bench = Bench::new();
    bench.authority.stand_at = at(700);
    assert_eq!(due(&bench), Some((at(700), "election")));
}

#[test]
fn one_decides_until_three_can_and_only_boards_that_remember_and_stay() {
    let decide = |others: &[bool], drained: Option<usize>| {
        let mut around = Surroundings::new();
        let me = around.joins();
        let durable = |config: &mut crate::proto::config::Config, durable| {
            config.board.durable = durable;
        };
        let peers = others.iter().zip(1..).map(|(lasting, number)| {
            let peer = around.member(number, |config| durable(config, *lasting));
            around.links(peer);
            peer
        });
        let peers: Vec<NodeId> = peers.collect();
        let drained = drained.map(|nth| peers[nth]).into_iter().collect();
        let table = Table { voters: List::capped([me]), drained, ..Table::default() };
        let stored = Remembered::default();
        let authority = Authority::new(Preset::LAN, stored, Some(table), at(0));
        let mut bench = Bench { around, authority, me, one: me, two: me };
        bench.act(0, Authority::handle_timeout);
        bench.beats(250, 2_000, &peers);
        bench.authority.table.voters.len()
    };
    assert_eq!(decide(&[true], None), 1, "two of two are worse than one");
    assert_eq!(decide(&[true, true], None), 3);
    assert_eq!(decide(&[true, false], None), 1, "one forgets what it writes");
    assert_eq!(decide(&[true, true], Some(0)), 1);
    assert_eq!(decide(&[true, true, true], Some(0)), 3);
}
