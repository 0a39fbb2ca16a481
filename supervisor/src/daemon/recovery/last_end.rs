//! Whether the daemon before ended as it was asked to.
//!
//! `shutdown.marker`, beside the store, says so: it is written as the very last thing of a stop, or when an
//! operator says that what comes is no crash (`mark-shutdown`), and goes as soon as a daemon has the store. What
//! counts is what is in it, never how old it is. A home without a store never had a daemon.

use std::fs;
use std::io;
use std::path::Path;

use deia::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::backup::with_suffix;
use crate::daemon::home::Home;
use crate::durable;

/// How the daemon before ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastEnd {
    /// There was none.
    First,
    /// This is its process still, by way of an exec.
    Continued,
    /// It stopped, or an operator said that it would.
    Clean,
    /// It did not get to say so.
    Crash,
}

/// Longest marker.
const MAX_BYTES: u64 = 4096;

#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    clean: bool,
    at: Timestamp,
    pid: u32,
    by: String,
}

/// Looks, before there is a store where there was none.
pub fn look(home: &Home, handed_over: bool) -> LastEnd {
    if handed_over {
        return LastEnd::Continued;
    }
    let marker = home.shutdown_marker();
    let small = fs::metadata(&marker).is_ok_and(|meta| meta.len() <= MAX_BYTES);
    let marker = small.then(|| fs::read(&marker).ok()).flatten();
    let marker = marker.and_then(|text| serde_json::from_slice::<Marker>(&text).ok());
    match marker {
        Some(marker) if marker.clean => LastEnd::Clean,
        _ if there_was_one(&home.database()) => LastEnd::Crash,
        _ => LastEnd::First,
    }
}

fn there_was_one(database: &Path) -> bool {
    fs::symlink_metadata(database).is_ok()
}

/// A daemon runs from here on: an end without a word is a crash. Blocks.
pub fn begin(home: &Home, last: LastEnd) {
    match last {
        LastEnd::Crash => tracing::warn!(
            event = "crash_detected",
            "the daemon before did not end as it was asked to; everything that was acknowledged is there"
        ),
        LastEnd::Clean => tracing::info!(
            event = "shutdown_marker_cleared",
            "the daemon before had stopped as it was asked to"
        ),
        LastEnd::First | LastEnd::Continued => {}
    }
    let marker = home.shutdown_marker();
    // What one that was killed has left of it.
    let _ = fs::remove_file(with_suffix(&marker, ".tmp"));
    if let Err(e) = durable::remove(&marker) {
        tracing::warn!(event = "recovery_marker_not_cleared", error = %e, path = %marker.display(), "the mark of a clean end could not be removed; a crash would not be noticed");
    }
}

/// What ends now, ends as it was asked to. Blocks.
///
/// # Errors
/// Those of the file system.
pub fn mark(home: &Home, by: &str) -> io::Result<()> {
    let marker = Marker {
        clean: true,
        at: Timestamp::now(),
        pid: std::process::id(),
        by: by.to_owned(),
    };
    let text = serde_json::to_vec(&marker).map_err(io::Error::other)?;
    durable::write(&home.shutdown_marker(), &text)?;
    tracing::info!(event = "clean_shutdown_marked", "a clean end is marked");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_marker_counts_and_not_its_age() {
        let directory = tempfile::tempdir().unwrap();
        let persistence = deia::config::Persistence::default();
        let home = Home::new(directory.path(), &persistence, None);
        home.create().unwrap();
        assert_eq!(look(&home, false), LastEnd::First);
        fs::write(home.database(), "a store").unwrap();
        assert_eq!(look(&home, false), LastEnd::Crash);
        mark(&home, "a test").unwrap();
        // Of long ago: the daemon was stopped, and nobody started it for a year.
        let marker = fs::File::options()
            .write(true)
            .open(home.shutdown_marker())
            .unwrap();
        marker.set_modified(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(look(&home, false), LastEnd::Clean);
        assert_eq!(look(&home, true), LastEnd::Continued);
        begin(&home, LastEnd::Clean);
        assert_eq!(
            look(&home, false),
            LastEnd::Crash,
            "killed within the second"
        );
        // Touched by somebody.
        fs::write(home.shutdown_marker(), "").unwrap();
        assert_eq!(look(&home, false), LastEnd::Crash);
    }
}
