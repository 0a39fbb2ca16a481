//! The two shapes of an error.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Any error but 422.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiError {
    /// Always false.
    pub success: bool,
    /// What happened, to what, and the remedy.
    pub error: String,
    /// `snake_case`, for programs.
    #[schema(value_type = String)]
    pub code: Cow<'static, str>,
    /// More, where there is more to say; else the same as `error`.
    pub detail: String,
}

impl ApiError {
    /// An error whose detail is its text.
    pub fn new(code: &'static str, error: impl Into<String>) -> Self {
        let error = error.into();
        Self {
            success: false,
            detail: error.clone(),
            error,
            code: Cow::Borrowed(code),
        }
    }
}

/// 422, in FastAPI's form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ValidationErrors {
    /// One for each value that is wrong.
    pub detail: Vec<ValidationError>,
}

/// One wrong value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ValidationError {
    /// `missing`, `string_type`, `int_type`, `enum`, `json_invalid`, ...
    #[serde(rename = "type")]
    pub kind: Cow<'static, str>,
    /// Where: `["body", "priority"]`, `["query", "limit"]`.
    pub loc: Vec<serde_json::Value>,
    /// What it should be.
    pub msg: String,
    /// What it was.
    pub input: serde_json::Value,
    /// More.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ctx: Option<serde_json::Value>,
}
