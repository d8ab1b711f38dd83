//! What boards have promised to actives, recomputed from the grants that left them.
//!
//! A helper of invariants, itself none. A grant of length L binds its grantor for L (1+ρ)/(1−ρ) on its
//! own clock, ρ = 1 %: on any clock within the bound for at least L/(1−ρ) of true time. A restart
//! changes nothing; a new identity has promised nothing. What a board grants to itself is no message
//! and binds nobody else.
//!
//! A holder that has it on its disk that it gave its right up for good (3b.1) is owed nothing more.

use std::collections::BTreeMap;

use hedgerow::proto::id::{NodeId, OpId};
use hedgerow::proto::io::Effect;
use hedgerow::proto::journal::Record;
use hedgerow::proto::order::Instance;
use hedgerow::proto::wire::Message;

use crate::observe::{Observation, What, kind};
use crate::time::{MILLI, Nanos};

/// One promise.
#[derive(Clone, Copy, Debug)]
pub(super) struct Promised {
    /// To whom.
    pub(super) to: NodeId,
    /// Under which right.
    pub(super) epoch: u64,
    /// True time until which it binds at the least, ns.
    pub(super) until: Nanos,
}

/// The kinds of observation that [`Promises`] needs.
pub(super) const WANTS: u16 = kind::LIFE | kind::SENT | kind::EFFECT | kind::DURABLE;

/// All of them.
pub(super) struct Promises {
    /// Who each board is now.
    nodes: Vec<Option<NodeId>>,
    /// By grantor and instance: the newest to each holder and epoch.
    made: BTreeMap<(NodeId, Instance), Vec<Promised>>,
    /// The newest right that each holder gave up, durably, and records about that on their way to a disk.
    released: BTreeMap<(NodeId, Instance), u64>,
    open: BTreeMap<(usize, OpId), (Instance, u64)>,
}

impl Promises {
    pub(super) fn new(boards: usize) -> Self {
        Self {
            nodes: vec![None; boards],
            made: BTreeMap::new(),
            released: BTreeMap::new(),
            open: BTreeMap::new(),
        }
    }

    /// Who the board of an observation is.
    pub(super) fn node(&self, seen: &Observation<'_>) -> Option<NodeId> {
        self.nodes[usize::from(seen.board)]
    }

    /// The promises of `by` that bind at `at`.
    pub(super) fn binding(
        &self,
        by: NodeId,
        instance: &Instance,
        at: Nanos,
    ) -> impl Iterator<Item = Promised> + '_ {
        let of = instance.clone();
        self.running(by, instance, at).filter(move |promised| {
            // Whoever gives a right up runs none of those before it either.
            let given_up = self.released.get(&(promised.to, of.clone()));
            given_up.is_none_or(|upto| promised.epoch > *upto)
        })
    }

    /// The same with those that nobody is owed any more: `by` may not have heard of that yet.
    pub(super) fn running(
        &self,
        by: NodeId,
        instance: &Instance,
        at: Nanos,
    ) -> impl Iterator<Item = Promised> + '_ {
        let made = self.made.get(&(by, instance.clone())).into_iter().flatten().copied();
        made.filter(move |promised| promised.until > at)
    }

    /// Whether `by` has ever promised anything.
    pub(super) fn until(&self, by: NodeId) -> Nanos {
        let made = self.made.iter().filter(|((grantor, _), _)| *grantor == by);
        made.flat_map(|(_, made)| made).map(|promised| promised.until).max().unwrap_or(0)
    }

    fn give_up(&mut self, node: NodeId, instance: Instance, epoch: u64) {
        let upto = self.released.entry((node, instance)).or_default();
        *upto = epoch.max(*upto);
    }

    /// Takes note.
    pub(super) fn on(&mut self, seen: &Observation<'_>) {
        let board = usize::from(seen.board);
        match seen.what {
            What::Boot(boot) => {
                self.nodes[board] = Some(boot.node);
                self.open.retain(|(of, _), _| *of != board);
                // What was on its way to the disk when the board died may have come there.
                for (instance, tenure) in &boot.durable.assigned {
                    if let Some((epoch, ..)) = tenure.released {
                        self.give_up(boot.node, instance.clone(), epoch.0);
                    }
                }
            }
            What::DiskLost => self.nodes[board] = None,
            What::Durable(op) => {
                if let (Some((instance, epoch)), Some(node)) =
                    (self.open.remove(&(board, op)), self.nodes[board])
                {
                    self.give_up(node, instance, epoch);
                }
            }
            What::Sent(Effect::Send { to, message: Message::Grant(grant) }, _) => {
                let Some(node) = self.nodes[board] else { return };
                let lasts = u64::from(grant.lease_ms) * MILLI * 100 / 99;
                let (epoch, until) = (grant.epoch.0, seen.at + lasts);
                let made = self.made.entry((node, grant.instance.clone())).or_default();
                made.retain(|promised| promised.until > seen.at);
                match made.iter_mut().find(|known| known.to == *to && known.epoch == epoch) {
                    Some(known) => known.until = known.until.max(until),
                    None => made.push(Promised { to: *to, epoch, until }),
                }
            }
            what => {
                if let Some((op, Record::Released { instance, epoch, .. })) = what.record() {
                    self.open.insert((board, op), (instance.clone(), epoch.0));
                }
            }
        }
    }
}
