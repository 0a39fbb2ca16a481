//! A rollback without a daemon: the store is swapped and the earlier release pinned, and the next daemon, which is that
//! release, looks at both and says that it is over.

use std::path::Path;

use deia::api::{BackupMeta, RestoreAnswer, RollbackStep, RollbackView};
use deia::time::Timestamp;

use super::choice::Choice;
use super::choose;
use crate::backup::{Archives, Found};
use crate::daemon::home::Home;
use crate::daemon::upgrade::Releases;

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
    let own = (last.release.clone(), last.version.clone());
    let choice = Choice::make(&releases, known, own, wanted.version)?;
    let plan = match wanted.keep_state {
        true => None,
        false => Some(verified(
            home,
            wanted.backup,
            choice.deployed_at(),
            restore,
        )?),
    };
    let uid = rustix::process::getuid().as_raw();
    let plan = plan.map(|answer| answer.plan);
    let by = format!("uid {uid} without a daemon");
    let mut journal = choice.journal(plan.as_ref(), choice.to.clone(), by);
    // The release that is left may not be kept: it is not tried again.
    journal.again = u32::MAX;
    if wanted.dry_run {
        return Ok(journal.view);
    }
    if let Some(plan) = &plan {
        restore(&plan.backup.backup_id, false)?;
    }
    // The next daemon's program is this one.
    releases
        .pin(&choice.to, Path::new("/proc/self/exe"))
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
