//! A model server that does exactly what a test tells it, over plain TCP.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use deia::config::{BackendSpec, ModelServer};
use deia_worker::backends::{Answer, Backend, Context, Failure, Job};
use deia_worker::sink::Sink;
use deia_worker::transcript::{Line, Transcript};
use deia_worker::tree::{Reaper, Tree};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::rig::{FENCE, id, soon};

/// What the server does after it has read a request.
#[derive(Debug, Clone)]
pub enum Step {
    Send(Vec<u8>),
    Wait(Duration),
    /// These bytes, one at a time, with a pause after each.
    Trickle(Vec<u8>, Duration),
    /// 100 MB without a line's end.
    Flood,
    /// Neither a word nor an end.
    Silence,
    /// The end of the connection with a reset.
    Reset,
}

pub fn send(text: &str) -> Step {
    Step::Send(text.as_bytes().to_vec())
}

/// A head; the body ends with the connection.
pub fn head(status: &str, content_type: &str) -> Step {
    send(&format!(
        "HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\nconnection: close\r\n\r\n"
    ))
}

/// A running server.
pub struct FaultServer {
    pub address: std::net::SocketAddr,
    /// The requests, heads and bodies.
    pub requests: mpsc::Receiver<String>,
    /// Connections that the client ended before the script did.
    pub hung_up: Arc<AtomicUsize>,
}

pub async fn serve(script: Vec<Step>) -> FaultServer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, requests) = mpsc::channel(16);
    let hung_up = Arc::new(AtomicUsize::new(0));
    let count = hung_up.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (script, tell, count) = (script.clone(), tell.clone(), count.clone());
            tokio::spawn(async move {
                if play(stream, &script, &tell).await.is_err() {
                    count.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    FaultServer {
        address,
        requests,
        hung_up,
    }
}

async fn play(
    mut stream: TcpStream,
    script: &[Step],
    tell: &mpsc::Sender<String>,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    tell.send(request(&mut stream).await?).await.unwrap();
    for step in script {
        match step {
            Step::Send(bytes) => stream.write_all(bytes).await?,
            Step::Wait(pause) => tokio::time::sleep(*pause).await,
            Step::Trickle(bytes, pause) => {
                for byte in bytes {
                    stream.write_all(&[*byte]).await?;
                    tokio::time::sleep(*pause).await;
                }
            }
            Step::Flood => {
                for _ in 0..1600 {
                    stream.write_all(&[b'x'; 64 * 1024]).await?;
                }
            }
            Step::Silence => {
                let read = stream.read(&mut [0; 1]).await;
                assert!(matches!(read, Ok(0) | Err(_)), "more from the client");
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            Step::Reset => {
                stream.set_zero_linger()?;
                return Ok(());
            }
        }
    }
    Ok(())
}

/// One request with its body.
async fn request(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&buffer[..n]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .filter_map(|l| l.split_once(':'))
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .map_or(0, |(_, value)| value.trim().parse().unwrap());
            if body.len() >= length {
                return Ok(text);
            }
        }
    }
}

/// Time-outs short enough for a test: connect 2 s, first token 1 s, idle 0.5 s.
pub fn patient(base: ModelServer, url: String) -> ModelServer {
    ModelServer {
        url,
        connect_timeout_seconds: 2.0,
        first_token_timeout_seconds: 1.0,
        idle_timeout_seconds: 0.5,
        ..base
    }
}

/// Runs one job against a backend; gives the output too.
pub async fn ask(spec: BackendSpec) -> (String, Result<Answer, Failure>) {
    let words = Transcript::new(Arc::default(), Line::Down);
    let task = id("t");
    let mut sink = Sink::new(words.clone(), 1 << 30);
    let context = Context {
        socket: "/nonexistent".into(),
        bot_id: "bot".into(),
        workdir: deia::config::Workdir::Fresh,
        work_root: "/nonexistent".into(),
        env_files: Default::default(),
        output_bytes: 1 << 30,
        stop_timeout: Duration::from_secs(1),
        own: "/nonexistent".into(),
        cage: None,
    };
    let job = Job {
        task: &task,
        fence: FENCE,
        content: "what is 6 x 7?",
    };
    let backend = Backend::new(spec);
    let mut tree = Tree::new(Reaper::default());
    let answer = soon(
        "an answer",
        backend.run(&context, job, &mut tree, &mut sink),
    )
    .await;
    (words.whole(), answer)
}
