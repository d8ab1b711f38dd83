//! Services: `run`, `stop`, `rm`, `failover`, `ps`, `resolve` and `logs`.
//!
//! What changes something is an order, signed here with the operator's key and only passed on by the
//! daemon: a board that was taken over can run nothing elsewhere. What only asks goes to the local
//! daemon and nobody else, so it works on an isolated board too.
//!
//! ```text
//! file (TOML) ─▶ spec ─▶ operator (sign) ─▶ /v1/order ─▶ the master, wherever it is
//! see, logs   ◀──────────────────────────── /v1/instances, /v1/resolve, the log file
//! ```

mod amount;
mod file;
pub(crate) mod logs;
pub(crate) mod operator;
pub(crate) mod see;

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;
use std::time::{Duration, Instant};

use hedgerow::proto::order::Action;
use tokio::time::sleep;

use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::folder;
use crate::names::ShortName;
use crate::schema::{Done, Instance, Moved};
use crate::text;

/// How long `failover` waits until this board knows of it.
const MOVE_WAIT: Duration = Duration::from_secs(3);
/// How long `rm` waits for the service to be gone before it says what it waits for.
const REMOVE_WAIT: Duration = Duration::from_secs(8);
/// How long `run` waits for the service to run before it says what it waits for.
const RUN_WAIT: Duration = Duration::from_secs(5);
/// How long `stop` waits until it has stopped.
const STOP_WAIT: Duration = Duration::from_secs(5);
/// So many looks in a row must find it running.
const STEADY_LOOKS: u32 = 10;
/// Between two looks meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Runs the service of a file, and tells where.
///
/// # Errors
/// The file is wrong, this folder has no operator's key, the master refuses, or it does not run in time.
pub(crate) async fn run(context: &Context, path: &Path) -> Outcome {
    let (shown, text) = read(path)?;
    let spec = file::parse(&shown, &text)?;
    let name = spec.name.to_string();
    let digest = spec.digest();
    operator::order(context, Action::Run(Box::new(spec))).await?;
    let mut looks = 0;
    let instance = wait(context, &name, RUN_WAIT, |it| {
        let runs = it.state == "running" && it.current && it.spec.is_none_or(|it| it == digest);
        // What ends at once does not run, whatever it was for a moment.
        looks = if runs { looks + 1 } else { 0 };
        looks >= STEADY_LOOKS
    });
    match instance.await? {
        (Some(instance), true) => context.show(&instance, for_people),
        (Some(instance), false) => {
            context.show(&instance, for_people)?;
            let message = format!(
                "{name} was ordered but does not run as ordered after {} s; `{}` says how it goes on",
                RUN_WAIT.as_secs(),
                context.command("ps")
            );
            Err(Failure::new(Exit::Failed, "not-running", message))
        }
        (None, _) => {
            let done = Done { done: "ordered".to_owned(), object: name };
            context.show(&done, |done| {
                let sentence = format!(
                    "{} was ordered, but this board has not heard of it yet: `{}` will show it.",
                    done.object,
                    context.command("ps")
                );
                text::wrap(&sentence, 2)
            })
        }
    }
}

/// Stops a service.
///
/// # Errors
/// There is none of that name, this folder has no operator's key, or the master refuses.
pub(crate) async fn stop(context: &Context, name: &ShortName) -> Outcome {
    operator::order(context, Action::Stop(name.to_name())).await?;
    // Its board may be away; then it has no lease there and has ended, or will.
    let (_, stopped) =
        wait(context, &name.to_string(), STOP_WAIT, |it| it.state == "stopped").await?;
    let done = if stopped { "stopped" } else { "stopping" };
    let done = Done { done: done.to_owned(), object: name.to_string() };
    context.show(&done, |done| {
        let is = if done.done == "stopped" { "is stopped" } else { "is being stopped" };
        let sentence = format!(
            "{} {is}. It keeps its place and its state: run its file again to start it.",
            done.object
        );
        text::wrap(&sentence, 2)
    })
}

/// Stops a service and forgets it; returns once it is gone.
///
/// # Errors
/// As for [`stop`]; or it is not gone after some seconds, and what that waits for.
pub(crate) async fn remove(context: &Context, name: &ShortName, force: bool) -> Outcome {
    operator::order(context, Action::Remove { service: name.to_name(), force }).await?;
    let begun = Instant::now();
    let (done, why) = loop {
        match find(context, &name.to_string()).await? {
            Some(it) if it.state == "removing" && begun.elapsed() > REMOVE_WAIT => {
                break ("removing", it.why);
            }
            // This board may not have heard of it yet.
            Some(_) if begun.elapsed() <= REMOVE_WAIT => sleep(LOOK_AGAIN).await,
            _ => break ("removed", String::new()),
        }
    };
    if done == "removing" {
        return Err(Failure::new(Exit::Failed, done, format!("{name} is being removed: {why}")));
    }
    let done = Done { done: done.to_owned(), object: name.to_string() };
    context.show(&done, |done| {
        let sentence = format!(
            "{0} is removed. What it wrote stays in services/{0} of the data folders of its boards.",
            done.object
        );
        text::wrap(&sentence, 2)
    })
}

/// Moves a service to its standby; returns once it has the right to run there.
///
/// # Errors
/// As for [`stop`]; or no standby is ready to carry on.
pub(crate) async fn failover(context: &Context, name: &ShortName) -> Outcome {
    let before = active_of(context, name).await?;
    operator::order(context, Action::Move(name.to_name())).await?;
    let begun = Instant::now();
    let mut to = active_of(context, name).await?;
    // Another board decided: this one may hear of it a moment later.
    while to == before && begun.elapsed() < MOVE_WAIT {
        sleep(LOOK_AGAIN).await;
        to = active_of(context, name).await?;
    }
    let to = if to == before { None } else { to };
    let moved = Moved { done: "moved".to_owned(), object: name.to_string(), to };
    context.show(&moved, |moved| {
        let to = moved.to.as_deref().unwrap_or("its standby");
        let sentence = format!(
            "{} was handed over to {to}, with all that it had written; `{}` shows its new standby.",
            moved.object,
            context.command("ps")
        );
        text::wrap(&sentence, 2)
    })
}

/// The board that runs a service, as this board knows it.
async fn active_of(context: &Context, name: &ShortName) -> Outcome<Option<String>> {
    Ok(find(context, &name.to_string()).await?.map(|it| it.active))
}

fn read(path: &Path) -> Outcome<(String, String)> {
    let shown = path.display().to_string();
    if shown == "-" {
        let mut text = String::new();
        let read = io::stdin().read_to_string(&mut text);
        read.map_err(|error| folder::fault("read", Path::new("standard input"), &error))?;
        return Ok(("standard input".to_owned(), text));
    }
    let text = fs::read_to_string(path).map_err(|error| folder::fault("read", path, &error))?;
    Ok((shown, text))
}

/// The instance as soon as it is as it should be, or as it is when that takes too long; and which.
async fn wait(
    context: &Context,
    name: &str,
    most: Duration,
    mut is_as_it_should: impl FnMut(&Instance) -> bool,
) -> Outcome<(Option<Instance>, bool)> {
    let begun = Instant::now();
    loop {
        let found = find(context, name).await?;
        let is_so = found.as_ref().is_some_and(&mut is_as_it_should);
        if is_so || begun.elapsed() > most {
            return Ok((found, is_so));
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// An instance, as this board knows it.
async fn find(context: &Context, name: &str) -> Outcome<Option<Instance>> {
    let all: Vec<Instance> = context.client().get("/v1/instances").await?;
    Ok(all.into_iter().find(|it| it.instance == name))
}

fn for_people(instance: &Instance) -> String {
    let Instance { instance: name, state, active, epoch, .. } = instance;
    let head = match state.as_str() {
        "running" => format!("{name} runs on {active}, epoch {epoch}."),
        state => format!("{name} was placed on {active}, epoch {epoch}; it is {state}."),
    };
    let mut lines = vec![text::wrap(&head, 2)];
    lines.extend(instance.endpoints.iter().map(|endpoint| format!("  {endpoint}")));
    if !instance.why.is_empty() {
        lines.push(text::wrap(&format!("  {}", instance.why), 2));
    }
    lines.join("\n")
}
