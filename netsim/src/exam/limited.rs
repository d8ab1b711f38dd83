//! Runs programs that may never end or want all the memory there is: broken nodes do both.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// What one may have: KiB of address space. A run of netsim needs some hundredth of it.
const MEMORY_KIB: u32 = 4 << 20;
/// How often it is looked whether one has ended.
const LOOK: Duration = Duration::from_millis(10);

/// How a program ended.
pub(super) enum Ended {
    /// By itself.
    Exited {
        /// None: a signal ended it, such as when it was out of memory or stack.
        code: Option<i32>,
        printed: String,
        complained: String,
    },
    /// It was ended, since its time was over.
    Stopped,
}

/// Runs a program in `folder`, which also holds what it prints meanwhile.
///
/// # Errors
/// It cannot be started, or `folder` cannot be written.
pub(super) fn run(
    program: &Path,
    arguments: &[String],
    folder: &Path,
    patience: Duration,
) -> Result<Ended> {
    let (out, err) = (folder.join("printed"), folder.join("complained"));
    let mut child = Command::new("sh")
        // `exec`, so that it is the child itself that is ended.
        .args(["-c", r#"ulimit -v "$0"; exec "$@""#, &MEMORY_KIB.to_string()])
        .arg(program)
        .args(arguments)
        .current_dir(folder)
        .stdout(File::create(&out)?)
        .stderr(File::create(&err)?)
        .spawn()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if began.elapsed() >= patience {
            child.kill()?;
            child.wait()?;
            return Ok(Ended::Stopped);
        }
        thread::sleep(LOOK);
    };
    let read =
        |file| Ok::<_, anyhow::Error>(String::from_utf8_lossy(&fs::read(file)?).into_owned());
    Ok(Ended::Exited { code: status.code(), printed: read(&out)?, complained: read(&err)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, patience: Duration) -> Ended {
        let folder = std::env::temp_dir().join(format!(
            "netsim-limited-{}-{}",
            std::process::id(),
            blake3::hash(script.as_bytes()).to_hex()
        ));
        fs::create_dir_all(&folder).unwrap();
        let arguments = ["-c", script].map(str::to_owned);
        let ended = run(Path::new("sh"), &arguments, &folder, patience).unwrap();
        fs::remove_dir_all(folder).unwrap();
        ended
    }

    #[test]
    fn what_ends_by_itself_is_told_with_all_that_it_printed() {
        let ended = shell("echo out; echo err >&2; exit 3", Duration::from_secs(60));
        let Ended::Exited { code, printed, complained } = ended else { panic!("stopped") };
        assert_eq!((code, &*printed, &*complained), (Some(3), "out\n", "err\n"));
    }

    #[test]
    fn what_never_ends_is_ended() {
        let ended = shell("while :; do :; done", Duration::from_millis(50));
        assert!(matches!(ended, Ended::Stopped));
    }

    #[test]
    fn what_wants_all_memory_does_not_get_it() {
        let ended = shell("ulimit -v", Duration::from_secs(60));
        let Ended::Exited { printed, .. } = ended else { panic!("stopped") };
        assert_eq!(printed.trim(), MEMORY_KIB.to_string());
    }
}
