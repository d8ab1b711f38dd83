//! Ears: what every board says has happened, heard while it happens.
//!
//! Each board's own stream of events is followed; a board that dies is listened to again once it
//! answers. How old the newest state is that another board holds is asked again and again: only the
//! board that runs the service knows. All boards are on this computer, so their clocks are one.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::caller::ledger::unix_us;
use crate::client::Client;
use crate::exit::Outcome;
use crate::schema::{EventLine, Instance};

/// Before a board that does not answer is asked again.
const AGAIN: Duration = Duration::from_millis(50);
/// Between two questions for the age of the state.
const AGE_EVERY: Duration = Duration::from_millis(100);
/// More than a board repeats to a new listener.
const REPEATED_MAX: usize = 512;

/// Listeners at every board.
#[derive(Debug)]
pub(super) struct Ears {
    heard: Arc<Mutex<Vec<Heard>>>,
    captured: Arc<Mutex<BTreeMap<u64, u64>>>,
    // Dropping it ends them.
    _tasks: JoinSet<()>,
}

/// One event of one board.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    /// What it said.
    pub(super) line: EventLine,
}

impl Heard {
    /// A field that is a number.
    pub(super) fn number(&self, field: &str) -> Option<u64> {
        self.line.fields.get(field)?.as_u64()
    }

    /// A field that is a text.
    pub(super) fn text(&self, field: &str) -> Option<&str> {
        self.line.fields.get(field)?.as_str()
    }
}

impl Ears {
    /// Listens to boards with these folders, above all about the service `name`.
    pub(super) fn new(homes: &[PathBuf], name: &'static str) -> Self {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let captured = Arc::new(Mutex::new(BTreeMap::new()));
        let mut tasks = JoinSet::new();
        for home in homes {
            tasks.spawn(listen(home.clone(), heard.clone()));
            tasks.spawn(ask_for_age(home.clone(), name, captured.clone()));
        }
        Self { heard, captured, _tasks: tasks }
    }

    /// At which Unix microsecond, at the latest, the newest state of an epoch was captured that
    /// another board is known to hold.
    pub(super) fn captured_us(&self, epoch: u64) -> Option<u64> {
        self.captured.lock().unwrap_or_else(PoisonError::into_inner).get(&epoch).copied()
    }

    /// Every event of that kind, from that Unix millisecond on, in the order of time.
    pub(super) fn since(&self, from_ms: u64, event: &str) -> Vec<Heard> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = |it: &&Heard| it.line.event == event && it.line.at_ms >= from_ms;
        let mut found: Vec<Heard> = heard.iter().filter(wanted).cloned().collect();
        found.sort_by_key(|it| it.line.at_ms);
        found
    }

    /// Milliseconds from then to the first event of that kind that is about a right later than
    /// `epoch`.
    pub(super) fn until_first(&self, from_ms: u64, event: &str, epoch: u64) -> Option<u64> {
        let later = |it: &Heard| it.number("epoch").is_some_and(|told| told > epoch);
        let first = self.since(from_ms, event).into_iter().find(later)?;
        Some(first.line.at_ms - from_ms)
    }
}

async fn listen(home: PathBuf, heard: Arc<Mutex<Vec<Heard>>>) {
    let client = Client::new(home, String::new());
    let mut lately = VecDeque::new();
    loop {
        // An error says that it does not run now.
        let _ = follow(&client, &heard, &mut lately).await;
        sleep(AGAIN).await;
    }
}

/// Every answer moves the time of the newest state that is held elsewhere on, by epoch.
async fn ask_for_age(home: PathBuf, name: &'static str, captured: Arc<Mutex<BTreeMap<u64, u64>>>) {
    let client = Client::new(home, String::new());
    loop {
        sleep(AGE_EVERY).await;
        // Before the question: what is claimed to be held must not look newer than it is.
        let asked = unix_us();
        let Ok(all) = client.get::<Vec<Instance>>("/v1/instances").await else { continue };
        let Some(instance) = all.into_iter().find(|it| it.instance == name) else { continue };
        let Some(age_ms) = instance.copy_age_ms else { continue };
        let mut captured = captured.lock().unwrap_or_else(PoisonError::into_inner);
        let at = captured.entry(instance.epoch).or_default();
        *at = (*at).max(asked.saturating_sub((age_ms + 1) * 1000));
    }
}

async fn follow(
    client: &Client,
    heard: &Mutex<Vec<Heard>>,
    lately: &mut VecDeque<String>,
) -> Outcome {
    let mut lines = client.stream("/v1/events?follow=true").await?;
    while let Some(line) = lines.next().await? {
        let Ok(event) = serde_json::from_str::<EventLine>(&line) else { continue };
        if lately.contains(&line) {
            continue;
        }
        lately.push_back(line);
        if lately.len() > REPEATED_MAX {
            lately.pop_front();
        }
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.push(Heard { line: event });
    }
    Ok(())
}
