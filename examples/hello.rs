//! ```text
//! cargo run -p hedgerow-examples --bin hello
//!
//! board-0 sees board-0 Up, board-1 Up, board-2 Up
//! board-0 hears from board-2: 21.5 °C
//! ```
//!
//! Three boards in one process, over memory: who is there, and a topic.

use anyhow::Context;
use futures::StreamExt;
use hedgerow::Mesh;
use hedgerow::mesh::Heard;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Reading {
    celsius: f64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let meshes = Mesh::memory(3).await?;
    let members = meshes[0].members();
    let seen: Vec<String> =
        members.iter().map(|member| format!("{} {:?}", member.name, member.standing)).collect();
    println!("board-0 sees {}", seen.join(", "));

    let name = "telemetry:board-2:temp";
    let mut readings = meshes[0].topic::<Reading>(name)?.subscribe();
    meshes[2].topic(name)?.publish(&Reading { celsius: 21.5 }).await?;
    match readings.next().await.context("the node has stopped")? {
        Heard::Message(from, reading) => {
            let from = members.iter().find(|member| member.id == from).context("a stranger")?;
            println!("board-0 hears from {}: {} °C", from.name, reading.celsius);
        }
        Heard::Garbled(_, why) => println!("board-0 hears what is no reading: {why}"),
        Heard::Lagged(missed) => println!("board-0 was too slow and missed {missed}"),
    }
    Ok(())
}
