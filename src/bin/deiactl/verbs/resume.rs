//! `deiactl resume`: the file's limits are in force again.

use clap::Args;
use deia::api::LimitsRequest;

use super::scale;
use crate::context::Context;
use crate::failure::Failure;
use crate::wait::Patience;

/// End the limits set by scale or drain: those of the file are in force again.
#[derive(Debug, Args)]
pub struct Resume {
    /// Wait until the fleet is within the limits; at most SECONDS, if given
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "unlimited")]
    wait: Option<Patience>,
}

impl Resume {
    /// Asks and waits.
    pub async fn run(&self, context: &Context) -> Result<(), Failure> {
        let request = LimitsRequest {
            resume: true,
            ..LimitsRequest::default()
        };
        scale::set(context, &request, self.wait).await
    }
}
