//! Makes the admin socket: bound under another name, given its mode and group, then renamed into
//! place, so that it never exists with the wrong rights, whatever the umask.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// Most bytes a socket's path may have on Linux (`sun_path` without its final zero).
pub const MAX_SOCKET_PATH_BYTES: usize = 107;
/// The socket's mode: its owner and its group may connect.
pub const ADMIN_SOCKET_MODE: u32 = 0o660;
/// What is added to the name until the socket is ready.
const MAKING: &str = ".new";

/// Why there is no admin socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The kernel has no room for the path.
    #[error(
        "the socket's path has {bytes} bytes, more than the {MAX_SOCKET_PATH_BYTES} a socket may have: {path}; use a home with a shorter path (--home)"
    )]
    TooLong {
        /// The path.
        path: PathBuf,
        /// How many.
        bytes: usize,
    },
    /// Something else has the name.
    #[error("{path} exists and is no socket; move it away")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The system refused.
    #[error("can't make the socket {path}: {source}")]
    Io {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Binds the admin socket at `path`, 0660. `group` becomes its group where this process may give it
/// away (root). A socket that is there already is replaced: **the caller holds the daemon's lock**, so
/// nobody serves it.
///
/// # Errors
/// [`SocketError`]; nothing is left behind.
pub fn bind_admin_socket(path: &Path, group: Option<u32>) -> Result<UnixListener, SocketError> {
    let bytes = path.as_os_str().as_bytes().len();
    if bytes > MAX_SOCKET_PATH_BYTES {
        return Err(SocketError::TooLong {
            path: path.to_owned(),
            bytes,
        });
    }
    let failed = |source| SocketError::Io {
        path: path.to_owned(),
        source,
    };
    match std::fs::symlink_metadata(path) {
        Ok(found) if !is_socket(&found) => {
            return Err(SocketError::NotASocket {
                path: path.to_owned(),
            });
        }
        _ => {}
    }
    let making = temporary_name(path);
    remove_socket(&making).map_err(failed)?;
    let listener = UnixListener::bind(&making).map_err(failed)?;
    let ready = (|| {
        std::fs::set_permissions(&making, std::fs::Permissions::from_mode(0o600))?;
        if let Some(gid) = group.filter(|_| nix::unistd::geteuid().is_root()) {
            std::os::unix::fs::chown(&making, None, Some(gid))?;
        }
        std::fs::set_permissions(&making, std::fs::Permissions::from_mode(ADMIN_SOCKET_MODE))?;
        std::fs::rename(&making, path)
    })();
    match ready {
        Ok(()) => Ok(listener),
        Err(error) => {
            drop(remove_socket(&making));
            Err(failed(error))
        }
    }
}

/// `path` with a suffix; where that would be too long, with its last letters replaced: the name is
/// only there for a moment.
fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().as_bytes().to_vec();
    name.truncate(MAX_SOCKET_PATH_BYTES - MAKING.len());
    name.extend_from_slice(MAKING.as_bytes());
    PathBuf::from(std::ffi::OsStr::from_bytes(&name))
}

fn is_socket(metadata: &std::fs::Metadata) -> bool {
    std::os::unix::fs::FileTypeExt::is_socket(&metadata.file_type())
}

fn remove_socket(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if is_socket(&found) => std::fs::remove_file(path),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("{} is in the way and is no socket", path.display()),
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn is_0660_whatever_the_umask_and_replaces_a_stale_one() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("admin.sock");
        drop(bind_admin_socket(&path, None).unwrap());
        let _listener = bind_admin_socket(&path, None).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1);
        assert!(tokio::net::UnixStream::connect(&path).await.is_ok());
    }

    #[tokio::test]
    async fn a_file_in_the_way_is_not_removed() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("admin.sock");
        std::fs::write(&path, "mine").unwrap();
        let error = bind_admin_socket(&path, None).unwrap_err();
        assert!(matches!(error, SocketError::NotASocket { .. }), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }

    #[tokio::test]
    async fn a_long_path_is_said_with_its_length_and_the_longest_works() {
        let home = tempfile::tempdir().unwrap();
        let room = MAX_SOCKET_PATH_BYTES - home.path().as_os_str().len() - 1;
        let fits = home.path().join("s".repeat(room));
        assert!(bind_admin_socket(&fits, None).is_ok());
        let over = home.path().join("s".repeat(room + 1));
        let error = bind_admin_socket(&over, None).unwrap_err().to_string();
        assert!(
            error.contains("108 bytes") && error.contains("--home"),
            "{error}"
        );
    }
}
