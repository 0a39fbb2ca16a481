//! `.deia/releases/deployments.json`: which releases ran here, since when, and who brought them. Outside the
//! store: a rollback asks what was before, also where the store can't be read.

use std::fs;
use std::io;
use std::path::PathBuf;

use deia::api::{DeployedBy, Deployment};
use deia::time::Timestamp;

/// Deployments that are remembered; the oldest go.
pub const MAX_DEPLOYMENTS: usize = 100;

/// Larger than this the file is none of ours.
const MAX_BYTES: u64 = 1 << 20;

/// The list on disk. Its methods block.
#[derive(Debug, Clone)]
pub struct Deployments {
    path: PathBuf,
}

/// The release that has become ready.
#[derive(Debug, Clone)]
pub struct Ready {
    /// Its version.
    pub version: String,
    /// Its name, see [`Deployment::release`].
    pub release: String,
    /// How it came.
    pub how: DeployedBy,
    /// Who did it.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Of the configuration in force.
    pub configuration_sha256: String,
    /// Where that came from.
    pub configuration_file: Option<String>,
    /// Of the store.
    pub schema_version: i64,
}

impl Deployments {
    /// Those in this file.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// All that are remembered, the oldest first.
    ///
    /// # Errors
    /// Where there is a file that can't be read: nothing is written over it.
    pub fn list(&self) -> io::Result<Vec<Deployment>> {
        let named = |what: String| io::Error::other(format!("{}: {what}", self.path.display()));
        match fs::metadata(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(named(e.to_string())),
            Ok(meta) if meta.len() > MAX_BYTES => return Err(named("too large".to_owned())),
            Ok(_) => {}
        }
        let bytes = fs::read(&self.path).map_err(|e| named(e.to_string()))?;
        serde_json::from_slice(&bytes).map_err(|e| named(e.to_string()))
    }

    /// Writes down that a release is ready, where it is another one than before; that deployment then.
    ///
    /// # Errors
    /// When it is not on disk.
    pub fn note(&self, ready: Ready) -> io::Result<Option<Deployment>> {
        let mut known = self.list()?;
        let Some(deployment) = following(&known, ready) else {
            return Ok(None);
        };
        known.push(deployment.clone());
        let excess = known.len().saturating_sub(MAX_DEPLOYMENTS);
        known.drain(..excess);
        let text = serde_json::to_vec_pretty(&known).map_err(io::Error::other)?;
        crate::durable::write(&self.path, &text)?;
        Ok(Some(deployment))
    }
}

/// The deployment that a release is after these, where it is one.
fn following(known: &[Deployment], ready: Ready) -> Option<Deployment> {
    let before = known.last();
    if before.is_some_and(|before| before.release == ready.release) {
        return None;
    }
    let time = ready.at.to_string();
    let base: String = time.chars().take(19).collect();
    let base = format!("deployment-{}", base.replace([':', 'T'], "-"));
    let is_taken = |id: &str| known.iter().any(|d| d.deployment_id == id);
    let numbered = (2..).map(|n| format!("{base}-{n}"));
    let deployment_id = std::iter::once(base.clone())
        .chain(numbered)
        .find(|id| !is_taken(id))?;
    Some(Deployment {
        deployment_id,
        version: ready.version,
        release: ready.release,
        previous_version: before.map(|before| before.version.clone()),
        previous_release: before.map(|before| before.release.clone()),
        how: ready.how,
        by: ready.by,
        at: ready.at,
        configuration_sha256: ready.configuration_sha256,
        configuration_file: ready.configuration_file,
        schema_version: ready.schema_version,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(release: &str, second: i64) -> Ready {
        Ready {
            version: "1.0".into(),
            release: release.into(),
            how: DeployedBy::Start,
            by: "user:root".into(),
            at: Timestamp::from_micros(second * 1_000_000),
            configuration_sha256: "00".into(),
            configuration_file: None,
            schema_version: 4,
        }
    }

    #[test]
    fn only_another_release_is_a_deployment() {
        let directory = tempfile::tempdir().unwrap();
        let deployments = Deployments::new(directory.path().join("deployments.json"));
        let first = deployments.note(ready("a", 0)).unwrap().unwrap();
        assert_eq!(first.deployment_id, "deployment-1970-01-01-00-00-00");
        assert_eq!(
            (&first.previous_release, &first.previous_version),
            (&None, &None)
        );
        assert_eq!(deployments.note(ready("a", 5)).unwrap(), None);
        let second = deployments.note(ready("b", 0)).unwrap().unwrap();
        assert_eq!(second.deployment_id, "deployment-1970-01-01-00-00-00-2");
        assert_eq!(second.previous_release.as_deref(), Some("a"));
        // Back again is one more.
        assert!(deployments.note(ready("a", 9)).unwrap().is_some());
        assert_eq!(deployments.list().unwrap().len(), 3);
    }

    #[test]
    fn the_list_has_a_bound_and_what_cannot_be_read_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deployments.json");
        let deployments = Deployments::new(path.clone());
        for n in 0..i64::try_from(MAX_DEPLOYMENTS).unwrap() + 5 {
            deployments.note(ready(&n.to_string(), n)).unwrap();
        }
        let known = deployments.list().unwrap();
        assert_eq!(known.len(), MAX_DEPLOYMENTS);
        assert_eq!(known[0].release, "5");
        fs::write(&path, "{").unwrap();
        assert!(deployments.note(ready("x", 1)).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"{");
    }
}
