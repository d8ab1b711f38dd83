//! netsim: the production node of Hedgerow, in virtual time, under faults.

use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::{Parser, Subcommand};
use hedgerow_netsim::campaign::{self, Campaign};
use hedgerow_netsim::exam::sampled::{self, Sample};
use hedgerow_netsim::exam::{self, Shard};
use hedgerow_netsim::flight;
use hedgerow_netsim::golden;
use hedgerow_netsim::observe::{Finding, Watcher};
use hedgerow_netsim::plan::Outcome;
use hedgerow_netsim::queue::BoardIndex;
use hedgerow_netsim::replay::Replay;
use hedgerow_netsim::report::Report;
use hedgerow_netsim::scenario::{self, BOARDS_MAX};
use hedgerow_netsim::shrink::{self, Shrunk};
use hedgerow_netsim::story;
use hedgerow_netsim::swarm::Schedule;
use hedgerow_netsim::time::{SECOND, Seconds};
use hedgerow_netsim::timeline::Timeline;

/// Like `println`, but a closed pipe (`netsim … | head`) is no reason to panic, and a full disk is one to end with 2.
macro_rules! say {
    ($($text:tt)*) => { tell(format_args!($($text)*)) };
}

fn tell(text: std::fmt::Arguments<'_>) {
    let written = writeln!(std::io::stdout(), "{text}");
    if let Err(error) = written.map_err(|error| (error.kind(), error))
        && error.0 != std::io::ErrorKind::BrokenPipe
    {
        eprintln!("netsim: cannot write what came of it: {}", error.1);
        std::process::exit(2);
    }
}

/// Runs the production node of Hedgerow in virtual time, under faults.
///
/// Exits with 0 when all is well, 1 when a rule was broken, 2 when it could not run.
#[derive(Parser)]
#[command(name = "netsim", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs one scenario file.
    Run {
        /// A file, or the name of one in netsim/scenarios.
        scenario: String,
        /// Another seed than the file's.
        #[arg(long)]
        seed: Option<u64>,
        #[command(flatten)]
        show: Show,
    },
    /// Runs random schedules of faults, one for each seed.
    Campaign {
        /// Which seeds, the second one excluded.
        #[arg(long, default_value = "0..1000", value_parser = seeds)]
        seeds: Range<u64>,
        /// Begins no new run after this long, such as 60s.
        #[arg(long, value_parser = budget)]
        budget: Option<Duration>,
        /// Boards of every run. Otherwise each seed draws them: 3 to 7, in one of ten 8 to 14.
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..=i64::from(BOARDS_MAX)))]
        nodes: Option<BoardIndex>,
        /// swarm: each seed another mixture. chaos: ten minutes of everything.
        #[arg(long, default_value = "swarm", value_parser = schedule)]
        schedule: Schedule,
        /// Does not stop at the first failure.
        #[arg(long)]
        keep_going: bool,
        /// Runs every seed twice and compares the traces.
        #[arg(long)]
        twice: bool,
        /// Breaks the node in this way first, in a copy, and says which seed notices: exits with 1 then.
        #[arg(long, conflicts_with_all = ["budget", "keep_going", "twice"])]
        mutant: Option<String>,
    },
    /// Runs a failure again, by the line that it printed; or a real board's life, from a recording.
    Replay {
        /// Such as 'swarm/1 nodes=5 seed=42', or a file made by `hedgerow up --record FILE`, or a scenario.
        line: String,
        #[command(flatten)]
        show: Show,
    },
    /// Makes a failing run as small as possible, and prints it as a scenario file.
    Shrink {
        /// Such as 'swarm/1 nodes=5 schedule=chaos seed=42', or a scenario.
        line: String,
        /// Stops after this long with the least that was found so far, such as 60s.
        #[arg(long, default_value = "120s", value_parser = budget)]
        budget: Duration,
        /// Writes the scenario into this file instead.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Makes a picture of a run: one HTML file that needs no network.
    Report {
        /// A replay line, such as 'swarm/1 nodes=5 seed=42', or a scenario, by its name or file.
        run: String,
        /// Which file. Otherwise one in the current folder, named after the run.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Compares the trace hashes of some runs with those in netsim/golden.txt.
    Golden {
        /// Writes the hashes of today into it instead.
        #[arg(long)]
        write: bool,
    },
    /// Breaks the node in many small ways and checks that each is noticed.
    Exam(Exam),
}

#[derive(clap::Args)]
struct Exam {
    /// Only mutants whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Lets random schedules notice each, swarm or chaos, instead of what its file names.
    #[arg(long, value_parser = schedule)]
    schedule: Option<Schedule>,
    /// Which seeds, the second one excluded.
    #[arg(long, default_value = "0..1000", value_parser = seeds, requires = "schedule")]
    seeds: Range<u64>,
    /// For each mutant begins no new run after this long.
    #[arg(long, default_value = "60s", requires = "schedule", value_parser = span)]
    budget: String,
    /// Makes the first failure of each as small as possible.
    #[arg(long, requires = "schedule")]
    shrink: bool,
    /// Takes a sample of generated mutants instead: the file is what `cargo mutants --list --json` wrote. Each meets
    /// the unit tests of the core, all scenarios and 20 s of random schedules. Exits with 1 if fewer than 90 % of those
    /// that build are caught.
    #[arg(long, value_name = "FILE", conflicts_with = "schedule")]
    generated: Option<PathBuf>,
    /// How many of them.
    #[arg(long, default_value_t = 60, requires = "generated")]
    sample: usize,
    /// Which ones: a seed draws the same ones again.
    #[arg(long, default_value_t = 7, requires = "generated")]
    seed: u64,
    /// Only this part of the mutants, 1/4 to 4/4 for instance. Those that run at once each need a CARGO_TARGET_DIR.
    #[arg(long, default_value = "1/1")]
    shard: Shard,
    /// Keeps what became of each in this file, and tries none that is in it already. Files of several shards may be
    /// put together.
    #[arg(long, value_name = "FILE", requires = "generated")]
    results: Option<PathBuf>,
}

#[derive(clap::Args)]
struct Show {
    /// Prints what happens, one line each.
    #[arg(long)]
    timeline: bool,
    /// With --timeline: probes, commands and fsyncs, too.
    #[arg(long, requires = "timeline")]
    all: bool,
}

fn main() -> ExitCode {
    match execute(Arguments::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("netsim: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether all is well.
fn execute(command: Command) -> Result<bool> {
    match command {
        Command::Run { scenario, seed, show } => {
            single(&Replay::scenario(find_scenario(&scenario)?, seed), &show)
        }
        Command::Replay { line, show } if flight::is_recording(Path::new(&line)) => {
            fly(Path::new(&line), &show)
        }
        Command::Replay { line, show } => single(&named(&line)?, &show),
        Command::Campaign { seeds, nodes, schedule, mutant: Some(mutant), .. } => {
            let seeds = format!("{}..{}", seeds.start, seeds.end);
            let words = ["campaign", "--seeds", &seeds, "--schedule", schedule.name()];
            let mut words = words.map(str::to_owned).to_vec();
            words.extend(nodes.map(|nodes| format!("--nodes={nodes}")));
            exam::hunt(&mutant, &words)
        }
        Command::Campaign { seeds, budget, nodes, schedule, keep_going, twice, mutant: None } => {
            let campaign = Campaign { seeds, nodes, schedule, budget, keep_going, twice };
            let summary = campaign.run(print_failure);
            say!("{}", summary.text());
            if summary.runs == 0 {
                bail!("no run was made: give a longer --budget or more --seeds");
            }
            let missing = summary.missing_marks();
            if !missing.is_empty() {
                say!("FAILED marks never reached: {}", missing.join(", "));
            }
            Ok(summary.failures.is_empty() && missing.is_empty())
        }
        Command::Shrink { line, budget, out } => shrink(&named(&line)?, budget, out.as_deref()),
        Command::Report { run, out } => report(&run, out),
        Command::Golden { write } => golden(write),
        Command::Exam(arguments) => examine(arguments),
    }
}

/// True if enough mutants were noticed.
fn examine(arguments: Exam) -> Result<bool> {
    let Exam { only, schedule, seeds, budget, shrink, shard, .. } = arguments;
    if let Some(list) = arguments.generated {
        let Exam { sample: size, seed, results, .. } = arguments;
        return sampled::run(&Sample { list, size, seed, shard, results }, only.as_deref());
    }
    let campaign = |schedule: Schedule| {
        let seeds = format!("{}..{}", seeds.start, seeds.end);
        let (kind, limit) = (schedule.name(), budget.as_str());
        let words = ["campaign", "--seeds", &seeds, "--schedule", kind, "--budget", limit];
        exam::Random { campaign: words.map(str::to_owned).to_vec(), shrink }
    };
    exam::run(only.as_deref(), shard, schedule.map(campaign).as_ref())
}

/// Replays a recording. True if the core did the same again.
fn fly(file: &Path, show: &Show) -> Result<bool> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let to = show.timeline.then_some(&mut out as &mut dyn Write);
    let flight = flight::replay(file, to, show.all)?;
    drop(out);
    let seconds = Seconds(flight.lasted);
    say!("{}: {} calls in {seconds} s, {} effects", file.display(), flight.calls, flight.effects);
    if flight.torn > 0 {
        say!("  its last {} bytes are no whole call: the board ended there", flight.torn);
    }
    let Some(call) = flight.differs else {
        say!("  the core did the same again, call by call");
        return Ok(true);
    };
    say!("FAILED call {call} came to something else than when it was recorded");
    let (was, is) = (&flight.version, hedgerow::proto::recording::VERSION);
    match was == is {
        true => say!("  if another commit of version {is} recorded it: replay it with that one"),
        false => say!("  version {was} recorded it, and this is {is}: replay it with that one"),
    }
    Ok(false)
}

fn golden(write: bool) -> Result<bool> {
    let file = golden::file()?;
    if write {
        std::fs::write(&file, golden::renewed(&file)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
        return Ok(true);
    }
    let changed = golden::changed(&file)?;
    for golden::Changed { line, was, is } in &changed {
        say!("FAILED {line}: {is}, and it was {was}");
    }
    if !changed.is_empty() {
        say!("if the core or the simulator was changed: netsim golden --write");
    }
    Ok(changed.is_empty())
}

/// False, as for every run that fails; true if this one does not.
fn shrink(replay: &Replay, budget: Duration, out: Option<&Path>) -> Result<bool> {
    if let Some(folder) = out.and_then(Path::parent).filter(|folder| !folder.as_os_str().is_empty())
        && !folder.is_dir()
    {
        bail!("{} is no folder: nothing could be written there", folder.display());
    }
    let Some(shrunk) = shrink::shrink(&replay.plan()?, budget) else {
        say!("nothing to shrink: this run breaks no rule");
        return Ok(true);
    };
    let Shrunk { plan, finding, faults_before, runs, took, minimal } = shrunk;
    let about = format!("{}: {}", finding.rule, finding.text);
    let text = scenario::text(&plan, &about);
    match out {
        Some(file) => std::fs::write(file, text)
            .with_context(|| format!("cannot write {}", file.display()))?,
        None => say!("{text}"),
    }
    let boards = shrink::present(&plan).len();
    say!(
        "from {faults_before} faults to {}, on {boards} boards, in {runs} runs and {:.1} s{}",
        plan.schedule.len(),
        took.as_secs_f64(),
        if minimal { "" } else { "; the time was over: a longer --budget may find less" }
    );
    print_failure(&Replay::explicit(plan), &[finding]);
    Ok(false)
}

/// False if a rule was broken.
fn report(run: &str, out: Option<PathBuf>) -> Result<bool> {
    let replay = named(run)?;
    let Report { html, outcome } = Report::of(&replay)?;
    let out = out.unwrap_or_else(|| {
        let about = outcome.findings.first().map_or("all-held", |finding| finding.rule);
        PathBuf::from(format!("report-{about}-{}.html", &trace(&outcome)[..8]))
    });
    std::fs::write(&out, &html).with_context(|| format!("cannot write {}", out.display()))?;
    if !outcome.findings.is_empty() {
        print_failure(&replay, &outcome.findings);
    }
    say!("wrote {}, {} kB: open it in a browser", out.display(), html.len().div_ceil(1000));
    Ok(outcome.findings.is_empty())
}

fn trace(outcome: &Outcome) -> String {
    blake3::Hash::from(outcome.trace).to_hex()[..16].to_owned()
}

fn single(replay: &Replay, show: &Show) -> Result<bool> {
    let plan = replay.plan()?;
    let watcher: Option<Box<dyn Watcher>> =
        if show.timeline { Some(Box::new(Timeline::stdout(show.all))) } else { None };
    let cpu = campaign::cpu_time();
    let outcome = campaign::run(&plan, watcher);
    let cpu = campaign::cpu_time().saturating_sub(cpu);
    print_outcome(&plan.name, &outcome, cpu);
    if plan.heal_at.is_some() && outcome.settled_after.is_none() && outcome.findings.is_empty() {
        say!(
            "  whether all agree after the faults was not judged: the run ends too soon after `heal`"
        );
    }
    if !outcome.findings.is_empty() {
        print_failure(replay, &outcome.findings);
    }
    Ok(outcome.findings.is_empty())
}

fn print_outcome(name: &str, outcome: &Outcome, cpu: Duration) {
    let node_seconds = outcome.node_time / SECOND;
    say!(
        "{name}: {} virtual seconds, {} messages, {} bytes per node and second, trace {}",
        Seconds(outcome.ended),
        outcome.messages,
        outcome.bytes / node_seconds.max(1),
        trace(outcome)
    );
    for (fault, injected, felt) in outcome.tally.lines() {
        say!("  {fault}: {injected} injected, {felt} felt");
    }
    if let Some(after) = outcome.settled_after {
        say!("  all agreed {} s after the faults", Seconds(after));
    }
    if let Some(text) = story::outside(&outcome.deeds.outside) {
        say!("  {text}");
    }
    if outcome.deeds.bereft {
        say!("  too many voters were lost for good: nobody can be elected");
    }
    let node_hours = node_seconds as f64 / 3600.0;
    let cpu = cpu.as_secs_f64();
    if cpu >= 0.1 {
        say!("  {cpu:.1} s of CPU: {:.1} node-hours per CPU-second", node_hours / cpu);
    }
}

fn print_failure(replay: &Replay, findings: &[Finding]) {
    for finding in findings {
        let who = finding.board.map_or_else(String::new, |board| format!(" n{board}"));
        say!("FAILED {} at {} s:{who} {}", finding.rule, Seconds(finding.at), finding.text);
    }
    say!("replay: netsim replay '{replay}' --timeline");
}

/// Names of scenarios that are told when there is none of the given name.
const ALIKE_SHOWN: usize = 8;

/// A run, by its replay line, a scenario file or the name of one in netsim/scenarios.
fn named(run: &str) -> Result<Replay> {
    let is_line = ["swarm/", "scenario/", "plan/"].iter().any(|head| run.starts_with(head))
        || run.contains(char::is_whitespace);
    match is_line && !Path::new(run).is_file() {
        true => run.parse(),
        false => Ok(Replay::scenario(find_scenario(run)?, None)),
    }
}

fn find_scenario(name: &str) -> Result<PathBuf> {
    let given = Path::new(name);
    if given.is_file() {
        return Ok(given.to_owned());
    }
    if given.exists() && !name.is_empty() {
        bail!("{name} is no file: give a scenario file, or the name of one in netsim/scenarios");
    }
    let folder =
        ["netsim/scenarios", "scenarios", concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios")]
            .into_iter()
            .map(Path::new)
            .find(|folder| folder.is_dir())
            .with_context(|| {
                format!("there is no file {name}, and no folder netsim/scenarios here")
            })?;
    let file = folder.join(name).with_extension("toml");
    if file.is_file() {
        return Ok(file);
    }
    let mut known: Vec<String> = std::fs::read_dir(folder)
        .with_context(|| format!("cannot list {}", folder.display()))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned()))
        .collect();
    known.sort();
    let mut alike: Vec<&str> =
        known.iter().map(String::as_str).filter(|known| known.contains(name)).collect();
    alike.extend(scenario::nearest(name, known.iter().map(String::as_str)));
    alike.truncate(ALIKE_SHOWN);
    match alike[..] {
        [] => bail!("there is no scenario {name}: {} has {}", folder.display(), known.len()),
        _ => bail!("there is no scenario {name}; did you mean {}?", alike.join(", ")),
    }
}

fn seeds(text: &str) -> Result<Range<u64>> {
    let (from, to) = text
        .split_once("..")
        .and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)))
        .ok_or_else(|| {
            anyhow!("give the first seed and the one after the last, such as 0..1000")
        })?;
    if from >= to {
        bail!("{from}..{to} holds no seed");
    }
    Ok(from..to)
}

fn schedule(text: &str) -> Result<Schedule> {
    Schedule::named(text).with_context(|| format!("{text}: the schedules are swarm and chaos"))
}

/// The same, as it was given.
fn span(text: &str) -> Result<String> {
    budget(text).map(|_| text.to_owned())
}

fn budget(text: &str) -> Result<Duration> {
    scenario::nanos(text)
        .map(Duration::from_nanos)
        .ok_or_else(|| anyhow!("give a time as a number and a unit, such as 60s or 10m"))
}
