//! The recording as JSON for the page, within a budget of bytes.
//!
//! What matters most is written first: the latest bands, then marks that change who does what, then
//! routine ones, then messages, the latest first. What did not fit is said on the page.

use serde_json::{Value, json};

use super::message::Sent;
use super::recording::{Band, Recording};
use crate::observe::Finding;
use crate::time::{Nanos, Seconds};

/// Of the budget, per cent: for bands, and for bands and marks together.
const BANDS_PERCENT: usize = 40;
const MARKS_PERCENT: usize = 70;

/// Everything that the page draws, and nothing that could end its script element.
pub(super) fn data(
    recording: &Recording,
    finding: Option<&Finding>,
    ended: Nanos,
    budget: usize,
) -> String {
    let mut left_out = Vec::new();
    let mut room = budget * BANDS_PERCENT / 100;
    let (bands, dropped) = newest(recording.bands.iter().rev().map(band), &mut room);
    if dropped > 0 {
        left_out.push(format!("the earliest {dropped} bands"));
    }

    room += budget * (MARKS_PERCENT - BANDS_PERCENT) / 100;
    let weighty = |least: bool| {
        let marks = recording.marks.iter().rev();
        marks.filter(move |(_, mark)| (mark.weight > 1) == least).map(mark)
    };
    let (mut marks, dropped) = newest(weighty(true), &mut room);
    let (routine, dropped_too) = newest(weighty(false), &mut room);
    marks.extend(routine);
    if dropped + dropped_too > 0 {
        left_out.push(format!("the earliest {} marks", dropped + dropped_too));
    }

    room += budget * (100 - MARKS_PERCENT) / 100;
    let (messages, dropped) = newest(recording.messages.iter().rev().map(message), &mut room);
    if dropped > 0 {
        left_out.push(format!("{dropped} messages"));
    }
    // Those left out are the earliest.
    let since = recording.messages.get(dropped).map_or(ended, |sent| sent.sent);
    let head = json!({
        "boards": recording.boards().iter().map(|board| format!("n{board}")).collect::<Vec<_>>(),
        "instances": recording.instances(),
        "ended": micros(ended),
        "messagesSince": micros(since),
        "leftOut": left_out,
        "finding": finding.map(|finding| json!({
            "at": micros(finding.at),
            "board": finding.board,
            "rule": finding.rule,
            "text": recording.named(&finding.text),
            "until": ends(&finding.text),
        })),
    });
    let list = |items: Vec<String>| format!("[{}]", items.join(","));
    let (bands, marks, messages) = (list(bands), list(marks), list(messages));
    let text =
        format!(r#"{{"head":{head},"bands":{bands},"marks":{marks},"messages":{messages}}}"#);
    // Inside of JSON strings only, where an escape means the same.
    text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

/// As many as there is room for, the first one first; and how many there is no room for.
fn newest(items: impl Iterator<Item = Value>, room: &mut usize) -> (Vec<String>, usize) {
    let (mut taken, mut dropped) = (Vec::new(), 0);
    for item in items {
        let text = item.to_string();
        // An escaped character is six bytes long.
        let escaped = text.matches(['<', '>', '&']).count() * 5;
        let bytes = text.len() + escaped + 1;
        if dropped == 0 && bytes <= *room {
            *room -= bytes;
            taken.push(text);
        } else {
            dropped += 1;
        }
    }
    (taken, dropped)
}

fn band(band: &Band) -> Value {
    let Band { board, kind, key, from, to, text, claimed } = band;
    json!([board, kind, key, micros(*from), to.map(micros), text, micros(*claimed)])
}

fn mark((at, mark): &(Nanos, super::marks::Mark)) -> Value {
    json!([micros(*at), mark.board, mark.kind, mark.weight, mark.label, mark.text])
}

fn message(sent: &Sent) -> Value {
    let arrived = sent.arrived.map(micros);
    json!([sent.from, sent.to, micros(sent.sent), arrived, sent.text, u8::from(sent.is_probe)])
}

fn micros(time: Nanos) -> u64 {
    time / 1000
}

/// The times that a finding says something lasts until.
fn ends(text: &str) -> Vec<u64> {
    let mut ends = Vec::new();
    for part in text.split("until ").skip(1) {
        let number: String = part.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
        if let Ok(seconds) = number.trim_end_matches('.').parse::<f64>() {
            ends.push((seconds * 1e6) as u64);
        }
    }
    ends
}

/// A time for people.
pub(super) fn spoken(time: Nanos) -> String {
    format!("{} s", Seconds(time))
}
