//! The daemon as a whole: started, running, stopped.

pub mod command;
pub mod engine;
mod estate;
pub mod health;
pub mod home;
pub mod intake;
pub mod reload;
mod run;
pub mod service;
mod signals;

pub use run::{Options, print_openapi, run};
