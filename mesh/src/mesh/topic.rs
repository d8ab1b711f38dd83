//! Topics: small messages to every board, best effort.
//!
//! Nothing is stored: who is away misses it. A message is a value as JSON, so that programs in other
//! languages and later versions of this one can read it as far as serde allows.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::Stream;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::broadcast;

use super::{BoxFuture, MeshError};
use crate::net::{Client, Published, TryTellError};
use crate::proto::bounded::{Blob, Text};
use crate::proto::id::NodeId;
use crate::proto::io::{Command, Reply};
use crate::proto::wire::gossip::{PUBLICATION_BYTES_MAX, TOPIC_BYTES_MAX};

/// A topic with messages of type `T`; see [`Mesh::topic`](super::Mesh::topic). Cheap to clone.
pub struct Topic<T> {
    client: Client,
    name: Text<TOPIC_BYTES_MAX>,
    of: PhantomData<fn(T) -> T>,
}

/// Why a message was not published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// It cannot be encoded.
    #[error("the message cannot be encoded: {0}")]
    Encode(String),
    /// It is longer than a message may be.
    #[error("the message has {bytes} bytes, at most {max} fit: send less, or where to fetch it")]
    TooLarge {
        /// How long it is, as JSON.
        bytes: usize,
        /// 16 KiB.
        max: usize,
    },
    /// The node is busy with 256 other requests. Only from [`Topic::try_publish`].
    #[error("this node is busy: try again in a moment, or use publish(…), which waits")]
    Full,
    /// The node does not take part at the moment.
    #[error("{0}")]
    NotRunning(String),
    /// The node has stopped.
    #[error("this node has stopped")]
    Gone,
}

impl<T> Topic<T> {
    pub(super) fn new(client: Client, name: &str) -> Result<Self, MeshError> {
        match Text::try_from(name) {
            Ok(text) if !name.is_empty() => Ok(Self { client, name: text, of: PhantomData }),
            _ => Err(MeshError::Name {
                name: name.to_owned(),
                what: "a topic's name",
                max: TOPIC_BYTES_MAX,
            }),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What others publish from now on. Who is 64 messages late misses the oldest and is told how many.
    /// What this board publishes is not heard on this board.
    pub fn subscribe(&self) -> Subscriber<T> {
        Subscriber { next: Box::pin(next(self.client.topic(&self.name))), of: PhantomData }
    }
}

impl<T: Serialize> Topic<T> {
    /// Publishes a message, at most 16 KiB as JSON, to every board that is there. Waits while this node is
    /// busy; returns once it has sent it on.
    ///
    /// # Errors
    /// It cannot be encoded, is too long, or this node does not take part. A board that is too slow
    /// misses it, which nobody is told.
    pub async fn publish(&self, message: &T) -> Result<(), PublishError> {
        match self.client.ask(self.command(message)?).await {
            Ok(Reply::Error(error)) => Err(PublishError::NotRunning(error.message)),
            Ok(_) => Ok(()),
            Err(_) => Err(PublishError::Gone),
        }
    }

    /// As [`Topic::publish`], without waiting: a node that does not take part drops the message.
    ///
    /// # Errors
    /// [`PublishError::Full`], or as above.
    pub fn try_publish(&self, message: &T) -> Result<(), PublishError> {
        self.client.try_tell(self.command(message)?).map_err(|error| match error {
            TryTellError::Full => PublishError::Full,
            TryTellError::Gone => PublishError::Gone,
        })
    }

    fn command(&self, message: &T) -> Result<Command, PublishError> {
        let body =
            serde_json::to_vec(message).map_err(|error| PublishError::Encode(error.to_string()))?;
        let body = Blob::try_from(body).map_err(|over| PublishError::TooLarge {
            bytes: over.len,
            max: PUBLICATION_BYTES_MAX,
        })?;
        Ok(Command::Publish { topic: self.name.clone(), body })
    }
}

impl<T> Clone for Topic<T> {
    fn clone(&self) -> Self {
        Self { client: self.client.clone(), name: self.name.clone(), of: PhantomData }
    }
}

impl<T> fmt::Debug for Topic<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Topic({})", &*self.name)
    }
}

/// A bounded [`Stream`] of a topic's messages; it ends when the node stops.
pub struct Subscriber<T> {
    next: BoxFuture<'static, (Received, broadcast::Receiver<Published>)>,
    of: PhantomData<fn() -> T>,
}

type Received = Result<Published, broadcast::error::RecvError>;

/// One item of a [`Subscriber`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Heard<T> {
    /// A message, and the board that published it: a member, proved by its key.
    Message(NodeId, T),
    /// A message of that board that is not of this type; why, for people.
    Garbled(NodeId, String),
    /// This listener was too slow and missed that many.
    Lagged(u64),
}

impl<T: DeserializeOwned> Stream for Subscriber<T> {
    type Item = Heard<T>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Heard<T>>> {
        let (received, messages) = ready!(self.next.as_mut().poll(cx));
        self.next = Box::pin(next(messages));
        Poll::Ready(match received {
            Ok((from, body)) => Some(match serde_json::from_slice(&body) {
                Ok(message) => Heard::Message(from, message),
                Err(error) => Heard::Garbled(from, error.to_string()),
            }),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Heard::Lagged(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        })
    }
}

impl<T> fmt::Debug for Subscriber<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subscriber")
    }
}

async fn next(
    mut messages: broadcast::Receiver<Published>,
) -> (Received, broadcast::Receiver<Published>) {
    (messages.recv().await, messages)
}
