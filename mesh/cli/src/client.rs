//! The client side of `/v1`: one request for each connection to the daemon's unix socket.
//!
//! Every answer is bounded in size, and in time unless it is a stream. A daemon that does not answer
//! is the most common fault of all, so it has its own exit code and a sentence with what to do.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::exit::{Exit, Failure, Outcome};
use crate::folder;
use crate::schema::Problem;

/// From connecting to the whole answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// Bytes of one answer: the largest mesh with the longest names fits.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Bytes of one line of a stream.
const LINE_BYTES_MAX: usize = 1 << 20;

/// How to reach the daemon of one data folder.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    home: PathBuf,
    /// The command that starts the daemon, for people.
    start: String,
}

/// A stream of lines.
#[derive(Debug)]
pub(crate) struct Lines {
    body: Incoming,
    kept: Vec<u8>,
}

impl Client {
    /// Nothing is opened yet.
    pub(crate) fn new(home: PathBuf, start: String) -> Self {
        Self { home, start }
    }

    /// Asks for `path` and reads the answer.
    ///
    /// # Errors
    /// No daemon answers, or it answers with a problem.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Outcome<T> {
        let body = self.within(self.whole(Method::GET, path, Vec::new())).await?;
        serde_json::from_slice(&body).map_err(|error| {
            let message = format!(
                "the daemon's answer is not understood ({error}); \
                 `hedgerow version` shows whether it runs another version than this program"
            );
            Failure::new(Exit::Failed, "bad-answer", message)
        })
    }

    /// Posts `body` to `path`.
    ///
    /// # Errors
    /// As for [`Client::get`].
    pub(crate) async fn post(&self, path: &str, body: Vec<u8>) -> Outcome {
        self.within(self.whole(Method::POST, path, body)).await.map(drop)
    }

    /// Posts to `path` what may take its time: at most `patience`.
    ///
    /// # Errors
    /// As for [`Client::get`].
    pub(crate) async fn post_long(&self, path: &str, patience: Duration) -> Outcome {
        self.within_time(patience, self.whole(Method::POST, path, Vec::new())).await.map(drop)
    }

    /// Asks for a stream of lines.
    ///
    /// # Errors
    /// As for [`Client::get`].
    pub(crate) async fn stream(&self, path: &str) -> Outcome<Lines> {
        let response = self.within(self.open(Method::GET, path, Vec::new())).await?;
        Ok(Lines { body: response.into_body(), kept: Vec::new() })
    }

    async fn within<T>(&self, work: impl Future<Output = Outcome<T>>) -> Outcome<T> {
        self.within_time(PATIENCE, work).await
    }

    async fn within_time<T>(
        &self,
        patience: Duration,
        work: impl Future<Output = Outcome<T>>,
    ) -> Outcome<T> {
        timeout(patience, work).await.unwrap_or_else(|_| {
            let message = format!(
                "the daemon in {} took the call but has not answered for {} s: it hangs or its \
                 board is overloaded; look at its log",
                self.home.display(),
                patience.as_secs()
            );
            Err(Failure::new(Exit::NoDaemon, "no-answer", message))
        })
    }

    async fn whole(&self, method: Method, path: &str, body: Vec<u8>) -> Outcome<Bytes> {
        read_all(self.open(method, path, body).await?).await
    }

    /// The response's head; an error status has become a failure.
    async fn open(&self, method: Method, path: &str, body: Vec<u8>) -> Outcome<Response<Incoming>> {
        let socket = self.home.join("api.sock");
        let stream = UnixStream::connect(&socket).await.map_err(|e| self.unreachable(&e))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
        // Ends with the connection; its errors reach the request as well.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "hedgerow")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| Failure::failed(format!("cannot ask for {path}: {error}")))?;
        let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let problem = serde_json::from_slice(&read_all(response).await?).unwrap_or(Problem {
            code: "bad-answer".to_owned(),
            message: format!("the daemon answered {status} without saying why"),
        });
        Err(Failure::new(exit_of(&problem.code), problem.code, problem.message))
    }

    fn unreachable(&self, error: &io::Error) -> Failure {
        let home = self.home.display();
        let (code, message) = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => (
                "no-daemon",
                folder::not_ready(&self.home).map_or_else(
                    || {
                        format!(
                            "no hedgerow runs with the data folder {home}; start it: {}",
                            self.start
                        )
                    },
                    |(_, why)| why,
                ),
            ),
            io::ErrorKind::PermissionDenied => (
                "no-right",
                format!("{home}/api.sock belongs to another user; run this as the user of `up`"),
            ),
            _ => ("no-daemon", format!("cannot reach {home}/api.sock: {error}")),
        };
        Failure::new(Exit::NoDaemon, code, message)
    }
}

impl Lines {
    /// The next line that is not empty; none at the end.
    ///
    /// # Errors
    /// The connection broke, or a line is too long.
    pub(crate) async fn next(&mut self) -> Outcome<Option<String>> {
        loop {
            while let Some(end) = self.kept.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.kept.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if !line.is_empty() {
                    return Ok(Some(line));
                }
            }
            if self.kept.len() > LINE_BYTES_MAX {
                return Err(Failure::failed("the daemon sent a line that never ends"));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(bytes) = frame.data_ref() {
                        self.kept.extend_from_slice(bytes);
                    }
                }
                Some(Err(error)) => return Err(broken(&error)),
                None => return Ok(None),
            }
        }
    }
}

/// `text` as one segment of a path.
pub(crate) fn segment(text: &str) -> String {
    text.bytes().fold(String::new(), |mut path, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => path.push(byte.into()),
            _ => path.push_str(&format!("%{byte:02X}")),
        }
        path
    })
}

async fn read_all(response: Response<Incoming>) -> Outcome<Bytes> {
    match Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => Err(broken(&*error)),
    }
}

fn broken(error: &dyn std::error::Error) -> Failure {
    let message = format!(
        "the daemon hung up in the middle of its answer ({error}); \
         it may have been stopped just now"
    );
    Failure::new(Exit::NoDaemon, "hung-up", message)
}

fn exit_of(code: &str) -> Exit {
    match code {
        "not-found" | "no-such-state" | "ambiguous" => Exit::NotFound,
        "halted" => Exit::Halted,
        _ => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_holds_nothing_that_a_path_would_mean() {
        assert_eq!(segment("pi-2"), "pi-2");
        assert_eq!(segment("../a b?%"), "%2E%2E%2Fa%20b%3F%25");
    }
}
