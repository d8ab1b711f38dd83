//! Identifiers: newtypes, so that a term is never mistaken for an epoch.
//!
//! Every identifier has a fixed width on the wire (no `usize`) and a text form that is short enough
//! to say over a phone. Nothing here behaves; it only names.

use core::fmt;

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::verified;

/// An ed25519 public key. A node *is* its key: [`NodeId`] is one of these.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

/// An ed25519 signature over a domain-separated message, see [`Keypair::sign`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

/// A node: its ed25519 public key. The libp2p peer id is derived from the same key.
pub type NodeId = PublicKey;

/// A mesh: BLAKE3 of the root public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MeshId(pub [u8; 32]);

/// A cell of a mesh, with its own voters, table and terms (decision D3). 0 unless told otherwise.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug,
)]
pub struct CellId(pub u16);

/// Identifies one request to the driver and its one answer, unique within a process.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct OpId(pub u64);

/// A node's count of its own lives and refutations. Survives restarts, only ever rises.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug,
)]
pub struct Incarnation(pub u64);

/// A master's reign, as in Raft.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug,
)]
pub struct Term(pub u64);

/// The right to run an instance; changes exactly when that right moves (decision D8).
#[derive(
    Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug,
)]
pub struct Epoch(pub u64);

/// Sixteen bytes of BLAKE3 that name a ticket, a command or a fact.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest16(pub [u8; 16]);

impl PublicKey {
    /// True if `signature` was made over `message` under `domain` by this key.
    ///
    /// Strict verification: keys of small order and malleable signatures are refused.
    pub fn verify(&self, domain: Domain, message: &[u8], signature: &Signature) -> bool {
        let message = domain.prefixed(message);
        verified::remembered(self, &message, signature, || {
            let Ok(key) = VerifyingKey::from_bytes(&self.0) else { return false };
            let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
            key.verify_strict(&message, &signature).is_ok()
        })
    }

    /// The first ten characters of the text form: enough to tell the members of one mesh apart.
    pub fn short(&self) -> String {
        base32(&self.0)[..10].to_owned()
    }

    /// The inverse of `Display`.
    pub fn parse(text: &str) -> Option<Self> {
        unbase32(text).map(Self)
    }
}

impl MeshId {
    /// The mesh of this root key.
    pub fn of_root(root: &PublicKey) -> Self {
        Self(*blake3::hash(&root.0).as_bytes())
    }
}

impl Digest16 {
    /// The inverse of `Display`.
    pub fn parse(text: &str) -> Option<Self> {
        unbase32(text).map(Self)
    }

    /// The name of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut short = [0; 16];
        short.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
        Self(short)
    }
}

/// What a signature is about. Part of the signed bytes, so that a signature made for one purpose is
/// worthless for every other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Domain {
    /// A ticket, by root or a delegate.
    Ticket,
    /// A delegate's key, by root.
    Delegate,
    /// A node's key, by a ticket key.
    BindNode,
    /// An operator's key, by a ticket key.
    BindOperator,
    /// A node record, by the node.
    Record,
    /// An admission, by the admitting member.
    Admission,
    /// A revocation, by root or a delegate.
    Revocation,
    /// A command that changes something, by an operator key.
    Command,
    /// A leave notice, by the leaving node.
    Leave,
    /// A `Serving` fact, by the active.
    Serving,
}

impl Domain {
    fn prefixed(self, message: &[u8]) -> Vec<u8> {
        let tag: &[u8] = match self {
            Self::Ticket => b"hedgerow/ticket/1\0",
            Self::Delegate => b"hedgerow/delegate/1\0",
            Self::BindNode => b"hedgerow/bind-node/1\0",
            Self::BindOperator => b"hedgerow/bind-operator/1\0",
            Self::Record => b"hedgerow/record/1\0",
            Self::Admission => b"hedgerow/admission/1\0",
            Self::Revocation => b"hedgerow/revocation/1\0",
            Self::Command => b"hedgerow/command/1\0",
            Self::Leave => b"hedgerow/leave/1\0",
            Self::Serving => b"hedgerow/serving/1\0",
        };
        [tag, message].concat()
    }
}

/// A private key. Wiped from memory on drop, never printed.
#[derive(Clone)]
pub struct Keypair(SigningKey);

impl Keypair {
    /// The key of a 32-byte secret seed.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// The secret seed: for the identity file and for a ticket, nothing else.
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// Signs `message` for one purpose.
    pub fn sign(&self, domain: Domain, message: &[u8]) -> Signature {
        Signature(self.0.sign(&domain.prefixed(message)).to_bytes())
    }
}

fn base32(bytes: &[u8]) -> String {
    data_encoding::BASE32_NOPAD.encode(bytes).to_ascii_lowercase()
}

fn unbase32<const LEN: usize>(text: &str) -> Option<[u8; LEN]> {
    let bytes = data_encoding::BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).ok()?;
    bytes.try_into().ok()
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base32(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

impl fmt::Display for MeshId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base32(&self.0)[..10])
    }
}

impl fmt::Debug for MeshId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Digest16 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base32(&self.0))
    }
}

impl fmt::Debug for Digest16 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base32(&self.0)[..8])
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(..)")
    }
}

impl fmt::Debug for Keypair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keypair({:?})", self.public())
    }
}

// Text for people (JSON), raw bytes on the wire.
macro_rules! text_or_bytes {
    ($name:ident, $len:literal) => {
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    return serializer.serialize_str(&base32(&self.0));
                }
                self.0.serialize(serializer)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text = String::deserialize(deserializer)?;
                    return unbase32(&text).map(Self).ok_or_else(|| {
                        serde::de::Error::custom(concat!("not a ", stringify!($name)))
                    });
                }
                <[u8; $len]>::deserialize(deserializer).map(Self)
            }
        }
    };
}

text_or_bytes!(PublicKey, 32);
text_or_bytes!(MeshId, 32);
text_or_bytes!(Digest16, 16);

// serde has no derive for arrays longer than 32: two halves, the same bytes as 64 in a row.
impl Serialize for Signature {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (head, tail) = self.0.split_at(32);
        let head: [u8; 32] = head.try_into().expect("32 of 64");
        let tail: [u8; 32] = tail.try_into().expect("32 of 64");
        (head, tail).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (head, tail) = <([u8; 32], [u8; 32])>::deserialize(deserializer)?;
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&head);
        bytes[32..].copy_from_slice(&tail);
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_for_one_purpose_is_worthless_for_another() {
        let key = Keypair::from_seed(&[7; 32]);
        let signature = key.sign(Domain::Record, b"bytes");
        assert!(key.public().verify(Domain::Record, b"bytes", &signature));
        assert!(!key.public().verify(Domain::Leave, b"bytes", &signature));
        assert!(!key.public().verify(Domain::Record, b"byteS", &signature));
    }

    #[test]
    fn a_node_id_reads_back_from_its_text() {
        let id = Keypair::from_seed(&[9; 32]).public();
        assert_eq!(PublicKey::parse(&id.to_string()), Some(id));
        assert_eq!(PublicKey::parse("not a key"), None);
    }
}
