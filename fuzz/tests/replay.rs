//! The corpus, and a bounded number of seeded random changes of every seed: the same ones each time.

#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain has failed")]

use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::path::Path;
use std::time::Instant;

use hedgerow_fuzz::{TARGETS, Target, target};

/// Longer inputs than this only cost time.
const INPUT_BYTES_MAX: usize = 16 * 1024;

fn corpus(target: &Target) -> BTreeMap<String, Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| {
        panic!("{}: {error}; cargo run -p hedgerow-fuzz --example seeds", folder.display())
    });
    let read = |path: &Path| std::fs::read(path).unwrap();
    files
        .map(|file| file.unwrap())
        .map(|f| (f.path().display().to_string(), read(&f.path())))
        .collect()
}

#[test]
fn whatever_was_found_once_does_no_harm_any_more() {
    for target in TARGETS {
        let files = corpus(&target);
        assert!(!files.is_empty(), "{} has no seeds", target.name);
        for (name, bytes) in files {
            assert!(catch_unwind(|| (target.run)(&bytes)).is_ok(), "{name}");
        }
    }
}

/// One test each, so that they run side by side.
macro_rules! mutations {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            mutate(target(stringify!($name)).unwrap());
        })*

        #[test]
        fn every_target_is_here() {
            let here = [$(stringify!($name)),*];
            assert_eq!(here.to_vec(), TARGETS.map(|target| target.name).to_vec());
        }
    };
}

mutations!(frame journal manifest node records restore ticket transfer);

fn mutate(target: Target) {
    let seeds: Vec<Vec<u8>> = (target.seeds)().into_iter().map(|(_, bytes)| bytes).collect();
    for seed in &seeds {
        (target.run)(seed);
    }
    let began = Instant::now();
    let mut dice = Dice(0x6865_6467_6572_6f77);
    for round in 0..target.mutations {
        let input = dice.change(&seeds);
        if catch_unwind(|| (target.run)(&input)).is_err() {
            let file = std::env::temp_dir().join(format!("hedgerow-fuzz-{}-{round}", target.name));
            std::fs::write(&file, &input).unwrap();
            panic!(
                "change {round}: cargo run -p hedgerow-fuzz -- {} {}; once it is mended, keep the file in fuzz/corpus/{}/",
                target.name,
                file.display(),
                target.name,
            );
        }
    }
    println!("{}: {} changes in {:?}", target.name, target.mutations, began.elapsed());
}

/// Dice that fall the same way in every run (splitmix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    /// One of the seeds with one to eight changes: mostly small ones, sometimes a stretch of another.
    fn change(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = seeds[self.below(seeds.len())].clone();
        for _ in 0..1 << self.below(4) {
            let at = self.below(bytes.len());
            let scale = self.below(8);
            let len = 1 + self.below(1 << scale);
            let end = (at + len).min(bytes.len());
            match self.below(9) {
                0 | 1 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                2 | 3 if !bytes.is_empty() => bytes[at] = self.number(),
                4 => drop(bytes.drain(at..end)),
                5 => bytes.truncate(at),
                6 => {
                    let again = bytes[at..end].to_vec();
                    drop(bytes.splice(at..at, again));
                }
                7 => {
                    let noise: Vec<u8> = (0..len).map(|_| self.number()).collect();
                    drop(bytes.splice(at..(at + self.below(2) * len).min(bytes.len()), noise));
                }
                _ => {
                    let other = &seeds[self.below(seeds.len())];
                    let from = self.below(other.len());
                    let piece = other[from..(from + 4 * len).min(other.len())].to_vec();
                    drop(
                        bytes
                            .splice(at..(at + self.below(2) * piece.len()).min(bytes.len()), piece),
                    );
                }
            }
        }
        bytes.truncate(INPUT_BYTES_MAX);
        bytes
    }

    /// Any byte, or one of those at which decoders change their mind.
    fn number(&mut self) -> u8 {
        const EDGES: [u8; 10] = [0, 1, 2, 127, 128, 250, 251, 252, 253, 255];
        match self.below(2) {
            0 => EDGES[self.below(EDGES.len())],
            _ => self.next() as u8,
        }
    }
}
