//! The copy plane: states captured, fetched, served and deleted.
//!
//! The bytes are in the boards' stores ([`crate::shelf`]); here is when each step happens, and what the node
//! and the observers are told. The steps are those of the real driver: a capture is read, then written and
//! synced; a state is asked for with what is there already, packed by the other side, received, and only
//! then verified and synced. A capture makes what it captured safe in the folder, too: a service that goes
//! on there after a power cut finds at least that.

use hedgerow::proto::bounded::List;
use hedgerow::proto::holdings::Held;
use hedgerow::proto::id::NodeId;
use hedgerow::proto::io::{Input, NotFetched, STATES_KEPT_MAX, Transferred};
use hedgerow::proto::order::Instance;
use hedgerow::proto::table::CheckpointId;
use hedgerow_replication::ManifestHash;
use hedgerow_replication::store::StoreError;
use hedgerow_replication::transfer::TransferError;

use super::World;
use super::task::Task;
use crate::board::Wake;
use crate::faults::Fault;
use crate::host::Folder;
use crate::law::LinkLaw;
use crate::observe::What;
use crate::queue::BoardIndex;
use crate::service::{Found, Point, ServiceEvent};
use crate::shelf::{Packed, Syncs};
use crate::time::{MILLI, Nanos, SECOND};

/// A state on its way between two boards.
#[derive(Debug)]
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
    /// Bytes that have not left the other board yet.
    left: u64,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The request reaches the other board: what is there to compare with.
    Asks(Vec<ManifestHash>),
    /// It arrives, piece by piece: a rate may change meanwhile.
    Arrives(Packed),
    /// The disk has done what it was asked for.
    Synced,
    /// It was there before.
    There,
}

/// Why there is no state.
enum Failure {
    /// As the other board or the network says.
    Refused(String),
    /// This board's store says so.
    Own(TransferError),
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
        if let Err(why) = self.program_checkpoints(board, &instance, id, freezes) {
            return self.nothing_captured(board, instance, id, why);
        }
        let state = self.board(board);
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
            let why = "there is nothing to capture".to_owned();
            return self.nothing_captured(board, instance, id, why);
        };
        self.board(board).host.store.begin_capture(&instance, id, point);
        let takes = self.fsync_of_state(board);
        self.later(now + takes, Task::Captured(board, life, instance, id, point));
    }

    fn nothing_captured(
        &mut self,
        board: BoardIndex,
        instance: Instance,
        id: CheckpointId,
        why: String,
    ) {
        self.board(board).host.captures.remove(&instance);
        let input = Input::Captured { instance, id, result: Err(why) };
        self.wake(board, Wake::Input(Box::new(input)));
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
        let now = self.now;
        let host = &mut self.board(board).host;
        let frozen = host.captures.remove(&instance).is_some_and(|(_, freezes)| freezes);
        let captured = host.store.capture(&instance, id, point);
        let run = host.shims.get_mut(&instance).and_then(|shim| shim.run.as_mut());
        let run = run.filter(|run| run.number == point.run);
        let result = match captured {
            Ok(()) => {
                if let Some(run) = run {
                    run.safe = run.safe.max(point.writes);
                }
                let sound = self.boards[usize::from(board)].host.store.is_sound(&instance, id);
                self.see_kept(board, &instance, id, sound.then_some(point));
                Ok(self.bytes_of(&instance))
            }
            Err(error) => {
                if let Some(run) = run.filter(|_| frozen) {
                    run.freeze(now, false);
                }
                self.note_refusal(board, &instance, id, &error);
                Err(error.to_string())
            }
        };
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
        let store = &mut self.board(board).host.store;
        let before: Vec<CheckpointId> = store.ids(instance).collect();
        let kept = store.keep(instance, states);
        let after: Vec<CheckpointId> = store.ids(instance).collect();
        if let Err(error) = kept {
            // Old states stay for now.
            self.feel_store(board, &error);
        }
        for id in before.into_iter().filter(|id| !after.contains(id)) {
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
        let host = &mut self.board(board).host;
        host.fetches.insert(instance.clone(), number);
        let there = host.store.ids(&instance).any(|own| own == id);
        let stage = if there { Stage::There } else { Stage::Asks(host.store.wants(&instance)) };
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
            left: 0,
            stage,
        };
        self.later(now + takes, Task::Fetch(Box::new(fetch)));
    }

    pub(super) fn fetch_step(&mut self, fetch: Fetch) {
        let (now, board, peer) = (self.now, fetch.board, fetch.peer);
        let newest = self.board(board).host.fetches.get(&fetch.instance) == Some(&fetch.number);
        if !self.agent_lives(board, fetch.life) || !newest {
            return;
        }
        match fetch.stage {
            Stage::There => return self.fetch_ends(fetch, Ok(())),
            Stage::Synced => {
                let finished = self.board(board).host.store.finish(&fetch.instance);
                return self.fetch_ends(fetch, finished.map_err(Failure::Own));
            }
            Stage::Asks(_) | Stage::Arrives(_) => {}
        }
        let cut = self.net.is_barred(board, peer);
        let paused = self.net.paused[usize::from(peer)] || self.net.paused[usize::from(board)];
        if cut || paused || !self.net.powered[usize::from(peer)] {
            self.feel_cut_between(board, peer);
            if now >= fetch.gives_up {
                return self.fetch_refused(fetch, "nothing came for too long");
            }
            return self.later(now + LOOK_AGAIN, Task::Fetch(Box::new(fetch)));
        }
        let other = &self.boards[usize::from(peer)];
        if other.node.is_none() || other.id != fetch.from {
            return self.fetch_refused(fetch, "connection refused");
        }
        let life = other.life;
        let allowed = other.host.serves.get(&fetch.instance);
        let me = self.boards[usize::from(board)].id;
        if allowed.is_none_or(|to| !to.contains(&me)) {
            return self.fetch_refused(fetch, "this board may not fetch it");
        }
        let Fetch { stage, peer_life, .. } = fetch;
        let fetch = Fetch { stage: Stage::Synced, ..fetch };
        match stage {
            Stage::Asks(theirs) => self.pack(Fetch { peer_life: life, ..fetch }, &theirs),
            Stage::Arrives(packed) if fetch.left > 0 && life == peer_life => {
                self.carry(Fetch { stage: Stage::Arrives(packed), ..fetch }, 0);
            }
            Stage::Arrives(packed) => self.unpack(fetch, &packed, life == peer_life),
            Stage::Synced | Stage::There => {}
        }
    }

    /// The other board packs what is wanted and sends it.
    fn pack(&mut self, fetch: Fetch, theirs: &[ManifestHash]) {
        let (board, peer) = (fetch.board, fetch.peer);
        let packed = self.board(peer).host.store.pack(&fetch.instance, fetch.id, theirs);
        let packed = match packed {
            Ok(packed) => packed,
            Err(error) => {
                self.feel_store(peer, &error);
                self.condemn(peer, &fetch.instance, fetch.id, &error);
                return self.fetch_ends(fetch, Err(Failure::Refused(error.to_string())));
            }
        };
        let left = self.bytes_of(&fetch.instance);
        let crossing = self.crossing(peer, board);
        self.carry(Fetch { stage: Stage::Arrives(packed), left, ..fetch }, crossing);
    }

    /// The next piece leaves the other board, as much as it can send in [`PIECE`], and is here after that and
    /// `crossing`.
    fn carry(&mut self, fetch: Fetch, crossing: Nanos) {
        let per_second = match self.plan.link {
            LinkLaw::Wan => 1_000_000,
            LinkLaw::Lan => 20_000_000,
        };
        let takes = fetch.left * SECOND / per_second;
        let takes = takes.max(self.net.weather.bulk(fetch.peer, fetch.left)).max(1);
        let piece = takes.min(PIECE);
        let sent = u128::from(fetch.left) * u128::from(piece) / u128::from(takes);
        let left = fetch.left - sent as u64;
        self.later(self.now + crossing + piece, Task::Fetch(Box::new(Fetch { left, ..fetch })));
    }

    /// A state could not be packed: if that is because it cannot be read, the node is told.
    fn condemn(
        &mut self,
        board: BoardIndex,
        instance: &Instance,
        id: CheckpointId,
        error: &TransferError,
    ) {
        if matches!(error, TransferError::Store(error) if error.is_loss()) {
            self.forget_unreadable(board, instance, id);
        }
    }

    /// A state that could not be read is forgotten, and the node is told: it would offer it, or begin with it, for ever.
    pub(super) fn forget_unreadable(
        &mut self,
        board: BoardIndex,
        instance: &Instance,
        id: CheckpointId,
    ) {
        if let Ok(lost) = self.board(board).host.store.condemn(instance, id) {
            let states = List::capped(lost.into_iter().rev());
            let input = Input::Spoilt { instance: instance.clone(), states };
            self.wake(board, Wake::Input(Box::new(input)));
        }
    }

    /// What was sent has arrived, or only some of it.
    fn unpack(&mut self, fetch: Fetch, packed: &Packed, whole: bool) {
        let board = fetch.board;
        let all = packed.count();
        let host = &mut self.board(board).host;
        let count = if whole { all } else { host.draws.below(all as u64 + 1) as usize };
        match host.store.receive(&fetch.instance, packed, count) {
            Err(error) => self.fetch_ends(fetch, Err(Failure::Own(error))),
            Ok(()) if !whole => self.fetch_refused(fetch, "the connection broke"),
            Ok(()) => {
                let takes = self.fsync_of_state(board);
                self.later(self.now + takes, Task::Fetch(Box::new(fetch)));
            }
        }
    }

    fn fetch_refused(&mut self, fetch: Fetch, why: &str) {
        self.fetch_ends(fetch, Err(Failure::Refused(why.to_owned())));
    }

    fn fetch_ends(&mut self, fetch: Fetch, result: Result<(), Failure>) {
        let Fetch { board, instance, id, from, .. } = fetch;
        self.board(board).host.fetches.remove(&instance);
        let state_bytes = self.bytes_of(&instance);
        let result = match result {
            Ok(()) => {
                let point = self.read_state(board, &instance, id).ok();
                self.see_kept(board, &instance, id, point);
                Ok(Transferred { wire_bytes: state_bytes, state_bytes, full: true })
            }
            Err(Failure::Refused(why)) => Err(NotFetched { why, own_disk: false }),
            Err(Failure::Own(error)) => {
                self.note_refusal(board, &instance, id, &error);
                let why = error.to_string();
                Err(NotFetched { why, own_disk: is_own_disk(&error) })
            }
        };
        let input = Input::Fetched { instance, id, from, result };
        self.wake(board, Wake::Input(Box::new(input)));
    }

    /// Reads a state back from a store, before the eyes of the observers.
    ///
    /// # Errors
    /// It cannot be read, and why.
    pub(super) fn read_state(
        &mut self,
        board: BoardIndex,
        instance: &Instance,
        id: CheckpointId,
    ) -> Result<Point, String> {
        let found = self.board(board).host.store.read(instance, id);
        let read = ServiceEvent::Read { instance: instance.clone(), id, found: found.clone() };
        self.see(board, What::Service(&read));
        match found {
            Found::State(point) => Ok(point),
            Found::OtherBytes => Err("its bytes are no state".to_owned()),
            Found::Nothing(why) => {
                self.feel(|fault| *fault == Fault::StoreRot { node: board });
                Err(why)
            }
        }
    }

    /// An agent starts: its stores are opened.
    pub(super) fn open_stores(&mut self, board: BoardIndex) -> Held {
        let store = &mut self.board(board).host.store;
        let before = store.held();
        let (held, aside) = store.open();
        if store.is_damaged() {
            self.feel(|fault| *fault == Fault::StoreRot { node: board });
        }
        if aside {
            // What was in it is out of the product's reach.
            self.board(board).has_lost = true;
            self.feel(|fault| fails_syncs(fault, board));
        }
        self.see(board, What::Service(&ServiceEvent::Opened(held.clone())));
        for (instance, id) in less(&before, &held) {
            self.see(board, What::Service(&ServiceEvent::Spoilt { instance, id }));
        }
        // What an earlier life had let go, or had not heard of yet.
        for (instance, id) in less(&held, &before) {
            let point = self.read_state(board, &instance, id).ok();
            self.see_kept(board, &instance, id, point);
        }
        held
    }

    /// Bits flip in the stores of a board.
    pub(super) fn rot(&mut self, board: BoardIndex) {
        for (instance, id) in self.board(board).host.store.rot() {
            self.see(board, What::Service(&ServiceEvent::Spoilt { instance, id }));
        }
    }

    /// Syncs of the stores of a board fail, or no longer; then the operator starts the agent again whose
    /// stores have stopped.
    pub(super) fn fail_syncs(&mut self, board: BoardIndex, fail: Option<Syncs>) {
        self.board(board).host.store.fail_syncs(fail);
        self.restart_after_failed_syncs(board);
    }

    /// Once its disk works again; a board that sleeps once it is awake, too.
    pub(super) fn restart_after_failed_syncs(&mut self, board: BoardIndex) {
        let store = &self.board(board).host.store;
        let waits = store.has_stopped() && !store.syncs_fail();
        if waits && self.crash(board, "restarted by its operator") {
            self.switch_on(board);
        }
    }

    fn see_kept(
        &mut self,
        board: BoardIndex,
        instance: &Instance,
        id: CheckpointId,
        point: Option<Point>,
    ) {
        let instance = instance.clone();
        self.see(board, What::Service(&ServiceEvent::Kept { instance, id, point }));
    }

    /// A store has not taken a state.
    fn note_refusal(
        &mut self,
        board: BoardIndex,
        instance: &Instance,
        id: CheckpointId,
        error: &TransferError,
    ) {
        if matches!(error, TransferError::Store(StoreError::StateConflict { .. })) {
            let text = format!("two states of {instance} are called {id:?}");
            self.find("names-of-states-are-unique", Some(board), text);
        }
        self.feel_store(board, error);
    }

    /// A store of a board has said no: which fault it felt.
    fn feel_store(&mut self, board: BoardIndex, error: &TransferError) {
        self.feel(|fault| match error {
            TransferError::Store(StoreError::DiskFull { .. }) => {
                *fault == Fault::FullStore { node: board }
            }
            TransferError::Store(StoreError::Io { .. } | StoreError::Stopped) => {
                fails_syncs(fault, board)
            }
            _ => *fault == Fault::StoreRot { node: board },
        });
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
        again + self.net.one_way_by_relay(from, to, bits)
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

/// States of `these` that are not in `those`.
fn less(these: &Held, those: &Held) -> Vec<(Instance, CheckpointId)> {
    let all = these.iter().flat_map(|(i, states)| states.iter().map(move |id| (i.clone(), *id)));
    all.filter(|(i, id)| those.get(i).is_none_or(|states| !states.contains(id))).collect()
}

fn fails_syncs(fault: &Fault, board: BoardIndex) -> bool {
    matches!(fault, Fault::StoreSyncError { node, .. } if *node == board)
}

/// Whether this board's own disk is to blame, as the real driver sees it.
fn is_own_disk(error: &TransferError) -> bool {
    use StoreError as E;
    let TransferError::Store(error) = error else { return false };
    matches!(error, E::Io { .. } | E::DiskFull { .. } | E::Stopped | E::Quota { .. })
}

/// A fetch that makes no progress ends after that long.
const PATIENCE: Nanos = 20 * SECOND;
/// How often it is looked whether a fetch can go on.
const LOOK_AGAIN: Nanos = 250 * MILLI;
/// A lost packet is repeated after this, then after twice, four times as long.
const RETRANSMISSION: Nanos = 200 * MILLI;
/// So much of a state is on its way at once.
const PIECE: Nanos = SECOND;
