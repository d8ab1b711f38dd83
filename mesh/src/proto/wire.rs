//! The wire: every message there is, and how it becomes a frame.
//!
//! A frame is a u32 LE length (of what follows), a u16 LE kind, and a body in the [`codec`]. The
//! driver deals with the length; [`encode`] and [`decode`] deal with `kind + body`. An unknown kind
//! is skipped and counted, so that a fleet can be updated board by board.
//!
//! What a peer can make a node allocate or loop over is limited by the types of the messages
//! ([`List`](super::bounded::List), [`Text`](super::bounded::Text)) and by [`FRAME_BYTES_MAX`].

pub mod authority;
pub mod codec;
pub mod copies;
pub mod failover;
pub mod gossip;
pub mod hello;

use authority::{App, AppOk, Depart, Departure, PreVote, PreVoteOk, Vote, VoteOk};
use codec::CodecError;
use copies::{Offer, Stored, Unstorable};
use failover::{Claim, Grant, Pass, Renew, Spec, Submit, Submitted, WantSpec};
use gossip::{Answer, Ask, Entries, Facts, Probe, ProbeAck, Publication, Summary};
use hello::{Hello, Refused, Welcome};

/// Bytes of one frame after its length field.
pub const FRAME_BYTES_MAX: usize = 256 * 1024;
/// The wire version of this build. It also speaks the one before.
pub const WIRE_VERSION: u16 = 1;
/// The oldest wire version that this build speaks.
pub const WIRE_VERSION_MIN: u16 = 1;

macro_rules! messages {
    ($($(#[$doc:meta])* $kind:literal $name:ident,)*) => {
        /// Everything one node can say to another.
        #[derive(Clone, PartialEq, Eq, Debug)]
        #[allow(clippy::large_enum_variant, reason = "short-lived: built, encoded, dropped")]
        pub enum Message {
            $($(#[$doc])* $name($name),)*
        }

        /// The names of all kinds of messages.
        pub const MESSAGE_NAMES: &[&str] = &[$(stringify!($name)),*];

        impl Message {
            /// The number of this kind of message on the wire.
            pub fn kind(&self) -> u16 {
                match self { $(Self::$name(_) => $kind,)* }
            }

            /// The name of this kind of message, for timelines and counters.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$name(_) => stringify!($name),)* }
            }
        }

        $(impl From<$name> for Message {
            fn from(message: $name) -> Self {
                Self::$name(message)
            }
        })*

        /// Turns a message into `kind + body`.
        ///
        /// # Errors
        /// `TooLarge` when it exceeds [`FRAME_BYTES_MAX`]: a limit in this program is wrong.
        pub fn encode(message: &Message) -> Result<Vec<u8>, CodecError> {
            let body = match message { $(Message::$name(body) => codec::encode(body)?,)* };
            let len = body.len() + 2;
            if len > FRAME_BYTES_MAX {
                return Err(CodecError::TooLarge { len, max: FRAME_BYTES_MAX });
            }
            let mut frame = Vec::with_capacity(len);
            frame.extend_from_slice(&message.kind().to_le_bytes());
            frame.extend_from_slice(&body);
            Ok(frame)
        }

        /// Turns `kind + body` into a message.
        ///
        /// # Errors
        /// `Unknown` kinds are to be skipped; `Malformed` frames are a peer's fault.
        pub fn decode(frame: &[u8]) -> Result<Message, FrameError> {
            let Some((kind, body)) = frame.split_first_chunk::<2>() else {
                return Err(FrameError::Malformed("shorter than a kind".to_owned()));
            };
            match u16::from_le_bytes(*kind) {
                $($kind => codec::decode(body).map(Message::$name).map_err(|error| {
                    FrameError::Malformed(format!(concat!(stringify!($name), ": {}"), error))
                }),)*
                kind => Err(FrameError::Unknown(kind)),
            }
        }
    };
}

messages! {
    /// Who I am and who let me in. The first message on every connection.
    1 Hello,
    /// You may not come in, and why. The last message on a connection.
    2 Refused,
    /// You are in; here is the proof for the day when your ticket has expired.
    3 Welcome,
    /// Are you there? My view of the members hashes to this.
    16 Probe,
    /// I am.
    17 ProbeAck,
    /// Have you heard from that member yourself, lately?
    18 Ask,
    /// Yes, that long ago.
    19 Answer,
    /// News about members.
    20 Facts,
    /// My view in 64 hashes: which of them differ from yours?
    21 Summary,
    /// My view of the members in these buckets.
    22 Entries,
    /// A message on a topic.
    32 Publication,
    /// Would you vote for me?
    48 PreVote,
    /// I would, or not.
    49 PreVoteOk,
    /// Vote for me.
    50 Vote,
    /// I do, or not.
    51 VoteOk,
    /// The master's heartbeat.
    52 App,
    /// The answer to it.
    53 AppOk,
    /// I want to leave the mesh.
    54 Depart,
    /// Whether it may.
    55 Departure,
    /// An order for the master.
    64 Submit,
    /// What became of it.
    65 Submitted,
    /// Send me the order of that hash.
    66 WantSpec,
    /// Here it is.
    67 Spec,
    /// Carry out what an operator ordered.
    68 Pass,
    /// Renew the lease of an instance.
    80 Renew,
    /// It is renewed.
    81 Grant,
    /// Something about a row that needs a change of the table.
    82 Claim,
    /// This state is complete; fetch it.
    96 Offer,
    /// I hold that state.
    97 Stored,
    /// My disk does not take it.
    98 Unstorable,
}

/// Why a frame holds no message.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A kind of a later version: skip it.
    #[error("unknown message kind {0}")]
    Unknown(u16),
    /// Not a message: the peer is broken or hostile.
    #[error("{0}")]
    Malformed(String),
}

/// For `#[serde(with)]`: a message inside of something else is written as its frame.
pub(crate) mod as_frame {
    use serde::de::{Deserialize, Deserializer, Error as _};
    use serde::ser::{Error as _, Serialize, Serializer};

    use super::Message;

    pub(crate) fn serialize<S: Serializer>(message: &Message, to: S) -> Result<S::Ok, S::Error> {
        super::encode(message).map_err(S::Error::custom)?.serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Message, D::Error> {
        super::decode(&Vec::<u8>::deserialize(from)?).map_err(D::Error::custom)
    }
}
