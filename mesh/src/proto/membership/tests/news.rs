//! What a board takes from others, and to whom it passes it on.

use super::*;
use crate::proto::directory::Announcement;
use crate::proto::id::{Epoch, Keypair, Term};
use crate::proto::order::{Instance, Serving};
use crate::proto::table::samples::row;
use crate::proto::table::{Row, Table};
use crate::proto::ticket::{Revocation, Revoked};
use crate::proto::wire::gossip::Entry;

fn to(news: &[(NodeId, Fact)]) -> Vec<NodeId> {
    news.iter().map(|(to, _)| *to).collect()
}

#[test]
fn a_newcomer_is_taken_in_once_remembered_and_passed_on_to_everyone_but_the_teller() {
    let mut bench = Bench::new(3);
    let [one, two, three] = bench.peers[..] else { panic!() };
    let new = board(7, |_| ());
    let fact = Fact::Joined(Box::new(new.joined()));
    let effects = bench.facts(2_000, one, fact.clone());
    assert_eq!(bench.standing(new.id()), Standing::Up);
    assert!(matches!(&effects[..], [Effect::Event(Event::MemberUp { incarnation: 1, .. })]));
    assert!(matches!(&bench.membership.take_notices()[..], [Notice::Remember(_)]));
    let mut others = vec![two, three];
    others.sort_unstable();
    assert_eq!(to(&bench.news()), others);
    assert!(bench.membership.rings_stale);
    assert_eq!(bench.facts(2_001, two, fact), [], "that is known");
    assert_eq!((bench.news(), bench.membership.take_notices()), (vec![], vec![]));
    let own = board(0, |_| ()).joined();
    assert_eq!(bench.facts(2_002, two, Fact::Joined(Box::new(own))), [], "of itself it knows best");
    let foreign = Joined { credential: new.joined().credential, ..board(8, |_| ()).joined() };
    let effects = bench.facts(2_003, two, Fact::Joined(Box::new(foreign)));
    assert_eq!(misbehaved(&effects), Some(two), "let in by nobody");
}

#[test]
fn a_member_in_a_later_life_is_known_from_then_on() {
    let mut bench = Bench::new(3);
    let [one, two, _] = bench.peers[..] else { panic!() };
    let alive =
        |number, incarnation| Fact::Alive(Box::new(later(number, incarnation).signed().clone()));
    bench.facts(1_900, two, Fact::Alert { subject: one, incarnation: FIRST, by: two });
    bench.news();
    let effects = bench.facts(2_000, two, alive(1, 3));
    assert_eq!(effects, [Effect::Event(Event::Refuted { node: one })], "it was up all the time");
    assert_eq!(bench.around.members.get(&one).unwrap().incarnation(), Incarnation(3));
    assert_eq!(bench.news().len(), 2);
    assert_eq!(bench.membership.take_notices(), [], "nothing about it that has to be remembered");
    for incarnation in [2, 3] {
        bench.facts(2_001, two, alive(1, incarnation));
        assert_eq!(bench.around.members.get(&one).unwrap().incarnation(), Incarnation(3));
    }
    bench.facts(2_002, two, alive(9, 2));
    assert!(bench.around.members.get(&board(9, |_| ()).id()).is_none(), "strangers come otherwise");
    let forged =
        Signed::seal(&later(1, 9).record().clone(), &Keypair::from_seed(&[77; 32])).unwrap();
    let effects = bench.facts(2_003, two, Fact::Alive(Box::new(forged)));
    assert_eq!(misbehaved(&effects), Some(two));
    assert_eq!(bench.news(), []);
}

#[test]
fn who_leaves_by_its_own_word_is_out_and_can_come_back() {
    let mut bench = Bench::new(3);
    let [one, two, _] = bench.peers[..] else { panic!() };
    let left = |of: &Myself| Fact::Left(Box::new(of.leave()));
    bench.facts(2_000, two, left(&later(1, 2)));
    assert_eq!(bench.standing(one), Standing::Up, "that is of another life");
    let forged = Leave { node: one, incarnation: FIRST };
    let forged = Signed::seal(&forged, &Keypair::from_seed(&[77; 32])).unwrap();
    let effects = bench.facts(2_000, two, Fact::Left(Box::new(forged)));
    assert_eq!((misbehaved(&effects), bench.standing(one)), (Some(two), Standing::Up));
    let word = left(&board(1, |_| ()));
    let effects = bench.facts(2_001, two, word.clone());
    assert!(matches!(effects[..], [Effect::Event(Event::MemberLeft { node, .. })] if node == one));
    assert!(bench.membership.rings_stale && bench.news().iter().all(|(to, _)| *to != two));
    assert_eq!(bench.facts(2_002, two, word), [], "that is known");
    bench.facts(2_003, two, Fact::Down { subject: one, incarnation: FIRST });
    assert_eq!(bench.standing(one), Standing::Left, "not dead");
    bench.facts(2_004, two, Fact::Alive(Box::new(later(1, 2).signed().clone())));
    assert_eq!(bench.standing(one), Standing::Up);
}

#[test]
fn a_board_that_leaves_says_so_at_once_to_all_who_are_linked() {
    let mut bench = Bench::new(3);
    let sent = bench.sent(2_000, |m, turn| m.leave(turn));
    assert_eq!(sent.len(), 3);
    assert!(
        sent.iter()
            .all(|(_, m)| matches!(m, Message::Facts(f) if matches!(f.facts[0], Fact::Left(_))))
    );
}

#[test]
fn what_root_revoked_is_out_and_stays_out() {
    let mut bench = Bench::new(3);
    let [one, two, _] = bench.peers[..] else { panic!() };
    let mesh = bench.around.turn(0).me.belonging.mesh;
    let revocation = Revocation { mesh, target: Revoked::Node(one), at: 0 };
    let by = |seed| Signed::seal(&revocation, &Keypair::from_seed(&[seed; 32])).unwrap();
    let effects = bench.facts(2_000, two, Fact::Revoked(Box::new(by(9))));
    assert_eq!((misbehaved(&effects), bench.standing(one)), (Some(two), Standing::Up));
    let root = 1;
    bench.facts(2_001, two, Fact::Revoked(Box::new(by(root))));
    assert_eq!(bench.standing(one), Standing::Left);
    assert!(matches!(&bench.membership.take_notices()[..], [Notice::Revoked(..)]));
    assert!(bench.membership.rings_stale && !bench.news().is_empty());
    bench.facts(2_002, two, Fact::Revoked(Box::new(by(root))));
    assert_eq!((bench.membership.take_notices(), bench.news()), (vec![], vec![]));
    // It lives on, and two has not heard yet.
    bench.facts(2_002, two, Fact::Alive(Box::new(later(1, 5).signed().clone())));
    assert_eq!(bench.standing(one), Standing::Left);
    bench.facts(2_002, two, Fact::Alert { subject: two, incarnation: FIRST, by: one });
    assert!(bench.membership.suspicions.get(&two).is_none(), "nor does its word count");
    assert_eq!(bench.news(), vec![]);
    bench.around.members.remove(&one);
    bench.facts(2_003, two, Fact::Joined(Box::new(later(1, 5).joined())));
    assert!(bench.around.members.get(&one).is_none());
    let joined = board(1, |_| ()).joined();
    bench.act(2_004, |m, turn| m.recall(turn, joined));
    assert!(bench.around.members.get(&one).is_none(), "not from memory either");
    bench.membership.rings_stale = false;
    bench.act(2_005, |m, turn| m.recall(turn, board(8, |_| ()).joined()));
    assert!(
        bench.around.members.get(&board(8, |_| ()).id()).is_some() && bench.membership.rings_stale
    );
}

#[test]
fn who_came_before_and_who_came_after_a_revocation_agree() {
    let (mut before, mut after) = (Bench::new(3), Bench::new(3));
    let [one, two, _] = before.peers[..] else { panic!() };
    after.around.members.remove(&one);
    assert_ne!(before.around.members.view_hash(), after.around.members.view_hash());
    let mesh = before.around.turn(0).me.belonging.mesh;
    for (bench, at) in [(&mut before, 5), (&mut after, 6)] {
        // Said twice by the operator: each board hears another one first.
        let revocation = Revocation { mesh, target: Revoked::Node(one), at };
        let signed = Signed::seal(&revocation, &Keypair::from_seed(&[1; 32])).unwrap();
        bench.facts(2_000, two, Fact::Revoked(Box::new(signed)));
        assert!(bench.around.members.has_left(&one));
        assert!(bench.around.members.entries(u64::MAX).all(|entry| entry.node != one));
    }
    assert!(before.around.members.get(&one).is_some() && after.around.members.get(&one).is_none());
    assert_eq!(before.around.members.view_hash(), after.around.members.view_hash());
    // Nor does anybody ask for what another one says of it.
    let entry = Entry { node: one, incarnation: Incarnation(9), standing: Standing::Up };
    let entries = List::capped([entry]);
    let theirs = Entries { buckets: u64::MAX, entries, rest: false, reply: false };
    let sent = after.sent(2_001, |m, turn| m.on_entries(turn, two, &theirs));
    assert!(sent.iter().all(|(_, m)| !matches!(m, Message::Entries(_))));
}

fn chosen(master: NodeId, term: u64, number: u64, rows: Vec<Row>) -> Announcement {
    let mut table = Table { rows, ..Table::default() };
    (table.version.term, table.version.number) = (Term(term), number);
    Announcement { master, table }
}

#[test]
fn a_newer_table_is_passed_on_and_a_new_master_named_once() {
    let mut bench = Bench::new(3);
    let [one, two, _] = bench.peers[..] else { panic!() };
    let mut told = |term, number| {
        let announcement = chosen(one, term, number, vec![]);
        let effects = bench.facts(2_000, two, Fact::Chosen(Box::new(announcement)));
        let names = matches!(&effects[..], [Effect::Event(Event::MasterIs { .. })]);
        (names, bench.membership.take_notices().len(), bench.news().len())
    };
    assert_eq!(told(1, 1), (true, 1, 2));
    assert_eq!(told(1, 2), (false, 1, 2));
    assert_eq!(told(1, 2), (false, 0, 0));
    assert_eq!(told(2, 3), (true, 1, 2));
}

#[test]
fn a_master_tells_those_directly_whom_a_new_row_concerns() {
    let mut bench = Bench::new(3);
    let me = bench.me;
    let [far, unlinked, other] = [30, 31, 32].map(|number| bench.around.peer(number));
    bench.around.links.on_disconnected(&unlinked, "gone".to_owned(), at(1_000));
    let before = row("db", other, None);
    let first = chosen(me, 1, 1, vec![before.clone()]);
    bench.act(2_000, |m, turn| m.announce(turn, first, None));
    bench.news();
    let rows = vec![before, row("kv", far, Some(unlinked))];
    let next = chosen(me, 1, 2, rows.clone());
    bench.act(3_000, |m, turn| m.announce(turn, next, None));
    let told = to(&bench.news());
    assert!(told.contains(&far) && !told.contains(&other), "{told:?}");
    assert_eq!(
        [far, unlinked, other].map(|n| bench.around.links.errand(&n)),
        [at(8_000), at(8_000), at(0)]
    );
    let mut bench = Bench::new(3);
    let teller = bench.peers[0];
    let far = bench.around.peer(30);
    bench.around.knows(1, vec![]);
    bench.act(3_000, |m, turn| m.announce(turn, chosen(teller, 1, 2, rows), Some(teller)));
    assert!(!to(&bench.news()).contains(&far), "the master does that itself");
}

#[test]
fn who_speaks_of_an_older_table_is_sent_the_newest_one_now_and_then() {
    let mut bench = Bench::new(1);
    let peer = bench.peers[0];
    let told = |bench: &mut Bench, ms| bench.sent(ms, |m, turn| m.tell_table(turn, peer)).len();
    assert_eq!(told(&mut bench, 2_000), 0, "there is none");
    bench.around.knows(1, vec![]);
    assert_eq!(told(&mut bench, 2_000), 1);
    assert_eq!(told(&mut bench, 2_999), 0);
    assert_eq!(told(&mut bench, 3_000), 1);
    bench.around.knows(2, vec![]);
    assert_eq!(told(&mut bench, 3_001), 1, "another one");
    bench.act(3_002, |m, turn| m.on_link_lost(turn, peer));
    assert_eq!(told(&mut bench, 3_003), 1, "over another link");
}

#[test]
fn where_a_service_runs_is_believed_of_its_own_board_and_passed_on() {
    let mut bench = Bench::new(3);
    let [one, two, _] = bench.peers[..] else { panic!() };
    let serving = |node, stamp| Serving {
        instance: Instance { service: row("kv", one, None).service, ordinal: 0 },
        epoch: Epoch(3),
        life: FIRST,
        stamp,
        node,
        runs: true,
        spec: [5; 32],
        why: Default::default(),
        endpoints: List::new(),
    };
    let sealed = |node, stamp, by: u8| {
        Fact::Serving(Box::new(
            Signed::seal(&serving(node, stamp), &Keypair::from_seed(&[by; 32])).unwrap(),
        ))
    };
    let knows =
        |bench: &Bench| bench.around.directory.serving(&serving(one, 0).instance).map(|s| s.stamp);
    // Boards have the seed 10 and their number.
    assert_eq!(misbehaved(&bench.facts(2_000, two, sealed(one, 1, 12))), Some(two));
    let stranger = board(9, |_| ()).id();
    bench.facts(2_000, two, sealed(stranger, 1, 19));
    assert_eq!((knows(&bench), bench.news()), (None, vec![]));
    bench.facts(2_000, two, sealed(one, 2, 11));
    assert_eq!((knows(&bench), bench.news().len()), (Some(2), 2));
    bench.facts(2_000, two, sealed(one, 1, 11));
    assert_eq!((knows(&bench), bench.news().len()), (Some(2), 0), "that is older");
}

#[test]
fn an_alert_about_the_present_life_of_a_member_is_counted_and_passed_on_once() {
    let mut bench = Bench::new(3);
    let [one, two, three] = bench.peers[..] else { panic!() };
    let alert = |incarnation, by| Fact::Alert { subject: one, incarnation, by };
    let stranger = board(9, |_| ()).id();
    for fact in [alert(Incarnation(0), two), alert(Incarnation(2), two), alert(FIRST, stranger)] {
        assert_eq!(bench.facts(2_000, two, fact), []);
    }
    assert_eq!(
        bench.facts(2_000, two, Fact::Alert { subject: stranger, incarnation: FIRST, by: two }),
        []
    );
    let suspected = [Effect::Event(Event::Suspected { node: one, by: two })];
    assert_eq!(bench.facts(2_000, three, alert(FIRST, two)), suspected);
    let told = to(&bench.news());
    assert!(told.contains(&two) && !told.contains(&three), "{told:?}");
    assert_eq!(bench.facts(2_000, three, alert(FIRST, two)), []);
    bench.around.members.set_standing(&one, Standing::Down, at(2_001));
    assert_eq!(bench.facts(2_001, two, alert(FIRST, three)), []);
}

#[test]
fn whoever_is_said_to_be_dead_is_so_in_that_life_only() {
    let mut bench = Bench::new(3);
    let [one, two, _] = bench.peers[..] else { panic!() };
    let down = |incarnation| Fact::Down { subject: one, incarnation };
    assert_eq!(bench.facts(2_000, two, down(Incarnation(2))), []);
    let effects = bench.facts(2_000, two, down(FIRST));
    assert!(
        matches!(effects[..], [Effect::Event(Event::MemberDown { alerters: 0, .. })]),
        "{effects:?}"
    );
    assert_eq!(bench.facts(2_000, two, down(FIRST)), []);
}

#[test]
fn who_is_held_for_silent_or_dead_refutes_that_of_its_present_life() {
    let mut bench = Bench::new(2);
    let (me, peer) = (bench.me, bench.peers[0]);
    let mut refutes = |fact| {
        let effects = bench.facts(2_000, peer, fact);
        (bench.membership.take_notices(), misbehaved(&effects).is_some())
    };
    let alert = |incarnation| Fact::Alert { subject: me, incarnation, by: peer };
    let refute = |incarnation| vec![Notice::Refute(incarnation)];
    assert_eq!(refutes(alert(Incarnation(0))), (vec![], false), "a former life");
    assert_eq!(refutes(alert(FIRST)), (refute(FIRST), false));
    assert_eq!(refutes(Fact::Down { subject: me, incarnation: FIRST }), (refute(FIRST), false));
    let most = Incarnation(1 + (1 << 32));
    assert_eq!(refutes(alert(most)), (refute(most), false), "one that it forgot");
    assert_eq!(refutes(alert(Incarnation(most.0 + 1))), (vec![], true));
}
