//! A backup every `persistence.backup_interval_minutes`. It sleeps until one is due, and looks when the
//! configuration changes; nothing is polled.

use std::time::Duration;

use deia::time::Timestamp;
use tokio::sync::watch;

use super::{Backups, By, Kind, Order, Rules};
use crate::brain::keep;
use crate::daemon::reload::ConfigHandle;

/// After a start the fleet comes first.
const AFTER_START_SECONDS: i64 = 20;

/// Makes backups until another process goes on, or the daemon ends.
pub async fn schedule(
    backups: Backups,
    mut config: ConfigHandle,
    mut leaving: watch::Receiver<bool>,
) {
    backups.look().await;
    let mut at_least = AFTER_START_SECONDS;
    loop {
        let persistence = config.current().persistence.clone();
        let now = Timestamp::now();
        let newest = backups
            .watch()
            .borrow()
            .newest
            .as_ref()
            .map(|newest| newest.at);
        let left = keep::until_next(newest, now, persistence.backup_interval_minutes, at_least);
        let due = Timestamp::from_micros(now.as_micros().saturating_add(left));
        backups.due(persistence.backup_enabled.then_some(due));
        let wait = Duration::from_micros(u64::try_from(left).unwrap_or_default());
        let mut summary = backups.watch();
        summary.mark_unchanged();
        tokio::select! {
            () = tokio::time::sleep(wait), if persistence.backup_enabled => {
                // What another process shall do is not begun here.
                if *leaving.borrow() {
                    return;
                }
                let order = Order::new(Kind::Scheduled, By::itself());
                let made = backups.create(order, Rules::from(&persistence)).await;
                at_least = if made.is_ok() { 0 } else { keep::TRY_AGAIN_SECONDS };
            }
            changed = config.changed() => if !changed { return },
            // One was made by hand: the next is due later.
            _ = summary.changed() => {}
            gone = leaving.changed() => if gone.is_err() || *leaving.borrow() { return },
        }
    }
}
