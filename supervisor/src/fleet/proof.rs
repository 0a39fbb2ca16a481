//! What proves that a process is the bot it says it is, to this daemon and to a later one.
//!
//! The home has one key. The secret of a bot's process is an HMAC under it of everything that makes
//! the process this one and no other: bot, launch, pid, start time, and the host's own start. So a
//! later daemon knows each secret without a list of them, a pid that is used again has another
//! secret, and nothing has to be kept up to date on disk.
//!
//! Every process of a fleet carries a *mark* in its environment, `DEIA_TREE=<fleet>/<bot>/<launch>`;
//! what a bot starts has the bot's mark with more behind it. By it a later daemon finds what an
//! earlier one left. The mark is no secret and proves nothing.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use deia::wire::{Launch, Secret};
use deia_worker::spool::Writer;
use deia_worker::tree;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Bytes of the key.
const KEY_BYTES: usize = 32;

/// The home's key, and what follows from it. Cheap to clone; `Debug` shows nothing of the key.
#[derive(Clone)]
pub struct FleetKey(Arc<Inner>);

struct Inner {
    key: Zeroizing<[u8; KEY_BYTES]>,
    fleet: String,
    boot_id: String,
}

impl std::fmt::Debug for FleetKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FleetKey({})", self.0.fleet)
    }
}

impl FleetKey {
    /// The key in this file (0600), made where there is none.
    ///
    /// # Errors
    /// Names the file, and the remedy where it is not a key.
    pub fn load_or_create(path: &Path) -> io::Result<Self> {
        match Self::load(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            loaded => return loaded,
        }
        let key = random();
        crate::durable::write(path, &key)?;
        Ok(Self::new(key, tree::boot_id()))
    }

    /// The key in this file.
    ///
    /// # Errors
    /// `NotFound`, or as above.
    pub fn load(path: &Path) -> io::Result<Self> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_BYTES + 1));
        OpenOptions::new()
            .read(true)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)?
            .take(KEY_BYTES as u64 + 1)
            .read_to_end(&mut bytes)?;
        let key: [u8; KEY_BYTES] = bytes.as_slice().try_into().map_err(|_| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "{} is no key of a fleet: remove it while no bot runs, and it is made anew",
                    path.display()
                ),
            )
        })?;
        Ok(Self::new(key, tree::boot_id()))
    }

    fn new(key: [u8; KEY_BYTES], boot_id: String) -> Self {
        let digest = Sha256::new()
            .chain_update(b"deia fleet\0")
            .chain_update(key)
            .finalize();
        let fleet = digest[..8].iter().map(|b| format!("{b:02x}")).collect();
        Self(Arc::new(Inner {
            key: Zeroizing::new(key),
            fleet,
            boot_id,
        }))
    }

    /// The fleet's name in marks.
    pub fn fleet(&self) -> &str {
        &self.0.fleet
    }

    /// The mark of a bot's process.
    pub fn mark(&self, bot: &str, launch: Launch) -> String {
        format!("{}/{bot}/{launch}", self.0.fleet)
    }

    /// The secret of this process, on this start of the host.
    pub fn secret(&self, bot: &str, launch: Launch, pid: u32, started: u64) -> Secret {
        self.derive(bot, launch, pid, started, &self.0.boot_id)
    }

    /// The secret of whoever wrote a result, on whichever start of the host.
    pub fn secret_of(&self, writer: &Writer) -> Secret {
        self.derive(
            &writer.bot_id,
            writer.launch,
            writer.pid,
            writer.started,
            &writer.boot_id,
        )
    }

    /// Whether `shown` is the secret of the process that has this pid now.
    pub fn proves(&self, bot: &str, launch: Launch, pid: u32, shown: &Secret) -> bool {
        let Some(process) = tree::identify(pid) else {
            return false;
        };
        let real = self.secret(bot, launch, pid, process.started);
        // In constant time: whoever tries learns nothing from how long it takes.
        let differ = real
            .0
            .iter()
            .zip(shown.0)
            .fold(0, |all, (a, b)| all | (a ^ b));
        differ == 0
    }

    fn derive(&self, bot: &str, launch: Launch, pid: u32, started: u64, boot_id: &str) -> Secret {
        #[expect(
            clippy::expect_used,
            reason = "HMAC takes keys of any length: its error can't occur"
        )]
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.0.key.as_slice()).expect("a key of any length");
        mac.update(b"deia bot\0");
        for text in [boot_id, bot] {
            mac.update(&(text.len() as u64).to_le_bytes());
            mac.update(text.as_bytes());
        }
        mac.update(&launch.0.to_le_bytes());
        mac.update(&pid.to_le_bytes());
        mac.update(&started.to_le_bytes());
        Secret(mac.finalize().into_bytes().into())
    }
}

/// A process's mark, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark<'a> {
    /// The bot.
    pub bot: &'a str,
    /// Which start of it.
    pub launch: Launch,
    /// Whether it is of something the bot started, not of the bot.
    pub below: bool,
}

impl<'a> Mark<'a> {
    /// The mark in this text, if it is one of this fleet.
    pub fn parse(text: &'a str, fleet: &str) -> Option<Self> {
        let (bot, rest) = text
            .strip_prefix(fleet)?
            .strip_prefix('/')?
            .split_once('/')?;
        let (launch, below) = match rest.split_once('.') {
            Some((launch, _)) => (launch, true),
            None => (rest, false),
        };
        Some(Self {
            bot,
            launch: launch.parse().ok()?,
            below,
        })
    }
}

/// A new launch.
pub fn new_launch() -> Launch {
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    Launch(high ^ low.rotate_left(32))
}

/// Random bytes of the operating system's generator.
pub fn random() -> [u8; KEY_BYTES] {
    // Version 4 ids have 122 random bits each: hashed, three of them are 256.
    let mut hash = Sha256::new();
    for _ in 0..3 {
        hash.update(uuid::Uuid::new_v4().as_bytes());
    }
    hash.finalize().into()
}

/// Removes what a bot's writer had begun and never finished.
pub fn remove_partials(directory: &Path, is_writing: impl Fn(&str) -> bool) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let bot = path.file_name().and_then(|name| name.to_str());
        let bot = bot.and_then(|name| name.split('.').next());
        if path.extension().is_some_and(|ending| ending == "partial")
            && !bot.is_some_and(&is_writing)
        {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> FleetKey {
        FleetKey::new([1; KEY_BYTES], "boot".into())
    }

    #[test]
    fn a_key_is_made_once_private_and_named_when_it_is_none() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fleet.key");
        let first = FleetKey::load_or_create(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = FleetKey::load_or_create(&path).unwrap();
        assert_eq!(first.fleet(), second.fleet());
        assert_eq!(
            first.secret("b", Launch(1), 2, 3),
            second.secret("b", Launch(1), 2, 3)
        );
        fs::write(&path, "short").unwrap();
        let error = FleetKey::load_or_create(&path).unwrap_err().to_string();
        assert!(
            error.contains("fleet.key") && error.contains("remove it"),
            "{error}"
        );
        assert!(!format!("{first:?}").contains("1, 1"));
    }

    #[test]
    fn each_process_has_a_secret_of_its_own() {
        let secret =
            |bot: &str, launch, pid, started| key().secret(bot, Launch(launch), pid, started);
        let real = secret("coder", 1, 2, 3);
        for other in [
            secret("coder-2", 1, 2, 3),
            secret("coder", 2, 2, 3),
            secret("coder", 1, 3, 3),
            secret("coder", 1, 2, 4),
        ] {
            assert!(other != real);
        }
        let elsewhere = FleetKey::new([1; KEY_BYTES], "another boot".into());
        assert!(elsewhere.secret("coder", Launch(1), 2, 3) != real);
        let writer = Writer {
            bot_id: "coder".into(),
            launch: Launch(1),
            pid: 2,
            started: 3,
            boot_id: "boot".into(),
        };
        assert!(elsewhere.secret_of(&writer) == real);
    }

    #[test]
    fn a_process_is_proved_by_its_own_secret_only() {
        let pid = std::process::id();
        let started = tree::identify(pid).unwrap().started;
        let shown = key().secret("b", Launch(1), pid, started);
        assert!(key().proves("b", Launch(1), pid, &shown));
        assert!(!key().proves("c", Launch(1), pid, &shown));
        // The same pid, given to a process that started at another time.
        let stale = key().secret("b", Launch(1), pid, started - 1);
        assert!(!key().proves("b", Launch(1), pid, &stale));
        assert!(!key().proves("b", Launch(1), u32::MAX - 1, &shown));
    }

    #[test]
    fn marks_are_read_and_those_of_other_fleets_are_not() {
        let key = key();
        let mark = key.mark("coder-2", Launch(0xab));
        let parsed = Mark::parse(&mark, key.fleet()).unwrap();
        assert_eq!(
            (parsed.bot, parsed.launch, parsed.below),
            ("coder-2", Launch(0xab), false)
        );
        let below = format!("{mark}.0123");
        assert!(Mark::parse(&below, key.fleet()).unwrap().below);
        assert_eq!(Mark::parse(&mark, "other"), None);
        assert_eq!(Mark::parse("x/y", key.fleet()), None);
        assert_eq!(
            Mark::parse(&format!("{}/b/xyz", key.fleet()), key.fleet()),
            None
        );
    }
}
