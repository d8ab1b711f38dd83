//! What became of generated mutants, kept line by line, so that a stopped exam goes on where it was.
//!
//! Each line is JSON and says to which list it belongs, so the files of several shards may simply be put together.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

/// How each line begins.
const START: &str = r#"{"list":""#;

/// What became of a mutant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Outcome {
    Caught,
    Survived,
    /// It does not build.
    NotViable,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Caught => "caught",
            Self::Survived => "survived",
            Self::NotViable => "not viable",
        })
    }
}

/// One line of the file.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Line {
    /// The digest of the list that the mutant is from.
    pub(super) list: String,
    /// The name of the mutant.
    pub(super) mutant: String,
    pub(super) outcome: Outcome,
    /// What caught it; empty if nothing did.
    pub(super) by: String,
    /// How long it took, building included.
    pub(super) seconds: f64,
}

/// All that is known, and the file to which more goes.
#[derive(Debug)]
pub(super) struct Results {
    known: BTreeMap<String, Line>,
    file: Option<File>,
}

impl Results {
    /// Reads what the file holds of that list. Without a file nothing is kept.
    ///
    /// # Errors
    /// The file cannot be read or written, is none of results, or has results of another list.
    pub(super) fn open(path: Option<&Path>, list: &str) -> Result<Self> {
        let Some(path) = path else { return Ok(Self { known: BTreeMap::new(), file: None }) };
        let name = path.display();
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read.with_context(|| format!("cannot read {name}"))?,
        };
        // An exam that was ended while it wrote leaves a part of a line.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let torn = &text[whole..];
        ensure!(
            torn.starts_with(START) || START.starts_with(torn),
            "{name} does not end with a result: is it the right file?"
        );
        let mut known = BTreeMap::new();
        for (number, line) in text[..whole].lines().enumerate() {
            let line: Line = serde_json::from_str(line)
                .with_context(|| format!("{name}, line {}, is no result", number + 1))?;
            ensure!(
                line.list == list,
                "{name}, line {}, is about another list of mutants: begin a new file",
                number + 1
            );
            known.insert(line.mutant.clone(), line);
        }
        let file = File::options().create(true).append(true).open(path);
        let file = file.with_context(|| format!("cannot write {name}"))?;
        file.set_len(whole as u64)?;
        Ok(Self { known, file: Some(file) })
    }

    pub(super) fn of(&self, mutant: &str) -> Option<&Line> {
        self.known.get(mutant)
    }

    pub(super) fn add(&mut self, line: Line) -> Result<()> {
        if let Some(file) = &mut self.file {
            let mut text = serde_json::to_string(&line)?;
            text.push('\n');
            file.write_all(text.as_bytes()).context("cannot write the results")?;
        }
        self.known.insert(line.mutant.clone(), line);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn line(mutant: &str, outcome: Outcome) -> Line {
        let (list, by) = ("a".to_owned(), String::new());
        Line { list, mutant: mutant.to_owned(), outcome, by, seconds: 1.5 }
    }

    /// A file of this test's own, which is not there yet.
    fn fresh(test: &str) -> PathBuf {
        let path =
            std::env::temp_dir().join(format!("netsim-results-{}-{test}", std::process::id()));
        let _there_or_not = fs::remove_file(&path);
        path
    }

    #[test]
    fn a_stopped_exam_knows_what_it_had_written_and_drops_half_a_line() {
        let path = fresh("stopped");
        let mut results = Results::open(Some(&path), "a").unwrap();
        results.add(line("one", Outcome::Caught)).unwrap();
        results.add(line("two", Outcome::NotViable)).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, &text[..text.len() - 9]).unwrap();

        let mut results = Results::open(Some(&path), "a").unwrap();
        assert_eq!(results.of("one"), Some(&line("one", Outcome::Caught)));
        assert_eq!(results.of("two"), None);
        results.add(line("two", Outcome::Survived)).unwrap();
        let results = Results::open(Some(&path), "a").unwrap();
        assert_eq!(results.of("two"), Some(&line("two", Outcome::Survived)));
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn files_of_shards_can_be_put_together() {
        let (one, two) = (fresh("one"), fresh("two"));
        for (path, mutant) in [(&one, "one"), (&two, "two")] {
            let mut results = Results::open(Some(path), "a").unwrap();
            results.add(line(mutant, Outcome::Caught)).unwrap();
        }
        let both = [&one, &two].map(|path| fs::read_to_string(path).unwrap()).concat();
        fs::write(&one, both).unwrap();
        let results = Results::open(Some(&one), "a").unwrap();
        assert!(results.of("one").is_some() && results.of("two").is_some());
        fs::remove_file(one).unwrap();
        fs::remove_file(two).unwrap();
    }

    #[test]
    fn a_file_of_something_else_is_left_alone() {
        let path = fresh("else");
        for text in ["{}", "precious", "precious\n"] {
            fs::write(&path, text).unwrap();
            Results::open(Some(&path), "a").unwrap_err();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn results_of_another_list_are_refused() {
        let path = fresh("another");
        let mut results = Results::open(Some(&path), "a").unwrap();
        results.add(line("one", Outcome::Caught)).unwrap();
        let refused = Results::open(Some(&path), "b").unwrap_err();
        assert!(refused.to_string().contains("line 1, is about another list"));
        fs::remove_file(path).unwrap();
    }
}
