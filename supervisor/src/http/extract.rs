//! Reads what callers send: JSON bodies, queries, path parameters.
//!
//! The content type is not looked at (`curl -d` says form and sends JSON). Bodies are bounded by the
//! caller's `max_body_bytes` before a byte is read where the length is declared, and while reading where
//! it is not. A wrong body is a 422 in FastAPI's form, naming all that is wrong ([`super::fields`]).
//! Objects may nest 128 deep (serde_json's own bound), unknown fields are ignored, and of a field
//! given twice the last counts.

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::header::CONTENT_LENGTH;
use axum::http::request::Parts;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;

use super::body::BodyError;
use super::error::ApiFailure;
use super::fields::Fields;
use super::guard::Caller;
pub use super::parse::{parse_body, parse_query};

/// Bound on bodies of callers no guard has seen.
const DEFAULT_MAX_BODY_BYTES: u64 = 1 << 20;
/// What is reserved at once for a body of a declared length; a lie costs no more.
const MAX_RESERVED_BYTES: u64 = 64 * 1024;

/// A JSON object in the body.
#[derive(Debug, Clone, Copy)]
pub struct JsonBody<T>(pub T);

/// A JSON object in the body, or nothing (or `null`): then the default.
#[derive(Debug, Clone, Copy)]
pub struct OptionalJsonBody<T>(pub T);

/// The query.
#[derive(Debug, Clone, Copy)]
pub struct QueryArgs<T>(pub T);

/// The path's parameters. A value that is not of their type names nothing: 404.
#[derive(Debug, Clone, Copy)]
pub struct PathArgs<T>(pub T);

impl<T: DeserializeOwned + Fields, S: Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiFailure;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiFailure> {
        let bytes = read_body(request).await?;
        parse_body(&bytes).map(Self).map_err(ApiFailure::invalid)
    }
}

impl<T: DeserializeOwned + Fields + Default, S: Sync> FromRequest<S> for OptionalJsonBody<T> {
    type Rejection = ApiFailure;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiFailure> {
        let bytes = read_body(request).await?;
        if matches!(bytes.trim_ascii(), b"" | b"null") {
            return Ok(Self(T::default()));
        }
        parse_body(&bytes).map(Self).map_err(ApiFailure::invalid)
    }
}

impl<T: DeserializeOwned + Fields, S: Sync> FromRequestParts<S> for QueryArgs<T> {
    type Rejection = ApiFailure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiFailure> {
        parse_query(&parts.uri)
            .map(Self)
            .map_err(ApiFailure::invalid)
    }
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for PathArgs<T> {
    type Rejection = ApiFailure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiFailure> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(why) => Err(ApiFailure::not_found("Not Found").detail(why.body_text())),
        }
    }
}

/// The body, at most as large as the caller may send.
///
/// # Errors
/// 413, 408, or 400 where it breaks off.
pub async fn read_body(request: Request) -> Result<Bytes, ApiFailure> {
    let most = max_body_bytes(&request);
    read_body_up_to(request, most).await
}

/// What the caller of this request may send (`http.max_body_bytes`).
pub fn max_body_bytes(request: &Request) -> u64 {
    request
        .extensions()
        .get::<Caller>()
        .map_or(DEFAULT_MAX_BODY_BYTES, |caller| caller.max_body_bytes)
}

/// The body, at most `most` bytes of it: for routes with a bound of their own.
///
/// # Errors
/// 413, 408, or 400 where it breaks off.
pub async fn read_body_up_to(request: Request, most: u64) -> Result<Bytes, ApiFailure> {
    let declared = declared_bytes(&request);
    if let Some(declared) = declared.filter(|n| *n > most) {
        return Err(too_large(declared, most));
    }
    let mut body = request.into_body();
    let Some(first) = next_chunk(&mut body).await? else {
        return Ok(Bytes::new());
    };
    if first.len() as u64 > most {
        return Err(too_large(first.len() as u64, most));
    }
    // Most bodies come in one piece: no copy then.
    let Some(second) = next_chunk(&mut body).await? else {
        return Ok(first);
    };
    let reserve = declared.unwrap_or(0).min(MAX_RESERVED_BYTES);
    let mut whole = BytesMut::with_capacity(usize::try_from(reserve).unwrap_or(0));
    whole.extend_from_slice(&first);
    let mut next = Some(second);
    while let Some(chunk) = next {
        let len = (whole.len() + chunk.len()) as u64;
        if len > most {
            return Err(too_large(len, most));
        }
        whole.extend_from_slice(&chunk);
        next = next_chunk(&mut body).await?;
    }
    Ok(whole.freeze())
}

/// How large the body is, where that is said.
pub(super) fn declared_bytes(request: &Request) -> Option<u64> {
    let length = request.headers().get(CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

async fn next_chunk(body: &mut Body) -> Result<Option<Bytes>, ApiFailure> {
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => {
                if let Ok(data) = frame.into_data()
                    && !data.is_empty()
                {
                    return Ok(Some(data));
                }
            }
            Err(error) => return Err(broken(&error)),
        }
    }
    Ok(None)
}

fn broken(error: &axum::Error) -> ApiFailure {
    let cause = std::error::Error::source(error).and_then(|e| e.downcast_ref::<BodyError>());
    match cause {
        Some(BodyError::Late) => ApiFailure::timeout(
            "the body did not come in time; send it faster (http.header_timeout_seconds)",
        ),
        _ => ApiFailure::bad_request("bad_body", "the body broke off or is malformed"),
    }
}

fn too_large(bytes: u64, most: u64) -> ApiFailure {
    ApiFailure::too_large(format!(
        "the body has {bytes} bytes or more, http.max_body_bytes allows {most}"
    ))
}
