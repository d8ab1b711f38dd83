//! Who decides, and what happens when that board dies.

use hedgerow::proto::id::NodeId;

use crate::host::{Host, Mesh, until, until_all_up};

/// The master and its term, if this board knows one with three living voters.
async fn master(host: &Host) -> Option<(NodeId, u64)> {
    let master = host.status().await.master?;
    (master.voters.len() == 3 && master.voters_up == 3).then_some((master.node, master.term))
}

#[tokio::test(flavor = "multi_thread")]
async fn three_boards_decide_once_there_are_three_and_a_dead_master_is_replaced() {
    let mesh = Mesh::new();
    let mut hosts = vec![mesh.found().await];
    for name in ["b", "c", "d", "e"] {
        let next = mesh.join(name, &hosts[0]).await;
        hosts.push(next);
    }
    until_all_up(&hosts.iter().collect::<Vec<_>>()).await;
    for host in &hosts {
        until("three boards decide", || async { master(host).await.is_some() }).await;
    }
    let (first, term) = master(&hosts[0]).await.unwrap();
    let at = hosts.iter().position(|host| host.id() == first).unwrap();
    drop(hosts.remove(at));
    for host in &hosts {
        until("another master, and three living voters again", || async {
            master(host).await.is_some_and(|(next, later)| next != first && later > term)
        })
        .await;
    }
}
