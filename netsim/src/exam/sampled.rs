//! The exam of generated mutants: a seeded sample of what `cargo mutants` can think of.
//!
//! ```text
//! cargo mutants -p hedgerow --list --json > target/mutants.json     which files: .cargo/mutants.toml
//! netsim exam --generated target/mutants.json --sample 60 --results target/results.jsonl
//! ```
//!
//! `cargo mutants` only writes the list. Each mutant of the sample meets, what is quickest first, the unit tests of
//! the core, every scenario, and random schedules, swarm and chaos by turns. The first that notices ends it, and so
//! does a run that does not end. What a campaign notices counts only if the unbroken node passes the same run.
//! The core is built with its assertions, as the tests are. Golden hashes are not asked: they tell that a run is
//! another one, not that it is wrong.
//!
//! A survivor is either no change that anybody could see, or a hole in the tests; which one is for people to judge.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::copy::Copy;
use super::results::{Line, Outcome, Results};
use super::shard::Shard;
use super::workspace;
use crate::seed::{Purpose, Stream};
use crate::swarm::Schedule;

/// How many of a hundred viable mutants must be caught.
const CAUGHT_MIN_PERCENT: usize = 90;
/// How long random schedules look for a mutant.
const BUDGET: Duration = Duration::from_secs(20);
/// Which ones, from 0 to this: more than the budget allows.
const SEEDS_END: u64 = 999;
/// What runs for so much longer than it should runs in a circle. The slowest scenario takes a second.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which mutants of which list.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What `cargo mutants --list --json` wrote.
    pub list: PathBuf,
    /// How many.
    pub size: usize,
    /// Which ones: the same seed draws the same ones from the same list.
    pub seed: u64,
    /// The part of them that is tried.
    pub shard: Shard,
    /// Where the results are kept. Those that are in it already are not tried again.
    pub results: Option<PathBuf>,
}

/// A mutant as `cargo mutants` lists it.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
struct Generated {
    /// Where it is and what it does.
    name: String,
    /// From the root of the workspace.
    file: String,
    /// The first two lines name no files.
    diff: String,
}

impl Generated {
    /// What `git apply` takes.
    fn patch(&self) -> Result<String> {
        let at = self.diff.find("@@ ").with_context(|| format!("{}: no diff", self.name))?;
        Ok(format!("--- a/{0}\n+++ b/{0}\n{1}", self.file, &self.diff[at..]))
    }
}

/// One of a sample, and its place in it.
struct Drawn {
    nth: usize,
    mutant: Generated,
}

/// Draws a sample. A larger one of the same seed begins with it.
fn draw(list: Vec<Generated>, seed: u64, size: usize) -> Vec<Drawn> {
    let key = |place| Stream::new(seed, Purpose::Sample, place as u64, 0).bits();
    let mut list: Vec<_> =
        list.into_iter().enumerate().map(|(place, mutant)| (key(place), mutant)).collect();
    list.sort_by_key(|(key, _)| *key);
    let drawn = list.into_iter().take(size).enumerate();
    drawn.map(|(nth, (_, mutant))| Drawn { nth, mutant }).collect()
}

/// Tries a sample, and prints what became of each. True if enough of the viable ones were caught.
///
/// # Errors
/// There is no git or cargo, the list is none or is not of the present code, the results are of
/// another list, or the unbroken node fails what is to notice.
pub fn run(sample: &Sample, only: Option<&str>) -> Result<bool> {
    let name = sample.list.display();
    let text = fs::read(&sample.list).with_context(|| format!("cannot read {name}"))?;
    let list: Vec<Generated> = serde_json::from_slice(&text).with_context(|| {
        format!("{name} is no list of `cargo mutants --list --json` (26.2 or newer)")
    })?;
    let digest = blake3::hash(&text).to_hex()[..16].to_owned();
    let mut drawn = draw(list, sample.seed, sample.size);
    drawn.retain(|drawn| {
        let wanted = only.is_none_or(|only| drawn.mutant.name.contains(only));
        wanted && sample.shard.holds(drawn.nth)
    });
    ensure!(!drawn.is_empty(), "no mutant of the sample is in this shard and has that name");

    let mut results = Results::open(sample.results.as_deref(), &digest)?;
    let mut examiner = None;
    let mut lines = Vec::new();
    for Drawn { nth, mutant } in drawn {
        let line = match results.of(&mutant.name) {
            Some(line) => line.clone(),
            None => {
                let examiner = match &mut examiner {
                    Some(examiner) => examiner,
                    none => none.insert(Examiner::new()?),
                };
                let line = examiner.judge(nth, &mutant, &digest)?;
                results.add(line.clone())?;
                line
            }
        };
        let Line { outcome, seconds, by, .. } = &line;
        println!("{outcome:<10} {seconds:>6.1}  {}{by}", mutant.name);
        lines.push(line);
    }
    let count = Count::of(&lines);
    println!("{count}");
    Ok(count.enough())
}

/// What became of them all.
struct Count {
    caught: usize,
    survived: usize,
    not_viable: usize,
}

impl Count {
    fn of(lines: &[Line]) -> Self {
        let count = |outcome| lines.iter().filter(|line| line.outcome == outcome).count();
        Self {
            caught: count(Outcome::Caught),
            survived: count(Outcome::Survived),
            not_viable: count(Outcome::NotViable),
        }
    }

    fn enough(&self) -> bool {
        self.caught * 100 >= (self.caught + self.survived) * CAUGHT_MIN_PERCENT
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { caught, survived, not_viable } = self;
        let viable = caught + survived;
        let percent = *caught as f64 * 100.0 / viable.max(1) as f64;
        write!(f, "{caught} of {viable} viable mutants caught, {percent:.1} %; ")?;
        write!(f, "{survived} survived; {not_viable} do not build")
    }
}

/// All that may notice a mutant.
struct Examiner {
    copy: Copy,
    scenarios: Vec<String>,
}

impl Examiner {
    /// Makes sure that the unbroken node passes.
    fn new() -> Result<Self> {
        let copy = Copy::asserting(&workspace()?)?;
        copy.build().context("the unbroken workspace does not build")?;
        copy.keep_unbroken()?;
        let scenarios = copy.scenarios()?;
        let examiner = Self { copy, scenarios };
        for schedule in [Schedule::Swarm, Schedule::Chaos] {
            match examiner.meet(schedule)? {
                (Outcome::Survived, _) => {}
                (Outcome::NotViable, _) => bail!("the unbroken unit tests do not build"),
                (Outcome::Caught, by) => bail!("the unbroken node fails{by}: mend that first"),
            }
        }
        Ok(examiner)
    }

    fn judge(&self, nth: usize, mutant: &Generated, list: &str) -> Result<Line> {
        let began = Instant::now();
        let patch = self.copy.folder().join("generated.patch");
        fs::write(&patch, mutant.patch()?)?;
        let schedule = if nth.is_multiple_of(2) { Schedule::Swarm } else { Schedule::Chaos };
        self.copy.apply(&patch, false).with_context(|| format!("mutant {}", mutant.name))?;
        let (outcome, by) = self.meet(schedule)?;
        self.copy.apply(&patch, true)?;
        let (list, mutant) = (list.to_owned(), mutant.name.clone());
        Ok(Line { list, mutant, outcome, by, seconds: began.elapsed().as_secs_f64() })
    }

    /// Lets what is in the copy meet everything, until something notices, and says what that was.
    fn meet(&self, schedule: Schedule) -> Result<(Outcome, String)> {
        let caught = |by| Ok((Outcome::Caught, by));
        let Some(tests) = self.copy.build_tests()? else {
            return Ok((Outcome::NotViable, String::new()));
        };
        if let Some(test) = self.copy.failing_test(&tests, PATIENCE)? {
            return caught(format!(" by the unit test {test}"));
        }
        self.copy.build()?;
        for name in &self.scenarios {
            let run = ["run", name].map(str::to_owned);
            if let Some(notice) = self.copy.notices_within(&run, PATIENCE)? {
                return caught(format!(" by the scenario {name}{}", notice.how()));
            }
        }
        match self.campaign(schedule)? {
            Some(how) => caught(format!(" by a campaign, {}{how}", schedule.name())),
            None => Ok((Outcome::Survived, String::new())),
        }
    }

    /// How random schedules notice. A run that the unbroken node fails, too, tells nothing about a mutant: the
    /// campaign goes on behind it.
    fn campaign(&self, schedule: Schedule) -> Result<Option<String>> {
        let began = Instant::now();
        let mut first = 0;
        let left = || BUDGET.checked_sub(began.elapsed()).filter(|left| left.as_secs() > 0);
        while let Some(left) = left() {
            let (seeds, budget) = (format!("{first}..{SEEDS_END}"), format!("{}s", left.as_secs()));
            let kind = schedule.name();
            let words = ["campaign", "--seeds", &seeds, "--schedule", kind, "--budget", &budget];
            let notice = self.copy.notices_within(&words.map(str::to_owned), left + PATIENCE)?;
            let Some(notice) = notice else { return Ok(None) };
            let replay = ["replay".to_owned(), notice.replay.clone()];
            let is_own = notice.replay.is_empty() || self.copy.unbroken_notices(&replay)?.is_none();
            match notice.seed.filter(|_| !is_own) {
                None => return Ok(Some(notice.how())),
                Some((seed, _)) => {
                    println!("the unbroken node fails `netsim replay '{}'`, too", notice.replay);
                    first = seed + 1;
                }
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(length: usize) -> Vec<Generated> {
        let one = |number| Generated {
            name: format!("{number}"),
            file: "mesh/src/a.rs".to_owned(),
            diff: "--- mesh/src/a.rs\n+++ replace a with b\n@@ -1 +1 @@\n-a\n+b\n".to_owned(),
        };
        (0..length).map(one).collect()
    }

    fn names(drawn: &[Drawn]) -> Vec<&str> {
        drawn.iter().map(|drawn| drawn.mutant.name.as_str()).collect()
    }

    #[test]
    fn a_seed_draws_the_same_sample_again_and_another_seed_another() {
        let first = draw(list(500), 7, 60);
        assert_eq!(names(&first), names(&draw(list(500), 7, 60)));
        assert_ne!(names(&first), names(&draw(list(500), 8, 60)));
        assert_eq!(names(&first)[..20], names(&draw(list(500), 7, 20)));
        let mut distinct = names(&first);
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), 60);
    }

    #[test]
    fn a_patch_names_the_file_on_both_sides() {
        let patch = list(1)[0].patch().unwrap();
        assert_eq!(patch, "--- a/mesh/src/a.rs\n+++ b/mesh/src/a.rs\n@@ -1 +1 @@\n-a\n+b\n");
    }

    #[test]
    fn nine_of_ten_are_enough() {
        let count = |caught, survived| Count { caught, survived, not_viable: 5 };
        assert!(count(90, 10).enough() && !count(89, 11).enough() && count(0, 0).enough());
    }
}
