//! The routes of API tokens, typed.

use super::calls::Answer;
use super::http::{Call, Client, segment};
use crate::api::{RevokeAnswer, TokenAnswer, TokenList, TokenRequest};

impl Client {
    /// `GET /api/tokens`.
    pub async fn tokens(&self) -> Answer<TokenList> {
        self.get("/api/tokens").await
    }

    /// `POST /api/tokens`: the answer has the token, this once.
    pub async fn create_token(&self, request: &TokenRequest) -> Answer<TokenAnswer> {
        self.post("/api/tokens", request).await
    }

    /// `POST /api/tokens/{id}/revoke`.
    pub async fn revoke_token(&self, id: &str) -> Answer<RevokeAnswer> {
        let path = format!("/api/tokens/{}/revoke", segment(id));
        self.call(Call::post(&path)).await
    }
}
