//! Services: from a signed order to a running process, and what survives the agent.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hedgerow::proto::bounded::{List, Text};
use hedgerow::proto::id::{CellId, Digest16, Keypair, MeshId};
use hedgerow::proto::io::{Command, Event, InstanceView, Reply};
use hedgerow::proto::order::{Action, Order, SignedOrder};
use hedgerow::proto::record::Name;
use hedgerow::proto::spec::{
    Commit, Limits, OnIsolation, Port, Replicate, Restart, ServiceSpec, Word,
};
use hedgerow::proto::ticket::{Role, Ticket, TicketRequest};

use hedgerow::workload::instance::{Files, Instance};

use crate::host::{Host, Mesh, until, until_all_up};

/// A service that does nothing but write down each of its starts.
pub(crate) fn spec(name: &str, script: &str) -> Action {
    let words = ["/bin/sh", "-c", script];
    Action::Run(Box::new(ServiceSpec {
        name: Name::capped(name),
        command: List::capped(words.map(Word::capped)),
        state: Some(Text::capped("state")),
        on_isolation: OnIsolation::Fence,
        ports: List::capped([Port { name: Name::capped("http"), port: 0 }]),
        replicate: Replicate { every_ms: 1000, commit: Commit::Async, commit_timeout_ms: 0 },
        classes: List::new(),
        labels: List::new(),
        restart: Restart { max: 3, within_ms: 60_000 },
        limits: Limits::default(),
        env: List::new(),
    }))
}

const SLEEPS: &str = "echo $$ >> state/starts; while :; do sleep 0.1; done";

fn unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// An order by an operator of `mesh`.
pub(crate) fn order(mesh: &Mesh, role: Role, action: Action) -> SignedOrder {
    let operator = Keypair::from_seed(&hedgerow::net::random_seed());
    let request = TicketRequest {
        mesh_name: Name::capped("test"),
        role,
        issued: unix(),
        expires: 0,
        bootstrap: List::new(),
    };
    let ticket = Ticket::issue(&mesh.root, request, hedgerow::net::random_seed()).unwrap();
    let order = Order {
        mesh: MeshId::of_root(&mesh.root.public()),
        cell: CellId::default(),
        operator: operator.public(),
        nonce: hedgerow::net::random_seed()[..16].try_into().unwrap(),
        issued: unix(),
        expires: unix() + 60,
        action,
    };
    SignedOrder::seal(&order, &operator, ticket.bind_operator(&operator.public())).unwrap()
}

pub(crate) async fn give(host: &Host, order: SignedOrder) -> Reply {
    host.client().ask(Command::Order(Box::new(order))).await.unwrap()
}

pub(crate) async fn instances(host: &Host) -> Vec<InstanceView> {
    match host.client().ask(Command::Instances).await.unwrap() {
        Reply::Instances(list) => list,
        other => panic!("{other:?}"),
    }
}

async fn state(host: &Host, name: &str) -> Option<&'static str> {
    instances(host).await.into_iter().find(|i| i.instance == name).map(|i| i.state)
}

pub(crate) fn starts(host: &Host, name: &str) -> Vec<String> {
    let file = host.home.join("services").join(name).join("state/starts");
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_runs_where_the_table_says_and_any_board_knows_where_it_serves() {
    let mesh = Mesh::new();
    let founder = mesh.found().await;
    let guest = mesh.join("guest", &founder).await;
    until_all_up(&[&founder, &guest]).await;
    until("a master reigns", || async { founder.status().await.master.is_some() }).await;
    // The order is given on the board that is not master.
    until("the guest knows the master", || async { guest.status().await.master.is_some() }).await;
    assert_eq!(give(&guest, order(&mesh, Role::Operator, spec("api", SLEEPS))).await, Reply::Done);
    for host in [&founder, &guest] {
        until("it runs", || async { state(host, "api").await == Some("running") }).await;
        let resolved = host.client().ask(Command::Resolve(Name::capped("api"))).await.unwrap();
        let Reply::Resolved(resolved) = resolved else { panic!("{resolved:?}") };
        assert!(resolved.endpoints["http"].starts_with("127.0.0.1:"), "{resolved:?}");
    }
    // The master's own board is taken last.
    assert_eq!(starts(&guest, "api").len(), 1);

    assert_eq!(
        give(&founder, order(&mesh, Role::Operator, Action::Stop(Name::capped("api")))).await,
        Reply::Done
    );
    until("it is stopped", || async {
        state(&guest, "api").await == Some("stopped")
            && guest.past().iter().any(|e| matches!(e, Event::Ended { .. }))
    })
    .await;
    let remove =
        order(&mesh, Role::Operator, Action::Remove { service: Name::capped("api"), force: false });
    assert_eq!(give(&founder, remove).await, Reply::Done);
    until("it is gone", || async { instances(&guest).await.is_empty() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_outlives_its_agent_and_one_that_ends_is_started_again() {
    let mesh = Mesh::new();
    let mut host = mesh.found().await;
    until("a master reigns", || async { host.status().await.master.is_some() }).await;
    let run = |name, script| order(&mesh, Role::Operator, spec(name, script));
    assert_eq!(give(&host, run("stays", SLEEPS)).await, Reply::Done);
    let dies = "echo $$ >> state/starts; sleep 0.2; exit 3";
    assert_eq!(give(&host, run("dies", dies)).await, Reply::Done);
    until("it runs", || async { state(&host, "stays").await == Some("running") }).await;
    until("it was started again", || async { starts(&host, "dies").len() >= 2 }).await;
    let code = |event: &Event| matches!(event, Event::Ended { why, .. } if why.contains("code 3"));
    assert!(host.past().iter().any(code), "its exit code is told");

    // Dropping the node is what `kill -9` of the agent is to its shims.
    drop(host.node.take());
    host.start(None).await;
    until("it is adopted", || async {
        let stays = |e: &Event| matches!(e, Event::Adopted { instance, .. } if instance == "stays");
        host.past().iter().any(stays)
    })
    .await;
    assert_eq!(starts(&host, "stays").len(), 1, "the very same process");
    for name in ["stays", "dies"] {
        let stop = order(
            &mesh,
            Role::Operator,
            Action::Remove { service: Name::capped(name), force: false },
        );
        until("the master reigns again", || async {
            give(&host, stop.clone()).await == Reply::Done
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_does_not_end_when_asked_is_stopping_until_it_has() {
    let mesh = Mesh::new();
    let host = mesh.found().await;
    until("a master reigns", || async { host.status().await.master.is_some() }).await;
    let run = order(&mesh, Role::Operator, spec("deaf", &format!("trap '' TERM; {SLEEPS}")));
    assert_eq!(give(&host, run).await, Reply::Done);
    // Its first line is written after it has become deaf.
    until("it runs", || async { starts(&host, "deaf").len() == 1 }).await;
    let stop = order(&mesh, Role::Operator, Action::Stop(Name::capped("deaf")));
    assert_eq!(give(&host, stop).await, Reply::Done);
    assert_eq!(state(&host, "deaf").await, Some("stopping"));
    until("it has stopped", || async { state(&host, "deaf").await == Some("stopped") }).await;
    let killed =
        |event: &Event| matches!(event, Event::Ended { instance, .. } if instance == "deaf");
    assert!(host.past().iter().any(killed));
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_wait_while_the_master_makes_way() {
    let mesh = Mesh::new();
    let founder = mesh.found().await;
    let second = mesh.join("second", &founder).await;
    let third = mesh.join("third", &founder).await;
    until_all_up(&[&founder, &second, &third]).await;
    let voters = || async { founder.status().await.master.map_or(0, |master| master.voters.len()) };
    until("three boards decide", || async { voters().await == 3 }).await;
    let master = founder.status().await.master.unwrap().node;
    let drain = order(&mesh, Role::Operator, Action::Drain { node: master, drained: true });
    assert_eq!(give(&second, drain).await, Reply::Done);
    // One after the other until another board has answered one of them as master.
    for number in 0.. {
        let now = third.status().await.master.unwrap().node;
        let run = order(&mesh, Role::Operator, spec("same", SLEEPS));
        assert_eq!(give(&third, run).await, Reply::Done, "order {number}");
        if now != master {
            break;
        }
        // Each changes the table, and a master makes way only when it rests.
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// The agent dies after it has written down another specification and before its shim hears of it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_found_running_under_an_older_specification_is_started_anew() {
    let mesh = Mesh::new();
    let mut host = mesh.found().await;
    until("a master reigns", || async { host.status().await.master.is_some() }).await;
    let run = order(&mesh, Role::Operator, spec("stays", SLEEPS));
    assert_eq!(give(&host, run).await, Reply::Done);
    until("it runs", || async { state(&host, "stays").await == Some("running") }).await;

    drop(host.node.take());
    let files = Files::new(&host.home.join("run/stays.0")).unwrap();
    let mut what = Instance::load(&files).unwrap();
    what.spec = Digest16::of(b"an older one").to_string();
    what.save(&files).unwrap();
    host.start(None).await;
    until("it is started anew", || async { starts(&host, "stays").len() == 2 }).await;
    until("it runs", || async { state(&host, "stays").await == Some("running") }).await;
    assert!(!host.past().iter().any(|event| matches!(event, Event::Adopted { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_no_operator_signed_and_a_repeated_one_change_nothing() {
    let mesh = Mesh::new();
    let host = mesh.found().await;
    until("a master reigns", || async { host.status().await.master.is_some() }).await;
    let refused = |reply: Reply| match reply {
        Reply::Error(error) => error.code,
        other => panic!("{other:?}"),
    };
    let member = order(&mesh, Role::Member, spec("api", SLEEPS));
    assert_eq!(refused(give(&host, member).await), "refused", "a member's ticket");
    let stranger = order(&Mesh::new(), Role::Operator, spec("api", SLEEPS));
    assert_eq!(refused(give(&host, stranger).await), "refused", "another mesh's operator");
    let upwards = order(&mesh, Role::Operator, spec("../api", SLEEPS));
    assert_eq!(refused(give(&host, upwards).await), "refused", "a name that is a path");
    assert!(instances(&host).await.is_empty());

    let stop = Action::Stop(Name::capped("api"));
    assert_eq!(refused(give(&host, order(&mesh, Role::Operator, stop)).await), "not-found");
    let run = order(&mesh, Role::Operator, spec("api", SLEEPS));
    assert_eq!(give(&host, run.clone()).await, Reply::Done);
    let remove =
        order(&mesh, Role::Operator, Action::Remove { service: Name::capped("api"), force: false });
    assert_eq!(give(&host, remove).await, Reply::Done);
    until("it is gone", || async { instances(&host).await.is_empty() }).await;
    // Whoever recorded the first order and gives it again is told that it was carried out …
    assert_eq!(give(&host, run).await, Reply::Done);
    // … and nothing comes of it.
    assert!(instances(&host).await.is_empty());
}
