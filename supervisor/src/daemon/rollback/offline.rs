//! A rollback without a daemon: the store is swapped and the earlier release pinned, and the next daemon, which is that
//! release, looks at both and says that it is over.

use deia::api::{BackupMeta, DeployedBy, RestoreAnswer, RollbackStep, RollbackView};
use deia::time::Timestamp;

use super::{Journal, choose, view};
use crate::backup::{Archives, Found};
use crate::daemon::home::Home;
use crate::daemon::upgrade::{Attempt, Releases};

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Which backup.
    pub backup: Option<&'a str>,
    /// Which release.
    pub version: Option<&'a str>,
    /// The release alone.
    pub keep_state: bool,
    /// Nothing is changed.
    pub dry_run: bool,
}

/// Goes back. `restore` restores a backup, or only verifies it. Call with the home's lock. Blocks.
///
/// # Errors
/// Why not; nothing was changed then.
pub fn roll_back(
    home: &Home,
    wanted: &Wanted<'_>,
    restore: &dyn Fn(&str, bool) -> Result<RestoreAnswer, String>,
) -> Result<RollbackView, String> {
    let releases = Releases::new(home.releases());
    let known = releases.deployments().list().map_err(|e| e.to_string())?;
    let last = known.last().ok_or("no release is known to have run here")?;
    let own = last.release.clone();
    let is_kept = |release: &str| releases.kept(release).is_some();
    let chosen = choose::release(&known, &own, wanted.version, is_kept)?;
    let to = releases.kept(&chosen.release);
    let to = to.ok_or("the release has just been removed")?;
    let plan = match wanted.keep_state {
        true => None,
        false => Some(verified(
            home,
            wanted.backup,
            choose::deployed_at(&known, &own),
            restore,
        )?),
    };
    let now = Timestamp::now();
    let uid = rustix::process::getuid().as_raw();
    let switch = Attempt {
        id: uuid::Uuid::now_v7().to_string(),
        from: to.clone(),
        to: to.clone(),
        pin: true,
        from_version: last.version.clone(),
        to_version: chosen.version.clone(),
        at: now,
        by: format!("uid {uid} without a daemon"),
        how: DeployedBy::Rollback,
    };
    let plan = plan.map(|answer| answer.plan);
    let mut journal = Journal {
        view: view(&switch, chosen, &own, plan.as_ref(), now),
        switch,
        wait_ms: 0,
        backup_at: plan.as_ref().map(|plan| plan.backup.timestamp),
        again: u32::MAX,
    };
    if wanted.dry_run {
        return Ok(journal.view);
    }
    if let Some(plan) = &plan {
        restore(&plan.backup.backup_id, false)?;
    }
    releases
        .pin(&to)
        .map_err(|e| format!("the release can't be pinned: {e}"))?;
    let path = home.rollback_journal();
    let noted = journal.come_to(RollbackStep::Starting, &path);
    noted.map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(journal.view)
}

fn verified(
    home: &Home,
    wanted: Option<&str>,
    deployed_at: Option<Timestamp>,
    restore: &dyn Fn(&str, bool) -> Result<RestoreAnswer, String>,
) -> Result<RestoreAnswer, String> {
    let candidates = match wanted {
        Some(id) => vec![id.to_owned()],
        None => {
            let archives = Archives::new(home.backups());
            let mut found = archives.list().map_err(|e| e.to_string())?;
            found.truncate(super::LISTED);
            archives.sum_up(&mut found);
            let listed: Vec<BackupMeta> = found.iter().map(Found::meta).collect();
            let best = choose::backups(&listed, deployed_at).take(super::TRIED);
            best.map(|backup| backup.backup_id.clone()).collect()
        }
    };
    let mut why = super::NO_BACKUP.to_owned();
    for id in candidates {
        match restore(&id, true) {
            Ok(answer) => return Ok(answer),
            Err(e) => why = format!("backup {id}: {e}"),
        }
    }
    Err(why)
}
