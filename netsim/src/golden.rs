//! Golden hashes: what some runs came to when they were last looked at.
//!
//! A run is the same in every build, process and machine. `netsim/golden.txt` holds one line for each run,
//! its trace hash and its replay line; the tests compare in a debug build, CI in a release build and
//! another process. A change of the core or of the simulator changes hashes: write the file anew with
//! `netsim golden --write`, and the diff shows that this commit, and no other, did it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::campaign;
use crate::replay::Replay;

/// The file, seen from the workspace.
pub const FILE: &str = "netsim/golden.txt";

/// A run whose hash is another one now.
#[derive(Clone, Debug)]
pub struct Changed {
    /// What replays it.
    pub line: String,
    /// The hash in the file.
    pub was: String,
    /// The hash now.
    pub is: String,
}

/// The runs of the file at `path` that come to something else than it says.
///
/// # Errors
/// The file cannot be read, or is wrong.
pub fn changed(path: &Path) -> Result<Vec<Changed>> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut changed = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (was, line) = line
            .split_once(' ')
            .with_context(|| format!("{}: `{line}` is no hash and line", path.display()))?;
        let is = hash(line)?;
        if is != was {
            changed.push(Changed { line: line.to_owned(), was: was.to_owned(), is });
        }
    }
    Ok(changed)
}

/// The text of the file, with hashes as they are now, for the same runs.
///
/// # Errors
/// As [`changed`].
pub fn renewed(path: &Path) -> Result<String> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut renewed = String::new();
    for line in text.lines() {
        match line.split_once(' ').filter(|_| !line.starts_with('#')) {
            Some((_, run)) => writeln!(renewed, "{} {run}", hash(run)?)?,
            None => writeln!(renewed, "{line}")?,
        }
    }
    Ok(renewed)
}

/// Where the file is, seen from here.
///
/// # Errors
/// It is not there: this is not the workspace.
pub fn file() -> Result<PathBuf> {
    let path = PathBuf::from(FILE);
    ensure!(path.is_file(), "there is no {FILE} here: run this in the workspace");
    Ok(path)
}

fn hash(line: &str) -> Result<String> {
    let plan = line.parse::<Replay>()?.plan()?;
    let outcome = campaign::run(&plan, None);
    Ok(blake3::Hash::from(outcome.trace).to_hex()[..HASH_DIGITS].to_owned())
}

/// Enough to tell two runs apart.
const HASH_DIGITS: usize = 32;
