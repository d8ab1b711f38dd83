//! Paths inside a state: relative, bounded, unable to climb out.
//!
//! A manifest comes from another board. The one way to hold a path from it is [`RelPath`], and the
//! one way to make a [`RelPath`] is the check below, so no later code has to remember to check.
//! Paths are bytes, as on Linux: a name that is not UTF-8 survives replication. What this file does
//! *not* do is look at symlinks; the manifest does that, because it knows what each parent is.

use core::fmt;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// Longest path, in bytes: Linux's `PATH_MAX` without its final NUL.
pub const PATH_BYTES_MAX: usize = 4095;
/// Longest name between two slashes, in bytes: Linux's `NAME_MAX`.
pub const NAME_BYTES_MAX: usize = 255;

/// A checked path relative to the root of a state, `/` between names.
///
/// Never empty, absolute, longer than [`PATH_BYTES_MAX`], nor with an empty, `.` or `..` name or a
/// NUL. Ordered bytewise, so a folder always sorts before what is in it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelPath(Vec<u8>);

/// Why bytes are not a [`RelPath`].
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("path {path:?} {why}: a state may only name what lies inside its own folder")]
pub struct PathError {
    /// The path, lossily and cut to 80 characters.
    pub path: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl RelPath {
    /// Checks `bytes`.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, PathError> {
        let bytes = bytes.into();
        match flaw(&bytes) {
            None => Ok(Self(bytes)),
            Some(why) => {
                let path = String::from_utf8_lossy(&bytes).chars().take(80).collect();
                Err(PathError { path, why })
            }
        }
    }

    /// The bytes, for comparing and printing.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The folder this lies in, `None` for something at the root.
    pub fn parent(&self) -> Option<Self> {
        let slash = self.0.iter().rposition(|&byte| byte == b'/')?;
        Some(Self(self.0[..slash].to_vec()))
    }

    /// Where this lies when the state's folder is `root`.
    pub fn under(&self, root: &Path) -> PathBuf {
        root.join(OsStr::from_bytes(&self.0))
    }

    /// This path with one more name.
    pub fn join(&self, name: &[u8]) -> Result<Self, PathError> {
        Self::new([self.0.as_slice(), b"/", name].concat())
    }
}

fn flaw(bytes: &[u8]) -> Option<&'static str> {
    if bytes.len() > PATH_BYTES_MAX {
        return Some("is longer than 4095 bytes");
    }
    if bytes.contains(&0) {
        return Some("contains a NUL");
    }
    bytes.split(|&byte| byte == b'/').find_map(|name| match name {
        b"" => Some("is empty, absolute or has an empty name"),
        b"." | b".." => Some("has a name that is . or .."),
        _ if name.len() > NAME_BYTES_MAX => Some("has a name longer than 255 bytes"),
        _ => None,
    })
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

impl Serialize for RelPath {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for RelPath {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::new(Blob::deserialize(from)?.0).map_err(de::Error::custom)
    }
}

/// A byte string that serialises as one, not as a sequence of numbers.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Blob(pub Vec<u8>);

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Bytes;

        impl de::Visitor<'_> for Bytes {
            type Value = Blob;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a byte string")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(bytes.to_vec()))
            }

            fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Blob, E> {
                Ok(Blob(bytes))
            }
        }

        from.deserialize_byte_buf(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_climbs_out_is_a_path() {
        for bad in ["", "/", "/etc/passwd", "a//b", "a/", ".", "..", "a/../b", "a/./b", "a\0b"] {
            assert!(RelPath::new(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(RelPath::new(vec![b'x'; 256]).is_err());
        assert!(RelPath::new("x/".repeat(2048) + "x").is_err());
        for good in ["a", "a/b", "..a", "a..", "a b", ".hidden", "\u{e9}/ö"] {
            assert!(RelPath::new(good).is_ok(), "{good:?} was refused");
        }
        assert!(RelPath::new(vec![0xff, 0xfe]).is_ok(), "names need not be UTF-8");
    }

    #[test]
    fn a_folder_sorts_before_what_is_in_it() {
        let path = |text: &str| RelPath::new(text).unwrap();
        assert!(path("a") < path("a-b") && path("a-b") < path("a/b"));
        assert_eq!(path("a/b/c").parent(), Some(path("a/b")));
        assert_eq!(path("a").parent(), None);
    }
}
