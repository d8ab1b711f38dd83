//! `hedgerow kv`: a small key-value store over HTTP, a service that `demo` and people can run.
//!
//! | method | path | answer |
//! |---|---|---|
//! | PUT | `/k/{key}` | 204 once the body is kept; 503: nobody knows whether it will be |
//! | GET | `/k/{key}` | the value, or 404 |
//! | DELETE | `/k/{key}` | as PUT, or 404 |
//! | GET | `/healthz` | `ok` |
//! | GET | `/epoch` | `{"epoch", "pid", "started_ms", "keys"}` |
//!
//! A change is kept when it is on the disk in the folder `--data`; with `--commit standby`, when a
//! commit has put it on another board as well. Under a lease it answers only while that lease is valid,
//! and looks once more before it sends an answer: what an active without a lease says may be out of
//! date. Each answer then names its epoch in the header `hedgerow-epoch`.

mod control;
mod store;
mod writer;

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use axum::extract::{self, DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hedgerow::workload::lease::LeaseFile;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};

use crate::args::CommitArg;
use crate::exit::{Exit, Failure, Outcome};
use crate::folder;
use store::{Change, KEY_BYTES_MAX, Log, VALUE_BYTES_MAX};
use writer::Writer;

/// Says under which right an answer was given.
pub(crate) const EPOCH_HEADER: &str = "hedgerow-epoch";

/// Connections at once; further ones wait in the kernel.
const CONNECTIONS_MAX: usize = 64;

#[derive(Clone)]
struct Service {
    writer: Writer,
    lease: Option<Arc<Leased>>,
    started_ms: u64,
}

/// The right to answer.
struct Leased {
    file: LeaseFile,
    epoch: u64,
}

/// Serves the store in `data` on a port of this computer, until it is ended.
///
/// # Errors
/// The state, the lease or the port cannot be used; or a write failed, after which what is on the
/// disk is not known.
pub(crate) async fn serve(data: &Path, port: u16, commit: CommitArg) -> Outcome {
    let (log, map) =
        Log::open(data).map_err(|error| folder::fault("open the store in", data, &error))?;
    let (broken, mut failed) = mpsc::channel(1);
    let control = (commit == CommitArg::Standby).then(control).transpose()?;
    let writer = Writer::start(log, map, control, broken)
        .map_err(|error| Failure::failed(format!("cannot start a thread: {error}")))?;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let service = Service {
        writer,
        lease: lease()?.map(Arc::new),
        started_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
    };
    let cannot = |error: io::Error| {
        Failure::new(Exit::Listen, "cannot-listen", format!("port {port}: {error}"))
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(cannot)?;
    println!("serving {} on {}", data.display(), listener.local_addr().map_err(cannot)?);
    tokio::select! {
        error = accept(listener, router(service)) => Err(cannot(error)),
        Some(error) = failed.recv() => Err(folder::fault("write the store in", data, &error)),
    }
}

fn router(service: Service) -> Router {
    Router::new()
        .route("/k/{key}", get(read).put(write).delete(remove))
        .route("/healthz", get(async || "ok"))
        .route("/epoch", get(epoch))
        .layer(DefaultBodyLimit::max(VALUE_BYTES_MAX))
        .layer(middleware::from_fn_with_state(service.clone(), leased))
        .with_state(service)
}

async fn accept(listener: TcpListener, router: Router) -> io::Error {
    let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = free.clone().acquire_owned().await else {
            return io::Error::other("no more connections");
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => return error,
        };
        // An answer is small; waiting for more to send would only delay it.
        let _ = stream.set_nodelay(true);
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
        tokio::spawn(async move {
            // Whoever breaks off gets no answer; there is nobody to tell.
            let _ = served.await;
            drop(permit);
        });
    }
}

/// Lets nothing in and nothing out without a valid lease.
async fn leased(State(service): State<Service>, request: Request, next: Next) -> Response {
    let valid = || service.lease.as_ref().is_none_or(|lease| lease.file.valid_now(lease.epoch));
    if !valid() {
        return no_lease();
    }
    let mut response = next.run(request).await;
    if !valid() {
        return no_lease();
    }
    if let Some(lease) = &service.lease {
        response.headers_mut().insert(EPOCH_HEADER, HeaderValue::from(lease.epoch));
    }
    response
}

fn no_lease() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "the lease has run out; ask another board\n").into_response()
}

async fn read(
    State(service): State<Service>,
    extract::Path(key): extract::Path<String>,
) -> Response {
    match service.writer.get(&key) {
        Some(value) => {
            ([(header::CONTENT_TYPE, "application/octet-stream")], value).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn write(
    State(service): State<Service>,
    extract::Path(key): extract::Path<String>,
    value: Bytes,
) -> Response {
    if key.len() > KEY_BYTES_MAX {
        return StatusCode::URI_TOO_LONG.into_response();
    }
    made(service.writer.make(Change::Put(key, value.into())).await)
}

async fn remove(
    State(service): State<Service>,
    extract::Path(key): extract::Path<String>,
) -> Response {
    made(service.writer.make(Change::Delete(key)).await)
}

fn made(outcome: writer::Outcome) -> Response {
    let sorry = |text: &'static str| (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    match outcome {
        writer::Outcome::Kept => StatusCode::NO_CONTENT.into_response(),
        writer::Outcome::NotThere => StatusCode::NOT_FOUND.into_response(),
        writer::Outcome::Unprotected => sorry("it is on this board only; no standby is ready\n"),
        writer::Outcome::Unknown => sorry("it may have been kept or not; ask again\n"),
    }
}

async fn epoch(State(service): State<Service>) -> Json<Value> {
    Json(json!({
        "epoch": service.lease.as_ref().map(|lease| lease.epoch),
        "pid": host_pid(),
        "started_ms": service.started_ms,
        "keys": service.writer.len(),
    }))
}

/// The process id outside the PID namespace of the shim, if `/proc` is that of the computer.
fn host_pid() -> u32 {
    let link = fs::read_link("/proc/self").ok();
    let outside = link.and_then(|link| link.to_str()?.parse().ok());
    outside.unwrap_or_else(std::process::id)
}

fn lease() -> Outcome<Option<Leased>> {
    let Some(path) = std::env::var_os("HEDGEROW_LEASE_FILE").map(PathBuf::from) else {
        return Ok(None);
    };
    let wrong = |what: String| Failure::new(Exit::Config, "lease", what);
    let file = LeaseFile::open(&path).map_err(|error| wrong(error.to_string()))?;
    let epoch = std::env::var("HEDGEROW_EPOCH").ok().and_then(|epoch| epoch.parse().ok());
    let epoch = epoch.ok_or_else(|| wrong("HEDGEROW_EPOCH says no number".to_owned()))?;
    Ok(Some(Leased { file, epoch }))
}

/// Where to ask for commits.
fn control() -> Outcome<PathBuf> {
    std::env::var_os("HEDGEROW_CONTROL").map(PathBuf::from).ok_or_else(|| {
        let message = "--commit standby needs HEDGEROW_CONTROL: run it as a service";
        Failure::new(Exit::Config, "control", message)
    })
}
