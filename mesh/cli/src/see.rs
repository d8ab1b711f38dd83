//! Commands that only ask: `status`, `nodes`, `why`, `events`, `version`; and `leave`.
//!
//! All of them work on an isolated board: they ask the local daemon and nobody else.

mod tables;

use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use tokio::time::timeout;

use crate::client::segment;
use crate::context::{Context, print};
use crate::exit::{Exit, Failure, Outcome};
use crate::schema::{Done, EventLine, Node, Status, Version, Versions, Why};
use crate::text;

/// The daemon gives up before.
const LEAVE_PATIENCE: Duration = Duration::from_secs(150);
/// From then on somebody may wonder.
const LEAVE_IS_LONG: Duration = Duration::from_secs(2);

/// Shows the mesh.
///
/// # Errors
/// No daemon answers.
pub(crate) async fn status(context: &Context) -> Outcome {
    let status: Status = context.client().get("/v1/status").await?;
    context.show(&status, tables::status)
}

/// Lists the members.
///
/// # Errors
/// No daemon answers.
pub(crate) async fn nodes(context: &Context) -> Outcome {
    let nodes: Vec<Node> = context.client().get("/v1/nodes").await?;
    context.show(&nodes, |nodes| tables::nodes(nodes))
}

/// Says what is known of one object.
///
/// # Errors
/// No daemon answers, or there is no such object.
pub(crate) async fn why(context: &Context, object: &str) -> Outcome {
    let why: Why = context.client().get(&format!("/v1/why/{}", segment(object))).await?;
    context.show(&why, |why| {
        let mut lines = vec![text::wrap(&why.object, 2)];
        lines.extend(why.findings.iter().map(|finding| text::wrap(&format!("- {finding}"), 2)));
        lines.join("\n")
    })
}

/// Shows what has happened, and with `follow` what goes on happening.
///
/// # Errors
/// No daemon answers, or it stopped meanwhile.
pub(crate) async fn events(context: &Context, follow: bool) -> Outcome {
    let path = if follow { "/v1/events?follow=true" } else { "/v1/events" };
    let mut lines = context.client().stream(path).await?;
    while let Some(line) = lines.next().await? {
        if context.json {
            print(&line)?;
            continue;
        }
        let event: EventLine = serde_json::from_str(&line)
            .map_err(|error| Failure::failed(format!("an event is not understood: {error}")))?;
        print(&text::wrap(&format!("{} {}", text::time_of_day(event.at_ms), event.text), 13))?;
    }
    if follow {
        context.note("The daemon has stopped.");
    }
    Ok(())
}

/// Shows the versions of this program and of the daemon, if one runs.
///
/// # Errors
/// Standard output cannot be written.
pub(crate) async fn version(context: &Context) -> Outcome {
    let daemon = match context.client().get::<Version>("/v1/version").await {
        Ok(version) => Some(version),
        Err(failure) if failure.exit == Exit::NoDaemon => None,
        Err(failure) => return Err(failure),
    };
    let versions = Versions { program: Version::of_this(), daemon };
    context.show(&versions, |versions| {
        let program = &versions.program;
        let line =
            |v: &Version| format!("{}, wire {}-{}, {}", v.version, v.wire_min, v.wire_max, v.arch);
        match &versions.daemon {
            Some(daemon) if daemon != program => format!(
                "hedgerow {}\nThe running board has {}; restart it to update it.",
                line(program),
                line(daemon)
            ),
            _ => format!("hedgerow {}", line(program)),
        }
    })
}

/// Leaves the mesh.
///
/// # Errors
/// No daemon answers, or it does not take part.
pub(crate) async fn leave(context: &Context, force: bool) -> Outcome {
    let client = context.client();
    let status: Status = client.get("/v1/status").await?;
    let path = if force { "/v1/leave?force=true" } else { "/v1/leave" };
    let mut left = pin!(client.post_long(path, LEAVE_PATIENCE));
    match timeout(LEAVE_IS_LONG, &mut left).await {
        Ok(left) => left?,
        Err(_) => {
            context
                .note("Leaving: what runs, stands by or decides here moves to other boards first.");
            left.await?;
        }
    }
    let keys = context.home.join("root.key").exists();
    let done = Done { done: "left".to_owned(), object: status.name.clone() };
    context.show(&done, |done| {
        let next = match keys {
            true => format!(
                "The keys of the mesh are here, in {}: copy root.key, operator.key, \
                 operator.credential and tickets.log to the data folder of a board that stays. \
                 Tickets and orders are made there then, also the ticket that this board needs to \
                 come back.",
                context.home.display()
            ),
            false => "To come back it needs a ticket: `hedgerow ticket new` on the board with the \
                      root key."
                .to_owned(),
        };
        let mut said =
            vec![format!("{} has left the mesh {} and stops.", done.object, status.mesh_name)];
        if force {
            said.extend(cost_of_force(&status, &context.home));
        }
        said.extend(what_stays(&status));
        said.push(next);
        text::wrap(&said.join(" "), 0)
    })
}

/// What those that stay have to know, if that is not much.
fn what_stays(before: &Status) -> Option<String> {
    let told = match before.up.saturating_sub(1) {
        1 => "One board stays: nothing stands by for what it runs.",
        2 => {
            "Two boards stay: should the one of them die that decides, nothing can be changed any more; \
             `hedgerow status` there says which that is."
        }
        _ => return None,
    };
    Some(told.to_owned())
}

/// What others miss once this board has left without asking, as far as it knows.
fn cost_of_force(before: &Status, home: &Path) -> Vec<String> {
    let me = &before.name;
    let mut costs: Vec<String> = before
        .workloads
        .iter()
        .filter(|it| it.active == *me && !it.ready && it.state != "removing")
        .map(|it| {
            let folder = home.join("services").join(&it.instance);
            format!(
                "Nobody was ready to carry on with {}: its newest state is in {} only.",
                it.instance,
                folder.display()
            )
        })
        .collect();
    let decided = before.master.as_ref().filter(|master| master.voters.contains(me));
    if let Some(master) = decided
        && master.voters.len() > 1
        && master.voters_up.saturating_sub(1) as usize * 2 <= master.voters.len()
    {
        costs.push(format!(
            "Too few of the boards that decide are left, so nothing can be changed any more: \
             `hedgerow recover --dead {me} --force` on one that stays."
        ));
    }
    costs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leaves_by_force_is_told_what_that_cost() {
        let root = hedgerow::proto::id::Keypair::from_seed(&[1; 32]).public();
        let status = |up: u32, ready: bool| -> Status {
            serde_json::from_value(serde_json::json!({
                "node": root,
                "mesh": hedgerow::proto::id::MeshId::of_root(&root), "mesh_name": "home", "name": "a",
                "incarnation": 1, "view": "whole", "view_why": "", "up": up, "suspect": 0,
                "down": 3 - up, "left": 0, "nodes": [],
                "master": {
                    "node": root,
                    "name": "a", "term": 1, "version": 1, "voters": ["a", "b", "c"],
                    "voters_up": up, "reigns": true, "why": "",
                },
                "workloads": [{
                    "instance": "kv", "state": "running", "active": "a", "standby": "b",
                    "epoch": 5, "endpoints": [], "ready": ready, "why": "",
                }],
            }))
            .unwrap()
        };
        let cost = |up, ready| cost_of_force(&status(up, ready), Path::new("/data")).join(" ");
        assert_eq!(cost(3, true), "");
        assert!(cost(3, false).contains("/data/services/kv"));
        assert!(cost(2, true).contains("recover --dead a"));
    }
}
