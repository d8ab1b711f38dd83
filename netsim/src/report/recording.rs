//! Watches a run and keeps what a picture of it needs: bands, marks, and the messages of its last seconds.
//!
//! A run ends where a rule breaks, so the last seconds are the ones that matter. What is kept is bounded
//! there, and by [`data`](super::data) when it is written.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use hedgerow::proto::id::NodeId;
use hedgerow::proto::io::{Effect, Event, Input};
use hedgerow::proto::journal::Record;
use hedgerow::proto::table::{Row, Table};
use hedgerow::proto::wire::Message;
use hedgerow::proto::wire::failover::Grant;

use super::faults;
use super::marks::{self, Mark};
use super::message::Messages;
use crate::faults::Fault;
use crate::observe::{Belief, Boot, Observation, Watcher, What};
use crate::queue::BoardIndex;
use crate::service::ServiceEvent;
use crate::time::{MILLI, Nanos, Seconds};
use crate::timeline::Words;

/// So many tables are remembered until they are chosen.
const TABLES_MAX: usize = 256;
/// Bands and marks at the most, each: with more, the earliest are not kept.
const KEPT_MAX: usize = 60_000;

/// Something that lasts.
#[derive(Clone, Debug)]
pub(super) struct Band {
    /// None: of the whole mesh.
    pub(super) board: Option<BoardIndex>,
    /// Which kind, as the page knows it.
    pub(super) kind: &'static str,
    /// Of which instance, or of which side of a partition.
    pub(super) key: String,
    pub(super) from: Nanos,
    /// None: to the end of the run.
    pub(super) to: Option<Nanos>,
    pub(super) text: String,
    /// A master may let others rest on its reign until then.
    pub(super) claimed: Nanos,
}

/// All that was kept.
#[derive(Default, Debug)]
pub struct Recording {
    pub(super) words: Words,
    /// Every identity there ever was, and whose.
    pub(super) directory: BTreeMap<NodeId, BoardIndex>,
    pub(super) bands: VecDeque<Band>,
    pub(super) marks: VecDeque<(Nanos, Mark)>,
    pub(super) messages: Messages,
    /// Bands that were dropped, and so the number of the first one that is there.
    bands_dropped: usize,
    open: BTreeMap<(Option<BoardIndex>, &'static str, String), usize>,
    /// The newest tables that were written, by term and number.
    tables: BTreeMap<(u64, u64), Table>,
}

/// A recording and who fills it: it outlives a run that ends in a panic.
#[derive(Clone, Default, Debug)]
pub struct Recorder(pub Rc<RefCell<Recording>>);

impl Watcher for Recorder {
    fn see(&mut self, seen: &Observation<'_>) {
        self.0.borrow_mut().see(seen);
    }

    fn name(&mut self, board: BoardIndex, node: NodeId) {
        self.0.borrow_mut().name(board, node);
    }
}

impl Recording {
    fn name(&mut self, board: BoardIndex, node: NodeId) {
        self.words.name(board, node);
        self.directory.insert(node, board);
        if !self.open.contains_key(&(Some(board), "off", String::new())) {
            self.begin(0, Some(board), "off", String::new(), "not switched on yet".to_owned());
        }
    }

    fn see(&mut self, seen: &Observation<'_>) {
        let (at, board) = (seen.at, Some(seen.board));
        if let Some(mark) = marks::mark(&self.words, seen) {
            self.mark(at, mark);
        }
        match seen.what {
            What::Boot(boot) => {
                self.messages.begins(seen.board);
                self.boot(at, seen.board, &boot);
            }
            What::Input(Input::Disconnected { peer, .. }) => {
                if let Some(peer) = self.directory.get(peer).copied() {
                    self.messages.cut(peer, seen.board);
                }
            }
            What::Gone { how } => {
                self.end_all(at, seen.board);
                self.begin(at, board, "off", String::new(), how.to_owned());
            }
            What::Paused(true) => {
                self.begin(at, board, "pause", String::new(), "paused".to_owned());
            }
            What::Paused(false) => self.end(at, board, "pause", ""),
            What::Belief(belief) => self.belief(at, seen.board, belief),
            What::Fault(fault, true) if !fault.is_moment() => self.fault(at, fault),
            What::Fault(fault, false) => self.fault_ends(at, fault),
            What::Service(event) => self.service(at, seen.board, event),
            What::Effect(Effect::Event(event)) => self.event(at, seen.board, event),
            What::Effect(Effect::Persist { record, .. }) => self.record(at, seen.board, record),
            What::Sent(Effect::Send { to, message }, frame) => {
                self.sent(at, seen.board, to, message, frame);
            }
            What::Received(Input::Received { from, .. }, frame) => {
                if let Some(from) = self.directory.get(from).copied() {
                    self.messages.received(at, (from, seen.board), frame);
                }
            }
            _ => {}
        }
    }

    fn mark(&mut self, at: Nanos, mark: Mark) {
        if self.marks.len() >= KEPT_MAX {
            self.marks.pop_front();
        }
        self.marks.push_back((at, mark));
    }

    fn begin(
        &mut self,
        at: Nanos,
        board: Option<BoardIndex>,
        kind: &'static str,
        key: String,
        text: String,
    ) {
        self.end(at, board, kind, &key);
        if self.bands.len() >= KEPT_MAX {
            self.bands.pop_front();
            self.bands_dropped += 1;
        }
        self.open.insert((board, kind, key.clone()), self.bands_dropped + self.bands.len());
        self.bands.push_back(Band { board, kind, key, from: at, to: None, text, claimed: 0 });
    }

    fn opened(
        &mut self,
        board: Option<BoardIndex>,
        kind: &'static str,
        key: &str,
    ) -> Option<&mut Band> {
        let number = *self.open.get(&(board, kind, key.to_owned()))?;
        self.bands.get_mut(number.checked_sub(self.bands_dropped)?)
    }

    fn end(&mut self, at: Nanos, board: Option<BoardIndex>, kind: &'static str, key: &str) {
        if let Some(band) = self.opened(board, kind, key) {
            band.to = Some(at);
        }
        self.open.remove(&(board, kind, key.to_owned()));
    }

    /// A process is gone, and with it all that it did. Services run on under their shims.
    fn end_all(&mut self, at: Nanos, board: BoardIndex) {
        let of_process = ["pause", "isolated", "master", "term", "off"];
        let open: Vec<_> = self.open.keys().cloned().collect();
        for (of, kind, key) in open {
            if of == Some(board) && of_process.contains(&kind) {
                self.end(at, of, kind, &key);
            }
        }
    }

    /// Something that ends at a known time.
    fn lasting(
        &mut self,
        (at, until): (Nanos, Nanos),
        board: BoardIndex,
        kind: &'static str,
        key: &str,
        text: String,
    ) {
        self.begin(at, Some(board), kind, key.to_owned(), text);
        self.end(until, Some(board), kind, key);
    }

    fn boot(&mut self, at: Nanos, board: BoardIndex, boot: &Boot<'_>) {
        self.end_all(at, board);
        let durable = boot.durable;
        if durable.voter.term.0 > 0 {
            self.term(at, board, durable.voter.term.0);
        }
        let silences = [
            ("voter", durable.voter.lease_ms, "decides nothing"),
            ("grantor", durable.grants_ms, "grants nothing and takes nothing over"),
        ];
        for (key, lease_ms, what) in silences {
            if lease_ms > 0 && boot.life > 1 {
                let until = at + bound(lease_ms);
                let text = format!("restarted: {what} until {} s", Seconds(until));
                self.lasting((at, until), board, "silence", key, text);
            }
        }
    }

    fn term(&mut self, at: Nanos, board: BoardIndex, term: u64) {
        let text = term.to_string();
        let known = self.opened(Some(board), "term", "").is_some_and(|band| band.text == text);
        if !known {
            self.begin(at, Some(board), "term", String::new(), text);
        }
    }

    fn belief(&mut self, at: Nanos, board: BoardIndex, belief: Option<Belief>) {
        let Some(Belief { term, until, .. }) = belief else {
            return self.end(at, Some(board), "master", "");
        };
        let text = format!("master, term {term}");
        let known = self.opened(Some(board), "master", "").is_some_and(|band| band.text == text);
        if !known {
            self.begin(at, Some(board), "master", String::new(), text);
            self.mark(at, marks::reigns(board, term));
        }
        if let Some(band) = self.opened(Some(board), "master", "") {
            band.claimed = band.claimed.max(until);
        }
    }

    fn fault(&mut self, at: Nanos, fault: &Fault) {
        let number = format!("{fault:?}");
        for (board, side, text) in faults::bands(fault, &self.boards()) {
            self.begin(at, board, "fault", format!("{side}{number}"), text);
        }
    }

    fn fault_ends(&mut self, at: Nanos, fault: &Fault) {
        let number = format!("{fault:?}");
        for (board, side, _) in faults::bands(fault, &self.boards()) {
            self.end(at, board, "fault", &format!("{side}{number}"));
        }
    }

    pub(super) fn boards(&self) -> Vec<BoardIndex> {
        let mut boards: Vec<BoardIndex> = self.directory.values().copied().collect();
        boards.sort_unstable();
        boards.dedup();
        boards
    }

    fn service(&mut self, at: Nanos, board: BoardIndex, event: &ServiceEvent) {
        match event {
            ServiceEvent::Begins { instance, epoch, .. } => {
                let text = format!("{instance} runs, epoch {epoch}");
                self.begin(at, Some(board), "run", instance.to_string(), text);
            }
            ServiceEvent::Wakes { instance, epoch, .. } => {
                let text = format!("{instance} runs, epoch {epoch}");
                self.begin(at, Some(board), "run", instance.to_string(), text);
            }
            ServiceEvent::Ends { instance, .. } | ServiceEvent::Sleeps { instance, .. } => {
                self.end(at, Some(board), "run", &instance.to_string());
            }
            _ => {}
        }
    }

    fn event(&mut self, at: Nanos, board: BoardIndex, event: &Event) {
        match event {
            Event::Isolated { isolated: true, .. } => {
                let text = "hears too few to judge anybody".to_owned();
                self.begin(at, Some(board), "isolated", String::new(), text);
            }
            Event::Isolated { isolated: false, .. } => self.end(at, Some(board), "isolated", ""),
            Event::TableChosen { term, number, .. } => {
                if let Some(table) = self.tables.get(&(*term, *number)).cloned() {
                    self.chosen(at, &table);
                }
            }
            _ => {}
        }
    }

    fn record(&mut self, at: Nanos, board: BoardIndex, record: &Record) {
        match record {
            Record::Term { term, .. } => self.term(at, board, term.0),
            Record::Table(table) => self.table(table),
            _ => {}
        }
    }

    fn table(&mut self, table: &Table) {
        self.tables.insert((table.version.term.0, table.version.number), table.clone());
        if self.tables.len() > TABLES_MAX {
            self.tables.pop_first();
        }
    }

    /// From now on these decide, and these are to run services or to carry on with them.
    fn chosen(&mut self, at: Nanos, table: &Table) {
        let voters = table.electorate();
        for board in self.boards() {
            let is_me = |node: &NodeId| self.directory.get(node) == Some(&board);
            let text = voters.iter().any(is_me).then(|| "voter".to_owned());
            let roles: BTreeMap<String, String> = table
                .rows
                .iter()
                .filter_map(|row| {
                    let role = role(row, is_me)?;
                    Some((row.instance().to_string(), format!("{role}, epoch {}", row.epoch.0)))
                })
                .collect();
            self.turn_into(at, board, "voter", "", text);
            for instance in self.instances_of(board).into_iter().chain(roles.keys().cloned()) {
                let text = roles.get(&instance).cloned();
                self.turn_into(at, board, "role", &instance, text);
            }
        }
    }

    /// Ends a band and begins another one, unless it is the same.
    fn turn_into(
        &mut self,
        at: Nanos,
        board: BoardIndex,
        kind: &'static str,
        key: &str,
        text: Option<String>,
    ) {
        let known = self.opened(Some(board), kind, key).map(|band| band.text.clone());
        match text {
            text if text == known => {}
            None => self.end(at, Some(board), kind, key),
            Some(text) => self.begin(at, Some(board), kind, key.to_owned(), text),
        }
    }

    /// Instances for which a board has a role now.
    fn instances_of(&self, board: BoardIndex) -> Vec<String> {
        let open = self.open.keys();
        let roles = open.filter(|(of, kind, _)| *of == Some(board) && *kind == "role");
        roles.map(|(.., instance)| instance.clone()).collect()
    }

    fn grant(&mut self, at: Nanos, board: BoardIndex, to: &NodeId, grant: &Grant) {
        let until = at + bound(grant.lease_ms);
        let holder = self.words.who(to);
        let text = format!(
            "has promised {} to {holder} (epoch {}) until {} s",
            grant.instance,
            grant.epoch.0,
            Seconds(until)
        );
        let key = format!("{} {holder} {}", grant.instance, grant.epoch.0);
        match self.opened(Some(board), "promise", &key) {
            Some(band) if band.to.is_some_and(|to| to >= at) => {
                if band.to < Some(until) {
                    (band.to, band.text) = (Some(until), text);
                }
            }
            _ => {
                // It ended when it was to end, not now.
                self.open.remove(&(Some(board), "promise", key.clone()));
                self.begin(at, Some(board), "promise", key.clone(), text);
                // Stays open, since the next grant makes it longer.
                if let Some(band) = self.opened(Some(board), "promise", &key) {
                    band.to = Some(until);
                }
            }
        }
    }

    fn sent(&mut self, at: Nanos, board: BoardIndex, to: &NodeId, message: &Message, frame: &[u8]) {
        if let Message::Grant(grant) = message {
            self.grant(at, board, to, grant);
        }
        if let Some(to) = self.directory.get(to).copied() {
            self.messages.sent(at, (board, to), &self.words, message, frame);
        }
    }

    /// Every instance that was ever seen on a board.
    pub(super) fn instances(&self) -> Vec<String> {
        let kinds = ["run", "role"];
        let bands = self.bands.iter().filter(|band| kinds.contains(&band.kind));
        let mut names: Vec<String> = bands.map(|band| band.key.clone()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// A text of the run with the names of boards in place of their identities.
    pub(super) fn named(&self, text: &str) -> String {
        let replace =
            |text: String, node: &NodeId| text.replace(&node.short(), &self.words.who(node));
        self.directory.keys().fold(text.to_owned(), replace)
    }
}

/// What a board is to do with an instance.
fn role(row: &Row, is_me: impl Fn(&NodeId) -> bool) -> Option<&'static str> {
    if is_me(&row.active) {
        return Some("active");
    }
    if row.standby.as_ref().is_some_and(&is_me) {
        return Some(if row.ready { "standby, ready" } else { "standby, not ready" });
    }
    row.fill.as_ref().is_some_and(&is_me).then_some("being filled")
}

/// How long a lease binds whoever granted it, in true time at the least: longer by the drift of two clocks.
fn bound(lease_ms: u32) -> Nanos {
    u64::from(lease_ms) * MILLI * 100 / 99
}
