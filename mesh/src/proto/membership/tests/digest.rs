//! What a push missed.

use super::*;
use crate::proto::members::bucket_of;
use crate::proto::wire::gossip::{BUCKETS, Entry, Summary};

fn summaries(sent: &[(NodeId, Message)]) -> usize {
    sent.iter().filter(|(_, message)| matches!(message, Message::Summary(_))).count()
}

#[test]
fn views_that_differ_for_a_while_are_compared_and_again_after_as_long() {
    let mut bench = Bench::new(1);
    let peer = bench.peers[0];
    let same = bench.around.turn(0).view_hash();
    let mut told = |ms, view| summaries(&bench.sent(ms, |m, turn| m.on_view(turn, peer, view)));
    assert_eq!([told(2_000, 1), told(3_999, 2), told(4_000, 3)], [0, 0, 1]);
    assert_eq!([told(4_001, 3), told(6_000, 3)], [0, 1]);
    assert_eq!([told(7_000, same), told(8_500, 1), told(10_499, 1), told(10_500, 1)], [0, 0, 0, 1]);
    assert_eq!(told(11_000, 1), 0);
    bench.act(11_000, |m, turn| m.on_link_lost(turn, peer));
    assert_eq!(summaries(&bench.sent(12_600, |m, turn| m.on_view(turn, peer, 1))), 0, "a new link");
}

fn summary(bench: &mut Bench) -> Summary {
    let peer = bench.peers[0];
    let sent = bench.sent(2_000, |m, turn| m.send_summary(turn, peer));
    let [(_, Message::Summary(summary))] = &sent[..] else { panic!("{sent:?}") };
    summary.clone()
}

#[test]
fn a_summary_is_answered_with_the_lines_of_the_buckets_that_differ() {
    let mut bench = Bench::new(5);
    let peer = bench.peers[0];
    let same = summary(&mut bench);
    assert_eq!(bench.sent(2_000, |m, turn| m.on_summary(turn, peer, &same)), []);
    let bucket = bucket_of(&bench.peers[2]);
    let mut differs = same.clone();
    differs.buckets = List::capped((0..BUCKETS).map(|b| same.buckets[b] ^ u64::from(b == bucket)));
    let sent = bench.sent(2_000, |m, turn| m.on_summary(turn, peer, &differs));
    let [(to, Message::Entries(entries))] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(
        (*to, entries.buckets, entries.rest, entries.reply),
        (peer, 1 << bucket, false, false)
    );
    let lines: Vec<Entry> = bench.around.members.entries(1 << bucket).collect();
    assert_eq!(entries.entries.to_vec(), lines);
    let mut short = same.clone();
    short.buckets = List::capped(same.buckets.iter().take(BUCKETS - 1).copied());
    assert_eq!(
        misbehaved(&bench.act(2_000, |m, turn| m.on_summary(turn, peer, &short))),
        Some(peer)
    );
}

#[test]
fn whose_table_or_revocations_differ_is_told_all_of_that() {
    for what in [0, 1] {
        let mut bench = Bench::new(2);
        let peer = bench.peers[0];
        bench.around.knows(1, vec![]);
        let mut theirs = summary(&mut bench);
        *if what == 0 { &mut theirs.directory } else { &mut theirs.revocations } ^= 1;
        let sent = bench.sent(2_000, |m, turn| m.on_summary(turn, peer, &theirs));
        let [(_, Message::Entries(entries))] = &sent[..] else { panic!("{sent:?}") };
        assert_eq!((entries.buckets, entries.rest), (0, true));
        assert!(matches!(&bench.news()[..], [(to, Fact::Chosen(_))] if *to == peer));
    }
}

/// Lines of all buckets, as another board has them.
fn lines(entries: &[Entry]) -> Entries {
    Entries {
        buckets: u64::MAX,
        entries: List::capped(entries.to_vec()),
        rest: false,
        reply: false,
    }
}

#[test]
fn who_knows_less_is_told_and_who_knows_more_is_asked() {
    let mut bench = Bench::new(4);
    let peer = bench.peers[0];
    let all: Vec<Entry> = bench.around.members.entries(u64::MAX).collect();
    let meets = |bench: &mut Bench, theirs: &Entries| {
        let sent = bench.sent(2_000, |m, turn| m.on_entries(turn, peer, theirs));
        (bench.news(), sent)
    };
    assert_eq!(meets(&mut bench, &lines(&all)), (vec![], vec![]));

    let subject = bench.peers[2];
    let changed = |incarnation, standing| {
        let change = |entry: &Entry| match entry.node == subject {
            true => Entry { incarnation: Incarnation(incarnation), standing, ..*entry },
            false => *entry,
        };
        lines(&all.iter().map(change).collect::<Vec<_>>())
    };
    let (told, sent) = meets(&mut bench, &changed(0, Standing::Up));
    assert!(matches!(&told[..], [(to, Fact::Joined(_))] if *to == peer), "{told:?}");
    assert_eq!(sent, []);
    for theirs in [changed(2, Standing::Up), changed(1, Standing::Down)] {
        let (told, sent) = meets(&mut bench, &theirs);
        let [(_, Message::Entries(asked))] = &sent[..] else { panic!("{sent:?}") };
        assert_eq!((told, asked.reply, asked.buckets), (vec![], true, 1 << bucket_of(&subject)));
        let reply = Entries { reply: true, ..theirs };
        assert_eq!(meets(&mut bench, &reply), (vec![], vec![]), "that is the answer to the answer");
    }
    bench.around.members.set_standing(&subject, Standing::Down, at(2_000));
    let down = Fact::Down { subject, incarnation: FIRST };
    assert_eq!(meets(&mut bench, &lines(&all)), (vec![(peer, down)], vec![]), "it has the record");

    let missing: Vec<Entry> = all.iter().filter(|e| e.node != bench.peers[3]).copied().collect();
    let (told, _) = meets(&mut bench, &lines(&missing));
    let joined = |fact: &Fact| matches!(fact, Fact::Joined(_));
    assert_eq!(told.iter().filter(|(_, fact)| joined(fact)).count(), 1);
    let stranger = Entry { node: board(9, |_| ()).id(), ..all[0] };
    let (_, sent) = meets(&mut bench, &lines(&[&all[..], &[stranger]].concat()));
    assert_eq!(sent.len(), 1, "it is asked for");
}

#[test]
fn lines_outside_of_their_buckets_are_reported_and_the_rest_is_sent_on_demand() {
    let mut bench = Bench::new(2);
    let peer = bench.peers[0];
    bench.around.knows(1, vec![]);
    let all: Vec<Entry> = bench.around.members.entries(u64::MAX).collect();
    let outside = Entries { buckets: !(1 << bucket_of(&peer)), ..lines(&all) };
    assert_eq!(
        misbehaved(&bench.act(2_000, |m, turn| m.on_entries(turn, peer, &outside))),
        Some(peer)
    );
    for (rest, reply, facts) in [(true, false, 1), (true, true, 0), (false, false, 0)] {
        let theirs = Entries { rest, reply, ..lines(&all) };
        bench.act(2_000, |m, turn| m.on_entries(turn, peer, &theirs));
        assert_eq!(bench.news().len(), facts);
    }
}

#[test]
fn a_life_of_this_board_that_it_forgot_is_refuted() {
    let mut bench = Bench::new(1);
    let (me, peer) = (bench.me, bench.peers[0]);
    for (incarnation, refutes) in [(1, false), (2, true)] {
        let entry =
            Entry { node: me, incarnation: Incarnation(incarnation), standing: Standing::Up };
        bench.act(2_000, |m, turn| m.on_entries(turn, peer, &lines(&[entry])));
        assert_eq!(bench.membership.take_notices().len() == 1, refutes);
    }
}

#[test]
fn what_is_known_of_a_member_is_told_with_what_became_of_it() {
    let mut bench = Bench::new(2);
    let [one, two] = bench.peers[..] else { panic!() };
    let about = |bench: &mut Bench, has_record| {
        bench.membership.facts_about(&bench.around.turn(2_000), &one, has_record)
    };
    assert!(matches!(&about(&mut bench, false)[..], [Fact::Joined(_)]));
    assert_eq!(about(&mut bench, true), []);
    bench.facts(2_000, two, Fact::Left(Box::new(board(1, |_| ()).leave())));
    assert!(matches!(&about(&mut bench, false)[..], [Fact::Joined(_), Fact::Left(_)]));
}

#[test]
fn now_and_then_a_living_and_a_dead_member_are_looked_for_and_those_who_are_there_compared_with() {
    let mut bench = Bench::new(2);
    let [up, dead] = bench.peers[..] else { panic!() };
    bench.around.members.set_standing(&dead, Standing::Down, at(1_000));
    bench.around.links.on_disconnected(&dead, "gone".to_owned(), at(1_000));
    let sent = bench.sent(15_000, Membership::handle_timeout);
    assert_eq!(summaries(&sent), 1);
    assert_eq!([up, dead].map(|node| bench.around.links.errand(&node)), [at(30_000); 2]);
    let next = bench.membership.wander_at;
    assert!(next > at(67_000) && next <= at(75_000), "{next:?}");
}

#[test]
fn who_compares_with_all_wants_a_link_to_everyone_who_is_there() {
    let mut bench = Bench::new(2);
    let (me, far) = (bench.me, bench.around.remembers(9));
    let sent = bench.sent(2_000, |m, turn| m.compare_with_all(turn));
    assert_eq!(summaries(&sent), 2);
    assert_eq!(bench.around.links.errand(&far), at(17_000));
    assert_eq!(bench.around.links.errand(&me), at(0));
}
