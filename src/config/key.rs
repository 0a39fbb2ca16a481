//! What is known about a key, whatever it belongs to.
//!
//! A table of [`Key`]s is the single source for reading, checking, showing and documenting: a key
//! that is not in a table does not exist, and a key that is can be read, shown and set.

use serde_json::Value;

use super::rule::Rule;

/// When a changed value is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakesEffect {
    /// As soon as the file is applied.
    Now,
    /// When the daemon is started again; until then the old value is used.
    AfterRestart,
}

impl TakesEffect {
    /// The word in the guide.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Now => "at once",
            Self::AfterRestart => "after a restart",
        }
    }
}

/// Whether a key does something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Yes.
    Active,
    /// Accepted and checked; what it steers is not built yet.
    NotYet(&'static str),
    /// Accepted, and will never do anything, because ...
    NoEffect(&'static str),
}

impl Status {
    /// What `config show` and the guide say about it; nothing for an active one.
    pub fn remark(self) -> Option<String> {
        match self {
            Self::Active => None,
            Self::NotYet(what) => Some(format!("no effect yet: {what}")),
            Self::NoEffect(why) => Some(format!("no effect: {why}")),
        }
    }
}

/// One key of a `T`.
#[derive(Debug, Clone, Copy)]
pub struct Key<T> {
    /// Its dotted path within `T`.
    pub path: &'static str,
    /// What its value may be.
    pub rule: Rule,
    /// When a change is used.
    pub takes_effect: TakesEffect,
    /// Whether it does something.
    pub status: Status,
    /// What it is, in one line, with its unit.
    pub doc: &'static str,
    /// The value of a `T`.
    pub get: fn(&T) -> Value,
    /// Sets the value in a `T`; fails when the field cannot hold it.
    pub set: fn(&mut T, Value) -> Result<(), serde_json::Error>,
}

impl<T> Key<T> {
    /// The same key, used after a restart.
    pub const fn after_restart(mut self) -> Self {
        self.takes_effect = TakesEffect::AfterRestart;
        self
    }

    /// The same key, which does nothing yet.
    pub const fn not_yet(mut self, what: &'static str) -> Self {
        self.status = Status::NotYet(what);
        self
    }

    /// The same key, which will never do anything.
    pub const fn no_effect(mut self, why: &'static str) -> Self {
        self.status = Status::NoEffect(why);
        self
    }
}

/// A [`Key`] of the field with the same path, or `"path" => field` where the file's name differs.
macro_rules! key {
    ($of:ty; $first:ident $(. $rest:ident)*, $rule:expr, $doc:expr) => {
        $crate::config::key::key!($of;
            concat!(stringify!($first) $(, ".", stringify!($rest))*) => $first $(. $rest)*, $rule, $doc
        )
    };
    ($of:ty; $path:expr => $first:ident $(. $rest:ident)*, $rule:expr, $doc:expr) => {
        $crate::config::key::Key {
            path: $path,
            rule: $rule,
            takes_effect: $crate::config::key::TakesEffect::Now,
            status: $crate::config::key::Status::Active,
            doc: $doc,
            get: |of: &$of| serde_json::to_value(&of.$first $(. $rest)*).unwrap_or_default(),
            set: |of: &mut $of, value| {
                of.$first $(. $rest)* = serde_json::from_value(value)?;
                Ok(())
            },
        }
    };
}

pub(crate) use key;
