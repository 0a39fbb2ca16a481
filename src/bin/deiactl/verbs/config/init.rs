//! `config init`: the samples, never over what somebody changed.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use deia::config::samples;
use serde_json::json;

use crate::context::Context;
use crate::failure::Failure;

/// Where the samples go, seen from the home.
const DIRECTORY: &str = ".deia/config";
/// As the daemon makes it: not for others.
const DIRECTORY_MODE: u32 = 0o750;

/// Writes the samples; says what to do next.
pub fn init(context: &Context, force: bool) -> Result<(), Failure> {
    let home = context.home();
    let directory = home.join(DIRECTORY);
    let failed = |path: &Path, error: &io::Error| {
        Failure::Failed(format!(
            "{}: {error}; choose a home that is yours with --home DIR",
            path.display()
        ))
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(&directory)
        .map_err(|error| failed(&directory, &error))?;
    let mut written = Vec::new();
    let mut kept = Vec::new();
    for sample in samples() {
        let path = directory.join(sample.file_name);
        match fs::read(&path) {
            Ok(text) if text == sample.text.as_bytes() => {}
            Ok(_) if !force => {
                kept.push(path);
                continue;
            }
            Ok(_) => fs::write(&path, sample.text).map_err(|error| failed(&path, &error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::write(&path, sample.text).map_err(|error| failed(&path, &error))?;
            }
            Err(error) => return Err(failed(&path, &error)),
        }
        written.push((path, sample.about));
    }
    let out = &context.out;
    if out.json {
        let written: Vec<_> = written.iter().map(|(path, _)| path).collect();
        return out.json(&json!({"written": written, "kept": kept}));
    }
    for (path, about) in &written {
        out.line(&format!("{} ({about})", path.display()))?;
    }
    for path in &kept {
        context.note(&format!(
            "{} was changed and is kept; --force overwrites it",
            path.display()
        ));
    }
    let file = home.join("bot-config.yaml");
    if file.exists() {
        return Ok(());
    }
    out.line(&format!(
        "to begin: cp {} {}",
        directory.join("development.yaml").display(),
        file.display()
    ))
}
