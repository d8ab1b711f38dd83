//! Parts of an exam, for several that run at once.

use std::str::FromStr;

use anyhow::{Context, Result};

/// A part of the mutants, such as 1/4: the first of four.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shard {
    /// From 1.
    number: usize,
    of: usize,
}

impl FromStr for Shard {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split_once('/').and_then(|(number, of)| {
            Some(Self { number: number.parse().ok()?, of: of.parse().ok()? })
        });
        parts
            .filter(|shard| (1..=shard.of).contains(&shard.number))
            .with_context(|| format!("{text}: give a shard as 1/4 to 4/4"))
    }
}

impl Shard {
    /// Whether the mutant with this number, from 0, is in it.
    pub fn holds(self, nth: usize) -> bool {
        nth % self.of == self.number - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_a_sample_is_in_one_shard() {
        for of in 1..=7 {
            for nth in 0..60 {
                let shards = (1..=of).filter(|number| Shard { number: *number, of }.holds(nth));
                assert_eq!(shards.count(), 1, "{nth} of {of} shards");
            }
        }
    }

    #[test]
    fn shards_that_do_not_exist_are_refused() {
        assert_eq!("4/4".parse::<Shard>().unwrap(), Shard { number: 4, of: 4 });
        for text in ["0/4", "5/4", "0/0", "1", "a/b", "-1/4"] {
            text.parse::<Shard>().unwrap_err();
        }
    }
}
