//! Amounts as people write them in service files: `"500ms"`, `"1s"`, `"256 MiB"`.

use std::str::FromStr;

use serde::Deserialize;

/// A time in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Millis(pub(super) u32);

/// A size in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Bytes(pub(super) u64);

impl FromStr for Millis {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
        let wrong =
            || format!("`{text}` is no time: write for instance \"500ms\", \"1s\" or \"2m\"");
        let millis = scaled(text, &units).ok_or_else(wrong)?;
        u32::try_from(millis).map(Self).map_err(|_| format!("`{text}` is longer than 49 days"))
    }
}

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1)];
        let wrong = || format!("`{text}` is no size: write for instance \"256 MiB\" or \"1 GiB\"");
        scaled(text, &units).map(Self).ok_or_else(wrong)
    }
}

impl TryFrom<String> for Millis {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl TryFrom<String> for Bytes {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// A whole number times one of `units`.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let (number, unit) = text.split_at(text.len() - digits.len());
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_people_write_them() {
        let time = |text: &str| text.parse::<Millis>().ok().map(|time| time.0);
        assert_eq!(time("500ms"), Some(500));
        assert_eq!(time("60 s"), Some(60_000));
        let size = |text: &str| text.parse::<Bytes>().ok().map(|size| size.0);
        assert_eq!(size("256 MiB"), Some(256 << 20));
        assert_eq!(size("1GiB"), Some(1 << 30));
        for wrong in ["", "1", "s", "-1s", "1.5s", "1 day", "99999999999999999999s", "1é", "50d"] {
            assert!(time(wrong).is_none() && size(wrong).is_none(), "{wrong}");
        }
    }
}
