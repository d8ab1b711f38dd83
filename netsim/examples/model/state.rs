//! What the model knows of three masters, two workers and the network between them.
//!
//! Every time is a countdown in ticks, so that states repeat and the space is finite.

use std::hash::{Hash, Hasher};

/// Boards that may be master; all of them vote.
pub(crate) const MASTERS: usize = 3;
/// Boards that run the service: at first the active and its standby.
pub(crate) const WORKERS: usize = 2;
/// More terms than any bound allows.
pub(crate) const TERMS_MAX: usize = 4;
/// More epochs than any bound allows.
pub(crate) const EPOCHS_MAX: usize = 4;

/// All boards and all messages under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct State {
    pub(crate) masters: [Master; MASTERS],
    pub(crate) workers: [Worker; WORKERS],
    /// The newest table that was sent in each term. It may arrive at any time from now on, or never.
    pub(crate) sent: [Option<Table>; TERMS_MAX],
    /// Whose each epoch is, by the first table that was announced as chosen. Announcements, too, arrive
    /// at any time.
    pub(crate) rights: [Option<u8>; EPOCHS_MAX],
    /// Masters and workers that may crash yet.
    pub(crate) crashes_left: (u8, u8),
    /// A voter has answered two candidates of one term.
    pub(crate) voted_twice: bool,
    /// An epoch was given to, or used by, two boards.
    pub(crate) epoch_shared: bool,
}

/// A board that may be master.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Master {
    pub(crate) role: Role,
    pub(crate) now: Voted,
    /// What of it is durable.
    pub(crate) disk: Voted,
    /// Its newest vote that left: for the checker only.
    pub(crate) answered: Voted,
    pub(crate) promise: u8,
    /// After a restart: how long its answers count for nobody's lease.
    pub(crate) silent: u8,
    /// The newest durable table.
    pub(crate) table: Table,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Voted {
    pub(crate) term: u8,
    pub(crate) vote: Option<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Role {
    Follower,
    /// Those whose durable votes are here or under way, a bit each.
    Standing(u8),
    Leader(Reign),
}

#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Reign {
    /// What is left of its lease.
    pub(crate) lease: u8,
    /// What would be left of it if the best answer under way arrived now.
    pub(crate) answer: u8,
    /// The newest table is chosen, and the master knows.
    pub(crate) settled: bool,
    /// Those on whose disk the newest table is, a bit each.
    pub(crate) durable: u8,
    /// As grantor: what is left of its promise, and to whom.
    pub(crate) owed: u8,
    pub(crate) owed_to: u8,
}

/// A table is a version and one row.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Table {
    pub(crate) term: u8,
    /// Counts the changes within the term.
    pub(crate) number: u8,
    pub(crate) epoch: u8,
    pub(crate) active: u8,
}

/// A board that runs the service or stands by. Epochs count from one; zero is none.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Worker {
    /// The epoch of the newest row that it knows.
    pub(crate) row: u8,
    /// The epoch under which a container ran here last.
    pub(crate) began: u8,
    /// The epoch of the container that runs.
    pub(crate) runs: u8,
    /// What is left of its lease; the shim's deadline while a container runs.
    pub(crate) lease: u8,
    /// What would be left of it if the best grant under way arrived now.
    pub(crate) grant: u8,
    /// As standby: what is left of its promise to the other worker.
    pub(crate) promise: u8,
    /// After a restart: how long it neither grants nor takes over.
    pub(crate) silent: u8,
    /// The epoch that its `Take`, which is under way for ever, would end.
    pub(crate) asked: u8,
}

impl Hash for State {
    /// In few words: most of the time goes into this.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.masters.iter().for_each(|master| state.write_u128(master.packed()));
        let byte = |of: u128, byte: u8| of << 4 | u128::from(byte);
        let workers = self.workers.iter().fold(0, |of, w| {
            let fields = [w.row, w.began, w.runs, w.lease, w.grant, w.promise, w.silent, w.asked];
            fields.into_iter().fold(of, byte)
        });
        state.write_u128(workers);
        let sent = self.sent.iter().fold(0, |of, table| of << 16 | Table::packed(*table));
        let rights = self.rights.iter().fold(sent, |of, right| byte(of, right.map_or(9, |w| w)));
        let flags = u8::from(self.voted_twice) | u8::from(self.epoch_shared) << 1;
        let rest = [self.crashes_left.0, self.crashes_left.1, flags];
        state.write_u128(rest.into_iter().fold(rights, byte));
    }
}

impl State {
    /// Everybody knows that the first worker is to run the service under epoch 1.
    pub(crate) fn first(crashes_left: (u8, u8)) -> Self {
        let table = Table { term: 0, number: 0, epoch: 1, active: 0 };
        let master = Master {
            role: Role::Follower,
            now: Voted::default(),
            disk: Voted::default(),
            answered: Voted::default(),
            promise: 0,
            silent: 0,
            table,
        };
        let mut rights = [None; EPOCHS_MAX];
        rights[1] = Some(0);
        Self {
            masters: [master; MASTERS],
            workers: [Worker { row: 1, ..Worker::default() }; WORKERS],
            sent: [None; TERMS_MAX],
            rights,
            crashes_left,
            voted_twice: false,
            epoch_shared: false,
        }
    }

    /// Whose the right is that this worker knows of.
    pub(crate) fn entitled(&self, worker: usize) -> Option<usize> {
        self.rights[usize::from(self.workers[worker].row)].map(usize::from)
    }

    /// Notes that this board was given an epoch, or uses it.
    pub(crate) fn claim_epoch(&mut self, epoch: u8, worker: u8) {
        let owner = self.rights[usize::from(epoch)].get_or_insert(worker);
        self.epoch_shared |= *owner != worker;
    }

    pub(crate) fn reigns(&self) -> impl Iterator<Item = (&Master, &Reign)> {
        self.masters.iter().filter_map(|master| master.reign().map(|reign| (master, reign)))
    }

    /// The same with the masters in a fixed order: which of them is which makes no difference, since
    /// the bully's order decides only when each of them stands.
    pub(crate) fn canonical(mut self) -> Self {
        const ORDERS: [[u8; MASTERS]; 5] = [[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        let [a, b, c] = &self.masters;
        if a.is_blank() && b.is_blank() && c.is_blank() && a == b && b == c {
            return self;
        }
        let orders = ORDERS.iter().map(|order| reordered(&self.masters, order));
        if let Some(least) = orders.min().filter(|least| *least < self.masters) {
            self.masters = least;
        }
        self
    }
}

/// `places[i]` is where board `i` goes.
fn reordered(masters: &[Master; MASTERS], places: &[u8; MASTERS]) -> [Master; MASTERS] {
    let place = |board: u8| places[usize::from(board)];
    let bits = |of: u8| (0..3).filter(|i| of & 1 << i != 0).map(|i| 1 << place(i)).sum();
    let voted = |voted: Voted| Voted { vote: voted.vote.map(place), ..voted };
    let mut moved = *masters;
    for (old, master) in (0..).zip(masters) {
        moved[usize::from(place(old))] = Master {
            role: match master.role {
                Role::Follower => Role::Follower,
                Role::Standing(votes) => Role::Standing(bits(votes)),
                Role::Leader(reign) => {
                    Role::Leader(Reign { durable: bits(reign.durable), ..reign })
                }
            },
            now: voted(master.now),
            disk: voted(master.disk),
            answered: voted(master.answered),
            ..*master
        };
    }
    moved
}

impl Table {
    fn packed(table: Option<Self>) -> u128 {
        let fields = table.map_or([0; 4], |t| [t.term + 1, t.number, t.epoch, t.active]);
        fields.into_iter().fold(0, |of, field| of << 4 | u128::from(field))
    }
}

impl Master {
    /// All of it, four bits a field.
    fn packed(&self) -> u128 {
        let voted = |v: Voted| [v.term, v.vote.map_or(9, |vote| vote)];
        let role = match self.role {
            Role::Follower => [0; 7],
            Role::Standing(votes) => [1, votes, 0, 0, 0, 0, 0],
            Role::Leader(r) => {
                [2, r.lease, r.answer, u8::from(r.settled), r.durable, r.owed, r.owed_to]
            }
        };
        let votes = [voted(self.now), voted(self.disk), voted(self.answered)];
        let rest = [self.promise, self.silent];
        let fields = role.into_iter().chain(votes.into_iter().flatten()).chain(rest);
        let of = fields.fold(0, |of: u128, field| of << 4 | u128::from(field));
        of << 16 | Table::packed(Some(self.table))
    }

    pub(crate) fn reign(&self) -> Option<&Reign> {
        match &self.role {
            Role::Leader(reign) => Some(reign),
            Role::Follower | Role::Standing(_) => None,
        }
    }

    pub(crate) fn reign_mut(&mut self) -> Option<&mut Reign> {
        match &mut self.role {
            Role::Leader(reign) => Some(reign),
            Role::Follower | Role::Standing(_) => None,
        }
    }

    fn is_blank(&self) -> bool {
        self.role == Role::Follower && self.now == Voted::default()
    }
}
