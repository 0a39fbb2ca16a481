//! What a task's text says about the work: type, complexity, required capabilities.
//!
//! The tables are the Python original's. It tested substrings, so that "Capital of France" was
//! development (`api`) and "planet" planning. Here a *word* matches a keyword when it is the
//! keyword, or the keyword followed by one of [`ENDINGS`]: "testing" and "tests" match `test`,
//! "latest" does not.

use super::{Complexity, TaskType};

/// Required by tasks that need nothing special.
pub const CAPABILITY_GENERAL: &str = "general";

/// What a keyword may end in and still match.
pub const ENDINGS: [&str; 8] = ["", "s", "es", "ed", "d", "ing", "er", "ers"];

/// First type with a matching word wins.
const TYPE_KEYWORDS: [(TaskType, &[&str]); 4] = [
    (TaskType::Development, &["code", "python", "api", "test"]),
    (TaskType::Analysis, &["analyze", "research", "compare"]),
    (TaskType::Writing, &["write", "document", "draft"]),
    (TaskType::Planning, &["plan", "schedule", "organize"]),
];

/// Every capability with a matching word is required, in this order.
const CAPABILITY_KEYWORDS: [(&str, &[&str]); 4] = [
    ("python", &["python", "code", "api"]),
    ("testing", &["test", "testing", "validate"]),
    ("data", &["database", "sql", "data"]),
    ("analysis", &["research", "analyze", "compare"]),
];

/// What [`analyze`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Analysis {
    /// The kind of work.
    pub task_type: TaskType,
    /// How large it looks.
    pub complexity: Complexity,
    /// At least one; `general` when nothing else.
    pub required_capabilities: Vec<&'static str>,
}

/// Analyses a task's text. One pass over the words, no allocation but for the answer.
pub fn analyze(content: &str) -> Analysis {
    let mut types = [false; TYPE_KEYWORDS.len()];
    let mut capabilities = [false; CAPABILITY_KEYWORDS.len()];
    for word in content.split(|c: char| !c.is_alphanumeric()) {
        if word.is_empty() {
            continue;
        }
        for (hit, (_, keywords)) in types.iter_mut().zip(&TYPE_KEYWORDS) {
            *hit = *hit || keywords.iter().any(|k| matches_keyword(word, k));
        }
        for (hit, (_, keywords)) in capabilities.iter_mut().zip(&CAPABILITY_KEYWORDS) {
            *hit = *hit || keywords.iter().any(|k| matches_keyword(word, k));
        }
    }
    let task_type = types
        .iter()
        .zip(&TYPE_KEYWORDS)
        .find_map(|(hit, (task_type, _))| hit.then_some(*task_type))
        .unwrap_or(TaskType::General);
    let mut required_capabilities: Vec<&'static str> = capabilities
        .iter()
        .zip(&CAPABILITY_KEYWORDS)
        .filter_map(|(hit, (name, _))| hit.then_some(*name))
        .collect();
    if required_capabilities.is_empty() {
        required_capabilities.push(CAPABILITY_GENERAL);
    }
    let complexity = match content.split_whitespace().take(500).count() {
        0..100 => Complexity::Simple,
        100..500 => Complexity::Moderate,
        _ => Complexity::Complex,
    };
    Analysis {
        task_type,
        complexity,
        required_capabilities,
    }
}

/// Whether `word` is `keyword` (lower case, ASCII) with one of [`ENDINGS`], in any case.
/// A keyword in `e` may lose it before `ing` and `er`, and one in `n` double it, as English does: "analyzing", "coder",
/// "planning".
fn matches_keyword(word: &str, keyword: &str) -> bool {
    // Nearly every word differs from nearly every keyword in its first letter: this alone made the
    // analysis of 256 bytes 8 % of what a submission costs.
    let first = |text: &str| text.as_bytes().first().map(u8::to_ascii_lowercase);
    if first(word) != first(keyword) {
        return false;
    }
    let begins = |stem: &str| {
        word.get(..stem.len())
            .filter(|head| head.eq_ignore_ascii_case(stem))
            .and_then(|_| word.get(stem.len()..))
    };
    let ends = |rest: &str, endings: &[&str]| endings.iter().any(|e| rest.eq_ignore_ascii_case(e));
    if begins(keyword).is_some_and(|rest| ends(rest, &ENDINGS)) {
        return true;
    }
    let without = keyword.strip_suffix('e').and_then(begins);
    let doubled = keyword
        .ends_with('n')
        .then(|| begins(keyword))
        .flatten()
        .and_then(|rest| rest.strip_prefix(['n', 'N']));
    without.is_some_and(|rest| ends(rest, &["ing", "er", "ers"]))
        || doubled.is_some_and(|rest| ends(rest, &["ing", "ed", "er", "ers"]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use TaskType::{Analysis as Analyzing, Development, General, Planning, Writing};

    fn found(content: &str) -> (TaskType, Vec<&'static str>) {
        let analysis = analyze(content);
        (analysis.task_type, analysis.required_capabilities)
    }

    /// The original's cases, where they are not one of its faults.
    #[test]
    fn the_table_of_cases() {
        let cases: [(&str, TaskType, &[&str]); 20] = [
            ("Write python code", Development, &["python"]),
            ("Test the API", Development, &["python", "testing"]),
            ("Compare two vendors", Analyzing, &["analysis"]),
            ("Write a blog post", Writing, &["general"]),
            ("draft the document", Writing, &["general"]),
            ("", General, &["general"]),
            ("Hello world", General, &["general"]),
            ("Investigate outage", General, &["general"]),
            ("review the PR", General, &["general"]),
            ("validate input", General, &["testing"]),
            (
                "Research SQL and testing",
                Development,
                &["testing", "data", "analysis"],
            ),
            ("Schedule the meeting", Planning, &["general"]),
            ("plans for the planner", Planning, &["general"]),
            ("analyzing the databases", Analyzing, &["data", "analysis"]),
            ("coding", Development, &["python"]),
            ("Ask the coder", Development, &["python"]),
            ("PLANNING the sprint", Planning, &["general"]),
            ("a planned scheduler", Planning, &["general"]),
            ("CODE,TESTED", Development, &["python", "testing"]),
            ("explain this", General, &["general"]),
        ];
        for (content, task_type, capabilities) in cases {
            assert_eq!(
                found(content),
                (task_type, capabilities.to_vec()),
                "{content:?}"
            );
        }
    }

    /// Substrings the original took for words.
    #[test]
    fn words_that_only_contain_a_keyword_do_not_match() {
        for content in [
            "Capital of France",
            "latest contest",
            "encode the string",
            "planet",
            "Check the airplane",
            "rewrite this",
        ] {
            assert_eq!(found(content), (General, vec!["general"]), "{content:?}");
        }
    }

    #[test]
    fn complexity_counts_words_at_its_edges() {
        let words = |n: usize| vec!["word"; n].join(" ");
        for (n, complexity, seconds) in [
            (0, Complexity::Simple, 60),
            (99, Complexity::Simple, 60),
            (100, Complexity::Moderate, 300),
            (499, Complexity::Moderate, 300),
            (500, Complexity::Complex, 900),
            (5000, Complexity::Complex, 900),
        ] {
            let found = analyze(&words(n)).complexity;
            assert_eq!(found, complexity, "{n} words");
            assert_eq!(found.estimated_duration_seconds(), seconds);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_analysed(content in "\\PC{0,300}") {
            let analysis = analyze(&content);
            proptest::prop_assert!(!analysis.required_capabilities.is_empty());
        }
    }
}
