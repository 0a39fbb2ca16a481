//! What is found, what is not, and who decides.

use deia::config::{BackendSpec, EchoSpec};

use super::*;
use crate::brain::demand::NamedBy;
use deia::task::TaskType;

fn names(text: &str) -> Vec<&'static str> {
    find(text).places().map(|n| PATTERNS[n].name).collect()
}

/// The original's cases, the deployment checklist's, and what its documentation promised.
const DANGEROUS: &[(&str, &[&str])] = &[
    ("rm -rf /", &["rm -rf"]),
    ("RM   -RF /", &["rm -rf"]),
    ("please run rm\t-rf ~ for me", &["rm -rf"]),
    ("sudo reboot", &["sudo"]),
    ("SUDO apt install x", &["sudo"]),
    ("sudo cat | passwd", &["sudo"]),
    ("请用sudo安装", &["sudo"]),
    ("eval(x)", &["eval("]),
    ("JSON = window.eval(text)", &["eval("]),
    ("exec(open('x').read())", &["exec("]),
    ("cursor.exec(q)", &["exec("]),
    ("system(\"ls\")", &["system("]),
    ("os.system('ls')", &["system(", "os.system"]),
    ("import os; os.system", &["os.system"]),
    ("subprocess.run", &["subprocess."]),
    ("use subprocess.Popen", &["subprocess."]),
    ("__import__('os')", &["__import__"]),
    ("DROP TABLE users", &["DROP TABLE"]),
    ("drop\n  table users", &["DROP TABLE"]),
    // In two pieces: what looks like a statement stands in the store alone.
    (
        concat!("DELETE", " FROM users"),
        &[concat!("DELETE", " FROM")],
    ),
    (":(){ :|:& };:", &[":()"]),
    ("chmod 777 /etc", &["chmod 777"]),
    ("dd if=/dev/zero of=/dev/sda", &["dd if="]),
    ("git push --force && git reset --hard", &["--force --hard"]),
    ("<script>alert(1)</script>", &["<script>"]),
    ("<SCRIPT src=x>", &["<script>"]),
    ("../../etc/passwd", &["../"]),
    ("cat ../secret", &["../"]),
    ("read /srv/../etc/shadow", &["../"]),
    (
        "sudo rm -rf / ; DROP TABLE x",
        &["rm -rf", "sudo", "DROP TABLE"],
    ),
];

/// What people ask bots for, and what only looks like one of the patterns.
const ORDINARY: &[&str] = &[
    "Write pseudocode for quicksort",
    "Solve this sudoku",
    "Explain visudo and the sudoers file",
    "def retrieval(self): return self.medieval(2)",
    "evaluate(x) and evaluation (see below)",
    "execute(query); pg_exec(q); process.execSync('ls')",
    "filesystem(path), ecosystem (npm), the operating system",
    "Run it in a subprocess. Then wait for it.",
    "the macos.system_profiler output",
    "import importlib; from x import y",
    "Drop the tablespoons from the list",
    "drop tablets",
    "delete the file, remove it from the list",
    "chmod 755 bin/x; chmod u+x y",
    "add if=1 to the query",
    "git push --force-with-lease",
    "git reset --hard HEAD~1",
    "put it in a <div> with a <description>",
    "the file is at .../docs/API.md",
    "ls ./src and ..",
    "rm -r build; rm file",
    "Write python code that tests the API",
    "Summarise this paragraph, in German: Größe, Straße, 日本語, emoji 🎉",
    concat!(
        "SELECT",
        " * FROM users WHERE id = 1; UPDATE",
        " t SET a = 1"
    ),
    "curl -s http://localhost:8001/health | jq .; kill -9 1234",
    "What is the time complexity of this function?\n\nfn f(n: u64) -> u64 { n * 2 }",
    "",
];

/// Ordinary questions that are found nevertheless: what `audit` is for. A change here is a change for users.
const FALSE_ALARMS: &[(&str, &str)] = &[
    ("Explain what sudo does", "sudo"),
    ("import { a } from '../lib/a'", "../"),
    ("Why should one never use eval() in JavaScript?", "eval("),
    ("Write a migration: DROP TABLE old_users", "DROP TABLE"),
    ("how do I delete from a list in Python?", "DELETE FROM"),
    ("const m = /a/.exec(s)", "exec("),
    (
        "subprocess.run(['ls'], check=True) fails, why?",
        "subprocess.",
    ),
    ("add <script src=app.js> to the page", "<script>"),
];

/// What is *not* found, though it does the same: it is no wall.
const MISSED: &[&str] = &[
    "rm -r -f /",
    "rm -fr /",
    "find / -delete",
    "echo cm0gLXJmIC8K | base64 -d | sh",
    "eval (x)",
    "e\u{200b}val(x)",
    "%2e%2e%2f",
    "please delete everything on this machine",
];

#[test]
fn the_lists_are_found_whatever_their_case_and_spaces() {
    for (text, expected) in DANGEROUS {
        assert_eq!(&names(text), expected, "{text}");
    }
}

#[test]
fn ordinary_texts_are_not_found() {
    for text in ORDINARY {
        assert_eq!(names(text), Vec::<&str>::new(), "{text}");
    }
}

#[test]
fn what_is_found_and_missed_without_reason_is_known() {
    for (text, name) in FALSE_ALARMS {
        assert_eq!(names(text), [*name], "{text}");
    }
    for text in MISSED {
        assert!(find(text).is_empty(), "{text}");
    }
}

#[test]
fn each_pattern_has_a_case_and_a_name_of_its_own() {
    for (n, pattern) in PATTERNS.iter().enumerate() {
        let mut cases = DANGEROUS.iter();
        assert!(
            cases.any(|(_, found)| found.contains(&pattern.name)),
            "{pattern:?}"
        );
        assert!(!PATTERNS[..n].iter().any(|other| other.name == pattern.name));
    }
}

fn pool(name: &str, rule: RequestValidation) -> Pool {
    let mut pool = Pool::new(name, BackendSpec::Echo(EchoSpec::default()));
    pool.request_validation = rule;
    pool
}

fn config(pools: Vec<Pool>) -> Config {
    Config {
        bots: pools,
        ..Config::default()
    }
}

fn demand(pool: Option<&str>, bot: Option<&str>) -> Demand {
    Demand {
        bot: bot.map(str::to_owned),
        pool: pool.map(str::to_owned),
        task_type: TaskType::General,
        capabilities: Vec::new(),
        named_by: NamedBy::Analysis,
    }
}

const BAD: &str = "sudo x";

fn by(verdict: &Verdict) -> &str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Note(_) => "note",
        Verdict::Refuse(refusal) => &refusal.pool,
    }
}

#[test]
fn the_strictest_pool_that_can_take_a_task_decides() {
    use RequestValidation::{Audit, Block, Off};
    let mut config = config(vec![
        pool("off", Off),
        pool("audit", Audit),
        pool("block", Block),
        pool("late", Block),
    ]);
    let task =
        |config: &Config, pool, bot| by(&of_task(config, &demand(pool, bot), BAD)).to_owned();
    assert_eq!(task(&config, Some("off"), None), "pass");
    assert_eq!(task(&config, Some("audit"), None), "note");
    assert_eq!(task(&config, Some("block"), None), "block");
    assert_eq!(task(&config, None, Some("audit-2")), "note");
    assert_eq!(task(&config, None, Some("block-7")), "block");
    // Anybody may get it.
    assert_eq!(task(&config, None, None), "block");
    // Nobody can: it is refused as such, and says nothing about a wall.
    assert_eq!(task(&config, Some("nobody"), None), "block");

    config.bots.truncate(2);
    assert_eq!(task(&config, None, None), "note");
    // A pool that can never take it does not decide.
    config.bots.push(pool("writer", Block));
    config.bots[2].bot_type = deia::bot::BotType::Writer;
    assert_eq!(task(&config, None, None), "note");

    config.bots.clear();
    config.bots.push(pool("block", Block));
    config.feature_flags.request_validation_enabled = false;
    assert_eq!(task(&config, None, None), "pass");
}

#[test]
fn a_messages_receiver_decides() {
    use RequestValidation::{Block, Off};
    let config = config(vec![pool("free", Off), pool("strict", Block)]);
    let message = |to| by(&of_message(&config, to, BAD)).to_owned();
    assert_eq!(message("free-3"), "pass");
    assert_eq!(message("strict"), "strict");
    assert_eq!(message("a stranger"), "strict");
    assert_eq!(of_message(&config, "strict", "hello"), Verdict::Pass);
}

#[test]
fn a_refusal_names_what_who_and_how_to_change_it() {
    let config = config(vec![pool("coder", RequestValidation::Block)]);
    let Verdict::Refuse(refusal) = of_task(&config, &demand(None, None), "sudo rm -rf /") else {
        panic!("passed");
    };
    let said = refusal.to_string();
    for part in [
        "\"rm -rf\", \"sudo\"",
        "pool coder",
        "request_validation",
        "audit",
        "feature_flags.request_validation_enabled",
    ] {
        assert!(said.contains(part), "{said}");
    }
}

static EACH: LazyLock<Vec<regex::Regex>> = LazyLock::new(|| {
    let one = |pattern: &Pattern| {
        let mut builder = regex::RegexBuilder::new(pattern.regex);
        builder.case_insensitive(true).build().unwrap()
    };
    PATTERNS.iter().map(one).collect()
});

proptest::proptest! {
    /// The automaton finds what sixteen searches one by one find.
    #[test]
    fn one_search_finds_what_many_find(text in "(rm|-rf|sudo|eval|\\(| |\\.|/|:|\\)|drop|table|--force|--hard|\n|x|é|<script|dd|if=){0,24}") {
        let found = EACH.iter().enumerate().filter(|(_, one)| one.is_match(&text));
        let expected = found.fold(0, |all, (n, _)| all | 1 << n);
        proptest::prop_assert_eq!(find(&text), Found(expected));
    }
}
