//! What HTTP takes and answers, as types: the daemon serves them, `deiactl` reads them and
//! `openapi.json` is generated from them.

mod audit;
mod bots;
mod config;
mod confinement;
mod deployments;
mod error;
mod explain;
mod external;
mod health;
mod learning;
mod messages;
mod monitoring;
mod openai;
mod processes;
mod recovery;
mod rollback;
mod scaling;
mod scope;
mod status;
mod tasks;
mod tokens;
mod upgrade;

pub use audit::*;
pub use bots::*;
pub use config::*;
pub use confinement::*;
pub use deployments::*;
pub use error::*;
pub use explain::*;
pub use external::*;
pub use health::*;
pub use learning::*;
pub use messages::*;
pub use monitoring::*;
pub use openai::*;
pub use processes::*;
pub use recovery::*;
pub use rollback::*;
pub use scaling::*;
pub use scope::*;
pub use status::*;
pub use tasks::*;
pub use tokens::*;
pub use upgrade::*;
