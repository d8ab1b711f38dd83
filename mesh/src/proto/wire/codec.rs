//! The codec: values to bytes and back. The only place in this crate that names bincode.
//!
//! bincode's standard configuration is a simple published format (varints, little endian), so the
//! crate behind it can be replaced. Three of its habits are guarded against here: its decode limit
//! is not applied when encoding, it accepts trailing bytes, and it accepts over-long varints (hence
//! signatures and hashes are made over the bytes received, never over a re-encoding).

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes that one decode may claim, whatever its lengths say: the largest frame.
pub const DECODE_BYTES_MAX: usize = super::FRAME_BYTES_MAX;

/// Bytes do not hold the value that they should.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// Not the encoding of such a value.
    #[error("malformed: {0}")]
    Malformed(String),
    /// A value, and then more.
    #[error("{0} bytes too many after the value")]
    Trailing(usize),
    /// Larger than anything this node accepts or sends.
    #[error("{len} bytes, the limit is {max}")]
    TooLarge {
        /// Its length.
        len: usize,
        /// What is allowed.
        max: usize,
    },
}

/// Encodes `value`.
///
/// # Errors
/// `TooLarge` if the result would not fit a frame.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    let bytes = bincode::serde::encode_to_vec(value, bincode::config::standard())
        .map_err(|error| CodecError::Malformed(error.to_string()))?;
    if bytes.len() > DECODE_BYTES_MAX {
        return Err(CodecError::TooLarge { len: bytes.len(), max: DECODE_BYTES_MAX });
    }
    Ok(bytes)
}

/// Decodes exactly one value that fills `bytes`.
///
/// # Errors
/// `Malformed`, `Trailing` or `TooLarge`; never panics, never allocates more than the limit.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    if bytes.len() > DECODE_BYTES_MAX {
        return Err(CodecError::TooLarge { len: bytes.len(), max: DECODE_BYTES_MAX });
    }
    let config = bincode::config::standard().with_limit::<DECODE_BYTES_MAX>();
    let (value, used) = bincode::serde::decode_from_slice(bytes, config)
        .map_err(|error| CodecError::Malformed(error.to_string()))?;
    match bytes.len() - used {
        0 => Ok(value),
        more => Err(CodecError::Trailing(more)),
    }
}
