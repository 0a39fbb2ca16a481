//! Real processes that are over their limits.

use std::process::{Child, Command, Stdio};

use deia::bot::ExitCause;
use deia_worker::tree::{Process, identify, scan};

use super::*;

/// A process made a bot of, in a pool of limits.
struct Bot {
    child: Child,
    process: Identity,
}

impl Bot {
    fn start(script: &str) -> Self {
        let mut command = Command::new("sh");
        command
            .args(["-c", script])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let process = identify(child.id()).unwrap();
        Self { child, process }
    }

    fn watched(&self) -> Watched {
        Watched {
            bot: "bot".into(),
            run: 7,
            process: self.process,
            memory_bytes: 1 << 40,
            processes: 1000,
            disk_bytes: 1 << 40,
            work: Vec::new(),
            own: None,
            landlock: false,
            placed: false,
        }
    }
}

impl Drop for Bot {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn watch() -> (LimitWatch, mpsc::Receiver<FleetEvent>) {
    let (events_to, events) = mpsc::channel(16);
    (LimitWatch::start(None, events_to).unwrap(), events)
}

/// What was over its limit, and how long it took.
fn over(events: &mut mpsc::Receiver<FleetEvent>) -> Over {
    match events.blocking_recv() {
        Some(FleetEvent::OverLimit { bot, run, over }) => {
            assert_eq!((&*bot, run), ("bot", 7));
            over
        }
        other => panic!("{other:?}"),
    }
}

fn marked(nonce: &str) -> Vec<Process> {
    let mut all = scan(std::path::Path::new("/proc"), Some(nonce));
    all.retain(|process| process.marked && process.is_alive());
    all
}

#[test]
fn too_many_processes_are_ended_all_of_them() {
    let nonce = format!("limits-{}", fastrand::u64(..));
    let script = format!(
        "export DEIA_TREE={nonce}; for n in 1 2 3 4 5; do setsid sh -c 'sleep 600 & sleep 600' & done; wait"
    );
    let bot = Bot::start(&script);
    let (watch, mut events) = watch();
    watch.busy(Watched {
        processes: 6,
        ..bot.watched()
    });
    let over = over(&mut events);
    assert_eq!(over.cause(), ExitCause::ProcessLimit);
    assert!(over.measured > 6, "{over}");
    while !marked(&nonce).is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn too_much_memory_is_seen() {
    // A shell that keeps some megabytes in a variable.
    let bot = Bot::start("x=$(head -c 30000000 /dev/zero | tr '\\0' x); sleep 600; echo $x");
    let (watch, mut events) = watch();
    watch.busy(Watched {
        memory_bytes: 20 << 20,
        ..bot.watched()
    });
    let over = over(&mut events);
    assert_eq!(over.cause(), ExitCause::MemoryLimit);
    assert!(
        over.to_string().contains("limits.memory_mb is 20"),
        "{over}"
    );
}

#[test]
fn too_much_on_disk_is_seen_and_home_is_emptied() {
    let own = tempfile::tempdir().unwrap();
    let home = own.path().join("home");
    std::fs::create_dir(&home).unwrap();
    let bot = Bot::start("exec sleep 600");
    let (watch, mut events) = watch();
    watch.busy(Watched {
        disk_bytes: 1 << 20,
        own: Some(own.path().to_owned()),
        ..bot.watched()
    });
    std::fs::write(home.join("big"), vec![1; 2 << 20]).unwrap();
    let over = over(&mut events);
    assert_eq!(
        (over.cause(), &over.what),
        (ExitCause::DiskLimit, &Limited::Own)
    );
    while std::fs::read_dir(own.path()).unwrap().count() > 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn one_that_is_gone_or_idle_is_not_watched() {
    let bot = Bot::start("exec sleep 600");
    let (watch, mut events) = watch();
    let name: Arc<str> = "bot".into();
    watch.busy(bot.watched());
    // Of another start: nothing to do with this one.
    watch.gone(&name, 6);
    assert_eq!(watch.0.lock().bots.len(), 1);
    watch.idle(&name, 7);
    while !watch.0.lock().bots.is_empty() {
        std::thread::sleep(Duration::from_millis(20));
    }
    watch.busy(bot.watched());
    watch.gone(&name, 7);
    assert!(watch.0.lock().bots.is_empty());
    assert!(events.try_recv().is_err());
}
