//! API tokens: made, listed, revoked. All of it is for admins.

use axum::Json;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, HeaderValue};
use axum::response::{IntoResponse, Response};
use deia::api::{
    AuditAction, MAX_TOKEN_NAME_BYTES, MAX_TOKEN_SECONDS, RevokeAnswer, TokenAnswer, TokenList,
    TokenRequest, TokenView,
};
use deia::time::Timestamp;
use serde_json::{Value, json};

use super::Shared;
use crate::audit::{Actor, Entry};
use crate::http::error::ApiFailure;
use crate::http::extract::{JsonBody, PathArgs};
use crate::http::fields::{Errors, Field, Fields, Kind, Presence};
use crate::tokens::{NewToken, TokenError};

/// Every token: never the token itself.
#[utoipa::path(get, path = "/api/tokens", tag = "tokens", responses((status = 200, body = TokenList)))]
pub async fn list(State(api): State<Shared>) -> Json<TokenList> {
    let tokens = api.tokens.list(Timestamp::now());
    Json(TokenList {
        count: tokens.len(),
        tokens,
    })
}

/// Makes a token. It is shown this once: the daemon keeps its hash.
#[utoipa::path(post, path = "/api/tokens", tag = "tokens", request_body = TokenRequest, responses(
    (status = 200, body = TokenAnswer, description = "Durable and in force"),
    (status = 409, body = deia::api::ApiError, description = "There are too many, or the file of tokens can't be read"),
    (status = 422, body = deia::api::ValidationErrors),
    (status = 503, body = deia::api::ApiError, description = "The disk did not take it"),
))]
pub async fn create(
    State(api): State<Shared>,
    actor: Actor,
    JsonBody(request): JsonBody<TokenRequest>,
) -> Result<Response, ApiFailure> {
    let now = Timestamp::now();
    let lasts = |seconds: u64| now.plus_millis(i64::try_from(seconds * 1000).unwrap_or(i64::MAX));
    let mut scopes = Vec::new();
    for scope in request.scopes {
        if !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }
    let new = NewToken {
        scopes,
        name: request.name,
        expires_at: request.expires_in_seconds.map(lasts),
    };
    let (token, view) = api
        .tokens
        .create(new, now)
        .await
        .map_err(|why| failure(&why))?;
    tracing::info!(
        event = "credential_created",
        credential = view.id,
        scopes = ?view.scopes,
        expires = view.expires_at.map(tracing::field::display),
        by = actor.name(),
        "an API credential was created"
    );
    let about = json!({"act": "created", "scopes": &view.scopes, "expires_at": view.expires_at});
    api.note(actor, on_record(now, &view).with(&about)).await?;
    let answer = TokenAnswer {
        success: true,
        token,
        view,
    };
    let no_store = [(CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((no_store, Json(answer)).into_response())
}

/// Ends a token, at once, also on connections that are open.
#[utoipa::path(post, path = "/api/tokens/{id}/revoke", tag = "tokens", params(("id" = String, Path)), responses(
    (status = 200, body = RevokeAnswer),
    (status = 404, body = deia::api::ApiError),
    (status = 409, body = deia::api::ApiError, description = "The file of tokens can't be read"),
    (status = 503, body = deia::api::ApiError, description = "The disk did not take it; it is still in force"),
))]
pub async fn revoke(
    State(api): State<Shared>,
    actor: Actor,
    PathArgs(id): PathArgs<String>,
) -> Result<Json<RevokeAnswer>, ApiFailure> {
    let now = Timestamp::now();
    let revoked = api.tokens.revoke(&id, now).await;
    let view = revoked
        .map_err(|why| failure(&why))?
        .ok_or_else(|| ApiFailure::not_found(format!("Token {id} not found")))?;
    tracing::info!(
        event = "credential_revoked",
        credential = view.id,
        by = actor.name(),
        "an API credential was revoked"
    );
    let entry = on_record(now, &view).with(&json!({"act": "revoked"}));
    api.note(actor, entry).await?;
    Ok(Json(RevokeAnswer {
        success: true,
        view,
    }))
}

/// What was done to a token, for the audit: after it is in force, for its file is none of the store's.
fn on_record(now: Timestamp, view: &TokenView) -> Entry {
    let target = format!("credential:{}", view.id);
    Entry::new(now, AuditAction::ConfigChanged, Actor::DAEMON, target)
}

/// Most scopes in a request: each may be said twice.
const MAX_SCOPES: usize = 8;

impl Fields for TokenRequest {
    const FIELDS: &'static [Field] = &[
        Field {
            name: "scopes",
            kind: Kind::Enums(MAX_SCOPES, &["read", "submit", "bot", "admin"]),
            presence: Presence::Required,
        },
        Field {
            name: "name",
            kind: Kind::Text(MAX_TOKEN_NAME_BYTES),
            presence: Presence::Nullable,
        },
        Field {
            name: "expires_in_seconds",
            kind: Kind::Int(1, MAX_TOKEN_SECONDS as i64),
            presence: Presence::Nullable,
        },
    ];

    fn check(&self, errors: &mut Errors) {
        let most = json!({"min_length": 1, "max_length": MAX_SCOPES});
        let path = ["scopes".into()];
        match self.scopes.len() {
            0 => errors.add(
                &path,
                "too_short",
                "Name at least one scope",
                &json!([]),
                Some(most),
            ),
            n if n > MAX_SCOPES => {
                errors.add(
                    &path,
                    "too_long",
                    "Name each scope once",
                    &json!(n),
                    Some(most),
                );
            }
            _ => {}
        }
        errors.text::<Self>("name", self.name.as_deref());
        let control = |name: &&String| name.chars().any(char::is_control);
        if let Some(name) = self.name.as_ref().filter(control) {
            let input = Value::from(name.as_str());
            let msg = "String should have no control characters";
            errors.add(
                &["name".into()],
                "string_pattern_mismatch",
                msg,
                &input,
                None,
            );
        }
        errors.number::<Self>(
            "expires_in_seconds",
            self.expires_in_seconds.map(|s| s as f64),
        );
    }
}

fn failure(why: &TokenError) -> ApiFailure {
    let text = why.to_string();
    match why {
        TokenError::TooMany => ApiFailure::conflict("too_many_tokens", text),
        TokenError::Unreadable(_) => ApiFailure::conflict("tokens_unreadable", text),
        TokenError::Disk(_) => ApiFailure::unavailable("tokens_not_written", text, 1),
    }
}
