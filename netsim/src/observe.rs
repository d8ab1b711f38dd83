//! What watchers of a run see: everything that enters or leaves a node, with the true time.
//!
//! The [`Watch`] hashes all of it (the trace hash: equal for equal runs, in any build and process),
//! shows it to the invariants, and to a [`Watcher`] if there is one: the timeline, or the recording that
//! a report is made from. Most of a run is probes, so each invariant says which kinds of observation it
//! wants.

use std::collections::{BTreeMap, BTreeSet};

use hedgerow::proto::id::{NodeId, OpId};
use hedgerow::proto::io::{Effect, Input};
use hedgerow::proto::journal::{Durable, Record};

use crate::faults::Fault;
use crate::invariant::{self, Invariant};
use crate::queue::BoardIndex;
use crate::service::ServiceEvent;
use crate::story::{Deeds, Story};
use crate::time::Nanos;
use crate::trace::Trace;

/// One thing that was seen.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'a> {
    /// True time, ns.
    pub at: Nanos,
    /// At which board; for faults the first one they name.
    pub board: BoardIndex,
    /// What.
    pub what: What<'a>,
}

/// What was seen.
#[derive(Clone, Copy, Debug)]
pub enum What<'a> {
    /// A process starts to run with what its journal says.
    Boot(Boot<'a>),
    /// A process is gone.
    Gone {
        /// In a word.
        how: &'static str,
    },
    /// Its disk is gone, and with it its identity.
    DiskLost,
    /// Its journal is an old one again; its identity is the same.
    SetBack,
    /// A process stops, or goes on.
    Paused(bool),
    /// The node is given something other than a message.
    Input(&'a Input),
    /// The node is given a message: the input and its frame.
    Received(&'a Input, &'a [u8]),
    /// The node's timer fires.
    Fired,
    /// The node asks for something other than to send.
    Effect(&'a Effect),
    /// The node sends: the effect and the frame.
    Sent(&'a Effect, &'a [u8]),
    /// The disk says that a record is safe, before the node is told.
    Durable(OpId),
    /// A call is over and so many effects came out of it.
    Called {
        /// Effects of this one call.
        effects: usize,
        /// Effects of this board in the present true second.
        in_this_second: u64,
    },
    /// Whether the node believes to be master has changed, or until when.
    Belief(Option<Belief>),
    /// A fault begins (true) or ends.
    Fault(&'a Fault, bool),
    /// Every fault has ended.
    Healed,
    /// Something becomes of a service.
    Service(&'a ServiceEvent),
}

/// How a life begins.
#[derive(Clone, Copy, Debug)]
pub struct Boot<'a> {
    /// Who.
    pub node: NodeId,
    /// Counts the lives of this board.
    pub life: u32,
    /// What survived.
    pub durable: &'a Durable,
    /// False for one that no honest member may let in.
    pub entitled: bool,
}

/// What a node believes of its own reign.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Belief {
    /// How often the mesh was recovered by force before; each time terms begin anew.
    pub generation: u32,
    /// Its term.
    pub term: u64,
    /// True time at which its own clock shows the end of its lease, ns. Until then it believes, even
    /// if it is paused; a crash ends it.
    pub until: Nanos,
}

/// Kinds of observation, as bits.
pub mod kind {
    /// Boot, gone, disk lost, set back, paused.
    pub const LIFE: u16 = 1;
    /// Inputs other than messages.
    pub const INPUT: u16 = 2;
    /// Messages in.
    pub const RECEIVED: u16 = 4;
    /// Effects other than messages.
    pub const EFFECT: u16 = 8;
    /// Messages out.
    pub const SENT: u16 = 16;
    /// Fsyncs.
    pub const DURABLE: u16 = 32;
    /// Timers and ends of calls.
    pub const CALL: u16 = 64;
    /// Faults and the end of all faults.
    pub const FAULT: u16 = 128;
    /// Who believes to be master.
    pub const BELIEF: u16 = 256;
    /// What becomes of services.
    pub const SERVICE: u16 = 512;
}

impl What<'_> {
    /// Its bit in [`kind`].
    pub fn kind(&self) -> u16 {
        match self {
            Self::Boot(_)
            | Self::Gone { .. }
            | Self::DiskLost
            | Self::SetBack
            | Self::Paused(_) => kind::LIFE,
            Self::Input(_) => kind::INPUT,
            Self::Received(..) => kind::RECEIVED,
            Self::Effect(_) => kind::EFFECT,
            Self::Sent(..) => kind::SENT,
            Self::Durable(_) => kind::DURABLE,
            Self::Fired | Self::Called { .. } => kind::CALL,
            Self::Fault(..) | Self::Healed => kind::FAULT,
            Self::Belief(_) => kind::BELIEF,
            Self::Service(_) => kind::SERVICE,
        }
    }

    /// The record, where the node asks for one to be kept.
    pub fn record(&self) -> Option<(OpId, &Record)> {
        match self {
            Self::Effect(Effect::Persist { op, record }) => Some((*op, record)),
            _ => None,
        }
    }
}

/// Something is wrong with the node (or with the simulator).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// True time, ns.
    pub at: Nanos,
    /// Which rule was broken.
    pub rule: &'static str,
    /// By which board, if it is one's fault.
    pub board: Option<BoardIndex>,
    /// How.
    pub text: String,
}

/// Where invariants put what they find.
#[derive(Default, Debug)]
pub struct Findings {
    found: Vec<Finding>,
    /// Rules that a fault of this run may break.
    excused: BTreeSet<&'static str>,
    /// How often each of them was broken.
    outside: BTreeMap<&'static str, u64>,
}

impl Findings {
    /// Adds one, unless a fault may break that rule. Past [`FINDINGS_MAX`] they only repeat what is known.
    pub fn push(&mut self, finding: Finding) {
        if self.excused.contains(finding.rule) {
            *self.outside.entry(finding.rule).or_default() += 1;
        } else if self.found.len() < FINDINGS_MAX {
            self.found.push(finding);
        }
    }

    /// From now on these rules may be broken.
    pub fn excuse(&mut self, rules: &[&'static str]) {
        self.excused.extend(rules);
    }

    /// True if something is wrong.
    pub fn any(&self) -> bool {
        !self.found.is_empty()
    }

    /// All of them, earliest first.
    pub fn into_vec(self) -> Vec<Finding> {
        self.found
    }
}

/// Somebody who is shown a run from beginning to end, and changes nothing about it.
pub trait Watcher {
    /// One thing happened.
    fn see(&mut self, seen: &Observation<'_>);

    /// The world itself found something wrong. What invariants find is in the outcome only.
    fn find(&mut self, finding: &Finding) {
        let _ = finding;
    }

    /// `node` is the identity of `board` from now on.
    fn name(&mut self, board: BoardIndex, node: NodeId) {
        let _ = (board, node);
    }
}

/// All that watch one run.
pub struct Watch {
    trace: Trace,
    watcher: Option<Box<dyn Watcher>>,
    invariants: Vec<(u16, Box<dyn Invariant>)>,
    wanted: u16,
    findings: Findings,
    story: Story,
}

impl Watch {
    /// Every invariant, and a watcher if there is one.
    pub fn new(boards: usize, watcher: Option<Box<dyn Watcher>>) -> Self {
        let invariants: Vec<_> = invariant::all(boards)
            .into_iter()
            .map(|invariant| (invariant.wants(), invariant))
            .collect();
        let wanted = invariants.iter().fold(0, |all, (wants, _)| all | wants);
        Self {
            trace: Trace::default(),
            watcher,
            invariants,
            wanted,
            findings: Findings::default(),
            story: Story::new(boards),
        }
    }

    /// Nobody but one who measures.
    pub fn measuring(boards: usize, watcher: Box<dyn Watcher>) -> Self {
        Self { invariants: Vec::new(), wanted: 0, ..Self::new(boards, Some(watcher)) }
    }

    /// Shows one thing to everyone.
    pub fn see(&mut self, at: Nanos, board: BoardIndex, what: What<'_>) {
        let seen = Observation { at, board, what };
        self.trace.add(&seen);
        if let Some(watcher) = &mut self.watcher {
            watcher.see(&seen);
        }
        let kind = what.kind();
        self.story.on(&seen);
        if self.wanted & kind == 0 {
            return;
        }
        for (wants, invariant) in &mut self.invariants {
            if *wants & kind != 0 {
                invariant.on(&seen, &mut self.findings);
            }
        }
    }

    /// Adds a finding of the world itself.
    pub fn find(&mut self, at: Nanos, rule: &'static str, board: Option<BoardIndex>, text: String) {
        debug_assert!(invariant::means(rule).is_some(), "{rule} says nowhere what it means");
        let finding = Finding { at, rule, board, text };
        if self.findings.excused.contains(rule) {
            return self.findings.push(finding);
        }
        if let Some(watcher) = &mut self.watcher {
            watcher.find(&finding);
        }
        self.findings.push(finding);
    }

    /// A fault has begun that may break these rules.
    pub fn excuse(&mut self, rules: &[&'static str]) {
        self.findings.excuse(rules);
    }

    /// Whose identity that is, for the watcher.
    pub fn name(&mut self, board: BoardIndex, node: NodeId) {
        if let Some(watcher) = &mut self.watcher {
            watcher.name(board, node);
        }
    }

    /// True once something is wrong: there is no point in going on.
    pub fn failed(&self) -> bool {
        self.findings.any()
    }

    /// The run is over: the trace hash, all findings and what came of it.
    pub fn finish(mut self, at: Nanos) -> ([u8; 32], Vec<Finding>, Deeds) {
        // A run that was broken off has not come to its end.
        let whole = !self.failed();
        for (_, invariant) in self.invariants.iter_mut().filter(|_| whole) {
            invariant.finish(at, &mut self.findings);
        }
        let mut deeds = self.story.deeds();
        deeds.outside = std::mem::take(&mut self.findings.outside);
        (self.trace.finish(), self.findings.into_vec(), deeds)
    }
}

/// Findings of one run that are kept.
pub const FINDINGS_MAX: usize = 20;
