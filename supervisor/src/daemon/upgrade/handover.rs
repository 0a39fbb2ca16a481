//! What one process of the daemon hands to the next across an exec: listeners, the lock, and
//! connections between two requests.
//!
//! Everything of the daemon is close-on-exec and stays so. What is handed over is *sent*, as
//! descriptors in messages of a socket pair, whose other end becomes the standard input of what is
//! executed: it is in flight during the exec, so no child that is forked meanwhile inherits any of it,
//! and the next process receives it without having to trust a number. The first descriptor is a file
//! in memory with a letter that says what the others are; the second is the real standard input.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Seek as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::MemfdFlags;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};

use crate::http::accept::Yielded;

/// Set where the standard input is a handover.
pub const HANDOVER_VARIABLE: &str = "DEIA_HANDOVER";

/// What every message says.
const GREETING: &[u8] = b"deia handover 1";

/// Descriptors in one message; the kernel takes 253.
const IN_ONE_MESSAGE: usize = 200;

/// Most bytes of a letter: every connection with a whole head read.
const MAX_LETTER_BYTES: u64 = 128 << 20;

/// Most descriptors: far more than connections are ever open.
const MAX_DESCRIPTORS: usize = 65_536;

/// What is handed over.
#[derive(Debug)]
pub struct Handover {
    /// The listeners and the lock.
    pub sockets: Sockets,
    /// Connections over TCP.
    pub tcp: Vec<Yielded>,
    /// Connections over the admin socket.
    pub admin: Vec<Yielded>,
    /// Connections of programs of bots.
    pub programs: Vec<Yielded>,
    /// The path the daemon was started by.
    pub invoked: PathBuf,
    /// What it was started with, its name first.
    pub arguments: Vec<OsString>,
    /// A child that watches the switch.
    pub guard: Option<u32>,
}

/// What a daemon listens on, and its lock.
#[derive(Debug)]
pub struct Sockets {
    /// TCP.
    pub tcp: OwnedFd,
    /// `admin.sock`.
    pub admin: OwnedFd,
    /// `bots.sock`.
    pub bots: OwnedFd,
    /// `deia.lock`.
    pub lock: OwnedFd,
}

impl Sockets {
    /// The same once more.
    ///
    /// # Errors
    /// For want of descriptors.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            tcp: self.tcp.try_clone()?,
            admin: self.admin.try_clone()?,
            bots: self.bots.try_clone()?,
            lock: self.lock.try_clone()?,
        })
    }
}

/// What the other descriptors are, in their order: standard input, TCP, admin, bots, lock, and the
/// connections. Fields are only added.
#[derive(Debug, Serialize, Deserialize)]
struct Letter {
    connections: Vec<Enclosed>,
    invoked: PathBuf,
    arguments: Vec<OsString>,
    guard: Option<u32>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Enclosed {
    admin: bool,
    /// The bot's process, where it is one of a bot's program. Releases that do not know the field take it for
    /// one over TCP, find that it is none, and close it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bot: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    read: Vec<u8>,
}

impl Handover {
    /// Sends everything; what is returned receives it, as the standard input of the next process.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn send(&self) -> io::Result<OwnedFd> {
        let enclosed = |admin: bool| {
            move |connection: &Yielded| Enclosed {
                admin,
                bot: connection.bot,
                read: connection.read.clone(),
            }
        };
        let letter = Letter {
            connections: (self.tcp.iter().map(enclosed(false)))
                .chain(self.admin.iter().map(enclosed(true)))
                .chain(self.programs.iter().map(enclosed(false)))
                .collect(),
            invoked: self.invoked.clone(),
            arguments: self.arguments.clone(),
            guard: self.guard,
        };
        let text = serde_json::to_vec(&letter).map_err(io::Error::other)?;
        let mut file = std::fs::File::from(rustix::fs::memfd_create(
            "deia-handover",
            MemfdFlags::CLOEXEC,
        )?);
        file.write_all(&text)?;
        file.rewind()?;
        let stdin = io::stdin();
        let sockets = &self.sockets;
        let mut descriptors: Vec<BorrowedFd<'_>> = vec![
            file.as_fd(),
            stdin.as_fd(),
            sockets.tcp.as_fd(),
            sockets.admin.as_fd(),
            sockets.bots.as_fd(),
            sockets.lock.as_fd(),
        ];
        let connections = self.tcp.iter().chain(&self.admin).chain(&self.programs);
        descriptors.extend(connections.map(|connection| connection.socket.as_fd()));
        let (to, from) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        for some in descriptors.chunks(IN_ONE_MESSAGE) {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(IN_ONE_MESSAGE))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            control.push(SendAncillaryMessage::ScmRights(some));
            // Not waiting: nobody reads yet, and a queue that is full would be a fault.
            sendmsg(
                &to,
                &[IoSlice::new(GREETING)],
                &mut control,
                SendFlags::DONTWAIT,
            )?;
        }
        Ok(from)
    }

    /// What the process before handed to this one, if it did; the standard input is itself again.
    ///
    /// # Errors
    /// A handover that can't be understood.
    pub fn take() -> io::Result<Option<Self>> {
        if std::env::var_os(HANDOVER_VARIABLE).is_none() {
            return Ok(None);
        }
        let stdin = io::stdin();
        let mut descriptors = VecDeque::new();
        while descriptors.len() < MAX_DESCRIPTORS {
            match receive(stdin.as_fd(), &mut descriptors) {
                Ok(true) => {}
                Ok(false) => break,
                // An environment that was copied: nobody handed over anything.
                Err(_) if descriptors.is_empty() => return Ok(None),
                Err(e) => return Err(e),
            }
        }
        Self::unpack(descriptors).map(Some)
    }

    fn unpack(mut descriptors: VecDeque<OwnedFd>) -> io::Result<Self> {
        let mut next = || {
            descriptors
                .pop_front()
                .ok_or_else(|| io::Error::other("a handover with something missing"))
        };
        let letter = next()?;
        rustix::stdio::dup2_stdin(next()?)?;
        let sockets = Sockets {
            tcp: next()?,
            admin: next()?,
            bots: next()?,
            lock: next()?,
        };
        let mut text = Vec::new();
        std::fs::File::from(letter)
            .take(MAX_LETTER_BYTES)
            .read_to_end(&mut text)?;
        let letter: Letter = serde_json::from_slice(&text).map_err(io::Error::other)?;
        let (mut tcp, mut admin, mut programs) = (Vec::new(), Vec::new(), Vec::new());
        for enclosed in letter.connections {
            let to = match enclosed.bot {
                Some(_) => &mut programs,
                None if enclosed.admin => &mut admin,
                None => &mut tcp,
            };
            to.push(Yielded {
                socket: next()?,
                read: enclosed.read,
                bot: enclosed.bot,
            });
        }
        Ok(Self {
            sockets,
            tcp,
            admin,
            programs,
            invoked: letter.invoked,
            arguments: letter.arguments,
            guard: letter.guard,
        })
    }
}

/// One message; whether there was one.
fn receive(from: BorrowedFd<'_>, to: &mut VecDeque<OwnedFd>) -> io::Result<bool> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(IN_ONE_MESSAGE))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut said = [0; GREETING.len() + 1];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = recvmsg(from, &mut [IoSliceMut::new(&mut said)], &mut control, flags);
    let bytes = match received {
        Ok(received) => received.bytes,
        Err(rustix::io::Errno::AGAIN) => 0,
        Err(e) => return Err(e.into()),
    };
    if bytes == 0 {
        return Ok(false);
    }
    if said[..bytes] != *GREETING {
        return Err(io::Error::other("no handover"));
    }
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            to.extend(descriptors);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn everything_arrives_in_its_place_close_on_exec() {
        let listener = || TcpListener::bind("127.0.0.1:0").unwrap();
        let ports: Vec<_> = (0..3).map(|_| listener()).collect();
        let port = |n: usize| ports[n].local_addr().unwrap().port();
        let copy = |n: usize| OwnedFd::from(ports[n].try_clone().unwrap());
        // More than fit into one message.
        let tcp = (0..450).map(|n| Yielded {
            socket: copy(n % 3),
            read: vec![u8::try_from(n % 256).unwrap(); n % 3],
            bot: None,
        });
        let handover = Handover {
            sockets: Sockets {
                tcp: copy(0),
                admin: copy(1),
                bots: copy(2),
                lock: copy(0),
            },
            tcp: tcp.collect(),
            admin: vec![Yielded {
                socket: copy(1),
                read: b"GET /".to_vec(),
                bot: None,
            }],
            programs: vec![Yielded {
                socket: copy(2),
                read: b"POST /".to_vec(),
                bot: Some(41),
            }],
            invoked: "/usr/bin/deia".into(),
            arguments: vec!["deia".into(), "--home".into()],
            guard: Some(7),
        };
        let from = handover.send().unwrap();
        let mut descriptors = VecDeque::new();
        while receive(from.as_fd(), &mut descriptors).unwrap() {}
        assert_eq!(descriptors.len(), 6 + 450 + 2);
        for descriptor in &descriptors {
            let flags = rustix::io::fcntl_getfd(descriptor).unwrap();
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        }
        let arrived = Handover::unpack(descriptors).unwrap();
        let port_of = |fd: &OwnedFd| {
            let listener = TcpListener::from(fd.try_clone().unwrap());
            listener.local_addr().unwrap().port()
        };
        assert_eq!(port_of(&arrived.sockets.bots), port(2));
        assert_eq!(
            (arrived.tcp.len(), arrived.admin[0].read.as_slice()),
            (450, &b"GET /"[..])
        );
        for (n, connection) in arrived.tcp.iter().enumerate() {
            assert_eq!(port_of(&connection.socket), port(n % 3));
            assert_eq!(connection.read.len(), n % 3);
        }
        let program = &arrived.programs[0];
        assert_eq!(port_of(&program.socket), port(2));
        assert_eq!(
            (program.bot, program.read.as_slice()),
            (Some(41), &b"POST /"[..])
        );
        assert_eq!(
            (arrived.invoked, arrived.guard),
            ("/usr/bin/deia".into(), Some(7))
        );
    }

    #[test]
    fn what_is_no_handover_is_none_and_half_of_one_is_an_error() {
        let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
        (&a).write_all(b"hello").unwrap();
        assert!(receive(b.as_fd(), &mut VecDeque::new()).is_err());
        let nothing = Handover::unpack(VecDeque::new()).unwrap_err().to_string();
        assert!(nothing.contains("missing"), "{nothing}");
    }
}
