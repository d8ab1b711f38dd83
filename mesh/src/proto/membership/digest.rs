//! The digest: finding out, in few bytes, what a push missed.
//!
//! ```text
//! A ── Summary: 64 hashes ──────────────────────▶ B   when their view hashes differ for a while,
//! A ◀── Entries: B's lines of differing buckets ── B   and now and then with a random member
//! A ── Facts: what B lacks; Entries(reply) ──────▶ B
//! A ◀── Facts: what A lacks ────────────────────── B
//! ```

use core::cmp::Reverse;
use core::time::Duration;
use std::collections::BTreeMap;

use rand_chacha::rand_core::Rng;

use super::Membership;
use crate::proto::bounded::List;
use crate::proto::id::NodeId;
use crate::proto::machine::Time;
use crate::proto::members::bucket_of;
use crate::proto::ticket::Revoked;
use crate::proto::turn::Turn;
use crate::proto::wire::gossip::{BUCKETS, ENTRIES_MAX, Entries, Entry, Fact, Standing, Summary};

/// Views that differ for less are news on the way.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a random member is wanted for a comparison.
const ERRAND: Duration = Duration::from_secs(15);

/// Since when the view of each link differs from the own one.
#[derive(Default, Debug)]
pub(super) struct Compare {
    differs_since: BTreeMap<NodeId, Time>,
}

impl Compare {
    pub(super) fn drop_link(&mut self, link: &NodeId) {
        self.differs_since.remove(link);
    }
}

impl Membership {
    /// A probe or an ack told the other side's view hash.
    pub(super) fn on_view(&mut self, turn: &mut Turn<'_>, from: NodeId, view: u64) {
        if view == turn.view_hash() {
            self.compare.differs_since.remove(&from);
            return;
        }
        let since = *self.compare.differs_since.entry(from).or_insert(turn.now);
        if turn.now.since(since) >= PATIENCE {
            self.compare.differs_since.insert(from, turn.now);
            self.send_summary(turn, from);
        }
    }

    pub(super) fn send_summary(&mut self, turn: &mut Turn<'_>, to: NodeId) {
        let (buckets, revocations) = turn.members.hashes();
        let directory = turn.directory.hash();
        let summary = Summary { buckets: List::capped(*buckets), revocations, directory };
        turn.send(to, summary);
    }

    /// Compares with everybody who is there; whoever is not linked yet does when the link stands.
    pub(crate) fn compare_with_all(&mut self, turn: &mut Turn<'_>) {
        let me = turn.me.id();
        let up: Vec<NodeId> = turn.members.up().map(|(node, _)| *node).collect();
        for node in up.into_iter().filter(|node| *node != me) {
            turn.links.want_until(node, turn.now + ERRAND, turn.now);
            if turn.links.is_usable(&node) {
                self.send_summary(turn, node);
            }
        }
    }

    pub(crate) fn on_summary(&mut self, turn: &mut Turn<'_>, from: NodeId, summary: &Summary) {
        let (mine, revocations) = turn.members.hashes();
        if summary.buckets.len() != BUCKETS {
            return turn.misbehaved(from, "a summary of the wrong length");
        }
        let differing = (0..BUCKETS)
            .filter(|bucket| mine[*bucket] != summary.buckets[*bucket])
            .fold(0, |mask, bucket| mask | 1 << bucket);
        let rest_differs =
            revocations != summary.revocations || turn.directory.hash() != summary.directory;
        if rest_differs {
            self.send_rest(turn, from);
        }
        if differing != 0 || rest_differs {
            send_entries(turn, from, differing, rest_differs, false);
        }
    }

    /// Everything that is compared as a whole: revocations, the table, and who serves where.
    fn send_rest(&mut self, turn: &Turn<'_>, to: NodeId) {
        for (_, signed) in turn.members.revocations() {
            self.outbox.push(to, Fact::Revoked(Box::new(signed.clone())), turn.now);
        }
        if let Some(newest) = turn.directory.newest() {
            self.outbox.push(to, Fact::Chosen(Box::new(newest.clone())), turn.now);
        }
        for signed in turn.directory.all_serving() {
            self.outbox.push(to, Fact::Serving(Box::new(signed.clone())), turn.now);
        }
    }

    pub(crate) fn on_entries(&mut self, turn: &mut Turn<'_>, from: NodeId, theirs: &Entries) {
        if theirs.entries.iter().any(|e| theirs.buckets & (1 << bucket_of(&e.node)) == 0) {
            return turn.misbehaved(from, "entries outside of their buckets");
        }
        let mut missing = turn.members.nodes_in(theirs.buckets);
        let mut newer_there = 0;
        for entry in &theirs.entries {
            if turn.members.is_revoked(&Revoked::Node(entry.node)) {
                continue;
            }
            missing.remove(&entry.node);
            if entry.node == turn.me.id() {
                // Others may remember a life that this node forgot: a restored backup.
                self.on_own_entry(turn, from, entry);
            }
            let mine = turn.members.get(&entry.node).map(|member| member.entry());
            let rank = |entry: &Entry| (entry.incarnation, entry.standing);
            match mine {
                Some(mine) if rank(&mine) > rank(entry) => {
                    let has_record = mine.incarnation == entry.incarnation;
                    for fact in self.facts_about(turn, &entry.node, has_record) {
                        self.outbox.push(from, fact, turn.now);
                    }
                }
                Some(mine) if rank(&mine) == rank(entry) => {}
                _ => newer_there |= 1 << bucket_of(&entry.node),
            }
        }
        for node in missing {
            for fact in self.facts_about(turn, &node, false) {
                self.outbox.push(from, fact, turn.now);
            }
        }
        if theirs.rest && !theirs.reply {
            self.send_rest(turn, from);
        }
        if newer_there != 0 && !theirs.reply {
            send_entries(turn, from, newer_there, false, true);
        }
    }

    /// Everything that brings another board to the same line about `node`.
    pub(super) fn facts_about(
        &self,
        turn: &Turn<'_>,
        node: &NodeId,
        has_record: bool,
    ) -> Vec<Fact> {
        let Some(member) = turn.members.get(node) else { return Vec::new() };
        let mut facts = Vec::new();
        if !has_record {
            facts.push(Fact::Joined(Box::new(member.joined())));
        }
        match member.standing {
            Standing::Up => {}
            Standing::Down => {
                facts.push(Fact::Down { subject: *node, incarnation: member.incarnation() });
            }
            Standing::Left => {
                facts
                    .extend(self.leaves.get(node).map(|leave| Fact::Left(Box::new(leave.clone()))));
            }
        }
        facts
    }

    /// Now and then: compare with a random member, and see whether a dead one came back.
    pub(super) fn wander(&mut self, turn: &mut Turn<'_>) {
        let interval = self.timing.wander_interval;
        self.wander_at = turn.now + interval - interval / 8 / 256 * (turn.rng.next_u32() >> 24);
        let me = turn.me.id();
        // The smaller of two draws: whoever changed lately is tried more often, or the long dead would
        // keep a board that has just come back waiting.
        let pick = |standing: Standing, turn: &mut Turn<'_>| {
            let mut all: Vec<(Reverse<Time>, NodeId)> = turn
                .members
                .iter()
                .filter(|(node, member)| member.standing == standing && **node != me)
                .map(|(node, member)| (Reverse(member.since), *node))
                .collect();
            all.sort_unstable();
            let len = all.len().max(1) as u64;
            let draws = [turn.rng.next_u64() % len, turn.rng.next_u64() % len];
            all.get(draws[0].min(draws[1]) as usize).map(|(_, node)| *node)
        };
        for node in [pick(Standing::Up, turn), pick(Standing::Down, turn)].into_iter().flatten() {
            turn.links.want_until(node, turn.now + ERRAND, turn.now);
            if turn.links.is_usable(&node) {
                self.send_summary(turn, node);
            }
        }
    }
}

fn send_entries(turn: &mut Turn<'_>, to: NodeId, wanted: u64, rest: bool, reply: bool) {
    let mut entries = List::<Entry, ENTRIES_MAX>::new();
    let mut buckets = 0;
    for bucket in (0..BUCKETS).filter(|bucket| wanted & (1 << bucket) != 0) {
        let lines: Vec<Entry> = turn.members.entries(1 << bucket).collect();
        if entries.len() + lines.len() > ENTRIES_MAX {
            break;
        }
        buckets |= 1 << bucket;
        for line in lines {
            entries.push(line).unwrap_or_else(|_| unreachable!("room was checked above"));
        }
    }
    turn.send(to, Entries { buckets, entries, rest, reply });
}
