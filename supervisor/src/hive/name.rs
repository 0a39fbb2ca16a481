//! Names: of files that count, of the tasks they become, of their answers. Pure.

use deia::config::{Config, bot_number};
use deia::task::TaskId;
use deia::time::Timestamp;
use sha2::{Digest, Sha256};

use crate::brain::demand::PoolFacts;

/// What a paused bot's file ends in, in `controls/`.
const PAUSE: &str = "-PAUSE";

/// Characters of an outside string in a file's name.
const MAX_PART_CHARS: usize = 64;

/// Characters of a task's last part in a response's name, as in the original.
const MAX_SHORT_CHARS: usize = 20;

/// Who does what stands in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Any bot of this pool.
    Pool(String),
    /// This bot.
    Bot(String),
}

/// Whose folder this is; `None`: of nobody in this configuration. A pool's first bot has its pool's name:
/// the folder is the pool's.
pub fn target(folder: &str, config: &Config) -> Option<Target> {
    if config.bots.iter().any(|pool| pool.name == folder) {
        return Some(Target::Pool(folder.to_owned()));
    }
    let most = config.bot_limits.max_bots;
    let owned = config.bots.iter().any(|pool| match most {
        // Drained: who it will be is not known, and nothing is taken meanwhile.
        0 => bot_number(&pool.name, folder).is_some(),
        _ => PoolFacts::of(pool, most).owns(folder),
    });
    owned.then(|| Target::Bot(folder.to_owned()))
}

/// Whether a file of this name can be a task.
pub fn is_task_file(name: &str) -> bool {
    !name.starts_with('.') && name.ends_with(".md")
}

/// Whose files are not taken because of this file in `controls/`.
pub fn paused_by(name: &str) -> Option<&str> {
    name.strip_suffix(PAUSE).filter(|bot| !bot.is_empty())
}

/// The file in `controls/` that pauses a bot.
pub fn pause_of(folder: &str) -> String {
    format!("{folder}{PAUSE}")
}

/// The task that this content of this folder is: the same one each time, so that the store takes it once.
pub fn task_id(folder: &str, bytes: &[u8]) -> TaskId {
    let mut hash = Sha256::new();
    hash.update(folder.as_bytes());
    // No name has a zero byte in it.
    hash.update([0]);
    hash.update(bytes);
    TaskId::of_file(&hash.finalize().into())
}

/// An outside string as a part of a file's name: `[A-Za-z0-9._-]`, bounded, never empty, never hidden.
pub fn safe(text: &str, most: usize) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let part: String = text
        .chars()
        .take(most)
        .map(|c| if allowed(c) { c } else { '_' })
        .collect();
    match part.trim_start_matches('.') {
        "" => "unknown".into(),
        rest => rest.to_owned(),
    }
}

/// An outside string as a folder or a file's name.
pub fn safe_part(text: &str) -> String {
    safe(text, MAX_PART_CHARS)
}

/// The last part of a task's own name, as a response is called by it.
pub fn short(own_id: &str) -> String {
    let last = own_id.rsplit('-').find(|part| !part.is_empty());
    safe(last.unwrap_or(own_id), MAX_SHORT_CHARS)
}

/// A response's name, without `.md`.
pub fn response(at: Timestamp, bot: &str, to: &str, own_id: &str, complete: bool) -> String {
    format!(
        "{}-{}-{}-RESPONSE-{}-{}",
        minute(at),
        safe_part(bot),
        safe_part(to),
        short(own_id),
        if complete { "complete" } else { "failed" }
    )
}

/// `2025-10-25-1545`, UTC.
fn minute(at: Timestamp) -> String {
    let text = at.to_string();
    let part = |from, to| text.get(from..to).unwrap_or_default();
    format!("{}-{}{}", part(0, 10), part(11, 13), part(14, 16))
}

/// The `n`-th name to try, from 1: `a.md`, `a-2.md`, `a-3.md`.
pub fn nth(stem: &str, n: u32) -> String {
    match n {
        0 | 1 => format!("{stem}.md"),
        _ => format!("{stem}-{n}.md"),
    }
}

#[cfg(test)]
mod tests {
    use deia::config::{BackendSpec, Pool};
    use proptest::prelude::*;

    use super::*;

    fn config(max_bots: u32, pools: &[&str]) -> Config {
        let mut config = Config::default();
        let backend = BackendSpec::Echo(deia::config::EchoSpec { delay_ms: 0 });
        config.bot_limits.max_bots = max_bots;
        config.bots = pools
            .iter()
            .map(|name| Pool::new(name, backend.clone()))
            .collect();
        config
    }

    #[test]
    fn a_folder_is_a_pool_s_or_a_bot_s() {
        let config_now = config(3, &["coder", "coder-2"]);
        let whose = |folder| target(folder, &config_now);
        assert_eq!(whose("coder"), Some(Target::Pool("coder".into())));
        assert_eq!(whose("coder-2"), Some(Target::Pool("coder-2".into())));
        assert_eq!(whose("coder-3"), Some(Target::Bot("coder-3".into())));
        assert_eq!(whose("coder-4"), None);
        assert_eq!(whose("writer"), None);
        // A drain is no reason to put anybody's files aside.
        let drained = config(0, &["coder"]);
        assert_eq!(
            target("coder-3", &drained),
            Some(Target::Bot("coder-3".into()))
        );
        assert_eq!(target("writer", &drained), None);
    }

    #[test]
    fn which_files_count() {
        for (name, counts) in [
            ("a.md", true),
            (".a.md", false),
            ("a.md~", false),
            ("a.txt", false),
            ("a.MD", false),
        ] {
            assert_eq!(is_task_file(name), counts, "{name}");
        }
        assert_eq!(paused_by("coder-PAUSE"), Some("coder"));
        assert_eq!(paused_by(&pause_of("a-2")), Some("a-2"));
        assert_eq!(paused_by("-PAUSE"), None);
        assert_eq!(paused_by("PAUSE"), None);
    }

    #[test]
    fn the_same_content_is_the_same_task() {
        let one = task_id("coder", b"text");
        assert_eq!(one, task_id("coder", b"text"));
        assert_ne!(one, task_id("coder", b"text "));
        assert_ne!(one, task_id("code", b"rtext"));
        assert_ne!(one, task_id("writer", b"text"));
        assert_eq!(one.as_str().len(), 45);
    }

    #[test]
    fn a_response_is_called_as_in_the_original() {
        let at: Timestamp = "2025-10-25T15:45:59.9Z".parse().unwrap();
        assert_eq!(
            response(at, "coder-2", "boss", "TASK-007-BACKLOG", true),
            "2025-10-25-1545-coder-2-boss-RESPONSE-BACKLOG-complete"
        );
        assert_eq!(
            response(at, "coder", "../../x y", "a/b", false),
            "2025-10-25-1545-coder-_.._x_y-RESPONSE-a_b-failed"
        );
        assert_eq!(
            short("x-abcdefghijklmnopqrstuvwxyz"),
            "abcdefghijklmnopqrst"
        );
        assert_eq!(short("TASK-"), "TASK");
        assert_eq!(short("--"), "--");
        assert_eq!(short(""), "unknown");
        assert_eq!(
            [nth("a", 1), nth("a", 2), nth("a", 3)],
            ["a.md", "a-2.md", "a-3.md"]
        );
    }

    proptest! {
        #[test]
        fn no_outside_string_leaves_its_folder(bot in ".{0,90}", to in ".{0,90}", id in ".{0,90}") {
            let name = nth(&response(Timestamp::from_micros(0), &bot, &to, &id, true), 9999);
            prop_assert!(name.len() < 255);
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
            prop_assert!(name.bytes().all(allowed), "{}", name);
            let folder = safe_part(&to);
            prop_assert!(!folder.is_empty() && !folder.starts_with('.') && folder.bytes().all(allowed));
        }
    }
}
