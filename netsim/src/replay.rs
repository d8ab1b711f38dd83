//! One line that says everything needed to run a failure again.
//!
//! ```text
//! swarm/1 seed=42
//! swarm/1 seed=42 nodes=5 drop=3,7
//! swarm/1 seed=42 nodes=5 schedule=chaos
//! scenario/1 file=netsim/scenarios/one-crash.toml seed=9
//! plan/1 { nodes = 3, seed = 42, horizon = "40s", fault = [{ at = "20s", do = "crash", node = 1 }] }
//! ```
//!
//! Without `nodes` the seed draws how many boards there are. `drop` leaves faults of the schedule out, by number: removing one changes no other draw, so a
//! schedule can be narrowed down by hand. A `plan` says everything itself, as `shrink` writes it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, Result, bail};

use crate::plan::Plan;
use crate::queue::BoardIndex;
use crate::swarm::Schedule;
use crate::{scenario, swarm};

/// What lines of one kind or another may say.
const KEYS: [&str; 5] = ["nodes", "schedule", "file", "seed", "drop"];

/// See the module.
#[derive(Clone, Debug)]
pub struct Replay {
    source: Source,
    seed: Option<u64>,
    drop: Vec<usize>,
}

#[derive(Clone, Debug)]
enum Source {
    Swarm { nodes: BoardIndex, family: Schedule },
    Scenario { file: PathBuf },
    Plan(Box<Plan>),
}

impl Replay {
    /// A swarm run.
    pub fn swarm(seed: u64, nodes: BoardIndex, family: Schedule) -> Self {
        Self { source: Source::Swarm { nodes, family }, seed: Some(seed), drop: Vec::new() }
    }

    /// A scenario, perhaps with another seed than the file's.
    pub fn scenario(file: PathBuf, seed: Option<u64>) -> Self {
        Self { source: Source::Scenario { file }, seed, drop: Vec::new() }
    }

    /// A plan that says everything itself.
    pub fn explicit(plan: Plan) -> Self {
        Self { source: Source::Plan(Box::new(plan)), seed: None, drop: Vec::new() }
    }

    /// The plan that this line stands for.
    ///
    /// # Errors
    /// The scenario file cannot be read, or is wrong.
    pub fn plan(&self) -> Result<Plan> {
        let mut plan = match &self.source {
            Source::Swarm { nodes, family } => {
                swarm::plan(self.seed.unwrap_or_default(), *nodes, *family)
            }
            Source::Scenario { file } => {
                let text = std::fs::read_to_string(file)
                    .with_context(|| format!("cannot read the scenario {}", file.display()))?;
                scenario::parse(file, &text)?
            }
            Source::Plan(plan) => (**plan).clone(),
        };
        plan.seed = self.seed.unwrap_or(plan.seed);
        let faults = plan.schedule.len();
        if let Some(none) = self.drop.iter().find(|number| **number >= faults) {
            bail!("drop={none}: the schedule has {faults} faults, counted from 0");
        }
        let mut number = 0;
        plan.schedule.retain(|_| {
            number += 1;
            !self.drop.contains(&(number - 1))
        });
        Ok(plan)
    }
}

impl fmt::Display for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Swarm { nodes, family: Schedule::Swarm } => {
                write!(f, "swarm/1 nodes={nodes}")?;
            }
            Source::Swarm { nodes, family } => {
                write!(f, "swarm/1 nodes={nodes} schedule={}", family.name())?;
            }
            Source::Scenario { file } => write!(f, "scenario/1 file={}", file.display())?,
            Source::Plan(plan) => write!(f, "plan/1 {}", scenario::line(plan))?,
        }
        if let Some(seed) = self.seed {
            write!(f, " seed={seed}")?;
        }
        if !self.drop.is_empty() {
            let numbers: Vec<String> = self.drop.iter().map(usize::to_string).collect();
            write!(f, " drop={}", numbers.join(","))?;
        }
        Ok(())
    }
}

impl FromStr for Replay {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Self> {
        // As it is printed, too: with what comes before and behind it.
        let line = line.trim();
        let line = line.strip_prefix("replay:").unwrap_or(line).trim_start();
        let line = line.strip_prefix("netsim replay").unwrap_or(line).trim();
        let line = line.strip_suffix("--timeline").unwrap_or(line).trim().trim_matches('\'');
        if let Some(plan) = line.strip_prefix("plan/1 ") {
            return Ok(Self::explicit(scenario::parse_line(plan)?));
        }
        let (head, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let known: &[&str] = match head {
            "swarm/1" => &["nodes", "schedule", "seed", "drop"],
            "scenario/1" => &["file", "seed", "drop"],
            _ => bail!(
                "this is not a replay line: it begins with swarm/1, scenario/1 or plan/1, as in 'swarm/1 nodes=5 seed=42'"
            ),
        };
        let mut values = values(rest, known)?;
        let seed = values.remove("seed").map(|value| number("seed", value)).transpose()?;
        let drop = values.remove("drop").map(numbers).transpose()?.unwrap_or_default();
        if head == "scenario/1" {
            let file = values.remove("file").context("the replay line names no file=")?;
            return Ok(Self { source: Source::Scenario { file: file.into() }, seed, drop });
        }
        let drawn = || swarm::boards(seed.unwrap_or_default());
        let nodes = match values.remove("nodes").map(|value| number("nodes", value)).transpose()? {
            Some(nodes) => BoardIndex::try_from(nodes).unwrap_or(BoardIndex::MAX),
            None => drawn(),
        };
        if !(1..=scenario::BOARDS_MAX).contains(&nodes) {
            bail!("nodes={nodes}: give 1 to {}", scenario::BOARDS_MAX);
        }
        let family = match values.remove("schedule") {
            Some(name) => Schedule::named(name).with_context(|| {
                format!("there is no schedule {name}: known are swarm and chaos")
            })?,
            None => Schedule::default(),
        };
        Ok(Self { source: Source::Swarm { nodes, family }, seed, drop })
    }
}

/// The values of a line by their keys. A file's name may have spaces in it: it ends at the next key.
fn values<'a>(mut rest: &'a str, known: &[&str]) -> Result<BTreeMap<&'a str, &'a str>> {
    let mut values = BTreeMap::new();
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Ok(values);
        }
        let Some((key, after)) = rest.split_once('=').filter(|(key, _)| !key.contains(' ')) else {
            bail!("`{rest}` in the replay line is not of the form key=value");
        };
        if !known.contains(&key) {
            bail!("unknown key `{key}` in this replay line; known: {}", known.join(", "));
        }
        let ends = |at: &usize| {
            let next = after[*at..].trim_start();
            key != "file" || KEYS.iter().any(|known| starts_with_key(next, known))
        };
        let end = after.match_indices(char::is_whitespace).map(|(at, _)| at).find(ends);
        let (value, more) = after.split_at(end.unwrap_or(after.len()));
        if values.insert(key, value.trim_end()).is_some() {
            bail!("the replay line says `{key}` twice");
        }
        rest = more;
    }
}

fn starts_with_key(text: &str, key: &str) -> bool {
    text.strip_prefix(key).is_some_and(|rest| rest.starts_with('='))
}

fn number(key: &str, value: &str) -> Result<u64> {
    value.parse().with_context(|| format!("{key}={value} is no number"))
}

fn numbers(value: &str) -> Result<Vec<usize>> {
    let numbers: Result<_, _> = value.split(',').map(str::parse).collect();
    numbers.with_context(|| format!("drop={value}: give fault numbers"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_line_reads_back() {
        for line in [
            "swarm/1 nodes=5 seed=42 drop=3,7",
            "swarm/1 nodes=5 schedule=chaos seed=1",
            "scenario/1 file=a/b.toml",
            "scenario/1 file=my files/b c.toml seed=3 drop=1",
            "swarm/1 nodes=9 seed=0",
            r#"plan/1 { fault = [{ at = "20s", do = "crash", node = 1 }], horizon = "40s", link = "lan", nodes = 3, preset = "lan", seed = 7 }"#,
        ] {
            assert_eq!(line.parse::<Replay>().unwrap().to_string(), line);
            // As it is printed, too.
            let printed = format!("replay: netsim replay '{line}' --timeline");
            assert_eq!(printed.parse::<Replay>().unwrap().to_string(), line);
        }
        let drawn: Replay = "swarm/1 seed=42".parse().unwrap();
        assert_eq!(drawn.to_string(), format!("swarm/1 nodes={} seed=42", swarm::boards(42)));
        for (line, said) in [
            ("", "not a replay line"),
            ("swarm/2 seed=1", "not a replay line"),
            ("swarm/1 sed=1", "unknown key `sed`"),
            ("swarm/1 seed=1 seed=2", "`seed` twice"),
            ("swarm/1 nodes=0 seed=1", "give 1 to 1024"),
            ("swarm/1 nodes=99999999 seed=1", "give 1 to 1024"),
            ("swarm/1 seed=x", "seed=x is no number"),
            ("swarm/1 seed=1 stray", "not of the form"),
            ("scenario/1 seed=1", "no file="),
            ("scenario/1 file=a.toml nodes=9", "unknown key `nodes`"),
            ("plan/1 1", "is no plan"),
            ("plan/1 { nodes = 1, horizon = \"1s\" }\nmore = 1", "is no plan"),
        ] {
            let error = line.parse::<Replay>().unwrap_err().to_string();
            assert!(error.contains(said), "{line}: {error}");
        }
        let dropped: Replay = "swarm/1 nodes=3 seed=1 drop=100000".parse().unwrap();
        assert!(dropped.plan().unwrap_err().to_string().contains("counted from 0"));
    }
}
