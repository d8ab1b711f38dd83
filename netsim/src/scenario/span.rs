//! Spans of time inside an entry, as text: `"30s"`.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

use super::{DURATION_HELP, nanos, write};
use crate::time::Nanos;

pub(crate) fn serialize<S: Serializer>(span: &Nanos, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&write::in_words(*span))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Nanos, D::Error> {
    let text = String::deserialize(from)?;
    nanos(&text).ok_or_else(|| D::Error::custom(format!("`{text}`: {DURATION_HELP}")))
}
