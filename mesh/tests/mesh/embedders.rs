//! The library as an application meets it: boards in memory, topics, services hosted in the program.

mod hosted;

use futures::StreamExt;
use hedgerow::Mesh;
use hedgerow::mesh::{Event, Heard, MeshError, Observed, PublishError, Standing, Topic};

use crate::host::until;

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_is_seen_and_told_and_a_restarted_board_is_the_same_one() {
    let mut meshes = Mesh::memory(3).await.unwrap();
    let id = meshes[2].id();
    let mut events = meshes[0].events();
    let mut its_own = meshes[2].events();
    meshes.crash(2);
    while its_own.next().await.is_some() {}
    assert!(matches!(meshes[2].services().await, Err(MeshError::Gone)));
    let down = |observed: &Observed| {
        let Observed::Event(happened) = observed else { return false };
        matches!(&happened.event, Event::MemberDown { node, .. } if *node == id)
    };
    while !down(&events.next().await.unwrap()) {}
    // The other one hears of it a moment later.
    until("both hold it for dead", || async {
        let members = meshes[1].members();
        members.named("board-2").map(|board| board.standing) == Some(Standing::Down)
    })
    .await;

    meshes.restart(2).await.unwrap();
    assert_eq!(meshes[2].id(), id);
    meshes.meet(3).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mesh_in_memory_survives_the_crash_of_all_its_boards() {
    let mut meshes = Mesh::memory(2).await.unwrap();
    meshes.crash(0);
    meshes.crash(1);
    meshes.restart(1).await.unwrap();
    meshes.restart(0).await.unwrap();
    meshes.meet(2).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_carries_values_and_says_what_it_cannot_carry() {
    let meshes = Mesh::memory(2).await.unwrap();
    let topic: Topic<Vec<u32>> = meshes[0].topic("telemetry:board-0:load").unwrap();
    let words: Topic<String> = meshes[0].topic("telemetry:board-0:load").unwrap();
    let mut heard = meshes[1].topic::<Vec<u32>>("telemetry:board-0:load").unwrap().subscribe();
    topic.publish(&vec![1, 2, 3]).await.unwrap();
    assert_eq!(heard.next().await.unwrap(), Heard::Message(meshes[0].id(), vec![1, 2, 3]));
    words.try_publish(&"not numbers".to_owned()).unwrap();
    let garbled = heard.next().await.unwrap();
    assert!(matches!(garbled, Heard::Garbled(from, _) if from == meshes[0].id()), "{garbled:?}");

    let long = words.publish(&"x".repeat(20_000)).await;
    assert!(matches!(long, Err(PublishError::TooLarge { bytes: 20_002, .. })), "{long:?}");
    assert!(meshes[0].topic::<()>("").is_err());
    assert!(meshes[0].topic::<()>(&"x".repeat(129)).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_node_pushes_back() {
    let meshes = Mesh::memory(1).await.unwrap();
    let topic: Topic<u32> = meshes[0].topic("t").unwrap();
    // More at once than there is room for, from a task that does not yield.
    let full = (0..100_000).map(|i| topic.try_publish(&i)).find_map(Result::err);
    assert!(matches!(full, Some(PublishError::Full)), "{full:?}");
    topic.publish(&0).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_said_before_anything_starts() {
    let nameless = Mesh::builder().data_dir(std::env::temp_dir().join("never-made")).start().await;
    assert!(matches!(nameless, Err(MeshError::Name { .. })), "{nameless:?}");
    let homeless = Mesh::builder().name("pi").start().await;
    assert!(matches!(homeless, Err(MeshError::NoDataDir)), "{homeless:?}");
}
