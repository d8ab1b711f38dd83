//! A copy of the workspace in a temporary folder, that may be broken, built and run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::limited::{self, Ended};
use super::notice::Notice;

/// No run of netsim takes so long by far, unless the node runs in a circle.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
/// The exit code of a program of Rust that panicked.
const PANICKED: i32 = 101;

/// A copy of the workspace that may be broken.
pub(super) struct Copy {
    folder: PathBuf,
    target: PathBuf,
    /// Whether the core checks its own assertions and overflows, as in a debug build.
    asserts: bool,
}

impl Drop for Copy {
    fn drop(&mut self) {
        // What cannot be removed is in the temporary folder anyway.
        let _removed_or_not = fs::remove_dir_all(&self.folder);
    }
}

impl Copy {
    pub(super) fn new(root: &Path) -> Result<Self> {
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
        Ok(Self { folder, target: target.join("exam"), asserts: false })
    }

    /// The same, with a core that checks its own assertions.
    pub(super) fn asserting(root: &Path) -> Result<Self> {
        let mut copy = Self::new(root)?;
        copy.asserts = true;
        Ok(copy)
    }

    /// Where it is: for files that are to vanish with it.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Breaks the copy with a patch, or takes that back.
    pub(super) fn apply(&self, patch: &Path, reverse: bool) -> Result<()> {
        let mut git = Command::new("git");
        git.args(["apply", "--unidiff-zero"]).args(reverse.then_some("--reverse")).arg(patch);
        // Outside of any repository, so that paths are taken as they are.
        git.current_dir(&self.folder).env("GIT_CEILING_DIRECTORIES", std::env::temp_dir());
        let advice = "make it anew against the present code";
        checked(&mut git).map(drop).with_context(|| format!("{}: {advice}", patch.display()))
    }

    pub(super) fn build(&self) -> Result<()> {
        let mut cargo = self.cargo();
        cargo.args(["build", "--quiet", "--release", "-p", "hedgerow-netsim", "--bin", "netsim"]);
        checked(&mut cargo).map(drop)
    }

    /// Builds the unit tests of the core, and says where they are. None: they do not compile.
    pub(super) fn build_tests(&self) -> Result<Option<PathBuf>> {
        let mut cargo = self.cargo();
        cargo.args(["test", "--no-run", "--quiet", "--release", "--message-format", "json"]);
        cargo.args(["-p", "hedgerow", "--no-default-features", "--lib"]);
        let output = cargo.output().context("cannot run cargo")?;
        if !output.status.success() {
            let why = words(&output);
            ensure!(why.contains("could not compile"), "cannot build the unit tests: {why}");
            return Ok(None);
        }
        let built = String::from_utf8_lossy(&output.stdout);
        let built = built.lines().rev().find_map(|line| {
            let message: serde_json::Value = serde_json::from_str(line).ok()?;
            message["executable"].as_str().map(PathBuf::from)
        });
        Ok(Some(built.context("cargo does not say where the unit tests are")?))
    }

    fn cargo(&self) -> Command {
        let mut cargo = Command::new("cargo");
        cargo
            .current_dir(&self.folder)
            .env("CARGO_TARGET_DIR", &self.target)
            // Built far more often than run.
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
            .env("CARGO_INCREMENTAL", "1")
            .env("RUSTFLAGS", "-Awarnings");
        if self.asserts {
            for check in ["debug-assertions", "overflow-checks"] {
                // Of the core alone, so that nothing else is built anew.
                cargo.args(["--config", &format!("profile.release.package.hedgerow.{check}=true")]);
            }
        }
        cargo
    }

    /// What `netsim shrink` printed about a failure.
    pub(super) fn shrink(&self, replay: &str, budget: &str) -> Result<String> {
        let mut command = Command::new(self.netsim());
        command.args(["shrink", replay, "--budget", budget]).current_dir(&self.folder);
        Ok(String::from_utf8_lossy(&command.output()?.stdout).into_owned())
    }

    /// Keeps what is built now as the node that has no faults.
    pub(super) fn keep_unbroken(&self) -> Result<()> {
        let (from, to) = (self.netsim(), self.folder.join("unbroken"));
        fs::copy(&from, &to).map(drop).with_context(|| format!("cannot copy {}", from.display()))
    }

    /// How a run of the built netsim fails, if it does.
    pub(super) fn notices(&self, arguments: &[String]) -> Result<Option<Notice>> {
        self.notices_within(arguments, PATIENCE)
    }

    /// The same, and a run that takes longer than `patience` fails.
    pub(super) fn notices_within(
        &self,
        arguments: &[String],
        patience: Duration,
    ) -> Result<Option<Notice>> {
        self.notices_by(&self.netsim(), arguments, patience)
    }

    /// How the node that has no faults fails.
    pub(super) fn unbroken_notices(&self, arguments: &[String]) -> Result<Option<Notice>> {
        self.notices_by(&self.folder.join("unbroken"), arguments, PATIENCE)
    }

    /// Which unit test of the core fails, if one does.
    pub(super) fn failing_test(&self, tests: &Path, patience: Duration) -> Result<Option<String>> {
        let only_the_core = ["proto::".to_owned()];
        Ok(match limited::run(tests, &only_the_core, &self.folder, patience)? {
            Ended::Exited { code: Some(0), .. } => None,
            Ended::Exited { printed, .. } => {
                let failed = printed.lines().find_map(|line| {
                    line.strip_prefix("test ")?.strip_suffix(" ... FAILED").map(str::to_owned)
                });
                Some(failed.unwrap_or_else(|| "all: they ended early".to_owned()))
            }
            Ended::Stopped => Some("timeout".to_owned()),
        })
    }

    /// The names of the scenarios in `netsim/scenarios`, in order.
    pub(super) fn scenarios(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.folder.join("netsim/scenarios"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
            }
        }
        names.sort();
        Ok(names)
    }

    fn netsim(&self) -> PathBuf {
        self.target.join("release/netsim")
    }

    fn notices_by(
        &self,
        netsim: &Path,
        arguments: &[String],
        patience: Duration,
    ) -> Result<Option<Notice>> {
        let (code, printed, complained) =
            match limited::run(netsim, arguments, &self.folder, patience)? {
                Ended::Stopped => return Ok(Some(Notice::of("timeout"))),
                Ended::Exited { code, printed, complained } => (code, printed, complained),
            };
        match code {
            Some(0) => Ok(None),
            Some(1) => Ok(Some(Notice::read(arguments, &printed))),
            Some(PANICKED) => Ok(Some(Notice::of("panic"))),
            None => Ok(Some(Notice::of("killed-by-a-signal"))),
            Some(_) => bail!("`netsim {}` could not run: {complained}", arguments.join(" ")),
        }
    }
}

pub(super) fn checked(command: &mut Command) -> Result<Output> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", words(&output));
    }
    Ok(output)
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}
