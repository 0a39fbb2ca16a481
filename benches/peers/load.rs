//! The load that the peers are measured with: Redis and beanstalkd in their native protocols, over
//! blocking sockets and threads as `deiactl bench` uses them, so that the clients cost about the same.
//!
//! `peer_load redis|beanstalkd PORT submit|run TASKS PRODUCERS CONSUMERS BYTES [RATE]` prints one line of JSON.
//!
//! `submit`: every producer puts tasks, each acknowledged before the next. `run`: consumers take each task
//! (Redis: moved to a list of their own, so that a crash loses none), store a result of the same size, then
//! remove the task. Durability is the server's setting: `appendfsync always`, `-f0`.

#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long a server may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Digits of the submission time in front of each task's filling.
const STAMP_DIGITS: usize = 20;

#[derive(Clone, Copy)]
enum Peer {
    Redis,
    Beanstalkd,
}

struct Plan {
    peer: Peer,
    port: u16,
    tasks: u64,
    producers: u64,
    consumers: u64,
    bytes: usize,
    rate: Option<f64>,
    began: Instant,
    put: AtomicU64,
    taken: AtomicU64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let usage = "peer_load redis|beanstalkd PORT submit|run TASKS PRODUCERS CONSUMERS BYTES [RATE]";
    let [
        peer,
        port,
        mode,
        tasks,
        producers,
        consumers,
        bytes,
        rest @ ..,
    ] = arguments.as_slice()
    else {
        return Err(usage.into());
    };
    let plan = Plan {
        peer: match peer.as_str() {
            "redis" => Peer::Redis,
            "beanstalkd" => Peer::Beanstalkd,
            _ => return Err(usage.into()),
        },
        port: port.parse()?,
        tasks: tasks.parse()?,
        producers: producers.parse()?,
        consumers: match mode.as_str() {
            "submit" => 0,
            "run" => consumers.parse()?,
            _ => return Err(usage.into()),
        },
        bytes: bytes.parse()?,
        rate: rest.first().map(|rate| rate.parse()).transpose()?,
        began: Instant::now(),
        put: AtomicU64::new(0),
        taken: AtomicU64::new(0),
    };
    let (mut submit_ms, mut start_ms) = (Vec::new(), Vec::new());
    let mut submit_seconds: f64 = 0.0;
    std::thread::scope(|scope| -> io::Result<()> {
        let consumers: Vec<_> = (0..plan.consumers)
            .map(|n| {
                scope.spawn({
                    let plan = &plan;
                    move || plan.consume(n)
                })
            })
            .collect();
        let producers: Vec<_> = (0..plan.producers)
            .map(|_| scope.spawn(|| plan.produce()))
            .collect();
        let broken = |_| io::Error::other("a thread ended early");
        for thread in producers {
            submit_ms.extend(thread.join().map_err(broken)??);
            submit_seconds = submit_seconds.max(plan.began.elapsed().as_secs_f64());
        }
        for thread in consumers {
            start_ms.extend(thread.join().map_err(broken)??);
        }
        Ok(())
    })?;
    let seconds = plan.began.elapsed().as_secs_f64();
    for times in [&mut submit_ms, &mut start_ms] {
        times.sort_by(f64::total_cmp);
    }
    println!(
        "{{\"tasks\":{},\"submits_per_second\":{:.1},\"tasks_per_second\":{:.1},\
         \"submit_ms_p50\":{:.3},\"submit_ms_p99\":{:.3},\"start_ms_p50\":{:.3},\"start_ms_p99\":{:.3}}}",
        plan.tasks,
        plan.tasks as f64 / submit_seconds,
        plan.tasks as f64 / seconds,
        percentile(&submit_ms, 0.50),
        percentile(&submit_ms, 0.99),
        percentile(&start_ms, 0.50),
        percentile(&start_ms, 0.99),
    );
    Ok(())
}

impl Plan {
    fn produce(&self) -> io::Result<Vec<f64>> {
        let mut connection = Connection::open(self)?;
        let mut latencies = Vec::new();
        loop {
            let index = self.put.fetch_add(1, Ordering::Relaxed);
            if index >= self.tasks {
                return Ok(latencies);
            }
            if let Some(rate) = self.rate {
                let due = Duration::from_secs_f64(index as f64 / rate);
                std::thread::sleep(due.saturating_sub(self.began.elapsed()));
            }
            let sent = Instant::now();
            let mut body =
                format!("{:0STAMP_DIGITS$}", self.began.elapsed().as_nanos()).into_bytes();
            body.resize(self.bytes.max(STAMP_DIGITS), b'x');
            connection.put(&body)?;
            latencies.push(sent.elapsed().as_secs_f64() * 1e3);
        }
    }

    /// The milliseconds from each task's submission to its arrival here.
    fn consume(&self, number: u64) -> io::Result<Vec<f64>> {
        let mut connection = Connection::open(self)?;
        let own = format!("own-{number}");
        let mut latencies = Vec::new();
        while self.taken.fetch_add(1, Ordering::Relaxed) < self.tasks {
            let (handle, body) = connection.take(&own)?;
            let now = self.began.elapsed().as_nanos();
            let stamp = body
                .get(..STAMP_DIGITS)
                .and_then(|d| std::str::from_utf8(d).ok());
            let put: u128 = stamp.and_then(|d| d.parse().ok()).unwrap_or(now);
            latencies.push(now.saturating_sub(put) as f64 / 1e6);
            connection.finish(&own, &handle, &body)?;
        }
        Ok(latencies)
    }
}

struct Connection {
    peer: Peer,
    stream: BufReader<TcpStream>,
}

impl Connection {
    fn open(plan: &Plan) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", plan.port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        let mut connection = Self {
            peer: plan.peer,
            stream: BufReader::new(stream),
        };
        if let Peer::Beanstalkd = plan.peer {
            connection.say(b"use tasks\r\nwatch tasks\r\n")?;
            connection.expect("USING")?;
            connection.expect("WATCHING")?;
        }
        Ok(connection)
    }

    fn put(&mut self, body: &[u8]) -> io::Result<()> {
        match self.peer {
            Peer::Redis => {
                self.say(&resp(&[b"LPUSH", b"tasks", body]))?;
                self.expect(":")
            }
            Peer::Beanstalkd => self.beanstalkd_put(body),
        }
    }

    fn take(&mut self, own: &str) -> io::Result<(String, Vec<u8>)> {
        match self.peer {
            Peer::Redis => {
                self.say(&resp(&[
                    b"BLMOVE",
                    b"tasks",
                    own.as_bytes(),
                    b"RIGHT",
                    b"LEFT",
                    b"0",
                ]))?;
                let length = number(&self.expected("$")?, 1)?;
                Ok((String::new(), self.bytes(length)?))
            }
            Peer::Beanstalkd => {
                self.say(b"reserve\r\n")?;
                let line = self.expected("RESERVED")?;
                let mut words = line.split_whitespace().skip(1);
                let job = words.next().unwrap_or_default().to_owned();
                let length = number(words.next().unwrap_or_default(), 0)?;
                Ok((job, self.bytes(length)?))
            }
        }
    }

    /// The result is stored, then the task is removed.
    fn finish(&mut self, own: &str, job: &str, body: &[u8]) -> io::Result<()> {
        match self.peer {
            Peer::Redis => {
                let mut both = resp(&[b"LPUSH", b"results", body]);
                both.extend(resp(&[b"RPOP", own.as_bytes()]));
                self.say(&both)?;
                self.expect(":")?;
                let length = number(&self.expected("$")?, 1)?;
                self.bytes(length).map(drop)
            }
            Peer::Beanstalkd => {
                self.say(b"use results\r\n")?;
                self.expect("USING")?;
                self.beanstalkd_put(body)?;
                self.say(format!("delete {job}\r\n").as_bytes())?;
                self.expect("DELETED")
            }
        }
    }

    fn beanstalkd_put(&mut self, body: &[u8]) -> io::Result<()> {
        let mut command = format!("put 0 0 120 {}\r\n", body.len()).into_bytes();
        command.extend_from_slice(body);
        command.extend_from_slice(b"\r\n");
        self.say(&command)?;
        self.expect("INSERTED")
    }

    fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    fn expect(&mut self, beginning: &str) -> io::Result<()> {
        self.expected(beginning).map(drop)
    }

    fn expected(&mut self, beginning: &str) -> io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        if line.starts_with(beginning) {
            Ok(line.trim_end().to_owned())
        } else {
            Err(io::Error::other(format!(
                "expected {beginning}, got {line:?}"
            )))
        }
    }

    fn bytes(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut body = vec![0; length + 2];
        self.stream.read_exact(&mut body)?;
        body.truncate(length);
        Ok(body)
    }
}

/// A command as Redis reads it.
fn resp(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", parts.len()).into_bytes();
    for part in parts {
        out.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
    out
}

fn number(text: &str, skip: usize) -> io::Result<usize> {
    let digits = text.get(skip..).unwrap_or_default();
    digits
        .parse()
        .map_err(|_| io::Error::other(format!("no number in {text:?}")))
}

/// The nearest-rank percentile of sorted values; 0 of none.
fn percentile(sorted: &[f64], fraction: f64) -> f64 {
    let rank = (sorted.len() as f64 * fraction).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}
