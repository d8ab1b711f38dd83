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

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail};

use crate::plan::Plan;
use crate::queue::BoardIndex;
use crate::swarm::Schedule;
use crate::{scenario, swarm};

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
        if let Some(plan) = line.trim().strip_prefix("plan/1 ") {
            return Ok(Self::explicit(scenario::parse_line(plan)?));
        }
        let mut words = line.split_whitespace();
        let head = words.next().unwrap_or_default();
        let (mut seed, mut nodes, mut file, mut drop) = (None, None, None, Vec::new());
        let mut family = Schedule::default();
        for word in words {
            let Some((key, value)) = word.split_once('=') else {
                bail!("`{word}` in the replay line is not of the form key=value");
            };
            let number = || value.parse().with_context(|| format!("{key}={value} is no number"));
            match key {
                "seed" => seed = Some(number()?),
                "nodes" => {
                    nodes = Some(BoardIndex::try_from(number()?).context("too many nodes")?);
                }
                "schedule" => {
                    family = Schedule::named(value)
                        .with_context(|| format!("there is no schedule {value}"))?;
                }
                "file" => file = Some(Path::new(value).to_owned()),
                "drop" => {
                    let numbers: Result<_, _> = value.split(',').map(str::parse).collect();
                    drop = numbers.with_context(|| format!("drop={value}: give fault numbers"))?;
                }
                _ => {
                    bail!(
                        "unknown key `{key}` in the replay line; known: seed, nodes, schedule, file, drop"
                    )
                }
            }
        }
        let nodes = nodes.unwrap_or_else(|| swarm::boards(seed.unwrap_or_default()));
        let source = match (head, file) {
            ("swarm/1", None) if (1..=scenario::BOARDS_MAX).contains(&nodes) => {
                Source::Swarm { nodes, family }
            }
            ("scenario/1", Some(file)) => Source::Scenario { file },
            _ => bail!(
                "this is not a replay line of this version: copy the whole line after `replay:`, such as 'swarm/1 nodes=5 seed=42'"
            ),
        };
        Ok(Self { source, seed, drop })
    }
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
            "swarm/1 nodes=9 seed=0",
            r#"plan/1 { fault = [{ at = "20s", do = "crash", node = 1 }], horizon = "40s", link = "lan", nodes = 3, preset = "lan", seed = 7 }"#,
        ] {
            assert_eq!(line.parse::<Replay>().unwrap().to_string(), line);
        }
        let drawn: Replay = "swarm/1 seed=42".parse().unwrap();
        assert_eq!(drawn.to_string(), format!("swarm/1 nodes={} seed=42", swarm::boards(42)));
        for line in ["", "swarm/2 seed=1", "swarm/1 sed=1", "scenario/1 seed=1"] {
            assert!(line.parse::<Replay>().is_err(), "{line}");
        }
    }
}
