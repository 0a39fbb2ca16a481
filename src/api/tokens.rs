//! API tokens.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Scope;
use crate::time::Timestamp;

/// Longest name of a token.
pub const MAX_TOKEN_NAME_BYTES: usize = 128;
/// Longest life of a token that ends by itself: ten years.
pub const MAX_TOKEN_SECONDS: u64 = 10 * 366 * 86_400;

/// `POST /api/tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct TokenRequest {
    /// What it may do: at least one.
    pub scopes: Vec<Scope>,
    /// For people: whose it is, what for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// From now on; missing: until it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_seconds: Option<u64>,
}

/// A token, but for the token itself: that is kept nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// Names it.
    pub id: String,
    /// For people.
    pub name: Option<String>,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// When it was made.
    pub created_at: Timestamp,
    /// From then on it is none; null: until it is revoked.
    pub expires_at: Option<Timestamp>,
    /// Whether that has come.
    pub expired: bool,
    /// The minute in which it was last used.
    pub last_used_at: Option<Timestamp>,
}

/// Answer to [`TokenRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenAnswer {
    /// It is durable and in force.
    pub success: bool,
    /// The token: shown this once.
    pub token: String,
    /// What is known of it.
    #[serde(flatten)]
    pub view: TokenView,
}

/// `GET /api/tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenList {
    /// The oldest first.
    pub tokens: Vec<TokenView>,
    /// How many.
    pub count: usize,
}

/// `POST /api/tokens/{id}/revoke`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RevokeAnswer {
    /// No request is let in by it any more.
    pub success: bool,
    /// What is known of it.
    #[serde(flatten)]
    pub view: TokenView,
}
