//! Small values that people type: names, labels and lifetimes, parsed once and right from then on.
//!
//! The command line and `hedgerow.toml` share these types, so both refuse the same with the same
//! sentence.

use std::fmt;
use std::str::FromStr;

use hedgerow::proto::promises::Preset;
use hedgerow::proto::record::{NAME_BYTES_MAX, Name};
use serde::Deserialize;

/// A name that is easy to type and to tell apart: letters, digits, `-`, `_` and `.`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct ShortName(String);

/// `key=value`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Label {
    /// The key.
    pub(crate) key: ShortName,
    /// The value.
    pub(crate) value: ShortName,
}

/// Whoever wants a ticket to last for longer should say so: ten years.
const LIFETIME_MAX_SECONDS: u64 = 3650 * 86_400;

/// How long a ticket lets boards in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lifetime {
    /// So many seconds.
    Seconds(u64),
    /// For ever.
    Never,
}

/// Which timing of leases.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PresetName {
    /// Measured, unrelayed LAN paths.
    Lan,
    /// Boards on SD cards.
    Sd,
    /// Everything else.
    #[default]
    Wan,
}

impl PresetName {
    /// The timing.
    pub(crate) fn preset(self) -> Preset {
        match self {
            Self::Lan => Preset::LAN,
            Self::Sd => Preset::SD,
            Self::Wan => Preset::WAN,
        }
    }
}

impl ShortName {
    /// The name made of what is usable in `text`; `board` if that is nothing.
    pub(crate) fn salvage(text: &str) -> Self {
        let usable: String = text.chars().filter(|c| is_usable(*c)).take(NAME_BYTES_MAX).collect();
        if usable.is_empty() { Self("board".to_owned()) } else { Self(usable) }
    }

    /// As the protocol has it.
    pub(crate) fn to_name(&self) -> Name {
        Name::capped(&self.0)
    }
}

impl Lifetime {
    /// Unix seconds at which a ticket made at `now` ends; 0 = never.
    pub(crate) fn end(self, now: u64) -> u64 {
        match self {
            Self::Seconds(seconds) => now.saturating_add(seconds),
            Self::Never => 0,
        }
    }
}

impl FromStr for ShortName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > NAME_BYTES_MAX {
            return Err(format!("a name has 1 to {NAME_BYTES_MAX} characters"));
        }
        match text.chars().find(|c| !is_usable(*c)) {
            Some(c) => Err(format!(
                "{c:?} cannot be part of a name: use letters a-z, digits, `-`, `_` and `.`"
            )),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl TryFrom<String> for ShortName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for ShortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Label {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) =
            text.split_once('=').ok_or("a label looks like key=value, for instance site=barn")?;
        Ok(Self { key: key.parse()?, value: value.parse()? })
    }
}

impl FromStr for Lifetime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "never" {
            return Ok(Self::Never);
        }
        let wrong = || "a time looks like 30m, 24h or 7d, or is `never`".to_owned();
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let unit = match &text[digits.len()..] {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => return Err(wrong()),
        };
        let count: u64 = digits.parse().map_err(|_| wrong())?;
        match count.checked_mul(unit) {
            Some(seconds @ 1..=LIFETIME_MAX_SECONDS) => Ok(Self::Seconds(seconds)),
            Some(0) | None => Err(wrong()),
            Some(_) => Err("more than ten years: write `never` if you mean that".to_owned()),
        }
    }
}

fn is_usable(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_read_as_people_write_them() {
        let parse = |text: &str| text.parse::<Lifetime>().ok();
        assert_eq!(parse("24h"), Some(Lifetime::Seconds(86_400)));
        assert_eq!(parse("7d"), Some(Lifetime::Seconds(604_800)));
        assert_eq!(parse("never"), Some(Lifetime::Never));
        for wrong in
            ["", "7", "d", "0d", "-1h", "7 d", "7days", "99999999999999999999d", "7é", "3651d"]
        {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_name_that_cannot_be_typed_is_refused() {
        assert!("pi-3.local".parse::<ShortName>().is_ok());
        for wrong in ["", "a b", "ä", "a\u{1b}", &"x".repeat(64)] {
            assert!(wrong.parse::<ShortName>().is_err(), "{wrong:?}");
        }
        assert_eq!(ShortName::salvage("mein pi\n").to_string(), "meinpi");
        assert_eq!(ShortName::salvage("ö").to_string(), "board");
    }
}
