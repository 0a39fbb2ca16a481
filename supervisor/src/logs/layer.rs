//! Where tracing's events come in: the level, and one formatting per event for every sink.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use deia::config::LogLevel;
use deia::time::Timestamp;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::console::{self, Style};
use super::event::{Forms, Parts};
use super::feed::Feed;
use super::journal;
use super::queue::{Line, Writer};
use super::route::{is_file_name, route};

/// The sinks there are.
#[derive(Debug)]
pub(super) struct Sinks {
    pub(super) files: Writer,
    pub(super) console: Option<(Style, Writer)>,
    pub(super) journal: Option<Writer>,
    pub(super) feed: Feed,
}

impl Sinks {
    pub(super) fn each(&self) -> impl Iterator<Item = &Writer> {
        let console = self.console.as_ref().map(|(_, writer)| writer);
        [Some(&self.files), console, self.journal.as_ref()]
            .into_iter()
            .flatten()
    }
}

/// The least severe level that is logged; changes while running.
#[derive(Debug, Clone)]
pub(super) struct Threshold(Arc<AtomicU8>);

impl Threshold {
    pub(super) fn new(level: LogLevel) -> Self {
        let threshold = Self(Arc::default());
        threshold.store(level);
        threshold
    }

    fn store(&self, level: LogLevel) {
        let number = match level {
            LogLevel::Debug => 3,
            LogLevel::Info => 2,
            LogLevel::Warning => 1,
            LogLevel::Error | LogLevel::Critical => 0,
        };
        self.0.store(number, Ordering::Relaxed);
    }

    pub(super) fn set(&self, level: LogLevel) {
        self.store(level);
        // Each call site remembers whether it is wanted: ask them again.
        tracing::callsite::rebuild_interest_cache();
    }

    fn level(&self) -> Level {
        match self.0.load(Ordering::Relaxed) {
            0 => Level::ERROR,
            1 => Level::WARN,
            2 => Level::INFO,
            _ => Level::DEBUG,
        }
    }

    /// Our own crates at the level that was asked for; libraries only when they warn.
    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        let target = metadata.target();
        if target == journal::TARGET || metadata.is_span() {
            return false;
        }
        let level = self.level();
        let most = if target.starts_with("deia") {
            level
        } else {
            level.min(Level::WARN)
        };
        *metadata.level() <= most
    }
}

impl<S: Subscriber> Layer<S> for Threshold {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.wants(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.wants(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::from_level(self.level()))
    }
}

/// Turns events into lines and hands them to the sinks.
#[derive(Debug)]
pub(super) struct LogLayer {
    pub(super) sinks: Arc<Sinks>,
}

thread_local! {
    static BUFFERS: RefCell<(Parts, Vec<u8>)> = RefCell::default();
}

impl<S: Subscriber> Layer<S> for LogLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        BUFFERS.with(|buffers| {
            // A value whose Display logs would come back here: it has buffers of its own.
            match buffers.try_borrow_mut() {
                Ok(mut buffers) => {
                    let (parts, line) = &mut *buffers;
                    self.log(event, parts, line);
                }
                Err(_) => self.log(event, &mut Parts::default(), &mut Vec::new()),
            }
        });
    }
}

impl LogLayer {
    fn log(&self, event: &Event<'_>, parts: &mut Parts, line: &mut Vec<u8>) {
        let level = *event.metadata().level();
        let people = self.sinks.console.is_some() || self.sinks.journal.is_some();
        let forms = if people {
            Forms::Readable
        } else {
            Forms::JsonOnly
        };
        parts.read(event, forms);
        let at = Timestamp::now();
        let has_bot = is_file_name(&parts.bot);
        let route = route(&parts.event, has_bot);
        parts.write_json(at, level, line);
        self.sinks.feed.push(&parts.event, line);
        let common = Line {
            level,
            files: route.files.0,
            bot: "",
            task: &parts.task,
            event: &parts.event,
            text: &[],
        };
        self.sinks.files.push(Line {
            bot: if route.bot { &parts.bot } else { "" },
            text: line,
            ..common
        });
        if !people || (route.high_rate && level > Level::WARN) {
            return;
        }
        if let Some((style, writer)) = &self.sinks.console {
            console::format(*style, at, level, &parts.message, &parts.readable, line);
            writer.push(Line {
                text: line,
                ..common
            });
        }
        if let Some(writer) = &self.sinks.journal {
            line.clear();
            line.extend_from_slice(parts.message.as_bytes());
            line.extend_from_slice(parts.readable.as_bytes());
            writer.push(Line {
                bot: &parts.bot,
                text: line,
                ..common
            });
        }
    }
}
