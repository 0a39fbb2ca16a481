//! What every verb is given.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use deia::client::{Client, ClientError, SYSTEM_ADMIN_SOCKET, Search, Surroundings, Target};

use crate::cli::Globals;
use crate::failure::Failure;
use crate::output::Out;

/// The options that hold for every verb, and what is known of the surroundings.
pub struct Context {
    /// Where results go.
    pub out: Out,
    /// What the flags say about the daemon.
    pub search: Search,
    /// What the environment says about the daemon.
    pub around: Surroundings,
    quiet: bool,
    interruption: RefCell<Option<String>>,
}

impl Context {
    /// From the flags and this process's surroundings.
    pub fn new(globals: &Globals) -> Self {
        Self {
            out: Out::new(globals.json),
            search: Search {
                socket: globals.socket.clone(),
                url: globals.url.clone(),
                home: globals.home.clone(),
            },
            around: Surroundings::of_process(),
            quiet: globals.quiet,
            interruption: RefCell::new(None),
        }
    }

    /// Which daemon.
    pub fn target(&self) -> Result<Target, ClientError> {
        self.search.locate(&self.around, is_there)
    }

    /// A client of the daemon.
    pub fn client(&self) -> Result<Client, Failure> {
        Ok(Client::new(self.target()?)?)
    }

    /// A client for a command that changes something: says first which daemon answers.
    pub async fn announced(&self) -> Result<Client, Failure> {
        let client = self.client()?;
        if !self.quiet {
            let status = client.status().await?;
            self.out
                .note(&format!("daemon at {} (pid {})", status.home, status.pid));
        }
        Ok(client)
    }

    /// The home the flags or the surroundings name, for what is read without a daemon.
    pub fn home(&self) -> PathBuf {
        let named = self.search.home.clone();
        named.unwrap_or_else(|| self.around.default_home().to_owned())
    }

    /// Something said on the way, unless `--quiet`.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            self.out.note(text);
        }
    }

    /// What to tell the person who presses Ctrl-C from now on.
    pub fn when_interrupted(&self, note: String) {
        self.interruption.replace(Some(note));
    }

    /// What to tell them.
    pub fn interruption_note(&self) -> Option<String> {
        self.interruption.borrow().clone()
    }
}

/// Whether a socket is at this path. The system's is, too, where its directory may not be looked into: then
/// connecting says why, and what to do.
fn is_there(path: &Path) -> bool {
    path.try_exists()
        .unwrap_or_else(|_| path == Path::new(SYSTEM_ADMIN_SOCKET))
}
