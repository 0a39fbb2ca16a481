//! The daemon as a whole.

pub mod command;
pub mod engine;
pub mod health;
pub mod home;
pub mod intake;
