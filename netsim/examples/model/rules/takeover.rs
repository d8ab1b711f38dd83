//! Leases and takeover of the service: `failover/{active,renewal,grantor,standby,claims}.rs`.

use super::Rules;
use crate::faults::Fault;
use crate::state::{State, Table, Worker};

impl Rules {
    /// `on_renew` at the standby.
    pub(super) fn renew_pair(&self, next: &mut State, active: usize) -> Option<()> {
        let standby = 1 - active;
        let asks = next.workers[active];
        let one = &mut next.workers[standby];
        if next.rights[usize::from(asks.row)] != Some(active as u8) || one.row != asks.row {
            return None;
        }
        if one.silent > 0 {
            return None;
        }
        one.promise = one.promise.max(self.promised(self.bounds.lease));
        self.send_grant(&mut next.workers[active], self.bounds.lease)
    }

    /// `on_renew` at a master: nested in its own lease, and not while the right is about to move.
    pub(super) fn renew_master(&self, next: &mut State, active: usize, at: usize) -> Option<()> {
        let table = self.decides(next, at)?;
        let row = next.workers[active].row;
        if table.epoch != row || usize::from(table.active) != active {
            return None;
        }
        let nests = !self.lacks(Fault::GrantsOutliveTheReign);
        let reign = next.masters[at].reign_mut()?;
        if reign.owed > 0 && usize::from(reign.owed_to) != active {
            return None;
        }
        let lease = if nests { reign.lease.min(self.bounds.lease) } else { self.bounds.lease };
        (reign.owed, reign.owed_to) = (reign.owed.max(self.promised(lease)), active as u8);
        self.send_grant(&mut next.workers[active], lease)
    }

    fn send_grant(&self, active: &mut Worker, lease: u8) -> Option<()> {
        active.grant = active.grant.max(lease);
        if !self.bounds.delays {
            active.take_grant();
        }
        Some(())
    }

    /// `start_if_allowed`, with the own-vote rule.
    pub(super) fn start(&self, next: &mut State, worker: usize) -> Option<()> {
        let entitled = next.entitled(worker) == Some(worker);
        let one = &mut next.workers[worker];
        let free = one.promise == 0 && one.silent == 0;
        let may = free || one.began == one.row || self.lacks(Fault::NoOwnVote);
        if !entitled || one.runs != 0 || one.lease == 0 || !may {
            return None;
        }
        (one.runs, one.began) = (one.row, one.row);
        Some(())
    }

    /// `judge_take`: the standby has voted for itself, this is the master's vote.
    pub(super) fn take(&self, next: &mut State, worker: usize, master: usize) -> Option<()> {
        let table = self.decides(next, master)?;
        let bound = next.masters[master].reign()?.owed > 0 && !self.lacks(Fault::TakesWhenBound);
        let asks = table.epoch == next.workers[worker].asked;
        if bound || !asks || usize::from(table.active) == worker {
            return None;
        }
        let reused = self.lacks(Fault::EpochReused);
        let epoch = if reused { table.epoch } else { table.epoch + 1 };
        self.propose(next, master, Table { epoch, active: worker as u8, ..table })
    }

    /// `Claimed::Restore`: an active asks for a new right of its own. The claim may be late.
    pub(super) fn again(&self, next: &mut State, worker: usize, master: usize) -> Option<()> {
        let table = self.decides(next, master)?;
        if usize::from(table.active) != worker || next.workers[worker].row < table.epoch {
            return None;
        }
        self.propose(next, master, Table { epoch: table.epoch + 1, ..table })
    }

    /// A crash, and the restart with what is durable: rows are not waited for, so the newest one may be
    /// forgotten.
    pub(super) fn crash_worker(
        &self,
        next: &mut State,
        worker: usize,
        row: u8,
        shim_lives: bool,
    ) -> Option<()> {
        let known = next.workers[worker].row;
        if row > known || row + 1 < known {
            return None;
        }
        next.crashes_left.1 = next.crashes_left.1.checked_sub(1)?;
        let active = next.rights[usize::from(row)] == Some(worker as u8);
        let one = &mut next.workers[worker];
        let silent = self.promised(self.bounds.lease);
        let silent = if self.lacks(Fault::NoGrantorSilence) { 0 } else { silent };
        // A shim of another right than the one that this board believes to have is stopped.
        let goes_on = shim_lives && one.runs != 0 && (one.runs == row || !active);
        let (runs, lease) = if goes_on { (one.runs, one.lease) } else { (0, 0) };
        let began = if one.began <= row { one.began } else { 0 };
        *one = Worker { row, began, runs, lease, grant: 0, promise: 0, silent, ..*one };
        Some(())
    }

    /// A planted fault: silence, as long as the own promise, is taken for a right.
    pub(super) fn usurp(&self, next: &mut State, worker: usize) -> Option<()> {
        let entitled = next.entitled(worker) == Some(worker);
        let one = &mut next.workers[worker];
        let busy = one.promise > 0 || one.silent > 0 || one.runs != 0;
        if entitled || busy || one.row >= self.bounds.epochs {
            return None;
        }
        let row = one.row + 1;
        *one = Worker { row, began: row, runs: row, lease: self.bounds.lease, ..*one };
        next.claim_epoch(row, worker as u8);
        Some(())
    }

    /// The chosen table of a master that may decide now (`Authority::reign`), with no change of the right in
    /// flight.
    fn decides(&self, state: &State, master: usize) -> Option<Table> {
        let one = &state.masters[master];
        one.reign().filter(|reign| reign.lease > 0 && reign.settled)?;
        state.sent[usize::from(one.now.term)]
    }

    /// `propose`: a new version of the table is on its way.
    fn propose(&self, next: &mut State, master: usize, table: Table) -> Option<()> {
        if table.epoch > self.bounds.epochs {
            return None;
        }
        let reign = next.masters[master].reign_mut()?;
        (reign.settled, reign.durable) = (false, 0);
        next.sent[usize::from(table.term)] = Some(Table { number: table.number + 1, ..table });
        Some(())
    }
}

impl Worker {
    /// `on_grant`: one that was given under another right was dropped when this board learnt of that.
    pub(super) fn take_grant(&mut self) {
        self.lease = self.lease.max(core::mem::take(&mut self.grant));
    }
}

/// `keep_vigil`, `free_to_take`. The silence of T + t is left out: it only makes a standby more patient.
pub(super) fn ask(next: &mut State, worker: usize) -> Option<()> {
    let entitled = next.entitled(worker) == Some(worker);
    let one = &mut next.workers[worker];
    if entitled || one.promise > 0 || one.silent > 0 {
        return None;
    }
    one.asked = one.row;
    Some(())
}

/// `follow_active_rows`, `follow_standby_rows`. What has no right any more is told to stop and may take as long
/// as its lease lasts; on one board the next container waits for that.
pub(super) fn learn(next: &mut State, worker: usize, epoch: u8) -> Option<()> {
    let active = usize::from(next.rights[usize::from(epoch)]?) == worker;
    let one = &mut next.workers[worker];
    if epoch <= one.row {
        return None;
    }
    let keeps = one.runs != 0 && (one.runs == epoch || !active);
    let (runs, lease) = if keeps { (one.runs, one.lease) } else { (0, 0) };
    let asked = if one.asked < epoch { 0 } else { one.asked };
    // A container that outlived its agent, and the row that it was started for is known again.
    let began = if active && runs == epoch { epoch } else { one.began };
    *one = Worker { row: epoch, began, runs, lease, grant: 0, asked, ..*one };
    Some(())
}
