//! What a task file says. Pure.
//!
//! ```text
//!   form A                          form B
//!   ---                             # Anything
//!   task_id: TASK-7                 **To:** coder
//!   to: coder                       **From:** boss
//!   from: boss                      **Priority:** P1
//!   priority: P1
//!   ---                             all of the file is the task
//!   the task
//! ```
//!
//! A front matter is lines of `name: value`, not YAML: what people and programs write by hand would often
//! be none. Unknown lines are no fault; what is missing has a default.

use deia::task::Priority;

/// Form B's lines are looked for in this many lines from the top: further down they are the task's own text.
const HEAD_LINES: usize = 40;

/// Longest value that is kept of a line, in characters.
const MAX_VALUE_CHARS: usize = 200;

/// Where nobody is named.
pub const UNKNOWN: &str = "unknown";

/// What comes last when several files wait.
const RANK_LAST: u8 = 99;

/// A task file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskFile {
    /// Which form it has.
    pub form: Form,
    /// Its own name for the task; none where the file's name is to be taken.
    pub task_id: Option<String>,
    /// Whom it is for, in its own words.
    pub to: String,
    /// Who wants it.
    pub from: String,
    /// How urgent, in its own words.
    pub urgency: Urgency,
    /// When it was written, in its own words.
    pub created_at: Option<String>,
    /// The task's text.
    pub content: String,
}

/// How a file says what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A front matter, then the task.
    FrontMatter,
    /// The task, with lines of `**To:**` in it.
    Lines,
}

impl Form {
    /// As the task's metadata has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FrontMatter => "front_matter",
            Self::Lines => "lines",
        }
    }
}

/// How urgent a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Urgency {
    /// Its place among files that wait: the digit of its priority; 99 where it has none.
    pub rank: u8,
    /// The task's priority.
    pub priority: Priority,
}

impl Urgency {
    /// From what stands behind `priority:`; nothing stands for `P2`.
    pub fn of(text: Option<&str>) -> Self {
        let Some(text) = text else {
            return Self {
                rank: Priority::P2 as u8,
                priority: Priority::P2,
            };
        };
        let digit = text.chars().find_map(|c| c.to_digit(10));
        let rank = digit.and_then(|digit| u8::try_from(digit).ok());
        Self {
            rank: rank.unwrap_or(RANK_LAST),
            priority: rank
                .and_then(|rank| Priority::from_index(usize::from(rank)))
                .unwrap_or(Priority::P3),
        }
    }
}

/// Why a file is no task.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoTask {
    /// It may be one when it is complete.
    #[error("{0}")]
    Incomplete(&'static str),
    /// It never will be.
    #[error("{0}")]
    Bad(String),
}

/// Reads a file.
///
/// # Errors
/// [`NoTask`], with the reason and what to do.
pub fn parse(bytes: &[u8]) -> Result<TaskFile, NoTask> {
    let text = std::str::from_utf8(bytes).map_err(|e| match e.error_len() {
        // It ends within a character.
        None => NoTask::Incomplete(
            "the file ends in the middle of a UTF-8 character: write it to its end",
        ),
        Some(_) => NoTask::Bad(format!(
            "the file is not UTF-8 (byte {} is the first wrong one): save it as UTF-8",
            e.valid_up_to()
        )),
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return Err(NoTask::Incomplete(
            "the file is empty: write the task's text into it",
        ));
    }
    let first = text.split_inclusive('\n').next().unwrap_or_default();
    if is_fence(first) {
        front_matter(text, first.len())
    } else {
        Ok(lines(text))
    }
}

fn is_fence(line: &str) -> bool {
    line.trim_end() == "---"
}

/// Form A; its first line, which is `opening` bytes long, is the fence.
fn front_matter(text: &str, opening: usize) -> Result<TaskFile, NoTask> {
    let mut matter: Vec<&str> = Vec::new();
    let mut read = opening;
    let mut closed = false;
    for line in text.split_inclusive('\n').skip(1) {
        read += line.len();
        if is_fence(line) {
            closed = true;
            break;
        }
        matter.push(line);
    }
    if !closed {
        return Err(NoTask::Incomplete(
            "the front matter is not closed: put a line of --- behind it",
        ));
    }
    let body = text.get(read..).unwrap_or_default();
    if body.trim().is_empty() {
        return Err(NoTask::Incomplete(
            "nothing stands behind the front matter: write the task's text there",
        ));
    }
    let value = |name: &str| matter.iter().find_map(|line| named(line, name));
    Ok(TaskFile {
        form: Form::FrontMatter,
        task_id: value("task_id"),
        to: value("to").unwrap_or_else(|| UNKNOWN.into()),
        from: value("from").unwrap_or_else(|| UNKNOWN.into()),
        urgency: Urgency::of(value("priority").as_deref()),
        created_at: value("created_at"),
        content: without_blank_edges(body).to_owned(),
    })
}

/// Form B.
fn lines(text: &str) -> TaskFile {
    let value = |name: &str| {
        let mut head = text.lines().take(HEAD_LINES);
        head.find_map(|line| starred(line, name))
    };
    TaskFile {
        form: Form::Lines,
        task_id: None,
        to: value("to").unwrap_or_else(|| UNKNOWN.into()),
        from: value("from").unwrap_or_else(|| UNKNOWN.into()),
        urgency: Urgency::of(value("priority").as_deref()),
        created_at: None,
        content: text.to_owned(),
    }
}

/// The value of `name: value`, with quotes off.
fn named(line: &str, name: &str) -> Option<String> {
    let (found, value) = line.split_once(':')?;
    found
        .trim()
        .eq_ignore_ascii_case(name)
        .then(|| tidy(value))?
}

/// The value of `**Name:** value`.
fn starred(line: &str, name: &str) -> Option<String> {
    let (found, value) = line.trim_start().strip_prefix("**")?.split_once("**")?;
    // The colon stands on either side of the stars.
    let (found, value) = match (found.trim_end().strip_suffix(':'), value.strip_prefix(':')) {
        (Some(found), _) => (found, value),
        (None, Some(value)) => (found, value),
        (None, None) => return None,
    };
    found
        .trim()
        .eq_ignore_ascii_case(name)
        .then(|| tidy(value))?
}

/// On one line, bounded, without quotes; `None` where nothing is left.
fn tidy(value: &str) -> Option<String> {
    let value = value.trim();
    let unquoted = ['"', '\''].into_iter().find_map(|quote| {
        let inner = value.strip_prefix(quote)?.strip_suffix(quote)?;
        Some(inner.trim())
    });
    let kept = unquoted.unwrap_or(value).chars();
    let kept: String = kept
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_VALUE_CHARS)
        .collect();
    (!kept.is_empty()).then_some(kept)
}

/// Without blank lines before and blanks behind; how the first line is indented may matter.
fn without_blank_edges(body: &str) -> &str {
    let mut rest = body;
    while let Some((first, behind)) = rest.split_once('\n') {
        if !first.trim().is_empty() {
            break;
        }
        rest = behind;
    }
    rest.trim_end()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> TaskFile {
        parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_front_matter_says_what_the_lines_of_the_other_form_say() {
        let file = read(
            "---\ntask_id: TASK-7-LOGIN\nto: coder\nfrom: \"boss\"\npriority: P1\ncreated_at: 2025-10-25T10:00:00\nmore: x\nno value\n---\n\n  Fix it.\nNow.\n\n",
        );
        assert_eq!(file.form, Form::FrontMatter);
        assert_eq!(file.task_id.as_deref(), Some("TASK-7-LOGIN"));
        assert_eq!((&*file.to, &*file.from), ("coder", "boss"));
        assert_eq!(file.urgency.priority, Priority::P1);
        assert_eq!(file.created_at.as_deref(), Some("2025-10-25T10:00:00"));
        assert_eq!(file.content, "  Fix it.\nNow.");

        let text = "# Fix it\n\n**To:** coder\n  **from**: boss\n**PRIORITY:**  p0 (now)\n\nNow.\n";
        let file = read(text);
        assert_eq!(file.form, Form::Lines);
        assert_eq!(file.task_id, None);
        assert_eq!((&*file.to, &*file.from), ("coder", "boss"));
        assert_eq!(file.urgency.priority, Priority::P0);
        assert_eq!(file.content, text);
    }

    #[test]
    fn what_is_missing_has_a_default() {
        for text in ["do it", "---\n---\ndo it", "---\nto:\nfrom: ''\n---\ndo it"] {
            let file = read(text);
            assert_eq!((&*file.to, &*file.from), (UNKNOWN, UNKNOWN), "{text}");
            assert_eq!(file.urgency, Urgency::of(None), "{text}");
            assert_eq!(file.content, "do it", "{text}");
        }
    }

    #[test]
    fn editors_of_other_systems_are_understood() {
        let file = read("\u{feff}---\r\nfrom: boss\r\nto: a: b\r\n--- \r\n\r\ndo it\r\n");
        assert_eq!((&*file.from, &*file.to), ("boss", "a: b"));
        assert_eq!(file.content, "do it");
    }

    #[test]
    fn the_task_s_own_text_is_no_head() {
        let far = "line\n".repeat(HEAD_LINES) + "**From:** somebody\n";
        assert_eq!(read(&far).from, UNKNOWN);
        let body = read("---\nfrom: boss\n---\nfrom: other\n---\nmore");
        assert_eq!(body.from, "boss");
        assert_eq!(body.content, "from: other\n---\nmore");
    }

    #[test]
    fn the_digit_is_the_rank_and_what_has_none_comes_last() {
        let of = |text| {
            let urgency = Urgency::of(Some(text));
            (urgency.rank, urgency.priority)
        };
        assert_eq!(of("P0"), (0, Priority::P0));
        assert_eq!(of("p3"), (3, Priority::P3));
        assert_eq!(of("1 - high"), (1, Priority::P1));
        assert_eq!(of("P7"), (7, Priority::P3));
        assert_eq!(of("high"), (99, Priority::P3));
        assert_eq!(Urgency::of(None).rank, 2);
    }

    #[test]
    fn what_can_still_become_a_task_is_told_from_what_can_t() {
        for part in [
            &b""[..],
            b" \n",
            b"---",
            b"---\nto: x\n",
            b"---\nto: x\n---\n",
            b"caf\xc3",
        ] {
            let said = parse(part);
            assert!(matches!(said, Err(NoTask::Incomplete(_))), "{said:?}");
        }
        assert!(matches!(parse(b"caf\xff "), Err(NoTask::Bad(_))));
        // Four dashes are a line, not a fence.
        assert_eq!(read("----\ntext").form, Form::Lines);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_and_what_is_kept_is_one_bounded_line(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(file) = parse(&bytes) {
                prop_assert!(!file.content.trim().is_empty());
                for value in [&file.to, &file.from] {
                    prop_assert!(!value.is_empty() && value.chars().count() <= MAX_VALUE_CHARS);
                    prop_assert!(!value.contains(['\n', '\r', '\0']));
                }
            }
        }

        #[test]
        fn no_beginning_of_a_front_matter_is_taken(from in "[a-z]{1,8}", body in "[a-z]{1,20}", cut in 0usize..60) {
            let whole = format!("---\nfrom: {from}\npriority: P1\n---\n{body}");
            let closed = whole.len() - body.len();
            let cut = cut.min(whole.len());
            match parse(&whole.as_bytes()[..cut]) {
                Ok(file) => {
                    // What is shorter than its fence says nothing of it.
                    prop_assert!(cut < 3 || cut > closed);
                    if cut > closed {
                        prop_assert_eq!(file.from, from);
                    }
                }
                Err(why) => prop_assert!(matches!(why, NoTask::Incomplete(_))),
            }
        }
    }
}
