//! The list of members: data without behaviour.
//!
//! `membership` is its one writer; everyone else reads. The list keeps its own hashes up to date,
//! so that two boards find out in 8 bytes whether they agree, and in 64 hashes where they do not.

use std::collections::{BTreeMap, BTreeSet};

use super::id::{Incarnation, NodeId};
use super::machine::Time;
use super::record::{Admission, NodeRecord};
use super::signed::Signed;
use super::ticket::{Credential, Revocation, Revoked};
use super::wire::gossip::{BUCKETS, Entry, Joined, Standing};

/// Members of one cell, the dead and the departed included.
pub const MEMBERS_MAX: usize = 4096;
/// Revocations that are kept.
pub const REVOCATIONS_MAX: usize = 1024;

/// One member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// What it says of itself.
    pub record: NodeRecord,
    /// The same, as it was signed.
    pub signed: Signed<NodeRecord>,
    /// The chain from root that let it in.
    pub credential: Credential,
    /// Who let it in.
    pub admission: Option<Signed<Admission>>,
    /// Up, down or left.
    pub standing: Standing,
    /// Since when, by this node's clock.
    pub since: Time,
}

/// Every member that this node has heard of, itself included.
#[derive(Clone, Default, Debug)]
pub struct Members {
    list: BTreeMap<NodeId, Member>,
    revoked: BTreeMap<Revoked, Signed<Revocation>>,
    buckets: Buckets,
    revocations: u64,
}

#[derive(Clone, Debug)]
struct Buckets([u64; BUCKETS]);

impl Default for Buckets {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

impl Member {
    /// The highest incarnation known.
    pub fn incarnation(&self) -> Incarnation {
        self.record.incarnation
    }

    /// Everything another board needs to accept this member.
    pub fn joined(&self) -> Joined {
        Joined {
            record: self.signed.clone(),
            credential: self.credential.clone(),
            admission: self.admission.clone(),
        }
    }

    /// This member's line in the list.
    pub fn entry(&self) -> Entry {
        Entry { node: self.record.node, incarnation: self.incarnation(), standing: self.standing }
    }
}

impl Members {
    /// The member with this id.
    pub fn get(&self, node: &NodeId) -> Option<&Member> {
        self.list.get(node)
    }

    /// All members in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (&NodeId, &Member)> {
        self.list.iter()
    }

    /// All members that are believed to be there, this node included.
    pub fn up(&self) -> impl Iterator<Item = (&NodeId, &Member)> {
        self.list.iter().filter(|(_, member)| member.standing == Standing::Up)
    }

    /// How many are known, in any standing.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// True before this node has put itself in.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// True if `node` is known and believed to be there.
    pub fn is_up(&self, node: &NodeId) -> bool {
        self.list.get(node).is_some_and(|member| member.standing == Standing::Up)
    }

    /// Puts in or replaces a member. Gives it back when the list is full of living members; a
    /// departed or dead one makes room.
    pub fn put(&mut self, member: Member) -> Result<(), Box<Member>> {
        let node = member.record.node;
        if !self.list.contains_key(&node) && self.list.len() >= MEMBERS_MAX {
            let gone = self
                .list
                .iter()
                .filter(|(_, member)| member.standing != Standing::Up)
                .min_by_key(|(_, member)| member.since)
                .map(|(node, _)| *node);
            let Some(gone) = gone else { return Err(Box::new(member)) };
            self.remove(&gone);
        }
        self.toggle(&member.entry());
        if let Some(before) = self.list.insert(node, member) {
            self.toggle(&before.entry());
        }
        Ok(())
    }

    /// Changes what became of a member. Returns whether that was news.
    pub fn set_standing(&mut self, node: &NodeId, standing: Standing, now: Time) -> bool {
        let Some(member) = self.list.get_mut(node) else { return false };
        if member.standing == standing {
            return false;
        }
        let before = member.entry();
        member.standing = standing;
        member.since = now;
        let after = member.entry();
        self.toggle(&before);
        self.toggle(&after);
        true
    }

    /// Forgets a member.
    pub fn remove(&mut self, node: &NodeId) -> Option<Member> {
        let member = self.list.remove(node)?;
        self.toggle(&member.entry());
        Some(member)
    }

    /// Keeps a revocation. Returns whether it was new; past [`REVOCATIONS_MAX`] it is not kept.
    ///
    /// A revoked node is not compared any more: who comes later never hears of it, and what the others know of it
    /// would differ for ever.
    pub fn revoke(&mut self, target: Revoked, signed: Signed<Revocation>) -> bool {
        if self.revoked.contains_key(&target) || self.revoked.len() >= REVOCATIONS_MAX {
            return false;
        }
        if let Revoked::Node(node) = target
            && let Some(entry) = self.list.get(&node).map(Member::entry)
        {
            self.toggle(&entry);
        }
        // Said twice, it is signed twice, and each board keeps what it heard first: compared is what was revoked.
        self.revocations ^= match target {
            Revoked::Ticket(ticket) => mix(hash_of(&ticket.0)),
            Revoked::Node(node) => hash_of(&node.0),
        };
        self.revoked.insert(target, signed);
        true
    }

    /// Whether this ticket or node was revoked.
    pub fn is_revoked(&self, target: &Revoked) -> bool {
        self.revoked.contains_key(target)
    }

    /// Whether it is a member that the operator has not revoked: its word counts.
    pub fn is_welcome(&self, node: &NodeId) -> bool {
        self.list.contains_key(node) && !self.is_revoked(&Revoked::Node(*node))
    }

    /// Whether it has left on purpose, or is out for good.
    pub fn has_left(&self, node: &NodeId) -> bool {
        let left = self.list.get(node).is_some_and(|member| member.standing == Standing::Left);
        left || self.is_revoked(&Revoked::Node(*node))
    }

    /// All revocations.
    pub fn revocations(&self) -> impl Iterator<Item = (&Revoked, &Signed<Revocation>)> {
        self.revoked.iter()
    }

    /// The hash of each bucket, and the one of the revocations.
    pub fn hashes(&self) -> (&[u64; BUCKETS], u64) {
        (&self.buckets.0, self.revocations)
    }

    /// The lines of some buckets (a bit mask).
    pub fn entries(&self, buckets: u64) -> impl Iterator<Item = Entry> {
        self.list
            .iter()
            .filter(move |(node, _)| buckets & (1 << bucket_of(node)) != 0)
            .filter(|(node, _)| !self.is_revoked(&Revoked::Node(**node)))
            .map(|(_, member)| member.entry())
    }

    /// The nodes of some buckets (a bit mask).
    pub fn nodes_in(&self, buckets: u64) -> BTreeSet<NodeId> {
        self.entries(buckets).map(|entry| entry.node).collect()
    }

    /// Eight bytes that are equal when two boards agree about everyone.
    pub fn view_hash(&self) -> u64 {
        self.buckets.0.iter().fold(mix(self.revocations), |hash, bucket| mix(hash ^ bucket))
    }

    fn toggle(&mut self, entry: &Entry) {
        if self.is_revoked(&Revoked::Node(entry.node)) {
            return;
        }
        let standing = match entry.standing {
            Standing::Up => 1,
            Standing::Down => 2,
            Standing::Left => 3,
        };
        let hash = mix(hash_of(&entry.node.0) ^ mix(entry.incarnation.0) ^ mix(!standing));
        self.buckets.0[bucket_of(&entry.node)] ^= hash;
    }
}

/// Which bucket a member's line is in.
pub fn bucket_of(node: &NodeId) -> usize {
    usize::from(node.0[0]) % BUCKETS
}

fn hash_of(bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(0, |hash, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mix(hash ^ u64::from_le_bytes(word))
    })
}

/// The finaliser of SplitMix64: a cheap bijection that spreads every bit. Not a security boundary:
/// a member that forges collisions only delays its own news.
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
