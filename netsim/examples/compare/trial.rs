//! One trial: the same steps for every system.
//!
//! A mesh forms without loss. Then, for each loss in turn: it settles, is left alone for a while, in
//! which bytes are counted, and one board after the other loses power at a drawn moment, the next one a
//! while after all others know of the last. Boards that died stay dead, so few die in a small mesh.

use std::cell::RefMut;
use std::collections::BTreeMap;
use std::time::Duration;

use hedgerow_netsim::campaign;
use hedgerow_netsim::queue::BoardIndex;
use hedgerow_netsim::seed::{Purpose, Stream};
use hedgerow_netsim::time::{MILLI, Nanos, SECOND};

use crate::ledger::{Counts, Ledger};

/// From the start to the first loss, and after each loss.
const CALM: Nanos = 20 * SECOND;
/// From the beginning of a loss until bytes are counted.
const SETTLE: Nanos = 20 * SECOND;
/// A crash comes at a random moment of a time of that length.
const MOMENT: Nanos = 3 * SECOND;
/// How often it is looked whether all know. The time itself is exact.
const LOOK: Nanos = SECOND / 4;

/// A protocol under test.
pub(crate) trait System {
    /// In the mean, how long its rarest periodic work takes: bytes are counted for one round of it.
    fn round(&self) -> Nanos;
    /// Lets everything happen that is due until then.
    fn run_until(&mut self, end: Nanos);
    /// From now on so many of a hundred packets are lost.
    fn set_loss(&mut self, percent: u8);
    /// A board loses power: nobody is told.
    fn crash(&mut self, board: BoardIndex);
    /// What is seen.
    fn ledger(&self) -> RefMut<'_, Ledger>;
}

/// What to do with one mesh.
#[derive(Clone, Debug)]
pub(crate) struct Trial {
    pub(crate) seed: u64,
    pub(crate) boards: BoardIndex,
    /// Per cent.
    pub(crate) losses: Vec<u8>,
    /// At each loss.
    pub(crate) crashes: usize,
    /// Bytes are counted for that long at each loss before anybody crashes; none: for one round.
    pub(crate) idle: Option<Nanos>,
    /// A crash that somebody does not know of after that long never becomes known.
    pub(crate) horizon: Nanos,
}

/// What came of one loss, of one mesh or of several.
#[derive(Clone, Default, Debug)]
pub(crate) struct Result {
    /// Times until all knew; none: not within the horizon.
    pub(crate) known: Vec<Option<Nanos>>,
    pub(crate) false_losses: u64,
    /// Board-time under this loss.
    pub(crate) node_time: Nanos,
    pub(crate) idle_bytes: u64,
    pub(crate) idle_messages: u64,
    pub(crate) idle_kinds: BTreeMap<&'static str, u64>,
    /// The most peers that a board was connected with meanwhile, voters aside.
    pub(crate) most_links: usize,
    /// Board-time in which those were counted.
    pub(crate) idle_time: Nanos,
    pub(crate) cpu: Duration,
}

impl Trial {
    /// Runs it. The first loss's processor time includes the forming of the mesh.
    pub(crate) fn run(&self, form: impl FnOnce() -> Box<dyn System>) -> Vec<Result> {
        let mut cpu = campaign::cpu_time();
        let mut system = form();
        let mut victims = self.victims();
        let mut now = CALM;
        let mut results = Vec::new();
        for loss in &self.losses {
            system.run_until(now);
            system.ledger().take();
            system.set_loss(*loss);
            let mut result = Result::default();
            now = self.phase(&mut *system, now, &mut victims, &mut result);
            system.set_loss(0);
            now += CALM;
            let spent = campaign::cpu_time();
            result.cpu = spent.saturating_sub(std::mem::replace(&mut cpu, spent));
            results.push(result);
        }
        results
    }

    /// Boards in the order in which they die, each with a moment.
    fn victims(&self) -> impl Iterator<Item = (Nanos, BoardIndex)> + use<> {
        let mut draw = Stream::new(self.seed, Purpose::Faults, u64::from(self.boards), 0);
        let mut alive: Vec<BoardIndex> = (0..self.boards).collect();
        std::iter::from_fn(move || {
            let moment = draw.between(2 * SECOND, 2 * SECOND + MOMENT);
            let which = draw.below(alive.len() as u64) as usize;
            Some((moment, alive.swap_remove(which)))
        })
    }

    /// Everything at one loss. Gives back when it was over.
    fn phase(
        &self,
        system: &mut dyn System,
        began: Nanos,
        victims: &mut impl Iterator<Item = (Nanos, BoardIndex)>,
        result: &mut Result,
    ) -> Nanos {
        let mut now = began + SETTLE;
        system.run_until(now);
        result.add_false(system, SETTLE);
        let idle = self.idle.unwrap_or(system.round());
        now += idle;
        system.run_until(now);
        let running = system.ledger().running() as u64;
        let counts = result.add_false(system, idle);
        (result.idle_bytes, result.idle_messages) = (counts.bytes, counts.messages);
        result.idle_kinds = counts.kinds;
        result.most_links = counts.most_links;
        result.idle_time = running * idle;
        for (moment, victim) in victims.take(self.crashes) {
            system.run_until(now + moment);
            let crashed = now + moment;
            system.crash(victim);
            let mut at = crashed;
            while system.ledger().holdouts() > 0 && at < crashed + self.horizon {
                at += LOOK;
                system.run_until(at);
            }
            let known = system.ledger().known_to_all();
            result.known.push(known.map(|known| known - crashed));
            result.add_false(system, at - now);
            now = at;
        }
        now
    }
}

impl Result {
    /// Adds the false losses that the ledger has counted for that long, and gives back all it counted.
    fn add_false(&mut self, system: &dyn System, lasted: Nanos) -> Counts {
        let running = system.ledger().running() as u64;
        let counts = system.ledger().take();
        self.false_losses += counts.false_losses;
        self.node_time += running * lasted;
        counts
    }

    /// Adds another mesh's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.known.extend(&other.known);
        self.false_losses += other.false_losses;
        self.node_time += other.node_time;
        self.idle_bytes += other.idle_bytes;
        self.idle_messages += other.idle_messages;
        for (kind, bytes) in &other.idle_kinds {
            *self.idle_kinds.entry(kind).or_default() += bytes;
        }
        self.most_links = self.most_links.max(other.most_links);
        self.idle_time += other.idle_time;
        self.cpu += other.cpu;
    }

    /// The smallest time that `percent` of a hundred crashes do not exceed; none if that is never.
    pub(crate) fn known_by(&self, percent: usize) -> Option<Nanos> {
        let mut known: Vec<Nanos> = self.known.iter().map(|at| at.unwrap_or(Nanos::MAX)).collect();
        known.sort_unstable();
        let rank = (known.len() * percent).div_ceil(100).max(1);
        known.get(rank - 1).copied().filter(|at| *at != Nanos::MAX)
    }

    pub(crate) fn never(&self) -> usize {
        self.known.iter().filter(|at| at.is_none()).count()
    }

    /// Payload bytes that a board sends in a second while nothing happens.
    pub(crate) fn bytes_per_second(&self) -> f64 {
        per(self.idle_bytes, self.idle_time, SECOND)
    }

    /// The same by kind of message, the largest first.
    pub(crate) fn bytes_by_kind(&self) -> Vec<(&'static str, f64)> {
        let each =
            |(kind, bytes): (&&'static str, &u64)| (*kind, per(*bytes, self.idle_time, SECOND));
        let mut kinds: Vec<_> = self.idle_kinds.iter().map(each).collect();
        kinds.sort_by(|a, b| b.1.total_cmp(&a.1));
        kinds
    }

    pub(crate) fn messages_per_second(&self) -> f64 {
        per(self.idle_messages, self.idle_time, SECOND)
    }

    pub(crate) fn false_per_hour(&self) -> f64 {
        per(self.false_losses, self.node_time, 3600 * SECOND)
    }

    pub(crate) fn node_hours(&self) -> f64 {
        per(self.node_time / MILLI, 3_600_000, 1)
    }
}

fn per(count: u64, time: Nanos, unit: Nanos) -> f64 {
    count as f64 * unit as f64 / time.max(1) as f64
}
