//! One connection's side of the gate.
//!
//! Reads hello frames from the start and control frames once the peer is admitted, writes both lanes
//! through a [`Sender`] each, and opens and accepts bulk substreams. It also keeps the two clocks of
//! a connection: how long it may stay unadmitted, and how long it may flush when leaving.
//!
//! The two sides admit each other at slightly different moments, so a control substream may arrive
//! while its sender is still unadmitted here. It is *parked*: kept, at most one, and not read, so
//! that it occupies no memory of ours beyond the muxer's window for one stream. Admission starts to
//! read it. Nothing is lost, and nothing is delivered early. Bulk substreams are not parked: until
//! admission the protocol is not even offered.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::Stream;
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
    StreamUpgradeError,
};
use libp2p::swarm::{ConnectionHandler, ConnectionHandlerEvent, ConnectionId, SubstreamProtocol};
use tokio::time::{Sleep, sleep};

use super::bulk::{BulkError, BulkStream};
use super::frame::{Arrival, Inbound};
use super::peers::{BulkRequest, Lane, Peer, Standing};
use super::protocol::{Ask, Offer, Protocol};
use super::sender::{Sender, Step};
use super::{
    BULK_OPEN_TIMEOUT, FLUSH_TIMEOUT, FRAME_BYTES_MAX, HELLO_BYTES_MAX, HELLO_FRAMES_MAX,
    SUBSTREAM_OPEN_TIMEOUT,
};

/// What a connection tells the gate.
#[derive(Debug)]
pub(super) enum Report {
    /// A hello frame.
    Hello(Vec<u8>),
    /// A control frame of an admitted peer.
    Control(Vec<u8>),
    /// A bulk substream of an admitted peer.
    Bulk(BulkStream),
    /// The peer broke a rule; nothing more is read from it.
    Misbehaved(String),
    /// Not admitted in time.
    Late,
    /// Leaving, and everything is flushed or the time for it is over.
    Drained,
}

/// Why an outbound substream was asked for.
pub(super) enum Purpose {
    /// To write this lane's frames.
    Lane(Lane),
    /// For the `open_bulk` that waits for this answer.
    Bulk(BulkRequest),
}

/// See the module.
pub(super) struct Handler {
    peer: Arc<Peer>,
    connection: ConnectionId,
    /// Runs until admission.
    patience: Option<Pin<Box<Sleep>>>,
    /// Runs from the moment the peer is leaving.
    flush: Option<Pin<Box<Sleep>>>,
    hello_out: Sender,
    control_out: Sender,
    hello_in: Option<Inbound>,
    control_in: Option<Inbound>,
    parked: Option<Stream>,
    hellos_read: usize,
    bulk_in: VecDeque<BulkStream>,
    misbehaved: bool,
    /// `Late` or `Drained` was reported; the connection is about to be closed.
    over: bool,
}

type Event = ConnectionHandlerEvent<Ask, Purpose, Report>;

impl Handler {
    /// For a connection that was just established and may stay unadmitted for `patience`.
    pub(super) fn new(peer: Arc<Peer>, connection: ConnectionId, patience: Duration) -> Self {
        Self {
            peer,
            connection,
            patience: Some(Box::pin(sleep(patience))),
            flush: None,
            hello_out: Sender::new(Lane::Hello, connection),
            control_out: Sender::new(Lane::Control, connection),
            hello_in: None,
            control_in: None,
            parked: None,
            hellos_read: 0,
            bulk_in: VecDeque::new(),
            misbehaved: false,
            over: false,
        }
    }

    fn poll_clocks(&mut self, standing: Standing, cx: &mut Context<'_>) -> Poll<Report> {
        if self.over {
            return Poll::Pending;
        }
        if standing.admitted {
            self.patience = None;
        }
        if standing.leaving {
            let flush = self.flush.get_or_insert_with(|| Box::pin(sleep(FLUSH_TIMEOUT)));
            if flush.as_mut().poll(cx).is_ready() {
                self.over = true;
                return Poll::Ready(Report::Drained);
            }
        } else if let Some(patience) = &mut self.patience
            && patience.as_mut().poll(cx).is_ready()
        {
            self.over = true;
            return Poll::Ready(Report::Late);
        }
        Poll::Pending
    }

    /// Both senders; ready when one needs a substream, or when both are finished.
    fn poll_senders(&mut self, leaving: bool, cx: &mut Context<'_>) -> Poll<Event> {
        let mut finished = 0;
        for sender in [&mut self.hello_out, &mut self.control_out] {
            match sender.poll(&self.peer, leaving, cx) {
                Poll::Ready(Step::Open) => return Poll::Ready(open_lane(sender.lane())),
                Poll::Ready(Step::Finished) => finished += 1,
                Poll::Pending => {}
            }
        }
        if finished == 2 && !self.over {
            self.over = true;
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(Report::Drained));
        }
        Poll::Pending
    }

    fn poll_bulk(&mut self) -> Poll<Event> {
        if let Some(stream) = self.bulk_in.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(Report::Bulk(stream)));
        }
        let Some(request) = self.peer.next_bulk(self.connection) else { return Poll::Pending };
        let protocol = SubstreamProtocol::new(Ask(Protocol::Bulk), Purpose::Bulk(request))
            .with_timeout(BULK_OPEN_TIMEOUT);
        Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
    }

    /// The next frame that this peer may send us in its present standing.
    fn poll_inbound(&mut self, admitted: bool, cx: &mut Context<'_>) -> Poll<Report> {
        if self.misbehaved {
            return Poll::Pending;
        }
        if let Some(hello) = &mut self.hello_in
            && let Poll::Ready(arrival) = hello.poll(cx)
        {
            match arrival {
                Arrival::Frame(_) if self.hellos_read >= HELLO_FRAMES_MAX => {
                    return Poll::Ready(self.misbehave("more hello frames than allowed".into()));
                }
                Arrival::Frame(frame) => {
                    self.hellos_read += 1;
                    return Poll::Ready(Report::Hello(frame));
                }
                Arrival::Oversize(oversize) => {
                    let what = format!("hello frame: {oversize}");
                    return Poll::Ready(self.misbehave(what));
                }
                Arrival::End => self.hello_in = None,
            }
        }
        if !admitted {
            return Poll::Pending;
        }
        if let Some(stream) = self.parked.take() {
            self.control_in = Some(Inbound::new(stream, FRAME_BYTES_MAX));
        }
        if let Some(control) = &mut self.control_in
            && let Poll::Ready(arrival) = control.poll(cx)
        {
            match arrival {
                Arrival::Frame(frame) => return Poll::Ready(Report::Control(frame)),
                Arrival::Oversize(oversize) => {
                    let what = format!("control frame: {oversize}");
                    return Poll::Ready(self.misbehave(what));
                }
                Arrival::End => self.control_in = None,
            }
        }
        Poll::Pending
    }

    fn misbehave(&mut self, what: String) -> Report {
        self.misbehaved = true;
        (self.hello_in, self.control_in, self.parked) = (None, None, None);
        Report::Misbehaved(what)
    }

    /// A newer inbound substream takes the place of an older one: its sender has given that up.
    fn accept(&mut self, protocol: Protocol, stream: Stream) {
        match protocol {
            _ if self.misbehaved => {}
            Protocol::Hello => self.hello_in = Some(Inbound::new(stream, HELLO_BYTES_MAX)),
            Protocol::Control => self.parked = Some(stream),
            Protocol::Bulk => {
                if self.peer.standing().admitted
                    && let Some(slot) = self.peer.enter_bulk()
                {
                    self.bulk_in.push_back(BulkStream::new(stream, Some(slot)));
                }
            }
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Report;
    type InboundProtocol = Offer;
    type OutboundProtocol = Ask;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Purpose;

    fn listen_protocol(&self) -> SubstreamProtocol<Offer> {
        SubstreamProtocol::new(Offer { admitted: self.peer.standing().admitted }, ())
            .with_timeout(SUBSTREAM_OPEN_TIMEOUT)
    }

    // The gate closes connections, idleness does not.
    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let standing = self.peer.attend(self.connection, cx.waker());
        if let Poll::Ready(report) = self.poll_clocks(standing, cx) {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(report));
        }
        // Writing comes first, so that a peer that talks all the time cannot keep us silent.
        if let Poll::Ready(event) = self.poll_senders(standing.leaving, cx) {
            return Poll::Ready(event);
        }
        if let Poll::Ready(event) = self.poll_bulk() {
            return Poll::Ready(event);
        }
        self.poll_inbound(standing.admitted, cx).map(ConnectionHandlerEvent::NotifyBehaviour)
    }

    // The connection is closing: what has arrived on it is still delivered.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Option<Report>> {
        let admitted = self.peer.standing().admitted;
        match self.poll_inbound(admitted, cx) {
            Poll::Ready(report) => Poll::Ready(Some(report)),
            Poll::Pending => Poll::Ready(None),
        }
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Offer, Ask, (), Purpose>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (protocol, stream),
                ..
            }) => self.accept(protocol, stream),
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: stream,
                info,
            }) => match info {
                Purpose::Lane(Lane::Hello) => self.hello_out.opened(stream),
                Purpose::Lane(Lane::Control) => self.control_out.opened(stream),
                // Nobody waits any more: dropping the stream resets it.
                Purpose::Bulk(request) => drop(request.send(Ok(stream))),
            },
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => match info {
                Purpose::Lane(Lane::Hello) => self.hello_out.failed(),
                Purpose::Lane(Lane::Control) => self.control_out.failed(),
                Purpose::Bulk(request) => drop(request.send(Err(refusal(&error)))),
            },
            _ => {}
        }
    }
}

fn open_lane(lane: Lane) -> Event {
    let ask = match lane {
        Lane::Hello => Ask(Protocol::Hello),
        Lane::Control => Ask(Protocol::Control),
    };
    let protocol =
        SubstreamProtocol::new(ask, Purpose::Lane(lane)).with_timeout(SUBSTREAM_OPEN_TIMEOUT);
    ConnectionHandlerEvent::OutboundSubstreamRequest { protocol }
}

fn refusal(error: &StreamUpgradeError<Infallible>) -> BulkError {
    match error {
        StreamUpgradeError::Timeout => BulkError::Timeout,
        other => BulkError::Refused(other.to_string()),
    }
}
