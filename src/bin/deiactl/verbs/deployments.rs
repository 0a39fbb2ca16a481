//! `deiactl deployments`.

use clap::Args;
use deia::time::Timestamp;

use crate::context::Context;
use crate::failure::Failure;
use crate::human::{self, NOTHING};
use crate::table::{Field, Table};

/// List which releases ran here: since when, who brought them, under which configuration.
#[derive(Debug, Args)]
pub struct Deployments {}

impl Deployments {
    /// Asks and prints.
    pub async fn run(&self, context: &Context) -> Result<(), Failure> {
        let reply = context.client()?.deployments().await?;
        let out = &context.out;
        out.reply(&reply, |list| {
            if list.deployments.is_empty() {
                return out.line("no deployments yet");
            }
            let header = [
                "VERSION",
                "SINCE",
                "AGO",
                "HOW",
                "BY",
                "CONFIGURATION",
                "RELEASE",
            ];
            let mut table = Table::new(out, &header);
            let now = Timestamp::now();
            for deployment in &list.deployments {
                let how = match deployment.how {
                    deia::api::DeployedBy::Start => "start",
                    deia::api::DeployedBy::Upgrade => "upgrade",
                    deia::api::DeployedBy::Rollback => "rollback",
                };
                let configuration = deployment.configuration_sha256.get(..12);
                table.row(vec![
                    Field::from(&deployment.version),
                    deployment.at.to_string().into(),
                    human::duration(now.seconds_since(deployment.at)).into(),
                    how.to_owned().into(),
                    Field::from(&deployment.by),
                    configuration.unwrap_or(NOTHING).to_owned().into(),
                    Field::from(&deployment.release),
                ]);
            }
            out.text(&table.render())
        })
    }
}
