//! `logs`: what a service on this board has written.
//!
//! The files belong to the service's shim and lie in the data folder, so they can be read without
//! the daemon. Other boards' logs stay where they were written.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hedgerow::workload::instance::Files;

use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::folder;
use crate::names::ShortName;
use crate::schema::{Logs, Status};
use crate::text;

/// Older files than the newest that are looked for; a shim keeps three.
const OLDER_FILES_MAX: u32 = 9;

/// Shows the output of a service.
///
/// # Errors
/// It is unknown, runs on another board, or its files cannot be read.
pub(crate) async fn logs(context: &Context, name: &ShortName) -> Outcome {
    let name = name.to_string();
    let dir = context.home.join("run").join(format!("{name}.0"));
    let files = Files::new(&dir)
        .map_err(|error| Failure::new(Exit::Folder, "data-folder", error.to_string()))?;
    let newest = files.log();
    let status: Option<Status> = match context.client().get("/v1/status").await {
        Ok(status) => Some(status),
        Err(failure) if failure.exit == Exit::NoDaemon && newest.exists() => None,
        Err(failure) => return Err(failure),
    };
    match status {
        Some(status) => look_here(context, &status, &name, newest.exists())?,
        None => context.note("No daemon answers; this is what the service wrote here last."),
    }
    let logs = Logs {
        instance: name,
        file: newest.display().to_string(),
        lines: read(&newest)?.lines().map(|line| text::clean(&line.replace('\t', " "))).collect(),
    };
    if logs.lines.is_empty() {
        context.note(&format!("{} has written nothing on this board yet.", logs.instance));
    }
    if logs.lines.is_empty() && !context.json {
        return Ok(());
    }
    context.show(&logs, |logs| logs.lines.join("\n"))
}

/// Only the board that runs it has its newest output.
fn look_here(context: &Context, status: &Status, name: &str, left_here: bool) -> Outcome {
    let Some(instance) = status.workloads.iter().find(|known| known.instance == name) else {
        if left_here {
            context
                .note(&format!("{name} is not in the mesh any more; this is what it wrote here."));
            return Ok(());
        }
        let message = format!("no service is called `{name}`; `hedgerow ps` lists them");
        return Err(Failure::new(Exit::NotFound, "not-found", message));
    };
    if instance.active == status.name {
        return Ok(());
    }
    let message = format!(
        "`{name}` runs on {}, and its log is there: use `hedgerow logs {name}` on that board",
        instance.active
    );
    Err(Failure::new(Exit::NotFound, "elsewhere", message))
}

/// All files of a log, the oldest first. Bounded, since the shim bounds them.
fn read(newest: &Path) -> Outcome<String> {
    let older = (1..=OLDER_FILES_MAX).rev().map(|number| {
        let mut path = newest.as_os_str().to_owned();
        path.push(format!(".{number}"));
        PathBuf::from(path)
    });
    let mut all = String::new();
    for path in older.chain([newest.to_owned()]) {
        match fs::read(&path) {
            Ok(bytes) => all.push_str(&String::from_utf8_lossy(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(folder::fault("read", &path, &error)),
        }
    }
    Ok(all)
}
