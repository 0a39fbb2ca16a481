//! The API tokens: made, listed, revoked, and looked up for each request that brings one.
//!
//! ```text
//!   deiactl token create ──> create ──> tokens.json (hashes) ──> in force, on connections that are open, too
//!   a request's hash ──────> scopes ──> of a token that is there and has not expired
//!                               └─ used: noted, to the minute; written within a minute, never per request
//! ```
//!
//! Of a token only its SHA-256 is kept: it has 256 random bits, so that nothing slower is needed against
//! guessing. The file is outside the store: a restore brings no revoked token back. A file that can't be
//! read is left as it is: no token is known then, and none can be made, until somebody has looked at it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use deia::api::{MAX_TOKEN_NAME_BYTES, Scope, TokenView};
use deia::time::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, Notify};

use crate::http::caller::{TOKEN_PREFIX, TokenId, Tokens, token_hash};
use crate::http::scope::ScopeSet;

/// Tokens there may be, expired ones included.
pub const MAX_TOKENS: usize = 1000;
/// Largest file that is read.
const MAX_FILE_BYTES: u64 = 4 << 20;
/// The file's form.
const FORM: u32 = 1;
/// How exactly it is known when a token was last used.
const USED_MICROS: i64 = 60_000_000;
/// Uses are written this much later.
const WRITE_AFTER: Duration = Duration::from_secs(60);

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// There are too many.
    #[error(
        "there are {MAX_TOKENS} tokens: revoke some first (deiactl token list, deiactl token revoke ID)"
    )]
    TooMany,
    /// The file that is there is no list of tokens.
    #[error("{0}; it was left as it is: mend it, or move it away and restart deia")]
    Unreadable(String),
    /// The disk did not take it: nothing has changed.
    #[error("{0}; nothing has changed")]
    Disk(String),
}

/// What is asked of a new token.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// For people.
    pub name: Option<String>,
    /// From when on it is none any more.
    pub expires_at: Option<Timestamp>,
}

/// All tokens.
#[derive(Debug)]
pub struct TokenBook {
    path: PathBuf,
    /// Why the file could not be read.
    unreadable: Option<String>,
    kept: RwLock<HashMap<[u8; 32], Arc<Entry>>>,
    /// One change after the other.
    changing: Mutex<()>,
    used: Notify,
}

#[derive(Debug)]
struct Entry {
    record: Record,
    scopes: ScopeSet,
    /// Microseconds, cut to the minute; 0: never.
    last_used: AtomicI64,
}

/// A token, as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    hash: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    scopes: Vec<Scope>,
    created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_used_at: Option<Timestamp>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Contents {
    form: u32,
    tokens: Vec<Record>,
}

impl TokenBook {
    /// Those in this file; none where there is no file yet.
    pub fn load(path: &Path) -> Self {
        let (kept, unreadable) = match read(path) {
            Ok(entries) => (entries, None),
            Err(why) => {
                let why = format!("{}: {why}", path.display());
                tracing::error!(event = "credentials_unreadable", reason = %why, "the list of API credentials can't be read: none is known");
                (HashMap::new(), Some(why))
            }
        };
        Self {
            path: path.to_owned(),
            unreadable,
            kept: RwLock::new(kept),
            changing: Mutex::new(()),
            used: Notify::new(),
        }
    }

    /// Makes one. It is durable, and in force, when this returns. The text is nowhere else.
    ///
    /// # Errors
    /// [`TokenError`]: nothing has changed.
    pub async fn create(
        &self,
        new: NewToken,
        now: Timestamp,
    ) -> Result<(String, TokenView), TokenError> {
        let _one = self.changing.lock().await;
        let mut entries = self.entries();
        if entries.len() >= MAX_TOKENS {
            return Err(TokenError::TooMany);
        }
        let (text, hash) = self.draw();
        let record = Record {
            hash: hex(&hash),
            name: new.name,
            scopes: new.scopes,
            created_at: now,
            expires_at: new.expires_at,
            last_used_at: None,
        };
        let entry = Arc::new(Entry::new(record));
        let view = entry.view(TokenId::of(&hash), now);
        entries.push(Arc::clone(&entry));
        self.write(&entries).await?;
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        kept.insert(hash, entry);
        Ok((text, view))
    }

    /// Ends one: no request that begins after this is let in by it. `None`: there is none of this name.
    ///
    /// # Errors
    /// [`TokenError`]: it is still in force.
    pub async fn revoke(&self, id: &str, now: Timestamp) -> Result<Option<TokenView>, TokenError> {
        let _one = self.changing.lock().await;
        let Some((hash, entry)) = self.find(id) else {
            return match &self.unreadable {
                Some(why) => Err(TokenError::Unreadable(why.clone())),
                None => Ok(None),
            };
        };
        let mut entries = self.entries();
        entries.retain(|other| !Arc::ptr_eq(other, &entry));
        self.write(&entries).await?;
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        kept.remove(&hash);
        Ok(Some(entry.view(TokenId::of(&hash), now)))
    }

    /// All of them, the oldest first.
    pub fn list(&self, now: Timestamp) -> Vec<TokenView> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let views = kept
            .iter()
            .map(|(hash, entry)| entry.view(TokenId::of(hash), now));
        let mut views: Vec<TokenView> = views.collect();
        views.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        views
    }

    /// Writes when tokens were last used, a minute after they were. Sleeps while none is.
    pub async fn note_uses(&self) {
        loop {
            self.used.notified().await;
            tokio::time::sleep(WRITE_AFTER).await;
            self.save_uses().await;
        }
    }

    /// Writes when tokens were last used, where that is not written yet.
    pub async fn save_uses(&self) {
        let _one = self.changing.lock().await;
        let entries = self.entries();
        let unwritten = |entry: &Arc<Entry>| entry.last_used() != entry.record.last_used_at;
        if self.unreadable.is_some() || !entries.iter().any(unwritten) {
            return;
        }
        if let Err(e) = self.write(&entries).await {
            tracing::warn!(event = "credentials_not_written", reason = %e, "when API credentials were last used could not be written");
        }
    }

    /// One that nobody has, with a name that none of them has.
    fn draw(&self) -> (String, [u8; 32]) {
        loop {
            let text = format!("{TOKEN_PREFIX}{}", hex(&crate::fleet::proof::random()));
            let hash = token_hash(&text);
            if self.find(&TokenId::of(&hash).to_string()).is_none() {
                return (text, hash);
            }
        }
    }

    fn find(&self, id: &str) -> Option<([u8; 32], Arc<Entry>)> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let mut named = kept.iter();
        let found = named.find(|(hash, _)| TokenId::of(hash).to_string() == id)?;
        Some((*found.0, Arc::clone(found.1)))
    }

    fn entries(&self) -> Vec<Arc<Entry>> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let mut entries: Vec<Arc<Entry>> = kept.values().cloned().collect();
        entries.sort_by(|a, b| {
            let by = |e: &Arc<Entry>| (e.record.created_at, e.record.hash.clone());
            by(a).cmp(&by(b))
        });
        entries
    }

    async fn write(&self, entries: &[Arc<Entry>]) -> Result<(), TokenError> {
        if let Some(why) = &self.unreadable {
            return Err(TokenError::Unreadable(why.clone()));
        }
        let record = |entry: &Arc<Entry>| Record {
            last_used_at: entry.last_used(),
            ..entry.record.clone()
        };
        let contents = Contents {
            form: FORM,
            tokens: entries.iter().map(record).collect(),
        };
        let path = self.path.clone();
        let named = |e: String| TokenError::Disk(format!("{}: {e}", self.path.display()));
        let bytes = serde_json::to_vec_pretty(&contents).map_err(|e| named(e.to_string()))?;
        let written = tokio::task::spawn_blocking(move || crate::durable::write(&path, &bytes));
        match written.await {
            Ok(written) => written.map_err(|e| named(e.to_string())),
            Err(e) => Err(named(e.to_string())),
        }
    }
}

impl Tokens for TokenBook {
    fn scopes(&self, hash: &[u8; 32]) -> Option<ScopeSet> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let entry = kept.get(hash)?;
        let now = Timestamp::now();
        if entry.has_expired(now) {
            return None;
        }
        let minute = now.as_micros() / USED_MICROS * USED_MICROS;
        if entry.last_used.swap(minute, Relaxed) != minute {
            self.used.notify_one();
        }
        Some(entry.scopes)
    }
}

impl Entry {
    fn new(record: Record) -> Self {
        Self {
            scopes: record.scopes.iter().copied().collect(),
            last_used: AtomicI64::new(record.last_used_at.map_or(0, Timestamp::as_micros)),
            record,
        }
    }

    fn has_expired(&self, now: Timestamp) -> bool {
        self.record.expires_at.is_some_and(|at| at <= now)
    }

    fn last_used(&self) -> Option<Timestamp> {
        match self.last_used.load(Relaxed) {
            0 => None,
            at => Some(Timestamp::from_micros(at)),
        }
    }

    fn view(&self, id: TokenId, now: Timestamp) -> TokenView {
        TokenView {
            id: id.to_string(),
            name: self.record.name.clone(),
            scopes: self.record.scopes.clone(),
            created_at: self.record.created_at,
            expires_at: self.record.expires_at,
            expired: self.has_expired(now),
            last_used_at: self.last_used(),
        }
    }
}

fn read(path: &Path) -> Result<HashMap<[u8; 32], Arc<Entry>>, String> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(HashMap::new()),
        Err(e) => return Err(e.to_string()),
        Ok(file) => file
            .take(MAX_FILE_BYTES)
            .read_to_end(&mut bytes)
            .map_err(|e| e.to_string())?,
    };
    let contents: Contents =
        serde_json::from_slice(&bytes).map_err(|e| format!("no list of tokens: {e}"))?;
    if contents.form != FORM {
        return Err(format!(
            "has form {}, this release reads {FORM}",
            contents.form
        ));
    }
    let mut kept = HashMap::new();
    for record in contents.tokens {
        let hash = unhex(&record.hash).ok_or("a hash in it is none")?;
        let fits = |name: &String| name.len() <= MAX_TOKEN_NAME_BYTES;
        if !record.name.as_ref().is_none_or(fits) {
            return Err("a name in it is too long".to_owned());
        }
        kept.insert(hash, Arc::new(Entry::new(record)));
    }
    Ok(kept)
}

fn hex(bytes: &[u8; 32]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(64), |mut text, b| {
        // Writing into a String can't fail.
        let _ = write!(text, "{b:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).ok()?;
        if pair.starts_with('+') {
            return None;
        }
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn new(scopes: &[Scope], expires_at: Option<Timestamp>) -> NewToken {
        NewToken {
            scopes: scopes.to_vec(),
            name: Some("ci".into()),
            expires_at,
        }
    }

    fn scopes(book: &TokenBook, text: &str) -> Option<String> {
        book.scopes(&token_hash(text)).map(|s| s.to_string())
    }

    #[tokio::test]
    async fn what_was_made_is_in_force_at_once_and_after_a_restart_and_never_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.json");
        let book = TokenBook::load(&path);
        let now = Timestamp::now();
        let (text, view) = book
            .create(new(&[Scope::Read, Scope::Submit], None), now)
            .await
            .unwrap();
        assert_eq!(text.len(), TOKEN_PREFIX.len() + 64);
        assert_eq!(scopes(&book, &text).unwrap(), "read, submit");
        assert_eq!(scopes(&book, &format!("{text}x")), None);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let written = std::fs::read_to_string(&path).unwrap();
        assert!(!written.contains(&text[TOKEN_PREFIX.len()..]), "{written}");
        book.save_uses().await;

        let book = TokenBook::load(&path);
        assert_eq!(scopes(&book, &text).unwrap(), "read, submit");
        let listed = book.list(now);
        assert!(listed[0].last_used_at.is_some(), "{listed:?}");
        assert_eq!((listed.len(), &listed[0].id), (1, &view.id));
        assert!(book.revoke(&view.id, now).await.unwrap().is_some());
        assert_eq!(scopes(&book, &text), None);
        assert!(book.revoke(&view.id, now).await.unwrap().is_none());
        assert_eq!(scopes(&TokenBook::load(&path), &text), None);
    }

    #[tokio::test]
    async fn an_expired_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let book = TokenBook::load(&dir.path().join("tokens.json"));
        let now = Timestamp::now();
        let (gone, _) = book
            .create(new(&[Scope::Admin], Some(now)), now)
            .await
            .unwrap();
        let later = Some(now.plus_millis(3_600_000));
        let (lasts, _) = book.create(new(&[Scope::Admin], later), now).await.unwrap();
        assert_eq!(scopes(&book, &gone), None);
        assert!(scopes(&book, &lasts).is_some());
        assert!(book.list(now)[0].expired ^ book.list(now)[1].expired);
    }

    #[tokio::test]
    async fn what_cannot_be_read_or_written_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.json");
        let now = Timestamp::now();
        for bad in [
            "",
            "[]",
            "{\"form\":2,\"tokens\":[]}",
            "{\"form\":1,\"tokens\":[{\"hash\":\"+f\"}]}",
        ] {
            std::fs::write(&path, bad).unwrap();
            let book = TokenBook::load(&path);
            let refused = book
                .create(new(&[Scope::Read], None), now)
                .await
                .unwrap_err();
            assert!(matches!(refused, TokenError::Unreadable(_)), "{refused}");
            book.save_uses().await;
            assert_eq!(std::fs::read_to_string(&path).unwrap(), bad);
        }
        std::fs::remove_file(&path).unwrap();
        let book = TokenBook::load(&path);
        let (text, view) = book.create(new(&[Scope::Read], None), now).await.unwrap();
        // A directory in the way of the file that is written aside.
        std::fs::create_dir(dir.path().join("tokens.json.tmp")).unwrap();
        let refused = book
            .create(new(&[Scope::Read], None), now)
            .await
            .unwrap_err();
        assert!(matches!(refused, TokenError::Disk(_)), "{refused}");
        assert!(book.revoke(&view.id, now).await.is_err());
        assert!(scopes(&book, &text).is_some(), "it is still in force");
        assert_eq!(book.list(now).len(), 1);
    }

    #[test]
    fn hashes_are_written_as_they_are_read() {
        let hash = token_hash("x");
        assert_eq!(unhex(&hex(&hash)), Some(hash));
        assert_eq!(unhex(&"+f".repeat(32)), None);
        assert_eq!(unhex("00"), None);
    }
}
