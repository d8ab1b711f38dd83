//! The directory: every board's copy of the table, to read. Data without behaviour.
//!
//! A master announces each chosen table; members pass it on and keep the newest. It may be old: it
//! says where to ask, never who may run something.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::id::NodeId;
use super::order::{Instance, Serving};
use super::signed::Signed;
use super::table::{ROWS_MAX, Table, Version};

/// Instances whose places are kept.
pub const SERVING_MAX: usize = 2 * ROWS_MAX;

/// A chosen table and the master that announced it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Announcement {
    /// Who announced it.
    pub master: NodeId,
    /// The table.
    pub table: Table,
}

/// The newest announcement, and where instances serve.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Directory {
    /// Older tables are not believed: this board acted on that one in an earlier life.
    floor: Version,
    newest: Option<Announcement>,
    serving: BTreeMap<Instance, (Serving, Signed<Serving>)>,
}

impl Directory {
    /// The directory of a board that has acted on the table of version `floor`.
    pub fn new(floor: Version) -> Self {
        Self { floor, ..Self::default() }
    }

    /// The newest announcement.
    pub fn newest(&self) -> Option<&Announcement> {
        self.newest.as_ref()
    }

    /// Its version; the lowest one if there is none.
    pub fn version(&self) -> Version {
        self.newest.as_ref().map_or_else(Version::default, |newest| newest.table.version)
    }

    /// Keeps an announcement if it is newer than what is known. Returns whether it was.
    pub fn put(&mut self, announcement: Announcement) -> bool {
        let version = announcement.table.version;
        let newer = version > self.version() && version >= self.floor;
        if newer {
            self.newest = Some(announcement);
        }
        newer
    }

    /// Where an instance serves, by the newest word of its active.
    pub fn serving(&self, instance: &Instance) -> Option<&Serving> {
        self.serving.get(instance).map(|(serving, _)| serving)
    }

    /// Every word about where instances serve.
    pub fn all_serving(&self) -> impl Iterator<Item = &Signed<Serving>> {
        self.serving.values().map(|(_, signed)| signed)
    }

    /// Whether a word about where an instance serves is as new as what is known, so that its signature is not
    /// worth checking.
    pub fn knows_serving(&self, serving: &Serving) -> bool {
        let known = self.serving.get(&serving.instance);
        known.is_some_and(|(known, _)| known.age() >= serving.age())
    }

    /// Keeps a verified word about where an instance serves, if it is newer than what is known, and
    /// forgets those about instances that the table does not name. Returns whether it was news.
    pub fn put_serving(&mut self, serving: Serving, signed: Signed<Serving>) -> bool {
        if self.knows_serving(&serving) {
            return false;
        }
        let is_new = !self.serving.contains_key(&serving.instance);
        if self.serving.len() >= SERVING_MAX && is_new {
            let table = self.newest.as_ref().map(|newest| &newest.table);
            self.serving.retain(|instance, _| table.is_some_and(|t| t.row(instance).is_some()));
            if self.serving.len() >= SERVING_MAX {
                return false;
            }
        }
        self.serving.insert(serving.instance.clone(), (serving, signed));
        true
    }

    /// Forgets what a board said of itself.
    pub fn forget_serving(&mut self, node: &NodeId) {
        self.serving.retain(|_, (serving, _)| serving.node != *node);
    }

    /// Differs when two boards know different tables or places.
    pub fn hash(&self) -> u64 {
        let version = self.version();
        let stamps = self
            .serving
            .values()
            .map(|(serving, _)| serving.epoch.0 ^ serving.life.0.rotate_left(20) ^ serving.stamp);
        let stamps = stamps.fold(0, |hash: u64, stamp| hash.rotate_left(7) ^ stamp);
        let words = [u64::from(version.generation.0), version.term.0, version.number, stamps];
        words
            .iter()
            .fold(0, |hash, word| (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23))
    }
}
