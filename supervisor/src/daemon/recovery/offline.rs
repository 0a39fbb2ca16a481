//! `deia recover`: backups and restores without a daemon. `deiactl` runs it where none answers. Prints one JSON
//! document, the API's own.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::{Args, Subcommand};
use deia::api::{ApiError, BackupHistory, VerifyAnswer};
use deia::config::Persistence;
use deia::time::Timestamp;
use serde::Serialize;

use crate::backup::{Archives, ENDING, Found, is_id, read};
use crate::daemon::home::Home;
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

/// The paths of this home, as its daemon would have them.
pub(super) fn home(arguments: &RecoverArgs) -> Result<Home, String> {
    let root = std::path::absolute(&arguments.home).map_err(|e| e.to_string())?;
    if !root.join(".deia").is_dir() {
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
