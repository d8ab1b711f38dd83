//! One member under watch: probe, wait, ask the others, raise the alert.
//!
//! ```text
//!  ┌─────────── ack ───────────┐
//!  ▼                           │
//! calm ──ack timeout──▶ asked ─┴─nobody vouches in time──▶ alerted ──ack──▶ calm
//!                        └─somebody vouches──▶ calm (until the next probe is missed)
//! ```
//!
//! Only an ack of an own probe counts as first-hand: it proves both directions. What others say
//! counts only as "not yet". Pure: no view of the mesh, no messages.
//!
//! An ack that another observer had counts if it answers a probe that was sent well after the one missed here, even
//! if that was before the question: a member that was dead when this one came has answered none that came later. So an
//! observer mostly has its answer ready, which matters where a fifth of the packets is lost.
//!
//! How long a vouch is waited for depends on how many other observers miss the member, too. A member that dies
//! is missed by all its observers within a second, and each asks the others; a link that stalls is missed by
//! one, seldom by two at once, and its alert would be flooded through the whole mesh and refuted through the
//! whole mesh. So who is alone with it, or with one more, has more patience. It is the third alert that decides.

use core::time::Duration;

use crate::proto::config::MembershipTiming;
use crate::proto::id::NodeId;
use crate::proto::machine::Time;

/// A link counts as new, with a longer ack timeout, until so many probes were answered.
const NEW_LINK_ACKS: u32 = 3;
/// The first ack of a member that is watched in place of suspected observers is awaited so long. Enough to dial and to
/// greet over a way of 300 ms.
const COVER_PATIENCE: Duration = Duration::from_secs(2);
/// So slowly the slowest round trip is forgotten: half of it in 22 acks. Where a fifth of the packets is lost,
/// one probe in thirty takes ten times as long as the others.
const SLOWEST_DECAY: u32 = 32;
/// Another observer that missed the member so long before counts: probes of one death are a second apart.
const DOUBT_LASTS: Duration = Duration::from_secs(1);
/// Probes whose sending times are kept, so that a late ack still teaches how slow the link is.
const RECENT: usize = 8;

/// One member under watch.
#[derive(Clone, Debug)]
pub struct Watch {
    /// Probes answered since the link is judged.
    acks: u32,
    next_probe: Time,
    /// The newest probe, while it is unanswered and not given up.
    outstanding: Option<Time>,
    seq: u64,
    recent: [(u64, Time); RECENT],
    asked: Option<Time>,
    /// An ack that another observer had so long before it was asked is later than the one that was missed.
    fresh: Duration,
    /// The last two other observers that were known to miss the member, and when.
    doubted: [Option<(NodeId, Time)>; 2],
    /// When it was last known that nobody is left who could vouch for it.
    forsaken: Option<Time>,
    alerted: bool,
    /// When another observer had an ack last.
    vouched: Option<Time>,
    /// When an ack arrived last.
    pub heard: Option<Time>,
    /// When the newest probe that was answered had been sent: the member was there after that.
    pub proven: Option<Time>,
    /// Nothing was heard from it since it is watched in place of suspected observers.
    covers: bool,
    /// Round trip of the last answered probe.
    pub rtt: Option<Duration>,
    /// Decaying maximum of the round trip.
    slowest: Duration,
}

/// What a watch wants done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Send a probe with this number.
    Probe(u64),
    /// Ask the other observers whether they hear the member.
    Ask,
    /// Nobody hears it: tell everyone.
    Alert,
}

impl Watch {
    /// A member to watch from now on; the first probe leaves `phase` from now.
    pub fn new(now: Time, phase: Duration) -> Self {
        Self {
            acks: 0,
            next_probe: now + phase,
            outstanding: None,
            seq: 0,
            recent: [(0, now); RECENT],
            asked: None,
            fresh: Duration::ZERO,
            doubted: [None; 2],
            forsaken: None,
            alerted: false,
            vouched: None,
            heard: None,
            proven: None,
            covers: false,
            rtt: None,
            slowest: Duration::ZERO,
        }
    }

    /// The same at once, for a member whose observers are suspected: it may be as dead as they are, so its link is
    /// waited for less long than that to one who has just come.
    pub fn covering(now: Time) -> Self {
        Self { covers: true, ..Self::new(now, Duration::ZERO) }
    }

    /// The next thing to do that is due, if any. Call until none is left.
    pub fn step(&mut self, now: Time, timing: &MembershipTiming) -> Option<Step> {
        if let Some(sent) = self.outstanding
            && let timeout = self.timeout(timing)
            && now >= sent + timeout
        {
            self.outstanding = None;
            if !self.alerted && self.asked.is_none() {
                self.asked = Some(now);
                // A probe that left a quarter of the wait later reached it after this one should have.
                self.fresh = timeout * 3 / 4;
                return Some(Step::Ask);
            }
        }
        if let Some(asked) = self.asked
            && now >= asked + self.wait_for_vouch(asked, timing)
        {
            self.asked = None;
            self.alerted = true;
            return Some(Step::Alert);
        }
        if self.outstanding.is_none() && now >= self.next_probe {
            self.next_probe =
                (self.next_probe + timing.probe_interval).max(now + timing.probe_interval / 2);
            return Some(Step::Probe(self.probe(now)));
        }
        None
    }

    /// When [`Watch::step`] has something to do next.
    pub fn due(&self, timing: &MembershipTiming) -> Time {
        let miss = self.outstanding.map(|sent| sent + self.timeout(timing));
        let verdict = self.asked.map(|asked| asked + self.wait_for_vouch(asked, timing));
        let probe = self.outstanding.is_none().then_some(self.next_probe);
        [miss, verdict, probe].into_iter().flatten().min().unwrap_or(Time::NEVER)
    }

    /// A probe out of turn, because somebody asked. None while a fresh one is under way.
    pub fn probe_now(&mut self, now: Time) -> Option<u64> {
        let fresh =
            self.outstanding.is_some_and(|sent| now.since(sent) < Duration::from_millis(200));
        if fresh {
            return None;
        }
        let waiting_since = self.outstanding;
        let seq = self.probe(now);
        // The earlier probe keeps its deadline: being asked often must not postpone a verdict.
        self.outstanding = waiting_since.or(self.outstanding);
        Some(seq)
    }

    /// An ack arrived. Returns whether it answers a recent probe.
    pub fn on_ack(&mut self, seq: u64, now: Time) -> bool {
        let Some((_, sent)) = self.recent.iter().find(|(known, _)| *known == seq && seq != 0)
        else {
            return false;
        };
        let rtt = now.since(*sent);
        self.slowest = rtt.max(self.slowest - self.slowest / SLOWEST_DECAY);
        self.acks = self.acks.saturating_add(1);
        self.rtt = Some(rtt);
        self.heard = Some(now);
        self.proven = self.proven.max(Some(*sent));
        self.covers = false;
        self.outstanding = None;
        self.asked = None;
        self.alerted = false;
        true
    }

    /// Another observer misses the member as well: it asks about it, or has raised an alert.
    pub fn on_doubted(&mut self, now: Time, by: NodeId) {
        let other = self.doubted.into_iter().flatten().find(|(who, _)| *who != by);
        self.doubted = [Some((by, now)), other];
    }

    /// Nobody is left who could vouch for the member.
    pub fn on_forsaken(&mut self, now: Time) {
        self.forsaken = Some(now);
    }

    /// Another observer had an ack from the member, `ago` before now.
    pub fn on_vouched(&mut self, now: Time, ago: Duration) {
        self.vouched = self.vouched.max(Some(now - ago));
        if self.vouched >= self.asked || ago <= self.fresh {
            self.asked = None;
        }
    }

    /// The link broke: no need to wait for the ack. Returns whether the others should be asked.
    pub fn on_link_lost(&mut self, now: Time) -> bool {
        self.outstanding = None;
        if self.alerted || self.asked.is_some() {
            return false;
        }
        self.asked = Some(now);
        self.fresh = Duration::ZERO;
        true
    }

    /// How old the ack of another observer may be that answers the question about this member.
    pub fn fresh(&self) -> Duration {
        self.fresh
    }

    /// Judge the member anew, as one that was just met: it refuted a suspicion or came back.
    pub fn renew(&mut self, now: Time) {
        self.acks = 0;
        self.begin_anew(now);
    }

    /// Judge the member anew, as patiently as before: it was this node that heard nothing.
    pub fn begin_anew(&mut self, now: Time) {
        self.asked = None;
        self.alerted = false;
        self.outstanding = None;
        self.next_probe = self.next_probe.min(now);
    }

    /// Whether nothing was heard for longer than a probe may take.
    pub fn is_silent(&self) -> bool {
        self.alerted || self.asked.is_some()
    }

    /// How long this link has earned to be waited for.
    pub fn patience(&self, timing: &MembershipTiming) -> Duration {
        (self.slowest * 5 / 2).clamp(timing.ack_timeout_min, timing.ack_timeout_max)
    }

    /// How long after asking somebody may still vouch for the member.
    fn wait_for_vouch(&self, asked: Time, timing: &MembershipTiming) -> Duration {
        let counts = |at: Time| at + DOUBT_LASTS >= asked;
        let others = self.doubted.into_iter().flatten().filter(|(_, at)| counts(*at)).count();
        match others {
            _ if self.forsaken.is_some_and(counts) => timing.ask_wait,
            0 => timing.ask_wait_alone,
            1 => timing.ask_wait * 2,
            _ => timing.ask_wait,
        }
    }

    /// How long to wait for an ack.
    fn timeout(&self, timing: &MembershipTiming) -> Duration {
        match self.acks < NEW_LINK_ACKS {
            true if self.covers => self.patience(timing).max(COVER_PATIENCE),
            true => self.patience(timing).max(timing.ack_timeout_new),
            false => self.patience(timing),
        }
    }

    fn probe(&mut self, now: Time) -> u64 {
        self.seq += 1;
        self.recent[(self.seq as usize) % RECENT] = (self.seq, now);
        self.outstanding = Some(now);
        self.seq
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::id::PublicKey;

    const TIMING: fn() -> MembershipTiming = MembershipTiming::default;

    fn at(ms: u64) -> Time {
        Time(ms * 1_000_000)
    }

    /// Two others miss it.
    fn doubted(watch: &mut Watch, now: Time) {
        for other in [1, 2] {
            watch.on_doubted(now, PublicKey([other; 32]));
        }
    }

    /// A watch over a link with a history, whose probe at 20 s was just sent.
    fn probed() -> Watch {
        let mut watch = Watch::new(at(0), Duration::ZERO);
        watch.acks = NEW_LINK_ACKS;
        watch.next_probe = at(20_000);
        assert_eq!(watch.step(at(20_000), &TIMING()), Some(Step::Probe(1)));
        watch
    }

    #[test]
    fn silence_leads_to_asking_and_then_to_an_alert() {
        let mut watch = probed();
        doubted(&mut watch, at(20_500));
        assert_eq!(watch.step(at(20_999), &TIMING()), None);
        assert_eq!(watch.step(at(21_000), &TIMING()), Some(Step::Ask));
        assert_eq!(watch.step(at(21_000), &TIMING()), Some(Step::Probe(2)));
        assert_eq!(watch.step(at(21_599), &TIMING()), None);
        assert_eq!(watch.step(at(21_600), &TIMING()), Some(Step::Alert));
        assert!(watch.is_silent());
        assert!(watch.on_ack(2, at(21_700)));
        assert!(!watch.is_silent());
    }

    #[test]
    fn who_alone_misses_a_member_waits_longer_until_others_do() {
        let mut watch = probed();
        doubted(&mut watch, at(18_900));
        assert_eq!(watch.step(at(21_000), &TIMING()), Some(Step::Ask), "that was long before");
        assert_eq!(watch.step(at(21_000), &TIMING()), Some(Step::Probe(2)));
        let mut alone = watch.clone();
        assert_eq!(alone.step(at(21_999), &TIMING()), None);
        alone.outstanding = None;
        alone.next_probe = at(99_000);
        assert_eq!(alone.due(&TIMING()), at(24_500));
        assert_eq!(alone.step(at(24_500), &TIMING()), Some(Step::Alert));
        let mut forsaken = watch.clone();
        forsaken.on_forsaken(at(21_900));
        assert_eq!(forsaken.step(at(21_900), &TIMING()), Some(Step::Alert));
        for _ in 0..2 {
            watch.on_doubted(at(21_900), PublicKey([3; 32]));
        }
        assert_eq!(watch.step(at(21_999), &TIMING()), None, "one other, who said so twice");
        let mut two = watch.clone();
        two.on_doubted(at(21_950), PublicKey([4; 32]));
        assert_eq!(two.step(at(21_950), &TIMING()), Some(Step::Alert));
        watch.outstanding = None;
        watch.next_probe = at(99_000);
        assert_eq!(watch.step(at(22_199), &TIMING()), None);
        assert_eq!(watch.step(at(22_200), &TIMING()), Some(Step::Alert));
    }

    #[test]
    fn an_observer_that_vouches_postpones_the_alert_to_the_next_missed_probe() {
        let mut watch = probed();
        assert_eq!(watch.step(at(21_000), &TIMING()), Some(Step::Ask));
        watch.on_vouched(at(21_300), Duration::from_millis(100));
        assert_eq!(watch.step(at(21_300), &TIMING()), Some(Step::Probe(2)));
        assert_eq!(watch.step(at(21_700), &TIMING()), None);
        assert_eq!(watch.step(at(22_300), &TIMING()), Some(Step::Ask));
    }

    #[test]
    fn what_an_observer_heard_counts_from_a_quarter_of_the_wait_for_the_missed_ack_on() {
        let vouched = |ago| {
            let mut watch = probed();
            doubted(&mut watch, at(21_000));
            assert_eq!(watch.step(at(21_000), &TIMING()), Some(Step::Ask));
            watch.on_vouched(at(21_300), Duration::from_millis(ago));
            watch.outstanding = None;
            watch.next_probe = at(99_000);
            watch.step(at(21_600), &TIMING()) != Some(Step::Alert)
        };
        assert_eq!([vouched(750), vouched(751)], [true, false], "it was probed at 20 s");
    }

    #[test]
    fn when_a_link_is_lost_only_what_is_heard_later_counts() {
        let mut watch = probed();
        assert_eq!(watch.step(at(21_000), &TIMING()), Some(Step::Ask));
        assert_eq!(watch.fresh(), Duration::from_millis(750));
        watch.on_vouched(at(21_010), Duration::ZERO);
        assert!(watch.on_link_lost(at(21_100)));
        assert_eq!(watch.fresh(), Duration::ZERO);
        watch.on_vouched(at(21_150), Duration::from_millis(51));
        assert!(watch.is_silent());
        watch.on_vouched(at(21_150), Duration::from_millis(50));
        assert!(!watch.is_silent());
    }

    #[test]
    fn a_slow_ack_teaches_a_longer_timeout() {
        let mut watch = probed();
        assert_eq!(watch.step(at(21_000), &TIMING()), Some(Step::Ask));
        assert!(watch.on_ack(1, at(21_500)));
        assert_eq!(watch.patience(&TIMING()), Duration::from_millis(3750));
        assert!(!watch.on_ack(77, at(21_500)), "an ack of a probe never sent");
    }

    #[test]
    fn a_lost_link_is_asked_about_at_once_and_the_ack_is_not_waited_for() {
        let mut watch = probed();
        doubted(&mut watch, at(20_000));
        assert!(watch.on_link_lost(at(20_100)));
        assert!(!watch.on_link_lost(at(20_200)), "the others are being asked already");
        assert_eq!(watch.step(at(20_699), &TIMING()), None);
        assert_eq!(watch.step(at(20_700), &TIMING()), Some(Step::Alert));
    }

    #[test]
    fn after_all_steps_the_next_one_is_later() {
        let mut watch = Watch::new(at(0), Duration::from_millis(300));
        let mut now = at(0);
        for _ in 0..200 {
            while watch.step(now, &TIMING()).is_some() {}
            let due = watch.due(&TIMING());
            assert!(due > now, "due {due:?} at {now:?}");
            now = due;
        }
    }

    #[test]
    fn a_probe_out_of_turn_is_sent_unless_one_has_just_left_and_delays_no_verdict() {
        let mut watch = probed();
        assert_eq!(watch.probe_now(at(20_199)), None);
        assert_eq!(watch.probe_now(at(20_200)), Some(2));
        assert_eq!(watch.step(at(20_999), &TIMING()), None);
        assert_eq!(watch.step(at(21_000), &TIMING()), Some(Step::Ask), "the first one counts");
        let mut idle = Watch::new(at(0), Duration::from_secs(9));
        assert_eq!(idle.probe_now(at(0)), Some(1));
        assert!(idle.on_ack(1, at(10)));
    }

    #[test]
    fn a_new_link_is_waited_for_longer_and_so_is_one_that_is_judged_anew() {
        let timeout = |acks| {
            let mut watch = Watch { acks, ..probed() };
            (20_000..30_000).find(|ms| watch.step(at(*ms), &TIMING()) == Some(Step::Ask))
        };
        assert_eq!([timeout(2), timeout(3)], [Some(23_000), Some(21_000)]);
        let mut watch = probed();
        assert_eq!(watch.step(at(21_000), &TIMING()), Some(Step::Ask));
        watch.renew(at(21_100));
        assert!(!watch.is_silent());
        assert_eq!(watch.step(at(21_100), &TIMING()), Some(Step::Probe(2)), "at once");
        assert_eq!(watch.step(at(24_099), &TIMING()), None);
        assert_eq!(watch.step(at(24_100), &TIMING()), Some(Step::Ask));
    }

    #[test]
    fn who_is_watched_in_place_of_others_is_probed_at_once_and_waited_for_two_seconds() {
        let mut watch = Watch::covering(at(20_000));
        assert_eq!(watch.step(at(20_000), &TIMING()), Some(Step::Probe(1)));
        assert_eq!(watch.step(at(21_999), &TIMING()), None);
        let mut met = watch.clone();
        met.renew(at(21_000));
        assert_eq!(watch.step(at(22_000), &TIMING()), Some(Step::Ask));
        // Its hello came: it is probed at once, and waited for no longer.
        assert_eq!(met.step(at(21_000), &TIMING()), Some(Step::Probe(2)));
        assert_eq!(met.step(at(22_999), &TIMING()), None);
        assert_eq!(met.clone().step(at(23_000), &TIMING()), Some(Step::Ask));
        assert!(met.on_ack(2, at(21_010)));
        assert_eq!(met.proven, Some(at(21_000)), "when the probe was sent");
        met.next_probe = at(30_000);
        assert_eq!(met.step(at(30_000), &TIMING()), Some(Step::Probe(3)));
        assert_eq!(met.step(at(32_999), &TIMING()), None, "a new link like any other");
        assert_eq!(met.step(at(33_000), &TIMING()), Some(Step::Ask));
    }

    #[test]
    fn a_slow_round_trip_is_forgotten_slowly() {
        let mut watch = probed();
        assert!(watch.on_ack(1, at(22_000)));
        assert_eq!(watch.patience(&TIMING()), Duration::from_secs(5));
        for _ in 0..22 {
            let seq = watch.probe(at(30_000));
            assert!(watch.on_ack(seq, at(30_001)));
        }
        let half = watch.slowest.as_millis();
        assert!((950..1_050).contains(&half), "{half}");
    }

    #[test]
    fn who_is_silent_already_or_being_asked_about_is_not_asked_about_again() {
        let mut watch = probed();
        doubted(&mut watch, at(21_000));
        assert_eq!(watch.step(at(21_000), &TIMING()), Some(Step::Ask));
        assert_eq!(watch.step(at(21_600), &TIMING()), Some(Step::Alert));
        let asks = |ms: &u64| watch.step(at(*ms), &TIMING()) == Some(Step::Ask);
        assert_eq!((21_600..60_000).step_by(100).find(asks), None);
    }

    #[test]
    fn probes_leave_an_interval_apart_and_not_in_a_bunch_after_a_pause() {
        let mut watch = Watch::new(at(0), Duration::ZERO);
        let mut seq = 0;
        let mut probes = |ms| {
            let probe = watch.step(at(ms), &TIMING());
            seq += u64::from(probe.is_some());
            watch.on_ack(seq, at(ms));
            probe == Some(Step::Probe(seq))
        };
        assert_eq!([probes(0), probes(999), probes(1_000)], [true, false, true]);
        assert_eq!([probes(7_900), probes(8_399), probes(8_400)], [true, false, true]);
    }
}
