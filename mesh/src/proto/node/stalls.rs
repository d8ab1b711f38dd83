//! Stalls: how late this node was called. A lease leaves room for some lateness, not for any; a board
//! that stalls for longer is fenced for nothing (design of the presets, 3b), so it says so.

use core::time::Duration;

use crate::proto::machine::Time;
use crate::proto::promises::Preset;

/// A stall is talked about for that long.
const MEMORY: Duration = Duration::from_secs(600);

/// The longest stall of late.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Stalls {
    worst: Duration,
    at: Time,
}

impl Stalls {
    /// The node was to be called at `due` and is called now. Returns whether that is a stall longer than
    /// `preset` carries, and longer than any of late.
    pub(super) fn note(&mut self, preset: &Preset, due: Time, now: Time) -> bool {
        let late = now.since(due);
        let worst = self.worst(now).unwrap_or_default();
        if late <= worst {
            return false;
        }
        (self.worst, self.at) = (late, now);
        late > preset.stall_max()
    }

    /// The longest stall of late.
    fn worst(&self, now: Time) -> Option<Duration> {
        (now.since(self.at) < MEMORY && !self.worst.is_zero()).then_some(self.worst)
    }

    /// What to say about it, if the leases of `preset` do not carry it.
    pub(super) fn advice(&self, preset: &Preset, now: Time) -> Option<String> {
        let worst = self.worst(now).filter(|worst| *worst > preset.stall_max())?;
        Some(format!(
            "this board stalled for {} ms lately, and the leases of its preset `{}` carry {} ms: what runs here may be stopped for nothing; start it with a preset of longer leases (`sd`, `wan`)",
            worst.as_millis(),
            preset.name,
            preset.stall_max().as_millis()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_that_the_leases_do_not_carry_is_told_once_and_forgotten_in_the_end() {
        let mut stalls = Stalls::default();
        let at = |ms: u64| Time(ms * 1_000_000);
        assert!(!stalls.note(&Preset::LAN, at(1_000), at(1_550)), "550 ms is what lan carries");
        assert_eq!(stalls.advice(&Preset::LAN, at(2_000)), None);
        assert!(stalls.note(&Preset::LAN, at(2_000), at(2_600)));
        assert!(!stalls.note(&Preset::LAN, at(3_000), at(3_590)), "not worse than before");
        assert!(stalls.advice(&Preset::LAN, at(4_000)).unwrap().contains("600 ms lately"));
        assert_eq!(stalls.advice(&Preset::WAN, at(4_000)), None);
        assert_eq!(stalls.advice(&Preset::LAN, at(603_000)), None);
    }
}
