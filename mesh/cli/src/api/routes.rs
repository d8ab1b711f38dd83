//! What the API's paths mean.
//!
//! | method | path | answer |
//! |---|---|---|
//! | GET | `/v1/status` | the mesh as seen from here |
//! | GET | `/v1/nodes` | every member |
//! | GET | `/v1/why/{object}` | everything about one member |
//! | GET | `/v1/events`, `?follow=true` | what happened, one JSON value on each line; and goes on |
//! | GET | `/v1/version` | of the running board |
//! | GET | `/v1/revocations` | `ticket ID` or `node ID` |
//! | GET | `/v1/instances` | every instance of every service |
//! | GET | `/v1/resolve/{service}` | where a service serves |
//! | POST | `/v1/order` | gives an order: the body is an encoded `SignedOrder` |
//! | POST | `/v1/leave`, `?force=true` | leaves the mesh once it can do without, or at once; the daemon stops |
//! | POST | `/v1/revoke` | spreads the body, an encoded `Signed<Revocation>` |
//! | POST | `/v1/publish/{topic}` | tells every member the body |
//!
//! Errors are `{"code", "message"}` as `application/problem+json`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures::stream;
use hedgerow::net::{Client as NodeClient, Events, Observed, Stamped};
use hedgerow::proto::bounded::{Blob, Text};
use hedgerow::proto::io::{Command, InstanceView, Reply};
use hedgerow::proto::order::ORDER_BYTES_MAX;
use hedgerow::proto::record::Name;
use hedgerow::proto::wire::codec;
use hedgerow::proto::wire::gossip::PUBLICATION_BYTES_MAX;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

use super::problem::Problem;
use super::sentence::Names;
use super::told_to_stop;
use crate::schema::{EventLine, Instance, Node, Resolved, Status, Version, Why};
use crate::text;

/// Bytes of a request's body: the largest publication, and every revocation.
const BODY_BYTES_MAX: usize = PUBLICATION_BYTES_MAX;
/// Bytes of an order with its signature and credential.
const SIGNED_ORDER_BYTES_MAX: usize = ORDER_BYTES_MAX + 8 * 1024;
/// From a request's header to its answer; a stream may go on after that.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// The same for `leave`, which waits until services have moved: the node gives up before.
const LEFT_WAIT: Duration = Duration::from_secs(140);
/// How long a board that leaves by force waits until its services have gone to their standbys.
const HAND_OVER_MAX: Duration = Duration::from_secs(6);
/// The one path whose answer may take its time.
const LEAVE: &str = "/v1/leave";
/// Streams of events at once, so that they cannot take every connection.
const FOLLOWERS_MAX: usize = 16;

#[derive(Clone)]
struct Board {
    node: NodeClient,
    stopped: watch::Receiver<bool>,
    followers: Arc<Semaphore>,
}

/// The routes, over `node`; streams end once `stopped` says so.
pub(super) fn router(node: NodeClient, stopped: watch::Receiver<bool>) -> Router {
    let board = Board { node, stopped, followers: Arc::new(Semaphore::new(FOLLOWERS_MAX)) };
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/nodes", get(nodes))
        .route("/v1/why/{object}", get(why))
        .route("/v1/events", get(events))
        .route("/v1/version", get(version))
        .route("/v1/revocations", get(revocations))
        .route("/v1/instances", get(instances))
        .route("/v1/resolve/{service}", get(resolve))
        .route("/v1/order", post(order).layer(DefaultBodyLimit::max(SIGNED_ORDER_BYTES_MAX)))
        .route(LEAVE, post(leave))
        .route("/v1/revoke", post(revoke))
        .route("/v1/publish/{topic}", post(publish))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn(within))
        .with_state(board)
}

async fn within(request: Request, next: Next) -> Response {
    let wait = if request.uri().path() == LEAVE { LEFT_WAIT } else { ANSWER_WAIT };
    timeout(wait, next.run(request)).await.unwrap_or_else(|_| {
        let message = "the node has not answered in time; its disk may hang, look at its log";
        Problem::new(StatusCode::GATEWAY_TIMEOUT, "timeout", message).into_response()
    })
}

async fn status(State(board): State<Board>) -> Result<Response, Problem> {
    match ask(&board, Command::Status).await? {
        Reply::Status(view) => answer(&Status::new(view, listed(&board).await?)),
        _ => Err(Problem::bug()),
    }
}

async fn instances(State(board): State<Board>) -> Result<Response, Problem> {
    answer(&listed(&board).await?.into_iter().map(Instance::from).collect::<Vec<_>>())
}

async fn listed(board: &Board) -> Result<Vec<InstanceView>, Problem> {
    match ask(board, Command::Instances).await? {
        Reply::Instances(views) => Ok(views),
        _ => Err(Problem::bug()),
    }
}

async fn resolve(
    State(board): State<Board>,
    Path(service): Path<String>,
) -> Result<Response, Problem> {
    let service = Name::try_from(service.as_str()).map_err(|over| {
        Problem::bad_request("name-too-long", format!("the service's name: {over}"))
    })?;
    match ask(&board, Command::Resolve(service)).await? {
        Reply::Resolved(view) => answer(&Resolved::from(view)),
        _ => Err(Problem::bug()),
    }
}

async fn order(
    State(board): State<Board>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let order = codec::decode(&whole(body, SIGNED_ORDER_BYTES_MAX)?).map_err(|error| {
        Problem::bad_request("not-an-order", format!("the body is no order: {error}"))
    })?;
    done(ask(&board, Command::Order(Box::new(order))).await?)
}

async fn nodes(State(board): State<Board>) -> Result<Response, Problem> {
    match ask(&board, Command::Nodes).await? {
        Reply::Nodes(views) => answer(&views.into_iter().map(Node::from).collect::<Vec<_>>()),
        _ => Err(Problem::bug()),
    }
}

async fn why(State(board): State<Board>, Path(object): Path<String>) -> Result<Response, Problem> {
    let object = Text::try_from(object.as_str()).map_err(|over| {
        Problem::bad_request("object-too-long", format!("the object's name: {over}"))
    })?;
    match ask(&board, Command::Why(object)).await? {
        Reply::Why(view) => answer(&Why::from(view)),
        _ => Err(Problem::bug()),
    }
}

async fn revocations(State(board): State<Board>) -> Result<Response, Problem> {
    match ask(&board, Command::Revocations).await? {
        Reply::Revocations(list) => answer(&list),
        _ => Err(Problem::bug()),
    }
}

async fn version() -> Result<Response, Problem> {
    answer(&Version::of_this())
}

#[derive(Deserialize)]
struct Force {
    #[serde(default)]
    force: bool,
}

async fn leave(
    State(board): State<Board>,
    Query(Force { force }): Query<Force>,
) -> Result<Response, Problem> {
    if force {
        // In vain if something has no standby that could carry on: nobody will, and that was meant.
        board.node.hand_over(HAND_OVER_MAX).await;
    }
    done(ask(&board, Command::Leave { force }).await?)
}

async fn revoke(
    State(board): State<Board>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let signed = codec::decode(&whole(body, BODY_BYTES_MAX)?).map_err(|error| {
        Problem::bad_request("not-a-revocation", format!("the body is no revocation: {error}"))
    })?;
    done(ask(&board, Command::Revoke(signed)).await?)
}

async fn publish(
    State(board): State<Board>,
    Path(topic): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let too_long = |over| Problem::bad_request("topic-too-long", format!("the topic: {over}"));
    let topic = Text::try_from(topic.as_str()).map_err(too_long)?;
    let body = Blob::try_from(whole(body, BODY_BYTES_MAX)?.to_vec()).map_err(|over| {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", format!("bytes: {over}"))
    })?;
    done(ask(&board, Command::Publish { topic, body }).await?)
}

#[derive(Deserialize)]
struct Follow {
    #[serde(default)]
    follow: bool,
}

async fn events(
    State(board): State<Board>,
    query: Result<Query<Follow>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Problem> {
    let Query(Follow { follow }) =
        query.map_err(|_| Problem::bad_request("bad-query", "`follow` is either true or false"))?;
    let mut names = match ask(&board, Command::Nodes).await? {
        Reply::Nodes(views) => Names::new(&views),
        _ => return Err(Problem::bug()),
    };
    let (past, live) = board.node.events_so_far();
    let past: String = past.iter().map(|stamped| line(stamped, &mut names)).collect();
    if !follow {
        return Ok(ndjson(Body::from(past)));
    }
    let permit = board.followers.clone().try_acquire_owned().map_err(|_| {
        let message = format!("{FOLLOWERS_MAX} programs follow the events already; end one");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-followers", message)
    })?;
    let follower = Follower { live, names, stopped: board.stopped, _permit: permit };
    let first = stream::once(async move { Ok(past) });
    let rest = stream::unfold(follower, |mut follower| async move {
        let line = follower.next().await?;
        Some((Ok::<_, std::convert::Infallible>(line), follower))
    });
    Ok(ndjson(Body::from_stream(stream::StreamExt::chain(first, rest))))
}

/// One open stream of events.
struct Follower {
    live: Events,
    names: Names,
    stopped: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
}

impl Follower {
    async fn next(&mut self) -> Option<String> {
        let observed = tokio::select! {
            observed = self.live.next() => observed?,
            () = told_to_stop(&mut self.stopped) => return None,
        };
        Some(match observed {
            Observed::Event(stamped) => line(&stamped, &mut self.names),
            Observed::Lagged(missed) => lagged(missed),
        })
    }
}

fn line(stamped: &Stamped, names: &mut Names) -> String {
    let text = names.sentence(&stamped.event);
    json_line(&EventLine::new(stamped, text))
}

fn lagged(missed: u64) -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    json_line(&EventLine {
        at_ms: since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
        event: "lagged".to_owned(),
        text: format!("{missed} events were missed: they were read too slowly"),
        fields: Map::from_iter([("missed".to_owned(), json!(missed))]),
    })
}

fn json_line(event: &EventLine) -> String {
    format!("{}\n", clean(event))
}

async fn no_such_path() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no-such-path", "there is no such path; see /v1/status")
}

async fn no_such_method() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "no-such-method",
        "this path exists, but not with this method",
    )
}

async fn ask(board: &Board, command: Command) -> Result<Reply, Problem> {
    match board.node.ask(command).await? {
        Reply::Error(error) => Err(error.into()),
        reply => Ok(reply),
    }
}

fn done(reply: Reply) -> Result<Response, Problem> {
    match reply {
        Reply::Done => answer(&json!({"done": true})),
        _ => Err(Problem::bug()),
    }
}

fn whole(body: Result<Bytes, BytesRejection>, most: usize) -> Result<Bytes, Problem> {
    body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            let message = format!("the body exceeds {most} bytes");
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", message)
        }
        status => Problem::new(status, "bad-body", rejection.body_text()),
    })
}

fn answer<T: Serialize>(value: &T) -> Result<Response, Problem> {
    let body = clean(value).to_string();
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// The one place where what peers said loses its control characters.
fn clean<T: Serialize>(value: &T) -> Value {
    let mut value = serde_json::to_value(value).unwrap_or_default();
    text::clean_all(&mut value);
    value
}

fn ndjson(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}
