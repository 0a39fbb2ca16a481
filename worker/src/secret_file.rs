//! Secrets that live in files: read when they are needed, never kept, never printed.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

pub use deia::secret::SecretText as Secret;
use zeroize::Zeroizing as SecretBuffer;

/// Longest secret.
pub const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// Where systemd puts credentials. Their access list shows as group-readable.
const CREDENTIALS: &str = "/run/credentials";

/// Reads a secret; line ends after it do not belong to it.
///
/// # Errors
/// Names the file and the remedy, never anything of what the file holds.
pub async fn read(path: PathBuf) -> Result<Secret, String> {
    let shown = path.display().to_string();
    tokio::task::spawn_blocking(move || read_blocking(&path))
        .await
        .unwrap_or_else(|e| Err(format!("cannot read {shown}: {e}")))
}

fn read_blocking(path: &Path) -> Result<Secret, String> {
    let shown = path.display();
    let cannot = |e: std::io::Error| format!("cannot read {shown}: {e}");
    // A FIFO would keep the thread for ever.
    let file = File::options()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32)
        .open(path)
        .map_err(cannot)?;
    let meta = file.metadata().map_err(cannot)?;
    if !meta.is_file() {
        return Err(format!("{shown} is not a regular file"));
    }
    if let Some(refusal) = too_open(path, meta.mode()) {
        return Err(refusal);
    }
    // Room for all of it at once: what grows leaves copies behind.
    let room = usize::try_from(meta.len().min(MAX_SECRET_BYTES) + 1).unwrap_or(0);
    let mut text = SecretBuffer::new(String::with_capacity(room));
    file.take(MAX_SECRET_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|e| match e.kind() {
            std::io::ErrorKind::InvalidData => format!("{shown} is not UTF-8 text"),
            _ => cannot(e),
        })?;
    if text.len() as u64 > MAX_SECRET_BYTES {
        return Err(format!("{shown} is longer than {MAX_SECRET_BYTES} bytes"));
    }
    let end = text.trim_end_matches(['\r', '\n']).len();
    text.truncate(end);
    if text.contains('\0') {
        return Err(format!("{shown} contains a NUL byte"));
    }
    Ok(Secret::new(std::mem::take(&mut *text)))
}

/// Why a file with this mode is refused.
fn too_open(path: &Path, mode: u32) -> Option<String> {
    let forbidden = if path.starts_with(CREDENTIALS) {
        0o037
    } else {
        0o077
    };
    (mode & forbidden != 0).then(|| {
        format!(
            "{0} is open to others (mode {1:04o}): chmod 600 {0}",
            path.display(),
            mode & 0o7777
        )
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn reads_a_private_file_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "s3cret \r\n").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        let refusal = read(path.clone()).await.err().unwrap();
        assert!(refusal.contains("chmod 600"), "{refusal}");
        assert!(!refusal.contains("s3cret"), "{refusal}");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        let secret = read(path).await.unwrap();
        assert_eq!(secret.expose(), "s3cret ");
        assert_eq!(secret.redact("it is s3cret !"), "it is [redacted]!");
        assert!(read(dir.path().into()).await.is_err());
        assert!(read(dir.path().join("none")).await.is_err());
    }

    #[test]
    fn credentials_may_show_the_group_of_their_access_list() {
        assert_eq!(
            too_open(Path::new("/run/credentials/deia.service/key"), 0o440),
            None
        );
        assert!(too_open(Path::new("/run/credentials/deia.service/key"), 0o444).is_some());
    }
}
