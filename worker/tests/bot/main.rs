//! Bots as real processes with a supervisor made for the test, and backends against servers that
//! misbehave.

mod command;
mod model_server;
mod ollama;
mod openai;
mod rig;
mod session;

/// Not a test of its own: the bot that other tests start, see [`rig::Rig`].
#[test]
fn worker_process() {
    rig::be_a_worker_if_asked();
}
