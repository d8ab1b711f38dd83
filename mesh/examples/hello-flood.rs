//! `cargo run --release -p hedgerow --example hello-flood [-- --count N]`
//!
//! Strangers say 10,000 (N) bad hellos to a node in a process of its own, which is linked with one
//! other member in this process. Expected: exit code 0 and, with other numbers,
//! ```text
//! 10000 hellos in 23.0 s: {"refused": 10000}
//! memory of the node: 13.1 MB before, 15.9 peak, 15.6 after
//! other member: worst round trip 44.2 ms, longest silence 1007 ms; suspicions: 0
//! an honest board was linked after 1.5 s: true
//! ```
//! Exits with 1 if the node kept more than 8 MB, if anybody was suspected, if a stranger was let in,
//! or if the node has no link to the honest board afterwards.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use hedgerow::net::Observed;
use hedgerow::proto::id::NodeId;
use hedgerow::proto::io::Event;
use hedgerow::proto::ticket::Ticket;
use hedgerow::proto::wire::Message;
use tokio::time::{interval, sleep};

#[path = "../tests/mesh/host.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "shared with the tests, which use more of it")]
mod host;
#[path = "../tests/mesh/raw.rs"]
#[allow(dead_code, reason = "shared with the tests, which use more of it")]
mod raw;
use host::{Host, Mesh, until};
use raw::{Dice, HELLO, Line, encoded, framed, hello};

/// Fewer than a node tolerates, so that none is closed to make room for another.
const AT_ONCE: usize = 28;
const KEPT_MAX_MB: f64 = 8.0;
const SETTLE: Duration = Duration::from_secs(15);
const LINK: Duration = Duration::from_secs(120);
type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["node", ticket] => serve(ticket).await,
        ["--count", count] => flood(count.parse()?).await,
        _ => flood(10_000).await,
    }
}

/// The node under test: says where it is, and for each line of input how many it has suspected.
async fn serve(ticket: &str) -> Result<ExitCode> {
    let mut node = Host::new("target");
    node.start(Some(Ticket::parse(ticket)?)).await;
    let address = node.me().await.addresses.into_iter().find(|at| at.contains("/tcp/"));
    println!("{} {}", node.id(), address.ok_or("no address")?);
    let (asked, mut questions) = tokio::sync::mpsc::channel(1);
    std::thread::spawn(move || std::io::stdin().lines().try_for_each(|_| asked.blocking_send(())));
    let (mut events, mut suspected) = (node.client().events(), 0);
    loop {
        tokio::select! {
            event = events.next() => suspected += suspicion(event),
            question = questions.recv() => match question {
                Some(()) => println!("{suspected}"),
                None => return Ok(ExitCode::SUCCESS),
            },
        }
    }
}

async fn flood(count: u64) -> Result<ExitCode> {
    let mesh = Mesh::new();
    let other = mesh.found().await;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["node".to_owned(), mesh.ticket(0, &[&other]).await.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let (mut ask, pid) = (child.stdin.take().ok_or("stdin")?, child.id());
    let mut answers = BufReader::new(child.stdout.take().ok_or("stdout")?).lines();
    let words = answers.next().ok_or("the node did not start")??;
    let (id, address) = words.split_once(' ').ok_or("no address")?;
    let target = NodeId::parse(id).ok_or("no id")?;
    until("a probe was answered", || async { probed(&other, &target).await.is_some() }).await;

    let (good, foreign) = (mesh.ticket(0, &[]).await, Mesh::new().ticket(0, &[]).await);
    let mut events = other.client().events();
    let (before, began) = (rss_mb(pid)?, Instant::now());
    let mut strangers = stream::iter(0..count)
        .map(|nr| tokio::spawn(stranger(nr, address.to_owned(), good.clone(), foreign.clone())))
        .buffer_unordered(AT_ONCE);
    let (mut ends, mut suspected) = (BTreeMap::<&str, u64>::new(), 0);
    let (mut peak, mut round_trip_us, mut silence_ms) = (before, 0, 0);
    let mut tick = interval(Duration::from_millis(50));
    loop {
        tokio::select! {
            end = strangers.next() => match end {
                Some(end) => *ends.entry(end?).or_default() += 1,
                None => break,
            },
            event = events.next() => suspected += suspicion(event),
            _ = tick.tick() => {
                peak = peak.max(rss_mb(pid)?);
                let (seen, round_trip) = probed(&other, &target).await.ok_or("no longer probed")?;
                (silence_ms, round_trip_us) = (silence_ms.max(seen), round_trip_us.max(round_trip));
            }
        }
    }
    let (took, arrival) = (began.elapsed().as_secs_f64(), Instant::now());
    let honest = mesh.join("honest", &other).await;
    while probed(&honest, &target).await.is_none() && arrival.elapsed() < LINK {
        sleep(Duration::from_millis(20)).await;
    }
    let linked = probed(&honest, &target).await.is_some();
    let (joined, settled) = (arrival.elapsed().as_secs_f64(), Instant::now() + SETTLE);
    let mut after = rss_mb(pid)?;
    while after > before + KEPT_MAX_MB && Instant::now() < settled {
        sleep(Duration::from_millis(200)).await;
        after = rss_mb(pid)?;
    }
    writeln!(ask)?;
    suspected += answers.next().ok_or("the node is gone")??.parse::<u64>()?;
    drop(ask);
    child.wait()?;
    println!("{count} hellos in {took:.1} s: {ends:?}");
    println!("memory of the node: {before:.1} MB before, {peak:.1} peak, {after:.1} after");
    let ms = round_trip_us as f64 / 1e3;
    println!(
        "other member: worst round trip {ms:.1} ms, longest silence {silence_ms} ms; suspicions: {suspected}"
    );
    println!("an honest board was linked after {joined:.1} s: {linked}");
    let good = linked && suspected == 0 && !ends.contains_key("let in");
    Ok(ExitCode::from(u8::from(!(good && after <= before + KEPT_MAX_MB))))
}

/// Says one bad hello and listens until the node hangs up.
async fn stranger(nr: u64, address: String, good: Ticket, foreign: Ticket) -> &'static str {
    let mut dice = Dice(nr << 32);
    let (key, another) = (dice.key(), dice.key());
    let valid = encoded(hello(&good, &key, &key));
    let frame = match nr % 4 {
        0 => dice.flipped(&valid),
        1 => [&valid[..2], &dice.bytes(valid.len())].concat(),
        2 => encoded(hello(&good, &another, &another)),
        _ => encoded(hello(&foreign, &key, &key)),
    };
    let Ok(mut line) = Line::dial(&key, &address).await else { return "not connected" };
    let _held = line.write(HELLO, &framed(&frame)).await;
    let mut end = "closed";
    while let Some(message) = line.hear().await {
        match message {
            Message::Hello(_) => {}
            Message::Refused(_) => end = "refused",
            _ => return "let in",
        }
    }
    end
}

/// How long `node` has not heard from a member that it is linked with (ms), and the round trip (µs).
async fn probed(node: &Host, member: &NodeId) -> Option<(u64, u64)> {
    let status = node.status().await;
    let view = status.nodes.iter().find(|view| view.node == *member)?;
    (view.path == "linked").then_some((view.seen_ms?, view.rtt_us?))
}

/// 1 for a suspicion; events that were missed count as such.
fn suspicion(event: Option<Observed>) -> u64 {
    match event {
        Some(Observed::Lagged(missed)) => missed,
        Some(Observed::Event(stamped)) => u64::from(matches!(
            stamped.event,
            Event::Suspected { .. } | Event::MemberDown { .. } | Event::Isolated { .. }
        )),
        None => 0,
    }
}

fn rss_mb(pid: u32) -> Result<f64> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm"))?;
    let pages: f64 = statm.split(' ').nth(1).ok_or("statm")?.parse()?;
    Ok(pages * rustix::param::page_size() as f64 / 1e6)
}
