//! `deiactl upgrade`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use deia::api::{UpgradeRequest, UpgradeView};

use crate::context::Context;
use crate::failure::Failure;
use crate::wait::{Patience, Wait};

/// How long the switch itself may take before this command stops watching it.
const SWITCH_PATIENCE: Duration = Duration::from_secs(180);

/// Replace the running daemon's program in place: same pid, bots and connections kept.
#[derive(Debug, Args)]
pub struct Upgrade {
    /// The release to switch to: a file, or the name of a kept one under .deia/releases. It stays,
    /// also across restarts. Without it: the program at the path the daemon was started by
    #[arg(value_name = "PATH")]
    path: Option<PathBuf>,
}

impl Upgrade {
    /// Asks, waits until the new release is ready or was left again, and says which.
    pub async fn run(&self, context: &Context) -> Result<(), Failure> {
        let client = context.announced().await?;
        let status = client.status().await?.value;
        let path = self.path.as_deref().map(|path| target(path, &status.home));
        let request = UpgradeRequest {
            path: path.transpose()?.map(|path| path.display().to_string()),
            keep_pin: false,
        };
        context.note("checking the release");
        let begun = client.upgrade(&request).await?.value;
        context.note(&format!(
            "{} is fit; switching from {} to {}",
            begun.path, begun.from_version, begun.to_version
        ));
        context.when_interrupted("the switch goes on without this command".to_owned());
        let wait = Wait::new(Patience::Limited(SWITCH_PATIENCE));
        let ended = wait.until("the switch", async || {
            let release = client.status().await?.value.release;
            let last = release.and_then(|release| release.last_upgrade);
            Ok(last.filter(|last| last.upgrade_id == begun.upgrade_id))
        });
        report(context, &ended.await?)
    }
}

fn report(context: &Context, ended: &UpgradeView) -> Result<(), Failure> {
    let out = &context.out;
    if out.json {
        out.json(ended)?;
    } else if ended.succeeded {
        out.line(&format!("version {} runs", ended.to_version))?;
    }
    match &ended.error {
        None => Ok(()),
        Some(why) => Err(Failure::Failed(format!(
            "{} was left again, {} goes on: {why}",
            ended.to_version, ended.from_version
        ))),
    }
}

/// A path is relative to where this command is; a name alone may be of a kept release.
fn target(path: &Path, home: &str) -> Result<PathBuf, Failure> {
    let kept = Path::new(home)
        .join(".deia/releases")
        .join(path)
        .join("deia");
    if path.components().count() == 1 && !path.exists() && kept.is_file() {
        return Ok(kept);
    }
    std::path::absolute(path).map_err(|e| Failure::Usage(format!("{}: {e}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_release_is_known_by_its_name() {
        let home = tempfile::tempdir().unwrap();
        let kept = home.path().join(".deia/releases/9.9-x");
        std::fs::create_dir_all(&kept).unwrap();
        std::fs::write(kept.join("deia"), "").unwrap();
        let home = home.path().display().to_string();
        assert_eq!(
            target(Path::new("9.9-x"), &home).unwrap(),
            kept.join("deia")
        );
        let here = std::env::current_dir().unwrap();
        assert_eq!(
            target(Path::new("./9.9-x"), &home).unwrap(),
            here.join("9.9-x")
        );
        assert_eq!(target(Path::new("/x/y"), &home).unwrap(), Path::new("/x/y"));
    }
}
