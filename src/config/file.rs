//! Reads a configuration file: bounded, text only, regular files only.

use std::fmt;
use std::io::{self, Read as _};
use std::path::Path;

use super::problem::{Lines, Refusal, Source};
use super::tree::{At, MAX_CONFIG_BYTES};
use super::{Config, Loaded, parse};

/// Why a file gives no configuration.
#[derive(Debug)]
pub enum LoadError {
    /// There is none of that name.
    Missing,
    /// It is there, but is not applied.
    Refused(Refusal),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("there is no such file"),
            Self::Refused(refusal) => refusal.fmt(f),
        }
    }
}

impl std::error::Error for LoadError {}

/// The text of a configuration file.
///
/// # Errors
///
/// [`LoadError::Missing`], or a refusal: not readable, not a regular file, not UTF-8, too large.
pub fn read_text(path: &Path) -> Result<String, LoadError> {
    let refused = |why: String| {
        let source = Source {
            file: path,
            text: "",
            lines: Lines::Hidden,
        };
        LoadError::Refused(Refusal {
            problems: vec![source.problem(At::default(), "", None, &why)],
        })
    };
    let cannot = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => LoadError::Missing,
        io::ErrorKind::PermissionDenied => refused(format!(
            "cannot be read by this user ({error}); change its owner or mode"
        )),
        _ => refused(format!("cannot be read: {error}")),
    };
    // Asked before it is opened: opening a pipe would wait for its writer.
    if !std::fs::metadata(path).map_err(cannot)?.is_file() {
        return Err(refused("is not a regular file".to_owned()));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| {
            file.take(MAX_CONFIG_BYTES as u64 + 1)
                .read_to_end(&mut bytes)
        })
        .map_err(cannot)?;
    if bytes.len() > MAX_CONFIG_BYTES {
        return Err(refused(format!(
            "is larger than {MAX_CONFIG_BYTES} bytes, the most that is read"
        )));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        refused(format!(
            "is not UTF-8 text (at byte {at}); save it as UTF-8"
        ))
    })
}

/// Reads the configuration at `path`; see [`parse`].
///
/// # Errors
///
/// As [`read_text`] and [`parse`].
pub fn load(path: &Path, last_good: Option<&Config>) -> Result<Loaded, LoadError> {
    let text = read_text(path)?;
    parse(&text, path, last_good).map_err(LoadError::Refused)
}

/// What `deiactl config validate` asks: the file on its own, without a daemon. It is valid when
/// [`Loaded::problems`] is empty.
///
/// # Errors
///
/// As [`load`].
pub fn validate(path: &Path) -> Result<Loaded, LoadError> {
    load(path, None)
}
