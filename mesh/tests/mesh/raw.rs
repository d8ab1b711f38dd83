//! A stranger: a connection that is made by hand, below libp2p's swarm, so that it can say anything.
//!
//! Its key is proven by the transport like everybody's. On top of that it opens substreams, writes
//! whatever bytes it is told to, and reads what the node answers until the node hangs up. The example
//! `hello-flood` uses this file, too.

use std::future::poll_fn;
use std::io;
use std::task::{Poll, ready};
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use hedgerow::proto::bounded::{List, Text};
use hedgerow::proto::id::{CellId, Incarnation, Keypair, MeshId};
use hedgerow::proto::record::{Board, Name, NodeRecord, Reachability};
use hedgerow::proto::signed::Signed;
use hedgerow::proto::ticket::Ticket;
use hedgerow::proto::wire::hello::Hello;
use hedgerow::proto::wire::{self, Message, WIRE_VERSION, WIRE_VERSION_MIN};
use libp2p::core::muxing::{StreamMuxerBox, StreamMuxerExt, SubstreamBox};
use libp2p::core::transport::{DialOpts, PortUse};
use libp2p::core::upgrade::Version;
use libp2p::core::{Endpoint, Transport};
use libp2p::{Multiaddr, identity, noise, quic, tcp, yamux};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

pub(crate) const HELLO: &str = "/hedgerow/hello/1";
pub(crate) const CONTROL: &str = "/hedgerow/control/1";
/// Every substream begins with this, libp2p's way to agree on a protocol.
const MULTISTREAM: &str = "/multistream/1.0.0";
const DIAL: Duration = Duration::from_secs(10);

/// A connection to a node.
pub(crate) struct Line {
    opens: mpsc::Sender<oneshot::Sender<SubstreamBox>>,
    heard: mpsc::UnboundedReceiver<Vec<u8>>,
}

impl Line {
    /// Connects, over whatever the address says, with a proof of this key.
    pub(crate) async fn dial(key: &Keypair, address: &str) -> io::Result<Self> {
        let keys = identity::Keypair::ed25519_from_bytes(&mut key.seed()[..]);
        let keys = keys.map_err(io::Error::other)?;
        let tcp = tcp::tokio::Transport::new(tcp::Config::new().nodelay(true))
            .upgrade(Version::V1)
            .authenticate(noise::Config::new(&keys).map_err(io::Error::other)?)
            .multiplex(yamux::Config::default())
            .map(|(_, muxer), _| StreamMuxerBox::new(muxer));
        let quic = quic::tokio::Transport::new(quic::Config::new(&keys))
            .map(|(_, muxer), _| StreamMuxerBox::new(muxer));
        let mut both = quic.or_transport(tcp).map(|either, _| either.into_inner());
        let address: Multiaddr = address.parse().map_err(io::Error::other)?;
        let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
        let dialled = both.dial(address, options).map_err(io::Error::other)?;
        let muxer = timeout(DIAL, dialled).await?.map_err(io::Error::other)?;
        let (opens, wanted) = mpsc::channel(1);
        let (tell, heard) = mpsc::unbounded_channel();
        tokio::spawn(drive(muxer, wanted, tell));
        Ok(Self { opens, heard })
    }

    /// Opens a substream and writes these bytes. It stays open as long as it is held.
    pub(crate) async fn write(&self, protocol: &str, bytes: &[u8]) -> io::Result<SubstreamBox> {
        let (answer, opened) = oneshot::channel();
        self.opens.send(answer).await.map_err(io::Error::other)?;
        let mut stream = opened.await.map_err(io::Error::other)?;
        let mut all = [line(MULTISTREAM), line(protocol)].concat();
        all.extend_from_slice(bytes);
        stream.write_all(&all).await?;
        stream.flush().await?;
        Ok(stream)
    }

    /// The next message of the node; none once it has hung up.
    pub(crate) async fn hear(&mut self) -> Option<Message> {
        let frame = self.heard.recv().await?;
        Some(wire::decode(&frame).expect("a node writes what a node can read"))
    }
}

/// A frame as it is written: its length, then itself.
pub(crate) fn framed(frame: &[u8]) -> Vec<u8> {
    let length = u32::try_from(frame.len()).expect("short");
    [&length.to_le_bytes(), frame].concat()
}

/// What a board that holds this ticket says first, signed by `signer` and sent by `sender`.
pub(crate) fn hello(ticket: &Ticket, sender: &Keypair, signer: &Keypair) -> Hello {
    let record = NodeRecord {
        node: sender.public(),
        incarnation: Incarnation(1),
        cell: CellId::default(),
        name: Name::capped("stranger"),
        board: Board::default(),
        addresses: List::capped([Text::capped("/ip4/127.0.0.1/tcp/9")]),
        reachability: Reachability::Unknown,
        link_cost: 1,
        labels: List::new(),
        extensions: List::new(),
    };
    Hello {
        wire: (WIRE_VERSION_MIN, WIRE_VERSION),
        mesh: MeshId::of_root(&ticket.root),
        cell: CellId::default(),
        record: Signed::seal(&record, signer).expect("a short record"),
        credential: ticket.bind_node(&sender.public()),
        admission: None,
        answer: false,
    }
}

/// A message as a frame without its length.
pub(crate) fn encoded(message: impl Into<Message>) -> Vec<u8> {
    wire::encode(&message.into()).expect("a short message")
}

/// Dice that fall the same way in every run (splitmix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }

    pub(crate) fn key(&mut self) -> Keypair {
        let mut seed = [0; 32];
        seed.copy_from_slice(&self.bytes(32));
        Keypair::from_seed(&seed)
    }

    /// `frame` with one bit changed, but not in a hello's range of wire versions: that is the one part
    /// of a hello that nothing vouches for, and a wider range is as good.
    pub(crate) fn flipped(&mut self, frame: &[u8]) -> Vec<u8> {
        let mut flipped = frame.to_vec();
        let at = 4 + self.below(frame.len() - 4);
        flipped[at] ^= 1 << self.below(8);
        flipped
    }
}

/// Owns the connection until the node hangs up or the [`Line`] is dropped.
async fn drive(
    mut muxer: StreamMuxerBox,
    mut wanted: mpsc::Receiver<oneshot::Sender<SubstreamBox>>,
    heard: mpsc::UnboundedSender<Vec<u8>>,
) {
    let mut waiting = None;
    poll_fn(|cx| {
        loop {
            while let Poll::Ready(inbound) = muxer.poll_inbound_unpin(cx) {
                let Ok(stream) = inbound else { return Poll::Ready(()) };
                tokio::spawn(listen(stream, heard.clone()));
            }
            while let Poll::Ready(event) = muxer.poll_unpin(cx) {
                if event.is_err() {
                    return Poll::Ready(());
                }
            }
            if waiting.is_none() {
                match ready!(wanted.poll_recv(cx)) {
                    Some(answer) => waiting = Some(answer),
                    None => return Poll::Ready(()),
                }
            }
            let Ok(stream) = ready!(muxer.poll_outbound_unpin(cx)) else {
                return Poll::Ready(());
            };
            let answer = waiting.take().expect("set above");
            // An error means that the one who asked has gone.
            let _told_or_gone = answer.send(stream);
            // Once more: Yamux takes what is written to a new stream only when it is polled again.
        }
    })
    .await;
}

/// Agrees to hello and control, refuses everything else, and reads frames to the end.
async fn listen(mut stream: SubstreamBox, heard: mpsc::UnboundedSender<Vec<u8>>) {
    // An error means that the node hung up, which `hear` tells in its own way.
    let _read_or_cut: io::Result<()> = async {
        loop {
            let mut length = [0];
            stream.read_exact(&mut length).await?;
            let mut asked = vec![0; length[0].into()];
            stream.read_exact(&mut asked).await?;
            let known = [MULTISTREAM, HELLO, CONTROL].map(line);
            let whole = [&length[..], &asked].concat();
            let answer = if known.contains(&whole) { whole.clone() } else { line("na") };
            stream.write_all(&answer).await?;
            stream.flush().await?;
            if known[1..].contains(&whole) {
                break;
            }
        }
        let mut length = [0; 4];
        while stream.read_exact(&mut length).await.is_ok() {
            let mut frame = vec![0; u32::from_le_bytes(length) as usize];
            stream.read_exact(&mut frame).await?;
            // An error means that nobody listens.
            let _taken_or_not = heard.send(frame);
        }
        // Tells the node that everything was read, so that it need not wait.
        stream.close().await
    }
    .await;
}

/// A line of multistream: a length, and a text that ends with a line feed.
fn line(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len() + 1).expect("short");
    [&[length], text.as_bytes(), b"\n"].concat()
}
