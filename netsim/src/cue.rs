//! Cues: a fault begins when a board does something, instead of at a time.
//!
//! ```toml
//! [[fault]]
//! when = "n4 writes Switching"
//! at = "30s"      # not before that
//! plus = "3ms"    # so long after it
//! do = "power-cut"
//! node = 4
//! ```
//!
//! A time in milliseconds misses its moment whenever the node changes; what a board does, it still does. A
//! cue counts once, the first time. One with a question mark, as in "n4 writes Switching?", may never come.

use std::fmt;
use std::str::FromStr;

use hedgerow::proto::io::{Effect, Input};
use hedgerow::proto::journal::Record;
use hedgerow::proto::wire::failover::Claimed;
use hedgerow::proto::wire::{MESSAGE_NAMES, Message};

use crate::observe::{Observation, What};
use crate::queue::BoardIndex;
use crate::scenario::nearest;
use crate::service::ServiceEvent;
use crate::time::Nanos;

/// What a fault waits for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cue {
    /// Which board does it.
    pub board: BoardIndex,
    /// What it does.
    pub act: Act,
    /// How long after that the fault begins.
    pub plus: Nanos,
    /// Whether it may never come: nothing is wrong then.
    pub is_optional: bool,
}

/// Something that a board does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Act {
    /// It asks its disk for a record of that name.
    Writes(&'static str),
    /// It sends a message of that name, or a claim of that name.
    Sends(&'static str),
    /// It is given one.
    Gets(&'static str),
    /// A service begins on it.
    Begins(String),
    /// A service ends on it.
    Ends(String),
}

impl Cue {
    /// Whether this is it.
    pub fn is(&self, seen: &Observation<'_>) -> bool {
        if seen.board != self.board {
            return false;
        }
        match (&self.act, seen.what) {
            (Act::Writes(name), what) => {
                what.record().is_some_and(|(_, r)| record_name(r) == *name)
            }
            (Act::Sends(name), What::Sent(Effect::Send { message, .. }, _)) => {
                is_called(message, name)
            }
            (Act::Gets(name), What::Received(Input::Received { message, .. }, _)) => {
                is_called(message, name)
            }
            (Act::Begins(name), What::Service(ServiceEvent::Begins { instance, .. }))
            | (Act::Ends(name), What::Service(ServiceEvent::Ends { instance, .. })) => {
                *instance.service == **name
            }
            _ => false,
        }
    }

    /// The service that it names.
    pub fn service(&self) -> Option<&str> {
        match &self.act {
            Act::Begins(name) | Act::Ends(name) => Some(name),
            Act::Writes(_) | Act::Sends(_) | Act::Gets(_) => None,
        }
    }
}

fn is_called(message: &Message, name: &str) -> bool {
    message.name() == name
        || matches!(message, Message::Claim(claim) if claim_name(&claim.claim) == name)
}

impl fmt::Display for Cue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (does, name) = match &self.act {
            Act::Writes(name) => ("writes", *name),
            Act::Sends(name) => ("sends", *name),
            Act::Gets(name) => ("gets", *name),
            Act::Begins(name) => ("begins", name.as_str()),
            Act::Ends(name) => ("ends", name.as_str()),
        };
        let may = if self.is_optional { "?" } else { "" };
        write!(f, "n{} {does} {name}{may}", self.board)
    }
}

impl FromStr for Cue {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sure = text.strip_suffix('?');
        let is_optional = sure.is_some();
        let mut words = sure.unwrap_or(text).split_whitespace();
        let (board, does, name) = (words.next(), words.next(), words.next());
        let board = board.and_then(|word| word.strip_prefix('n')?.parse().ok());
        let (Some(board), Some(does), Some(name), None) = (board, does, name, words.next()) else {
            return Err(format!(
                "`{text}` is no cue: say who does what, such as \"n4 writes Switching\", \"n2 sends \
                 Take\", \"n2 gets Stored\", \"n4 begins kv\" or \"n4 ends kv\""
            ));
        };
        let known = |names: &[&'static str]| {
            names.iter().copied().find(|known| *known == name).ok_or_else(|| {
                let meant = nearest(name, names.iter().copied())
                    .map_or_else(String::new, |known| format!("did you mean `{known}`? "));
                let known = names.join(", ");
                format!("`{name}` is nothing that a board {does}; {meant}known are {known}")
            })
        };
        let said = || [&CLAIMS[..], MESSAGE_NAMES].concat();
        let act = match does {
            "writes" => Act::Writes(known(&RECORDS)?),
            "sends" => Act::Sends(known(&said())?),
            "gets" => Act::Gets(known(&said())?),
            "begins" => Act::Begins(name.to_owned()),
            "ends" => Act::Ends(name.to_owned()),
            _ => {
                return Err(format!(
                    "a board writes, sends, gets, begins or ends something, but does not `{does}`"
                ));
            }
        };
        Ok(Self { board, act, plus: 0, is_optional })
    }
}

/// Makes the list of names and what finds the name of one, so that none can be forgotten.
macro_rules! names {
    ($list:ident, $of:ident, $kind:ident: $($name:ident),* $(,)?) => {
        const $list: [&str; [$(stringify!($name)),*].len()] = [$(stringify!($name)),*];

        fn $of(of: &$kind) -> &'static str {
            match of { $($kind::$name { .. } => stringify!($name),)* }
        }
    };
}

names! { RECORDS, record_name, Record:
    Belongs, Admission, Incarnations, Member, Forget, Revocation, Left,
    Term, Table, Identity, Spec, Assigned, Unassigned, Began,
    Released, Switching, Saw, Pinned, Grants,
}

names! { CLAIMS, claim_name, Claimed:
    Take, NeedStandby, AbortFill, Filled, Ready, Release, Stopped, Lost, Restore,
    Recover, Able, Begins, NeedAnother,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cues_are_read_and_written_alike_and_unknown_names_are_told() {
        for text in [
            "n4 writes Switching",
            "n4 writes Saw?",
            "n0 sends Take",
            "n12 gets Stored",
            "n1 begins kv",
        ] {
            assert_eq!(text.parse::<Cue>().unwrap().to_string(), text);
        }
        for (text, said) in [
            ("4 writes Saw", "no cue"),
            ("n4 writes", "no cue"),
            ("n4 writes Swichting", "did you mean `Switching`? known are Belongs"),
            ("n4 sends Nothing", "known are Take"),
            ("n4 eats Saw", "does not `eats`"),
        ] {
            let error = text.parse::<Cue>().unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
