//! One board's authority alone, with a disk that writes at once.

mod candidate;
mod office;
mod recovery;
mod voter;

use super::*;
use crate::proto::io::Effect;
use crate::proto::table::{Row, Voters};
use crate::proto::turn::samples::{self, Surroundings};
use crate::proto::wire::Message;
use crate::proto::wire::authority::{App, AppOk, PreVote, PreVoteOk, Vote, VoteOk};

/// All times here count from then, milliseconds: an answer to what was sent at 0 would answer nothing.
const START: u64 = 1_000;
/// The term in which the table of a bench was chosen.
const BEFORE: Term = Term(4);

fn at(ms: u64) -> Time {
    samples::at(START + ms)
}

struct Bench {
    around: Surroundings,
    authority: Authority,
    me: NodeId,
    /// The other two voters.
    one: NodeId,
    two: NodeId,
}

impl Bench {
    /// One of three voters, linked to the other two, that remembers their table and when it promised a lease.
    fn remembering(lease_ms: u32, rows: Vec<Row>) -> Self {
        let mut around = Surroundings::new();
        let (me, one, two) = (around.joins(), around.peer(1), around.peer(2));
        let version = Version { term: BEFORE, number: 7, ..Version::default() };
        let voters = List::capped([me, one, two]);
        let table = Table { version, voters, rows, ..Table::default() };
        let stored = Remembered { term: BEFORE, vote: None, lease_ms };
        let authority = Authority::new(Preset::LAN, stored, Some(table), at(0));
        Self { around, authority, me, one, two }
    }

    fn new() -> Self {
        Self::remembering(0, Vec::new())
    }

    /// The master of the next term since `ms`, whose table is chosen.
    fn elected(ms: u64) -> Self {
        Self::elected_with(ms, Vec::new())
    }

    fn elected_with(ms: u64, rows: Vec<Row>) -> Self {
        let mut bench = Self::remembering(0, rows);
        bench.act(ms, Authority::handle_timeout);
        let (one, term) = (bench.one, Term(BEFORE.0 + 1));
        bench.act(ms, |a, turn| a.on_pre_vote_ok(turn, one, PreVoteOk { term, granted: true }));
        bench.act(ms, |a, turn| a.on_vote_ok(turn, one, VoteOk { term, granted: true }));
        bench.answered_by(ms, &[one, bench.two]);
        assert_eq!(bench.authority.reign(at(ms)), Some((term, at(ms) + Preset::LAN.lease)));
        bench
    }

    /// What a call leads to, but for what is written down: that is durable at once.
    fn act(&mut self, ms: u64, what: impl FnOnce(&mut Authority, &mut Turn<'_>)) -> Vec<Effect> {
        what(&mut self.authority, &mut self.around.turn(START + ms));
        let mut seen = Vec::new();
        loop {
            let effects = self.around.effects();
            if effects.is_empty() {
                return seen;
            }
            for effect in effects {
                let Effect::Persist { record, .. } = effect else {
                    seen.push(effect);
                    continue;
                };
                let stored = match record {
                    Record::Term { term, vote, lease_ms } => {
                        Stored::Term(Remembered { term, vote, lease_ms })
                    }
                    Record::Table(table) => Stored::Table(table.version),
                    other => panic!("{other:?} is not written here"),
                };
                self.authority.on_stored(&mut self.around.turn(START + ms), stored);
            }
        }
    }

    fn sent(&mut self, ms: u64, what: impl FnOnce(&mut Authority, &mut Turn<'_>)) -> Vec<Message> {
        let effects = self.act(ms, what).into_iter();
        let sent = effects.filter_map(|effect| match effect {
            Effect::Send { message, .. } => Some(message),
            _ => None,
        });
        sent.collect()
    }

    /// These have what the master sent just now, and say so.
    fn answered_by(&mut self, ms: u64, those: &[NodeId]) -> Vec<Effect> {
        let mut seen = Vec::new();
        for node in those {
            let (term, durable) = (self.authority.term, self.authority.table.version);
            let ok = AppOk { term, sent: at(ms).0, durable };
            seen.extend(self.act(ms, |a, turn| a.on_app_ok(turn, *node, ok)));
        }
        seen
    }

    /// Heartbeats from `from` to `to`, all answered.
    fn beats(&mut self, from: u64, to: u64, those: &[NodeId]) {
        for ms in (from..=to).step_by(250) {
            self.act(ms, Authority::handle_timeout);
            self.answered_by(ms, those);
        }
    }

    fn is_leader(&self) -> bool {
        matches!(self.authority.role, Role::Leader(_))
    }
}

fn misbehaved(effects: &[Effect]) -> bool {
    effects.iter().any(|e| matches!(e, Effect::Event(Event::Misbehaved { .. })))
}

/// A heartbeat of the master of that term, without a table.
fn heartbeat(term: u64, sent_ms: u64) -> App {
    App {
        generation: Default::default(),
        term: Term(term),
        sent: at(sent_ms).0,
        lease_ms: 1500,
        committed: Version::default(),
        table: None,
    }
}

#[test]
fn a_candidate_with_a_slow_disk_waits_until_votes_can_be_durable() {
    let tries_again = |fsync_ms| {
        let mut authority = Authority::new(Preset::LAN, Remembered::default(), None, at(0));
        authority.slow_disk = Duration::from_millis(fsync_ms);
        authority.schedule_retry(&mut Surroundings::new().turn(START));
        authority.stand_at
    };
    // The order of rank and chance come on top.
    for (fsync_ms, wait) in [(0, 1_500), (400, 1_600), (1_000, 4_000), (60_000, 10_000)] {
        let extra = tries_again(fsync_ms).since(at(wait));
        assert!(tries_again(fsync_ms) >= at(wait) && extra < BAND * 4, "{fsync_ms}: {extra:?}");
    }
}

#[test]
fn how_slow_a_disk_is_is_learnt_at_once_and_forgotten_slowly() {
    let mut bench = Bench::new();
    let stored = |bench: &mut Bench, from, to| {
        bench.authority.persist_term(&mut bench.around.turn(START + from), 0);
        let stored = Stored::Term(bench.authority.stored);
        bench.authority.on_stored(&mut bench.around.turn(START + to), stored);
        bench.authority.slow_disk.as_millis()
    };
    assert_eq!(stored(&mut bench, 0, 800), 800);
    assert_eq!(stored(&mut bench, 1_000, 1_010), 700);
    assert_eq!(stored(&mut bench, 2_000, 2_900), 900);
}

#[test]
fn two_writes_at_once_count_from_the_first_one() {
    let mut bench = Bench::new();
    bench.authority.persist_table(&mut bench.around.turn(START));
    bench.authority.persist_term(&mut bench.around.turn(START + 300), 0);
    let stored = Stored::Table(bench.authority.table.version);
    bench.authority.on_stored(&mut bench.around.turn(START + 500), stored);
    assert_eq!(bench.authority.slow_disk.as_millis(), 500);
}

#[test]
fn a_founder_begins_with_itself_as_the_only_voter_and_never_begins_anew() {
    let mut around = Surroundings::new();
    let me = around.joins();
    let mut authority = Authority::new(Preset::LAN, Remembered::default(), None, at(0));
    authority.found(&mut around.turn(START));
    assert_eq!(authority.table.voters, Voters::capped([me]));
    assert_eq!(authority.table.version.number, 1);
    assert_eq!(around.effects().len(), 1, "it is written down");
    authority.found(&mut around.turn(START + 1));
    assert_eq!(around.effects(), []);
}

#[test]
fn who_was_master_is_bound_by_what_it_issued_and_stands_again_later_than_others() {
    let mut bench = Bench::elected(0);
    let changed = VoteOk { term: Term(BEFORE.0 + 2), granted: false };
    let one = bench.one;
    let effects = bench.act(100, |a, turn| a.on_vote_ok(turn, one, changed));
    assert!(matches!(&effects[..], [Effect::Event(Event::SteppedDown { term: 5, .. })]));
    assert_eq!(bench.authority.master(), (None, Term(6)));
    assert!(bench.authority.promise.binds(at(1_499)) && !bench.authority.promise.binds(at(1_500)));
    assert!(bench.authority.stand_at >= at(1_500));
    let asked = bench.authority.stand_at.since(at(0)).as_millis() as u64 + 1;
    assert_eq!(bench.sent(asked - 1, Authority::handle_timeout), []);
    assert_eq!(bench.sent(asked, Authority::handle_timeout).len(), 2);
}

#[test]
fn a_board_that_cannot_decide_looks_only_now_and_then() {
    let mut around = Surroundings::new();
    let (me, one) = (around.joins(), around.peer(1));
    let table = Table { voters: List::capped([one]), ..Table::default() };
    let mut authority = Authority::new(Preset::LAN, Remembered::default(), Some(table), at(0));
    authority.handle_timeout(&mut around.turn(START));
    assert_eq!(around.sent(), []);
    assert_eq!(authority.stand_at, at(10_000));
    authority.table.incoming = Some(List::capped([me]));
    authority.handle_timeout(&mut around.turn(START + 10_000));
    assert_eq!(around.sent().len(), 1, "it decides from now on");
}

#[test]
fn after_a_restart_a_voter_waits_for_as_long_as_it_may_have_promised() {
    let bench = Bench::remembering(1_500, Vec::new());
    let free = at(0) + promised(Duration::from_millis(1_500));
    assert_eq!((bench.authority.silent_until, bench.authority.stand_at), (free, free));
    let bench = Bench::remembering(0, Vec::new());
    assert!(bench.authority.silent_until <= at(0) && bench.authority.stand_at == at(0));
}
