//! What a task asks for, and which pools can give it.
//!
//! A demand has a canonical text, which is what the store groups queued tasks by: two tasks with the
//! same demand wait in the same lane, so a saturated pool holds up only the lanes that need it.
//!
//! The Python original offered a task to bots of type `general` and to bots with one of the
//! capabilities it requires, and looked at no other type: a `developer` without specialisations
//! never got work. Here a type also answers for its own kind of task.

use std::fmt::Write as _;
use std::sync::Arc;

use deia::bot::BotType;
use deia::config::{Pool, bot_number};
use deia::task::TaskType;

/// Capabilities one task may require.
pub const MAX_CAPABILITIES: usize = 16;

/// Bytes in the name of a capability.
pub const MAX_CAPABILITY_BYTES: usize = 64;

/// What a task asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// Only this bot.
    pub bot: Option<String>,
    /// Only this pool.
    pub pool: Option<String>,
    /// What kind of work.
    pub task_type: TaskType,
    /// What a bot must offer one of.
    pub capabilities: Vec<String>,
    /// Who named the capabilities.
    pub named_by: NamedBy,
}

/// Who named the capabilities a task requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedBy {
    /// The caller: they hold even where a pool or a bot is named.
    Caller,
    /// The analysis of the text: a named pool or bot overrules them.
    Analysis,
}

/// A pool, as far as routing is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolFacts {
    /// Its name.
    pub name: Arc<str>,
    /// What it is good at.
    pub bot_type: BotType,
    /// What it offers.
    pub specializations: Vec<String>,
    /// Bots it may ever have under the limits of the file.
    pub most_bots: u32,
    /// Requests at once to its model server; pools with the same `server` share them.
    pub server: Option<(Arc<str>, u32)>,
    /// It is an external bot, and no pool of the configuration: nobody can start it.
    pub is_external: bool,
}

impl PoolFacts {
    /// Of a configured pool, at most `max_bots` of whose bots may run.
    pub fn of(pool: &Pool, max_bots: u32) -> Self {
        use deia::config::BackendSpec;
        let server = match &pool.backend {
            BackendSpec::Ollama(server) | BackendSpec::Openai(server) => {
                Some((Arc::from(server.url.as_str()), server.max_in_flight))
            }
            BackendSpec::Command(_) | BackendSpec::Echo(_) => None,
        };
        Self {
            name: pool.name.as_str().into(),
            bot_type: pool.bot_type,
            specializations: pool.specializations.clone(),
            most_bots: pool.max.unwrap_or(max_bots).min(max_bots),
            server,
            is_external: false,
        }
    }

    /// Of an external bot: a pool of one.
    pub fn external(name: &str, bot_type: BotType, specializations: Vec<String>) -> Self {
        Self {
            name: name.into(),
            bot_type,
            specializations,
            most_bots: 1,
            server: None,
            is_external: true,
        }
    }

    /// Whether `bot` is the name of one of its bots: `name`, `name-2`, ... up to `most_bots`.
    pub fn owns(&self, bot: &str) -> bool {
        bot_number(&self.name, bot).is_some_and(|n| n <= self.most_bots)
    }
}

impl Demand {
    /// Whether a pool can do it.
    pub fn is_served_by(&self, pool: &PoolFacts) -> bool {
        if pool.most_bots == 0 {
            return false;
        }
        if self.pool.as_deref().is_some_and(|name| name != &*pool.name) {
            return false;
        }
        if self.bot.as_deref().is_some_and(|bot| !pool.owns(bot)) {
            return false;
        }
        let pinned = self.pool.is_some() || self.bot.is_some();
        if pinned && self.named_by == NamedBy::Analysis {
            return true;
        }
        pool.bot_type == BotType::General
            || pool
                .specializations
                .iter()
                .any(|offered| self.capabilities.contains(offered))
            || (self.named_by == NamedBy::Analysis && self.suits(pool.bot_type))
    }

    fn suits(&self, bot_type: BotType) -> bool {
        match bot_type {
            BotType::General => true,
            BotType::Developer => self.task_type == TaskType::Development,
            BotType::Analyzer => self.task_type == TaskType::Analysis,
            BotType::Writer => self.task_type == TaskType::Writing,
            BotType::Planner => self.task_type == TaskType::Planning,
            BotType::Validator => self.capabilities.iter().any(|c| c == "testing"),
        }
    }

    /// The canonical text: `t=development;n=a;p=coder;b=;c=python,testing`.
    pub fn text(&self) -> String {
        let mut capabilities: Vec<&str> = self.capabilities.iter().map(String::as_str).collect();
        capabilities.sort_unstable();
        capabilities.dedup();
        let mut text = String::with_capacity(48);
        let named_by = match self.named_by {
            NamedBy::Caller => 'c',
            NamedBy::Analysis => 'a',
        };
        let _ = write!(
            text,
            "t={};n={named_by};p={};b={};c={}",
            self.task_type,
            self.pool.as_deref().unwrap_or(""),
            self.bot.as_deref().unwrap_or(""),
            capabilities.join(",")
        );
        text
    }

    /// From the canonical text; `None` where it is none.
    pub fn from_text(text: &str) -> Option<Self> {
        let mut parts = text.split(';');
        let mut field = |name: &str| parts.next()?.strip_prefix(name)?.strip_prefix('=');
        let task_type = field("t")?.parse().ok()?;
        let named_by = match field("n")? {
            "c" => NamedBy::Caller,
            "a" => NamedBy::Analysis,
            _ => return None,
        };
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let pool = some(field("p")?);
        let bot = some(field("b")?);
        let capabilities = field("c")?
            .split(',')
            .filter(|c| !c.is_empty())
            .map(str::to_owned)
            .collect();
        parts.next().is_none().then_some(Self {
            bot,
            pool,
            task_type,
            capabilities,
            named_by,
        })
    }
}

/// Whether a capability's name is one: 1-64 of letters, digits, `.`, `_`, `+`, `#` and `-`.
pub fn is_capability(name: &str) -> bool {
    (1..=MAX_CAPABILITY_BYTES).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'+' | b'#' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(content: &str) -> Demand {
        let analysis = deia::task::analyze(content);
        Demand {
            bot: None,
            pool: None,
            task_type: analysis.task_type,
            capabilities: analysis
                .required_capabilities
                .iter()
                .map(|c| (*c).into())
                .collect(),
            named_by: NamedBy::Analysis,
        }
    }

    fn pool(name: &str, bot_type: BotType, specializations: &[&str]) -> PoolFacts {
        PoolFacts {
            name: name.into(),
            bot_type,
            specializations: specializations.iter().map(|s| (*s).into()).collect(),
            most_bots: 10,
            server: None,
            is_external: false,
        }
    }

    #[test]
    fn a_general_pool_takes_anything() {
        let general = pool("g", BotType::General, &[]);
        for content in ["", "Write python code", "plan the week", "Research SQL"] {
            assert!(demand(content).is_served_by(&general), "{content}");
        }
    }

    #[test]
    fn a_specialised_pool_takes_what_it_offers_and_what_its_type_is_for() {
        let coder = pool("c", BotType::Developer, &["data"]);
        assert!(demand("Write python code").is_served_by(&coder), "by type");
        assert!(
            demand("compare the databases").is_served_by(&coder),
            "by specialisation"
        );
        assert!(!demand("plan the week").is_served_by(&coder));
        assert!(demand("validate input").is_served_by(&pool("v", BotType::Validator, &[])));
        // Capabilities are compared as they are written.
        assert!(!demand("plan the data").is_served_by(&pool("p", BotType::Writer, &["DATA"])));
    }

    #[test]
    fn a_named_pool_overrules_the_analysis_but_not_the_caller() {
        let writer = pool("w", BotType::Writer, &[]);
        let mut pinned = demand("Write python code");
        pinned.pool = Some("w".into());
        assert!(pinned.is_served_by(&writer));
        assert!(!pinned.is_served_by(&pool("other", BotType::General, &[])));
        pinned.named_by = NamedBy::Caller;
        assert!(!pinned.is_served_by(&writer));
    }

    #[test]
    fn bots_are_named_after_their_pool() {
        let mut coder = pool("coder", BotType::General, &[]);
        coder.most_bots = 3;
        for (bot, owned) in [
            ("coder", true),
            ("coder-2", true),
            ("coder-3", true),
            ("coder-4", false),
            ("coder-1", false),
            ("coder-02", false),
            ("coder-+2", false),
            ("coder-x", false),
            ("coders", false),
            ("", false),
        ] {
            assert_eq!(coder.owns(bot), owned, "{bot}");
        }
    }

    #[test]
    fn the_text_goes_both_ways() {
        for content in ["", "Write python code and test it", "plan"] {
            let mut demand = demand(content);
            demand.capabilities.sort();
            demand.pool = Some("p-1".into());
            assert_eq!(Demand::from_text(&demand.text()), Some(demand));
        }
        for bad in [
            "",
            "t=x;n=a;p=;b=;c=",
            "t=general;n=a;p=;b=",
            "t=general;n=a;p=;b=;c=;z=1",
        ] {
            assert_eq!(Demand::from_text(bad), None, "{bad}");
        }
    }
}
