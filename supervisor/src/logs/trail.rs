//! `audit.jsonl`: the audit trail as JSON lines, under the log's rules: no forbidden word, no text of users,
//! bounded files. Written by the audit's keeper; what stands in it can be made anew from the store.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use deia::api::AuditSource;
use deia::config::Logging;
use deia::mask;
use serde_json::{Map, Value, json};

use super::event::safe;
use super::files::Bounds;
use super::rotate::rotated_name;
use crate::audit::{entry_id, hex};
use crate::store::AuditRecord;

/// Longest end of the file that the last line is looked for in: longer than any line.
const MAX_TAIL_BYTES: u64 = 512 * 1024;

/// The file.
#[derive(Debug)]
pub struct TrailFile {
    path: PathBuf,
}

impl TrailFile {
    /// At this path.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The last record that is in it. Takes back a line that a killed daemon left half written.
    pub fn last_seq(&mut self) -> Option<i64> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&self.path)
            .ok()?;
        let size = file.metadata().ok()?.len();
        let from = size.saturating_sub(MAX_TAIL_BYTES);
        let mut tail = Vec::new();
        file.seek(SeekFrom::Start(from)).ok()?;
        file.read_to_end(&mut tail).ok()?;
        let end = tail.iter().rposition(|b| *b == b'\n')? + 1;
        if end < tail.len() {
            file.set_len(from + end as u64).ok()?;
        }
        let lines = tail[..end].trim_ascii_end();
        let start = lines.iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
        let line: Value = serde_json::from_slice(&lines[start..]).ok()?;
        line["seq"].as_i64()
    }

    /// Appends a line for each record, and moves a full file aside first.
    ///
    /// # Errors
    /// Those of the file system; nothing of it is in the file then.
    pub fn append(&mut self, records: &[AuditRecord], logging: &Logging) -> io::Result<()> {
        let bounds = Bounds::from(logging);
        let (mut file, mut size) = self.open()?;
        let mut lines = Vec::new();
        for record in records {
            let before = lines.len();
            serde_json::to_writer(&mut lines, &line(record))?;
            lines.push(b'\n');
            let is_full = size + lines.len() as u64 > bounds.max_file;
            if is_full && size + before as u64 > 0 {
                write(&mut file, size, &lines[..before])?;
                lines.drain(..before);
                self.rotate(bounds.keep_files)?;
                (file, size) = self.open()?;
            }
        }
        write(&mut file, size, &lines)
    }

    fn open(&self) -> io::Result<(File, u64)> {
        if let Some(directory) = self.path.parent() {
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true).mode(0o750).create(directory)?;
        }
        let mut options = OpenOptions::new();
        let file = options
            .append(true)
            .create(true)
            .mode(0o640)
            .open(&self.path)?;
        let size = file.metadata()?.len();
        Ok((file, size))
    }

    /// `audit.jsonl` becomes `audit.1.jsonl`, and so on; the last one goes.
    fn rotate(&self, keep: u32) -> io::Result<()> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let numbered = |n: u32| self.path.with_file_name(rotated_name(&name, n));
        if keep == 0 {
            return fs::remove_file(&self.path);
        }
        for n in (1..keep).rev() {
            rename_if_there(&numbered(n), &numbered(n + 1))?;
        }
        fs::rename(&self.path, numbered(1))
    }
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn write(file: &mut File, size: u64, lines: &[u8]) -> io::Result<()> {
    file.write_all(lines).inspect_err(|_| {
        // Half a line would spoil the file for every reader.
        drop(file.set_len(size));
    })
}

/// A record as it may stand in a log.
fn line(record: &AuditRecord) -> Value {
    let entry = &record.entry;
    let mut masked = Masked(false);
    let is_client = entry.source == AuditSource::Client;
    let details = entry.details.as_deref().unwrap_or("{}");
    // What a caller wrote is a user's text: only its digest.
    let details = match is_client && entry.details.is_some() {
        true => masked.digest(details),
        false => match serde_json::from_str(details) {
            Ok(value) => masked.value(value),
            Err(_) => masked.digest(details),
        },
    };
    let error = entry.error.as_deref().map(|why| match is_client {
        true => masked.digest(why),
        false => masked.text(why),
    });
    let actor = masked.text(entry.actor.name());
    let target = masked.text(&entry.target);
    let remote = entry.actor.remote.as_deref().map(|from| masked.text(from));
    json!({
        "timestamp": entry.at,
        "level": entry.level,
        "event": "audit",
        "message": "on record",
        "seq": record.seq,
        "entry_id": entry_id(&record.hash),
        "action": entry.action,
        "actor": actor,
        "source": entry.source,
        "target": target,
        "details": details,
        "result": entry.result,
        "error_message": error,
        "remote": remote,
        "previous": hex(&record.previous),
        "checksum": hex(&record.hash),
        "masked": masked.0,
    })
}

/// Whether something was.
struct Masked(bool);

impl Masked {
    fn digest(&mut self, text: &str) -> Value {
        self.0 = true;
        mask::digest(text).into()
    }

    fn text(&mut self, text: &str) -> Value {
        let written = safe(text);
        self.0 |= written != text;
        written.into_owned().into()
    }

    fn value(&mut self, value: Value) -> Value {
        match value {
            Value::String(text) => self.text(&text),
            Value::Array(values) => values.into_iter().map(|value| self.value(value)).collect(),
            Value::Object(map) => {
                let fields = map.into_iter().map(|(name, value)| {
                    let written = safe(&name);
                    self.0 |= *written != *name;
                    (written.into_owned(), self.value(value))
                });
                Value::Object(fields.collect::<Map<_, _>>())
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Actor, Entry, Link, hash_of};
    use deia::api::{AuditAction, AuditLevel};
    use deia::time::Timestamp;

    fn record(seq: i64, change: impl FnOnce(&mut Entry)) -> AuditRecord {
        let at = Timestamp::from_micros(seq);
        let mut entry = Entry::new(at, AuditAction::ConfigChanged, Actor::bot("b"), "t");
        change(&mut entry);
        let previous = Link::default().hash;
        let hash = hash_of(&previous, seq, &entry, &mut Vec::new());
        AuditRecord {
            seq,
            entry,
            previous,
            hash,
        }
    }

    #[test]
    fn no_word_and_no_text_of_users_passes() {
        let plain = line(&record(1, |e| e.details = Some(r#"{"n":"x"}"#.into())));
        assert_eq!(
            (&plain["masked"], &plain["details"]["n"]),
            (&json!(false), &json!("x"))
        );
        let own = line(&record(2, |e| {
            e.level = AuditLevel::Critical;
            e.target = "my-Token-7".into();
            e.details = Some(r#"{"api_key":["a PASSWORD","fine"],"ERROR":"ERROR"}"#.into());
        }));
        assert_eq!(own["masked"], true);
        let client = line(&record(3, |e| {
            e.source = AuditSource::Client;
            e.details = Some(r#"{"note":"anything at all"}"#.into());
            e.error = Some("something they wrote".into());
        }));
        for line in [&own, &client] {
            let text = line.to_string();
            assert!(
                !mask::is_forbidden(&text) && !text.contains("ERROR"),
                "{text}"
            );
            assert!(
                !text.contains("anything") && !text.contains("wrote"),
                "{text}"
            );
        }
        assert_eq!(own["details"].as_object().unwrap().len(), 2);
    }

    #[test]
    fn files_are_bounded_and_it_is_known_where_to_go_on() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("logs/audit.jsonl");
        let mut file = TrailFile::new(path.clone());
        assert_eq!(file.last_seq(), None);
        let logging = Logging {
            max_file_mb: 1,
            keep_files: 2,
            ..Logging::default()
        };
        // About four megabytes.
        for portion in 0..40 {
            let records: Vec<_> = (0..100)
                .map(|n| record(portion * 100 + n, |e| e.error = Some("x".repeat(600))))
                .collect();
            file.append(&records, &logging).unwrap();
        }
        let mut names: Vec<_> = fs::read_dir(home.path().join("logs"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["audit.1.jsonl", "audit.2.jsonl", "audit.jsonl"]);
        for name in names {
            let size = fs::metadata(home.path().join("logs").join(name))
                .unwrap()
                .len();
            assert!(size <= 1 << 20, "{size}");
        }
        // A daemon that was killed over a line.
        let mut raw = OpenOptions::new().append(true).open(&path).unwrap();
        raw.write_all(b"{\"seq\": 7").unwrap();
        assert_eq!(file.last_seq(), Some(3_999));
        assert!(fs::read(&path).unwrap().ends_with(b"\n"));
    }
}
