//! How a voter answers candidates and masters.

use super::*;
use crate::proto::order::samples::run;
use crate::proto::promises::LEASE_MAX;
use crate::proto::table::samples::row;

const NEXT: u64 = BEFORE.0 + 1;

fn asked(bench: &mut Bench, ms: u64, term: u64, last: Version) -> PreVoteOk {
    let one = bench.one;
    let sent =
        bench.sent(ms, |a, turn| a.on_pre_vote(turn, one, PreVote { term: Term(term), last }));
    let [Message::PreVoteOk(ok)] = sent[..] else { panic!("{sent:?}") };
    ok
}

#[test]
fn a_voter_says_whether_it_would_vote() {
    let mut bench = Bench::new();
    let last = bench.authority.table.version;
    let older = Version { number: 6, ..last };
    let (yes, no) = (
        |term| PreVoteOk { term: Term(term), granted: true },
        PreVoteOk { term: BEFORE, granted: false },
    );
    assert_eq!(asked(&mut bench, 0, NEXT, last), yes(NEXT));
    assert_eq!(asked(&mut bench, 0, NEXT + 3, last), yes(NEXT + 3));
    assert_eq!(asked(&mut bench, 0, BEFORE.0, last), no, "that term is over");
    assert_eq!(asked(&mut bench, 0, NEXT, older), no, "it knows less");
    bench.authority.promise.hold_until(at(100));
    assert_eq!(asked(&mut bench, 99, NEXT, last), no, "a master may reign");
    assert_eq!(asked(&mut bench, 100, NEXT, last), yes(NEXT));
}

#[test]
fn who_is_asked_by_a_board_that_knows_less_stands_itself_and_soon() {
    let mut bench = Bench::new();
    let last = bench.authority.table.version;
    bench.authority.stand_at = at(9_000);
    asked(&mut bench, 100, NEXT, last);
    assert_eq!(bench.authority.stand_at, at(9_000), "the other can win");
    bench.authority.promise.hold_until(at(200));
    asked(&mut bench, 150, NEXT, Version::default());
    assert_eq!(bench.authority.stand_at, at(9_000), "somebody reigns");
    asked(&mut bench, 200, NEXT, Version::default());
    assert!(bench.authority.stand_at < at(1_100), "{:?}", bench.authority.stand_at);
    bench.authority.stand_at = at(200);
    asked(&mut bench, 200, NEXT, Version::default());
    assert_eq!(bench.authority.stand_at, at(200), "that is sooner still");
}

fn voted(bench: &mut Bench, from: NodeId, term: u64, last: Version) -> Vec<Message> {
    bench.sent(10, |a, turn| a.on_vote(turn, from, Vote { term: Term(term), last }))
}

#[test]
fn a_voter_votes_once_in_a_term_for_whoever_knows_as_much() {
    let mut bench = Bench::new();
    let (one, two, last) = (bench.one, bench.two, bench.authority.table.version);
    let says = |term, granted| [Message::VoteOk(VoteOk { term: Term(term), granted })];
    assert_eq!(voted(&mut bench, one, BEFORE.0 - 1, last), says(BEFORE.0, false), "it is over");
    assert_eq!(
        voted(&mut bench, one, NEXT, Version::default()),
        says(NEXT, false),
        "it knows less"
    );
    assert_eq!(voted(&mut bench, one, NEXT, last), says(NEXT, true));
    assert!(bench.authority.stand_at >= at(1_510), "it lets that one try");
    assert_eq!(voted(&mut bench, two, NEXT, last), says(NEXT, false));
    assert_eq!(voted(&mut bench, one, NEXT, last), says(NEXT, true), "the answer was lost perhaps");
    assert_eq!(voted(&mut bench, two, NEXT + 1, last), says(NEXT + 1, true));
    bench.authority.promise.hold_until(at(11));
    assert_eq!(voted(&mut bench, one, NEXT + 2, last), says(NEXT + 1, false), "somebody reigns");
    assert_eq!(bench.authority.term, Term(NEXT + 1));
    let beyond = Vote { term: Term(NEXT + 2 + (1 << 32)), last };
    assert!(misbehaved(&bench.act(20, |a, turn| a.on_vote(turn, one, beyond))));
}

#[test]
fn a_term_may_be_ahead_by_so_much_and_no_more() {
    let mut bench = Bench::new();
    let (one, last) = (bench.one, bench.authority.table.version);
    for (ahead, plausible) in [(1_u64 << 32, true), ((1 << 32) + 1, false)] {
        let question = PreVote { term: Term(BEFORE.0 + ahead), last };
        let effects = bench.act(0, |a, turn| a.on_pre_vote(turn, one, question));
        assert_eq!(!misbehaved(&effects), plausible);
    }
}

#[test]
fn a_vote_that_was_written_too_late_is_not_cast() {
    let mut bench = Bench::new();
    let (one, last) = (bench.one, bench.authority.table.version);
    bench.authority.on_vote(&mut bench.around.turn(START), one, Vote { term: Term(NEXT), last });
    let record = bench.around.effects();
    assert_eq!(record.len(), 1, "nothing is said before it is durable: {record:?}");
    let stored = Stored::Term(Remembered { term: Term(NEXT), vote: Some(one), lease_ms: 0 });
    bench.authority.promise.hold_until(at(50));
    assert_eq!(bench.act(49, |a, turn| a.on_stored(turn, stored.clone())), []);
    assert_eq!(bench.act(50, |a, turn| a.on_stored(turn, stored.clone())).len(), 1);
    bench.authority.term = Term(NEXT + 1);
    assert_eq!(bench.act(50, |a, turn| a.on_stored(turn, stored)), [], "that term is over");
}

#[test]
fn a_heartbeat_is_answered_once_its_term_is_durable_and_binds_for_the_lease() {
    let mut bench = Bench::new();
    let (one, durable) = (bench.one, bench.authority.durable);
    bench.authority.on_app(&mut bench.around.turn(START + 100), one, heartbeat(NEXT, 90));
    let written = bench.around.effects();
    let keeps = |e: &Effect| {
        matches!(
            e,
            Effect::Persist { record: Record::Term { term: Term(NEXT), lease_ms: 1500, .. }, .. }
        )
    };
    assert!(matches!(&written[..], [one] if keeps(one)), "{written:?}");
    assert_eq!(bench.authority.master(), (Some(one), Term(NEXT)));
    let until = at(100) + promised(Duration::from_millis(1_500));
    assert_eq!(bench.authority.promise.until(), until);
    assert!(bench.authority.stand_at >= until);
    let stored = Stored::Term(Remembered { term: Term(NEXT), vote: None, lease_ms: 1_500 });
    let says = |sent_ms| [Message::AppOk(AppOk { term: Term(NEXT), sent: at(sent_ms).0, durable })];
    assert_eq!(bench.sent(110, |a, turn| a.on_stored(turn, stored)), says(90));
    assert_eq!(bench.sent(350, |a, turn| a.on_app(turn, one, heartbeat(NEXT, 340))), says(340));
    assert_eq!(bench.around.links.errand(&bench.two), at(30_350));
}

#[test]
fn a_longer_lease_than_any_before_is_written_down_before_it_is_promised() {
    let mut bench = Bench::remembering(1_500, Vec::new());
    let one = bench.one;
    let mut app = heartbeat(BEFORE.0, 90);
    app.lease_ms = 1_501;
    bench.authority.on_app(&mut bench.around.turn(START + 100), one, app.clone());
    assert_eq!(bench.around.sent(), [], "it is being written");
    app.lease_ms = 3_000;
    bench.authority.on_app(&mut bench.around.turn(START + 101), one, app);
    assert_eq!(bench.around.effects(), [], "one write at a time");
    let stored = |lease_ms| Stored::Term(Remembered { term: BEFORE, vote: None, lease_ms });
    bench.authority.on_stored(&mut bench.around.turn(START + 102), stored(1_501));
    let again = bench.around.effects();
    assert!(matches!(
        &again[..],
        [Effect::Persist { record: Record::Term { lease_ms: 3_000, .. }, .. }]
    ));
    assert_eq!(bench.sent(103, |a, turn| a.on_stored(turn, stored(3_000))).len(), 1);
}

#[test]
fn after_a_restart_a_voter_answers_but_its_word_counts_for_no_lease() {
    let mut bench = Bench::remembering(1_500, Vec::new());
    let one = bench.one;
    let free = bench.authority.silent_until.since(at(0)).as_millis() as u64 + 1;
    for (ms, counts) in [(free - 2, 0), (free, at(5).0)] {
        let sent = bench.sent(ms, |a, turn| a.on_app(turn, one, heartbeat(BEFORE.0, 5)));
        assert!(
            matches!(sent[..], [Message::AppOk(AppOk { sent, .. })] if sent == counts),
            "{sent:?}"
        );
    }
}

#[test]
fn a_master_of_an_earlier_term_hears_of_the_present_one() {
    let mut bench = Bench::new();
    let (one, durable) = (bench.one, bench.authority.durable);
    let sent = bench.sent(0, |a, turn| a.on_app(turn, one, heartbeat(BEFORE.0 - 1, 0)));
    assert_eq!(sent, [Message::AppOk(AppOk { term: BEFORE, sent: 0, durable })]);
    assert_eq!(bench.authority.master().0, None);
    assert!(!bench.authority.promise.binds(at(0)));
}

#[test]
fn heartbeats_that_contradict_the_protocol_are_reported() {
    let too_long = u32::try_from(LEASE_MAX.as_millis()).unwrap();
    let later = Version { term: Term(NEXT + 1), ..Version::default() };
    let with = |lease_ms, table: Option<Version>| App {
        lease_ms,
        table: table.map(|version| Box::new(Table { version, ..Table::default() })),
        ..heartbeat(NEXT, 0)
    };
    let of_now = Version { term: Term(NEXT), ..Version::default() };
    for (app, wrong) in [
        (with(too_long, None), false),
        (with(too_long + 1, None), true),
        (with(1_500, Some(of_now)), false),
        (with(1_500, Some(later)), true),
    ] {
        let mut bench = Bench::new();
        let one = bench.one;
        let effects = bench.act(0, |a, turn| a.on_app(turn, one, app.clone()));
        assert_eq!(misbehaved(&effects), wrong, "{app:?}");
    }
    let mut bench = Bench::elected(0);
    let one = bench.one;
    let effects = bench.act(1, |a, turn| a.on_app(turn, one, heartbeat(NEXT, 0)));
    assert!(misbehaved(&effects) && bench.is_leader(), "a second master in one term");
}

#[test]
fn a_candidate_gives_way_to_a_master() {
    let mut bench = Bench::new();
    let one = bench.one;
    bench.act(0, Authority::handle_timeout);
    bench.act(1, |a, turn| a.on_app(turn, one, heartbeat(NEXT, 0)));
    assert!(matches!(bench.authority.role, Role::Follower));
}

/// A table of the next term that names an order.
fn naming(bench: &Bench, spec: [u8; 32], named: [NodeId; 2]) -> Box<Table> {
    let mut table = bench.authority.table.clone();
    (table.version.term, table.version.number) = (Term(NEXT), 8);
    table.rows = vec![Row { spec, ..row("kv", named[0], Some(named[1])) }];
    Box::new(table)
}

#[test]
fn a_table_is_taken_once_the_orders_that_it_names_are_here_and_only_then_confirmed() {
    let mut bench = Bench::new();
    let (one, before) = (bench.one, bench.authority.durable);
    let others = [8, 9].map(|number| bench.around.remembers(number));
    let signed = run(1);
    let table = naming(&bench, signed.hash(), others);
    let version = table.version;
    let app = App { table: Some(table), committed: before, ..heartbeat(NEXT, 0) };
    let effects = bench.act(100, |a, turn| a.on_app(turn, one, app));
    assert_eq!(bench.authority.durable, before);
    let wants = |e: &&Effect| matches!(e, Effect::Send { message: Message::WantSpec(_), .. });
    assert!(effects.iter().filter(wants).count() >= 2, "the voters are asked: {effects:?}");
    assert_eq!(
        others.map(|node| bench.around.links.errand(&node)),
        [at(30_100); 2],
        "and who is named"
    );
    bench.around.specs.put(signed).unwrap();
    let sent = bench.sent(200, |a, turn| a.take_offered(turn));
    assert_eq!(bench.authority.durable, version);
    assert_eq!(sent, [Message::AppOk(AppOk { term: Term(NEXT), sent: 0, durable: version })]);
}

#[test]
fn an_order_is_asked_for_once_in_half_a_heartbeat_however_often_a_table_names_it() {
    let mut bench = Bench::new();
    let (one, before) = (bench.one, bench.authority.durable);
    let table = naming(&bench, run(1).hash(), [one; 2]);
    let mut asks = |ms| {
        let app = App { table: Some(table.clone()), committed: before, ..heartbeat(NEXT, ms) };
        let effects = bench.act(ms, |a, turn| a.on_app(turn, one, app));
        let wants = |e: &&Effect| matches!(e, Effect::Send { message: Message::WantSpec(_), .. });
        effects.iter().filter(wants).count()
    };
    let once = asks(100);
    assert!(once >= 1);
    assert_eq!([asks(101), asks(224), asks(225), asks(226)], [0, 0, once, 0]);
}

#[test]
fn a_table_of_another_term_or_an_older_one_is_not_taken() {
    let mut bench = Bench::new();
    let (one, two) = (bench.one, bench.two);
    let mut older = Box::new(bench.authority.table.clone());
    older.version.number -= 1;
    let app = App { table: Some(older), ..heartbeat(NEXT, 0) };
    bench.act(0, |a, turn| a.on_app(turn, one, app));
    assert_eq!(bench.authority.table.version.number, 7);
    let signed = run(1);
    let table = naming(&bench, signed.hash(), [one, two]);
    let app = App { table: Some(table), ..heartbeat(NEXT, 0) };
    bench.act(1, |a, turn| a.on_app(turn, one, app));
    bench.act(2, |a, turn| a.on_app(turn, two, heartbeat(NEXT + 1, 0)));
    bench.around.specs.put(signed).unwrap();
    bench.act(3, |a, turn| a.take_offered(turn));
    assert_eq!(bench.authority.table.version.number, 7, "its master's term is over");
}

#[test]
fn a_table_whose_orders_are_missing_confirms_nothing() {
    let mut bench = Bench::new();
    let (one, two) = (bench.one, bench.two);
    bench.authority.table.rows = vec![row("kv", one, Some(two))];
    let sent = bench.sent(0, |a, turn| a.on_app(turn, one, heartbeat(NEXT, 0)));
    let durable = Version::default();
    assert!(
        sent.contains(&Message::AppOk(AppOk { term: Term(NEXT), sent: at(0).0, durable })),
        "{sent:?}"
    );
}

#[test]
fn what_is_chosen_is_believed_of_tables_that_are_here_only() {
    let mut bench = Bench::new();
    let (one, here) = (bench.one, bench.authority.table.version);
    let later = Version { number: 8, ..here };
    for (committed, known) in
        [(later, Version::default()), (here, here), (Version::default(), here)]
    {
        bench.act(0, |a, turn| a.on_app(turn, one, App { committed, ..heartbeat(NEXT, 0) }));
        assert_eq!(bench.authority.committed, known);
    }
}
