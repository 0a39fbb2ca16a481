//! How a daemon ends: for good, into another release, or into itself over a swapped store.
//!
//! ```text
//!            serve no more        main loop        store     listeners       signals
//! end        finish what is asked    ended         closed    -               -
//! depart     give connections back   left          closed    handed over     held back -> execute the release
//! restore    give connections back   stopped       closed    handed over     held back -> execute this or a release
//!                                                  + noted
//! ```

use std::convert::Infallible;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::command::Command;
use super::engine::Ended;
use super::home::{Home, HomeLock};
use super::recovery::{desk, last_end};
use super::service as manager;
use super::sockets::Listeners;
use super::upgrade::{self, Attempt, Departure, Handover, Plan, Releases};
use crate::audit::Keeper;
use crate::fleet::pids::BotPids;
use crate::fleet::strays;
use crate::http::accept::{ServerHandle, Yielded};
use crate::logs::LogHandle;
use crate::sigmask;
use crate::store::{Store, StoreError};
use crate::tokens::TokenBook;

/// The store can't be trusted any more: a new start recovers.
const EXIT_STORE: u8 = 70;

/// Neither the new release nor this one could be executed.
const EXIT_NO_RELEASE: u8 = 71;

/// Requests in flight may take this long at the end.
const HTTP_GRACE: Duration = Duration::from_secs(2);

/// ... and before another process goes on with their connections.
const YIELD_GRACE: Duration = Duration::from_secs(10);

/// A signal that has just come is acted on within this.
const SIGNAL_SETTLES: Duration = Duration::from_millis(20);

/// What killed bots left behind is looked for at most this long at the end.
const STRAYS_GRACE: Duration = Duration::from_secs(2);

/// A daemon that runs.
pub(super) struct Daemon {
    pub home: Home,
    pub engine: JoinHandle<EngineEnd>,
    pub commands: mpsc::Sender<Command>,
    pub store: Arc<dyn Store>,
    pub keeper: Keeper,
    pub tokens: Arc<TokenBook>,
    pub fleet: Arc<str>,
    pub pids: BotPids,
    pub plans: mpsc::Receiver<Plan>,
    pub restores: mpsc::Receiver<desk::Ready>,
    /// Of the bots' socket.
    pub accepts: Accepts,
    pub edge: Edge,
    pub successor: Successor,
}

/// What takes connections from the bots' socket.
pub(super) struct Accepts {
    pub accepts: JoinHandle<()>,
    /// Ends once each of them is where it belongs.
    pub placed: mpsc::Receiver<Infallible>,
}

impl Accepts {
    /// Takes no more; those that were taken are looked after.
    async fn end(mut self) {
        self.accepts.abort();
        // Whose a connection is takes a look at /proc.
        drop(tokio::time::timeout(YIELD_GRACE, self.placed.recv()).await);
    }
}

/// Where clients are served.
pub(super) struct Edge {
    pub tcp: ServerHandle,
    pub admin: ServerHandle,
    pub programs: ServerHandle,
    /// Tells whoever waits long that it is time to go.
    pub leaving: watch::Sender<bool>,
}

/// What a process that goes on in this one's place needs.
pub(super) struct Successor {
    pub listeners: Listeners,
    pub lock: HomeLock,
    pub notifier: Option<manager::Notifier>,
    pub pids: BotPids,
    pub releases: Releases,
    pub invoked: PathBuf,
    pub arguments: Vec<OsString>,
    /// How many stops were asked for.
    pub stops: watch::Receiver<u32>,
}

type EngineEnd = Result<Ended, StoreError>;
type Joined = Result<EngineEnd, tokio::task::JoinError>;

impl Daemon {
    /// Serves until it is told to end.
    pub(super) async fn run_to_end(mut self, log: &LogHandle) -> ExitCode {
        tokio::select! {
            ended = &mut self.engine => self.end(ended).await,
            Some(plan) = self.plans.recv() => self.depart(plan, log).await,
            Some(ready) = self.restores.recv() => self.restore(ready, log).await,
        }
    }

    async fn end(self, ended: Joined) -> ExitCode {
        let edge = self.edge;
        tokio::join!(
            edge.tcp.shutdown(HTTP_GRACE),
            edge.admin.shutdown(HTTP_GRACE),
            edge.programs.shutdown(HTTP_GRACE)
        );
        self.keeper.finish().await;
        self.tokens.save_uses().await;
        finish(ended, self.store, &self.home, &self.pids, &self.fleet).await
    }

    /// Becomes another release. Returns only when it could not, and neither this one again.
    async fn depart(self, plan: Plan, log: &LogHandle) -> ExitCode {
        tracing::info!(event = "upgrade_switching", to = plan.attempt.to_version, path = %plan.attempt.to.display(), "switching to another release");
        // Who dials the bots' socket from now on waits for the next process; and who was let in is served.
        self.accepts.end().await;
        let connections = self.edge.give_back().await;
        if connections.cut > 0 {
            tracing::warn!(
                event = "upgrade_cut",
                connections = connections.cut,
                "connections did not come to an end of what they were doing and were cut"
            );
        }
        self.tokens.save_uses().await;
        // It may be ending by itself: then it does not want to know.
        let _ = self.commands.send(Command::Leave).await;
        let ended = self.engine.await;
        self.keeper.finish().await;
        if !matches!(ended, Ok(Ok(Ended::Left))) {
            return finish(ended, self.store, &self.home, &self.pids, &self.fleet).await;
        }
        deia::failpoint!("upgrade.left");
        let store = self.store;
        // A panic in it was reported by the runtime; what was acknowledged is on disk.
        drop(tokio::task::spawn_blocking(move || store.close()).await);
        deia::failpoint!("upgrade.closed");
        self.successor
            .take_over(connections, Some(plan.attempt), log)
            .await
    }

    /// Stops the fleet, notes the restore and executes itself: the next start swaps the store before it opens it. Returns
    /// only when it could not.
    async fn restore(self, ready: desk::Ready, log: &LogHandle) -> ExitCode {
        let desk::Ready { staged, then } = ready;
        let mut connections = self.edge.give_back().await;
        // They end with their bots.
        connections.programs.clear();
        if connections.cut > 0 {
            tracing::warn!(
                event = "restore_cut",
                connections = connections.cut,
                "connections did not come to an end of what they were doing and were cut"
            );
        }
        self.tokens.save_uses().await;
        // It may be ending by itself: then it does not want to know.
        let _ = self.commands.send(Command::StopToGoOn).await;
        let ended = self.engine.await;
        self.accepts.end().await;
        self.keeper.finish().await;
        if !matches!(ended, Ok(Ok(Ended::Stopped))) {
            return finish(ended, self.store, &self.home, &self.pids, &self.fleet).await;
        }
        let (store, pids, fleet) = (self.store, self.pids, self.fleet);
        let (home, id) = (self.home, staged.restore_id().to_owned());
        let noted = tokio::task::spawn_blocking(move || {
            strays::end_all(&pids, &fleet, STRAYS_GRACE);
            store.close();
            staged.commit(&home)
        })
        .await;
        let is_noted = match noted {
            Ok(Ok(_)) => {
                tracing::warn!(
                    event = "restore_noted",
                    restore_id = id,
                    "the store is swapped at the start that follows now"
                );
                true
            }
            Ok(Err(why)) => {
                tracing::error!(
                    event = "restore_failed",
                    restore_id = id,
                    reason = why,
                    "the restore could not be noted: going on as before"
                );
                false
            }
            Err(_) => {
                tracing::error!(
                    event = "restore_failed",
                    restore_id = id,
                    "going on as before"
                );
                false
            }
        };
        let then = then.filter(|_| is_noted);
        self.successor.take_over(connections, then, log).await
    }
}

/// Connections that nobody serves for a moment.
struct Connections {
    tcp: Vec<Yielded>,
    admin: Vec<Yielded>,
    programs: Vec<Yielded>,
    /// What did not come to an end in time.
    cut: usize,
}

impl Edge {
    /// Stops serving; what was asked is answered.
    async fn give_back(self) -> Connections {
        self.leaving.send_replace(true);
        let (tcp, admin, programs) = tokio::join!(
            self.tcp.give_back(YIELD_GRACE),
            self.admin.give_back(YIELD_GRACE),
            self.programs.give_back(YIELD_GRACE)
        );
        Connections {
            cut: tcp.1.cut + admin.1.cut + programs.1.cut,
            tcp: tcp.0,
            admin: admin.0,
            programs: programs.0,
        }
    }
}

impl Successor {
    /// Executes the release of `attempt`, or this one again. Returns only when neither can be.
    async fn take_over(
        self,
        connections: Connections,
        attempt: Option<Attempt>,
        log: &LogHandle,
    ) -> ExitCode {
        let sockets = match self.listeners.sockets(&self.lock) {
            Ok(sockets) => sockets,
            Err(e) => {
                let event = match attempt {
                    Some(_) => "upgrade_failed",
                    None => "restore_restarts",
                };
                tracing::error!(event, error = %e, "the listeners can't be handed over; ending, to be started again");
                return ExitCode::from(EXIT_NO_RELEASE);
            }
        };
        if let Some(notifier) = &self.notifier {
            // What comes takes as long as a start.
            notifier.tell(&[sd_notify::NotifyState::Watchdog]);
        }
        log.flush();
        let handover = Handover {
            sockets,
            tcp: connections.tcp,
            admin: connections.admin,
            programs: connections.programs,
            invoked: self.invoked,
            arguments: self.arguments,
            guard: None,
        };
        let Some(attempt) = attempt else {
            hold_signals(&self.stops).await;
            let Err(e) = upgrade::become_again(Some(&handover), &self.pids);
            tracing::error!(event = "restore_restarts", error = %e, "this program can't be executed again; ending, to be started again");
            return ExitCode::from(EXIT_NO_RELEASE);
        };
        let mut departure = Departure {
            handover,
            attempt,
            releases: self.releases,
            pids: self.pids,
        };
        // What watches the switch is a child, and is started before signals are held back.
        let prepared = departure.prepare();
        hold_signals(&self.stops).await;
        let error = match prepared {
            Ok(()) => departure.depart(),
            Err(e) => departure.stay(&format!("its ledger: {e}")),
        };
        tracing::error!(event = "upgrade_failed", error = %error, "no release can be executed; ending, to be started again");
        ExitCode::from(EXIT_NO_RELEASE)
    }
}

/// From here on nothing is started, which would take signals again for a moment. A stop that came since the main loop
/// ended has met nobody: it is for who comes.
async fn hold_signals(stops: &watch::Receiver<u32>) {
    sigmask::block();
    tokio::time::sleep(SIGNAL_SETTLES).await;
    if *stops.borrow() > 0 {
        sigmask::pass_on_stop();
    }
}

/// What is left to be done when nothing is served any more.
async fn finish(
    ended: Joined,
    store: Arc<dyn Store>,
    home: &Home,
    pids: &BotPids,
    fleet: &Arc<str>,
) -> ExitCode {
    deia::failpoint!("stop.ended");
    let (pids, fleet) = (pids.clone(), fleet.clone());
    let closed = tokio::task::spawn_blocking(move || {
        strays::end_all(&pids, &fleet, STRAYS_GRACE);
        store.close();
    })
    .await;
    deia::failpoint!("stop.closed");
    for socket in [home.bots_socket(), home.admin_socket()] {
        // One that is left over is replaced at the next start.
        let _ = std::fs::remove_file(socket);
    }
    match (ended, closed) {
        (Ok(Ok(Ended::Stopped | Ended::Left)), Ok(())) => {
            let home = home.clone();
            let marked = tokio::task::spawn_blocking(move || last_end::mark(&home, "stop"));
            if let Ok(Err(e)) = marked.await {
                tracing::warn!(event = "recovery_marker_not_written", error = %e, "that this was no crash could not be written; the next start will take it for one");
            }
            tracing::info!(
                event = "drain_completed",
                "deia has stopped; nothing that was accepted is lost"
            );
            ExitCode::SUCCESS
        }
        (Ok(Ok(Ended::StoreBroken(why))), _) => {
            tracing::error!(event = "store_broken", error = %why, "the store can't be trusted any more; start deia again to recover");
            ExitCode::from(EXIT_STORE)
        }
        (Ok(Err(e)), _) => {
            tracing::error!(event = "store_failed", error = %e, "the store could not be read");
            ExitCode::from(EXIT_STORE)
        }
        (Err(e), _) | (_, Err(e)) => {
            tracing::error!(event = "main_loop_failed", error = %e, "a fault of the daemon ended its main loop");
            ExitCode::FAILURE
        }
    }
}
