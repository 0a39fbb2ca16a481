//! Tests of the whole path from text to configuration.

mod cases;
mod guide;
mod hostile;
mod keys;
mod round_trip;
mod secrets;

use std::path::Path;

use super::{Config, Loaded, Refusal, parse};

fn read(text: &str) -> Result<Loaded, Refusal> {
    parse(text, Path::new("bot-config.yaml"), None)
}

fn read_over(text: &str, last_good: &Config) -> Result<Loaded, Refusal> {
    parse(text, Path::new("bot-config.yaml"), Some(last_good))
}
