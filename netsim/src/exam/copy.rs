//! A copy of the workspace in a temporary folder, that may be broken, built and run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};

use super::notice::Notice;

/// A copy of the workspace that may be broken.
pub(super) struct Copy {
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
        Ok(Self { folder, target: target.join("exam") })
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

    /// How a run of the built netsim fails, if it does as when a rule is broken.
    pub(super) fn notices(&self, arguments: &[String]) -> Result<Option<Notice>> {
        self.notices_by(&self.netsim(), arguments)
    }

    /// The same of the node that has no faults.
    pub(super) fn unbroken_notices(&self, arguments: &[String]) -> Result<Option<Notice>> {
        self.notices_by(&self.folder.join("unbroken"), arguments)
    }

    fn netsim(&self) -> PathBuf {
        self.target.join("release/netsim")
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
