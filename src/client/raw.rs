//! Keep-alive HTTP/1.1 connections without a runtime: for `deiactl bench`, whose own cost must stay
//! small beside the daemon's, and for tests that say exactly what goes over a socket.
//!
//! One request at a time on one connection (RFC 9112). Bodies by length, in chunks or to the end of
//! the connection; no pipelining, no TLS, no redirects.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use super::MAX_ANSWER_BYTES;

/// Most bytes of a status line and headers together.
const MAX_HEAD_BYTES: u64 = 64 << 10;

/// Where to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A TCP listener.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

/// A connection that stays open between requests.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<Stream>,
    host: String,
    out: Vec<u8>,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Names in lower case, in the order they came.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first header of this name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }
}

impl Connection {
    /// Connects. `timeout` bounds each read and write from then on.
    pub fn open(endpoint: &Endpoint, timeout: Duration) -> io::Result<Self> {
        let (stream, host) = match endpoint {
            Endpoint::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, timeout)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(timeout))?;
                stream.set_write_timeout(Some(timeout))?;
                (Stream::Tcp(stream), address.to_string())
            }
            Endpoint::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(timeout))?;
                stream.set_write_timeout(Some(timeout))?;
                (Stream::Unix(stream), "localhost".to_owned())
            }
        };
        Ok(Self {
            stream: BufReader::with_capacity(16 << 10, stream),
            host,
            out: Vec::new(),
        })
    }

    /// Sends one request and reads its answer. After an error the connection is of no use.
    pub fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> io::Result<Answer> {
        self.out.clear();
        write!(self.out, "{method} {path} HTTP/1.1\r\n")?;
        if !headers.iter().any(|(n, _)| n.eq_ignore_ascii_case("host")) {
            write!(self.out, "host: {}\r\n", self.host)?;
        }
        for (name, value) in headers {
            write!(self.out, "{name}: {value}\r\n")?;
        }
        if let Some(body) = body {
            write!(self.out, "content-length: {}\r\n\r\n", body.len())?;
            self.out.extend_from_slice(body);
        } else {
            self.out.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&self.out)?;
        self.read_answer(method == "HEAD")
    }

    /// Sends these bytes as they are: half a request, or none at all.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Reads one answer: to [`Self::send_raw`]. `without_body`: it answers a HEAD.
    pub fn read_answer(&mut self, without_body: bool) -> io::Result<Answer> {
        loop {
            let (status, headers) = self.read_head()?;
            let mut answer = Answer {
                status,
                headers,
                body: Vec::new(),
            };
            // RFC 9110, 15.2: any number of 1xx before the final answer.
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            if !without_body && !matches!(status, 101 | 204 | 304) {
                answer.body = self.read_body(&answer)?;
            }
            return Ok(answer);
        }
    }

    /// Reads until the other side closes: to see that it does.
    pub fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let limit = MAX_ANSWER_BYTES as u64;
        (&mut self.stream).take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn read_head(&mut self) -> io::Result<(u16, Vec<(String, String)>)> {
        let mut left = MAX_HEAD_BYTES;
        let first = self.read_line(&mut left)?;
        let status = first
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.get(2..5))
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(|| invalid(format!("not an HTTP/1 status line: {first:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.read_line(&mut left)?;
            if line.is_empty() {
                return Ok((status, headers));
            }
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| invalid(format!("not a header: {line:?}")))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// One line without its end; `left` bounds all lines together.
    fn read_line(&mut self, left: &mut u64) -> io::Result<String> {
        let mut line = Vec::new();
        let read = (&mut self.stream)
            .take(*left)
            .read_until(b'\n', &mut line)?;
        *left -= read as u64;
        if line.pop() != Some(b'\n') {
            return Err(match *left {
                0 => invalid(format!("a head of more than {MAX_HEAD_BYTES} bytes")),
                _ => io::ErrorKind::UnexpectedEof.into(),
            });
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        String::from_utf8(line).map_err(|error| invalid(error.to_string()))
    }

    fn read_body(&mut self, answer: &Answer) -> io::Result<Vec<u8>> {
        let coding = answer.header("transfer-encoding");
        if coding.is_some_and(|c| c.eq_ignore_ascii_case("chunked")) {
            return self.read_chunks();
        }
        let Some(length) = answer.header("content-length") else {
            return self.read_to_end();
        };
        let length = length
            .parse::<usize>()
            .map_err(|_| invalid(format!("not a length: {length:?}")))?;
        bounded(length)?;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(body)
    }

    fn read_chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let mut left = MAX_HEAD_BYTES;
            let line = self.read_line(&mut left)?;
            let digits = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(digits, 16)
                .map_err(|_| invalid(format!("not a chunk's size: {line:?}")))?;
            if size == 0 {
                while !self.read_line(&mut left)?.is_empty() {}
                return Ok(body);
            }
            let from = body.len();
            bounded(from.saturating_add(size))?;
            body.resize(from + size, 0);
            self.stream.read_exact(&mut body[from..])?;
            if !self.read_line(&mut left)?.is_empty() {
                return Err(invalid("a chunk longer than it said".into()));
            }
        }
    }
}

fn bounded(length: usize) -> io::Result<()> {
    if length > MAX_ANSWER_BYTES {
        return Err(invalid(format!("an answer of {length} bytes")));
    }
    Ok(())
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.flush(),
            Self::Unix(stream) => stream.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Answers each connection with the next of `answers`, whatever it asks, and hangs up.
    fn server(answers: Vec<&'static str>) -> Endpoint {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        Endpoint::Tcp(address)
    }

    fn ask(endpoint: &Endpoint, method: &str) -> io::Result<Answer> {
        let mut connection = Connection::open(endpoint, Duration::from_secs(5))?;
        connection.request(method, "/x", &[], Some(b"{}"))
    }

    #[test]
    fn reads_bodies_by_length_in_chunks_and_to_the_end() {
        let at = server(vec![
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n1\r\nd\r\n0\r\n\r\n",
            "HTTP/1.1 503 No\r\nRetry-After: 7\r\n\r\nrest",
            "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n",
        ]);
        assert_eq!(ask(&at, "GET").unwrap().body, b"ab");
        assert_eq!(ask(&at, "GET").unwrap().body, b"abcd");
        let refused = ask(&at, "POST").unwrap();
        assert_eq!((refused.status, &*refused.body), (503, &b"rest"[..]));
        assert_eq!(refused.header("retry-after"), Some("7"));
        assert_eq!(ask(&at, "HEAD").unwrap().body, b"");
    }

    #[test]
    fn what_is_cut_short_or_no_http_is_an_error() {
        let at = server(vec![
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab",
            "SSH-2.0-OpenSSH\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        ]);
        for _ in 0..4 {
            assert!(ask(&at, "GET").is_err());
        }
    }
}
