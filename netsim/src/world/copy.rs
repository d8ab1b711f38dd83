//! The copy plane: states captured, fetched, served and deleted.
//!
//! What is complete in a store is durable; what was under way when the agent died is nothing. A capture
//! makes what it captured safe in the folder, too: a service that goes on there after a power cut finds
//! at least that.

use hedgerow::proto::bounded::List;
use hedgerow::proto::id::NodeId;
use hedgerow::proto::io::{Input, NotFetched, STATES_KEPT_MAX, Transferred};
use hedgerow::proto::order::Instance;
use hedgerow::proto::table::CheckpointId;

use super::World;
use super::task::Task;
use crate::board::Wake;
use crate::faults::Fault;
use crate::host::Folder;
use crate::law::LinkLaw;
use crate::observe::What;
use crate::queue::BoardIndex;
use crate::service::{Point, ServiceEvent};
use crate::time::{MILLI, Nanos, SECOND};

/// A state on its way between two boards.
#[derive(Clone, Debug)]
pub(super) struct Fetch {
    board: BoardIndex,
    life: u32,
    number: u64,
    instance: Instance,
    id: CheckpointId,
    from: NodeId,
    peer: BoardIndex,
    peer_life: u32,
    gives_up: Nanos,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// The request reaches the other board.
    Asks,
    /// The last byte has arrived.
    Arrives,
    /// It is durable.
    Durable(Option<Point>),
}

impl World {
    pub(super) fn capture(
        &mut self,
        board: BoardIndex,
        instance: Instance,
        id: CheckpointId,
        freeze: bool,
    ) {
        let now = self.now;
        let state = self.board(board);
        let life = state.life;
        if state.host.captures.insert(instance.clone(), (id, freeze)).is_some() {
            let text = format!("captures {instance} while a capture of it is under way");
            return self.find("one-capture-at-a-time", Some(board), text);
        }
        let takes = state.host.draws.between(MILLI, 15 * MILLI);
        self.later(now + takes, Task::Snapshot(board, life, instance, id));
    }

    pub(super) fn snapshot(
        &mut self,
        board: BoardIndex,
        life: u32,
        instance: Instance,
        id: CheckpointId,
    ) {
        let now = self.now;
        if !self.agent_lives(board, life) {
            return;
        }
        let state = self.board(board);
        let freezes = match state.host.captures.get(&instance) {
            Some((capturing, freezes)) if *capturing == id => *freezes,
            _ => return,
        };
        let run = state.host.shims.get_mut(&instance).and_then(|shim| shim.run.as_mut());
        // Of a service that does not run the folder is captured as it lies, if it is one of this right.
        // Nor is one that nobody has put in order since the board lost power.
        let of_now = |folder: &&Folder| folder.epoch == id.epoch && !folder.lost_power;
        let folder = state.host.folders.get(&instance).filter(of_now);
        let lies = folder.and_then(|folder| folder.state);
        let point = match run {
            Some(run) => {
                if freezes {
                    run.freeze(now, true);
                }
                Some(run.point(now))
            }
            None => lies,
        };
        let Some(point) = point else {
            state.host.captures.remove(&instance);
            let result = Err("there is nothing to capture".to_owned());
            let input = Input::Captured { instance, id, result };
            return self.wake(board, Wake::Input(Box::new(input)));
        };
        let takes = self.fsync_of_state(board);
        self.later(now + takes, Task::Captured(board, life, instance, id, point));
    }

    pub(super) fn captured(
        &mut self,
        board: BoardIndex,
        life: u32,
        instance: Instance,
        id: CheckpointId,
        point: Point,
    ) {
        if !self.agent_lives(board, life) {
            return;
        }
        let host = &mut self.board(board).host;
        host.captures.remove(&instance);
        let run = host.shims.get_mut(&instance).and_then(|shim| shim.run.as_mut());
        if let Some(run) = run.filter(|run| run.number == point.run) {
            run.safe = run.safe.max(point.writes);
        }
        self.keep_state(board, &instance, id, Some(point));
        let result = Ok(self.bytes_of(&instance));
        let input = Input::Captured { instance, id, result };
        self.wake(board, Wake::Input(Box::new(input)));
    }

    pub(super) fn serve(&mut self, board: BoardIndex, instance: Instance, to: Vec<NodeId>) {
        self.board(board).host.serves.insert(instance, to);
    }

    pub(super) fn keep(
        &mut self,
        board: BoardIndex,
        instance: &Instance,
        states: &List<CheckpointId, STATES_KEPT_MAX>,
    ) {
        let host = &mut self.board(board).host;
        let Some(stored) = host.store.get_mut(instance) else { return };
        let gone: Vec<CheckpointId> =
            stored.keys().filter(|id| !states.contains(id)).copied().collect();
        stored.retain(|id, _| states.contains(id));
        if stored.is_empty() {
            host.store.remove(instance);
        }
        for id in gone {
            let instance = instance.clone();
            self.see(board, What::Service(&ServiceEvent::Dropped { instance, id }));
        }
    }

    pub(super) fn fetch(
        &mut self,
        board: BoardIndex,
        instance: Instance,
        id: CheckpointId,
        from: NodeId,
    ) {
        self.serial += 1;
        let number = self.serial;
        let now = self.now;
        let life = self.board(board).life;
        self.board(board).host.fetches.insert(instance.clone(), number);
        let Some(peer) = self.directory.get(&from).copied() else { return };
        let takes = self.crossing(board, peer);
        let fetch = Fetch {
            board,
            life,
            number,
            instance,
            id,
            from,
            peer,
            peer_life: 0,
            gives_up: now + PATIENCE,
            stage: Stage::Asks,
        };
        self.later(now + takes, Task::Fetch(fetch));
    }

    pub(super) fn fetch_step(&mut self, fetch: Fetch) {
        let (now, board, peer) = (self.now, fetch.board, fetch.peer);
        let newest = self.board(board).host.fetches.get(&fetch.instance) == Some(&fetch.number);
        if !self.agent_lives(board, fetch.life) || !newest {
            return;
        }
        if let Stage::Durable(point) = fetch.stage {
            return self.fetch_ends(&fetch, Ok(point));
        }
        let cut = self.net.is_cut(board, peer)
            || self.net.is_cut(peer, board)
            || self.net.weather.is_clogged(board, peer);
        let paused = self.net.paused[usize::from(peer)] || self.net.paused[usize::from(board)];
        if cut || paused || !self.net.powered[usize::from(peer)] {
            self.feel_cut_between(board, peer);
            if now >= fetch.gives_up {
                return self.fetch_ends(&fetch, Err("nothing came for too long"));
            }
            return self.later(now + LOOK_AGAIN, Task::Fetch(fetch));
        }
        let other = &self.boards[usize::from(peer)];
        if other.node.is_none() || other.id != fetch.from {
            return self.fetch_ends(&fetch, Err("connection refused"));
        }
        let life = other.life;
        let allowed = other.host.serves.get(&fetch.instance);
        let me = self.boards[usize::from(board)].id;
        if allowed.is_none_or(|to| !to.contains(&me)) {
            return self.fetch_ends(&fetch, Err("this board may not fetch it"));
        }
        let stored = other.host.store.get(&fetch.instance);
        let Some(point) = stored.and_then(|states| states.get(&fetch.id)).copied() else {
            return self.fetch_ends(&fetch, Err("there is no such state"));
        };
        match fetch.stage {
            Stage::Asks => {
                let per_second = match self.plan.link {
                    LinkLaw::Wan => 1_000_000,
                    LinkLaw::Lan => 20_000_000,
                };
                let bulk = self.bytes_of(&fetch.instance) * SECOND / per_second;
                let bulk = bulk.max(self.net.weather.bulk(peer, self.bytes_of(&fetch.instance)));
                let takes = self.crossing(peer, board) + bulk;
                let fetch = Fetch { stage: Stage::Arrives, peer_life: life, ..fetch };
                self.later(now + takes, Task::Fetch(fetch));
            }
            Stage::Arrives if life != fetch.peer_life => {
                self.fetch_ends(&fetch, Err("the connection broke"));
            }
            Stage::Arrives if self.boards[usize::from(board)].host.full => {
                self.feel(|fault| *fault == Fault::FullStore { node: board });
                self.fetch_ends(&fetch, Err(NO_ROOM));
            }
            Stage::Arrives => {
                let takes = self.fsync_of_state(board);
                let fetch = Fetch { stage: Stage::Durable(point), ..fetch };
                self.later(now + takes, Task::Fetch(fetch));
            }
            Stage::Durable(_) => {}
        }
    }

    fn fetch_ends(&mut self, fetch: &Fetch, result: Result<Option<Point>, &'static str>) {
        let Fetch { board, ref instance, id, from, .. } = *fetch;
        self.board(board).host.fetches.remove(instance);
        let state_bytes = self.bytes_of(instance);
        let result = match result {
            Ok(point) => {
                self.keep_state(board, instance, id, point);
                Ok(Transferred { wire_bytes: state_bytes, state_bytes, full: true })
            }
            Err(why) => Err(NotFetched { why: why.to_owned(), own_disk: why == NO_ROOM }),
        };
        let input = Input::Fetched { instance: instance.clone(), id, from, result };
        self.wake(board, Wake::Input(Box::new(input)));
    }

    fn keep_state(
        &mut self,
        board: BoardIndex,
        instance: &Instance,
        id: CheckpointId,
        point: Option<Point>,
    ) {
        let stored = self.board(board).host.store.entry(instance.clone()).or_default();
        let before = stored.insert(id, point);
        if before.is_some_and(|before| before != point) {
            let text = format!("two states of {instance} are called {id:?}");
            self.find("names-of-states-are-unique", Some(board), text);
        }
        let instance = instance.clone();
        self.see(board, What::Service(&ServiceEvent::Kept { instance, id, point }));
    }

    fn agent_lives(&self, board: BoardIndex, life: u32) -> bool {
        let state = &self.boards[usize::from(board)];
        state.life == life && state.node.is_some()
    }

    /// How long one packet takes, losses included.
    fn crossing(&mut self, from: BoardIndex, to: BoardIndex) -> Nanos {
        let draws = &mut self.board(from).host.draws;
        let (bits, nth) = (draws.bits(), draws.below(1 << 20));
        let loss = *draws;
        let losses = self.net.losses(&loss, nth);
        let again: Nanos = (0..losses).map(|attempt| RETRANSMISSION << attempt).sum();
        self.net.one_way(from, to, bits) + again
    }

    fn fsync_of_state(&mut self, board: BoardIndex) -> Nanos {
        let state = self.board(board);
        let (takes, slowed) = state.disk.latency_of(&mut state.host.fsyncs);
        if slowed {
            self.feel_slow_disk(board);
        }
        takes
    }

    fn bytes_of(&self, instance: &Instance) -> u64 {
        let is_it = |service: &&crate::service::Service| *service.name == *instance.service;
        self.plan.services.iter().find(is_it).map_or(0, |service| service.bytes)
    }
}

/// Why a full store keeps nothing.
const NO_ROOM: &str = "no room for it on this board's disk";
/// A fetch that makes no progress ends after that long.
const PATIENCE: Nanos = 20 * SECOND;
/// How often it is looked whether a fetch can go on.
const LOOK_AGAIN: Nanos = 250 * MILLI;
/// A lost packet is repeated after this, then after twice, four times as long.
const RETRANSMISSION: Nanos = 200 * MILLI;
