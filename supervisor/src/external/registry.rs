//! Who is registered, on disk and for the HTTP side.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use deia::bot::BotType;
use deia::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::store::SignerKey;

/// External bots that may be registered.
pub const MAX_EXTERNAL: usize = 1_000;

/// What every secret begins with, as Standard Webhooks has it.
pub const SECRET_PREFIX: &str = "whsec_";

/// Bytes of a secret.
pub const SECRET_BYTES: usize = 32;

/// An external bot as it was registered. `Debug` shows nothing of its secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Its name.
    pub bot_id: String,
    /// What it is good at.
    pub bot_type: BotType,
    /// What it offers.
    pub specializations: Vec<String>,
    /// Tasks at once.
    pub max_concurrent: u32,
    /// When this secret was made.
    pub registered_at: Timestamp,
    /// What proves its requests.
    pub signer: Signer,
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registration({})", self.bot_id)
    }
}

/// A secret, and its name in the store.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signer {
    /// Another secret has another one.
    pub key: SignerKey,
    #[serde(with = "encoded")]
    secret: [u8; SECRET_BYTES],
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer")
    }
}

impl Signer {
    /// A new one.
    pub fn generate() -> Self {
        let key = uuid::Uuid::new_v4().as_u128();
        Self {
            key: (key as u64 >> 1).cast_signed(),
            secret: crate::fleet::proof::random(),
        }
    }

    /// As its bot is told, once: `whsec_<base64>`.
    pub fn shown(&self) -> String {
        format!("{SECRET_PREFIX}{}", STANDARD.encode(self.secret))
    }

    /// The secret's bytes.
    pub(super) fn secret(&self) -> &[u8] {
        &self.secret
    }
}

mod encoded {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::SECRET_BYTES;

    pub(super) fn serialize<S: Serializer>(
        secret: &[u8; SECRET_BYTES],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(secret))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<[u8; SECRET_BYTES], D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text).map_err(D::Error::custom)?;
        bytes
            .try_into()
            .map_err(|_| D::Error::custom("not a secret of 32 bytes"))
    }
}

/// What proves whose requests, for the HTTP side. The main loop changes it, once a change is on disk. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Signers(Arc<RwLock<HashMap<String, Signer>>>);

impl Signers {
    /// Of this bot; `None` where there is none of this name.
    pub fn of(&self, bot: &str) -> Option<Signer> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(bot).cloned()
    }

    /// From now on.
    pub fn set(&self, bot: &str, signer: Option<Signer>) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match signer {
            Some(signer) => drop(all.insert(bot.to_owned(), signer)),
            None => drop(all.remove(bot)),
        }
    }
}

/// Who is registered.
///
/// # Errors
/// When there is a file that can't be read.
pub fn load(path: &Path) -> io::Result<Vec<Registration>> {
    match std::fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map_err(io::Error::other),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

/// Keeps who is registered.
///
/// # Errors
/// Those of the file system.
pub fn save(path: &Path, registrations: &[Registration]) -> io::Result<()> {
    let text = serde_json::to_vec(registrations).map_err(io::Error::other)?;
    crate::durable::write(path, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_and_shows_no_secret() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("external-bots.json");
        assert_eq!(load(&path).unwrap(), []);
        let registration = Registration {
            bot_id: "far".into(),
            bot_type: BotType::Writer,
            specializations: vec!["docs".into()],
            max_concurrent: 2,
            registered_at: Timestamp::from_micros(1),
            signer: Signer::generate(),
        };
        save(&path, std::slice::from_ref(&registration)).unwrap();
        assert_eq!(load(&path).unwrap(), std::slice::from_ref(&registration));
        let secret = registration.signer.shown();
        let bytes = STANDARD.decode(secret.strip_prefix(SECRET_PREFIX).unwrap());
        assert_eq!(bytes.unwrap(), registration.signer.secret());
        assert!(!format!("{registration:?}").contains(&secret[6..]));
        assert_ne!(Signer::generate().shown(), secret);
        // What can't be read is not taken for nothing.
        std::fs::write(&path, "[{").unwrap();
        assert!(load(&path).is_err());
    }
}
