//! Copies: a service's state on its way from the board that runs it to its standby's disk.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use hedgerow::proto::io::{Event, InstanceView, Reply};
use hedgerow::proto::order::Action;
use hedgerow::proto::record::Name;
use hedgerow::proto::spec::Commit;
use hedgerow::proto::ticket::Role;

use crate::host::{Host, Mesh, until, until_all_up};
use crate::services::{give, instances, order, spec, starts};

/// Counts, and writes down where each start began.
const COUNTS: &str = "n=$(cat state/n 2>/dev/null || echo 0); echo $n >> state/starts; \
     while :; do n=$((n+1)); echo $n > state/tmp; mv state/tmp state/n; sleep 0.05; done";

/// What this board knows of the one service.
async fn view(host: &Host) -> Option<InstanceView> {
    instances(host).await.into_iter().find(|view| view.instance == "counts")
}

fn counted(host: &Host) -> u64 {
    let path: PathBuf = host.home.join("services/counts/state/n");
    std::fs::read_to_string(path).ok().and_then(|n| n.trim().parse().ok()).unwrap_or(0)
}

/// Waits until all of them know that the standby is ready.
async fn until_ready(hosts: &[&Host]) {
    for host in hosts {
        until("its standby is ready", || async {
            view(host).await.is_some_and(|view| view.ready && view.standby.is_some())
        })
        .await;
    }
}

/// A mesh of two in which `counts` runs on the second board and the first stands by, ready.
async fn protected(mesh: &Mesh, commit: Commit) -> (Host, Host) {
    let founder = mesh.found().await;
    let guest = mesh.join("guest", &founder).await;
    until_all_up(&[&founder, &guest]).await;
    until("a master reigns", || async { founder.status().await.master.is_some() }).await;
    let mut action = spec("counts", COUNTS);
    if let Action::Run(spec) = &mut action {
        spec.replicate.commit = commit;
    }
    let run = order(mesh, Role::Operator, action);
    assert_eq!(give(&founder, run).await, Reply::Done);
    until_ready(&[&founder, &guest]).await;
    (founder, guest)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_standby_of_a_service_holds_its_state_and_then_only_what_changes_is_sent() {
    let mesh = Mesh::new();
    let (founder, guest) = protected(&mesh, Commit::Async).await;
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

/// The service asks for everything up to now to be kept, and hears what became of that.
fn commit(host: &Host) -> String {
    let socket = host.home.join("run/counts.0/control.sock");
    let mut service = BufReader::new(UnixStream::connect(socket).unwrap());
    service.get_mut().set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    service.get_mut().write_all(b"commit\n").unwrap();
    let mut answer = String::new();
    service.read_line(&mut answer).unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_is_there_when_the_standby_carries_on() {
    let mesh = Mesh::new();
    let (founder, mut guest) = protected(&mesh, Commit::Standby).await;
    for n in 0..3 {
        std::fs::write(guest.home.join("services/counts/state/order"), n.to_string()).unwrap();
        let answer = commit(&guest);
        assert!(answer.starts_with("ok "), "{answer}");
    }
    // Dropping the node is what `kill -9` of the agent is to its shim: the service lives until its lease
    // ends, and not longer.
    drop(guest.node.take());
    until("the standby carries on", || async {
        view(&founder).await.is_some_and(|v| v.active == "founder" && v.state == "running")
    })
    .await;
    let order = std::fs::read_to_string(founder.home.join("services/counts/state/order")).unwrap();
    assert_eq!(order, "2", "what was acknowledged last");
    until("it wrote down where it began", || async { starts(&founder, "counts").len() == 2 }).await;
    let starts = starts(&founder, "counts");
    assert!(starts[1].parse::<u64>().unwrap() <= counted(&guest), "{starts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_takes_along_everything_up_to_the_last_instruction() {
    let mesh = Mesh::new();
    let (founder, guest) = protected(&mesh, Commit::Async).await;
    let run = order(&mesh, Role::Operator, Action::Move(Name::capped("counts")));
    assert_eq!(give(&founder, run).await, Reply::Done);
    until("it has moved", || async {
        view(&founder).await.is_some_and(|v| v.active == "founder" && v.state == "running")
    })
    .await;
    let began = |host: &Host| starts(host, "counts").last().and_then(|n| n.parse::<u64>().ok());
    until("it began where it had ended", || async { began(&founder) == Some(counted(&guest)) })
        .await;
    // And back again: the roles are changed, the former folder is a leftover.
    until_ready(&[&founder, &guest]).await;
    let back = order(&mesh, Role::Operator, Action::Move(Name::capped("counts")));
    assert_eq!(give(&founder, back).await, Reply::Done);
    until("it is back", || async {
        view(&founder).await.is_some_and(|v| v.active == "guest" && v.state == "running")
    })
    .await;
    until("it began where it had ended", || async { began(&guest) == Some(counted(&founder)) })
        .await;
    assert_eq!(starts(&guest, "counts").len(), 3);
}
