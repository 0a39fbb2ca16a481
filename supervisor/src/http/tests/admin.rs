//! The admin socket, by real processes.

use std::path::Path;
use std::process::Stdio;

use tokio::net::UnixStream;
use tokio::process::Command;

use super::super::accept::serve_admin;
use super::super::admin_socket::bind_admin_socket;
use super::super::peer::Admission;
use super::*;

const SCALE: &[u8] = b"POST /scale HTTP/1.1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// A socket whose daemon is some other process: the test's own children may then be operators.
fn serve(path: &Path, bot: impl Fn(u32) -> bool + Send + Sync + 'static) -> ServerHandle {
    let admission = Admission {
        daemon_pid: u32::MAX,
        ..Admission::of_this_process(Arc::new(bot))
    };
    let listener = bind_admin_socket(path, None).unwrap();
    let (edge, _) = edge(EdgeLimits::default(), HttpAuth::Tokens);
    serve_admin(Arc::new(listener), Vec::new(), edge, Arc::new(admission))
}

/// A child of `sh` connects and sends the request; `sh` is the bot where there is one.
async fn by_a_grandchild(path: &Path, environment: &[(&str, &str)]) -> (u32, String) {
    let script = r#"exec 3>&1; sh -c 'read _; python3 - "$1" <<END
import socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
s.sendall(b"POST /scale HTTP/1.1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
while True:
    b = s.recv(65536)
    if not b: break
    sys.stdout.write(b.decode())
END' sh "$1"; :"#;
    let mut child = Command::new("sh")
        .args(["-c", script, "sh", path.to_str().unwrap()])
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id().unwrap();
    BOT.store(pid, std::sync::atomic::Ordering::SeqCst);
    child.stdin.take().unwrap().write_all(b"\n").await.unwrap();
    let mut answer = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut answer)
        .await
        .unwrap();
    child.wait().await.unwrap();
    (pid, answer)
}

/// The pid of the last `sh`.
static BOT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

#[tokio::test]
async fn operators_are_admin_and_what_bots_start_is_not() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("admin.sock");
    let free = serve(&path, |_| false);
    // This process, and what it starts.
    let mut own = UnixStream::connect(&path).await.unwrap();
    own.write_all(SCALE).await.unwrap();
    let answer = read_all(&mut own).await;
    assert!(
        status(&answer) == 200 && answer.ends_with("scaled"),
        "{answer}"
    );
    let (_, answer) = by_a_grandchild(&path, &[]).await;
    assert_eq!(status(&answer), 200, "{answer}");
    // The same with the mark of a bot's tree.
    let (_, answer) = by_a_grandchild(&path, &[("DEIA_TREE", "x")]).await;
    assert_eq!(
        (status(&answer), json(&answer)["code"].clone()),
        (403, "not_admin".into())
    );
    free.shutdown(Duration::from_secs(1)).await;
    // The same under a live bot.
    let _guarded = serve(&path, |pid| {
        pid == BOT.load(std::sync::atomic::Ordering::SeqCst)
    });
    let (bot, answer) = by_a_grandchild(&path, &[]).await;
    assert_eq!(status(&answer), 403, "{answer}");
    assert!(
        json(&answer)["error"]
            .as_str()
            .unwrap()
            .contains(&format!("bot process {bot}")),
        "{answer}"
    );
}

#[tokio::test]
async fn a_full_port_does_not_keep_the_operator_out() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("admin.sock");
    let _admin = serve(&path, |_| false);
    let limits = EdgeLimits {
        max_connections: 1,
        ..EdgeLimits::default()
    };
    let (address, _server) = start(limits, HttpAuth::Off).await;
    let _busy = tokio::spawn(async move { request(address, "GET /slow HTTP/1.1", "").await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(
        status(&request(address, "GET /health HTTP/1.1", "").await),
        503
    );
    let mut own = UnixStream::connect(&path).await.unwrap();
    own.write_all(SCALE).await.unwrap();
    assert_eq!(status(&read_all(&mut own).await), 200);
}

#[tokio::test]
async fn a_foreign_page_gets_nothing_over_the_socket_either() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("admin.sock");
    let _admin = serve(&path, |_| false);
    let mut own = UnixStream::connect(&path).await.unwrap();
    own.write_all(
        b"GET /health HTTP/1.1\r\nOrigin: http://evil.example\r\nConnection: close\r\n\r\n",
    )
    .await
    .unwrap();
    assert_eq!(status(&read_all(&mut own).await), 403);
}
