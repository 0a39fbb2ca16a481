//! Dialling: the first time, and again after the supervisor was lost.
//!
//! How long a bot waits for a supervisor counts only while the socket is absent or refuses: behind
//! an upgrade, or a supervisor that is busy starting, there is somebody. Whatever happens, it ends
//! after [`LONGEST`] times the grace.

use std::io;
use std::path::Path;
use std::time::Duration;

use deia::wire::{Hello, Kept, ToSupervisor, ToWorker};
use interprocess::local_socket::tokio::{Stream, prelude::*};
use interprocess::local_socket::{GenericFilePath, ToFsName};
use tokio::time::Instant;

use super::SessionError;
use super::link::Link;

/// Graces after which nobody is waited for any more.
const LONGEST: u32 = 10;

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// Connects once.
pub async fn connect(socket: &Path) -> io::Result<Link> {
    let name = socket.to_fs_name::<GenericFilePath>()?;
    Stream::connect(name).await.map(Link::new)
}

/// How a search for a supervisor ended.
#[derive(Debug)]
pub enum Found {
    /// There is one, and it knows this bot.
    Supervisor {
        link: Link,
        kept: Vec<Kept>,
        orphan_grace_ms: u64,
    },
    /// There is one, and it has no use for this bot.
    Dismissed,
}

/// Looks for a supervisor until there is one, or the grace has run out.
pub async fn again(socket: &Path, hello: &Hello, grace: Duration) -> Result<Found, SessionError> {
    let mut patience = Patience::new(grace);
    let mut pause = FIRST_PAUSE;
    let lost = Instant::now();
    loop {
        let begun = Instant::now();
        let somebody = match connect(socket).await {
            Ok(link) => match introduce(link, hello, lost, patience.left_in_all()).await {
                Ok(found) => return Ok(found),
                Err(e @ SessionError::Protocol(_)) => return Err(e),
                Err(SessionError::NoWelcome) => Somebody::There,
                // It hung up on us.
                Err(_) => Somebody::Refuses,
            },
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Somebody::There,
            Err(_) => Somebody::Absent,
        };
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        if patience.spent(begun.elapsed(), somebody) == Verdict::GiveUp {
            return Err(SessionError::Orphaned(grace));
        }
    }
}

/// What runs has run for longer than it had when the supervisor was lost.
fn by_now(mut hello: Hello, since: Duration) -> Hello {
    let since = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    for held in hello.back.iter_mut().flat_map(|back| &mut back.held) {
        held.running_ms = held.running_ms.saturating_add(since);
    }
    hello
}

async fn introduce(
    mut link: Link,
    hello: &Hello,
    lost: Instant,
    patience: Duration,
) -> Result<Found, SessionError> {
    let hello = Box::new(by_now(hello.clone(), lost.elapsed()));
    link.send(ToSupervisor::Hello(hello)).await?;
    let answer = tokio::time::timeout(patience, link.next()).await;
    match answer.map(|heard| heard.map(|heard| heard.frame)) {
        Err(_) => Err(SessionError::NoWelcome),
        Ok(Ok(ToWorker::WelcomeBack {
            kept,
            orphan_grace_ms,
        })) => Ok(Found::Supervisor {
            link,
            kept,
            orphan_grace_ms,
        }),
        Ok(Ok(ToWorker::Stop { .. })) => Ok(Found::Dismissed),
        Ok(Ok(_)) => Err(SessionError::Protocol(
            "its first frame is no welcome".into(),
        )),
        Ok(Err(e)) => Err(e),
    }
}

/// What a look for a supervisor found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Somebody {
    /// No socket, or nobody behind it.
    Absent,
    /// Somebody who does not want this bot.
    Refuses,
    /// Somebody who has not answered yet.
    There,
}

/// Whether to go on looking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    GoOn,
    GiveUp,
}

/// How long nobody was there, and how long it took in all.
#[derive(Debug, Clone, Copy)]
struct Patience {
    grace: Duration,
    absent: Duration,
    in_all: Duration,
}

impl Patience {
    fn new(grace: Duration) -> Self {
        Self {
            grace,
            absent: Duration::ZERO,
            in_all: Duration::ZERO,
        }
    }

    fn left_in_all(&self) -> Duration {
        (self.grace * LONGEST).saturating_sub(self.in_all)
    }

    fn spent(&mut self, time: Duration, somebody: Somebody) -> Verdict {
        self.in_all += time;
        match somebody {
            Somebody::Absent | Somebody::Refuses => self.absent += time,
            Somebody::There => {}
        }
        if self.absent >= self.grace || self.left_in_all().is_zero() {
            Verdict::GiveUp
        } else {
            Verdict::GoOn
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn only_absence_counts_and_nothing_lasts_for_ever() {
        let mut patience = Patience::new(SECOND * 3);
        let mut spent = |n: u32, somebody| patience.spent(SECOND * n, somebody);
        assert_eq!(spent(2, Somebody::Absent), Verdict::GoOn);
        assert_eq!(spent(20, Somebody::There), Verdict::GoOn);
        assert_eq!(spent(1, Somebody::Refuses), Verdict::GiveUp);
        let mut patience = Patience::new(SECOND * 3);
        let last = (0..30).map(|_| patience.spent(SECOND, Somebody::There));
        assert_eq!(last.filter(|v| *v == Verdict::GiveUp).count(), 1);
    }

    /// Shown to fail where it says what it had said when the supervisor was lost: a task that ended meanwhile had
    /// taken no time.
    #[test]
    fn what_runs_has_run_until_now() {
        let held = deia::wire::Held {
            task: "t".parse().unwrap(),
            fence: deia::task::Fence {
                epoch: 1,
                attempt: 1,
            },
            running_ms: 20,
            cancelled: None,
        };
        let back = deia::wire::Back {
            sandbox: String::new(),
            pulse_fd: 0,
            terms: [0; 32],
            max_concurrent_tasks: 1,
            heartbeat_ms: 1,
            stop_timeout_ms: 1,
            held: vec![held],
        };
        let hello = Hello {
            bot_id: "b".into(),
            launch: deia::wire::Launch(1),
            secret: deia::wire::Secret([0; 32]),
            pid: 1,
            version: String::new(),
            back: Some(Box::new(back)),
        };
        let said = by_now(hello, Duration::from_secs(25));
        assert_eq!(said.back.unwrap().held[0].running_ms, 25_020);
    }
}
