//! `deia demo`: a fleet in a temporary home that does real work and shows it.
//!
//! It starts a real daemon (this executable) and talks to it as any program would: the daemon's own
//! documentation is written into the home as files, and a `command` bot counts their lines, words and
//! bytes; an `echo` bot answers; where an Ollama answers on its port, it writes a sentence.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use deia::api::{SubmitRequest, TaskView};
use deia::client::{Client, Target};
use deia::config::ModelServer;
use deia::task::{AttemptStatus, TaskStatus};

/// Files the demonstration works on: real ones, this program's own.
const FILES: [(&str, &str); 6] = [
    ("README.md", include_str!("../../README.md")),
    (
        "ARCHITECTURE.md",
        include_str!("../../docs/ARCHITECTURE.md"),
    ),
    (
        "CONFIGURATION-GUIDE.md",
        include_str!("../../docs/CONFIGURATION-GUIDE.md"),
    ),
    (
        "production.yaml",
        include_str!("../../config/production.yaml"),
    ),
    (
        "development.yaml",
        include_str!("../../config/development.yaml"),
    ),
    ("LICENSE", include_str!("../../LICENSE")),
];

/// The daemon has this long to be ready.
const START: Duration = Duration::from_secs(20);

/// All tasks have this long to end.
const WORK: Duration = Duration::from_secs(120);

/// Runs the demonstration; with `once` it ends after the work, else with Ctrl-C.
pub fn run(once: bool) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = runtime.and_then(|runtime| runtime.block_on(demonstrate(once)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            say_error(&e.to_string());
            ExitCode::FAILURE
        }
    }
}

async fn demonstrate(once: bool) -> io::Result<()> {
    let home = tempfile::Builder::new().prefix("deia-demo-").tempdir()?;
    let files = write_files(home.path())?;
    let ollama = find_ollama().await;
    fs::write(
        home.path().join("bot-config.yaml"),
        configuration(ollama.as_ref()),
    )?;
    say(&format!("A fleet in {}", home.path().display()))?;
    let begun = Instant::now();
    let daemon = Daemon::start(home.path())?;
    let client = daemon.client(home.path()).await?;
    let bots = client.bots().await.map_err(io::Error::other)?;
    let ready = begun.elapsed().as_millis();
    say(&format!("{} bots, ready after {ready} ms\n", bots.count))?;

    let mut asked = Vec::new();
    for file in &files {
        asked.push(("count", file.display().to_string()));
    }
    for text in ["Say this back.", "Write python code that tests the API"] {
        asked.push(("echo", text.to_owned()));
    }
    match &ollama {
        Some(server) => {
            say(&format!("Ollama answers with {}", server.model))?;
            asked.push((
                "ollama",
                "Say in one sentence what a supervisor daemon does.".to_owned(),
            ));
        }
        None => say("No Ollama answers on its port, so no model is asked; with one, it would be.")?,
    }
    let mut ids = Vec::new();
    for (pool, content) in &asked {
        let request = SubmitRequest {
            content: content.clone(),
            pool: Some((*pool).into()),
            ..SubmitRequest::default()
        };
        let answer = client.submit(&request).await.map_err(io::Error::other)?;
        ids.push(answer.value.task_id);
    }
    let done = wait_for_all(&client, &ids).await?;
    table(&asked, &done)?;
    let failed = done
        .iter()
        .filter(|task| task.status != TaskStatus::Succeeded)
        .count();
    if failed > 0 {
        return Err(io::Error::other(format!(
            "{failed} of {} tasks did not succeed",
            done.len()
        )));
    }
    if once {
        return daemon.stop().await;
    }
    hints(home.path(), &client).await?;
    tokio::signal::ctrl_c().await?;
    daemon.stop().await
}

fn write_files(home: &Path) -> io::Result<Vec<PathBuf>> {
    let directory = home.join("files");
    fs::create_dir(&directory)?;
    FILES
        .iter()
        .map(|(name, text)| {
            let path = directory.join(name);
            fs::write(&path, text)?;
            Ok(path)
        })
        .collect()
}

/// Asks Ollama's usual port for a model.
async fn find_ollama() -> Option<ModelServer> {
    let defaults = ModelServer::ollama();
    let server = Client::new(Target::Url(defaults.url.clone())).ok()?;
    let tags = server.get::<serde_json::Value>("/api/tags");
    let tags = tokio::time::timeout(Duration::from_secs(1), tags)
        .await
        .ok()?
        .ok()?;
    let model = tags
        .value
        .get("models")?
        .get(0)?
        .get("name")?
        .as_str()?
        .to_owned();
    Some(ModelServer { model, ..defaults })
}

fn configuration(ollama: Option<&ModelServer>) -> String {
    let mut text = String::from(
        "# The demonstration's fleet.\n\
         environment: demo\n\
         http: {listen: \"127.0.0.1:0\"}\n\
         bot_limits: {min_bots: 3, max_bots: 6}\n\
         bots:\n\
         \x20 - name: count\n\
         \x20   max_concurrent_tasks: 2\n\
         \x20   min: 2\n\
         \x20   paths: {read: [files]}\n\
         \x20   backend: {kind: command, argv: [wc, -lwc], input: argv}\n\
         \x20 - name: echo\n\
         \x20   min: 1\n\
         \x20   backend: {kind: echo}\n",
    );
    if let Some(server) = ollama {
        text.push_str(&format!(
            "  - name: ollama\n    min: 1\n    backend: {{kind: ollama, model: {}}}\n",
            serde_json::Value::from(server.model.as_str())
        ));
    }
    text
}

/// The daemon, a child that does not outlive the demonstration.
struct Daemon(Child);

impl Daemon {
    fn start(home: &Path) -> io::Result<Self> {
        let log = fs::File::create(home.join("deia.log"))?;
        Command::new("/proc/self/exe")
            .args(["run", "--home"])
            .arg(home)
            .env_remove("NOTIFY_SOCKET")
            .env_remove("RUNTIME_DIRECTORY")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .map(Self)
    }

    /// A client, once the daemon answers and its bots are ready.
    async fn client(&self, home: &Path) -> io::Result<Client> {
        let socket = home.join(".deia/run/admin.sock");
        let deadline = Instant::now() + START;
        loop {
            if let Ok(client) = Client::new(Target::Socket(socket.clone()))
                && let Ok(bots) = client.bots().await
                && bots.count > 0
                && bots
                    .bots
                    .iter()
                    .all(|bot| bot.actual == deia::bot::Actual::Ready)
            {
                return Ok(client);
            }
            if Instant::now() > deadline {
                let log = fs::read_to_string(home.join("deia.log")).unwrap_or_default();
                return Err(io::Error::other(format!(
                    "the fleet was not ready in time:\n{log}"
                )));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn stop(mut self) -> io::Result<()> {
        let pid = i32::try_from(self.0.id()).map_err(io::Error::other)?;
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pid),
            nix::sys::signal::Signal::SIGTERM,
        )?;
        let deadline = Instant::now() + START;
        while Instant::now() < deadline {
            if let Some(status) = self.0.try_wait()? {
                return if status.success() {
                    Ok(())
                } else {
                    Err(io::Error::other(format!("the daemon ended with {status}")))
                };
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err(io::Error::other("the daemon did not stop in time"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // After an orderly stop there is nothing left to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn wait_for_all(client: &Client, ids: &[String]) -> io::Result<Vec<TaskView>> {
    let deadline = Instant::now() + WORK;
    let mut done = Vec::new();
    for id in ids {
        loop {
            let task = client.task(id).await.map_err(io::Error::other)?;
            if task.status.is_final() {
                done.push(task.value);
                break;
            }
            if Instant::now() > deadline {
                return Err(io::Error::other(format!(
                    "task {id} is still {}",
                    task.status
                )));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(done)
}

fn table(asked: &[(&str, String)], done: &[TaskView]) -> io::Result<()> {
    let mut rows = vec![["TASK", "BOT", "ATTEMPT", "MS", "STATUS", "ANSWER"].map(str::to_owned)];
    for ((_, content), task) in asked.iter().zip(done) {
        let last = task.attempts.last();
        let succeeded = task
            .attempts
            .iter()
            .find(|a| a.status == AttemptStatus::Succeeded);
        let seconds = succeeded.and_then(|a| Some(a.ended_at?.seconds_since(a.started_at)));
        let answer = task
            .result
            .as_ref()
            .map(|r| r.output.as_str())
            .or(task.error.as_deref());
        let name = Path::new(content)
            .file_name()
            .map_or_else(|| content.clone(), |n| n.to_string_lossy().into_owned());
        rows.push([
            short(&name, 30),
            last.map_or_else(|| "-".into(), |a| a.bot_id.clone()),
            last.map_or_else(|| "-".into(), |a| a.attempt.to_string()),
            seconds.map_or_else(|| "-".into(), |s| format!("{:.1}", s * 1000.0)),
            task.status.to_string(),
            short(
                &answer
                    .unwrap_or("-")
                    .split_whitespace()
                    .collect::<Vec<_>>()
                    .join(" "),
                60,
            ),
        ]);
    }
    let widths: Vec<usize> = (0..6)
        .map(|column| {
            rows.iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    for row in rows {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        say(cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

fn short(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let cut: String = text.chars().take(most.saturating_sub(3)).collect();
    format!("{cut}...")
}

async fn hints(home: &Path, client: &Client) -> io::Result<()> {
    let port = client.status().await.map_err(io::Error::other)?.port;
    let home = home.display();
    // Beside this program, unless it was installed.
    let deiactl = std::env::current_exe()
        .map(|path| path.with_file_name("deiactl"))
        .ok()
        .filter(|path| path.exists())
        .map_or_else(|| "deiactl".into(), |path| path.display().to_string());
    say(&format!(
        "\nThe fleet goes on until Ctrl-C. In another terminal:\n\
         \n  {deiactl} --home {home} status\
         \n  {deiactl} --home {home} submit --wait --pool echo 'Hello'\
         \n  {deiactl} --home {home} bots\
         \n  curl -s http://127.0.0.1:{port}/health\
         \n  curl -s http://127.0.0.1:{port}/api/orchestrate -d '{{\"content\": \"Hello\", \"wait_seconds\": 5}}'\n"
    ))
}

/// A line for the person at the terminal. Whoever closed the pipe has seen enough.
fn say(text: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

fn say_error(text: &str) {
    let mut stderr = io::stderr().lock();
    let (on, off) = if stderr.is_terminal() {
        ("\x1b[31m", "\x1b[0m")
    } else {
        ("", "")
    };
    let _ = writeln!(stderr, "{on}deia demo: {text}{off}");
}
