//! What an operator writes, read whole or not at all.

mod model;

pub use model::*;
