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
    /// What is said of model servers that do not answer.
    pub down: Vec<String>,
    /// What the fleet does without for a while, and why.
    pub without: Vec<String>,
    /// How far the wall clock is ahead of the steady one, in microseconds.
    pub ahead_micros: i64,
}

impl Condition {
    /// All that is wrong, in words; `config` is what is wrong with the configuration.
    pub fn reasons(&self, config: Option<String>) -> Vec<String> {
        let quarantined = self
            .quarantined
            .iter()
            .map(|bot| format!("bot {bot} is in quarantine: it ended too often (deiactl bots)"));
        self.refusing
            .map(str::to_owned)
            .into_iter()
            .chain(self.store_fault.clone())
            .chain(quarantined)
            .chain(self.down.iter().cloned())
            .chain(self.without.iter().cloned())
            .chain(config)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_trouble_is_a_reason() {
        let condition = Condition {
            refusing: Some("drained"),
            store_fault: Some("disk full".into()),
            stopping: false,
            quarantined: vec!["coder".into()],
            down: vec!["no model".into()],
            without: vec!["no scaling".into()],
            ahead_micros: 5,
        };
        let reasons = condition.reasons(Some("last good configuration in use".into()));
        assert_eq!(reasons.len(), 6);
        assert!(reasons[2].contains("coder"), "{reasons:?}");
        assert!(Condition::default().reasons(None).is_empty());
    }
}
