//! The daemon `deia`.
//!
//! ```text
//!   daemon   start, main loop, reload, signals     brain     every decision, without I/O
//!   fleet    bots as processes and connections     store     where tasks are durable
//!   http     who may ask what, and the answers     settings  which configuration is in force
//!   logs     what is written for people            usage     what processes and the host use
//!   demo     a fleet that shows itself              hive      tasks and answers as files
//!   backup   backups and restores                   audit     who did what, as a chain that shows changes
//!   health   how the fleet is, and what is said about it
//!   backup   backups and restores
//!   external bots that are somewhere else
//! ```

pub mod audit;
pub mod backup;
pub mod brain;
pub mod daemon;
pub mod demo;
pub mod durable;
pub mod external;
pub mod fleet;
pub mod fuzz;
pub mod health;
pub mod hive;
pub mod http;
pub mod logs;
pub mod settings;
pub mod sigmask;
pub mod store;
pub mod tokens;
pub mod usage;
