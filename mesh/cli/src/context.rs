//! What every command needs: the data folder, how to print, and how to reach the daemon.

use std::env;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use rustix::process::geteuid;
use serde::Serialize;

use crate::args::{Args, Output};
use crate::client::Client;
use crate::exit::{Exit, Failure, Outcome};
use crate::text;

/// Where root keeps its board.
const SYSTEM_HOME: &str = "/var/lib/hedgerow";

/// What every command needs.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// The data folder.
    pub(crate) home: PathBuf,
    /// Print for programs.
    pub(crate) json: bool,
    /// How much more to log.
    pub(crate) verbose: u8,
    /// The commands that are suggested need `--home` to reach this folder.
    suggest_home: bool,
}

impl Context {
    /// From the command line and the environment.
    ///
    /// # Errors
    /// No data folder is given and none can be derived.
    pub(crate) fn new(args: &Args) -> Outcome<Self> {
        let default = default_home();
        let home = args.home.clone().or_else(|| default.clone()).ok_or_else(|| {
            Failure::new(
                Exit::Usage,
                "no-home",
                "neither HOME nor XDG_DATA_HOME is set, so there is no place for the data folder; \
                 give one with --home DIR",
            )
        })?;
        let home = std::path::absolute(&home).unwrap_or(home);
        let from_env = env::var_os("HEDGEROW_HOME").is_some_and(|given| Path::new(&given) == home);
        let suggest_home = !from_env && default.as_ref() != Some(&home);
        let json = args.output == Output::Json;
        Ok(Self { home, json, verbose: args.verbose, suggest_home })
    }

    /// The command line that does `what` with this data folder, to suggest it to people.
    pub(crate) fn command(&self, what: &str) -> String {
        match self.suggest_home {
            true => format!("hedgerow --home {} {what}", self.home.display()),
            false => format!("hedgerow {what}"),
        }
    }

    /// The daemon of this folder.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.home.clone(), self.command("up"))
    }

    /// Prints one answer: `value` for programs, or what `for_people` makes of it.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub(crate) fn show<T: Serialize>(
        &self,
        value: &T,
        for_people: impl FnOnce(&T) -> String,
    ) -> Outcome {
        if !self.json {
            return print(&for_people(value));
        }
        let text = serde_json::to_string_pretty(value)
            .map_err(|error| Failure::failed(format!("cannot print as JSON: {error}")))?;
        print(&text)
    }

    /// Tells people something beside the answer; programs are not bothered.
    pub(crate) fn note(&self, sentence: &str) {
        if !self.json {
            eprintln!("{}", text::wrap(sentence, 2));
        }
    }
}

/// Prints to standard output and adds a line break if there is none.
///
/// # Errors
/// It cannot be written; a reader that went away is no fault.
pub(crate) fn print(text: &str) -> Outcome {
    let mut out = io::stdout().lock();
    let newline = if text.ends_with('\n') { "" } else { "\n" };
    let written = write!(out, "{text}{newline}").and_then(|()| out.flush());
    written.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::reader_gone(),
        _ => Failure::failed(format!("cannot write to standard output: {error}")),
    })
}

fn default_home() -> Option<PathBuf> {
    let system = Path::new(SYSTEM_HOME);
    let nearest = if system.exists() { system } else { Path::new("/var/lib") };
    if geteuid().is_root() && access(nearest, Access::WRITE_OK).is_ok() {
        return Some(system.to_owned());
    }
    let set = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = set("XDG_DATA_HOME").or_else(|| set("HOME").map(|home| home.join(".local/share")));
    data.map(|data| data.join("hedgerow"))
}
