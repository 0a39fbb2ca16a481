//! What a command can come to, and its exit code.

use deia::api::{ApiError, ValidationErrors};
use deia::client::{ClientError, Refusal};

use crate::output::Out;

/// Done.
pub const DONE: u8 = 0;
/// Failed or refused.
pub const FAILED: u8 = 1;
/// The command itself was wrong.
pub const USAGE: u8 = 2;
/// No daemon answered.
pub const UNREACHABLE: u8 = 3;
/// It did not come to pass in the time it had.
pub const TIMED_OUT: u8 = 4;
/// Ctrl-C: 128 + SIGINT, as shells have it.
pub const INTERRUPTED: u8 = 130;

/// Why a command did not do what it should.
#[derive(Debug)]
pub enum Failure {
    /// The daemon could not be asked, or said no.
    Client(ClientError),
    /// It was asked and it did not go well. For people, with the remedy.
    Failed(String),
    /// Not built yet.
    NotImplemented(String),
    /// The command itself was wrong.
    Usage(String),
    /// What was waited for did not happen in time.
    TimedOut(String),
    /// Ctrl-C; what goes on without this command.
    Interrupted(Option<String>),
    /// Nobody reads standard output any more (`| head`): no reason to complain.
    Closed,
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl Failure {
    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Client(ClientError::Unreachable { .. }) => UNREACHABLE,
            Self::Client(ClientError::TimedOut { .. }) | Self::TimedOut(_) => TIMED_OUT,
            Self::Client(_) | Self::Failed(_) | Self::NotImplemented(_) => FAILED,
            Self::Usage(_) => USAGE,
            Self::Interrupted(_) => INTERRUPTED,
            Self::Closed => DONE,
        }
    }

    /// Says it on standard error and, with `--json`, as a document on standard output where there
    /// is none yet. Returns the exit code.
    pub fn report(&self, out: &Out) -> u8 {
        if out.json && !out.has_printed() {
            // Standard error has the text: a closed pipe loses nothing.
            let _ = self.print_json(out);
        }
        match self {
            Self::Closed | Self::Interrupted(None) => {}
            Self::Interrupted(Some(note)) => out.note(note),
            Self::Client(error) => out.note(&error.to_string()),
            Self::Failed(text)
            | Self::NotImplemented(text)
            | Self::Usage(text)
            | Self::TimedOut(text) => out.note(text),
        }
        self.code()
    }

    fn print_json(&self, out: &Out) -> Result<(), Self> {
        let error = match self {
            Self::Closed | Self::Interrupted(_) => return Ok(()),
            Self::Client(ClientError::Refused {
                refusal: Refusal::Error(error),
                ..
            }) => error.clone(),
            Self::Client(ClientError::Refused {
                refusal: Refusal::Validation(detail),
                ..
            }) => {
                let detail = detail.clone();
                return out.json(&ValidationErrors { detail });
            }
            Self::Client(error) => ApiError::new(
                match error {
                    ClientError::Unreachable { .. } => "unreachable",
                    ClientError::TimedOut { .. } => "timed_out",
                    ClientError::Protocol { .. } => "protocol",
                    ClientError::Refused { .. } => "refused",
                },
                error.to_string(),
            ),
            Self::Failed(text) => ApiError::new("failed", text),
            Self::NotImplemented(text) => ApiError::new("not_implemented", text),
            Self::Usage(text) => ApiError::new("usage", text),
            Self::TimedOut(text) => ApiError::new("timed_out", text),
        };
        out.json(&error)
    }
}
