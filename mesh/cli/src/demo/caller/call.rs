//! Calls to a service of which only the name is known.
//!
//! Any living board is asked where it is. A board may not have heard yet that the service has moved: if
//! what it said did not do, the next one is asked.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex as Lock, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::client::Client;
use crate::kv::EPOCH_HEADER;
use crate::schema::Resolved;

/// A board that takes longer is asked no more; the next one is.
const BOARD_WAIT: Duration = Duration::from_secs(1);
/// Everybody who asks within this time gets the same answer.
const FRESH: Duration = Duration::from_millis(10);

/// Who asks the boards.
#[derive(Debug)]
pub(in crate::demo) struct Guide {
    name: &'static str,
    homes: Vec<PathBuf>,
    last: Mutex<Last>,
    learnt: Lock<BTreeSet<String>>,
}

#[derive(Default, Debug)]
struct Last {
    board: usize,
    told: Option<(Instant, Option<String>)>,
}

/// An open connection to a service.
#[derive(Debug)]
pub(in crate::demo) struct Connection {
    sender: SendRequest<Full<Bytes>>,
}

/// What a service answered.
#[derive(Clone, Debug)]
pub(in crate::demo) struct Answer {
    /// How it went.
    pub(in crate::demo) status: StatusCode,
    /// Under which right it was given; 0: none was named.
    pub(in crate::demo) epoch: u64,
    /// The rest.
    pub(in crate::demo) body: Bytes,
}

impl Guide {
    /// Boards with these folders are asked for the service `name`.
    pub(in crate::demo) fn new(name: &'static str, homes: Vec<PathBuf>) -> Self {
        Self { name, homes, last: Mutex::default(), learnt: Lock::default() }
    }

    /// Every address that was ever told.
    pub(in crate::demo) fn learnt(&self) -> Vec<String> {
        self.learnt.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Where it is, as far as the first board knows that answers.
    pub(in crate::demo) async fn locate(&self) -> Option<String> {
        let mut last = self.last.lock().await;
        if let Some((at, told)) = &last.told
            && at.elapsed() < FRESH
        {
            return told.clone();
        }
        let mut found = None;
        for _ in 0..self.homes.len() {
            found = self.ask(&self.homes[last.board]).await;
            if found.is_some() {
                break;
            }
            last.board = (last.board + 1) % self.homes.len();
        }
        if let Some(address) = &found {
            let mut learnt = self.learnt.lock().unwrap_or_else(PoisonError::into_inner);
            learnt.insert(address.clone());
        }
        last.told = Some((Instant::now(), found.clone()));
        found
    }

    /// What was told did not do: another board is asked next time.
    pub(in crate::demo) async fn doubt(&self) {
        let mut last = self.last.lock().await;
        if last.told.as_ref().is_some_and(|(at, _)| at.elapsed() >= FRESH) {
            last.board = (last.board + 1) % self.homes.len();
            last.told = None;
        }
    }

    /// A connection to wherever it is.
    pub(in crate::demo) async fn connect(&self) -> Option<Connection> {
        Connection::open(self.locate().await?).await
    }

    /// One answer to `GET path`.
    pub(in crate::demo) async fn get(&self, path: &str, patience: Duration) -> Option<Bytes> {
        let mut connection = self.connect().await?;
        let answer = connection.call(Method::GET, path, Bytes::new(), patience).await?;
        (answer.status == StatusCode::OK).then_some(answer.body)
    }

    async fn ask(&self, home: &std::path::Path) -> Option<String> {
        let client = Client::new(home.to_owned(), String::new());
        let path = format!("/v1/resolve/{}", self.name);
        let resolved = timeout(BOARD_WAIT, client.get::<Resolved>(&path)).await.ok()?.ok()?;
        resolved.endpoints.into_values().next()
    }
}

impl Connection {
    /// A connection to `address`.
    pub(in crate::demo) async fn open(address: String) -> Option<Self> {
        let stream = timeout(BOARD_WAIT, TcpStream::connect(&address)).await.ok()?.ok()?;
        let _ = stream.set_nodelay(true);
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        // Ends with the connection; its errors reach the request as well.
        tokio::spawn(connection);
        Some(Self { sender })
    }

    /// One request; nothing if the connection broke or it took too long.
    pub(in crate::demo) async fn call(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
        patience: Duration,
    ) -> Option<Answer> {
        let work = async {
            self.sender.ready().await.ok()?;
            let builder = Request::builder().method(method).uri(path).header("host", "kv");
            let request = builder.body(Full::new(body)).ok()?;
            let response = self.sender.send_request(request).await.ok()?;
            let status = response.status();
            let epoch = response.headers().get(EPOCH_HEADER).and_then(|it| it.to_str().ok());
            let epoch = epoch.and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
            let body = response.into_body().collect().await.ok()?.to_bytes();
            Some(Answer { status, epoch, body })
        };
        timeout(patience, work).await.ok()?
    }
}
