//! The exam: deliberately broken nodes that netsim must catch.
//!
//! A mutant is a patch in `netsim/mutants`. Its first lines say what it breaks and what must notice:
//!
//! ```text
//! # breaks: an incarnation is used before it is durable
//! # caught-by: scenario reused-incarnation
//! ```
//!
//! `caught-by` is `scenario NAME`, `campaign A..B`, `campaign A..B chaos`, or `unit-tests` of the core: for what no
//! schedule is known to show, since something else comes to the rescue. The exam copies the tracked files of the
//! workspace to a temporary folder once, checks that the unbroken node passes, then applies one patch
//! after the other, builds in one target folder of its own, and runs what must notice. The shipped
//! code has no switch for any of this. The table says which rule noticed a mutant, and at which seed.
//!
//! A directed scenario waits for moments in milliseconds, which any change of the node shifts. So where it does
//! not notice a mutant it is tried with other seeds, as far as the unbroken node passes with them.
//!
//! With `--schedule` random schedules must notice instead: how many it takes until one does, and, with
//! `--shrink`, how small that one becomes. `campaign --mutant NAME` does that for one mutant ([`hunt`]).
//!
//! These mutants are made by hand, so each breaks something that somebody thought of. With `--generated` the exam
//! takes a [`sampled`] part of those that a program thought of.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use copy::{Copy, checked};
use notice::Notice;

mod copy;
mod limited;
mod notice;
mod results;
pub mod sampled;
mod shard;

pub use shard::Shard;

/// Other seeds that a directed scenario is tried with.
const OTHER_SEEDS: u64 = 200;
/// What notices a mutant that no schedule shows.
const UNIT_TESTS: &str = "unit-tests";
/// They take two seconds.
const UNIT_TESTS_PATIENCE: Duration = Duration::from_secs(30);
/// How long one failure is shrunk.
const SHRINK_BUDGET: &str = "120s";

/// One broken node.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Mutant {
    name: String,
    patch: PathBuf,
    breaks: String,
    caught_by: Vec<String>,
}

/// Runs the exam and prints its table. True if no mutant escaped.
///
/// # Errors
/// There is no git or cargo, a patch does not apply, or the unbroken node fails.
pub fn run(only: Option<&str>, shard: Shard, random: Option<&Random>) -> Result<bool> {
    let root = workspace()?;
    let mut mutants = mutants(&root.join("netsim/mutants"))?;
    let mut nth = 0..;
    mutants.retain(|_| nth.next().is_some_and(|nth| shard.holds(nth)));
    mutants.retain(|mutant| only.is_none_or(|only| mutant.name.contains(only)));
    ensure!(!mutants.is_empty(), "no mutant matches in this shard; `ls netsim/mutants` lists them");
    let copy = Copy::new(&root)?;
    if let Some(random) = random {
        return sit(&copy, &mutants, random);
    }

    copy.build().context("the unbroken workspace does not build")?;
    let checks: BTreeSet<&Vec<String>> = mutants.iter().map(|mutant| &mutant.caught_by).collect();
    for check in checks {
        let notice = noticed(&copy, check)?;
        ensure!(
            notice.is_none(),
            "the unbroken node fails `netsim {}`: mend that first",
            check.join(" ")
        );
    }

    copy.keep_unbroken()?;

    println!("{:<32} {:<10} {:>6}  by", "mutant", "result", "s");
    let mut escaped = 0;
    for mutant in &mutants {
        let began = Instant::now();
        let (result, how) = examine(&copy, mutant)?;
        escaped += u32::from(result != "caught");
        let (took, by) = (began.elapsed().as_secs_f64(), mutant.caught_by.join(" "));
        println!("{:<32} {result:<10} {took:>6.1}  {by}{how}", mutant.name);
        if result != "caught" {
            println!("    breaks: {}", mutant.breaks);
        }
    }
    println!("{} of {} mutants caught", mutants.len() as u32 - escaped, mutants.len());
    Ok(escaped == 0)
}

/// `caught`, `escaped` or `no build`, and how it was noticed.
fn examine(copy: &Copy, mutant: &Mutant) -> Result<(&'static str, String)> {
    copy.apply(&mutant.patch, false)?;
    let result = match copy.build() {
        Err(_) => ("no build", String::new()),
        Ok(()) => match noticed(copy, &mutant.caught_by)? {
            Some(notice) => ("caught", notice.how()),
            None => match notices_with_another_seed(copy, &mutant.caught_by)? {
                Some(notice) => ("caught", notice.how()),
                None => ("escaped", String::new()),
            },
        },
    };
    copy.apply(&mutant.patch, true)?;
    Ok(result)
}

/// What notices that something is wrong with the node in the copy.
fn noticed(copy: &Copy, check: &[String]) -> Result<Option<Notice>> {
    if *check != [UNIT_TESTS] {
        return copy.notices(check);
    }
    let tests = copy.build_tests()?.context("the unit tests do not build")?;
    let failing = copy.failing_test(&tests, UNIT_TESTS_PATIENCE)?;
    Ok(failing.map(|test| Notice::of(&test)))
}

/// How a directed scenario fails with another seed than its own, with which the unbroken node passes.
fn notices_with_another_seed(copy: &Copy, scenario: &[String]) -> Result<Option<Notice>> {
    if scenario.first().is_none_or(|word| word != "run") {
        return Ok(None);
    }
    for seed in 1..=OTHER_SEEDS {
        let mut arguments = scenario.to_vec();
        arguments.extend(["--seed".to_owned(), seed.to_string()]);
        let Some(notice) = copy.notices(&arguments)? else { continue };
        if copy.unbroken_notices(&arguments)?.is_none() {
            return Ok(Some(Notice { seed: Some((seed, seed + 1)), ..notice }));
        }
    }
    Ok(None)
}

/// What random schedules the mutants meet.
#[derive(Clone, Debug)]
pub struct Random {
    /// `campaign` and its arguments.
    pub campaign: Vec<String>,
    /// Also makes the first failure of each as small as possible.
    pub shrink: bool,
}

/// Lets random schedules find each mutant, and prints how many it took. Which ones escape is for people to
/// judge: many need a directed scenario. So it is always true that all went well.
fn sit(copy: &Copy, mutants: &[Mutant], random: &Random) -> Result<bool> {
    println!("{:<32} {:>6} {:>6}  noticed", "mutant", "seeds", "s");
    let (mut caught, mut shrunk) = (0, Vec::new());
    for mutant in mutants {
        copy.apply(&mutant.patch, false)?;
        let line = match copy.build() {
            Err(_) => "                no build".to_owned(),
            Ok(()) => {
                let began = Instant::now();
                let notice = copy.notices(&random.campaign)?;
                let took = began.elapsed().as_secs_f64();
                match notice {
                    None => format!("{:>6} {took:>6.1}  escaped", "-"),
                    Some(Notice { rule, seed, replay }) => {
                        caught += 1;
                        let less = match random.shrink {
                            true => Less::read(&copy.shrink(&replay, SHRINK_BUDGET)?),
                            false => None,
                        };
                        let more = less.as_ref().map_or_else(String::new, Less::to_string);
                        shrunk.extend(less);
                        let nth = seed.map_or(0, |(_, nth)| nth);
                        format!("{nth:>6} {took:>6.1}  {rule}{more}")
                    }
                }
            }
        };
        copy.apply(&mutant.patch, true)?;
        println!("{:<32} {line}", mutant.name);
    }
    println!(
        "{caught} of {} mutants noticed by `netsim {}`",
        mutants.len(),
        random.campaign.join(" ")
    );
    if !shrunk.is_empty() {
        let median = |of: fn(&Less) -> f64| {
            let mut all: Vec<f64> = shrunk.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        println!(
            "shrunk {}: median from {} faults to {}, on {} boards, in {:.1} s",
            shrunk.len(),
            median(|less| less.before),
            median(|less| less.faults),
            median(|less| less.boards),
            median(|less| less.seconds)
        );
    }
    Ok(true)
}

/// What `netsim shrink` came to.
struct Less {
    before: f64,
    faults: f64,
    boards: f64,
    seconds: f64,
}

impl Less {
    /// Reads `from 136 faults to 3, on 4 boards, in 97 runs and 3.6 s`.
    fn read(printed: &str) -> Option<Self> {
        let line = printed.lines().rev().find(|line| line.starts_with("from "))?;
        let mut numbers = line
            .split(|c: char| !c.is_ascii_digit() && c != '.')
            .filter_map(|word| word.parse::<f64>().ok());
        let (before, faults, boards) = (numbers.next()?, numbers.next()?, numbers.next()?);
        Some(Self { before, faults, boards, seconds: numbers.nth(1)? })
    }
}

impl std::fmt::Display for Less {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { before, faults, boards, seconds } = self;
        write!(f, "; shrunk from {before} to {faults} faults on {boards} boards in {seconds} s")
    }
}

/// Runs a campaign, given as its arguments, on one mutant. True if the campaign noticed nothing.
///
/// # Errors
/// As [`run`]; or no mutant has that name.
pub fn hunt(name: &str, arguments: &[String]) -> Result<bool> {
    let root = workspace()?;
    let mutants = mutants(&root.join("netsim/mutants"))?;
    let mutant = mutants
        .iter()
        .find(|mutant| mutant.name == name)
        .with_context(|| format!("no mutant is called {name}; `ls netsim/mutants` lists them"))?;
    let copy = Copy::new(&root)?;
    copy.apply(&mutant.patch, false)?;
    copy.build().context("the mutant does not build")?;
    let began = Instant::now();
    let notice = copy.notices(arguments)?;
    let took = began.elapsed().as_secs_f64();
    match &notice {
        Some(notice) => println!("{name}: caught in {took:.1} s{}", notice.how()),
        None => println!("{name}: escaped in {took:.1} s\n    breaks: {}", mutant.breaks),
    }
    Ok(notice.is_none())
}

fn mutants(folder: &Path) -> Result<Vec<Mutant>> {
    let listed = fs::read_dir(folder)
        .with_context(|| format!("cannot list the mutants in {}", folder.display()))?;
    let mut patches: Vec<PathBuf> =
        listed.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    patches.retain(|path| path.extension().is_some_and(|extension| extension == "patch"));
    patches.sort();
    patches.into_iter().map(|patch| mutant(&patch)).collect()
}

fn mutant(patch: &Path) -> Result<Mutant> {
    let text = fs::read_to_string(patch)?;
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix("# ")?.strip_prefix(name)?.strip_prefix(": "))
            .with_context(|| format!("{} has no line `# {name}: …`", patch.display()))
    };
    let caught_by = field("caught-by")?;
    let caught_by = match caught_by.split_once(' ') {
        None if caught_by == UNIT_TESTS => vec![caught_by.to_owned()],
        Some(("scenario", name)) => vec!["run".to_owned(), name.to_owned()],
        Some(("campaign", rest)) => {
            let (seeds, schedule) = rest.split_once(' ').unwrap_or((rest, "swarm"));
            ["campaign", "--seeds", seeds, "--schedule", schedule].map(str::to_owned).to_vec()
        }
        _ => bail!(
            "{}: `caught-by` is `scenario NAME`, `campaign A..B`, `campaign A..B chaos` or `{UNIT_TESTS}`",
            patch.display()
        ),
    };
    let name = patch.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    Ok(Mutant {
        name: name.unwrap_or_default(),
        patch: patch.canonicalize()?,
        breaks: field("breaks")?.to_owned(),
        caught_by,
    })
}

fn workspace() -> Result<PathBuf> {
    let mut git = Command::new("git");
    git.args(["rev-parse", "--show-toplevel"]);
    let output =
        checked(&mut git).context("the exam needs the source: run it inside the repository")?;
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}
