//! A caller of the service that knows nothing but its name.
//!
//! It asks any living board where the service is, writes over two connections, and remembers what
//! was acknowledged. A write that fails is tried again, under the same key, wherever the service is
//! by then; how often that happens, and for how long nothing was acknowledged, is counted.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::client::Client;
use crate::exit::{Failure, Outcome};
use crate::schema::Resolved;

/// Connections that write at the same time.
const CONNECTIONS: usize = 2;
/// A board or service that takes longer is asked no more; the next one is.
const ANSWER_WAIT: Duration = Duration::from_secs(1);
/// Between two writes, and before another try.
const PAUSE: Duration = Duration::from_millis(5);

/// The writers, while they write.
#[derive(Debug)]
pub(super) struct Caller {
    name: &'static str,
    homes: Arc<Vec<PathBuf>>,
    written: Arc<Mutex<Written>>,
    // Dropping it ends them.
    _writers: JoinSet<()>,
}

/// What has been acknowledged, and what has not.
#[derive(Debug)]
struct Written {
    /// The highest number acknowledged on each connection.
    last: [u64; CONNECTIONS],
    acknowledged: u64,
    failed: u64,
    since: Instant,
    longest: Duration,
}

/// What happened since the figures were last taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figures {
    /// Writes that were acknowledged.
    pub(super) acknowledged: u64,
    /// Requests that got no answer or a bad one; each was made again.
    pub(super) failed: u64,
    /// The longest time between two acknowledgements.
    pub(super) longest: Duration,
}

type Connection = SendRequest<Full<Bytes>>;

impl Caller {
    /// Starts to write to the service `name`; boards with these folders are asked where it is.
    pub(super) fn start(name: &'static str, homes: Vec<PathBuf>) -> Self {
        let since = Instant::now();
        let written = Written {
            last: [0; CONNECTIONS],
            acknowledged: 0,
            failed: 0,
            since,
            longest: Duration::ZERO,
        };
        let written = Arc::new(Mutex::new(written));
        let homes = Arc::new(homes);
        let mut writers = JoinSet::new();
        for number in 0..CONNECTIONS {
            writers.spawn(write_on(name, number, homes.clone(), written.clone()));
        }
        Self { name, homes, written, _writers: writers }
    }

    /// What happened since this was last asked.
    pub(super) fn take(&self) -> Figures {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let figures = Figures {
            acknowledged: written.acknowledged,
            failed: written.failed,
            longest: written.longest.max(written.since.elapsed()),
        };
        (written.acknowledged, written.failed) = (0, 0);
        written.longest = Duration::ZERO;
        figures
    }

    /// Waits until each connection has had another acknowledgement; false if that takes too long.
    pub(super) async fn goes_on(&self, patience: Duration) -> bool {
        let begun = Instant::now();
        let before = self.last();
        while begun.elapsed() < patience {
            if self.last().iter().zip(before).all(|(now, before)| *now > before) {
                return true;
            }
            sleep(PAUSE).await;
        }
        false
    }

    /// Ends the writers and reads every acknowledged write back; gives how many there were and how
    /// many of them are missing.
    ///
    /// # Errors
    /// The service cannot be asked.
    pub(super) async fn read_back(self, patience: Duration) -> Outcome<(u64, u64)> {
        let last = self.last();
        drop(self._writers);
        let work = async {
            let mut connection = None;
            let (mut all, mut missing) = (0, 0);
            for (number, last) in last.iter().enumerate() {
                for count in 1..=*last {
                    let value = read_one(self.name, &self.homes, &mut connection, number, count);
                    all += 1;
                    missing += u64::from(value.await != value_of(number, count));
                }
            }
            (all, missing)
        };
        let late = |_| Failure::failed("the service did not give back what was written in time");
        timeout(patience, work).await.map_err(late)
    }

    fn last(&self) -> [u64; CONNECTIONS] {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).last
    }
}

/// One answer of the service's own, without knowing where it is.
pub(super) async fn ask(name: &str, homes: &[PathBuf], path: &str) -> Option<Bytes> {
    let mut connection = connect(name, homes).await?;
    let (status, body) = request(&mut connection, Method::GET, path, Bytes::new()).await?;
    (status == StatusCode::OK).then_some(body)
}

async fn write_on(
    name: &'static str,
    number: usize,
    homes: Arc<Vec<PathBuf>>,
    written: Arc<Mutex<Written>>,
) {
    let mut connection: Option<Connection> = None;
    let mut count = 1;
    loop {
        if connection.is_none() {
            connection = connect(name, &homes).await;
        }
        let (mut asked, mut done) = (false, false);
        if let Some(open) = &mut connection {
            asked = true;
            let (path, body) = (key_of(number, count), value_of(number, count));
            let answer = request(open, Method::PUT, &path, body).await;
            done = answer.is_some_and(|(status, _)| status == StatusCode::NO_CONTENT);
        }
        {
            let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
            if done {
                written.last[number] = count;
                written.acknowledged += 1;
                written.longest = written.longest.max(written.since.elapsed());
                written.since = Instant::now();
            }
            written.failed += u64::from(asked && !done);
        }
        count += u64::from(done);
        if !done {
            connection = None;
        }
        sleep(PAUSE).await;
    }
}

/// The value, tried until the service answers something about it.
async fn read_one(
    name: &str,
    homes: &[PathBuf],
    connection: &mut Option<Connection>,
    number: usize,
    count: u64,
) -> Bytes {
    loop {
        if connection.is_none() {
            *connection = connect(name, homes).await;
        }
        if let Some(open) = connection {
            let answer = request(open, Method::GET, &key_of(number, count), Bytes::new()).await;
            match answer {
                Some((StatusCode::OK, body)) => return body,
                Some((StatusCode::NOT_FOUND, _)) => return Bytes::new(),
                _ => *connection = None,
            }
        }
        sleep(PAUSE).await;
    }
}

fn key_of(number: usize, count: u64) -> String {
    format!("/k/caller-{number}-{count}")
}

fn value_of(number: usize, count: u64) -> Bytes {
    format!("write {count} of connection {number}").into()
}

/// A connection to wherever the first board that answers says that the service is.
async fn connect(name: &str, homes: &[PathBuf]) -> Option<Connection> {
    for home in homes {
        let client = Client::new(home.clone(), String::new());
        let path = format!("/v1/resolve/{name}");
        let Ok(Ok(resolved)) = timeout(ANSWER_WAIT, client.get::<Resolved>(&path)).await else {
            continue;
        };
        let Some(address) = resolved.endpoints.into_values().next() else { continue };
        let Ok(Ok(stream)) = timeout(ANSWER_WAIT, TcpStream::connect(&address)).await else {
            continue;
        };
        let _ = stream.set_nodelay(true);
        let Ok((sender, connection)) = http1::handshake(TokioIo::new(stream)).await else {
            continue;
        };
        // Ends with the connection; its errors reach the request as well.
        tokio::spawn(connection);
        return Some(sender);
    }
    None
}

async fn request(
    connection: &mut Connection,
    method: Method,
    path: &str,
    body: Bytes,
) -> Option<(StatusCode, Bytes)> {
    let work = async {
        connection.ready().await.ok()?;
        let builder = Request::builder().method(method).uri(path).header("host", "kv");
        let response = connection.send_request(builder.body(Full::new(body)).ok()?).await.ok()?;
        let status = response.status();
        Some((status, response.into_body().collect().await.ok()?.to_bytes()))
    };
    timeout(ANSWER_WAIT, work).await.ok()?
}
