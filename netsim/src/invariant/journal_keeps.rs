//! What a disk has acknowledged is there after every restart.
//!
//! After a crash a journal may hold more than was acknowledged, but it must be what some number of
//! its records add up to, in order, with all the acknowledged ones among them. The sum is made here
//! anew, not by the journal's own code.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use hedgerow::proto::holdings::Held;
use hedgerow::proto::id::{Digest16, NodeId, OpId};
use hedgerow::proto::journal::{Durable, Record, Tenure};
use hedgerow::proto::order::Instance;
use hedgerow::proto::table::{Table, Version};
use hedgerow::proto::ticket::Revoked;

use super::Invariant;
use crate::observe::{Finding, Findings, Observation, What, kind};

/// What records add up to, in brief.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Sum {
    belongs: Option<Digest16>,
    admission: Option<Digest16>,
    incarnation: u64,
    members: BTreeMap<NodeId, Digest16>,
    revocations: BTreeSet<Revoked>,
    left: bool,
    identity: Option<NodeId>,
    /// Term, vote, milliseconds of the longest lease.
    voter: (u64, Option<NodeId>, u32),
    table: Option<Table>,
    specs: BTreeSet<[u8; 32]>,
    assigned: BTreeMap<Instance, Tenure>,
    pinned: Held,
    /// The newest table acted on, and the longest lease granted.
    saw: Version,
    grants_ms: u32,
}

#[derive(Clone, Default)]
struct Book {
    /// Somebody put an old journal back: what it says is what there is.
    set_back: bool,
    acknowledged: Sum,
    open: VecDeque<(OpId, Record)>,
}

pub(super) struct JournalKeeps {
    books: Vec<Book>,
}

impl JournalKeeps {
    pub(super) fn new(boards: usize) -> Self {
        Self { books: vec![Book::default(); boards] }
    }
}

impl Sum {
    fn of(durable: &Durable) -> Self {
        let members = durable.members.iter();
        Self {
            belongs: durable.belonging.as_ref().map(|b| b.credential.ticket.digest()),
            admission: durable.admission.as_ref().map(|admission| admission.digest()),
            incarnation: durable.incarnation.0,
            members: members.map(|(node, joined)| (*node, joined.record.digest())).collect(),
            revocations: durable.revocations.keys().copied().collect(),
            left: durable.left,
            identity: durable.identity,
            voter: (durable.voter.term.0, durable.voter.vote, durable.voter.lease_ms),
            table: durable.table.clone(),
            specs: durable.specs.keys().copied().collect(),
            assigned: durable.assigned.clone(),
            pinned: durable.pinned.clone(),
            saw: durable.saw,
            grants_ms: durable.grants_ms,
        }
    }

    /// Whether both say the same. Orders that no row names any more may have been dropped meanwhile.
    fn is(&self, found: &Self) -> bool {
        let named = |sum: &Self| -> BTreeSet<[u8; 32]> {
            let rows = sum.table.iter().flat_map(|table| &table.rows);
            let rows = rows.chain(sum.assigned.values().map(|tenure| &tenure.row));
            rows.map(|row| row.spec).filter(|spec| sum.specs.contains(spec)).collect()
        };
        let without = |sum: &Self| Self { specs: BTreeSet::new(), ..sum.clone() };
        named(self) == named(found) && without(self) == without(found)
    }

    fn with(&mut self, instance: &Instance, change: impl FnOnce(&mut Tenure)) {
        if let Some(tenure) = self.assigned.get_mut(instance) {
            change(tenure);
        }
    }

    fn add(&mut self, record: &Record) {
        match record {
            Record::Belongs { credential, .. } => {
                let ticket = Some(credential.ticket.digest());
                // An admission is by one ticket.
                self.admission = self.admission.filter(|_| self.belongs == ticket);
                self.belongs = ticket;
                self.left = false;
            }
            Record::Admission(admission) => self.admission = Some(admission.digest()),
            Record::Incarnations { upto } => self.incarnation = self.incarnation.max(upto.0),
            Record::Member(joined) => {
                if let Ok(record) = joined.record.peek() {
                    self.members.insert(record.node, joined.record.digest());
                }
            }
            Record::Forget(node) => {
                self.members.remove(node);
            }
            Record::Revocation(signed) => {
                self.revocations.extend(signed.peek().ok().map(|revocation| revocation.target));
            }
            Record::Left => self.left = true,
            Record::Term { term, vote, lease_ms } => self.voter = (term.0, *vote, *lease_ms),
            Record::Table(table) => {
                let alone = |table: &&Table| {
                    table.incoming.is_none()
                        && self.identity.is_some_and(|me| *table.voters == [me])
                };
                if let Some(chosen) = self.table.as_ref().filter(alone) {
                    self.saw = self.saw.max(chosen.version);
                }
                self.table = Some((**table).clone());
            }
            Record::Identity(node) => self.identity = Some(*node),
            Record::Spec(order) => {
                self.specs.insert(order.hash());
            }
            Record::Assigned(row) => {
                let fresh = Tenure::new((**row).clone());
                self.assigned.entry(row.instance()).or_insert(fresh).row = (**row).clone();
            }
            Record::Unassigned(instance) => drop(self.assigned.remove(instance)),
            Record::Began(instance, epoch) => {
                self.with(instance, |tenure| tenure.began = Some(*epoch));
            }
            Record::Released { instance, epoch, to, last } => {
                self.with(instance, |tenure| tenure.released = Some((*epoch, *to, *last)));
            }
            Record::Switching { instance, revision } => {
                self.with(instance, |tenure| tenure.switching = Some(*revision));
            }
            Record::Pinned { instance, states } => {
                self.pinned.insert(instance.clone(), states.iter().copied().collect());
                self.pinned.retain(|_, states| !states.is_empty());
            }
            Record::Saw(version) => self.saw = self.saw.max(*version),
            Record::Grants { lease_ms } => self.grants_ms = self.grants_ms.max(*lease_ms),
        }
    }
}

impl Book {
    /// Whether `found` is what the acknowledged records and some of the next ones add up to.
    fn explains(&self, found: &Sum) -> bool {
        let mut sum = self.acknowledged.clone();
        if sum.is(found) {
            return true;
        }
        self.open.iter().any(|(_, record)| {
            sum.add(record);
            sum.is(found)
        })
    }
}

impl Invariant for JournalKeeps {
    fn name(&self) -> &'static str {
        "nothing-acknowledged-is-lost"
    }

    fn means(&self) -> &'static str {
        "What a disk has acknowledged is there again after every restart."
    }

    fn wants(&self) -> u16 {
        kind::LIFE | kind::EFFECT | kind::DURABLE
    }

    fn on(&mut self, seen: &Observation<'_>, findings: &mut Findings) {
        let name = self.name();
        let book = &mut self.books[usize::from(seen.board)];
        match seen.what {
            What::Durable(op) => {
                if let Some((first, record)) = book.open.pop_front() {
                    book.acknowledged.add(&record);
                    if first != op {
                        let text = format!("{op:?} was acknowledged before {first:?}");
                        let board = Some(seen.board);
                        findings.push(Finding { at: seen.at, rule: name, board, text });
                    }
                }
            }
            What::DiskLost => *book = Book::default(),
            What::SetBack => book.set_back = true,
            What::Boot(boot) => {
                let found = Sum::of(boot.durable);
                // Written before the first life begins, by the driver.
                book.acknowledged.identity = Some(boot.node);
                if !book.set_back && !book.explains(&found) {
                    let text = format!(
                        "acknowledged was {:?}, the journal says {found:?}",
                        book.acknowledged
                    );
                    let board = Some(seen.board);
                    findings.push(Finding { at: seen.at, rule: name, board, text });
                }
                *book = Book { acknowledged: found, ..Book::default() };
            }
            what => {
                if let Some((op, record)) = what.record() {
                    book.open.push_back((op, record.clone()));
                }
            }
        }
    }
}
