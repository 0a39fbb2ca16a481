//! `deia recover`: backups and restores without a daemon. `deiactl` runs it where none answers. Prints one JSON
//! document, the API's own.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::{Args, Subcommand};
use deia::api::{ApiError, BackupHistory, RestoreAnswer, VerifyAnswer};
use deia::config::Persistence;
use deia::time::Timestamp;
use serde::Serialize;

use crate::backup::restore::{self, Source};
use crate::backup::{Archives, ENDING, Found, is_id, read};
use crate::daemon::home::Home;
use crate::daemon::rollback::offline;
use crate::settings::{Overrides, Settings};

/// The command line of `deia recover`.
#[derive(Debug, Args)]
pub struct RecoverArgs {
    /// The daemon's home directory.
    #[arg(long, env = "DEIA_HOME", value_name = "DIR", default_value = ".")]
    home: PathBuf,
    /// The configuration, instead of HOME/bot-config.yaml.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the backups.
    List {
        /// At most this many.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Read every byte of a backup.
    Verify {
        /// Its name or its file; the newest one where nothing is said.
        which: Option<String>,
    },
    /// Restore a backup.
    Restore {
        /// Its name or its file.
        #[arg(required_unless_present = "undo")]
        which: Option<String>,
        /// Only verify, and say what would be.
        #[arg(long)]
        dry_run: bool,
        /// Go back to the state from before the last restore.
        #[arg(long)]
        undo: bool,
    },
    /// Go back to an earlier release, with the state of a backup.
    Rollback {
        /// Which backup; else the newest whole one from before the last deployment.
        #[arg(long)]
        backup: Option<String>,
        /// Which release; else the one before the last.
        #[arg(long)]
        version: Option<String>,
        /// The release alone.
        #[arg(long)]
        keep_state: bool,
        /// Only check, and say what would be.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Does it.
pub fn recover(arguments: &RecoverArgs) -> ExitCode {
    match done(arguments) {
        Ok(code) => code,
        Err(why) => {
            // Its reader may be gone.
            let _ = print(&ApiError::new("failed", why));
            ExitCode::FAILURE
        }
    }
}

fn done(arguments: &RecoverArgs) -> Result<ExitCode, String> {
    let home = home(arguments)?;
    // The lock first: from here on no daemon begins.
    if let Verb::Restore {
        dry_run,
        undo,
        which,
    } = &arguments.verb
    {
        let which = which.as_deref().filter(|_| !undo);
        return restore(arguments, &home, which, *dry_run);
    }
    if let Verb::Rollback {
        backup,
        version,
        keep_state,
        dry_run,
    } = &arguments.verb
    {
        let wanted = offline::Wanted {
            backup: backup.as_deref(),
            version: version.as_deref(),
            keep_state: *keep_state,
            dry_run: *dry_run,
        };
        home.create().map_err(|e| e.to_string())?;
        let _lock = home.lock().map_err(|e| e.to_string())?;
        let restore = |id: &str, dry_run| restored(arguments, &home, Some(id), dry_run);
        let view = offline::roll_back(&home, &wanted, &restore)?;
        give_to_owner(&home).map_err(|e| e.to_string())?;
        return print(&view);
    }
    let archives = Archives::new(home.backups());
    match &arguments.verb {
        Verb::List { limit } => {
            let mut found = archives.list().map_err(|e| e.to_string())?;
            found.truncate(*limit);
            archives.sum_up(&mut found);
            let backups: Vec<_> = found.iter().map(Found::meta).collect();
            print(&BackupHistory {
                count: backups.len(),
                backups,
                timestamp: Timestamp::now(),
            })
        }
        Verb::Restore { .. } | Verb::Rollback { .. } => Ok(ExitCode::FAILURE),
        Verb::Verify { which } => {
            let begun = Instant::now();
            let found = find(&archives, which.as_deref())?;
            let verified = Archives::verify(&found.path, &mut |_| ());
            let mut one = [found];
            archives.sum_up(&mut one);
            let [found] = one;
            let error = verified.err().map(|e| e.to_string());
            print(&VerifyAnswer {
                success: error.is_none(),
                backup_id: found.id.clone(),
                backup: found.manifest.is_ok().then(|| found.meta()),
                error,
                seconds: begun.elapsed().as_secs_f64(),
                timestamp: Timestamp::now(),
            })
        }
    }
}

fn restore(
    arguments: &RecoverArgs,
    home: &Home,
    which: Option<&str>,
    dry_run: bool,
) -> Result<ExitCode, String> {
    home.create().map_err(|e| e.to_string())?;
    let _lock = home.lock().map_err(|e| e.to_string())?;
    let answer = restored(arguments, home, which, dry_run)?;
    give_to_owner(home).map_err(|e| e.to_string())?;
    print(&answer)
}

/// The lock is held.
fn restored(
    arguments: &RecoverArgs,
    home: &Home,
    which: Option<&str>,
    dry_run: bool,
) -> Result<RestoreAnswer, String> {
    let named = |e: io::Error| e.to_string();
    // One that was cut short comes first, or is not known any more.
    restore::swap(home).map_err(named)?;
    let archives = Archives::new(home.backups());
    let source = match which {
        Some(which) => Source::Archive(Box::new(find(&archives, Some(which))?)),
        None => Source::Kept(
            restore::newest_kept(home).ok_or("there is no state from before a restore")?,
        ),
    };
    let settings = Settings::load(&home.root, arguments.config.clone(), Overrides::default());
    let persistence = settings.as_ref().map_or_else(
        |_| Persistence::default(),
        |s| s.current().persistence.clone(),
    );
    let has_config = settings.map_or(true, |s| s.status(Timestamp::now()).config_file.is_some());
    let rules = restore::Rules {
        max_bytes: persistence.restore_max_mb.saturating_mul(1 << 20),
        has_config,
        by: format!(
            "uid {} without a daemon",
            rustix::process::getuid().as_raw()
        ),
        automatic: 0,
    };
    let mut staged = restore::stage(home, &source, &rules, &mut |_, _| ())?;
    let plan = staged.plan.clone();
    let mut answer = RestoreAnswer {
        success: true,
        restore_id: String::new(),
        dry_run,
        data: Default::default(),
        message: "every byte and every row of it was checked; nothing was changed".into(),
        plan,
        timestamp: Timestamp::now(),
    };
    if !dry_run {
        staged.renew()?;
        answer.restore_id = staged.restore_id().to_owned();
        staged.commit(home)?;
        restore::swap(home).map_err(named)?;
        answer.message = "restored; the next daemon checks it and goes on with it".into();
    }
    Ok(answer)
}

/// What root has made is the daemon's user's, or the daemon could not open it.
fn give_to_owner(home: &Home) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, lchown};
    let owner = fs::metadata(home.deia())?;
    if !rustix::process::geteuid().is_root() || owner.uid() == 0 {
        return Ok(());
    }
    let mut left = vec![
        home.restore_journal(),
        home.rollback_journal(),
        home.releases(),
        home.state.clone(),
        home.config.clone(),
        home.backups(),
        home.deia().join("run"),
    ];
    left.extend(restore::newest_kept(home));
    while let Some(path) = left.pop() {
        let Ok(meta) = fs::symlink_metadata(&path) else {
            continue;
        };
        if meta.uid() == 0 {
            lchown(&path, Some(owner.uid()), Some(owner.gid()))?;
        }
        if meta.is_dir() {
            left.extend(fs::read_dir(&path)?.flatten().map(|entry| entry.path()));
        }
    }
    Ok(())
}

/// The paths of this home, as its daemon would have them.
pub(super) fn home(arguments: &RecoverArgs) -> Result<Home, String> {
    let root = std::path::absolute(&arguments.home).map_err(|e| e.to_string())?;
    let may_be_new = matches!(arguments.verb, Verb::Restore { .. }) && root.is_dir();
    if !may_be_new && !root.join(".deia").is_dir() {
        return Err(format!(
            "{} is no home of a deia (there is no .deia): name it with --home DIR",
            root.display()
        ));
    }
    // Without a configuration that can be read, what it would say by itself: a restore must not need one.
    let persistence = Settings::load(&root, arguments.config.clone(), Overrides::default())
        .map_or_else(
            |_| Persistence::default(),
            |settings| settings.current().persistence.clone(),
        );
    Ok(Home::new(&root, &persistence, None))
}

/// A backup by its name or its file; the newest one that can be read where nothing is said.
pub(super) fn find(archives: &Archives, which: Option<&str>) -> Result<Found, String> {
    let Some(which) = which else {
        let found = archives.list().map_err(|e| e.to_string())?;
        let newest = found.into_iter().find(|one| one.manifest.is_ok());
        return newest
            .ok_or_else(|| format!("there is no backup in {}", archives.folder().display()));
    };
    if is_id(which)
        && !which.ends_with(ENDING)
        && let Some(found) = archives.find(which)
    {
        return Ok(found);
    }
    file(Path::new(which))
}

/// An archive wherever it is.
///
/// # Errors
/// There is none.
pub fn file(path: &Path) -> Result<Found, String> {
    let named = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let file = read::open(path).map_err(|e| named(&e))?;
    let size = file.metadata().map_err(|e| named(&e))?.len();
    let manifest = read::manifest(&file).map_err(|e| e.to_string());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(Found {
        id: name.strip_suffix(ENDING).unwrap_or(&name).to_owned(),
        path: path.to_owned(),
        size,
        at: manifest
            .as_ref()
            .map_or_else(|_| Timestamp::now(), |m| m.created_at),
        manifest,
        checksum: String::new(),
    })
}

pub(super) fn print<T: Serialize>(answer: &T) -> Result<ExitCode, String> {
    let text = serde_json::to_string(answer).map_err(|e| e.to_string())?;
    writeln!(io::stdout().lock(), "{text}").map_err(|e| e.to_string())?;
    Ok(ExitCode::SUCCESS)
}
