//! The exam: deliberately broken nodes that netsim must catch.
//!
//! A mutant is a patch in `netsim/mutants`. Its first lines say what it breaks and what must notice:
//!
//! ```text
//! # breaks: an incarnation is used before it is durable
//! # caught-by: scenario reused-incarnation
//! ```
//!
//! `caught-by` is `scenario NAME`, `campaign A..B` or `campaign A..B chaos`. The exam copies the tracked files of the
//! workspace to a temporary folder once, checks that the unbroken node passes, then applies one patch
//! after the other, builds in one target folder of its own, and runs what must notice. The shipped
//! code has no switch for any of this. The table says which rule noticed a mutant, and at which seed.
//!
//! A directed scenario waits for moments in milliseconds, which any change of the node shifts. So where it does
//! not notice a mutant it is tried with other seeds, as far as the unbroken node passes with them.
//!
//! With `--schedule` random schedules must notice instead: how many it takes until one does, and, with
//! `--shrink`, how small that one becomes. `campaign --mutant NAME` does that for one mutant ([`hunt`]).

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

/// Other seeds that a directed scenario is tried with.
const OTHER_SEEDS: u64 = 200;
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
pub fn run(only: Option<&str>, random: Option<&Random>) -> Result<bool> {
    let root = workspace()?;
    let mut mutants = mutants(&root.join("netsim/mutants"))?;
    mutants.retain(|mutant| only.is_none_or(|only| mutant.name.contains(only)));
    ensure!(!mutants.is_empty(), "no mutant matches; `ls netsim/mutants` lists them");
    let copy = Copy::new(&root)?;
    if let Some(random) = random {
        return sit(&copy, &mutants, random);
    }

    copy.build().context("the unbroken workspace does not build")?;
    let checks: BTreeSet<&Vec<String>> = mutants.iter().map(|mutant| &mutant.caught_by).collect();
    for check in checks {
        let notice = copy.notices(check)?;
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
        let (result, how) = copy.examine(mutant)?;
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
        copy.apply(mutant, false)?;
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
                        let less = if random.shrink { copy.shrink(&replay)? } else { None };
                        let more = less.as_ref().map_or_else(String::new, Less::to_string);
                        shrunk.extend(less);
                        let nth = seed.map_or(0, |(_, nth)| nth);
                        format!("{nth:>6} {took:>6.1}  {rule}{more}")
                    }
                }
            }
        };
        copy.apply(mutant, true)?;
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
    copy.apply(mutant, false)?;
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

/// How a mutant was noticed.
struct Notice {
    /// The first rule that was broken.
    rule: String,
    /// The first seed that did it, and how many it was of a campaign.
    seed: Option<(u64, u64)>,
    /// What replays it.
    replay: String,
}

impl Notice {
    /// Reads what a run of netsim printed.
    fn read(arguments: &[String], printed: &str) -> Self {
        let after = |text: &str, mark: &str| -> Option<String> {
            let word = text.split_once(mark)?.1.split_whitespace().next()?;
            Some(word.trim_end_matches('\'').to_owned())
        };
        let line = |start: &str| printed.lines().find(|line| line.starts_with(start));
        let rule = line("FAILED ").and_then(|line| after(line, "FAILED "));
        let seed = line("replay: ").and_then(|line| after(line, "seed=")?.parse().ok());
        let first = arguments.iter().skip_while(|word| *word != "--seeds").nth(1);
        let first = first.and_then(|seeds| seeds.split_once("..")?.0.parse().ok());
        let nth = |(seed, first): (u64, u64)| (seed, seed - first + 1);
        let replay = line("replay: ").and_then(|line| line.split('\'').nth(1)).unwrap_or_default();
        Self {
            rule: rule.unwrap_or_default(),
            seed: seed.zip(first).map(nth),
            replay: replay.to_owned(),
        }
    }

    fn how(&self) -> String {
        match self.seed {
            Some((seed, nth)) => format!(": {} at seed {seed}, no. {nth}", self.rule),
            None => format!(": {}", self.rule),
        }
    }
}

/// A copy of the workspace that may be broken.
struct Copy {
    folder: PathBuf,
    target: PathBuf,
}

impl Drop for Copy {
    fn drop(&mut self) {
        // What cannot be removed is in the temporary folder anyway.
        let _removed_or_not = fs::remove_dir_all(&self.folder);
    }
}

impl Copy {
    fn new(root: &Path) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("netsim-exam-{}", std::process::id()));
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        let listed = checked(Command::new("git").args(["ls-files", "-z"]).current_dir(root))?;
        for name in listed.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let name = std::str::from_utf8(name).context("a file name that is not UTF-8")?;
            let (from, to) = (root.join(name), folder.join(name));
            if !from.is_file() {
                continue;
            }
            let parent = to.parent().context("a file without a folder")?;
            fs::create_dir_all(parent)?;
            fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        }
        Ok(Self { folder, target: target.join("exam") })
    }

    /// `caught`, `escaped` or `no build`, and how it was noticed.
    fn examine(&self, mutant: &Mutant) -> Result<(&'static str, String)> {
        self.apply(mutant, false)?;
        let result = match self.build() {
            Err(_) => ("no build", String::new()),
            Ok(()) => match self.notices(&mutant.caught_by)? {
                Some(notice) => ("caught", notice.how()),
                None => match self.notices_with_another_seed(&mutant.caught_by)? {
                    Some(notice) => ("caught", notice.how()),
                    None => ("escaped", String::new()),
                },
            },
        };
        self.apply(mutant, true)?;
        Ok(result)
    }

    fn apply(&self, mutant: &Mutant, reverse: bool) -> Result<()> {
        let mut git = Command::new("git");
        git.args(["apply", "--unidiff-zero"])
            .args(reverse.then_some("--reverse"))
            .arg(&mutant.patch);
        // Outside of any repository, so that paths are taken as they are.
        git.current_dir(&self.folder).env("GIT_CEILING_DIRECTORIES", std::env::temp_dir());
        let advice = "make it anew against the present code";
        checked(&mut git).map(drop).with_context(|| format!("mutant {}: {advice}", mutant.name))
    }

    fn build(&self) -> Result<()> {
        let mut cargo = Command::new("cargo");
        cargo
            .args(["build", "--quiet", "--release", "-p", "hedgerow-netsim", "--bin", "netsim"])
            .current_dir(&self.folder)
            .env("CARGO_TARGET_DIR", &self.target)
            // Built far more often than run.
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
            .env("CARGO_INCREMENTAL", "1")
            .env("RUSTFLAGS", "-Awarnings");
        checked(&mut cargo).map(drop)
    }

    /// How small a failure becomes.
    fn shrink(&self, replay: &str) -> Result<Option<Less>> {
        let netsim = self.target.join("release/netsim");
        let mut command = Command::new(netsim);
        command.args(["shrink", replay, "--budget", SHRINK_BUDGET]).current_dir(&self.folder);
        Ok(Less::read(&String::from_utf8_lossy(&command.output()?.stdout)))
    }

    /// Keeps what is built now as the node that has no faults.
    fn keep_unbroken(&self) -> Result<()> {
        let (from, to) = (self.target.join("release/netsim"), self.folder.join("unbroken"));
        fs::copy(&from, &to).map(drop).with_context(|| format!("cannot copy {}", from.display()))
    }

    /// How a directed scenario fails with another seed than its own, with which the unbroken node passes.
    fn notices_with_another_seed(&self, scenario: &[String]) -> Result<Option<Notice>> {
        if scenario.first().is_none_or(|word| word != "run") {
            return Ok(None);
        }
        for seed in 1..=OTHER_SEEDS {
            let mut arguments = scenario.to_vec();
            arguments.extend(["--seed".to_owned(), seed.to_string()]);
            let Some(notice) = self.notices(&arguments)? else { continue };
            if self.notices_by(&self.folder.join("unbroken"), &arguments)?.is_none() {
                return Ok(Some(Notice { seed: Some((seed, seed + 1)), ..notice }));
            }
        }
        Ok(None)
    }

    /// How a run of the built netsim fails, if it does as when a rule is broken.
    fn notices(&self, arguments: &[String]) -> Result<Option<Notice>> {
        self.notices_by(&self.target.join("release/netsim"), arguments)
    }

    fn notices_by(&self, netsim: &Path, arguments: &[String]) -> Result<Option<Notice>> {
        let output = Command::new(netsim).args(arguments).current_dir(&self.folder).output()?;
        match output.status.code() {
            Some(0) => Ok(None),
            Some(1) => {
                let printed = String::from_utf8_lossy(&output.stdout);
                Ok(Some(Notice::read(arguments, &printed)))
            }
            _ => bail!("`netsim {}` could not run: {}", arguments.join(" "), words(&output)),
        }
    }
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
    let caught_by = match field("caught-by")?.split_once(' ') {
        Some(("scenario", name)) => vec!["run".to_owned(), name.to_owned()],
        Some(("campaign", rest)) => {
            let (seeds, schedule) = rest.split_once(' ').unwrap_or((rest, "swarm"));
            ["campaign", "--seeds", seeds, "--schedule", schedule].map(str::to_owned).to_vec()
        }
        _ => bail!(
            "{}: `caught-by` is `scenario NAME`, `campaign A..B` or `campaign A..B chaos`",
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

fn checked(command: &mut Command) -> Result<Output> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", words(&output));
    }
    Ok(output)
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}
