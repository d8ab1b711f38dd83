//! What happens, as a stream.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::Stream;

use super::BoxFuture;
use crate::net::{self, Observed};
use crate::proto::io::Event;

/// A bounded [`Stream`] of what happens; see [`Mesh::events`](super::Mesh::events). It ends when the node
/// stops.
///
/// ```no_run
/// # async fn listen(mesh: hedgerow::Mesh) {
/// use futures::StreamExt;
/// use hedgerow::mesh::{Event, Observed};
///
/// let mut events = mesh.events();
/// while let Some(observed) = events.next().await {
///     match observed {
///         Observed::Event(happened) => match happened.event {
///             Event::MemberUp { name, .. } => println!("{name} is up"),
///             Event::MemberDown { name, .. } => println!("{name} is down"),
///             _ => {}
///         },
///         Observed::Lagged(missed) => println!("too slow: {missed} events missed"),
///     }
/// }
/// # }
/// ```
pub struct Events {
    next: BoxFuture<'static, (Option<Observed>, net::Events)>,
}

impl Events {
    pub(super) fn new(events: net::Events) -> Self {
        Self { next: Box::pin(next(events)) }
    }
}

impl Stream for Events {
    type Item = Observed;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Observed>> {
        let (observed, events) = ready!(self.next.as_mut().poll(cx));
        self.next = Box::pin(next(events));
        Poll::Ready(observed)
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Events")
    }
}

async fn next(mut events: net::Events) -> (Option<Observed>, net::Events) {
    loop {
        match events.next().await {
            Some(Observed::Event(stamped)) if matches!(stamped.event, Event::Topic { .. }) => {}
            observed => return (observed, events),
        }
    }
}
