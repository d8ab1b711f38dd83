//! The three protocol names, and which of them an inbound substream may choose.
//!
//! Negotiation is libp2p's multistream-select; nothing more happens here than handing the naked
//! substream on together with the name that was agreed on.

use std::convert::Infallible;
use std::future::{Ready, ready};

use libp2p::Stream;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};

/// What a substream is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Protocol {
    /// Who are you, may you come in: the only one that works before admission.
    Hello,
    /// Messages of the mesh.
    Control,
    /// Chunks.
    Bulk,
}

impl AsRef<str> for Protocol {
    fn as_ref(&self) -> &str {
        match self {
            Self::Hello => "/hedgerow/hello/1",
            Self::Control => "/hedgerow/control/1",
            Self::Bulk => "/hedgerow/bulk/1",
        }
    }
}

/// What an inbound substream may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offer {
    /// The peer is admitted.
    pub(super) admitted: bool,
}

impl UpgradeInfo for Offer {
    type Info = Protocol;
    type InfoIter = Vec<Protocol>;

    // Control is offered before admission, too: the peer may have admitted us a moment earlier. The
    // handler parks such a substream unread.
    fn protocol_info(&self) -> Self::InfoIter {
        match self.admitted {
            false => vec![Protocol::Hello, Protocol::Control],
            true => vec![Protocol::Hello, Protocol::Control, Protocol::Bulk],
        }
    }
}

impl InboundUpgrade<Stream> for Offer {
    type Output = (Protocol, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Self::Error>>;

    fn upgrade_inbound(self, stream: Stream, agreed: Protocol) -> Self::Future {
        ready(Ok((agreed, stream)))
    }
}

/// An outbound substream for one protocol.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask(pub(super) Protocol);

impl UpgradeInfo for Ask {
    type Info = Protocol;
    type InfoIter = [Protocol; 1];

    fn protocol_info(&self) -> Self::InfoIter {
        [self.0]
    }
}

impl OutboundUpgrade<Stream> for Ask {
    type Output = Stream;
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Self::Error>>;

    fn upgrade_outbound(self, stream: Stream, _: Protocol) -> Self::Future {
        ready(Ok(stream))
    }
}
