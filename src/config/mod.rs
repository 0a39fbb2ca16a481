//! What an operator writes, read whole or not at all.

mod backend;
mod cross;
mod file;
mod guide;
mod key;
mod keys;
mod model;
mod parse;
mod pool;
mod pool_keys;
mod pools;
mod problem;
mod reader;
mod render;
mod rule;
mod samples;
pub mod secret;
mod tree;
mod view;

#[cfg(test)]
mod tests;

pub use backend::*;
pub use file::{LoadError, load, read_text, validate};
pub use guide::guide_tables;
pub use key::{Status, TakesEffect};
pub use keys::{MAX_BOTS, MAX_CONTENT_BYTES};
pub use model::*;
pub use parse::{Content, Loaded, parse};
pub use pool::*;
pub use pools::is_pool_name;
pub use problem::{Problem, Refusal, Snippet};
pub use render::render_yaml;
pub use rule::parse_listen;
pub use samples::{DEVELOPMENT, PRODUCTION, Sample, samples};
pub use secret::redact as redact_secrets;
pub use view::{Change, diff, flatten, pin_restart_keys, to_json, value};
