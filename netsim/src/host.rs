//! What a host has besides its agent: shims and the services under them, their folders, and stores of
//! their states. All of it survives the agent's process; shims die with the host.
//!
//! The shim here is ideal: it never dies alone, and it always keeps its deadline. When it begins to
//! kill and how long that takes is drawn, so that a service may live to the last instant that it may.

use std::collections::BTreeMap;
use std::time::Duration;

use hedgerow::proto::id::{Digest16, Epoch, NodeId};
use hedgerow::proto::io::{Begin, Exit};
use hedgerow::proto::machine::Time;
use hedgerow::proto::order::Instance;
use hedgerow::proto::table::CheckpointId;

use crate::seed::{Purpose, Stream};
use crate::service::{Point, WRITE_INTERVAL};
use crate::shelf::{Shelves, States};
use crate::time::Nanos;

/// See the module.
#[derive(Debug)]
pub struct Host {
    /// At most one for an instance.
    pub shims: BTreeMap<Instance, Shim>,
    /// Where services ran.
    pub folders: BTreeMap<Instance, Folder>,
    /// States of services.
    pub store: Shelves,
    /// Who may fetch.
    pub serves: BTreeMap<Instance, Vec<NodeId>>,
    /// Captures under way: the state's name, and whether the service is to stay frozen.
    pub captures: BTreeMap<Instance, (CheckpointId, bool)>,
    /// Fetches under way, by the number of the newest.
    pub fetches: BTreeMap<Instance, u64>,
    /// The newest right under which each instance ever began here.
    pub began: BTreeMap<Instance, u64>,
    /// The newest right under which a removed service of that name has states here.
    pub former: BTreeMap<Instance, Epoch>,
    /// Nothing can be started here at present.
    pub barren: bool,
    /// What services run is not there.
    pub empty: bool,
    /// Services do not end when they are asked to.
    pub stubborn: bool,
    /// For what takes how long.
    pub draws: Stream,
    /// For fsyncs of states.
    pub fsyncs: Stream,
}

/// The folder of one instance.
#[derive(Clone, Copy, Debug)]
pub struct Folder {
    /// Under which right a service began in it last.
    pub epoch: Epoch,
    /// What is in it.
    pub state: Option<Point>,
    /// Whether the board lost power since a service ran in it last.
    pub lost_power: bool,
}

/// One shim.
#[derive(Debug)]
pub struct Shim {
    /// Tells it from others before and after it.
    pub serial: u64,
    /// The right that it was started under.
    pub epoch: Epoch,
    /// What its specification says.
    pub spec: Digest16,
    /// From then on nothing may run.
    pub until: Time,
    /// So long before it begins to kill.
    pub kill_bound: Duration,
    /// The agent's life that started it.
    pub life: u32,
    /// Whether the service has a state.
    pub stateful: bool,
    /// Whether its client commits.
    pub commits: bool,
    /// Whether it goes on when its deadline has passed.
    pub keeps: bool,
    /// … as it does now.
    pub isolated: bool,
    /// What is to be in the folder.
    pub begin: Begin,
    /// It is being killed, and dead then by the host's clock.
    pub dead_at: Option<Time>,
    /// It was told to stop.
    pub stopping: bool,
    /// The service, once it runs.
    pub run: Option<Run>,
}

/// A running service and its client.
#[derive(Debug)]
pub struct Run {
    /// Which.
    pub number: u32,
    /// Since when its client writes.
    pub since: Nanos,
    /// Writes before that.
    pub writes: u64,
    /// It is frozen.
    pub frozen: bool,
    /// So many writes are part of a durable capture.
    pub safe: u64,
    /// Commits that wait: what each one asked for.
    pub asked: BTreeMap<u64, u64>,
}

impl Run {
    /// A service that begins.
    pub fn new(number: u32, since: Nanos) -> Self {
        Self { number, since, writes: 0, frozen: false, safe: 0, asked: BTreeMap::new() }
    }

    /// What is in its folder now.
    pub fn point(&self, now: Nanos) -> Point {
        let more = if self.frozen { 0 } else { (now - self.since) / WRITE_INTERVAL };
        Point { run: self.number, writes: self.writes + more }
    }

    /// Freezes it, or lets it go on.
    pub fn freeze(&mut self, now: Nanos, frozen: bool) {
        self.writes = self.point(now).writes;
        (self.since, self.frozen) = (now, frozen);
    }
}

impl Host {
    /// A host on which nothing ever ran.
    pub fn new(states: States, seed: u64, board: u64) -> Self {
        Self {
            shims: BTreeMap::new(),
            folders: BTreeMap::new(),
            store: Shelves::new(states, seed, board),
            serves: BTreeMap::new(),
            captures: BTreeMap::new(),
            fetches: BTreeMap::new(),
            began: BTreeMap::new(),
            former: BTreeMap::new(),
            barren: false,
            empty: false,
            stubborn: false,
            draws: Stream::new(seed, Purpose::Shim, board, 0),
            fsyncs: Stream::new(seed, Purpose::Store, board, 0),
        }
    }

    /// What services left behind and the store of their states is gone. What keeps services from running here is of
    /// the board, and stays.
    pub fn lose_state(&mut self, states: States, seed: u64, board: u64) {
        let new = Self::new(states, seed, board);
        let Self { barren, empty, stubborn, .. } = *self;
        *self = Self { barren, empty, stubborn, ..new };
    }

    /// The agent is gone, and with it what it was doing.
    pub fn agent_gone(&mut self) {
        self.store.close();
        self.serves.clear();
        self.captures.clear();
        self.fetches.clear();
        for run in self.shims.values_mut().filter_map(|shim| shim.run.as_mut()) {
            run.asked.clear();
        }
    }

    /// Whether what lies in the folder of an instance lost power, and is torn for all that anybody knows,
    /// while there is a state of it in the store.
    pub fn is_torn(&self, instance: &Instance, epoch: Epoch) -> bool {
        let folder = self.folders.get(instance);
        let lost = folder.is_some_and(|folder| folder.epoch == epoch && folder.lost_power);
        let former = self.former.get(instance);
        lost && self.store.ids(instance).any(|id| former.is_none_or(|former| id.epoch > *former))
    }

    /// From now on that name is another service's.
    pub fn is_anew(&mut self, instance: &Instance) {
        let newest = self.store.ids(instance).map(|id| id.epoch).max();
        self.former.extend(newest.map(|epoch| (instance.clone(), epoch)));
    }

    /// The shim of that number, if it is there still.
    pub fn shim(&mut self, instance: &Instance, serial: u64) -> Option<&mut Shim> {
        self.shims.get_mut(instance).filter(|shim| shim.serial == serial)
    }
}

impl Shim {
    /// When to look after it next, by the host's clock.
    pub fn look_at(&self) -> Time {
        let kill_at = self.until.0.saturating_sub(self.kill_bound.as_nanos() as u64);
        self.dead_at.unwrap_or(Time(kill_at))
    }

    /// How it ended, if its death was a kill.
    pub fn killed_as(&self) -> Exit {
        if self.stopping { Exit::Stopped } else { Exit::Fenced }
    }
}
