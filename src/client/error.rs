//! What can go wrong between a client and the daemon. Every text names what it happened to and what
//! to do about it: it is shown to people as it is.

use std::error::Error;
use std::fmt;
use std::io;

use serde::Deserialize;

use crate::api::{ApiError, ValidationError, ValidationErrors};

/// Most characters of an answer that is quoted in an error.
const QUOTED_CHARS: usize = 300;

/// Why a call brought no result.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing answers there, or it hung up before it did.
    #[error("no daemon answers at {target}: {why}")]
    Unreachable {
        /// The socket or URL.
        target: String,
        /// What happened, and the remedy.
        why: String,
    },
    /// The daemon understood and said no.
    #[error("{refusal}{}", retry_hint(*.retry_after_seconds))]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What it said.
        refusal: Refusal,
        /// Its `Retry-After`.
        retry_after_seconds: Option<u64>,
    },
    /// What came back is not what this version understands.
    #[error(
        "{target} answered what deiactl {} does not understand: {what}; is it a deia daemon, \
             and of the same version?",
        crate::VERSION
    )]
    Protocol {
        /// The socket or URL.
        target: String,
        /// What was wrong with it.
        what: String,
    },
    /// It answered nothing in time.
    #[error(
        "{target} did not answer {what} within {seconds} s; it may be overloaded or stopped \
             (SIGSTOP): see its log"
    )]
    TimedOut {
        /// The socket or URL.
        target: String,
        /// The request.
        what: String,
        /// The time it had.
        seconds: f64,
    },
}

impl ClientError {
    /// The daemon's own error code (`not_found`, `not_implemented`, ...), where it gave one.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused {
                refusal: Refusal::Error(error),
                ..
            } => Some(&error.code),
            _ => None,
        }
    }

    /// The HTTP status, where there was one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// From a failure of the transport.
    pub(super) fn from_transport(
        target: &str,
        what: &str,
        seconds: f64,
        error: &reqwest::Error,
    ) -> Self {
        if error.is_timeout() && !error.is_connect() {
            return Self::TimedOut {
                target: target.to_owned(),
                what: what.to_owned(),
                seconds,
            };
        }
        Self::Unreachable {
            target: target.to_owned(),
            why: explain(error),
        }
    }
}

/// The innermost reason, with the remedy for those that people meet.
fn explain(error: &reqwest::Error) -> String {
    let mut innermost: &dyn Error = error;
    let mut io_kind = None;
    while let Some(source) = innermost.source() {
        innermost = source;
        if let Some(error) = innermost.downcast_ref::<io::Error>() {
            io_kind = Some(error.kind());
        }
    }
    match io_kind {
        Some(io::ErrorKind::NotFound) => {
            "no socket is there: start the daemon (`deia --home DIR`, `systemctl start deia`) or \
             name another with --home DIR or --socket PATH"
                .into()
        }
        Some(io::ErrorKind::ConnectionRefused) => {
            "nobody listens: the daemon has ended; start it again (`deia --home DIR`, `systemctl \
             start deia`)"
                .into()
        }
        Some(io::ErrorKind::PermissionDenied) => {
            "permission denied: admin.sock is for root and the group `deia`; use sudo, or add \
             yourself with `usermod -aG deia USER` and log in again"
                .into()
        }
        _ if error.is_timeout() => "the connection was not accepted in time".into(),
        _ if error.is_connect() => innermost.to_string(),
        _ => format!(
            "the connection was lost before the answer ({innermost}); whether the request was \
             carried out is not known"
        ),
    }
}

fn retry_hint(seconds: Option<u64>) -> String {
    seconds.map_or_else(String::new, |s| format!(" (try again in {s} s)"))
}

/// What a refusing daemon said.
#[derive(Debug, Clone, PartialEq)]
pub enum Refusal {
    /// The daemon's own form.
    Error(ApiError),
    /// 422: the values that are wrong.
    Validation(Vec<ValidationError>),
    /// Something else: the status' own text, or the beginning of the body.
    Text(String),
}

impl Refusal {
    /// Reads an error's body.
    pub fn parse(status: u16, body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Detail {
            detail: String,
        }
        if let Ok(error) = serde_json::from_slice::<ApiError>(body) {
            return Self::Error(error);
        }
        if let Ok(list) = serde_json::from_slice::<ValidationErrors>(body) {
            return Self::Validation(list.detail);
        }
        if let Ok(only) = serde_json::from_slice::<Detail>(body) {
            return Self::Text(format!("refused with HTTP {status}: {}", only.detail));
        }
        let text = String::from_utf8_lossy(body);
        let quoted: String = text.trim().chars().take(QUOTED_CHARS).collect();
        Self::Text(format!("refused with HTTP {status}: {quoted}"))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(error) if error.detail == error.error || error.detail.is_empty() => {
                f.write_str(&error.error)
            }
            Self::Error(error) => write!(f, "{}: {}", error.error, error.detail),
            Self::Validation(errors) => {
                for (i, error) in errors.iter().enumerate() {
                    let separator = if i == 0 { "" } else { "; " };
                    write!(f, "{separator}{}: {}", place(&error.loc), error.msg)?;
                    if !error.input.is_null() && !error.input.is_object() {
                        write!(f, " (it was {})", error.input)?;
                    }
                }
                Ok(())
            }
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// `["body", "priority"]` as `priority`; `["body"]` as `body`.
fn place(loc: &[serde_json::Value]) -> String {
    let named = match loc {
        [first, rest @ ..] if !rest.is_empty() && (first == "body" || first == "query") => rest,
        all => all,
    };
    let parts: Vec<String> = named
        .iter()
        .map(|part| {
            part.as_str()
                .map_or_else(|| part.to_string(), str::to_owned)
        })
        .collect();
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemons_own_errors_keep_their_text_and_code() {
        let body =
            br#"{"success":false,"error":"no task 'x'","code":"not_found","detail":"no task 'x'"}"#;
        let error = ClientError::Refused {
            status: 404,
            refusal: Refusal::parse(404, body),
            retry_after_seconds: None,
        };
        assert_eq!(error.to_string(), "no task 'x'");
        assert_eq!(error.code(), Some("not_found"));
    }

    #[test]
    fn validation_errors_name_the_place_the_rule_and_the_value() {
        let body = br#"{"detail":[{"type":"enum","loc":["body","priority"],"msg":"should be P0, P1, P2 or P3","input":"P9"},
            {"type":"missing","loc":["body"],"msg":"Field required","input":null}]}"#;
        let text = Refusal::parse(422, body).to_string();
        assert_eq!(
            text,
            "priority: should be P0, P1, P2 or P3 (it was \"P9\"); body: Field required"
        );
    }

    #[test]
    fn anything_else_is_quoted_with_its_status_and_a_bound() {
        assert_eq!(
            Refusal::parse(404, br#"{"detail":"Not Found"}"#).to_string(),
            "refused with HTTP 404: Not Found"
        );
        let long = Refusal::parse(502, "x".repeat(10_000).as_bytes()).to_string();
        assert!(long.len() < 400, "{}", long.len());
    }

    #[test]
    fn a_retry_hint_follows_the_text() {
        let error = ClientError::Refused {
            status: 503,
            refusal: Refusal::Text("draining".into()),
            retry_after_seconds: Some(5),
        };
        assert_eq!(error.to_string(), "draining (try again in 5 s)");
    }
}
