//! Tickets: bearer capabilities that let a board into a mesh, and that work offline.
//!
//! The chain is root key → ticket key → node (or operator) key. `hedgerow init` makes the root key;
//! a ticket carries the secret seed of its own ticket key, signed by root or by a delegate that
//! root signed; who holds the seed signs its own key with it. Any member checks the whole chain
//! without asking anyone.
//!
//! ```text
//! root ──signs──▶ TicketBody{key, role, expires, …} ──ticket key signs──▶ node id
//!   └──signs──▶ Delegate ──signs──▶ TicketBody
//! ```
//!
//! Expiry is not judged here: whether a ticket had to be unexpired depends on whether its holder
//! was admitted before, see [`admission`](super::admission).

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::bounded::{List, Text};
use super::id::{Digest16, Domain, Keypair, MeshId, NodeId, PublicKey, Signature};
use super::record::Name;
use super::signed::{Signable, Signed};
use super::wire::codec;

/// Boards named in a ticket as first contacts.
pub const BOOTSTRAP_NODES_MAX: usize = 4;
/// Addresses kept for one board.
pub const ADDRESSES_MAX: usize = 8;
/// Bytes of one address (a multiaddr).
pub const ADDRESS_BYTES_MAX: usize = 128;
/// Characters of a ticket's text form that are looked at.
pub const TICKET_TEXT_BYTES_MAX: usize = 8192;

/// Says "this is a Hedgerow ticket, format 1", so that a mis-paste is told as a mis-paste.
const PREFIX: &str = "hedge1";
const CHECKSUM_BYTES: usize = 4;

/// A libp2p multiaddr in text form, without the peer id.
pub type Address = Text<ADDRESS_BYTES_MAX>;

/// What the holder of a ticket becomes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Role {
    /// A board that hosts services and gossips.
    Member,
    /// A key that may sign commands that change something (decision D4). Also admits a board.
    Operator,
}

/// A board to contact first. Signed with the ticket, so that a joiner knows whom to expect there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Bootstrap {
    /// Who answers at these addresses.
    pub node: NodeId,
    /// Where.
    pub addresses: List<Address, ADDRESSES_MAX>,
}

/// The public part of a ticket.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TicketBody {
    /// The mesh that this ticket opens.
    pub mesh: MeshId,
    /// What its operator calls it; shown, never judged.
    pub mesh_name: Name,
    /// The ticket key; its secret seed travels in the ticket's text only.
    pub key: PublicKey,
    /// What the holder may become.
    pub role: Role,
    /// When it was made, unix seconds by its maker's clock.
    pub issued: u64,
    /// Unix seconds from which on it admits nobody new; 0 = never.
    pub expires: u64,
    /// First contacts.
    pub bootstrap: List<Bootstrap, BOOTSTRAP_NODES_MAX>,
}

/// A key that may sign tickets in root's place, so that root can stay offline.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Delegate {
    /// The mesh it may sign for.
    pub mesh: MeshId,
    /// The delegate's key.
    pub key: PublicKey,
    /// Unix seconds; tickets issued later are void. 0 = never.
    pub expires: u64,
}

/// Root's (or a delegate's) word that a ticket or a node is no longer welcome.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Revocation {
    /// The mesh it is about.
    pub mesh: MeshId,
    /// What is revoked.
    pub target: Revoked,
    /// Unix seconds by its maker's clock; shown, never judged.
    pub at: u64,
}

/// What a [`Revocation`] names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Revoked {
    /// A ticket: admits nobody new. Nodes admitted with it before stay.
    Ticket(Digest16),
    /// A node: disconnected everywhere, for ever.
    Node(NodeId),
}

impl core::fmt::Display for Revoked {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Ticket(ticket) => write!(f, "ticket {ticket}"),
            Self::Node(node) => write!(f, "node {node}"),
        }
    }
}

impl Signable for TicketBody {
    const DOMAIN: Domain = Domain::Ticket;
}

impl Signable for Delegate {
    const DOMAIN: Domain = Domain::Delegate;
}

impl Signable for Revocation {
    const DOMAIN: Domain = Domain::Revocation;
}

/// A whole ticket, secret seed included.
#[derive(Clone)]
pub struct Ticket {
    /// The mesh's root public key.
    pub root: PublicKey,
    body: Signed<TicketBody>,
    delegate: Option<Signed<Delegate>>,
    seed: Zeroizing<[u8; 32]>,
}

/// Proof that a key was let in: the chain from root, without the secret.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Credential {
    /// The ticket that was used.
    pub ticket: Signed<TicketBody>,
    /// Who signed it, when not root itself.
    pub delegate: Option<Signed<Delegate>>,
    /// The ticket key's signature over the subject's key.
    pub binding: Signature,
}

/// What a verified [`Credential`] says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    /// The name of the ticket, for revocation.
    pub ticket: Digest16,
    /// The ticket's public part.
    pub body: TicketBody,
}

/// Why a text is not a ticket.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TicketError {
    /// Something else was pasted.
    #[error(
        "this is not a Hedgerow ticket: it does not begin with `hedge1`. Copy the whole join line that `hedgerow init` or `hedgerow ticket new` printed"
    )]
    NotATicket,
    /// Begins as a ticket, but a character is wrong or the end is missing.
    #[error(
        "this ticket was not copied whole: its checksum does not match. Copy it again, from `hedge1` to its last character"
    )]
    Damaged,
    /// A later format.
    #[error("this ticket was made by a newer Hedgerow; update this board first")]
    Newer,
    /// The parts do not belong together.
    #[error("this ticket is not genuine: {0}. Ask the mesh's operator for a new one")]
    Chain(#[from] ChainError),
}

/// Where the chain root → ticket → key breaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// Not signed by root nor by a delegate of root.
    #[error("its ticket is not signed by this mesh's root key or a delegate of it")]
    Root,
    /// The delegate's own certificate is not by root, or had run out when the ticket was made.
    #[error("its ticket was signed by a delegate that root did not allow")]
    Delegate,
    /// For another mesh.
    #[error("its ticket is for another mesh")]
    Mesh,
    /// The ticket key did not sign this key.
    #[error("its ticket was not issued to this key")]
    Binding,
    /// A member's ticket where an operator's is needed.
    #[error("its ticket does not carry the operator role")]
    Role,
}

/// What `hedgerow ticket new` asks for.
#[derive(Clone, Debug)]
pub struct TicketRequest {
    /// What the operator calls the mesh.
    pub mesh_name: Name,
    /// What the holder may become.
    pub role: Role,
    /// Now, unix seconds.
    pub issued: u64,
    /// Unix seconds, 0 = never.
    pub expires: u64,
    /// First contacts.
    pub bootstrap: List<Bootstrap, BOOTSTRAP_NODES_MAX>,
}

impl Ticket {
    /// Makes a ticket with the root key. `seed` is fresh randomness.
    ///
    /// # Errors
    /// When the request does not fit [`SIGNED_BYTES_MAX`](super::signed::SIGNED_BYTES_MAX).
    pub fn issue(
        root: &Keypair,
        request: TicketRequest,
        seed: Zeroizing<[u8; 32]>,
    ) -> Result<Self, codec::CodecError> {
        let mesh = MeshId::of_root(&root.public());
        let body = Signed::seal(&body_of(mesh, request, &seed), root)?;
        Ok(Self { root: root.public(), body, delegate: None, seed })
    }

    /// Makes a ticket with a delegate's key and root's certificate for it.
    ///
    /// # Errors
    /// As for [`Ticket::issue`].
    pub fn issue_as_delegate(
        root: PublicKey,
        delegate: &Keypair,
        certificate: Signed<Delegate>,
        request: TicketRequest,
        seed: Zeroizing<[u8; 32]>,
    ) -> Result<Self, codec::CodecError> {
        let body = Signed::seal(&body_of(MeshId::of_root(&root), request, &seed), delegate)?;
        Ok(Self { root, body, delegate: Some(certificate), seed })
    }

    /// Reads the text form. White space and line breaks inside are ignored.
    ///
    /// # Errors
    /// Each kind of mis-paste is its own sentence.
    pub fn parse(text: &str) -> Result<Self, TicketError> {
        let text: String = text
            .chars()
            .filter(|c| !c.is_whitespace())
            .take(TICKET_TEXT_BYTES_MAX + 1)
            .collect::<String>()
            .to_ascii_lowercase();
        let Some(coded) = text.strip_prefix(PREFIX) else {
            let newer = text
                .strip_prefix("hedge")
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
            return Err(if newer { TicketError::Newer } else { TicketError::NotATicket });
        };
        let bytes = data_encoding::BASE32_NOPAD
            .decode(coded.to_ascii_uppercase().as_bytes())
            .map_err(|_| TicketError::Damaged)?;
        let split = bytes.len().checked_sub(CHECKSUM_BYTES).ok_or(TicketError::Damaged)?;
        let (content, checksum) = bytes.split_at(split);
        if blake3::hash(content).as_bytes()[..CHECKSUM_BYTES] != *checksum {
            return Err(TicketError::Damaged);
        }
        let (root, body, delegate, seed) =
            codec::decode::<(PublicKey, Signed<TicketBody>, Option<Signed<Delegate>>, [u8; 32])>(
                content,
            )
            .map_err(|_| TicketError::Damaged)?;
        let ticket = Self { root, body, delegate, seed: Zeroizing::new(seed) };
        let grant = verify_chain(&root, &ticket.body, ticket.delegate.as_ref())?;
        if grant.body.key != ticket.key().public() {
            return Err(ChainError::Binding.into());
        }
        Ok(ticket)
    }

    /// The public part.
    pub fn body(&self) -> TicketBody {
        self.body.peek().expect("decoded when this ticket was made or parsed")
    }

    /// The ticket's name, as `hedgerow ticket ls` shows and `ticket revoke` takes.
    pub fn id(&self) -> Digest16 {
        self.body.digest()
    }

    /// Binds a board's key to this ticket.
    pub fn bind_node(&self, node: &NodeId) -> Credential {
        self.bind(Domain::BindNode, node)
    }

    /// Binds an operator's key to this ticket. Only a ticket with [`Role::Operator`] makes it valid.
    pub fn bind_operator(&self, operator: &PublicKey) -> Credential {
        self.bind(Domain::BindOperator, operator)
    }

    fn bind(&self, domain: Domain, subject: &PublicKey) -> Credential {
        Credential {
            ticket: self.body.clone(),
            delegate: self.delegate.clone(),
            binding: self.key().sign(domain, &subject.0),
        }
    }

    fn key(&self) -> Keypair {
        Keypair::from_seed(&self.seed)
    }
}

impl core::fmt::Display for Ticket {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let mut content = codec::encode(&(self.root, &self.body, &self.delegate, *self.seed))
            .map_err(|_| core::fmt::Error)?;
        let checksum = blake3::hash(&content);
        content.extend_from_slice(&checksum.as_bytes()[..CHECKSUM_BYTES]);
        write!(f, "{PREFIX}{}", data_encoding::BASE32_NOPAD.encode(&content).to_ascii_lowercase())
    }
}

impl core::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Ticket({:?})", self.id())
    }
}

impl Credential {
    /// Checks root → ticket → `node`.
    ///
    /// # Errors
    /// Where the chain breaks.
    pub fn verify_node(&self, root: &PublicKey, node: &NodeId) -> Result<Grant, ChainError> {
        self.verify(root, Domain::BindNode, node)
    }

    /// Checks root → ticket → `operator`, and that the ticket carries that role.
    ///
    /// # Errors
    /// Where the chain breaks.
    pub fn verify_operator(
        &self,
        root: &PublicKey,
        operator: &PublicKey,
    ) -> Result<Grant, ChainError> {
        let grant = self.verify(root, Domain::BindOperator, operator)?;
        match grant.body.role {
            Role::Operator => Ok(grant),
            Role::Member => Err(ChainError::Role),
        }
    }

    fn verify(
        &self,
        root: &PublicKey,
        domain: Domain,
        subject: &PublicKey,
    ) -> Result<Grant, ChainError> {
        let grant = verify_chain(root, &self.ticket, self.delegate.as_ref())?;
        if !grant.body.key.verify(domain, &subject.0, &self.binding) {
            return Err(ChainError::Binding);
        }
        Ok(grant)
    }
}

impl Signed<Revocation> {
    /// The revocation, if root signed it for its mesh.
    pub fn by_root(&self, root: &PublicKey) -> Option<Revocation> {
        self.open(root).ok().filter(|revocation| revocation.mesh == MeshId::of_root(root))
    }
}

fn verify_chain(
    root: &PublicKey,
    ticket: &Signed<TicketBody>,
    delegate: Option<&Signed<Delegate>>,
) -> Result<Grant, ChainError> {
    let mesh = MeshId::of_root(root);
    let claimed = ticket.peek().map_err(|_| ChainError::Root)?;
    if claimed.mesh != mesh {
        return Err(ChainError::Mesh);
    }
    let signer = match delegate {
        None => *root,
        Some(certificate) => {
            let delegate = certificate.open(root).map_err(|_| ChainError::Delegate)?;
            let run_out = delegate.expires != 0 && claimed.issued >= delegate.expires;
            if delegate.mesh != mesh || run_out {
                return Err(ChainError::Delegate);
            }
            delegate.key
        }
    };
    let body = ticket.open(&signer).map_err(|_| ChainError::Root)?;
    Ok(Grant { ticket: ticket.digest(), body })
}

fn body_of(mesh: MeshId, request: TicketRequest, seed: &[u8; 32]) -> TicketBody {
    TicketBody {
        mesh,
        mesh_name: request.mesh_name,
        key: Keypair::from_seed(seed).public(),
        role: request.role,
        issued: request.issued,
        expires: request.expires,
        bootstrap: request.bootstrap,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> Keypair {
        Keypair::from_seed(&[1; 32])
    }

    fn ticket(root: &Keypair, role: Role) -> Ticket {
        let bootstrap = Bootstrap {
            node: Keypair::from_seed(&[2; 32]).public(),
            addresses: List::capped([Text::capped("/ip4/192.0.2.1/udp/4711/quic-v1")]),
        };
        let request = TicketRequest {
            mesh_name: Name::capped("home"),
            role,
            issued: 1000,
            expires: 2000,
            bootstrap: List::capped([bootstrap]),
        };
        Ticket::issue(root, request, Zeroizing::new([3; 32])).unwrap()
    }

    #[test]
    fn a_ticket_reads_back_from_its_text_even_when_the_mailer_wrapped_it() {
        let text = ticket(&root(), Role::Member).to_string();
        let wrapped: String = text
            .chars()
            .enumerate()
            .flat_map(|(i, c)| (i % 60 == 59).then_some('\n').into_iter().chain([c]))
            .collect();
        assert_eq!(Ticket::parse(&wrapped).unwrap().body(), ticket(&root(), Role::Member).body());
    }

    #[test]
    fn every_single_wrong_character_is_noticed() {
        let text = ticket(&root(), Role::Member).to_string();
        for at in 6..text.len() {
            let mut damaged = text.clone().into_bytes();
            damaged[at] = if damaged[at] == b'a' { b'b' } else { b'a' };
            let damaged = String::from_utf8(damaged).unwrap();
            assert!(Ticket::parse(&damaged).is_err(), "character {at} was changed unnoticed");
        }
        assert_eq!(Ticket::parse(&text[..text.len() - 9]).unwrap_err(), TicketError::Damaged);
        assert_eq!(Ticket::parse("ssh-ed25519 AAAA").unwrap_err(), TicketError::NotATicket);
        assert_eq!(Ticket::parse("hedge2abc").unwrap_err(), TicketError::Newer);
    }

    #[test]
    fn a_credential_holds_for_one_key_one_mesh_and_one_purpose() {
        let node = Keypair::from_seed(&[4; 32]).public();
        let other = Keypair::from_seed(&[5; 32]).public();
        let credential = ticket(&root(), Role::Member).bind_node(&node);
        assert!(credential.verify_node(&root().public(), &node).is_ok());
        assert_eq!(credential.verify_node(&root().public(), &other), Err(ChainError::Binding));
        assert_eq!(credential.verify_node(&other, &node), Err(ChainError::Mesh));
        assert_eq!(
            credential.verify_operator(&root().public(), &node),
            Err(ChainError::Binding),
            "a board's credential must not sign commands"
        );
        let operator = ticket(&root(), Role::Member).bind_operator(&node);
        assert_eq!(operator.verify_operator(&root().public(), &node), Err(ChainError::Role));
    }

    #[test]
    fn a_delegate_may_sign_until_its_certificate_runs_out() {
        let delegate = Keypair::from_seed(&[6; 32]);
        let mesh = MeshId::of_root(&root().public());
        let node = Keypair::from_seed(&[4; 32]).public();
        for (expires, ok) in [(0, true), (1001, true), (1000, false)] {
            let certificate =
                Signed::seal(&Delegate { mesh, key: delegate.public(), expires }, &root()).unwrap();
            let request = TicketRequest {
                mesh_name: Name::capped("home"),
                role: Role::Member,
                issued: 1000,
                expires: 0,
                bootstrap: List::new(),
            };
            let ticket = Ticket::issue_as_delegate(
                root().public(),
                &delegate,
                certificate,
                request,
                Zeroizing::new([3; 32]),
            )
            .unwrap();
            let verdict = ticket.bind_node(&node).verify_node(&root().public(), &node);
            assert_eq!(verdict.is_ok(), ok, "certificate until {expires}");
        }
    }

    #[test]
    fn a_self_made_root_opens_nothing() {
        let stranger = Keypair::from_seed(&[99; 32]);
        let node = Keypair::from_seed(&[4; 32]).public();
        let mut body = ticket(&root(), Role::Member).body();
        body.key = Keypair::from_seed(&[3; 32]).public();
        let forged = Credential {
            ticket: Signed::seal(&body, &stranger).unwrap(),
            delegate: None,
            binding: Keypair::from_seed(&[3; 32]).sign(Domain::BindNode, &node.0),
        };
        assert_eq!(forged.verify_node(&root().public(), &node), Err(ChainError::Root));
    }
}
