//! Who comes in and who does not.

use hedgerow::error::StartError;
use hedgerow::net::Node;
use hedgerow::proto::io::{Event, ViewState};
use hedgerow::proto::node::RecoverError;
use hedgerow::proto::signed::Signed;
use hedgerow::proto::ticket::{Revocation, Revoked};
use hedgerow::proto::wire::hello::Refusal;
use hedgerow::proto::{id::MeshId, io::Command};

use crate::host::{Host, Mesh, until, until_all_up};

#[tokio::test(flavor = "multi_thread")]
async fn a_board_with_a_ticket_is_let_in_and_comes_back_after_the_ticket_has_expired() {
    let mesh = Mesh::new();
    let founder = mesh.found().await;
    let soon = now() + 6;
    let mut guest = Host::new("guest");
    guest.start(Some(mesh.ticket(soon, &[&founder]).await)).await;
    until_all_up(&[&founder, &guest]).await;
    until("the admission is kept", || async { now() > soon }).await;

    guest.node.take().unwrap().shutdown().await.unwrap();
    guest.start(None).await;
    until_all_up(&[&founder, &guest]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_a_foreign_and_a_revoked_ticket_are_refused_and_told_why() {
    let mesh = Mesh::new();
    let founder = mesh.found().await;
    let other = Mesh::new();
    let revoked = mesh.ticket(0, &[&founder]).await;
    let revocation = Revocation {
        mesh: MeshId::of_root(&mesh.root.public()),
        target: Revoked::Ticket(revoked.id()),
        at: now(),
    };
    let signed = Signed::seal(&revocation, &mesh.root).unwrap();
    founder.client().ask(Command::Revoke(signed)).await.unwrap();

    for (ticket, reason) in [
        (mesh.ticket(1_700_000_001, &[&founder]).await, Refusal::Expired),
        (other.ticket(0, &[&founder]).await, Refusal::ForeignMesh),
        (revoked, Refusal::TicketRevoked),
    ] {
        let mut guest = Host::new("guest");
        guest.start(Some(ticket)).await;
        until("the guest is told why", || async {
            // Of a foreign mesh either side may be the first to say so.
            guest.past().iter().any(|event| match event {
                Event::RefusedBy { reason: told, .. } | Event::Refused { reason: told, .. } => {
                    *told == reason
                }
                _ => false,
            })
        })
        .await;
        let status = guest.status().await;
        assert_eq!((status.view, status.up), (ViewState::Joining, 1));
        assert!(status.view_why.contains(reason.advice()), "{}", status.view_why);
        assert_eq!(founder.status().await.nodes.len(), 1, "{reason:?} got in");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_board_is_thrown_out_everywhere_and_stays_out() {
    let mesh = Mesh::new();
    let founder = mesh.found().await;
    let guest = mesh.join("guest", &founder).await;
    let third = mesh.join("third", &founder).await;
    until_all_up(&[&founder, &guest, &third]).await;
    let revocation = Revocation {
        mesh: MeshId::of_root(&mesh.root.public()),
        target: Revoked::Node(guest.id()),
        at: now(),
    };
    let signed = Signed::seal(&revocation, &mesh.root).unwrap();
    third.client().ask(Command::Revoke(signed)).await.unwrap();
    until("the founder knows", || async { founder.sees(&guest.id()).await == Some("left") }).await;
    until("the guest is told", || async {
        let mine = |event: &Event| {
            matches!(
                event,
                Event::RefusedBy { reason: Refusal::NodeRevoked, .. } | Event::Halted { .. }
            )
        };
        guest.past().iter().any(mine)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_board_never_changes_its_mesh_and_one_without_a_ticket_says_so() {
    let mesh = Mesh::new();
    let mut board = mesh.found().await;
    board.node.take().unwrap().shutdown().await.unwrap();
    let other = Mesh::new().ticket(0, &[]).await;
    let error = Node::start(board.settings(Some(other))).await.unwrap_err();
    assert!(matches!(error, StartError::Recover(RecoverError::OtherMesh)), "{error}");
    let fresh = Host::new("fresh");
    let error = Node::start(fresh.settings(None)).await.unwrap_err();
    assert!(matches!(error, StartError::Recover(RecoverError::NoMesh)), "{error}");
}

fn now() -> u64 {
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}
