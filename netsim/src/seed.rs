//! Randomness: independent streams, each keyed by (seed, purpose, who, which).
//!
//! One seed makes a whole run. If all draws came from one generator, removing one fault would shift
//! every later draw and a failure could not be narrowed down. So each purpose and each link or board
//! has its own stream, and the n-th draw of a stream depends on nothing but its key and n.
//!
//! A key is BLAKE3 of its parts; the draws behind it are a finalised Weyl sequence (the SplitMix64
//! construction, Steele, Lea and Flood, OOPSLA'14): a few instructions each, no state but a counter.
//! Not for secrets: a simulated board's key pair is as public as its seed.

/// What randomness is for. The number is part of the key: never reuse or renumber one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Purpose {
    /// Key pairs of boards and of the root.
    Keys = 1,
    /// Secrets of tickets.
    Ticket = 2,
    /// The seed that a node is given for one life.
    Life = 3,
    /// Rate, offset and wall clock error of a board.
    Clock = 4,
    /// How far a board is from the middle of the network.
    Distance = 5,
    /// The part of a message's delay that varies.
    Delay = 6,
    /// Which segments are lost.
    Loss = 7,
    /// How long a connection takes to be established.
    Dial = 8,
    /// When an end notices that its connection is dead.
    Idle = 9,
    /// How long an fsync takes.
    Fsync = 10,
    /// What a power cut leaves of bytes that were not fsynced.
    Torn = 11,
    /// When boards are first switched on.
    Start = 12,
    /// The options of a swarm run.
    Options = 13,
    /// The faults of a swarm run.
    Faults = 14,
    /// How long shims and captures take.
    Shim = 15,
    /// How long it takes to make a state durable.
    Store = 16,
    /// Nonces of orders.
    Order = 17,
    /// The services of a swarm run, and what is done to them.
    Services = 18,
    /// When the line of a board is good and when it is bad.
    Bursts = 19,
    /// What a process says that speaks nonsense.
    Garbage = 20,
    /// Faults of a swarm run that were thought of later: weather, ailments, rogues.
    Rough = 21,
    /// Which bit of a disk flips.
    Rot = 22,
    /// What crashes take of a store, and which bits of it rot.
    Platter = 30,
    /// Which mutants of a list are in a sample.
    Sample = 32,
}

/// One stream of draws.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    key: u64,
    drawn: u64,
}

/// 32 bytes for one purpose, such as the secret of a key pair.
pub fn bytes(seed: u64, purpose: Purpose, who: u64, which: u64) -> [u8; 32] {
    let mut material = [0; 25];
    material[..8].copy_from_slice(&seed.to_le_bytes());
    material[8] = purpose as u8;
    material[9..17].copy_from_slice(&who.to_le_bytes());
    material[17..].copy_from_slice(&which.to_le_bytes());
    *blake3::hash(&material).as_bytes()
}

impl Stream {
    /// The stream of one purpose, for one board or link, in its `which`-th use.
    pub fn new(seed: u64, purpose: Purpose, who: u64, which: u64) -> Self {
        let bytes = bytes(seed, purpose, who, which);
        let key = u64::from_le_bytes(bytes[..8].try_into().expect("8 of 32"));
        Self { key, drawn: 0 }
    }

    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.drawn += 1;
        self.at(self.drawn)
    }

    /// The n-th 64 bits, without moving on.
    pub fn at(&self, n: u64) -> u64 {
        finalise(self.key.wrapping_add(n.wrapping_mul(WEYL)))
    }

    /// A number below `limit`, which must not be 0. The bias is below 2^-32 for what is drawn here.
    pub fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(limit)) >> 64) as u64
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True in `percent` of a hundred cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of `items`, which must not be empty.
    pub fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len() as u64) as usize]
    }

    /// A number in (0, 1).
    pub fn unit(&mut self) -> f64 {
        ((self.bits() >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
    }
}

fn finalise(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// 2^64 divided by the golden ratio, odd.
const WEYL: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_depends_on_every_part_of_its_key_and_on_nothing_else() {
        let draw = |seed, purpose, who, which| Stream::new(seed, purpose, who, which).bits();
        let first = draw(1, Purpose::Delay, 2, 3);
        assert_eq!(first, draw(1, Purpose::Delay, 2, 3));
        for other in [
            draw(2, Purpose::Delay, 2, 3),
            draw(1, Purpose::Loss, 2, 3),
            draw(1, Purpose::Delay, 3, 3),
            draw(1, Purpose::Delay, 2, 4),
        ] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn draws_stay_in_their_range_and_reach_its_ends() {
        let mut stream = Stream::new(7, Purpose::Options, 0, 0);
        let draws: Vec<u64> = (0..1000).map(|_| stream.between(3, 6)).collect();
        assert_eq!((draws.iter().min(), draws.iter().max()), (Some(&3), Some(&6)));
    }
}
