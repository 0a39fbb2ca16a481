//! What the peers supervise: tells `$BENCH_SOCKET` its name, its PID and the time once it runs, then sleeps.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Until somebody ends it.
const FOREVER: Duration = Duration::from_secs(1 << 30);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
    let socket = std::env::var_os("BENCH_SOCKET").ok_or("BENCH_SOCKET is not set")?;
    // s6 and runit start a service in its own directory, supervisord is told to.
    let directory = std::env::current_dir()?;
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    let notice = format!("{name} {} {now}", std::process::id());
    UnixDatagram::unbound()?.send_to(notice.as_bytes(), socket)?;
    std::thread::sleep(FOREVER);
    Ok(())
}
