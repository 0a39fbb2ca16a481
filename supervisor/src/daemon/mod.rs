//! The daemon as a whole: started, running, stopped.

pub mod command;
mod deployed;
pub mod engine;
mod estate;
pub mod health;
pub mod home;
pub mod intake;
mod leave;
mod reap;
pub mod recovery;
pub mod reload;
pub mod rollback;
mod run;
pub mod service;
mod signals;
mod sockets;
mod start;
pub mod upgrade;
pub mod validation;
pub mod vitals;

pub use reap::reap;
pub use run::{Options, print_openapi, run};
