//! Which daemon to ask. A flag is believed as it stands; without one the places where a daemon's
//! socket usually is are tried in turn, and if none exists the error names them all.

use std::fmt;
use std::path::{Path, PathBuf};

use super::ClientError;

/// Where a daemon's admin socket is, seen from its home.
pub const ADMIN_SOCKET_IN_HOME: &str = ".deia/run/admin.sock";

/// Where the system's daemon has its admin socket (systemd's `RuntimeDirectory=deia`).
pub const SYSTEM_ADMIN_SOCKET: &str = "/run/deia/admin.sock";

/// Most bytes of a unix socket's path, without the final NUL (`sockaddr_un`, unix(7)).
const MAX_SOCKET_PATH_BYTES: usize = 107;

/// One daemon's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Its admin socket.
    Socket(PathBuf),
    /// Its TCP listener: `http://127.0.0.1:8001`, without a final slash.
    Url(String),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "{}", path.display()),
            Self::Url(url) => f.write_str(url),
        }
    }
}

/// What the caller said about the daemon. At most one is expected; the first of them counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Search {
    /// The socket itself.
    pub socket: Option<PathBuf>,
    /// The daemon's TCP listener.
    pub url: Option<String>,
    /// The daemon's home directory.
    pub home: Option<PathBuf>,
}

/// What the process's surroundings say about the daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// `$DEIA_SOCKET`.
    pub socket: Option<PathBuf>,
    /// `$DEIA_HOME`.
    pub home: Option<PathBuf>,
    /// The current directory.
    pub directory: PathBuf,
}

impl Surroundings {
    /// Of this process. An empty variable counts as unset.
    pub fn of_process() -> Self {
        let path = |name| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        Self {
            socket: path("DEIA_SOCKET"),
            home: path("DEIA_HOME"),
            directory: std::env::current_dir().unwrap_or_else(|_| PathBuf::from(".")),
        }
    }

    /// The home a daemon started here would have.
    pub fn default_home(&self) -> &Path {
        self.home.as_deref().unwrap_or(&self.directory)
    }
}

impl Search {
    /// Finds the daemon. `exists` tells whether a path is there.
    pub fn locate(
        &self,
        around: &Surroundings,
        exists: impl Fn(&Path) -> bool,
    ) -> Result<Target, ClientError> {
        if let Some(socket) = self.socket.clone() {
            return checked(socket);
        }
        if let Some(url) = &self.url {
            return checked_url(url);
        }
        if let Some(home) = &self.home {
            return checked(home.join(ADMIN_SOCKET_IN_HOME));
        }
        if let Some(socket) = around.socket.clone() {
            return checked(socket);
        }
        let at_hand = around.default_home().join(ADMIN_SOCKET_IN_HOME);
        if exists(&at_hand) {
            return checked(at_hand);
        }
        let system = PathBuf::from(SYSTEM_ADMIN_SOCKET);
        if exists(&system) {
            return Ok(Target::Socket(system));
        }
        Err(ClientError::Unreachable {
            target: SYSTEM_ADMIN_SOCKET.to_owned(),
            why: format!(
                "no daemon's socket is there, nor at {}; start one with `deia --home DIR`, or name \
                 a running one with --home DIR or --socket PATH",
                at_hand.display()
            ),
        })
    }
}

fn checked(socket: PathBuf) -> Result<Target, ClientError> {
    let bytes = socket.as_os_str().len();
    if bytes > MAX_SOCKET_PATH_BYTES {
        return Err(ClientError::Unreachable {
            target: socket.display().to_string(),
            why: format!(
                "the path has {bytes} bytes and a socket's may have {MAX_SOCKET_PATH_BYTES}; name \
                 it by a shorter one, for example a symbolic link to the home"
            ),
        });
    }
    Ok(Target::Socket(socket))
}

fn checked_url(url: &str) -> Result<Target, ClientError> {
    let bare = url.trim_end_matches('/');
    match bare.strip_prefix("http://") {
        Some(host) if !host.is_empty() && !host.contains('/') => Ok(Target::Url(bare.to_owned())),
        _ => Err(ClientError::Unreachable {
            target: url.to_owned(),
            why: "a daemon's address has the form http://127.0.0.1:8001".into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around() -> Surroundings {
        Surroundings {
            socket: None,
            home: None,
            directory: "/srv/fleet".into(),
        }
    }

    fn socket(path: &str) -> Target {
        Target::Socket(path.into())
    }

    #[test]
    fn a_flag_is_believed_without_looking() {
        let mut around = around();
        around.socket = Some("/env.sock".into());
        let by_home = Search {
            home: Some("/h".into()),
            ..Search::default()
        };
        let found = by_home.locate(&around, |_| false).unwrap();
        assert_eq!(found, socket("/h/.deia/run/admin.sock"));
        let by_socket = Search {
            socket: Some("/x.sock".into()),
            ..Search::default()
        };
        let found = by_socket.locate(&around, |_| false).unwrap();
        assert_eq!(found, socket("/x.sock"));
    }

    #[test]
    fn without_flags_the_environment_then_the_home_then_the_system() {
        let mut around = around();
        let all = |_: &Path| true;
        let found = Search::default().locate(&around, all).unwrap();
        assert_eq!(found, socket("/srv/fleet/.deia/run/admin.sock"));

        around.home = Some("/home/a".into());
        let found = Search::default().locate(&around, all).unwrap();
        assert_eq!(found, socket("/home/a/.deia/run/admin.sock"));

        let only_system = |path: &Path| path == Path::new(SYSTEM_ADMIN_SOCKET);
        let found = Search::default().locate(&around, only_system).unwrap();
        assert_eq!(found, socket(SYSTEM_ADMIN_SOCKET));

        around.socket = Some("/bot.sock".into());
        let found = Search::default().locate(&around, all).unwrap();
        assert_eq!(found, socket("/bot.sock"));
    }

    #[test]
    fn nowhere_names_every_place_it_looked_at() {
        let error = Search::default().locate(&around(), |_| false).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("/srv/fleet/.deia/run/admin.sock"), "{text}");
        assert!(text.contains(SYSTEM_ADMIN_SOCKET), "{text}");
        assert!(text.contains("--home"), "{text}");
    }

    #[test]
    fn a_path_no_socket_can_have_is_refused_with_its_length() {
        let long = Search {
            home: Some(format!("/{}", "d".repeat(100)).into()),
            ..Search::default()
        };
        let text = long.locate(&around(), |_| true).unwrap_err().to_string();
        assert!(text.contains("122 bytes"), "{text}");
    }

    #[test]
    fn only_plain_http_without_a_path_is_a_daemons_address() {
        for bad in [
            "https://localhost",
            "localhost:8001",
            "http://",
            "http://h/p",
        ] {
            assert!(checked_url(bad).is_err(), "{bad}");
        }
        let good = checked_url("http://127.0.0.1:8001/").unwrap();
        assert_eq!(good, Target::Url("http://127.0.0.1:8001".into()));
    }
}
