//! The one file that names bincode.
//!
//! Everything that crosses the wire or the disk as a structure is four bytes of magic (three
//! letters and a format version) and then bincode in its standard configuration through serde, so
//! that the codec can be swapped and no public type carries a bincode trait. Measured facts this
//! file answers: the decode limit stops length bombs but is not applied on encode; trailing bytes
//! are accepted silently. Hence a length check on both sides, and `consumed == len`. Count limits
//! of collections are not here but at the fields, see [`bounded`].

use core::{fmt, marker::PhantomData};

use serde::de::{self, DeserializeOwned, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

/// Three letters and a format version.
pub(crate) type Magic = [u8; 4];

/// Bytes that are not the structure they claim to be.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum WireError {
    /// The first four bytes name another kind or another version.
    #[error(
        "starts with {found:02x?}, this version reads {known:02x?}: another kind of record, or \
         written by a newer hedgerow; update this board"
    )]
    Format {
        /// What is there (fewer than four bytes are padded with zeros).
        found: [u8; 4],
        /// What this version reads.
        known: [u8; 4],
    },
    /// Longer than the named limit, in bytes.
    #[error("{bytes} bytes, the limit is {bytes_max}: refuse it, or split the state")]
    TooLong {
        /// Length offered.
        bytes: u64,
        /// Length allowed.
        bytes_max: u64,
    },
    /// Not decodable; the text says where the decoder stopped.
    #[error("does not decode ({why}): refuse it and ask for it again")]
    Malformed {
        /// The decoder's words.
        why: String,
    },
    /// Decodes, but bytes are left over.
    #[error("{trailing} bytes follow the record: refuse it and ask for it again")]
    Trailing {
        /// How many.
        trailing: u64,
    },
}

/// Encodes `value` behind `magic`; refuses more than `LIMIT` bytes.
pub(crate) fn encode<const LIMIT: usize, T: Serialize>(
    magic: Magic,
    value: &T,
) -> Result<Vec<u8>, WireError> {
    let body = bincode::serde::encode_to_vec(value, bincode::config::standard())
        .map_err(|error| WireError::Malformed { why: error.to_string() })?;
    let bytes = [magic.as_slice(), &body].concat();
    check_length::<LIMIT>(&bytes)?;
    Ok(bytes)
}

/// The inverse of [`encode`]. Never panics, whatever the bytes.
pub(crate) fn decode<const LIMIT: usize, T: DeserializeOwned>(
    magic: Magic,
    bytes: &[u8],
) -> Result<T, WireError> {
    check_length::<LIMIT>(bytes)?;
    let Some(body) = bytes.strip_prefix(&magic) else {
        let mut found = [0; 4];
        found.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        return Err(WireError::Format { found, known: magic });
    };
    let config = bincode::config::standard().with_limit::<LIMIT>();
    let (value, consumed) = bincode::serde::decode_from_slice(body, config)
        .map_err(|error| WireError::Malformed { why: error.to_string() })?;
    match body.len() - consumed {
        0 => Ok(value),
        trailing => Err(WireError::Trailing { trailing: trailing as u64 }),
    }
}

/// For `#[serde(deserialize_with)]`: a `Vec` that refuses element `MAX + 1` *while* decoding, so a
/// hostile count never becomes memory.
pub(crate) fn bounded<'de, D, T, const MAX: usize>(from: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Bounded<T, const MAX: usize>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Bounded<T, MAX> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MAX} elements")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
            let mut all = Vec::new();
            while let Some(element) = seq.next_element()? {
                if all.len() == MAX {
                    return Err(de::Error::invalid_length(MAX + 1, &self));
                }
                all.push(element);
            }
            Ok(all)
        }
    }

    from.deserialize_seq(Bounded::<T, MAX>(PhantomData))
}

fn check_length<const LIMIT: usize>(bytes: &[u8]) -> Result<(), WireError> {
    if bytes.len() > LIMIT {
        return Err(WireError::TooLong { bytes: bytes.len() as u64, bytes_max: LIMIT as u64 });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Few {
        #[serde(deserialize_with = "bounded::<_, _, 3>")]
        all: Vec<u16>,
    }

    const MAGIC: Magic = *b"TST\x01";

    #[test]
    fn trailing_bytes_and_foreign_magic_are_refused() {
        let bytes = encode::<64, _>(MAGIC, &Few { all: vec![1, 2, 3] }).unwrap();
        assert_eq!(decode::<64, Few>(MAGIC, &bytes).unwrap().all, [1, 2, 3]);
        let longer = [bytes.as_slice(), &[0]].concat();
        assert_eq!(decode::<64, Few>(MAGIC, &longer), Err(WireError::Trailing { trailing: 1 }));
        let foreign = decode::<64, Few>(*b"TST\x02", &bytes);
        assert!(matches!(foreign, Err(WireError::Format { found: MAGIC, .. })));
    }

    #[test]
    fn one_element_too_many_is_refused() {
        let bytes = encode::<64, _>(MAGIC, &Few { all: vec![1, 2, 3, 4] }).unwrap();
        assert!(matches!(decode::<64, Few>(MAGIC, &bytes), Err(WireError::Malformed { .. })));
    }

    #[test]
    fn the_limit_holds_on_both_sides() {
        let long = Few { all: vec![9; 80] };
        assert!(matches!(encode::<64, _>(MAGIC, &long), Err(WireError::TooLong { .. })));
        assert!(matches!(decode::<64, Few>(MAGIC, &[0; 65]), Err(WireError::TooLong { .. })));
    }
}
