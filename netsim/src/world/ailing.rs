//! Boards that are not well: processes that end again and again or get the processor too rarely, hosts that
//! sleep, clocks that jump, disks that fail or rot.

use hedgerow::proto::io::Exit;
use hedgerow::proto::order::Instance;

use super::World;
use super::task::Task;
use crate::board::Sleep;
use crate::disk::Damage;
use crate::faults::Fault;
use crate::observe::What;
use crate::queue::{BoardIndex, Due};
use crate::service::ServiceEvent;
use crate::time::{MILLI, Nanos, SECOND};

/// Whoever looks after the process starts it again after that long.
const STARTED_AGAIN_AFTER: Nanos = 500 * MILLI;
/// So often a board that is short of memory kills somebody.
const STARVES_EVERY: Nanos = 3 * SECOND;

impl World {
    /// A process has started: how long may it live?
    pub(super) fn doom(&mut self, board: BoardIndex, life: u32) {
        let schedule = &self.plan.schedule;
        let active = self.active.iter().map(|number| &schedule[*number as usize].fault);
        let lives = active
            .filter_map(|fault| match fault {
                Fault::CrashLoop { node, ms } if *node == board => Some(ms * MILLI),
                _ => None,
            })
            .min();
        if let Some(lives) = lives {
            self.later(self.now + lives, Task::Fail(board, life, CRASHES, STARTED_AGAIN_AFTER));
        }
    }

    /// The process ends, and is started again.
    pub(super) fn fail(&mut self, board: BoardIndex, life: u32, why: &'static str, after: Nanos) {
        let state = &self.boards[usize::from(board)];
        if state.life != life || state.node.is_none() {
            return;
        }
        if why == CRASHES {
            self.feel(|fault| matches!(fault, Fault::CrashLoop { node, .. } if *node == board));
        }
        self.crash(board, why);
        self.queue.push(self.now + after, Due::Start(board));
    }

    /// The kernel kills what uses most of the memory, and looks again.
    pub(super) fn starve(&mut self, number: u32) {
        let Fault::LowMemory { node } = self.plan.schedule[number as usize].fault else { return };
        if !self.active.contains(&number) {
            return;
        }
        let state = &self.boards[usize::from(node)];
        let awake = state.asleep.is_none() && state.wanted;
        let (life, runs) = (state.life, state.node.is_some());
        if awake
            && self.services_end(node, "it was killed for its memory", Exit::Signal { signal: 9 })
        {
            self.felt.insert(number);
        } else if awake && runs {
            self.felt.insert(number);
            self.fail(node, life, "it was killed for its memory", STARTED_AGAIN_AFTER);
        }
        self.later(self.now + STARVES_EVERY, Task::Starve(number));
    }

    /// From now on the process gets the processor that often only; none: whenever it wants.
    pub(super) fn stutter(&mut self, board: BoardIndex, every: Option<Nanos>) {
        self.board(board).stutters = every;
        if every.is_none() && !self.net.paused[usize::from(board)] {
            self.board(board).armed = None;
            self.fire(board);
            self.work(board);
        }
    }

    /// There is something to do the next time.
    pub(super) fn grind_later(&mut self, board: BoardIndex) {
        let now = self.now;
        let state = self.board(board);
        let Some(every) = state.stutters.filter(|_| !state.grinding) else { return };
        state.grinding = true;
        let life = state.life;
        self.feel(|fault| matches!(fault, Fault::Stutter { node, .. } if *node == board));
        self.later((now / every + 1) * every, Task::Grind(board, life));
    }

    pub(super) fn grind(&mut self, board: BoardIndex, life: u32) {
        let state = self.board(board);
        if state.life != life {
            return;
        }
        state.grinding = false;
        if state.node.is_some() && !self.net.paused[usize::from(board)] {
            self.board(board).armed = None;
            self.fire(board);
            self.work(board);
        }
    }

    /// Everything on the board stands still.
    pub(super) fn suspend(&mut self, board: BoardIndex) {
        let now = self.now;
        if self.board(board).asleep.is_some() {
            // It sleeps already; the last of such faults to end wakes it.
            return;
        }
        self.pause(board);
        let state = self.board(board);
        let mut stopped = Vec::new();
        let mut sleeping = Vec::new();
        for (instance, shim) in &mut state.host.shims {
            let Some(run) = &mut shim.run else { continue };
            if !run.frozen {
                run.freeze(now, true);
                stopped.push(instance.clone());
            }
            sleeping.push((instance.clone(), run.number));
        }
        state.asleep = Some(Sleep { tasks: Vec::new(), stopped });
        for (instance, run) in sleeping {
            self.see(board, What::Service(&ServiceEvent::Sleeps { instance, run }));
        }
    }

    /// It goes on; true if a service slept. A shim looks at its clock before it lets its service take another
    /// step, so whatever may not run any more dies first.
    pub(super) fn wake_up(&mut self, board: BoardIndex) -> bool {
        let now = self.now;
        let Some(sleep) = self.board(board).asleep.take() else { return false };
        let state = &self.boards[usize::from(board)];
        let local = state.clock.local(now);
        let over = |shim: &&crate::host::Shim| local >= shim.until && !shim.keeps;
        let overdue: Vec<Instance> = state
            .host
            .shims
            .iter()
            .filter(|(_, shim)| over(shim))
            .map(|(instance, _)| instance.clone())
            .collect();
        for instance in overdue {
            let shims = &self.boards[usize::from(board)].host.shims;
            let exit = shims.get(&instance).map(crate::host::Shim::killed_as);
            self.shim_ends(board, &instance, "its lease ran out while it slept", exit);
        }
        self.isolate_overdue(board);
        for instance in &sleep.stopped {
            let shim = self.board(board).host.shims.get_mut(instance);
            if let Some(run) = shim.and_then(|shim| shim.run.as_mut()) {
                run.freeze(now, false);
            }
        }
        let shims = &self.boards[usize::from(board)].host.shims;
        let awake: Vec<ServiceEvent> = shims
            .iter()
            .filter_map(|(instance, shim)| {
                let (run, epoch) = (shim.run.as_ref()?.number, shim.epoch.0);
                Some(ServiceEvent::Wakes { instance: instance.clone(), run, epoch })
            })
            .collect();
        for event in &awake {
            self.see(board, What::Service(event));
        }
        for task in sleep.tasks {
            self.queue.push(now, Due::Task(task));
        }
        let pauses = self.boards[usize::from(board)].pauses;
        self.resume(board, pauses);
        self.restart_after_failed_syncs(board);
        !sleep.stopped.is_empty()
    }

    /// The time of day is set.
    pub(super) fn jump_clock(&mut self, board: BoardIndex, seconds: i64) -> bool {
        let state = self.board(board);
        state.clock.jump_wall(seconds);
        let life = state.life;
        let runs = state.node.is_some();
        self.queue.push(self.now + SECOND, Due::Wall(board, life));
        runs
    }

    /// Power is cut, and something that was safe on the disk is not any more.
    pub(super) fn damage(&mut self, board: BoardIndex, damage: Damage) -> bool {
        self.cut_power(board);
        let state = self.board(board);
        let done = state.wanted && state.node.is_none() && state.disk.damage(damage);
        state.rotten |= done;
        done
    }

    /// An image of the journal is taken.
    pub(super) fn take_image(&mut self, number: u32, board: BoardIndex) {
        let state = &self.boards[usize::from(board)];
        if state.life > 0 {
            self.images.insert(number, (state.id, state.disk.image()));
        }
    }

    /// Power is cut and the image put back, unless another board has come in its place. True if it had forgotten
    /// something.
    pub(super) fn put_image_back(&mut self, number: u32, board: BoardIndex) -> bool {
        let Some((id, image)) = self.images.remove(&number) else { return false };
        self.cut_power(board);
        let state = self.board(board);
        if state.id != id || !state.wanted || state.rotten || state.disk.image() == image {
            return false;
        }
        state.disk.put_back(image);
        self.see(board, What::SetBack);
        true
    }

    /// A copy of a board's card, without the states of services, starts on a board that was never on. False: that
    /// shows when somebody meets both.
    pub(super) fn copy_card(&mut self, from: BoardIndex, onto: BoardIndex) -> bool {
        let original = &self.boards[usize::from(from)];
        let (keypair, image, has_run) =
            (original.keypair.clone(), original.disk.image(), original.life > 0);
        let copy = self.board(onto);
        if !has_run || copy.life > 0 {
            return false;
        }
        (copy.id, copy.keypair, copy.is_member) = (keypair.public(), keypair, true);
        copy.disk.put_back(image);
        self.see(onto, What::SetBack);
        self.switch_on(onto);
        false
    }

    /// The copy of a card is gone, and its board is not started again. Its identity is not lost: another one has it.
    pub(super) fn scrap_copy(&mut self, board: BoardIndex) {
        let seed = self.plan.seed;
        let copy = self.board(board);
        (copy.wanted, copy.is_member) = (false, false);
        copy.disk.wipe();
        copy.new_identity(seed);
    }

    pub(super) fn feel_failed_disk(&mut self, board: BoardIndex) {
        let faults = [Fault::FsyncError { node: board }, Fault::FullDisk { node: board }];
        self.feel(|fault| faults.contains(fault));
    }
}

/// Why a process ends that does so again and again.
const CRASHES: &str = "it crashed again";
