//! The release that runs, written down once it is ready, and kept once it has run for a while.

use std::io;
use std::path::Path;
use std::time::Duration;

use deia::api::DeployedBy;
use deia::config::render_yaml;
use deia::time::Timestamp;
use sha2::{Digest as _, Sha256};

use super::reload::ConfigHandle;
use super::upgrade::{Attempt, Ready, Releases, own_name};
use crate::audit::{self, Actor};
use crate::store::sqlite::schema_version;

/// Who has run for so long has shown that it can.
const WORTH_KEEPING: Duration = Duration::from_secs(60);

/// Does both in the background. `switch` is the one that has made this release ready, if one has.
pub(super) fn start(releases: &Releases, switch: Option<Attempt>, config: ConfigHandle) {
    tokio::spawn(write_down(releases.clone(), switch, config));
    tokio::spawn(keep(releases.clone()));
}

/// Another release than before is a deployment: written down, and said.
async fn write_down(releases: Releases, switch: Option<Attempt>, config: ConfigHandle) {
    let status = config.status();
    let Some(release) = own_name() else {
        tracing::warn!(
            event = "deployment_unknown",
            "this program's own file can't be looked at"
        );
        return;
    };
    let (how, by) = match switch {
        Some(switch) => (switch.how, switch.by),
        None => (DeployedBy::Start, Actor::starter().name().to_owned()),
    };
    let text = render_yaml(&config.current());
    let ready = Ready {
        version: deia::VERSION.to_owned(),
        release,
        how,
        by,
        at: Timestamp::now(),
        configuration_sha256: audit::hex(&Sha256::digest(text.as_bytes()).into()),
        configuration_file: status.config_file,
        schema_version: schema_version(),
    };
    let noted = tokio::task::spawn_blocking(move || releases.deployments().note(ready));
    match noted.await {
        Ok(Ok(Some(new))) => tracing::info!(
            event = "deployment",
            deployment_id = new.deployment_id,
            version = new.version,
            by = new.by,
            configuration_sha256 = new.configuration_sha256,
            previous = new.previous_version,
            "another release than before runs here"
        ),
        Ok(Ok(None)) | Err(_) => {}
        Ok(Err(e)) => {
            tracing::error!(event = "deployment_not_written", error = %e, "the list of deployments could not be written");
        }
    }
}

/// What has run for a while is kept, so that there is something to go back to when its file has been replaced.
async fn keep(releases: Releases) {
    tokio::time::sleep(WORTH_KEEPING).await;
    let kept = tokio::task::spawn_blocking(move || {
        let own = releases.keep(Path::new("/proc/self/exe"), deia::VERSION)?;
        releases.prune(&[&own]);
        io::Result::Ok(())
    });
    if let Ok(Err(e)) = kept.await {
        tracing::warn!(event = "release_not_kept", error = %e, "this release can't be kept: a rollback will not find it");
    }
}
