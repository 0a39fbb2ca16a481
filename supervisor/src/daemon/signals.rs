//! Signals: HUP reloads, USR1 dumps the state, TERM and INT drain and stop (twice: at once).

use std::io;

use futures_util::StreamExt;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook_tokio::SignalsInfo;
use tokio::sync::{mpsc, oneshot};

use super::command::Command;
use super::reload::ConfigHandle;
use crate::logs::LogHandle;
use crate::settings::When;

/// Listens until the main loop has ended.
///
/// # Errors
/// When the handlers can't be installed.
pub fn listen(
    commands: mpsc::Sender<Command>,
    config: ConfigHandle,
    log: LogHandle,
) -> io::Result<()> {
    let mut signals = SignalsInfo::<WithOrigin>::new([SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2])?;
    tokio::spawn(async move {
        while let Some(origin) = signals.next().await {
            let sender = origin.process.map(|process| process.pid);
            tracing::info!(
                event = "signal",
                signal = signal_hook::low_level::signal_name(origin.signal),
                sender,
                "a signal came"
            );
            match origin.signal {
                SIGHUP => {
                    log.reopen();
                    // The outcome is in the log. A file system that hangs must not hold up a TERM.
                    let config = config.clone();
                    tokio::spawn(async move { config.reload(When::Always).await });
                }
                SIGUSR1 => dump(&commands).await,
                SIGUSR2 => tracing::warn!(
                    event = "upgrade_refused",
                    "re-execution in place is not built yet; restart the daemon to run a new binary"
                ),
                _ => {
                    if commands.send(Command::Stop).await.is_err() {
                        return;
                    }
                }
            }
        }
    });
    Ok(())
}

/// Every bot, in the log.
async fn dump(commands: &mpsc::Sender<Command>) {
    let (reply, bots) = oneshot::channel();
    if commands.send(Command::Bots { reply }).await.is_err() {
        return;
    }
    for bot in bots.await.unwrap_or_default() {
        tracing::info!(
            event = "state_dump",
            bot_id = %bot.id,
            pool = %bot.pool,
            actual = bot.actual.as_str(),
            pid = bot.pid,
            restarts = bot.restarts,
            tasks = bot.tasks.len(),
            since = %bot.since,
            "state of a bot"
        );
    }
}
