//! A bot process: its session with the supervisor, and the backends that do the work.
//!
//! ```text
//!   stdin: Bootstrap                     session   the main loop: frames, heartbeats, signals
//!        |                                  |
//!        v                                  v  one task each, at most max_concurrent_tasks
//!   main -> connect -> Hello/Welcome     attempt   time-outs, fallbacks, cancel
//!        -> confine -> Ready                |
//!                                    backends      echo, command, ollama, openai
//!                                       |    \
//!                                     tree    sink -> transcript -> socket
//! ```
//!
//! **The main loop never waits** on a backend, a disk or the socket: a supervisor that reads slowly
//! slows the attempts, not the heartbeat. **A supervisor that dies stops nothing**: the bot works on,
//! keeps its results ([`transcript`], [`spool`]) and looks for the next one for a while. **What an attempt started ends with it**: every process of
//! its [`tree`], also those that left their session.
//!
//! Absent on purpose: the store (a worker never opens it), retries (the supervisor decides them), and
//! any listening socket.

pub mod attempt;
pub mod backends;
pub mod beat;
pub mod bootstrap;
pub mod breaker;
pub mod confine;
pub mod faults;
pub mod log;
pub mod pulse;
pub mod remove;
pub mod secret_file;
pub mod session;
pub mod sink;
pub mod spool;
pub mod text;
pub mod transcript;
pub mod tree;

use std::process::ExitCode;
use std::time::Duration;

pub use session::Exit;

/// Threads for what can only block: name look-ups, small files, walks over `/proc`.
const MAX_BLOCKING_THREADS: usize = 8;

/// Longer than any bot runs.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// The program `deia worker`: [`run`], with its result as exit code.
pub fn main() -> ExitCode {
    ExitCode::from(run() as u8)
}

/// Runs a bot: reads its [`deia::wire::Bootstrap`] from standard input and serves until it is told to
/// stop or loses its supervisor.
pub fn run() -> Exit {
    // It was started as /proc/self/exe, which would be its name in `ps` and in the journal.
    let _ = rustix::thread::set_name(c"deia-worker");
    faults::give_back();
    let bootstrap = match bootstrap::read(&mut std::io::stdin().lock()) {
        Ok(bootstrap) => bootstrap,
        Err(e) => {
            log::say(&format!(
                "deia worker: {e}; it is started by the daemon, not by hand"
            ));
            return Exit::Setup;
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        // For ever: where none is left and none can be made (a limit on processes), the runtime panics;
        // with one, work waits.
        .thread_keep_alive(FOR_EVER)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(e) => {
            log::say(&format!("deia worker: no event loop: {e}"));
            return Exit::Setup;
        }
    };
    let exit = runtime.block_on(session::run(bootstrap));
    // A look-up that hangs in a blocking thread must not keep the process.
    runtime.shutdown_background();
    exit
}
