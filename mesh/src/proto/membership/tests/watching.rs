//! Who is watched, who is asked, and who is held for dead.

use super::*;

#[test]
fn a_probe_is_answered_with_its_number() {
    let mut bench = Bench::new(1);
    let peer = bench.peers[0];
    let view = bench.around.turn(0).view_hash();
    let sent = bench.sent(2_000, |m, turn| m.on_probe(turn, peer, Probe { seq: 77, view }));
    assert_eq!(sent, [(peer, Message::ProbeAck(ProbeAck { seq: 77, view }))]);
}

#[test]
fn a_lost_link_to_a_living_member_makes_this_board_ask_the_others() {
    let mut bench = Bench::new(3);
    let [lost, others @ ..] = &bench.peers[..] else { panic!() };
    let (lost, others) = (*lost, others.to_vec());
    let asks = bench.sent(2_000, |m, turn| m.on_link_lost(turn, lost));
    let asked: Vec<NodeId> = asks.iter().map(|(to, _)| *to).collect();
    assert_eq!(asked.len(), 2);
    assert!(others.iter().all(|other| asked.contains(other)), "{asks:?}");
    for (to, message) in asks {
        let Message::Ask(ask) = message else { panic!("{message:?}") };
        assert_eq!((ask.subject, ask.at, &ask.route[..]), (lost, 1, &[bench.me, to][..]));
    }
    let mut bench = Bench::new(3);
    bench.around.members.set_standing(&lost, Standing::Down, at(1_500));
    assert_eq!(bench.sent(2_000, |m, turn| m.on_link_lost(turn, lost)), [], "that is known");
}

#[test]
fn what_waits_for_a_lost_link_is_dropped() {
    let mut bench = Bench::new(1);
    let peer = bench.peers[0];
    let fact = Fact::Down { subject: peer, incarnation: FIRST };
    bench.membership.outbox.push(peer, fact, at(1_500));
    bench.act(2_000, |m, turn| m.on_link_lost(turn, peer));
    assert_eq!(bench.news(), []);
}

fn ask(route: &[NodeId], at: u8, subject: NodeId) -> Ask {
    Ask { seq: 5, subject, fresh_ms: 0, route: List::capped(route.to_vec()), at }
}

#[test]
fn a_question_travels_its_route_and_no_other() {
    let mut bench = Bench::new(3);
    let [one, two, three] = bench.peers[..] else { panic!() };
    let me = bench.me;
    let sent = bench.sent(2_000, |m, turn| m.on_ask(turn, one, ask(&[one, me, two], 1, three)));
    assert_eq!(sent, [(two, Message::Ask(ask(&[one, me, two], 2, three)))]);
    for (from, route, at) in [
        (one, [one, me, two], 0),
        (one, [one, two, me], 1),
        (two, [one, me, two], 1),
        (one, [me, one, two], 0),
    ] {
        let effects = bench.act(2_000, |m, turn| m.on_ask(turn, from, ask(&route, at, three)));
        assert_eq!(misbehaved(&effects), Some(from), "{route:?}");
    }
}

#[test]
fn an_observer_that_has_just_heard_a_member_says_so_at_once_and_else_asks_it_first() {
    let mut bench = Bench::new(3);
    let [one, _, three] = bench.peers[..] else { panic!() };
    let me = bench.me;
    let seq = bench.seq(three);
    bench.ack(1_100, three, seq);
    let question = Ask { fresh_ms: 150, ..ask(&[one, me], 1, three) };
    let says = |heard_ms| {
        let route = List::capped([one, me]);
        (one, Message::Answer(Answer { seq: 5, subject: three, heard_ms, route, at: 0 }))
    };
    // The probe that was answered left at 1 s.
    let sent = bench.sent(1_150, |m, turn| m.on_ask(turn, one, question.clone()));
    assert_eq!(sent, [says(150)]);
    let sent = bench.sent(1_151, |m, turn| m.on_ask(turn, one, question.clone()));
    let [(to, Message::Probe(probe))] = sent[..] else { panic!("{sent:?}") };
    assert_eq!(to, three);
    let view = bench.around.turn(0).view_hash();
    let ack = ProbeAck { seq: probe.seq, view };
    let sent = bench.sent(1_300, |m, turn| m.on_probe_ack(turn, three, ack));
    assert_eq!(sent, [says(149)]);
    assert_eq!(bench.sent(1_301, |m, turn| m.on_probe_ack(turn, three, ack)), [], "it was told");
    assert_eq!(bench.sent(1_500, |m, turn| m.on_ask(turn, one, ask(&[one, me], 1, me))), []);
}

#[test]
fn an_older_ack_answers_who_says_that_it_is_enough() {
    let mut bench = Bench::new(3);
    let [one, _, three] = bench.peers[..] else { panic!() };
    let me = bench.me;
    let seq = bench.seq(three);
    bench.ack(1_100, three, seq);
    let answered = |bench: &mut Bench, ms, fresh_ms| {
        let ask = Ask { fresh_ms, ..ask(&[one, me], 1, three) };
        let sent = bench.sent(ms, |m, turn| m.on_ask(turn, one, ask));
        let old = u32::try_from(ms - 1_000).unwrap();
        matches!(&sent[..], [(to, Message::Answer(it))] if *to == one && it.heard_ms == old)
    };
    assert!(answered(&mut bench, 1_700, 700));
    assert!(!answered(&mut bench, 1_700, 699));
    assert!(answered(&mut bench, 4_750, u32::MAX), "three quarters of the longest patience");
    assert!(!answered(&mut bench, 4_751, u32::MAX));
    // Who misses it itself knows nothing.
    bench.act(2_000, |m, turn| m.on_link_lost(turn, three));
    assert!(!answered(&mut bench, 2_000, 1_000));
}

#[test]
fn who_asks_after_a_probe_has_left_is_answered_by_the_next_one() {
    let mut bench = Bench::new(3);
    let [one, _, three] = bench.peers[..] else { panic!() };
    let me = bench.me;
    // The probe of 1 s is under way.
    bench.act(1_100, |m, turn| m.on_ask(turn, one, ask(&[one, me], 1, three)));
    let view = bench.around.turn(0).view_hash();
    let acked = |bench: &mut Bench, ms, seq| {
        let sent = bench.sent(ms, |m, turn| m.on_probe_ack(turn, three, ProbeAck { seq, view }));
        sent.into_iter().any(|(to, it)| to == one && matches!(it, Message::Answer(_)))
    };
    assert!(!acked(&mut bench, 1_150, 1), "it may be dead since");
    let sent = bench.sent(2_000, Membership::handle_timeout);
    assert!(sent.iter().any(|(to, it)| *to == three && matches!(it, Message::Probe(_))));
    assert!(acked(&mut bench, 2_050, 2));
}

/// Found by a reviewer: a board that comes and goes isolates all survivors of a mesh in which just less than three
/// quarters are dead. If each time they forgot whom they suspect, the dead would stay.
#[test]
fn who_was_suspected_long_before_a_board_was_isolated_stays_so() {
    for (before, stays) in [(2_001, true), (2_000, false)] {
        let mut bench = Bench::new(4);
        let [one, two, three, four] = bench.peers[..] else { panic!() };
        let alert = Fact::Alert { subject: one, incarnation: FIRST, by: four };
        bench.facts(4_000 - before, four, alert);
        for peer in [one, two, three] {
            bench.act(4_000, |m, turn| m.on_link_lost(turn, peer));
        }
        bench.act(4_000, Membership::handle_timeout);
        assert!(bench.membership.is_isolated());
        for peer in [two, three] {
            bench.ack(4_100, peer, 1);
        }
        bench.act(4_100, Membership::handle_timeout);
        assert!(!bench.membership.is_isolated());
        assert_eq!(bench.membership.suspicions.get(&one).is_some(), stays);
        let watch = &bench.membership.watches[&one].watch;
        assert_eq!(watch.is_silent(), stays, "otherwise it is judged anew");
    }
}

/// How long after a link was lost a board raises an alert. Some of the others answer its probes.
fn patience(bench: &mut Bench, lost: NodeId, living: &[NodeId]) -> u64 {
    for peer in living {
        bench.ack(2_000, *peer, 1);
    }
    bench.act(2_000, |m, turn| m.on_link_lost(turn, lost));
    let alerts = |ms: &u64| {
        for (to, message) in bench.sent(*ms, Membership::handle_timeout) {
            if let Message::Probe(probe) = message
                && living.contains(&to)
            {
                bench.ack(*ms, to, probe.seq);
            }
        }
        bench.membership.suspicions.get(&lost).is_some()
    };
    (2_000..9_000).step_by(100).find(alerts).expect("it is missed") - 2_000
}

#[test]
fn where_nobody_is_left_to_vouch_nobody_is_waited_for() {
    let bench = |silent: &[usize], doubt: &[usize]| {
        let mut bench = Bench::new(4);
        let peers = bench.peers.clone();
        let (me, lost) = (bench.me, peers[0]);
        for other in silent {
            bench.act(2_000, |m, turn| m.on_link_lost(turn, peers[*other]));
        }
        for other in doubt {
            let by = peers[*other];
            bench.act(2_000, |m, turn| m.on_ask(turn, by, ask(&[by, me], 1, lost)));
        }
        let living: Vec<NodeId> =
            (1..4).filter(|other| !silent.contains(other)).map(|other| peers[other]).collect();
        patience(&mut bench, lost, &living)
    };
    assert_eq!(bench(&[], &[]), 3_500);
    assert_eq!(bench(&[], &[1]), 1_200);
    assert_eq!(bench(&[], &[1, 2]), 600);
    assert_eq!(bench(&[1], &[2]), 1_200, "the fourth might");
    assert_eq!(bench(&[1, 3], &[2]), 600, "one of the other three is left, and misses it, too");
    assert_eq!(bench(&[1, 2], &[]), 3_500, "one is left");
}

#[test]
fn who_is_no_member_does_not_count_as_an_observer() {
    let mut bench = Bench::new(4);
    let (me, lost, way) = (bench.me, bench.peers[0], bench.peers[1]);
    for number in [20, 21] {
        let stranger = board(number, |_| ()).id();
        bench.act(2_000, |m, turn| m.on_ask(turn, way, ask(&[stranger, way, me], 2, lost)));
    }
    let living = bench.peers[1..].to_vec();
    assert_eq!(patience(&mut bench, lost, &living), 3_500);
}

#[test]
fn a_question_says_how_old_an_ack_may_be() {
    let mut bench = Bench::new(3);
    let asks = |bench: &mut Bench, ms, what: fn(&mut Membership, &mut Turn<'_>, NodeId)| {
        let one = bench.peers[0];
        let sent = bench.sent(ms, |m, turn| what(m, turn, one));
        let fresh = |(_, message): (NodeId, Message)| match message {
            Message::Ask(ask) if ask.subject == one => Some(ask.fresh_ms),
            _ => None,
        };
        sent.into_iter().filter_map(fresh).collect::<Vec<_>>()
    };
    // The first probe left within a second, and a new link is waited for 3 s.
    let missed = asks(&mut bench, 4_000, |m, turn, _| m.handle_timeout(turn));
    assert_eq!(missed, [2_250; 2]);
    let mut bench = Bench::new(3);
    assert_eq!(asks(&mut bench, 2_000, |m, turn, one| m.on_link_lost(turn, one)), [0; 2]);
}

/// A board that watches four of forty, and whom it does.
fn in_rings() -> (Bench, Vec<NodeId>) {
    let mut bench = Bench::new(40);
    let watched = bench.membership.rings.watched_by(&bench.me).to_vec();
    assert_eq!(watched.len(), rings::RINGS);
    bench.news();
    (bench, watched)
}

#[test]
fn where_many_are_suspected_a_board_watches_whom_they_would() {
    let (mut bench, watched) = in_rings();
    let others = bench.peers.iter().copied().filter(|node| !watched.contains(node));
    let by: Vec<NodeId> = others.take(2).collect();
    let suspect_by = |bench: &mut Bench, ms, subject, by: &[NodeId]| {
        for by in by.iter().copied() {
            bench.facts(ms, by, Fact::Alert { subject, incarnation: FIRST, by });
        }
        bench.act(ms + 100, Membership::handle_timeout);
    };
    let suspect = |bench: &mut Bench, ms, subject| suspect_by(bench, ms, subject, &by);
    // Forty-one are up: five are less than an eighth.
    let others = bench.peers.iter().filter(|node| !watched.contains(node) && !by.contains(node));
    let two: Vec<NodeId> = others.take(2).copied().collect();
    for (ms, subject) in (1_100..).zip([two[0], watched[0], watched[1], watched[2], watched[3]]) {
        suspect(&mut bench, ms, subject);
    }
    suspect_by(&mut bench, 1_200, two[1], &by[..1]);
    assert_eq!(bench.membership.watches.len(), rings::RINGS, "one board alone may be deaf");
    suspect_by(&mut bench, 1_200, two[1], &by[1..]);
    let suspected = bench.membership.suspicions.subjects().collect();
    let covered = rings::covered_by(&bench.me, &bench.around.members, &suspected);
    assert!(covered.len() > rings::RINGS);
    for node in &covered {
        let watch = &bench.membership.watches[node];
        let until = if watched.contains(node) { Time::NEVER } else { at(11_300) };
        assert_eq!(watch.until, until);
        assert_eq!(bench.around.links.errand(node), at(11_300), "a link to it is wanted");
    }
    // Further suspicions are looked at a second later.
    let more = bench
        .peers
        .iter()
        .copied()
        .find(|node| covered.contains(node) && !suspected.contains(node));
    suspect(&mut bench, 1_400, more.expect("each ring ends with one"));
    assert_eq!(bench.membership.cover_at, Some(at(2_300)));
    bench.act(2_300, Membership::handle_timeout);
    assert!(bench.membership.cover_at.is_none());
    assert!(bench.membership.watches.len() > covered.len(), "further on, on one ring");
    bench.act(12_300, Membership::handle_timeout);
    assert_eq!(bench.membership.watches.len(), rings::RINGS, "it is over after ten seconds");
}

#[test]
fn questions_about_a_silent_member_are_kept_for_a_while_and_not_without_end() {
    let mut bench = Bench::new(2);
    let [one, two] = bench.peers[..] else { panic!() };
    let me = bench.me;
    for _ in 0..9 {
        bench.act(2_000, |m, turn| m.on_ask(turn, one, ask(&[one, me], 1, two)));
    }
    assert_eq!(bench.membership.questions[&two].len(), QUESTIONS_MAX);
    bench.act(6_999, Membership::handle_timeout);
    assert!(bench.membership.questions.contains_key(&two));
    bench.act(7_000, Membership::handle_timeout);
    assert!(!bench.membership.questions.contains_key(&two));
}

#[test]
fn an_answer_travels_back_and_postpones_the_alert_of_whoever_asked() {
    let mut bench = Bench::new(3);
    let [one, two, three] = bench.peers[..] else { panic!() };
    let me = bench.me;
    let answer = |route: [NodeId; 3], at| {
        let route = List::capped(route);
        Answer { seq: 5, subject: three, heard_ms: 100, route, at }
    };
    let sent = bench.sent(2_000, |m, turn| m.on_answer(turn, two, answer([one, me, two], 1)));
    assert_eq!(sent, [(one, Message::Answer(answer([one, me, two], 0)))]);
    for (from, route, at) in
        [(one, [one, me, two], 1), (two, [one, me, two], 0), (two, [one, two, me], 2)]
    {
        let effects = bench.act(2_000, |m, turn| m.on_answer(turn, from, answer(route, at)));
        assert_eq!(misbehaved(&effects), Some(from), "{route:?}");
    }
    bench.act(2_000, |m, turn| m.on_link_lost(turn, three));
    let silent = |bench: &Bench| bench.membership.watch(&three).unwrap().is_silent();
    assert!(silent(&bench));
    bench.act(2_050, |m, turn| m.on_answer(turn, one, answer([me, one, two], 0)));
    assert!(silent(&bench), "it had heard it before");
    bench.act(2_100, |m, turn| m.on_answer(turn, one, answer([me, one, two], 0)));
    assert!(!silent(&bench));
}

#[test]
fn a_suspected_member_that_answers_is_told_so_that_it_can_refute() {
    let mut bench = Bench::new(3);
    let [one, two, _] = bench.peers[..] else { panic!() };
    let alert = Fact::Alert { subject: one, incarnation: FIRST, by: two };
    bench.facts(1_000, two, alert.clone());
    bench.news();
    let seq = bench.seq(one);
    bench.ack(1_100, one, seq + 5);
    assert_eq!(bench.news(), [], "that answers nothing");
    bench.ack(1_100, one, seq);
    assert_eq!(bench.news(), [(one, alert)]);
}

#[test]
fn whom_this_board_hears_itself_it_does_not_hold_for_dead() {
    let mut bench = Bench::new(3);
    let [one, two, three] = bench.peers[..] else { panic!() };
    for (by, subject) in [(two, one), (one, two)] {
        bench.facts(1_050, three, Fact::Alert { subject, incarnation: FIRST, by });
    }
    let seq = bench.seq(one);
    bench.ack(1_100, one, seq);
    let downs = |bench: &mut Bench, ms| {
        let effects = bench.act(ms, Membership::handle_timeout);
        let down = |effect| match effect {
            Effect::Event(Event::MemberDown { node, alerters: 1, .. }) => Some(node),
            _ => None,
        };
        effects.into_iter().filter_map(down).collect::<Vec<_>>()
    };
    // One alert counts after 4 s.
    assert_eq!(downs(&mut bench, 5_049), []);
    assert_eq!(downs(&mut bench, 5_050), [two]);
    assert_eq!(bench.standing(one), Standing::Up);
    assert!(bench.membership.suspicions.get(&two).is_none());
    assert!(bench.membership.watch(&two).is_none(), "the rings close behind it");
}

#[test]
fn a_board_that_hears_hardly_anybody_says_so_and_judges_nobody_for_a_while() {
    let mut bench = Bench::new(4);
    let peers = bench.peers.clone();
    let lose = |bench: &mut Bench, node: NodeId| {
        bench.around.links.on_disconnected(&node, "gone".to_owned(), at(1_000));
        bench.act(1_000, |m, turn| m.on_link_lost(turn, node));
        bench.act(1_000, Membership::handle_timeout)
    };
    lose(&mut bench, peers[0]);
    lose(&mut bench, peers[1]);
    assert!(!bench.membership.is_isolated());
    assert_eq!(bench.membership.silent(), (2, 4));
    let effects = lose(&mut bench, peers[2]);
    let isolated = |e: &Effect| {
        matches!(e, Effect::Event(Event::Isolated { silent: 3, of: 4, isolated: true }))
    };
    assert!(bench.membership.is_isolated() && effects.iter().any(isolated));
    assert!(bench.membership.withholds(&bench.around.turn(30_999)));
    assert!(!bench.membership.withholds(&bench.around.turn(31_000)), "it hears somebody still");
    bench.around.links.on_disconnected(&peers[3], "gone".to_owned(), at(1_000));
    assert!(bench.membership.withholds(&bench.around.turn(31_000)), "it hears nobody");
    let seq = bench.seq(peers[0]);
    bench.ack(1_200, peers[0], seq);
    let effects = bench.act(1_200, Membership::handle_timeout);
    let over = |e: &Effect| {
        matches!(e, Effect::Event(Event::Isolated { silent: 2, of: 4, isolated: false }))
    };
    assert!(!bench.membership.is_isolated() && effects.iter().any(over), "{effects:?}");
    let mut small = Bench::new(2);
    for peer in peers[..2].iter() {
        lose(&mut small, *peer);
    }
    assert_eq!((small.membership.silent(), small.membership.is_isolated()), ((2, 2), false));
}

#[test]
fn an_isolated_board_counts_suspicions_anew() {
    let mut bench = Bench::new(4);
    let [one, two, three, four] = bench.peers[..] else { panic!() };
    bench.facts(1_000, two, Fact::Alert { subject: one, incarnation: FIRST, by: two });
    for peer in [two, three, four] {
        bench.act(3_000, |m, turn| m.on_link_lost(turn, peer));
    }
    bench.act(3_000, Membership::handle_timeout);
    bench.act(6_000, Membership::handle_timeout);
    assert_eq!(bench.standing(one), Standing::Up);
    assert_eq!(bench.membership.suspicions.get(&one).unwrap().first, at(6_000));
}

#[test]
fn links_that_are_slow_lengthen_every_verdict_up_to_five_times() {
    let slowness = |rtts: &[u64]| {
        let mut bench = Bench::new(rtts.len() as u8);
        for (peer, ms) in bench.peers.clone().into_iter().zip(rtts) {
            let sent = bench.membership.watches[&peer].watch.due(&bench.membership.timing);
            assert!(sent > at(1_000), "a probe is under way");
            let seq = bench.seq(peer);
            bench.ack(1_000 + ms, peer, seq);
        }
        bench.membership.slowness_now()
    };
    assert_eq!(slowness(&[]), 1_000, "nobody is known");
    assert_eq!(slowness(&[0, 0, 0]), 1_000);
    let median = slowness(&[10, 1_200, 1_900]);
    assert!((3_000..5_000).contains(&median), "{median}");
    assert_eq!(slowness(&[10, 3_000, 3_000]), 5_000);
}

#[test]
fn a_member_that_is_watched_no_more_is_watched_for_a_while_still() {
    let mut bench = Bench::new(rings::FULL_MESH_MAX as u8 - 1);
    // Now everybody watches four.
    for number in 20..30 {
        bench.around.remembers(number);
    }
    bench.membership.rings_stale = true;
    bench.act(2_000, Membership::handle_timeout);
    let watched = bench.membership.rings.watched_by(&bench.me).to_vec();
    assert_eq!(watched.len(), rings::RINGS);
    let until = |bench: &Bench, node| bench.membership.watches.get(node).map(|w| w.until);
    for node in &watched {
        assert_eq!(until(&bench, node), Some(Time::NEVER));
    }
    let former = *bench.peers.iter().find(|node| !watched.contains(node)).expect("eight were");
    for ms in [2_000, 3_000, 11_999] {
        bench.membership.rings_stale = true;
        bench.act(ms, Membership::handle_timeout);
        assert_eq!(until(&bench, &former), Some(at(12_000)));
    }
    bench.act(12_000, Membership::handle_timeout);
    assert_eq!(until(&bench, &former), None);
    let dead = watched[0];
    bench.around.members.set_standing(&dead, Standing::Down, at(13_000));
    bench.membership.rings_stale = true;
    bench.act(13_000, Membership::handle_timeout);
    assert_eq!(until(&bench, &dead), None);
}

#[test]
fn rings_follow_the_list_at_most_once_a_second() {
    let mut bench = Bench::new(1);
    let new = bench.around.peer(2);
    bench.membership.rings_stale = true;
    bench.membership.rings_at = at(2_000);
    bench.act(1_999, Membership::handle_timeout);
    assert!(bench.membership.watch(&new).is_none());
    bench.act(2_000, Membership::handle_timeout);
    assert!(bench.membership.watch(&new).is_some() && !bench.membership.rings_stale);
    assert_eq!(bench.membership.rings_at, at(3_000));
}

#[test]
fn whoever_cannot_be_reached_is_asked_by_way_of_others() {
    let mut bench = Bench::new(3);
    let [lost, unlinked, way] = bench.peers[..] else { panic!() };
    bench.around.links.on_disconnected(&unlinked, "gone".to_owned(), at(1_500));
    let asks = bench.sent(2_000, |m, turn| m.on_link_lost(turn, lost));
    let routes: Vec<Vec<NodeId>> = asks
        .iter()
        .filter_map(|(to, message)| match message {
            Message::Ask(ask) if ask.route[1] == *to => Some(ask.route.to_vec()),
            _ => None,
        })
        .collect();
    // Between nine boards all are neighbours: the shortest way is the link that is gone.
    assert_eq!(routes, [vec![bench.me, way]]);
}

#[test]
fn who_can_ask_nobody_waits_no_longer_than_who_is_not_alone_with_it() {
    let mut bench = Bench::new(1);
    let lost = bench.peers[0];
    assert_eq!(bench.sent(2_000, |m, turn| m.on_link_lost(turn, lost)), []);
    let silent_from = |bench: &mut Bench, ms| {
        bench.act(ms, Membership::handle_timeout);
        bench.membership.suspicions.get(&lost).is_some()
    };
    assert!(!silent_from(&mut bench, 2_599));
    assert!(silent_from(&mut bench, 2_600));
}

/// Found by netsim: a board that had been refused by all for a while condemned one of them as soon as it heard the
/// others again, and all of them believed it for some seconds.
#[test]
fn who_hears_others_again_condemns_nobody_by_what_it_has_heard_meanwhile() {
    let mut bench = Bench::new(4);
    let [one, two, three, four] = bench.peers[..] else { panic!() };
    for peer in [one, two, three] {
        bench.act(2_000, |m, turn| m.on_link_lost(turn, peer));
    }
    for ms in (2_000..9_000).step_by(500) {
        bench.act(ms, Membership::handle_timeout);
    }
    assert!(bench.membership.suspicions.get(&one).is_some_and(|s| s.by.len() == 1));
    // Somebody else misses it, too.
    bench.facts(9_000, four, Fact::Alert { subject: two, incarnation: FIRST, by: four });
    for peer in [three, four] {
        let next = bench.membership.watches[&peer].watch.clone().probe_now(at(60_000));
        bench.ack(9_000, peer, next.expect("the last one is long under way") - 1);
    }
    bench.act(9_000, Membership::handle_timeout);
    assert!(!bench.membership.is_isolated());
    // Who said so may have been cut off together with it.
    assert_eq!(bench.membership.suspicions.subjects().count(), 0);
    assert!(!bench.membership.watches[&one].watch.is_silent(), "it is judged anew");
}

/// A copy of a peer's card: what two boards say arrives as from one.
#[test]
fn a_peer_whose_probes_are_those_of_two_is_named_and_not_answered() {
    let mut bench = Bench::new(1);
    let peer = bench.peers[0];
    let (record, joined) = (board(1, |_| ()).record().clone(), board(1, |_| ()).joined());
    bench.act(1_000, |m, turn| m.on_admitted(turn, peer, record.clone(), joined.clone()));
    bench.membership.take_notices();
    let view = bench.around.turn(0).view_hash();
    let mut answered = 0;
    for nr in 1..=5_u64 {
        for seq in [900 + nr, 100 + nr] {
            let probe = Probe { seq, view };
            answered += bench.sent(2_000, |m, turn| m.on_probe(turn, peer, probe)).len();
        }
    }
    assert_eq!(answered, 9);
    assert_eq!(bench.membership.take_notices(), [Notice::Twins(peer)]);
    let signed = board(1, |_| ()).signed().clone();
    assert!(bench.membership.refuses(&peer, &signed, at(3_000)));
    assert!(!bench.membership.refuses(&bench.me.clone(), &signed, at(3_000)));
    let later = at(2_000) + twins::REFUSED_FOR;
    assert!(!bench.membership.refuses(&peer, &signed, later), "only one has come since");
}
