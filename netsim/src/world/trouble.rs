//! Faults beginning and ending, and whether anybody felt them.

use hedgerow::proto::bounded::{Blob, Text};
use hedgerow::proto::id::{NodeId, OpId};
use hedgerow::proto::io::Command;

use super::World;
use super::task::Task;
use crate::board::Wake;
use crate::disk::{Damage, Failure};
use crate::evidence::Blame;
use crate::faults::{Fault, Sort};
use crate::observe::What;
use crate::queue::{BoardIndex, ConnIndex};
use crate::shelf::Syncs;
use crate::time::MILLI;

impl World {
    pub(super) fn begin(&mut self, number: u32) {
        let fault = self.plan.schedule[number as usize].fault.clone();
        self.begun.insert(number);
        self.active.insert(number);
        if matches!(fault, Fault::ClonedIdentity { .. }) {
            self.watch.excuse(fault.may_break());
        }
        self.see(fault.boards().first().copied().unwrap_or(0), What::Fault(&fault, true));
        let felt = self.apply(number, &fault);
        if felt {
            self.felt.insert(number);
        }
        if fault.is_moment() {
            self.active.remove(&number);
        }
    }

    /// Does what the fault says. True if that made a difference at once.
    fn apply(&mut self, number: u32, fault: &Fault) -> bool {
        match fault.sort() {
            Sort::Ailment => self.ail(fault, true),
            Sort::Weather => self.change_weather(number, fault, true),
            Sort::Cut => self.cut_ways(fault, true),
            Sort::Rogue => return self.speak(number, fault),
            Sort::Order => return self.order_by_fault(number, fault),
            Sort::Deed => return self.do_it(number, fault),
        }
        false
    }

    fn do_it(&mut self, number: u32, fault: &Fault) -> bool {
        match fault {
            Fault::Crash { node } => self.crash(*node, "crashed"),
            Fault::PowerCut { node } => self.cut_power(*node),
            Fault::Blackout { nodes } => {
                let on: Vec<bool> = nodes.iter().map(|node| self.cut_power(*node)).collect();
                on.contains(&true)
            }
            Fault::Wipe { node } => {
                let was_on = self.cut_power(*node);
                if self.boards[usize::from(*node)].wanted {
                    self.lose_disk(*node);
                }
                was_on
            }
            Fault::BitRot { node } => self.damage(*node, Damage::Bit),
            Fault::MisdirectedWrite { node } => self.damage(*node, Damage::Sector),
            Fault::RestoredSnapshot { node } => {
                self.take_image(number, *node);
                false
            }
            Fault::ClonedIdentity { node, onto } => self.copy_card(*node, *onto),
            Fault::StateLost { node } => {
                self.cut_power(*node);
                self.boards[usize::from(*node)].wanted && self.lose_state(*node)
            }
            Fault::Restart { node } => {
                let was_off = self.boards[usize::from(*node)].node.is_none();
                self.switch_on(*node);
                was_off
            }
            Fault::Join { node } => self.join(*node),
            Fault::JoinStorm { nodes } => {
                let new: Vec<bool> = nodes.iter().map(|node| self.join(*node)).collect();
                new.contains(&true)
            }
            Fault::Reset { node } => self.reset_connections(*node),
            Fault::HalfOpen { node } => self.lose_connections(*node),
            Fault::Roam { node } => self.roam(*node),
            Fault::ClockJump { node, seconds } => self.jump_clock(*node, *seconds),
            Fault::ClockRate { node, ppm } => {
                self.set_rate(*node, *ppm);
                self.runs(*node)
            }
            Fault::Loss { percent } => {
                self.net.loss_percent = u64::from(*percent);
                *percent > 0
            }
            Fault::Leave { node, force } => {
                let runs = self.runs(*node);
                self.board(*node).is_forced_out |= force;
                self.wake(*node, Wake::Command(OpId(LEAVE_OP), Command::Leave { force: *force }));
                runs
            }
            Fault::ServiceCrash { node } => self.services_exit(*node),
            Fault::Publish { node } => {
                self.publish(*node, number);
                false
            }
            Fault::LowMemory { .. } => {
                self.later(self.now, Task::Starve(number));
                false
            }
            Fault::Pause { node } | Fault::Suspend { node } | Fault::CrashLoop { node, .. } => {
                _ = self.runs(*node).then(|| self.hold_up(*node, fault));
                false
            }
            // What is of another sort has been dealt with.
            _ => false,
        }
    }

    /// An application publishes the number of the fault.
    fn publish(&mut self, node: BoardIndex, number: u32) {
        let topic = Text::capped("news");
        let body = number.to_le_bytes().to_vec();
        let body = Blob::try_from(body).expect("four bytes are not too many");
        let op = OpId(PUBLISH_OPS + u64::from(number));
        self.wake(node, Wake::Command(op, Command::Publish { topic, body }));
    }

    /// A running process stands still, or will not run for long.
    fn hold_up(&mut self, node: BoardIndex, fault: &Fault) {
        match fault {
            Fault::Pause { .. } => _ = self.pause(node),
            Fault::Suspend { .. } => self.suspend(node),
            _ => self.doom(node, self.boards[usize::from(node)].life),
        }
    }

    /// True if it was never on before.
    fn join(&mut self, board: BoardIndex) -> bool {
        let is_new = self.boards[usize::from(board)].life == 0;
        _ = is_new.then(|| self.switch_on(board));
        is_new
    }

    fn runs(&self, board: BoardIndex) -> bool {
        self.boards[usize::from(board)].node.is_some()
    }

    pub(super) fn mend(&mut self, number: u32) {
        if !self.active.remove(&number) {
            return;
        }
        let fault = self.plan.schedule[number as usize].fault.clone();
        self.see(fault.boards().first().copied().unwrap_or(0), What::Fault(&fault, false));
        match fault.sort() {
            Sort::Ailment => {
                let still = self.other(number, |other| *other == fault);
                self.ail(&fault, still);
            }
            Sort::Weather => {
                self.change_weather(number, &fault, false);
                self.renew_weather();
            }
            Sort::Cut => self.cut_ways(&fault, false),
            Sort::Rogue => {}
            Sort::Order | Sort::Deed => self.undo(number, &fault),
        }
    }

    /// Those that are over at once leave nothing to be undone.
    fn undo(&mut self, number: u32, fault: &Fault) {
        match fault {
            Fault::Crash { node }
            | Fault::PowerCut { node }
            | Fault::StateLost { node }
            | Fault::BitRot { node }
            | Fault::MisdirectedWrite { node }
            | Fault::Wipe { node } => self.switch_on_if_wanted(*node),
            Fault::Revoke { node } => {
                self.cut_power(*node);
                self.lose_disk(*node);
                self.switch_on_if_wanted(*node);
            }
            Fault::RestoredSnapshot { node } => {
                if self.put_image_back(number, *node) {
                    self.felt.insert(number);
                }
                self.switch_on_if_wanted(*node);
            }
            Fault::ClonedIdentity { onto, .. } => {
                self.cut_power(*onto);
                self.scrap_copy(*onto);
            }
            Fault::Blackout { nodes } => {
                nodes.iter().for_each(|node| self.switch_on_if_wanted(*node));
            }
            Fault::Suspend { node } => {
                let still = self.other(number, |other| other == fault);
                if !still && self.wake_up(*node) {
                    self.felt.insert(number);
                }
            }
            Fault::Pause { node } => {
                let state = &self.boards[usize::from(*node)];
                if !state.inbox.is_empty() {
                    self.felt.insert(number);
                }
                let pauses = state.pauses;
                if !self.other(number, |other| other == fault) {
                    self.resume(*node, pauses);
                }
            }
            Fault::Loss { .. } => {
                let others = self
                    .active
                    .iter()
                    .rev()
                    .map(|other| &self.plan.schedule[*other as usize].fault);
                let mut others = others.filter_map(|other| match other {
                    Fault::Loss { percent } => Some(*percent),
                    _ => None,
                });
                let percent = others.next().unwrap_or(self.plan.loss_percent);
                self.net.loss_percent = u64::from(percent);
            }
            Fault::ClockRate { node, .. } => self.set_rate(*node, 0),
            Fault::Drain { node } => self.undrain(*node, number),
            _ => {}
        }
    }

    /// Every fault ends and every board runs.
    pub(super) fn heal(&mut self) {
        self.judge_cues();
        // A program that nobody brings along stays away: the others have to do.
        let lasts = |number: &u32| {
            let timed = &self.plan.schedule[*number as usize];
            timed.lasts.is_none() && matches!(timed.fault, Fault::LacksProgram { .. })
        };
        let active: Vec<u32> =
            self.active.iter().copied().filter(|number| !lasts(number)).collect();
        for number in active {
            self.mend(number);
        }
        self.set_clocks_right();
        self.start_all();
        self.net.loss_percent = 0;
        self.see(0, What::Healed);
        self.begin_settling();
    }

    /// Somebody sets all clocks, for orders expire by them.
    fn set_clocks_right(&mut self) {
        for board in 0..self.plan.boards {
            self.board(board).clock.set_right();
            self.wake(board, Wake::Wall);
        }
    }

    fn switch_on_if_wanted(&mut self, board: BoardIndex) {
        if self.boards[usize::from(board)].wanted {
            self.switch_on(board);
        }
    }

    /// Something is wrong with one board, or no longer; that shows when it next matters.
    fn ail(&mut self, fault: &Fault, on: bool) {
        match fault {
            Fault::SlowFsync { node } => self.board(*node).disk.set_slow(on),
            Fault::FsyncError { node } => {
                self.board(*node).disk.set_failure(on.then_some(Failure::Fsync));
            }
            Fault::FullDisk { node } => {
                self.board(*node).disk.set_failure(on.then_some(Failure::Full));
            }
            Fault::Stutter { node, ms } => {
                self.stutter(*node, on.then_some((*ms).max(1) * MILLI));
            }
            Fault::CannotStart { node } => self.board(*node).host.barren = on,
            Fault::LacksProgram { node } => self.board(*node).host.empty = on,
            Fault::SlowStop { node } => self.board(*node).host.stubborn = on,
            Fault::FullStore { node } => self.board(*node).host.store.set_full(on),
            Fault::StoreRot { node } if on => self.rot(*node),
            Fault::StoreSyncError { node, names } => {
                let which = if *names { Syncs::Names } else { Syncs::All };
                self.fail_syncs(*node, on.then_some(which));
            }
            _ => {}
        }
    }

    fn other(&self, number: u32, is_like: impl Fn(&Fault) -> bool) -> bool {
        self.active
            .iter()
            .any(|other| *other != number && is_like(&self.plan.schedule[*other as usize].fault))
    }

    fn cut_ways(&mut self, fault: &Fault, add: bool) {
        for from in 0..self.plan.boards {
            for to in 0..self.plan.boards {
                if fault.cuts(from, to) {
                    self.net.cut(from, to, add);
                }
            }
        }
        self.net.changed(self.now, &mut self.queue);
    }

    fn set_rate(&mut self, board: BoardIndex, ppm: i32) {
        let now = self.now;
        let state = self.board(board);
        state.clock.set_ppm(now, ppm);
        state.armed = None;
        self.convert_belief(board);
        self.look_after_shims(board);
        if !self.net.paused[usize::from(board)] {
            self.fire(board);
            self.work(board);
        }
    }

    pub(super) fn feel(&mut self, is_it: impl Fn(&Fault) -> bool) {
        let schedule = &self.plan.schedule;
        let felt = self.active.iter().filter(|number| is_it(&schedule[**number as usize].fault));
        self.felt.extend(felt);
    }

    /// A message could not pass.
    pub(super) fn feel_cut(&mut self, conn: ConnIndex, way: u8) {
        for (from, to) in self.net.hops(conn, way) {
            self.feel(|fault| fault.cuts(from, to));
        }
    }

    pub(super) fn feel_cut_between(&mut self, a: BoardIndex, b: BoardIndex) {
        self.feel(|fault| fault.cuts(a, b) || fault.cuts(b, a));
    }

    pub(super) fn feel_silence(&mut self, conn: ConnIndex) {
        for (a, b) in self.net.hops(conn, 0) {
            self.feel_cut_between(a, b);
            self.feel_pause(a);
            self.feel_pause(b);
        }
    }

    pub(super) fn feel_pause(&mut self, board: BoardIndex) {
        let stops = |fault: &Fault| match fault {
            Fault::Pause { node } | Fault::Suspend { node } => *node == board,
            _ => false,
        };
        self.feel(stops);
    }

    pub(super) fn feel_slow_disk(&mut self, board: BoardIndex) {
        self.feel(|fault| *fault == Fault::SlowFsync { node: board });
    }

    /// Somebody was suspected or taken for dead. Wrongly, if it had run for a while, unpaused and
    /// with no cut.
    pub(super) fn note_blame(&mut self, by: BoardIndex, node: &NodeId, down: bool) {
        let Some(who) = self.directory.get(node).copied() else { return };
        let state = &self.boards[usize::from(who)];
        let has_run = state.node.is_some() && self.now - state.running_since > RUN_LONG_ENOUGH;
        if state.id != *node || !has_run || self.blamed.len() >= BLAMED_MAX {
            return;
        }
        let hears = !self.net.is_cut(who, by) && !self.net.is_cut(by, who);
        let falsely = hears && !self.net.paused[usize::from(who)];
        self.blamed.push(Blame { by, who, down, falsely });
    }
}

/// No scenario needs to know of more.
const BLAMED_MAX: usize = 1000;
/// A board that was started that recently may still be taken for its dead earlier life.
const RUN_LONG_ENOUGH: u64 = 15 * crate::time::SECOND;
/// The number of the leave command.
const LEAVE_OP: u64 = 1 << 47;
/// Numbers of publications start here.
const PUBLISH_OPS: u64 = 1 << 46;
