//! The daemon's condition, as `/health` shows it: kept up by the main loop, read without asking it.

/// How the daemon is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Condition {
    /// Why new tasks are refused, where they are.
    pub refusing: Option<&'static str>,
    /// Why the store can't be used, where it can't.
    pub store_fault: Option<String>,
    /// It is ending.
    pub stopping: bool,
    /// Bots in quarantine.
    pub quarantined: Vec<String>,
}
