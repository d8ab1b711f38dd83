//! Boards that come, die, come back and leave.

use hedgerow::proto::io::{Command, Event, Reply};

use crate::host::{Mesh, until, until_all_up};

#[tokio::test(flavor = "multi_thread")]
async fn five_boards_find_each_other_through_one_and_notice_a_death_and_a_return() {
    let mesh = Mesh::new();
    let founder = mesh.found().await;
    let b = mesh.join("b", &founder).await;
    let mut c = mesh.join("c", &founder).await;
    let d = mesh.join("d", &b).await;
    let e = mesh.join("e", &b).await;
    until_all_up(&[&founder, &b, &c, &d, &e]).await;

    let victim = c.id();
    // Dropping a node is a crash: no goodbye.
    drop(c.node.take());
    for host in [&founder, &b, &d, &e] {
        until("all hold it for dead", || async { host.sees(&victim).await == Some("down") }).await;
    }
    c.start(None).await;
    assert_eq!(c.id(), victim, "the same board");
    until_all_up(&[&founder, &b, &c, &d, &e]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_board_that_leaves_is_not_suspected() {
    let mesh = Mesh::new();
    let founder = mesh.found().await;
    let mut guest = mesh.join("guest", &founder).await;
    until_all_up(&[&founder, &guest]).await;
    let id = guest.id();
    assert_eq!(guest.client().ask(Command::Leave { force: false }).await.unwrap(), Reply::Done);
    until("it left", || async { founder.sees(&id).await == Some("left") }).await;
    guest.node.take().unwrap().shutdown().await.unwrap();
    let suspected = |event: &Event| matches!(event, Event::Suspected { node, .. } if *node == id);
    assert!(!founder.past().iter().any(suspected));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_reaches_every_member_once() {
    let mesh = Mesh::new();
    let founder = mesh.found().await;
    let b = mesh.join("b", &founder).await;
    let c = mesh.join("c", &founder).await;
    until_all_up(&[&founder, &b, &c]).await;
    let topic = "telemetry:b:temp".try_into().unwrap();
    let body = b"21".to_vec().try_into().unwrap();
    b.client().ask(Command::Publish { topic, body }).await.unwrap();
    for host in [&founder, &c] {
        let heard = || host.past().iter().filter(|e| matches!(e, Event::Topic { .. })).count();
        until("it arrives", || async { heard() > 0 }).await;
        assert_eq!(heard(), 1);
    }
}
