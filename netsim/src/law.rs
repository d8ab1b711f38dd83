//! Laws of chance: how long a message or an fsync takes.
//!
//! The WAN law is the one that the membership figures of other systems were measured with: one way
//! takes aᵢ + aⱼ + Exp(5 ms), where aᵢ is a board's own distance, log-normal with median 15 ms and
//! σ 0.6. A run must be the same on every machine, and libm is not, so `ln` and `exp` are made here
//! from the four IEEE operations, which are exact everywhere.

use hedgerow::proto::promises::Preset;
use serde::{Deserialize, Serialize};

use crate::seed::{Purpose, Stream};
use crate::time::{MILLI, Nanos};

/// How long messages take.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkLaw {
    /// Boards at home, across the internet.
    #[default]
    Wan,
    /// One switch: 0.1 to 1 ms.
    Lan,
}

impl LinkLaw {
    /// The lease timing that fits.
    pub fn preset(self) -> Preset {
        match self {
            Self::Wan => Preset::WAN,
            Self::Lan => Preset::LAN,
        }
    }

    /// A board's own share of every delay to and from it, ns.
    pub fn distance(self, seed: u64, board: u64) -> Nanos {
        match self {
            Self::Wan => {
                let mut draw = Stream::new(seed, Purpose::Distance, board, 0);
                log_normal(&mut draw, 15 * MILLI, 0.6)
            }
            Self::Lan => 0,
        }
    }

    /// The varying share, from 64 random bits.
    pub fn jitter(self, bits: u64) -> Nanos {
        match self {
            Self::Wan => exponential(bits, 5 * MILLI),
            Self::Lan => MILLI / 10 + (unit(bits) * (9 * MILLI / 10) as f64) as Nanos,
        }
    }

    /// The mean of the varying share, ns.
    pub fn jitter_mean(self) -> Nanos {
        match self {
            Self::Wan => 5 * MILLI,
            Self::Lan => 55 * MILLI / 100,
        }
    }
}

/// An SD card's fsync: log-normal, median 8 ms, σ 0.8, at most half a second.
pub fn fsync(draw: &mut Stream) -> Nanos {
    log_normal(draw, 8 * MILLI, 0.8).min(500 * MILLI)
}

/// A draw with this median, ns, whose logarithm is normal with deviation `sigma`.
pub fn log_normal(draw: &mut Stream, median: Nanos, sigma: f64) -> Nanos {
    (median as f64 * exp(sigma * normal(draw))) as Nanos
}

/// Marsaglia's polar method: needs no sine.
fn normal(draw: &mut Stream) -> f64 {
    loop {
        let (x, y) = (2.0 * draw.unit() - 1.0, 2.0 * draw.unit() - 1.0);
        let square = x * x + y * y;
        if square < 1.0 && square > 0.0 {
            return x * (-2.0 * ln(square) / square).sqrt();
        }
    }
}

/// An exponentially distributed time, from 64 random bits.
pub(crate) fn exponential(bits: u64, mean: Nanos) -> Nanos {
    (-ln(unit(bits)) * mean as f64) as Nanos
}

/// A number in (0, 1), from 64 random bits.
fn unit(bits: u64) -> f64 {
    ((bits >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
}

/// The natural logarithm of a positive normal number, to about 1e-13.
fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut exponent = ((bits >> 52) & 0x7ff) as i64 - 1023;
    let mut mantissa = f64::from_bits((bits & 0x000f_ffff_ffff_ffff) | (1023 << 52));
    if mantissa > core::f64::consts::SQRT_2 {
        mantissa /= 2.0;
        exponent += 1;
    }
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let series = [13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0]
        .iter()
        .fold(1.0 / 15.0, |sum, divisor| sum * square + 1.0 / divisor);
    2.0 * s * series + exponent as f64 * core::f64::consts::LN_2
}

/// e to the power of `x`, for |x| < 700, to about 1e-14.
fn exp(x: f64) -> f64 {
    let turns = x / core::f64::consts::LN_2;
    let power = (turns + if turns < 0.0 { -0.5 } else { 0.5 }) as i64;
    let rest = x - power as f64 * core::f64::consts::LN_2;
    let series = (1..=14).rev().fold(1.0, |sum, n| 1.0 + sum * rest / f64::from(n));
    series * f64::from_bits(((power + 1023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_home_made_functions_agree_with_the_system_ones() {
        for n in 1..2000 {
            let x = f64::from(n) * 0.01;
            assert!((ln(x) - x.ln()).abs() < 1e-12, "ln {x}");
            assert!((exp(x - 10.0) / (x - 10.0).exp() - 1.0).abs() < 1e-12, "exp {}", x - 10.0);
        }
        assert!((ln(1e-16) - 1e-16_f64.ln()).abs() < 1e-11);
    }

    #[test]
    fn the_wan_law_has_its_median_and_its_mean() {
        let mut distances: Vec<Nanos> = (0..2001).map(|n| LinkLaw::Wan.distance(1, n)).collect();
        distances.sort_unstable();
        assert!((14 * MILLI..16 * MILLI).contains(&distances[1000]), "{}", distances[1000]);
        let mut draw = Stream::new(1, Purpose::Delay, 0, 0);
        let sum: Nanos = (0..10_000).map(|_| LinkLaw::Wan.jitter(draw.bits())).sum();
        let mean = sum / 10_000;
        assert!((48 * MILLI / 10..52 * MILLI / 10).contains(&mean), "{mean}");
    }
}
