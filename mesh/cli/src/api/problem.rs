//! Errors of the API as `application/problem+json`.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use hedgerow::error::Gone;
use hedgerow::proto::io::ReplyError;

use crate::schema;
use crate::text;

/// An answer that is an error.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    body: schema::Problem,
}

impl Problem {
    /// A problem with everything told.
    pub(super) fn new(status: StatusCode, code: &str, message: impl AsRef<str>) -> Self {
        let body =
            schema::Problem { code: code.to_owned(), message: text::clean(message.as_ref()) };
        Self { status, body }
    }

    /// The request itself is wrong.
    pub(super) fn bad_request(code: &str, message: impl AsRef<str>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// The node answered something that does not belong to the question: a bug.
    pub(super) fn bug() -> Self {
        let message = "the node answered another question; this is a bug in Hedgerow";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "bug", message)
    }
}

impl From<Gone> for Problem {
    fn from(gone: Gone) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopped", gone.to_string())
    }
}

impl From<ReplyError> for Problem {
    fn from(error: ReplyError) -> Self {
        let status = match error.code.as_str() {
            "not-found" | "no-such-state" => StatusCode::NOT_FOUND,
            "ambiguous" | "not-running" | "decides-alone" | "services-stay" | "leaving-already"
            | "being-removed" | "conflict" | "full" | "leaving" | "no-room" | "not-needed"
            | "not-ready" | "not-serving" | "standby-unable" | "state-changed" | "stopped"
            | "too-many" => StatusCode::CONFLICT,
            "refused" => StatusCode::FORBIDDEN,
            "not-carried-out" | "unknown" => StatusCode::GATEWAY_TIMEOUT,
            "no-master" | "not-master" | "busy" => StatusCode::SERVICE_UNAVAILABLE,
            "not-root" => StatusCode::FORBIDDEN,
            "halted" => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, &error.code, error.message)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_string(&self.body).unwrap_or_default();
        (self.status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response()
    }
}
