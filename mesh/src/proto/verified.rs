//! Signatures that were found good, so that they are not verified again.
//!
//! A board meets the same signatures over and over: the chain of every peer that reconnects, the record
//! that three neighbours tell of, the order that is pushed and asked for. A verification takes a fifth of
//! a millisecond on a small board; a hash takes a few microseconds.
//!
//! Only what was good is remembered, under a BLAKE3 hash of the key, the signature and the message: a
//! remembered answer is the one that verifying again would give, so nothing depends on what is remembered,
//! and a forgery cannot get in. One table for each thread, of a fixed size; a newcomer takes the place of
//! whatever was there.

use std::cell::RefCell;

use super::id::{PublicKey, Signature};

/// Signatures that one thread remembers: 64 KiB.
const REMEMBERED: usize = 2048;

thread_local! {
    static GOOD: RefCell<Vec<[u8; 32]>> = const { RefCell::new(Vec::new()) };
}

/// What `verify` says of this signature; asked only if it was not found good before.
pub(super) fn remembered(
    key: &PublicKey,
    message: &[u8],
    signature: &Signature,
    verify: impl FnOnce() -> bool,
) -> bool {
    let name = name(key, message, signature);
    let place = usize::from(u16::from_le_bytes([name[0], name[1]])) % REMEMBERED;
    GOOD.with_borrow_mut(|good| {
        if good.is_empty() {
            good.resize(REMEMBERED, [0; 32]);
        }
        if good[place] == name {
            return true;
        }
        let is_good = verify();
        if is_good {
            good[place] = name;
        }
        is_good
    })
}

/// Key and signature have fixed lengths, so no two triples are the same bytes.
fn name(key: &PublicKey, message: &[u8], signature: &Signature) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&key.0);
    hasher.update(&signature.0);
    hasher.update(message);
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::id::{Domain, Keypair};

    #[test]
    fn a_good_signature_is_verified_once_and_makes_no_other_good() {
        let key = PublicKey([7; 32]);
        let other = PublicKey([8; 32]);
        let (one, two) = (Signature([1; 64]), Signature([2; 64]));
        assert!(remembered(&key, b"message", &one, || true));
        assert!(remembered(&key, b"message", &one, || unreachable!("it is remembered")));
        for (key, message, signature) in
            [(&other, b"message", &one), (&key, b"messagE", &one), (&key, b"message", &two)]
        {
            assert!(!remembered(key, message, signature, || false));
        }
    }

    #[test]
    fn a_forgery_is_refused_each_time() {
        let key = Keypair::from_seed(&[7; 32]);
        let signature = key.sign(Domain::Record, b"bytes");
        for _ in 0..2 {
            assert!(key.public().verify(Domain::Record, b"bytes", &signature));
            assert!(!key.public().verify(Domain::Record, b"byteS", &signature));
            assert!(!key.public().verify(Domain::Leave, b"bytes", &signature));
        }
    }
}
