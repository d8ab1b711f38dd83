//! Whether the program of a service is there, before anybody relies on it.
//!
//! The same rules by which it is found when it is started (`init.rs`): with a slash in it, from the
//! service's own folder; without, along `PATH`. A program that can be found may still fail; one that
//! cannot be found never runs.

use std::path::{Component, Path, PathBuf};

use rustix::fs::{Access, access};

/// Whether `command` could be started from `folder`.
///
/// `state` is where the service keeps its state, below that folder: what lies there comes with a copy, so
/// nothing is known of it before. `path` takes the place of this process's `PATH`.
///
/// # Errors
/// It is not there or cannot be executed, for people.
pub(crate) fn find(
    command: &str,
    folder: &Path,
    state: Option<&str>,
    path: Option<&str>,
) -> Result<(), String> {
    let plain = |path: &Path| -> PathBuf {
        path.components().filter(|part| *part != Component::CurDir).collect()
    };
    if command.contains("${") {
        // What stands there is known when it is started.
        return Ok(());
    }
    if !command.contains('/') {
        let own = std::env::var("PATH").ok();
        let Some(path) = path.or(own.as_deref()) else {
            // The system has a path of its own then.
            return Ok(());
        };
        let found =
            std::env::split_paths(path).any(|at| can_run(&folder.join(at).join(command)).is_ok());
        return match found {
            true => Ok(()),
            false => Err(format!("cannot run {command}: no such program in {path}")),
        };
    }
    let inside = |state: &str| plain(&folder.join(command)).starts_with(plain(&folder.join(state)));
    if state.is_some_and(inside) {
        return Ok(());
    }
    let looked = match command.starts_with('/') {
        true => String::new(),
        false => format!(" (looked up in {})", folder.display()),
    };
    can_run(&folder.join(command)).map_err(|error| format!("cannot run {command}{looked}: {error}"))
}

fn can_run(program: &Path) -> std::io::Result<()> {
    if program.is_dir() {
        return Err(std::io::Error::from(std::io::ErrorKind::IsADirectory));
    }
    Ok(access(program, Access::EXEC_OK)?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let name = format!("hedgerow-program-{name}-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn a_program_is_looked_up_where_it_will_be_started_from() {
        let folder = scratch("found");
        let at = folder.join("tool");
        let found = |command: &str| find(command, &folder, Some("state"), None);

        assert!(found("./tool").unwrap_err().contains("No such file"));
        fs::write(&at, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&at, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(found("./tool").unwrap_err().contains("denied"));
        fs::set_permissions(&at, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(found("./tool"), Ok(()));
        assert!(found("..").unwrap_err().contains("no such program"));
        assert!(found("./").unwrap_err().contains("directory"));

        assert_eq!(found("sh"), Ok(()));
        let nowhere = find("sh", &folder, None, Some("/nonexistent"));
        assert!(nowhere.unwrap_err().contains("/nonexistent"));
        assert_eq!(find("tool", &folder, None, Some(".")), Ok(()));
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_comes_with_the_state_is_not_looked_for() {
        let folder = scratch("state");
        let found = |state| find("./state/bin/tool", &folder, state, None);
        assert_eq!(found(Some("state")), Ok(()));
        assert_eq!(found(Some("./state/")), Ok(()));
        assert!(found(Some("stat")).is_err());
        let absolute = folder.join("state/tool").display().to_string();
        assert_eq!(find(&absolute, &folder, Some("state"), None), Ok(()));
        assert_eq!(find("${HOME}/tool", &folder, None, None), Ok(()));
        assert!(found(None).is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}
