//! A run as one HTML file: what happened, for somebody who was not there.
//!
//! ```text
//! replay line ─▶ run, watched by a Recorder ─▶ Recording ─▶ data (JSON) ─┐
//!                                                     page.html, .css, .js ─┴▶ one file
//! ```
//!
//! The file needs no network and no server: everything is inside. It is at most
//! [`REPORT_BYTES_MAX`] long; what had to be left out for that is said on the page. Names and texts come
//! from scenario files and nodes, so each is escaped, and the page makes text of them, never markup.
//!
//! `recording` watches, `marks`, `faults` and `message` say what was seen, `data` writes it down; the page itself is
//! in `report/*.html`, `.css` and `.js`.

mod data;
mod faults;
mod marks;
mod message;
mod recording;

use anyhow::Result;

use crate::campaign;
use crate::invariant;
use crate::observe::{Finding, Watcher};
use crate::plan::{Outcome, Plan};
use crate::replay::Replay;

pub use recording::{Recorder, Recording};

/// A report is no larger than this.
pub const REPORT_BYTES_MAX: usize = 2 << 20;
/// Of which the page itself, and what is said at its head, may take so much.
const PAGE_BYTES_MAX: usize = 128 << 10;
/// What a replay line, a name or a finding may take of that.
const TEXT_BYTES_MAX: usize = 16 << 10;

const PAGE: &str = include_str!("report/page.html");
const STYLE: &str = include_str!("report/style.css");
const SCRIPTS: [&str; 4] = [
    include_str!("report/model.js"),
    include_str!("report/draw.js"),
    include_str!("report/hover.js"),
    include_str!("report/page.js"),
];

/// A report and what it tells of.
#[derive(Clone, Debug)]
pub struct Report {
    /// The file.
    pub html: String,
    /// What came of the run.
    pub outcome: Outcome,
}

impl Report {
    /// Runs it and reports.
    ///
    /// # Errors
    /// The scenario file cannot be read, or is wrong.
    pub fn of(replay: &Replay) -> Result<Self> {
        let plan = replay.plan()?;
        let recorder = Recorder::default();
        let watcher: Box<dyn Watcher> = Box::new(recorder.clone());
        let outcome = campaign::run(&plan, Some(watcher));
        let html = page(&replay.to_string(), &plan, &outcome, &recorder.0.borrow());
        Ok(Self { html, outcome })
    }
}

fn page(replay: &str, plan: &Plan, outcome: &Outcome, recording: &Recording) -> String {
    let finding = outcome.findings.first();
    let scripts = SCRIPTS.join("\n");
    let texts = texts(replay, plan, outcome, recording);
    let budget = REPORT_BYTES_MAX - PAGE_BYTES_MAX;
    // A panic has no time of its own: it comes last of all that was seen.
    let last = recording.marks.back().map_or(0, |(at, _)| *at);
    let ended = outcome.ended.max(last);
    let placed = finding.cloned().map(|finding| Finding { at: finding.at.min(ended), ..finding });
    let placed = placed.map(|finding| match outcome.ended {
        0 => Finding { at: ended, ..finding },
        _ => finding,
    });
    let data = data::data(recording, placed.as_ref(), ended, budget);
    fill(PAGE, |name| match name {
        "style" => STYLE.to_owned(),
        "script" => scripts.clone(),
        "data" => data.clone(),
        name => texts
            .iter()
            .find(|(known, _)| *known == name)
            .map_or_else(String::new, |(_, text)| escape(&shortened(text))),
    })
}

/// What is said at the head of the page.
fn texts(
    replay: &str,
    plan: &Plan,
    outcome: &Outcome,
    recording: &Recording,
) -> Vec<(&'static str, String)> {
    let (injected, felt) = outcome.tally.total();
    let facts = format!(
        "seed {} · {} boards · {} services · {} virtual · {injected} faults, {felt} of them felt · {} messages",
        plan.seed,
        plan.boards,
        plan.services.len(),
        data::spoken(outcome.ended),
        outcome.messages
    );
    let (state, verdict, text, means) = match outcome.findings.first() {
        None => (
            "held",
            "All rules held.".to_owned(),
            String::new(),
            "Nothing was broken in this run: the picture shows all of it.".to_owned(),
        ),
        Some(finding) => {
            let whose = finding.board.map_or_else(String::new, |board| format!(" on n{board}"));
            let at = data::spoken(finding.at);
            (
                "broken",
                format!("The rule {} broke at {at}{whose}:", finding.rule),
                recording.named(&finding.text),
                invariant::means(finding.rule).unwrap_or_default().to_owned(),
            )
        }
    };
    vec![
        ("name", plan.name.clone()),
        ("facts", facts),
        ("state", state.to_owned()),
        ("verdict", verdict),
        ("finding", text),
        ("means", means),
        ("replay", format!("netsim replay '{replay}' --timeline")),
    ]
}

/// Puts something in place of each `{{name}}` of a template, and looks at nothing that it has put in.
fn fill(template: &str, of: impl Fn(&str) -> String) -> String {
    let mut parts = template.split("{{");
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once("}}") {
            Some((name, rest)) => {
                filled.push_str(&of(name));
                filled.push_str(rest);
            }
            None => filled.push_str(part),
        }
    }
    filled
}

fn shortened(text: &str) -> String {
    if text.len() <= TEXT_BYTES_MAX {
        return text.to_owned();
    }
    let end = (0..=TEXT_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}… (too long for this page)", &text[..end])
}

/// For the inside of an element. No text of a run is put into an attribute.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expect::Expect;
    use crate::faults::{Fault, Timed};
    use crate::time::SECOND;

    fn failing(name: &str) -> Plan {
        let mut plan = Plan::calm(3, 3, 30 * SECOND);
        plan.name = name.to_owned();
        let fault = Fault::Run { service: name.to_owned() };
        plan.schedule.push(Timed { at: 15 * SECOND, cue: None, lasts: None, fault });
        let fault = Fault::Crash { node: 1 };
        plan.schedule.push(Timed { at: 20 * SECOND, cue: None, lasts: None, fault });
        plan.expects.push((22 * SECOND, Expect::NoMaster));
        plan
    }

    fn report(plan: Plan) -> String {
        Report::of(&Replay::explicit(plan)).unwrap().html
    }

    #[test]
    fn the_report_of_a_failure_says_what_broke_and_how_to_see_it_again() {
        let html = report(failing("x"));
        assert!(html.contains("The rule expectation broke at 22.000 s"));
        assert!(html.contains(invariant::means("expectation").unwrap()));
        let replay = Replay::explicit(failing("x")).to_string();
        assert!(html.contains(&replay), "{replay}");
        assert!(html.len() < REPORT_BYTES_MAX);
        assert!(!html.contains("http"), "needs no network");
        assert!(!html.contains("{{"), "nothing is left open");
    }

    #[test]
    fn a_name_cannot_break_out_of_the_page() {
        let plain = report(failing("x")).matches("</script").count();
        let html = report(failing("</script><script>alert(1)</script>{{data}}<!--"));
        assert_eq!(html.matches("</script").count(), plain);
        assert!(!html.contains("<script>alert") && !html.contains("<!--"));
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_said() {
        let recorder = Recorder::default();
        let watcher: Box<dyn Watcher> = Box::new(recorder.clone());
        let outcome = campaign::run(&failing("x"), Some(watcher));
        let budget = 8 << 10;
        let data = data::data(&recorder.0.borrow(), None, outcome.ended, budget);
        assert!(data.len() < budget + 1024, "{}", data.len());
        assert!(data.contains("messages\"]"));
    }
}
