//! Copies: a service's state on its way from the board that runs it to its standby's disk.

use std::path::PathBuf;

use hedgerow::proto::io::{Event, InstanceView, Reply};
use hedgerow::proto::ticket::Role;

use crate::host::{Host, Mesh, until, until_all_up};
use crate::services::{give, instances, order, spec};

const COUNTS: &str = "n=$(cat state/n 2>/dev/null || echo 0); \
     while :; do n=$((n+1)); echo $n > state/tmp; mv state/tmp state/n; sleep 0.05; done";

/// What this board knows of the one service.
async fn view(host: &Host) -> Option<InstanceView> {
    instances(host).await.into_iter().find(|view| view.instance == "counts")
}

fn counted(host: &Host) -> u64 {
    let path: PathBuf = host.home.join("services/counts/state/n");
    std::fs::read_to_string(path).ok().and_then(|n| n.trim().parse().ok()).unwrap_or(0)
}

/// A mesh of two in which `counts` runs on the second board and the first stands by, ready.
async fn protected(mesh: &Mesh) -> (Host, Host) {
    let founder = mesh.found().await;
    let guest = mesh.join("guest", &founder).await;
    until_all_up(&[&founder, &guest]).await;
    until("a master reigns", || async { founder.status().await.master.is_some() }).await;
    let run = order(mesh, Role::Operator, spec("counts", COUNTS));
    assert_eq!(give(&founder, run).await, Reply::Done);
    until("its standby is ready", || async {
        view(&founder).await.is_some_and(|view| view.ready && view.standby.is_some())
    })
    .await;
    (founder, guest)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_standby_of_a_service_holds_its_state_and_then_only_what_changes_is_sent() {
    let mesh = Mesh::new();
    let (founder, guest) = protected(&mesh).await;
    assert_eq!(view(&founder).await.unwrap().active, "guest");
    let costs = || {
        let cost = |event| match event {
            Event::Fetched { cost, .. } => Some(cost),
            _ => None,
        };
        founder.past().into_iter().filter_map(cost).collect::<Vec<_>>()
    };
    until("three states have arrived", || async { costs().len() >= 3 }).await;
    let costs = costs();
    assert!(costs[0].full && !costs[1].full && !costs[2].full, "{costs:?}");
    assert!(counted(&guest) > 0);
    let failed = |event: &Event| matches!(event, Event::CopyFailed { .. });
    assert!(!founder.past().iter().chain(&guest.past()).any(failed));
}
