//! One verb, one file. A verb parses its own options, asks the daemon through `Context` and prints
//! through `Out`; none of them exits or prints by itself.

pub mod alerts;
pub mod audit;
pub mod backup;
pub mod bench;
pub mod bot;
pub mod bots;
pub mod completions;
pub mod config;
pub mod deployments;
pub mod doctor;
pub mod drain;
mod follow;
pub mod logs;
pub mod message;
pub mod planned;
pub mod reload;
pub mod restore;
pub mod resume;
pub mod rollback;
pub mod scale;
pub mod status;
pub mod submit;
pub mod task;
pub mod token;
pub mod upgrade;
