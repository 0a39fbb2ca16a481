//! What a request that fails is answered: the two shapes of the contract and their statuses.
//!
//! Handlers return [`ApiFailure`]; nothing a client sends becomes a 500. [`ApiFailure::internal`] is for
//! faults of the daemon's own and writes one `ERROR` line to the log.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use deia::api::{ApiError, ValidationError, ValidationErrors};

/// A request that was not done, as it is answered.
#[derive(Debug, Clone)]
pub struct ApiFailure(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    status: StatusCode,
    shape: Shape,
    retry_after_seconds: Option<u64>,
    allow: Option<HeaderValue>,
}

#[derive(Debug, Clone)]
enum Shape {
    Error(ApiError),
    Invalid(Vec<ValidationError>),
}

impl ApiFailure {
    /// Any status with the usual shape. `code` is `snake_case`; `error` names the value and the remedy.
    pub fn new(status: StatusCode, code: &'static str, error: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            status,
            shape: Shape::Error(ApiError::new(code, error)),
            retry_after_seconds: None,
            allow: None,
        }))
    }

    /// 422 with FastAPI's shape: every wrong value at once.
    pub fn invalid(errors: Vec<ValidationError>) -> Self {
        Self(Box::new(Inner {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            shape: Shape::Invalid(errors),
            retry_after_seconds: None,
            allow: None,
        }))
    }

    /// 400.
    pub fn bad_request(code: &'static str, error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, error)
    }

    /// 401, with `WWW-Authenticate`.
    pub fn unauthorized(error: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", error)
    }

    /// 403.
    pub fn forbidden(code: &'static str, error: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, error)
    }

    /// 404. The texts are the original's: `Bot x not found`.
    pub fn not_found(error: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", error)
    }

    /// 405; `Allow` is added by the router that knows it.
    pub fn method_not_allowed(method: &axum::http::Method, path: &str) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            format!("{method} is not allowed on {path}; the Allow header names what is"),
        )
    }

    /// 408: the client kept the daemon waiting for its body.
    pub fn timeout(error: impl Into<String>) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", error)
    }

    /// 409.
    pub fn conflict(code: &'static str, error: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, error)
    }

    /// 413.
    pub fn too_large(error: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", error)
    }

    /// 421: the request names a host this daemon is not.
    pub fn misdirected(error: impl Into<String>) -> Self {
        Self::new(StatusCode::MISDIRECTED_REQUEST, "wrong_host", error)
    }

    /// 429, with `Retry-After`.
    pub fn too_many_requests(error: impl Into<String>, retry_after_seconds: u64) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", error)
            .retry_after(retry_after_seconds)
    }

    /// 503, with `Retry-After`.
    pub fn unavailable(
        code: &'static str,
        error: impl Into<String>,
        retry_after_seconds: u64,
    ) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, error).retry_after(retry_after_seconds)
    }

    /// 500: a fault of the daemon's own. `fault` goes to the log, not to the client.
    pub fn internal(fault: impl std::fmt::Display) -> Self {
        tracing::error!(event = "request_failed", fault = %fault, "A request met a fault of the daemon");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the daemon met a fault of its own; its log has the details",
        )
    }

    /// The same with `Retry-After` (at least a second: 0 would invite a storm).
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.0.retry_after_seconds = Some(seconds.max(1));
        self
    }

    /// The same with another `detail` than its text.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        if let Shape::Error(error) = &mut self.0.shape {
            error.detail = detail.into();
        }
        self
    }

    /// The same with another code.
    #[must_use]
    pub fn code_is(mut self, code: &'static str) -> Self {
        if let Shape::Error(error) = &mut self.0.shape {
            error.code = Cow::Borrowed(code);
        }
        self
    }

    /// The same with an `Allow` header.
    #[must_use]
    pub fn allow(mut self, methods: HeaderValue) -> Self {
        self.0.allow = Some(methods);
        self
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// Its code; `invalid` for a 422.
    pub fn code(&self) -> &str {
        match &self.0.shape {
            Shape::Error(error) => &error.code,
            Shape::Invalid(_) => "invalid",
        }
    }

    /// The body, as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        let text = match &self.0.shape {
            Shape::Error(error) => serde_json::to_vec(error),
            Shape::Invalid(errors) => serde_json::to_vec(&ValidationErrors {
                detail: errors.clone(),
            }),
        };
        text.unwrap_or_else(|_| b"{\"success\":false}".to_vec())
    }
}

impl IntoResponse for ApiFailure {
    fn into_response(self) -> axum::response::Response {
        let mut response = Response::new(Body::from(self.to_json()));
        *response.status_mut() = self.0.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.0.retry_after_seconds {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allow) = self.0.allow {
            headers.insert(ALLOW, allow);
        }
        if self.0.status == StatusCode::UNAUTHORIZED {
            headers.insert(
                WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"deia\""),
            );
        }
        response
    }
}

/// One entry of a 422.
pub fn validation_error(
    kind: &'static str,
    loc: Vec<serde_json::Value>,
    msg: impl Into<String>,
    input: serde_json::Value,
    ctx: Option<serde_json::Value>,
) -> ValidationError {
    ValidationError {
        kind: Cow::Borrowed(kind),
        loc,
        msg: msg.into(),
        input,
        ctx,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_the_shape_and_its_headers() {
        let response = ApiFailure::too_many_requests("1000 a minute; wait", 0).into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[RETRY_AFTER], "1");
        let response = ApiFailure::unauthorized("send a bearer").into_response();
        assert!(response.headers().contains_key(WWW_AUTHENTICATE));
        let failure = ApiFailure::not_found("Bot x not found");
        let json: serde_json::Value = serde_json::from_slice(&failure.to_json()).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"success": false, "error": "Bot x not found",
                "code": "not_found", "detail": "Bot x not found"})
        );
    }

    #[test]
    fn validation_errors_have_fastapis_shape() {
        let failure = ApiFailure::invalid(vec![validation_error(
            "missing",
            vec!["body".into()],
            "Field required",
            serde_json::Value::Null,
            None,
        )]);
        assert_eq!(
            String::from_utf8(failure.to_json()).unwrap(),
            r#"{"detail":[{"type":"missing","loc":["body"],"msg":"Field required","input":null}]}"#
        );
    }
}
