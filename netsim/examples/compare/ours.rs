//! Hedgerow's production node in netsim, with a ledger as its watcher.

use std::cell::{RefCell, RefMut};
use std::collections::BTreeMap;
use std::rc::Rc;

use hedgerow::proto::config::MembershipTiming;
use hedgerow::proto::id::NodeId;
use hedgerow::proto::io::{Effect, Event, Input};
use hedgerow::proto::journal::Record;
use hedgerow_netsim::faults::Fault;
use hedgerow_netsim::net::datagram::Carrier;
use hedgerow_netsim::observe::{Observation, Watcher, What};
use hedgerow_netsim::plan::Plan;
use hedgerow_netsim::queue::BoardIndex;
use hedgerow_netsim::time::Nanos;
use hedgerow_netsim::world::World;

use crate::ledger::Ledger;
use crate::trial::System;

/// A mesh whose boards know each other from before and meet in their first second.
pub(crate) struct Mesh {
    world: World,
    ledger: Rc<RefCell<Ledger>>,
}

/// Writes down what nodes say.
struct Scribe {
    ledger: Rc<RefCell<Ledger>>,
    boards: BTreeMap<NodeId, BoardIndex>,
}

impl Mesh {
    pub(crate) fn new(
        seed: u64,
        boards: BoardIndex,
        carrier: Carrier,
        bursts: Option<Nanos>,
    ) -> Self {
        let mut plan = Plan::calm(seed, boards, Nanos::MAX);
        plan.acquainted = true;
        (plan.carrier, plan.bursts) = (carrier, bursts);
        // The other system's timers have no crystals either.
        plan.ppm_max = 0;
        let ledger = Rc::new(RefCell::new(Ledger::new(boards)));
        let scribe = Scribe { ledger: Rc::clone(&ledger), boards: BTreeMap::new() };
        Self { world: World::measured(plan, Box::new(scribe)), ledger }
    }
}

impl System for Mesh {
    fn round(&self) -> Nanos {
        // A comparison with a random member comes after the interval less up to an eighth of it. All began
        // at once, so a full minute would count one comparison or two.
        let interval = MembershipTiming::default().wander_interval.as_nanos() as Nanos;
        interval - interval / 16
    }

    fn run_until(&mut self, end: Nanos) {
        self.world.run_until(end);
    }

    fn set_loss(&mut self, percent: u8) {
        self.world.inject(Fault::Loss { percent });
    }

    fn crash(&mut self, board: BoardIndex) {
        self.world.inject(Fault::PowerCut { node: board });
    }

    fn ledger(&self) -> RefMut<'_, Ledger> {
        self.ledger.borrow_mut()
    }
}

impl Watcher for Scribe {
    fn see(&mut self, seen: &Observation<'_>) {
        let Observation { at, board, what } = *seen;
        let mut ledger = self.ledger.borrow_mut();
        match what {
            What::Boot(boot) => drop(self.boards.insert(boot.node, board)),
            What::Gone { .. } => ledger.crash(at, board),
            What::Input(Input::Connected { .. }) => ledger.linked(board, true),
            What::Input(Input::Disconnected { .. }) => ledger.linked(board, false),
            What::Effect(Effect::Persist { record: Record::Table(table), .. }) => {
                let board_of = |node: &NodeId| self.boards.get(node).copied();
                ledger.voters(table.electorate().iter().filter_map(board_of).collect());
            }
            What::Sent(Effect::Send { message, .. }, frame) => {
                ledger.sent(message.name(), frame.len());
            }
            What::Effect(Effect::Event(Event::MemberDown { node, incarnation, .. })) => {
                if let Some(who) = self.boards.get(node) {
                    ledger.down(at, board, *who, *incarnation);
                }
            }
            What::Effect(Effect::Event(Event::MemberUp { node, .. })) => {
                if let Some(who) = self.boards.get(node) {
                    ledger.up(at, board, *who);
                }
            }
            _ => {}
        }
    }
}
