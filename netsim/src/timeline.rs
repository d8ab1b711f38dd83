//! A run as text, one line per thing that happens, for people.
//!
//! Probes, their answers and timers are most of a run and are left out unless asked for.

use std::collections::BTreeMap;
use std::io::Write;

use hedgerow::proto::id::NodeId;
use hedgerow::proto::io::{Effect, Event, Input};
use hedgerow::proto::journal::Record;
use hedgerow::proto::table::{Row, Version};
use hedgerow::proto::wire::Message;
use hedgerow::proto::wire::copies::{Offer, Stored};

use crate::observe::{Finding, Observation, Watcher, What};
use crate::queue::BoardIndex;
use crate::service::{Point, ServiceEvent};
use crate::time::{Nanos, Seconds};

/// Prints what it is shown.
pub struct Timeline {
    out: Box<dyn Write>,
    words: Words,
}

/// Says in a line what happened, with the names of boards in place of their identities.
#[derive(Default, Debug)]
pub struct Words {
    all: bool,
    names: BTreeMap<NodeId, String>,
}

impl Timeline {
    /// To standard output; `all` with probes.
    pub fn stdout(all: bool) -> Self {
        Self::new(Box::new(std::io::BufWriter::new(std::io::stdout())), all)
    }

    /// To anywhere.
    pub fn new(out: Box<dyn Write>, all: bool) -> Self {
        Self { out, words: Words { all, names: BTreeMap::new() } }
    }

    fn line(&mut self, at: Nanos, who: &str, text: &str) {
        // A closed pipe (`| head`) is no reason to fail a run.
        let _closed_or_not = writeln!(self.out, "{:>11} {who:>4}  {text}", Seconds(at));
    }
}

impl Watcher for Timeline {
    /// One line, or none.
    fn see(&mut self, seen: &Observation<'_>) {
        let Some(text) = self.words.text(&seen.what) else { return };
        let who = match seen.what {
            What::Fault(..) | What::Healed => "*".to_owned(),
            _ => format!("n{}", seen.board),
        };
        self.line(seen.at, &who, &text);
    }

    fn find(&mut self, finding: &Finding) {
        let Finding { at, rule, board, text } = finding;
        let who = board.map_or_else(|| "!".to_owned(), |board| format!("n{board}"));
        self.line(*at, &who, &format!("VIOLATION of {rule}: {text}"));
    }

    fn name(&mut self, board: BoardIndex, node: NodeId) {
        self.words.name(board, node);
    }
}

impl Words {
    /// `node` is the identity of `board` from now on: `n3`, after it lost its disk `n3b`, ….
    pub fn name(&mut self, board: BoardIndex, node: NodeId) {
        let plain = format!("n{board}");
        let earlier = self.names.values().filter(|name| {
            name.trim_end_matches(|letter: char| letter.is_ascii_lowercase() && letter != 'n')
                == plain
        });
        let name = match earlier.count() {
            0 => plain,
            nth @ 1..=24 => format!("{plain}{}", char::from(b'a' + nth as u8)),
            _ => node.short(),
        };
        self.names.insert(node, name);
    }

    /// What happened; none for what is most of a run, unless all was asked for.
    pub fn text(&self, what: &What<'_>) -> Option<String> {
        Some(match what {
            What::Boot(boot) => {
                let known = boot.durable.members.len();
                format!("boots: life {}, knows {known} members from its journal", boot.life)
            }
            What::Gone { how } => format!("is gone: {how}"),
            What::DiskLost => "its disk is lost".to_owned(),
            What::SetBack => "its journal is an old one again".to_owned(),
            What::Paused(true) => "is paused".to_owned(),
            What::Paused(false) => "goes on".to_owned(),
            What::Input(input) => self.input(input)?,
            What::Received(Input::Received { from, message }, _) => {
                self.message(message, "<-", from)?
            }
            What::Sent(Effect::Send { to, message }, _) => self.message(message, "->", to)?,
            What::Effect(effect) => self.effect(effect)?,
            What::Fault(fault, true) => format!("fault begins: {fault:?}"),
            What::Fault(fault, false) => format!("fault ends: {fault:?}"),
            What::Healed => "all faults have ended".to_owned(),
            What::Service(event) => self.service(event)?,
            What::Belief(Some(belief)) if self.all => {
                format!(
                    "believes to be master in term {} until {}",
                    belief.term,
                    Seconds(belief.until)
                )
            }
            What::Belief(None) => "does not believe to be master any more".to_owned(),
            What::Belief(Some(_)) => return None,
            What::Fired | What::Durable(_) | What::Called { .. } => return None,
            What::Received(..) | What::Sent(..) => return None,
        })
    }

    fn input(&self, input: &Input) -> Option<String> {
        Some(match input {
            Input::Connected { peer, .. } => format!("connected with {}", self.who(peer)),
            Input::Disconnected { peer, why } => {
                format!("disconnected from {}: {why}", self.who(peer))
            }
            Input::DialFailed { peer, why } => format!("cannot dial {}: {why}", self.who(peer)),
            Input::Garbled { from, what } => format!("garbled from {}: {what}", self.who(from)),
            Input::Spoilt { instance, states } => {
                let states: Vec<String> =
                    states.iter().map(|id| format!("{}/{}", id.epoch.0, id.seq)).collect();
                format!("cannot read states {} of {instance}", states.join(", "))
            }
            Input::Command { command, .. } if self.all => format!("command {command:?}"),
            Input::Persisted { op, .. } if self.all => format!("persisted {}", op.0),
            _ => return None,
        })
    }

    fn effect(&self, effect: &Effect) -> Option<String> {
        Some(match effect {
            Effect::Connect { peer, .. } => format!("dials {}", self.who(peer)),
            Effect::Disconnect { peer } => format!("hangs up on {}", self.who(peer)),
            Effect::Admit { peer } => format!("lets {} in", self.who(peer)),
            Effect::Event(event) => format!("EVENT {}", self.event(event)),
            Effect::Persist { op, record } => self.record(op.0, record)?,
            Effect::Start { instance, epoch, begin, .. } => {
                format!("asks its shim to start {instance}: epoch {}, {begin:?}", epoch.0)
            }
            Effect::Stop { instance, kill } => {
                format!("asks its shim to {} {instance}", if *kill { "kill" } else { "stop" })
            }
            Effect::KeepAside { instance, epoch } => {
                format!("keeps aside what {instance} wrote under {} in isolation", epoch.0)
            }
            Effect::Thaw { instance } => format!("asks its shim to thaw {instance}"),
            Effect::Capture { instance, id, freeze: true } => {
                format!("captures the last state of {instance}: {}/{}", id.epoch.0, id.seq)
            }
            _ => return None,
        })
    }

    fn service(&self, event: &ServiceEvent) -> Option<String> {
        let state = |point: &Option<Point>| match point {
            Some(point) => format!("run {} +{}", point.run, point.writes),
            None => "nothing".to_owned(),
        };
        Some(match event {
            ServiceEvent::Begins { instance, epoch, run, from, .. } => {
                format!("SERVICE {instance} begins: epoch {epoch}, run {run}, from {}", state(from))
            }
            ServiceEvent::Ends { instance, run, left, how } => {
                format!("SERVICE {instance} ends: run {run} +{}: {how}", left.writes)
            }
            ServiceEvent::Sleeps { instance, run } => {
                format!("SERVICE {instance} sleeps: run {run}")
            }
            ServiceEvent::Wakes { instance, run, .. } => {
                format!("SERVICE {instance} wakes up: run {run}")
            }
            ServiceEvent::Isolated { instance, run } => {
                format!("SERVICE {instance} goes on without a lease: run {run}")
            }
            ServiceEvent::Connected { instance, run, .. } => {
                format!("SERVICE {instance} has a lease again: run {run}")
            }
            ServiceEvent::Answered { instance, .. } => {
                format!("SERVICE {instance}: the operator has his answer")
            }
            ServiceEvent::Acknowledged { instance, point } => {
                format!("SERVICE {instance} commit acknowledged: {}", state(&Some(*point)))
            }
            ServiceEvent::Kept { instance, id, point } => {
                let (epoch, seq) = (id.epoch.0, id.seq);
                format!("SERVICE {instance} keeps state {epoch}/{seq}: {}", state(point))
            }
            ServiceEvent::Dropped { .. } if !self.all => return None,
            ServiceEvent::Dropped { instance, id } => {
                format!("SERVICE {instance} drops state {}/{}", id.epoch.0, id.seq)
            }
            ServiceEvent::Read { .. } | ServiceEvent::Opened(_) if !self.all => return None,
            ServiceEvent::Read { instance, id, found } => {
                format!("SERVICE {instance} state {}/{} read: {found:?}", id.epoch.0, id.seq)
            }
            ServiceEvent::Spoilt { instance, id } => {
                format!("SERVICE {instance} state {}/{} is spoilt", id.epoch.0, id.seq)
            }
            ServiceEvent::Opened(held) => {
                format!("its store is opened: {} states", held.values().flatten().count())
            }
            ServiceEvent::StateLost => "its folders and its store are lost".to_owned(),
            ServiceEvent::Anew { instance } => format!("{instance} is another service's name now"),
            ServiceEvent::Forgiven { instance, from } => {
                let from = from.map_or("whatever is here".to_owned(), |from| state(&Some(from)));
                format!("SERVICE {instance} may begin here from {from}, says the operator")
            }
        })
    }

    fn record(&self, op: u64, record: &Record) -> Option<String> {
        let row = |row: &Row| {
            let who = |node: &Option<NodeId>| node.map_or("-".to_owned(), |node| self.who(&node));
            let (active, standby, fill) =
                (self.who(&row.active), who(&row.standby), who(&row.fill));
            let flags = [
                (row.ready, " ready"),
                (row.released, " released"),
                (row.able == Some(true), " able"),
                (row.able == Some(false), " unable"),
                (row.lost, " lost"),
                (row.retiring, " retiring"),
            ];
            let flags: String = flags.iter().filter(|(is, _)| *is).map(|(_, name)| *name).collect();
            let (epoch, revision, base) = (row.epoch.0, row.revision, row.base);
            let (instance, base) = (row.instance(), format!("{}/{}", base.epoch.0, base.seq));
            format!(
                "[{instance} e{epoch} r{revision} {active}>{standby} fill {fill}{flags} base {base}]"
            )
        };
        Some(match record {
            Record::Table(table) => {
                let rows: Vec<String> = table.rows.iter().map(row).collect();
                let Version { term, number, .. } = table.version;
                format!("writes table {}/{number}: {}", term.0, rows.join(" "))
            }
            Record::Assigned(assigned) => format!("writes that it runs {}", row(assigned)),
            Record::Released { .. }
            | Record::Switching { .. }
            | Record::Began(..)
            | Record::Unassigned(_) => format!("writes {record:?}"),
            _ if self.all => format!("persists {op}"),
            _ => return None,
        })
    }

    fn event(&self, event: &Event) -> String {
        match event {
            Event::MemberUp { node, incarnation, .. } => {
                format!("member-up {} incarnation {incarnation}", self.who(node))
            }
            Event::MemberDown { node, incarnation, alerters, .. } => {
                format!(
                    "member-down {} incarnation {incarnation}, {alerters} alerts",
                    self.who(node)
                )
            }
            Event::MemberLeft { node, .. } => format!("member-left {}", self.who(node)),
            Event::Suspected { node, by } => {
                format!("suspected {} by {}", self.who(node), self.who(by))
            }
            Event::Refuted { node } => format!("refuted {}", self.who(node)),
            Event::Admitted { node, .. } => format!("admitted {}", self.who(node)),
            Event::Refused { node, reason } => format!("refused {}: {reason:?}", self.who(node)),
            other => format!("{other:?}"),
        }
    }

    fn message(&self, message: &Message, arrow: &str, peer: &NodeId) -> Option<String> {
        if !self.all && matches!(message, Message::Probe(_) | Message::ProbeAck(_)) {
            return None;
        }
        let more = match message {
            Message::Renew(renew) => format!(" {} epoch {}", renew.instance, renew.epoch.0),
            Message::Grant(grant) => {
                format!(" {} epoch {}, {} ms", grant.instance, grant.epoch.0, grant.lease_ms)
            }
            Message::Claim(claim) => {
                let (epoch, revision) = (claim.epoch.0, claim.revision);
                format!(" {} epoch {epoch} revision {revision}: {:?}", claim.instance, claim.claim)
            }
            Message::Offer(Offer { instance, id }) | Message::Stored(Stored { instance, id }) => {
                format!(" {instance} {}/{}", id.epoch.0, id.seq)
            }
            _ => String::new(),
        };
        Some(format!("{arrow} {} {}{more}", self.who(peer), message.name()))
    }

    /// What a board is called.
    pub fn who(&self, node: &NodeId) -> String {
        self.names.get(node).cloned().unwrap_or_else(|| node.short())
    }
}
