//! The orders behind the rows of the table, by hash. Data without behaviour.
//!
//! A row names its specification by hash; the order itself is fetched from whoever has it. A voter
//! counts a table as durable only once it has every order that the table names, so that a new master
//! can always place what it finds.

use std::collections::{BTreeMap, VecDeque};

use super::order::{Action, SignedOrder};
use super::spec::ServiceSpec;
use super::table::Table;

/// Orders that are kept: one per row, and those that rows have just stopped naming.
pub const SPECS_MAX: usize = 2048;

/// The newest orders are kept although no row names them: one that is being chosen has none yet.
const NEWEST_MAX: usize = 512;

/// BLAKE3 of a signed order.
pub type SpecHash = [u8; 32];

/// The orders known here.
#[derive(Clone, Default, Debug)]
pub struct Specs {
    known: BTreeMap<SpecHash, (SignedOrder, ServiceSpec)>,
    /// Oldest first.
    newest: VecDeque<SpecHash>,
}

impl Specs {
    /// Keeps a verified order, if it is one that runs something and there is room.
    pub fn put(&mut self, signed: SignedOrder) -> Option<SpecHash> {
        let hash = signed.hash();
        let Ok(Action::Run(spec)) = signed.order.peek().map(|order| order.action) else {
            return None;
        };
        if self.known.len() >= SPECS_MAX && !self.known.contains_key(&hash) {
            return None;
        }
        if self.known.insert(hash, (signed, *spec)).is_none() {
            self.newest.push_back(hash);
            if self.newest.len() > NEWEST_MAX {
                self.newest.pop_front();
            }
        }
        Some(hash)
    }

    /// Once half of the room is used, forgets what nobody names any more.
    pub fn retain(&mut self, named: impl Fn(&SpecHash) -> bool) {
        if self.known.len() > SPECS_MAX / 2 {
            let newest = &self.newest;
            self.known.retain(|hash, _| named(hash) || newest.contains(hash));
        }
    }

    /// The specification of that hash.
    pub fn get(&self, hash: &SpecHash) -> Option<&ServiceSpec> {
        self.known.get(hash).map(|(_, spec)| spec)
    }

    /// The order of that hash, to pass on.
    pub fn order(&self, hash: &SpecHash) -> Option<&SignedOrder> {
        self.known.get(hash).map(|(signed, _)| signed)
    }

    /// What a table names and is not known.
    pub fn missing<'a>(&'a self, table: &'a Table) -> impl Iterator<Item = SpecHash> + 'a {
        table.rows.iter().map(|row| row.spec).filter(|hash| !self.known.contains_key(hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::order::samples::run;

    #[test]
    fn an_order_that_is_being_chosen_is_kept_when_nobody_names_it_yet() {
        let mut specs = Specs::default();
        let hashes: Vec<_> =
            (0..SPECS_MAX as u64).map(|n| specs.put(run(n)).expect("there is room")).collect();
        assert_eq!(specs.put(run(u64::MAX)), None, "there is no room");

        specs.retain(|hash| *hash == hashes[0]);
        let kept: Vec<bool> = hashes.iter().map(|hash| specs.get(hash).is_some()).collect();
        let newest = SPECS_MAX - NEWEST_MAX;
        assert!(kept[0], "a row names it");
        assert!(kept[1..newest].iter().all(|kept| !kept), "nobody wants them");
        assert!(kept[newest..].iter().all(|kept| *kept), "they may be chosen still");
    }
}
