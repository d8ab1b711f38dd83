//! Scenario files: a directed schedule of faults and what must come of it.
//!
//! ```toml
//! about = "one board loses power; everyone knows within seconds"
//! nodes = 5
//! horizon = "40s"
//!
//! [[fault]]
//! at = "20s"
//! do = "power-cut"
//! node = 3
//!
//! [[expect]]
//! by = "30s"
//! that = "down"
//! nodes = [3]
//! ```
//!
//! A file that is wrong is told as file, line, column, what is wrong there and what was probably
//! meant.

mod sense;
pub(crate) mod span;
mod write;

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use hedgerow::proto::promises::Preset;
use hedgerow::proto::spec::{Commit, OnIsolation};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::{Spanned, Table, Value};

use crate::cue::Cue;
use crate::expect::Expect;
use crate::faults::{Fault, LOSS_PERCENT_MAX, Timed};
use crate::law::LinkLaw;
use crate::plan::Plan;
use crate::queue::BoardIndex;
use crate::service::Service;
use crate::shelf::States;
use crate::time::{MILLI, Nanos, PPM_MAX, SECOND};

pub use write::{entry_text, line, text};

/// Boards of one world.
pub const BOARDS_MAX: BoardIndex = 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    about: Spanned<String>,
    nodes: Spanned<BoardIndex>,
    #[serde(default)]
    seed: u64,
    #[serde(default)]
    link: LinkLaw,
    #[serde(default)]
    states: States,
    preset: Option<Spanned<String>>,
    loss: Option<Spanned<u8>>,
    clock_ppm: Option<Spanned<i32>>,
    horizon: Spanned<String>,
    heal: Option<Spanned<String>>,
    settle: Option<Spanned<String>>,
    #[serde(default)]
    late: Spanned2<BTreeSet<BoardIndex>>,
    #[serde(default)]
    strangers: Spanned2<BTreeSet<BoardIndex>>,
    #[serde(default)]
    relays: Spanned2<BTreeSet<BoardIndex>>,
    #[serde(default)]
    service: Vec<Spanned<ServiceEntry>>,
    #[serde(default)]
    fault: Vec<Spanned<Table>>,
    #[serde(default)]
    expect: Vec<Spanned<Table>>,
}

/// A service that the operator orders.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ServiceEntry {
    name: String,
    at: Spanned<String>,
    /// On which board it is ordered.
    #[serde(default)]
    on: BoardIndex,
    every: Option<Spanned<String>>,
    #[serde(default)]
    commit: CommitName,
    #[serde(default = "yes")]
    state: bool,
    #[serde(default)]
    on_isolation: IsolationName,
    #[serde(default = "small")]
    kilobytes: u64,
}

fn yes() -> bool {
    true
}

fn small() -> u64 {
    100
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum IsolationName {
    #[default]
    Fence,
    KeepRunning,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum CommitName {
    #[default]
    Standby,
    Async,
}

/// `Spanned` has no default.
#[derive(Deserialize)]
#[serde(transparent)]
struct Spanned2<T>(Option<Spanned<T>>);

impl<T> Default for Spanned2<T> {
    fn default() -> Self {
        Self(None)
    }
}

/// What is wrong with a scenario file, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScenarioError {
    /// Which file.
    pub file: PathBuf,
    /// Line and column, from 1.
    pub at: (usize, usize),
    /// What, and what to do.
    pub what: String,
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.at;
        write!(f, "{}:{line}:{column}: {}", self.file.display(), self.what)
    }
}

impl std::error::Error for ScenarioError {}

/// Something wrong at a place in the text.
struct Wrong {
    at: Range<usize>,
    what: String,
}

/// Reads a scenario.
///
/// # Errors
/// The text is no scenario; see [`ScenarioError`].
pub fn parse(path: &Path, text: &str) -> Result<Plan, ScenarioError> {
    plan(path, text).map_err(|wrong| ScenarioError {
        file: path.to_owned(),
        at: line_and_column(text, wrong.at.start),
        what: wrong.what,
    })
}

/// Reads a plan in one line, as [`line()`] writes it.
///
/// # Errors
/// It is none.
pub fn parse_line(line: &str) -> Result<Plan, ScenarioError> {
    // Taken apart and put together again: what it says is the same, and every place has a line.
    let path = Path::new("the replay line");
    let wrong = |what: String| ScenarioError { file: path.to_owned(), at: (1, 1), what };
    let whole: Table = toml::from_str(&format!("plan = {line}"))
        .map_err(|error| wrong(error.message().to_owned()))?;
    let plan = whole.get("plan").and_then(Value::as_table).filter(|_| whole.len() == 1);
    let mut plan = plan.cloned().ok_or_else(|| {
        wrong("what follows `plan/1` is no plan: copy the whole line after `replay:`".to_owned())
    })?;
    plan.insert("about".to_owned(), "one run".into());
    parse(path, &plan.to_string())
}

fn plan(path: &Path, text: &str) -> Result<Plan, Wrong> {
    let file: File = toml::from_str(text).map_err(|error| Wrong {
        at: error.span().unwrap_or(0..0),
        what: with_suggestion(error.message()),
    })?;
    let mut plan = calm_plan(path, &file)?;
    plan.late = others(file.late, plan.boards)?;
    plan.strangers = others(file.strangers, plan.boards)?;
    let relays = known_boards(file.relays, plan.boards)?;
    plan.relays = relays.map(Spanned::into_inner).unwrap_or_default();
    for entry in file.service {
        let service = service(entry, &plan)?;
        plan.services.push(service);
    }
    for table in file.fault {
        let timed = timed(text, table, &plan)?;
        plan.schedule.push(timed);
    }
    plan.settle_within = match &file.settle {
        Some(settle) => Some(duration(settle)?),
        None => plan.heal_at.map(|_| plan.settle_bound()),
    };
    for table in file.expect {
        let span = table.span();
        let (by, expect) = expect(text, table, plan.boards)?;
        known_service(&plan, &span, expect.service())?;
        if by > plan.horizon {
            let what = "`by` is after the `horizon`, where the run ends: it would not be judged";
            return Err(Wrong { at: span, what: what.to_owned() });
        }
        plan.expects.push((by, expect));
    }
    Ok(plan)
}

/// What a file says in its first lines: boards, links and times, without anything that happens.
fn calm_plan(path: &Path, file: &File) -> Result<Plan, Wrong> {
    let wrong = |at, what: &str| Err(Wrong { at, what: what.to_owned() });
    if file.about.get_ref().trim().is_empty() {
        let what = "`about` says nothing: say in a sentence what the scenario shows";
        return wrong(file.about.span(), what);
    }
    let boards = limited(&file.nodes, 1, BOARDS_MAX, "`nodes`")?;
    let mut plan = Plan::calm(file.seed, boards, duration(&file.horizon)?);
    plan.name = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into());
    if plan.horizon == 0 {
        return wrong(file.horizon.span(), "`horizon` must be more than 0: the run ends there");
    }
    plan.link = file.link;
    plan.states = file.states;
    plan.preset = match &file.preset {
        None => plan.link.preset(),
        Some(name) => match Preset::named(name.get_ref()) {
            Some(preset) => preset,
            None => return wrong(name.span(), "`preset` is lan, sd or wan"),
        },
    };
    if let Some(loss) = &file.loss {
        plan.loss_percent = limited(loss, 0, LOSS_PERCENT_MAX, "`loss`, in per cent,")?;
    }
    if let Some(ppm) = &file.clock_ppm {
        plan.ppm_max = limited(ppm, 0, PPM_MAX, "`clock-ppm`")?;
    }
    plan.heal_at = file.heal.as_ref().map(duration).transpose()?;
    if let Some(heal) = file.heal.as_ref().filter(|_| plan.heal_at >= Some(plan.horizon)) {
        let what =
            "`heal` is at or after the `horizon`, where the run ends: nothing would be judged";
        return wrong(heal.span(), what);
    }
    if let Some(settle) = file.settle.as_ref().filter(|_| plan.heal_at.is_none()) {
        let what = "`settle` is the time after `heal`: without `heal` nothing is judged by it";
        return wrong(settle.span(), what);
    }
    Ok(plan)
}

/// A fault, and that it can happen in this run.
fn timed(text: &str, table: Spanned<Table>, plan: &Plan) -> Result<Timed, Wrong> {
    let span = table.span();
    let timed = fault(text, table, plan.boards)?;
    known_service(plan, &span, timed.fault.service())?;
    known_service(plan, &span, timed.cue.as_ref().and_then(Cue::service))?;
    spare_board(plan, &span, &timed.fault)?;
    let what = if timed.at >= plan.horizon {
        "this fault begins at or after the `horizon`, where the run ends"
    } else if plan.heal_at.is_some_and(|heal_at| timed.at > heal_at) {
        "this fault begins after `heal`, when every fault is over"
    } else {
        return Ok(timed);
    };
    Err(Wrong { at: span, what: what.to_owned() })
}

fn service(entry: Spanned<ServiceEntry>, plan: &Plan) -> Result<Service, Wrong> {
    let span = entry.span();
    let entry = entry.into_inner();
    check_boards(&span, &[entry.on], plan.boards)?;
    let every = entry.every.as_ref().map(duration).transpose()?;
    let service = Service {
        name: entry.name,
        at: duration(&entry.at)?,
        board: entry.on,
        every: every.unwrap_or(SECOND),
        commit: match entry.commit {
            CommitName::Standby => Commit::Standby,
            CommitName::Async => Commit::Async,
        },
        stateful: entry.state,
        on_isolation: match entry.on_isolation {
            IsolationName::Fence => OnIsolation::Fence,
            IsolationName::KeepRunning => OnIsolation::KeepRunning,
        },
        bytes: entry.kilobytes.saturating_mul(1024),
    };
    match sense::of_service(&service, plan, entry.kilobytes) {
        Ok(()) => Ok(service),
        Err(what) => Err(Wrong { at: span, what }),
    }
}

fn known_service(plan: &Plan, at: &Range<usize>, named: Option<&str>) -> Result<(), Wrong> {
    let Some(name) = named else { return Ok(()) };
    if plan.services.iter().any(|service| service.name == name) {
        return Ok(());
    }
    let known = plan.services.iter().map(|service| service.name.as_str());
    let what = match nearest(name, known) {
        Some(known) => format!("there is no service `{name}`; did you mean `{known}`?"),
        None => format!("there is no service `{name}`: give it a [[service]] of its own"),
    };
    Err(Wrong { at: at.clone(), what })
}

/// A copy of a card needs a board to be put into.
fn spare_board(plan: &Plan, at: &Range<usize>, fault: &Fault) -> Result<(), Wrong> {
    match fault {
        Fault::ClonedIdentity { node, onto } if node == onto || !plan.late.contains(onto) => {
            let what = format!(
                "`onto` must be a board that is not on by itself: say late = [{onto}], and name it in no `join`"
            );
            Err(Wrong { at: at.clone(), what })
        }
        _ => Ok(()),
    }
}

fn fault(text: &str, table: Spanned<Table>, boards: BoardIndex) -> Result<Timed, Wrong> {
    let span = table.span();
    let mut table = table.into_inner();
    let cue = take_cue(text, &span, &mut table, boards)?;
    let at = take_duration(text, &span, &mut table, "at")?;
    let at = at.or(cue.is_some().then_some(0)).ok_or_else(|| Wrong {
        at: span.clone(),
        what: "this fault has no `at`: say when it begins, such as at = \"10s\"; or `when`"
            .to_owned(),
    })?;
    let lasts = take_duration(text, &span, &mut table, "for")?;
    let fault: Fault = entry(text, &span, table, "do", "fault")?;
    check_boards(&span, &fault.boards(), boards)?;
    let timed = Timed { at, cue, lasts, fault };
    match sense::of_fault(&timed) {
        Ok(()) => Ok(timed),
        Err(what) => Err(Wrong { at: span, what }),
    }
}

/// What a fault waits for, and for how long after it.
fn take_cue(
    text: &str,
    span: &Range<usize>,
    table: &mut Table,
    boards: BoardIndex,
) -> Result<Option<Cue>, Wrong> {
    let plus = take_duration(text, span, table, "plus")?;
    let place = |key| find(text, span, key).unwrap_or(span.clone());
    let Some(when) = table.remove("when") else {
        let what = "`plus` is the time after what `when` names: without `when` there is only `at`";
        return match plus {
            Some(_) => Err(Wrong { at: place("plus"), what: what.to_owned() }),
            None => Ok(None),
        };
    };
    let wrong = |what| Wrong { at: place("when"), what };
    let cue = when.as_str().map_or_else(|| when.to_string(), str::to_owned);
    let cue: Cue = cue.parse().map_err(wrong)?;
    check_boards(&place("when"), &[cue.board], boards)?;
    Ok(Some(Cue { plus: plus.unwrap_or_default(), ..cue }))
}

fn expect(text: &str, table: Spanned<Table>, boards: BoardIndex) -> Result<(Nanos, Expect), Wrong> {
    let span = table.span();
    let mut table = table.into_inner();
    let by = take_duration(text, &span, &mut table, "by")?.ok_or_else(|| Wrong {
        at: span.clone(),
        what: "this expectation has no `by`: say when it must hold, such as by = \"30s\""
            .to_owned(),
    })?;
    let expect: Expect = entry(text, &span, table, "that", "expectation")?;
    check_boards(&span, &expect.boards(), boards)?;
    sense::of_expect(&expect).map_err(|what| Wrong { at: span, what })?;
    Ok((by, expect))
}

/// Reads one tagged entry; the place of what is wrong is found by its name, since a table that was
/// taken apart has no places any more.
fn entry<T: DeserializeOwned>(
    text: &str,
    span: &Range<usize>,
    table: Table,
    tag: &str,
    noun: &str,
) -> Result<T, Wrong> {
    if !table.contains_key(tag) {
        let what = format!("this {noun} has no `{tag}`: say what kind it is");
        return Err(Wrong { at: span.clone(), what });
    }
    Value::Table(table).try_into().map_err(|error: toml::de::Error| {
        let named = quoted(error.message()).next().and_then(|name| find(text, span, name));
        Wrong { at: named.unwrap_or(span.clone()), what: with_suggestion(error.message()) }
    })
}

fn take_duration(
    text: &str,
    span: &Range<usize>,
    table: &mut Table,
    key: &str,
) -> Result<Option<Nanos>, Wrong> {
    let Some(value) = table.remove(key) else { return Ok(None) };
    let at = find(text, span, key).unwrap_or(span.clone());
    match value.as_str().and_then(nanos) {
        Some(nanos) => Ok(Some(nanos)),
        None => Err(Wrong { at, what: format!("`{key}` is {value}: {DURATION_HELP}") }),
    }
}

fn duration(text: &Spanned<String>) -> Result<Nanos, Wrong> {
    let what = || format!("{:?}: {DURATION_HELP}", text.get_ref());
    nanos(text.get_ref()).ok_or_else(|| Wrong { at: text.span(), what: what() })
}

/// `250ms`, `10s`, `2m` or `1h` as nanoseconds; also `ns` and `us`.
pub fn nanos(text: &str) -> Option<Nanos> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "ns" => 1,
        "us" => 1000,
        "ms" => MILLI,
        "s" => SECOND,
        "m" => 60 * SECOND,
        "h" => 3600 * SECOND,
        _ => return None,
    };
    number.parse::<Nanos>().ok()?.checked_mul(unit).filter(|nanos| *nanos <= HORIZON_MAX)
}

fn limited<T: Copy + PartialOrd + fmt::Display>(
    value: &Spanned<T>,
    low: T,
    high: T,
    name: &str,
) -> Result<T, Wrong> {
    let given = *value.get_ref();
    if given < low || given > high {
        let what = format!("{name} must be from {low} to {high}, not {given}");
        return Err(Wrong { at: value.span(), what });
    }
    Ok(given)
}

type Boards = Spanned<BTreeSet<BoardIndex>>;

fn known_boards(
    named: Spanned2<BTreeSet<BoardIndex>>,
    boards: BoardIndex,
) -> Result<Option<Boards>, Wrong> {
    let Some(named) = named.0 else { return Ok(None) };
    let list: Vec<BoardIndex> = named.get_ref().iter().copied().collect();
    check_boards(&named.span(), &list, boards)?;
    Ok(Some(named))
}

/// Those that are not the founder.
fn others(
    named: Spanned2<BTreeSet<BoardIndex>>,
    boards: BoardIndex,
) -> Result<BTreeSet<BoardIndex>, Wrong> {
    let Some(named) = known_boards(named, boards)? else { return Ok(BTreeSet::new()) };
    if named.get_ref().contains(&0) {
        let what = "board 0 founds the mesh: it is neither late nor a stranger".to_owned();
        return Err(Wrong { at: named.span(), what });
    }
    Ok(named.into_inner())
}

fn check_boards(at: &Range<usize>, named: &[BoardIndex], boards: BoardIndex) -> Result<(), Wrong> {
    let Some(unknown) = named.iter().find(|board| **board >= boards) else { return Ok(()) };
    let what =
        format!("there is no board {unknown}: with nodes = {boards} they are 0 to {}", boards - 1);
    Err(Wrong { at: at.clone(), what })
}

/// What serde says, and the known name that is nearest to the unknown one.
fn with_suggestion(message: &str) -> String {
    let mut names = quoted(message);
    let unknown = message.starts_with("unknown").then(|| names.next()).flatten();
    match unknown.and_then(|unknown| nearest(unknown, names)) {
        Some(known) => format!("{message}; did you mean `{known}`?"),
        None => without_types(message),
    }
}

/// The language's names of types mean nothing to who writes a scenario.
fn without_types(message: &str) -> String {
    let Some((before, expected)) = message.split_once(", expected ") else {
        return message.to_owned();
    };
    let (word, more) = expected.split_once([' ', '\n']).unwrap_or((expected, ""));
    let (low, high) = match word {
        "u8" => ("0".to_owned(), u64::from(u8::MAX)),
        "u16" => ("0".to_owned(), u64::from(u16::MAX)),
        "u32" => ("0".to_owned(), u64::from(u32::MAX)),
        "u64" | "usize" => ("0".to_owned(), i64::MAX.unsigned_abs()),
        "i32" => (i32::MIN.to_string(), u64::from(i32::MAX.unsigned_abs())),
        "i64" => (i64::MIN.to_string(), i64::MAX.unsigned_abs()),
        _ => return message.to_owned(),
    };
    format!("{before}, expected a whole number from {low} to {high} {more}").trim_end().to_owned()
}

/// That one of the known names that was probably meant.
pub fn nearest<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, known) =
        known.into_iter().map(|known| (distance(unknown, known), known)).min()?;
    (distance <= unknown.len().max(3) / 2).then_some(known)
}

fn quoted(message: &str) -> impl Iterator<Item = &str> {
    message.split('`').skip(1).step_by(2)
}

/// The place of a word in the table that begins at `span`.
fn find(text: &str, span: &Range<usize>, word: &str) -> Option<Range<usize>> {
    let from = span.start;
    let part = &text[from..];
    // The next table begins a line.
    let part = part.find("\n[").map_or(part, |end| &part[..end]);
    let is_word = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    part.match_indices(word)
        .find(|(at, _)| {
            let (before, after) = (&part[..*at], &part[at + word.len()..]);
            !before.ends_with(is_word) && !after.starts_with(is_word)
        })
        .map(|(at, word)| from + at..from + at + word.len())
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..at.min(text.len())];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    (line, column)
}

const DURATION_HELP: &str =
    "give a time as a number and a unit, such as \"250ms\", \"10s\" or \"2m\", at most \"240h\"";
/// Clocks are exact for ten days.
const HORIZON_MAX: Nanos = 240 * 3600 * SECOND;

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "about = \"x\"\nnodes = 3\nhorizon = \"40s\"\n";

    fn wrong(more: &str) -> String {
        parse(Path::new("x.toml"), &format!("{GOOD}{more}")).unwrap_err().to_string()
    }

    #[test]
    fn a_wrong_file_is_told_by_line_column_and_what_was_probably_meant() {
        for (more, said) in [
            ("lnik = \"lan\"\n", "x.toml:4:1: unknown field `lnik`"),
            ("lnik = \"lan\"\n", "did you mean `link`?"),
            (
                "[[fault]]\nwhen = \"n7 writes Saw\"\ndo = \"crash\"\nnode = 1\n",
                "x.toml:5:1: there is no board 7",
            ),
            (
                "[[fault]]\nwhen = \"n1 writes So\"\ndo = \"crash\"\nnode = 1\n",
                "x.toml:5:1: `So` is nothing",
            ),
            (
                "[[fault]]\nplus = \"1s\"\nat = \"1s\"\ndo = \"crash\"\nnode = 1\n",
                "x.toml:5:1: `plus` is",
            ),
            (
                "[[fault]]\nat = \"1s\"\ndo = \"crash\"\n\n[[fault]]\nat = \"2s\"\ndo = \"crash\"\nnode = 0\n",
                "x.toml:4:1: missing field `node`",
            ),
            ("link = \"lann\"\n", "x.toml:4:8: unknown variant `lann`"),
            ("loss = 70\n", "x.toml:4:8: `loss`, in per cent, must be from 0 to 50, not 70"),
            ("late = [7]\n", "x.toml:4:8: there is no board 7: with nodes = 3 they are 0 to 2"),
            ("relays = [7]\n", "x.toml:4:10: there is no board 7: with nodes = 3 they are 0 to 2"),
            ("\n[[fault]]\nat = \"1s\"\ndo = \"pawse\"\nnode = 1\n", "x.toml:7:7: unknown variant"),
            ("\n[[fault]]\nat = \"1s\"\ndo = \"pawse\"\nnode = 1\n", "did you mean `pause`?"),
            ("\n[[fault]]\nat = \"1s\"\ndo = \"pawse\"\nnode = 1\n", "`slow-fsync`"),
            (
                "\n[[fault]]\nat = \"1 s\"\ndo = \"pause\"\nnode = 1\n",
                "x.toml:6:1: `at` is \"1 s\"",
            ),
            ("\n[[fault]]\nat = \"1s\"\ndo = \"crash\"\nnods = 1\n", "x.toml:8:1: unknown field"),
            ("\n[[fault]]\nat = \"1s\"\nnode = 1\n", "this fault has no `do`"),
            ("\n[[fault]]\nat = \"1s\"\ndo = \"crash\"\nnode = 3\n", "there is no board 3"),
            (
                "\n[[fault]]\nat = \"1s\"\ndo = \"flood\"\nnode = 1\nto = 1\nper-second = 9\n",
                "must be another board",
            ),
            (
                "\n[[fault]]\nat = \"1s\"\ndo = \"cloned-identity\"\nnode = 1\nonto = 2\n",
                "late = [2]",
            ),
            ("\n[[fault]]\nat = \"1s\"\ndo = \"nat\"\nnode = 1\nexpires = \"0s\"\n", "more than 0"),
            ("\n[[fault]]\nat = \"1s\"\ndo = \"join-storm\"\nnodes = []\n", "names no board"),
            (
                "\n[[fault]]\nat = \"9h\"\ndo = \"crash\"\nnode = 1\n",
                "begins at or after the `horizon`",
            ),
            ("heal = \"9h\"\n", "x.toml:4:8: `heal` is at or after the `horizon`"),
            ("\n[[expect]]\nby = \"9h\"\nthat = \"all-up\"\n", "it would not be judged"),
            ("\n[[expect]]\nby = \"1s\"\nthat = \"al-up\"\n", "did you mean `all-up`?"),
            ("loss = \"much\"\n", "expected a whole number from 0 to 255"),
            (
                "\n[[fault]]\nat = \"1s\"\ndo = \"crash\"\nnode = \"one\"\n",
                "expected a whole number from 0 to 65535",
            ),
            (
                "[[service]]\nname = \"kv\"\nat = \"1s\"\n[[fault]]\nat = \"2s\"\ndo = \"stop\"\nservice = \"kw\"\n",
                "did you mean `kv`?",
            ),
            (
                "[[fault]]\nwhen = \"n1 writes Swichting\"\ndo = \"crash\"\nnode = 1\n",
                "did you mean `Switching`?",
            ),
        ] {
            let told = wrong(more);
            assert!(told.contains(said), "{said:?} is not in {told:?}");
        }
    }

    #[test]
    fn what_can_mean_nothing_is_refused() {
        for (more, said) in [
            ("settle = \"9s\"\n", "x.toml:4:10: `settle` is the time after `heal`"),
            (
                "heal = \"20s\"\n[[fault]]\nat = \"21s\"\ndo = \"crash\"\nnode = 1\n",
                "x.toml:5:1: this fault begins after `heal`",
            ),
            (
                "[[fault]]\nat = \"1s\"\nfor = \"0s\"\ndo = \"pause\"\nnode = 1\n",
                "`pause` for no time does nothing",
            ),
            (
                "[[fault]]\nat = \"1s\"\ndo = \"garbage\"\nnode = 1\nto = 1\n",
                "must be another board",
            ),
            (
                "[[fault]]\nat = \"1s\"\ndo = \"one-way-cut\"\nfrom = [1]\nto = []\n",
                "names no board",
            ),
            (
                "[[fault]]\nat = \"1s\"\ndo = \"recover-mesh\"\nnode = 1\ndead = [1]\n",
                "`dead` names the board that is to recover",
            ),
            ("[[expect]]\nby = \"1s\"\nthat = \"down\"\nnodes = []\n", "always true"),
            (
                "[[service]]\nname = \"kv\"\nat = \"1s\"\n[[service]]\nname = \"kv\"\nat = \"2s\"\n",
                "x.toml:7:1: there is a service `kv` already",
            ),
            ("[[service]]\nname = \"kv\"\nat = \"9h\"\n", "never be ordered"),
            (
                "[[service]]\nname = \"kv\"\nat = \"1s\"\nkilobytes = 18014398509481984\n",
                "`kilobytes` must be from 0 to 100000",
            ),
            ("[[service]]\nname = \"kv\"\nat = \"1s\"\nevery = \"0s\"\n", "`every` must be"),
        ] {
            let told = wrong(more);
            assert!(told.contains(said), "{said:?} is not in {told:?}");
        }
    }

    #[test]
    fn a_good_file_becomes_a_plan() {
        let more = "[[fault]]\nat = \"1s\"\nfor = \"250ms\"\ndo = \"pause\"\nnode = 1\n";
        let plan = parse(Path::new("x.toml"), &format!("{GOOD}{more}")).unwrap();
        let pause = Timed {
            at: SECOND,
            cue: None,
            lasts: Some(250 * MILLI),
            fault: Fault::Pause { node: 1 },
        };
        assert_eq!(plan.schedule, [pause]);
    }
}
