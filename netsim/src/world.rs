//! The world: true time, boards, the network between them, and what happens next.
//!
//! The world alone drives each production [`Node`](hedgerow::proto::node::Node), exactly as the real
//! driver does: due timers first, then one input, then its effects in order. Everything that will
//! happen is in one queue; the order of that queue is the order of the run.
//!
//! - `driver`: one process and its node; `gate`: its connections and what may pass over them;
//! - `dial`: connections coming about;
//! - `acquaint`: journals of a mesh that has run before;
//! - `life`: processes starting, stopping and pausing;
//! - `trouble`: faults beginning and ending; `weather`, `ailing`, `rogue`: those of the network, of one board and
//!   its disk, and of processes that speak nonsense;
//! - `reign`: who believes to be master, and whether the mesh has one again;
//! - `shim`: services on hosts; `copy`: their states; `operator`: orders; `task`: what all these do later;
//! - `program`: real code in the place of such services;
//! - `judge`: asking the boards what they see; `rules`: what the world looks after, in words.

mod acquaint;
mod ailing;
mod copy;
mod dial;
mod driver;
mod gate;
mod judge;
mod life;
mod operator;
mod program;
mod reign;
mod rogue;
mod rules;
mod serving;
mod shim;
mod task;
mod trouble;
mod weather;

use std::collections::{BTreeMap, BTreeSet};

use hedgerow::proto::id::NodeId;

use crate::board::{Board, Operator};
use crate::evidence::{Blame, ServiceRecord};
use crate::faults::{Fault, Sort, Timed};
use crate::net::{Arrival, Load, Net};
use crate::observe::{Observation, Watch, Watcher, What};
use crate::plan::{Outcome, Plan};
use crate::program::Programs;
use crate::queue::{BoardIndex, ConnIndex, Due, Queue};
use crate::seed::{Purpose, Stream};
use crate::tally::Tally;
use crate::time::{MILLI, Nanos, SECOND};
use crate::world::dial::Dial;
use crate::world::operator::Wanted;
use crate::world::task::Task;

pub use crate::world::program::run_programs;
pub use crate::world::rules::RULES;

/// See the module.
pub struct World {
    plan: Plan,
    now: Nanos,
    queue: Queue,
    boards: Vec<Board>,
    net: Net,
    /// Every identity there ever was, and whose.
    directory: BTreeMap<NodeId, BoardIndex>,
    dials: Vec<Dial>,
    /// What hosts and operators will do later, by number.
    tasks: BTreeMap<u32, Task>,
    task: u32,
    /// Counts shims and fetches.
    serial: u64,
    /// Counts runs of services.
    runs: u32,
    /// Counts commits.
    tickets: u64,
    /// Real code that runs in the place of services.
    programs: Option<Box<dyn Programs>>,
    operator: Operator,
    wanted: Vec<Wanted>,
    /// What became of each service.
    records: BTreeMap<String, ServiceRecord>,
    /// Services that nobody can start any more.
    orphans: u64,
    deciders: reign::Deciders,
    /// How long after the faults all services ran, and had standbys.
    serving_after: Option<Nanos>,
    protected_after: Option<Nanos>,
    watch: Watch,
    /// Faults of the schedule that began, that made a difference, and that have not ended.
    begun: BTreeSet<u32>,
    felt: BTreeSet<u32>,
    active: BTreeSet<u32>,
    /// Those that wait for something still.
    waiting: Vec<u32>,
    /// Images of journals that a fault will put back: whose, and what was on it.
    images: BTreeMap<u32, (NodeId, Vec<u8>)>,
    /// Faults that have cut off a board for the moment.
    flapped: BTreeSet<u32>,
    /// The schedule has faults that make messages late.
    is_rough: bool,
    /// Publications that each board has told.
    told: BTreeMap<BoardIndex, u64>,
    /// Recoveries of the mesh by force that were carried out.
    recovered: BTreeSet<u32>,
    /// Boards that were suspected or taken for dead while their process existed.
    blamed: Vec<Blame>,
    /// When everything could begin to converge, once an operator has looked.
    settling_since: Option<Nanos>,
    settled_after: Option<Nanos>,
    /// How long after the faults there was one master whom all name, and three living voters.
    master_after: Option<Nanos>,
    voters_after: Option<Nanos>,
    /// So many voters were lost for good that nobody can be elected any more.
    bereft: bool,
    /// Views that were compared since the faults: when, by whom and with whom.
    compared: Vec<(Nanos, BoardIndex, NodeId)>,
    /// What was still wrong when it was last looked whether everything has converged.
    unsettled: Option<String>,
    over: bool,
    steps: u64,
    messages: u64,
    bytes: u64,
}

/// Runs a plan, before the eyes of a watcher if there is one.
pub fn run(plan: &Plan, watcher: Option<Box<dyn Watcher>>) -> Outcome {
    let mut world = World::new(plan.clone(), Watch::new(usize::from(plan.boards), watcher));
    world.run();
    world.finish()
}

impl World {
    fn new(plan: Plan, watch: Watch) -> Self {
        let count = usize::from(plan.boards);
        let boards: Vec<Board> = (0..plan.boards)
            .map(|index| Board::new(plan.seed, index, plan.ppm_max, plan.states))
            .collect();
        let mut net = Net::new(plan.seed, plan.link, u64::from(plan.loss_percent), count);
        net.lose_in_bursts(plan.bursts);
        if plan.schedule.iter().any(|timed| timed.fault.sort() == Sort::Rogue) {
            net.remember_frames();
        }
        let mut world = Self {
            now: 0,
            queue: Queue::default(),
            directory: BTreeMap::new(),
            boards,
            net,
            dials: Vec::new(),
            tasks: BTreeMap::new(),
            task: 0,
            serial: 0,
            runs: 0,
            tickets: 0,
            programs: None,
            operator: crate::board::operator(plan.seed),
            wanted: Vec::new(),
            records: BTreeMap::new(),
            orphans: 0,
            deciders: Default::default(),
            serving_after: None,
            protected_after: None,
            watch,
            begun: BTreeSet::new(),
            felt: BTreeSet::new(),
            active: BTreeSet::new(),
            waiting: Vec::new(),
            images: BTreeMap::new(),
            flapped: BTreeSet::new(),
            is_rough: plan.schedule.iter().any(|timed| timed.fault.sort() == Sort::Weather),
            told: BTreeMap::new(),
            recovered: BTreeSet::new(),
            blamed: Vec::new(),
            settling_since: None,
            settled_after: None,
            master_after: None,
            voters_after: None,
            bereft: false,
            compared: Vec::new(),
            unsettled: None,
            over: false,
            steps: 0,
            messages: 0,
            bytes: 0,
            plan,
        };
        world.prepare();
        world
    }

    fn prepare(&mut self) {
        for index in 0..self.plan.boards {
            self.introduce(index);
            if self.plan.late.contains(&index) {
                continue;
            }
            // The founder is there when the others come.
            let mut draw = Stream::new(self.plan.seed, Purpose::Start, u64::from(index), 0);
            let last = if self.plan.acquainted { SECOND / 2 } else { 3 * SECOND };
            let at = if index == 0 { 0 } else { draw.between(100 * MILLI, last) };
            self.queue.push(at, Due::Start(index));
        }
        if self.plan.acquainted {
            self.acquaint();
        }
        for service in self.plan.services.clone() {
            self.want(service.at, &service.name, operator::What::Run, service.board, None);
        }
        for (number, timed) in (0..).zip(&self.plan.schedule) {
            if timed.cue.is_some() {
                self.waiting.push(number);
                continue;
            }
            self.queue.push(timed.at, Due::Fault(number));
            if let Some(lasts) = timed.lasts {
                self.queue.push(timed.at.saturating_add(lasts), Due::Mend(number));
            }
        }
        for (number, (at, _)) in (0..).zip(&self.plan.expects) {
            self.queue.push(*at, Due::Expect(number));
        }
        if let Some(at) = self.plan.heal_at {
            self.queue.push(at, Due::Heal);
        }
    }

    fn run(&mut self) {
        self.run_until(self.plan.horizon);
        if !self.over && !self.watch.failed() {
            self.judge_cues();
        }
        if !self.over && !self.watch.failed() {
            self.judge_settling();
        }
    }

    /// A world for a measurement: `watcher` sees everything, and whoever measures says step by step
    /// what happens next. Invariants do not look, since what they cost would be measured, too.
    pub fn measured(plan: Plan, watcher: Box<dyn Watcher>) -> Self {
        let watch = Watch::measuring(usize::from(plan.boards), watcher);
        Self::new(plan, watch)
    }

    /// Lets everything happen that is due until then.
    pub fn run_until(&mut self, end: Nanos) {
        while !self.over && !self.watch.failed() {
            if self.programs_act(end) {
                continue;
            }
            let Some((at, due)) = self.queue.pop(end) else {
                self.now = end;
                return;
            };
            self.now = at;
            self.steps += 1;
            self.happen(due);
        }
    }

    /// A fault begins now, and does not end.
    pub fn inject(&mut self, fault: Fault) {
        let number = self.plan.schedule.len() as u32;
        self.plan.schedule.push(Timed { at: self.now, cue: None, lasts: None, fault });
        self.begin(number);
    }

    /// Ends the run: what came of it.
    pub fn finish(mut self) -> Outcome {
        for board in &mut self.boards {
            if board.node.is_some() {
                board.ran += self.now - board.running_since;
            }
        }
        let (trace, findings, mut deeds) = self.watch.finish(self.now);
        deeds.judged(self.master_after, self.voters_after, self.bereft);
        deeds.served(self.serving_after, self.protected_after, self.orphans);
        Outcome {
            findings,
            trace,
            ended: self.now,
            node_time: self.boards.iter().map(|board| board.ran).sum(),
            steps: self.steps,
            messages: self.messages,
            bytes: self.bytes,
            lost: self.net.lost,
            tally: Tally::of(&self.plan.schedule, &self.begun, &self.felt),
            settled_after: self.settled_after,
            deeds,
        }
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Timer(board) => self.timer(board),
            Due::Arrive(conn, way) => self.arrive(conn, way),
            Due::Datagram(number) => self.datagram(number),
            Due::Disk(board, turn) => self.disk_done(board, turn),
            Due::Dial(dial) => self.dial_step(dial),
            Due::Idle(conn, end, count) => {
                if self.net.is_idle(conn, end, count) {
                    self.feel_silence(conn);
                    self.detach(conn, end, "nothing was heard for too long");
                }
            }
            Due::Close(conn, end) => self.detach(conn, end, "closed by the other side"),
            Due::Late(conn, end) => self.late(conn, end),
            Due::Wall(board, life) => self.wall(board, life),
            Due::Start(board) => self.switch_on(board),
            Due::Boot(board, life) => self.boot(board, life),
            Due::Exit(board, life) => self.exit(board, life),
            Due::Resume(board, pause) => self.resume(board, pause),
            Due::Fault(number) => self.begin(number),
            Due::Mend(number) => self.mend(number),
            Due::Expect(number) => self.expect(number),
            Due::Task(number) => self.perform(number),
            Due::Heal => self.heal(),
            Due::Settle => self.settle(),
        }
    }

    fn arrive(&mut self, conn: ConnIndex, way: u8) {
        let load = match self.net.arrive(self.now, conn, way, &mut self.queue) {
            Arrival::Nothing => return,
            Arrival::Held => return self.feel_cut(conn, way),
            Arrival::Load(load) => load,
        };
        let end = 1 - way;
        let receiver = self.net.end(conn, end);
        if !receiver.open {
            // Nobody has this connection any more: the host says so.
            return self.tell_closed(conn, way);
        }
        match load {
            Load::Frame(frame) => {
                self.wake(receiver.board, crate::board::Wake::Frame(conn, end, frame))
            }
            Load::Fin => {
                self.tell_closed(conn, way);
                self.detach(conn, end, "closed by the other side");
            }
        }
    }

    /// Tells the end `to` that the other one is closed, if packets pass.
    fn tell_closed(&mut self, conn: ConnIndex, to: u8) {
        let hops = self.net.hops(conn, 1 - to);
        let passes = !self.net.is_lost(conn) && !hops.iter().any(|(a, b)| self.net.is_cut(*a, *b));
        if self.net.end(conn, to).open && passes {
            let takes: Nanos = hops.iter().map(|(a, b)| self.net.round_trip(*a, *b) / 2).sum();
            self.queue.push(self.now + takes, Due::Close(conn, to));
        }
    }

    fn see(&mut self, board: BoardIndex, what: What<'_>) {
        if let What::Service(event) = what {
            self.note_service(board, event);
        }
        if let Some(programs) = &mut self.programs {
            programs.see(board, &what);
        }
        self.watch.see(self.now, board, what);
        if !self.waiting.is_empty() {
            self.take_cues(Observation { at: self.now, board, what });
        }
    }

    /// Faults that have waited for just this begin.
    fn take_cues(&mut self, seen: Observation<'_>) {
        let (schedule, queue) = (&self.plan.schedule, &mut self.queue);
        let heal_at = self.plan.heal_at.unwrap_or(Nanos::MAX);
        self.waiting.retain(|number| {
            let timed = &schedule[*number as usize];
            let cue = timed.cue.as_ref().filter(|cue| seen.at >= timed.at && cue.is(&seen));
            let Some(cue) = cue else { return true };
            let at = seen.at.saturating_add(cue.plus);
            if at >= heal_at {
                return true;
            }
            queue.push(at, Due::Fault(*number));
            if let Some(lasts) = timed.lasts {
                queue.push(at.saturating_add(lasts), Due::Mend(*number));
            }
            false
        });
    }

    fn find(&mut self, rule: &'static str, board: Option<BoardIndex>, text: String) {
        self.watch.find(self.now, rule, board, text);
    }

    fn board(&mut self, board: BoardIndex) -> &mut Board {
        &mut self.boards[usize::from(board)]
    }

    /// The identity that a board has from now on.
    fn introduce(&mut self, board: BoardIndex) {
        let id = self.boards[usize::from(board)].id;
        self.directory.insert(id, board);
        self.watch.name(board, id);
    }
}
