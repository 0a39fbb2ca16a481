//! Which release, and which backup: pure.

use deia::api::{BackupMeta, Deployment};
use deia::time::Timestamp;

/// The release that is gone back to: the one asked for by version or name, else the last one before this one, of those
/// that are kept.
///
/// # Errors
/// Why there is none, and what would help.
pub fn release<'a>(
    known: &'a [Deployment],
    own: &str,
    wanted: Option<&str>,
    is_kept: impl Fn(&str) -> bool,
) -> Result<&'a Deployment, String> {
    let others = || known.iter().rev().filter(|d| d.release != own);
    let Some(wanted) = wanted else {
        let before = others().next().ok_or(
            "no other release has run here: name one with --version, or restore a backup alone (deiactl restore)",
        )?;
        let kept = others().find(|d| is_kept(&d.release));
        return kept.ok_or(format!(
            "the release before, {}, is not kept under .deia/releases: install its package, and deiactl restore",
            before.release
        ));
    };
    let named = |d: &&Deployment| d.version == wanted || d.release == wanted;
    let mut found = others().filter(named).peekable();
    if found.peek().is_none() {
        let is_own = known.iter().any(|d| d.release == own && named(&d));
        return Err(if is_own {
            format!(
                "{wanted} is the release that runs: deiactl restore goes back to a backup alone"
            )
        } else {
            format!("no release {wanted} has run here; deiactl deployments lists those that have")
        });
    }
    found
        .find(|d| is_kept(&d.release))
        .ok_or(format!("release {wanted} is not kept under .deia/releases"))
}

/// The backups that come into question, the best first: the newest of those from before this release was deployed.
pub fn backups(
    listed: &[BackupMeta],
    deployed_at: Option<Timestamp>,
) -> impl Iterator<Item = &BackupMeta> {
    let mut before: Vec<_> = listed
        .iter()
        .filter(|b| b.error.is_none() && deployed_at.is_none_or(|at| b.timestamp <= at))
        .collect();
    before.sort_by_key(|b| std::cmp::Reverse(b.timestamp));
    before.into_iter()
}

/// When this release was deployed: the last time that another one ran before it.
pub fn deployed_at(known: &[Deployment], own: &str) -> Option<Timestamp> {
    let last = known.iter().rev().find(|d| d.release == own);
    last.map(|d| d.at)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use deia::api::DeployedBy;

    use super::*;

    fn deployment(version: &str, release: &str, second: i64) -> Deployment {
        Deployment {
            deployment_id: String::new(),
            version: version.into(),
            release: release.into(),
            previous_version: None,
            previous_release: None,
            how: DeployedBy::Start,
            by: String::new(),
            at: at(second),
            configuration_sha256: String::new(),
            configuration_file: None,
            schema_version: 1,
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    fn backup(id: &str, second: i64, error: Option<&str>) -> BackupMeta {
        BackupMeta {
            backup_id: id.into(),
            backup_type: "full".into(),
            timestamp: at(second),
            source: String::new(),
            size_bytes: 0,
            item_count: 0,
            checksum: String::new(),
            tags: BTreeMap::new(),
            kind: "manual".into(),
            name: None,
            description: None,
            by: String::new(),
            deia_version: String::new(),
            schema_version: 1,
            tasks: BTreeMap::new(),
            content_bytes: 0,
            file: String::new(),
            error: error.map(str::to_owned),
        }
    }

    #[test]
    fn the_one_before_that_is_kept() {
        let known = [
            deployment("1.0", "a", 1),
            deployment("1.1", "b", 2),
            deployment("1.2", "c", 3),
        ];
        let chosen = |wanted, kept: &[&str]| {
            release(&known, "c", wanted, |r| kept.contains(&r)).map(|d| d.release.as_str())
        };
        assert_eq!(chosen(None, &["a", "b"]), Ok("b"));
        assert_eq!(chosen(None, &["a"]), Ok("a"));
        assert!(chosen(None, &[]).unwrap_err().contains("b, is not kept"));
        assert_eq!(chosen(Some("1.0"), &["a", "b"]), Ok("a"));
        assert_eq!(chosen(Some("b"), &["a", "b"]), Ok("b"));
        assert!(chosen(Some("1.2"), &["c"]).unwrap_err().contains("runs"));
        assert!(chosen(Some("9"), &[]).unwrap_err().contains("deployments"));
        assert!(
            chosen(Some("1.0"), &["b"])
                .unwrap_err()
                .contains("not kept")
        );
        let alone = release(&known[..1], "a", None, |_| true).unwrap_err();
        assert!(alone.contains("no other release"), "{alone}");
    }

    #[test]
    fn the_newest_whole_backup_from_before_the_deployment() {
        let listed = [
            backup("late", 9, None),
            backup("old", 1, None),
            backup("damaged", 4, Some("cut short")),
            backup("new", 3, None),
        ];
        let ids = |at| {
            backups(&listed, at)
                .map(|b| b.backup_id.as_str())
                .collect::<Vec<_>>()
        };
        assert_eq!(ids(Some(at(5))), ["new", "old"]);
        assert_eq!(ids(None), ["late", "new", "old"]);
        let known = [
            deployment("1", "a", 1),
            deployment("2", "b", 2),
            deployment("1", "a", 7),
        ];
        assert_eq!(deployed_at(&known, "a"), Some(at(7)));
        assert_eq!(deployed_at(&known, "z"), None);
    }
}
