//! Bots as real processes with a supervisor made for the test, and backends against servers that
//! misbehave.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test stops at the first surprise, also in its helpers"
)]

mod command;
mod model_server;
mod ollama;
mod openai;
mod rig;
mod sandbox;
mod session;

/// Not a test of its own: the bot that other tests start, see [`rig::Rig`].
#[test]
fn worker_process() {
    rig::be_a_worker_if_asked();
}
