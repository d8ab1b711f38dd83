//! One key, two names: our [`NodeId`] and libp2p's peer id.
//!
//! An ed25519 peer id is the public key itself (an identity multihash of its protobuf form), so the
//! two convert into each other without a table. Any other kind of key is not a node.

use libp2p::{PeerId, identity};

use crate::proto::id::{Keypair, NodeId};

/// Our key pair in libp2p's clothes. The copied seed is wiped by libp2p.
pub(super) fn to_libp2p(keys: &Keypair) -> identity::Keypair {
    let mut seed = keys.seed();
    identity::Keypair::ed25519_from_bytes(&mut seed[..]).expect("a seed is 32 bytes")
}

/// The peer id of a node; `None` if the 32 bytes are not a point on the curve.
pub(super) fn peer_id(node: &NodeId) -> Option<PeerId> {
    let key = identity::ed25519::PublicKey::try_from_bytes(&node.0).ok()?;
    Some(identity::PublicKey::from(key).to_peer_id())
}

/// The node of a peer id; `None` if its key is not an inlined ed25519 key.
pub(super) fn node_id(peer: &PeerId) -> Option<NodeId> {
    const IDENTITY_MULTIHASH: u64 = 0;
    let hash = peer.as_ref();
    if hash.code() != IDENTITY_MULTIHASH {
        return None;
    }
    let key = identity::PublicKey::try_decode_protobuf(hash.digest()).ok()?;
    Some(crate::proto::id::PublicKey(key.try_into_ed25519().ok()?.to_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_and_its_peer_id_name_each_other() {
        let keys = Keypair::from_seed(&[3; 32]);
        let peer = peer_id(&keys.public()).expect("a real key");
        assert_eq!(to_libp2p(&keys).public().to_peer_id(), peer);
        assert_eq!(node_id(&peer), Some(keys.public()));
    }

    #[test]
    fn a_peer_id_that_is_only_a_hash_is_not_a_node() {
        let hashed = PeerId::from_multihash(
            libp2p::multihash::Multihash::wrap(0x12, &[7; 32]).expect("32 bytes fit"),
        );
        assert_eq!(node_id(&hashed.expect("sha2-256 is allowed")), None);
    }
}
