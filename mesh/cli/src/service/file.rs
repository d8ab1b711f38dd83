//! The service file: TOML in, a specification out, and every mistake told with its place.
//!
//! An unknown key is an error, since a misspelt one would otherwise be silently without effect. What
//! the design has but this version has not is refused by name, for the same reason.

use std::collections::BTreeMap;
use std::ops::Range;

use hedgerow::proto::bounded::{List, Text};
use hedgerow::proto::record::{Class, LABELS_MAX, Name};
use hedgerow::proto::spec::{
    COMMAND_WORDS_MAX, Commit, ENV_MAX, Limits, OnIsolation, PORTS_MAX, Port, Replicate, Restart,
    ServiceSpec, SpecError, Word,
};
use serde::{Deserialize, Deserializer, de};
use toml::Spanned;

use super::amount::{Bytes, Millis};
use crate::exit::{Exit, Failure, Outcome};
use crate::settings::{explain, position};

/// A misspelt word is matched with one that differs in so many letters at most.
const TYPOS_MAX: usize = 2;

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
struct File {
    name: Spanned<Name>,
    command: Spanned<List<Word, COMMAND_WORDS_MAX>>,
    state: Option<Spanned<Text<255>>>,
    #[serde(default)]
    on_isolation: Isolation,
    #[serde(default)]
    port: List<Spanned<PortEntry>, PORTS_MAX>,
    replicate: Option<Spanned<ReplicateTable>>,
    #[serde(default)]
    place: Place,
    #[serde(default)]
    restart: RestartTable,
    #[serde(default)]
    limits: LimitsTable,
    env: Option<Spanned<BTreeMap<Name, Word>>>,
    #[serde(default, rename = "health", deserialize_with = "no_health")]
    _health: (),
    #[serde(default, rename = "bundle", deserialize_with = "no_bundle")]
    _bundle: (),
}

#[derive(Deserialize, Debug, Default)]
#[serde(rename_all = "kebab-case")]
enum Isolation {
    #[default]
    Fence,
    KeepRunning,
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
struct PortEntry {
    name: Name,
    #[serde(default)]
    port: u16,
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
struct ReplicateTable {
    every: Option<Millis>,
    #[serde(default)]
    commit: CommitWord,
    commit_timeout: Option<Millis>,
}

#[derive(Deserialize, Debug, Default)]
#[serde(rename_all = "kebab-case")]
enum CommitWord {
    #[default]
    Async,
    Standby,
}

#[derive(Deserialize, Debug, Default)]
#[serde(deny_unknown_fields)]
struct Place {
    #[serde(default)]
    class: List<Class, 3>,
    #[serde(default)]
    labels: BTreeMap<Name, Name>,
}

#[derive(Deserialize, Debug, Default)]
#[serde(deny_unknown_fields)]
struct RestartTable {
    max: Option<u16>,
    within: Option<Millis>,
}

#[derive(Deserialize, Debug, Default)]
#[serde(deny_unknown_fields)]
struct LimitsTable {
    memory: Option<Bytes>,
    pids: Option<u32>,
}

fn no_health<'de, D: Deserializer<'de>>(_: D) -> Result<(), D::Error> {
    Err(de::Error::custom("`health` is not supported yet: leave it out"))
}

fn no_bundle<'de, D: Deserializer<'de>>(_: D) -> Result<(), D::Error> {
    Err(de::Error::custom("`bundle` is not supported yet: give a `command`"))
}

/// What the file called `shown` asks for.
///
/// # Errors
/// It is wrong: with file, line, column and what to write instead.
pub(super) fn parse(shown: &str, text: &str) -> Outcome<ServiceSpec> {
    parsed(text)
        .map_err(|told| Failure::new(Exit::Config, "service-file", format!("{shown}:{told}")))
}

/// `line:column: what is wrong`.
fn parsed(text: &str) -> Result<ServiceSpec, String> {
    let file: File = toml::from_str(text).map_err(|error| suggested(explain(text, error)))?;
    let at = |span: Range<usize>, told: String| format!("{}: {told}", position(text, span.start));
    let whole = |told: String| at(0..0, told);
    if let Some((span, told)) = wrong_port(&file).or_else(|| wrong_env(&file)) {
        return Err(at(span, told));
    }
    if let Some(told) = unknown_port(&file) {
        return Err(at(file.command.span(), told));
    }
    let spans = Spans {
        name: file.name.span(),
        command: file.command.span(),
        state: file.state.as_ref().map(Spanned::span),
        replicate: file.replicate.as_ref().map(Spanned::span),
    };
    let spec = specification(file).map_err(whole)?;
    match spec.check() {
        Ok(()) => Ok(spec),
        Err(error) => Err(at(spans.of(&error), error.to_string())),
    }
}

/// Where in the file the keys are that a specification as a whole can be wrong about.
struct Spans {
    name: Range<usize>,
    command: Range<usize>,
    state: Option<Range<usize>>,
    replicate: Option<Range<usize>>,
}

impl Spans {
    fn of(&self, error: &SpecError) -> Range<usize> {
        match error {
            SpecError::Name(_) => self.name.clone(),
            SpecError::NoCommand => self.command.clone(),
            SpecError::State(_) => self.state.clone().unwrap_or_default(),
            SpecError::KeepRunningCommit => self.replicate.clone().unwrap_or_default(),
            _ => 0..0,
        }
    }
}

fn specification(file: File) -> Result<ServiceSpec, String> {
    let replicate = file.replicate.map(Spanned::into_inner);
    let labels: Vec<_> = file.place.labels.into_iter().collect();
    let env: Vec<_> = file.env.map(Spanned::into_inner).unwrap_or_default().into_iter().collect();
    let millis = |time: Option<Millis>, default| time.map_or(default, |time| time.0);
    Ok(ServiceSpec {
        name: file.name.into_inner(),
        command: file.command.into_inner(),
        state: file.state.map(Spanned::into_inner),
        on_isolation: match file.on_isolation {
            Isolation::Fence => OnIsolation::Fence,
            Isolation::KeepRunning => OnIsolation::KeepRunning,
        },
        ports: List::capped(file.port.into_iter().map(|entry| {
            let PortEntry { name, port } = entry.into_inner();
            Port { name, port }
        })),
        replicate: Replicate {
            every_ms: millis(replicate.as_ref().and_then(|table| table.every), 1_000),
            commit: match replicate.as_ref().map(|table| &table.commit) {
                Some(CommitWord::Standby) => Commit::Standby,
                _ => Commit::Async,
            },
            commit_timeout_ms: millis(replicate.and_then(|table| table.commit_timeout), 0),
        },
        classes: file.place.class,
        labels: List::try_from(labels)
            .map_err(|over| format!("{} labels in `place`; {LABELS_MAX} at most", over.len))?,
        restart: Restart {
            max: file.restart.max.unwrap_or(3),
            within_ms: millis(file.restart.within, 60_000),
        },
        limits: Limits {
            memory_bytes: file.limits.memory.map_or(0, |memory| memory.0),
            pids: file.limits.pids.unwrap_or(0),
        },
        env: List::try_from(env)
            .map_err(|over| format!("{} variables in `env`; {ENV_MAX} at most", over.len))?,
    })
}

fn wrong_port(file: &File) -> Option<(Range<usize>, String)> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let fits = |name: &str| name.starts_with(plain) && name.chars().all(|c| plain(c) || c == '_');
    file.port.iter().enumerate().find_map(|(number, entry)| {
        let name = &entry.get_ref().name;
        let told = if !fits(name) {
            format!("`{name}` cannot be a port's name: use lower-case letters, digits and `_`")
        } else if file.port.iter().take(number).any(|other| other.get_ref().name == *name) {
            format!("two ports are called `{name}`")
        } else {
            return None;
        };
        Some((entry.span(), told))
    })
}

fn wrong_env(file: &File) -> Option<(Range<usize>, String)> {
    let reserved = |name: &str| name.starts_with("HEDGEROW_") || name.starts_with("PORT_");
    let wrong = |name: &&Name| name.is_empty() || name.contains('=') || reserved(name);
    let env = file.env.as_ref()?;
    let name = env.get_ref().keys().find(wrong)?;
    let told = format!("`{name}` cannot be set in `env`: HEDGEROW_… and PORT_… are Hedgerow's own");
    Some((env.span(), told))
}

/// A `${PORT_…}` in the command that no port of the file stands behind.
fn unknown_port(file: &File) -> Option<String> {
    let known: Vec<String> = file
        .port
        .iter()
        .map(|entry| format!("PORT_{}", entry.get_ref().name.to_ascii_uppercase()))
        .collect();
    let words = file.command.get_ref().iter();
    let named = words
        .flat_map(|word| word.split("${").skip(1))
        .filter_map(|rest| rest.split_once('}').map(|(name, _)| name));
    let unknown = named
        .filter(|name| name.starts_with("PORT_"))
        .find(|name| !known.iter().any(|port| port == name))?;
    let hint = nearest(unknown, known.iter().map(String::as_str))
        .map_or(String::new(), |near| format!("; did you mean ${{{near}}}?"));
    Some(format!("the command names ${{{unknown}}}, but no `port` is called so{hint}"))
}

/// Adds the word that was meant to a complaint about an unknown one.
fn suggested(told: String) -> String {
    let mut quoted = told.split('`').skip(1).step_by(2);
    let (Some(wrong), true) = (quoted.next(), told.contains("unknown ")) else { return told };
    match nearest(wrong, quoted) {
        Some(near) => format!("{told}; did you mean `{near}`?"),
        None => told,
    }
}

fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = known.map(|word| (distance(wrong, word), word)).min_by_key(|(typos, _)| *typos)?;
    (near.0 <= TYPOS_MAX).then_some(near.1)
}

/// Letters to add, remove or replace to make `b` of `a` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let replaced = corner + usize::from(from != *to);
            corner = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
