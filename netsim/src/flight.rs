//! Replays a recording of a real board: the same core, the same calls, the same effects.
//!
//! `hedgerow up --record FILE` writes one, see [`hedgerow::proto::recording`]. Every call is made again and
//! the digest of what comes out is compared with the recorded one, so what is looked at here is what the
//! board did, not what somebody thinks it did.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use hedgerow::proto::io::{Effect, Input};
use hedgerow::proto::machine::{Effects, Time};
use hedgerow::proto::recording::{Recording, digest};

/// What came of a replay.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Flight {
    /// Calls made.
    pub calls: usize,
    /// The clock from the first to the last, ns.
    pub lasted: u64,
    /// Effects that came out.
    pub effects: usize,
    /// The first call that did something else, if any did: its number, from 0.
    pub differs: Option<usize>,
    /// Bytes that a crash cut off at the end.
    pub torn: usize,
    /// The version that recorded it.
    pub version: String,
}

/// Whether a file is a recording, by its first bytes.
pub fn is_recording(path: &Path) -> bool {
    let mut head = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| {
        let magic = hedgerow::proto::recording::MAGIC;
        std::io::Read::read_to_end(&mut std::io::Read::take(file, magic.len() as u64), &mut head)
    });
    read.is_ok() && head == hedgerow::proto::recording::MAGIC
}

/// Steps through a recording until its end, or until a call does something else. Prints what goes in and
/// what comes out into `to`, if that is wanted.
///
/// # Errors
/// The file cannot be read, is no recording, or its node cannot begin.
pub fn replay(path: &Path, mut to: Option<&mut dyn Write>, all: bool) -> Result<Flight> {
    let file = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let recording = Recording::read(&file).with_context(|| path.display().to_string())?;
    let mut node = recording.head.node().context("the recorded node cannot begin")?;
    let begun = recording.head.now;
    let mut flight = Flight {
        version: recording.head.version.clone(),
        torn: recording.torn,
        ..Flight::default()
    };
    let mut effects = Effects::default();
    for (number, call) in recording.calls.into_iter().enumerate() {
        let now = Time(call.now);
        flight.lasted = call.now.saturating_sub(begun.0);
        if let (Some(to), Some(line)) = (to.as_deref_mut(), told(call.input.as_ref(), all)) {
            print(to, flight.lasted, "<-", &line);
        }
        match call.input {
            Some(input) => node.handle_input(now, input, &mut effects),
            None => node.handle_timeout(now, &mut effects),
        }
        flight.calls += 1;
        flight.effects += effects.as_slice().len();
        if digest(effects.as_slice()) != call.effects {
            flight.differs = Some(number);
        }
        for effect in effects.drain() {
            if let (Some(to), Some(line)) = (to.as_deref_mut(), asked(&effect, all)) {
                print(to, flight.lasted, "->", &line);
            }
        }
        if flight.differs.is_some() {
            break;
        }
    }
    Ok(flight)
}

fn print(to: &mut dyn Write, at: u64, arrow: &str, line: &str) {
    // A closed pipe is no reason to stop.
    let _ = writeln!(to, "{:>12.3}  {arrow} {line}", at as f64 / 1e9);
}

fn told(input: Option<&Input>, all: bool) -> Option<String> {
    Some(match input {
        None if all => "timer".to_owned(),
        Some(Input::Received { from, message }) => {
            let routine = matches!(message.name(), "Probe" | "ProbeAck");
            return (all || !routine).then(|| format!("{} {message:?}", from.short()));
        }
        Some(Input::WallClock(_) | Input::Persisted { .. } | Input::Command { .. }) | None
            if !all =>
        {
            return None;
        }
        Some(input) => format!("{input:?}"),
        None => return None,
    })
}

fn asked(effect: &Effect, all: bool) -> Option<String> {
    Some(match effect {
        Effect::Send { to, message } => {
            let routine = matches!(message.name(), "Probe" | "ProbeAck");
            return (all || !routine).then(|| format!("{} {message:?}", to.short()));
        }
        Effect::Persist { .. } | Effect::Reply { .. } if !all => return None,
        Effect::Event(event) => format!("EVENT {event:?}"),
        effect => format!("{effect:?}"),
    })
}
