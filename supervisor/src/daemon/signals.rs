//! Signals: HUP reloads, USR1 dumps the state, USR2 upgrades in place, TERM and INT drain and stop
//! (twice: at once).
//! Which thread they come to is the matter of [`crate::sigmask`].

use std::io;

use deia::api::UpgradeRequest;
use futures_util::StreamExt;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook_tokio::SignalsInfo;
use tokio::sync::{mpsc, oneshot, watch};

use super::command::Command;
use super::reload::ConfigHandle;
use super::upgrade::Upgrader;
use crate::audit::Actor;
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
    upgrader: Upgrader,
    stops: watch::Sender<u32>,
) -> io::Result<()> {
    let mut signals = SignalsInfo::<WithOrigin>::new([SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2])?;
    tokio::spawn(async move {
        while let Some(origin) = signals.next().await {
            let sender = origin.process.map(|process| process.pid);
            let process = origin.process;
            // What the daemon asks of itself, somebody asked of it before, and that is on record.
            let own = i32::try_from(std::process::id()).ok();
            let actor = match process {
                Some(process) if Some(process.pid) == own => Actor::DAEMON,
                process => Actor::sender(process.map(|process| (process.pid, process.uid))),
            };
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
                    tokio::spawn(async move { config.reload(When::Always, actor).await });
                }
                SIGUSR1 => dump(&commands).await,
                SIGUSR2 => {
                    let upgrader = upgrader.clone();
                    tokio::spawn(async move {
                        let pinned_too = UpgradeRequest {
                            path: None,
                            keep_pin: true,
                        };
                        // A refusal is in the log.
                        drop(upgrader.request(pinned_too, actor).await);
                    });
                }
                _ => {
                    stops.send_modify(|stops| *stops += 1);
                    let stop = Command::As(actor, Box::new(Command::Stop));
                    if commands.send(stop).await.is_err() {
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
