//! What masters did in a run, and the rare states that it reached.
//!
//! A campaign that never reaches one of the [`MARKS`] has tested nothing around it, and fails; so does one whose
//! boards never told one of the events.

use std::collections::{BTreeMap, BTreeSet};

use hedgerow::proto::io::{Effect, Event};
use hedgerow::proto::journal::Record;
use hedgerow::proto::order::Instance;

use crate::invariant::lineage::{Lineage, Written};
use crate::observe::{Observation, What};
use crate::queue::BoardIndex;
use crate::service::ServiceEvent;
use crate::time::{Nanos, Seconds};
use crate::told;

/// Rare states. One voter became three; another board took a voter's place; a reign began on another
/// board than the one before; a master stepped down; a joint table was finished by another master than
/// the one that made it; a service was taken over; one was moved.
pub const MARKS: [&str; 7] = [
    "grew-to-three",
    "voter-replaced",
    "master-changed",
    "stepped-down",
    RECOVERED,
    TAKEN_OVER,
    MOVED,
];
const TAKEN_OVER: &str = "service-taken-over";
const MOVED: &str = "service-moved";
const RECOVERED: &str = "joint-table-recovered-by-another-master";

/// What came of one run.
#[derive(Clone, Default, Debug)]
pub struct Deeds {
    /// Reigns that began on another board than the one before.
    pub masters: u64,
    /// Completed changes of who decides.
    pub voters: u64,
    /// Versions of the table that were chosen.
    pub chosen: u64,
    /// Boards that started again.
    pub restarts: u64,
    /// Standbys in whose place another board came under the same right.
    pub standbys: u64,
    /// Of [`MARKS`], those that were reached.
    pub marks: BTreeSet<&'static str>,
    /// The events that boards told.
    pub events: BTreeSet<&'static str>,
    /// Rules that were broken within the envelope of a fault, and how often.
    pub outside: BTreeMap<&'static str, u64>,
    /// After the faults, until all named the one master.
    pub master_after: Option<Nanos>,
    /// After the faults, until three living boards decided.
    pub voters_after: Option<Nanos>,
    /// At the end nobody could be elected: too many voters were lost for good.
    pub bereft: bool,
    /// Containers that began to run.
    pub starts: u64,
    /// Rights that passed to another board because the former one was silent, or had lost its state.
    pub takeovers: u64,
    /// Rights that passed to another board because the former one gave them up.
    pub moves: u64,
    /// Commits that a client was told to be kept.
    pub commits: u64,
    /// From the end of the last container to the takeover's first instruction, ns.
    pub gaps: Vec<Nanos>,
    /// Services that nobody could start at the end.
    pub orphans: u64,
    /// After the faults, until all services ran.
    pub serving_after: Option<Nanos>,
    /// After the faults, until all services had standbys.
    pub protected_after: Option<Nanos>,
}

impl Deeds {
    pub(crate) fn judged(&mut self, master: Option<Nanos>, voters: Option<Nanos>, bereft: bool) {
        (self.master_after, self.voters_after, self.bereft) = (master, voters, bereft);
    }

    pub(crate) fn served(
        &mut self,
        serving: Option<Nanos>,
        protected: Option<Nanos>,
        orphans: u64,
    ) {
        (self.serving_after, self.protected_after) = (serving, protected);
        self.orphans = orphans;
    }
}

/// Watches a run.
pub(crate) struct Story {
    deeds: Deeds,
    lineage: Lineage,
    /// Where the newest reign began, and its term.
    newest: Option<(BoardIndex, u64)>,
    /// Three boards have decided before.
    grown: bool,
    /// Of each instance: the newest right that was used, where, and since when nothing runs.
    rights: BTreeMap<Instance, (u64, BoardIndex, Option<Nanos>)>,
    /// Rights that were given up.
    released: BTreeSet<(Instance, u64)>,
}

impl Story {
    pub(crate) fn new(boards: usize) -> Self {
        let lineage = Lineage::new(boards);
        Self {
            deeds: Deeds::default(),
            lineage,
            newest: None,
            grown: false,
            rights: BTreeMap::new(),
            released: BTreeSet::new(),
        }
    }

    pub(crate) fn deeds(self) -> Deeds {
        self.deeds
    }

    pub(crate) fn on(&mut self, seen: &Observation<'_>) {
        match seen.what {
            What::Belief(Some(belief)) => self.reigns(seen.board, belief.term),
            What::Effect(Effect::Event(event)) => self.event(event),
            What::Service(event) => self.service(seen.at, seen.board, event),
            What::Effect(Effect::Persist {
                record: Record::Released { instance, epoch, .. },
                ..
            }) => {
                self.released.insert((instance.clone(), epoch.0));
            }
            What::Boot(_) | What::DiskLost | What::Effect(Effect::Persist { .. }) => {
                if let What::Boot(boot) = seen.what {
                    self.deeds.restarts += u64::from(boot.life > 1);
                }
                if let Written::New(version) = self.lineage.on(seen) {
                    self.made(version);
                }
            }
            _ => {}
        }
    }

    fn reigns(&mut self, board: BoardIndex, term: u64) {
        let Some((before, known)) = self.newest else {
            self.newest = Some((board, term));
            return;
        };
        if term > known {
            self.newest = Some((board, term));
            if before != board {
                self.deeds.masters += 1;
                self.deeds.marks.insert("master-changed");
            }
        }
    }

    fn service(&mut self, at: Nanos, board: BoardIndex, event: &ServiceEvent) {
        match event {
            ServiceEvent::Begins { instance, epoch, .. } => {
                self.deeds.starts += 1;
                let before = self.rights.insert(instance.clone(), (*epoch, board, None));
                let Some((former, _, ended)) = before.filter(|(_, on, _)| *on != board) else {
                    return;
                };
                if self.released.contains(&(instance.clone(), former)) {
                    self.deeds.moves += 1;
                    self.deeds.marks.insert(MOVED);
                } else {
                    self.deeds.takeovers += 1;
                    self.deeds.marks.insert(TAKEN_OVER);
                    self.deeds.gaps.extend(ended.map(|ended| at - ended));
                }
            }
            ServiceEvent::Ends { instance, .. } | ServiceEvent::Sleeps { instance, .. } => {
                let right = self.rights.get_mut(instance);
                if let Some((.., ended)) = right.filter(|(_, on, _)| *on == board) {
                    *ended = Some(at);
                }
            }
            ServiceEvent::Acknowledged { .. } => self.deeds.commits += 1,
            ServiceEvent::Kept { .. }
            | ServiceEvent::Dropped { .. }
            | ServiceEvent::Read { .. }
            | ServiceEvent::Spoilt { .. }
            | ServiceEvent::Opened(_)
            | ServiceEvent::StateLost
            | ServiceEvent::Wakes { .. }
            | ServiceEvent::Isolated { .. }
            | ServiceEvent::Answered { .. }
            | ServiceEvent::Connected { .. }
            | ServiceEvent::Anew { .. }
            | ServiceEvent::Forgiven { .. } => {}
        }
    }

    fn event(&mut self, event: &Event) {
        self.deeds.events.insert(told::name(event));
        match event {
            Event::SteppedDown { .. } => {
                self.deeds.marks.insert("stepped-down");
            }
            Event::TableChosen { voters, .. } => {
                self.deeds.chosen += 1;
                if *voters == 3 {
                    self.grown = true;
                    self.deeds.marks.insert("grew-to-three");
                }
            }
            Event::VotersChanged { .. } => {
                self.deeds.voters += 1;
                if self.grown {
                    self.deeds.marks.insert("voter-replaced");
                }
            }
            _ => {}
        }
    }

    /// A table was made: perhaps it replaces standbys, or finishes a joint one that another board began.
    fn made(&mut self, version: hedgerow::proto::table::Version) {
        let Some(made) = self.lineage.get(version) else { return };
        let Some(joint) = made.from.and_then(|from| self.lineage.get(from)) else { return };
        let replaced = made.table.rows.iter().filter(|row| {
            let before = joint.table.row(&row.instance());
            before.is_some_and(|before| {
                let filled = before.standby.is_some() && before.standby != row.standby;
                filled && before.epoch == row.epoch && row.standby.is_some()
            })
        });
        self.deeds.standbys += replaced.count() as u64;
        if made.table.incoming.is_some() || joint.table.incoming.is_none() {
            return;
        }
        // Back to the one that made it joint: those between only carried it into their terms.
        let mut first = joint;
        while let Some(before) = first.from.and_then(|from| self.lineage.get(from))
            && before.table.incoming == joint.table.incoming
        {
            first = before;
        }
        if first.by != made.by {
            self.deeds.marks.insert(RECOVERED);
        }
    }
}

/// What was broken that faults may break, in a line; none if nothing was.
pub fn outside(outside: &BTreeMap<&'static str, u64>) -> Option<String> {
    let all = outside.iter().map(|(rule, count)| format!("{rule} {count}"));
    let all = all.collect::<Vec<_>>().join(", ");
    (!all.is_empty()).then(|| format!("broken within the envelope of a fault: {all}"))
}

/// What masters did in all runs of a campaign.
#[derive(Clone, Default, Debug)]
pub struct Reigns {
    restarts: u64,
    standbys: u64,
    masters: u64,
    voters: u64,
    chosen: u64,
    /// Mark → runs that reached it.
    marks: BTreeMap<&'static str, u64>,
    /// Event → runs in which a board told it.
    events: BTreeMap<&'static str, u64>,
    /// Rule → how often it was broken within the envelope of a fault.
    outside: BTreeMap<&'static str, u64>,
    /// Runs at whose end nobody could be elected.
    bereft: u64,
    starts: u64,
    takeovers: u64,
    moves: u64,
    commits: u64,
    gaps: Vec<Nanos>,
    orphans: u64,
    slowest_serving: Option<(Nanos, u64)>,
    slowest_protected: Option<(Nanos, u64)>,
    /// The slowest return of a master and of three voters, and the seeds.
    slowest_master: Option<(Nanos, u64)>,
    slowest_voters: Option<(Nanos, u64)>,
}

impl Reigns {
    /// Adds one run.
    pub(crate) fn add(&mut self, seed: u64, deeds: &Deeds) {
        self.restarts += deeds.restarts;
        self.standbys += deeds.standbys;
        self.masters += deeds.masters;
        self.voters += deeds.voters;
        self.chosen += deeds.chosen;
        self.bereft += u64::from(deeds.bereft);
        self.starts += deeds.starts;
        self.takeovers += deeds.takeovers;
        self.moves += deeds.moves;
        self.commits += deeds.commits;
        self.orphans += deeds.orphans;
        self.gaps.extend(&deeds.gaps);
        for mark in &deeds.marks {
            *self.marks.entry(mark).or_default() += 1;
        }
        for event in &deeds.events {
            *self.events.entry(event).or_default() += 1;
        }
        for (rule, count) in &deeds.outside {
            *self.outside.entry(rule).or_default() += count;
        }
        let slower = |old: Option<_>, new: Option<Nanos>| old.max(new.map(|after| (after, seed)));
        self.slowest_master = slower(self.slowest_master, deeds.master_after);
        self.slowest_voters = slower(self.slowest_voters, deeds.voters_after);
        self.slowest_serving = slower(self.slowest_serving, deeds.serving_after);
        self.slowest_protected = slower(self.slowest_protected, deeds.protected_after);
    }

    /// Marks that no run reached, and events that no board told.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let marks = MARKS.into_iter().filter(|mark| !self.marks.contains_key(mark));
        let here = told::EVENTS.iter().filter(|event| !told::IN_SCENARIOS.contains(event));
        let events = here.copied().filter(|event| !self.events.contains_key(event));
        marks.chain(events).collect()
    }

    /// For people.
    pub(crate) fn lines(&self, runs: u64) -> Vec<String> {
        let mean = |count: u64| count as f64 / runs.max(1) as f64;
        let mut lines = vec![format!(
            "per run {:.2} master changes, {:.2} voter changes, {:.1} chosen tables; {} runs bereft of a majority for good",
            mean(self.masters),
            mean(self.voters),
            mean(self.chosen),
            self.bereft
        )];
        lines.push(format!(
            "per run {:.2} restarts of boards, {:.2} service starts, {:.2} takeovers, {:.2} moves, {:.2} standbys replaced, {:.1} acknowledged commits; {} services orphaned",
            mean(self.restarts),
            mean(self.starts),
            mean(self.takeovers),
            mean(self.moves),
            mean(self.standbys),
            mean(self.commits),
            self.orphans
        ));
        let mut gaps = self.gaps.clone();
        gaps.sort_unstable();
        let at = |permille: usize| gaps.get((gaps.len() * permille / 1000).min(gaps.len() - 1));
        if !gaps.is_empty()
            && let (Some(median), Some(most)) = (at(500), at(990))
        {
            let (median, most) = (Seconds(*median), Seconds(*most));
            lines.push(format!(
                "from the end of a container to its takeover: median {median} s, 99 % {most} s"
            ));
        }
        let reached = |mark: &&str| format!("{mark} {}", self.marks.get(*mark).unwrap_or(&0));
        let reached: Vec<String> = MARKS.iter().map(reached).collect();
        lines.push(format!("runs that reached: {}", reached.join(", ")));
        let told = self.events.iter().map(|(event, runs)| format!("{event} {runs}"));
        lines.extend(outside(&self.outside));
        lines.push(format!("runs in which boards told: {}", told.collect::<Vec<_>>().join(", ")));
        let slowest = [
            ("one master whom all name", self.slowest_master),
            ("three living voters", self.slowest_voters),
            ("all services running", self.slowest_serving),
            ("all services with a standby", self.slowest_protected),
        ];
        for (what, slowest) in slowest {
            if let Some((after, seed)) = slowest {
                let after = Seconds(after);
                lines.push(format!("slowest to {what} after the faults: {after} s (seed {seed})"));
            }
        }
        lines
    }
}
