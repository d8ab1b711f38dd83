//! `hedgerow kv`: a small key-value store over HTTP, a service that `demo` and people can run.
//!
//! | method | path | answer |
//! |---|---|---|
//! | PUT | `/k/{key}` | 204 once the body is on the disk |
//! | GET | `/k/{key}` | the value, or 404 |
//! | DELETE | `/k/{key}` | 204, or 404 |
//! | GET | `/healthz` | `ok` |
//! | GET | `/epoch` | `{"epoch", "pid", "started_ms", "keys"}` |
//!
//! Under a lease it answers only while that lease is valid, and looks once more before it sends an
//! answer: what an active without a lease says may be out of date. Whether its state is shared with
//! other boards is not its business; it only keeps it in the folder `--data`.

mod store;

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use axum::extract::{self, DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, header};
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
use tokio::task::spawn_blocking;

use crate::exit::{Exit, Failure, Outcome};
use crate::folder;
use store::{KEY_BYTES_MAX, Store, VALUE_BYTES_MAX};

/// Connections at once; further ones wait in the kernel.
const CONNECTIONS_MAX: usize = 64;

#[derive(Clone)]
struct Service {
    store: Arc<Mutex<Store>>,
    lease: Option<Arc<Leased>>,
    broken: mpsc::Sender<io::Error>,
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
pub(crate) async fn serve(data: &Path, port: u16) -> Outcome {
    let store =
        Store::open(data).map_err(|error| folder::fault("open the store in", data, &error))?;
    let (broken, mut failed) = mpsc::channel(1);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let service = Service {
        store: Arc::new(Mutex::new(store)),
        lease: lease()?.map(Arc::new),
        broken,
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
    let response = next.run(request).await;
    if valid() { response } else { no_lease() }
}

fn no_lease() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "the lease has run out; ask another board\n").into_response()
}

async fn read(
    State(service): State<Service>,
    extract::Path(key): extract::Path<String>,
) -> Response {
    let value = on_disk(&service, move |store| Ok(store.get(&key).map(<[u8]>::to_vec))).await;
    match value {
        Some(Some(value)) => {
            ([(header::CONTENT_TYPE, "application/octet-stream")], value).into_response()
        }
        Some(None) => StatusCode::NOT_FOUND.into_response(),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
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
    match on_disk(&service, move |store| store.put(&key, &value)).await {
        Some(()) => StatusCode::NO_CONTENT.into_response(),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn remove(
    State(service): State<Service>,
    extract::Path(key): extract::Path<String>,
) -> Response {
    match on_disk(&service, move |store| store.delete(&key)).await {
        Some(true) => StatusCode::NO_CONTENT.into_response(),
        Some(false) => StatusCode::NOT_FOUND.into_response(),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn epoch(State(service): State<Service>) -> Json<Value> {
    let keys = on_disk(&service, |store| Ok(store.len())).await;
    Json(json!({
        "epoch": service.lease.as_ref().map(|lease| lease.epoch),
        "pid": host_pid(),
        "started_ms": service.started_ms,
        "keys": keys,
    }))
}

/// Works on the store; none if that failed, and then the process ends: after a failed `fsync`
/// nobody knows what is on the disk, and only reading it again tells.
async fn on_disk<T: Send + 'static>(
    service: &Service,
    work: impl FnOnce(&mut Store) -> io::Result<T> + Send + 'static,
) -> Option<T> {
    let store = service.store.clone();
    let worked = spawn_blocking(move || {
        // The map changes only after a write has succeeded, so a panic leaves it whole.
        work(&mut store.lock().unwrap_or_else(PoisonError::into_inner))
    });
    match worked.await.map_err(io::Error::other).and_then(|worked| worked) {
        Ok(done) => Some(done),
        Err(error) => {
            // A full channel says that it is ending already.
            let _ = service.broken.try_send(error);
            None
        }
    }
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
