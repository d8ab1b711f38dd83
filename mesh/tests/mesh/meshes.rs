//! Two meshes that know of each other's boards.

use std::collections::BTreeSet;

use hedgerow::proto::bounded::{Blob, List, Text};
use hedgerow::proto::id::NodeId;
use hedgerow::proto::io::{Command, Event};
use hedgerow::proto::record::Name;
use hedgerow::proto::ticket::{Bootstrap, Role, Ticket, TicketRequest};
use hedgerow::proto::wire::hello::Refusal;

use crate::host::{Host, Mesh, until, until_all_up};

/// A board named as a first contact, at the addresses of whichever board.
async fn contact(node: &Host, at: &Host) -> Bootstrap {
    let addresses = at.me().await.addresses;
    Bootstrap {
        node: node.id(),
        addresses: List::capped(addresses.iter().map(|address| Text::capped(address))),
    }
}

/// A running board whose ticket names these first contacts.
async fn join(mesh: &Mesh, name: &str, first: Vec<Bootstrap>) -> Host {
    let request = TicketRequest {
        mesh_name: Name::capped("test"),
        role: Role::Member,
        issued: 1_700_000_000,
        expires: 0,
        bootstrap: List::capped(first),
    };
    let ticket = Ticket::issue(&mesh.root, request, hedgerow::net::random_seed()).unwrap();
    let mut host = Host::new(name);
    host.start(Some(ticket)).await;
    host
}

/// Whether `host` was told that it and `other` are of different meshes. Either side may be the first
/// to say so.
fn told(host: &Host, other: &Host) -> bool {
    host.past().iter().any(|event| match event {
        Event::Refused { node, reason } | Event::RefusedBy { node, reason, .. } => {
            (*node, *reason) == (other.id(), Refusal::ForeignMesh)
        }
        _ => false,
    })
}

async fn refused(pairs: &[(&Host, &Host)]) {
    for (a, b) in pairs {
        for (host, other) in [(a, b), (b, a)] {
            let what = format!("{} is told about {}", host.name, other.name);
            until(&what, || async { told(host, other) }).await;
        }
    }
}

/// Every board that `host` lists, or that ever came up or was let in as far as it knows.
async fn known(host: &Host) -> BTreeSet<NodeId> {
    let listed = host.status().await.nodes.into_iter().map(|node| node.node);
    let past = host.past().into_iter().filter_map(|event| match event {
        Event::MemberUp { node, .. } | Event::Admitted { node, .. } => Some(node),
        _ => None,
    });
    listed.chain(past).collect()
}

async fn apart(meshes: &[[&Host; 3]]) {
    for mesh in meshes {
        let own: BTreeSet<NodeId> = mesh.iter().map(|host| host.id()).collect();
        for host in mesh {
            assert_eq!(known(host).await, own, "what {} knows", host.name);
        }
    }
}

/// A word from `from` reaches its own mesh and nobody else.
async fn speak(from: &Host, text: &str, own: &[&Host], foreign: &[&Host]) {
    let heard = |host: &Host| {
        let mine = |event: &Event| matches!(event, Event::Topic { body, .. } if **body == *text.as_bytes());
        host.past().iter().any(mine)
    };
    let topic: Text<_> = "telemetry:board:temp".try_into().unwrap();
    let body: Blob<_> = text.as_bytes().to_vec().try_into().unwrap();
    for host in own {
        // Best effort: what is said before a board has its links back is lost.
        until("its own mesh hears it", || async {
            let (topic, body) = (topic.clone(), body.clone());
            from.client().ask(Command::Publish { topic, body }).await.unwrap();
            heard(host)
        })
        .await;
    }
    for host in foreign {
        assert!(!heard(host), "{} heard {text}", host.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_meshes_that_are_told_each_others_addresses_never_mix_and_say_so() {
    let (mesh_a, mesh_b) = (Mesh::new(), Mesh::new());
    let (a1, b1) = (mesh_a.found().await, mesh_b.found().await);
    // Boards of A are sent to boards of B, one of them under the name of a board of A.
    let wrong_house = contact(&a1, &b1).await;
    let b2 = join(&mesh_b, "b2", vec![contact(&a1, &a1).await, contact(&b1, &b1).await]).await;
    let first = vec![contact(&b1, &b1).await, contact(&b2, &b2).await, contact(&a1, &a1).await];
    let mut a2 = join(&mesh_a, "a2", first).await;
    let a3 = join(&mesh_a, "a3", vec![wrong_house, contact(&a2, &a2).await]).await;
    // And one of B to boards of A.
    let first = vec![contact(&a2, &a2).await, contact(&a3, &a3).await, contact(&b2, &b2).await];
    let b3 = join(&mesh_b, "b3", first).await;

    until_all_up(&[&a1, &a2, &a3]).await;
    until_all_up(&[&b1, &b2, &b3]).await;
    refused(&[(&b2, &a1), (&a2, &b1), (&a2, &b2), (&b3, &a2), (&b3, &a3)]).await;
    apart(&[[&a1, &a2, &a3], [&b1, &b2, &b3]]).await;

    // After a restart it asks all its first contacts again.
    a2.node.take().unwrap().shutdown().await.unwrap();
    a2.start(None).await;
    until_all_up(&[&a1, &a2, &a3]).await;
    speak(&a2, "of a", &[&a1, &a3], &[&b1, &b2, &b3]).await;
    speak(&b3, "of b", &[&b1, &b2], &[&a1, &a2, &a3]).await;
    apart(&[[&a1, &a2, &a3], [&b1, &b2, &b3]]).await;
}
