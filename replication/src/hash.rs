//! The four names by content: chunk, manifest, segment, transfer.
//!
//! Each is a 32-byte BLAKE3 hash in a type of its own, so that a segment is never mistaken for a
//! chunk. Equal names mean equal bytes; nothing here is a key or a signature, and nothing here
//! decides whom to believe.

use core::fmt;

use serde::{Deserialize, Serialize};

macro_rules! content_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// The name of `bytes`: their BLAKE3 hash.
            pub fn of(bytes: &[u8]) -> Self {
                Self(*blake3::hash(bytes).as_bytes())
            }
        }

        impl fmt::Display for $name {
            /// All 64 hex digits; with a precision (`{:.8}`) only the first ones.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:.12})"), hex(&self.0))
            }
        }
    };
}

content_name!(
    /// Names a chunk of content: BLAKE3 of its bytes, at most [`crate::chunk::CHUNK_BYTES_MAX`].
    ChunkId
);
content_name!(
    /// Names a whole state: BLAKE3 of the manifest bytes as they were received, never of a
    /// re-encoding (bincode accepts more than one form of some numbers).
    ManifestHash
);
content_name!(
    /// Names a segment of a transfer: BLAKE3 of its compressed bytes.
    SegmentId
);
content_name!(
    /// Names a transfer: BLAKE3 of the header bytes. Same id, same segments: that is what makes
    /// resuming safe.
    TransferId
);

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|&byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_prints_as_hex_and_can_be_cut_short() {
        let id = ChunkId([0xa5; 32]);
        assert_eq!(id.to_string(), "a5".repeat(32));
        assert_eq!(format!("{id:.6}"), "a5a5a5");
        assert_eq!(format!("{id:?}"), "ChunkId(a5a5a5a5a5a5)");
    }
}
