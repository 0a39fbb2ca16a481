//! The sink for the journal: `DEIA_EVENT`, `DEIA_BOT`, `DEIA_TASK` and `PRIORITY` beside the message.
//!
//! tracing-journald writes to its socket where it is called, and blocks when journald hangs. So it is
//! called from a writer thread of its own, under a subscriber of its own: a stuck journal costs journal
//! lines and nothing else. (Its `CODE_FILE` therefore always names this file.)

use std::io;

use tracing::subscriber::Interest;
use tracing::{Dispatch, Level, Metadata};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use super::queue::{Batch, Line, Sink};

/// The target of what goes to the journal, and of nothing else.
pub(super) const TARGET: &str = "deia-journal";

/// The journal.
pub(super) struct JournalSink {
    journal: Dispatch,
}

impl JournalSink {
    /// Connects to journald.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn connect() -> io::Result<Self> {
        let journal = tracing_journald::layer()?
            .with_field_prefix(Some("DEIA".into()))
            .with_syslog_identifier("deia".into())
            .with_priority_mappings(PriorityMappings {
                error: Priority::Error,
                warn: Priority::Warning,
                info: Priority::Informational,
                debug: Priority::Debug,
                trace: Priority::Debug,
            });
        Ok(Self {
            journal: Dispatch::new(Registry::default().with(OnlyOurs).with(journal)),
        })
    }
}

impl Sink for JournalSink {
    fn write(&mut self, batch: &Batch) {
        tracing::dispatcher::with_default(&self.journal, || {
            for line in batch.lines() {
                send(line);
            }
            if batch.dropped > 0 {
                let count = batch.dropped;
                tracing::warn!(target: TARGET, EVENT = "log_lines_dropped", count, "Log lines were left out of the journal");
            }
        });
    }
}

/// `text` here is the readable line.
fn send(line: Line<'_>) {
    let named = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let (bot, task) = (named(line.bot), named(line.task));
    let (bot, task, event) = (bot.as_deref(), task.as_deref(), line.event);
    let text = String::from_utf8_lossy(line.text);
    let text = text.trim_end();
    match line.level {
        Level::ERROR => {
            tracing::error!(target: TARGET, BOT = bot, TASK = task, EVENT = event, "{text}");
        }
        Level::WARN => {
            tracing::warn!(target: TARGET, BOT = bot, TASK = task, EVENT = event, "{text}")
        }
        Level::INFO => {
            tracing::info!(target: TARGET, BOT = bot, TASK = task, EVENT = event, "{text}")
        }
        Level::DEBUG | Level::TRACE => {
            tracing::debug!(target: TARGET, BOT = bot, TASK = task, EVENT = event, "{text}");
        }
    }
}

/// Keeps the daemon's own events from being asked about here.
struct OnlyOurs;

impl<S: tracing::Subscriber> Layer<S> for OnlyOurs {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if metadata.target() == TARGET {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.target() == TARGET
    }
}

/// Whether standard error is connected to the journal: `$JOURNAL_STREAM` names its device and inode.
pub(super) fn stderr_is_the_journal(journal_stream: Option<&str>) -> bool {
    let Some((device, inode)) = journal_stream.and_then(|text| text.split_once(':')) else {
        return false;
    };
    rustix::fs::fstat(io::stderr())
        .is_ok_and(|stat| device.parse() == Ok(stat.st_dev) && inode.parse() == Ok(stat.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_matching_stream_is_the_journal() {
        let stat = rustix::fs::fstat(io::stderr()).unwrap();
        let text = format!("{}:{}", stat.st_dev, stat.st_ino);
        assert!(stderr_is_the_journal(Some(&text)));
        assert!(!stderr_is_the_journal(Some(&format!(
            "{}:{}",
            stat.st_dev,
            stat.st_ino + 1
        ))));
        assert!(!stderr_is_the_journal(Some("nonsense")));
        assert!(!stderr_is_the_journal(None));
    }
}
