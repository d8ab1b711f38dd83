//! What is marked in a lane, and in which words.

use hedgerow::proto::io::{Effect, Event};
use hedgerow::proto::journal::Record;

use super::faults::spoken;
use crate::faults::Fault;
use crate::observe::{Observation, What};
use crate::queue::BoardIndex;
use crate::service::{Point, ServiceEvent};
use crate::timeline::Words;

/// A moment in a lane.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Mark {
    /// None: of the whole mesh.
    pub(super) board: Option<BoardIndex>,
    /// Which kind, as the page knows it.
    pub(super) kind: &'static str,
    /// 3: changes who does what. 2: leads up to that. 1: routine.
    pub(super) weight: u8,
    /// In a word or two.
    pub(super) label: String,
    /// In a sentence, without its subject.
    pub(super) text: String,
}

type Said = (&'static str, u8, String, String);

/// How a thing that happened is marked, if it is.
pub(super) fn mark(words: &Words, seen: &Observation<'_>) -> Option<Mark> {
    let of_mesh = matches!(seen.what, What::Fault(..) | What::Healed);
    let (kind, weight, label, text) = match seen.what {
        What::Boot(boot) if boot.life == 1 => {
            said("boot", 3, "starts", "starts for the first time")
        }
        What::Boot(boot) => {
            said("boot", 3, "restarts", &format!("starts again: life {}", boot.life))
        }
        What::Gone { how } => said("gone", 3, how, &format!("its process is gone: {how}")),
        What::DiskLost => said("gone", 3, "disk lost", "its disk is lost"),
        What::SetBack => said("gone", 3, "set back", "its journal is an old one again"),
        What::Paused(true) => said("pause", 2, "paused", "its process is paused"),
        What::Paused(false) => said("pause", 2, "goes on", "its process goes on"),
        What::Fault(fault, true) => fault_begins(fault),
        What::Fault(fault, false) => said("fault", 2, "ends", &format!("{} ends", spoken(fault))),
        What::Healed => said("fault", 3, "healed", "all faults have ended"),
        What::Service(event) => service(event)?,
        What::Effect(Effect::Event(event)) => self::event(words, event)?,
        What::Effect(Effect::Persist { record, .. }) => self::record(words, record)?,
        What::Effect(Effect::Stop { instance, kill }) => {
            let how = if *kill { "kills" } else { "stops" };
            said("ends", 2, &format!("{how} {instance}"), &format!("{how} {instance}"))
        }
        _ => return None,
    };
    Some(Mark { board: (!of_mesh).then_some(seen.board), kind, weight, label, text })
}

/// A board began to believe that it is master.
pub(super) fn reigns(board: BoardIndex, term: u64) -> Mark {
    let (kind, weight, label, text) = said(
        "master",
        3,
        &format!("master {term}"),
        &format!("is master from now on, term {term}"),
    );
    Mark { board: Some(board), kind, weight, label, text }
}

fn said(kind: &'static str, weight: u8, label: &str, text: &str) -> Said {
    (kind, weight, label.to_owned(), text.to_owned())
}

fn fault_begins(fault: &Fault) -> Said {
    let text = spoken(fault);
    let begins = if fault.is_moment() { text.clone() } else { format!("{text} begins") };
    said("fault", 3, fault.name(), &begins)
}

fn point(point: &Option<Point>) -> String {
    match point {
        Some(Point { run, writes }) => format!("write {writes} of run {run}"),
        None => "nothing".to_owned(),
    }
}

fn service(event: &ServiceEvent) -> Option<Said> {
    Some(match event {
        ServiceEvent::Begins { instance, epoch, run, from, .. } => said(
            "runs",
            3,
            &format!("{instance} runs, e{epoch}"),
            &format!(
                "{instance} begins to run here: epoch {epoch}, run {run}, from {}",
                point(from)
            ),
        ),
        ServiceEvent::Ends { instance, run, left, how } => said(
            "ends",
            3,
            &format!("{instance} ends"),
            &format!("{instance} ends, {how}: run {run} after write {}", left.writes),
        ),
        ServiceEvent::Sleeps { instance, run } => {
            let text = format!("{instance} stands still with its board: run {run}");
            said("ends", 3, &format!("{instance} sleeps"), &text)
        }
        ServiceEvent::Wakes { instance, run, epoch } => {
            let text = format!("{instance} goes on with its board: epoch {epoch}, run {run}");
            said("runs", 3, &format!("{instance} wakes"), &text)
        }
        ServiceEvent::Isolated { instance, run } => {
            let text = format!("{instance} goes on without a lease, as its owner wants: run {run}");
            said("runs", 3, &format!("{instance} isolated"), &text)
        }
        ServiceEvent::Connected { instance, run, epoch } => {
            let text = format!("{instance} has a lease again: epoch {epoch}, run {run}");
            said("runs", 3, &format!("{instance} leased"), &text)
        }
        ServiceEvent::Answered { instance, .. } => {
            let text = format!("the operator has the answer to the order about {instance}");
            said("order", 2, &format!("{instance} answered"), &text)
        }
        ServiceEvent::Acknowledged { instance, point: upto } => {
            let upto = point(&Some(*upto));
            let text = format!("a client of {instance} is told that all is kept up to {upto}");
            said("ack", 1, &format!("{instance} ack"), &text)
        }
        ServiceEvent::Kept { instance, id, point: state } => {
            let (id, state) = (format!("{}/{}", id.epoch.0, id.seq), point(state));
            let text = format!("keeps state {id} of {instance} on its disk: {state}");
            said("kept", 1, &format!("keeps {id}"), &text)
        }
        ServiceEvent::StateLost => said("gone", 3, "states lost", "all states on it are lost"),
        ServiceEvent::Anew { instance } => {
            let text = format!("{instance} is another service's name from now on");
            said("fault", 2, "new service", &text)
        }
        ServiceEvent::Forgiven { instance, .. } => {
            let text = format!("the operator lets {instance} begin here from less than there was");
            said("fault", 2, "forgiven", &text)
        }
        ServiceEvent::Spoilt { instance, id } => {
            let (epoch, seq) = (id.epoch.0, id.seq);
            let text = format!("its copy {epoch}/{seq} of {instance} can no longer be read");
            said("spoilt", 2, &format!("spoilt {epoch}/{seq}"), &text)
        }
        ServiceEvent::Dropped { .. } | ServiceEvent::Read { .. } | ServiceEvent::Opened(_) => {
            return None;
        }
    })
}

fn event(words: &Words, event: &Event) -> Option<Said> {
    about_members(words, event).or_else(|| about_rights(words, event)).or_else(|| about_self(event))
}

fn about_members(words: &Words, event: &Event) -> Option<Said> {
    Some(match event {
        Event::MemberUp { node, .. } => {
            let who = words.who(node);
            said("up", 1, &format!("{who} up"), &format!("sees {who} up"))
        }
        Event::MemberDown { node, alerters, .. } => {
            let who = words.who(node);
            let text = format!("takes {who} for dead ({alerters} lost contact with it)");
            said("down", 2, &format!("{who} down"), &text)
        }
        Event::MemberLeft { node, .. } => {
            let who = words.who(node);
            said("down", 2, &format!("{who} left"), &format!("sees that {who} has left"))
        }
        Event::Suspected { node, by } => {
            let (who, by) = (words.who(node), words.who(by));
            let text = format!("hears that {by} has lost contact with {who}");
            said("suspect", 1, &format!("{who}?"), &text)
        }
        Event::Refuted { node } => {
            let who = words.who(node);
            said("up", 1, &format!("{who} answers"), &format!("hears that {who} is alive"))
        }
        Event::MasterIs { node, term, .. } => {
            let who = words.who(node);
            let text = format!("follows {who} as master, term {term}");
            said("follow", 1, &format!("follows {who}"), &text)
        }
        Event::Admitted { node, .. } => {
            let who = words.who(node);
            said("up", 1, &format!("admits {who}"), &format!("lets {who} in"))
        }
        Event::Refused { node, reason } => {
            let text = format!("refuses {}: {reason:?}", words.who(node));
            said("down", 2, "refuses", &text)
        }
        Event::RefusedBy { node, reason, .. } => {
            let text = format!("is refused by {}: {reason:?}", words.who(node));
            said("down", 2, "refused", &text)
        }
        Event::Misbehaved { node, what } => {
            let text = format!("{} breaks the protocol: {what}", words.who(node));
            said("down", 3, "misbehaved", &text)
        }
        _ => return None,
    })
}

fn about_rights(words: &Words, event: &Event) -> Option<Said> {
    Some(match event {
        Event::Takes { instance, epoch } => {
            let text =
                format!("asks to take {instance} over: its active is silent (epoch {epoch})");
            said("takes", 3, &format!("takes {instance}"), &text)
        }
        Event::Unable { instance, why } => {
            let text = format!("stands by for {instance} but could not start it: {why}");
            said("unable", 2, &format!("unable for {instance}"), &text)
        }
        Event::Appointed { instance, epoch } => {
            let text = format!("has the right to run {instance} from now on, epoch {epoch}");
            said("appointed", 3, &format!("gets {instance} e{epoch}"), &text)
        }
        Event::Protected { instance, standby: Some(standby), .. } => {
            let who = words.who(standby);
            let text = format!("{who} is the standby of {instance} and could carry on");
            said("protected", 2, &format!("standby {who}"), &text)
        }
        Event::Protected { instance, standby: None, .. } => {
            let text = format!("{instance} has no standby that could carry on");
            said("protected", 2, "no standby", &text)
        }
        Event::Copied { instance, epoch, seq, by } => {
            let who = words.who(by);
            let text = format!("{who} says that it keeps state {epoch}/{seq} of {instance}");
            said("kept", 1, &format!("{who} has {epoch}/{seq}"), &text)
        }
        Event::TableChosen { term, number, voters } => {
            let text = format!("its table {term}/{number} is chosen: {voters} voters keep it");
            said("table", 2, &format!("table {term}/{number}"), &text)
        }
        Event::VotersChanged { voters } => {
            let text = format!("{} decide from now on", voters.join(", "));
            said("table", 2, "new voters", &text)
        }
        Event::Adopted { instance, epoch } => {
            let text = format!("finds {instance} still running, epoch {epoch}");
            said("runs", 2, &format!("finds {instance}"), &text)
        }
        Event::SplitRan { instance, old, new, .. } => {
            let text = format!("{instance} ran here under {old} while {new} was the right");
            said("ends", 3, "ran apart", &text)
        }
        Event::Orphaned { instance } => {
            said("gone", 3, "orphan", &format!("nobody knows {instance} any more"))
        }
        Event::CopyFailed { instance, why } => {
            let text = format!("a state of {instance} was not copied: {why}");
            said("down", 1, "no copy", &text)
        }
        _ => return None,
    })
}

fn about_self(event: &Event) -> Option<Said> {
    Some(match event {
        Event::Isolated { silent, of, isolated: true } => {
            let text = format!("is isolated: {silent} of {of} are silent");
            said("isolated", 2, "isolated", &text)
        }
        Event::Isolated { isolated: false, .. } => {
            said("isolated", 2, "not isolated", "is not isolated any more")
        }
        Event::SteppedDown { term, why } => {
            let text = format!("is not master of term {term} any more: {why}");
            said("stepped", 3, "steps down", &text)
        }
        Event::Stalled { late_ms, .. } => {
            said("pause", 2, "stalled", &format!("was called {late_ms} ms too late"))
        }
        Event::RecoveredTwice { .. } => {
            said("gone", 3, "recovered twice", "follows another recovery of the mesh")
        }
        Event::Left => said("gone", 3, "leaves", "leaves the mesh"),
        Event::Halted { why } => said("gone", 3, "halts", &format!("halts: {why}")),
        _ => return None,
    })
}

fn record(words: &Words, record: &Record) -> Option<Said> {
    Some(match record {
        Record::Term { term, vote: Some(node), .. } => {
            let who = words.who(node);
            let text = format!("writes down its vote for {who} in term {}", term.0);
            said("vote", 2, &format!("votes {who}"), &text)
        }
        Record::Released { instance, to, .. } => {
            let to = words.who(to);
            let text = format!("gives {instance} up for good, in favour of {to}");
            said("ends", 3, &format!("gives {instance} up"), &text)
        }
        Record::Switching { instance, .. } => {
            let text = format!("does not count on the former standby of {instance} any more");
            said("protected", 2, "switching", &text)
        }
        _ => return None,
    })
}
