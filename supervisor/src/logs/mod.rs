//! The daemon's logs.
//!
//! ```text
//!   tracing event ─> level ─> one formatting (masked) ─> route ─┬─> queue ─> files    .deia/bot-logs/*.jsonl
//!                                                               ├─> queue ─> console  standard error
//!                                                               ├─> queue ─> journal  under systemd
//!                                                               └─> feed              GET /events
//! ```
//!
//! Events are tracing's, with a literal field `event` that names them (`bot_exited`), `bot_id` and
//! `task_id` where they concern one, and a message for people. Texts of users and bots are never logged;
//! what is logged passes the rule of [`deia::mask`]. Spans are not used.
//! Nobody who logs ever waits: each sink has a bounded queue and a thread of its own, and what does not
//! fit is dropped and counted. `audit.jsonl` alone is not written from events: it has every record of the audit
//! (`trail.rs`), whatever the queues have room for.

mod console;
mod event;
mod feed;
mod files;
mod journal;
mod layer;
mod queue;
mod rotate;
mod route;
mod trail;

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use deia::config::{Journald, LogLevel, Logging};
use tracing::Subscriber;
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;

use console::{ConsoleSink, Style};
use files::{Bounds, LogFiles};
use journal::JournalSink;
use layer::{LogLayer, Sinks, Threshold};
use queue::Writer;

pub use event::{MAX_FIELDS_BYTES, MAX_VALUE_BYTES};
pub use feed::{Feed, MAX_EVENTS, MAX_READERS, Reader, Shown};
pub use files::MAX_OPEN_FILES;
pub use queue::{FLUSH_DELAY, FLUSH_WAIT};
pub use rotate::{Held, rotate_held};
pub use route::MAX_BOT_ID_BYTES;
pub use trail::TrailFile;

/// Bytes of lines that may wait for the disk.
pub const FILE_QUEUE_BYTES: usize = 4 << 20;
/// Bytes of lines that may wait for standard error, and for the journal.
pub const PEOPLE_QUEUE_BYTES: usize = 256 << 10;

/// Whether readable lines go to standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Console {
    /// Unless standard error is the journal and the journal gets them in its own form.
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The directory can't be made or read.
    #[error(
        "can't use the log directory {path}: {source}; make it writable, or name another in persistence.log_directory"
    )]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No thread can be started.
    #[error("can't start a log writer: {0}")]
    Thread(io::Error),
    /// `logging.journald: on`, and there is no journal.
    #[error("can't reach the journal: {0}; set logging.journald to `auto` or `off`")]
    Journal(io::Error),
    /// Another subscriber is installed.
    #[error("logging was set up before in this process")]
    Twice,
}

/// Sets the process's logging up. `dir` is where the JSON lines go.
///
/// # Errors
/// [`LogError`]; nothing is installed then.
pub fn init(
    dir: &Path,
    config: &Logging,
    level: LogLevel,
    sink: Console,
) -> Result<LogHandle, LogError> {
    let (subscriber, handle) = build(dir, config, level, sink)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Twice)?;
    Ok(handle)
}

/// The same without installing it: for a test, or a part of a process.
///
/// # Errors
/// [`LogError`].
pub fn build(
    dir: &Path,
    config: &Logging,
    level: LogLevel,
    sink: Console,
) -> Result<(impl Subscriber + Send + Sync + use<>, LogHandle), LogError> {
    let stream = std::env::var("JOURNAL_STREAM").ok();
    let under_systemd = journal::stderr_is_the_journal(stream.as_deref());
    let journal = match config.journald {
        Journald::On => Some(JournalSink::connect().map_err(LogError::Journal)?),
        // What systemd promised and does not answer is replaced by standard error below.
        Journald::Auto if under_systemd => JournalSink::connect().ok(),
        Journald::Auto | Journald::Off => None,
    };
    let console = match sink {
        Console::Off => None,
        Console::Auto if under_systemd && journal.is_some() => None,
        Console::Auto | Console::On => Some(style(under_systemd)),
    };
    let files =
        LogFiles::open(dir, Bounds::from(config)).map_err(|source| LogError::Directory {
            path: dir.to_owned(),
            source,
        })?;
    let start = |name, capacity, sink| Writer::start(name, capacity, sink);
    let sinks = Arc::new(Sinks {
        files: start("deia-log", FILE_QUEUE_BYTES, files).map_err(LogError::Thread)?,
        console: console
            .map(|style| {
                let writer = Writer::start("deia-console", PEOPLE_QUEUE_BYTES, ConsoleSink::new());
                writer.map(|writer| (style, writer))
            })
            .transpose()
            .map_err(LogError::Thread)?,
        journal: journal
            .map(|sink| Writer::start("deia-journal", PEOPLE_QUEUE_BYTES, sink))
            .transpose()
            .map_err(LogError::Thread)?,
        feed: Feed::default(),
    });
    let threshold = Threshold::new(level);
    let layer = LogLayer {
        sinks: Arc::clone(&sinks),
    };
    let subscriber = Registry::default().with(threshold.clone()).with(layer);
    Ok((subscriber, LogHandle { sinks, threshold }))
}

fn style(under_systemd: bool) -> Style {
    if under_systemd {
        Style::Systemd
    } else if io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        Style::Colour
    } else {
        Style::Plain
    }
}

/// Steers the log of a running daemon. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LogHandle {
    sinks: Arc<Sinks>,
    threshold: Threshold,
}

impl LogHandle {
    /// Opens the files anew: after something else moved them.
    pub fn reopen(&self) {
        self.sinks.files.reopen();
    }

    /// What happens, for those who watch.
    pub fn feed(&self) -> Feed {
        self.sinks.feed.clone()
    }

    /// Lines that did not fit, by sink.
    pub fn dropped(&self) -> Vec<(&'static str, u64)> {
        let sinks = &self.sinks;
        let console = sinks.console.as_ref().map(|(_, writer)| writer);
        let all = [
            ("files", Some(&sinks.files)),
            ("console", console),
            ("journal", sinks.journal.as_ref()),
        ];
        all.into_iter()
            .filter_map(|(name, writer)| Some((name, writer?.dropped())))
            .collect()
    }

    /// The least severe level from now on.
    pub fn set_level(&self, level: LogLevel) {
        self.threshold.set(level);
    }

    /// New bounds for the files. A change of `journald` needs a restart.
    pub fn reconfigure(&self, config: &Logging) {
        self.sinks.files.configure(config);
    }

    /// Waits until all that was logged so far is written, at most [`FLUSH_WAIT`] per sink. Blocks: not
    /// for the main loop. Before a re-execution.
    pub fn flush(&self) {
        for writer in self.sinks.each() {
            writer.flush();
        }
    }

    /// Writes what is left and ends the threads; what is logged afterwards is dropped.
    pub fn shutdown(&self) {
        for writer in self.sinks.each() {
            writer.stop();
        }
    }
}

#[cfg(test)]
mod tests;
