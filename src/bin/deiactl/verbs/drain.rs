//! `deiactl drain`: `scale --max 0`. Queued tasks stay queued.

use clap::Args;
use deia::api::LimitsRequest;

use super::scale;
use crate::context::Context;
use crate::failure::Failure;
use crate::wait::Patience;

/// Refuse new tasks, finish what runs, stop the bots (scale --max 0).
#[derive(Debug, Args)]
pub struct Drain {
    /// Wait until nothing runs and no bot is left; at most SECONDS, if given
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "unlimited")]
    wait: Option<Patience>,
}

impl Drain {
    /// Asks and waits.
    pub async fn run(&self, context: &Context) -> Result<(), Failure> {
        let request = LimitsRequest {
            max_bots: Some(0),
            ..LimitsRequest::default()
        };
        scale::set(context, &request, self.wait).await
    }
}
