//! Admission on the wire: the messages of `/hedgerow/hello/1`.

use serde::{Deserialize, Serialize};

use crate::proto::bounded::Text;
use crate::proto::id::{CellId, MeshId};
use crate::proto::record::{Admission, NodeRecord};
use crate::proto::signed::Signed;
use crate::proto::ticket::Credential;

/// Bytes of a hello, which strangers may send.
pub const HELLO_BYTES_MAX: usize = 8 * 1024;

/// Who I am and who let me in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// The lowest and the highest wire version that the sender speaks.
    pub wire: (u16, u16),
    /// The mesh it belongs to.
    pub mesh: MeshId,
    /// The cell it belongs to.
    pub cell: CellId,
    /// What it says of itself.
    pub record: Signed<NodeRecord>,
    /// Which ticket let it in.
    pub credential: Credential,
    /// Who let it in, once somebody has.
    pub admission: Option<Signed<Admission>>,
    /// True if this answers a hello that came although the sender had said its own: it is not
    /// answered again.
    pub answer: bool,
}

/// You may not come in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refused {
    /// Why, for programs.
    pub reason: Refusal,
    /// Why, for people: shown as it is, after control characters were removed.
    pub text: Text<256>,
}

/// You are in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Welcome {
    /// Keep it: it lets you back in after your ticket has expired.
    pub admission: Signed<Admission>,
}

/// Why a board was not let in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Refusal {
    /// The hello could not be read, or its record is not signed by the peer itself.
    Garbled,
    /// No wire version in common.
    WireVersion,
    /// Another mesh.
    ForeignMesh,
    /// Another cell of the same mesh.
    ForeignCell,
    /// The chain from root to this key is broken.
    Forged,
    /// The ticket expired before anyone admitted this board.
    Expired,
    /// The ticket was revoked before anyone admitted this board.
    TicketRevoked,
    /// The board itself was revoked.
    NodeRevoked,
    /// It was admitted by a member that is unknown here.
    UnknownAdmitter,
    /// The mesh is full.
    Full,
    /// Two boards have this key.
    Twins,
}

impl Refusal {
    /// The sentence that the refused side shows: what happened and what to do next.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Garbled => "the hello was not readable; check that both sides run Hedgerow",
            Self::WireVersion => {
                "the two versions of Hedgerow have no wire version in common; update the older board"
            }
            Self::ForeignMesh => {
                "this board belongs to another mesh; join with a ticket of this one"
            }
            Self::ForeignCell => "this board belongs to another cell of the mesh",
            Self::Forged => {
                "the ticket is not signed by this mesh's root key; ask the operator for a new one"
            }
            Self::Expired => {
                "the ticket has expired; make a new one with `hedgerow ticket new`, stop `hedgerow up` on this board and give it to `hedgerow join` (and check this board's clock)"
            }
            Self::TicketRevoked => {
                "the ticket was revoked; make a new one with `hedgerow ticket new`, stop `hedgerow up` on this board and give it to `hedgerow join`"
            }
            Self::NodeRevoked => "this board was revoked by the operator and cannot come back",
            Self::UnknownAdmitter => {
                "the member that admitted this board is unknown here; try again when more boards are up, or join with a new ticket"
            }
            Self::Full => "the mesh has reached its limit of members",
            Self::Twins => {
                "two boards run with one key: one is a copy of the other's data folder. On the copy stop `hedgerow up`, move that folder away and join with a ticket of its own; the other one is let in again within a minute"
            }
        }
    }
}
