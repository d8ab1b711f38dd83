//! The control socket: HTTP `/v1` over `api.sock` in the data folder.
//!
//! Whoever may open the socket may command the board, so it is its user's alone. A stale socket is
//! replaced only by a process that holds the folder's lock. Connections, headers, bodies and waiting
//! are all bounded: a program gone wild on the board must not take the node with it.
//!
//! This part moves requests and bytes; what they mean is in `routes`.

mod problem;
mod routes;
mod sentence;

use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hedgerow::net::{Client as NodeClient, Home};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::exit::{Exit, Failure, Outcome};
use crate::folder;

/// Connections at once; further ones wait in the kernel.
const CONNECTIONS_MAX: usize = 64;
/// From the connection (or the last answer) to the end of the next request's header.
const HEADER_WAIT: Duration = Duration::from_secs(10);
/// Bytes of a request's line and header.
const HEADER_BYTES_MAX: usize = 16 * 1024;
/// Answers under way may take that long to end when the board stops.
const DRAIN_WAIT: Duration = Duration::from_secs(2);
/// After an error of `accept`, for instance because no file descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Bytes of a socket's path that Linux takes, its final zero included.
const SOCKET_PATH_BYTES_MAX: usize = 108;

/// A running API server.
#[derive(Debug)]
pub(crate) struct Api {
    socket: PathBuf,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Whether the socket's path can be used; asked before the node starts.
///
/// # Errors
/// It is too long for the kernel.
pub(crate) fn check(home: &Home) -> Outcome {
    let bytes = home.socket().as_os_str().as_bytes().len();
    if bytes < SOCKET_PATH_BYTES_MAX {
        return Ok(());
    }
    let message = format!(
        "the control socket's path {} has {bytes} bytes, Linux takes {} at most; choose a shorter \
         data folder with --home",
        home.socket().display(),
        SOCKET_PATH_BYTES_MAX - 1
    );
    Err(Failure::new(Exit::Folder, "path-too-long", message))
}

impl Api {
    /// Serves `node` on the folder's socket. The caller holds the folder's lock.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub(crate) fn start(home: &Home, node: NodeClient) -> Outcome<Self> {
        let socket = home.socket();
        let listener = bind(&socket).map_err(|e| folder::fault("make the socket", &socket, &e))?;
        let (stop, stopped) = watch::channel(false);
        let router = routes::router(node, stopped.clone());
        let task = tokio::spawn(accept(listener, router, stopped));
        Ok(Self { socket, stop, task })
    }

    /// Takes no more requests and lets those under way end.
    pub(crate) async fn stop(self) {
        // Best effort: the next `up` replaces a socket that is left over.
        let _ = fs::remove_file(&self.socket);
        self.stop.send_replace(true);
        if timeout(DRAIN_WAIT * 2, self.task).await.is_err() {
            tracing::warn!("some callers of the control socket did not end in time");
        }
    }
}

fn bind(socket: &Path) -> std::io::Result<UnixListener> {
    match fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Nobody else can connect in between: `up` has set a umask of 077.
    let listener = UnixListener::bind(socket)?;
    fs::set_permissions(socket, Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn accept(listener: UnixListener, router: Router, stopped: watch::Receiver<bool>) {
    let mut told = stopped.clone();
    let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    let work = async {
        loop {
            let Ok(permit) = free.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream, router.clone(), stopped.clone(), permit));
                }
                Err(error) => {
                    tracing::warn!(%error, "the control socket takes no calls; trying again");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
    };
    tokio::select! {
        () = work => {}
        () = told_to_stop(&mut told) => {}
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn serve(
    stream: UnixStream,
    router: Router,
    mut stopped: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_WAIT)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told_to_stop(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            match timeout(DRAIN_WAIT, connection).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a caller of the control socket broke off");
    }
}

async fn told_to_stop(stopped: &mut watch::Receiver<bool>) {
    // An error says that the `Api` is gone, which is a stop as well.
    let _ = stopped.wait_for(|stop| *stop).await;
}
