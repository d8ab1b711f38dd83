//! A value under a signature, kept as the bytes that were signed.
//!
//! Over-long varints decode to the same value as short ones, so a re-encoding may differ from what
//! was signed. The bytes received are therefore what is verified, hashed, stored and passed on.

use core::fmt;
use core::marker::PhantomData;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::bounded::Blob;
use super::id::{Digest16, Domain, Keypair, PublicKey, Signature};
use super::wire::codec;

/// Bytes of one signed value, unless its type says otherwise.
pub const SIGNED_BYTES_MAX: usize = 4096;

/// A value that says what its signature is for.
pub trait Signable: Serialize + DeserializeOwned {
    /// The purpose, part of the signed bytes.
    const DOMAIN: Domain;
}

/// The encoding of a `T` and a signature over it. Not yet verified: see [`Signed::open`].
#[derive(Serialize, Deserialize)]
pub struct Signed<T, const MAX: usize = SIGNED_BYTES_MAX> {
    bytes: Blob<MAX>,
    signature: Signature,
    #[serde(skip)]
    value: PhantomData<fn() -> T>,
}

/// Why a signed value was not accepted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The signature is not by that key, or not over these bytes, or for another purpose.
    #[error("the signature does not match")]
    Signature,
    /// Signed, but not a value of this kind.
    #[error("signed, but {0}")]
    Codec(#[from] codec::CodecError),
}

impl<T: Signable, const MAX: usize> Signed<T, MAX> {
    /// Signs `value`.
    ///
    /// # Errors
    /// `TooLarge` when the encoding exceeds `MAX`.
    pub fn seal(value: &T, key: &Keypair) -> Result<Self, codec::CodecError> {
        let bytes = codec::encode(value)?;
        let signature = key.sign(T::DOMAIN, &bytes);
        let bytes = Blob::try_from(bytes)
            .map_err(|over| codec::CodecError::TooLarge { len: over.len, max: over.max })?;
        Ok(Self { bytes, signature, value: PhantomData })
    }

    /// The value, if `key` signed it.
    ///
    /// # Errors
    /// The signature does not match, or the bytes hold no such value.
    pub fn open(&self, key: &PublicKey) -> Result<T, OpenError> {
        if !key.verify(T::DOMAIN, &self.bytes, &self.signature) {
            return Err(OpenError::Signature);
        }
        Ok(codec::decode(&self.bytes)?)
    }

    /// The value, before any signature was checked: to find out which key should have signed it.
    ///
    /// # Errors
    /// The bytes hold no such value.
    pub fn peek(&self) -> Result<T, codec::CodecError> {
        codec::decode(&self.bytes)
    }

    /// The name of these exact bytes.
    pub fn digest(&self) -> Digest16 {
        Digest16::of(&self.bytes)
    }
}

impl<T, const MAX: usize> Clone for Signed<T, MAX> {
    fn clone(&self) -> Self {
        Self { bytes: self.bytes.clone(), signature: self.signature, value: PhantomData }
    }
}

impl<T, const MAX: usize> PartialEq for Signed<T, MAX> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes && self.signature == other.signature
    }
}

impl<T, const MAX: usize> Eq for Signed<T, MAX> {}

impl<T, const MAX: usize> fmt::Debug for Signed<T, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signed({:?})", Digest16::of(&self.bytes))
    }
}
