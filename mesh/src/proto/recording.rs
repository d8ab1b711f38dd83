//! The flight recorder: everything that went into a node, so that it can be made to do the same again.
//!
//! A node's state depends on nothing but its beginning and its calls (rule 1 of the
//! [machine contract](super::machine)). A recording holds both, and for each call a digest of the effects
//! that came out; whoever replays it steps the very same code, sees every state in between, and is told at
//! which call it does something else.
//!
//! ```text
//! "hedgerow-recording-1\n"   the head: config, seed, journal, store
//! then for each call         length · time · input (none: the timer fired) · digest of its effects
//! ```
//!
//! It holds the board's private key, since signatures are among the effects: keep it as the data folder is
//! kept. What a crash cut off at its end is left away.

use serde::{Deserialize, Serialize};

use super::bounded::List;
use super::config::{Config, MembershipTiming};
use super::holdings::Held;
use super::id::{CellId, Keypair};
use super::io::{Effect, Input};
use super::journal::{self, Durable};
use super::machine::Time;
use super::node::{Node, RecoverError};
use super::promises::Preset;
use super::record::{Board, LABELS_MAX, Name};
use super::ticket::Ticket;
use super::wire::codec::{self, CodecError};

/// The first bytes of a recording.
pub const MAGIC: &[u8] = b"hedgerow-recording-1\n";
/// The version of this code; another one need not do the same.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How a node began.
#[derive(Debug)]
pub struct Head {
    /// The version of the code that it ran.
    pub version: String,
    /// What it was told.
    pub config: Config,
    /// The randomness of this life.
    pub seed: [u8; 32],
    /// What it remembered.
    pub durable: Durable,
    /// The states in its store.
    pub held: Held,
    /// Its clock.
    pub now: Time,
}

/// One call.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Call {
    /// The node's clock, nanoseconds.
    pub now: u64,
    /// What happened; none: the timer fired.
    pub input: Option<Input>,
    /// See [`digest`].
    pub effects: u64,
}

/// A whole recording.
#[derive(Debug)]
pub struct Recording {
    /// How the node began.
    pub head: Head,
    /// Its calls, in order.
    pub calls: Vec<Call>,
    /// Bytes at the end that are no whole call.
    pub torn: usize,
}

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordingError {
    /// Another file, or a later format.
    #[error("this is no recording of format 1: make one with `hedgerow up --record FILE`")]
    Format,
    /// Its head is damaged.
    #[error("the head of the recording is damaged: {0}")]
    Head(String),
    /// A call is damaged.
    #[error("call {0} of the recording is damaged: {1}")]
    Call(usize, CodecError),
}

#[derive(Serialize, Deserialize)]
struct Written {
    version: String,
    secret: [u8; 32],
    name: Name,
    cell: CellId,
    board: Board,
    labels: List<(Name, Name), LABELS_MAX>,
    ticket: Option<String>,
    membership: MembershipTiming,
    preset: String,
    seed: [u8; 32],
    now: u64,
}

impl Head {
    /// The beginning of the file.
    ///
    /// # Errors
    /// Something in it is larger than a node can have.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        let Config { keypair, name, cell, board, labels, ticket, membership, preset } =
            &self.config;
        let written = Written {
            version: self.version.clone(),
            secret: *keypair.seed(),
            name: name.clone(),
            cell: *cell,
            board: board.clone(),
            labels: labels.clone(),
            ticket: ticket.as_ref().map(Ticket::to_string),
            membership: *membership,
            preset: preset.name.to_owned(),
            seed: self.seed,
            now: self.now.0,
        };
        let mut bytes = MAGIC.to_vec();
        let parts = [codec::encode(&written)?, codec::encode(&self.held)?];
        for part in parts.into_iter().chain([journal::snapshot(&self.durable)?]) {
            put(&mut bytes, &part);
        }
        Ok(bytes)
    }

    /// The node as it was at the beginning.
    ///
    /// # Errors
    /// As [`Node::recover`].
    pub fn node(&self) -> Result<Node, RecoverError> {
        let (config, durable, held) =
            (self.config.clone(), self.durable.clone(), self.held.clone());
        Node::recover(config, self.seed, durable, held, self.now)
    }

    fn read(bytes: &mut &[u8]) -> Result<Self, RecordingError> {
        let short = || RecordingError::Head("it ends too early".to_owned());
        let wrong = |error: &dyn core::fmt::Display| RecordingError::Head(error.to_string());
        let mut part = || take(bytes).ok_or_else(short);
        let written: Written = codec::decode(part()?).map_err(|e| wrong(&e))?;
        let held: Held = codec::decode(part()?).map_err(|e| wrong(&e))?;
        let durable = journal::scan(part()?).map_err(|e| wrong(&e))?.durable;
        let ticket = written.ticket.as_deref().map(Ticket::parse).transpose();
        let preset = Preset::named(&written.preset).ok_or_else(|| wrong(&"an unknown preset"))?;
        let config = Config {
            keypair: Keypair::from_seed(&written.secret),
            name: written.name,
            cell: written.cell,
            board: written.board,
            labels: written.labels,
            ticket: ticket.map_err(|e| wrong(&e))?,
            membership: written.membership,
            preset,
        };
        let (version, seed, now) = (written.version, written.seed, Time(written.now));
        Ok(Self { version, config, seed, durable, held, now })
    }
}

impl Call {
    /// What is appended for it.
    ///
    /// # Errors
    /// It is larger than anything that can happen to a node.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        let mut bytes = Vec::new();
        put(&mut bytes, &codec::encode(self)?);
        Ok(bytes)
    }
}

impl Recording {
    /// Reads a file.
    ///
    /// # Errors
    /// It is none, or damaged before its end.
    pub fn read(file: &[u8]) -> Result<Self, RecordingError> {
        let mut rest = file.strip_prefix(MAGIC).ok_or(RecordingError::Format)?;
        let head = Head::read(&mut rest)?;
        let mut calls = Vec::new();
        while let Some(part) = take(&mut rest) {
            let call = codec::decode(part).map_err(|e| RecordingError::Call(calls.len(), e))?;
            calls.push(call);
        }
        Ok(Self { head, calls, torn: rest.len() })
    }
}

/// Differs when effects differ in anything that can be seen.
pub fn digest(effects: &[Effect]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for effect in effects {
        hasher.update(format!("{effect:?}\n").as_bytes());
    }
    let mut word = [0; 8];
    word.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(word)
}

fn put(bytes: &mut Vec<u8>, part: &[u8]) {
    let len = u32::try_from(part.len()).unwrap_or(u32::MAX);
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(part);
}

/// The next part, if all of it is there.
fn take<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let (part, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    *bytes = rest;
    Some(part)
}
