//! `bare-axum PORT`: answers `GET /health` with a small JSON, and does nothing else.

use std::error::Error;
use std::net::Ipv4Addr;

use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let port: u16 = std::env::args().nth(1).ok_or("which port?")?.parse()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_io().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let health = get(|| async { Json(json!({"status": "healthy", "version": "1.0"})) });
        axum::serve(listener, Router::new().route("/health", health)).await?;
        Ok(())
    })
}
