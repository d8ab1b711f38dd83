//! The directory: every board's copy of the table, to read. Data without behaviour.
//!
//! A master announces each chosen table; members pass it on and keep the newest. It may be old: it
//! says where to ask, never who may run something.

use serde::{Deserialize, Serialize};

use super::id::NodeId;
use super::table::{Table, Version};

/// A chosen table and the master that announced it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Announcement {
    /// Who announced it.
    pub master: NodeId,
    /// The table.
    pub table: Table,
}

/// The newest announcement known.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Directory {
    newest: Option<Announcement>,
}

impl Directory {
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
        let newer = announcement.table.version > self.version();
        if newer {
            self.newest = Some(announcement);
        }
        newer
    }

    /// Differs when two boards know different tables.
    pub fn hash(&self) -> u64 {
        let version = self.version();
        let words = [u64::from(version.generation), version.term.0, version.number];
        words
            .iter()
            .fold(0, |hash, word| (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23))
    }
}
