//! A task's output while it is written: for `submit --follow` and `task output --follow`.

use std::time::Duration;

use deia::client::{Client, ClientError, OutputEvent, OutputStream};
use deia::task::TaskStatus;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use crate::context::Context;
use crate::failure::Failure;
use crate::wait::Wait;

/// How long a daemon may be away (restarted, upgraded) before following is given up.
const ABSENCE: Duration = Duration::from_secs(30);
/// Pause before the stream is opened again.
const REOPEN_PAUSE: Duration = Duration::from_millis(200);

/// Prints what comes until the task has ended; returns how it did.
pub async fn follow(
    context: &Context,
    client: &Client,
    id: &str,
    wait: &Wait,
) -> Result<TaskStatus, Failure> {
    let mut printer = Printer::new(context);
    let mut away_since = None;
    loop {
        match client.follow(id).await {
            Ok(mut stream) => {
                away_since = None;
                printer.reopened();
                if let Some(status) = printer.drain(&mut stream, wait, id).await? {
                    printer.end(status)?;
                    return Ok(status);
                }
                context.note("the stream ended before the task did; following again");
            }
            Err(error @ ClientError::Unreachable { .. }) => {
                let since = *away_since.get_or_insert_with(Instant::now);
                // Never reached, it is not away but somewhere else.
                if !printer.connected || since.elapsed() > ABSENCE {
                    return Err(error.into());
                }
            }
            Err(error) => return Err(error.into()),
        }
        match wait.left() {
            Some(Duration::ZERO) => return Err(wait.timed_out(&format!("the end of task {id}"))),
            left => sleep(left.map_or(REOPEN_PAUSE, |left| left.min(REOPEN_PAUSE))).await,
        }
    }
}

struct Printer<'a> {
    context: &'a Context,
    connected: bool,
    /// Bytes printed so far: a stream that is opened again begins at the beginning.
    printed: usize,
    /// Bytes of this stream that were printed before.
    skip: usize,
    ends_line: bool,
}

impl<'a> Printer<'a> {
    fn new(context: &'a Context) -> Self {
        Self {
            context,
            connected: false,
            printed: 0,
            skip: 0,
            ends_line: true,
        }
    }

    fn reopened(&mut self) {
        self.connected = true;
        self.skip = self.printed;
    }

    async fn drain(
        &mut self,
        stream: &mut OutputStream,
        wait: &Wait,
        id: &str,
    ) -> Result<Option<TaskStatus>, Failure> {
        loop {
            let event = match wait.left() {
                None => stream.next().await?,
                Some(left) => match timeout(left, stream.next()).await {
                    Ok(event) => event?,
                    Err(_) => return Err(wait.timed_out(&format!("the end of task {id}"))),
                },
            };
            match event {
                None => return Ok(None),
                Some(OutputEvent::End(status)) => return Ok(Some(status)),
                Some(OutputEvent::Anew(status)) => self.starts_anew(status)?,
                Some(OutputEvent::Output(text)) => self.print(&text)?,
            }
        }
    }

    fn print(&mut self, text: &str) -> Result<(), Failure> {
        let known = self.skip.min(text.len());
        self.skip -= known;
        // A cut inside a character can't be shown: the next boundary is near enough.
        let from = (known..=text.len()).find(|at| text.is_char_boundary(*at));
        let fresh = from.map_or("", |from| &text[from..]);
        if fresh.is_empty() {
            return Ok(());
        }
        self.printed += fresh.len();
        self.ends_line = fresh.ends_with('\n');
        let out = &self.context.out;
        if out.json {
            return out.json_line(&json!({"event": "output", "text": fresh}));
        }
        out.foreign(fresh)
    }

    /// What was printed stays where it is: what comes stands below it, and in a script's file too.
    fn starts_anew(&mut self, status: TaskStatus) -> Result<(), Failure> {
        let printed = std::mem::take(&mut self.printed);
        self.skip = 0;
        let out = &self.context.out;
        if out.json {
            return out.json_line(&json!({"event": "attempt", "status": status}));
        }
        if !std::mem::replace(&mut self.ends_line, true) {
            out.text("\n")?;
        }
        if printed > 0 {
            self.context
                .note("that attempt brought no result; what follows takes the place of its output");
        }
        Ok(())
    }

    fn end(&self, status: TaskStatus) -> Result<(), Failure> {
        let out = &self.context.out;
        if out.json {
            return out.json_line(&json!({"event": "end", "status": status}));
        }
        if self.ends_line {
            return Ok(());
        }
        out.text("\n")
    }
}
