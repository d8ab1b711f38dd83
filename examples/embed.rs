//! ```text
//! cargo run -p hedgerow-examples --bin embed -- /tmp/first
//!
//! first is up, id tmzvc3tjka
//! let another board in with:
//!   cargo run -p hedgerow-examples --bin embed -- /tmp/second hedge1…
//! second is up                        (once that was done)
//! second is down                      (some seconds after it was killed)
//! ```
//!
//! One board in an application. The first argument is its data folder and its last part the board's
//! name; without a ticket it founds a mesh, with one it joins. Ctrl-C hands over what runs here and ends.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use futures::StreamExt;
use hedgerow::Mesh;
use hedgerow::mesh::{Event, LeasePreset, Observed, Ticket};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().context("which data folder?")?);
    let name = folder.file_name().context("which name?")?.to_string_lossy().into_owned();
    let ticket = arguments.next();

    let builder = Mesh::builder().name(&name).data_dir(&folder).leases(LeasePreset::Lan);
    let mesh = match &ticket {
        // A board that joined before needs no ticket any more; an old one does not hurt.
        Some(ticket) => builder.ticket(Ticket::parse(ticket)?).start().await?,
        None => builder.found("home").start().await?,
    };
    let mut events = mesh.events();
    println!("{} is up, id {}", mesh.name(), mesh.id().short());
    if ticket.is_none() {
        let ticket = mesh.invite(Some(Duration::from_secs(3600)))?;
        println!("let another board in with:");
        println!("  cargo run -p hedgerow-examples --bin embed -- /tmp/second {ticket}");
    }

    loop {
        tokio::select! {
            observed = events.next() => match observed {
                Some(observed) => tell(observed),
                // The node stopped by itself: its disk failed, or it was revoked.
                None => return Ok(()),
            },
            _ = tokio::signal::ctrl_c() => {
                mesh.shutdown().await;
                return Ok(());
            }
        }
    }
}

fn tell(observed: Observed) {
    match observed {
        Observed::Event(happened) => match happened.event {
            Event::MemberUp { name, .. } => println!("{name} is up"),
            Event::MemberDown { name, .. } => println!("{name} is down"),
            Event::MemberLeft { name, .. } => println!("{name} has left"),
            _ => {}
        },
        Observed::Lagged(missed) => println!("too slow: {missed} events missed"),
    }
}
