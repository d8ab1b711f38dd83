//! How a board comes into office.

use super::*;

const NEXT: Term = Term(BEFORE.0 + 1);

#[test]
fn a_board_asks_then_stands_then_reigns_with_the_word_of_one_other() {
    let mut bench = Bench::new();
    let (one, last) = (bench.one, bench.authority.durable);
    let asks = Message::PreVote(PreVote { term: NEXT, last });
    assert_eq!(bench.sent(0, Authority::handle_timeout), [asks.clone(), asks]);
    assert_eq!(bench.authority.term, BEFORE, "asking changes nothing");
    let granted = PreVoteOk { term: NEXT, granted: true };
    let stands = Message::Vote(Vote { term: NEXT, last });
    let sent = bench.sent(1, |a, turn| a.on_pre_vote_ok(turn, one, granted));
    assert_eq!(sent, [stands.clone(), stands]);
    let granted = VoteOk { term: NEXT, granted: true };
    let sent = bench.sent(2, |a, turn| a.on_vote_ok(turn, one, granted));
    let table = bench.authority.table.clone();
    assert_eq!((table.version.term, table.version.number), (NEXT, 8), "found, and chosen anew");
    let lacks =
        |m: &Message| matches!(m, Message::App(app) if app.table == Some(Box::new(table.clone())));
    assert_eq!(sent.iter().filter(|message| lacks(message)).count(), 2);
    assert_eq!(bench.authority.master(), (Some(bench.me), NEXT));
    assert_eq!(bench.authority.reign(at(2)), None, "nothing is chosen yet");
}

#[test]
fn what_others_refuse_or_say_about_another_term_elects_nobody() {
    let mut bench = Bench::new();
    let (one, two) = (bench.one, bench.two);
    bench.act(0, Authority::handle_timeout);
    for (term, granted) in [(NEXT, false), (Term(NEXT.0 + 1), true), (BEFORE, true)] {
        bench.act(1, |a, turn| a.on_pre_vote_ok(turn, one, PreVoteOk { term, granted }));
        assert!(
            matches!(bench.authority.role, Role::Asking(_) | Role::Follower),
            "{term:?} {granted}"
        );
        bench.authority.role = Role::Asking([bench.me].into());
        bench.authority.term = BEFORE;
    }
    bench.act(2, |a, turn| a.on_pre_vote_ok(turn, one, PreVoteOk { term: NEXT, granted: true }));
    for (term, granted) in [(NEXT, false), (BEFORE, true)] {
        bench.act(3, |a, turn| a.on_vote_ok(turn, two, VoteOk { term, granted }));
        assert!(matches!(bench.authority.role, Role::Standing(_)));
    }
    let stranger = bench.around.peer(9);
    bench.act(4, |a, turn| a.on_vote_ok(turn, stranger, VoteOk { term: NEXT, granted: true }));
    assert!(matches!(bench.authority.role, Role::Standing(_)), "it decides nothing");
    bench.act(5, |a, turn| a.on_vote_ok(turn, two, VoteOk { term: NEXT, granted: true }));
    assert!(bench.is_leader());
}

#[test]
fn who_hears_of_a_later_term_takes_part_in_it() {
    let mut bench = Bench::new();
    let one = bench.one;
    bench.act(0, Authority::handle_timeout);
    let later = PreVoteOk { term: Term(9), granted: false };
    bench.act(1, |a, turn| a.on_pre_vote_ok(turn, one, later));
    assert_eq!(bench.authority.term, Term(9), "so that it does not ask for the same one for ever");
    assert!(matches!(bench.authority.role, Role::Follower));
    bench.act(1, |a, turn| {
        a.on_pre_vote_ok(turn, one, PreVoteOk { term: Term(12), granted: false })
    });
    assert_eq!(bench.authority.term, Term(9), "it asks nobody now");
    let beyond = PreVoteOk { term: Term(10 + (1 << 32)), granted: false };
    assert!(misbehaved(&bench.act(2, |a, turn| a.on_pre_vote_ok(turn, one, beyond))));
}

#[test]
fn a_candidate_that_has_heard_a_master_meanwhile_is_not_elected() {
    let mut bench = Bench::new();
    let (one, two) = (bench.one, bench.two);
    bench.act(0, Authority::handle_timeout);
    let granted = PreVoteOk { term: NEXT, granted: true };
    bench.authority.promise.hold_until(at(50));
    bench.act(10, |a, turn| a.on_pre_vote_ok(turn, one, granted));
    assert!(matches!(bench.authority.role, Role::Asking(_)), "its promise binds");
    bench.act(50, |a, turn| a.on_pre_vote_ok(turn, one, granted));
    assert!(matches!(bench.authority.role, Role::Standing(_)));
    bench.authority.promise.hold_until(at(100));
    bench.act(60, |a, turn| a.on_vote_ok(turn, two, VoteOk { term: NEXT, granted: true }));
    assert!(!bench.is_leader());
}

#[test]
fn a_board_that_forgets_what_it_writes_does_not_stand() {
    let stands = |durable| {
        let mut around = Surroundings::of(|config| config.board.durable = durable);
        let (me, one) = (around.joins(), around.peer(1));
        let table = Table { voters: List::capped([me, one]), ..Table::default() };
        let mut authority = Authority::new(Preset::LAN, Remembered::default(), Some(table), at(0));
        authority.handle_timeout(&mut around.turn(START));
        around.sent().len()
    };
    assert_eq!((stands(true), stands(false)), (1, 0));
}

#[test]
fn those_who_elect_together_stay_linked() {
    let mut bench = Bench::new();
    bench.authority.keep_links(&mut bench.around.turn(START + 1_000));
    let wanted =
        |bench: &Bench| [bench.one, bench.two].map(|node| bench.around.links.errand(&node));
    assert_eq!(wanted(&bench), [at(31_000); 2]);
    bench.authority.table.voters = List::capped([bench.one, bench.two]);
    bench.authority.keep_links(&mut bench.around.turn(START + 2_000));
    assert_eq!(wanted(&bench), [at(31_000); 2], "it does not elect any more");
    assert_eq!(bench.around.links.errand(&bench.me), Time::default());
}

#[test]
fn who_is_to_decide_no_more_lets_the_others_try_first() {
    let mut bench = Bench::new();
    bench.authority.table.drained = vec![bench.me];
    bench.authority.schedule(&mut bench.around.turn(START), at(0));
    // The last of three, and behind any retry of the others.
    let stands = bench.authority.stand_at;
    assert!(stands >= at(2_000) && stands < at(2_100), "{stands:?}");
}

#[test]
fn whoever_stands_alone_is_elected_by_its_own_vote() {
    let mut bench = Bench::new();
    bench.authority.table.voters = List::capped([bench.me]);
    let effects = bench.act(0, Authority::handle_timeout);
    assert!(bench.is_leader());
    let chosen = |e: &Effect| {
        matches!(e, Effect::Event(Event::TableChosen { term: 5, number: 8, voters: 1 }))
    };
    assert!(effects.iter().any(chosen));
    assert_eq!(bench.authority.reign(at(0)), Some((NEXT, at(1_500))));
}
